//! A clock that a test moves by hand.

use std::time::{Duration, Instant};

use super::source::after;
use super::{DelayedCall, ReactorTime, TimeSource};

/// Maximum number of calls in one `advance`, far more than any test makes.
const MOST_CALLS: u32 = 1_000_000;

/// Virtual time (Twisted's `task.Clock`): moves only when the test calls
/// [`advance`](Self::advance).
///
/// Everything that takes a [`ReactorTime`] takes a Clock as well as a reactor.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{Clock, Failure, defer_later};
///
/// let clock = Clock::new();
/// let tea = defer_later(&clock, Duration::from_secs(180), || Ok("ready"));
/// clock.advance(Duration::from_secs(179));
/// assert!(!tea.is_fired());
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(tea.result()?, "ready");
/// # Ok::<(), Failure>(())
/// ```
#[derive(Debug, Clone)]
pub struct Clock {
    source: TimeSource,
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Makes a clock at 0 seconds, without delayed calls.
    pub fn new() -> Self {
        let start = Instant::now();
        Self {
            source: TimeSource::frozen_at(start),
            start,
        }
    }

    /// The time since the clock was made (Twisted's `seconds`).
    pub fn elapsed(&self) -> Duration {
        self.now() - self.start
    }

    /// Moves the time forward, then makes the calls that have become due, in order of their
    /// deadlines.
    ///
    /// A call sees the new time. A call that it schedules for that time or before is made as well.
    /// A panic in a call reaches the test. An amount too large for an `Instant`, such as
    /// `Duration::MAX`, counts as a century, as for [`call_later`](ReactorTime::call_later).
    ///
    /// # Panics
    ///
    /// After a million calls, if more are due: a call that schedules itself with no delay, such as
    /// a [`LoopingCall`](super::LoopingCall) with interval zero, never ends here. Use a
    /// [`MemoryReactor`](crate::testing::MemoryReactor), which has [turns](crate#turns).
    pub fn advance(&self, amount: Duration) {
        let now = after(self.now(), amount);
        self.source.set_now(now);
        for _ in 0..MOST_CALLS {
            if !self.source.run_next_due(now) {
                return;
            }
        }
        panic!(
            "{MOST_CALLS} calls were made in one `advance`, and more are due: something schedules \
             itself with no delay; use the turns of a MemoryReactor for it"
        );
    }

    /// Advances by each of `amounts` in turn.
    pub fn pump(&self, amounts: impl IntoIterator<Item = Duration>) {
        for amount in amounts {
            self.advance(amount);
        }
    }

    /// The current time of the clock.
    pub fn now(&self) -> Instant {
        self.source.now()
    }

    /// Calls `call` after `delay`; see [`ReactorTime::call_later`].
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.source.call_later(delay, call)
    }

    /// The waiting delayed calls, in the order in which they are due.
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.source.delayed_calls()
    }
}

impl ReactorTime for Clock {
    fn time_source(&self) -> &TimeSource {
        &self.source
    }
}
