//! What a site's observer is told: each connection and each request begins and ends once, whatever
//! happens to it.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use prometheus_deferred::net::{Address, Protocol, Transport};
use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient};
use prometheus_deferred::web::{
    Klein, Method, NOT_DONE_YET, RefusalReason, Rendered, Request, RequestEnd, RequestHead,
    RequestOutcome, Resource, Response, Site, SiteObserver, Tree,
};
use prometheus_deferred::{Deferred, Failure, sleep};
use support::{InMemory, keep, leaf, times_logged, with_kept};

const SECOND: Duration = Duration::from_secs(1);

/// What an observer was told, as lines of text and as sums.
#[derive(Default)]
struct Seen {
    lines: RefCell<Vec<String>>,
    ends: RefCell<Vec<RequestEnd>>,
    routes: RefCell<BTreeSet<String>>,
    open: RefCell<BTreeMap<String, i32>>,
    begun: Cell<u32>,
    heads: Cell<u32>,
}

impl Seen {
    fn tell(&self, line: String) {
        self.lines.borrow_mut().push(line);
    }

    fn take(&self) -> Vec<String> {
        self.lines.take()
    }

    /// The only request that has ended since this was last asked.
    fn end(&self) -> RequestEnd {
        let mut ends = self.ends.take();
        assert_eq!(ends.len(), 1, "{ends:?}");
        ends.remove(0)
    }
}

impl SiteObserver for Seen {
    fn connection_opened(&self, peer: &Address) {
        let before = self.open.borrow_mut().insert(peer.to_string(), 1);
        assert_eq!(before, None, "{peer} is opened twice");
    }

    fn connection_closed(&self, peer: &Address) {
        let count = self.open.borrow_mut().insert(peer.to_string(), 0);
        assert_eq!(count, Some(1), "{peer} is closed, and is not open");
    }

    fn request_begun(&self, head: &RequestHead) {
        self.begun.set(self.begun.get() + 1);
        self.tell(format!("begun {} {}", head.method(), head.route()));
    }

    fn response_head_sent(&self, head: &RequestHead, status: StatusCode, after: Duration) {
        self.heads.set(self.heads.get() + 1);
        let (route, status) = (head.route(), status.as_u16());
        self.tell(format!("head {route} {status} after {after:?}"));
    }

    fn request_ended(&self, head: &RequestHead, end: &RequestEnd) {
        self.routes.borrow_mut().insert(head.route().into_owned());
        let status = end.status.map_or(0, |status| status.as_u16());
        self.tell(format!(
            "ended {} {} {status} {} in {} out {} after {:?}",
            head.method(),
            head.route(),
            end.outcome.as_str(),
            end.bytes_in,
            end.bytes_out,
            end.duration
        ));
        self.ends.borrow_mut().push(end.clone());
    }

    fn refused(&self, reason: RefusalReason) {
        self.tell(format!("refused {reason}"));
    }
}

/// Makes children of any name.
struct Made;

impl Resource for Made {
    fn get_child(&self, _: &str, _: &Request) -> Option<Rc<dyn Resource>> {
        Some(Rc::new(leaf(|_| "made")))
    }
}

/// Has no POST, and renders by itself.
struct GetAlone;

impl Resource for GetAlone {
    fn is_leaf(&self) -> bool {
        true
    }

    fn render(&self, request: Request) -> Rendered {
        match *request.method() {
            Method::GET => "got".into(),
            _ => Rendered::NotAllowed,
        }
    }
}

fn server_on(memory: MemoryReactor) -> (InMemory, Rc<Seen>) {
    let seen = Rc::new(Seen::default());
    let observer = seen.clone();
    let server = InMemory::on(memory, |reactor| {
        let mut inner = Klein::new();
        inner.route("/", |_| "item");
        let inner = inner.resource();
        let mut app = Klein::new();
        app.route("/now", |_| "now");
        app.route("/user/<name>", |_| "user");
        app.route("/kept/<name>", keep);
        app.route("/large", |_| vec![b'l'; 300_000]);
        app.route("/echo", |request: Request| request.body().clone())
            .max_body_bytes(1000);
        app.route("/panics", |_| -> &'static str { panic!("on purpose") });
        app.route("/fails/late", |mut request: Request| {
            request.write("a part");
            keep(request);
            Deferred::<Response>::fail(Failure::message("on purpose"))
        });
        app.route("/short", |mut request: Request| {
            request.set_header(http::header::CONTENT_LENGTH, "10");
            request.write("short");
            request.finish();
            NOT_DONE_YET
        });
        app.route("/over", |mut request: Request| {
            request.set_header(http::header::CONTENT_LENGTH, "3");
            request.write("too long");
            request.finish();
            NOT_DONE_YET
        });
        app.route("/inner", move |_| inner.clone());
        app.route("/streams", |mut request: Request| {
            let body = request.take_body();
            body.collect(10_000).map(|body| body.len().to_string())
        })
        .streaming()
        .max_body_bytes(10_000);
        app.route("/echo-protocol", |request: Request| {
            request.upgrade("echo", |_, _| Silent)
        });
        let clock = reactor.clone();
        app.route("/slow", move |_| sleep(&clock, 3 * SECOND).map(|()| "slow"));
        let root = Tree::new();
        root.put_child("app", app.resource());
        root.put_child("made", Made);
        root.put_child("alone", GetAlone);
        let folder = Tree::new();
        folder.put_child("page", leaf(|_| "page"));
        root.put_child("folder", folder);
        Site::new(root).observe(observer)
    });
    (server, seen)
}

struct Silent;

impl Protocol for Silent {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

fn server() -> (InMemory, Rc<Seen>) {
    server_on(MemoryReactor::new())
}

/// Each of them alone on a connection.
#[test]
fn a_request_is_told_from_its_head_to_its_last_byte() {
    for (method, target, body, want) in [
        ("GET", "/app/now", "", "200 finished in 0 out 3"),
        ("HEAD", "/app/now", "", "200 finished in 0 out 0"),
        ("HEAD", "/alone", "", "200 finished in 0 out 0"),
        ("POST", "/app/echo", "hello", "200 finished in 5 out 5"),
        ("POST", "/app/streams", "hello", "200 finished in 5 out 1"),
        ("GET", "/app/panics", "", "500 failed in 0 out "),
        ("GET", "/nothing", "", "404 finished in 0 out "),
        ("DELETE", "/alone", "", "405 finished in 0 out "),
        ("OPTIONS", "*", "", "200 finished in 0 out 0"),
        ("GET", "/app/over", "", "200 finished in 0 out 3"),
        ("GET", "/app/short", "", "200 failed in 0 out 5"),
    ] {
        let (server, seen) = server();
        let mut request = TestClient::connect(&server).request(method, target);
        if !body.is_empty() {
            request = request.body(body);
        }
        let answer = request.send();
        server.pass(SECOND);
        let lines = seen.take();
        let [begun, head, ended] = &lines[..] else {
            panic!("{method} {target}: {lines:?}");
        };
        assert!(begun.starts_with(&format!("begun {method} ")), "{begun}");
        assert!(head.starts_with("head "), "{target}: {head}");
        assert!(ended.starts_with(&format!("ended {method} ")), "{ended}");
        assert!(ended.contains(want), "{target}: {ended}, and not {want}");
        drop(answer);
        server.pass(60 * SECOND);
        assert_eq!(seen.take(), [""; 0], "{target}");
        assert_eq!(times_logged(&format!("{target} was dropped")), 0);
        assert!(seen.open.borrow().values().all(|count| *count == 0));
    }
}

/// What a program has written, and not what a client has made up.
#[test]
fn routes_are_those_of_the_program() {
    for (target, want) in [
        ("/app/now", "/app/now"),
        ("/app/user/ann", "/app/user/<name>"),
        ("/app/inner", "/app/inner/"),
        ("/app/nothing", ""),
        ("/made/anything", "/made/*"),
        ("/folder/page", "/folder/page"),
        ("/folder/page/below/it", "/folder/page"),
        ("/folder/other", ""),
        ("/%66older/page", "/folder/page"),
        ("/", ""),
    ] {
        let (server, seen) = server();
        server.get(target).send().status();
        server.pump();
        let routes = seen.routes.take();
        assert_eq!(routes.into_iter().collect::<Vec<_>>(), [want], "{target}");
    }
}

/// However many URLs clients make up.
#[test]
fn unknown_urls_are_one_route() {
    let (server, seen) = server();
    let client = server.connect_to("127.0.0.1:80").unwrap();
    let mut lines = 0;
    for batch in 0..100 {
        let requests: String = (0..100)
            .map(|number| {
                let path = match number % 4 {
                    0 => format!("/{batch}-{number}"),
                    1 => format!("/app/{batch}-{number}"),
                    2 => format!("/app/user/{batch}/{number}"),
                    _ => format!("/folder/{batch}-{number}/x"),
                };
                format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
            })
            .collect();
        client.exchange(requests);
        lines += seen.take().len();
    }
    assert_eq!(lines, 3 * 10_000);
    assert_eq!(seen.routes.take().into_iter().collect::<Vec<_>>(), [""]);
}

/// The head is that of the request, wherever the request is by then.
#[test]
fn a_request_that_is_kept_for_ever_ends_with_its_connection() {
    for resets in [true, false] {
        let (server, seen) = server();
        let answer = server.post("/app/kept/a", "body").send();
        server.pass(2 * SECOND);
        match resets {
            true => answer.connection().reset(),
            false => answer.connection().close_sending(),
        }
        server.pass(SECOND);
        let after = if resets { 2 } else { 3 };
        let want = [
            "begun POST /app/kept/<name>".to_owned(),
            format!("ended POST /app/kept/<name> 0 client_gone in 4 out 0 after {after}s"),
        ];
        assert_eq!(seen.take(), want);
        // It is too late for these to be told of.
        with_kept("/app/kept/a", |request| request.respond("nobody reads"));
        server.pass(60 * SECOND);
        assert_eq!(seen.take(), [""; 0]);
    }
}

/// One that is dropped is answered, and named.
#[test]
fn a_request_that_is_dropped_has_failed() {
    let (server, seen) = server();
    let answer = server.get("/app/kept/a").send();
    server.pass(SECOND);
    with_kept("/app/kept/a", drop);
    assert_eq!(answer.status(), 500);
    let lines = seen.take();
    assert!(lines[2].starts_with("ended GET /app/kept/<name> 500 failed in 0 out "));
    assert!(lines[2].ends_with(" after 1s"), "{lines:?}");
}

/// The failure comes when the request is somebody else's.
#[test]
fn a_request_that_fails_after_a_part_was_sent_has_failed() {
    let (server, seen) = server();
    let answer = server.get("/app/fails/late").send();
    assert!(answer.is_cut_off());
    let lines = seen.take();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(
        lines[2],
        "ended GET /app/fails/late 200 failed in 0 out 6 after 0ns"
    );
    support::logged("GET /app/fails/late from 127.0.0.1:");
}

/// The duration ends with the last byte that the client takes.
#[test]
fn a_slow_reader_counts() {
    for goes in [false, true] {
        let (server, seen) = server();
        let client = TestClient::connect(&server);
        client.connection().block_writes(100);
        let answer = client.get("/app/large").send();
        server.pass(7 * SECOND);
        assert_eq!(seen.take()[1], "head /app/large 200 after 0ns");
        match goes {
            true => client.connection().reset(),
            false => client.connection().unblock_writes(),
        }
        server.pump();
        let end = seen.end();
        assert_eq!(end.duration, 7 * SECOND);
        assert_eq!(end.bytes_out, 300_000);
        assert_eq!(
            end.outcome,
            match goes {
                true => RequestOutcome::ClientGone,
                false => RequestOutcome::Finished,
            }
        );
        drop(answer);
    }
}

/// A refused head begins nothing; a refused body ends a request.
#[test]
fn refusals_are_told_with_their_reasons() {
    let (server, seen) = server();
    let client = TestClient::connect(&server);
    client.send_bytes("GET /app/now HTTP/1.1\r\n\r\n");
    assert_eq!(client.next_response("GET").status(), 400);
    assert_eq!(seen.take(), ["refused missing_host"]);
    let answer = server.post("/app/echo", vec![b'x'; 1001]).send();
    assert_eq!(answer.status(), 413);
    let lines = seen.take();
    assert_eq!(lines[0], "begun POST /app/echo");
    assert_eq!(lines[1], "refused body_too_large");
    assert_eq!(lines[2], "head /app/echo 413 after 0ns");
    assert!(
        lines[3].starts_with("ended POST /app/echo 413 finished in 0 out "),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 4, "{lines:?}");
    server.pass(20 * SECOND);
    assert_eq!(seen.take(), [""; 0]);
    // Chunks that cannot be read.
    let client = TestClient::connect(&server);
    client.send_bytes(
        "POST /app/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    );
    assert_eq!(client.next_response("POST").status(), 400);
    server.pass(20 * SECOND);
    assert_eq!(seen.take()[1], "refused bad_chunk_size");
    // A client that goes in the middle of its body.
    seen.ends.take();
    let client = TestClient::connect(&server);
    client.send_bytes("POST /app/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf");
    client.connection().close_sending();
    server.pass(SECOND);
    let end = seen.end();
    assert_eq!(
        (end.status, end.outcome, end.bytes_in),
        (None, RequestOutcome::ClientGone, 4)
    );
}

/// The same for those that the site itself ends.
#[test]
fn a_drain_and_an_upgrade_are_told() {
    let (server, seen) = server();
    let client = TestClient::connect(&server);
    client.send_bytes("GET /app/echo-protocol HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    let lines = seen.take();
    assert_eq!(lines[0], "begun GET /app/echo-protocol");
    assert_eq!(lines[1], "head /app/echo-protocol 101 after 0ns");
    assert_eq!(
        lines[2],
        "ended GET /app/echo-protocol 101 finished in 0 out 0 after 0ns"
    );
    let kept = server.get("/app/kept/a").send();
    server.pump();
    server.reactor.stop().unwrap();
    server.pass(10 * SECOND);
    assert!(kept.connection().is_reset());
    assert_eq!(
        seen.take(),
        [
            "begun GET /app/kept/<name>",
            "ended GET /app/kept/<name> 0 aborted in 0 out 0 after 10s"
        ]
    );
    assert!(seen.open.borrow().values().all(|count| *count == 0));
}

/// Whatever clients do, at whatever byte they go: what has begun has ended, once.
#[test]
fn every_beginning_has_one_end() {
    const REQUESTS: [&str; 18] = [
        "GET /app/now HTTP/1.1\r\nHost: h\r\n\r\n",
        "HEAD /app/large HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/large HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/kept/a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/panics HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/fails/late HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/short HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/slow HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/inner HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /app/inner/nothing HTTP/1.1\r\nHost: h\r\n\r\n",
        "HEAD /alone HTTP/1.1\r\nHost: h\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /app/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n",
        "POST /app/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST /app/streams HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "POST /nothing HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "GET /app/echo-protocol HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi",
    ];
    for seed in 0..1500_u64 {
        let (server, seen) = server_on(MemoryReactor::with_seed(seed));
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = move |count: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % count as u64) as usize
        };
        let clients: Vec<_> = (0..3).map(|_| server.connect().stream).collect();
        for _ in 0..4 {
            let client = &clients[below(3)];
            let text: String = (0..1 + below(3))
                .map(|_| REQUESTS[below(REQUESTS.len())])
                .collect();
            let cut = if below(3) == 0 {
                below(60).min(text.len())
            } else {
                0
            };
            client.send(&text[..text.len() - cut]);
            match below(8) {
                0 => client.reset(),
                1 => client.close_sending(),
                2 => client.block_writes(below(400_000)),
                3 => client.unblock_writes(),
                _ => {}
            }
            (0..below(6)).for_each(|_| {
                server.turn();
            });
            server.pass(Duration::from_millis(below(4000) as u64));
        }
        if below(2) == 0 {
            server.reactor.stop().unwrap();
        }
        server.pass(600 * SECOND);
        // A request that is kept lasts as long as its client does.
        clients.iter().for_each(|client| client.reset());
        server.pass(SECOND);
        let ended = seen.ends.borrow().len();
        assert_eq!(
            seen.begun.get() as usize,
            ended,
            "seed {seed}: {:#?}",
            seen.lines
        );
        assert!(seen.heads.get() as usize <= ended, "seed {seed}");
        let open = seen.open.borrow();
        assert!(
            open.values().all(|count| *count == 0),
            "seed {seed}: {open:?}"
        );
        for line in seen.lines.borrow().iter() {
            assert!(
                !line.contains("ended GET / "),
                "seed {seed}: a bare head: {line}"
            );
        }
    }
}
