//! Event streams and bodies, with axum on tokio's current_thread, as its users would write them.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use bench::serve::{Args, HELLO, announce};
use bench::streams::{PIECE_BYTES, pieces};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast;

async fn events(
    State(sender): State<broadcast::Sender<&'static str>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = sender.subscribe();
    let welcome = stream::iter([Ok(Event::default().data("welcome"))]);
    let later = stream::unfold(receiver, async |mut receiver| {
        let data = receiver.recv().await.ok()?;
        Some((Ok(Event::default().data(data)), receiver))
    });
    Sse::new(welcome.chain(later))
}

async fn sink(body: Body) -> String {
    let mut pieces = body.into_data_stream();
    let mut size = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        size += piece.len();
    }
    format!("{size}\n")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let (sender, _) = broadcast::channel(16);
    let publisher = sender.clone();
    let piece = Bytes::from(vec![b'x'; PIECE_BYTES]);
    let count = pieces(args.series);
    let down = async move || {
        let pieces = std::iter::repeat_n(piece.clone(), count).map(Ok::<_, Infallible>);
        Body::from_stream(stream::iter(pieces))
    };
    let publish = async move || {
        let _ = publisher.send("something has happened");
        "published\n"
    };
    let app = Router::new()
        .route("/plaintext", get(async || HELLO))
        .route("/events", get(events))
        .with_state(sender)
        .route("/publish", get(publish))
        .route("/down", get(down))
        .route("/sink", post(sink))
        .layer(DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind(args.address).await?;
    announce(listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
