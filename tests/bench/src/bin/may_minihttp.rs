//! may_minihttp: green threads, and an HTTP parser that does little else. One worker thread.

use std::io;
use std::time::Instant;

use bench::serve::{Args, COUNTED, HELLO, Metrics, announce};
use may_minihttp::{HttpServer, HttpService, Request, Response};

#[derive(Clone)]
struct Service(Metrics);

impl HttpService for Service {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match request.path() {
            "/plaintext" => {
                response.header("Content-Type: text/plain").body(HELLO);
            }
            "/inc" => {
                self.0.count("GET", "/inc", Instant::now());
                response.header("Content-Type: text/plain").body(COUNTED);
            }
            "/metrics" => {
                response.header("Content-Type: text/plain; version=0.0.4");
                response.body_vec(self.0.encode().into_bytes());
            }
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let mut args = Args::from_env();
    may::config().set_workers(1);
    if args.address.port() == 0 {
        // It does not tell which port it got, so one that is free is found for it.
        args.address = std::net::TcpListener::bind(args.address)?.local_addr()?;
    }
    let metrics = Metrics::new(args.series);
    let server = HttpServer(Service(metrics)).start(args.address)?;
    announce(args.address);
    server
        .join()
        .map_err(|_| io::Error::other("the server panicked"))
}
