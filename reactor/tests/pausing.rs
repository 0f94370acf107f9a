//! A paused chain runs nothing until the last pause ends.

mod support;

use deferred_reactor::{CancelledError, Deferred, NoLostFailures};
use support::{Calls, Oops};

/// D-25.
#[test]
fn a_deferred_paused_n_times_runs_at_the_nth_unpause() {
    for pauses in 1..=3 {
        let calls = Calls::new();
        let (mut deferred, resolver) = Deferred::pending();
        for _ in 0..pauses {
            deferred.pause();
        }
        let deferred = deferred
            .map(calls.note("first", |n: i32| n + 1))
            .map(calls.note("second", |n: i32| n));
        resolver.callback(1).unwrap();
        for _ in 1..pauses {
            deferred.unpause();
        }
        assert!(calls.take().is_empty());
        assert!(!deferred.is_fired());

        deferred.unpause();
        assert_eq!(calls.take(), ["first(1)", "second(2)"]);
        assert_eq!(deferred.result().unwrap(), 2);
    }
}

/// D-25.
#[test]
fn a_paused_failure_waits_too() {
    let (mut deferred, resolver) = Deferred::pending();
    deferred.pause();
    let deferred = deferred.add_errback(|_| Ok(1));
    resolver.errback(Oops("no")).unwrap();
    let deferred = deferred.try_result().expect_err("it is paused");
    deferred.unpause();
    assert_eq!(deferred.result().unwrap(), 1);
}

/// D-25: unpaused before it fires, it runs when it fires.
#[test]
fn a_pause_that_ended_before_the_firing_leaves_no_trace() {
    let (mut deferred, resolver) = Deferred::pending();
    deferred.pause();
    deferred.unpause();
    deferred.unpause(); // one too many does nothing
    resolver.callback(1).unwrap();
    assert_eq!(deferred.result().unwrap(), 1);
}

/// D-25: in the middle of a chain, by one of its own callbacks.
#[test]
fn a_callback_can_hold_back_the_rest_of_its_chain() {
    let calls = Calls::new();
    let (mut deferred, resolver) = Deferred::pending();
    let pauser = deferred.pauser();
    let inside = pauser.clone();
    let deferred = deferred
        .map(move |n: i32| {
            inside.pause();
            n
        })
        .map(calls.note("second", |n: i32| n));
    resolver.callback(1).unwrap();
    assert!(calls.take().is_empty());
    pauser.unpause();
    assert_eq!(calls.take(), ["second(1)"]);
    assert_eq!(deferred.result().unwrap(), 1);
}

/// D-26.
#[test]
fn an_inner_deferred_that_is_paused_is_waited_for() {
    let calls = Calls::new();
    let mut inner = Deferred::succeed(2);
    let pauser = inner.pauser();
    pauser.pause();

    let (outer, resolver) = Deferred::pending();
    let outer = outer
        .add_callback(move |_: i32| inner)
        .map(calls.note("after", |n: i32| n));
    resolver.callback(1).unwrap();
    assert!(calls.take().is_empty());

    pauser.unpause();
    assert_eq!(calls.take(), ["after(2)"]);
    assert_eq!(outer.result().unwrap(), 2);
}

/// D-26: where the inner one has callbacks that are held back as well.
#[test]
fn the_callbacks_of_a_paused_inner_deferred_run_before_the_outer_ones() {
    let calls = Calls::new();
    let (mut inner, fire_inner) = Deferred::pending();
    let pauser = inner.pauser();
    pauser.pause();
    let inner = inner.map(calls.note("inner", |n: i32| n + 1));
    fire_inner.callback(1).unwrap();

    let outer = Deferred::succeed(())
        .add_callback(move |()| inner)
        .map(calls.note("outer", |n: i32| n));
    assert!(calls.take().is_empty());
    pauser.unpause();
    assert_eq!(calls.take(), ["inner(1)", "outer(2)"]);
    assert_eq!(outer.result().unwrap(), 2);
}

#[test]
fn an_outer_deferred_that_is_paused_waits_although_the_inner_one_has_fired() {
    let calls = Calls::new();
    let (inner, fire_inner) = Deferred::pending();
    let (mut outer, fire_outer) = Deferred::pending();
    let pauser = outer.pauser();
    let outer = outer
        .add_callback(move |_: i32| inner)
        .map(calls.note("after", |n: i32| n));
    fire_outer.callback(1).unwrap();

    pauser.pause();
    fire_inner.callback(2).unwrap();
    assert!(calls.take().is_empty());
    pauser.unpause();
    assert_eq!(calls.take(), ["after(2)"]);
    assert_eq!(outer.result().unwrap(), 2);
}

#[test]
fn a_deferred_cancelled_while_paused_ends_when_it_is_unpaused() {
    let (mut deferred, _resolver) = Deferred::<()>::pending();
    deferred.pause();
    deferred.cancel();
    assert!(!deferred.is_fired());
    deferred.unpause();
    assert!(deferred.result().unwrap_err().is::<CancelledError>());
}

/// A pause that nobody can end would lose the result.
#[test]
fn a_chain_that_nobody_could_unpause_any_more_goes_on() {
    let calls = Calls::new();
    let (mut deferred, resolver) = Deferred::pending();
    let pauser = deferred.pauser();
    pauser.pause();
    pauser.pause();
    drop(deferred.map(calls.note("callback", |n: i32| n)));
    resolver.callback(1).unwrap();
    assert!(calls.take().is_empty());
    drop(pauser);
    assert_eq!(calls.take(), ["callback(1)"]);
}

/// Dropping the handle of a paused Deferred does not lose its failure.
#[test]
fn a_failure_dropped_while_paused_is_reported_once() {
    let guard = NoLostFailures::new();
    let mut deferred = Deferred::<()>::fail(Oops("lost"));
    let pauser = deferred.pauser();
    pauser.pause();
    drop(deferred);
    assert_eq!(guard.flush().len(), 0);
    pauser.unpause();
    assert_eq!(guard.flush().len(), 1);
}

/// D-26: also where the inner one waits in turn, in the last of its callbacks.
#[test]
fn a_pauser_of_an_inner_deferred_works_until_that_has_ended() {
    let calls = Calls::new();
    let (innermost, fire_innermost) = Deferred::pending();
    let (mut inner, fire_inner) = Deferred::pending();
    let pauser = inner.pauser();
    let inner = inner.add_callback(move |()| innermost);
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer
        .add_callback(move |()| inner)
        .map(calls.note("after", |n: i32| n));
    fire_outer.callback(()).unwrap();
    fire_inner.callback(()).unwrap();

    pauser.pause();
    fire_innermost.callback(1).unwrap();
    assert!(calls.take().is_empty());
    pauser.unpause();
    assert_eq!(calls.take(), ["after(1)"]);
    assert_eq!(outer.result().unwrap(), 1);
}

/// The pauser of a Deferred goes on to rule it after it has fired.
#[test]
fn a_pauser_holds_back_callbacks_added_after_the_firing() {
    let calls = Calls::new();
    let mut deferred = Deferred::succeed(1);
    let pauser = deferred.pauser();
    let deferred = deferred.map(calls.note("before", |n: i32| n + 1));
    assert_eq!(calls.take(), ["before(1)"]);

    pauser.pause();
    let deferred = deferred.map(calls.note("held back", |n: i32| n));
    assert!(calls.take().is_empty());
    pauser.unpause();
    assert_eq!(calls.take(), ["held back(2)"]);
    assert_eq!(deferred.result().unwrap(), 2);
}

/// D-26: whether the callback ran at once or later makes no difference.
#[test]
fn a_pause_that_is_forgotten_in_a_returned_deferred_ends() {
    let paused = || {
        let mut deferred = Deferred::succeed(1);
        deferred.pause();
        deferred
    };
    let at_once = Deferred::succeed(()).add_callback(move |()| paused());
    assert_eq!(at_once.result().unwrap(), 1);

    let (deferred, resolver) = Deferred::pending();
    let later = deferred.add_callback(move |()| paused());
    resolver.callback(()).unwrap();
    assert_eq!(later.result().unwrap(), 1);
}
