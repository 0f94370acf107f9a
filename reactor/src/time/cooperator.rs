//! Long work in small steps, between which the loop runs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::cooperative_task::{CooperativeTask, Ending, Step, Task};
use super::source::{WeakTimeSource, after};
use super::{DelayedCall, ReactorTime, TimeSource};
use crate::deferred::{Deferred, Outcome};

/// Maximum time of the steps of one tick: Twisted's 10 ms.
const SLICE: Duration = Duration::from_millis(10);

/// Runs several iterators concurrently, one step of each in turn (Twisted's `task.Cooperator`).
///
/// Long work that would block the loop is written as an iterator with short steps. A Cooperator
/// takes steps for 10 milliseconds, which is a *tick*. Then the loop makes a [turn](crate#turns),
/// and the next tick continues. Most programs call [`cooperate`], which uses one Cooperator for all
/// work of a reactor.
///
/// An item of the iterator is the result of a step: `Ok(())`, an error, which ends the task, or a
/// Deferred, for which the task pauses.
///
/// ```
/// use std::{cell::RefCell, rc::Rc, time::Duration};
/// use deferred_reactor::{Clock, Cooperator, Failure};
///
/// let clock = Clock::new();
/// let cooperator = Cooperator::new(&clock);
/// let steps = Rc::new(RefCell::new(Vec::new()));
/// let work = |name: &'static str, count: u32| {
///     let steps = steps.clone();
///     (1..=count).map(move |step| {
///         steps.borrow_mut().push(format!("{name}{step}"));
///         Ok::<(), Failure>(())
///     })
/// };
/// let short = cooperator.cooperate(work("a", 2)).when_done();
/// let long = cooperator.coiterate(work("b", 3));
/// clock.advance(Duration::ZERO);
/// assert_eq!(*steps.borrow(), ["a1", "b1", "a2", "b2", "b3"]);
/// assert!(short.is_fired() && long.is_fired());
/// ```
///
/// Cheap to clone: all clones are handles of one Cooperator, and tasks continue without them. When
/// the reactor stops, or the clock is dropped, tasks that wait for their next step fail with
/// [`AbandonedError`](crate::AbandonedError).
#[derive(Clone)]
pub struct Cooperator(Rc<Inner>);

struct Inner {
    /// Weak: the clock owns the next tick, which owns this.
    clock: WeakTimeSource,
    /// In the order of their next steps. Paused and finished tasks are removed when they are
    /// reached.
    tasks: RefCell<VecDeque<Rc<Task>>>,
    state: Cell<State>,
    /// The next tick; `None` if no task is waiting, and during a tick.
    tick: RefCell<Option<DelayedCall>>,
    is_ticking: Cell<bool>,
    /// Makes the predicate that ends a tick, if one was set.
    termination: RefCell<Option<Termination>>,
}

type Termination = Rc<dyn Fn() -> Box<dyn FnMut() -> bool>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not started yet.
    Waiting,
    Running,
    Stopped,
}

impl Cooperator {
    /// Makes a running Cooperator: tasks take their first step in the next [turn](crate#turns).
    pub fn new(clock: &impl ReactorTime) -> Self {
        Self::with(clock.time_source(), State::Running)
    }

    /// Makes a Cooperator that takes no steps until [`start`](Self::start) (Twisted's
    /// `started=False`).
    pub fn not_started(clock: &impl ReactorTime) -> Self {
        Self::with(clock.time_source(), State::Waiting)
    }

    fn with(clock: &TimeSource, state: State) -> Self {
        Self(Rc::new(Inner {
            clock: clock.downgrade(),
            tasks: RefCell::new(VecDeque::new()),
            state: Cell::new(state),
            tick: RefCell::new(None),
            is_ticking: Cell::new(false),
            termination: RefCell::new(None),
        }))
    }

    /// Sets a predicate that ends each tick, in place of the 10 milliseconds (Twisted's
    /// `terminationPredicateFactory`).
    ///
    /// `make` makes a predicate for each tick. The predicate is called after each step; `true` ends
    /// the tick.
    ///
    /// On a [`Clock`](crate::Clock) or a [`MemoryReactor`](crate::testing::MemoryReactor), where no
    /// time passes during a tick, the default is one step of each task.
    ///
    /// ```
    /// use deferred_reactor::{Cooperator, Failure, testing::MemoryReactor};
    ///
    /// let memory = MemoryReactor::new();
    /// let cooperator = Cooperator::new(&memory).termination_predicate(|| {
    ///     let mut steps = 0;
    ///     move || {
    ///         steps += 1;
    ///         steps == 100
    ///     }
    /// });
    /// let done = cooperator.coiterate((0..100).map(|_| Ok::<(), Failure>(())));
    /// memory.turn();
    /// assert!(!done.is_fired()); // that there is no further step shows in the next tick
    /// memory.turn();
    /// assert!(done.is_fired());
    /// ```
    #[must_use]
    pub fn termination_predicate<P>(self, make: impl Fn() -> P + 'static) -> Self
    where
        P: FnMut() -> bool + 'static,
    {
        let make: Termination = Rc::new(move || Box::new(make()));
        self.0.termination.replace(Some(make));
        self
    }

    /// Adds a task, whose first step is taken in a later [turn](crate#turns) (Twisted's
    /// `cooperate`).
    ///
    /// If the Cooperator was stopped, the task ends at once, and
    /// [`when_done`](CooperativeTask::when_done) fails with a
    /// [`SchedulerStopped`](super::SchedulerStopped).
    #[track_caller]
    pub fn cooperate<I>(&self, iterator: I) -> CooperativeTask
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: Outcome<Value = ()>,
    {
        let mut iterator = iterator.into_iter();
        let step: Step = Box::new(move || iterator.next().map(Outcome::into_deferred));
        let task = Task::new(self.downgrade(), step);
        self.add(task.clone());
        CooperativeTask::new(task)
    }

    /// Adds a task, and returns the Deferred that fires when the task is done (Twisted's
    /// `coiterate`).
    #[track_caller]
    pub fn coiterate<I>(&self, iterator: I) -> Deferred<()>
    where
        I: IntoIterator,
        I::IntoIter: 'static,
        I::Item: Outcome<Value = ()>,
    {
        self.cooperate(iterator).when_done()
    }

    /// Starts to take steps, also after [`stop`](Self::stop). Does nothing if it is running.
    pub fn start(&self) {
        self.0.state.set(State::Running);
        self.schedule();
    }

    /// Ends all tasks that are not paused: their Deferreds fail with a
    /// [`SchedulerStopped`](super::SchedulerStopped). A paused task ends in the same way when it is
    /// resumed, and a new task at once, unless the Cooperator is started again before.
    pub fn stop(&self) {
        self.0.state.set(State::Stopped);
        if let Some(tick) = self.0.tick.take() {
            let _ = tick.cancel();
        }
        self.end_all(|| Ending::SchedulerStopped);
    }

    /// Returns `true` if it was started, and not stopped since.
    pub fn is_running(&self) -> bool {
        self.0.state.get() == State::Running
    }

    fn downgrade(&self) -> WeakCooperator {
        WeakCooperator(Rc::downgrade(&self.0))
    }

    /// Adds a task that is not paused, behind the others.
    fn add(&self, task: Rc<Task>) {
        if self.0.state.get() == State::Stopped {
            return task.end(Ending::SchedulerStopped);
        }
        if task.joins_queue() {
            self.0.tasks.borrow_mut().push_back(task);
        }
        self.schedule();
    }

    /// Schedules a tick, if a task has steps to take.
    fn schedule(&self) {
        let is_needed = self.is_running()
            && !self.0.is_ticking.get()
            && !self.0.tasks.borrow().is_empty()
            && self.0.tick.borrow().is_none();
        if !is_needed {
            return;
        }
        match self.0.clock.upgrade() {
            Some(clock) => {
                let next = NextTick(Some(self.clone()));
                let tick = clock.call_later(Duration::ZERO, move || next.call());
                self.0.tick.replace(Some(tick));
            }
            None => self.abandon(),
        }
    }

    /// Takes steps until the predicate ends the tick.
    fn tick(&self) {
        self.0.tick.take();
        let _ticking = Ticking::begin(self);
        let make = self.0.termination.borrow().clone();
        let mut has_enough = match make {
            Some(make) => make(),
            None => self.slice(),
        };
        while self.is_running() {
            let Some(task) = self.0.tasks.borrow_mut().pop_front() else {
                break;
            };
            if !task.leaves_queue() {
                continue;
            }
            task.take_step();
            if task.is_active() {
                self.add(task); // or ends it, if it has stopped us
            }
            if has_enough() {
                break;
            }
        }
    }

    /// The default predicate.
    fn slice(&self) -> Box<dyn FnMut() -> bool> {
        match self.0.clock.upgrade() {
            Some(clock) if !clock.is_virtual() => {
                let end = after(clock.now(), SLICE);
                Box::new(move || clock.now() >= end)
            }
            _ => {
                let mut left = self.0.tasks.borrow().len();
                Box::new(move || {
                    left = left.saturating_sub(1);
                    left == 0
                })
            }
        }
    }

    /// Ends the waiting tasks: there will be no further tick.
    fn abandon(&self) {
        self.end_all(|| Ending::Abandoned);
    }

    fn end_all(&self, ending: impl Fn() -> Ending) {
        for task in self.0.tasks.take() {
            if task.leaves_queue() {
                task.end(ending());
            }
        }
    }
}

/// A running tick. Its end allows the next one, also if the predicate panics.
struct Ticking<'a>(&'a Cooperator);

impl<'a> Ticking<'a> {
    fn begin(cooperator: &'a Cooperator) -> Self {
        cooperator.0.is_ticking.set(true);
        Self(cooperator)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.0.is_ticking.set(false);
        self.0.schedule();
    }
}

impl fmt::Debug for Cooperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cooperator")
            .field("state", &self.0.state.get())
            .field("tasks", &self.0.tasks.borrow().len())
            .finish_non_exhaustive()
    }
}

/// The Cooperator of a task, without a cycle.
pub(super) struct WeakCooperator(Weak<Inner>);

impl WeakCooperator {
    pub(super) fn add(&self, task: Rc<Task>) {
        match self.0.upgrade() {
            Some(inner) => Cooperator(inner).add(task),
            None => task.end(Ending::Abandoned),
        }
    }
}

/// The next tick, owned by the clock.
struct NextTick(Option<Cooperator>);

impl NextTick {
    fn call(mut self) {
        if let Some(cooperator) = self.0.take() {
            cooperator.tick();
        }
    }
}

impl Drop for NextTick {
    /// Dropped without a tick. If it is still scheduled, the reactor has dropped it.
    fn drop(&mut self) {
        if let Some(cooperator) = self.0.take()
            && cooperator.0.tick.take().is_some()
        {
            cooperator.abandon();
        }
    }
}

/// Runs an iterator in small steps on a reactor, together with all other iterators passed to this
/// function (Twisted's `task.cooperate`).
///
/// [`Cooperator`] describes the steps; all calls with the same reactor or clock share one Cooperator.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use deferred_reactor::{Failure, Reactor, cooperate};
///
/// let reactor = Reactor::new()?;
/// let sum = Rc::new(Cell::new(0_u64));
/// let result = sum.clone();
/// let stop = reactor.clone();
/// let work = (1..=100_000).map(move |number| {
///     sum.set(sum.get() + number);
///     Ok::<(), Failure>(())
/// });
/// cooperate(&reactor, work)
///     .when_done()
///     .add_both(move |done| {
///         stop.stop()?;
///         done
///     });
/// reactor.run()?;
/// assert_eq!(result.get(), 5_000_050_000);
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn cooperate<I>(clock: &impl ReactorTime, iterator: I) -> CooperativeTask
where
    I: IntoIterator,
    I::IntoIter: 'static,
    I::Item: Outcome<Value = ()>,
{
    clock.time_source().cooperator().cooperate(iterator)
}
