//! Deferreds that fire when a time has come.

mod support;

use std::time::Duration;

use deferred_reactor::{
    AbandonedError, CancelledError, Clock, Deferred, Failure, defer_later, sleep,
};
use support::{Calls, Oops, tracked};

const THREE: Duration = Duration::from_secs(3);

/// T-19.
#[test]
fn the_function_is_called_when_the_time_has_come() {
    let clock = Clock::new();
    let calls = Calls::new();
    let inside = calls.clone();
    let deferred = defer_later(&clock, THREE, move || {
        inside.push("f");
        Ok(1)
    });
    clock.advance(THREE - Duration::from_nanos(1));
    assert!(calls.take().is_empty());
    clock.advance(Duration::from_nanos(1));
    clock.advance(THREE);
    assert_eq!(calls.take(), ["f"]);
    assert_eq!(deferred.result().unwrap(), 1);
}

/// T-19.
#[test]
fn an_error_or_a_deferred_of_the_function_becomes_the_result() {
    let clock = Clock::new();
    let error = defer_later(&clock, THREE, || Err::<(), _>(Failure::new(Oops("no"))));
    let (inner, fire_inner) = Deferred::pending();
    let waiting = defer_later(&clock, THREE, move || inner);
    clock.advance(THREE);
    assert_eq!(error.result().unwrap_err().check(), Some(&Oops("no")));
    assert!(!waiting.is_fired());
    fire_inner.callback(2).unwrap();
    assert_eq!(waiting.result().unwrap(), 2);
}

/// T-20.
#[test]
fn sleep_fires_with_unit() {
    let clock = Clock::new();
    let nap = sleep(&clock, THREE);
    clock.advance(THREE - Duration::from_nanos(1));
    assert!(!nap.is_fired());
    clock.advance(Duration::from_nanos(1));
    let () = nap.result().unwrap();
}

/// T-21.
#[test]
fn cancelled_before_its_time_it_never_calls_the_function() {
    let clock = Clock::new();
    let calls = Calls::new();
    let inside = calls.clone();
    let (witness, is_dropped) = tracked();
    let deferred = defer_later(&clock, THREE, move || {
        inside.push("f");
        drop(witness);
        Ok(())
    });
    deferred.cancel();
    assert!(clock.delayed_calls().is_empty());
    assert!(is_dropped.get());
    clock.advance(THREE);
    assert!(calls.take().is_empty());
    assert!(deferred.result().unwrap_err().is::<CancelledError>());
}

/// Dropping the handle is not cancelling.
#[test]
fn the_function_is_called_although_nobody_waits_for_it() {
    let clock = Clock::new();
    let calls = Calls::new();
    let inside = calls.clone();
    drop(defer_later(&clock, THREE, move || {
        inside.push("f");
        Ok(())
    }));
    clock.advance(THREE);
    assert_eq!(calls.take(), ["f"]);
}

/// Nothing waits for ever: without its clock, no time will come.
#[test]
fn a_clock_that_goes_away_abandons_what_waits_for_it() {
    let clock = Clock::new();
    let nap = sleep(&clock, THREE);
    drop(clock);
    assert!(nap.result().unwrap_err().is::<AbandonedError>());
}
