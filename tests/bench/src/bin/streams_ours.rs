//! Bodies that stream, through the public API: what `streams` asks of each server.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bench::serve::{Args, HELLO, announce};
use bench::streams::{PIECE_BYTES, pieces};
use bytes::Bytes;
use prometheus_deferred::web::{Klein, NOT_DONE_YET, Request, Response, Site};
use prometheus_deferred::{Failure, Reactor};

fn main() -> Result<(), Failure> {
    let args = Args::from_env();
    let reactor = Reactor::new()?;
    let piece = Bytes::from(vec![b'x'; PIECE_BYTES]);
    let mut app = Klein::new();
    app.route("/plaintext", |_: Request| HELLO);
    // `series` is how many MiB a download has.
    let count = pieces(args.series);
    app.route("/down", move |_: Request| {
        Response::stream(std::iter::repeat_n(piece.clone(), count))
    });
    let threads = reactor.clone();
    app.route("/sink", move |mut request: Request| {
        let body = request.take_body();
        threads.spawn(async move {
            let mut size = 0;
            while let Some(piece) = body.read().await? {
                size += piece.len();
            }
            Ok(format!("{size}\n"))
        })
    })
    .streaming()
    .max_body_bytes(u64::MAX);
    let path = upload_path();
    app.route("/upload", move |mut request: Request| {
        let saved = request.take_body().save(&path);
        saved.map(|size| format!("{size}\n"))
    })
    .streaming()
    .max_body_bytes(u64::MAX);

    let subscribers: Rc<RefCell<Vec<Request>>> = Rc::default();
    let all = subscribers.clone();
    app.route("/events", move |mut request: Request| {
        request.write("data: welcome\n\n");
        all.borrow_mut().push(request);
        NOT_DONE_YET
    });
    app.route("/publish", move |_: Request| {
        for subscriber in subscribers.borrow_mut().iter_mut() {
            subscriber.write("data: something has happened\n\n");
        }
        "published\n"
    });

    let mut site = Site::new(app.resource());
    if args.closes {
        // So that those who trickle are cut off while somebody watches.
        let short = Duration::from_secs(4);
        site = site
            .header_timeout(short)
            .min_bytes_per_second(240, short)
            .write_timeout(short);
    }
    let port = reactor.listen_tcp(args.address.to_string(), site)?;
    announce(port.address());
    reactor.run()
}

fn upload_path() -> PathBuf {
    std::env::temp_dir().join(format!("bench-upload-{}", std::process::id()))
}
