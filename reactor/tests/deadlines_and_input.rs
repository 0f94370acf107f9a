//! F-18: a delayed call is made after the input that came before it was due.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{DelayedCall, Reactor};

use peers::{Journal, Script, Scripts, connect, journal, listen, note, run};

/// Cuts off who does not say anything in time, as servers do.
fn with_deadline(time: Duration, journal: &Journal) -> Script {
    let deadline = Rc::new(Cell::new(None::<DelayedCall>));
    let made = deadline.clone();
    let (late, early) = (journal.clone(), journal.clone());
    Script::new()
        .made(move |transport| {
            let (late, transport) = (late.clone(), transport.clone());
            let reactor = transport.reactor().unwrap();
            made.set(Some(reactor.call_later(time, move || {
                note(&late, "cut off");
                transport.abort_connection();
            })));
            Ok(())
        })
        .data(move |transport, _| {
            note(&early, "read");
            deadline.take().unwrap().cancel()?;
            transport.lose_connection();
            Ok(())
        })
}

/// A protocol keeps the loop busy while the bytes of another one come, and its time passes.
#[test]
fn a_loop_that_was_busy_looks_at_its_sockets_before_what_is_due() {
    let (reactor, journal) = (Reactor::new().unwrap(), journal());
    let time = Duration::from_millis(100);
    let calls = journal.clone();
    let (_port, address) = listen(&reactor, Scripts::new(move || with_deadline(time, &calls)));
    let peer = Rc::new(RefCell::new(None::<TcpStream>));
    let (sender, busy) = (peer.clone(), journal.clone());
    let (_port, busy_address) = listen(
        &reactor,
        Scripts::new(move || {
            let (sender, busy) = (sender.clone(), busy.clone());
            Script::new().data(move |transport, _| {
                let begun = Instant::now();
                sender
                    .borrow_mut()
                    .as_mut()
                    .unwrap()
                    .write_all(b"in time")?;
                while begun.elapsed() < 2 * time {} // as no callback should
                note(&busy, "busy");
                let reactor = transport.reactor().unwrap();
                let stop = reactor.clone();
                reactor.call_later(time, move || stop.stop().unwrap());
                Ok(())
            })
        }),
    );
    let clock = reactor.clone();
    reactor.call_when_running(move || {
        *peer.borrow_mut() = Some(connect(address));
        // By then it was accepted, and its time runs.
        clock.call_later(Duration::from_millis(2), move || {
            let mut peer = connect(busy_address);
            peer.write_all(b"go").unwrap();
        });
    });
    run(&reactor);
    assert_eq!(*journal.borrow(), ["busy", "read"]);
}

/// In memory, bytes that are sent before a call is due arrive before it is made.
#[test]
fn bytes_in_memory_come_before_what_is_due_after_them() {
    for seed in [None, Some(1), Some(2), Some(3)] {
        let memory = seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed);
        let journal = journal();
        let time = Duration::from_secs(10);
        let peer = memory.connect(with_deadline(time, &journal));
        memory.pump();
        let peer = Rc::new(peer);
        let sender = peer.clone();
        memory.call_later(time - Duration::from_nanos(1), move || {
            sender.send("in time")
        });
        memory.advance(2 * time);
        assert_eq!(*journal.borrow(), ["read"]);
        drop(peer);
    }
}
