//! One task of a [`Cooperator`](super::Cooperator), and how it ends.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;

use super::cooperator::WeakCooperator;
use crate::deferred::{Deferred, Failure, Resolver};
use crate::guard::guard;
use crate::health::{Callback, CallbackKind, watch};

/// Takes a step; returns `None` when no step is left.
pub(super) type Step = Box<dyn FnMut() -> Option<Deferred<()>>>;

/// Work that a [`Cooperator`](super::Cooperator) does in steps (Twisted's `CooperativeTask`).
///
/// | state   | left by                               | then                                      |
/// |---------|---------------------------------------|-------------------------------------------|
/// | working | the end of its iterator, an error, a panic, [`stop`](Self::stop) | done           |
/// |         | [`pause`](Self::pause), a step that returns a Deferred | paused                   |
/// | paused  | as many [`resume`](Self::resume)s as there were pauses | working, from the next tick on |
/// |         | [`stop`](Self::stop), a Deferred that fails | done                                |
///
/// Cheap to clone: all clones are handles of one task, which continues without them. When the task
/// is done, its iterator is dropped. A failure is reported as [unhandled](crate::on_unhandled) when
/// the last handle is dropped, if [`when_done`](Self::when_done) was never called.
#[derive(Clone)]
pub struct CooperativeTask(Rc<Task>);

pub(super) struct Task {
    cooperator: WeakCooperator,
    /// Taken out during a step; `None` once the task is done.
    step: Cell<Option<Step>>,
    pauses: Cell<u32>,
    /// In the queue of the Cooperator.
    is_queued: Cell<bool>,
    ending: RefCell<Option<Ending>>,
    waiting: RefCell<Vec<Resolver<()>>>,
    /// A failure that no Deferred was given.
    unseen: Cell<Option<Failure>>,
    /// The source line that added it.
    line: &'static Location<'static>,
}

/// How a task has ended.
pub(super) enum Ending {
    Done,
    /// With the failure for later calls of `when_done`.
    Failed(Failure),
    Stopped,
    SchedulerStopped,
    Abandoned,
}

impl CooperativeTask {
    pub(super) fn new(task: Rc<Task>) -> Self {
        Self(task)
    }

    /// A Deferred that fires when the task is done; each call returns another one.
    ///
    /// It fires with `()` when the iterator has ended. It fails with the error of a step, with
    /// [`PanicError`](crate::PanicError) if a step panics, with [`TaskStopped`] or
    /// [`SchedulerStopped`], and with [`AbandonedError`](crate::AbandonedError) if the reactor or
    /// clock ends first. If several Deferreds fail with one error, one gets the error itself, and
    /// the others a copy made by [`Failure::share`]. Cancelling the Deferred does not stop the
    /// task.
    /// what [`Failure::share`] makes of it. To cancel it leaves the task as it is.
    #[track_caller]
    pub fn when_done(&self) -> Deferred<()> {
        let task = &self.0;
        match &*task.ending.borrow() {
            None => {
                let (deferred, resolver) = Deferred::pending();
                task.waiting.borrow_mut().push(resolver);
                deferred
            }
            Some(ending) => match ending.result(task.unseen.take()) {
                Some(result) => Deferred::from_result(result),
                None => Deferred::pending().0, // its resolver is dropped
            },
        }
    }

    /// Stops taking steps until [`resume`](Self::resume) was called as often as `pause`.
    ///
    /// # Errors
    ///
    /// [`TaskFinished`] if the task is done; it says how the task ended.
    pub fn pause(&self) -> Result<(), TaskFinished> {
        self.0.check_finish()?;
        self.0.pause();
        Ok(())
    }

    /// Ends one [`pause`](Self::pause). After the last one, steps continue with the next tick.
    ///
    /// # Errors
    ///
    /// [`NotPaused`] if the task is not paused.
    pub fn resume(&self) -> Result<(), NotPaused> {
        match self.0.resume() {
            true => Ok(()),
            false => Err(NotPaused),
        }
    }

    /// Ends the task without another step. The Deferreds of [`when_done`](Self::when_done) fail
    /// with [`TaskStopped`] before this returns. A Deferred that the task waits for is not
    /// cancelled.
    ///
    /// # Errors
    ///
    /// [`TaskFinished`] if the task is done; it says how the task ended.
    pub fn stop(&self) -> Result<(), TaskFinished> {
        self.0.check_finish()?;
        self.0.end(Ending::Stopped);
        Ok(())
    }
}

impl fmt::Debug for CooperativeTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CooperativeTask")
            .field("pauses", &self.0.pauses.get())
            .field("finished", &self.0.check_finish().err())
            .finish_non_exhaustive()
    }
}

impl Task {
    #[track_caller]
    pub(super) fn new(cooperator: WeakCooperator, step: Step) -> Rc<Self> {
        Rc::new(Self {
            cooperator,
            step: Cell::new(Some(step)),
            pauses: Cell::new(0),
            is_queued: Cell::new(false),
            ending: RefCell::new(None),
            waiting: RefCell::new(Vec::new()),
            unseen: Cell::new(None),
            line: Location::caller(),
        })
    }

    /// Whether the task must be added to the queue.
    pub(super) fn joins_queue(&self) -> bool {
        self.is_active() && !self.is_queued.replace(true)
    }

    /// Marks the task as removed from the queue. Returns whether it has steps to take.
    pub(super) fn leaves_queue(&self) -> bool {
        self.is_queued.set(false);
        self.is_active()
    }

    /// Whether it has steps to take.
    pub(super) fn is_active(&self) -> bool {
        self.pauses.get() == 0 && self.ending.borrow().is_none()
    }

    /// Takes a step, outside of the queue.
    pub(super) fn take_step(self: &Rc<Self>) {
        let Some(mut step) = self.step.take() else {
            return;
        };
        let name = || Callback::at(CallbackKind::Other("cooperative task"), self.line);
        let outcome = watch(name, || catch_unwind(AssertUnwindSafe(&mut step)));
        if self.ending.borrow().is_none() {
            self.step.set(Some(step));
        } else {
            drop_step(step); // it has ended itself
        }
        match outcome {
            Ok(None) => self.end(Ending::Done),
            Ok(Some(deferred)) => self.wait_for(deferred),
            Err(payload) => self.end(Ending::Failed(Failure::from_panic(payload))),
        }
    }

    fn wait_for(self: &Rc<Self>, deferred: Deferred<()>) {
        match deferred.try_result() {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => self.end(Ending::Failed(failure)),
            Err(pending) => {
                self.pause();
                let this = self.clone();
                drop(pending.add_both(move |result| {
                    match result {
                        Ok(()) => drop(this.resume()),
                        Err(failure) => this.end(Ending::Failed(failure)),
                    }
                    Ok(())
                }));
            }
        }
    }

    fn pause(&self) {
        self.pauses.set(self.pauses.get() + 1);
    }

    /// Returns `false` if the task is not paused.
    fn resume(self: &Rc<Self>) -> bool {
        let Some(pauses) = self.pauses.get().checked_sub(1) else {
            return false;
        };
        self.pauses.set(pauses);
        if self.is_active() {
            self.cooperator.add(self.clone());
        }
        true
    }

    /// Ends the task, unless it is done, and fires the Deferreds of `when_done`.
    pub(super) fn end(&self, ending: Ending) {
        if self.ending.borrow().is_some() {
            if let Ending::Failed(failure) = ending {
                // Too late for the Deferreds of `when_done`: it is reported as unhandled.
                drop(Deferred::<()>::fail(failure));
            }
            return;
        }
        let (ending, mut original) = ending.apart();
        let waiting = self.waiting.take();
        let results: Vec<_> = waiting
            .iter()
            .map(|_| ending.result(original.take()))
            .collect();
        self.unseen.set(original);
        self.ending.replace(Some(ending));
        if let Some(step) = self.step.take() {
            drop_step(step);
        }
        for (resolver, result) in waiting.into_iter().zip(results) {
            match result {
                // A cancelled Deferred ignores the result.
                Some(result) => drop(resolver.fire(result)),
                None => drop(resolver),
            }
        }
    }

    fn check_finish(&self) -> Result<(), TaskFinished> {
        match &*self.ending.borrow() {
            None => Ok(()),
            Some(Ending::Done) => Err(TaskFinished::Done),
            Some(Ending::Failed(_)) => Err(TaskFinished::Failed),
            Some(Ending::Stopped) => Err(TaskFinished::Stopped),
            Some(Ending::SchedulerStopped | Ending::Abandoned) => {
                Err(TaskFinished::SchedulerStopped)
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(failure) = self.unseen.take() {
            drop(Deferred::<()>::fail(failure)); // which reports it
        }
    }
}

impl Ending {
    /// Takes the failure for the first Deferred, and keeps a copy.
    fn apart(self) -> (Self, Option<Failure>) {
        match self {
            Self::Failed(failure) => {
                let copy = failure.share();
                (Self::Failed(copy), Some(failure))
            }
            other => (other, None),
        }
    }

    /// The result for a Deferred of `when_done`; `None` for an abandoned one.
    fn result(&self, original: Option<Failure>) -> Option<Result<(), Failure>> {
        match self {
            Self::Done => Some(Ok(())),
            Self::Failed(copy) => Some(Err(original.unwrap_or_else(|| copy.share()))),
            Self::Stopped => Some(Err(TaskStopped.into())),
            Self::SchedulerStopped => Some(Err(SchedulerStopped.into())),
            Self::Abandoned => None,
        }
    }
}

/// Dropping the captured values of an iterator may panic, which must not stop the other tasks.
fn drop_step(step: Step) {
    guard("dropping the iterator of a cooperative task", || drop(step));
}

/// The task is done, so it cannot be paused or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskFinished {
    /// Its iterator has ended (Twisted's `TaskDone`).
    Done,
    /// A step failed (Twisted's `TaskFailed`).
    Failed,
    /// It was stopped (Twisted's `TaskStopped`).
    Stopped,
    /// Its Cooperator or the reactor was stopped.
    SchedulerStopped,
}

impl fmt::Display for TaskFinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "the cooperative task is done",
            Self::Failed => "the cooperative task has failed",
            Self::Stopped => "the cooperative task was stopped",
            Self::SchedulerStopped => "the cooperator of the task was stopped",
        })
    }
}

impl Error for TaskFinished {}

/// A [`CooperativeTask`] was stopped before its iterator had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskStopped;

impl fmt::Display for TaskStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cooperative task was stopped")
    }
}

impl Error for TaskStopped {}

/// The [`Cooperator`](super::Cooperator) of a task was stopped before its iterator had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerStopped;

impl fmt::Display for SchedulerStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cooperator was stopped")
    }
}

impl Error for SchedulerStopped {}

/// A [`CooperativeTask`] was resumed more often than it was paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotPaused;

impl fmt::Display for NotPaused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cooperative task is not paused")
    }
}

impl Error for NotPaused {}
