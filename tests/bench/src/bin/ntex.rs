//! ntex with one worker, on tokio.

use std::time::Instant;

use bench::serve::{Args, COUNTED, HELLO, METRICS_TYPE, Metrics, announce};
use ntex::web::types::State;
use ntex::web::{self, App, HttpResponse};

async fn plaintext() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body(HELLO)
}

async fn count(metrics: State<Metrics>) -> HttpResponse {
    metrics.count("GET", "/inc", Instant::now());
    HttpResponse::Ok().content_type("text/plain").body(COUNTED)
}

async fn scrape(metrics: State<Metrics>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(METRICS_TYPE)
        .body(metrics.encode())
}

#[ntex::main]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let metrics = Metrics::new(args.series);
    let listener = std::net::TcpListener::bind(args.address)?;
    let address = listener.local_addr()?;
    let server = web::server(move || {
        App::new()
            .state(metrics.clone())
            .route("/plaintext", web::get().to(plaintext))
            .route("/inc", web::get().to(count))
            .route("/metrics", web::get().to(scrape))
    })
    .workers(1)
    // Its second is over before each connection of the probe has had a turn.
    .client_timeout(ntex::time::Seconds(10))
    .listen(listener)?;
    announce(address);
    server.run().await
}
