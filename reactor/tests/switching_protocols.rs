//! Another protocol for a connection, as after an upgrade.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::io::Write;
use std::rc::Rc;

use deferred_reactor::net::{Protocol, Transport};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor};

use peers::{
    Journal, Script, Scripts, connect, journal, kind, listen, note, read_exactly, run_with_peer,
};

type Act = Rc<dyn Fn(&Named, &Transport)>;

/// Notes whatever happens to it, and acts on some of it.
struct Named {
    name: &'static str,
    journal: Journal,
    made: Act,
    data: Act,
}

fn named(name: &'static str, journal: &Journal) -> Named {
    Named {
        name,
        journal: journal.clone(),
        made: Rc::new(|_, _| {}),
        data: Rc::new(|_, _| {}),
    }
}

impl Named {
    fn made(mut self, made: impl Fn(&Named, &Transport) + 'static) -> Self {
        self.made = Rc::new(made);
        self
    }

    fn data(mut self, data: impl Fn(&Named, &Transport) + 'static) -> Self {
        self.data = Rc::new(data);
        self
    }

    fn note(&self, what: &str) {
        note(&self.journal, format!("{} {what}", self.name));
    }

    fn next(&self, name: &'static str) -> Box<Self> {
        Box::new(named(name, &self.journal))
    }
}

impl Protocol for Named {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        self.note("made");
        (self.made.clone())(self, transport);
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.note(&format!("reads {}", String::from_utf8_lossy(data)));
        (self.data.clone())(self, transport);
        Ok(())
    }

    fn read_connection_lost(&mut self, _: &Transport) {
        self.note("reads no more");
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.note(kind(reason));
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.note("dropped");
    }
}

#[test]
fn inside_a_call_the_new_one_takes_over_when_the_old_one_returns() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let old = named("old", &journal).data(|old, transport| {
        transport.switch_protocol(old.next("new"), b"left".to_vec());
        transport.write(b"bye");
        old.note("returns");
    });
    let peer = memory.connect(old);
    assert_eq!(peer.exchange("first"), b"bye");
    peer.exchange("second");
    peer.close();
    memory.pump();
    let want = [
        "old made",
        "old reads first",
        "old returns",
        "old dropped",
        "new made",
        "new reads left",
        "new reads second",
        "new reads no more",
    ];
    assert_eq!(*journal.borrow(), want);
}

#[test]
fn outside_of_calls_the_new_one_takes_over_in_the_next_turn() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let peer = memory.connect(named("old", &journal));
    memory.pump();
    let transport = peer.transport().unwrap();
    transport.pause_producing(); // which is not for the new one
    transport.switch_protocol(Box::new(named("lost", &journal)), b"never".to_vec());
    transport.switch_protocol(Box::new(named("new", &journal)), Vec::new());
    assert_eq!(*journal.borrow(), ["old made", "lost dropped"]);
    peer.exchange("data");
    assert_eq!(
        journal.borrow()[2..],
        ["old dropped", "new made", "new reads data"]
    );
    transport.abort_connection();
    memory.pump();
    assert_eq!(journal.borrow()[5..], ["new aborted", "new dropped"]);
}

/// One that has not begun is never told of the other.
#[test]
fn before_the_first_turn_the_new_one_is_the_first() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let pair = memory.connect_pair(named("old", &journal), Script::new());
    pair.client()
        .switch_protocol(Box::new(named("new", &journal)), b"left".to_vec());
    memory.pump();
    assert_eq!(
        *journal.borrow(),
        ["old dropped", "new made", "new reads left"]
    );
}

#[test]
fn what_is_left_over_waits_until_the_new_one_reads() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let old = named("old", &journal).data(|old, transport| {
        let new = old
            .next("new")
            .made(|_, transport| transport.pause_producing());
        transport.switch_protocol(Box::new(new), b"left".to_vec());
    });
    let peer = memory.connect(old);
    peer.exchange("one");
    peer.exchange("two");
    peer.close_sending();
    memory.pump();
    assert_eq!(journal.borrow().last().unwrap(), "new made");
    peer.transport().unwrap().resume_producing();
    memory.pump();
    assert_eq!(
        journal.borrow()[4..],
        ["new reads left", "new reads two", "new reads no more"]
    );
}

/// The second has not seen it, so it belongs to the third.
#[test]
fn what_is_left_over_goes_to_the_last_of_several() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let old = named("1", &journal).data(|old, transport| {
        let second = old.next("2").made(|second, transport| {
            transport.switch_protocol(second.next("3"), b"a".to_vec());
        });
        transport.switch_protocol(Box::new(second), b"bc".to_vec());
    });
    let peer = memory.connect(old);
    peer.exchange("x");
    let want = [
        "1 made",
        "1 reads x",
        "1 dropped",
        "2 made",
        "2 dropped",
        "3 made",
        "3 reads abc",
    ];
    assert_eq!(*journal.borrow(), want);
}

#[test]
fn the_new_one_is_told_that_the_peer_had_closed_its_side() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let peer = memory.connect(named("old", &journal));
    peer.close_sending();
    memory.pump();
    let transport = peer.transport().unwrap();
    transport.switch_protocol(Box::new(named("new", &journal)), b"left".to_vec());
    memory.pump();
    assert_eq!(
        journal.borrow()[1..],
        [
            "old reads no more",
            "old dropped",
            "new made",
            "new reads left",
            "new reads no more"
        ]
    );
}

#[test]
fn the_old_one_is_told_where_the_connection_is_lost_first() {
    let (memory, journal) = (MemoryReactor::new(), journal());
    let old = named("old", &journal).data(|old, transport| {
        transport.abort_connection();
        transport.switch_protocol(old.next("new"), Vec::new());
    });
    let peer = memory.connect(old);
    peer.exchange("x");
    assert_eq!(
        journal.borrow()[2..],
        ["old aborted", "old dropped", "new dropped"]
    );
    // Nothing is left to switch.
    let transport = memory.connect(named("gone", &journal)).transport();
    assert!(transport.is_none());
}

#[test]
fn a_connection_of_the_system_switches_with_what_came_in_one_piece() {
    let reactor = Reactor::new().unwrap();
    let (_port, address) = listen(
        &reactor,
        Scripts::new(|| {
            Script::new().data(|transport, data| {
                if let Some(rest) = data.strip_prefix(b"upgrade ") {
                    transport.write(b"ok ");
                    transport.switch_protocol(Box::new(Script::echo()), rest.to_vec());
                }
                Ok(())
            })
        }),
    );
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"upgrade one ").unwrap();
        assert_eq!(read_exactly(&mut peer, 7), b"ok one ");
        peer.write_all(b"two").unwrap();
        assert_eq!(read_exactly(&mut peer, 3), b"two");
    });
}
