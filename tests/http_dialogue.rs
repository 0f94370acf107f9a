//! Requests in a row where one of them ends the connection, is answered early, is not complete, or
//! asks for another protocol. Each dialogue is sent whole, byte by byte, and in each two pieces.

mod vectors;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_deferred::net::{Protocol, Transport};

use prometheus_deferred::web::{BodyPolicy, Rendered, Request, RequestHead, Resource};
use prometheus_deferred::{Failure, Reactor, sleep};
use vectors::{Seen, Vectors, statuses};

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
const INNER: &str = "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n";

/// Notes what it answers, and how that is done depends on the path.
struct Dialogue {
    clock: Reactor,
    notes: Rc<RefCell<Vec<String>>>,
}

impl Resource for Dialogue {
    fn is_leaf(&self) -> bool {
        true
    }

    fn body_policy(&self, head: &RequestHead) -> BodyPolicy {
        match head.path() {
            "/refused" => BodyPolicy::Refuse,
            "/dropped" => BodyPolicy::stream(u64::MAX),
            _ => BodyPolicy::collect(1 << 20),
        }
    }

    fn render(&self, request: Request) -> Rendered {
        let path = request.path();
        let body = match path {
            "/refused" | "/dropped" => String::new(),
            _ => request.body().escape_ascii().to_string(),
        };
        let note = format!("{} {path} {body}", request.method());
        self.notes.borrow_mut().push(note.trim_end().to_owned());
        match path {
            "/later" => sleep(&self.clock, Duration::ZERO).map(|()| "").into(),
            "/socket" => request.upgrade("shout", |transport, unread: Bytes| {
                shout(transport, &unread);
                Shout
            }),
            _ => "".into(),
        }
    }
}

/// Sends everything back in capitals.
struct Shout;

impl Protocol for Shout {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        shout(transport, data);
        Ok(())
    }
}

fn shout(transport: &Transport, data: &[u8]) {
    transport.write(&data.to_ascii_uppercase());
}

fn dialogue() -> Vectors {
    Vectors::of(|memory, notes| Dialogue {
        clock: memory.reactor().clone(),
        notes,
    })
}

fn seen(statuses: &[u16], answered: &[&str], has_ended: bool) -> Seen {
    Seen {
        statuses: statuses.to_vec(),
        answered: answered.iter().map(|&note| note.into()).collect(),
        has_ended,
    }
}

/// A POST whose body is `content`, with a length or in one chunk.
fn posts(path: &str, content: &str) -> [String; 2] {
    let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\n");
    let length = content.len();
    [
        format!("{head}Content-Length: {length}\r\n\r\n{content}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{content}\r\n0\r\n\r\n"),
    ]
}

/// A body that nobody reads is not taken for requests, though it looks like some, and what comes
/// behind it is.
#[test]
fn a_body_behind_an_early_answer_is_no_request() {
    let dialogue = dialogue();
    for path in ["/refused", "/dropped"] {
        for post in posts(path, INNER) {
            let note = format!("POST {path}");
            let want = seen(&[200, 200], &[&note, "GET /next"], false);
            assert_eq!(
                dialogue.see(format!("{post}{NEXT}").as_bytes()),
                want,
                "{post}"
            );
        }
        // More than is thrown away for the sake of the connection.
        for post in posts(path, &INNER.repeat(20_000)) {
            let bytes = format!("{post}{NEXT}");
            let note = format!("POST {path}");
            let want = seen(&[200], &[&note], true);
            let (start, rest) = bytes.as_bytes().split_at(200);
            assert_eq!(dialogue.send([bytes.as_bytes()]), want, "{path}");
            assert_eq!(dialogue.send([start, rest]), want, "{path}");
        }
    }
}

/// Without 100, the client may send the body or not, and only it knows: what follows an early
/// answer is neither body nor request (RFC 9110, 10.1.1).
#[test]
fn nothing_follows_an_early_answer_to_a_client_that_waits_to_go_on() {
    let dialogue = dialogue();
    for path in ["/refused", "/dropped"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            INNER.len()
        );
        let note = format!("POST {path}");
        let got = dialogue.send([head.as_bytes(), INNER.as_bytes(), NEXT.as_bytes()]);
        assert_eq!(got, seen(&[200], &[&note], true), "{path}");
    }
}

/// A body that is announced and does not come is no request, whether the client waits or goes.
#[test]
fn a_body_that_does_not_come_is_not_answered_as_complete() {
    let dialogue = dialogue();
    for bytes in [
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        let waits = seen(&[], &[], false);
        assert_eq!(dialogue.see(bytes.as_bytes()), waits, "{bytes:?}");

        let client = dialogue.memory.connect_to("127.0.0.1:80").unwrap();
        client.exchange(bytes);
        dialogue.memory.advance(Duration::from_secs(3600));
        let received = client.exchange("");
        assert_eq!(statuses(&received), [408], "{bytes:?}");
        assert!(client.has_ended(), "{bytes:?}");

        let client = dialogue.memory.connect_to("127.0.0.1:80").unwrap();
        client.exchange(bytes);
        client.close_sending();
        dialogue.memory.pump();
        assert!(client.has_ended(), "{bytes:?}");
        assert_eq!(
            dialogue.send([NEXT.as_bytes()]),
            seen(&[200], &["GET /next"], false)
        );
    }
}

/// W-50. The requests before a bad one are answered, in order, even if that takes time.
#[test]
fn what_comes_before_a_bad_request_is_answered() {
    let dialogue = dialogue();
    let later = "GET /later HTTP/1.1\r\nHost: h\r\n\r\n";
    let [length, chunked] = posts("/b", "abc");
    let bad_chunk = chunked.replace("3\r\nabc", "+3\r\nabc");
    for (bytes, statuses, answered) in [
        (
            format!("{later}GET /bad HTTP/1.1\r\n\r\n"),
            vec![200, 400],
            vec!["GET /later"],
        ),
        (
            format!("{length}{later}{bad_chunk}"),
            vec![200, 200, 400],
            vec!["POST /b abc", "GET /later"],
        ),
        (
            format!("{later}{chunked}GET / HTTP/2.0\r\n\r\n"),
            vec![200, 200, 505],
            vec!["GET /later", "POST /b abc"],
        ),
    ] {
        let bytes = format!("{bytes}{NEXT}");
        let want = seen(&statuses, &answered, true);
        assert_eq!(dialogue.see(bytes.as_bytes()), want, "{bytes}");
    }
}

/// W-48. What follows the last request of a connection is not looked at, good or bad.
#[test]
fn nothing_follows_a_last_request() {
    let dialogue = dialogue();
    for request in [
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, CLOSE\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
        "GET /a HTTP/1.0\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        "POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
        "GET /later HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ] {
        for more in [NEXT, "\0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
            let got = dialogue.see(format!("{request}{more}").as_bytes());
            assert_eq!(
                (&*got.statuses, got.has_ended),
                (&[200][..], true),
                "{request}"
            );
            assert_eq!(got.answered.len(), 1, "{request}");
        }
    }
}

fn ask(version: &str, fields: &str) -> String {
    format!("GET /socket {version}\r\nHost: h\r\n{fields}\r\n\r\n")
}

/// Without a valid wish for its protocol, a resource that upgrades says what it speaks, and what
/// follows is the next request (RFC 9110, 7.8 and 15.5.22).
#[test]
fn an_upgrade_that_was_not_asked_for_is_426() {
    let dialogue = dialogue();
    for fields in [
        "X: y",
        "Upgrade: shout",
        "Connection: upgrade",
        "Connection: close-not\r\nUpgrade: shout",
        "Connection: upgrade\r\nUpgrade: websocket",
        "Connection: upgrade\r\nUpgrade: shouting",
        "Connection: upgrade\r\nUpgrade: ",
    ] {
        let bytes = format!("{}{NEXT}", ask("HTTP/1.1", fields));
        let want = seen(&[426, 200], &["GET /socket", "GET /next"], false);
        assert_eq!(dialogue.see(bytes.as_bytes()), want, "{fields}");
    }
    let bytes = ask(
        "HTTP/1.0",
        "Connection: upgrade, keep-alive\r\nUpgrade: shout",
    );
    let want = seen(&[426, 200], &["GET /socket", "GET /next"], false);
    assert_eq!(dialogue.see(format!("{bytes}{NEXT}").as_bytes()), want);
}

/// Bytes behind a request that is upgraded belong to the other protocol, though they look like a
/// request.
#[test]
fn bytes_behind_an_upgrade_are_for_the_other_protocol() {
    let dialogue = dialogue();
    let with_body = posts("/socket", INNER).map(|post| {
        post.replacen(
            "Host: h",
            "Host: h\r\nConnection: upgrade\r\nUpgrade: shout",
            1,
        )
    });
    for request in [
        ask("HTTP/1.1", "Connection: upgrade\r\nUpgrade: shout"),
        ask(
            "HTTP/1.1",
            "Connection: keep-alive, Upgrade\r\nUpgrade: websocket, Shout",
        ),
        with_body[0].clone(),
        with_body[1].clone(),
    ] {
        let bytes = format!("{request}{NEXT}");
        let cuts = 0..bytes.len();
        for cut in cuts {
            let client = dialogue.memory.connect_to("127.0.0.1:80").unwrap();
            let mut received = client.exchange(&bytes[..cut]);
            received.extend(client.exchange(&bytes[cut..]));
            let received = String::from_utf8(received).unwrap();
            let (head, rest) = received.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with("HTTP/1.1 101 "),
                "cut at {cut}: {received}"
            );
            assert_eq!(rest, NEXT.to_ascii_uppercase(), "cut at {cut}: {request}");
            client.close();
            dialogue.memory.pump();
        }
    }
}
