//! Connections that are closed on one side, and how closing treats what was not read.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::io::{Read, Write};
use std::sync::mpsc;

use deferred_reactor::net::{Protocol, Transport};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor};

use peers::{Journal, Script, Scripts, journal, kind, note, pattern};

/// Notes what it is told of its two sides, and leaves them as they are.
struct Aware {
    name: &'static str,
    calls: Journal,
    at_write_end: fn(&Transport),
}

impl Aware {
    fn new(name: &'static str, calls: &Journal) -> Self {
        Self {
            name,
            calls: calls.clone(),
            at_write_end: |_| (),
        }
    }

    fn note(&self, what: &str) {
        note(&self.calls, format!("{} {what}", self.name));
    }
}

impl Protocol for Aware {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.note(&String::from_utf8_lossy(data));
        Ok(())
    }

    fn read_connection_lost(&mut self, _: &Transport) {
        self.note("reads no more");
    }

    fn write_connection_lost(&mut self, transport: &Transport) {
        self.note("writes no more");
        (self.at_write_end)(transport);
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.note(kind(reason));
    }
}

///
#[test]
fn both_sides_are_told_and_the_other_direction_still_works() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let pair = memory.connect_pair(Aware::new("a", &calls), Aware::new("b", &calls));
    memory.pump();
    pair.client().write(b"last words");
    pair.client().lose_write_connection();
    assert_eq!(calls.take(), [""; 0], "not inside the call");
    memory.pump();
    assert_eq!(
        calls.take(),
        ["a writes no more", "b last words", "b reads no more"]
    );
    pair.client().write(b"ignored");
    pair.client().lose_write_connection();
    pair.server().write(b"answer");
    memory.pump();
    assert_eq!(calls.take(), ["a answer"], "told once");
    pair.server().lose_write_connection();
    memory.pump();
    assert_eq!(
        calls.take(),
        ["b writes no more", "b done", "a reads no more", "a done"]
    );
}

///
#[test]
fn a_protocol_that_is_not_aware_is_closed_fully() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let lost = calls.clone();
    let unaware = Script::new().lost(move |reason| note(&lost, format!("b {}", kind(reason))));
    // What it has not sent yet is sent.
    struct Unaware(Script);
    impl Protocol for Unaware {
        fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
            transport.write(b"greeting");
            Ok(())
        }
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
            self.0.data_received(transport, data)
        }
        fn connection_lost(&mut self, reason: &Failure) {
            self.0.connection_lost(reason);
        }
    }
    let pair = memory.connect_pair(Aware::new("a", &calls), Unaware(unaware));
    pair.client().lose_write_connection();
    memory.pump();
    let mut calls = calls.take();
    calls.sort();
    let want = [
        "a done",
        "a greeting",
        "a reads no more",
        "a writes no more",
        "b done",
    ];
    assert_eq!(calls, want);
}

/// it is told when everything is sent, and not before.
#[test]
fn the_sending_side_ends_behind_what_was_written() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let peer = memory.connect(Aware::new("a", &calls));
    memory.pump();
    let transport = peer.transport().unwrap();
    peer.block_writes(5);
    transport.write(b"123456");
    transport.lose_write_connection();
    memory.pump();
    assert_eq!(calls.take(), [""; 0]);
    transport.write(b"7");
    peer.unblock_writes();
    memory.pump();
    assert_eq!(peer.received(), b"1234567");
    assert!(peer.has_ended() && !peer.is_closed());
    assert_eq!(calls.take(), ["a writes no more"]);
}

/// R-40, B-16.
#[test]
fn anything_may_be_called_when_the_sending_side_is_closed() {
    type Act = (fn(&Transport), &'static [&'static str]);
    let acts: [Act; 4] = [
        (|transport| transport.lose_connection(), &["a done"]),
        (|transport| transport.abort_connection(), &["a aborted"]),
        (
            |transport| {
                transport.write(b"ignored");
                transport.lose_write_connection();
                transport.unregister_producer();
            },
            &[],
        ),
        (|_| panic!("in a protocol"), &["a panic"]),
    ];
    peers::watch_log();
    for (at_write_end, want) in acts {
        let (memory, calls) = (MemoryReactor::new(), journal());
        let peer = memory.connect(Aware {
            at_write_end,
            ..Aware::new("a", &calls)
        });
        memory.pump();
        peer.transport().unwrap().lose_write_connection();
        memory.pump();
        assert_eq!(calls.take()[0], "a writes no more");
        assert_eq!(peer.received(), b"");
        let is_open = want.is_empty();
        assert_eq!(peer.transport().is_some(), is_open);
        assert_eq!(peer.is_closed(), !is_open);
    }
}

/// no matter in which order, and in which pieces.
#[test]
fn any_order_of_closing_ends_cleanly() {
    for seed in 0..100 {
        let (memory, calls) = (MemoryReactor::with_seed(seed), journal());
        let pair = memory.connect_pair(Aware::new("a", &calls), Aware::new("b", &calls));
        pair.client().write(&pattern(1000));
        pair.client().lose_write_connection();
        pair.server().write(&pattern(1000));
        pair.server().lose_write_connection();
        memory.pump();
        let mut calls = calls.take();
        calls.retain(|call| call.is_ascii() && call.len() < 20 && !call.contains('\0'));
        for name in ["a", "b"] {
            let told = |what| calls.contains(&format!("{name} {what}"));
            assert!(told("reads no more"), "seed {seed}: {calls:?}");
            assert!(told("writes no more"), "seed {seed}: {calls:?}");
            assert!(told("done"), "seed {seed}: {calls:?}");
        }
    }
}

/// a socket that is closed with something unread resets the connection, and the answer may
/// be lost with it.
#[test]
fn what_has_come_and_is_not_wanted_does_not_destroy_the_answer() {
    for is_paused in [false, true] {
        let reactor = Reactor::new().unwrap();
        let (tell, told) = mpsc::channel();
        let close = std::rc::Rc::new(std::cell::RefCell::new(None::<Transport>));
        let kept = close.clone();
        let factory = Scripts::new(move || {
            let (kept, tell) = (kept.clone(), tell.clone());
            Script::new().made(move |transport| {
                if is_paused {
                    transport.pause_producing();
                }
                kept.replace(Some(transport.clone()));
                Ok(tell.send(())?)
            })
        });
        let (_, address) = peers::listen(&reactor, factory);
        let answer = peers::lend(&reactor, move || {
            let transport = close.take().unwrap();
            transport.write(b"answer");
            transport.lose_connection();
        });
        let received = peers::run_with_peer(&reactor, move || {
            let mut peer = peers::connect(address);
            told.recv_timeout(peers::LIMIT).unwrap();
            peer.write_all(&pattern(100_000)).unwrap();
            answer();
            let mut received = Vec::new();
            peer.read_to_end(&mut received).map(|_| received)
        });
        assert_eq!(received.unwrap(), b"answer", "paused: {is_paused}");
    }
}
