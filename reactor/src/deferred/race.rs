//! The first of several Deferreds to succeed.

use std::panic::Location;

use super::gather::{FirstValue, Terms, gather};
use super::{Deferred, Failure, FailureGroup};

/// Fires with the index and the value of the first input that succeeds, and cancels the others
/// (Twisted's `race`).
///
/// The other inputs are cancelled before the callbacks of the race run. Their later results are
/// dropped and not reported. Among inputs that have fired already, the first in order wins.
///
/// Cancelling the race cancels every input. The race then fails, unless a canceller fires its input
/// with a value. At the end of a [time limit](Deferred::add_timeout) the race fails with
/// [`TimeoutError`](crate::TimeoutError).
///
/// # Errors
///
/// [`FailureGroup`] once all inputs have failed; at once if there are no inputs.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{Clock, Failure, defer_later, race};
///
/// let clock = Clock::new();
/// let ask = |mirror: &'static str, seconds| {
///     defer_later(&clock, Duration::from_secs(seconds), move || Ok(mirror))
/// };
/// let fastest = race([ask("far", 5), ask("near", 1)]);
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(fastest.result()?, (1, "near"));
/// assert!(clock.delayed_calls().is_empty()); // the other was cancelled
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn race<T>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<(usize, T)> {
    let line = Location::caller();
    let inputs: Vec<_> = inputs.into_iter().collect();
    if inputs.is_empty() {
        let nobody = FailureGroup { failures: vec![] };
        return Deferred::fired_at(Err(Failure::at(Box::new(nobody), line)), line);
    }
    let rule = FirstValue::new(inputs.len(), |index, value| (index, value), line);
    let terms = Terms {
        consumes_errors: true,
        cancels_the_rest: true,
        line,
    };
    gather(inputs, rule, terms)
}
