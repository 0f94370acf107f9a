//! A callback that returns a Deferred makes its chain wait for it.

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use deferred_reactor::{Deferred, Failure, NoLostFailures, Resolver, deferred};
use support::{Calls, Oops};

/// D-16.
#[test]
fn an_inner_deferred_that_has_fired_hands_over_its_value_at_once() {
    let calls = Calls::new();
    let (outer, resolver) = Deferred::pending();
    let outer = outer
        .add_callback(|n: i32| Deferred::succeed(n + 1))
        .map(calls.note("next", |n: i32| n));
    resolver.callback(1).unwrap();
    assert_eq!(calls.take(), ["next(2)"]);
    assert_eq!(outer.result().unwrap(), 2);
}

/// D-17.
#[test]
fn a_chain_waits_for_the_pending_deferred_that_its_callback_returned() {
    let calls = Calls::new();
    let (inner, fire_inner) = Deferred::pending();
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer
        .add_callback(calls.note("first", move |_: i32| inner))
        .map(calls.note("second", |text: &str| text.len()));
    fire_outer.callback(1).unwrap();
    assert_eq!(calls.take(), ["first(1)"]);
    assert!(!outer.is_fired());

    fire_inner.callback("four").unwrap();
    assert_eq!(calls.take(), [r#"second("four")"#]);
    assert_eq!(outer.result().unwrap(), 4);
}

/// D-17: the same where the outer one had fired before the callback was added.
#[test]
fn a_fired_deferred_waits_for_what_its_new_callback_returns() {
    let calls = Calls::new();
    let (inner, fire_inner) = Deferred::pending();
    let outer = Deferred::succeed(1)
        .add_callback(move |_| inner)
        .map(calls.note("second", |n: i32| n));
    assert!(calls.take().is_empty());
    fire_inner.callback(2).unwrap();
    assert_eq!(calls.take(), ["second(2)"]);
    assert_eq!(outer.result().unwrap(), 2);
}

/// D-18: known before, or later.
#[test]
fn a_failure_of_the_inner_deferred_goes_to_the_next_errback_and_has_one_owner() {
    let guard = NoLostFailures::new();
    for fails_before in [true, false] {
        let (inner, fire_inner) = Deferred::<i32>::pending();
        let (outer, fire_outer) = Deferred::pending();
        let calls = Calls::new();
        let outer = outer
            .add_callback(move |()| inner)
            .map(calls.note("skipped", |n: i32| n))
            .add_errback(calls.note("errback", |failure: Failure| Err(failure)));
        let mut steps: Vec<Box<dyn FnOnce()>> = vec![
            Box::new(|| fire_inner.errback(Oops("inner")).unwrap()),
            Box::new(|| fire_outer.callback(()).unwrap()),
        ];
        if !fails_before {
            steps.reverse();
        }
        for step in steps {
            step();
        }
        assert_eq!(calls.take(), ["errback(inner)"]);
        assert!(guard.flush().is_empty());
        drop(outer);
        let lost = guard.flush();
        assert_eq!(lost.len(), 1);
        assert_eq!(lost[0].failure.check(), Some(&Oops("inner")));
    }
}

/// D-19.
#[test]
fn an_errback_that_returns_a_deferred_recovers_when_that_fires() {
    let calls = Calls::new();
    let (inner, fire_inner) = Deferred::pending();
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer
        .add_errback(move |_| inner)
        .map(calls.note("next", |n: i32| n));
    fire_outer.errback(Oops("no")).unwrap();
    assert!(calls.take().is_empty());
    fire_inner.callback(5).unwrap();
    assert_eq!(calls.take(), ["next(5)"]);
    assert_eq!(outer.result().unwrap(), 5);
}

/// D-20: whatever the order in which A and B begin to wait.
#[test]
fn the_innermost_chain_runs_first() {
    for a_waits_first in [true, false] {
        let calls = Calls::new();
        let (c, fire_c) = Deferred::pending();
        let (b, fire_b) = Deferred::pending();
        let (a, fire_a) = Deferred::pending();
        let b = b
            .add_callback(move |()| c)
            .map(calls.note("b", |n: i32| n + 1));
        let a = a
            .add_callback(move |()| b)
            .map(calls.note("a", |n: i32| n + 1));
        let (first, second) = if a_waits_first {
            (fire_a, fire_b)
        } else {
            (fire_b, fire_a)
        };
        first.callback(()).unwrap();
        second.callback(()).unwrap();
        assert!(calls.take().is_empty());
        fire_c.callback(1).unwrap();
        assert_eq!(calls.take(), ["b(1)", "a(2)"]);
        assert_eq!(a.result().unwrap(), 3);
    }
}

/// D-20: where the callback that waits is the last of B, so that A is handed on to C itself.
#[test]
fn a_wait_that_is_handed_on_ends_with_the_innermost_result() {
    let calls = Calls::new();
    let (c, fire_c) = Deferred::pending();
    let (b, fire_b) = Deferred::pending();
    let (a, fire_a) = Deferred::pending();
    let c = c.map(calls.note("c", |n: i32| n + 1));
    let b = b.add_callback(move |()| c);
    let a = a.add_callback(move |()| b).map(calls.note("a", |n: i32| n));
    fire_a.callback(()).unwrap();
    fire_b.callback(()).unwrap();
    fire_c.callback(1).unwrap();
    assert_eq!(calls.take(), ["c(1)", "a(2)"]);
    assert_eq!(a.result().unwrap(), 2);
}

/// D-21.
#[test]
fn outer_callbacks_keep_their_order_after_those_of_the_inner_deferred() {
    let calls = Calls::new();
    let (inner, fire_inner) = Deferred::pending();
    let inner = inner.map(calls.note("inner", |n: i32| n));
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer
        .map(calls.note("first", |n: i32| n))
        .add_callback(move |_| inner)
        .map(calls.note("added before", |n: i32| n));
    fire_outer.callback(1).unwrap();
    let outer = outer.map(calls.note("added after", |n: i32| n));
    assert_eq!(calls.take(), ["first(1)"]);

    fire_inner.callback(2).unwrap();
    assert_eq!(
        calls.take(),
        ["inner(2)", "added before(2)", "added after(2)"]
    );
    assert_eq!(outer.result().unwrap(), 2);
}

/// D-22.
#[test]
fn a_failure_whose_errback_waits_for_ever_counts_as_handled() {
    let _guard = NoLostFailures::new();
    let (never, resolver) = Deferred::<i32>::pending();
    drop(Deferred::<i32>::fail(Oops("handled")).add_errback(move |_| never));
    std::mem::forget(resolver);
}

/// D-24.
#[test]
fn chain_deferred_fires_the_target_with_either_ending() {
    let _guard = NoLostFailures::new();
    let (copy, target) = Deferred::pending();
    let (source, resolver) = Deferred::pending();
    let rest = source.chain_deferred(target);
    resolver.callback(1).unwrap();
    assert_eq!(copy.result().unwrap(), 1);
    rest.result().unwrap();

    let (copy, target) = Deferred::<i32>::pending();
    let rest = Deferred::fail(Oops("no")).chain_deferred(target);
    assert_eq!(copy.result().unwrap_err().check(), Some(&Oops("no")));
    rest.result().unwrap();
}

/// D-24: a target that was cancelled first.
#[test]
fn a_cancelled_target_leaves_the_source_alone() {
    let guard = NoLostFailures::new();
    let (copy, target) = Deferred::<i32>::pending();
    let (source, resolver) = Deferred::pending();
    let rest = source.chain_deferred(target);
    copy.cancel();
    assert!(!rest.is_fired());
    drop(copy.add_errback(|_| Ok(0)));
    resolver.errback(Oops("after all")).unwrap();
    rest.result().unwrap();
    // The target cannot own it any more.
    assert_eq!(guard.flush().len(), 1);
}

/// D-24: a target that its own canceller fired first.
#[test]
fn a_fired_target_leaves_the_source_alone() {
    let (copy, target) = Deferred::with_canceller(|lent: Resolver<i32>| lent.callback(1).unwrap());
    let (source, resolver) = Deferred::pending();
    let rest = source.chain_deferred(target);
    copy.cancel();
    assert!(!rest.is_fired());
    resolver.callback(2).unwrap();
    rest.result().unwrap();
    assert_eq!(copy.result().unwrap(), 1);
}

/// D-24: cancelling a copy by cancelling its source, which is what a canceller is for.
#[test]
fn a_target_whose_canceller_cancels_the_source_gets_what_the_source_ends_with() {
    let _guard = NoLostFailures::new();
    let (source, _resolver) =
        Deferred::with_canceller(|lent: Resolver<&str>| lent.callback("partial").unwrap());
    let canceller = source.canceller();
    let (copy, target) = Deferred::with_canceller(move |_| canceller.cancel());
    let rest = source.chain_deferred(target);
    copy.cancel();
    assert_eq!(copy.result().unwrap(), "partial");
    rest.result().unwrap();
}

/// A Deferred can get into the hands of its own callback, and be returned from it. Nobody can fire
/// that wait, so it has to fail.
#[test]
fn a_callback_that_returns_its_own_deferred_fails_the_chain() {
    let own = Rc::new(RefCell::new(None::<Deferred<i32>>));
    let take = own.clone();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred.add_callback(move |_: i32| take.take().unwrap());
    let canceller = deferred.canceller();
    *own.borrow_mut() = Some(deferred);

    let lost_before = deferred::unhandled_failures();
    resolver.callback(1).unwrap();
    canceller.cancel(); // must come back
    assert_eq!(deferred::unhandled_failures(), lost_before + 1);
}

/// A longer ring is not seen when it closes; a cancel must not go round in it for ever.
#[test]
fn cancelling_deferreds_that_wait_for_each_other_comes_back() {
    let end_of_a = Rc::new(RefCell::new(None::<Deferred<i32>>));
    let take = end_of_a.clone();
    let (b, fire_b) = Deferred::pending();
    let b = b
        .add_callback(move |_: i32| take.take().unwrap())
        .map(|n| n);
    let (a, fire_a) = Deferred::pending();
    let a = a.add_callback(move |_: i32| b);
    let canceller = a.canceller();
    *end_of_a.borrow_mut() = Some(a);
    fire_a.callback(1).unwrap();
    fire_b.callback(1).unwrap();
    canceller.cancel();
}
