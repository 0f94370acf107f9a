//! What is asked of a metric: three small traits.
//!
//! They are implemented for the types of the `prometheus` crate, its references and its `Arc`s. To
//! use another metrics crate, implement them for a type of its own; each is one or two methods.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use deferred_reactor::Failure;
use prometheus::core::{Atomic, GenericCounter, GenericGauge};
use prometheus::{Gauge, Histogram};

/// Takes durations: a histogram, usually.
#[diagnostic::on_unimplemented(
    note = "a metric in a `LazyLock` is lent to a measurement as `&*METRIC`"
)]
pub trait Observe {
    /// Takes one duration.
    fn observe_seconds(&self, seconds: f64);
}

/// Counts up: a counter.
#[diagnostic::on_unimplemented(
    note = "a metric in a `LazyLock` is lent to a measurement as `&*METRIC`"
)]
pub trait Increment {
    /// Counts one more.
    fn increment(&self);
}

/// Goes up and down: a gauge.
#[diagnostic::on_unimplemented(
    note = "a metric in a `LazyLock` is lent to a measurement as `&*METRIC`"
)]
pub trait UpDown {
    /// One more.
    fn inc(&self);
    /// One less.
    fn dec(&self);
}

impl Observe for Histogram {
    fn observe_seconds(&self, seconds: f64) {
        self.observe(seconds);
    }
}

/// The last duration only; for what runs once in a while, such as a nightly job.
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

/// The traits for what points to a metric.
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

/// Updates a metric, and says whether it could be done.
///
/// A panic in a metric is logged and stops here: it must not cost the value or the error that is
/// being measured, nor meet another panic, that of a measured function, which would end the process.
pub(super) fn update(update: impl FnOnce()) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(update));
    outcome
        .map_err(|payload| {
            let failure = Failure::from_panic(payload);
            deferred_reactor::logging::error!(target: "metrics", "a metric was not updated: it {failure}");
        })
        .is_ok()
}
