//! actix-web with one worker.

use std::time::Instant;

use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpServer, Responder};
use bench::serve::{Args, COUNTED, HELLO, METRICS_TYPE, Metrics, announce};

async fn plaintext() -> impl Responder {
    HttpResponse::Ok().content_type("text/plain").body(HELLO)
}

async fn count(metrics: Data<Metrics>) -> impl Responder {
    metrics.count("GET", "/inc", Instant::now());
    HttpResponse::Ok().content_type("text/plain").body(COUNTED)
}

async fn scrape(metrics: Data<Metrics>) -> impl Responder {
    HttpResponse::Ok()
        .content_type(METRICS_TYPE)
        .body(metrics.encode())
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let metrics = Data::new(Metrics::new(args.series));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(metrics.clone())
            .route("/plaintext", web::get().to(plaintext))
            .route("/inc", web::get().to(count))
            .route("/metrics", web::get().to(scrape))
    })
    .workers(1)
    // Its 5 seconds are over before 10,000 idle connections are open.
    .keep_alive(std::time::Duration::from_secs(60))
    .bind(args.address)?;
    announce(server.addrs()[0]);
    server.run().await
}
