//! A result is decided once, and debugging tells by whom.
//!
//! A resolver is consumed by firing, so a second fire does not compile (`Resolver` has the
//! example). What is left are the two resolvers of a Deferred that is being cancelled.

mod support;

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::rc::Rc;

use deferred_reactor::deferred::set_debugging;
use deferred_reactor::{AlreadyCalledError, Deferred, Failure, NoLostFailures, Resolver};
use support::Oops;

fn value(n: i32) -> Result<i32, Failure> {
    Ok(n)
}

fn failure(text: &'static str) -> Result<i32, Failure> {
    Err(Oops(text).into())
}

fn shown(result: &Result<i32, Failure>) -> String {
    format!("{result:?}")
}

/// D-14: the canceller fires first, the owner of the resolver second.
#[test]
fn the_second_fire_is_refused_and_changes_nothing() {
    type Make = fn() -> Result<i32, Failure>;
    let endings: [Make; 2] = [|| value(1), || failure("one")];
    for first in endings {
        for second in [|| value(2), || failure("two")] as [Make; 2] {
            let (deferred, resolver) = Deferred::with_canceller(move |lent: Resolver<i32>| {
                lent.fire(first()).unwrap();
            });
            deferred.cancel();
            assert!(resolver.fire(second()).is_err());
            assert_eq!(shown(&deferred.result()), shown(&first()));
        }
    }
}

/// D-14: the owner of the resolver fires from within the canceller, and the lent one comes second.
#[test]
fn the_lent_resolver_is_refused_once_the_owner_has_fired() {
    let owner = Rc::new(RefCell::new(None::<Resolver<i32>>));
    let lent = Rc::new(RefCell::new(None::<Resolver<i32>>));
    let (taken, keep) = (owner.clone(), lent.clone());
    let (deferred, resolver) = Deferred::with_canceller(move |lent| {
        taken.take().unwrap().callback(1).unwrap();
        *keep.borrow_mut() = Some(lent);
    });
    *owner.borrow_mut() = Some(resolver);
    deferred.cancel();
    let lent = lent.take().unwrap();
    assert!(!lent.is_pending());
    assert!(lent.callback(2).is_err());
    assert_eq!(deferred.result().unwrap(), 1);
}

/// D-14: a lent resolver that is kept for later comes too late.
#[test]
fn the_lent_resolver_is_refused_once_the_canceller_has_returned() {
    let kept = Rc::new(RefCell::new(None::<Resolver<i32>>));
    let keep = kept.clone();
    let (deferred, _resolver) = Deferred::with_canceller(move |lent| {
        *keep.borrow_mut() = Some(lent);
    });
    deferred.cancel();
    let lent = kept.take().unwrap();
    assert!(!lent.is_pending());
    assert!(lent.callback(1).is_err());
    assert!(deferred.result().is_err());
}

/// D-14: until it has fired, both resolvers of a Deferred that is being cancelled say so.
#[test]
fn a_resolver_is_pending_while_the_canceller_runs() {
    let seen = Rc::new(Cell::new((false, false)));
    let owner = Rc::new(RefCell::new(None::<Resolver<i32>>));
    let (look, other) = (seen.clone(), owner.clone());
    let (deferred, resolver) = Deferred::with_canceller(move |lent| {
        let other = other.borrow();
        look.set((lent.is_pending(), other.as_ref().unwrap().is_pending()));
    });
    *owner.borrow_mut() = Some(resolver);
    deferred.cancel();
    assert_eq!(seen.get(), (true, true));
    assert!(!owner.take().unwrap().is_pending());
}

/// A Deferred with a canceller, cancelled; the line where it was made, the line where it was
/// cancelled, and the error of the fire that came too late.
fn fire_too_late() -> (u32, u32, AlreadyCalledError) {
    let (deferred, resolver) = Deferred::<i32>::with_canceller(drop);
    let made_on = line!() - 1;
    deferred.cancel();
    let cancelled_on = line!() - 1;
    drop(deferred.result());
    let refused = resolver.callback(1).expect_err("it was cancelled");
    (made_on, cancelled_on, refused)
}

/// D-15.
#[test]
fn debugging_tells_where_the_deferred_was_made_and_first_fired() {
    set_debugging(true);
    let (made_on, fired_on, error) = fire_too_late();
    let line = |location: Option<&'static Location<'static>>| {
        let location = location.unwrap();
        assert_eq!(location.file(), file!());
        location.line()
    };
    assert_eq!(line(error.made()), made_on);
    assert_eq!(line(error.first_fired()), fired_on);
    let text = error.to_string();
    assert!(
        text.contains(&format!("made at {}:{made_on}:", file!())),
        "{text}"
    );
    assert!(
        text.contains(&format!("first fired at {}:{fired_on}:", file!())),
        "{text}"
    );
}

/// D-15.
#[test]
fn without_debugging_the_error_names_no_lines() {
    let (_, _, error) = fire_too_late();
    assert_eq!((error.made(), error.first_fired()), (None, None));
    assert_eq!(error.to_string(), "the Deferred has a result already");
}

/// D-15: with debugging on, an unhandled failure tells where its Deferred was fired; the lines of
/// its making, its failing and its dropping are always told (`unhandled_failures.rs`).
#[test]
fn debugging_tells_where_an_unhandled_failure_was_fired() {
    for debugging in [false, true] {
        set_debugging(debugging);
        let guard = NoLostFailures::new();

        let (dropped_first, resolver) = Deferred::<i32>::pending();
        drop(dropped_first);
        resolver.errback(Oops("lost")).unwrap();
        let fired_first_on = line!() - 1;

        let (fired_first, resolver) = Deferred::<i32>::pending();
        resolver.errback(Oops("lost")).unwrap();
        let fired_second_on = line!() - 1;
        drop(fired_first);

        let (added_later, resolver) = Deferred::<i32>::pending();
        resolver.errback(Oops("lost")).unwrap();
        let fired_third_on = line!() - 1;
        drop(added_later.map(|n| n + 1));

        let (chained, target) = Deferred::<i32>::pending();
        drop(chained);
        Deferred::<i32>::fail(Oops("lost")).chain_deferred(target);
        let fired_fourth_on = line!() - 1;

        let lines: Vec<_> = guard
            .flush()
            .iter()
            .map(|report| {
                report.fired.map(|at| {
                    assert_eq!(at.file(), file!());
                    at.line()
                })
            })
            .collect();
        let want = [
            fired_first_on,
            fired_second_on,
            fired_third_on,
            fired_fourth_on,
        ]
        .map(|line| debugging.then_some(line));
        assert_eq!(lines, want, "debugging {debugging}");
    }
}
