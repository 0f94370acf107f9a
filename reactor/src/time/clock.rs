//! A clock that a test moves by hand.

use std::time::{Duration, Instant};

use super::source::after;
use super::{DelayedCall, ReactorTime, TimeSource};

/// Calls in one `advance`, far more than any test makes.
const MOST_CALLS: u32 = 1_000_000;

/// Virtual time (Twisted's `task.Clock`): nothing happens until the test says so.
///
/// Everything that takes a time source takes a Clock as well as a reactor.
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
    /// A clock at 0 seconds, without delayed calls.
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

    /// Moves time, then makes the calls that have become due, in order of their deadlines.
    ///
    /// A call sees the new time, and a call that it schedules for no later than that is made as
    /// well. A panic in a call goes up to the test. An amount that cannot be told, such as
    /// `Duration::MAX`, is a century, as for [`call_later`](ReactorTime::call_later).
    ///
    /// # Panics
    ///
    /// If a million calls are made and there are more: something schedules itself again and again
    /// with no delay, as a [`LoopingCall`](super::LoopingCall) with interval zero does. That needs the
    /// turns of a [`MemoryReactor`](crate::testing::MemoryReactor).
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

    /// The present moment.
    pub fn now(&self) -> Instant {
        self.source.now()
    }

    /// Makes a call once `delay` has passed; see [`ReactorTime::call_later`].
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.source.call_later(delay, call)
    }

    /// The calls that are waiting, in the order in which they are due.
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.source.delayed_calls()
    }
}

impl ReactorTime for Clock {
    fn time_source(&self) -> &TimeSource {
        &self.source
    }
}
