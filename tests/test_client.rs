//! The client for tests: what it makes of responses, also of those that are wrong.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use prometheus_deferred::Failure;
use prometheus_deferred::net::{Protocol, Transport, for_protocol};
use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient, TestResponse};

/// Sends the same bytes whenever something comes, and closes if asked to.
struct Says(&'static str, bool);

impl Protocol for Says {
    fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result<(), Failure> {
        transport.write(self.0.as_bytes());
        if self.1 {
            transport.lose_connection();
        }
        Ok(())
    }
}

fn server(bytes: &'static str, closes: bool) -> MemoryReactor {
    let memory = MemoryReactor::new();
    let factory = for_protocol(move || Says(bytes, closes));
    memory
        .listen_tcp("127.0.0.1:80", factory)
        .expect("the port is free");
    memory
}

fn reply(bytes: &'static str) -> TestResponse {
    server(bytes, false).get("/x").send()
}

/// What a look at a response says when it panics.
fn panic_of<T>(look: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(look))
        .err()
        .expect("it is wrong");
    *payload.downcast::<String>().expect("a text")
}

#[test]
fn responses_are_framed_in_four_ways() {
    for (bytes, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            "he0123456789",
        ),
    ] {
        let reply = reply(bytes);
        assert!(reply.is_complete(), "{bytes:?}");
        assert_eq!(reply.text(), body, "{bytes:?}");
    }
    let until_close = server("HTTP/1.1 200 OK\r\n\r\nhello", true).get("/").send();
    assert_eq!(until_close.text(), "hello");
    let memory = server("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false);
    assert_eq!(memory.head("/").send().text(), "");
}

#[test]
fn a_response_that_is_not_complete_says_how_far_it_is() {
    let memory = server("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", true);
    let cut_off = memory.get("/x").send();
    assert!(cut_off.has_begun() && !cut_off.is_complete() && cut_off.is_cut_off());
    assert_eq!(cut_off.body_so_far(), b"hello");
    assert_eq!(
        panic_of(|| cut_off.body()),
        "the response to GET /x is not complete (200 OK, 5 bytes of its body came), and the server \
         has closed the connection; let time pass, or use body_so_far"
    );
    let memory = server("", false);
    let nothing = memory.get("/x").send();
    assert!(!nothing.has_begun() && !nothing.is_cut_off());
    assert_eq!(
        panic_of(|| nothing.status()),
        "GET /x is not answered; let time pass, as in memory.advance(..)"
    );
}

#[test]
fn informational_responses_and_trailers_are_apart() {
    let reply = reply(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
         HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\nDigest: x\r\n\r\n",
    );
    assert_eq!(reply.informational(), [100, 103]);
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.header("SET-COOKIE"), Some("a"));
    assert_eq!(reply.header("Link"), None);
    let cookies = reply
        .headers()
        .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    assert_eq!(
        cookies.map(|(_, value)| value).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(reply.trailers(), [("Digest".to_owned(), "x".to_owned())]);
}

#[test]
fn malformed_responses_are_refused_with_what_came() {
    for (bytes, part) in [
        ("HTTP/1.0 200 OK\r\n\r\n", "is no status line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "is no status line"),
        ("HTTP/1.1 200\r\n\r\n", "is no status line"),
        ("nonsense\r\n\r\n", "\"nonsense\" is no status line"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "is no header field"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "is no header field"),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", "is no header field"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "is no length",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "not clear where the answer to GET / ends",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "not clear where the answer to GET / ends",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\n",
            "is no chunk size",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
            "follows a chunk",
        ),
    ] {
        let said = panic_of(|| server(bytes, false).get("/").send());
        assert!(said.contains(part), "{bytes:?}: {said}");
    }
    let memory = server("HTTP/1.1 204 No Content\r\n\r\nbody", false);
    let client = TestClient::connect(&memory);
    assert_eq!(client.get("/").send().status(), 204);
    assert_eq!(client.bytes(), b"body");
}

#[test]
fn a_request_that_cannot_be_made_says_why() {
    let memory = MemoryReactor::new();
    let said = panic_of(|| memory.get("/"));
    assert!(said.contains("no site listens on 127.0.0.1:80"), "{said}");
    let memory = server("", false);
    let said = panic_of(|| memory.request("G T", "/"));
    assert!(said.contains("\"G T\" is no method"), "{said}");
}

/// What goes out, to the byte.
#[test]
fn requests_are_written_as_they_are_told() {
    #[derive(Clone, Default)]
    struct Records(Rc<RefCell<Vec<u8>>>);
    impl Protocol for Records {
        fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
            self.0.borrow_mut().extend_from_slice(data);
            Ok(())
        }
    }
    let records = Records::default();
    let memory = MemoryReactor::new();
    for address in ["127.0.0.1:80", "127.0.0.1:8080"] {
        let records = records.clone();
        let factory = for_protocol(move || records.clone());
        memory
            .listen_tcp(address, factory)
            .expect("the port is free");
    }
    let assert_sent = |bytes: &str| {
        let sent = records.0.take();
        assert_eq!(String::from_utf8_lossy(&sent), bytes);
    };
    drop(memory.get("/a?b").header("X", "y").send());
    assert_sent("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y\r\n\r\n");
    drop(memory.post("http://127.0.0.1:8080", "hi").send());
    assert_sent("POST / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 2\r\n\r\nhi");
    drop(memory.put("/", "").header("host", "h").send());
    assert_sent("PUT / HTTP/1.1\r\nhost: h\r\nContent-Length: 0\r\n\r\n");

    let client = TestClient::connect_to(&memory, "127.0.0.1:8080");
    drop(client.get("http://other/").send());
    assert_sent("GET http://other/ HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n");

    let chunked = client.request("POST", "/").send_head();
    chunked.send_body("");
    chunked.send_body("0123456789");
    chunked.end_body();
    chunked.end_body();
    assert_sent(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nTransfer-Encoding: chunked\r\n\r\n\
         a\r\n0123456789\r\n0\r\n\r\n",
    );
    let sized = client
        .request("POST", "/")
        .header("Content-Length", "2")
        .send_head();
    sized.send_body("h");
    sized.send_body("i");
    sized.end_body();
    assert_sent("POST / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 2\r\n\r\nhi");
}
