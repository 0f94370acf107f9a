//! A function that is called again and again.

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
/// Calls are due at the start and at each multiple of the interval from there: the *grid*. It does
/// not drift; a call that comes late is followed by one at the next point of the grid, and those
/// that were missed are skipped. The function returns `Ok(())`, an error, which ends the loop, or
/// a Deferred, until which it is not called again. With interval zero it is called once in each
/// turn of the reactor.
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
/// A handle, and cheap to clone; the loop goes on without it. What it had captured is kept until
/// the last handle is gone. If its clock goes away, or the reactor stops, the loop ends and its
/// Deferred fails with [`AbandonedError`](crate::AbandonedError).
///
/// Who has no use for the Deferred drops it as it is: should the function fail, that is logged as an
/// [unhandled](crate::on_unhandled) failure, and the end of the reactor is passed over in silence. An
/// errback sees both.
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
    /// The clock keeps the next call, which keeps this; so this must not keep the clock.
    clock: WeakTimeSource,
    /// Taken out while it is called.
    function: Cell<Option<Function>>,
    state: Cell<State>,
    grid: Cell<Option<Grid>>,
    /// Fires the Deferred that `start` has returned.
    resolver: Cell<Option<Resolver<LoopingCall>>>,
    /// Who started it.
    line: Cell<&'static Location<'static>>,
}

type Function = Box<dyn FnMut(&LoopingCall, u64) -> Deferred<()>>;

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Waiting(DelayedCall),
    /// The function is being called, or its Deferred is waited for, which this cancels.
    Calling(Canceller),
    /// As calling, but stopped.
    Ending,
}

impl LoopingCall {
    /// A loop that calls `function`, once it is started.
    #[track_caller]
    pub fn new<R: Outcome<Value = ()>>(
        clock: &impl ReactorTime,
        mut function: impl FnMut() -> R + 'static,
    ) -> Self {
        Self::with_handle(clock, move |_, _| function())
    }

    /// Like [`new`](Self::new), for a function that wants to know how many points of the grid have
    /// been reached since it was called before, or since the start: 1 when calls come in time, and
    /// more after some were skipped (Twisted's `withCount`). With interval zero it is always 1.
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

    /// Like [`with_count`](Self::with_count), for a function that stops, resets or looks at its own
    /// loop. A handle that it had captured would keep the loop in memory for ever.
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

    /// Calls the function now, and then once in each `interval`.
    ///
    /// The Deferred fires with this handle when the loop was stopped and the last call is over, and
    /// fails with what the function failed with, or panicked. To cancel it stops the loop, and
    /// cancels the Deferred that the function has returned, if that is waited for.
    ///
    /// # Errors
    ///
    /// [`LoopingCallError::AlreadyRunning`], [`LoopingCallError::LastCallPending`] or
    /// [`LoopingCallError::ClockGone`]; nothing has changed then.
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

    /// Ends the loop. The Deferred fires in here; if the function is being called, or its Deferred
    /// is waited for, then when that is over.
    ///
    /// # Errors
    ///
    /// [`LoopingCallError::NotRunning`] if it was not started, or was stopped before.
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

    /// Puts the next call off to one full interval from now, and moves the grid to there.
    ///
    /// While the function is being called, or its Deferred is waited for, there is nothing to put
    /// off, and nothing changes.
    ///
    /// # Errors
    ///
    /// [`LoopingCallError::NotRunning`] if it was not started, or was stopped.
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

    /// Whether it was started and not stopped since.
    pub fn is_running(&self) -> bool {
        let state = self.0.state.take();
        let is_running = matches!(state, State::Waiting(_) | State::Calling(_));
        self.0.state.set(state);
        is_running
    }

    /// The interval that it was last started with; `None` if it never was.
    pub fn interval(&self) -> Option<Duration> {
        self.0.grid.get().map(|grid| grid.interval)
    }

    /// What all ways to start have in common.
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

    /// The Deferred was cancelled.
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

    /// Calls the function, which is not being called.
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

    /// Goes on when the function and its Deferred are done.
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

    /// The loop is idle; tells how it ended.
    fn end(&self, result: Result<(), Failure>) {
        match self.0.resolver.take() {
            Some(resolver) if resolver.is_pending() => {
                // It is pending, so this cannot be refused.
                let _ = resolver.fire(result.map(|()| self.clone()));
            }
            // It was cancelled, and nobody waits for what came later: a failure is reported.
            _ => drop(Deferred::from_result(result)),
        }
    }

    /// How many points of the grid have come since this was asked last.
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

/// The next call, as the clock keeps it.
struct Next(Option<LoopingCall>);

impl Next {
    fn call(mut self) {
        if let Some(looping) = self.0.take() {
            looping.call();
        }
    }
}

impl Drop for Next {
    /// Without having been made. If the loop still waits, it was not the loop that cancelled it.
    fn drop(&mut self) {
        if let Some(looping) = self.0.take() {
            match looping.0.state.take() {
                State::Waiting(_) => drop(looping.0.resolver.take()),
                state => looping.0.state.set(state),
            }
        }
    }
}

/// When calls are due.
#[derive(Debug, Clone, Copy)]
struct Grid {
    first: Instant,
    interval: Duration,
    /// Points that the function has been told of.
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

    /// The time until the next point, which is not now.
    fn until_next(&self, now: Instant) -> Duration {
        if self.interval.is_zero() {
            return Duration::ZERO;
        }
        // Asked before the first point, it is asked one interval before.
        let since = now.saturating_duration_since(self.first);
        self.interval - from_nanos(since.as_nanos() % self.interval.as_nanos())
    }

    /// How many points have come up to now that were not counted before.
    fn count(&mut self, now: Instant) -> u64 {
        if self.interval.is_zero() {
            return 1;
        }
        let reached = match now.checked_duration_since(self.first) {
            Some(elapsed) => elapsed.as_nanos() / self.interval.as_nanos() + 1,
            None => 0,
        };
        // No call is for nothing, not even one that comes before its time because the clock cannot
        // tell that.
        let count = reached.saturating_sub(self.counted).max(1);
        self.counted = reached;
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}

/// `Duration::from_nanos` takes only 584 years.
fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % SECOND) as u32)
}

/// What a [`LoopingCall`] was asked cannot be done in its state; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoopingCallError {
    /// It was started, and not stopped since.
    AlreadyRunning,
    /// It was not started, or was stopped before.
    NotRunning,
    /// It was stopped, and can be started again when the last call, or its Deferred, is done.
    LastCallPending,
    /// The clock that it was made for has been dropped.
    ClockGone,
}

impl fmt::Display for LoopingCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyRunning => "the looping call is running already",
            Self::NotRunning => "the looping call is not running",
            Self::LastCallPending => "the last call of the looping call has not ended yet",
            Self::ClockGone => "the clock of the looping call has been dropped",
        })
    }
}

impl Error for LoopingCallError {}
