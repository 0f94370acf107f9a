//! Time limits for connections.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{ConnectionAborted, ConnectionDone, Protocol, Transport};
use deferred_reactor::protocols::{ConnectionTimeout, TimeoutProtocol};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, ReactorTime};

const SECOND: Duration = Duration::from_secs(1);

/// Resets its limit for every `r`, and says how it has ended.
struct Patient {
    timeout: Option<ConnectionTimeout>,
    ending: Rc<RefCell<Option<String>>>,
}

impl Protocol for Patient {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        if let Some(timeout) = &self.timeout
            && data.contains(&b'r')
        {
            timeout.reset_timeout();
        }
        transport.write(data);
        Ok(())
    }

    fn connection_lost(&mut self, reason: &Failure) {
        let ending = if reason.is::<ConnectionDone>() {
            "done"
        } else if reason.is::<ConnectionAborted>() {
            "aborted"
        } else {
            "lost"
        };
        self.ending.replace(Some(ending.to_owned()));
    }
}

struct Rig {
    memory: MemoryReactor,
    ending: Rc<RefCell<Option<String>>>,
    timeout: Rc<RefCell<Option<ConnectionTimeout>>>,
}

impl Rig {
    fn new() -> Self {
        Self {
            memory: MemoryReactor::new(),
            ending: Rc::default(),
            timeout: Rc::default(),
        }
    }

    fn protocol(&self, period: impl Into<Option<Duration>>) -> TimeoutProtocol<Patient> {
        TimeoutProtocol::new(period, |timeout| {
            self.timeout.replace(Some(timeout.clone()));
            Patient {
                timeout: Some(timeout),
                ending: self.ending.clone(),
            }
        })
    }

    fn timeout(&self) -> ConnectionTimeout {
        self.timeout.borrow().clone().expect("it was made")
    }

    fn ending(&self) -> Option<String> {
        self.ending.borrow().clone()
    }
}

/// PR-22.
#[test]
fn a_limit_that_is_not_reset_closes_the_connection() {
    let rig = Rig::new();
    let peer = rig.memory.connect(rig.protocol(3 * SECOND));
    rig.memory.advance(2 * SECOND);
    peer.exchange("r");
    rig.memory.advance(2 * SECOND);
    peer.exchange("xyz");
    assert_eq!(rig.ending(), None, "2 of 3 seconds");
    rig.memory.advance(SECOND);
    assert_eq!(rig.ending(), Some("done".into()));
    assert!(peer.is_closed() && !peer.is_reset());
    assert!(rig.memory.delayed_calls().is_empty());
}

/// PR-23.
#[test]
fn an_idle_limit_is_reset_by_all_that_comes() {
    let rig = Rig::new();
    let patient = Patient {
        timeout: None,
        ending: rig.ending.clone(),
    };
    let peer = rig
        .memory
        .connect(TimeoutProtocol::idle(3 * SECOND, patient));
    for _ in 0..5 {
        rig.memory.advance(2 * SECOND);
        peer.exchange(".");
        assert_eq!(rig.ending(), None);
    }
    rig.memory.advance(3 * SECOND);
    assert_eq!(rig.ending(), Some("done".into()));
}

/// PR-24: every limit works.
#[test]
fn limits_can_be_changed_and_taken_away() {
    let rig = Rig::new();
    let _peer = rig.memory.connect(rig.protocol(None));
    rig.memory.advance(1000 * SECOND);
    assert_eq!(rig.timeout().set_timeout(5 * SECOND), None);
    rig.memory.advance(4 * SECOND);
    assert_eq!(rig.timeout().set_timeout(None), Some(5 * SECOND));
    rig.memory.advance(1000 * SECOND);
    rig.timeout().reset_timeout();
    assert!(rig.memory.delayed_calls().is_empty());
    rig.timeout().set_timeout(Duration::MAX);
    rig.memory.advance(1000 * SECOND);
    assert_eq!(rig.timeout().timeout(), Some(Duration::MAX));
    assert_eq!(rig.ending(), None);
    rig.timeout().set_timeout(Duration::ZERO);
    rig.memory.pump();
    assert_eq!(rig.ending(), Some("done".into()));
}

/// PR-25: reading nothing does not keep a connection.
#[test]
fn a_peer_that_does_not_read_its_last_bytes_is_aborted() {
    let rig = Rig::new();
    let peer = rig.memory.connect(rig.protocol(3 * SECOND));
    peer.block_writes(0);
    peer.exchange("never read");
    rig.memory.advance(3 * SECOND);
    assert_eq!(rig.ending(), None, "there is something to be sent");
    rig.memory.advance(3 * SECOND);
    assert_eq!(rig.ending(), Some("aborted".into()));
}

/// PR-26.
#[test]
fn what_a_limit_does_can_be_replaced() {
    let rig = Rig::new();
    let warnings = Rc::new(Cell::new(0));
    let count = warnings.clone();
    let protocol = rig.protocol(SECOND).timeout_connection(move |transport| {
        count.set(count.get() + 1);
        transport.write(b"hurry");
    });
    let peer = rig.memory.connect(protocol);
    rig.memory.advance(10 * SECOND);
    assert_eq!((peer.received(), warnings.get()), (b"hurry".to_vec(), 1));
    rig.timeout().reset_timeout();
    rig.memory.advance(10 * SECOND);
    assert_eq!(warnings.get(), 2);
    assert_eq!(rig.ending(), None);
}

/// PR-27: neither in a connection that ends, nor where none was made.
#[test]
fn no_delayed_call_outlives_its_connection() {
    let rig = Rig::new();
    let peer = rig.memory.connect(rig.protocol(SECOND));
    rig.memory.pump();
    assert_eq!(rig.memory.delayed_calls().len(), 1);
    peer.reset();
    rig.memory.pump();
    assert_eq!(rig.ending(), Some("lost".into()));
    assert!(rig.memory.delayed_calls().is_empty());
    rig.timeout().set_timeout(SECOND);
    assert!(rig.memory.delayed_calls().is_empty());
    drop(rig.protocol(SECOND));
    assert!(rig.memory.time_source().delayed_calls().is_empty());
}
