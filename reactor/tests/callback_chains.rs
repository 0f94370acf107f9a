//! Callbacks run at once and in order, and each gets what the one before it ended with.

mod support;

use std::cell::RefCell;
use std::rc::Rc;

use deferred_reactor::{AbandonedError, Deferred, Failure, NoLostFailures, PanicError};
use support::{Calls, Oops};

/// D-01.
#[test]
fn each_callback_gets_what_the_one_before_returned() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_callback(calls.note("A", |n: i32| Ok(n + 1)))
        .add_callback(calls.note("B", |n: i32| Ok(n.to_string())));
    assert!(calls.take().is_empty());

    resolver.callback(1).unwrap();
    assert_eq!(calls.take(), ["A(1)", "B(2)"]);
    assert_eq!(deferred.result().unwrap(), "2");
}

/// D-02: however the Deferred came to its result.
#[test]
fn a_callback_added_to_a_fired_deferred_runs_before_the_adding_call_returns() {
    let (by_hand, resolver) = Deferred::pending();
    resolver.callback(1).unwrap();
    for fired in [by_hand, Deferred::succeed(1)] {
        let calls = Calls::new();
        let fired = fired.add_callback(calls.note("callback", |n: i32| Ok(n)));
        assert_eq!(calls.take(), ["callback(1)"]);
        let fired = fired.add_errback(calls.note("errback", |_| Ok(0)));
        assert!(calls.take().is_empty());
        assert_eq!(fired.result().unwrap(), 1);
    }
}

/// D-02: the same for a failure.
#[test]
fn an_errback_added_to_a_failed_deferred_runs_before_the_adding_call_returns() {
    let (by_hand, resolver) = Deferred::pending();
    resolver.errback(Oops("no")).unwrap();
    for failed in [by_hand, Deferred::fail(Oops("no"))] {
        let calls = Calls::new();
        let failed = failed.add_callback(calls.note("callback", |n: i32| Ok(n)));
        assert!(calls.take().is_empty());
        let failed = failed.add_errback(calls.note("errback", |_| Ok(0)));
        assert_eq!(calls.take(), ["errback(no)"]);
        assert_eq!(failed.result().unwrap(), 0);
    }
}

/// D-03.
#[test]
fn firing_returns_after_all_callbacks_have_run() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let mut deferred = deferred;
    for _ in 0..3 {
        deferred = deferred.map(calls.note("callback", |n: i32| n + 1));
    }
    resolver.callback(0).unwrap();
    calls.push("fired");
    assert_eq!(
        calls.take(),
        ["callback(0)", "callback(1)", "callback(2)", "fired"]
    );
    assert_eq!(deferred.result().unwrap(), 3);
}

/// D-04.
#[test]
fn a_value_passes_errbacks_untouched() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_errback(calls.note("errback", |_| Ok(0)))
        .add_callback(calls.note("callback", |n: i32| Ok(n * 2)))
        .add_errback(calls.note("errback", |_| Ok(0)))
        .map(calls.note("map", |n: i32| n + 1));
    resolver.callback(20).unwrap();
    assert_eq!(calls.take(), ["callback(20)", "map(40)"]);
    assert_eq!(deferred.result().unwrap(), 41);
}

/// D-05.
#[test]
fn a_failure_passes_callbacks_up_to_the_first_errback() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_callback(calls.note("callback", |n: i32| Ok(n)))
        .map(calls.note("map", |n: i32| n))
        .add_errback(|failure| Ok(failure.trap::<Oops>()?.0.len() as i32));
    resolver.errback(Oops("four")).unwrap();
    assert!(calls.take().is_empty());
    assert_eq!(deferred.result().unwrap(), 4);
}

/// D-06.
#[test]
fn an_error_from_a_callback_goes_to_the_next_errback() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_callback(|n: i32| Err::<i32, _>(Failure::new(Oops(if n == 1 { "one" } else { "?" }))))
        .add_callback(calls.note("skipped", |n: i32| Ok(n)))
        .add_errback(|failure| match failure.trap::<Oops>()? {
            Oops("one") => Ok(100),
            other => Err(other.into()),
        });
    resolver.callback(1).unwrap();
    assert!(calls.take().is_empty());
    assert_eq!(deferred.result().unwrap(), 100);
}

/// D-06: with the `?` operator, any error will do.
#[test]
fn question_mark_in_a_callback_fails_the_chain() {
    let number = Deferred::succeed("seven").add_callback(|text| Ok(text.parse::<i32>()?));
    let failure = number.result().unwrap_err();
    assert!(failure.is::<std::num::ParseIntError>());
}

/// D-07: in each kind of callback, and however the panic was worded.
#[test]
fn a_panic_becomes_a_failure_with_its_text() {
    type Chain = fn(Deferred<i32>) -> Deferred<i32>;
    let chains: [(&str, Chain); 5] = [
        ("in callback 1", |d| {
            d.add_callback(|n| -> Result<i32, Failure> { panic!("in callback {n}") })
        }),
        ("in map", |d| d.map(|_| panic!("in map"))),
        ("in both", |d| {
            d.add_both(|_| -> Result<i32, Failure> { panic!("in both") })
        }),
        ("in errback", |d| {
            d.add_callback(|_| Err(Oops("on to the errback").into()))
                .add_errback(|_| -> Result<i32, Failure> { panic!("in errback") })
        }),
        ("a panic whose payload is not text", |d| {
            d.map(|_| std::panic::panic_any(42))
        }),
    ];
    for (text, chain) in chains {
        let (deferred, resolver) = Deferred::pending();
        let deferred = chain(deferred);
        resolver.callback(1).unwrap();
        let panic = deferred.result().unwrap_err().trap::<PanicError>().unwrap();
        assert_eq!(panic.message, text);

        let panic = chain(Deferred::succeed(1)).result().unwrap_err();
        assert_eq!(panic.check::<PanicError>().unwrap().message, text);
    }
}

/// D-08.
#[test]
fn an_errback_that_returns_a_value_recovers_the_chain() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_errback(|_| Ok(7))
        .add_errback(calls.note("skipped", |_| Ok(0)))
        .add_callback(calls.note("callback", |n: i32| Ok(n + 1)));
    resolver.errback(Oops("no")).unwrap();
    assert_eq!(calls.take(), ["callback(7)"]);
    assert_eq!(deferred.result().unwrap(), 8);
}

/// D-08.
#[test]
fn an_errback_that_fails_hands_its_error_to_the_next_errback() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    let deferred = deferred
        .add_errback(|_| Err(Oops("second").into()))
        .add_callback(calls.note("skipped", |()| Ok(())))
        .add_errback(calls.note("errback", |failure: Failure| Err(failure)));
    resolver.errback(Oops("first")).unwrap();
    assert_eq!(calls.take(), ["errback(second)"]);
    assert_eq!(
        deferred.result().unwrap_err().check(),
        Some(&Oops("second"))
    );
}

/// D-09.
#[test]
fn the_errback_of_a_pair_does_not_see_a_failure_of_its_callback() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_callbacks(
            |_: i32| Err(Oops("from the callback").into()),
            calls.note("same pair", |_| Ok(0)),
        )
        .add_callbacks(
            calls.note("skipped", |n: i32| Ok(n)),
            calls.note("next pair", |_| Ok(1)),
        );
    resolver.callback(0).unwrap();
    assert_eq!(calls.take(), ["next pair(from the callback)"]);
    assert_eq!(deferred.result().unwrap(), 1);
}

/// D-10.
#[test]
fn add_both_runs_once_for_either_ending_and_decides_how_it_goes_on() {
    for (ending, want) in [
        (Ok(1), "ended(Ok(1))"),
        (Err(Failure::new(Oops("no"))), "ended(Err(no))"),
    ] {
        let is_ok = ending.is_ok();
        let calls = Calls::new();
        let (deferred, resolver) = Deferred::<i32>::pending();
        let turned =
            deferred.add_both(
                calls.note("ended", |result: Result<i32, Failure>| match result {
                    Ok(_) => Err(Oops("turned").into()),
                    Err(_) => Ok("turned"),
                }),
            );
        resolver.fire(ending).unwrap();
        assert_eq!(calls.take(), [want]);
        assert_eq!(turned.result().is_ok(), !is_ok);
    }
}

/// D-11.
#[test]
fn firing_from_a_callback_runs_the_other_chain_to_its_end_first() {
    let calls = Calls::new();
    let (b, fire_b) = Deferred::pending();
    let _b = b
        .map(calls.note("first of b", |n: i32| n))
        .map(calls.note("second of b", |n: i32| n));

    let (a, fire_a) = Deferred::pending();
    let inside = calls.clone();
    let _a = a
        .add_callback(move |n: i32| {
            inside.push("a begins");
            fire_b.callback(n + 1)?;
            inside.push("a ends");
            Ok(n)
        })
        .map(calls.note("second of a", |n: i32| n));

    fire_a.callback(1).unwrap();
    assert_eq!(
        calls.take(),
        [
            "a begins",
            "first of b(2)",
            "second of b(2)",
            "a ends",
            "second of a(1)"
        ]
    );
}

/// D-12.
#[test]
fn callbacks_run_although_the_handle_is_gone() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    drop(
        deferred
            .map(calls.note("first", |n: i32| n + 1))
            .map(calls.note("second", |n: i32| n)),
    );
    resolver.callback(1).unwrap();
    assert_eq!(calls.take(), ["first(1)", "second(2)"]);
}

/// D-13.
#[test]
fn a_dropped_resolver_fails_its_deferred_at_that_moment() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::<i32>::pending();
    let made_on = line!() - 1;
    let deferred = deferred
        .map(calls.note("skipped", |n: i32| n))
        .add_errback(move |failure| {
            let AbandonedError { made, .. } = failure.trap()?;
            assert_eq!((made.file(), made.line()), (file!(), made_on));
            Ok(-1)
        })
        .map(calls.note("after", |n: i32| n));
    drop(resolver);
    assert_eq!(calls.take(), ["after(-1)"]);
    assert_eq!(deferred.result().unwrap(), -1);
}

/// D-13: with nobody to tell, nobody is told.
#[test]
fn an_abandoned_deferred_without_handlers_reports_nothing() {
    let _guard = NoLostFailures::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    drop(deferred);
    drop(resolver);
}

/// A callback may add callbacks to its own Deferred: they run after those that were there before.
#[test]
fn a_callback_added_by_a_callback_runs_after_the_others() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let tail = Rc::new(RefCell::new(None::<Deferred<i32>>));

    let (inside, own) = (calls.clone(), tail.clone());
    let deferred = deferred
        .map(move |n: i32| {
            let deferred = own.take().unwrap();
            let deferred = deferred.map(inside.note("added inside", |n: i32| n + 1));
            inside.push("first");
            *own.borrow_mut() = Some(deferred);
            n
        })
        .map(calls.note("second", |n: i32| n + 1));
    *tail.borrow_mut() = Some(deferred);

    resolver.callback(0).unwrap();
    assert_eq!(calls.take(), ["first", "second(0)", "added inside(1)"]);
    assert_eq!(tail.take().unwrap().result().unwrap(), 2);
}

/// A chain may lose its handle while it runs.
#[test]
fn a_deferred_dropped_by_its_own_callback_runs_to_its_end() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::pending();
    let tail = Rc::new(RefCell::new(None));
    let own = tail.clone();
    let deferred = deferred
        .map(move |n: i32| {
            drop(own.take());
            n
        })
        .map(calls.note("second", |n: i32| n));
    *tail.borrow_mut() = Some(deferred);

    resolver.callback(1).unwrap();
    assert_eq!(calls.take(), ["second(1)"]);
    assert_eq!(Rc::strong_count(&tail), 1);
}
