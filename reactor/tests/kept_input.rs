//! Protocols that keep a part of their input, and are called for it again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use deferred_reactor::Failure;
use deferred_reactor::net::{Protocol, Transport};
use deferred_reactor::testing::MemoryReactor;

/// Writes down what it is called with, and does what the test says.
struct Recorder<F> {
    calls: Rc<RefCell<Vec<String>>>,
    act: F,
}

impl<F: FnMut(&Transport, &str) + 'static> Protocol for Recorder<F> {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        let data = String::from_utf8_lossy(data).into_owned();
        self.calls.borrow_mut().push(data.clone());
        (self.act)(transport, &data);
        Ok(())
    }

    fn read_connection_lost(&mut self, _: &Transport) {
        self.calls.borrow_mut().push("end".to_owned());
    }
}

/// PR-28: later, and before what has come meanwhile.
#[test]
fn a_protocol_is_called_again_before_anything_is_read() {
    let memory = MemoryReactor::new();
    let calls: Rc<RefCell<Vec<String>>> = Rc::default();
    let is_inside = Cell::new(false);
    let peer = memory.connect(Recorder {
        calls: calls.clone(),
        act: move |transport: &Transport, data: &str| {
            assert!(!is_inside.replace(true), "not from inside itself");
            if data == "a" {
                transport.deliver_again();
                transport.deliver_again();
            }
            is_inside.set(false);
        },
    });
    peer.deliver_at_most(1);
    peer.exchange("ab");
    assert_eq!(
        *calls.borrow(),
        ["a", "", "b"],
        "once, however often it was asked for"
    );
}

/// PR-28: also where nothing else is to be done.
#[test]
fn a_protocol_is_called_again_when_nothing_more_comes() {
    let memory = MemoryReactor::new();
    let calls: Rc<RefCell<Vec<String>>> = Rc::default();
    let mut left = 50;
    let peer = memory.connect(Recorder {
        calls: calls.clone(),
        act: move |transport: &Transport, _: &str| {
            left -= 1;
            if left > 0 {
                transport.deliver_again();
            }
        },
    });
    peer.exchange("a");
    assert_eq!(calls.borrow().len(), 50);
}

/// PR-28: and it holds the end of the input back as well.
#[test]
fn a_paused_protocol_is_called_again_when_it_resumes() {
    let memory = MemoryReactor::new();
    let calls: Rc<RefCell<Vec<String>>> = Rc::default();
    let peer = memory.connect(Recorder {
        calls: calls.clone(),
        act: |transport: &Transport, data: &str| {
            if !data.is_empty() {
                transport.pause_producing();
                transport.deliver_again();
                assert!(!transport.is_producing());
            }
        },
    });
    peer.send("a");
    peer.close_sending();
    memory.pump();
    assert!(!memory.turn(), "nothing spins meanwhile");
    assert_eq!(*calls.borrow(), ["a"]);
    peer.transport().unwrap().resume_producing();
    memory.pump();
    assert_eq!(*calls.borrow(), ["a", "", "end"]);
    // Also behind the end of the input: a protocol may have kept some of it.
    peer.transport().unwrap().deliver_again();
    memory.pump();
    assert_eq!(*calls.borrow(), ["a", "", "end", ""]);
}

/// PR-28.
#[test]
fn a_protocol_that_closes_is_not_called_again() {
    type Close = fn(&Transport);
    let closings: [Close; 2] = [Transport::lose_connection, Transport::abort_connection];
    for close in closings {
        let memory = MemoryReactor::new();
        let calls: Rc<RefCell<Vec<String>>> = Rc::default();
        let peer = memory.connect(Recorder {
            calls: calls.clone(),
            act: move |transport: &Transport, _: &str| {
                transport.deliver_again();
                assert!(transport.is_producing());
                close(transport);
                assert!(!transport.is_producing());
            },
        });
        peer.exchange("a");
        assert_eq!(*calls.borrow(), ["a"]);
        assert!(peer.is_closed());
    }
}

/// PR-28: a protocol that always asks for more leaves the others their turns.
#[test]
fn asking_without_end_starves_nobody() {
    let memory = MemoryReactor::new();
    let calls: Rc<RefCell<Vec<String>>> = Rc::default();
    let greedy = memory.connect(Recorder {
        calls: Rc::default(),
        act: |transport: &Transport, _: &str| transport.deliver_again(),
    });
    let other = memory.connect(Recorder {
        calls: calls.clone(),
        act: |_: &Transport, _: &str| {},
    });
    greedy.send("a");
    for _ in 0..10 {
        memory.turn();
    }
    other.send("b");
    for _ in 0..10 {
        memory.turn();
    }
    assert_eq!(*calls.borrow(), ["b"]);
}
