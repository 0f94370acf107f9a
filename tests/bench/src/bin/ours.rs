//! The server that all this is about, through its public API and as a user would write it.

use std::time::Instant;

use bench::serve::{Args, COUNTED, HELLO, Metrics, announce};
use prometheus_deferred::web::{Rendered, Request, Resource, Response, Site, Tree};
use prometheus_deferred::{Failure, MetricsResource, Reactor};

struct Plaintext;

impl Resource for Plaintext {
    fn render_get(&self, _: Request) -> Rendered {
        Response::new(HELLO).with_content_type("text/plain").into()
    }
}

struct Counted(Metrics);

impl Resource for Counted {
    fn render_get(&self, _: Request) -> Rendered {
        let start = Instant::now();
        self.0.count("GET", "/inc", start);
        Response::new(COUNTED)
            .with_content_type("text/plain")
            .into()
    }
}

fn main() -> Result<(), Failure> {
    let args = Args::from_env();
    let metrics = Metrics::new(args.series);
    let reactor = Reactor::new()?;
    let root = Tree::new();
    root.put_child("plaintext", Plaintext);
    root.put_child(
        "metrics",
        MetricsResource::with_registry(metrics.registry.clone()),
    );
    root.put_child("inc", Counted(metrics));
    let port = reactor.listen_tcp(args.address.to_string(), Site::new(root))?;
    announce(port.address());
    reactor.run()
}
