//! Functions that run when the reactor starts and stops.
//!
//! An event has three phases. All triggers of *before* run first, and their Deferreds are waited
//! for while the loop continues. Then the triggers of *during* run, then those of *after*. Within a
//! phase, triggers run in the order of registration. A trigger runs once and is then removed.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use crate::deferred::{Deferred, Outcome, Resolver, call_for};
use crate::health::{Callback, CallbackKind, watch};

/// The phase of an event in which a trigger runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// First. The later phases wait for the Deferreds that these triggers return.
    Before,
    /// When the event itself happens.
    During,
    /// After the event has happened.
    After,
}

/// An event that triggers can be registered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SystemEvent {
    /// The reactor starts to run.
    Startup,
    /// The reactor is stopped.
    Shutdown,
    /// An event of the program's own, fired with
    /// [`fire_system_event`](crate::Reactor::fire_system_event).
    Named(&'static str),
}

/// Identifies one trigger, to remove it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerId(u64);

/// The trigger has run, was removed before, or belongs to another reactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownTriggerError;

impl fmt::Display for UnknownTriggerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no such trigger: it has run, was removed before, or belongs to another reactor",
        )
    }
}

impl Error for UnknownTriggerError {}

type Function = Box<dyn FnOnce() -> Deferred<()>>;

struct Trigger {
    id: TriggerId,
    event: SystemEvent,
    phase: Phase,
    /// The source line that registered it.
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

    /// Takes the next trigger of one phase, of those registered before `end`.
    ///
    /// Taken one at a time, because a trigger may remove later ones; and only from those registered
    /// before `end`, so that a trigger can register itself for the next firing.
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

    /// Runs the triggers of *before*. The Deferred fires when all their Deferreds have; it never
    /// fails.
    pub(crate) fn begin(&self, event: SystemEvent) -> Deferred<()> {
        self.run_phase(event, Phase::Before)
    }

    /// Runs the triggers of *during* and *after*.
    pub(crate) fn finish(&self, event: SystemEvent) {
        for phase in [Phase::During, Phase::After] {
            // Deferreds of these phases are not waited for; they continue by themselves.
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

/// Fires when the last holder drops it.
struct LastOut(Cell<Option<Resolver<()>>>);

impl Drop for LastOut {
    fn drop(&mut self) {
        if let Some(resolver) = self.0.take() {
            let _ = resolver.callback(());
        }
    }
}
