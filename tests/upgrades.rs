//! `Request::upgrade`: connections that go on with another protocol (RFC 9110, 7.8).

mod support;

use std::time::Duration;

use bytes::Bytes;
use prometheus_deferred::net::{Protocol, Transport};
use prometheus_deferred::testing::{MemoryConnection, MemoryReactor};
use prometheus_deferred::web::{Klein, Method, Request, Site, SiteHandle};
use prometheus_deferred::{Failure, sleep};
use support::{InMemory, keep, logged, note, with_kept};

const SECOND: Duration = Duration::from_secs(1);

/// Sends everything back in capitals, and notes how it ends.
struct Shout;

impl Protocol for Shout {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        transport.write(&data.to_ascii_uppercase());
        Ok(())
    }

    fn connection_lost(&mut self, reason: &Failure) {
        note(format!("lost: {reason}"));
    }
}

fn shout(request: Request) -> prometheus_deferred::web::Rendered {
    request.upgrade("shout", |transport, unread: Bytes| {
        transport.write(&unread.to_ascii_uppercase());
        Shout
    })
}

fn server() -> (InMemory, SiteHandle) {
    server_on(MemoryReactor::new())
}

fn server_on(memory: MemoryReactor) -> (InMemory, SiteHandle) {
    let mut handle = None;
    let server = InMemory::on(memory, |reactor| {
        let mut app = Klein::new();
        app.route("/now", |_| "now");
        app.route("/large", |_| vec![b'l'; 300_000]);
        app.route("/kept", keep);
        app.route("/held", |request: Request| {
            // It is answered here, and held for as long as the program likes.
            keep(request);
            vec![b'h'; 200_000]
        });
        app.route("/shout", |mut request: Request| {
            request.set_header(http::header::SET_COOKIE, "a=b");
            request.set_header(http::header::CONTENT_LENGTH, "5");
            shout(request)
        });
        let clock = reactor.clone();
        app.route("/later", move |request: Request| {
            drop(sleep(&clock, SECOND).map(move |()| shout(request)));
            prometheus_deferred::web::NOT_DONE_YET
        });
        app.route("/written", |mut request: Request| {
            request.write("too late");
            shout(request)
        });
        app.route("/broken", |request: Request| {
            request.upgrade("shout", |_, _| -> Shout { panic!("on purpose") })
        });
        app.route("/posted", shout).methods([Method::POST]);
        app.route("/streamed", shout).streaming();
        let site = Site::new(app.resource());
        handle = Some(site.handle());
        site
    });
    (server, handle.unwrap())
}

fn asks(method: &str, path: &str, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: other/1, SHOUT\r\n{more}\r\n"
    )
}

fn text(connection: &MemoryConnection) -> String {
    let text = String::from_utf8(connection.received()).unwrap();
    let lines = text.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n";

#[test]
fn a_connection_goes_on_with_the_protocol_that_was_asked_for() {
    for piece in [1, 7, 1000] {
        let (server, handle) = server();
        let client = server.connect_to("127.0.0.1:80").unwrap();
        client.deliver_at_most(piece);
        client.send(asks("GET", "/shout", "") + "behind it");
        server.pump();
        assert_eq!(
            text(&client),
            format!("{SWITCHING}Set-Cookie: a=b\r\n\r\nBEHIND IT")
        );
        client.send("GET /now HTTP/1.1\r\nHost: h\r\n\r\n");
        server.pump();
        assert_eq!(text(&client), "GET /NOW HTTP/1.1\r\nHOST: H\r\n\r\n");
        // It is the protocol's, however long it is silent.
        server.pass(3600 * SECOND);
        assert!(!client.is_closed());
        assert_eq!((handle.connections(), handle.requests()), (0, 1));
        assert_eq!(server.notes(), [""; 0]);
        client.close_sending();
        server.pump();
        assert_eq!(server.notes(), ["lost: the connection was closed cleanly"]);
    }
}

#[test]
fn an_upgrade_may_come_later_and_behind_a_body() {
    let (server, _) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(asks("GET", "/later", "") + "waits");
    server.pump();
    assert_eq!(text(&client), "");
    server.pass(SECOND);
    assert_eq!(text(&client), format!("{SWITCHING}\r\nWAITS"));
    client.send("and more");
    server.pump();
    assert_eq!(text(&client), "AND MORE");

    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(asks("POST", "/posted", "Content-Length: 4\r\n") + "bodybehind");
    server.pump();
    assert_eq!(text(&client), format!("{SWITCHING}\r\nBEHIND"));
}

#[test]
fn a_protocol_that_was_not_asked_for_is_not_spoken() {
    let (server, _) = server();
    for (request, why) in [
        ("GET /shout HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "no field"),
        ("GET /shout HTTP/1.1\r\nHost: h\r\nUpgrade: shout\r\n\r\n".to_owned(), "no Connection"),
        ("GET /shout HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: shouting\r\n\r\n".to_owned(), "another"),
        ("GET /shout HTTP/1.0\r\nHost: h\r\nConnection: keep-alive, upgrade\r\nUpgrade: shout\r\n\r\n".to_owned(), "HTTP/1.0"),
    ] {
        let client = server.connect_to("127.0.0.1:80").unwrap();
        client.send(request);
        server.pump();
        let answer = text(&client);
        assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{why}: {answer}");
        assert!(answer.contains("\r\nUpgrade: shout\r\n"), "{why}: {answer}");
        // RFC 9110, 7.8: whoever sends Upgrade names it in Connection.
        assert!(answer.contains("\r\nConnection: Upgrade\r\n"), "{why}: {answer}");
    }
}

/// Of a response that has begun, the status cannot be changed any more; and a body that still comes
/// is not the protocol's.
#[test]
fn an_upgrade_that_comes_too_late_is_none() {
    let (server, _) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(asks("GET", "/written", ""));
    server.pump();
    let answer = text(&client);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("101"), "{answer}");
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(asks("POST", "/streamed", "Content-Length: 4\r\n") + "bo");
    server.pump();
    let answer = text(&client);
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}

#[test]
fn a_pipeline_is_answered_before_the_protocol_begins() {
    for seed in 0..50 {
        let (server, handle) = server_on(MemoryReactor::with_seed(seed));
        let client = server.connect_to("127.0.0.1:80").unwrap();
        client.block_writes(1000);
        let now = "GET /now HTTP/1.1\r\nHost: h\r\n\r\n";
        client.send(
            now.to_owned()
                + &now.replace("now", "kept")
                + &now.replace("now", "large")
                + &asks("GET", "/shout", "")
                + "hello",
        );
        server.pump();
        with_kept("/kept", |request| request.respond("kept"));
        server.pump();
        client.unblock_writes();
        server.pass(SECOND);
        let answers = text(&client);
        let (_, rest) = answers.split_once("\r\n\r\nnow").unwrap();
        let (_, rest) = rest.split_once("\r\n\r\nkept").unwrap();
        let (_, rest) = rest.split_once("\r\n\r\nlll").unwrap();
        assert!(
            rest.ends_with(&format!("l{SWITCHING}Set-Cookie: a=b\r\n\r\nHELLO")),
            "seed {seed}"
        );
        assert_eq!(handle.requests(), 4);
        // What watched the reading of the responses does not watch the protocol.
        client.block_writes(0);
        client.send("x".repeat(1000));
        server.pass(3600 * SECOND);
        assert!(!client.is_closed(), "seed {seed}");
    }
}

/// The limits on how responses are read end with the last of them.
#[test]
fn a_protocol_may_read_as_slowly_as_it_likes() {
    let (server, _) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.block_writes(100_000);
    client.send("GET /held HTTP/1.1\r\nHost: h\r\n\r\n");
    server.pass(SECOND);
    client.send(asks("GET", "/shout", ""));
    server.pass(3600 * SECOND);
    assert!(!client.is_closed());
    client.unblock_writes();
    client.send("at last");
    server.pump();
    assert!(text(&client).ends_with("\r\n\r\nAT LAST"));
}

/// F-22: bytes behind an Upgrade that is not followed are the next request.
#[test]
fn an_upgrade_that_nobody_follows_is_ignored_in_step() {
    let (server, _) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(
        asks("GET", "/now", "") + &asks("GET", "/now", "") + &asks("GET", "/shout", "") + "x",
    );
    server.pump();
    let answer = text(&client);
    assert_eq!(answer.matches("\r\n\r\nnow").count(), 2, "{answer}");
    assert!(answer.ends_with("\r\n\r\nX"), "{answer}");
}

/// B-12: the protocol ends in its own way; the site does not wait for it, nor cut it off.
#[test]
fn a_drain_leaves_other_protocols_alone() {
    let (server, handle) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(asks("GET", "/shout", ""));
    server.pump();
    text(&client);
    let drained = handle.drain(SECOND);
    let drained = drained
        .try_result()
        .expect("nothing is waited for")
        .unwrap();
    assert_eq!(
        (drained.idle, drained.finished, drained.cut.len()),
        (0, 0, 0)
    );
    server.pass(60 * SECOND);
    client.send("still here");
    server.pump();
    assert_eq!(text(&client), "STILL HERE");
    server.reactor.stop().unwrap();
    server.pump();
    assert_eq!(server.notes().len(), 1);
}

/// The protocol cannot be made: the client is not left waiting, and the log names the line.
#[test]
fn a_panic_while_the_protocol_is_made_ends_the_connection() {
    let (server, handle) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(asks("GET", "/broken", ""));
    server.pump();
    assert!(client.is_reset());
    assert_eq!(handle.connections(), 0);
    let line = logged("making the protocol shout for 127.0.0.1:");
    assert!(
        line.contains("on purpose") && line.contains(file!()),
        "{line}"
    );
}

/// One whose client has gone has nobody to speak with.
#[test]
fn an_upgrade_for_a_client_that_has_gone_does_nothing() {
    let (server, handle) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    client.send(asks("GET", "/later", ""));
    server.pump();
    client.reset();
    server.pass(2 * SECOND);
    assert_eq!(server.notes(), [""; 0]);
    assert_eq!(handle.connections(), 0);
}
