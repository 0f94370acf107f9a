//! Peers that close their side while we do not read, or have something to produce for them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::mpsc;

use deferred_reactor::net::{Protocol, PullProducer, PushProducer, Transport};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor};

use peers::{Journal, Script, connect, journal, kind, note, read_all, run_with_peer};

/// Works on an answer, and reads no more until it has it.
struct Busy(Journal);

impl Protocol for Busy {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        note(&self.0, format!("{} bytes", data.len()));
        transport.pause_producing();
        Ok(())
    }

    fn peer_closed(&mut self, _: &Transport) {
        note(&self.0, "peer closed");
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        note(&self.0, "end");
        transport.lose_connection();
    }

    fn connection_lost(&mut self, reason: &Failure) {
        note(&self.0, kind(reason));
    }
}

/// F-17: what was sent before the end can still be read.
#[test]
fn a_protocol_that_has_paused_is_told_that_its_peer_has_closed_its_side() {
    for pieces in [&["request", "more"][..], &["request"], &["", "request"]] {
        let (memory, journal) = (MemoryReactor::new(), journal());
        let peer = memory.connect(Busy(journal.clone()));
        for piece in pieces {
            peer.exchange(piece);
        }
        let is_unread = pieces.len() == 2 && !pieces[0].is_empty();
        assert_eq!(peer.unread() > 0, is_unread);
        peer.close_sending();
        memory.pump();
        assert_eq!(*journal.borrow(), ["7 bytes", "peer closed"]);
        let transport = peer.transport().unwrap();
        transport.resume_producing();
        memory.pump();
        if is_unread {
            assert_eq!(journal.borrow()[2..], ["4 bytes"]);
            transport.resume_producing();
            memory.pump();
        }
        assert_eq!(journal.borrow().last().unwrap(), "done");
        assert_eq!(
            journal
                .borrow()
                .iter()
                .filter(|told| *told == "peer closed")
                .count(),
            1
        );
    }
}

/// F-17: it came with the last bytes, so no other event tells of it.
#[test]
fn a_protocol_that_pauses_when_the_end_has_come_is_told() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let peer = memory.connect(Busy(journal.clone()));
    memory.pump();
    peer.send("request");
    peer.close_sending();
    memory.pump();
    assert_eq!(*journal.borrow(), ["7 bytes", "peer closed"]);
}

/// F-17.
#[test]
fn a_protocol_that_has_paused_is_told_of_a_reset() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let peer = memory.connect(Busy(journal.clone()));
    peer.exchange("request");
    peer.exchange("more");
    peer.reset();
    memory.pump();
    assert_eq!(*journal.borrow(), ["7 bytes", "lost"]);
}

/// F-17: more ahead than the read buffer holds, as a client that pipelines.
#[test]
fn an_end_behind_unread_input_is_told_by_the_system() {
    let (tell, told) = mpsc::channel();
    struct Told(Busy, mpsc::Sender<&'static str>);
    impl Protocol for Told {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
            self.0.data_received(transport, data)?;
            self.1.send("paused")?;
            Ok(())
        }
        fn peer_closed(&mut self, transport: &Transport) {
            self.1.send("peer closed").unwrap();
            transport.write(b"answer");
            transport.lose_connection();
        }
        fn connection_lost(&mut self, _: &Failure) {
            self.1.send("lost").unwrap();
        }
    }
    let reactor = Reactor::new().unwrap();
    struct Make(mpsc::Sender<&'static str>);
    impl deferred_reactor::net::Factory for Make {
        fn build_protocol(&self, _: &deferred_reactor::net::Address) -> Option<Box<dyn Protocol>> {
            Some(Box::new(Told(Busy(journal()), self.0.clone())))
        }
    }
    let port = reactor.listen_tcp("127.0.0.1:0", Make(tell)).unwrap();
    let address = peers::address_of(&port);
    run_with_peer(&reactor, move || {
        let next = || told.recv_timeout(peers::LIMIT).unwrap();
        // Half-closed: it can still be answered.
        let mut peer = connect(address);
        peer.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(next(), "paused");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(next(), "peer closed");
        assert_eq!(next(), "lost");
        assert_eq!(read_all(&mut peer), b"answer");
        // Gone.
        let mut peer = connect(address);
        peer.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(next(), "paused");
        drop(peer);
        assert_eq!(next(), "peer closed");
        assert_eq!(next(), "lost");
    });
}

/// A producer that has nothing at the moment.
struct Idle(Journal);

impl PushProducer for Idle {
    fn pause_producing(&self) {}
    fn resume_producing(&self) {}
    fn stop_producing(&self) {
        note(&self.0, "stop");
    }
}

impl PullProducer for Idle {
    fn resume_producing(&self) {}
    fn stop_producing(&self) {
        note(&self.0, "stop");
    }
}

/// Does what protocols do by themselves.
struct Plain(Journal);

impl Protocol for Plain {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
    fn connection_lost(&mut self, reason: &Failure) {
        note(&self.0, kind(reason));
    }
}

/// F-15.
#[test]
fn an_idle_producer_is_stopped_and_the_connection_closed_when_the_peer_closes() {
    for is_pull in [false, true] {
        let (memory, journal) = (MemoryReactor::new(), journal());
        let peer = memory.connect(Plain(journal.clone()));
        memory.pump();
        let transport = peer.transport().unwrap();
        let idle = Idle(journal.clone());
        match is_pull {
            false => transport.register_producer(idle).unwrap(),
            true => transport.register_pull_producer(idle).unwrap(),
        }
        // What is queued is still sent.
        peer.block_writes(0);
        transport.write(b"rest");
        memory.pump();
        peer.close_sending();
        memory.pump();
        assert_eq!(*journal.borrow(), ["stop"]);
        peer.unblock_writes();
        memory.pump();
        assert_eq!(*journal.borrow(), ["stop", "done"]);
        assert_eq!(peer.received(), b"rest");
        assert!(peer.has_ended());
    }
}

/// F-15: with an end of its own, a protocol keeps what it has.
#[test]
fn a_producer_stays_where_the_protocol_knows_of_half_closed_connections() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let lost = journal.clone();
    let peer = memory.connect(
        Script::new()
            .read_lost(|_| {})
            .lost(move |reason| note(&lost, kind(reason))),
    );
    memory.pump();
    let transport = peer.transport().unwrap();
    transport
        .register_producer(Rc::new(Idle(journal.clone())))
        .unwrap();
    peer.close_sending();
    memory.pump();
    assert!(journal.borrow().is_empty());
    transport.write(b"still here");
    memory.pump();
    assert_eq!(peer.received(), b"still here");
}

/// F-15, with sockets.
#[test]
fn a_peer_of_the_system_that_closes_ends_an_idle_producer() {
    struct Register(Plain);
    impl Protocol for Register {
        fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
            transport.register_producer(Idle(self.0.0.clone()))?;
            Ok(())
        }
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
        fn connection_lost(&mut self, reason: &Failure) {
            self.0.connection_lost(reason);
        }
    }
    struct Make(Journal);
    impl deferred_reactor::net::Factory for Make {
        fn build_protocol(&self, _: &deferred_reactor::net::Address) -> Option<Box<dyn Protocol>> {
            Some(Box::new(Register(Plain(self.0.clone()))))
        }
    }
    let (reactor, journal) = (Reactor::new().unwrap(), journal());
    let port = reactor
        .listen_tcp("127.0.0.1:0", Make(journal.clone()))
        .unwrap();
    let address = peers::address_of(&port);
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut peer), b"");
    });
    assert_eq!(*journal.borrow(), ["stop", "done"]);
}
