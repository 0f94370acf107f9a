//! A whole program without a socket, a sleep or a thread: its time is exact, and what happens is the
//! same each time.

mod support;

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts, Registry};
use prometheus_deferred::testing::{
    MemoryConnection, MemoryReactor, SendRequests, TestClient, TestResponse,
};
use prometheus_deferred::web::{NOT_DONE_YET, Rendered, Request, Resource, Site, Tree};
use prometheus_deferred::{
    MetricsResource, Reactor, defer_later, defer_to_thread, time, track_inprogress,
};
use support::{InMemory, leaf};

const SECOND: Duration = Duration::from_secs(1);

/// The view of the seed, and what measures it.
struct Delayed {
    reactor: Reactor,
    seconds: Histogram,
    running: IntGauge,
}

impl Resource for Delayed {
    fn render_get(&self, request: Request) -> Rendered {
        let later = defer_later(&self.reactor, 5 * SECOND, move || Ok(request));
        let answered = later.add_callback(|mut request| {
            request.write("<html><body>Sorry to keep you waiting.</body></html>");
            request.finish();
            Ok(())
        });
        drop(time(
            &self.seconds,
            track_inprogress(&self.running, answered),
        ));
        NOT_DONE_YET
    }
}

/// A program: a slow view, a page that is made in a thread, a large one, and the metrics.
fn program(memory: MemoryReactor) -> (InMemory, Histogram) {
    let registry = Registry::new();
    let buckets = vec![1.0, 5.0, 10.0];
    let opts = HistogramOpts::new("req_time_seconds", "Time spent in requests.").buckets(buckets);
    let seconds = Histogram::with_opts(opts).unwrap();
    let running = IntGauge::new("requests_in_progress", "Requests on their way.").unwrap();
    registry.register(Box::new(seconds.clone())).unwrap();
    registry.register(Box::new(running.clone())).unwrap();
    let observed = seconds.clone();
    let server = InMemory::on(memory, move |reactor| {
        let root = Tree::new();
        root.put_child(
            "delayed",
            Delayed {
                reactor: reactor.clone(),
                seconds,
                running,
            },
        );
        root.put_child("echo", leaf(|request: Request| request.body().clone()));
        root.put_child("large", leaf(|_| vec![b'l'; 300_000]));
        let pool = reactor.clone();
        let in_thread = move |_| defer_to_thread(&pool, || Ok("made elsewhere"));
        root.put_child("thread", leaf(in_thread));
        root.put_child("metrics", MetricsResource::with_registry(registry));
        Site::new(root)
    });
    (server, observed)
}

fn scrape(server: &InMemory) -> String {
    server.get("/metrics").send().text()
}

/// B-15: five seconds are five seconds, and no time passes in the test.
#[test]
fn a_view_that_answers_five_seconds_later_is_measured_exactly() {
    let (server, seconds) = program(MemoryReactor::new());
    let reply = server.get("/delayed").send();
    server.pass(4 * SECOND);
    assert!(!reply.has_begun());
    assert!(scrape(&server).contains("requests_in_progress 1\n"));
    server.pass(SECOND);
    assert!(reply.text().contains("Sorry to keep you waiting."));
    assert_eq!(seconds.get_sample_count(), 1);
    assert!(
        seconds.get_sample_sum() == 5.0,
        "{}",
        seconds.get_sample_sum()
    );
    let text = scrape(&server);
    for line in [
        "req_time_seconds_sum 5\n",
        "req_time_seconds_bucket{le=\"1\"} 0\n",
        "req_time_seconds_bucket{le=\"5\"} 1\n",
        "requests_in_progress 0\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// B-15: what many do at once is measured for each of them.
#[test]
fn many_views_at_once_are_each_measured_exactly() {
    for seed in 0..10 {
        let (server, seconds) = program(MemoryReactor::with_seed(seed));
        let mut replies = Vec::new();
        for _ in 0..20 {
            replies.push(server.get("/delayed").send());
            server.pass(SECOND / 10);
        }
        server.pass(3600 * SECOND);
        assert_eq!(seconds.get_sample_count(), 20);
        assert_eq!(seconds.get_sample_sum(), 100.0, "seed {seed}");
        for reply in replies {
            assert_eq!(reply.status(), 200);
        }
    }
}

/// B-15: keep-alive and pipelining.
#[test]
fn a_connection_carries_one_request_after_another() {
    for seed in 0..20 {
        let (server, _) = program(MemoryReactor::with_seed(seed));
        let client = TestClient::connect(&server);
        for _ in 0..3 {
            assert_eq!(client.put("/echo", "body").send().text(), "body");
            server.pass(59 * SECOND);
        }
        let targets = ["/delayed", "/thread", "/large", "/nothing"];
        let replies = targets.map(|target| client.get(target).send());
        assert!(replies.iter().all(|reply| !reply.has_begun()));
        server.pass(5 * SECOND);
        let [delayed, thread, large, nothing] = replies;
        assert!(delayed.text().contains("Sorry"));
        assert_eq!(thread.text(), "made elsewhere");
        assert_eq!(large.body().len(), 300_000);
        assert_eq!(nothing.status(), 404);
    }
}

/// B-15: deadlines to the nanosecond.
#[test]
fn deadlines_come_when_they_should() {
    let (server, _) = program(MemoryReactor::new());
    let head = TestClient::connect(&server);
    let idle = TestClient::connect(&server);
    head.send_bytes("GET /echo HTT");
    let refused = head.next_response("GET");
    server.pass(30 * SECOND - Duration::from_nanos(1));
    assert!(!refused.has_begun());
    server.pass(Duration::from_nanos(1));
    assert_eq!(refused.status(), 408);
    assert!(refused.is_complete() && head.connection().has_ended());
    assert_eq!(head.bytes(), b"");
    server.pass(30 * SECOND - Duration::from_nanos(1));
    assert!(!idle.connection().has_ended());
    server.pass(Duration::from_nanos(1));
    assert!(idle.connection().has_ended());
    assert_eq!(idle.bytes(), b"");
}

/// B-15: a client that does not read, does after a while, and goes in the middle.
#[test]
fn a_slow_reader_is_waited_for_and_one_that_goes_is_forgotten() {
    let (server, seconds) = program(MemoryReactor::new());
    let slow = TestClient::connect(&server);
    slow.connection().block_writes(100);
    let reply = slow.get("/large").send();
    let transport = slow.connection().transport().unwrap();
    assert!(transport.buffered() > 299_000);
    server.pass(29 * SECOND);
    assert!(!reply.is_complete());
    slow.connection().unblock_writes();
    assert_eq!(reply.body().len(), 300_000);

    for goes in [
        |reply: TestResponse| reply.connection().reset(),
        |reply: TestResponse| reply.connection().close_sending(),
        drop,
    ] {
        let reply = server.get("/delayed").send();
        server.pass(SECOND);
        goes(reply);
        server.reactor.pump();
        // The view finds out when it answers, and is measured nevertheless.
        assert!(scrape(&server).contains("requests_in_progress 1\n"));
        server.pass(4 * SECOND);
        assert!(scrape(&server).contains("requests_in_progress 0\n"));
    }
    assert_eq!(seconds.get_sample_sum(), 15.0);
}

/// B-15: large registries are gathered in a thread of their own, but not here.
#[test]
fn a_large_registry_is_scraped_without_a_thread() {
    let registry = Registry::new();
    let rooms = IntGaugeVec::new(Opts::new("room_celsius", "Rooms."), &["room"]).unwrap();
    for room in 0..20_000 {
        rooms.with_label_values(&[&room.to_string()]).set(20);
    }
    registry.register(Box::new(rooms)).unwrap();
    let metrics = MetricsResource::with_registry(registry);
    let server = InMemory::with_site(|_| Site::new(metrics));
    let first = scrape(&server);
    assert!(first.len() > 500_000);
    assert!(scrape(&server) == first);
}

/// B-15: a program that is stopped ends its connections; nothing is left running.
#[test]
fn a_program_runs_from_start_to_stop() {
    let (server, seconds) = program(MemoryReactor::new());
    let client = TestClient::connect(&server);
    // Only sent: `run` starts the reactor, and not a turn before it.
    client
        .connection()
        .send("GET /delayed HTTP/1.1\r\nHost: h\r\n\r\n");
    let stop = server.reactor.reactor().clone();
    server
        .reactor
        .call_later(20 * SECOND, move || stop.stop().unwrap());
    server.reactor.run().unwrap();
    assert_eq!(server.reactor.elapsed(), 20 * SECOND);
    assert_eq!(client.next_response("GET").status(), 200);
    assert!(client.connection().is_closed());
    assert_eq!(seconds.get_sample_count(), 1);
    assert!(server.reactor.delayed_calls().is_empty());
}

/// All that a handful of clients see of a busy hour, with the times.
fn transcript(seed: Option<u64>) -> String {
    let memory = seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed);
    let (server, _) = program(memory);
    let mut transcript = String::new();
    // Bytes, and not requests: a client that looks for responses would make turns of its own.
    let connect = |_| server.connect_to("127.0.0.1:80").unwrap();
    let clients: Vec<MemoryConnection> = (0..6).map(connect).collect();
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    clients[0].send(get("/delayed") + &get("/metrics"));
    clients[1].deliver_at_most(7);
    clients[1].send("PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nin pieces");
    clients[2].send("GET / HTTP/1.1\r\nHo");
    clients[3].send(get("/large"));
    clients[3].block_writes(20_000);
    clients[4].send(get("/delayed") + &get("/thread"));
    clients[5].send(get("/metrics"));
    for step in 0..40 {
        for (number, client) in clients.iter().enumerate() {
            let received = client.received();
            if !received.is_empty() {
                let text = String::from_utf8_lossy(&received);
                transcript += &format!("{:?} {number}: {text}\n", server.reactor.elapsed());
            }
        }
        // In the middle of things, and not when everything is done.
        for _ in 0..3 {
            server.reactor.turn();
        }
        if step == 5 {
            clients[3].unblock_writes();
        }
        if step == 10 {
            clients[4].reset();
            server.reactor.turn();
        }
        if step >= 15 {
            server.pass(3 * SECOND);
        }
    }
    for client in &clients {
        let (ended, closed) = (client.has_ended(), client.is_closed());
        transcript += &format!("{ended} {closed} {}\n", client.is_reset());
    }
    transcript
}

/// B-15: twice with the same outcome, to the byte and the nanosecond, dates included.
#[test]
fn the_same_test_has_the_same_outcome() {
    let plain = transcript(None);
    assert_eq!(plain, transcript(None));
    assert!(plain.contains("Thu, 01 Jan 1970 00:00:00 GMT"), "{plain}");
    assert!(plain.contains("Sorry to keep you waiting."));
    assert!(plain.contains("HTTP/1.1 408 Request Timeout"));
    let mut different = std::collections::HashSet::new();
    for seed in 0..20 {
        let first = transcript(Some(seed));
        assert_eq!(first, transcript(Some(seed)), "seed {seed}");
        different.insert(first);
    }
    assert!(different.len() > 10, "seeds make a difference");
}
