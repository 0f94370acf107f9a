//! What runs when the reactor starts and stops.
//!
//! An event has three phases. All triggers of *before* run first, and the Deferreds that they
//! return are waited for, while the loop goes on; then those of *during*, then those of *after*;
//! within a phase in the order in which they were added. Firing takes the triggers away.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::deferred::{Deferred, Outcome, Resolver, call_for};
use crate::health::{Callback, CallbackKind, watch};

/// When, within an event, a trigger runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// First; a Deferred that is returned holds up the other phases.
    Before,
    /// When the thing itself happens.
    During,
    /// When it has happened.
    After,
}

/// What triggers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SystemEvent {
    /// The reactor begins to run.
    Startup,
    /// The reactor was stopped.
    Shutdown,
    /// An event of the program's own, fired with
    /// [`fire_system_event`](crate::Reactor::fire_system_event).
    Named(&'static str),
}

/// Names one trigger, to remove it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerId(u64);

/// The trigger has run, was removed before, or belongs to another reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownTriggerError;

impl fmt::Display for UnknownTriggerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such trigger: it has run, or was removed before")
    }
}

impl Error for UnknownTriggerError {}

type Function = Box<dyn FnOnce() -> Deferred<()>>;

struct Trigger {
    id: TriggerId,
    event: SystemEvent,
    phase: Phase,
    /// Where it was added.
    line: &'static Location<'static>,
    function: Function,
}

/// The triggers of one reactor, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Triggers {
    waiting: RefCell<Vec<Trigger>>,
    next_id: Cell<u64>,
}

impl Triggers {
    #[track_caller]
    pub(crate) fn add<R: Outcome<Value = ()>>(
        &self,
        phase: Phase,
        event: SystemEvent,
        function: impl FnOnce() -> R + 'static,
    ) -> TriggerId {
        let id = TriggerId(self.next_id.get());
        self.next_id.set(id.0 + 1);
        let line = Location::caller();
        self.waiting.borrow_mut().push(Trigger {
            id,
            event,
            phase,
            line,
            function: Box::new(move || call_for(line, function)),
        });
        id
    }

    pub(crate) fn remove(&self, id: TriggerId) -> Result<(), UnknownTriggerError> {
        let mut waiting = self.waiting.borrow_mut();
        let index = waiting
            .iter()
            .position(|trigger| trigger.id == id)
            .ok_or(UnknownTriggerError)?;
        let removed = waiting.remove(index);
        drop(waiting); // what it had captured may add triggers when it is dropped
        drop(removed);
        Ok(())
    }

    /// Takes the next trigger of one phase, of those that were added before `end`.
    ///
    /// One at a time, since each of them may remove those that come after it; and no newer ones,
    /// so that a trigger can add itself again for the next firing.
    fn take_next(&self, event: SystemEvent, phase: Phase, end: u64) -> Option<Trigger> {
        let mut waiting = self.waiting.borrow_mut();
        let index = waiting.iter().position(|trigger| {
            trigger.event == event && trigger.phase == phase && trigger.id.0 < end
        })?;
        Some(waiting.remove(index))
    }

    /// Runs the triggers of `event`. The Deferred fires when all phases have run; it never fails.
    pub(crate) fn fire(self: &Rc<Self>, event: SystemEvent) -> Deferred<()> {
        let triggers = self.clone();
        self.begin(event).add_callback(move |()| {
            triggers.finish(event);
            Ok(())
        })
    }

    /// Runs the triggers of *before*. The Deferred fires when all of theirs have; it never fails.
    pub(crate) fn begin(&self, event: SystemEvent) -> Deferred<()> {
        self.run_phase(event, Phase::Before)
    }

    /// Runs the triggers of *during* and *after*.
    pub(crate) fn finish(&self, event: SystemEvent) {
        for phase in [Phase::During, Phase::After] {
            // Only *before* is waited for. What these phases leave pending goes on by itself.
            drop(self.run_phase(event, phase));
        }
    }

    /// Runs functions in order; fires when all their Deferreds have. Failures are logged.
    fn run_phase(&self, event: SystemEvent, phase: Phase) -> Deferred<()> {
        let (done, resolver) = Deferred::pending();
        let last = Rc::new(LastOut(Cell::new(Some(resolver))));
        let end = self.next_id.get();
        while let Some(Trigger { line, function, .. }) = self.take_next(event, phase, end) {
            let last = last.clone();
            let called = watch(|| Callback::at(CallbackKind::Trigger, line), function);
            drop(called.add_both(move |result| {
                if let Err(failure) = result {
                    crate::logging::error!(
                        target: "reactor",
                        "the trigger of {event:?} added at {line} failed: {failure:#?}"
                    );
                }
                drop(last);
                Ok(())
            }));
        }
        done
    }
}

/// Fires when the last of those who hold it lets go.
struct LastOut(Cell<Option<Resolver<()>>>);

impl Drop for LastOut {
    fn drop(&mut self) {
        if let Some(resolver) = self.0.take() {
            let _ = resolver.callback(());
        }
    }
}
