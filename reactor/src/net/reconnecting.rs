//! Connecting again when a connection fails or is lost.
//!
//! A [`ReconnectingClientFactory`] is put around the factory that makes the protocols. How long it
//! waits, and whether it goes on, is up to its [`Reconnection`], which others may keep as well: a
//! protocol that has logged in, whoever ends the program.

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
/// The first wait is one second, and each one after that is twice as long as the one before, up to
/// one minute; each is then made longer or shorter by up to a quarter, at random, so that the
/// clients of a server that comes back do not all come at once. A connection that has lasted longer
/// than the wait before it, counted from when connecting began, has been a good one: after it,
/// waiting begins anew. One that the server closes at once has not.
///
/// (Twisted's begins with 2.7 seconds, multiplies by 2.7 up to an hour, strays by some 12 percent,
/// and goes back to the beginning only when a protocol calls `resetDelay`.)
///
/// The factory inside is told everything as it happens, and makes the protocols. It is started and
/// stopped with each connection. It may connect by itself, and then nothing more is done. Nor is it
/// after [`stop_connecting`](Connector::stop_connecting); closing a connection is not enough, so
/// [`stop_trying`](Reconnection::stop_trying) comes before that.
///
/// Several connectors may share it; each has delays of its own.
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
    /// Around `factory`, with the default delays.
    pub fn new(factory: F) -> Self {
        Self::with(Reconnection::new(), factory)
    }

    /// Around `factory`, with these delays.
    pub fn with(reconnection: Reconnection, factory: F) -> Self {
        Self {
            factory,
            reconnection,
        }
    }

    /// What decides when it connects again, and whether.
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

/// When to connect again, and whether: the part of a [`ReconnectingClientFactory`] that others may
/// keep.
///
/// Cheap to clone; all clones are one, and the options may be set at any time.
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
    /// Those that are connecting, connected, or waiting.
    tries: RefCell<Vec<Try>>,
}

/// How one connector is doing.
struct Try {
    /// Weak, as the factory is its connector's.
    connector: WeakConnector,
    /// When connecting began last.
    since: Instant,
    /// Since the last good connection.
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
    /// 1 second, then twice as long each time, up to 1 minute, 25 percent more or less; for ever.
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

    /// The first wait (1 second unless set).
    #[must_use]
    pub fn initial_delay(self, delay: Duration) -> Self {
        self.0.initial_delay.set(delay);
        self
    }

    /// The longest wait, before it is varied (1 minute unless set).
    #[must_use]
    pub fn max_delay(self, delay: Duration) -> Self {
        self.0.max_delay.set(delay);
        self
    }

    /// How many times as long as the one before each wait is (2 unless set, and 1 at least).
    #[must_use]
    pub fn factor(self, factor: f64) -> Self {
        self.0.factor.set(factor.max(1.0));
        self
    }

    /// By what part of itself a wait is made longer or shorter at most (0.25 unless set; from 0,
    /// which is not at all, to 1).
    #[must_use]
    pub fn jitter(self, part: f64) -> Self {
        let is_number = !part.is_nan();
        self.0
            .jitter
            .set(if is_number { part.clamp(0.0, 1.0) } else { 0.0 });
        self
    }

    /// How often in a row it connects again (without end unless set).
    #[must_use]
    pub fn max_retries(self, retries: u32) -> Self {
        self.0.max_retries.set(Some(retries));
        self
    }

    /// What the waiting goes by, in place of the reactor's time: a [`Clock`](crate::Clock) in a test.
    #[must_use]
    pub fn clock(self, clock: &impl ReactorTime) -> Self {
        self.0.clock.replace(Some(clock.time_source().clone()));
        self
    }

    /// Has the waits vary in the same way each time, for a test.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.0.random.set(seed);
        self
    }

    /// Begins anew with the first wait, and with counting: the server works. A wait that has begun
    /// stays as it is.
    pub fn reset_delay(&self) {
        for one in self.0.tries.borrow_mut().iter_mut() {
            one.retries = 0;
        }
    }

    /// Connects no more. Who is connecting stops, and is told so; connections stay as they are.
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

    /// Connects again, later, unless somebody has done so or wants no more.
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
                "not connecting to {} any more, after {} retries",
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
            // Somebody else may have connected it, or its reactor may be gone.
            let _ = connector.connect();
        }));
    }

    fn time(&self, connector: &Connector) -> TimeSource {
        let own = self.0.clock.borrow().clone();
        own.unwrap_or_else(|| connector.time_source())
    }

    /// The wait after so many others.
    fn delay(&self, retries: u32) -> Duration {
        let max = self.0.max_delay.get();
        let exponent = i32::try_from(retries).unwrap_or(i32::MAX);
        let grown = self.0.initial_delay.get().as_secs_f64() * self.0.factor.get().powi(exponent);
        // Too much for a Duration is too much anyway.
        Duration::try_from_secs_f64(grown).map_or(max, |delay| delay.min(max))
    }

    fn vary(&self, delay: Duration) -> Duration {
        let by = self.0.jitter.get() * (2.0 * self.random() - 1.0);
        Duration::try_from_secs_f64(delay.as_secs_f64() * (1.0 + by)).unwrap_or(delay)
    }

    /// From 0 to 1, evenly spread. SplitMix64 (Steele, Lea and Flood, 2014), which is no good for
    /// secrets, and needs none of the crates that are.
    fn random(&self) -> f64 {
        let state = self.0.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.random.set(state);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // As many bits as the fraction of a float has.
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
