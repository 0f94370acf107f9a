//! How many fail: `count_exceptions` and `count_exceptions_of`.

use std::error::Error;
use std::fmt;
use std::num::ParseIntError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use prometheus::{Counter, IntCounter, IntCounterVec, Opts};
use prometheus_deferred::instrument::Increment;
use prometheus_deferred::{
    AbandonedError, CancelledError, Clock, Deferred, Failure, PanicError, TimeoutError,
    count_exceptions, count_exceptions_of,
};

/// P-06.
#[test]
fn success_is_not_counted() -> Result<(), Failure> {
    let failures = counter();
    assert_eq!(count_exceptions(&failures, || 1), 1);
    assert_eq!(count_exceptions(&failures, || "1".parse::<i32>()), Ok(1));
    let (reply, resolver) = Deferred::pending();
    let reply = count_exceptions(&failures, reply);
    resolver.callback(1)?;
    assert_eq!(reply.result()?, 1);
    assert_eq!(failures.get(), 0);
    Ok(())
}

/// P-06.
#[test]
fn an_error_of_a_function_is_counted_and_passed_on() {
    let failures = counter();
    let number = count_exceptions(&failures, || "one".parse::<i32>());
    assert_eq!(number, "one".parse());
    assert_eq!(failures.get(), 1);
}

/// P-06. The very Failure, with the line where it arose.
#[test]
fn an_error_that_comes_later_is_counted_then_and_passed_on() -> Result<(), Failure> {
    let failures = counter();
    let (reply, resolver) = Deferred::<()>::pending();
    let reply = count_exceptions(&failures, || reply);
    assert_eq!(failures.get(), 0);

    let failure = Failure::message("no route");
    let location = failure.location();
    resolver.errback(failure)?;
    assert_eq!(failures.get(), 1);
    let failure = reply.result().unwrap_err();
    assert_eq!(failure.to_string(), "no route");
    assert_eq!(failure.location(), location);
    Ok(())
}

/// P-06. What happens after the measure is not counted, recovered or not.
#[test]
fn only_what_failed_up_to_there_is_counted() {
    let failures = counter();
    let recovered = Deferred::<i32>::fail(Failure::message("a")).add_errback(|_| Ok(1));
    let later = count_exceptions(&failures, recovered)
        .add_callback(|_| Err::<i32, _>(Failure::message("b")));
    assert!(later.result().is_err());
    assert_eq!(failures.get(), 0);
}

/// P-06. The filter looks at the error itself, wherever it comes from.
#[test]
fn each_kind_of_error_is_known_by_its_type() {
    let clock = Clock::new();
    type Chain = Deferred<()>;
    let (cancelled, _kept) = Chain::pending();
    cancelled.cancel();
    let (abandoned, resolver) = Chain::pending();
    drop(resolver);
    let (late, _kept) = Chain::pending();
    let late = late.add_timeout(Duration::from_secs(1), &clock);
    clock.advance(Duration::from_secs(1));
    let panicked = Deferred::succeed(()).map(|()| panic!("in a callback"));
    let parsed = Deferred::succeed("x").add_callback(|text| {
        text.parse::<i32>()?;
        Ok(())
    });

    let ended = [cancelled, abandoned, late, panicked, parsed];
    for (index, deferred) in ended.into_iter().enumerate() {
        let failures: [IntCounter; 5] = std::array::from_fn(|_| counter());
        let deferred = count_exceptions_of::<CancelledError, _>(&failures[0], deferred);
        let deferred = count_exceptions_of::<AbandonedError, _>(&failures[1], deferred);
        let deferred = count_exceptions_of::<TimeoutError, _>(&failures[2], deferred);
        let deferred = count_exceptions_of::<PanicError, _>(&failures[3], deferred);
        let deferred = count_exceptions_of::<ParseIntError, _>(&failures[4], deferred);
        assert!(deferred.result().is_err());
        let mut want = [0; 5];
        want[index] = 1;
        assert_eq!(failures.each_ref().map(IntCounter::get), want);
    }
}

/// P-07.
#[test]
fn an_error_of_another_type_is_passed_on_uncounted() {
    let refused = counter();
    let failed = Deferred::<()>::fail(Failure::message("other"));
    let failed = count_exceptions_of::<Refused, _>(&refused, failed);
    assert_eq!(failed.result().unwrap_err().to_string(), "other");

    let number = count_exceptions_of::<Refused, _>(&refused, || "one".parse::<i32>());
    assert_eq!(number, "one".parse());
    assert_eq!(refused.get(), 0);
}

/// P-07. An error that only wraps the wanted one is another error, as for `Failure::check`.
#[test]
fn the_cause_of_an_error_does_not_count() {
    let refused = counter();
    let outer = count_exceptions_of::<Refused, _>(&refused, Deferred::<()>::fail(Outer(Refused)));
    assert!(outer.result().unwrap_err().is::<Outer>());
    assert_eq!(refused.get(), 0);
}

/// P-06. A function may return its errors in any of the usual ways.
#[test]
fn the_filter_looks_into_boxed_errors_and_failures() {
    let refused = counter();
    let of = |index: usize, is_err: bool| {
        assert!(is_err);
        assert_eq!(refused.get(), index as u64);
    };
    let plain = count_exceptions_of::<Refused, _>(&refused, || Err::<(), _>(Refused));
    of(1, plain.is_err());
    let failure = count_exceptions_of::<Refused, _>(&refused, || -> Result<(), Failure> {
        Err(Refused)?;
        Ok(())
    });
    of(2, failure.is_err());
    let boxed = count_exceptions_of::<Refused, _>(&refused, || -> Result<(), Box<dyn Error>> {
        Err(Refused)?;
        Ok(())
    });
    of(3, boxed.is_err());
    type Sendable = Box<dyn Error + Send + Sync>;
    let sendable = count_exceptions_of::<Refused, _>(&refused, || -> Result<(), Sendable> {
        Err(Refused)?;
        Ok(())
    });
    of(4, sendable.is_err());
    let half =
        count_exceptions_of::<Refused, _>(&refused, || -> Result<(), Box<dyn Error + Send>> {
            Err(Box::new(Refused))
        });
    of(5, half.is_err());
}

/// P-06.
#[test]
fn a_panic_is_counted_as_a_panic_error_and_goes_on() {
    let (all, panics, refused) = (counter(), counter(), counter());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        count_exceptions(&all, || {
            count_exceptions_of::<PanicError, _>(&panics, || {
                count_exceptions_of::<Refused, _>(&refused, || -> u8 { panic!("as planned") })
            })
        })
    }));
    assert_eq!(
        *panic.unwrap_err().downcast::<&str>().unwrap(),
        "as planned"
    );
    assert_eq!((all.get(), panics.get(), refused.get()), (1, 1, 0));
}

/// P-06.
#[test]
fn any_counter_will_do() {
    let floats = Counter::new("floats_total", "Floats.").unwrap();
    count_exceptions(&floats, || Err::<(), _>(())).unwrap_err();
    assert_eq!(floats.get(), 1.0);

    let family = IntCounterVec::new(Opts::new("family_total", "Family."), &["view"]).unwrap();
    let member = family.with_label_values(&["home"]);
    count_exceptions(&member, || Err::<(), _>(())).unwrap_err();
    assert_eq!(member.get(), 1);

    let shared: Rc<dyn Increment> = Rc::new(member.clone());
    count_exceptions(&shared, || Err::<(), _>(())).unwrap_err();
    assert_eq!(member.get(), 2);
}

/// P-06. A metric that panics is its author's bug, and not the end of what it measures.
#[test]
fn a_counter_that_panics_costs_no_error() {
    #[derive(Clone)]
    struct Broken;
    impl Increment for Broken {
        fn increment(&self) {
            panic!("broken metric");
        }
    }

    let number = count_exceptions(&Broken, || "one".parse::<i32>());
    assert_eq!(number, "one".parse());
    let failed = count_exceptions(&Broken, Deferred::<()>::fail(Refused));
    assert!(failed.result().unwrap_err().is::<Refused>());
    // Two panics at once would end the process.
    let panic = catch_unwind(|| count_exceptions(&Broken, || -> u8 { panic!("as planned") }));
    assert_eq!(
        *panic.unwrap_err().downcast::<&str>().unwrap(),
        "as planned"
    );
}

fn counter() -> IntCounter {
    IntCounter::new("failures_total", "Failures.").expect("a good name")
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl Error for Refused {}

/// An error with a cause, as `FirstError` is.
#[derive(Debug)]
struct Outer(Refused);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the first of two failed")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
