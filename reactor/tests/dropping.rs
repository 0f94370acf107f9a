//! Whatever a Deferred holds is dropped as soon as it can no longer be used, and a `Drop` that does
//! surprising things does not lose anybody else's result.

mod support;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use deferred_reactor::{
    AbandonedError, Canceller, Deferred, Failure, NoLostFailures, PanicError, Resolver,
};
use support::{Bomb, Calls, IsDropped, Oops, keep_log, logged, tracked};

/// A Deferred with one callback and one errback, and whether their captures have been dropped.
fn with_both() -> (Deferred<i32>, Resolver<i32>, [IsDropped; 2]) {
    let ((callback, callback_dropped), (errback, errback_dropped)) = (tracked(), tracked());
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred.add_callbacks(
        move |n: i32| {
            drop(callback);
            Ok(n)
        },
        move |failure| {
            drop(errback);
            Err(failure)
        },
    );
    (deferred, resolver, [callback_dropped, errback_dropped])
}

/// The callback that ran and the errback that did not, while the Deferred is still held.
#[test]
fn closures_are_dropped_when_their_turn_has_come() {
    type End = fn(&Deferred<i32>, Resolver<i32>);
    let ends: [End; 4] = [
        |_, resolver| resolver.callback(1).unwrap(),
        |_, resolver| resolver.errback(Oops("no")).unwrap(),
        |_, resolver| drop(resolver),
        |deferred, _resolver| deferred.cancel(),
    ];
    for end in ends {
        let (deferred, resolver, dropped) = with_both();
        assert!(dropped.iter().all(|dropped| !dropped.get()));
        end(&deferred, resolver);
        assert!(dropped.iter().all(IsDropped::get));
        drop(deferred.result());
    }
}

/// The callbacks before the one that waits are gone, those after it are kept.
#[test]
fn a_chain_that_waits_keeps_only_what_is_still_to_run() {
    let ((first, first_dropped), (waits, waits_dropped), (last, last_dropped)) =
        (tracked(), tracked(), tracked());
    let (inner, fire_inner) = Deferred::pending();
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer
        .map(move |()| drop(first))
        .add_callback(move |()| {
            drop(waits);
            inner
        })
        .map(move |()| drop(last));
    fire_outer.callback(()).unwrap();
    assert!(first_dropped.get() && waits_dropped.get() && !last_dropped.get());
    fire_inner.callback(()).unwrap();
    assert!(last_dropped.get());
    outer.result().unwrap();
}

/// A value nobody takes goes when the last one who could take it has gone.
#[test]
fn a_value_is_dropped_with_the_handle_or_when_there_is_none() {
    let ((held, held_dropped), (unheard, unheard_dropped)) = (tracked(), tracked());
    let (deferred, resolver) = Deferred::pending();
    resolver.callback(held).unwrap();
    assert!(!held_dropped.get());
    drop(deferred);
    assert!(held_dropped.get());

    let (deferred, resolver) = Deferred::pending();
    drop(deferred);
    resolver.callback(unheard).unwrap();
    assert!(unheard_dropped.get());
}

/// A value that is late is dropped at once, and does not wait in the cancelled Deferred.
#[test]
fn a_late_value_is_dropped_at_once() {
    let ((ignored, ignored_dropped), (refused, refused_dropped)) = (tracked(), tracked());
    let (without, resolver) = Deferred::pending();
    without.cancel();
    resolver.callback(ignored).unwrap();
    assert!(ignored_dropped.get());

    let (with, resolver) = Deferred::with_canceller(drop);
    with.cancel();
    assert!(resolver.callback(refused).is_err());
    assert!(refused_dropped.get());
    drop((without.result(), with.result()));
}

/// A canceller has had its time once the Deferred has fired, or has been abandoned.
#[test]
fn a_canceller_is_dropped_when_the_deferred_fires() {
    for fires in [true, false] {
        for is_held in [true, false] {
            let (witness, is_dropped) = tracked();
            let (deferred, resolver) = Deferred::with_canceller(move |_| drop(witness));
            let handle = Some(deferred).filter(|_| is_held);
            assert!(!is_dropped.get());
            if fires {
                resolver.callback(1).unwrap();
            } else {
                drop(resolver);
            }
            assert!(is_dropped.get(), "fires {fires}, held {is_held}");
            drop(handle.map(Deferred::result));
        }
    }
}

/// Handles for cancelling and pausing keep a value no longer than the Deferred itself.
#[test]
fn cancellers_and_pausers_keep_no_value_alive() {
    let (value, is_dropped) = tracked();
    let (mut deferred, resolver) = Deferred::pending();
    let (_canceller, _pauser) = (deferred.canceller(), deferred.pauser());
    let deferred = deferred.map(|value| value);
    resolver.callback(value).unwrap();
    drop(deferred);
    assert!(is_dropped.get());
}

/// A callback that owns a handle of its own chain is no cycle once it has run.
#[test]
fn a_callback_that_holds_its_own_canceller_and_pauser_leaves_nothing_behind() {
    let (witness, is_dropped) = tracked();
    let (mut deferred, resolver) = Deferred::pending();
    let own = (deferred.canceller(), deferred.pauser());
    let deferred = deferred.map(move |()| drop((own, witness)));
    drop(deferred);
    drop(resolver.callback(()));
    assert!(is_dropped.get());
}

/// Runs a function when it is dropped.
struct OnDrop(Option<Box<dyn FnOnce()>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(function) = self.0.take() {
            function();
        }
    }
}

fn on_drop(function: impl FnOnce() + 'static) -> OnDrop {
    OnDrop(Some(Box::new(function)))
}

/// What a skipped errback had captured may cancel, fire and drop whatever it likes.
#[test]
fn a_drop_in_a_closure_may_use_its_own_chain() {
    let own = Rc::new(RefCell::new((Canceller::default(), None::<Deferred<i32>>)));
    let calls = Calls::new();
    let (other, fire_other) = Deferred::pending();
    let _other = other.map(calls.note("other", |n: i32| n));
    let inside = own.clone();
    let surprise = on_drop(move || {
        let (canceller, handle) = inside.take();
        canceller.cancel();
        fire_other.callback(1).unwrap();
        drop(handle);
    });
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_errback(move |failure| {
            drop(surprise);
            Err(failure)
        })
        .map(calls.note("own", |n: i32| n));
    *own.borrow_mut() = (deferred.canceller(), Some(deferred));
    resolver.callback(2).unwrap();
    assert_eq!(calls.take(), ["other(1)", "own(2)"]);
}

/// The captures of a canceller go when the Deferred fires; their `Drop` cannot undo that.
#[test]
fn a_drop_in_a_canceller_may_cancel_its_own_deferred() {
    let own = Rc::new(RefCell::new(Canceller::default()));
    let inside = own.clone();
    let surprise = on_drop(move || inside.borrow().cancel());
    let (deferred, resolver) = Deferred::with_canceller(move |_| drop(surprise));
    *own.borrow_mut() = deferred.canceller();
    resolver.callback(1).unwrap();
    assert_eq!(deferred.result().unwrap(), 1);
}

/// A value may take its time to say goodbye, and fire others then.
#[test]
fn a_value_that_fires_another_deferred_when_dropped() {
    let (other, fire_other) = Deferred::pending();
    let (deferred, resolver) = Deferred::pending();
    drop(deferred);
    resolver
        .callback(on_drop(move || fire_other.callback(1).unwrap()))
        .unwrap();
    assert_eq!(other.result().unwrap(), 1);
}

/// A panic in the `Drop` of what a callback holds is a panic in the callback.
#[test]
fn a_panic_in_the_drop_of_a_callback_is_a_failure_of_the_chain() {
    for runs in [true, false] {
        let (deferred, resolver) = Deferred::<i32>::pending();
        let bomb = Bomb;
        let deferred = deferred.add_callback(move |n| {
            drop(bomb);
            Ok(n)
        });
        if runs {
            resolver.callback(1).unwrap();
        } else {
            resolver.errback(Oops("skips it")).unwrap();
        }
        let failure = deferred.result().unwrap_err();
        assert_eq!(failure.check::<PanicError>().unwrap().message, "boom");
    }
}

/// A panic in the `Drop` of a canceller costs nobody the result.
#[test]
fn a_panic_in_the_drop_of_a_canceller_is_logged_and_the_chain_runs() {
    keep_log();
    let calls = Calls::new();
    let bomb = Bomb;
    let (deferred, resolver) = Deferred::with_canceller(move |_| drop(bomb));
    let deferred = deferred.map(calls.note("callback", |n: i32| n));
    resolver.callback(1).unwrap();
    assert_eq!(calls.take(), ["callback(1)"]);
    assert_eq!(deferred.result().unwrap(), 1);
    assert_eq!(logged().len(), 1);
}

/// A panic whose payload panics in turn when it is dropped stops there as well.
#[test]
fn a_panic_payload_that_panics_when_dropped_goes_no_further() {
    let (deferred, resolver) = Deferred::<()>::pending();
    let deferred = deferred.map(|()| std::panic::panic_any(Bomb));
    let fired = catch_unwind(AssertUnwindSafe(|| resolver.callback(())));
    assert!(fired.is_ok(), "the panic came out of the firing call");
    assert!(deferred.result().unwrap_err().is::<PanicError>());
}

/// A thread that unwinds drops resolvers; the chains run then, and may panic themselves.
#[test]
fn a_resolver_dropped_by_a_panic_abandons_its_deferred() {
    let guard = NoLostFailures::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    let deferred = deferred.add_errback(|failure| -> Result<(), Failure> {
        panic!("while unwinding: {}", failure.is::<AbandonedError>())
    });
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _resolver = resolver;
        panic!("first");
    }));
    assert!(unwound.is_err());
    let panic = deferred.result().unwrap_err().trap::<PanicError>().unwrap();
    assert_eq!(panic.message, "while unwinding: true");
    assert!(guard.flush().is_empty());
}

/// Where there is nothing to store, all works the same.
#[test]
fn zero_sized_values_and_closures_work_the_same() {
    #[derive(Debug, PartialEq)]
    struct Nothing;
    let (deferred, resolver) = Deferred::<Nothing>::pending();
    let deferred = deferred
        .map(|nothing| nothing)
        .add_callback(|_| Deferred::succeed(()))
        .add_both(|result| result)
        .map(|()| Nothing);
    resolver.callback(Nothing).unwrap();
    assert_eq!(deferred.result().unwrap(), Nothing);
}

/// Both ends, gone in either order, take everything along.
#[test]
fn both_ends_gone_leave_nothing_behind() {
    for handle_first in [true, false] {
        let _guard = NoLostFailures::new();
        let token = Rc::new(());
        let (deferred, resolver) = Deferred::<Rc<()>>::with_canceller({
            let token = token.clone();
            move |_| drop(token)
        });
        let (deferred, inner) = (deferred, Deferred::succeed(token.clone()));
        let captured = token.clone();
        let deferred = deferred
            .add_callback(move |_| inner)
            .add_errback(move |_| Ok(captured));
        if handle_first {
            drop(deferred);
            drop(resolver);
        } else {
            drop(resolver);
            drop(deferred);
        }
        assert_eq!(Rc::strong_count(&token), 1);
    }
}
