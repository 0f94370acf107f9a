//! The traits that a metric must implement: three small ones.
//!
//! They are implemented for the types of the `prometheus` crate, its references and its `Arc`s. To
//! use another metrics crate, implement them for a type of its own; each is one or two methods.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use deferred_reactor::Failure;
use prometheus::core::{Atomic, GenericCounter, GenericGauge};
use prometheus::{Gauge, Histogram};

/// A metric that takes durations, usually a histogram.
#[diagnostic::on_unimplemented(
    note = "a metric in a `LazyLock` is lent to a measurement as `&*METRIC`"
)]
pub trait Observe {
    /// Takes one duration.
    fn observe_seconds(&self, seconds: f64);
}

/// A metric that counts up: a counter.
#[diagnostic::on_unimplemented(
    note = "a metric in a `LazyLock` is lent to a measurement as `&*METRIC`"
)]
pub trait Increment {
    /// Adds one.
    fn increment(&self);
}

/// A metric that goes up and down: a gauge.
#[diagnostic::on_unimplemented(
    note = "a metric in a `LazyLock` is lent to a measurement as `&*METRIC`"
)]
pub trait UpDown {
    /// Adds one.
    fn inc(&self);
    /// Subtracts one.
    fn dec(&self);
}

impl Observe for Histogram {
    fn observe_seconds(&self, seconds: f64) {
        self.observe(seconds);
    }
}

/// Keeps only the last duration; for work that runs rarely, such as a nightly job.
impl Observe for Gauge {
    fn observe_seconds(&self, seconds: f64) {
        self.set(seconds);
    }
}

impl<P: Atomic> Increment for GenericCounter<P> {
    fn increment(&self) {
        self.inc();
    }
}

impl<P: Atomic> UpDown for GenericGauge<P> {
    fn inc(&self) {
        GenericGauge::inc(self);
    }

    fn dec(&self) {
        GenericGauge::dec(self);
    }
}

/// Implements the traits for pointers to metrics.
macro_rules! through_pointers {
    ($($pointer:ty),*) => {$(
        impl<M: Observe + ?Sized> Observe for $pointer {
            fn observe_seconds(&self, seconds: f64) {
                (**self).observe_seconds(seconds);
            }
        }

        impl<M: Increment + ?Sized> Increment for $pointer {
            fn increment(&self) {
                (**self).increment();
            }
        }

        impl<M: UpDown + ?Sized> UpDown for $pointer {
            fn inc(&self) {
                UpDown::inc(&**self);
            }

            fn dec(&self) {
                UpDown::dec(&**self);
            }
        }
    )*};
}

through_pointers!(&M, Rc<M>, Arc<M>);

/// Updates a metric, and returns whether that succeeded.
///
/// A panic in a metric is logged and contained: it must not lose the measured value or error, nor
/// meet a panic of the measured function, which would abort the process.
pub(super) fn update(update: impl FnOnce()) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(update));
    outcome
        .map_err(|payload| {
            let failure = Failure::from_panic(payload);
            deferred_reactor::logging::error!(target: "metrics", "a metric was not updated: it {failure}");
        })
        .is_ok()
}
