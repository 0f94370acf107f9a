//! Functions that are called repeatedly.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::source::{WeakTimeSource, after};
use super::{DelayedCall, ReactorTime, TimeSource};
use crate::deferred::{Canceller, Deferred, Failure, Outcome, Resolver, call_for};
use crate::health::{Callback, CallbackKind, watch};

/// Calls a function at a fixed interval (Twisted's `task.LoopingCall`).
///
/// Calls are due at the start and at each multiple of the interval from there: the *grid*. The
/// calls do not drift; after a late call, the next one is at the next point of the grid, and missed
/// points are skipped. The function returns `Ok(())`, an error, which ends the calls, or a
/// Deferred, which is waited for before the next call. With interval zero, the function is called
/// once in each [turn](crate#turns) of the reactor.
///
/// | state   | left by                         | then                                         |
/// |---------|---------------------------------|----------------------------------------------|
/// | idle    | [`start`](Self::start)          | calling; with [`start_later`](Self::start_later) waiting |
/// | waiting | the next point of the grid      | calling                                      |
/// |         | [`stop`](Self::stop)            | idle, and the Deferred fires                 |
/// | calling | the result of the function      | waiting; idle if it failed                   |
/// |         | [`stop`](Self::stop)            | ending                                       |
/// | ending  | the result of the function      | idle, and the Deferred fires                 |
///
/// Cheap to clone: all clones are handles of one loop of calls, which continues without them. The
/// captured values of the function are kept until the last handle is dropped. If the clock is
/// dropped, or the reactor stops, the calls end and the Deferred of `start` fails with
/// [`AbandonedError`](crate::AbandonedError).
///
/// That Deferred may be dropped. A failure of the function is then logged as
/// [unhandled](crate::on_unhandled), and the end of the reactor is not reported. An errback gets
/// both.
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
/// use deferred_reactor::{Clock, LoopingCall};
///
/// let clock = Clock::new();
/// let beats = Rc::new(Cell::new(0));
/// let count = beats.clone();
/// let pulse = LoopingCall::new(&clock, move || {
///     count.set(count.get() + 1);
///     Ok(())
/// });
/// let ended = pulse.start(Duration::from_secs(1))?; // the first beat is now
/// clock.pump([Duration::from_secs(1); 3]);
/// pulse.stop()?;
/// assert!(ended.is_fired());
/// assert_eq!(beats.get(), 4);
/// # Ok::<(), deferred_reactor::Failure>(())
/// ```
#[derive(Clone)]
pub struct LoopingCall(Rc<Inner>);

struct Inner {
    /// Weak: the clock owns the next call, which owns this.
    clock: WeakTimeSource,
    /// Taken out while it is called.
    function: Cell<Option<Function>>,
    state: Cell<State>,
    grid: Cell<Option<Grid>>,
    /// Fires the Deferred that `start` has returned.
    resolver: Cell<Option<Resolver<LoopingCall>>>,
    /// The source line that started it.
    line: Cell<&'static Location<'static>>,
}

type Function = Box<dyn FnMut(&LoopingCall, u64) -> Deferred<()>>;

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Waiting(DelayedCall),
    /// The function is running, or its Deferred is pending; this cancels the Deferred.
    Calling(Canceller),
    /// As `Calling`, after `stop`.
    Ending,
}

impl LoopingCall {
    /// Makes a loop of calls of `function`, which is not started yet.
    #[track_caller]
    pub fn new<R: Outcome<Value = ()>>(
        clock: &impl ReactorTime,
        mut function: impl FnMut() -> R + 'static,
    ) -> Self {
        Self::with_handle(clock, move |_, _| function())
    }

    /// Like [`new`](Self::new), for a function that gets the number of grid points since the last
    /// call, or since the start: 1 if calls are on time, and more after skipped points (Twisted's
    /// `withCount`). With interval zero it is always 1.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use deferred_reactor::{Clock, LoopingCall};
    /// let clock = Clock::new();
    /// let frames = LoopingCall::with_count(&clock, |count| {
    ///     println!("{} frames were dropped", count - 1);
    ///     Ok(())
    /// });
    /// drop(frames.start(Duration::from_millis(40))?);
    /// clock.advance(Duration::from_millis(120)); // called once, with 3
    /// # Ok::<(), deferred_reactor::Failure>(())
    /// ```
    #[track_caller]
    pub fn with_count<R: Outcome<Value = ()>>(
        clock: &impl ReactorTime,
        mut function: impl FnMut(u64) -> R + 'static,
    ) -> Self {
        Self::with_handle(clock, move |_, count| function(count))
    }

    /// Like [`with_count`](Self::with_count), for a function that stops or resets its own loop of
    /// calls. A handle captured by the function would be a cycle, and never be freed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use deferred_reactor::{Clock, LoopingCall};
    /// let clock = Clock::new();
    /// let mut left = 3;
    /// let countdown = LoopingCall::with_handle(&clock, move |looping, _count| {
    ///     left -= 1;
    ///     if left == 0 {
    ///         looping.stop()?;
    ///     }
    ///     Ok(())
    /// });
    /// let ended = countdown.start(Duration::from_secs(1))?;
    /// clock.pump([Duration::from_secs(1); 2]);
    /// assert!(ended.is_fired());
    /// # Ok::<(), deferred_reactor::Failure>(())
    /// ```
    #[track_caller]
    pub fn with_handle<R: Outcome<Value = ()>>(
        clock: &impl ReactorTime,
        mut function: impl FnMut(&LoopingCall, u64) -> R + 'static,
    ) -> Self {
        Self(Rc::new(Inner {
            clock: clock.time_source().downgrade(),
            function: Cell::new(Some(Box::new(move |looping, count| {
                call_for(looping.0.line.get(), || function(looping, count))
            }))),
            state: Cell::new(State::Idle),
            grid: Cell::new(None),
            resolver: Cell::new(None),
            line: Cell::new(Location::caller()),
        }))
    }

    /// Calls the function now, and then once per `interval`.
    ///
    /// The Deferred fires with this handle after [`stop`](Self::stop), when the last call has
    /// ended. It fails with an error or a panic of the function. Cancelling it stops the calls, and
    /// cancels a pending Deferred of the function.
    ///
    /// # Errors
    ///
    /// [`LoopingCallError::AlreadyRunning`], [`LoopingCallError::LastCallPending`] or [`LoopingCallError::ClockGone`]; nothing changes then.
    #[track_caller]
    pub fn start(&self, interval: Duration) -> Result<Deferred<LoopingCall>, LoopingCallError> {
        let (clock, deferred) = self.begin()?;
        self.0.grid.set(Some(Grid::new(clock.now(), interval)));
        self.call();
        Ok(deferred)
    }

    /// Like [`start`](Self::start), with the first call after one interval (Twisted's `now=False`).
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    #[track_caller]
    pub fn start_later(
        &self,
        interval: Duration,
    ) -> Result<Deferred<LoopingCall>, LoopingCallError> {
        let (clock, deferred) = self.begin()?;
        let first = after(clock.now(), interval);
        self.0.grid.set(Some(Grid::new(first, interval)));
        self.schedule();
        Ok(deferred)
    }

    /// Ends the calls. The Deferred fires before this returns; or, if the function is running or
    /// its Deferred is pending, when that has ended.
    ///
    /// # Errors
    ///
    /// [`LoopingCallError::NotRunning`] if it was not started, or was stopped already.
    pub fn stop(&self) -> Result<(), LoopingCallError> {
        match self.0.state.take() {
            State::Waiting(call) => {
                let _ = call.cancel();
                self.end(Ok(()));
                Ok(())
            }
            State::Calling(_) => {
                self.0.state.set(State::Ending);
                Ok(())
            }
            state => {
                self.0.state.set(state);
                Err(LoopingCallError::NotRunning)
            }
        }
    }

    /// Postpones the next call to one full interval from now, and moves the grid there.
    ///
    /// Does nothing while the function is running or its Deferred is pending.
    ///
    /// # Errors
    ///
    /// [`LoopingCallError::NotRunning`] if it was not started, or was stopped already.
    pub fn reset(&self) -> Result<(), LoopingCallError> {
        let state = self.0.state.take();
        let outcome = match (&state, self.0.grid.get(), self.0.clock.upgrade()) {
            (State::Waiting(call), Some(grid), Some(clock)) => {
                let first = after(clock.now(), grid.interval);
                self.0.grid.set(Some(Grid::new(first, grid.interval)));
                let _ = call.reset_at(first);
                Ok(())
            }
            (State::Idle | State::Ending, ..) => Err(LoopingCallError::NotRunning),
            _ => Ok(()),
        };
        self.0.state.set(state);
        outcome
    }

    /// Returns `true` if it was started and not stopped since.
    pub fn is_running(&self) -> bool {
        let state = self.0.state.take();
        let is_running = matches!(state, State::Waiting(_) | State::Calling(_));
        self.0.state.set(state);
        is_running
    }

    /// The interval of the last start; `None` if it was never started.
    pub fn interval(&self) -> Option<Duration> {
        self.0.grid.get().map(|grid| grid.interval)
    }

    /// The part common to all ways to start.
    #[track_caller]
    fn begin(&self) -> Result<(TimeSource, Deferred<LoopingCall>), LoopingCallError> {
        match self.0.state.take() {
            State::Idle => {}
            state => {
                let error = match state {
                    State::Ending => LoopingCallError::LastCallPending,
                    _ => LoopingCallError::AlreadyRunning,
                };
                self.0.state.set(state);
                return Err(error);
            }
        }
        let clock = self.0.clock.upgrade().ok_or(LoopingCallError::ClockGone)?;
        self.0.line.set(Location::caller());
        let running = Rc::downgrade(&self.0);
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            if let Some(running) = running.upgrade() {
                Self(running).cancel();
            }
        });
        self.0.resolver.set(Some(resolver));
        Ok((clock, deferred))
    }

    /// Handles the cancelling of the Deferred.
    fn cancel(&self) {
        match self.0.state.take() {
            State::Waiting(call) => {
                let _ = call.cancel();
                self.0.resolver.take();
            }
            State::Calling(deferred) => {
                self.0.state.set(State::Ending);
                deferred.cancel();
            }
            state => self.0.state.set(state),
        }
    }

    /// Calls the function, which is not running.
    fn call(&self) {
        self.0.state.set(State::Calling(Canceller::default()));
        let count = self.count();
        let Some(mut function) = self.0.function.take() else {
            return;
        };
        let name = || Callback::at(CallbackKind::LoopingCall, self.0.line.get());
        let result = watch(name, || function(self, count)); // a panic is a failure in there
        self.0.function.set(Some(function));
        match result.try_result() {
            Ok(result) => self.called(result),
            Err(pending) => {
                if self.is_running() {
                    self.0.state.set(State::Calling(pending.canceller()));
                }
                let this = self.clone();
                drop(pending.add_both(move |result| {
                    this.called(result);
                    Ok(())
                }));
            }
        }
    }

    /// Continues when the function and its Deferred are done.
    fn called(&self, result: Result<(), Failure>) {
        let state = self.0.state.take();
        match (state, result) {
            (State::Calling(_), Ok(())) => self.schedule(),
            (_, result) => self.end(result),
        }
    }

    /// Waits for the next point of the grid.
    fn schedule(&self) {
        let (Some(clock), Some(grid)) = (self.0.clock.upgrade(), self.0.grid.get()) else {
            self.0.resolver.take();
            return;
        };
        let delay = grid.until_next(clock.now());
        let next = Next(Some(self.clone()));
        let call = clock.call_later_for(self.0.line.get(), delay, move || next.call());
        self.0.state.set(State::Waiting(call));
    }

    /// Ends the calls, and fires the Deferred.
    fn end(&self, result: Result<(), Failure>) {
        match self.0.resolver.take() {
            Some(resolver) if resolver.is_pending() => {
                // Not refused, because the Deferred is pending.
                let _ = resolver.fire(result.map(|()| self.clone()));
            }
            // The Deferred was cancelled; a later failure is reported as unhandled.
            _ => drop(Deferred::from_result(result)),
        }
    }

    /// Number of grid points since this was last called.
    fn count(&self) -> u64 {
        let (Some(clock), Some(mut grid)) = (self.0.clock.upgrade(), self.0.grid.get()) else {
            return 1;
        };
        let count = grid.count(clock.now());
        self.0.grid.set(Some(grid));
        count
    }
}

impl fmt::Debug for LoopingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopingCall")
            .field("is_running", &self.is_running())
            .field("interval", &self.interval())
            .finish_non_exhaustive()
    }
}

/// The next call, owned by the clock.
struct Next(Option<LoopingCall>);

impl Next {
    fn call(mut self) {
        if let Some(looping) = self.0.take() {
            looping.call();
        }
    }
}

impl Drop for Next {
    /// Dropped without a call. If the loop still waits, the clock has dropped it.
    fn drop(&mut self) {
        if let Some(looping) = self.0.take() {
            match looping.0.state.take() {
                State::Waiting(_) => drop(looping.0.resolver.take()),
                state => looping.0.state.set(state),
            }
        }
    }
}

/// The times at which calls are due.
#[derive(Debug, Clone, Copy)]
struct Grid {
    first: Instant,
    interval: Duration,
    /// Grid points that were passed to the function.
    counted: u128,
}

impl Grid {
    fn new(first: Instant, interval: Duration) -> Self {
        Self {
            first,
            interval,
            counted: 0,
        }
    }

    /// The time until the next grid point, which is after `now`.
    fn until_next(&self, now: Instant) -> Duration {
        if self.interval.is_zero() {
            return Duration::ZERO;
        }
        // Before the first point, the result is one interval.
        let since = now.saturating_duration_since(self.first);
        self.interval - from_nanos(since.as_nanos() % self.interval.as_nanos())
    }

    /// Number of grid points up to `now` that were not counted before.
    fn count(&mut self, now: Instant) -> u64 {
        if self.interval.is_zero() {
            return 1;
        }
        let reached = match now.checked_duration_since(self.first) {
            Some(elapsed) => elapsed.as_nanos() / self.interval.as_nanos() + 1,
            None => 0,
        };
        // At least 1, even for a call that comes early because the clock is coarse.
        let count = reached.saturating_sub(self.counted).max(1);
        self.counted = reached;
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// `Duration::from_nanos` is limited to 584 years.
fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % SECOND) as u32)
}

/// Why a call of a [`LoopingCall`] failed; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopingCallError {
    /// It was started, and not stopped since.
    AlreadyRunning,
    /// It was not started, or was stopped already.
    NotRunning,
    /// It was stopped, and can be started again when the last call, or its Deferred, has ended.
    LastCallPending,
    /// Its clock has been dropped.
    ClockGone,
}

impl fmt::Display for LoopingCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyRunning => "the looping call is running already",
            Self::NotRunning => "the looping call is not running",
            Self::LastCallPending => {
                "the looping call was stopped, and its last call has not ended yet"
            }
            Self::ClockGone => "the clock of the looping call has been dropped",
        })
    }
}

impl Error for LoopingCallError {}
