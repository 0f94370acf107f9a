//! The same site on every core: a reactor for each, behind one port and one /metrics.
//!
//! ```text
//! cargo run --release --example workers              # or: ... --example workers 127.0.0.1:0 4
//! listening on http://127.0.0.1:8000/
//!
//! for i in $(seq 20); do curl -s http://127.0.0.1:8000/; done
//! curl -s http://127.0.0.1:8000/metrics
//! # HELP requests_total Requests answered, by the worker that did.
//! # TYPE requests_total counter
//! requests_total{worker="0"} 11
//! requests_total{worker="1"} 9
//! ```

use std::sync::LazyLock;
use std::thread::available_parallelism;

use prometheus::{IntCounter, IntCounterVec, register_int_counter_vec};
use prometheus_deferred::web::{Rendered, Request, Resource, Site, Tree};
use prometheus_deferred::{Failure, MetricsResource, run_workers};

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "requests_total",
        "Requests answered, by the worker that did.",
        &["worker"]
    )
    .unwrap()
});

struct Hello {
    requests: IntCounter,
}

impl Resource for Hello {
    fn render_get(&self, _: Request) -> Rendered {
        self.requests.inc();
        "hello\n".into()
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:8000".into());
    let count = match arguments.next() {
        Some(count) => count.parse()?,
        None => available_parallelism()?.get(),
    };
    run_workers(count, |_reactor, worker| {
        let name = worker.index().to_string();
        let root = Tree::new();
        root.put_child(
            "",
            Hello {
                requests: REQUESTS.with_label_values(&[&name]),
            },
        );
        root.put_child("metrics", MetricsResource::new());
        let port = worker.listen_tcp(&address, Site::new(root))?;
        if worker.index() == 0 {
            println!("listening on http://{}/", port.address());
        }
        Ok(())
    })?;
    Ok(())
}
