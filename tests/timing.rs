//! How long functions and Deferreds take: `time`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prometheus::{Gauge, Histogram, HistogramOpts, HistogramVec};
use prometheus_deferred::instrument::{Ending, Observe};
use prometheus_deferred::{
    AbandonedError, CancelledError, Clock, Deferred, Failure, PanicError, defer_later, time,
};

/// P-01.
#[test]
fn a_function_is_timed_once_and_its_value_comes_back() {
    let seconds = histogram();
    assert_eq!(time(&seconds, || 6 * 7), 42);
    assert_eq!(seconds.get_sample_count(), 1);
}

/// P-01. What it borrows and owns need be neither `Send` nor `'static`, nor is it copied.
#[test]
fn a_timed_function_may_borrow_and_consume() {
    let seconds = histogram();
    let words = ["a".to_owned(), "b".to_owned()];
    let mut calls = 0;
    let shared = Rc::new(Cell::new(1));
    let joined = time(&seconds, || {
        calls += 1;
        shared.set(2);
        words.concat()
    });
    assert_eq!((joined.as_str(), calls, shared.get()), ("ab", 1, 2));

    fn answer() -> Option<u8> {
        Some(42)
    }
    assert_eq!(time(&seconds, answer), Some(42));
    assert_eq!(seconds.get_sample_count(), 2);
}

/// P-01. The time is that of the function, in seconds.
#[test]
fn the_sum_is_at_least_what_was_waited_for() {
    let seconds = histogram();
    let start = Instant::now();
    time(&seconds, || {
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
    });
    let sum = seconds.get_sample_sum();
    assert!(
        (0.02..=start.elapsed().as_secs_f64()).contains(&sum),
        "{sum}"
    );
}

/// P-02.
#[test]
fn a_function_that_returns_a_deferred_is_timed_until_that_ends() -> Result<(), Failure> {
    let seconds = histogram();
    let (reply, resolver) = Deferred::pending();
    let start = Instant::now();
    let reply = time(&seconds, || {
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop(); // counted from the call, so this is part of it
        }
        reply
    });
    assert_eq!(seconds.get_sample_count(), 0);

    resolver.callback("pong")?;
    assert_eq!(seconds.get_sample_count(), 1);
    assert!(seconds.get_sample_sum() >= 0.02);
    assert_eq!(reply.result()?, "pong");
    Ok(())
}

/// P-02, P-04. The moment of each ending, and what passes through.
#[test]
fn every_way_to_end_is_observed_at_that_moment() -> Result<(), Failure> {
    let seconds = histogram();
    let timed = || {
        let (deferred, resolver) = Deferred::<i32>::pending();
        (time(&seconds, || deferred), resolver)
    };

    let (fired, resolver) = timed();
    resolver.callback(1)?;
    assert_eq!(seconds.get_sample_count(), 1);
    assert_eq!(fired.result()?, 1);

    let (failed, resolver) = timed();
    resolver.errback("x".parse::<i32>().unwrap_err())?;
    assert_eq!(seconds.get_sample_count(), 2);
    assert!(failed.result().unwrap_err().is::<std::num::ParseIntError>());

    let (cancelled, _resolver) = timed();
    cancelled.cancel();
    assert_eq!(seconds.get_sample_count(), 3);
    assert!(cancelled.result().unwrap_err().is::<CancelledError>());

    let (abandoned, resolver) = timed();
    drop(resolver);
    assert_eq!(seconds.get_sample_count(), 4);
    assert!(abandoned.result().unwrap_err().is::<AbandonedError>());
    Ok(())
}

/// P-02.
#[test]
fn a_deferred_that_has_fired_is_observed_at_once() {
    let seconds = histogram();
    let fired = time(&seconds, || Deferred::succeed(1));
    assert_eq!(seconds.get_sample_count(), 1);
    assert_eq!(fired.result().unwrap(), 1);

    let fired = time(&seconds, Deferred::succeed(2));
    assert_eq!(seconds.get_sample_count(), 2);
    assert_eq!(fired.result().unwrap(), 2);
}

/// P-03.
#[test]
fn what_is_added_to_a_timed_deferred_is_not_part_of_it() -> Result<(), Failure> {
    let seconds = histogram();
    let (row, resolver) = Deferred::pending();
    let timed = time(&seconds, Deferred::succeed(()));
    let page = timed.add_callback(|()| row);
    assert_eq!(seconds.get_sample_count(), 1);
    resolver.callback("row")?;
    assert_eq!(page.result()?, "row");
    assert_eq!(seconds.get_sample_count(), 1);
    Ok(())
}

/// P-03. From the call of `time` on, not from when the Deferred was made.
#[test]
fn what_was_added_before_is_part_of_it() -> Result<(), Failure> {
    let seconds = histogram();
    let clock = Clock::new();
    let (request, resolver) = Deferred::pending();
    let nap = clock.clone();
    let page = request.add_callback(move |()| defer_later(&nap, Duration::from_secs(1), || Ok(())));
    let page = time(&seconds, page);
    resolver.callback(())?;
    assert_eq!(seconds.get_sample_count(), 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(seconds.get_sample_count(), 1);
    page.result()
}

/// P-04. Also where the canceller decides what comes of it.
#[test]
fn a_cancel_that_becomes_a_value_is_one_observation() {
    let seconds = histogram();
    let (page, _resolver) = Deferred::with_canceller(|resolver| {
        resolver.callback("a stale copy").ok();
    });
    let page = time(&seconds, page);
    page.cancel();
    page.cancel();
    assert_eq!(seconds.get_sample_count(), 1);
    assert_eq!(page.result().unwrap(), "a stale copy");
}

/// P-05.
#[test]
fn a_function_that_returns_an_error_is_observed() {
    let seconds = histogram();
    let number = time(&seconds, || "seven".parse::<u8>());
    assert_eq!(number, "seven".parse());
    assert_eq!(seconds.get_sample_count(), 1);
}

/// P-05.
#[test]
fn a_function_that_panics_is_observed_and_the_panic_goes_on() {
    let seconds = histogram();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        time(&seconds, || -> Deferred<()> { panic!("no deferred yet") })
    }));
    let text = panic.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(*text, "no deferred yet");
    assert_eq!(seconds.get_sample_count(), 1);
}

/// P-03. The callback that panics is part of what is timed.
#[test]
fn a_callback_that_panics_is_observed_as_an_ending() -> Result<(), Failure> {
    let seconds = histogram();
    let (request, resolver) = Deferred::<()>::pending();
    let answered = time(
        &seconds,
        request.add_callback(|()| -> Result<(), Failure> { panic!("in the view") }),
    );
    resolver.callback(())?;
    assert_eq!(seconds.get_sample_count(), 1);
    assert!(answered.result().unwrap_err().is::<PanicError>());
    Ok(())
}

/// P-03. Nobody keeps what `time` returned; the chain runs all the same.
#[test]
fn a_timed_deferred_may_be_dropped_before_it_fires() -> Result<(), Failure> {
    let seconds = histogram();
    let (request, resolver) = Deferred::<()>::pending();
    drop(time(&seconds, request));
    assert_eq!(seconds.get_sample_count(), 0);
    resolver.callback(())?;
    assert_eq!(seconds.get_sample_count(), 1);
    Ok(())
}

/// P-02. A result that a pause holds back has not ended; and no pause holds it back for ever.
#[test]
fn a_paused_deferred_is_observed_when_the_last_who_could_unpause_it_is_gone() {
    let seconds = histogram();
    let mut paused = Deferred::succeed(());
    let pauser = paused.pauser();
    paused.pause();
    drop(time(&seconds, paused));
    assert_eq!(seconds.get_sample_count(), 0);
    drop(pauser);
    assert_eq!(seconds.get_sample_count(), 1);
}

/// P-01. Metrics as programs keep them: static, one of a family, behind pointers, a plain gauge.
#[test]
fn any_way_to_hold_a_metric_will_do() {
    static SECONDS: LazyLock<Histogram> = LazyLock::new(histogram);
    time(&*SECONDS, || ());
    time(&*SECONDS, Deferred::succeed(())).result().unwrap();
    assert_eq!(SECONDS.get_sample_count(), 2);

    let opts = HistogramOpts::new("view_seconds", "Views.");
    let views = HistogramVec::new(opts, &["view"]).unwrap();
    time(&views.with_label_values(&["home"]), || ());
    assert_eq!(views.with_label_values(&["home"]).get_sample_count(), 1);

    let shared: Rc<dyn Observe> = Rc::new(SECONDS.clone());
    time(&shared, || ());
    time(&std::sync::Arc::new(SECONDS.clone()), || ());
    assert_eq!(SECONDS.get_sample_count(), 4);

    let last = Gauge::new("nightly_seconds", "The last run.").unwrap();
    last.set(-1.0);
    time(&last, || ());
    assert!(last.get() >= 0.0);
}

/// P-01. A type of the program's own is a plain value with one line.
#[test]
fn a_type_of_your_own_can_be_returned() {
    struct Row(u8);
    impl Ending for Row {}

    let seconds = histogram();
    assert_eq!(time(&seconds, || Row(7)).0, 7);
    let row = time(&seconds, || Ok::<_, Failure>(Row(8)));
    assert_eq!(row.unwrap().0, 8);
    assert_eq!(seconds.get_sample_count(), 2);
}

/// P-01. A metric that panics is its author's bug, and not the end of what it measures.
#[test]
fn a_metric_that_panics_costs_no_value() -> Result<(), Failure> {
    #[derive(Clone)]
    struct Broken;
    impl Observe for Broken {
        fn observe_seconds(&self, _: f64) {
            panic!("broken metric");
        }
    }

    assert_eq!(time(&Broken, || 1), 1);

    let (reply, resolver) = Deferred::pending();
    let reply = time(&Broken, reply);
    resolver.callback(2)?;
    assert_eq!(reply.result()?, 2);

    // Two panics at once would end the process.
    let panic = catch_unwind(|| time(&Broken, || -> u8 { panic!("broken function") }));
    let text = panic.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(*text, "broken function");
    Ok(())
}

fn histogram() -> Histogram {
    Histogram::with_opts(HistogramOpts::new("seconds", "Time.")).expect("a good name")
}
