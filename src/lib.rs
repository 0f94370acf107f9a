//! Twisted's programming model for Rust, with metrics that cannot lie.
//!
//! - A [`Deferred`] is a value that will exist later; callbacks are chained on it ([`deferred`]).
//! - A [`Reactor`] runs callbacks when a delay is over, when sockets are ready, and when other
//!   threads ask.
//! - A [`Site`](web::Site) serves a tree of [`Resource`](web::Resource)s, or the routes of a
//!   [`Klein`](web::Klein) app, over HTTP/1.1 from that reactor ([`web`]).
//! - [`time()`], [`count_exceptions`] and [`track_inprogress`] measure a Deferred or a function
//!   until it ends, with a value, an error or a panic ([`instrument`]).
//! - [`MetricsResource`] and [`MetricsServer`] expose what was measured ([`exposition`]).
//!
//! ```
//! use std::time::Duration;
//! use prometheus::{Histogram, HistogramOpts, Registry};
//! use prometheus_deferred::web::{Klein, Request, Site};
//! use prometheus_deferred::{Failure, MetricsResource, Reactor, defer_later, time};
//!
//! fn main() -> Result<(), Failure> {
//!     let registry = Registry::new();
//!     let opts = HistogramOpts::new("nap_duration_seconds", "How long naps take.");
//!     let naps = Histogram::with_opts(opts)?;
//!     registry.register(Box::new(naps.clone()))?;
//!
//!     let reactor = Reactor::new()?;
//!     let clock = reactor.clone();
//!     let mut app = Klein::new();
//!     app.route("/nap/<int:ms>", move |request: Request| {
//!         let ms = request.param("ms").unwrap_or(0);
//!         let nap = defer_later(&clock, Duration::from_millis(ms), || Ok("good morning\n"));
//!         time(&naps, nap) // a Deferred of a body is an answer
//!     });
//!     app.route("/metrics", move |_| MetricsResource::with_registry(registry.clone()));
//!     reactor.listen_tcp("127.0.0.1:0", Site::new(app.resource()))?;
//! #   let stop = reactor.clone();
//! #   reactor.call_when_running(move || stop.stop().expect("it runs"));
//!     reactor.run()
//! }
//! ```
//!
//! Deferred and reactor are in the package `deferred-reactor`, which knows no HTTP and no
//! Prometheus; everything in it is re-exported here. Its front page describes
//! [what runs when](deferred_reactor#what-runs-when),
//! [what becomes of a failure](deferred_reactor#what-becomes-of-a-failure), and
//! [what the end of a run drops](deferred_reactor#what-the-end-of-a-run-drops). Log targets are listed in
//! [`deferred_reactor::logging`].
//! A whole site is tested in memory: see [`web`](web#testing-a-site).

#![forbid(unsafe_code)]
// Not in the tests, examples and benches: what a peer or the system controls is an Err.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod bridge;
pub mod exposition;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[allow(
    dead_code,
    reason = "a server uses one half, and the client that is to come the other"
)]
mod http1;
pub mod instrument;
pub mod testing;
pub mod web;

/// The crate whose `Bytes` bodies are made of, in the version that is meant.
pub use bytes;
/// The crate whose methods, statuses and field names requests and responses use, in the version that is
/// meant; [`web`] has the usual names of it.
pub use http;
/// The crate whose metrics and registries are taken, in the version that is meant. A program that has
/// another version of it in its `Cargo.toml` registers its metrics where no page looks for them; one
/// that writes `prometheus_deferred::prometheus` cannot.
///
/// ```
/// use prometheus_deferred::prometheus::{IntCounter, register_int_counter};
///
/// let jobs: IntCounter = register_int_counter!("jobs_total", "Jobs done.")?;
/// jobs.inc();
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
pub use prometheus;

#[cfg(all(unix, feature = "systemd"))]
pub use deferred_reactor::systemd;
#[doc(inline)]
pub use deferred_reactor::time;
pub use deferred_reactor::{
    AbandonedError, AlreadyCalledError, BlockingCallError, CancelledError, Canceller, Clock,
    CooperativeTask, Cooperator, Deferred, DeferredList, DeferredLock, DeferredQueue,
    DeferredSemaphore, DelayedCall, DelayedCallError, ExitRequest, Failure, FailureGroup,
    FirstError, ListEntry, LoopingCall, LoopingCallError, NoLostFailures, NotFiredError, Outcome,
    PanicError, Pauser, Permit, Phase, QueueOverflow, QueueUnderflow, Reactor,
    ReactorAlreadyRunningError, ReactorGoneError, ReactorNotRunningError, ReactorStoppedError,
    ReactorTime, RemoteReactor, RemoteResolver, Resolver, SystemEvent, TimeoutError, TriggerId,
    Unhandled, UnknownTriggerError, Worker, WorkerError, blocking_call_from_thread, cooperate,
    defer_later, defer_to_thread, deferred, deferred_list, gather_results, health, logging,
    maybe_deferred, net, on_unhandled, policies, protocols, race, react, run_workers, sleep,
    threads,
};

pub use exposition::{
    MetricsResource, MetricsServer, ReactorMetrics, instrument_reactor, start_http_server,
};
#[doc(inline)]
pub use instrument::{count_exceptions, count_exceptions_of, time, track_inprogress};

/// The programs of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
