//! Bodies that stream, with hyper on tokio's current_thread, as its users would write them.

use std::convert::Infallible;
use std::io;

use bench::serve::{Args, HELLO, announce};
use bench::streams::{PIECE_BYTES, pieces};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

type Answer = Response<BoxBody<Bytes, Infallible>>;

fn whole(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).boxed())
}

async fn answer(request: Request<Incoming>, piece: Bytes, count: usize) -> io::Result<Answer> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    match path.as_str() {
        "/down" => {
            let frames = std::iter::repeat_n(piece, count).map(|piece| Ok(Frame::data(piece)));
            let frames = futures_util::stream::iter(frames);
            Ok(Response::new(BodyExt::boxed(StreamBody::new(frames))))
        }
        "/sink" | "/upload" => {
            let mut file = match path.as_str() {
                "/upload" => {
                    let name = format!("bench-upload-{}", std::process::id());
                    Some(tokio::fs::File::create(std::env::temp_dir().join(name)).await?)
                }
                _ => None,
            };
            let mut size = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(io::Error::other)?;
                if let Some(data) = frame.data_ref() {
                    size += data.len();
                    if let Some(file) = &mut file {
                        file.write_all(data).await?;
                    }
                }
            }
            if let Some(mut file) = file {
                file.flush().await?;
            }
            Ok(whole(format!("{size}\n")))
        }
        _ => Ok(whole(HELLO)),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let args = Args::from_env();
    let piece = Bytes::from(vec![b'x'; PIECE_BYTES]);
    let count = pieces(args.series);
    let listener = TcpListener::bind(args.address).await?;
    announce(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let piece = piece.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, piece.clone(), count));
            // A client that goes away is no news.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
