//! Measurements of the loop: what it has done, how late it is, and which callbacks hold it up.
//!
//! The loop alternates between being awake, when it runs callbacks, and sleeping in the selector. A
//! [turn](crate#turns) lasts from waking up to falling asleep:
//!
//! ```text
//!          wakes ──────────────── a turn ───────────────▶ sleeps            wakes
//!   ─ ─ ─ ─ ┤ events │ delayed calls │ calls from threads ├─ ─ ─ ─ ─ ─ ─ ─ ─ ┤ ...
//!             ▲                ▲
//!             a slow callback  └ lag: how long after its deadline one was made
//! ```
//!
//! - [`Reactor::stats`] returns the measurements: turns, events, lag, and the share of time that
//!   the loop was busy.
//! - [`Reactor::monitor`] returns a [`Monitor`], which reads the same on any other thread, also
//!   while the loop is stuck. So a scrape on another thread can show a blocked loop.
//! - A [`ReactorObserver`] is called at the end of each turn, for histograms.
//! - [`Reactor::set_slow_callback_limit`] measures each callback and reports slow ones, by the line
//!   that scheduled or added them, or by the type of the protocol.
//! - [`track_pending`](crate::deferred::track_pending) lists the Deferreds that have not fired, by
//!   the line that made them.
//!
//! | measurement       | by default | cost                                                        |
//! |-------------------|------------|-------------------------------------------------------------|
//! | statistics        | on         | 35 ns a turn, 1 ns an event                                 |
//! | an observer       | off        | 20 ns a turn, 25 ns for each delayed call of a turn except the first, and its own work |
//! | slow callbacks    | off        | 30 ns a callback of the loop, 60 ns a callback of a Deferred, 50 ns a turn |
//! | pending Deferreds | off        | 60 ns for each one that is made and fired                   |
//!
//! (Measured on a machine where a clock read takes 24 ns.) While off, the last two together cost
//! less than a nanosecond for each Deferred and each of its callbacks.
//!
//! The loop uses the clock reads that it makes anyway, plus one in each turn without a waiting
//! timer. Measuring never wakes the loop.
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

/// Observes a reactor's turns and slow callbacks.
///
/// Added with [`Reactor::add_observer`](crate::Reactor::add_observer). The methods are called on
/// the reactor's thread with no internal borrow held, so they may call any API; a panic in one is
/// logged. Their time counts as busy time of the loop.
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
    /// A turn has ended; the loop is about to sleep.
    fn turn(&self, turn: &Turn) {
        let _ = turn;
    }

    /// A callback took longer than the limit of
    /// [`set_slow_callback_limit`](crate::Reactor::set_slow_callback_limit). Called at once, on the
    /// stack from which the callback was called. Callbacks made inside this method are not
    /// measured.
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
    /// The duration of the turn.
    pub time: Duration,
    /// Number of socket events.
    pub events: u64,
    /// Number of delayed calls made.
    pub delayed_calls: u64,
    /// Number of calls from other threads made.
    pub thread_calls: u64,
    /// Maximum lag of the delayed calls: the time from a call's deadline to its start. `None` if no
    /// delayed call was made.
    ///
    /// The system measures sleep in milliseconds, so the lag of an idle loop is up to 1 ms.
    pub lag: Option<Duration>,
    /// Number of delayed calls that are waiting.
    pub pending_timers: usize,
}

/// Measurements of a reactor since it was made.
///
/// The counts include finished turns only. The times also grow while the loop is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of turns.
    pub turns: u64,
    /// Number of socket events.
    pub events: u64,
    /// Number of delayed calls made.
    pub delayed_calls: u64,
    /// Number of calls from other threads made.
    pub thread_calls: u64,
    /// Time awake, the current turn included.
    pub busy: Duration,
    /// Time asleep, or not running.
    pub idle: Duration,
    /// Duration of the current turn so far; `None` while the loop sleeps or is not running.
    ///
    /// Read on another thread, this is how long the loop has been stuck.
    pub turn_running: Option<Duration>,
    /// Duration of the longest finished turn.
    pub longest_turn: Duration,
    /// Maximum lag of a delayed call. Without an observer, only the first call of each turn is
    /// measured; calls that waited for others of the same turn are not.
    pub longest_lag: Duration,
    /// Number of delayed calls that are waiting; on another thread, the number at the end of the
    /// last turn.
    pub pending_timers: usize,
    /// Number of calls from other threads that are waiting.
    pub pending_calls: usize,
    /// Number of callbacks that took longer than the limit set at the time.
    pub slow_callbacks: u64,
    /// Number of unhandled failures on the reactor's thread; see
    /// [`on_unhandled`](crate::on_unhandled).
    pub unhandled_failures: u64,
}

impl Stats {
    /// Share of the time since the reactor was made that the loop was awake, 0 to 1.
    pub fn busy_ratio(&self) -> f64 {
        ratio(self.busy, self.idle)
    }

    /// Share of the time since `earlier` that the loop was awake, 0 to 1; 0 if no time has passed.
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
