//! The part that [`Clock`](super::Clock) and [`Reactor`](crate::Reactor) share: it tells the time
//! and stores delayed calls.

use std::cell::{Cell, OnceCell, RefCell};
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use super::timers::{TimerId, Timers};
use super::{Cooperator, ambient_clock};
use crate::deferred::unhandled;
use crate::guard::guard_each;

/// A clock and its delayed calls.
///
/// Cheap to clone: all clones are handles of one clock. Code that needs time takes any
/// [`ReactorTime`](super::ReactorTime), of which this is the common part.
#[derive(Clone)]
pub struct TimeSource(Rc<Inner>);

struct Inner {
    timers: RefCell<Timers<Scheduled>>,
    now: Now,
    /// The Cooperator of [`cooperate`](super::cooperate).
    cooperator: OnceCell<Cooperator>,
}

enum Now {
    /// The system's clock; the value is the time at which the current turn began.
    System(Cell<Instant>),
    Virtual(Virtual),
}

struct Virtual {
    start: Instant,
    now: Cell<Instant>,
    /// Number of calls ever added when the current turn began: later calls wait for the next turn,
    /// at the same virtual time.
    calls: Cell<u64>,
    /// Whether this is the ambient clock of its thread.
    is_ambient: Cell<bool>,
}

/// One delayed call, in a single allocation.
struct Timed<F: ?Sized> {
    status: Cell<Status>,
    call: F,
}

/// A delayed call, and the source line that scheduled it.
struct Scheduled {
    timed: Rc<Timed<dyn Call>>,
    line: &'static Location<'static>,
}

/// A delayed call that is due.
pub(crate) struct Due {
    deadline: Instant,
    scheduled: Scheduled,
}

impl Due {
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn line(&self) -> &'static Location<'static> {
        self.scheduled.line
    }

    pub(crate) fn call(&self) {
        self.scheduled.timed.call.call();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Waiting,
    Cancelled,
    Called,
}

trait Call {
    fn call(&self);
    fn discard(&self);
}

impl<F: FnOnce()> Call for Cell<Option<F>> {
    fn call(&self) {
        if let Some(call) = self.take() {
            call();
        }
    }

    fn discard(&self) {
        self.set(None);
    }
}

impl TimeSource {
    /// The system's monotonic clock.
    pub(crate) fn system() -> Self {
        Self::with(Now::System(Cell::new(Instant::now())))
    }

    /// Makes a clock that stands still until it is moved.
    pub(crate) fn frozen_at(start: Instant) -> Self {
        Self::with(Now::Virtual(Virtual {
            start,
            now: Cell::new(start),
            calls: Cell::new(0),
            is_ambient: Cell::new(false),
        }))
    }

    fn with(now: Now) -> Self {
        Self(Rc::new(Inner {
            timers: RefCell::new(Timers::new()),
            now,
            cooperator: OnceCell::new(),
        }))
    }

    pub(crate) fn now(&self) -> Instant {
        self.0.now()
    }

    /// See [`ReactorTime::turn_time`](super::ReactorTime::turn_time).
    pub(crate) fn turn_time(&self) -> Instant {
        match &self.0.now {
            Now::System(turn) => turn.get(),
            Now::Virtual(clock) => clock.now.get(),
        }
    }

    /// The current time, and the time up to which calls are made now: that of the last look at the
    /// sockets. A call that became due later waits for one more look, so that input which arrived
    /// in time is read before a deadline acts.
    #[inline]
    pub(crate) fn begin_calls(&self) -> (Instant, Instant) {
        let now = self.now();
        match &self.0.now {
            Now::System(turn) => (now, turn.get()),
            Now::Virtual(_) => {
                self.count_calls();
                (now, now)
            }
        }
    }

    /// Reads the clock for the turn that begins.
    #[inline]
    pub(crate) fn begin_turn(&self) -> Instant {
        let now = self.now();
        match &self.0.now {
            Now::System(turn) => turn.set(now),
            Now::Virtual(_) => self.count_calls(),
        }
        now
    }

    /// A separate function, out of the way of the system's clock.
    #[cold]
    fn count_calls(&self) {
        if let Now::Virtual(clock) = &self.0.now {
            clock.calls.set(self.0.timers.borrow().added());
        }
    }

    /// Whether only a test moves the time.
    pub(super) fn is_virtual(&self) -> bool {
        matches!(self.0.now, Now::Virtual(_))
    }

    /// The shared Cooperator of this clock.
    pub(super) fn cooperator(&self) -> &Cooperator {
        self.0.cooperator.get_or_init(|| Cooperator::new(self))
    }

    pub(crate) fn set_now(&self, moment: Instant) {
        if let Now::Virtual(clock) = &self.0.now {
            clock.now.set(moment);
            if clock.is_ambient.get() {
                ambient_clock::set(clock.start, moment);
            }
        }
    }

    /// Sets whether this is the ambient clock of the thread.
    pub(crate) fn set_ambient(&self, is_ambient: bool) {
        if let Now::Virtual(clock) = &self.0.now
            && clock.is_ambient.replace(is_ambient) != is_ambient
        {
            match is_ambient {
                true => ambient_clock::set(clock.start, clock.now.get()),
                false => ambient_clock::end(),
            }
        }
    }

    #[track_caller]
    pub(crate) fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.call_later_for(Location::caller(), delay, call)
    }

    /// [`call_later`](Self::call_later) for the library's own calls, attributed to a source line of the program.
    pub(crate) fn call_later_for(
        &self,
        line: &'static Location<'static>,
        delay: Duration,
        call: impl FnOnce() + 'static,
    ) -> DelayedCall {
        let timed: Rc<Timed<dyn Call>> = Rc::new(Timed {
            status: Cell::new(Status::Waiting),
            call: Cell::new(Some(call)),
        });
        let deadline = after(self.now(), delay);
        let scheduled = Scheduled {
            timed: timed.clone(),
            line,
        };
        let id = self.0.timers.borrow_mut().call_at(deadline, scheduled);
        DelayedCall {
            source: Rc::downgrade(&self.0),
            id,
            timed,
        }
    }

    pub(crate) fn delayed_calls(&self) -> Vec<DelayedCall> {
        let timers = self.0.timers.borrow();
        let calls = timers.iter().map(|(id, scheduled)| DelayedCall {
            source: Rc::downgrade(&self.0),
            id,
            timed: scheduled.timed.clone(),
        });
        calls.collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.timers.borrow().is_empty()
    }

    /// Number of waiting calls.
    pub(crate) fn len(&self) -> usize {
        self.0.timers.borrow().len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.0.timers.borrow_mut().next_deadline()
    }

    /// Runs the earliest call that is due at `now`. Returns `false` if there is none.
    pub(crate) fn run_next_due(&self, now: Instant) -> bool {
        match self.next_among(now, u64::MAX) {
            Some(due) => {
                due.call();
                true
            }
            None => false,
        }
    }

    fn next_among(&self, now: Instant, calls: u64) -> Option<Due> {
        let (deadline, scheduled) = self.0.timers.borrow_mut().pop_due_among(now, calls)?;
        scheduled.timed.status.set(Status::Called);
        Some(Due {
            deadline,
            scheduled,
        })
    }

    /// Removes the earliest call that is due at `now`, among those scheduled before the turn began.
    /// It counts as called from here on.
    pub(crate) fn next_of_turn(&self, now: Instant) -> Option<Due> {
        let calls = match &self.0.now {
            // The system's clock moves by itself.
            Now::System(_) => u64::MAX,
            Now::Virtual(clock) => clock.calls.get(),
        };
        self.next_among(now, calls)
    }

    /// Drops all waiting calls.
    pub(crate) fn clear(&self) {
        let calls = self.0.timers.borrow_mut().take_all();
        discard_all(calls);
    }
}

/// A weak [`TimeSource`].
pub(super) struct WeakTimeSource(Weak<Inner>);

impl TimeSource {
    pub(super) fn downgrade(&self) -> WeakTimeSource {
        WeakTimeSource(Rc::downgrade(&self.0))
    }
}

impl WeakTimeSource {
    pub(super) fn upgrade(&self) -> Option<TimeSource> {
        self.0.upgrade().map(TimeSource)
    }
}

impl Inner {
    fn now(&self) -> Instant {
        match &self.now {
            Now::System(_) => Instant::now(),
            Now::Virtual(clock) => clock.now.get(),
        }
    }
}

impl Drop for Inner {
    /// A handle may outlive the source; the captured values of the call must not.
    fn drop(&mut self) {
        discard_all(self.timers.get_mut().take_all());
    }
}

/// A panic in one drop must not prevent the others.
fn discard_all(calls: Vec<Scheduled>) {
    unhandled::at_the_end(|| {
        guard_each(
            "dropping a delayed call",
            calls.into_iter(),
            |Scheduled { timed, .. }| {
                timed.status.set(Status::Cancelled);
                timed.call.discard();
            },
        );
    });
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeSource")
            .field("is_virtual", &self.is_virtual())
            .field("waiting", &self.0.timers.borrow().len())
            .finish()
    }
}

/// The time `delay` after `now`; if that overflows, a century later, or the largest possible time.
pub(crate) fn after(now: Instant, delay: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
    now.checked_add(delay)
        .or_else(|| now.checked_add(CENTURY))
        .unwrap_or(now)
}

/// A delayed call that can be cancelled or moved (Twisted's `IDelayedCall`).
///
/// Dropping the handle does not cancel the call.
///
/// ```
/// # use std::time::Duration;
/// # use deferred_reactor::Clock;
/// let clock = Clock::new();
/// let call = clock.call_later(Duration::from_secs(3), || unreachable!());
/// assert!(call.is_active());
/// call.cancel()?;
/// clock.advance(Duration::from_secs(5));
/// # Ok::<(), deferred_reactor::Failure>(())
/// ```
#[derive(Clone)]
pub struct DelayedCall {
    source: Weak<Inner>,
    id: TimerId,
    timed: Rc<Timed<dyn Call>>,
}

impl DelayedCall {
    /// Cancels the call; its captured values are dropped before this returns.
    ///
    /// # Errors
    ///
    /// [`DelayedCallError::AlreadyCalled`] if the call was made or is running, [`DelayedCallError::AlreadyCancelled`] if it was cancelled.
    pub fn cancel(&self) -> Result<(), DelayedCallError> {
        let source = self.active()?;
        // The borrow ends before the closure is dropped, which may schedule or cancel others.
        let cancelled = source.timers.borrow_mut().cancel(self.id);
        self.timed.status.set(Status::Cancelled);
        self.timed.call.discard();
        drop(cancelled);
        Ok(())
    }

    /// Moves the call to `delay` from now, earlier or later than before.
    ///
    /// # Errors
    ///
    /// As for [`cancel`](Self::cancel).
    pub fn reset(&self, delay: Duration) -> Result<(), DelayedCallError> {
        let source = self.active()?;
        let deadline = after(source.now(), delay);
        source.timers.borrow_mut().reset(self.id, deadline);
        Ok(())
    }

    /// Moves the call to `moment`, earlier or later than before.
    ///
    /// # Errors
    ///
    /// As for [`cancel`](Self::cancel).
    pub fn reset_at(&self, moment: Instant) -> Result<(), DelayedCallError> {
        self.active()?.timers.borrow_mut().reset(self.id, moment);
        Ok(())
    }

    /// Moves the call `delay` later than before.
    ///
    /// # Errors
    ///
    /// As for [`cancel`](Self::cancel).
    pub fn delay(&self, delay: Duration) -> Result<(), DelayedCallError> {
        let source = self.active()?;
        let mut timers = source.timers.borrow_mut();
        if let Some(deadline) = timers.deadline(self.id) {
            timers.reset(self.id, after(deadline, delay));
        }
        Ok(())
    }

    /// Returns `true` if the call is waiting.
    pub fn is_active(&self) -> bool {
        self.timed.status.get() == Status::Waiting
    }

    /// The deadline of the call; `None` once it was made or cancelled.
    pub fn time(&self) -> Option<Instant> {
        self.source.upgrade()?.timers.borrow().deadline(self.id)
    }

    fn active(&self) -> Result<Rc<Inner>, DelayedCallError> {
        match self.timed.status.get() {
            Status::Called => Err(DelayedCallError::AlreadyCalled),
            Status::Cancelled => Err(DelayedCallError::AlreadyCancelled),
            Status::Waiting => self
                .source
                .upgrade()
                .ok_or(DelayedCallError::AlreadyCancelled),
        }
    }
}

impl fmt::Debug for DelayedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayedCall")
            .field("status", &self.timed.status.get())
            .finish_non_exhaustive()
    }
}

/// Why a delayed call can no longer be cancelled or moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DelayedCallError {
    /// The call was made, or is running.
    AlreadyCalled,
    /// The call was cancelled, or its reactor has stopped.
    AlreadyCancelled,
}

impl fmt::Display for DelayedCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyCalled => "the delayed call was made already",
            Self::AlreadyCancelled => "the delayed call was cancelled already",
        })
    }
}

impl Error for DelayedCallError {}
