//! A clock that a test moves by hand.

use std::time::{Duration, Instant};

use super::{DelayedCall, ReactorTime, TimeSource};

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
    /// well. A panic in a call goes up to the test.
    pub fn advance(&self, amount: Duration) {
        let now = self.now() + amount;
        self.source.set_now(now);
        while self.source.run_next_due(now) {}
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
