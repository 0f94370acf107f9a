//! Connecting again when a connection fails or is lost.
//!
//! A [`ReconnectingClientFactory`] wraps the factory that makes the protocols. Its [`Reconnection`]
//! has the delays and decides whether to continue. Other code may keep the `Reconnection` too, such
//! as a protocol that resets the delay after a login, or the code that ends the program.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connector::WeakConnector;
use super::{
    Address, ClientFactory, Connector, ConnectorState, Factory, FactoryIdentity, Port, Protocol,
    UserError,
};
use crate::deferred::Failure;
use crate::time::{DelayedCall, ReactorTime, TimeSource};

/// Connects again whenever a connection could not be made or is lost (Twisted's
/// `ReconnectingClientFactory`).
///
/// The first delay is 1 second, and each later one is twice as long as the one before, up to 1
/// minute. Each delay is then lengthened or shortened at random by up to a quarter, so that the
/// clients of a restarted server do not all connect at once. After a connection that has lasted
/// longer than the delay before it, counted from the start of connecting, the delays start again at
/// the first. A connection that the server closes at once does not reset the delays.
///
/// (Twisted starts with 2.7 seconds, multiplies by 2.7 up to an hour, varies by some 12 percent,
/// and starts again only when a protocol calls `resetDelay`.)
///
/// The inner factory gets all calls as they happen, and makes the protocols. It is started and
/// stopped with each connection. If the inner factory connects again itself, this one does nothing
/// more. It also does not connect after [`stop_connecting`](Connector::stop_connecting). It does
/// connect again after a connection is closed: call [`stop_trying`](Reconnection::stop_trying)
/// before closing the last one.
///
/// Several connectors may share the factory; each has its own delays.
///
/// ```
/// use deferred_reactor::net::{Protocol, ReconnectingClientFactory, Reconnection, Transport};
/// use deferred_reactor::net::for_protocol;
/// use deferred_reactor::{Failure, Reactor};
///
/// struct Feed(Reconnection);
///
/// impl Protocol for Feed {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
///         if data == b"no such user\n" {
///             self.0.stop_trying(); // it will not be another time, either
///             transport.lose_connection();
///         } else {
///             self.0.reset_delay(); // this is a server that works
///         }
///         Ok(())
///     }
/// }
///
/// let reactor = Reactor::new()?;
/// let again = Reconnection::new();
/// let feeds = again.clone();
/// let factory = for_protocol(move || Feed(feeds.clone()));
/// let factory = ReconnectingClientFactory::with(again, factory);
/// reactor.connect_tcp("feed.example.org:4711", factory);
/// # Ok::<(), Failure>(())
/// ```
#[derive(Debug)]
pub struct ReconnectingClientFactory<F> {
    factory: F,
    reconnection: Reconnection,
}

impl<F: ClientFactory> ReconnectingClientFactory<F> {
    /// Wraps `factory`, with the default delays.
    pub fn new(factory: F) -> Self {
        Self::with(Reconnection::new(), factory)
    }

    /// Wraps `factory`, with the delays of `reconnection`.
    pub fn with(reconnection: Reconnection, factory: F) -> Self {
        Self {
            factory,
            reconnection,
        }
    }

    /// The policy that decides when to connect again, and whether.
    pub fn reconnection(&self) -> &Reconnection {
        &self.reconnection
    }
}

impl<F: ClientFactory> Factory for ReconnectingClientFactory<F> {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.factory.build_protocol(peer)
    }

    fn port_opened(&self, port: &Port) {
        self.factory.port_opened(port);
    }

    fn start_factory(&self) {
        self.factory.start_factory();
    }

    fn stop_factory(&self) {
        self.factory.stop_factory();
    }

    fn shared_identity(&self) -> Option<FactoryIdentity> {
        self.factory.shared_identity()
    }
}

impl<F: ClientFactory> ClientFactory for ReconnectingClientFactory<F> {
    fn started_connecting(&self, connector: &Connector) {
        self.reconnection.begins(connector);
        self.factory.started_connecting(connector);
    }

    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_failed(connector, reason);
        if reason.is::<UserError>() {
            self.reconnection.forget(connector);
        } else {
            self.reconnection.connect_again(connector, false);
        }
    }

    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_lost(connector, reason);
        self.reconnection.connect_again(connector, true);
    }
}

/// When to connect again, and whether: the policy of a [`ReconnectingClientFactory`], which other
/// code may keep.
///
/// Cheap to clone; all clones share one state, and the options may be set at any time.
#[derive(Clone)]
pub struct Reconnection(Rc<Inner>);

struct Inner {
    initial_delay: Cell<Duration>,
    max_delay: Cell<Duration>,
    factor: Cell<f64>,
    jitter: Cell<f64>,
    max_retries: Cell<Option<u32>>,
    clock: RefCell<Option<TimeSource>>,
    random: Cell<u64>,
    is_stopped: Cell<bool>,
    /// Connectors that are connecting, connected, or waiting.
    tries: RefCell<Vec<Try>>,
}

/// The state of one connector.
struct Try {
    /// Weak, because the connector owns the factory.
    connector: WeakConnector,
    /// When connecting began last.
    since: Instant,
    /// Number of retries since the last good connection.
    retries: u32,
    /// The call that connects again.
    call: Option<DelayedCall>,
}

impl Default for Reconnection {
    fn default() -> Self {
        Self::new()
    }
}

impl Reconnection {
    /// The defaults: 1 second, doubled each time up to 1 minute, varied by 25 percent, without a
    /// limit of retries.
    pub fn new() -> Self {
        Self(Rc::new(Inner {
            initial_delay: Cell::new(Duration::from_secs(1)),
            max_delay: Cell::new(Duration::from_secs(60)),
            factor: Cell::new(2.0),
            jitter: Cell::new(0.25),
            max_retries: Cell::new(None),
            clock: RefCell::new(None),
            random: Cell::new(RandomState::new().hash_one(())),
            is_stopped: Cell::new(false),
            tries: RefCell::new(Vec::new()),
        }))
    }

    /// Sets the first delay (1 second unless set).
    #[must_use]
    pub fn initial_delay(self, delay: Duration) -> Self {
        self.0.initial_delay.set(delay);
        self
    }

    /// Sets the longest delay, before it is varied (1 minute unless set).
    #[must_use]
    pub fn max_delay(self, delay: Duration) -> Self {
        self.0.max_delay.set(delay);
        self
    }

    /// Sets the ratio of each delay to the one before (2 unless set, and at least 1).
    #[must_use]
    pub fn factor(self, factor: f64) -> Self {
        self.0.factor.set(factor.max(1.0));
        self
    }

    /// Sets the largest part of itself by which a delay is varied (0.25 unless set; from 0, which
    /// turns variation off, to 1).
    #[must_use]
    pub fn jitter(self, part: f64) -> Self {
        let is_number = !part.is_nan();
        self.0
            .jitter
            .set(if is_number { part.clamp(0.0, 1.0) } else { 0.0 });
        self
    }

    /// Sets how many times in a row to connect again (no limit unless set).
    #[must_use]
    pub fn max_retries(self, retries: u32) -> Self {
        self.0.max_retries.set(Some(retries));
        self
    }

    /// Sets the clock that measures the delays, in place of the reactor's: a
    /// [`Clock`](crate::Clock) in a test.
    #[must_use]
    pub fn clock(self, clock: &impl ReactorTime) -> Self {
        self.0.clock.replace(Some(clock.time_source().clone()));
        self
    }

    /// Makes the random variation of delays the same in each run, for a test.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.0.random.set(seed);
        self
    }

    /// Resets the delay to the first one and the retries to 0; call it once the server works. A delay
    /// that is already running does not change.
    pub fn reset_delay(&self) {
        for one in self.0.tries.borrow_mut().iter_mut() {
            one.retries = 0;
        }
    }

    /// Stops connecting again. Connectors that are connecting stop, and their factory's
    /// `client_connection_failed` is called; connections stay open.
    pub fn stop_trying(&self) {
        self.0.is_stopped.set(true);
        for one in self.0.tries.take() {
            if let Some(call) = one.call {
                let _ = call.cancel(); // it may have been made
            }
            if let Some(connector) = one.connector.upgrade() {
                let _ = connector.stop_connecting(); // it may be connected
            }
        }
    }

    /// Connecting has begun, by a call of ours or otherwise.
    fn begins(&self, connector: &Connector) {
        let now = self.time(connector).now();
        let mut tries = self.0.tries.borrow_mut();
        match tries.iter_mut().find(|one| one.connector.is(connector)) {
            Some(one) => {
                one.since = now;
                let call = one.call.take();
                drop(tries);
                if let Some(call) = call {
                    let _ = call.cancel(); // it is the one that connects, perhaps
                }
            }
            None => {
                tries.retain(|one| one.connector.upgrade().is_some());
                tries.push(Try {
                    connector: connector.downgrade(),
                    since: now,
                    retries: 0,
                    call: None,
                });
            }
        }
    }

    fn forget(&self, connector: &Connector) {
        let mut tries = self.0.tries.borrow_mut();
        tries.retain(|one| !one.connector.is(connector));
    }

    /// Schedules the next attempt, unless the connector is in use already or no more retries are
    /// allowed.
    fn connect_again(&self, connector: &Connector, had_connection: bool) {
        if self.0.is_stopped.get() || connector.state() != ConnectorState::Disconnected {
            return;
        }
        let time = self.time(connector);
        let mut tries = self.0.tries.borrow_mut();
        let Some(one) = tries.iter_mut().find(|one| one.connector.is(connector)) else {
            return;
        };
        if had_connection && let Some(last) = one.retries.checked_sub(1) {
            let lasted = time.now().saturating_duration_since(one.since);
            if lasted >= self.delay(last) {
                one.retries = 0;
            }
        }
        if self
            .0
            .max_retries
            .get()
            .is_some_and(|max| one.retries >= max)
        {
            crate::logging::warn!(
                target: "reactor",
                "gave up connecting to {} after {} retries, the limit of max_retries",
                connector.address(),
                one.retries
            );
            drop(tries);
            return self.forget(connector);
        }
        let delay = self.vary(self.delay(one.retries));
        one.retries += 1;
        log::info!(target: "reactor", "connecting to {} again in {delay:?}", connector.address());
        let (connector, line) = (connector.clone(), connector.line());
        one.call = Some(time.call_later_for(line, delay, move || {
            // Other code may have connected it, or the reactor may be gone.
            let _ = connector.connect();
        }));
    }

    fn time(&self, connector: &Connector) -> TimeSource {
        let own = self.0.clock.borrow().clone();
        own.unwrap_or_else(|| connector.time_source())
    }

    /// The delay after `retries` earlier ones.
    fn delay(&self, retries: u32) -> Duration {
        let max = self.0.max_delay.get();
        let exponent = i32::try_from(retries).unwrap_or(i32::MAX);
        let grown = self.0.initial_delay.get().as_secs_f64() * self.0.factor.get().powi(exponent);
        // A delay that overflows a Duration is over the maximum anyway.
        Duration::try_from_secs_f64(grown).map_or(max, |delay| delay.min(max))
    }

    fn vary(&self, delay: Duration) -> Duration {
        let by = self.0.jitter.get() * (2.0 * self.random() - 1.0);
        Duration::try_from_secs_f64(delay.as_secs_f64() * (1.0 + by)).unwrap_or(delay)
    }

    /// A random number from 0 to 1, evenly spread. SplitMix64 (Steele, Lea and Flood, 2014): not
    /// for secrets, and needs no other crate.
    fn random(&self) -> f64 {
        let state = self.0.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.random.set(state);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // Uses as many bits as the fraction of an f64 has.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl fmt::Debug for Reconnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnection")
            .field("initial_delay", &self.0.initial_delay.get())
            .field("max_delay", &self.0.max_delay.get())
            .field("factor", &self.0.factor.get())
            .field("jitter", &self.0.jitter.get())
            .field("max_retries", &self.0.max_retries.get())
            .field("is_stopped", &self.0.is_stopped.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_the_longest() {
        let seconds = |reconnection: &Reconnection| {
            let delays = [0, 1, 2, 5, 6, 1000, u32::MAX].map(|n| reconnection.delay(n));
            delays.map(|delay| delay.as_secs())
        };
        let reconnection = Reconnection::new();
        assert_eq!(seconds(&reconnection), [1, 2, 4, 32, 60, 60, 60]);
        let patient = reconnection.initial_delay(Duration::from_secs(90));
        assert_eq!(seconds(&patient), [60; 7]);
        let even = Reconnection::new().factor(f64::NAN);
        assert_eq!(seconds(&even), [1; 7]);
        let steep = Reconnection::new()
            .factor(f64::INFINITY)
            .max_delay(Duration::MAX);
        assert_eq!(seconds(&steep)[..2], [1, u64::MAX]);
    }

    #[test]
    fn waits_vary_by_a_quarter_and_alike_for_the_same_seed() {
        let minute = Duration::from_secs(60);
        let waits = |reconnection: Reconnection| {
            std::iter::repeat_with(|| reconnection.vary(minute))
                .take(1000)
                .collect::<Vec<_>>()
        };
        let first = waits(Reconnection::new().seed(7));
        assert_eq!(first, waits(Reconnection::new().seed(7)));
        assert_ne!(first, waits(Reconnection::new().seed(8)));
        assert_ne!(waits(Reconnection::new()), waits(Reconnection::new()));
        let (least, most) = (first.iter().min().unwrap(), first.iter().max().unwrap());
        assert!((45.0..46.0).contains(&least.as_secs_f64()), "{least:?}");
        assert!((74.0..75.0).contains(&most.as_secs_f64()), "{most:?}");
        assert_eq!(waits(Reconnection::new().jitter(f64::NAN)), [minute; 1000]);
    }
}
