//! How many connections a factory has at once, in all and for each peer.

mod peers;

use std::cell::{Cell, RefCell};
use std::net::TcpStream;
use std::rc::Rc;

use deferred_reactor::net::{Address, Factory, FactoryIdentity, Protocol, Transport, for_protocol};
use deferred_reactor::policies::{ConnectionCounts, LimitConnectionsFactory};
use deferred_reactor::testing::{MemoryConnection, MemoryReactor};
use deferred_reactor::{Failure, Reactor};
use peers::Watchdog;

struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        transport.write(data);
        Ok(())
    }
}

/// (connected, accepted, refused, refused by peer)
fn numbers(counts: ConnectionCounts) -> (usize, u64, u64, u64) {
    let ConnectionCounts {
        connected,
        accepted,
        refused,
        refused_by_peer,
        ..
    } = counts;
    (connected, accepted, refused, refused_by_peer)
}

fn client(memory: &MemoryReactor) -> MemoryConnection {
    let client = memory.connect_to("127.0.0.1:7").expect("somebody listens");
    memory.pump();
    client
}

/// PO-01, PO-03, PO-04.
#[test]
fn connections_beyond_the_limit_are_closed_until_there_is_room() -> Result<(), Failure> {
    let memory = MemoryReactor::new();
    let built = Rc::new(Cell::new(0));
    let count = built.clone();
    let factory = for_protocol(move || {
        count.set(count.get() + 1);
        Echo
    });
    let limited = Rc::new(LimitConnectionsFactory::new(factory).max_connections(2));
    memory.listen_tcp("127.0.0.1:7", limited.clone())?;
    let (one, two) = (client(&memory), client(&memory));
    let three = client(&memory);
    assert!(three.is_closed() && !one.is_closed());
    assert_eq!(numbers(limited.counts()), (2, 2, 1, 0));
    assert_eq!(built.get(), 2, "the factory inside is not asked");

    drop(one);
    memory.pump();
    assert_eq!(limited.counts().connected, 1);
    assert_eq!(client(&memory).exchange("a"), b"a");
    two.reset();
    memory.pump();
    assert_eq!(numbers(limited.counts()), (0, 3, 1, 0));
    Ok(())
}

/// PO-02: peers are those of the system.
#[test]
fn each_peer_has_a_limit_of_its_own() -> Result<(), Failure> {
    fn from(host: &str, port: u16) -> std::io::Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        let address = |text: String| text.parse::<std::net::SocketAddr>().expect("an address");
        socket.bind(&address(format!("{host}:0")).into())?;
        socket.connect(&address(format!("127.0.0.1:{port}")).into())?;
        Ok(socket.into())
    }
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new()?;
    let factory = LimitConnectionsFactory::new(for_protocol(|| Echo)).max_connections_per_peer(1);
    let limited = Rc::new(factory);
    let port = reactor.listen_tcp("127.0.0.1:0", limited.clone())?;
    let number = port.address().port().expect("of TCP");
    let clients: Result<Vec<_>, _> = ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
        .map(|host| from(host, number))
        .into_iter()
        .collect();
    let clients = clients?;
    while limited.counts().accepted + limited.counts().total_refused() < 3 {
        reactor.turn_once(std::time::Duration::MAX)?;
    }
    assert_eq!(numbers(limited.counts()), (2, 2, 0, 1));
    drop(clients);
    while limited.counts().connected > 0 {
        reactor.turn_once(std::time::Duration::MAX)?;
    }
    Ok(())
}

/// PO-03: a place is free again whatever becomes of the connection.
#[test]
fn a_place_is_free_when_no_protocol_is_made() -> Result<(), Failure> {
    struct Moody(Cell<u32>);
    impl Factory for Moody {
        fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
            self.0.set(self.0.get() + 1);
            match self.0.get() {
                1 => None,
                2 => panic!("not today"),
                _ => Some(Box::new(Echo)),
            }
        }
    }
    let memory = MemoryReactor::new();
    let limited = LimitConnectionsFactory::new(Moody(Cell::new(0)));
    let limited = Rc::new(limited.max_connections(1).max_connections_per_peer(1));
    memory.listen_tcp("127.0.0.1:7", limited.clone())?;
    assert!(client(&memory).is_closed());
    assert!(client(&memory).is_closed());
    assert!(!client(&memory).is_closed());
    assert_eq!(numbers(limited.counts()), (1, 1, 0, 0));
    Ok(())
}

/// PO-12.
#[test]
fn limits_hold_at_their_extremes() -> Result<(), Failure> {
    for (limit, per_peer, is_refused) in [
        (0, usize::MAX, true),
        (usize::MAX, 0, true),
        (1, 1, false),
        (usize::MAX, usize::MAX, false),
    ] {
        let memory = MemoryReactor::new();
        let factory = LimitConnectionsFactory::new(for_protocol(|| Echo))
            .max_connections(limit)
            .max_connections_per_peer(per_peer);
        memory.listen_tcp("127.0.0.1:7", factory)?;
        assert_eq!(
            client(&memory).is_closed(),
            is_refused,
            "{limit}, {per_peer}"
        );
    }
    Ok(())
}

/// PO-06, F-21: and what is inside is started and stopped as if nothing were around it.
#[test]
fn a_policy_is_the_factory_that_it_goes_around() -> Result<(), Failure> {
    struct Started(Rc<RefCell<Vec<&'static str>>>);
    impl Factory for Started {
        fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
            None
        }
        fn start_factory(&self) {
            self.0.borrow_mut().push("start");
        }
        fn stop_factory(&self) {
            self.0.borrow_mut().push("stop");
        }
    }
    let memory = MemoryReactor::new();
    let calls: Rc<RefCell<Vec<&str>>> = Rc::default();
    let shared = Rc::new(Started(calls.clone()));
    let first = LimitConnectionsFactory::new(shared.clone());
    let identity: Option<FactoryIdentity> = first.shared_identity();
    assert_eq!(identity, shared.shared_identity());
    let second = deferred_reactor::policies::ThrottlingFactory::new(shared.clone());
    assert_eq!(second.shared_identity(), identity);
    let first = memory.listen_tcp("127.0.0.1:7", first)?;
    let second = memory.listen_tcp("127.0.0.1:8", second)?;
    assert_eq!(calls.take(), ["start"]);
    drop(first.stop_listening());
    assert_eq!(calls.take(), [""; 0]);
    drop(second.stop_listening());
    assert_eq!(calls.take(), ["stop"]);
    Ok(())
}
