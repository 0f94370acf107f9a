//! Work in steps: the order of the steps, pausing, and how tasks end.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::time::{NotPaused, SchedulerStopped, TaskFinished, TaskStopped};
use deferred_reactor::{
    AbandonedError, Clock, CooperativeTask, Cooperator, Deferred, Failure, PanicError, Reactor,
    Resolver, cooperate,
};
use support::{Bomb, Calls, Oops, keep_log, logged, tracked};

/// `count` steps, which leave `name` and their number in the record.
fn work(
    calls: &Calls,
    name: &'static str,
    count: u32,
) -> impl Iterator<Item = Result<(), Failure>> + use<> {
    let calls = calls.clone();
    (1..=count).map(move |step| {
        calls.push(format!("{name}{step}"));
        Ok(())
    })
}

/// A task whose steps are fired by the test.
fn waiting(cooperator: &Cooperator) -> (CooperativeTask, Rc<RefCell<Vec<Resolver<()>>>>) {
    let resolvers: Rc<RefCell<Vec<Resolver<()>>>> = Rc::default();
    let steps = resolvers.clone();
    let task = cooperator.cooperate(std::iter::from_fn(move || {
        let (deferred, resolver) = Deferred::pending();
        steps.borrow_mut().push(resolver);
        Some(deferred)
    }));
    (task, resolvers)
}

fn endless() -> impl Iterator<Item = Result<(), Failure>> {
    std::iter::repeat_with(|| Ok(()))
}

/// T-22: also with one that comes while the others work.
#[test]
fn each_task_takes_one_step_in_turn() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let calls = Calls::new();
    let done = cooperator.coiterate(work(&calls, "a", 3));
    let _ = cooperator.cooperate(work(&calls, "b", 1));
    let (inner, more) = (cooperator.clone(), work(&calls, "d", 2));
    let mut more = Some(more);
    let _ = cooperator.cooperate(std::iter::from_fn(move || {
        let more = more.take()?;
        drop(inner.cooperate(more));
        Some(Ok::<(), Failure>(()))
    }));
    clock.advance(Duration::ZERO);
    assert_eq!(calls.take(), ["a1", "b1", "a2", "d1", "a3", "d2"]);
    assert!(done.result().is_ok());
    assert!(clock.delayed_calls().is_empty());
}

/// T-22: those that were added by several parts of a program share their ticks.
#[test]
fn work_on_one_reactor_shares_a_cooperator() {
    let memory = MemoryReactor::new();
    let calls = Calls::new();
    let _ = cooperate(&memory, work(&calls, "a", 2));
    let _ = cooperate(memory.reactor(), work(&calls, "b", 2));
    assert_eq!(memory.delayed_calls().len(), 1);
    memory.turn();
    assert_eq!(calls.take(), ["a1", "b1"]);
    memory.turn();
    assert_eq!(calls.take(), ["a2", "b2"]);
}

/// T-23.
#[test]
fn a_tick_ends_when_the_predicate_says_so() {
    let memory = MemoryReactor::new();
    let calls = Calls::new();
    let cooperator = Cooperator::new(&memory).termination_predicate(|| {
        let mut steps = 0;
        move || {
            steps += 1;
            steps == 3
        }
    });
    let _ = cooperator.cooperate(work(&calls, "a", 3));
    let _ = cooperator.cooperate(work(&calls, "b", 2));
    memory.turn();
    assert_eq!(calls.take(), ["a1", "b1", "a2"]);
    memory.turn();
    assert_eq!(calls.take(), ["b2", "a3"]);
}

/// T-23: the loop has its turns beside work without an end, in a slice of time by default.
#[test]
fn endless_work_does_not_hold_up_a_reactor() -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    let task = cooperate(&reactor, endless());
    let stop = reactor.clone();
    let done = task.when_done();
    reactor.call_later(Duration::from_millis(30), move || {
        task.stop().expect("it goes on");
        stop.stop().expect("it runs");
    });
    reactor.run()?;
    assert!(done.result().unwrap_err().is::<TaskStopped>());
    Ok(())
}

/// T-23: a predicate that panics ends its tick, and nothing else.
#[test]
fn a_predicate_that_panics_ends_its_tick() {
    let memory = MemoryReactor::new();
    let calls = Calls::new();
    let cooperator =
        Cooperator::new(&memory).termination_predicate(|| || -> bool { panic!("no opinion") });
    let done = cooperator.coiterate(work(&calls, "a", 2));
    memory.pump();
    assert_eq!(calls.take(), ["a1", "a2"]);
    assert!(done.is_fired());
}

/// T-24.
#[test]
fn a_step_that_returns_a_deferred_pauses_its_task() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let (task, steps) = waiting(&cooperator);
    let done = task.when_done();
    clock.advance(Duration::ZERO);
    assert_eq!(steps.borrow().len(), 1);
    assert!(clock.delayed_calls().is_empty(), "nothing is to be done");
    steps.borrow_mut().remove(0).callback(()).unwrap();
    clock.advance(Duration::ZERO);
    assert_eq!(steps.borrow().len(), 1, "the next one");
    steps.borrow_mut().remove(0).errback(Oops("later")).unwrap();
    assert_eq!(done.result().unwrap_err().check(), Some(&Oops("later")));
    clock.advance(Duration::ZERO);
    assert!(steps.borrow().is_empty());
}

/// T-24: where it has fired before, the task goes on.
#[test]
fn a_step_whose_deferred_has_fired_pauses_nothing() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let done = cooperator.coiterate((0..100_000).map(|_| Deferred::succeed(())));
    let failed = cooperator.coiterate([Deferred::fail(Oops("at once"))]);
    clock.advance(Duration::ZERO);
    assert!(done.result().is_ok());
    assert_eq!(failed.result().unwrap_err().check(), Some(&Oops("at once")));
}

/// T-25: each handle has an ending of its own.
#[test]
fn when_done_fires_with_the_end_of_the_task() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let task = cooperator.cooperate([Ok::<(), Failure>(())]);
    let (first, second, third) = (task.when_done(), task.when_done(), task.when_done());
    first.canceller().cancel();
    let second = second.add_callback(|()| -> Result<(), Failure> { Err(Oops("own").into()) });
    clock.advance(Duration::ZERO);
    assert!(first.result().is_err());
    assert_eq!(second.result().unwrap_err().check(), Some(&Oops("own")));
    assert!(third.result().is_ok());

    let task = cooperator.cooperate([Err::<(), _>(Failure::from(Oops("step")))]);
    let (first, second) = (task.when_done(), task.when_done());
    clock.advance(Duration::ZERO);
    assert_eq!(first.result().unwrap_err().check(), Some(&Oops("step")));
    assert_eq!(second.result().unwrap_err().to_string(), "step");

    let task = cooperator.cooperate(std::iter::from_fn(|| -> Option<Result<(), Failure>> {
        panic!("no step")
    }));
    let done = task.when_done();
    clock.advance(Duration::ZERO);
    assert!(done.result().unwrap_err().is::<PanicError>());

    let task = cooperator.cooperate(endless());
    let (first, second) = (task.when_done(), task.when_done());
    task.stop().unwrap();
    assert!(first.result().unwrap_err().is::<TaskStopped>());
    assert!(second.result().unwrap_err().is::<TaskStopped>());
}

/// T-25: a failure that nobody waits for is not lost.
#[test]
fn a_failure_that_nobody_waits_for_is_reported() {
    keep_log();
    let clock = Clock::new();
    drop(Cooperator::new(&clock).cooperate([Err::<(), _>(Failure::from(Oops("unseen")))]));
    clock.advance(Duration::ZERO);
    let records = logged();
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(records[0].contains("unseen"), "{records:?}");

    let task = Cooperator::new(&clock).cooperate([Err::<(), _>(Failure::from(Oops("seen")))]);
    clock.advance(Duration::ZERO);
    assert!(task.when_done().result().is_err());
    drop(task);
    assert_eq!(logged(), [""; 0]);
}

/// T-26.
#[test]
fn a_task_that_is_done_says_how() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let done = cooperator.cooperate(std::iter::empty::<Result<(), Failure>>());
    let failed = cooperator.cooperate([Err::<(), _>(Failure::from(Oops("step")))]);
    let stopped = cooperator.cooperate(endless());
    stopped.stop().unwrap();
    clock.advance(Duration::ZERO);
    for (task, want) in [
        (&done, TaskFinished::Done),
        (&failed, TaskFinished::Failed),
        (&stopped, TaskFinished::Stopped),
    ] {
        assert_eq!(task.stop(), Err(want));
        assert_eq!(task.pause(), Err(want));
    }
    assert!(done.when_done().result().is_ok());
    assert_eq!(
        failed.when_done().result().unwrap_err().check(),
        Some(&Oops("step"))
    );
    assert!(
        stopped
            .when_done()
            .result()
            .unwrap_err()
            .is::<TaskStopped>()
    );
}

/// T-27.
#[test]
fn a_task_works_when_all_its_pauses_are_taken_back() {
    let memory = MemoryReactor::new();
    let cooperator = Cooperator::new(&memory);
    let calls = Calls::new();
    let task = cooperator.cooperate(work(&calls, "a", 9));
    let _: NotPaused = task.resume().unwrap_err();
    memory.turn();
    task.pause().unwrap();
    task.pause().unwrap();
    memory.pump();
    assert_eq!(calls.take(), ["a1"]);
    task.resume().unwrap();
    memory.pump();
    assert_eq!(calls.take(), [""; 0]);
    task.resume().unwrap();
    assert_eq!(calls.take(), [""; 0], "in the next tick");
    memory.turn();
    assert_eq!(calls.take(), ["a2"]);
    assert!(task.resume().is_err());
    // However often between two ticks, it has one place.
    for _ in 0..3 {
        task.pause().unwrap();
        task.resume().unwrap();
    }
    memory.turn();
    assert_eq!(calls.take(), ["a3"]);
}

/// T-27: from inside its own step.
#[test]
fn a_task_may_pause_and_stop_itself() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let own: Rc<RefCell<Option<CooperativeTask>>> = Rc::default();
    let (handle, steps) = (own.clone(), Rc::new(Cell::new(0)));
    let count = steps.clone();
    let (kept, is_dropped) = tracked();
    let task = cooperator.cooperate(std::iter::from_fn(move || {
        let _ = &kept;
        count.set(count.get() + 1);
        let own = handle.borrow().clone()?;
        match count.get() {
            1 => own.pause().ok()?,
            _ => own.stop().ok()?,
        }
        Some(Ok::<(), Failure>(()))
    }));
    own.replace(Some(task.clone()));
    clock.advance(Duration::ZERO);
    assert_eq!(steps.get(), 1);
    task.resume().unwrap();
    clock.advance(Duration::ZERO);
    assert_eq!(steps.get(), 2);
    assert_eq!(task.stop(), Err(TaskFinished::Stopped));
    assert!(is_dropped.get(), "with what it had captured");
}

/// T-28.
#[test]
fn a_stopped_cooperator_ends_its_tasks_and_takes_no_others() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let working = cooperator.coiterate(endless());
    let paused = cooperator.cooperate(endless());
    paused.pause().unwrap();
    cooperator.stop();
    assert!(working.result().unwrap_err().is::<SchedulerStopped>());
    assert!(clock.delayed_calls().is_empty());
    let late = cooperator.cooperate(endless());
    assert!(
        late.when_done()
            .result()
            .unwrap_err()
            .is::<SchedulerStopped>()
    );
    assert_eq!(late.stop(), Err(TaskFinished::SchedulerStopped));
    // As upstream: one that is paused ends when it is resumed.
    let ended = paused.when_done();
    assert!(!ended.is_fired());
    paused.resume().unwrap();
    assert!(ended.result().unwrap_err().is::<SchedulerStopped>());
}

/// T-28: by a step.
#[test]
fn a_step_may_stop_its_cooperator() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let inner = cooperator.clone();
    let other = cooperator.coiterate(endless());
    let task = cooperator.coiterate(std::iter::from_fn(move || {
        inner.stop();
        Some(Ok::<(), Failure>(()))
    }));
    clock.pump([Duration::ZERO; 2]);
    assert!(other.result().unwrap_err().is::<SchedulerStopped>());
    assert!(task.result().unwrap_err().is::<SchedulerStopped>());
}

/// T-29.
#[test]
fn a_cooperator_that_is_not_started_does_nothing() {
    let clock = Clock::new();
    let cooperator = Cooperator::not_started(&clock);
    let calls = Calls::new();
    let done = cooperator.coiterate(work(&calls, "a", 2));
    assert!(!cooperator.is_running());
    clock.advance(Duration::from_secs(1));
    assert_eq!(calls.take(), [""; 0]);
    cooperator.start();
    cooperator.start();
    assert!(cooperator.is_running());
    clock.advance(Duration::ZERO);
    assert_eq!(calls.take(), ["a1", "a2"]);
    assert!(done.is_fired());
    cooperator.stop();
    assert!(!cooperator.is_running());
    cooperator.start();
    assert!(cooperator.is_running());
    assert!(Cooperator::new(&clock).is_running());
}

/// What waits for a tick that will not come fails, as everything that waits for a delayed call.
#[test]
fn the_end_of_a_run_abandons_tasks() -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    let task = cooperate(&reactor, endless());
    let done = task.when_done();
    reactor.run_for(Duration::from_millis(5))?;
    assert!(done.result().unwrap_err().is::<AbandonedError>());
    assert!(
        task.when_done()
            .result()
            .unwrap_err()
            .is::<AbandonedError>()
    );
    assert_eq!(task.stop(), Err(TaskFinished::SchedulerStopped));

    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let done = cooperator.coiterate(endless());
    drop(clock);
    assert!(done.result().unwrap_err().is::<AbandonedError>());
    let late = cooperator.coiterate(endless());
    assert!(late.result().unwrap_err().is::<AbandonedError>());
    Ok(())
}

/// T-25: what an iterator had captured may panic as it goes; the others go on.
#[test]
fn an_iterator_that_panics_as_it_is_dropped_stops_nobody() {
    let clock = Clock::new();
    let cooperator = Cooperator::new(&clock);
    let bomb = Bomb;
    let bad = cooperator.coiterate(std::iter::from_fn(move || {
        let _ = &bomb;
        None::<Result<(), Failure>>
    }));
    let calls = Calls::new();
    let good = cooperator.coiterate(work(&calls, "a", 2));
    clock.advance(Duration::ZERO);
    assert!(bad.result().is_ok() && good.result().is_ok());
}
