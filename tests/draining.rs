//! B-12: what a drain does to ports, connections and requests, and what the one who asked for it is
//! told.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient};
use prometheus_deferred::web::{
    Drained, Klein, NOT_DONE_YET, Request, Response, Site, SiteHandle, Tree,
};
use prometheus_deferred::{Deferred, sleep};
use support::{InMemory, keep, leaf, times_logged, with_kept};

const SECOND: Duration = Duration::from_secs(1);

/// A site with pages of every kind, and its handle.
fn server() -> (InMemory, SiteHandle) {
    server_on(MemoryReactor::new(), |site| site)
}

fn server_on(memory: MemoryReactor, set: impl FnOnce(Site) -> Site) -> (InMemory, SiteHandle) {
    let mut handle = None;
    let server = InMemory::on(memory, |_| {
        let mut app = Klein::new();
        app.route("/now", |_| "now");
        app.route("/kept/<name>", keep);
        app.route("/large", |_| vec![b'l'; 300_000]);
        app.route("/refuses", |_| "refused").max_body_bytes(0);
        app.route("/events", |mut request: Request| {
            request.write("data: hello\n\n");
            let drains = request.notify_drain();
            drop(drains.map(move |()| {
                request.finish();
            }));
            NOT_DONE_YET
        });
        let site = set(Site::new(app.resource()));
        handle = Some(site.handle());
        site
    });
    (server, handle.unwrap())
}

/// Where what a drain comes to is seen.
type Outcome = Rc<RefCell<Option<Drained>>>;

fn drain(handle: &SiteHandle, deadline: Duration) -> Outcome {
    let outcome = Outcome::default();
    let seen = outcome.clone();
    drop(handle.drain(deadline).map(move |drained| {
        seen.replace(Some(drained));
    }));
    outcome
}

/// Idle connections, finished requests, and those that were cut off.
fn counts(outcome: &Outcome) -> Option<(usize, usize, usize)> {
    let drained = outcome.borrow();
    let drained = drained.as_ref()?;
    Some((drained.idle, drained.finished, drained.cut.len()))
}

/// B-12.
#[test]
fn an_idle_connection_closes_at_once_and_a_running_request_is_finished() {
    let (server, handle) = server();
    let idle = TestClient::connect(&server);
    assert_eq!(idle.get("/now").send().status(), 200);
    let busy = server.get("/kept/a").send();
    let fresh = TestClient::connect(&server);
    server.pump();
    let outcome = drain(&handle, 10 * SECOND);
    assert!(handle.is_draining());
    server.pump();
    assert!(idle.connection().is_closed() && !idle.connection().is_reset());
    assert!(fresh.connection().is_closed());
    assert!(server.connect_to("127.0.0.1:80").is_err());
    assert_eq!(counts(&outcome), None);

    with_kept("/kept/a", |request| request.respond("done"));
    assert_eq!(busy.text(), "done");
    assert_eq!(busy.header("Connection"), Some("close"));
    assert_eq!(counts(&outcome), Some((2, 1, 0)));
    assert!(busy.connection().has_ended() && !busy.connection().is_reset());
    assert_eq!(server.elapsed(), Duration::ZERO);
}

/// B-12: those at the deadline are named.
#[test]
fn a_request_that_lasts_too_long_is_cut_off_and_named() {
    let (server, handle) = server();
    let slow = server.get("/kept/slow?secret").send();
    let posted = server.post("/kept/posted", "x").send();
    let outcome = drain(&handle, 3 * SECOND);
    server.pass(3 * SECOND - Duration::from_nanos(1));
    assert_eq!(counts(&outcome), None);
    server.pass(Duration::from_nanos(1));
    let drained = outcome.take().unwrap();
    assert_eq!((drained.idle, drained.finished), (0, 0));
    let [first, second] = &drained.cut[..] else {
        panic!("{drained:?}");
    };
    assert!(
        first.starts_with("GET /kept/slow (route /kept/<name>) from 127.0.0.1:"),
        "{first}"
    );
    assert!(
        second.starts_with("POST /kept/posted (route /kept/<name>) from 127.0.0.1:"),
        "{second}"
    );
    for cut in [slow, posted] {
        assert!(cut.is_cut_off() && cut.connection().is_reset());
    }
    with_kept("/kept/slow?secret", |request| {
        assert!(!request.is_connected())
    });
}

/// B-12.
#[test]
fn what_waits_in_the_queue_of_the_port_is_answered() {
    let (server, handle) = server();
    server.pump();
    // No turn has been made: neither the connections nor their requests were seen.
    let waiting: Vec<_> = (0..3)
        .map(|_| server.connect_to("127.0.0.1:80").unwrap())
        .collect();
    for connection in &waiting {
        connection.send("GET /now HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let outcome = drain(&handle, 10 * SECOND);
    server.pump();
    for connection in &waiting {
        let answer = String::from_utf8(connection.received()).unwrap();
        assert!(answer.ends_with("\r\n\r\nnow"), "{answer:?}");
        assert!(answer.contains("Connection: close\r\n"), "{answer:?}");
    }
    assert_eq!(counts(&outcome), Some((0, 3, 0)));
}

/// B-12.
#[test]
fn a_request_that_was_in_the_socket_when_the_drain_began_is_answered() {
    let (server, handle) = server();
    let client = TestClient::connect(&server);
    assert_eq!(client.get("/now").send().text(), "now");
    client
        .connection()
        .send("GET /now HTTP/1.1\r\nHost: h\r\n\r\n");
    let outcome = drain(&handle, 10 * SECOND);
    let answer = client.next_response("GET");
    assert_eq!(answer.text(), "now");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(counts(&outcome), Some((0, 1, 0)));
}

/// B-12: half a head is the beginning of a request.
#[test]
fn a_request_that_has_begun_to_come_is_waited_for() {
    let (server, handle) = server();
    let client = TestClient::connect(&server);
    client.send_bytes("GET /now HT");
    let outcome = drain(&handle, 10 * SECOND);
    server.pass(SECOND);
    assert_eq!(counts(&outcome), None);
    client.send_bytes("TP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.next_response("GET");
    assert_eq!(answer.text(), "now");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(counts(&outcome), Some((0, 1, 0)));
}

/// B-12.
#[test]
fn a_drain_waits_until_the_last_byte_has_left() {
    // The response is complete and says keep-alive, but its client reads slowly.
    let (server, handle) = server();
    let slow = TestClient::connect(&server);
    slow.connection().block_writes(1000);
    let answer = slow.get("/large").send();
    let outcome = drain(&handle, 10 * SECOND);
    server.pass(5 * SECOND);
    assert_eq!(counts(&outcome), None);
    slow.connection().unblock_writes();
    assert_eq!(answer.body().len(), 300_000);
    assert_eq!(counts(&outcome), Some((0, 1, 0)));
    assert!(slow.connection().has_ended() && !slow.connection().is_reset());
    assert_eq!(server.elapsed(), 5 * SECOND);
}

/// B-12: the same, where it is finished after the drain began.
#[test]
fn a_response_that_is_finished_late_is_waited_for_to_its_last_byte() {
    let (server, handle) = server();
    let slow = TestClient::connect(&server);
    slow.connection().block_writes(0);
    let answer = slow.get("/kept/a").send();
    let outcome = drain(&handle, 10 * SECOND);
    with_kept("/kept/a", |request| request.respond(vec![b'x'; 100_000]));
    server.pass(SECOND);
    assert_eq!(counts(&outcome), None);
    slow.connection().unblock_writes();
    assert_eq!(answer.body().len(), 100_000);
    assert_eq!(counts(&outcome), Some((0, 1, 0)));
}

/// B-12: a client that reads nothing is cut off at the deadline, not closed cleanly.
#[test]
fn a_response_that_is_not_read_in_time_is_reset() {
    for (version, path) in [("1.1", "/large"), ("1.0", "/large"), ("1.0", "/kept/a")] {
        let (server, handle) = server();
        let slow = server.connect();
        slow.stream.block_writes(1000);
        slow.stream
            .send(format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n"));
        server.pump();
        if path == "/kept/a" {
            with_kept(path, |mut request| {
                // HTTP/1.0 has nothing but the end of the connection to end this with.
                request.write("a part");
                keep(request);
            });
        }
        let outcome = drain(&handle, SECOND);
        server.pass(SECOND);
        assert_eq!(counts(&outcome), Some((0, 0, 1)), "HTTP/{version} {path}");
        let name = outcome.take().unwrap().cut.remove(0);
        let begins = match path {
            "/large" => "a response to 127.0.0.1:",
            _ => "GET /kept/a (route /kept/<name>) from 127.0.0.1:",
        };
        assert!(name.starts_with(begins), "{name}");
        assert!(slow.stream.is_reset(), "HTTP/{version} {path}");
    }
}

/// B-12.
#[test]
fn an_event_stream_ends_when_it_is_told_of_the_drain() {
    let (server, handle) = server();
    let streams: Vec<_> = (0..3).map(|_| server.get("/events").send()).collect();
    server.pass(60 * SECOND);
    let outcome = drain(&handle, 10 * SECOND);
    for stream in &streams {
        assert_eq!(stream.text(), "data: hello\n\n");
        assert!(!stream.connection().is_reset());
    }
    assert_eq!(counts(&outcome), Some((0, 3, 0)));
    assert_eq!(server.elapsed(), 60 * SECOND);
}

/// B-12: one that is asked for during the drain does not begin to last.
#[test]
fn notify_drain_fires_at_once_during_a_drain() {
    let (server, handle) = server();
    let begun = TestClient::connect(&server);
    begun.send_bytes("GET /events HTTP/1.1\r\n");
    let outcome = drain(&handle, 10 * SECOND);
    begun.send_bytes("Host: h\r\n\r\n");
    assert_eq!(begun.next_response("GET").text(), "data: hello\n\n");
    assert_eq!(counts(&outcome), Some((0, 1, 0)));
}

/// B-12.
#[test]
fn nothing_to_drain_is_drained_at_once() {
    let never_served = Site::new(Tree::new()).handle();
    assert_eq!(counts(&drain(&never_served, SECOND)), Some((0, 0, 0)));
    let (server, handle) = server();
    assert_eq!(counts(&drain(&handle, Duration::MAX)), Some((0, 0, 0)));
    server.pump();
    assert!(server.delayed_calls().is_empty());
}

/// B-12: whether the first drain is over or not.
#[test]
fn a_second_drain_joins_the_first() {
    let (server, handle) = server();
    let busy = server.get("/kept/a").send();
    let first = drain(&handle, Duration::MAX);
    let second = drain(&handle, 5 * SECOND);
    server.pass(4 * SECOND);
    assert_eq!((counts(&first), counts(&second)), (None, None));
    server.pass(SECOND);
    assert_eq!(counts(&first), Some((0, 0, 1)));
    assert_eq!(counts(&second), Some((0, 0, 1)));
    assert!(busy.connection().is_reset());
    // Nothing is left to wait for.
    let third = drain(&handle, Duration::MAX);
    assert!(counts(&third).is_some(), "the third drain never fires");
    let fourth = drain(&handle, Duration::ZERO);
    assert!(counts(&fourth).is_some(), "the fourth drain never fires");
    assert!(server.delayed_calls().is_empty());
}

/// B-12: a shutdown drains too, and must not wait for ever because the program had drained before.
#[test]
fn a_reactor_stops_after_its_site_was_drained() {
    let (server, handle) = server();
    let stop = server.reactor.reactor().clone();
    let drains = handle.clone();
    server.call_later(SECOND, move || {
        drop(
            drains
                .drain(5 * SECOND)
                .add_callback(move |_| Ok(stop.stop()?)),
        );
    });
    server.reactor.run().unwrap();
    assert_eq!(server.elapsed(), SECOND);
}

/// B-12.
#[test]
fn a_drain_without_time_cuts_off_what_runs() {
    let (server, handle) = server();
    let (idle, busy) = (TestClient::connect(&server), server.get("/kept/a").send());
    let outcome = drain(&handle, Duration::ZERO);
    assert_eq!(counts(&outcome), Some((1, 0, 1)));
    server.pump();
    assert!(busy.connection().is_reset());
    assert!(idle.connection().is_closed() && !idle.connection().is_reset());
    assert!(server.delayed_calls().is_empty());
}

/// B-12: the handle may come before the ports.
#[test]
fn a_site_that_listens_after_its_drain_can_be_drained_again() {
    let memory = MemoryReactor::new();
    let site = Site::new(leaf(keep));
    let handle = site.handle();
    assert_eq!(counts(&drain(&handle, SECOND)), Some((0, 0, 0)));
    let server = InMemory::on(memory, |_| site);
    let kept = server.get("/a").send();
    let outcome = drain(&handle, SECOND);
    assert!(server.connect_to("127.0.0.1:80").is_err());
    assert_eq!(counts(&outcome), None);
    server.pass(SECOND);
    assert_eq!(counts(&outcome), Some((0, 0, 1)));
    assert!(kept.connection().is_reset());
}

/// B-12: a site may listen on several ports.
#[test]
fn all_ports_of_a_site_are_closed() {
    let memory = MemoryReactor::new();
    let site = Rc::new(Site::new(leaf(keep)));
    let handle = site.handle();
    for port in [81, 82] {
        let listens = memory.listen_tcp(("127.0.0.1", port), site.clone());
        drop(listens.unwrap());
    }
    let (first, second) = (
        memory.get("http://127.0.0.1:81/a").send(),
        memory.get("http://127.0.0.1:82/b").send(),
    );
    let outcome = drain(&handle, SECOND);
    for port in [81, 82] {
        assert!(memory.connect_to(("127.0.0.1", port)).is_err());
    }
    with_kept("/a", |request| request.respond("a"));
    with_kept("/b", |request| request.respond("b"));
    assert_eq!((first.text(), second.text()), ("a".into(), "b".into()));
    assert_eq!(counts(&outcome), Some((0, 2, 0)));
}

/// B-12: the rest of a body that nobody reads is no request, and what follows is not answered.
#[test]
fn a_connection_whose_client_still_sends_a_refused_body_is_not_waited_for() {
    let (server, handle) = server();
    let client = TestClient::connect(&server);
    let answer = client
        .post("/nothing", "")
        .header("Content-Length", "1000")
        .send_head();
    assert_eq!(answer.status(), 404);
    let outcome = drain(&handle, 10 * SECOND);
    answer.send_body(vec![b'x'; 1000]);
    server.pass(3 * SECOND);
    assert_eq!(counts(&outcome), Some((0, 1, 0)));
}

/// B-12: what is collected has begun.
#[test]
fn a_body_that_is_coming_is_waited_for() {
    let (server, handle) = server();
    let answer = server
        .post("/kept/a", "")
        .header("Content-Length", "2")
        .send_head();
    let outcome = drain(&handle, 10 * SECOND);
    server.pass(SECOND);
    answer.send_body("ok");
    with_kept("/kept/a", |request| {
        let body = request.body().clone();
        request.respond(body)
    });
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(counts(&outcome), Some((0, 1, 0)));
}

/// B-12: a client that goes has nothing left to be waited for.
#[test]
fn a_client_that_goes_during_a_drain_ends_it() {
    for resets in [true, false] {
        let (server, handle) = server();
        let busy = server.get("/kept/a").send();
        let outcome = drain(&handle, 10 * SECOND);
        match resets {
            true => busy.connection().reset(),
            false => busy.connection().close_sending(),
        }
        server.pass(2 * SECOND);
        let (idle, finished, cut) = counts(&outcome).expect("the drain is over");
        assert_eq!((idle, finished + cut), (0, 1));
    }
}

/// B-12: whatever the clients do, a drain is over at its deadline, every connection is closed, and
/// nothing stays in the reactor.
#[test]
fn a_drain_at_any_moment_ends_in_time() {
    const REQUESTS: [&str; 6] = [
        "GET /now HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST /kept/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST /now HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ];
    for seed in 0..400_u64 {
        let (server, handle) = server_on(MemoryReactor::with_seed(seed), |site| site);
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = move |count: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % count) as usize
        };
        let clients: Vec<_> = (0..4).map(|_| server.connect().stream).collect();
        for client in &clients {
            let text: String = (0..below(4)).map(|_| REQUESTS[below(6)]).collect();
            client.send(&text[..text.len() - below(30).min(text.len())]);
            if below(3) == 0 {
                client.block_writes(below(2000));
            }
            for _ in 0..below(5) {
                server.turn();
            }
        }
        let outcome = drain(&handle, 3 * SECOND);
        let second = drain(&handle, 4 * SECOND);
        if below(2) == 0 {
            clients[0].unblock_writes();
            clients[1].reset();
        }
        server.pass(3 * SECOND);
        let (idle, finished, cut) = counts(&outcome).expect("the drain is over");
        assert_eq!(counts(&second), Some((idle, finished, cut)), "seed {seed}");
        assert!(idle + finished + cut <= 4, "seed {seed}");
        server.pass(30 * SECOND);
        for client in &clients {
            assert!(client.is_closed(), "seed {seed}");
        }
        assert_eq!(handle.connections(), 0, "seed {seed}");
        assert!(server.delayed_calls().is_empty(), "seed {seed}");
    }
}

/// B-12, and law 3: what a shutdown cuts off is in the log.
#[test]
fn a_shutdown_drains_for_as_long_as_the_site_says() {
    for (time, ends) in [
        (None, 10 * SECOND),
        (Some(2 * SECOND), 2 * SECOND),
        (Some(Duration::ZERO), Duration::ZERO),
    ] {
        let (server, _) = server_on(MemoryReactor::new(), |site| match time {
            Some(time) => site.drain_on_shutdown(time),
            None => site,
        });
        let path = format!("/kept/shutdown-{}", ends.as_secs());
        let kept = server.get(&path).send();
        let idle = TestClient::connect(&server);
        server.pump();
        let stop = server.reactor.reactor().clone();
        stop.stop().unwrap();
        if let Some(before) = ends.checked_sub(Duration::from_nanos(1)) {
            server.pass(before);
            assert!(!kept.is_cut_off());
        }
        server.pass(Duration::from_nanos(1));
        assert!(kept.connection().is_reset());
        assert!(idle.connection().is_closed() && !idle.connection().is_reset());
        assert_eq!(
            times_logged(&format!(
                "by the end of the program: GET {path} (route /kept/<name>) from "
            )),
            1
        );
    }
}

/// B-12: a program that answers in time stops then.
#[test]
fn a_shutdown_ends_with_the_last_response() {
    let (server, _) = server();
    let clock = server.reactor.reactor().clone();
    let kept = server.get("/kept/a").send();
    let events = server.get("/events").send();
    drop(
        sleep(&clock, 3 * SECOND).map(|()| with_kept("/kept/a", |request| request.respond("bye"))),
    );
    clock.stop().unwrap();
    server.pump();
    assert!(events.connection().has_ended() && !kept.has_begun());
    server.pass(3 * SECOND);
    assert!(kept.connection().is_closed());
    assert_eq!(
        (kept.text(), events.text()),
        ("bye".into(), "data: hello\n\n".into())
    );
}

/// A reactor that never ran, or was dropped, takes its sites along.
#[test]
fn a_site_is_freed_with_its_reactor() {
    struct Counts(Rc<Cell<u32>>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let freed = Rc::new(Cell::new(0));
    let page = || {
        let counts = Counts(freed.clone());
        Site::new(leaf(move |_| {
            let _ = &counts;
            Response::new("page")
        }))
    };
    let memory = MemoryReactor::new();
    memory.listen_tcp("127.0.0.1:80", page()).unwrap();
    assert_eq!(memory.get("/").send().text(), "page");
    drop(memory);
    assert_eq!(freed.get(), 1, "in memory");

    let reactor = prometheus_deferred::Reactor::new().unwrap();
    let port = reactor.listen_tcp("127.0.0.1:0", page()).unwrap();
    drop(reactor);
    drop(port);
    assert_eq!(freed.get(), 2, "never ran");
}

/// A drain that somebody has cancelled is nobody's to be told of.
#[test]
fn a_cancelled_drain_goes_on() {
    let (server, handle) = server();
    let busy = server.get("/kept/a").send();
    let cancelled: Deferred<Drained> = handle.drain(SECOND);
    cancelled.canceller().cancel();
    drop(cancelled.add_errback(|_| Ok(Drained::default())));
    server.pass(SECOND);
    assert!(busy.connection().is_reset());
}
