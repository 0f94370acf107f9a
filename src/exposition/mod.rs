//! The metrics of a registry, served over HTTP.
//!
//! ```text
//! Registry ──gather──▶ families ──text──▶ bytes ──MetricsResource──▶ a Site of yours
//!                                                 MetricsServer ────▶ a thread of its own
//!                                                 start_http_server ▶ a port of your reactor
//! ```
//!
//! - In a program that serves other things too, put a [`MetricsResource`] in its tree, or return
//!   one from a route.
//! - In a program with a reactor that serves nothing else, [`start_http_server`].
//! - In any other program, [`MetricsServer::spawn`]: one line, and one thread that answers also
//!   while the rest of the program is busy.
//! - [`instrument_reactor`] adds the measurements of the reactor to the metrics, in any of these.

mod gzip;
mod reactor;
mod resource;
mod server;
pub mod text;

pub use reactor::{ReactorMetrics, ReactorMetricsError, instrument_reactor};
pub use resource::MetricsResource;
pub use server::{
    MetricsHttpServer, MetricsServer, start_http_server, start_http_server_with_registry,
};
