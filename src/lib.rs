//! Twisted's programming model with Prometheus metrics.
#![forbid(unsafe_code)]

pub mod exposition;
pub mod instrument;
pub mod web;

pub use deferred_reactor::*;
pub use exposition::{MetricsResource, MetricsServer, start_http_server};
pub use instrument::{count_exceptions, count_exceptions_of, time, track_inprogress};
