//! Time: delayed calls, and the clocks that make them.
//!
//! Code that needs time takes a [`ReactorTime`]: the [`Reactor`](crate::Reactor) in a program, a
//! [`Clock`] in a test. Both return the same [`DelayedCall`]. [`defer_later`], [`LoopingCall`] and
//! [`Cooperator`] work with either.

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

/// A clock that makes delayed calls (Twisted's `IReactorTime`).
///
/// Code that takes one runs on a [`Reactor`](crate::Reactor) in the program, and on a [`Clock`] in
/// a test. To keep the clock for later, clone its [`TimeSource`]:
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
    /// The shared clock, on which the other methods are based.
    fn time_source(&self) -> &TimeSource;

    /// The current time.
    fn now(&self) -> Instant {
        self.time_source().now()
    }

    /// The time at which the current [turn](crate#turns) began, as the reactor read it. Costs no
    /// clock read; for deadlines that need not be exact.
    fn turn_time(&self) -> Instant {
        self.time_source().turn_time()
    }

    /// Calls `call` after `delay`, and never before.
    ///
    /// Calls are made in the order of their deadlines, and calls with equal deadlines in the order
    /// of scheduling. A delay too large for an `Instant`, such as `Duration::MAX`, counts as a
    /// century.
    #[track_caller]
    fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall
    where
        Self: Sized,
    {
        self.time_source().call_later(delay, call)
    }

    /// The waiting delayed calls, in the order in which they are due.
    fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.time_source().delayed_calls()
    }
}

impl ReactorTime for TimeSource {
    fn time_source(&self) -> &TimeSource {
        self
    }
}
