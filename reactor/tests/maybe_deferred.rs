//! A function that may answer now or later, and what a Deferred looks like when printed.

mod support;

use std::future::Future;
use std::pin::Pin;

use deferred_reactor::deferred::spawn;
use deferred_reactor::{Deferred, Failure, NoLostFailures, PanicError, maybe_deferred};
use support::Oops;

/// D-61.
#[test]
fn what_a_function_ends_with_becomes_a_fired_deferred() {
    let value = maybe_deferred(|| Ok(1));
    assert!(value.is_fired());
    assert_eq!(value.result().unwrap(), 1);

    let error = maybe_deferred(|| Err::<i32, _>(Failure::new(Oops("no"))));
    assert!(error.is_fired());
    assert_eq!(error.result().unwrap_err().check(), Some(&Oops("no")));

    let panic = maybe_deferred(|| -> Result<i32, Failure> { panic!("a {}", "panic") });
    assert!(panic.is_fired());
    let panic = panic.result().unwrap_err().trap::<PanicError>().unwrap();
    assert_eq!(panic.message, "a panic");
}

/// D-62: for a Deferred.
#[test]
fn a_deferred_that_a_function_returns_is_handed_on_as_it_is() {
    let _guard = NoLostFailures::new();
    let (deferred, resolver) = Deferred::pending();
    let value = maybe_deferred(move || deferred);
    assert!(!value.is_fired());
    resolver.callback(1).unwrap();
    assert_eq!(value.result().unwrap(), 1);

    let (deferred, resolver) = Deferred::<i32>::pending();
    let error = maybe_deferred(move || deferred);
    resolver.errback(Oops("no")).unwrap();
    assert_eq!(error.result().unwrap_err().check(), Some(&Oops("no")));
}

/// D-62: for a future, spawned or boxed.
#[test]
fn a_future_that_a_function_returns_is_run() {
    async fn double(deferred: Deferred<i32>) -> Result<i32, Failure> {
        Ok(deferred.await? * 2)
    }
    type Function = fn(Deferred<i32>) -> Deferred<i32>;
    let ways: [Function; 3] = [
        |deferred| maybe_deferred(|| spawn(double(deferred))),
        |deferred| maybe_deferred(|| Box::pin(double(deferred))),
        |deferred| maybe_deferred(|| -> Pin<Box<dyn Future<Output = _>>> { Box::pin(deferred) }),
    ];
    let _guard = NoLostFailures::new();
    for (way, factor) in ways.into_iter().zip([2, 2, 1]) {
        let (deferred, resolver) = Deferred::pending();
        let value = way(deferred);
        assert!(!value.is_fired());
        resolver.callback(21).unwrap();
        assert_eq!(value.result().unwrap(), 21 * factor);

        let (deferred, resolver) = Deferred::pending();
        let error = way(deferred);
        resolver.errback(Oops("no")).unwrap();
        assert_eq!(error.result().unwrap_err().check(), Some(&Oops("no")));
    }
}

/// D-62: where the function itself panics, before there is a future, and where the future does.
#[test]
fn a_panic_of_a_function_or_of_its_future_is_a_failure() {
    let panics_at_once = maybe_deferred(|| -> Deferred<()> { panic!("at once") });
    let panics_inside =
        maybe_deferred(|| Box::pin(async { panic!("inside") as Result<(), Failure> }));
    for (deferred, want) in [(panics_at_once, "at once"), (panics_inside, "inside")] {
        let panic = deferred.result().unwrap_err().trap::<PanicError>().unwrap();
        assert_eq!(panic.message, want);
    }
}

/// A callback is a function that may answer later, too.
#[test]
fn a_callback_may_return_a_boxed_future() {
    let (inner, fire_inner) = Deferred::<i32>::pending();
    let chain = Deferred::succeed(1)
        .add_callback(|n| Box::pin(async move { Ok(inner.await? + n) }))
        .add_errback(|failure| Box::pin(async { Err(failure) }));
    fire_inner.callback(2).unwrap();
    assert_eq!(chain.result().unwrap(), 3);
}

/// D-80.
#[test]
fn debug_shows_the_state_of_a_deferred() {
    let (deferred, resolver) = Deferred::<i32>::pending();
    assert_eq!(format!("{deferred:?}"), "Deferred(pending)");
    resolver.callback(1).unwrap();
    assert_eq!(format!("{deferred:?}"), "Deferred(Ok(1))");
    assert_eq!(deferred.result().unwrap(), 1);

    assert_eq!(
        format!("{:?}", Deferred::succeed("text")),
        r#"Deferred(Ok("text"))"#
    );

    let (deferred, resolver) = Deferred::<i32>::pending();
    resolver.errback(Oops("no bread")).unwrap();
    assert_eq!(format!("{deferred:?}"), "Deferred(Err(no bread))");
    drop(deferred.result());
}

/// D-80.
#[test]
fn debug_shows_that_a_deferred_waits_for_another() {
    let (inner, fire_inner) = Deferred::<i32>::pending();
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer.add_callback(move |()| inner);
    assert_eq!(format!("{outer:?}"), "Deferred(pending)");
    fire_outer.callback(()).unwrap();
    assert_eq!(
        format!("{outer:?}"),
        "Deferred(waiting on another Deferred)"
    );
    fire_inner.callback(1).unwrap();
    assert_eq!(format!("{outer:?}"), "Deferred(Ok(1))");
}

/// Looking at a value must not lose it.
#[test]
fn a_value_that_panics_when_printed_stays_where_it_is() {
    struct Shy;
    impl std::fmt::Debug for Shy {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("do not look at me")
        }
    }
    let (deferred, resolver) = Deferred::pending();
    resolver.callback(Shy).unwrap();
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| format!("{deferred:?}")));
    assert!(looked.is_err());
    assert!(deferred.is_fired());
}
