//! A failure that nobody handled is reported once, with the lines that lead to it.

mod support;

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::deferred::unhandled_failures;
use deferred_reactor::{
    AbandonedError, Clock, Deferred, Failure, NoLostFailures, Outcome, PanicError, Reactor,
    Unhandled, maybe_deferred, on_unhandled, sleep,
};
use support::{Oops, keep_log, logged};

fn oops() -> Failure {
    Failure::new(Oops("lost"))
}

/// The numbers of three lines of this file.
#[track_caller]
fn lines(report: &Unhandled) -> (u32, u32, u32) {
    let here = Location::caller().file();
    let line = |location: &'static Location<'static>| {
        assert_eq!(location.file(), here, "{report}");
        location.line()
    };
    (
        line(report.made),
        line(report.failure.location()),
        line(report.dropped),
    )
}

/// D-78.
#[test]
fn a_failure_is_reported_once_when_the_last_handle_is_dropped() {
    let guard = NoLostFailures::new();
    let before = unhandled_failures();
    let (fires_first, resolver) = Deferred::<()>::pending();
    resolver.errback(oops()).unwrap();
    assert!(guard.flush().is_empty());
    drop(fires_first);
    assert_eq!(guard.flush().len(), 1);

    let (dropped_first, resolver) = Deferred::<()>::pending();
    drop(dropped_first);
    assert!(guard.flush().is_empty());
    resolver.errback(oops()).unwrap();
    assert_eq!(guard.flush().len(), 1);

    drop(Deferred::<()>::fail(oops()).map(|()| 1).map(|n| n + 1));
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].failure.check(), Some(&Oops("lost")));
    assert_eq!(unhandled_failures(), before + 3);
}

/// D-78: what the errback itself fails with.
#[test]
fn a_failure_of_the_last_errback_is_reported() {
    let guard = NoLostFailures::new();
    drop(Deferred::<()>::fail(oops()).add_errback(|_| Err(Oops("again").into())));
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].failure.check(), Some(&Oops("again")));
}

/// D-79.
#[test]
fn a_failure_handled_later_is_not_reported() {
    let _guard = NoLostFailures::new();
    drop(Deferred::<()>::fail(oops()).add_errback(|_| Ok(())));
    let (deferred, resolver) = Deferred::<()>::pending();
    resolver.errback(oops()).unwrap();
    drop(deferred.map(|()| 1).add_both(|_| Ok(())));
    drop(Deferred::<()>::fail(oops()).result());
}

/// D-79.
#[test]
fn a_pending_deferred_reports_nothing_when_dropped() {
    let _guard = NoLostFailures::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    drop(deferred.map(|()| 1));
    resolver.callback(()).unwrap();
}

/// D-78: the three lines, where each is another one.
#[test]
fn the_report_names_where_it_was_made_where_it_failed_and_where_it_was_dropped() {
    let guard = NoLostFailures::new();
    let start = line!();
    let (deferred, resolver) = Deferred::<()>::pending();
    let deferred = deferred.map(|()| 1);
    let deferred = deferred.map(|n| n + 1);
    resolver.errback(Oops("lost")).unwrap();
    drop(deferred);
    let lost = guard.flush();
    assert_eq!(lines(&lost[0]), (start + 1, start + 4, start + 3));
}

/// D-78: the same lines for a Deferred whose callbacks are added after it has fired, and for one
/// that never had to wait.
#[test]
fn a_deferred_that_had_fired_is_reported_with_the_line_that_made_it() {
    let guard = NoLostFailures::new();
    let start = line!();
    let (deferred, resolver) = Deferred::pending();
    resolver.callback(1).unwrap();
    let deferred = deferred.map(|n| n + 1);
    let deferred = deferred.add_callback(|_| -> Result<(), _> { Err(Oops("lost").into()) });
    drop(deferred);
    let deferred = Deferred::succeed(1);
    let deferred = deferred.map(|n| n + 1);
    let deferred = deferred.add_callback(|n| {
        "x".parse::<i32>()?;
        Ok(n)
    });
    drop(deferred.map(|n| n + 1));
    let lost = guard.flush();
    assert_eq!(lines(&lost[0]), (start + 1, start + 4, start + 4));
    assert_eq!(lines(&lost[1]), (start + 6, start + 9, start + 12));
}

/// D-78: a panic has no line of its own here, so the line that added the callback stands for it.
#[test]
fn a_panic_is_reported_with_the_line_that_added_the_callback() {
    let guard = NoLostFailures::new();
    let start = line!();
    let (deferred, resolver) = Deferred::<()>::pending();
    drop(deferred.map(|()| panic!("first")));
    resolver.callback(()).unwrap();
    drop(Deferred::succeed(()).add_both(|_| -> Result<(), Failure> { panic!("second") }));
    drop(maybe_deferred(|| -> Result<(), Failure> {
        panic!("third")
    }));
    let lost = guard.flush();
    assert!(lost.iter().all(|report| report.failure.is::<PanicError>()));
    assert_eq!(lines(&lost[0]), (start + 1, start + 2, start + 2));
    assert_eq!(lines(&lost[1]), (start + 4, start + 4, start + 4));
    assert_eq!(lines(&lost[2]), (start + 5, start + 5, start + 5));
}

/// D-78: an outer Deferred that failed because of an inner one is reported as the outer one.
#[test]
fn a_chain_that_waited_is_reported_as_the_outer_deferred() {
    let guard = NoLostFailures::new();
    let start = line!();
    let (inner, fire_inner) = Deferred::<()>::pending();
    let (outer, fire_outer) = Deferred::pending();
    drop(outer.add_callback(move |()| inner));
    fire_outer.callback(()).unwrap();
    fire_inner.errback(Oops("lost")).unwrap();
    let lost = guard.flush();
    assert_eq!(lines(&lost[0]), (start + 2, start + 5, start + 3));
}

/// D-78: a `Result` that is turned into a Deferred by hand.
#[test]
fn a_result_turned_into_a_deferred_is_reported_with_that_line() {
    let guard = NoLostFailures::new();
    let start = line!();
    let failure = Failure::new(Oops("lost"));
    drop(Err::<(), _>(failure).into_deferred());
    assert_eq!(lines(&guard.flush()[0]), (start + 2, start + 1, start + 2));
}

/// D-78: without a hook, one record in the log, with the same lines.
#[test]
fn without_a_hook_the_report_is_one_record_in_the_log() {
    keep_log();
    let start = line!();
    let (deferred, resolver) = Deferred::<()>::pending();
    resolver.errback(Oops("no bread")).unwrap();
    drop(deferred.map(|()| 1));
    let log = logged();
    assert_eq!(log.len(), 1, "{log:?}");
    let mut rest = log[0].as_str();
    for part in [
        "ERROR deferred: unhandled failure: no bread (made at ".to_owned(),
        format!("{}:{}:", file!(), start + 1),
        ", failed at ".to_owned(),
        format!("{}:{}:", file!(), start + 2),
        ", dropped after ".to_owned(),
        format!("{}:{}:", file!(), start + 3),
    ] {
        let at = rest
            .find(&part)
            .unwrap_or_else(|| panic!("{part} in {log:?}"));
        rest = &rest[at + part.len()..];
    }
}

/// A hook may do what it likes: lose another failure, install another hook, panic.
#[test]
fn a_hook_may_lose_failures_replace_itself_and_panic() {
    keep_log();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (first, second) = (seen.clone(), seen.clone());
    let line = line!() + 1;
    on_unhandled(move |report| {
        first.borrow_mut().push(report.failure.to_string());
        let second = second.clone();
        on_unhandled(move |report| {
            second
                .borrow_mut()
                .push(format!("again {}", report.failure))
        });
        drop(Deferred::<()>::fail(Oops("inside")));
        panic!("in the hook");
    });
    drop(Deferred::<()>::fail(Oops("outside")));
    assert_eq!(seen.take(), ["outside", "again inside"]);
    assert_eq!(
        logged(),
        [format!(
            "ERROR deferred: the hook given to on_unhandled at {}:{line}:5 panicked: in the hook",
            file!()
        )]
    );
}

/// The guard for tests: it fails the test that lost a failure, and names it.
#[test]
fn the_guard_panics_with_what_was_lost() {
    let panic = std::panic::catch_unwind(|| {
        let _guard = NoLostFailures::new();
        drop(Deferred::<()>::fail(Oops("forgotten")));
    })
    .unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.contains("1 unhandled failure(s)"), "{text}");
    assert!(text.contains("forgotten"), "{text}");
}

/// Guards nest, as tests and the helpers they call do.
#[test]
fn an_inner_guard_gives_the_hook_back() {
    let outer = NoLostFailures::new();
    drop(NoLostFailures::new());
    drop(Deferred::<()>::fail(oops()));
    assert_eq!(outer.flush().len(), 1);
}

/// D-13, D-79. A program that is told to stop while it sleeps has lost nothing; what fails for
/// another reason meanwhile has.
#[test]
fn what_only_waited_for_a_delayed_call_is_not_lost_when_there_is_no_more_time() {
    let guard = NoLostFailures::new();
    let before = unhandled_failures();
    let reactor = Reactor::new().unwrap();
    for _ in 0..2 {
        let clock = reactor.clone();
        drop(sleep(&reactor, Duration::from_secs(3600)).map(|()| unreachable!("it is dropped")));
        drop(reactor.spawn(async move { sleep(&clock, Duration::from_secs(3600)).await }));
        drop(
            sleep(&reactor, Duration::from_secs(3600))
                .add_errback(|_| Err(Failure::new(Oops("while it ends")))),
        );
        reactor.run_for(Duration::ZERO).unwrap();
        let lost = guard.flush();
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert_eq!(lost[0].failure.to_string(), "while it ends");
    }
    let clock = Clock::new();
    drop(sleep(&clock, Duration::from_secs(1)).map(|()| ()));
    drop(clock);
    assert_eq!(unhandled_failures(), before + 2);

    drop(Deferred::<()>::pending().0.map(|()| ())); // its resolver is dropped, by whomever
    assert!(guard.flush()[0].failure.is::<AbandonedError>());
}
