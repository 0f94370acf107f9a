//! Notifications to the service manager.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::logging;
use crate::{LoopingCall, Phase, Reactor, SystemEvent};

/// Notifies systemd of the state of the next run of `reactor` (`sd_notify(3)`):
///
/// | when                                            | is sent      |
/// |-------------------------------------------------|--------------|
/// | the reactor has started                         | `READY=1`    |
/// | twice in each `WatchdogSec=`, by the loop       | `WATCHDOG=1` |
/// | the shutdown begins, before its triggers wait   | `STOPPING=1` |
///
/// Only a delayed call feeds the watchdog: when the loop is stuck for `WatchdogSec=`, systemd ends
/// the process. Longer work belongs in a thread, or in a [`Cooperator`](crate::Cooperator).
///
/// Call this after the ports are open, because `READY=1` announces them. Does nothing outside of
/// systemd. A notification that cannot be sent is logged as a warning, and the program continues.
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
    // Not weak: a trigger belongs to the reactor, and is removed in the run.
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

/// Feeds the watchdog until the end of the run.
fn feed(reactor: &Reactor, limit: Duration) {
    let feeding = LoopingCall::new(reactor, || {
        tell(NotifyState::Watchdog);
        Ok(())
    });
    // systemd recommends half of the limit. It was not started before, so this is not refused.
    let _ = feeding.start(limit / 2);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(&state)) {
        logging::warn!(
            target: "reactor",
            "cannot send {state} to systemd: {error}; check NOTIFY_SOCKET in the environment"
        );
    }
}
