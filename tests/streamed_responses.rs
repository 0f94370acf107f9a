//! Responses that are made while they are sent: from sources, files and producers, for clients that
//! read slowly, or not, or go.

mod support;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use prometheus_deferred::net::{PullProducer, PushProducer};
use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient};
use prometheus_deferred::web::{
    Klein, NOT_DONE_YET, RefusalReason, Rendered, Request, RequestEnd, RequestHead, RequestOutcome,
    Response, Site, SiteHandle, SiteObserver, header,
};
use prometheus_deferred::{Deferred, Failure, LoopingCall, Resolver, defer_later};
use proptest::prelude::*;
use support::{InMemory, Server, leaf, logged, note, times_logged};

const SECOND: Duration = Duration::from_secs(1);
const KIB: usize = 1024;

/// What a handler got hold of.
type Kept<T> = Rc<RefCell<Option<T>>>;

fn serving<R: Into<Rendered>>(
    set: impl FnOnce(Site) -> Site,
    render: impl Fn(Request) -> R + 'static,
) -> (InMemory, SiteHandle) {
    let mut handle = None;
    let server = InMemory::with_site(|_| {
        let site = set(Site::new(leaf(render)));
        handle = Some(site.handle());
        site
    });
    (server, handle.expect("the site was made"))
}

/// A server that hands over its requests.
fn keeping(set: impl FnOnce(Site) -> Site) -> (InMemory, SiteHandle, Kept<Request>) {
    let kept: Kept<Request> = Rc::default();
    let keep = kept.clone();
    let (server, handle) = serving(set, move |request| {
        keep.replace(Some(request));
        NOT_DONE_YET
    });
    (server, handle, kept)
}

/// Counts what is made of it, and is told apart when it is dropped.
#[derive(Clone, Default)]
struct Source(Rc<Cell<usize>>, Rc<Cell<bool>>);

struct SetWhenDropped(Rc<Cell<bool>>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

impl Source {
    /// So many pieces of this size.
    fn pieces(&self, count: usize, size: usize) -> impl Iterator<Item = Vec<u8>> + use<> {
        let (made, dropped) = (self.0.clone(), SetWhenDropped(self.1.clone()));
        (0..count).map(move |at| {
            let _ = &dropped;
            made.set(at + 1);
            vec![at as u8; size]
        })
    }
}

/// F-05, W-41. However slowly a client reads, 64 KiB and a piece are held for it.
#[test]
fn a_source_is_asked_as_the_client_reads() {
    let source = Source::default();
    let made = source.clone();
    let (server, handle) = serving(
        |site| site,
        move |_| Response::stream(made.pieces(300, 10 * KIB)),
    );
    let client = TestClient::connect(&server);
    client.connection().block_writes(0);
    let response = client.get("/").send();
    let transport = client.connection().transport().expect("it is connected");
    for round in 0..20 {
        assert!(
            transport.buffered() <= 75 * KIB,
            "round {round}: {}",
            transport.buffered()
        );
        assert!(source.0.get() * 10 * KIB <= response.body_so_far().len() + 76 * KIB);
        client.connection().block_writes(30_000);
        server.advance(SECOND);
    }
    assert!(!source.1.get());
    client.connection().unblock_writes();
    assert_eq!(response.body().len(), 300 * 10 * KIB);
    assert!(source.1.get(), "the source goes with the response");
    assert_eq!(
        handle.refused(RefusalReason::UnreadOutput),
        0,
        "no program wrote too much"
    );
    assert_eq!(client.get("/").send().body().len(), 300 * 10 * KIB);
}

/// A function may take its time, and give empty pieces.
#[test]
fn a_function_gives_pieces_later_and_empty_ones() {
    let (server, _) = serving(
        |site| site,
        |request: Request| {
            let clock = request.reactor().expect("it is connected");
            let mut left = 6;
            Response::stream(move || {
                left -= 1;
                match left {
                    0 => Deferred::succeed(None),
                    _ if left % 2 == 0 => Deferred::succeed(Some(String::new())),
                    _ => defer_later(&clock, SECOND, move || Ok(Some(format!("{left} ")))),
                }
            })
        },
    );
    let response = server.get("/").send();
    assert!(response.has_begun());
    assert_eq!(response.body_so_far(), b"");
    server.advance(SECOND);
    assert_eq!(response.body_so_far(), b"5 ");
    server.advance(2 * SECOND);
    assert_eq!(response.text(), "5 3 1 ");
}

/// A client must not take a part for the whole, whenever and however its source fails.
#[test]
fn a_source_that_fails_breaks_the_connection() {
    for how in [
        "fails",
        "fails later",
        "panics",
        "panics later",
        "panics after a wait",
    ] {
        let (server, handle) = serving(
            |site| site,
            move |request: Request| {
                let clock = request.reactor().expect("it is connected");
                let mut calls = 0;
                Response::stream(move || {
                    calls += 1;
                    match (calls, how) {
                        (1, "panics after a wait") => defer_later(&clock, SECOND, || Ok(Some(""))),
                        (1, _) => Deferred::succeed(Some("some")),
                        (_, "fails") => Deferred::fail(Failure::message("on purpose")),
                        (_, "fails later") => {
                            defer_later(&clock, SECOND, || Err(Failure::message("on purpose")))
                        }
                        (_, "panics later") => {
                            defer_later(&clock, SECOND, || -> Result<_, Failure> { panic!("oh") })
                        }
                        _ => panic!("on purpose"),
                    }
                })
            },
        );
        let response = server.get("/").send();
        server.advance(3 * SECOND);
        assert!(response.is_cut_off(), "{how}");
        assert!(response.connection().is_reset(), "{how}");
        assert_eq!(handle.connections(), 0, "{how}");
    }
}

/// The length that was declared is kept: a source without an end is asked no further, one that is
/// too short breaks the connection.
#[test]
fn a_source_is_as_long_as_its_content_length() {
    for (length, has_all) in [("10", true), ("7", true), ("0", true), ("16", false)] {
        let source = Source::default();
        let made = source.clone();
        let (server, _) = serving(
            |site| site,
            move |_| {
                let count = if length == "16" { 3 } else { usize::MAX };
                Response::stream(made.pieces(count, 5)).with_header(header::CONTENT_LENGTH, length)
            },
        );
        let client = TestClient::connect(&server);
        let response = client.get("/").send();
        assert_eq!(response.is_complete(), has_all, "{length}");
        if has_all {
            assert_eq!(response.header("Content-Length"), Some(length));
        }
        assert_eq!(client.connection().is_reset(), !has_all);
        assert!(
            source.0.get() <= 3,
            "{} pieces for {length}",
            source.0.get()
        );
        assert!(source.1.get());
    }
}

/// HEAD, 204 and 304 are answered without asking the source.
#[test]
fn nothing_is_made_for_a_response_without_a_body() {
    let source = Source::default();
    let made = source.clone();
    let (server, _) = serving(
        |site| site,
        move |request: Request| {
            let status = request.path()[1..].parse().expect("a status");
            Response::stream(made.pieces(10, 10)).with_status(status)
        },
    );
    let client = TestClient::connect(&server);
    for (method, path) in [("HEAD", "/200"), ("GET", "/204"), ("GET", "/304")] {
        let response = client.request(method, path).send();
        assert_eq!(response.body(), b"", "{path}");
    }
    assert_eq!(source.0.get(), 0);
    assert_eq!(client.get("/200").send().body().len(), 100);
    assert_eq!(client.bytes(), b"");
}

/// For HTTP/1.0 the end is that of the connection.
#[test]
fn a_stream_to_http_1_0_ends_with_the_connection() {
    let (server, _) = serving(|site| site, |_| Response::stream(["a", "b"].into_iter()));
    let client = TestClient::connect(&server);
    client.send_bytes("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.next_response("GET");
    assert_eq!(response.text(), "ab");
    assert_eq!(response.header("Connection"), Some("close"));
    assert!(client.connection().has_ended());
}

/// What an observer was told of the ends of requests.
#[derive(Default)]
struct Ends(RefCell<Vec<(String, RequestOutcome)>>);

impl SiteObserver for Ends {
    fn request_ended(&self, head: &RequestHead, end: &RequestEnd) {
        self.0
            .borrow_mut()
            .push((head.path().to_owned(), end.outcome));
    }
}

/// A source is dropped when its client goes, and the request that ended so is known.
#[test]
fn a_source_goes_with_its_client() {
    for how in ["between pieces", "while one is made"] {
        let (ends, source) = (Rc::new(Ends::default()), Source::default());
        let (observer, made) = (ends.clone(), source.clone());
        let pending: Kept<Resolver<Option<&'static str>>> = Rc::default();
        let making = pending.clone();
        let (server, handle) = serving(
            |site| site.observe(observer),
            move |_| match how {
                "between pieces" => Response::stream(made.pieces(1000, KIB)),
                _ => {
                    let (making, dropped) = (making.clone(), SetWhenDropped(made.1.clone()));
                    Response::stream(move || {
                        let _ = &dropped;
                        let (piece, resolver) = Deferred::pending();
                        making.replace(Some(resolver));
                        piece
                    })
                }
            },
        );
        let client = TestClient::connect(&server);
        client.connection().block_writes(500);
        let _response = client.get("/download").send();
        client.connection().reset();
        server.pump();
        assert!(source.1.get(), "{how}");
        if let Some(resolver) = pending.take() {
            let _ = resolver.callback(Some("too late"));
        }
        server.pump();
        let want = [("/download".to_owned(), RequestOutcome::ClientGone)];
        assert_eq!(*ends.0.borrow(), want, "{how}");
        assert_eq!(handle.connections(), 0);
    }
}

/// A source may do anything while it makes a piece.
#[test]
fn a_source_may_finish_or_drop_its_request_while_it_is_asked() {
    for how in ["finishes", "drops", "aborts", "closes"] {
        let kept: Kept<Request> = Rc::default();
        let keep = kept.clone();
        let (server, _) = serving(
            |site| site,
            move |request| {
                if request.path() == "/next" {
                    return Response::new("next");
                }
                keep.replace(Some(request));
                let request = keep.clone();
                Response::stream(
                    std::iter::repeat_with(move || {
                        if let Some(request) = request.take() {
                            match how {
                                "finishes" => drop(request.finish()),
                                "drops" => drop(request),
                                _ => {}
                            }
                        }
                        "piece "
                    })
                    .take(3),
                )
            },
        );
        let client = TestClient::connect(&server);
        let transport = || client.connection().transport();
        let response = client.get("/").send();
        match how {
            "aborts" => transport().map(|transport| transport.abort_connection()),
            "closes" => transport().map(|transport| transport.lose_connection()),
            _ => None,
        };
        server.pump();
        let is_over = response.is_complete() || client.connection().is_reset();
        assert!(is_over, "{how}");
        if response.is_complete() && !client.connection().is_closed() {
            let body = response.text();
            assert!(
                ["", "piece piece piece "].contains(&&*body),
                "{how}: {body}"
            );
            assert_eq!(client.get("/next").send().text(), "next", "{how}");
            assert_eq!(client.bytes(), b"");
        }
    }
}

/// A stream can be sent once; whoever sends a clone of it gets an error, and not an empty body.
#[test]
fn the_second_clone_of_a_stream_is_an_error() {
    let shared = Response::stream(["only ", "once"].into_iter());
    let (server, _) = serving(|site| site, move |_| shared.clone());
    let client = TestClient::connect(&server);
    assert_eq!(client.get("/").send().text(), "only once");
    assert_eq!(client.get("/").send().status(), 500);
    logged("a response that streams was cloned and sent twice");
    assert!(!client.connection().has_ended(), "nothing was half sent");
}

/// A file goes out as it was when it was opened, or breaks the connection.
#[test]
fn a_file_is_sent_whole_or_not_taken_for_whole() {
    let path = std::env::temp_dir().join(format!("sent-{}", std::process::id()));
    let content: Vec<u8> = (0..300 * KIB).map(|at| (at % 241) as u8).collect();
    for change in ["none", "grows", "shrinks"] {
        std::fs::write(&path, &content).expect("there is a temporary directory");
        let file = path.clone();
        let (server, _) = serving(
            |site| site,
            move |_| -> Result<Response, Failure> { Response::file(File::open(&file)?) },
        );
        let client = TestClient::connect(&server);
        client.connection().block_writes(1000);
        let response = client.get("/").send();
        let length = content.len().to_string();
        assert_eq!(response.header("Content-Length"), Some(&*length));
        let transport = client.connection().transport().expect("it is connected");
        assert!(
            transport.buffered() <= 130 * KIB,
            "{}",
            transport.buffered()
        );
        let mut changed = File::options()
            .append(true)
            .open(&path)
            .expect("it is there");
        match change {
            "grows" => changed.write_all(b"more").expect("there is room"),
            "shrinks" => changed.set_len(200_000).expect("a file can be cut"),
            _ => {}
        }
        client.connection().unblock_writes();
        server.pump();
        match change {
            "shrinks" => {
                assert!(response.is_cut_off());
                logged("the file became shorter while it was being sent");
            }
            _ => assert!(response.body() == content, "{change}"),
        }
        let _ = std::fs::remove_file(&path);
    }
}

#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<&'static str>>>);

impl Told {
    fn note(&self, what: &'static str) {
        self.0.borrow_mut().push(what);
    }
    fn take(&self) -> Vec<&'static str> {
        self.0.take()
    }
}

impl PushProducer for Told {
    fn pause_producing(&self) {
        self.note("pause");
    }
    fn resume_producing(&self) {
        self.note("resume");
    }
    fn stop_producing(&self) {
        self.note("stop");
    }
}

impl PullProducer for Told {
    fn resume_producing(&self) {
        self.note("resume");
    }
    fn stop_producing(&self) {
        self.note("stop");
    }
}

/// W-41.
#[test]
fn a_producer_is_paused_resumed_and_stopped_with_its_client() {
    let (server, _, kept) = keeping(|site| site);
    let client = TestClient::connect(&server);
    let response = client.get("/").send();
    let mut request = kept.take().expect("it is rendered");
    let told = Told::default();
    request
        .register_producer(told.clone())
        .expect("it is the first");
    assert!(
        request.register_producer(Told::default()).is_err(),
        "a second one"
    );
    assert!(request.register_pull_producer(Told::default()).is_err());
    client.connection().block_writes(1000);
    request.write(vec![b'x'; 60 * KIB]);
    assert_eq!(told.take(), [""; 0]);
    request.write(vec![b'x'; 10 * KIB]);
    assert_eq!(told.take(), ["pause"]);
    server.pump();
    assert_eq!(told.take(), [""; 0]);
    client.connection().unblock_writes();
    server.pump();
    assert_eq!(told.take(), ["resume"]);
    request.unregister_producer();
    request.finish();
    assert_eq!(response.body().len(), 70 * KIB);

    let _second = client.get("/second").send();
    let request = kept.take().expect("it is rendered");
    request
        .register_producer(told.clone())
        .expect("the first one is gone");
    client.connection().reset();
    server.pump();
    assert_eq!(told.take(), ["stop"]);
    request
        .register_producer(told.clone())
        .expect("nothing to register with");
    assert_eq!(told.take(), ["stop"], "it is told at once");
    request
        .register_pull_producer(told.clone())
        .expect("nothing to register with");
    assert_eq!(told.take(), ["stop"]);
}

/// W-41. One that is left registered at the end is logged and removed, and a stream takes its place.
#[test]
fn a_producer_that_is_left_registered_is_removed() {
    let (server, _, kept) = keeping(|site| site);
    let client = TestClient::connect(&server);
    for close in ["", "Connection: close\r\n"] {
        client.send_bytes(format!(
            "GET /left-{} HTTP/1.1\r\nHost: h\r\n{close}\r\n",
            close.len()
        ));
        server.pump();
        let told = Told::default();
        let mut request = kept.take().expect("it is rendered");
        request
            .register_pull_producer(told.clone())
            .expect("it is the first");
        assert_eq!(told.take(), ["resume"]);
        request.write("x");
        server.pump();
        request.finish();
        server.pump();
        assert_eq!(client.next_response("GET").text(), "x");
        logged(&format!("GET /left-{}", close.len()));
        assert_eq!(
            times_logged("finished while its producer was registered"),
            1 + close.len() / 19
        );
    }
    assert!(client.connection().has_ended(), "nothing keeps it open");

    let client = TestClient::connect(&server);
    let response = client.get("/stream").send();
    let mut request = kept.take().expect("it is rendered");
    request
        .register_producer(Told::default())
        .expect("it is the first");
    request.write("parts ");
    request.respond(Response::stream(["and ", "a stream"].into_iter()));
    assert_eq!(response.text(), "parts and a stream");
    assert_eq!(times_logged("GET /stream"), 0);
}

/// F-06. A response is finished when its last byte is with the system, and so is `drained`.
#[test]
fn finished_and_drained_mean_that_the_bytes_have_left() {
    let (server, _, kept) = keeping(|site| site);
    let client = TestClient::connect(&server);
    client.connection().block_writes(1000);
    let _response = client.get("/").send();
    let mut request = kept.take().expect("it is rendered");
    assert!(request.drained().is_fired(), "nothing waits");
    request.write(vec![b'x'; 10 * KIB]);
    server.pump();
    assert!(request.buffered() > 9 * KIB);
    let (drained, finished) = (request.drained(), request.notify_finish());
    request.finish();
    server.pump();
    assert!(!drained.is_fired() && !finished.is_fired());
    client.connection().block_writes(9 * KIB);
    server.pump();
    assert!(!drained.is_fired() && !finished.is_fired());
    client.connection().unblock_writes();
    server.pump();
    drained.result().expect("everything has left");
    finished.result().expect("everything has left");

    client.connection().block_writes(100);
    let _response = client.get("/").send();
    let mut request = kept.take().expect("it is rendered");
    request.write(vec![b'x'; 10 * KIB]);
    server.pump();
    let (drained, finished) = (request.drained(), request.notify_finish());
    client.connection().reset();
    server.pump();
    assert!(drained.result().is_err() && finished.result().is_err());
    assert!(
        request.drained().result().is_err(),
        "also one that comes too late"
    );
    assert_eq!(request.buffered(), 0);
    request.write("nothing");
    assert!(request.finish().is_err());
}

/// F-05. A program that writes on to a client that does not read loses the connection, with a
/// record that names the route.
#[test]
fn a_program_that_writes_without_heed_loses_the_connection() {
    let kept: Kept<Request> = Rc::default();
    let keep = kept.clone();
    let mut handle = None;
    let server = InMemory::with_site(|_| {
        let mut app = Klein::new();
        app.route("/feed/<name>", move |request: Request| {
            keep.replace(Some(request));
            NOT_DONE_YET
        });
        let site = Site::new(app.resource());
        handle = Some(site.handle());
        site
    });
    let handle = handle.expect("the site was made");
    let response = server.get("/feed/heedless").send();
    response.connection().block_writes(100);
    let mut request = kept.take().expect("it is rendered");
    let mut written = 0;
    while request.is_connected() && written < 100 << 20 {
        request.write(vec![b'x'; 64 * KIB]);
        written += 64 * KIB;
        server.advance(Duration::from_millis(1));
    }
    assert!(
        (1 << 20..(1 << 20) + 200 * KIB).contains(&written),
        "{written}"
    );
    assert!(response.connection().is_reset());
    assert_eq!(handle.refused(RefusalReason::UnreadOutput), 1);
    let record = logged("/feed/heedless");
    assert!(record.contains("(route /feed/<name>)"), "{record}");
    assert_eq!(handle.connections(), 0);

    // What the system takes at once is nobody's fault.
    let response = server.get("/feed/read").send();
    let mut request = kept.take().expect("it is rendered");
    request.write(vec![b'x'; 5 << 20]);
    server.pump();
    request.write("end");
    request.finish();
    assert_eq!(response.body().len(), (5 << 20) + 3);
    assert_eq!(handle.refused(RefusalReason::UnreadOutput), 1);
}

/// F-05, over a system, whose buffers do not count.
#[test]
fn a_heedless_program_is_cut_off_from_a_socket_that_nobody_reads() {
    let server = Server::of(|mut request: Request| {
        let reactor = request.reactor().expect("it is connected");
        let mut written = 0;
        drop(request.notify_finish().add_errback(|_| {
            note("cut off");
            Ok(())
        }));
        let write = LoopingCall::new(&reactor, move || -> Result<(), Failure> {
            // More than any system takes, and far less than would be written otherwise.
            if request.is_connected() && written < 200 << 20 {
                written += 256 * KIB;
                request.write(vec![b'x'; 256 * KIB]);
                assert!(request.buffered() < 3 << 20);
            }
            Ok(())
        });
        drop(
            write
                .start(Duration::from_millis(1))
                .expect("it does not run"),
        );
        NOT_DONE_YET
    });
    let mut client = server.connect();
    client.get("/socket-that-nobody-reads");
    assert_eq!(server.next_note(), "cut off");
    logged("/socket-that-nobody-reads");
}

/// F-05. Whole responses are exempt, also where one of them is in front of a response in parts.
#[test]
fn what_is_given_whole_does_not_count_as_unread_output() {
    let (server, handle) = serving(
        |site| site.max_unread_output_bytes(10_000).write_timeout(None),
        |mut request: Request| match request.path() {
            "/whole" => Rendered::from(vec![b'x'; 200_000]),
            "/huge" => Rendered::from(vec![b'x'; 5_000_000]),
            _ => {
                request.write("a few ");
                request.write("parts");
                request.finish();
                NOT_DONE_YET
            }
        },
    );
    let client = TestClient::connect(&server);
    client.connection().block_writes(1000);
    let responses = ["/whole", "/parts", "/parts", "/huge"].map(|path| client.get(path).send());
    server.advance(SECOND);
    assert_eq!(handle.refused(RefusalReason::UnreadOutput), 0);
    client.connection().unblock_writes();
    let lengths = responses.map(|response| response.body().len());
    assert_eq!(lengths, [200_000, 11, 11, 5_000_000]);
}

/// What the source of a model does when it is asked.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Bytes(usize),
    Empty,
    Later(usize),
    Fails,
    FailsLater,
    Panics,
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        8 => (1_usize..30_000).prop_map(Piece::Bytes),
        2 => Just(Piece::Empty),
        4 => (1_usize..30_000).prop_map(Piece::Later),
        1 => prop_oneof![Just(Piece::Fails), Just(Piece::FailsLater), Just(Piece::Panics)],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..Default::default()
    })]

    /// However a source makes its pieces, and however its client reads them: the client gets
    /// exactly the bytes, and then the next response, or it is reset; and little is held for it.
    #[test]
    fn a_streamed_response_is_exact_or_broken(
        pieces in prop::collection::vec(piece(), 0..20),
        declared in prop::option::of(0_usize..200_000),
        reads in prop::collection::vec(0_usize..50_000, 0..20),
        goes in prop::option::of(0_usize..20),
        seed in any::<Option<u64>>(),
    ) {
        let fails = |piece: &Piece| matches!(piece, Piece::Fails | Piece::FailsLater | Piece::Panics);
        let made: Vec<u8> = pieces
            .iter()
            .take_while(|piece| !fails(piece))
            .enumerate()
            .flat_map(|(at, piece)| match piece {
                Piece::Bytes(size) | Piece::Later(size) => vec![at as u8; *size],
                _ => Vec::new(),
            })
            .collect();
        let breaks = pieces.iter().any(fails);
        let dropped = Rc::new(Cell::new(false));
        let (source, is_dropped) = (pieces.clone(), dropped.clone());
        let memory = seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed);
        let server = InMemory::on(memory, |_| Site::new(leaf(move |request: Request| {
            if request.path() == "/next" {
                return Response::new("next");
            }
            let clock = request.reactor().expect("it is connected");
            let mut pieces = source.clone().into_iter().enumerate();
            let is_dropped = SetWhenDropped(is_dropped.clone());
            let response = Response::stream(move || {
                let _ = &is_dropped;
                let Some((at, piece)) = pieces.next() else {
                    return Deferred::succeed(None);
                };
                let later = Duration::from_millis(100);
                match piece {
                    Piece::Bytes(size) => Deferred::succeed(Some(vec![at as u8; size])),
                    Piece::Empty => Deferred::succeed(Some(Vec::new())),
                    Piece::Later(size) => {
                        defer_later(&clock, later, move || Ok(Some(vec![at as u8; size])))
                    }
                    Piece::Fails => Deferred::fail(Failure::message("on purpose")),
                    Piece::FailsLater => {
                        defer_later(&clock, later, || Err(Failure::message("on purpose")))
                    }
                    Piece::Panics => panic!("on purpose"),
                }
            });
            match declared {
                None => response,
                Some(length) => response.with_header(header::CONTENT_LENGTH, length.to_string()),
            }
        })));
        let client = TestClient::connect(&server);
        client.connection().block_writes(0);
        client.send_bytes("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        for (at, window) in reads.into_iter().enumerate() {
            if goes == Some(at) {
                client.connection().reset();
            }
            client.connection().block_writes(window);
            server.pass(Duration::from_millis(30));
            if let Some(transport) = client.connection().transport() {
                prop_assert!(transport.buffered() <= 64 * KIB + 30_500);
            }
        }
        client.connection().unblock_writes();
        server.pass(3 * SECOND);
        prop_assert!(dropped.get(), "the source is done with");
        let length = declared.unwrap_or(made.len());
        // The source is asked once more when it has given what was declared, unless that is less
        // than it has made by then.
        let is_cut = made.len() < length || breaks && made.len() <= length;
        if client.connection().is_reset() || client.connection().is_closed() {
            prop_assert!(is_cut || goes.is_some() || breaks);
            return Ok(());
        }
        prop_assert!(!is_cut);
        let (first, next) = (client.next_response("GET"), client.next_response("GET"));
        prop_assert!(first.body() == made[..length]);
        prop_assert_eq!(next.text(), "next");
    }
}
