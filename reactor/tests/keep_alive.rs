//! Keep-alive probes of TCP, as the system tells of them.
#![cfg(target_os = "linux")]

mod peers;

use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;

use deferred_reactor::net::{Protocol, Transport, for_protocol};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor};
use peers::Watchdog;

/// Whether a keep-alive timer runs for the connection from `host` to `peer` (proc(5): timer 2).
fn is_probed(host: u16, peer: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("it is always there");
    let (host, peer) = (format!(":{host:04X}"), format!(":{peer:04X}"));
    let connection = table.lines().find(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&host) && fields[2].ends_with(&peer)
    });
    let fields: Vec<&str> = connection
        .expect("it is connected")
        .split_whitespace()
        .collect();
    fields[5].starts_with("02:")
}

/// Looks at its connection before and after each change.
struct Probed(Rc<RefCell<Vec<bool>>>);

impl Protocol for Probed {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        let port = |address: Option<deferred_reactor::net::Address>| {
            address.and_then(|address| address.port()).unwrap()
        };
        let (host, peer) = (port(transport.host()), port(transport.peer()));
        self.0.borrow_mut().push(is_probed(host, peer));
        for on in [true, false] {
            transport.set_tcp_keep_alive(on);
            self.0.borrow_mut().push(is_probed(host, peer));
        }
        transport.reactor().unwrap().stop()?;
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// PR-29.
#[test]
fn keep_alive_is_turned_on_and_off() -> Result<(), Failure> {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new()?;
    let seen: Rc<RefCell<Vec<bool>>> = Rc::default();
    let record = seen.clone();
    let factory = for_protocol(move || Probed(record.clone()));
    let port = reactor.listen_tcp("127.0.0.1:0", factory)?;
    let _client = TcpStream::connect(port.address().socket_addr().unwrap())?;
    reactor.run()?;
    assert_eq!(*seen.borrow(), [false, true, false]);
    Ok(())
}

/// PR-29: where there is no system to ask, nothing happens.
#[test]
fn keep_alive_does_nothing_in_memory() {
    struct Quiet;
    impl Protocol for Quiet {
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }
    let memory = MemoryReactor::new();
    let peer = memory.connect(Quiet);
    memory.pump();
    peer.transport().unwrap().set_tcp_keep_alive(true);
    memory.pump();
    assert!(!peer.is_closed());
}
