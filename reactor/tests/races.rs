//! The first of several Deferreds to succeed wins, and the others are cancelled.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use deferred_reactor::{
    CancelledError, Canceller, Deferred, Failure, FailureGroup, NoLostFailures, Resolver, race,
};
use support::{Calls, Oops, keep_log, logged};

/// Deferreds that note when they are cancelled, and have no more to say about that.
fn runners(count: usize, calls: &Calls) -> (Vec<Deferred<i32>>, Vec<Resolver<i32>>) {
    (0..count)
        .map(|n| {
            let calls = calls.clone();
            Deferred::with_canceller(move |_| calls.push(format!("cancel {n}")))
        })
        .unzip()
}

fn texts(group: &FailureGroup) -> Vec<String> {
    group.failures.iter().map(Failure::to_string).collect()
}

/// D-57.
#[test]
fn the_winner_is_told_and_each_loser_is_cancelled_once() {
    let _guard = NoLostFailures::new();
    for winner in 0..3 {
        let calls = Calls::new();
        let (inputs, mut resolvers) = runners(3, &calls);
        let result = race(inputs).map(calls.note("won", |pair: (usize, i32)| pair));
        resolvers.remove(winner).callback(7).unwrap();
        let mut want: Vec<_> = (0..3)
            .filter(|n| *n != winner)
            .map(|n| format!("cancel {n}"))
            .collect();
        want.push(format!("won(({winner}, 7))"));
        assert_eq!(calls.take(), want);
        result.cancel();
        assert_eq!(result.result().unwrap(), (winner, 7));
        assert!(calls.take().is_empty());
    }
}

/// D-57: a failure before does not count, and those that have fired are taken in their order.
#[test]
fn a_race_may_be_won_before_it_begins() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (mut inputs, _resolvers) = runners(2, &calls);
    inputs.insert(1, Deferred::fail(Oops("no")));
    inputs.insert(2, Deferred::succeed(5));
    inputs.push(Deferred::succeed(6));
    assert_eq!(race(inputs).result().unwrap(), (2, 5));
    assert_eq!(calls.take(), ["cancel 0", "cancel 1"]);
}

/// D-58.
#[test]
fn a_race_that_nobody_wins_tells_all_failures_in_the_order_of_the_inputs() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (inputs, mut resolvers) = runners(3, &calls);
    let result = race(inputs);
    for text in ["two", "one", "zero"] {
        assert!(!result.is_fired());
        resolvers.pop().unwrap().errback(Oops(text)).unwrap();
    }
    assert!(calls.take().is_empty(), "nothing was cancelled");
    let failure = result.result().unwrap_err();
    assert_eq!(
        failure.to_string(),
        "no input succeeded: input 0 failed: zero, input 1 failed: one, input 2 failed: two"
    );
    let group = failure.trap::<FailureGroup>().unwrap();
    assert_eq!(texts(&group), ["zero", "one", "two"]);
    assert_eq!(group.failures[2].check(), Some(&Oops("two")));
}

/// D-58: all of none have failed, so that nobody waits for ever.
#[test]
fn a_race_without_inputs_fails() {
    let failure = race(Vec::<Deferred<i32>>::new()).result().unwrap_err();
    assert!(!failure.to_string().is_empty());
    assert!(failure.trap::<FailureGroup>().unwrap().failures.is_empty());
}

/// D-58: the group is reported once where nobody handles it, and its failures are not.
#[test]
fn a_lost_race_that_nobody_handles_is_reported_once() {
    let guard = NoLostFailures::new();
    drop(race([
        Deferred::<i32>::fail(Oops("a")),
        Deferred::fail(Oops("b")),
    ]));
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert_eq!(texts(lost[0].failure.check().unwrap()), ["a", "b"]);
}

/// D-59.
#[test]
fn what_becomes_of_the_losers_changes_nothing() {
    let _guard = NoLostFailures::new();
    // One that goes on in spite of being cancelled and ends well, one that ends badly.
    let stubborn = || {
        let (input, resolver) = Deferred::<i32>::pending();
        let (instead, fire) = Deferred::pending();
        (input.add_errback(move |_| instead), resolver, fire)
    };
    let (good, _good_resolver, fire_good) = stubborn();
    let (bad, _bad_resolver, fire_bad) = stubborn();
    // One whose canceller has a value, and one whose canceller has an error.
    let (value, _value_resolver) = Deferred::with_canceller(|resolver| {
        resolver.callback(8).unwrap();
    });
    let (error, _error_resolver) = Deferred::with_canceller(|resolver| {
        resolver.errback(Oops("from the canceller")).unwrap();
    });
    let (winner, fire_winner) = Deferred::pending();
    let calls = Calls::new();
    let result =
        race([good, bad, value, error, winner]).map(calls.note("won", |pair: (usize, i32)| pair));
    fire_winner.callback(1).unwrap();
    assert_eq!(calls.take(), ["won((4, 1))"]);

    fire_good.callback(2).unwrap();
    fire_bad.errback(Oops("late")).unwrap();
    assert!(calls.take().is_empty());
    assert_eq!(result.result().unwrap(), (4, 1));
}

/// D-59: one that failed before somebody won.
#[test]
fn a_failure_before_the_win_is_not_reported() {
    let _guard = NoLostFailures::new();
    let (input, resolver) = Deferred::pending();
    let result = race([Deferred::fail(Oops("early")), input]);
    resolver.callback(1).unwrap();
    assert_eq!(result.result().unwrap(), (1, 1));
}

/// D-60.
#[test]
fn cancelling_a_race_cancels_every_input_once_and_it_fails() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (inputs, _resolvers) = runners(3, &calls);
    let result = race(inputs);
    result.cancel();
    result.cancel();
    assert_eq!(calls.take(), ["cancel 0", "cancel 1", "cancel 2"]);
    let group = result.result().unwrap_err().trap::<FailureGroup>().unwrap();
    assert_eq!(group.failures.len(), 3);
    assert!(group.failures.iter().all(Failure::is::<CancelledError>));
}

/// D-60: a canceller that comes up with a value wins the race that is being cancelled.
#[test]
fn a_cancelled_race_can_be_won_by_a_canceller() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (mut inputs, _resolvers) = runners(3, &calls);
    let (input, _resolver) = Deferred::with_canceller(|resolver| {
        resolver.callback(5).unwrap();
    });
    inputs.insert(1, input);
    let result = race(inputs);
    result.cancel();
    assert_eq!(calls.take(), ["cancel 0", "cancel 1", "cancel 2"]);
    assert_eq!(result.result().unwrap(), (1, 5));
}

/// D-60: one that recovers with something else is still in the race.
#[test]
fn a_cancelled_race_waits_for_a_runner_that_goes_on() {
    let _guard = NoLostFailures::new();
    let (input, _resolver) = Deferred::<i32>::pending();
    let (instead, fire) = Deferred::pending();
    let (other, _other_resolver) = Deferred::pending();
    let result = race([input.add_errback(move |_| instead), other]);
    result.cancel();
    assert!(!result.is_fired());
    fire.errback(Oops("in the end")).unwrap();
    let group = result.result().unwrap_err().trap::<FailureGroup>().unwrap();
    assert_eq!(texts(&group), ["in the end", "cancelled"]);
}

/// D-57: the same as for any canceller.
#[test]
fn a_loser_whose_canceller_panics_does_not_save_the_others() {
    let _guard = NoLostFailures::new();
    keep_log();
    let calls = Calls::new();
    let (mut inputs, mut resolvers) = runners(3, &calls);
    let (bad, _resolver) = Deferred::with_canceller(|_| panic!("bad canceller"));
    inputs.insert(0, bad);
    let result = race(inputs);
    resolvers.remove(1).callback(1).unwrap();
    assert_eq!(calls.take(), ["cancel 0", "cancel 2"]);
    assert_eq!(result.result().unwrap(), (2, 1));
    assert_eq!(logged().len(), 1);
}

/// Cancelling and firing inside the cancellers of the losers.
#[test]
fn a_decided_race_cannot_be_undone_from_inside() {
    let _guard = NoLostFailures::new();
    let itself: Rc<RefCell<Canceller>> = Rc::default();
    let (other, fire_other) = Deferred::pending();
    let (again, fire_other) = (itself.clone(), Rc::new(Cell::new(Some(fire_other))));
    let (loser, _resolver) = Deferred::with_canceller(move |_| {
        again.borrow().cancel();
        fire_other.take().unwrap().callback(2).unwrap();
    });
    let (winner, fire_winner) = Deferred::pending();
    let result = race([loser, other, winner]);
    *itself.borrow_mut() = result.canceller();
    let cancels = itself.clone();
    let result = result.map(move |won| {
        cancels.borrow().cancel();
        won
    });
    fire_winner.callback(3).unwrap();
    assert_eq!(result.result().unwrap(), (2, 3));
}

/// A race whose handle was dropped is run all the same.
#[test]
fn a_race_without_a_handle_goes_on() {
    let calls = Calls::new();
    let (inputs, mut resolvers) = runners(2, &calls);
    drop(race(inputs).map(calls.note("won", |pair: (usize, i32)| pair)));
    resolvers.remove(0).callback(1).unwrap();
    assert_eq!(calls.take(), ["cancel 1", "won((0, 1))"]);
}
