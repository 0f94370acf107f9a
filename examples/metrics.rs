//! Expose the process's metrics.
//!
//! ```text
//! cargo run --release --example metrics              # or: ... --example metrics 127.0.0.1:0
//! listening on http://127.0.0.1:8000/
//!
//! curl http://127.0.0.1:8000/metrics
//! # HELP uptime_ticks_total Seconds that this program has been running.
//! # TYPE uptime_ticks_total counter
//! uptime_ticks_total 3
//! ```

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{IntCounter, register_int_counter};
use prometheus_deferred::web::{Site, Tree};
use prometheus_deferred::{Failure, MetricsResource, Reactor};

static TICKS: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "uptime_ticks_total",
        "Seconds that this program has been running."
    )
    .unwrap()
});

fn tick(reactor: Reactor) {
    TICKS.inc();
    let again = reactor.clone();
    reactor.call_later(Duration::from_secs(1), move || tick(again));
}

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let reactor = Reactor::new()?;
    tick(reactor.clone());
    let root = Tree::new();
    root.put_child("metrics", MetricsResource::new());
    let port = reactor.listen_tcp(address, Site::new(root))?;
    println!("listening on http://{}/", port.address());
    reactor.run()
}
