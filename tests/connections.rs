//! The life of a connection: in any pieces, one request behind another, within its limits.

mod support;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use prometheus_deferred::sleep;
use prometheus_deferred::testing::MemoryReactor;
use prometheus_deferred::web::{Klein, NOT_DONE_YET, Rendered, Request, Response, Site, header};
use proptest::prelude::*;
use support::{Client, InMemory, PATIENCE, Server, keep, leaf, note, times_logged, with_kept};

/// Answers at once, later, in parts, and with what it got.
fn many_ways(reactor: MemoryReactor) -> InMemory {
    InMemory::on(reactor, |reactor| {
        let clock = reactor.clone();
        let mut app = Klein::new();
        app.route("/now", |_| "now");
        app.route("/later", move |_| {
            sleep(&clock, Duration::ZERO).map(|()| "later")
        });
        app.route("/parts", |mut request: Request| {
            request.write("some ");
            request.write("parts");
            request.finish();
            NOT_DONE_YET
        });
        app.route("/echo", |request: Request| request.body().clone());
        app.route("/big", |_| vec![b'b'; 100_000]);
        Site::new(app.resource())
    })
}

const REQUESTS: [&str; 9] = [
    "GET /now HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /later HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /parts HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
    "HEAD /parts HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD /later HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET / \r\n\r",
    "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
     3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: u\r\n\r\n",
    "\r\nPUT /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
    "GET /big HTTP/1.1\r\nHost: h\r\n\r\n",
];
const LAST: &str = "GET /now HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// All that is answered to bytes that arrive in these pieces, but for the dates.
fn answers(server: &InMemory, bytes: &str, cuts: impl IntoIterator<Item = usize>) -> String {
    let mut client = server.connect();
    let mut at = 0;
    for cut in cuts {
        client.send(&bytes[at..cut]);
        at = cut;
        server.reactor.pump();
    }
    client.send(&bytes[at..]);
    let answers = String::from_utf8(client.rest()).expect("answers are text");
    let lines = answers.split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}

/// W-47.
#[test]
fn bytes_that_come_one_at_a_time_are_answered_as_in_one_piece() {
    let server = many_ways(MemoryReactor::new());
    let bytes = REQUESTS.concat() + LAST;
    let whole = answers(&server, &bytes, []);
    assert_eq!(whole.matches("HTTP/1.1 200 OK\r\n").count(), REQUESTS.len());
    assert_eq!(whole.matches("HTTP/1.1 404 Not Found\r\n").count(), 1);
    assert_eq!(answers(&server, &bytes, 1..bytes.len()), whole);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..Default::default()
    })]

    /// W-47.
    #[test]
    fn any_requests_cut_anywhere_are_answered_as_one_by_one(
        requests in prop::collection::vec(prop::sample::select(&REQUESTS[..]), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        seed in any::<Option<u64>>(),
    ) {
        let server = many_ways(seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed));
        let bytes = requests.concat() + LAST;
        let mut want = String::new();
        for request in &requests {
            let mut alone = answers(&server, &((*request).to_owned() + LAST), []);
            alone.truncate(alone.rfind("HTTP/1.1 ").unwrap());
            want += &alone;
        }
        want += &answers(&server, LAST, []);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(answers(&server, &bytes, cuts), want);
    }
}

/// W-47. Thousands in one go, read at leisure.
#[test]
fn a_long_pipeline_is_answered_in_order() {
    let server = Server::of(|request| request.path().to_owned());
    let mut client = server.connect();
    let mut sender = client.sender();
    let sending = thread::spawn(move || {
        let all: String = (0..3000)
            .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .collect();
        sender.write_all(all.as_bytes()).unwrap();
    });
    for number in 0..3000 {
        assert_eq!(client.reply().text(), format!("/{number}"));
    }
    sending.join().unwrap();
}

/// W-48.
#[test]
fn the_connection_stays_or_closes_as_the_request_says() {
    let server = Server::of(|request| request.path().to_owned());
    for (line, fields, stays) in [
        ("GET /a HTTP/1.1", "Host: h", true),
        ("GET /a HTTP/1.1", "Host: h\r\nConnection: keep-alive", true),
        ("GET /a HTTP/1.1", "Host: h\r\nConnection: closed", true),
        ("GET /a HTTP/1.1", "Host: h\r\nConnection: close", false),
        (
            "GET /a HTTP/1.1",
            "Host: h\r\nCONNECTION: te , CLOSE",
            false,
        ),
        (
            "GET /a HTTP/1.1",
            "Host: h\r\nConnection: x\r\nConnection: close",
            false,
        ),
        ("GET /a HTTP/1.0", "Host: h", false),
        ("GET /a HTTP/1.0", "X: y", false),
        ("GET /a HTTP/1.0", "Connection: keep-alive, close", false),
    ] {
        let mut client = server.connect();
        client.send(format!(
            "{line}\r\n{fields}\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        let reply = client.reply();
        assert_eq!(reply.text(), "/a");
        assert_eq!(
            reply.header("Connection").is_none(),
            stays,
            "{line} {fields}"
        );
        if stays {
            assert_eq!(client.reply().text(), "/b", "{line} {fields}");
        } else {
            assert_eq!(client.rest(), b"", "{line} {fields}");
        }
    }
}

/// W-48.
#[test]
fn a_response_may_say_that_it_is_the_last() {
    let server = Server::of(|mut request| -> Rendered {
        match request.path() {
            "/whole" => Response::new("whole")
                .with_header(header::CONNECTION, "Close")
                .into(),
            _ => {
                request.set_header(header::CONNECTION, "close");
                request.write("parts");
                keep(request)
            }
        }
    });
    let mut client = server.connect();
    client.get("/whole");
    assert_eq!(client.reply().header("Connection"), Some("close"));
    assert_eq!(client.rest(), b"");

    let mut client = server.connect();
    client.get("/parts");
    assert_eq!(server.next_note(), "/parts");
    server.with_kept("/parts", |request| request.finish().is_ok());
    assert_eq!(client.reply().text(), "parts");
    assert_eq!(client.rest(), b"");
}

/// W-48. Bytes that come too late to matter must not take the last response with them
/// (RFC 9112, 9.6).
#[test]
fn a_last_response_arrives_though_the_client_is_still_sending() {
    let server =
        Server::of(|_| Response::new(vec![b'x'; 200_000]).with_header(header::CONNECTION, "close"));
    for _ in 0..5 {
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.send(vec![b'?'; 1 << 20]);
        assert_eq!(client.reply().body.len(), 200_000);
    }
}

/// W-48. A client that has said that this was all is not waited for, however long it stays.
#[test]
fn a_connection_is_closed_behind_a_last_request() {
    let server =
        Server::with_site(|_| Site::new(leaf(|_| "done")).abort_timeout(Duration::from_secs(3600)));
    for last in [
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(last);
        assert_eq!(client.reply().text(), "done");
        assert_eq!(client.rest(), b"");
        // Nobody is there any more to take this, which the second one or a later one finds out.
        let mut sender = client.sender();
        let start = Instant::now();
        while sender.write_all(b"x").is_ok() {
            assert!(
                start.elapsed() < PATIENCE,
                "the server waits for the client"
            );
            thread::yield_now();
        }
    }
}

/// W-49.
#[test]
fn a_client_that_expects_it_is_told_to_go_on() {
    let server = Server::of(|request| request.body().clone());
    for (framing, body) in [
        ("Content-Length: 4", "body"),
        ("Transfer-Encoding: chunked", "4\r\nbody\r\n0\r\n\r\n"),
    ] {
        let mut client = server.connect();
        for _ in 0..2 {
            client.send(format!(
                "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n{framing}\r\n\r\n"
            ));
            let go_on = client.head_reply();
            assert_eq!(go_on.head, "HTTP/1.1 100 Continue\r\n\r\n");
            client.send(body);
            assert_eq!(client.reply().text(), "body");
        }
    }
}

/// W-49.
#[test]
fn nobody_is_told_to_go_on_who_would_not_understand_or_need_not() {
    let server = Server::with_site(|_| {
        Site::new(leaf(|request: Request| request.body().clone())).max_body_bytes(10)
    });
    for (line, fields, status) in [
        (
            "PUT / HTTP/1.0",
            "Expect: 100-continue\r\nContent-Length: 4",
            200,
        ),
        ("GET / HTTP/1.1", "Expect: 100-continue", 200),
        (
            "PUT / HTTP/1.1",
            "Expect: 100-continue\r\nContent-Length: 0",
            200,
        ),
        (
            "PUT / HTTP/1.1",
            "Expect: 100-continue\r\nContent-Length: 11",
            413,
        ),
        (
            "PUT / HTTP/1.1",
            "Expect: the worst\r\nContent-Length: 4",
            417,
        ),
    ] {
        let mut client = server.connect();
        client.send(format!("{line}\r\nHost: h\r\n{fields}\r\n\r\n"));
        if status == 200 && fields.ends_with('4') {
            client.send("body");
        }
        assert_eq!(client.head_reply().status, status, "{line} {fields}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Passes so much time that a deadline is just not reached, and then reaches it.
fn just_before_and_at(server: &InMemory, deadline: Duration, before: impl FnOnce()) {
    let moment = Duration::from_nanos(1);
    server.pass(deadline - moment);
    before();
    server.pass(moment);
}

/// W-50.
#[test]
fn an_idle_connection_is_closed() {
    let server = InMemory::with_site(|_| Site::new(leaf(|_| "x")).keep_alive(60 * SECOND));
    let mut unused = server.connect();
    let mut empty_line = server.connect();
    server.pass(20 * SECOND);
    empty_line.send("\r\n");
    server.pass(20 * SECOND);
    let mut used = server.connect();
    used.get("/");
    assert_eq!(used.reply().text(), "x");
    just_before_and_at(&server, 20 * SECOND, || {
        assert!(!unused.stream.has_ended() && !empty_line.stream.has_ended());
    });
    assert_eq!(unused.rest(), b"");
    assert_eq!(empty_line.rest(), b"", "it is no request");
    just_before_and_at(&server, 40 * SECOND, || assert!(!used.stream.has_ended()));
    assert_eq!(used.rest(), b"");
}

/// W-50. Each deadline is for its phase and for no other.
#[test]
fn idle_time_does_not_run_in_a_request_or_while_it_is_handled() {
    let server = InMemory::with_site(|_| {
        Site::new(leaf(|request: Request| {
            if request.path() == "/kept" {
                return keep(request);
            }
            request.body().clone().into()
        }))
        .keep_alive(60 * SECOND)
        .header_timeout(None)
        .body_timeout(None)
        .min_bytes_per_second(0, Duration::ZERO)
    });
    let mut head = server.connect();
    head.send("GET / HT");
    let mut body = server.connect();
    body.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo");
    let mut kept = server.connect();
    kept.get("/kept");
    assert_eq!(server.notes(), ["/kept"]);
    server.pass(3600 * SECOND);
    head.send("TP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(head.reply().status, 200);
    body.send("dy");
    assert_eq!(body.reply().text(), "body");
    with_kept("/kept", |request| request.respond("late").is_ok());
    assert_eq!(kept.reply().text(), "late");
    // And it runs again.
    just_before_and_at(&server, 60 * SECOND, || assert!(!kept.stream.has_ended()));
    assert_eq!(kept.rest(), b"");
}

/// W-50. No deadline is for the time in which we are slow.
#[test]
fn no_deadline_runs_while_a_request_is_handled() {
    let server = InMemory::with_site(|_| {
        Site::new(leaf(keep))
            .keep_alive(SECOND)
            .header_timeout(SECOND)
            .body_timeout(SECOND)
            .abort_timeout(SECOND)
    });
    let mut client = server.connect();
    client.send("PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    // The half of the next is not timed either, as long as we do not look at it.
    client.send("GET /2 HT");
    assert_eq!(server.notes(), ["/1"]);
    server.pass(3600 * SECOND);
    with_kept("/1", |request| request.respond("one").is_ok());
    assert_eq!(client.reply().text(), "one");
    server.pass(SECOND);
    assert_eq!(client.reply().status, 408, "now it is");
}

/// W-50. However steadily the bytes come.
#[test]
fn a_head_or_body_that_takes_too_long_is_refused() {
    for (start, idle, timeout) in [
        ("GET / HTTP/1.1\r\nHost: h\r\nX: ", None, 30),
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
            None,
            60,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
            Some(SECOND),
            60,
        ),
    ] {
        for drips in [false, true] {
            let server = InMemory::with_site(|_| {
                Site::new(leaf(|_| note("rendered")))
                    .keep_alive(idle)
                    .header_timeout(30 * SECOND)
                    .body_timeout(60 * SECOND)
                    .min_bytes_per_second(0, Duration::ZERO)
            });
            let mut client = server.connect();
            client.send(start);
            server.reactor.pump();
            for _ in 0..10 {
                server.pass(timeout * SECOND / 10 - SECOND / 1000);
                if drips {
                    client.send("x");
                }
            }
            assert_eq!(client.stream.received(), b"", "{start}: there is time left");
            server.pass(SECOND / 100);
            let reply = client.reply();
            assert_eq!(reply.status, 408, "{start}");
            assert_eq!(reply.header("Connection"), Some("close"));
            assert_eq!(client.rest(), b"", "the sending side is closed");
            assert!(!client.stream.is_closed(), "for the client may be sending");
            if drips {
                client.send("x");
            }
            server.pass(5 * SECOND);
            assert!(client.stream.is_closed());
            assert!(!client.stream.is_reset());
            assert_eq!(server.notes(), [""; 0]);
        }
    }
}

/// W-50. The second request of a connection has the same time as the first.
#[test]
fn every_request_has_its_own_time() {
    let server = InMemory::with_site(|_| {
        Site::new(leaf(|_| "x"))
            .keep_alive(None)
            .header_timeout(30 * SECOND)
            .body_timeout(60 * SECOND)
            .min_bytes_per_second(0, Duration::ZERO)
    });
    let mut client = server.connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\n");
        server.pass(29 * SECOND);
        client.send("Host: h\r\n\r\n");
        assert_eq!(client.reply().status, 200);
        // As long as this takes, it is idle, which is not limited here.
        server.pass(3600 * SECOND);
    }
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nx");
    server.reactor.pump();
    just_before_and_at(&server, 60 * SECOND, || {
        assert_eq!(client.stream.received(), b"");
    });
    assert_eq!(client.reply().status, 408);
}

/// W-50, law 7. Neither a last response nor any other waits for ever for a client to read it.
#[test]
fn a_client_that_reads_nothing_is_cut_off() {
    let server = InMemory::with_site(|_| {
        Site::new(leaf(|_| vec![b'x'; 1 << 20]))
            .keep_alive(60 * SECOND)
            .abort_timeout(15 * SECOND)
    });
    for connection in ["close", "keep-alive"] {
        let mut client = server.connect();
        client.stream.block_writes(1000);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: {connection}\r\n\r\n"
        ));
        server.reactor.pump();
        just_before_and_at(&server, 30 * SECOND, || {
            assert!(!client.stream.is_closed(), "{connection}");
        });
        assert!(client.stream.is_reset(), "it must not be taken for all");
        assert_eq!(client.stream.received().len(), 1000);
    }
}

/// W-50. A client that is slow and not dead gets everything.
#[test]
fn a_client_that_reads_slowly_gets_everything() {
    const PIECE: usize = 10_000;
    let body: Vec<u8> = (0..24 * PIECE).map(|at| (at / 3) as u8).collect();
    let body = bytes::Bytes::from(body);
    let sent = body.clone();
    let server = InMemory::with_site(|_| {
        Site::new(leaf(move |_| sent.clone()))
            .keep_alive(15 * SECOND)
            .abort_timeout(15 * SECOND)
    });
    for connection in ["close", "keep-alive"] {
        let mut client = server.connect();
        client.stream.block_writes(PIECE);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: {connection}\r\n\r\n"
        ));
        client.head_reply();
        for _ in 1..24 {
            server.pass(14 * SECOND);
            client.stream.block_writes(PIECE);
        }
        server.pass(14 * SECOND);
        client.stream.unblock_writes();
        assert!(client.take(body.len()) == body, "{connection}");
        server.pass(15 * SECOND);
        assert_eq!(client.rest(), b"");
    }
}

/// A request of 4 KiB, so that many bytes are few requests.
fn wide_request() -> String {
    format!(
        "GET /next HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
        "x".repeat(4096)
    )
}

/// Far more than all the buffers of the system on the way.
const MUCH: usize = 64 << 20;

/// W-51.
#[test]
fn a_pipeline_behind_an_unfinished_request_is_not_taken_in_for_ever() {
    let server = Server::of(|request| match request.path() {
        "/kept" => keep(request),
        _ => "next".into(),
    });
    let mut client = server.connect();
    client.get("/kept");
    assert_eq!(server.next_note(), "/kept");
    let request = wide_request();
    let all = request.repeat(MUCH / request.len()).into_bytes();
    let sent = client.send_until_stalled(&all);
    assert!(sent < all.len() / 2, "{sent} bytes were taken");
    assert_eq!(server.get("/other").text(), "next", "the others are served");

    server.with_kept("/kept", |request| request.respond("kept").is_ok());
    assert_eq!(client.reply().text(), "kept");
    for number in 0..sent / request.len() {
        assert_eq!(client.reply().text(), "next", "request {number}");
    }
    client.send(&all[sent..sent.next_multiple_of(request.len())]);
    assert_eq!(client.reply().text(), "next", "nothing was lost");
}

/// Law 7: also when each is answered at once, and nobody reads the answers.
#[test]
fn a_pipeline_whose_answers_nobody_reads_is_not_taken_in_for_ever() {
    let server = Server::of(|_| "x".repeat(10_000));
    let mut client = server.connect();
    let request = wide_request();
    let all = request.repeat(MUCH / request.len()).into_bytes();
    let sent = client.send_until_stalled(&all);
    assert!(sent < all.len() / 2, "{sent} bytes were taken");
    for number in 0..sent / request.len() {
        assert_eq!(client.reply().body.len(), 10_000, "request {number}");
    }
    client.send(&all[sent..sent.next_multiple_of(request.len())]);
    assert_eq!(client.reply().body.len(), 10_000, "nothing was lost");
}

/// W-51. A small limit slows a client down and does not stop it.
#[test]
fn any_read_ahead_limit_lets_every_request_through() {
    for limit in [0, 1, 10, 100] {
        let server = Server::with_site(move |_| {
            Site::new(leaf(keep))
                .max_read_ahead_bytes(limit)
                .header_timeout(3 * SECOND)
        });
        let mut client = server.connect();
        client.get("/1");
        client.send("GET /2 HTTP/1.1\r\nHost: h\r\nA-field: that is longer than some limits\r\n");
        assert_eq!(server.next_note(), "/1");
        server.run(|_| ());
        server.with_kept("/1", |request| request.respond("one").is_ok());
        assert_eq!(client.reply().text(), "one");
        client.send("\r\n");
        assert_eq!(server.next_note(), "/2", "limit {limit}");
        server.with_kept("/2", |request| request.respond("two").is_ok());
        assert_eq!(client.reply().text(), "two");
        client.get("/3");
        assert_eq!(server.next_note(), "/3", "limit {limit}");
    }
}

/// A client may go at any time, and what it had not said completely is not done.
#[test]
fn a_client_that_goes_in_the_middle_of_a_request_leaves_nothing_behind() {
    let server = Server::of(|request| note(format!("rendered for {:?}", request.header("x"))));
    for start in [
        "",
        "\r",
        "GET",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r",
        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbod",
        "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n",
        "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(start);
        client.close_sending();
        let got = client.rest();
        assert!(got.is_empty() || start.contains("Expect"), "{start:?}");
        drop(server.connect());
    }
    let mut alive = server.connect();
    assert!(alive.is_open());
    assert_eq!(server.left_notes(), ["rendered for None"]);
    assert_eq!(times_logged("rendered for"), 0);
}

/// `printf ... | nc`: a client that has sent all it has to say still wants its answers.
#[test]
fn requests_before_the_end_of_the_input_are_answered() {
    // The answers fit into the buffers on the way, or they do not.
    for (count, length) in [(3, 6), (1000, 10_000)] {
        let server = Server::of(move |_| "x".repeat(length));
        let mut client = server.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(count));
        client.close_sending();
        for number in 0..count {
            assert_eq!(client.reply().body.len(), length, "request {number}");
        }
        assert_eq!(client.rest(), b"");
    }
}

/// The same, where the end is heard of while some of the answers have been taken, and not all.
#[test]
fn requests_that_wait_for_room_are_answered_though_the_input_has_ended() {
    const LENGTH: usize = 100_000;
    for taken in [0, LENGTH, 2 * LENGTH, 3 * LENGTH] {
        let server = InMemory::of(|_| "x".repeat(LENGTH));
        let mut client = server.connect();
        client.stream.block_writes(taken);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(9));
        server.reactor.pump();
        client.stream.close_sending();
        server.reactor.pump();
        client.stream.unblock_writes();
        for number in 0..9 {
            assert_eq!(
                client.reply().body.len(),
                LENGTH,
                "request {number}, {taken} taken"
            );
        }
        assert_eq!(client.rest(), b"");
    }
}

/// Answers that are large, to many at once.
#[test]
fn large_responses_arrive_whole_on_many_connections() {
    let server = Server::of(|mut request| -> Rendered {
        match request.path() {
            "/whole" => vec![b'w'; 8 << 20].into(),
            _ => {
                for _ in 0..100 {
                    request.write(vec![b'p'; 80_000]);
                }
                request.finish();
                NOT_DONE_YET
            }
        }
    });
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/whole");
        client.get("/parts");
    }
    for client in &mut clients {
        let whole = client.reply();
        assert!(whole.body.len() == 8 << 20 && whole.body.iter().all(|byte| *byte == b'w'));
        assert_eq!(client.reply().body.len(), 8_000_000);
    }
}

/// A reset from the client is no trouble for anyone else.
#[test]
fn a_client_that_resets_the_connection_does_no_harm() {
    let server = Server::of(|_| vec![b'x'; 1 << 20]);
    for _ in 0..20 {
        let mut client = server.connect();
        client.get("/");
        client.get("/");
        client.take(1);
        // Unread bytes make this a reset.
        drop(client);
    }
    assert_eq!(server.get("/").body.len(), 1 << 20);
}
