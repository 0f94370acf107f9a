//! axum on tokio's current_thread.

use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::ListenerExt;
use bench::serve::{Args, COUNTED, HELLO, METRICS_TYPE, Metrics, announce};

async fn count(State(metrics): State<Metrics>) -> &'static str {
    metrics.count("GET", "/inc", Instant::now());
    COUNTED
}

async fn scrape(State((metrics, in_thread)): State<(Metrics, bool)>) -> impl IntoResponse {
    let body = if in_thread {
        let encoding = tokio::task::spawn_blocking(move || metrics.encode());
        encoding.await.expect("encoding does not panic")
    } else {
        metrics.encode()
    };
    ([(CONTENT_TYPE, METRICS_TYPE)], body)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let metrics = Metrics::new(args.series);
    let app = Router::new()
        .route("/plaintext", get(async || HELLO))
        .route("/inc", get(count))
        .with_state(metrics.clone())
        .merge(
            Router::new()
                .route("/metrics", get(scrape))
                .with_state((metrics, args.in_thread)),
        );
    let listener = tokio::net::TcpListener::bind(args.address).await?;
    announce(listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
