//! The measurements of the loop, and its observers.
//!
//! The loop writes the measurements, and any thread may read them: they are atomics that only the
//! loop changes, with plain loads and stores. Busy and idle time must be consistent with each other
//! at any moment. One word is enough for both: their sum is always the age of the reactor, so only
//! the one that does not grow now is stored.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::slow::{SlowCallbacks, SlowPlaces};
use super::{ReactorObserver, Stats, Turn};
use crate::deferred::unhandled_failures;
use crate::guard::guard;
use crate::threads::CallQueue;
use crate::time::{TimeSource, now};

/// An observer, and the source line that added it.
#[derive(Clone)]
struct Observing {
    id: ObserverId,
    observer: Rc<dyn ReactorObserver>,
    line: &'static Location<'static>,
}

/// The loop's side of the measurements.
pub(crate) struct Meter {
    shared: Arc<Readings>,
    is_awake: Cell<bool>,
    /// Time of the last wake-up or fall into sleep, in nanoseconds since [`Readings::start`], like
    /// all times below.
    since: Cell<u64>,
    busy: Cell<u64>,
    idle: Cell<u64>,
    /// Start of the current turn; `NEVER` between turns.
    began: Cell<u64>,
    /// Totals of all turns, the current one included.
    events: Cell<u64>,
    delayed_calls: Cell<u64>,
    thread_calls: Cell<u64>,
    /// Maximum lag in the current turn.
    lag: Cell<Option<Duration>>,
    has_observers: Cell<bool>,
    observers: RefCell<Vec<Observing>>,
    next_observer: Cell<u64>,
    pub(super) slow: super::slow::Settings,
}

/// The side that other threads read.
pub(super) struct Readings {
    start: Instant,
    /// While awake: nanoseconds asleep so far, doubled, plus one. While asleep: nanoseconds awake,
    /// doubled.
    standing: AtomicU64,
    /// Start of the current turn; `NEVER` between turns.
    began: AtomicU64,
    turns: AtomicU64,
    events: AtomicU64,
    delayed_calls: AtomicU64,
    thread_calls: AtomicU64,
    longest_turn: AtomicU64,
    longest_lag: AtomicU64,
    pending_timers: AtomicUsize,
    unhandled_failures: AtomicU64,
    pub(super) slow_callbacks: AtomicU64,
    pub(super) lines: SlowPlaces,
}

const NEVER: u64 = u64::MAX;

fn raise(number: &AtomicU64, to: u64) {
    if number.load(Relaxed) < to {
        number.store(to, Relaxed);
    }
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            shared: Arc::new(Readings {
                start: now,
                standing: AtomicU64::new(0),
                began: AtomicU64::new(NEVER),
                turns: AtomicU64::new(0),
                events: AtomicU64::new(0),
                delayed_calls: AtomicU64::new(0),
                thread_calls: AtomicU64::new(0),
                longest_turn: AtomicU64::new(0),
                longest_lag: AtomicU64::new(0),
                pending_timers: AtomicUsize::new(0),
                unhandled_failures: AtomicU64::new(unhandled_failures()),
                slow_callbacks: AtomicU64::new(0),
                lines: SlowPlaces::default(),
            }),
            is_awake: Cell::new(false),
            since: Cell::new(0),
            busy: Cell::new(0),
            idle: Cell::new(0),
            began: Cell::new(NEVER),
            events: Cell::new(0),
            delayed_calls: Cell::new(0),
            thread_calls: Cell::new(0),
            lag: Cell::new(None),
            has_observers: Cell::new(false),
            observers: RefCell::new(Vec::new()),
            next_observer: Cell::new(0),
            slow: super::slow::Settings::default(),
        }
    }

    pub(super) fn shared(&self) -> &Readings {
        &self.shared
    }

    /// Begins a turn: the loop has started to run, or the selector has returned. Ends a turn that
    /// was not followed by a sleep.
    pub(crate) fn wakes(&self, now: Instant, time: &TimeSource) {
        let nanos = self.shared.nanos(now);
        let was_told = self.end_turn(nanos, time);
        self.slow.moment.set((!was_told).then_some(now));
        if !self.is_awake.replace(true) {
            let slept = nanos.saturating_sub(self.since.replace(nanos));
            let idle = self.idle.get() + slept;
            self.idle.set(idle);
            self.shared.standing.store(idle << 1 | 1, Relaxed);
        }
        self.began.set(nanos);
        self.shared.began.store(nanos, Relaxed);
    }

    /// Ends a turn: the loop is about to sleep, or has ended. Returns `true` if an observer was
    /// called, which takes time.
    pub(crate) fn sleeps(&self, now: Instant, time: &TimeSource) -> bool {
        let nanos = self.shared.nanos(now);
        if self.is_awake.replace(false) {
            let worked = nanos.saturating_sub(self.since.replace(nanos));
            let busy = self.busy.get() + worked;
            self.busy.set(busy);
            self.shared.standing.store(busy << 1, Relaxed);
        }
        self.end_turn(nanos, time)
    }

    pub(crate) fn is_awake(&self) -> bool {
        self.is_awake.get()
    }

    /// Whether there are observers.
    pub(crate) fn is_observed(&self) -> bool {
        self.has_observers.get()
    }

    pub(crate) fn count_event(&self) {
        self.events.set(self.events.get() + 1);
    }

    /// Counts `count` delayed calls, and their maximum lag.
    pub(crate) fn count_delayed_calls(&self, count: u64, lag: Duration) {
        self.delayed_calls.set(self.delayed_calls.get() + count);
        self.lag.set(self.lag.get().max(Some(lag)));
    }

    pub(crate) fn count_thread_calls(&self, count: u64) {
        self.thread_calls.set(self.thread_calls.get() + count);
    }

    fn end_turn(&self, now: u64, time: &TimeSource) -> bool {
        let began = self.began.replace(NEVER);
        if began == NEVER {
            return false;
        }
        let shared = &*self.shared;
        let (took, lag) = (now.saturating_sub(began), self.lag.take());
        let pending_timers = time.len();
        let turn = self.has_observers.get().then(|| {
            let since_the_last = |now: &Cell<u64>, then: &AtomicU64| now.get() - then.load(Relaxed);
            Turn {
                time: Duration::from_nanos(took),
                events: since_the_last(&self.events, &shared.events),
                delayed_calls: since_the_last(&self.delayed_calls, &shared.delayed_calls),
                thread_calls: since_the_last(&self.thread_calls, &shared.thread_calls),
                lag,
                pending_timers,
            }
        });
        shared.began.store(NEVER, Relaxed);
        shared.turns.store(shared.turns.load(Relaxed) + 1, Relaxed);
        shared.events.store(self.events.get(), Relaxed);
        shared
            .delayed_calls
            .store(self.delayed_calls.get(), Relaxed);
        shared.thread_calls.store(self.thread_calls.get(), Relaxed);
        raise(&shared.longest_turn, took);
        if let Some(lag) = lag {
            raise(&shared.longest_lag, nanos_of(lag));
        }
        shared.pending_timers.store(pending_timers, Relaxed);
        let lost = unhandled_failures();
        shared.unhandled_failures.store(lost, Relaxed);
        match turn {
            Some(turn) => self.tell(|observer| observer.turn(&turn)),
            None => return false,
        }
        true
    }

    pub(super) fn tell(&self, tell: impl Fn(&dyn ReactorObserver)) {
        // Observers may add and remove others. An added one is called from the next turn on; when
        // one is removed, the next in order may miss this turn.
        let count = self.observers.borrow().len();
        for index in 0..count {
            let found = self.observers.borrow().get(index).cloned();
            if let Some(Observing { observer, line, .. }) = found {
                let what = format_args!("the observer of the reactor added at {line}");
                guard(what, || tell(&*observer));
            }
        }
    }

    #[track_caller]
    pub(crate) fn add_observer(&self, observer: Rc<dyn ReactorObserver>) -> ObserverId {
        let id = ObserverId(self.next_observer.get());
        self.next_observer.set(id.0 + 1);
        self.observers.borrow_mut().push(Observing {
            id,
            observer,
            line: Location::caller(),
        });
        self.has_observers.set(true);
        id
    }

    pub(crate) fn remove_observer(&self, id: ObserverId) -> Result<(), UnknownObserverError> {
        let mut observers = self.observers.borrow_mut();
        let index = observers
            .iter()
            .position(|observing| observing.id == id)
            .ok_or(UnknownObserverError)?;
        let removed = observers.remove(index);
        self.has_observers.set(!observers.is_empty());
        drop(observers); // what it owns may come back here when it is dropped
        drop(removed);
        Ok(())
    }

    pub(crate) fn monitor(&self, calls: CallQueue) -> Monitor {
        Monitor {
            shared: self.shared.clone(),
            calls,
        }
    }
}

impl Readings {
    fn nanos(&self, moment: Instant) -> u64 {
        nanos_of(moment.saturating_duration_since(self.start))
    }
}

/// Valid for 292 years, because one bit distinguishes awake from asleep.
fn nanos_of(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000) + u64::from(duration.subsec_nanos())
}

/// Reads the measurements of a reactor, on any thread.
///
/// Cheap to clone; does not keep the reactor alive. After the reactor is dropped, the last
/// measurements remain.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{Failure, Reactor};
///
/// let reactor = Reactor::new()?;
/// let monitor = reactor.monitor();
/// std::thread::spawn(move || {
///     // Once in a while, for as long as the program runs:
///     if monitor.stats().turn_running > Some(Duration::from_secs(5)) {
///         eprintln!("the reactor is stuck");
///     }
/// });
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Readings>,
    calls: CallQueue,
}

impl Monitor {
    /// The current measurements.
    pub fn stats(&self) -> Stats {
        let shared = &*self.shared;
        // Read before the clock, so that the time is not before the stored one.
        let standing = shared.standing.load(Relaxed);
        let began = shared.began.load(Relaxed);
        let now = shared.nanos(now());
        let (still, moving) = (standing >> 1, now.saturating_sub(standing >> 1));
        let (busy, idle) = match standing & 1 {
            1 => (moving, still),
            _ => (still, moving),
        };
        let nanos = |number: &AtomicU64| Duration::from_nanos(number.load(Relaxed));
        Stats {
            turns: shared.turns.load(Relaxed),
            events: shared.events.load(Relaxed),
            delayed_calls: shared.delayed_calls.load(Relaxed),
            thread_calls: shared.thread_calls.load(Relaxed),
            busy: Duration::from_nanos(busy),
            idle: Duration::from_nanos(idle),
            turn_running: (began != NEVER).then(|| Duration::from_nanos(now.saturating_sub(began))),
            longest_turn: nanos(&shared.longest_turn),
            longest_lag: nanos(&shared.longest_lag),
            pending_timers: shared.pending_timers.load(Relaxed),
            pending_calls: self.calls.len(),
            slow_callbacks: shared.slow_callbacks.load(Relaxed),
            unhandled_failures: shared.unhandled_failures.load(Relaxed),
        }
    }

    /// The slow callbacks so far, most frequent first; see
    /// [`set_slow_callback_limit`](crate::Reactor::set_slow_callback_limit).
    /// [`set_slow_callback_limit`](crate::Reactor::set_slow_callback_limit).
    pub fn slow_callbacks(&self) -> Vec<SlowCallbacks> {
        self.shared.lines.list()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Monitor").field(&self.stats()).finish()
    }
}

/// Identifies one observer, to remove it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObserverId(u64);

/// The observer was removed before, or belongs to another reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownObserverError;

impl fmt::Display for UnknownObserverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such observer: it was removed before, or belongs to another reactor")
    }
}

impl Error for UnknownObserverError {}
