//! What can be asked of a site that serves, and how it ends.

use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use deferred_reactor::net::Port;
use deferred_reactor::{Deferred, Phase, Reactor, SystemEvent};

use super::DrainOnShutdown;
use super::live::{Drained, Live};
use crate::web::RefusalReason;

/// A running site: what it is busy with, and how to end it in good order.
///
/// Cheap to clone. It stays valid when the site has gone to a reactor:
///
/// ```
/// use std::time::Duration;
/// use prometheus_deferred::Reactor;
/// use prometheus_deferred::web::{Site, Tree};
///
/// let reactor = Reactor::new()?;
/// let site = Site::new(Tree::new());
/// let handle = site.handle();
/// reactor.listen_tcp("127.0.0.1:0", site)?;
///
/// let stop = reactor.clone();
/// reactor.call_when_running(move || {
///     handle.drain(Duration::from_secs(5)).add_callback(move |drained| {
///         println!("{} requests were cut off", drained.cut.len());
///         Ok(stop.stop()?)
///     });
/// });
/// reactor.run()?;
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
#[derive(Clone)]
pub struct SiteHandle {
    live: Rc<Live>,
}

impl SiteHandle {
    pub(super) fn new(live: Rc<Live>) -> Self {
        Self { live }
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.live.connections()
    }

    /// How many requests have begun.
    pub fn requests(&self) -> u64 {
        self.live.requests()
    }

    /// How many times clients were refused something for this reason.
    pub fn refused(&self, reason: RefusalReason) -> u64 {
        self.live.refusals(reason)
    }

    /// Whether a drain has begun: for a page that tells a load balancer to go elsewhere.
    pub fn is_draining(&self) -> bool {
        self.live.is_draining()
    }

    /// Ends the site in good order.
    ///
    /// Clients that wait in the ports' queues are accepted, and then the ports close. Connections
    /// without a request close at once. Requests that are being handled are finished, with
    /// `Connection: close`. For long responses, such as event streams,
    /// [`Request::notify_drain`](crate::web::Request::notify_drain) fires. The Deferred fires when the
    /// last byte of the last response was handed to the system, or after `deadline`, when the
    /// connections that are left are cut off with a reset, so that no client takes a part of a
    /// response for the whole. It never fails.
    ///
    /// A second call joins the first, with its own deadline. A shutdown of the reactor drains by
    /// itself ([`Site::drain_on_shutdown`](super::Site::drain_on_shutdown)).
    #[track_caller]
    pub fn drain(&self, deadline: Duration) -> Deferred<Drained> {
        let deferred = self.live.begin_drain();
        let ports = self.live.take_ports();
        for port in &ports {
            port.accept_waiting();
            drop(port.stop_listening());
        }
        let connections = self.live.all();
        for connection in &connections {
            connection.begin_drain();
        }
        self.live.has_begun();
        if !deferred.is_fired() {
            let reactor = ports.iter().find_map(Port::reactor);
            let reactor = reactor.or_else(|| connections.iter().find_map(|one| one.reactor()));
            self.cut_off_after(deadline, reactor);
        }
        deferred
    }

    fn cut_off_after(&self, deadline: Duration, reactor: Option<Reactor>) {
        let live = self.live.clone();
        let cut = move || {
            for connection in live.all() {
                connection.cut_for_drain();
            }
        };
        match reactor {
            Some(reactor) if deadline > Duration::ZERO => {
                self.live.ends_drain_by(reactor.call_later(deadline, cut));
            }
            _ => cut(),
        }
    }
}

impl fmt::Debug for SiteHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteHandle")
            .field("connections", &self.connections())
            .field("is_draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}

/// A port of the site is open: it is drained when its reactor stops.
pub(super) fn serve(live: &Rc<Live>, port: &Port, drains: DrainOnShutdown) {
    live.add_port(port.clone());
    let Some(reactor) = port.reactor() else {
        return;
    };
    let live: Weak<Live> = Rc::downgrade(live);
    // A reactor that never runs must not be held by its own trigger.
    let port = port.clone();
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move || {
        let Some(live) = live.upgrade() else {
            return Deferred::succeed(());
        };
        /// Ctrl-C, on every system that has signals.
        const SIGINT: i32 = 2;
        let time = match port.reactor().and_then(|reactor| reactor.exit_signal()) {
            Some(SIGINT) => drains.interrupt,
            _ => drains.stop,
        };
        SiteHandle::new(live).drain(time).map(|drained| {
            if !drained.cut.is_empty() {
                crate::logging::warn!(
                    target: "web",
                    "requests were cut off by the end of the program: {}",
                    drained.cut.join(", ")
                );
            }
        })
    });
}
