//! Cancelling ends a Deferred at once, by its canceller's choice or with `CancelledError`.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use deferred_reactor::{CancelledError, Canceller, Deferred, NoLostFailures, Resolver};
use support::{Calls, Oops, keep_log, logged};

fn is_cancelled<T>(deferred: Deferred<T>) -> bool {
    deferred
        .result()
        .is_err_and(|failure| failure.is::<CancelledError>())
}

/// A Deferred whose canceller only counts its calls.
fn counting() -> (Deferred<i32>, Resolver<i32>, Rc<Cell<u32>>) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let (deferred, resolver) = Deferred::with_canceller(move |_| counted.set(counted.get() + 1));
    (deferred, resolver, count)
}

/// D-27.
#[test]
fn without_a_canceller_it_fails_with_cancelled_error() {
    let calls = Calls::new();
    let (deferred, _resolver) = Deferred::<i32>::pending();
    let deferred = deferred.add_errback(calls.note("errback", Err));
    deferred.cancel();
    assert_eq!(calls.take(), ["errback(cancelled)"]);
    assert!(is_cancelled(deferred));
}

/// D-28.
#[test]
fn one_late_firing_is_accepted_and_ignored() {
    let _guard = NoLostFailures::new();
    for late in [Ok(1), Err(Oops("late").into())] {
        let (deferred, resolver) = Deferred::<i32>::pending();
        deferred.cancel();
        assert!(!resolver.is_pending());
        resolver.fire(late).unwrap();
        assert!(is_cancelled(deferred));
    }
}

/// D-28: dropping the resolver late is as good.
#[test]
fn a_resolver_dropped_after_the_cancel_changes_nothing() {
    let (deferred, resolver) = Deferred::<i32>::pending();
    deferred.cancel();
    drop(resolver);
    assert!(is_cancelled(deferred));
}

/// D-29.
#[test]
fn a_canceller_that_does_not_fire_leaves_cancelled_error_and_refuses_a_later_fire() {
    let (deferred, resolver, count) = counting();
    deferred.cancel();
    assert_eq!(count.get(), 1);
    assert!(resolver.callback(1).is_err());
    assert!(is_cancelled(deferred));
}

/// D-30.
#[test]
fn a_canceller_may_fail_its_deferred_with_an_error_of_its_own() {
    let (deferred, resolver) = Deferred::<i32>::with_canceller(|lent: Resolver<i32>| {
        lent.errback(Oops("stopped")).unwrap();
    });
    deferred.cancel();
    assert_eq!(
        deferred.result().unwrap_err().check(),
        Some(&Oops("stopped"))
    );
    assert!(resolver.callback(1).is_err());
}

/// D-31.
#[test]
fn a_canceller_may_fire_a_value() {
    let calls = Calls::new();
    let (deferred, _resolver) = Deferred::with_canceller(|lent: Resolver<i32>| {
        lent.callback(3).unwrap();
    });
    let deferred = deferred.map(calls.note("callback", |n: i32| n + 1));
    deferred.cancel();
    assert_eq!(calls.take(), ["callback(3)"]);
    assert_eq!(deferred.result().unwrap(), 4);
}

/// D-32.
#[test]
fn further_cancels_change_nothing() {
    let calls = Calls::new();
    let (deferred, _resolver, count) = counting();
    let canceller = deferred.canceller();
    let deferred = deferred.add_errback(calls.note("errback", |_| Ok(1)));
    for _ in 0..3 {
        deferred.cancel();
        canceller.cancel();
    }
    assert_eq!(count.get(), 1);
    assert_eq!(calls.take(), ["errback(cancelled)"]);
    assert_eq!(deferred.result().unwrap(), 1);

    let (deferred, _resolver) = Deferred::<i32>::pending();
    let deferred = deferred.add_errback(calls.note("errback", |_| Ok(2)));
    deferred.cancel();
    deferred.cancel();
    assert_eq!(calls.take(), ["errback(cancelled)"]);
}

/// D-32: also from within the canceller.
#[test]
fn a_canceller_that_cancels_its_own_deferred_runs_once() {
    let own = Rc::new(RefCell::new(Canceller::default()));
    let calls = Calls::new();
    let (inside, again) = (calls.clone(), own.clone());
    let (deferred, _resolver) = Deferred::<i32>::with_canceller(move |_| {
        inside.push("canceller");
        again.borrow().cancel();
    });
    *own.borrow_mut() = deferred.canceller();
    deferred.cancel();
    assert_eq!(calls.take(), ["canceller"]);
    assert!(is_cancelled(deferred));
}

/// D-33.
#[test]
fn a_deferred_that_has_fired_cannot_be_cancelled() {
    for ending in [Ok(1), Err(Oops("no").into())] {
        let (deferred, resolver, count) = counting();
        let want = format!("{ending:?}");
        resolver.fire(ending).unwrap();
        deferred.cancel();
        assert_eq!(count.get(), 0);
        assert_eq!(format!("{:?}", deferred.result()), want);
    }
}

/// D-33.
#[test]
fn a_callback_that_cancels_its_own_deferred_changes_nothing() {
    let (deferred, resolver, count) = counting();
    let canceller = deferred.canceller();
    let deferred = deferred
        .map(move |n| {
            canceller.cancel();
            n + 1
        })
        .map(|n| n + 1);
    resolver.callback(1).unwrap();
    assert_eq!(count.get(), 0);
    assert_eq!(deferred.result().unwrap(), 3);
}

/// D-34.
#[test]
fn cancelling_a_deferred_that_waits_cancels_what_it_waits_for() {
    let (inner, _inner_resolver, inner_count) = counting();
    let (outer, resolver, outer_count) = counting();
    let outer = outer.add_callback(move |_| inner);
    resolver.callback(1).unwrap();
    outer.cancel();
    assert_eq!((inner_count.get(), outer_count.get()), (1, 0));
    assert!(is_cancelled(outer));
}

/// D-34: three deep, in the two orders in which the waits can begin, and both where the callbacks
/// that wait are the last of their chains (the wait is then handed on) and where they are not.
#[test]
fn a_cancel_reaches_the_innermost_deferred() {
    for is_handed_on in [true, false] {
        for outer_first in [true, false] {
            let more = |d: Deferred<i32>| if is_handed_on { d } else { d.map(|n| n) };
            let (c, _fire_c, c_count) = counting();
            let (b, fire_b, b_count) = counting();
            let (a, fire_a, a_count) = counting();
            let b = more(b.add_callback(move |_| c));
            let a = more(a.add_callback(move |_| b));
            let (first, second) = if outer_first {
                (fire_a, fire_b)
            } else {
                (fire_b, fire_a)
            };
            first.callback(0).unwrap();
            second.callback(0).unwrap();
            a.cancel();
            let counts = (a_count.get(), b_count.get(), c_count.get());
            assert_eq!(counts, (0, 0, 1), "{is_handed_on} {outer_first}");
            assert!(is_cancelled(a));
        }
    }
}

/// D-34: a loop hands its wait on from round to round; a cancel finds the present one.
#[test]
fn a_cancel_finds_the_round_that_a_loop_is_in() {
    type Rounds = Rc<RefCell<Vec<Resolver<()>>>>;
    fn round(rounds: Rounds) -> Deferred<()> {
        let (deferred, resolver) = Deferred::pending();
        rounds.borrow_mut().push(resolver);
        deferred.add_callback(move |()| round(rounds))
    }
    for is_nested in [false, true] {
        let rounds = Rounds::default();
        let mut looping = round(rounds.clone());
        if is_nested {
            let inner = looping;
            looping = Deferred::succeed(())
                .add_callback(move |()| inner)
                .map(|()| ());
        }
        for n in 0..5 {
            let resolver = rounds.borrow_mut().remove(0);
            resolver.callback(()).unwrap();
            assert_eq!(rounds.borrow().len(), 1, "round {n}");
        }
        looping.cancel();
        assert!(!rounds.borrow()[0].is_pending());
        assert!(is_cancelled(looping));
    }
}

/// D-34: the canceller of a Deferred works as long as that has not ended, also after its wait was
/// handed on to the chain that waits for it.
#[test]
fn the_canceller_of_an_inner_deferred_works_until_that_has_ended() {
    let (c, _fire_c, c_count) = counting();
    let (b, fire_b) = Deferred::pending();
    let b = b.add_callback(move |()| c);
    let canceller = b.canceller();
    let (a, fire_a) = Deferred::pending();
    let a = a.add_callback(move |()| b);
    fire_a.callback(()).unwrap();
    fire_b.callback(()).unwrap();

    canceller.cancel();
    assert_eq!(c_count.get(), 1);
    assert!(is_cancelled(a));
}

/// D-34: and not longer.
#[test]
fn the_canceller_of_an_inner_deferred_leaves_the_rest_of_the_outer_chain_alone() {
    let (later, _fire_later, count) = counting();
    let (inner, fire_inner) = Deferred::pending();
    let canceller = inner.canceller();
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer
        .add_callback(move |()| inner)
        .add_callback(move |()| later);
    fire_outer.callback(()).unwrap();
    fire_inner.callback(()).unwrap();
    canceller.cancel();
    assert_eq!(count.get(), 0);
    assert!(!outer.is_fired());
}

/// D-35.
#[test]
fn an_inner_canceller_that_fires_a_value_lets_the_outer_chain_succeed() {
    let (inner, _resolver) =
        Deferred::with_canceller(|lent: Resolver<i32>| lent.callback(7).unwrap());
    let (outer, resolver) = Deferred::pending();
    let outer = outer.add_callback(move |()| inner).map(|n| n + 1);
    resolver.callback(()).unwrap();
    outer.cancel();
    assert_eq!(outer.result().unwrap(), 8);
}

/// D-36.
#[test]
fn a_canceller_that_panics_is_logged_and_the_deferred_is_cancelled() {
    keep_log();
    let (deferred, resolver) = Deferred::<i32>::with_canceller(|_| panic!("cannot let go"));
    let made_on = line!() - 1;
    deferred.cancel();
    let want = format!(
        "ERROR deferred: the canceller of the Deferred made at {}:{made_on}:",
        file!()
    );
    let log = logged();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with(&want), "{log:?}");
    assert!(log[0].ends_with("panicked: cannot let go"), "{log:?}");
    assert!(resolver.callback(1).is_err());
    assert!(is_cancelled(deferred));
}

/// D-36: what it had fired before stands.
#[test]
fn a_canceller_that_panics_after_firing_keeps_its_result() {
    keep_log();
    let (deferred, _resolver) = Deferred::with_canceller(|lent: Resolver<i32>| {
        lent.callback(1).unwrap();
        panic!("afterwards");
    });
    deferred.cancel();
    assert_eq!(logged().len(), 1);
    assert_eq!(deferred.result().unwrap(), 1);
}

/// The owner may drop its resolver when the canceller tells it to stop: that is no abandoning.
#[test]
fn a_canceller_that_drops_the_owners_resolver_leaves_cancelled_error() {
    let owner = Rc::new(RefCell::new(None::<Resolver<i32>>));
    let stop = owner.clone();
    let (deferred, resolver) = Deferred::with_canceller(move |_| drop(stop.take()));
    *owner.borrow_mut() = Some(resolver);
    deferred.cancel();
    assert!(is_cancelled(deferred));
}

#[test]
fn a_canceller_that_fires_the_owners_resolver_decides_the_result() {
    let owner = Rc::new(RefCell::new(None::<Resolver<i32>>));
    let stop = owner.clone();
    let (deferred, resolver) = Deferred::with_canceller(move |_| {
        stop.take().unwrap().callback(9).unwrap();
    });
    *owner.borrow_mut() = Some(resolver);
    deferred.cancel();
    assert_eq!(deferred.result().unwrap(), 9);
}

/// The canceller takes away the handle that is being cancelled through.
#[test]
fn a_canceller_may_drop_the_handle() {
    let guard = NoLostFailures::new();
    let handle = Rc::new(RefCell::new(None::<Deferred<i32>>));
    let own = handle.clone();
    let (deferred, _resolver) = Deferred::with_canceller(move |_| drop(own.take()));
    let canceller = deferred.canceller();
    *handle.borrow_mut() = Some(deferred);
    canceller.cancel();
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].failure.is::<CancelledError>());
}

/// A cancel while the inner chain is running comes too late for it.
#[test]
fn a_callback_of_the_inner_deferred_that_cancels_the_outer_one_changes_nothing() {
    let outer_canceller = Rc::new(RefCell::new(Canceller::default()));
    let cancel = outer_canceller.clone();
    let (inner, fire_inner) = Deferred::pending();
    let inner = inner.map(move |n: i32| {
        cancel.borrow().cancel();
        n + 1
    });
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer.add_callback(move |()| inner);
    *outer_canceller.borrow_mut() = outer.canceller();
    fire_outer.callback(()).unwrap();
    fire_inner.callback(1).unwrap();
    assert_eq!(outer.result().unwrap(), 2);
}

/// A canceller handle keeps nothing alive and is harmless once all is over.
#[test]
fn a_canceller_that_outlives_its_deferred_does_nothing() {
    let (deferred, resolver, count) = counting();
    let canceller = deferred.canceller();
    drop(deferred);
    resolver.callback(1).unwrap();
    canceller.cancel();
    assert_eq!(count.get(), 0);
    Deferred::succeed(1).canceller().cancel();
}
