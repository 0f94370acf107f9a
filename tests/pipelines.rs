//! Requests that come one behind another, in any pieces, from clients that read as they like: each
//! is answered as it is alone, in its order, and no connection stays for ever.

mod support;

use std::time::Duration;

use prometheus_deferred::testing::MemoryReactor;
use prometheus_deferred::web::{Klein, NOT_DONE_YET, Request, Site};
use prometheus_deferred::{defer_later, sleep};
use proptest::prelude::*;
use support::{Client, InMemory};

fn server(memory: MemoryReactor) -> InMemory {
    InMemory::on(memory, |reactor| {
        let mut app = Klein::new();
        app.route("/now", |_| "now");
        app.route("/parts", |mut request: Request| {
            request.write("some ");
            request.write("parts");
            request.finish();
            NOT_DONE_YET
        });
        app.route("/echo", |request: Request| request.body().clone());
        app.route("/big", |_| vec![b'b'; 100_000]);
        app.route("/fails", |_| -> &'static str { panic!("as it should") });
        let clock = reactor.clone();
        app.route("/later", move |_| {
            sleep(&clock, Duration::ZERO).map(|()| "later")
        });
        let clock = reactor.clone();
        app.route("/slow", move |_| {
            sleep(&clock, Duration::from_millis(300)).map(|()| "slow")
        });
        let clock = reactor.clone();
        app.route("/trickle", move |mut request: Request| {
            request.write("tri");
            let later = defer_later(&clock, Duration::from_millis(200), move || {
                request.write("ckle");
                request.finish();
                Ok(())
            });
            drop(later.add_errback(|_| Ok(())));
            NOT_DONE_YET
        });
        Site::new(app.resource())
    })
}

/// The first ones are answered before `render` returns.
const REQUESTS: [&str; 14] = [
    "GET /now HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /parts HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
    "HEAD /parts HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET / \r\n\r",
    "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
     3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: u\r\n\r\n",
    "\r\nPUT /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
    "GET /big HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /big?again HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /fails HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    "GET /later HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD /later HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /trickle HTTP/1.1\r\nHost: h\r\n\r\n",
];
const AT_ONCE: usize = 10;
const LAST: &str = "GET /now HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

const BROKEN: [&str; 6] = [
    "GET /now HTTP/9.9\r\nHost: h\r\n\r\n",
    "GET /now HTTP/1.1\r\n\r\n",
    "\r\n\r\n\r\n\r\n\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx",
    "GET /slow HTTP/1.0\r\n\r\n",
];

fn without_dates(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split("\r\n")
        .filter(|line| !line.starts_with("Date: "))
        .collect::<Vec<_>>()
        .join("\r\n")
}

/// What each is answered with, alone on its connection, one after the other.
fn one_at_a_time(requests: &[&str]) -> String {
    let server = server(MemoryReactor::new());
    let client = server.connect();
    let mut all = Vec::new();
    for request in requests {
        client.stream.send(request);
        server.pass(Duration::from_secs(1));
        all.extend(client.stream.received());
    }
    without_dates(&all)
}

#[derive(Debug, Clone)]
struct Doing {
    /// How much is sent now.
    sends: usize,
    /// How much is read until the next step; everything where it is 0.
    reads: usize,
    /// Milliseconds that pass.
    passes: u64,
}

fn doings() -> impl Strategy<Value = Vec<Doing>> {
    let sends = prop_oneof![Just(0_usize), 1..40_usize, 40..2000_usize];
    let reads = prop_oneof![Just(0_usize), 1..200_usize, 200..150_000_usize];
    let passes = prop_oneof![3 => Just(0_u64), 1 => 1..500_u64];
    let doing = (sends, reads, passes).prop_map(|(sends, reads, passes)| Doing {
        sends,
        reads,
        passes,
    });
    prop::collection::vec(doing, 1..40)
}

fn seeds() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 4 => any::<u64>().prop_map(Some)]
}

fn memory(seed: Option<u64>) -> MemoryReactor {
    seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed)
}

/// Does it to one client; what that received, and how much of `bytes` was not sent.
fn act(
    server: &InMemory,
    client: &Client<prometheus_deferred::testing::MemoryConnection>,
    bytes: &str,
    doings: &[Doing],
) -> (Vec<u8>, usize) {
    let (mut at, mut all) = (0, Vec::new());
    for doing in doings {
        let end = (at + doing.sends).min(bytes.len());
        client.stream.send(&bytes.as_bytes()[at..end]);
        at = end;
        match doing.reads {
            0 => client.stream.unblock_writes(),
            reads => client.stream.block_writes(reads),
        }
        server.reactor.pump();
        server.pass(Duration::from_millis(doing.passes));
        all.extend(client.stream.received());
    }
    (all, at)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_pipeline_is_answered_as_its_requests_are_one_at_a_time(
        indexes in prop::collection::vec(0..REQUESTS.len(), 1..25),
        closes_sending in any::<bool>(),
        seed in seeds(),
        doings in doings(),
    ) {
        let mut requests: Vec<&str> = (indexes.into_iter())
            // A client that has closed its side while it is answered later is taken for one that
            // has gone.
            .map(|index| REQUESTS[if closes_sending { index % AT_ONCE } else { index }])
            .collect();
        if !closes_sending {
            requests.push(LAST);
        }
        let bytes = requests.concat();
        let server = server(memory(seed));
        let client = server.connect();
        let (mut all, at) = act(&server, &client, &bytes, &doings);
        client.stream.send(&bytes.as_bytes()[at..]);
        if closes_sending {
            client.stream.close_sending();
        }
        // Reads slowly, and then what is left.
        for doing in &doings {
            client.stream.block_writes(doing.reads);
            server.reactor.pump();
            server.pass(Duration::from_millis(doing.passes));
            all.extend(client.stream.received());
        }
        client.stream.unblock_writes();
        server.pass(Duration::from_secs(20));
        all.extend(client.stream.received());
        prop_assert_eq!(without_dates(&all), one_at_a_time(&requests));
        prop_assert!(client.stream.has_ended());
        prop_assert!(client.stream.is_closed());
        prop_assert!(!client.stream.is_reset());
    }

    /// A client may fall silent anywhere, with or without reading, and with or without an end.
    #[test]
    fn no_connection_is_left_without_a_deadline(
        indexes in prop::collection::vec(0..REQUESTS.len() + BROKEN.len(), 1..15),
        cut in any::<prop::sample::Index>(),
        ending in 0..4,
        seed in seeds(),
        doings in doings(),
    ) {
        let requests: Vec<&str> = (indexes.into_iter())
            .map(|index| *REQUESTS.get(index).unwrap_or_else(|| &BROKEN[index - REQUESTS.len()]))
            .collect();
        let bytes = requests.concat();
        let bytes = &bytes[..cut.index(bytes.len() + 1)];
        let server = server(memory(seed));
        let client = server.connect();
        act(&server, &client, bytes, &doings);
        match ending {
            0 => client.stream.block_writes(0),
            1 => client.stream.unblock_writes(),
            2 => {
                client.stream.block_writes(0);
                client.stream.close_sending();
            }
            _ => {}
        }
        server.pass(Duration::from_secs(3600));
        prop_assert!(client.stream.is_closed());
        prop_assert!(server.reactor.delayed_calls().is_empty());
    }
}
