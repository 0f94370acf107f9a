//! How many are on their way: `track_inprogress`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use prometheus::{Gauge, IntGauge};
use prometheus_deferred::instrument::UpDown;
use prometheus_deferred::{Clock, Deferred, Failure, defer_later, track_inprogress};

/// P-08.
#[test]
fn the_gauge_is_up_while_a_function_runs() {
    let running = gauge();
    let seen = track_inprogress(&running, || running.get());
    assert_eq!((seen, running.get()), (1, 0));
}

/// P-08.
#[test]
fn the_gauge_is_up_until_a_deferred_ends() -> Result<(), Failure> {
    let running = gauge();
    let tracked = || {
        let (deferred, resolver) = Deferred::<i32>::pending();
        (track_inprogress(&running, deferred), resolver)
    };
    let (first, fire) = tracked();
    let (second, fail) = tracked();
    let (third, _never) = tracked();
    assert_eq!(running.get(), 3);

    fire.callback(1)?;
    assert_eq!(running.get(), 2);
    fail.errback(Failure::message("no"))?;
    assert_eq!(running.get(), 1);
    third.cancel();
    assert_eq!(running.get(), 0);
    assert_eq!(first.result()?, 1);
    assert_eq!(second.result().unwrap_err().to_string(), "no");
    assert!(third.result().is_err());
    Ok(())
}

/// P-08. It is back before the next callback runs, which may look at it.
#[test]
fn the_gauge_is_back_before_the_next_callback() {
    let running = gauge();
    let gauge = running.clone();
    let (request, resolver) = Deferred::pending();
    let seen = track_inprogress(&running, || request).map(move |()| gauge.get());
    assert_eq!(running.get(), 1);
    resolver.callback(()).unwrap();
    assert_eq!(seen.result().unwrap(), 0);
}

/// P-09.
#[test]
fn the_gauge_stays_up_while_time_passes() -> Result<(), Failure> {
    let running = gauge();
    let clock = Clock::new();
    let nap = defer_later(&clock, Duration::from_secs(5), || Ok(()));
    let nap = track_inprogress(&running, nap);
    for _ in 0..4 {
        clock.advance(Duration::from_secs(1));
        assert_eq!(running.get(), 1);
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(running.get(), 0);
    nap.result()
}

/// P-09. Upstream leaks here.
#[test]
fn the_gauge_is_back_when_the_resolver_is_dropped() {
    let running = gauge();
    let (deferred, resolver) = Deferred::<()>::pending();
    let deferred = track_inprogress(&running, deferred);
    drop(resolver);
    assert_eq!(running.get(), 0);
    assert!(deferred.result().is_err());
}

/// P-09. Upstream leaks here, too.
#[test]
fn the_gauge_is_back_when_there_never_was_a_deferred() {
    let running = gauge();
    let early = track_inprogress(&running, || -> Result<(), Failure> {
        Err(Failure::message("no connection"))
    });
    assert!(early.is_err());
    assert_eq!(running.get(), 0);

    let panic = catch_unwind(AssertUnwindSafe(|| {
        track_inprogress(&running, || -> Deferred<()> { panic!("as planned") })
    }));
    assert_eq!(
        *panic.unwrap_err().downcast::<&str>().unwrap(),
        "as planned"
    );
    assert_eq!(running.get(), 0);
}

/// P-08. In a chain that waits on another one, the end is that of the other.
#[test]
fn the_gauge_is_up_while_a_callback_is_waited_for() -> Result<(), Failure> {
    let running = gauge();
    let (inner, resolver) = Deferred::<()>::pending();
    let outer = Deferred::succeed(()).add_callback(|()| inner);
    let outer = track_inprogress(&running, track_inprogress(&running, outer));
    assert_eq!(running.get(), 2);
    outer.cancel();
    assert_eq!(running.get(), 0);
    drop(resolver);
    assert_eq!(running.get(), 0);
    assert!(outer.result().is_err());
    Ok(())
}

/// P-08.
#[test]
fn any_gauge_will_do() {
    let floats = Gauge::new("floats", "Floats.").unwrap();
    floats.set(2.5);
    assert_eq!(track_inprogress(&floats, || floats.get()), 3.5);
    assert_eq!(floats.get(), 2.5);

    let shared: Rc<dyn UpDown> = Rc::new(floats.clone());
    assert_eq!(track_inprogress(&shared, || floats.get()), 3.5);
}

/// P-08. A metric that panics is its author's bug, and not the end of what it measures.
#[test]
fn a_gauge_that_panics_costs_no_value() -> Result<(), Failure> {
    /// Panics on the way up, or on the way down.
    #[derive(Clone)]
    struct Broken(bool, Rc<Cell<i32>>);
    impl UpDown for Broken {
        fn inc(&self) {
            assert!(!self.0, "broken metric");
            self.1.set(self.1.get() + 1);
        }

        fn dec(&self) {
            assert!(self.0, "broken metric");
            self.1.set(self.1.get() - 1);
        }
    }

    for broken_up in [true, false] {
        let gauge = Broken(broken_up, Rc::default());
        assert_eq!(track_inprogress(&gauge, || 1), 1);
        let (reply, resolver) = Deferred::pending();
        let reply = track_inprogress(&gauge, reply);
        resolver.callback(2)?;
        assert_eq!(reply.result()?, 2);
        // Two panics at once would end the process.
        let panic = catch_unwind(AssertUnwindSafe(|| {
            track_inprogress(&gauge, || -> u8 { panic!("as planned") })
        }));
        assert_eq!(
            *panic.unwrap_err().downcast::<&str>().unwrap(),
            "as planned"
        );
    }
    Ok(())
}

fn gauge() -> IntGauge {
    IntGauge::new("running", "On their way.").expect("a good name")
}
