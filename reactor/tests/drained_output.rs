//! How much has been sent, and when the last byte has left.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;

use deferred_reactor::Reactor;
use deferred_reactor::net::Transport;
use deferred_reactor::testing::MemoryReactor;

use peers::{
    Script, Scripts, connect, journal, kind, listen, note, pattern, read_exactly, run_with_peer,
};

/// Counts the calls of `write_drained`.
fn counting() -> (Script, Rc<Cell<u32>>) {
    let count = Rc::new(Cell::new(0));
    let counter = count.clone();
    let script = Script::new().drained(move |_| counter.set(counter.get() + 1));
    (script, count)
}

#[test]
fn only_who_asks_is_told_that_a_small_write_has_left() {
    let memory = MemoryReactor::new();
    let (script, drained) = counting();
    let peer = memory.connect(script);
    memory.pump();
    let transport = peer.transport().unwrap();
    transport.write(b"one");
    memory.pump();
    assert_eq!((drained.get(), transport.sent()), (0, 3));
    transport.write(b"two");
    transport.notify_drained();
    assert_eq!(drained.get(), 0, "not inside the call");
    memory.pump();
    assert_eq!((drained.get(), transport.sent()), (1, 6));
    transport.write(b"three");
    memory.pump();
    assert_eq!(drained.get(), 1, "once");
    transport.notify_drained();
    memory.pump();
    assert_eq!(drained.get(), 2, "also where nothing waits");
}

#[test]
fn the_last_byte_has_left_when_the_system_has_taken_it() {
    let memory = MemoryReactor::new();
    let (script, drained) = counting();
    let peer = memory.connect(script);
    memory.pump();
    let transport = peer.transport().unwrap();
    peer.block_writes(4);
    transport.write(b"abcdef");
    transport.notify_drained();
    memory.pump();
    assert_eq!((transport.sent(), transport.buffered()), (4, 2));
    assert_eq!(drained.get(), 0);
    peer.block_writes(1);
    memory.pump();
    assert_eq!((transport.sent(), drained.get()), (5, 0));
    peer.unblock_writes();
    memory.pump();
    assert_eq!((transport.sent(), drained.get()), (6, 1));
}

/// Asked for from inside, it comes in the next turn, and the loop goes on.
#[test]
fn it_may_be_asked_for_again_from_inside() {
    let (memory, turns) = (MemoryReactor::new(), Rc::new(Cell::new(0)));
    let count = turns.clone();
    let peer = memory.connect(
        Script::new()
            .made(|transport| {
                transport.notify_drained();
                Ok(())
            })
            .drained(move |transport| {
                count.set(count.get() + 1);
                if count.get() < 5 {
                    transport.notify_drained();
                }
            }),
    );
    memory.pump();
    assert_eq!(turns.get(), 5);
    drop(peer);
}

/// What a log of requests wants to know when a client has gone.
#[test]
fn how_much_was_sent_is_told_until_the_end() {
    let (memory, sent) = (MemoryReactor::new(), Rc::new(Cell::new(0)));
    let kept = Rc::new(RefCell::new(None::<Transport>));
    let (keep, seen, asked) = (kept.clone(), sent.clone(), kept.clone());
    let peer = memory.connect(
        Script::new()
            .made(move |transport| {
                *keep.borrow_mut() = Some(transport.clone());
                transport.write(&[b'x'; 1000]);
                Ok(())
            })
            .lost(move |_| seen.set(asked.borrow().as_ref().unwrap().sent())),
    );
    memory.pump();
    peer.reset();
    memory.pump();
    assert_eq!(sent.get(), 1000);
    assert_eq!(kept.borrow().as_ref().unwrap().sent(), 0);
}

#[test]
fn a_connection_that_closes_tells_it_by_its_end() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let (drained, lost) = (journal.clone(), journal.clone());
    let peer = memory.connect(
        Script::new()
            .made(|transport| {
                transport.write(b"last");
                transport.notify_drained();
                transport.lose_connection();
                Ok(())
            })
            .drained(move |_| note(&drained, "drained"))
            .lost(move |reason| note(&lost, kind(reason))),
    );
    memory.pump();
    assert_eq!(*journal.borrow(), ["done"]);
    assert_eq!(peer.received(), b"last");
}

/// More than the buffers of the system hold: progress as the peer reads.
#[test]
fn progress_can_be_seen_on_a_connection_of_the_system() {
    const SIZE: usize = 16 << 20;
    let reactor = Reactor::new().unwrap();
    let (_port, address) = listen(
        &reactor,
        Scripts::new(|| {
            let is_asked = Cell::new(false);
            Script::new()
                .data(move |transport, _| {
                    if !is_asked.replace(true) {
                        transport.write(&pattern(SIZE));
                        transport.notify_drained();
                        assert_eq!(transport.sent(), 0);
                    }
                    Ok(())
                })
                .drained(|transport| {
                    assert_eq!(transport.sent(), SIZE as u64);
                    assert_eq!(transport.buffered(), 0);
                    transport.write(b"drained");
                    transport.lose_connection();
                })
        }),
    );
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"go").unwrap();
        assert_eq!(read_exactly(&mut peer, SIZE), pattern(SIZE));
        assert_eq!(read_exactly(&mut peer, 7), b"drained");
    });
}
