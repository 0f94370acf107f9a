//! A whole program without a socket, a sleep or a thread: its time is exact, and what happens is the
//! same each time.

mod support;

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts, Registry};
use prometheus_deferred::testing::{MemoryConnection, MemoryReactor};
use prometheus_deferred::web::{NOT_DONE_YET, Rendered, Request, Resource, Site, Tree};
use prometheus_deferred::{
    MetricsResource, Reactor, defer_later, defer_to_thread, time, track_inprogress,
};
use support::{Client, InMemory, leaf};

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
    let mut client = server.connect();
    client.get("/metrics");
    client.reply().text().to_owned()
}

/// B-15: five seconds are five seconds, and no time passes in the test.
#[test]
fn a_view_that_answers_five_seconds_later_is_measured_exactly() {
    let (server, seconds) = program(MemoryReactor::new());
    let mut client = server.connect();
    client.get("/delayed");
    server.pass(4 * SECOND);
    assert_eq!(client.stream.received(), b"");
    assert!(scrape(&server).contains("requests_in_progress 1\n"));
    server.pass(SECOND);
    assert!(client.reply().text().contains("Sorry to keep you waiting."));
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
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = server.connect();
            client.get("/delayed");
            clients.push(client);
            server.pass(SECOND / 10);
        }
        server.pass(3600 * SECOND);
        assert_eq!(seconds.get_sample_count(), 20);
        assert_eq!(seconds.get_sample_sum(), 100.0, "seed {seed}");
        for client in &mut clients {
            assert_eq!(client.reply().status, 200);
        }
    }
}

/// B-15: keep-alive and pipelining.
#[test]
fn a_connection_carries_one_request_after_another() {
    for seed in 0..20 {
        let (server, _) = program(MemoryReactor::with_seed(seed));
        let mut client = server.connect();
        for _ in 0..3 {
            client.send("PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
            assert_eq!(client.reply().text(), "body");
            server.pass(59 * SECOND);
        }
        client.get("/delayed");
        client.get("/thread");
        client.get("/large");
        client.get("/nothing");
        server.pass(5 * SECOND);
        assert!(client.reply().text().contains("Sorry"));
        assert_eq!(client.reply().text(), "made elsewhere");
        assert_eq!(client.reply().body.len(), 300_000);
        assert_eq!(client.reply().status, 404);
    }
}

/// B-15: deadlines to the nanosecond.
#[test]
fn deadlines_come_when_they_should() {
    let (server, _) = program(MemoryReactor::new());
    let mut head = server.connect();
    let mut idle = server.connect();
    head.send("GET /echo HTT");
    server.pass(30 * SECOND - Duration::from_nanos(1));
    assert_eq!(head.stream.received(), b"");
    server.pass(Duration::from_nanos(1));
    assert_eq!(head.reply().status, 408);
    assert_eq!(head.rest(), b"");
    server.pass(30 * SECOND - Duration::from_nanos(1));
    assert!(!idle.stream.has_ended());
    server.pass(Duration::from_nanos(1));
    assert_eq!(idle.rest(), b"");
}

/// B-15: a client that does not read, does after a while, and goes in the middle.
#[test]
fn a_slow_reader_is_waited_for_and_one_that_goes_is_forgotten() {
    let (server, seconds) = program(MemoryReactor::new());
    let mut slow = server.connect();
    slow.stream.block_writes(100);
    slow.get("/large");
    server.reactor.pump();
    let transport = slow.stream.transport().unwrap();
    assert!(transport.buffered() > 299_000);
    server.pass(50 * SECOND);
    slow.stream.unblock_writes();
    assert_eq!(slow.reply().body.len(), 300_000);

    for goes in [
        |client: Client<MemoryConnection>| client.stream.reset(),
        |client: Client<MemoryConnection>| client.stream.close_sending(),
        drop,
    ] {
        let mut client = server.connect();
        client.get("/delayed");
        server.pass(SECOND);
        goes(client);
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
    let mut client = server.connect();
    client.get("/delayed");
    let stop = server.reactor.reactor().clone();
    server
        .reactor
        .call_later(20 * SECOND, move || stop.stop().unwrap());
    server.reactor.run().unwrap();
    assert_eq!(server.reactor.elapsed(), 20 * SECOND);
    assert_eq!(client.reply().status, 200);
    assert!(client.stream.is_closed());
    assert_eq!(seconds.get_sample_count(), 1);
    assert!(server.reactor.delayed_calls().is_empty());
}

/// All that a handful of clients see of a busy hour, with the times.
fn transcript(seed: Option<u64>) -> String {
    let memory = seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed);
    let (server, _) = program(memory);
    let mut transcript = String::new();
    let mut clients: Vec<Client<MemoryConnection>> = (0..6).map(|_| server.connect()).collect();
    clients[0].get("/delayed");
    clients[0].get("/metrics");
    clients[1].stream.deliver_at_most(7);
    clients[1].send("PUT /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nin pieces");
    clients[2].send("GET / HTTP/1.1\r\nHo");
    clients[3].get("/large");
    clients[3].stream.block_writes(20_000);
    clients[4].get("/delayed");
    clients[4].get("/thread");
    clients[5].get("/metrics");
    for step in 0..40 {
        for (number, client) in clients.iter().enumerate() {
            let received = client.stream.received();
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
            clients[3].stream.unblock_writes();
        }
        if step == 10 {
            clients[4].stream.reset();
            server.reactor.turn();
        }
        if step >= 15 {
            server.pass(3 * SECOND);
        }
    }
    for client in &clients {
        let (ended, closed) = (client.stream.has_ended(), client.stream.is_closed());
        transcript += &format!("{ended} {closed} {}\n", client.stream.is_reset());
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
