//! A view that answers five seconds later, timed until it has answered.
//!
//! ```text
//! cargo run --release --example delayed              # or: ... --example delayed 127.0.0.1:0
//! listening on http://127.0.0.1:8000/
//!
//! curl http://127.0.0.1:8000/                        # five seconds later:
//! <html><body>Sorry to keep you waiting.</body></html>
//! curl -s http://127.0.0.1:8000/metrics | grep _count
//! req_time_seconds_count 1
//! ```

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{Histogram, register_histogram};
use prometheus_deferred::web::{NOT_DONE_YET, Rendered, Request, Resource, Site, Tree};
use prometheus_deferred::{Failure, MetricsResource, Reactor, defer_later, time};

static REQ_TIME: LazyLock<Histogram> =
    LazyLock::new(|| register_histogram!("req_time_seconds", "time spent in requests").unwrap());

struct DelayedResource {
    reactor: Reactor,
}

impl Resource for DelayedResource {
    fn render_get(&self, request: Request) -> Rendered {
        let d = defer_later(&self.reactor, Duration::from_secs(5), move || Ok(request));
        time(
            &*REQ_TIME,
            d.add_callback(|mut request| {
                request.write("<html><body>Sorry to keep you waiting.</body></html>");
                request.finish();
                Ok(())
            }),
        );
        NOT_DONE_YET
    }
}

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let reactor = Reactor::new()?;
    let root = Tree::new();
    let delayed = DelayedResource {
        reactor: reactor.clone(),
    };
    root.put_child("", delayed);
    root.put_child("metrics", MetricsResource::new());
    let port = reactor.listen_tcp(address, Site::new(root))?;
    println!("listening on http://{}/", port.address());
    reactor.run()
}
