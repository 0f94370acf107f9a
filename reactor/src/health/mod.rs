//! How the loop is doing: what it has done, how late it is, and what holds it up.
//!
//! A loop alternates between being awake, when it calls what there is to call, and sleeping in the
//! selector. A *turn*, here, is one time of being awake:
//!
//! ```text
//!          wakes ──────────────── a turn ───────────────▶ sleeps            wakes
//!   ─ ─ ─ ─ ┤ events │ delayed calls │ calls from threads ├─ ─ ─ ─ ─ ─ ─ ─ ─ ┤ ...
//!             ▲                ▲
//!             a slow callback  └ lag: how long after its deadline one was made
//! ```
//!
//! - [`Reactor::stats`] tells the numbers: turns, events, lag, how much of the time it was busy.
//! - [`Reactor::monitor`] gives a [`Monitor`], which tells the same on any other thread, also while
//!   the loop is stuck: that is how a scrape sees a block while it lasts.
//! - A [`ReactorObserver`] is told of each turn as it ends, for histograms.
//! - [`Reactor::set_slow_callback_limit`] has each callback timed, and the slow ones named: by the
//!   line that scheduled or added them, or by the type of the protocol.
//! - [`track_pending`](crate::deferred::track_pending) keeps a list of the Deferreds that have not
//!   fired, by the line where they were made.
//!
//! | what              | until asked for | costs                                                  |
//! |-------------------|-----------------|--------------------------------------------------------|
//! | the numbers       | on              | 35 ns a turn, 1 ns an event                            |
//! | an observer       | off             | 20 ns a turn, 25 ns for each delayed call of a turn but the first, and what it does itself |
//! | slow callbacks    | off             | 30 ns a callback of the loop, 60 ns one of a Deferred, 50 ns a turn |
//! | pending Deferreds | off             | 60 ns for each one that is made and fired              |
//!
//! (On a machine where reading the clock takes 24 ns.) Off, the last two cost less than a
//! nanosecond for each Deferred, and for each callback of one.
//!
//! The loop takes its numbers from clock reads that it needs anyway, but for one a turn where no
//! timer waits; and nothing here ever wakes it up.
//!
//! ```
//! use std::time::Duration;
//! use deferred_reactor::{Failure, Reactor};
//!
//! let reactor = Reactor::new()?;
//! reactor.set_slow_callback_limit(Duration::from_millis(100)); // slower ones are logged
//! let stop = reactor.clone();
//! reactor.call_later(Duration::from_millis(2), move || stop.stop().expect("it runs"));
//! reactor.run()?;
//!
//! let stats = reactor.stats();
//! assert_eq!(stats.delayed_calls, 1);
//! assert!(stats.busy_ratio() < 1.0);
//! # Ok::<(), Failure>(())
//! ```
//!
//! [`Reactor::stats`]: crate::Reactor::stats
//! [`Reactor::monitor`]: crate::Reactor::monitor
//! [`Reactor::set_slow_callback_limit`]: crate::Reactor::set_slow_callback_limit

mod callback;
mod meter;
mod slow;

use std::time::Duration;

pub use callback::{Callback, CallbackKind, Place};
pub use meter::{Monitor, ObserverId, UnknownObserverError};
pub use slow::{SlowCallback, SlowCallbacks, watch};

pub(crate) use meter::Meter;
pub(crate) use slow::{callback_begins, callback_ends};

/// Is told by the loop how it is doing.
///
/// Added with [`Reactor::add_observer`](crate::Reactor::add_observer). It is called on the
/// reactor's thread with nothing borrowed, so it may call anything; a panic in it is logged. The
/// time that it takes counts as the loop's.
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use deferred_reactor::health::{ReactorObserver, Turn};
/// use deferred_reactor::{Failure, Reactor};
///
/// /// The longest that anything had to wait for the loop.
/// #[derive(Default)]
/// struct Longest(Cell<Duration>);
///
/// impl ReactorObserver for Longest {
///     fn turn(&self, turn: &Turn) {
///         self.0.set(self.0.get().max(turn.time));
///     }
/// }
///
/// let reactor = Reactor::new()?;
/// let longest = Rc::new(Longest::default());
/// reactor.add_observer(longest.clone());
/// let stop = reactor.clone();
/// reactor.call_later(Duration::from_millis(2), move || stop.stop().expect("it runs"));
/// reactor.run()?;
/// assert!(longest.0.get() > Duration::ZERO);
/// # Ok::<(), Failure>(())
/// ```
pub trait ReactorObserver: 'static {
    /// A turn is over; the loop is about to sleep.
    fn turn(&self, turn: &Turn) {
        let _ = turn;
    }

    /// A callback was slower than the limit. It is told at once, on the stack that the callback
    /// was called from, and only where
    /// [`set_slow_callback_limit`](crate::Reactor::set_slow_callback_limit) is on. What this calls
    /// itself is not timed.
    fn slow_callback(&self, slow: &SlowCallback) {
        let _ = slow;
    }
}

impl<O: ReactorObserver + ?Sized> ReactorObserver for std::rc::Rc<O> {
    fn turn(&self, turn: &Turn) {
        (**self).turn(turn);
    }

    fn slow_callback(&self, slow: &SlowCallback) {
        (**self).slow_callback(slow);
    }
}

/// One turn of the loop, from waking up to going to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Turn {
    /// How long it took.
    pub time: Duration,
    /// Events of sockets.
    pub events: u64,
    /// Delayed calls that were made.
    pub delayed_calls: u64,
    /// Calls from other threads that were made.
    pub thread_calls: u64,
    /// How late the latest of the delayed calls was, if any were made: how long after its deadline
    /// it began.
    ///
    /// The system counts sleep in milliseconds, so a loop with nothing else to do is up to one
    /// late.
    pub lag: Option<Duration>,
    /// Delayed calls that wait for their time.
    pub pending_timers: usize,
}

/// What a reactor has done since it was made, and what it does now.
///
/// The counts are those of turns that are over. Times go on while the loop is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns, those of the loop being awake.
    pub turns: u64,
    /// Events of sockets.
    pub events: u64,
    /// Delayed calls that were made.
    pub delayed_calls: u64,
    /// Calls from other threads that were made.
    pub thread_calls: u64,
    /// Time awake, the turn at hand included.
    pub busy: Duration,
    /// Time asleep, or not running.
    pub idle: Duration,
    /// How long the turn at hand has taken so far; `None` while the loop sleeps or does not run.
    ///
    /// Seen from another thread this is how long the loop has been stuck.
    pub turn_running: Option<Duration>,
    /// The longest turn that is over.
    pub longest_turn: Duration,
    /// The latest that a delayed call was. Where there is no observer, only the first of each turn
    /// is looked at: those that had to wait for others of the same turn are not.
    pub longest_lag: Duration,
    /// Delayed calls that wait for their time; as of the last turn, when asked on another thread.
    pub pending_timers: usize,
    /// Calls from other threads that wait to be made.
    pub pending_calls: usize,
    /// Callbacks that were slower than the limit that was set then.
    pub slow_callbacks: u64,
    /// Failures that nobody handled on the reactor's thread; see
    /// [`on_unhandled`](crate::on_unhandled).
    pub unhandled_failures: u64,
}

impl Stats {
    /// How much of the time the loop was awake since the reactor was made, 0 to 1.
    pub fn busy_ratio(&self) -> f64 {
        ratio(self.busy, self.idle)
    }

    /// How much of the time since `earlier` the loop was awake, 0 to 1; 0 if no time has passed.
    ///
    /// ```
    /// # use deferred_reactor::{Failure, Reactor};
    /// let reactor = Reactor::new()?;
    /// let earlier = reactor.stats();
    /// // ... later
    /// assert_eq!(reactor.stats().busy_ratio_since(&earlier), 0.0); // it does not run
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn busy_ratio_since(&self, earlier: &Self) -> f64 {
        ratio(
            self.busy.saturating_sub(earlier.busy),
            self.idle.saturating_sub(earlier.idle),
        )
    }
}

fn ratio(busy: Duration, idle: Duration) -> f64 {
    let whole = busy + idle;
    match whole.is_zero() {
        true => 0.0,
        false => busy.as_secs_f64() / whole.as_secs_f64(),
    }
}
