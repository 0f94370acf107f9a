//! hyper 1.x on tokio's current_thread, with what its users switch on for speed.

use std::convert::Infallible;
use std::time::Instant;

use bench::serve::{Args, COUNTED, HELLO, METRICS_TYPE, Metrics, announce};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

fn answer(body: impl Into<Bytes>, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn route(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/plaintext" => answer(HELLO, "text/plain"),
        "/inc" => {
            metrics.count("GET", "/inc", Instant::now());
            answer(COUNTED, "text/plain")
        }
        "/metrics" => answer(metrics.encode(), METRICS_TYPE),
        _ => {
            let mut response = answer("not found\n", "text/plain");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let metrics = Metrics::new(args.series);
    let listener = TcpListener::bind(args.address).await?;
    announce(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(route(&request, &metrics)))
            });
            // A client that goes away is no news.
            let _ = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
