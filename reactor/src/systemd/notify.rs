//! What the service manager is told.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::logging;
use crate::{LoopingCall, Phase, Reactor, SystemEvent};

/// Tells systemd how the next run of `reactor` is doing (`sd_notify(3)`):
///
/// | when                                            | is sent      |
/// |-------------------------------------------------|--------------|
/// | the reactor has started                         | `READY=1`    |
/// | twice in each `WatchdogSec=`, by the loop       | `WATCHDOG=1` |
/// | the shutdown begins, before its triggers wait   | `STOPPING=1` |
///
/// The watchdog is fed by a delayed call and by nothing else: a loop that is stuck for that long is
/// found out, and systemd ends the process. What the loop is busy with for longer belongs in a thread,
/// or in a [`Cooperator`](crate::Cooperator).
///
/// Call it after the ports are open, since that is what `READY=1` says. Does nothing outside of systemd.
/// What cannot be sent is logged as a warning, and the program goes on.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{Failure, Reactor, systemd};
///
/// let reactor = Reactor::new()?;
/// systemd::notify_manager(&reactor);
/// reactor.run_for(Duration::from_millis(5))?;
/// # Ok::<(), Failure>(())
/// ```
pub fn notify_manager(reactor: &Reactor) {
    // Weak would not do: a trigger belongs to the reactor, and goes with the run.
    let watchdog = reactor.clone();
    reactor.add_system_event_trigger(Phase::After, SystemEvent::Startup, move || {
        tell(NotifyState::Ready);
        if let Some(limit) = sd_notify::watchdog_enabled() {
            feed(&watchdog, limit);
        }
        Ok(())
    });
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, || {
        tell(NotifyState::Stopping);
        Ok(())
    });
}

/// Feeds the watchdog until the run is over.
fn feed(reactor: &Reactor, limit: Duration) {
    let feeding = LoopingCall::new(reactor, || {
        tell(NotifyState::Watchdog);
        Ok(())
    });
    // Half of the limit is what systemd advises. It has not been started before.
    let _ = feeding.start(limit / 2);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(&state)) {
        logging::warn!(
            target: "reactor",
            "cannot tell systemd {state}: {error}; see NOTIFY_SOCKET in the environment"
        );
    }
}
