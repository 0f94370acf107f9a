//! A Deferred can be given a limited time.

mod support;

use std::time::Duration;

use deferred_reactor::{
    CancelledError, Clock, Deferred, Failure, NoLostFailures, Resolver, TimeoutError,
};
use support::{Calls, Oops, tracked};

const TEN: Duration = Duration::from_secs(10);

fn timeout_of<T>(deferred: Deferred<T>) -> Option<Duration> {
    let failure = deferred.result().err()?;
    failure.check::<TimeoutError>().map(|error| error.timeout)
}

/// D-37.
#[test]
fn a_result_in_time_takes_the_timeout_away() {
    for ending in [Ok(1), Err(Oops("no").into())] {
        let want = format!("{ending:?}");
        let clock = Clock::new();
        let (deferred, resolver) = Deferred::<i32>::pending();
        let deferred = deferred.add_timeout(TEN, &clock);
        assert_eq!(clock.delayed_calls().len(), 1);
        resolver.fire(ending).unwrap();
        assert!(clock.delayed_calls().is_empty());
        clock.advance(TEN);
        assert_eq!(format!("{:?}", deferred.result()), want);
    }
}

/// D-37: one that had its result before never needs the clock.
#[test]
fn a_fired_deferred_gets_no_timeout() {
    let clock = Clock::new();
    let deferred = Deferred::succeed(1).add_timeout(TEN, &clock);
    assert!(clock.delayed_calls().is_empty());
    assert_eq!(deferred.result().unwrap(), 1);
}

/// D-38.
#[test]
fn without_a_result_in_time_it_fails_with_timeout_error() {
    let clock = Clock::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    let deferred = deferred.add_timeout(TEN, &clock);
    clock.advance(TEN - Duration::from_nanos(1));
    assert!(!deferred.is_fired());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(timeout_of(deferred), Some(TEN));
    resolver.callback(()).unwrap(); // late, and ignored
}

/// D-38: the shorter of two.
#[test]
fn the_timeout_that_comes_first_counts() {
    for (inner, outer) in [(1, 2), (2, 1)].map(|(a, b)| (a * TEN, b * TEN)) {
        let clock = Clock::new();
        let (deferred, _resolver) = Deferred::<()>::pending();
        let deferred = deferred
            .add_timeout(inner, &clock)
            .add_timeout(outer, &clock);
        clock.advance(TEN);
        assert!(clock.delayed_calls().is_empty());
        assert_eq!(timeout_of(deferred), Some(TEN));
    }
}

/// D-39.
#[test]
fn what_a_later_callback_waits_for_has_all_the_time_it_likes() {
    let clock = Clock::new();
    let (inner, fire_inner) = Deferred::pending();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_timeout(TEN, &clock)
        .add_callback(move |()| inner);
    resolver.callback(()).unwrap();
    clock.advance(2 * TEN);
    fire_inner.callback(1).unwrap();
    assert_eq!(deferred.result().unwrap(), 1);
}

/// D-40.
#[test]
fn what_an_earlier_callback_waits_for_is_cancelled() {
    let clock = Clock::new();
    let calls = Calls::new();
    let (inner, _fire_inner) = Deferred::<i32>::pending();
    let inner = inner.add_errback(calls.note("inner", |failure: Failure| Err(failure)));
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred
        .add_callback(move |()| inner)
        .add_timeout(TEN, &clock);
    resolver.callback(()).unwrap();
    clock.advance(TEN);
    assert_eq!(calls.take(), ["inner(cancelled)"]);
    assert_eq!(timeout_of(deferred), Some(TEN));
}

/// D-41.
#[test]
fn an_on_timeout_function_decides_the_result() {
    for decision in [Ok(1), Err(Oops("decided").into())] {
        let want = format!("{decision:?}");
        let clock = Clock::new();
        let calls = Calls::new();
        let inside = calls.clone();
        let (deferred, _resolver) = Deferred::<i32>::pending();
        let deferred = deferred.add_timeout_with(TEN, &clock, move |result, timeout| {
            inside.push(format!("{result:?} after {timeout:?}"));
            decision
        });
        clock.advance(TEN);
        assert_eq!(calls.take(), ["Err(cancelled) after 10s"]);
        assert_eq!(format!("{:?}", deferred.result()), want);
    }
}

/// D-41: it may wait, too.
#[test]
fn an_on_timeout_function_may_return_a_deferred() {
    let clock = Clock::new();
    let (fallback, fire_fallback) = Deferred::pending();
    let (deferred, _resolver) = Deferred::<i32>::pending();
    let deferred = deferred.add_timeout_with(TEN, &clock, move |_, _| fallback);
    clock.advance(TEN);
    assert!(!deferred.is_fired());
    fire_fallback.callback(2).unwrap();
    assert_eq!(deferred.result().unwrap(), 2);
}

/// D-42.
#[test]
fn what_the_canceller_decides_stands() {
    let clock = Clock::new();
    let (value, _resolver) =
        Deferred::with_canceller(|lent: Resolver<i32>| lent.callback(1).unwrap());
    let value = value.add_timeout(TEN, &clock);
    let (error, _resolver) = Deferred::with_canceller(|lent: Resolver<i32>| {
        lent.errback(Oops("stopped")).unwrap();
    });
    let error = error.add_timeout(TEN, &clock);
    clock.advance(TEN);
    assert_eq!(value.result().unwrap(), 1);
    assert_eq!(error.result().unwrap_err().check(), Some(&Oops("stopped")));
}

/// D-43.
#[test]
fn a_cancel_by_hand_before_the_deadline_is_no_timeout() {
    let clock = Clock::new();
    let calls = Calls::new();
    let inside = calls.clone();
    let (deferred, _resolver) =
        Deferred::<i32>::with_canceller(calls.note("canceller", |_lent| ()));
    let (later, fire_later) = Deferred::pending();
    let deferred = deferred
        .add_timeout_with(TEN, &clock, move |result, _| {
            inside.push("on timeout");
            result
        })
        .add_errback(calls.note("errback", move |_| later));
    deferred.cancel();
    assert!(clock.delayed_calls().is_empty());
    clock.advance(TEN);
    assert_eq!(
        calls.take(),
        [
            "canceller(Resolver { is_pending: true, .. })",
            "errback(cancelled)"
        ]
    );
    fire_later.callback(1).unwrap();
    assert_eq!(deferred.result().unwrap(), 1);

    let (deferred, _resolver) = Deferred::<i32>::pending();
    let deferred = deferred.add_timeout(TEN, &clock);
    deferred.cancel();
    clock.advance(TEN);
    assert!(deferred.result().unwrap_err().is::<CancelledError>());
}

/// D-44.
#[test]
fn an_errback_before_the_timeout_sees_the_cancel_and_may_recover() {
    let clock = Clock::new();
    let calls = Calls::new();
    let (passes_on, _resolver) = Deferred::<i32>::pending();
    let passes_on = passes_on
        .add_errback(calls.note("errback", |failure: Failure| Err(failure)))
        .add_timeout(TEN, &clock);
    let (recovers, _resolver) = Deferred::<i32>::pending();
    let recovers = recovers.add_errback(|_| Ok(5)).add_timeout(TEN, &clock);
    clock.advance(TEN);
    assert_eq!(calls.take(), ["errback(cancelled)"]);
    assert_eq!(timeout_of(passes_on), Some(TEN));
    assert_eq!(recovers.result().unwrap(), 5);
}

/// The timer is no reason to keep anything alive, or to report anything.
#[test]
fn an_abandoned_deferred_takes_its_timeout_along() {
    let _guard = NoLostFailures::new();
    let clock = Clock::new();
    let (witness, is_dropped) = tracked();
    let (deferred, resolver) = Deferred::<()>::pending();
    let deferred = deferred.add_timeout(TEN, &clock).add_errback(move |_| {
        drop(witness);
        Ok(())
    });
    drop(deferred);
    drop(resolver);
    assert!(is_dropped.get());
    assert!(clock.delayed_calls().is_empty());
}

/// A clock that goes away takes the deadline with it; the Deferred may still fire.
#[test]
fn without_its_clock_a_deferred_waits_on() {
    let clock = Clock::new();
    let (deferred, resolver) = Deferred::pending();
    let deferred = deferred.add_timeout(TEN, &clock);
    drop(clock);
    assert!(!deferred.is_fired());
    resolver.callback(1).unwrap();
    assert_eq!(deferred.result().unwrap(), 1);
}
