//! Clients that close their sending side, with or without going, and deadlines that end while the
//! loop is busy with something else.

mod support;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use prometheus_deferred::defer_later;
use prometheus_deferred::testing::{SendRequests, TestClient};
use prometheus_deferred::web::{BodyPolicy, Rendered, Request, RequestHead, Resource, Site};
use support::{InMemory, Server, keep, leaf, note, with_kept};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);

/// Keeps requests, and notes how they end.
fn watching(request: Request) -> Rendered {
    let target = request.target().to_owned();
    drop(request.notify_finish().add_both(move |result| {
        note(match result {
            Ok(()) => format!("{target} sent"),
            Err(_) => format!("{target} gone"),
        });
        Ok(())
    }));
    keep(request)
}

fn kept() -> InMemory {
    InMemory::of(watching)
}

/// F-16. The answer is sent if it comes within the grace, and the client counts as gone after it.
#[test]
fn a_client_that_closes_its_side_gets_answers_that_come_soon() {
    let server = kept();
    let response = server.get("/soon").send();
    response.connection().close_sending();
    server.advance(SECOND - MOMENT);
    assert!(!response.connection().is_closed());
    assert!(with_kept("/soon", |request| request.respond("here")).is_ok());
    assert_eq!(response.text(), "here");
    assert!(response.connection().is_closed(), "and nothing else comes");

    let response = server.get("/late").send();
    response.connection().close_sending();
    server.advance(SECOND);
    assert!(response.connection().is_closed());
    assert_eq!(
        server.notes(),
        ["/soon", "/soon sent", "/late", "/late gone"]
    );
    with_kept("/late", |request| {
        assert!(!request.is_connected());
        assert!(request.respond("nobody reads this").is_err());
    });
}

/// F-16. The grace is a setting, for each answer anew.
#[test]
fn each_answer_of_a_pipeline_has_the_grace() {
    let server = InMemory::with_site(|reactor| {
        let clock = reactor.clone();
        let render = move |request: Request| {
            let path = request.path().to_owned();
            defer_later(&clock, 4 * SECOND, move || Ok(path))
        };
        Site::new(leaf(render)).half_close_grace(5 * SECOND)
    });
    let client = TestClient::connect(&server);
    let responses = ["/a", "/b", "/c"].map(|path| client.get(path).send());
    client.connection().close_sending();
    server.advance(13 * SECOND);
    for (response, path) in responses.iter().zip(["/a", "/b", "/c"]) {
        assert_eq!(response.text(), path);
    }
    assert!(client.connection().is_closed());
}

/// F-16. At zero, only an answer that is there at once is sent.
#[test]
fn without_grace_an_answer_that_is_there_is_sent() {
    let server = InMemory::with_site(|_| {
        Site::new(leaf(|request: Request| match request.path() {
            "/now" => "now".into(),
            _ => watching(request),
        }))
        .half_close_grace(Duration::ZERO)
    });
    for (path, is_answered) in [("/now", true), ("/later", false)] {
        let client = TestClient::connect(&server);
        client
            .connection()
            .send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client.connection().close_sending();
        server.pump();
        assert_eq!(
            client.next_response("GET").is_complete(),
            is_answered,
            "{path}"
        );
        assert!(client.connection().is_closed());
    }
}

/// F-17. A client that has sent more than is read ahead, and has gone, is noticed.
#[test]
fn a_client_that_goes_behind_unread_input_is_noticed() {
    for keep_alive in [None, Some(60 * SECOND)] {
        let server = InMemory::with_site(|_| Site::new(leaf(watching)).keep_alive(keep_alive));
        let client = TestClient::connect(&server);
        client.send_bytes("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
        client.send_bytes("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
        client.send_bytes([b'x'; 200 * 1024]);
        client.connection().close_sending();
        server.advance(SECOND / 2);
        assert!(
            client.connection().unread() > 0,
            "it is behind unread input"
        );
        assert_eq!(server.notes(), ["/1"]);
        // The end is known by now, and holds for the next one as well.
        with_kept("/1", |request| request.finish());
        let mut notes = server.notes();
        notes.sort();
        assert_eq!(notes, ["/1 sent", "/2"]);
        server.advance(SECOND - MOMENT);
        assert_eq!(server.notes(), [""; 0]);
        server.advance(MOMENT);
        assert_eq!(server.notes(), ["/2 gone"]);
        assert!(client.connection().is_closed());
    }
}

/// Streams bodies.
struct Streams;

impl Resource for Streams {
    fn render(&self, request: Request) -> Rendered {
        watching(request)
    }
    fn body_policy(&self, _: &RequestHead) -> BodyPolicy {
        BodyPolicy::stream(u64::MAX)
    }
    fn is_leaf(&self) -> bool {
        true
    }
}

/// F-17. The same behind a body that streams: its end was known before the body was read.
#[test]
fn a_client_that_goes_behind_a_streamed_body_is_noticed() {
    let server = InMemory::with_site(|_| Site::new(Streams).keep_alive(None));
    let client = TestClient::connect(&server);
    client.send_bytes("PUT /up HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    client.send_bytes([b'x'; 90_000]);
    client.send_bytes([b'x'; 10_000]);
    client.send_bytes([b'y'; 900_000]);
    client.connection().close_sending();
    server.advance(100 * SECOND);
    assert_eq!(server.notes(), ["/up"], "the program has not read it");
    let body = with_kept("/up", |mut request| {
        let body = request.take_body();
        keep(request);
        body
    });
    let read = body.collect(usize::MAX);
    server.advance(SECOND - MOMENT);
    assert_eq!(read.result().expect("it was sent").len(), 100_000);
    assert_eq!(server.notes(), ["/up"]);
    server.advance(MOMENT);
    assert_eq!(server.notes(), ["/up gone"]);
}

/// F-18. What came in time is used, however late the loop looks: it is busy with another client's
/// request over the end of the idle time, the time for a head, or that for a body.
#[test]
fn what_came_in_time_is_used_by_a_busy_server() {
    let limit = Duration::from_millis(500);
    type Setting = fn(Site, Duration) -> Site;
    let settings: [(Setting, &str, &str); 4] = [
        (Site::keep_alive, "", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        (
            Site::header_timeout,
            "GET / HTTP/1.1\r\nHo",
            "st: h\r\n\r\n",
        ),
        (
            Site::body_timeout,
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo",
            "dy",
        ),
        (
            |site, _| {
                site.body_timeout(None)
                    .min_bytes_per_second(1000, Duration::from_secs(1))
            },
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo",
            "dy",
        ),
    ];
    for (set, begun, rest) in settings {
        let (sent, is_sent) = mpsc::channel();
        let server = Server::with_site(move |_| {
            let render = move |request: Request| {
                if request.path() == "/busy" {
                    note("busy");
                    is_sent.recv().unwrap();
                    // This is what keeps it busy.
                    thread::sleep(Duration::from_millis(1200));
                }
                request.method().to_string()
            };
            set(Site::new(leaf(render)), limit)
        });
        let (mut client, mut other) = (server.connect(), server.connect());
        client.get("/");
        assert_eq!(client.reply().status, 200);
        client.send(begun);
        server.run(|_| ());
        other.get("/busy");
        assert_eq!(server.next_note(), "busy");
        client.send(rest);
        sent.send(()).unwrap();
        assert_eq!(client.reply().status, 200, "{begun:?}");
    }
}
