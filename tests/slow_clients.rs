//! Clients that trickle, read slowly, say nothing, or come in numbers: each limit in both
//! directions, what it is counted as, and that others are served meanwhile.

mod support;

use std::cell::RefCell;
use std::time::Duration;

use prometheus_deferred::testing::{SendRequests, TestClient, TestResponse};
use prometheus_deferred::web::{
    BodyPolicy, NOT_DONE_YET, RefusalReason, Rendered, Request, RequestHead, Resource, Response,
    Site, SiteHandle,
};
use support::{InMemory, times_logged};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);
const KIB: usize = 1024;

/// Streams the bodies of requests to `/stream`, and collects others; `/big` is a large page.
struct Pages;

impl Resource for Pages {
    fn render(&self, mut request: Request) -> Rendered {
        match request.path() {
            "/big" => vec![b'b'; 600 * KIB].into(),
            "/pieces" => Response::stream((0..60).map(|_| vec![b'p'; 10 * KIB])).into(),
            "/stream" => {
                let body = request.take_body().collect(usize::MAX);
                body.map(|body| body.len().to_string()).into()
            }
            "/unread" => {
                UNREAD.with_borrow_mut(|unread| unread.push(request));
                NOT_DONE_YET
            }
            _ => request.body().len().to_string().into(),
        }
    }
    fn body_policy(&self, head: &RequestHead) -> BodyPolicy {
        match head.path() {
            "/stream" | "/unread" => BodyPolicy::stream(u64::MAX),
            _ => BodyPolicy::collect(head.max_body_bytes()),
        }
    }
    fn is_leaf(&self) -> bool {
        true
    }
}

thread_local! {
    /// Requests whose bodies nobody reads.
    static UNREAD: RefCell<Vec<Request>> = const { RefCell::new(Vec::new()) };
}

fn serving(set: impl FnOnce(Site) -> Site) -> (InMemory, SiteHandle) {
    let mut handle = None;
    let server = InMemory::with_site(|_| {
        let site = set(Site::new(Pages));
        handle = Some(site.handle());
        site
    });
    (server, handle.expect("the site was made"))
}

/// How often anything was refused.
fn refusals(handle: &SiteHandle) -> Vec<(RefusalReason, u64)> {
    let counts = RefusalReason::ALL
        .iter()
        .map(|reason| (*reason, handle.refused(*reason)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// F-27, B-13. Whatever trickles is cut off by an absolute deadline or by its rate, each of which
/// is counted by its name.
#[test]
fn what_trickles_in_is_refused_at_its_deadline() {
    use RefusalReason::{BodyTimeout, BodyTooSlow, HeaderTimeout};
    const LENGTH: &str = "Content-Length: 1000000\r\n\r\n";
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";
    let put = |path: &str, rest: &str| format!("PUT {path} HTTP/1.1\r\nHost: h\r\n{rest}");
    // What is sent each second, and the second in which it ends.
    for (begun, drip, reason, end) in [
        (
            "GET / HTTP/1.1\r\nHost: h\r\nX: ".to_owned(),
            "x".to_owned(),
            HeaderTimeout,
            30,
        ),
        ("G".to_owned(), "G".to_owned(), HeaderTimeout, 30),
        (put("/", LENGTH), "x".to_owned(), BodyTooSlow, 10),
        (put("/", LENGTH), "x".repeat(239), BodyTooSlow, 10),
        (
            put("/", LENGTH) + &"x".repeat(300),
            "x".repeat(241),
            BodyTimeout,
            60,
        ),
        (put("/stream", LENGTH), "x".to_owned(), BodyTooSlow, 10),
        (
            put("/stream", LENGTH) + &"x".repeat(2400),
            "x".to_owned(),
            BodyTooSlow,
            11,
        ),
        (put("/", CHUNKED), "1\r\nx\r\n".to_owned(), BodyTooSlow, 10),
        (
            put("/stream", CHUNKED),
            "1\r\nx\r\n".to_owned(),
            BodyTooSlow,
            10,
        ),
        (put("/", CHUNKED), "0".to_owned(), BodyTooSlow, 10),
        (
            put("/stream", CHUNKED) + "ff;a=",
            "b".to_owned(),
            BodyTooSlow,
            10,
        ),
        (
            put("/", CHUNKED) + "0\r\n",
            "T: u\r\n".to_owned(),
            BodyTooSlow,
            10,
        ),
    ] {
        let (server, handle) = serving(|site| site.keep_alive(None));
        let client = TestClient::connect(&server);
        client.send_bytes(&begun);
        server.pump();
        for second in 1.. {
            server.advance(SECOND);
            if !refusals(&handle).is_empty() {
                assert_eq!(second, end, "{begun:?}");
                break;
            }
            assert!(second < end, "{begun:?}");
            client.connection().send(&drip);
            server.pump();
        }
        assert_eq!(refusals(&handle), [(reason, 1)], "{begun:?}");
        let method = if begun.starts_with('P') { "PUT" } else { "GET" };
        let response = client.next_response(method);
        assert_eq!(response.status(), 408, "{begun:?}");
        assert_eq!(response.header("Connection"), Some("close"));
        server.advance(5 * SECOND);
        assert_eq!(handle.connections(), 0, "{begun:?}");
    }
}

/// F-27. The time in which the program does not read is not the client's.
#[test]
fn a_program_that_does_not_read_makes_no_client_slow() {
    let (server, handle) = serving(|site| site);
    let response = server
        .request("PUT", "/unread")
        .header("Content-Length", "400000")
        .send_head();
    response.send_body(vec![b'x'; 300_000]);
    server.advance(3600 * SECOND);
    assert_eq!(refusals(&handle), []);
    let mut request = UNREAD.with_borrow_mut(Vec::pop).expect("it is kept");
    let body = request.take_body().collect(usize::MAX);
    server.advance(9 * SECOND);
    response.send_body(vec![b'x'; 100_000]);
    assert_eq!(body.result().expect("all of it").len(), 400_000);
    request.finish();
    assert_eq!(response.status(), 200);
}

/// A client that reads each second as much as this.
fn reads(server: &InMemory, response: &TestResponse, bytes: usize, seconds: u32) {
    for _ in 0..seconds {
        response.connection().block_writes(bytes);
        server.advance(SECOND);
    }
}

/// F-05, F-28, B-13. A client that reads nothing, or too slowly, is cut off with a reset, and
/// counted; one that keeps the rate gets everything.
#[test]
fn a_client_that_does_not_read_is_cut_off() {
    for path in ["/big", "/pieces"] {
        let (server, handle) = serving(|site| site);
        let response = server.get(path).send();
        drop(response);
        server.pump();
        assert_eq!(handle.connections(), 0);

        // Nothing at all.
        let client = TestClient::connect(&server);
        client.connection().block_writes(1000);
        let _response = client.get(path).send();
        server.advance(30 * SECOND - MOMENT);
        assert_eq!(refusals(&handle), [], "{path}");
        server.advance(MOMENT);
        assert_eq!(
            refusals(&handle),
            [(RefusalReason::WriteTimeout, 1)],
            "{path}"
        );
        assert!(client.connection().is_reset());

        // A byte a second, and a byte in 29 seconds.
        for seconds in [1, 29] {
            let (server, handle) = serving(|site| site);
            let client = TestClient::connect(&server);
            client.connection().block_writes(0);
            let response = client.get(path).send();
            for _ in 0..60 / seconds {
                reads(&server, &response, 1, 1);
                server.advance((seconds - 1) * SECOND);
            }
            assert_eq!(
                refusals(&handle),
                [(RefusalReason::WriteTooSlow, 1)],
                "{path}"
            );
            assert!(client.connection().is_reset());
        }

        // Just fast enough.
        let (server, handle) = serving(|site| site);
        let client = TestClient::connect(&server);
        client.connection().block_writes(0);
        let response = client.get(path).send();
        reads(&server, &response, 250, 600);
        assert_eq!(refusals(&handle), [], "{path}");
        client.connection().unblock_writes();
        assert!(response.is_complete());
    }
}

/// An absolute time for responses, where one is set.
#[test]
fn a_response_may_have_a_time_to_be_read_in() {
    let (server, handle) = serving(|site| site.response_timeout(60 * SECOND));
    let client = TestClient::connect(&server);
    client.connection().block_writes(0);
    let response = client.get("/big").send();
    reads(&server, &response, 5000, 59);
    assert_eq!(refusals(&handle), []);
    reads(&server, &response, 5000, 1);
    assert_eq!(refusals(&handle), [(RefusalReason::WriteTimeout, 1)]);
    assert!(client.connection().is_reset());
}

/// F-28. Requests go on coming, and nobody reads the answers.
#[test]
fn a_client_that_only_asks_is_cut_off() {
    let (server, handle) = serving(|site| site);
    let client = TestClient::connect(&server);
    client.connection().block_writes(0);
    let asked = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(1000);
    for second in 0..30 {
        client.connection().send(&asked);
        server.advance(SECOND);
        if let Some(transport) = client.connection().transport() {
            assert!(transport.buffered() <= 260 * KIB, "{second}");
        }
    }
    assert_eq!(handle.connections(), 0);
    assert_eq!(refusals(&handle), [(RefusalReason::WriteTimeout, 1)]);
}

/// Law 7. In all, and for each client.
#[test]
fn connections_beyond_the_limit_are_closed_unanswered() {
    type Setting = fn(Site) -> Site;
    let settings: [(Setting, RefusalReason); 2] = [
        (
            |site| site.max_connections(2),
            RefusalReason::TooManyConnections,
        ),
        (
            |site| site.max_connections_per_client(2),
            RefusalReason::TooManyConnectionsPerClient,
        ),
    ];
    for (set, reason) in settings {
        let (server, handle) = serving(set);
        let clients = [(); 2].map(|()| TestClient::connect(&server));
        server.pump();
        for count in 1..4 {
            let refused = TestClient::connect(&server);
            server.pump();
            assert!(refused.connection().is_closed());
            assert_eq!(refused.bytes(), b"");
            assert_eq!(refusals(&handle), [(reason, count)]);
        }
        let [first, second] = clients;
        assert_eq!(first.get("/").send().text(), "0");
        drop(first);
        server.pump();
        assert_eq!(handle.connections(), 1);
        let third = TestClient::connect(&server);
        assert_eq!(third.get("/").send().text(), "0");
        assert_eq!(second.get("/").send().text(), "0");
        drop((second, third));
        server.pump();
        assert_eq!(handle.connections(), 0);
    }
}

#[test]
fn the_last_request_of_a_connection_says_so() {
    for (limit, answered) in [(0, 1), (1, 1), (3, 3)] {
        let (server, _) = serving(|site| site.max_requests_per_connection(limit));
        let client = TestClient::connect(&server);
        client.send_bytes("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(5));
        for number in 1..=answered {
            let response = client.next_response("GET");
            let says = response.header("Connection");
            assert_eq!(
                says,
                (number == answered).then_some("close"),
                "{number} of {limit}"
            );
        }
        assert_eq!(client.bytes(), b"");
        assert!(client.connection().has_ended());
    }
}

/// W-50, law 11. Zero closes behind each response; the longest is for ever.
#[test]
fn connections_are_kept_for_as_long_as_is_said() {
    let (server, _) = serving(|site| site.keep_alive(Duration::ZERO));
    let client = TestClient::connect(&server);
    server.advance(29 * SECOND);
    let response = client.get("/").send();
    assert_eq!(response.text(), "0");
    assert_eq!(response.header("Connection"), Some("close"));
    assert!(client.connection().has_ended());

    for time in [None, Some(Duration::MAX)] {
        let (server, _) = serving(|site| site.keep_alive(time));
        let client = TestClient::connect(&server);
        for _ in 0..3 {
            assert_eq!(client.get("/").send().text(), "0");
            server.advance(Duration::from_secs(365 * 24 * 3600));
        }
        assert!(!client.connection().has_ended());
    }
}

/// Law 11. However little is granted, a client that has just connected can send its request, and
/// one that has just begun its body is not too slow.
#[test]
fn the_smallest_times_let_a_client_begin() {
    let (server, _) = serving(|site| site.keep_alive(MOMENT));
    let client = TestClient::connect(&server);
    server.advance(29 * SECOND);
    assert_eq!(client.get("/").send().text(), "0");
    server.advance(MOMENT);
    assert!(client.connection().has_ended());

    let (server, _) = serving(|site| site.min_bytes_per_second(4, Duration::ZERO));
    for path in ["/", "/stream"] {
        let request = server.request("PUT", path);
        let response = request.header("Content-Length", "4").send_head();
        server.advance(SECOND - MOMENT);
        response.send_body("body");
        assert_eq!(response.text(), "4");
    }
}

/// Law 11. Every setting at zero, at one and at its maximum: requests are answered as they are at
/// the default, or refused with the status of that limit, and nothing panics.
#[test]
fn no_setting_has_a_wrong_extreme() {
    type Setting = Box<dyn Fn(Site) -> Site>;
    let durations = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];
    type Row = (String, Setting, [u16; 2]);
    let mut settings: Vec<Row> = Vec::new();
    type OfTime = (&'static str, fn(Site, Duration) -> Site);
    let of_time: [OfTime; 9] = [
        ("keep_alive", Site::keep_alive),
        ("header_timeout", Site::header_timeout),
        ("body_timeout", Site::body_timeout),
        ("write_timeout", Site::write_timeout),
        ("response_timeout", Site::response_timeout),
        ("abort_timeout", Site::abort_timeout),
        ("half_close_grace", Site::half_close_grace),
        ("drain_on_shutdown", Site::drain_on_shutdown),
        ("discard 1000", |site, time| site.discard(1000, time)),
    ];
    for (name, set) in of_time {
        for time in durations {
            let set: Setting = Box::new(move |site| set(site, time));
            settings.push((format!("{name}({time:?})"), set, [200, 200]));
        }
    }
    for rate in [0, 1, u32::MAX] {
        for grace in durations {
            let set: Setting = Box::new(move |site| site.min_bytes_per_second(rate, grace));
            settings.push((
                format!("min_bytes_per_second({rate}, {grace:?})"),
                set,
                [200, 200],
            ));
        }
    }
    // The statuses of GET and PUT at zero, one and the maximum; 0 is no answer.
    type OfCount = (&'static str, fn(Site, usize) -> Site, [[u16; 2]; 3]);
    let fine = [200, 200];
    let of_count: [OfCount; 10] = [
        (
            "line",
            Site::max_request_line_bytes,
            [[414, 414], [414, 414], fine],
        ),
        ("head", Site::max_head_bytes, [[431, 431], [431, 431], fine]),
        (
            "fields",
            Site::max_header_fields,
            [[431, 431], [200, 431], fine],
        ),
        ("body", Site::max_body_bytes, [[200, 413], [200, 413], fine]),
        ("read ahead", Site::max_read_ahead_bytes, [fine; 3]),
        ("unread output", Site::max_unread_output_bytes, [fine; 3]),
        ("connections", Site::max_connections, [[0, 0], fine, fine]),
        (
            "connections per client",
            |site, most| site.max_connections_per_client(most),
            [[0, 0], fine, fine],
        ),
        (
            "requests",
            |site, most| site.max_requests_per_connection(most as u64),
            [fine; 3],
        ),
        (
            "discard",
            |site, bytes| site.discard(bytes as u64, SECOND),
            [fine; 3],
        ),
    ];
    for (name, set, statuses) in of_count {
        for (count, statuses) in [0, 1, usize::MAX].into_iter().zip(statuses) {
            let set: Setting = Box::new(move |site| set(site, count));
            settings.push((format!("{name}({count})"), set, statuses));
        }
    }
    for (name, set, statuses) in settings {
        let (server, handle) = serving(set);
        let requests = [
            ("GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            (
                "PUT",
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
            ),
        ];
        for ((method, bytes), status) in requests.into_iter().zip(statuses) {
            let client = TestClient::connect(&server);
            client.send_bytes(bytes);
            let response = client.next_response(method);
            match status {
                0 => assert!(!response.has_begun(), "{name}: {method}"),
                _ => assert_eq!(response.status(), status, "{name}: {method}"),
            }
        }
        // What meets the other limits may be refused, and ends.
        if statuses == fine {
            let client = TestClient::connect(&server);
            let _streams = client.get("/pieces").send();
            client.connection().block_writes(100);
            let _big = client.get("/big").send();
            server.advance(SECOND);
            client.connection().unblock_writes();
            server.advance(SECOND);
            drop(client);
            let client = TestClient::connect(&server);
            client.send_bytes("PUT /stream HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx");
            server.advance(100 * SECOND);
            client.connection().close_sending();
            server.advance(100 * SECOND);
        }
        server.pump();
        let _ = server.reactor().stop();
        server.advance(100 * SECOND);
        assert_eq!(handle.connections(), 0, "{name}");
    }
    assert_eq!(times_logged("the protocol of the connection from"), 0);
}

/// B-13, law 7. A thousand clients of every slow kind: what is held for each of them stays within
/// what the documentation of `Site` grants, others are served, and all of them end.
#[test]
fn a_thousand_slow_clients_cost_what_they_were_granted() {
    const EACH: usize = 200;
    let (server, handle) = serving(|site| site);
    // What each sends at first and then every second, what it is granted, and how much of its
    // answers it reads each second.
    let put = |path: &str, body: &[u8]| {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let asks = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let kinds: [(Vec<u8>, &[u8], usize); 5] = [
        (Vec::new(), b"", 0),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: ".to_vec(), b"x", 16 * KIB),
        (put("/", &[b'x'; 5000]), b"x", 900_000),
        (
            asks("/pieces"),
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            64 * KIB + 64 * KIB + 11 * KIB,
        ),
        (put("/stream", &[b'x'; 1000]), b"x", 256 * KIB),
    ];
    let mut clients = Vec::new();
    let used = allocation_counter::measure(|| {
        for (number, (begun, _, _)) in kinds.iter().cycle().take(5 * EACH).enumerate() {
            let client = TestClient::connect(&server);
            client.connection().block_writes(0);
            client.connection().send(begun);
            clients.push((client, number % 5, begun.len()));
        }
        server.pump();
    });
    assert_eq!(handle.connections(), 5 * EACH);
    // Sent so far 1.2 MB of bodies and heads, and 64 KiB and a piece of 200 pages; a connection, its
    // timers and both ends of its wire are 5 kB.
    let granted = EACH * (5000 + 1000 + 2 * 80 * KIB) + 5 * EACH * 5 * KIB;
    assert!(
        used.bytes_current < granted as i64,
        "{} bytes",
        used.bytes_current
    );
    for second in 0..90 {
        for (client, kind, sent) in &mut clients {
            let (_, drip, grant) = &kinds[*kind];
            if let Some(transport) = client.connection().transport() {
                let read = *sent - client.connection().unread();
                let holds = transport.buffered() + if *kind == 3 { 0 } else { read };
                assert!(
                    holds <= *grant + 200,
                    "kind {kind}: {holds} bytes in second {second}"
                );
                client.connection().send(drip);
                *sent += drip.len();
            }
        }
        server.advance(SECOND);
        if second % 10 == 0 {
            assert_eq!(server.get("/").send().text(), "0", "others are served");
        }
    }
    assert_eq!(handle.connections(), 0, "all of them have ended");
    let mut refused = refusals(&handle);
    refused.sort_by_key(|(reason, _)| reason.as_str());
    let each = EACH as u64;
    assert_eq!(
        refused,
        [
            (RefusalReason::BodyTooSlow, 2 * each),
            (RefusalReason::HeaderTimeout, each),
            (RefusalReason::WriteTimeout, each),
        ]
    );
}
