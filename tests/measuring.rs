//! What all measures have in common: they nest, cost little, and take other people's metrics.

use std::cell::Cell;
use std::rc::Rc;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};
use prometheus_deferred::instrument::{Increment, Observe, UpDown};
use prometheus_deferred::web::Rendered;
use prometheus_deferred::{Deferred, Failure, count_exceptions, time, track_inprogress};

/// P-02, P-06, P-08. One call around the slow step, whatever it is.
#[test]
fn measures_nest_in_any_order() -> Result<(), Failure> {
    let (seconds, failures, running) = metrics();
    let (reply, resolver) = Deferred::<()>::pending();
    let reply = time(&seconds, || {
        count_exceptions(&failures, track_inprogress(&running, || reply))
    });
    assert_eq!(running.get(), 1);
    resolver.errback(Failure::message("refused"))?;
    assert!(reply.result().is_err());
    let seen = (seconds.get_sample_count(), failures.get(), running.get());
    assert_eq!(seen, (1, 1, 0));
    Ok(())
}

/// P-02, P-06. A view is a function, too; what it returns may come later.
#[test]
fn a_view_is_measured_until_its_page_is_there() -> Result<(), Failure> {
    let (seconds, failures, running) = metrics();
    let measured = |view: Rendered| -> Rendered {
        time(&seconds, || {
            count_exceptions(&failures, || track_inprogress(&running, || view))
        })
    };
    let seen = || (seconds.get_sample_count(), failures.get(), running.get());

    let (page, resolver) = Deferred::<&str>::pending();
    let view = measured(page.into());
    assert_eq!(seen(), (0, 0, 1));
    resolver.callback("page")?;
    assert_eq!(seen(), (1, 0, 0));
    assert!(matches!(view, Rendered::Deferred(_)));

    let (page, resolver) = Deferred::<&str>::pending();
    let view = measured(page.into());
    drop(resolver);
    assert_eq!(seen(), (2, 1, 0));
    drop(view);

    measured("page".into());
    assert_eq!(seen(), (3, 1, 0));
    measured(Failure::message("no page").into());
    assert_eq!(seen(), (4, 2, 0));
    Ok(())
}

/// Law 1. One allocation a measure on a Deferred that is pending, none on one that has fired.
#[test]
fn three_measures_cost_three_allocations() -> Result<(), Failure> {
    let (seconds, failures, running) = metrics();
    let measured = |deferred: Deferred<u8>| {
        time(
            &seconds,
            count_exceptions(&failures, track_inprogress(&running, deferred)),
        )
    };
    let (deferred, resolver) = Deferred::pending();
    let mut deferred = Some(deferred);
    let adding = allocation_counter::measure(|| deferred = deferred.take().map(measured));
    assert!(adding.count_total <= 3, "{adding:?}");

    let firing = allocation_counter::measure(|| resolver.callback(1).unwrap());
    assert_eq!(firing.count_total, 0, "{firing:?}");
    assert_eq!(deferred.take().unwrap().result()?, 1);

    let mut fired = None;
    let at_once = allocation_counter::measure(|| fired = Some(measured(Deferred::succeed(2))));
    assert_eq!(at_once.count_total, 0, "{at_once:?}");
    assert_eq!(fired.unwrap().result()?, 2);
    Ok(())
}

/// P-01, P-06, P-08. Another crate's metrics need one or two methods.
#[test]
fn metrics_of_another_crate_can_be_plugged_in() -> Result<(), Failure> {
    #[derive(Clone, Default)]
    struct Mine(Rc<Cell<Totals>>);
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Totals {
        observations: u32,
        seconds: f64,
        failures: u32,
        running: i32,
    }
    impl Mine {
        fn update(&self, change: impl FnOnce(&mut Totals)) {
            let mut totals = self.0.get();
            change(&mut totals);
            self.0.set(totals);
        }
    }
    impl Observe for Mine {
        fn observe_seconds(&self, seconds: f64) {
            self.update(|totals| {
                totals.observations += 1;
                totals.seconds += seconds;
            });
        }
    }
    impl Increment for Mine {
        fn increment(&self) {
            self.update(|totals| totals.failures += 1);
        }
    }
    impl UpDown for Mine {
        fn inc(&self) {
            self.update(|totals| totals.running += 1);
        }
        fn dec(&self) {
            self.update(|totals| totals.running -= 1);
        }
    }

    let mine = Mine::default();
    let (reply, resolver) = Deferred::<()>::pending();
    let reply = time(
        &mine,
        count_exceptions(&mine, track_inprogress(&mine, reply)),
    );
    assert_eq!(
        mine.0.get(),
        Totals {
            running: 1,
            ..Totals::default()
        }
    );
    drop(resolver);
    assert!(reply.result().is_err());
    let totals = mine.0.get();
    assert_eq!(
        (totals.observations, totals.failures, totals.running),
        (1, 1, 0)
    );
    assert!(totals.seconds >= 0.0);
    Ok(())
}

fn metrics() -> (Histogram, IntCounter, IntGauge) {
    let seconds = HistogramOpts::new("fetch_seconds", "Fetches.");
    (
        Histogram::with_opts(seconds).expect("a good name"),
        IntCounter::new("fetch_failures_total", "Fetches that failed.").expect("a good name"),
        IntGauge::new("fetches", "Fetches on their way.").expect("a good name"),
    )
}
