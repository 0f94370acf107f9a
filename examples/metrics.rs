//! Exposes the process's metrics.
use prometheus_deferred::web::{Site, Tree};
use prometheus_deferred::{Failure, MetricsResource, Reactor};

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let reactor = Reactor::new()?;
    let root = Tree::new();
    root.put_child("metrics", MetricsResource::new());
    root.put_child("hello", Hello);
    let port = reactor.listen_tcp(address, Site::new(root))?;
    println!("listening on http://{}/", port.address());
    reactor.run()
}
struct Hello;
impl prometheus_deferred::web::Resource for Hello {
    fn render_get(
        &self,
        _: prometheus_deferred::web::Request,
    ) -> prometheus_deferred::web::Rendered {
        "Hello, World!".into()
    }
}
