//! Measuring Deferreds and functions: how long they take, how many fail, how many are in progress.
//!
//! Each of [`time`], [`count_exceptions`], [`count_exceptions_of`] and [`track_inprogress`] takes a
//! metric and either a [`Deferred`](deferred_reactor::Deferred), which it hands back measured, or a
//! function, which it calls at once; if that returns a Deferred, the measurement goes on until it
//! ends. They nest:
//!
//! ```
//! use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};
//! use prometheus_deferred::{Deferred, Failure, count_exceptions, time, track_inprogress};
//!
//! let seconds = Histogram::with_opts(HistogramOpts::new("fetch_duration_seconds", "Fetches."))?;
//! let failures = IntCounter::new("fetch_failures_total", "Fetches that failed.")?;
//! let running = IntGauge::new("fetches_in_progress", "Fetches on their way.")?;
//!
//! let (reply, resolver) = Deferred::<String>::pending(); // from the network, say
//! let reply = time(&seconds, count_exceptions(&failures, track_inprogress(&running, reply)));
//! assert_eq!(running.get(), 1);
//!
//! resolver.callback("pong".to_owned())?;
//! assert_eq!(reply.result()?, "pong");
//! assert_eq!((running.get(), seconds.get_sample_count(), failures.get()), (0, 1, 0));
//! # Ok::<(), Failure>(())
//! ```
//!
//! These guarantees hold however the measured Deferred or function ends (success, failure,
//! cancelling, abandoning, a returned error, a panic): afterwards the gauge has its earlier value,
//! and the histogram exactly one observation more. Values and errors pass through unchanged. If the
//! metric itself panics, the panic is logged.
//!
//! Metrics are passed by reference and cloned: `&histogram`,
//! `&counters.with_label_values(&["GET"])`, and `&*SECONDS` for a `static` in a `LazyLock`. The
//! types of the `prometheus` crate work directly; for another crate, implement the small traits
//! [`Observe`], [`Increment`] and [`UpDown`].

mod ending;
mod metrics;

use std::error::Error;
use std::time::Instant;

use deferred_reactor::time::now;

pub use ending::{End, Ending};
pub use metrics::{Increment, Observe, UpDown};

/// Something that can be measured: a Deferred, or a function that returns an [`Ending`].
pub trait Measured {
    /// The measured Deferred, or the return value of the function.
    type Output;

    /// Calls it, if it is a function, and calls `end` when it ends.
    #[doc(hidden)]
    fn measure(self, end: impl FnOnce(End<'_>) + 'static) -> Self::Output;
}

impl<T: 'static> Measured for deferred_reactor::Deferred<T> {
    type Output = Self;

    #[track_caller]
    fn measure(self, end: impl FnOnce(End<'_>) + 'static) -> Self {
        self.when_ended(end)
    }
}

impl<F: FnOnce() -> R, R: Ending> Measured for F {
    type Output = R;

    #[track_caller]
    fn measure(self, end: impl FnOnce(End<'_>) + 'static) -> R {
        /// Calls `end` also if the function panics.
        struct Unwound<E: FnOnce(End<'_>)>(Option<E>);
        impl<E: FnOnce(End<'_>)> Drop for Unwound<E> {
            fn drop(&mut self) {
                if let Some(end) = self.0.take() {
                    end(End::Panic);
                }
            }
        }
        let mut unwound = Unwound(Some(end));
        let outcome = self();
        match unwound.0.take() {
            Some(end) => outcome.when_ended(end),
            None => outcome,
        }
    }
}

/// Measures how long a Deferred or a function takes, in seconds.
///
/// Makes one observation at the end, in any case. On a Deferred, the time starts with this call,
/// and callbacks added afterwards are not included. A function is measured from its call until its
/// return value ends. In a test with a [`MemoryReactor`](deferred_reactor::testing::MemoryReactor),
/// the time is that of its clock.
///
/// ```
/// # use prometheus::{Histogram, HistogramOpts};
/// # use prometheus_deferred::{Deferred, Failure, time};
/// let seconds = Histogram::with_opts(HistogramOpts::new("sum_duration_seconds", "Sums."))?;
/// let sum: u64 = time(&seconds, || (1..=1000).sum::<u64>());
/// let later = time(&seconds, || Deferred::succeed(sum));
/// assert_eq!(later.result()?, 500_500);
/// assert_eq!(seconds.get_sample_count(), 2);
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn time<M, X>(metric: &M, measured: X) -> X::Output
where
    M: Observe + Clone + 'static,
    X: Measured,
{
    let timer = Timer {
        metric: metric.clone(),
        start: now(),
    };
    measured.measure(move |_| drop(timer))
}

/// Observes when it is dropped, so also if the measured value can never end.
struct Timer<M: Observe> {
    metric: M,
    start: Instant,
}

impl<M: Observe> Drop for Timer<M> {
    fn drop(&mut self) {
        let seconds = now().saturating_duration_since(self.start).as_secs_f64();
        metrics::update(|| self.metric.observe_seconds(seconds));
    }
}

/// Counts when a Deferred or a function fails, whatever the error.
///
/// Cancelled and abandoned Deferreds have failed, and so has a function that panics. The error
/// itself is passed on.
///
/// ```
/// # use prometheus::IntCounter;
/// # use prometheus_deferred::count_exceptions;
/// let failures = IntCounter::new("parse_failures_total", "Texts that were no number.")?;
/// let number = count_exceptions(&failures, || "seven".parse::<u32>());
/// assert!(number.is_err());
/// assert_eq!(failures.get(), 1);
/// # Ok::<(), prometheus::Error>(())
/// ```
#[track_caller]
pub fn count_exceptions<M, X>(metric: &M, measured: X) -> X::Output
where
    M: Increment + Clone + 'static,
    X: Measured,
{
    let metric = metric.clone();
    measured.measure(move |end| {
        if end.is_error() {
            metrics::update(|| metric.increment());
        }
    })
}

/// Counts when a Deferred or a function fails with an error of type `E`.
///
/// ```
/// # use std::num::ParseIntError;
/// # use prometheus::IntCounter;
/// # use prometheus_deferred::{CancelledError, Deferred, count_exceptions_of};
/// let cancelled = IntCounter::new("jobs_cancelled_total", "Jobs that were given up.")?;
/// let (job, _resolver) = Deferred::<()>::pending();
/// let job = count_exceptions_of::<CancelledError, _>(&cancelled, job);
/// job.cancel();
/// assert!(job.result().is_err());
/// assert_eq!(cancelled.get(), 1);
/// # Ok::<(), prometheus::Error>(())
/// ```
#[track_caller]
pub fn count_exceptions_of<E, X>(
    metric: &(impl Increment + Clone + 'static),
    measured: X,
) -> X::Output
where
    E: Error + 'static,
    X: Measured,
{
    let metric = metric.clone();
    measured.measure(move |end| {
        if end.is::<E>() {
            metrics::update(|| metric.increment());
        }
    })
}

/// Counts Deferreds or functions in progress: adds one now, and subtracts one at the end.
///
/// ```
/// # use prometheus::IntGauge;
/// # use prometheus_deferred::{Deferred, track_inprogress};
/// let running = IntGauge::new("jobs_in_progress", "Jobs on their way.")?;
/// let (job, resolver) = Deferred::<()>::pending();
/// let job = track_inprogress(&running, job);
/// assert_eq!(running.get(), 1);
/// drop(resolver); // nobody will ever finish it
/// assert_eq!(running.get(), 0);
/// # drop(job.add_errback(|_| Ok(())));
/// # Ok::<(), prometheus::Error>(())
/// ```
#[track_caller]
pub fn track_inprogress<M, X>(metric: &M, measured: X) -> X::Output
where
    M: UpDown + Clone + 'static,
    X: Measured,
{
    let entered = metrics::update(|| metric.inc()).then(|| Entered(metric.clone()));
    measured.measure(move |_| drop(entered))
}

/// Subtracts one from the gauge when it is dropped.
struct Entered<M: UpDown>(M);

impl<M: UpDown> Drop for Entered<M> {
    fn drop(&mut self) {
        metrics::update(|| self.0.dec());
    }
}
