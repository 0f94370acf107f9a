//! Time: calls that are made later, and the clocks that make them.
//!
//! Whatever needs time takes a [`ReactorTime`]: the [`Reactor`](crate::Reactor) in a program, a
//! [`Clock`] in a test. Both hand out the same [`DelayedCall`]. [`defer_later`], [`LoopingCall`] and [`Cooperator`] work on either.

mod ambient_clock;
mod clock;
mod cooperative_task;
mod cooperator;
mod defer_later;
mod looping;
mod source;
mod timers;

use std::time::{Duration, Instant};

pub use ambient_clock::{now, system_time};
pub use clock::Clock;
pub use cooperative_task::{
    CooperativeTask, NotPaused, SchedulerStopped, TaskFinished, TaskStopped,
};
pub use cooperator::{Cooperator, cooperate};
pub use defer_later::{defer_later, sleep};
pub use looping::{LoopingCall, LoopingCallError};
pub(crate) use source::after;
pub use source::{DelayedCall, DelayedCallError, TimeSource};

/// Something that knows the time and makes calls later (Twisted's `IReactorTime`).
///
/// Code that takes one runs on a [`Reactor`](crate::Reactor) in the program, and on a [`Clock`] in a
/// test. What is to be kept for later is its [`TimeSource`], which is cheap to clone:
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::time::TimeSource;
/// use deferred_reactor::{Clock, Deferred, Failure, ReactorTime, sleep};
///
/// struct Kettle { time: TimeSource }
///
/// impl Kettle {
///     fn new(clock: &impl ReactorTime) -> Self {
///         Self { time: clock.time_source().clone() }
///     }
///     fn boil(&self) -> Deferred<&'static str> {
///         sleep(&self.time, Duration::from_secs(120)).map(|()| "it boils")
///     }
/// }
///
/// let clock = Clock::new();
/// let water = Kettle::new(&clock).boil();
/// clock.advance(Duration::from_secs(120));
/// assert_eq!(water.result()?, "it boils");
/// # Ok::<(), Failure>(())
/// ```
pub trait ReactorTime {
    /// The clock itself; all the rest follows from it.
    fn time_source(&self) -> &TimeSource;

    /// The present moment.
    fn now(&self) -> Instant {
        self.time_source().now()
    }

    /// When the turn at hand began: the present moment, as far as it was known when the reactor
    /// last looked. Costs no clock read; for deadlines that need not be exact.
    fn turn_time(&self) -> Instant {
        self.time_source().turn_time()
    }

    /// Makes a call once `delay` has passed, and never before.
    ///
    /// Calls are made in the order of their deadlines; those with equal deadlines in the order
    /// they were asked for. A delay that cannot be told, such as `Duration::MAX`, is a century.
    #[track_caller]
    fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall
    where
        Self: Sized,
    {
        self.time_source().call_later(delay, call)
    }

    /// The calls that are waiting, in the order in which they are due.
    fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.time_source().delayed_calls()
    }
}

impl ReactorTime for TimeSource {
    fn time_source(&self) -> &TimeSource {
        self
    }
}
