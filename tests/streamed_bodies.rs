//! Request bodies that stream: read as they come, left unread, broken off, by handlers that do
//! anything at any moment.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient};
use prometheus_deferred::web::{
    Body, BodyError, BodyPolicy, BodyReceiver, Klein, Method, NOT_DONE_YET, RefusalReason,
    Rendered, Request, RequestHead, Resource, Response, Site, SiteHandle,
};
use prometheus_deferred::{Deferred, Failure, defer_later};
use proptest::prelude::*;
use support::{InMemory, Server};

const SECOND: Duration = Duration::from_secs(1);
const KIB: usize = 1024;

/// A resource with a policy of its own, for every path and method.
struct Upload<F> {
    policy: BodyPolicy,
    render: F,
}

impl<R: Into<Rendered>, F: Fn(Request) -> R + 'static> Resource for Upload<F> {
    fn render(&self, request: Request) -> Rendered {
        (self.render)(request).into()
    }

    fn is_leaf(&self) -> bool {
        true
    }

    fn body_policy(&self, _: &RequestHead) -> BodyPolicy {
        self.policy
    }
}

/// What a handler got hold of.
type Kept<T> = Rc<RefCell<Option<T>>>;

/// A server whose only resource streams bodies up to this length.
fn streaming<R: Into<Rendered> + 'static>(
    max_bytes: u64,
    render: impl Fn(Request) -> R + 'static,
) -> (InMemory, SiteHandle) {
    serving(BodyPolicy::stream(max_bytes), |site| site, render)
}

fn serving<R: Into<Rendered> + 'static>(
    policy: BodyPolicy,
    set: impl FnOnce(Site) -> Site,
    render: impl Fn(Request) -> R + 'static,
) -> (InMemory, SiteHandle) {
    let mut handle = None;
    let server = InMemory::with_site(|_| {
        let site = set(Site::new(Upload { policy, render }));
        handle = Some(site.handle());
        site
    });
    (server, handle.expect("the site was made"))
}

/// A server that hands over each request and its body, and answers none of them itself. GET is
/// answered with `next`.
fn keeping() -> (InMemory, SiteHandle, Kept<(Request, Body)>) {
    keeping_with(|site| site)
}

fn keeping_with(set: impl FnOnce(Site) -> Site) -> (InMemory, SiteHandle, Kept<(Request, Body)>) {
    let kept: Kept<(Request, Body)> = Rc::default();
    let keep = kept.clone();
    let render = move |mut request: Request| {
        if *request.method() == "GET" {
            return Rendered::from("next");
        }
        let body = request.take_body();
        keep.replace(Some((request, body)));
        NOT_DONE_YET
    };
    let (server, handle) = serving(BodyPolicy::stream(u64::MAX), set, render);
    (server, handle, kept)
}

/// What a Deferred has come to; it is consumed.
fn outcome<T: 'static>(deferred: Deferred<T>) -> Result<T, BodyError> {
    deferred
        .result()
        .map_err(|failure| failure.check::<BodyError>().expect("a BodyError").clone())
}

/// Collects what reads give until the end or an error, each read made inside the callback of the
/// one before.
#[derive(Clone, Default)]
struct Read(Rc<RefCell<(Vec<u8>, End)>>);

/// How reading ended, if it has.
type End = Option<Result<(), BodyError>>;

impl Read {
    fn all(body: Body) -> Self {
        let read = Self::default();
        read.clone().on(Rc::new(body));
        read
    }

    fn on(self, body: Rc<Body>) {
        let again = body.clone();
        drop(body.read().add_both(move |result| {
            match result {
                Ok(Some(piece)) => {
                    assert!(!piece.is_empty(), "a piece has any size but zero");
                    self.0.borrow_mut().0.extend_from_slice(&piece);
                    self.on(again);
                }
                Ok(None) => self.0.borrow_mut().1 = Some(Ok(())),
                Err(failure) => {
                    let error = failure.check::<BodyError>().expect("a BodyError").clone();
                    self.0.borrow_mut().1 = Some(Err(error));
                }
            }
            Ok(())
        }));
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.borrow().0.clone()
    }

    fn end(&self) -> End {
        self.0.borrow().1.clone()
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Law 7. What nobody has asked for stays with the client, but for one piece.
#[test]
fn nothing_is_read_ahead_of_the_reader_but_one_piece() {
    let (server, _, kept) = keeping();
    let length = 4 << 20;
    let response = server
        .request("PUT", "/")
        .header("Content-Length", length.to_string())
        .send_head();
    let sent = pattern(length);
    response.send_body(&sent);
    let (request, body) = kept.take().expect("rendered when the head was there");
    let mut read = Vec::new();
    while read.len() < length {
        server.pump();
        let taken = length - response.connection().unread();
        assert!(
            taken - read.len() <= 256 * KIB,
            "{taken} bytes were taken when {} were read",
            read.len()
        );
        let piece = outcome(body.read()).expect("it has come");
        read.extend_from_slice(&piece.expect("it is not the end"));
    }
    assert!(read == sent);
    assert_eq!(outcome(body.read()), Ok(None));
    assert_eq!(outcome(body.read()), Ok(None), "and None again");
    request.respond("got it");
    assert_eq!(response.text(), "got it");
}

/// Any reads, made inside one another's callbacks.
#[test]
fn a_read_inside_the_callback_of_a_read_gets_the_next_piece() {
    let (server, _, kept) = keeping();
    let response = server.request("PUT", "/").send_head();
    let (request, body) = kept.take().expect("it is rendered");
    let read = Read::all(body);
    for piece in ["one ", "two ", "three"] {
        response.send_body(piece);
    }
    assert_eq!(read.bytes(), b"one two three");
    assert_eq!(read.end(), None);
    response.end_body();
    assert_eq!(read.end(), Some(Ok(())));
    request.respond("all");
    assert_eq!(response.text(), "all");
}

#[test]
fn a_cancelled_read_loses_nothing_and_two_at_once_are_an_error() {
    let (server, _, kept) = keeping();
    let response = server.request("PUT", "/").send_head();
    let (_request, body) = kept.take().expect("it is rendered");
    let first = body.read();
    assert_eq!(outcome(body.read()), Err(BodyError::AlreadyReading));
    first.cancel();
    drop(first.add_errback(|_| Ok(None)));
    response.send_body("kept");
    server.pump();
    assert_eq!(outcome(body.read()), Ok(Some(Bytes::from("kept"))));
    let cancelled = body.read();
    cancelled.cancel();
    drop(cancelled.add_errback(|_| Ok(None)));
    let second = body.read();
    response.send_body("more");
    assert_eq!(outcome(second), Ok(Some(Bytes::from("more"))));
    let last = body.read();
    last.cancel();
    drop(last.add_errback(|_| Ok(None)));
    response.end_body();
    assert_eq!(outcome(body.read()), Ok(None));
}

/// Trailers come with the end, and never in the head.
#[test]
fn trailers_of_a_streamed_body_come_with_its_end() {
    let (server, _, kept) = keeping();
    let client = TestClient::connect(&server);
    client.send_bytes(
        "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 7\r\nHost: evil\r\n\r\n",
    );
    server.pump();
    let (request, body) = kept.take().expect("it is rendered");
    assert_eq!(outcome(body.read()), Ok(Some(Bytes::from("abc"))));
    assert_eq!(outcome(body.read()), Ok(None));
    assert_eq!(body.trailers(), [("X-Sum".to_owned(), b"7".to_vec())]);
    assert_eq!(request.header("X-Sum"), None);
    assert_eq!(request.header("Host"), Some("h"));
    request.finish();
    assert_eq!(client.next_response("PUT").status(), 200);
}

/// W-48. The end of a 1.0 body is its length's, and the connection closes behind the answer.
#[test]
fn a_body_of_http_1_0_streams_too() {
    let (server, _, kept) = keeping();
    let client = TestClient::connect(&server);
    client.send_bytes("POST / HTTP/1.0\r\nContent-Length: 6\r\n\r\nabc");
    let (request, body) = kept.take().expect("it is rendered");
    let read = Read::all(body);
    client.send_bytes("def");
    server.pump();
    assert_eq!(
        (read.bytes(), read.end()),
        (b"abcdef".to_vec(), Some(Ok(())))
    );
    request.respond("done");
    assert_eq!(client.next_response("POST").text(), "done");
    assert!(client.connection().has_ended());
}

/// W-16, W-51. A request behind a streamed body waits for its answer, and is no part of the body.
#[test]
fn a_request_behind_a_streamed_body_is_not_in_it_and_waits() {
    for framing in [
        "Content-Length: 4\r\n\r\nbody",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ] {
        let (server, _, kept) = keeping();
        let client = TestClient::connect(&server);
        client.send_bytes(format!(
            "PUT / HTTP/1.1\r\nHost: h\r\n{framing}GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        let (request, body) = kept.take().expect("it is rendered");
        let (first, second) = (client.next_response("PUT"), client.next_response("GET"));
        server.advance(SECOND);
        let read = Read::all(body);
        server.pump();
        assert_eq!((read.bytes(), read.end()), (b"body".to_vec(), Some(Ok(()))));
        assert!(!first.has_begun() && !second.has_begun());
        request.respond("first");
        assert_eq!(
            (first.text(), second.text()),
            ("first".into(), "next".into())
        );
    }
}

/// A handler that answers without reading: a small rest is thrown away, a large one ends the
/// connection behind an answer that can still be read.
#[test]
fn an_answer_before_the_body_leaves_a_connection_that_works_or_says_that_it_closes() {
    for (framing, rest, stays) in [
        ("Content-Length: 1000", pattern(1000), true),
        ("Content-Length: 262144", pattern(256 * KIB), true),
        ("Content-Length: 262145", pattern(256 * KIB + 1), false),
        ("Content-Length: 18446744073709551615", pattern(1000), false),
    ] {
        let (server, _) = streaming(u64::MAX, |request: Request| {
            format!("answered {}", request.method())
        });
        let client = TestClient::connect(&server);
        let response = client.request("PUT", "/").header(
            framing.split_once(": ").unwrap().0,
            framing.split_once(": ").unwrap().1,
        );
        let response = response.send_head();
        assert_eq!(response.text(), "answered PUT", "{framing}");
        assert_eq!(
            response.header("Connection"),
            (!stays).then_some("close"),
            "{framing}"
        );
        for piece in rest.chunks(10_000) {
            response.send_body(piece);
        }
        server.pump();
        assert!(!client.connection().is_reset(), "{framing}");
        if stays {
            assert_eq!(client.get("/").send().text(), "answered GET", "{framing}");
        } else {
            assert!(client.connection().has_ended(), "{framing}");
            server.advance(5 * SECOND);
            assert!(client.connection().is_closed(), "{framing}");
        }
    }
}

/// A chunked body that goes on for ever is given up behind its answer, by size or by time.
#[test]
fn an_endless_body_behind_an_answer_ends_the_connection() {
    let (server, handle) = streaming(u64::MAX, |_| "enough");
    let response = server.request("PUT", "/").send_head();
    assert_eq!(response.text(), "enough");
    for _ in 0..27 {
        response.send_body(pattern(10_000));
    }
    server.pump();
    assert!(response.connection().has_ended(), "more than 256 KiB came");

    let slow = server.request("PUT", "/").send_head();
    assert_eq!(slow.text(), "enough");
    server.advance(2 * SECOND - Duration::from_nanos(1));
    slow.send_body("x");
    assert!(!slow.connection().has_ended());
    server.advance(Duration::from_nanos(1));
    assert!(slow.connection().has_ended(), "2 s are over");
    server.advance(20 * SECOND);
    assert_eq!(handle.connections(), 0);
}

/// The answer is complete before the body: a reader is told, with how much had come.
#[test]
fn a_reader_is_told_when_the_answer_is_complete_before_the_body() {
    let (server, _, kept) = keeping();
    let client = TestClient::connect(&server);
    let response = client
        .request("PUT", "/")
        .header("Content-Length", "10")
        .send_head();
    response.send_body("abc");
    let (request, body) = kept.take().expect("it is rendered");
    let read = Read::all(body);
    request.respond("early");
    assert_eq!(response.text(), "early");
    assert_eq!(read.bytes(), b"abc");
    assert_eq!(read.end(), Some(Err(BodyError::Answered { received: 3 })));
    response.send_body("defghij");
    assert_eq!(client.get("/").send().text(), "next");
}

/// The callback that is told so may do anything, such as finish the request a second time.
#[test]
fn a_request_kept_beside_its_answer_cannot_be_finished_twice() {
    for fields in ["", "Connection: close\r\n"] {
        let kept: Kept<Request> = Rc::default();
        let keep = kept.clone();
        let (server, _) = streaming(u64::MAX, move |mut request: Request| {
            let body = request.take_body();
            keep.replace(Some(request));
            let late = keep.clone();
            drop(body.read().add_both(move |_| {
                if let Some(mut request) = late.take() {
                    request.write("again");
                    request.finish();
                }
                drop(body);
                Ok(())
            }));
            "once"
        });
        let client = TestClient::connect(&server);
        client.send_bytes(format!(
            "PUT / HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: 5\r\n\r\n"
        ));
        server.pump();
        let response = client.next_response("PUT");
        assert_eq!(response.text(), "once");
        assert_eq!(client.bytes(), b"", "nothing behind it");
    }
}

/// A body that is dropped in the middle is thrown away further, and its request still answered.
#[test]
fn a_body_that_is_dropped_is_thrown_away() {
    for (length, stays) in [(100 * KIB, true), (600 * KIB, false)] {
        let (server, _, kept) = keeping();
        let client = TestClient::connect(&server);
        let response = client
            .request("PUT", "/")
            .header("Content-Length", length.to_string())
            .send_head();
        let sent = pattern(length);
        response.send_body(&sent[..50 * KIB]);
        let (request, body) = kept.take().expect("it is rendered");
        let piece = outcome(body.read()).expect("it has come").expect("a piece");
        assert!(sent.starts_with(&piece));
        let waiting = body.read();
        drop(body);
        assert!(waiting.result().is_err(), "nobody will fire it");
        response.send_body(&sent[50 * KIB..]);
        server.pump();
        let taken = length - client.connection().unread();
        assert!(taken <= (50 + 256 + 256) * KIB, "{taken} bytes were taken");
        request.respond("dropped");
        assert_eq!(response.text(), "dropped");
        server.pump();
        if stays {
            assert_eq!(client.get("/").send().text(), "next");
        } else {
            assert_eq!(response.header("Connection"), Some("close"));
            assert!(client.connection().has_ended());
        }
    }
}

/// The client may go behind any byte: what came is read, and then how much that was.
#[test]
fn a_body_that_breaks_off_says_how_much_came() {
    let heads = [
        ("Content-Length: 8\r\n\r\n", "12345678", Some(8)),
        (
            "Transfer-Encoding: chunked\r\n\r\n",
            "4\r\n1234\r\n4\r\n5678\r\n0\r\n\r\n",
            None,
        ),
    ];
    for (head, body, length) in heads {
        for cut in 0..body.len() {
            for how in ["closes its side", "closes", "resets"] {
                let (server, handle, kept) = keeping();
                let client = TestClient::connect(&server);
                client.send_bytes(format!("PUT / HTTP/1.1\r\nHost: h\r\n{head}"));
                let (_request, reading) = kept.take().expect("it is rendered");
                let read = Read::all(reading);
                client.send_bytes(&body[..cut]);
                server.pump();
                match how {
                    "closes its side" => client.connection().close_sending(),
                    "closes" => client.connection().close(),
                    _ => client.connection().reset(),
                }
                server.pump();
                let received = read.bytes().len() as u64;
                let content = body[..cut]
                    .bytes()
                    .filter(|byte| (b'1'..=b'8').contains(byte));
                let sizes = if length.is_some() {
                    0
                } else {
                    body[..cut].matches("4\r\n").count()
                };
                assert!(received <= content.count().max(sizes) as u64);
                let want = BodyError::Truncated { received, length };
                assert_eq!(
                    read.end(),
                    Some(Err(want)),
                    "{how} behind {:?}",
                    &body[..cut]
                );
                assert_eq!(handle.connections(), 0);
            }
        }
    }
}

/// W-49, F-26. A client that waits is told to go on when somebody reads, and not before.
#[test]
fn a_client_is_told_to_go_on_by_the_first_read() {
    let (server, _, kept) = keeping();
    let response = server
        .request("PUT", "/")
        .header("Expect", "100-continue")
        .header("Content-Length", "4")
        .send_head();
    let (request, body) = kept.take().expect("it is rendered");
    server.advance(5 * SECOND);
    assert_eq!(response.informational(), [0_u16; 0]);
    let read = Read::all(body);
    assert_eq!(response.informational(), [100]);
    response.send_body("body");
    assert_eq!(read.bytes(), b"body");
    request.respond("thanks");
    assert_eq!(response.text(), "thanks");
    assert_eq!(response.informational(), [100], "once");
}

/// W-49, F-27. Who waits to be told to go on is not slow, however long that takes.
#[test]
fn a_client_that_waits_to_go_on_is_not_too_slow() {
    let (server, handle, kept) = keeping();
    let response = server
        .request("PUT", "/")
        .header("Expect", "100-continue")
        .header("Content-Length", "4")
        .send_head();
    let (request, body) = kept.take().expect("it is rendered");
    server.advance(600 * SECOND);
    let read = Read::all(body);
    assert_eq!(read.end(), None);
    response.send_body("body");
    assert_eq!(read.end(), Some(Ok(())));
    request.respond("thanks");
    assert_eq!(response.text(), "thanks");
    assert_eq!(handle.refused(RefusalReason::BodyTooSlow), 0);

    // Nor where the body is not wanted at all.
    let (server, handle) = serving(BodyPolicy::Refuse, |site| site, {
        |request: Request| {
            let clock = request.reactor().expect("it is connected");
            defer_later(&clock, 600 * SECOND, || Ok("refused"))
        }
    });
    let response = server
        .request("PUT", "/")
        .header("Expect", "100-continue")
        .header("Content-Length", "4")
        .send_head();
    server.advance(600 * SECOND);
    assert_eq!(response.text(), "refused");
    assert_eq!(response.informational(), [0_u16; 0]);
    assert_eq!(handle.refused(RefusalReason::BodyTooSlow), 0);
}

/// F-26. What is decided without the body is answered at once and in place of 100 Continue.
#[test]
fn what_is_decided_by_the_head_is_answered_without_100() {
    let server = InMemory::with_site(|_| {
        let mut app = Klein::new();
        app.route("/put", |_| "x")
            .methods(["PUT".parse().unwrap()])
            .max_body_bytes(10);
        app.route("/stream", |mut request: Request| {
            request.take_body().collect(usize::MAX).map(|_| "x")
        })
        .methods(["PUT".parse().unwrap()])
        .streaming()
        .max_body_bytes(10);
        Site::new(app.resource())
    });
    for (method, path, length, status) in [
        ("PUT", "/none", 4, 404),
        ("POST", "/put", 4, 405),
        ("PUT", "/put", 11, 413),
        ("POST", "/stream", 4, 405),
        ("PUT", "/stream", 11, 413),
    ] {
        let response = server
            .request(method, path)
            .header("Expect", "100-continue")
            .header("Content-Length", length.to_string())
            .send_head();
        assert_eq!(response.informational(), [0_u16; 0], "{method} {path}");
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(
            response.header("Connection"),
            Some("close"),
            "{method} {path}"
        );
    }
}

/// A refused method or path does not make a body of more than its resource takes a fault of ours.
#[test]
fn a_body_behind_a_refusal_may_be_longer_than_the_resource_takes() {
    struct Small;
    impl Resource for Small {
        fn render_get(&self, _: Request) -> Rendered {
            "x".into()
        }
        fn render_post(&self, _: Request) -> Rendered {
            "posted".into()
        }
        fn allowed_methods(&self) -> Vec<Method> {
            vec![Method::GET, Method::POST]
        }
        fn body_policy(&self, _: &RequestHead) -> BodyPolicy {
            BodyPolicy::collect(10)
        }
        fn is_leaf(&self) -> bool {
            true
        }
    }
    let server = InMemory::new(|| Small);
    for framing in ["Content-Length", "Transfer-Encoding"] {
        let client = TestClient::connect(&server);
        let request = client.request("PUT", "/get");
        let response = match framing {
            "Content-Length" => request.header(framing, "1000").send_head(),
            // Found out before the body, as nobody is to be told to go on.
            _ => request.header("Expect", "100-continue").send_head(),
        };
        for _ in 0..10 {
            response.send_body([b'x'; 100]);
        }
        response.end_body();
        assert_eq!(response.status(), 405);
        match response.header("Connection") {
            None => assert_eq!(client.get("/get").send().text(), "x"),
            Some(_) => assert_eq!(framing, "Transfer-Encoding"),
        }
        server.pump();
        assert!(!client.connection().is_reset());
    }
}

/// F-29. A reader is told of malformed framing; if nothing was answered, the client is as well.
#[test]
fn a_malformed_streamed_body_fails_its_reader() {
    for (bytes, reason) in [
        ("3\r\nabcX", RefusalReason::BadChunkEnd),
        ("3\r\nabc\r\nx\r\n", RefusalReason::BadChunkSize),
        ("3\r\nabc\r\n3 \r\n", RefusalReason::BadChunkLine),
        ("3\r\nabc\r\n0\r\nbad\r\n\r\n", RefusalReason::BadTrailer),
    ] {
        let (server, handle) = streaming(u64::MAX, |mut request: Request| {
            request
                .take_body()
                .collect(usize::MAX)
                .map(|body| body.len().to_string())
        });
        let client = TestClient::connect(&server);
        client.send_bytes("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        server.pump();
        client.send_bytes(bytes);
        client.send_bytes("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = client.next_response("PUT");
        assert_eq!(response.status(), 400, "{bytes:?}");
        assert_eq!(response.header("Connection"), Some("close"));
        assert_eq!(handle.refused(reason), 1, "{bytes:?}");
        server.advance(5 * SECOND);
        assert_eq!(client.bytes(), b"", "nothing behind it is a request");
        assert!(client.connection().is_closed());
    }
}

/// Law 7. A body without a length is cut off where it gets longer than allowed.
#[test]
fn a_streamed_body_that_gets_too_long_is_cut_off() {
    let (server, handle) = streaming(10, |mut request: Request| {
        request
            .take_body()
            .collect(usize::MAX)
            .map(|body| body.len().to_string())
    });
    let response = server.request("PUT", "/").send_head();
    response.send_body("1234567890");
    assert!(!response.has_begun());
    response.end_body();
    assert_eq!(response.text(), "10");
    drop(response);

    let response = server.request("PUT", "/").send_head();
    response.send_body("1234567890");
    response.send_body("1");
    assert_eq!(response.status(), 413);
    assert_eq!(handle.refused(RefusalReason::BodyTooLarge), 1);
    server.advance(5 * SECOND);
    assert_eq!(handle.connections(), 0);
}

struct Receiver(Rc<RefCell<Vec<String>>>, Option<usize>);

impl BodyReceiver for Receiver {
    fn data_received(&mut self, data: Bytes) -> Result<(), Failure> {
        self.0
            .borrow_mut()
            .push(String::from_utf8(data.to_vec()).unwrap());
        match &mut self.1 {
            Some(0) => Err(Failure::message("enough")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn body_ended(&mut self, result: Result<(), Failure>) {
        let end = match result {
            Ok(()) => "end".to_owned(),
            Err(failure) => failure.to_string(),
        };
        self.0.borrow_mut().push(end);
    }
}

/// Twisted's deliverBody: every piece, and the end once.
#[test]
fn a_body_is_delivered_to_a_receiver() {
    for (limit, want) in [
        (
            None,
            vec![
                "a",
                "b",
                "the body broke off after 2 bytes: the peer went away",
            ],
        ),
        (Some(0), vec!["a", "enough"]),
    ] {
        let (server, _, kept) = keeping();
        let response = server.request("PUT", "/").send_head();
        let (_request, body) = kept.take().expect("it is rendered");
        let told = Rc::new(RefCell::new(Vec::new()));
        body.deliver_to(Receiver(told.clone(), limit));
        response.send_body("a");
        response.send_body("b");
        response.connection().close();
        server.pump();
        assert_eq!(*told.borrow(), want);
    }
}

/// A file that is saved is complete, or not there: broken off, cancelled before it is opened, or
/// later.
#[test]
fn a_saved_body_is_complete_or_not_there() {
    let path = std::env::temp_dir().join(format!("saved-{}", std::process::id()));
    let sent = pattern(300 * KIB);
    for how in [
        "complete",
        "broken off",
        "cancelled at once",
        "cancelled later",
    ] {
        let (server, _, kept) = keeping();
        let response = server
            .request("PUT", "/")
            .header("Content-Length", sent.len().to_string())
            .send_head();
        let (_request, body) = kept.take().expect("it is rendered");
        let saved = body.save(&path);
        if how == "cancelled at once" {
            saved.cancel();
        }
        response.send_body(&sent[..100 * KIB]);
        server.pump();
        match how {
            "complete" => response.send_body(&sent[100 * KIB..]),
            "broken off" => response.connection().close(),
            _ => saved.cancel(),
        }
        server.pump();
        match how {
            "complete" => {
                assert_eq!(saved.result().expect("it is saved"), sent.len() as u64);
                assert!(std::fs::read(&path).expect("it is there") == sent);
            }
            _ => {
                assert!(saved.result().is_err(), "{how}");
                assert!(!path.exists(), "{how}");
            }
        }
        let _ = std::fs::remove_file(&path);
    }
}

/// Over a system, with threads that write and read the file: what is sent back is what was sent.
#[test]
fn an_upload_is_saved_and_sent_back_over_a_socket() {
    let path = std::env::temp_dir().join(format!("uploaded-{}", std::process::id()));
    let file = path.clone();
    let server = Server::with_site(move |_| {
        Site::new(Upload {
            policy: BodyPolicy::stream(u64::MAX),
            render: move |mut request: Request| -> Rendered {
                if *request.method() == "PUT" {
                    let saved = request.take_body().save(&file);
                    return saved.map(|size| size.to_string()).into();
                }
                Response::file(std::fs::File::open(&file).expect("it was saved"))
                    .expect("it is a file")
                    .into()
            },
        })
    });
    let sent = pattern(6 << 20);
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(format!(
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
            sent.len()
        ));
        client.send(&sent);
        assert_eq!(client.reply().text(), sent.len().to_string());
        client.get("/");
        assert!(client.reply().body == sent);
    }
    std::fs::remove_file(&path).expect("it is there");
}

/// A thread may open the file after the save was cancelled.
#[test]
fn a_save_that_is_cancelled_while_its_file_is_opened_leaves_none() {
    let path = std::env::temp_dir().join(format!("cancelled-{}", std::process::id()));
    let file = path.clone();
    let server = Server::with_site(move |_| {
        Site::new(Upload {
            policy: BodyPolicy::stream(u64::MAX),
            render: move |mut request: Request| {
                let saved = request.take_body().save(&file);
                // The thread is given as much time as it needs to open the file.
                while !file.exists() {
                    std::thread::yield_now();
                }
                saved.cancel();
                drop(saved.add_errback(|_| Ok(0)));
                "cancelled"
            },
        })
    });
    let mut client = server.connect();
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.reply().text(), "cancelled");
    drop((client, server));
    assert!(!path.exists());
}

/// W-41. An echo holds little of what it sends back, however much that is.
#[test]
fn a_body_may_be_the_body_of_the_response() {
    let (server, handle) = streaming(u64::MAX, |mut request: Request| {
        Response::stream(request.take_body())
    });
    let sent = pattern(3 << 20);
    let client = TestClient::connect(&server);
    for chunked in [false, true] {
        let request = client.request("PUT", "/");
        let response = match chunked {
            false => request
                .header("Content-Length", sent.len().to_string())
                .send_head(),
            true => request.send_head(),
        };
        client.connection().block_writes(1000);
        for piece in sent.chunks(1 << 20) {
            response.send_body(piece);
        }
        server.pump();
        let transport = client.connection().transport().expect("it is connected");
        assert!(transport.buffered() <= (64 + 256) * KIB + 100);
        let held = sent.len() - client.connection().unread();
        assert!(held <= (64 + 3 * 256) * KIB, "{held} bytes were taken");
        client.connection().unblock_writes();
        response.end_body();
        assert!(response.body() == sent);
    }
    assert_eq!(handle.connections(), 1, "the connection goes on");
}

#[derive(Debug, Clone)]
enum Step {
    /// Sends so many bytes of what is left to send.
    Send(usize),
    Read,
    /// Reads with a read inside of its callback, to the end.
    ReadAll,
    CancelRead,
    DropBody,
    Answer,
    DropRequest,
    Write,
    Pass(u64),
    CloseSending,
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1_usize..60_000).prop_map(Step::Send),
        4 => (1_usize..20).prop_map(Step::Send),
        8 => Just(Step::Read),
        1 => Just(Step::ReadAll),
        2 => Just(Step::CancelRead),
        1 => Just(Step::DropBody),
        1 => Just(Step::Answer),
        1 => Just(Step::DropRequest),
        1 => Just(Step::Write),
        2 => (0_u64..3000).prop_map(Step::Pass),
        1 => Just(Step::CloseSending),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..Default::default()
    })]

    /// Whatever client and program do: what is read is what was sent, the end is the end, an error
    /// says how much came, and the next request is answered or the connection is closed.
    #[test]
    fn a_streamed_body_is_exact_or_fails(
        length in prop_oneof![0_usize..50, 0_usize..400_000],
        chunks in prop::option::of(prop::collection::vec(1_usize..30_000, 1..10)),
        steps in steps(),
        seed in any::<Option<u64>>(),
    ) {
        let memory = seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed);
        run_model(memory, length, chunks, steps)?;
    }
}

/// What the program holds in the model.
#[derive(Default)]
struct Program {
    request: Option<Request>,
    body: Option<Rc<Body>>,
    reading: Option<Deferred<()>>,
    is_reading_all: bool,
    read: Vec<u8>,
    end: Option<Result<(), BodyError>>,
}

fn start_read(program: &Rc<RefCell<Program>>) {
    let Some(body) = program.borrow().body.clone() else {
        return;
    };
    let into = program.clone();
    let reading = body.read().add_both(move |result| {
        let goes_on = {
            let mut program = into.borrow_mut();
            match result {
                Ok(Some(piece)) => {
                    assert!(program.end.is_none(), "nothing comes behind the end");
                    program.read.extend_from_slice(&piece);
                    program.is_reading_all
                }
                Ok(None) => {
                    program.end = Some(Ok(()));
                    false
                }
                Err(failure) => {
                    if let Some(error) = failure.check::<BodyError>() {
                        program.end = Some(Err(error.clone()));
                    }
                    false
                }
            }
        };
        if goes_on {
            start_read(&into);
        }
        Ok(())
    });
    if !reading.is_fired() {
        program.borrow_mut().reading = Some(reading);
    }
}

fn run_model(
    memory: MemoryReactor,
    length: usize,
    chunks: Option<Vec<usize>>,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let program: Rc<RefCell<Program>> = Rc::default();
    let keep = program.clone();
    let server = InMemory::on(memory, |_| {
        Site::new(Upload {
            policy: BodyPolicy::stream(u64::MAX),
            render: move |mut request: Request| {
                if *request.method() == "GET" {
                    return Rendered::from("next");
                }
                let body = request.take_body();
                let mut keep = keep.borrow_mut();
                (keep.request, keep.body) = (Some(request), Some(Rc::new(body)));
                NOT_DONE_YET
            },
        })
    });
    let content = pattern(length);
    let mut wire = b"PUT / HTTP/1.1\r\nHost: h\r\n".to_vec();
    let head_end;
    match &chunks {
        None => {
            wire.extend(format!("Content-Length: {length}\r\n\r\n").bytes());
            head_end = wire.len();
            wire.extend_from_slice(&content);
        }
        Some(sizes) => {
            wire.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            head_end = wire.len();
            let (mut rest, mut sizes) = (&content[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
                rest = behind;
            }
            wire.extend_from_slice(b"0\r\n\r\n");
        }
    }
    let client = TestClient::connect(&server);
    let mut sent = head_end;
    client.send_bytes(&wire[..head_end]);
    server.pump();
    let (mut is_gone, mut writes, mut answers, mut drops_body) = (false, false, false, false);
    let mut is_cut = false;
    let mut passed = 0;
    for step in steps {
        match step {
            Step::Send(bytes) if !is_gone => {
                let end = wire.len().min(sent + bytes);
                client.connection().send(&wire[sent..end]);
                sent = end;
            }
            Step::Read | Step::ReadAll => {
                let is_free = program
                    .borrow()
                    .reading
                    .as_ref()
                    .is_none_or(Deferred::is_fired);
                program.borrow_mut().is_reading_all |= matches!(step, Step::ReadAll);
                if is_free && program.borrow().end.is_none() {
                    start_read(&program);
                }
            }
            Step::CancelRead => {
                let reading = program.borrow_mut().reading.take();
                if let Some(reading) = reading {
                    program.borrow_mut().is_reading_all = false;
                    reading.cancel();
                }
            }
            Step::DropBody => {
                drops_body = true;
                let (body, reading) = {
                    let mut program = program.borrow_mut();
                    program.is_reading_all = false;
                    (program.body.take(), program.reading.take())
                };
                drop((body, reading));
            }
            Step::Answer => {
                let request = program.borrow_mut().request.take();
                if let Some(request) = request {
                    answers = request.respond("answer").is_ok();
                }
            }
            Step::DropRequest => {
                let request = program.borrow_mut().request.take();
                if let Some(request) = request {
                    answers |= !writes && request.is_connected();
                    is_cut |= writes;
                    drop(request);
                }
            }
            Step::Write => {
                let request = program.borrow_mut().request.take();
                if let Some(mut request) = request {
                    writes = true;
                    request.write("part");
                    program.borrow_mut().request = Some(request);
                }
            }
            Step::Pass(millis) => {
                passed += millis;
                server.pass(Duration::from_millis(millis));
            }
            Step::CloseSending => {
                is_gone = true;
                client.connection().close_sending();
            }
            Step::Reset => {
                is_gone = true;
                client.connection().reset();
            }
            Step::Send(_) => {}
        }
        if passed % 2 == 0 {
            server.pump();
        }
    }
    let is_cut_short = answers || is_cut || passed > 9_000;
    // To the end: all is sent, read and answered.
    if !is_gone {
        client.connection().send(&wire[sent..]);
        sent = wire.len();
    }
    server.pump();
    program.borrow_mut().is_reading_all = true;
    let is_free = program
        .borrow()
        .reading
        .as_ref()
        .is_none_or(Deferred::is_fired);
    if is_free && program.borrow().end.is_none() {
        start_read(&program);
    }
    server.pump();
    {
        let program = program.borrow();
        prop_assert!(
            content.starts_with(&program.read),
            "what is read is what was sent"
        );
        match &program.end {
            Some(Ok(())) => prop_assert_eq!(program.read.len(), content.len()),
            Some(Err(BodyError::Truncated { received, length })) => {
                prop_assert!(is_gone || is_cut);
                prop_assert!(*received >= program.read.len() as u64);
                prop_assert!(*received <= content.len() as u64);
                prop_assert_eq!(*length, chunks.is_none().then_some(content.len() as u64));
            }
            Some(Err(BodyError::Answered { received })) => {
                prop_assert!(answers || writes);
                prop_assert!(*received >= program.read.len() as u64);
            }
            Some(Err(BodyError::TooSlow { .. })) => prop_assert!(passed > 9_000),
            Some(Err(error)) => prop_assert!(false, "{error}"),
            None => prop_assert!(drops_body, "a reader is told of the end"),
        }
    }
    let request = program.borrow_mut().request.take();
    if let Some(request) = request {
        let is_there = request.is_connected();
        prop_assert_eq!(request.respond("answer").is_ok(), is_there);
        prop_assert!(is_there || is_gone || is_cut_short);
    }
    server.pump();
    if is_gone || client.connection().has_ended() || client.connection().is_closed() {
        server.advance(60 * SECOND);
        prop_assert!(client.connection().is_closed());
    } else {
        prop_assert_eq!(sent, wire.len());
        let first = client.next_response("PUT");
        prop_assert!(first.is_complete());
        prop_assert_eq!(client.get("/").send().text(), "next");
    }
    Ok(())
}
