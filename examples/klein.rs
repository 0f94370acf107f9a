//! Routes instead of a tree, and a counter for inbound requests.
//!
//! ```text
//! cargo run --release --example klein                # or: ... --example klein 127.0.0.1:0
//! listening on http://127.0.0.1:8000/
//!
//! curl -s http://127.0.0.1:8000/metrics
//! # HELP inbound_requests_total Counter (int) of inbound http requests
//! # TYPE inbound_requests_total counter
//! inbound_requests_total{endpoint="/metrics",method="GET"} 1
//! ```

use std::sync::LazyLock;

use prometheus::{IntCounterVec, register_int_counter_vec};
use prometheus_deferred::web::{Klein, Site};
use prometheus_deferred::{Failure, MetricsResource, Reactor};

static INBOUND_REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "inbound_requests_total",
        "Counter (int) of inbound http requests",
        &["endpoint", "method"]
    )
    .unwrap()
});

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let reactor = Reactor::new()?;
    let mut app = Klein::new();
    app.route("/metrics", |_request| {
        INBOUND_REQUESTS
            .with_label_values(&["/metrics", "GET"])
            .inc();
        MetricsResource::new()
    });
    let port = reactor.listen_tcp(address, Site::new(app.resource()))?;
    println!("listening on http://{}/", port.address());
    reactor.run()
}
