//! Deferreds that fire after a delay.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::ReactorTime;
use crate::deferred::{Deferred, Outcome};

/// Calls `function` after `delay`; the Deferred fires with its result (Twisted's `deferLater`).
///
/// `function` may return a value, an error or another Deferred. If the Deferred is cancelled before
/// the delay is over, `function` is never called and the result is
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

/// Fires with `()` after `delay` (Twisted's `deferLater` without a function).
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
            // The call is waiting: once it is made, the Deferred has fired and has no canceller.
            let _ = call.cancel();
        }
    });
    call.set(Some(clock.call_later(delay, move || {
        let _ = resolver.callback(());
    })));
    deferred
}
