//! Deferreds that fire when a time has come.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::ReactorTime;
use crate::deferred::{Deferred, Outcome};

/// Calls `function` after `delay`, and fires with what it returns (Twisted's `deferLater`).
///
/// The function may return a value, an error or another Deferred. If the Deferred is cancelled
/// before its time, the function is never called and the result is
/// [`CancelledError`](crate::CancelledError).
///
/// ```
/// # use std::time::Duration;
/// # use deferred_reactor::{Clock, Failure, defer_later};
/// let clock = Clock::new();
/// let deferred = defer_later(&clock, Duration::from_secs(5), || Ok("done"));
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(deferred.result()?, "done");
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn defer_later<R: Outcome>(
    clock: &impl ReactorTime,
    delay: Duration,
    function: impl FnOnce() -> R + 'static,
) -> Deferred<R::Value> {
    sleep(clock, delay).add_callback(move |()| function())
}

/// Fires with `()` after `delay`: Twisted's `deferLater` without a function.
///
/// ```
/// # use std::time::Duration;
/// # use deferred_reactor::{Clock, sleep};
/// let clock = Clock::new();
/// let nap = sleep(&clock, Duration::from_millis(20));
/// clock.advance(Duration::from_millis(20));
/// assert!(nap.is_fired());
/// ```
#[track_caller]
pub fn sleep(clock: &impl ReactorTime, delay: Duration) -> Deferred<()> {
    let call = Rc::new(Cell::new(None::<super::DelayedCall>));
    let to_cancel = call.clone();
    let (deferred, resolver) = Deferred::with_canceller(move |_| {
        if let Some(call) = to_cancel.take() {
            // It is waiting: once it was made, the Deferred has fired and has no canceller.
            let _ = call.cancel();
        }
    });
    call.set(Some(clock.call_later(delay, move || {
        let _ = resolver.callback(());
    })));
    deferred
}
