//! F-20: a name that has several addresses is listened to at all of them, or at none.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use deferred_reactor::net::{Address, DatagramProtocol, Port, UdpTransport};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor, run_workers};

use peers::{Script, Scripts, journal, note};

fn parse<const N: usize>(addresses: [&str; N]) -> [SocketAddr; N] {
    addresses.map(|address| address.parse().unwrap())
}

fn bound(port: &Port) -> Vec<SocketAddr> {
    port.addresses().filter_map(Address::socket_addr).collect()
}

#[test]
fn a_port_is_open_at_each_address_and_starts_its_factory_once() {
    let memory = MemoryReactor::new();
    let addresses = parse(["127.0.0.1:80", "[::1]:80", "127.0.0.1:80"]);
    let journal = journal();
    let (started, stopped) = (journal.clone(), journal.clone());
    let factory = Scripts::new(Script::new)
        .start(move || note(&started, "start"))
        .stop(move || note(&stopped, "stop"));
    let port = memory.listen_tcp(&addresses[..], factory).unwrap();
    assert_eq!(bound(&port), addresses[..2]);
    assert_eq!(port.address().socket_addr(), Some(addresses[0]));
    for address in &addresses[..2] {
        let _peer = memory.connect_to(address).unwrap();
        memory.pump();
    }
    assert_eq!(port.stats().accepted, 2);
    assert_eq!(*journal.borrow(), ["start"]);

    // What `localhost` did: the second program took the other family.
    let other = memory.listen_tcp(&addresses[..], Scripts::new(Script::new));
    assert_eq!(other.unwrap_err().cause.kind(), io::ErrorKind::AddrInUse);

    drop(port.stop_listening());
    assert_eq!(*journal.borrow(), ["start", "stop"]);
    for address in &addresses[..2] {
        assert!(memory.connect_to(address).is_err());
    }
}

#[test]
fn a_port_that_cannot_have_all_addresses_has_none() {
    let memory = MemoryReactor::new();
    let addresses = parse(["127.0.0.1:80", "[::1]:80"]);
    let _taken = memory
        .listen_tcp(addresses[1], Scripts::new(Script::new))
        .unwrap();
    let error = memory
        .listen_tcp(
            &addresses[..],
            Scripts::new(Script::new).start(|| unreachable!()),
        )
        .unwrap_err();
    assert!(
        error.cause.to_string().starts_with("[::1]:80: "),
        "{error:?}"
    );
    assert!(memory.connect_to(addresses[0]).is_err());
}

#[test]
fn a_free_port_is_the_same_at_each_address() {
    let memory = MemoryReactor::new();
    let addresses = parse(["127.0.0.1:0", "[::1]:0"]);
    // The first of the free ones is taken at the second address.
    let first = memory
        .listen_tcp(addresses[1], Scripts::new(Script::new))
        .unwrap();
    let port = memory
        .listen_tcp(&addresses[..], Scripts::new(Script::new))
        .unwrap();
    let [one, other] = bound(&port)[..] else {
        panic!("{port:?}")
    };
    assert_eq!(one.port(), other.port());
    assert_ne!(Some(one.port()), first.address().port());
}

#[test]
#[cfg(target_os = "linux")]
fn a_port_is_open_at_each_address_of_the_system() {
    let reactor = Reactor::new().unwrap();
    let addresses = parse(["127.0.0.1:0", "127.0.0.2:0"]);
    let port = reactor
        .listen_tcp(&addresses[..], Scripts::new(Script::new))
        .unwrap();
    let all = bound(&port);
    assert_eq!(all.len(), 2);
    for address in &all {
        assert_eq!(address.port(), all[0].port());
        drop(TcpStream::connect(address).unwrap());
        assert!(TcpListener::bind(address).is_err());
    }
    drop(port.stop_listening());
    // A taken one among them.
    let _taken = TcpListener::bind(all[1]).unwrap();
    let error = reactor
        .listen_tcp(&all[..], Scripts::new(Script::new))
        .unwrap_err();
    assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
    drop(TcpListener::bind(all[0]).unwrap());
}

/// The wildcards of both families, one of which takes the other on most systems.
#[test]
fn both_families_can_be_listened_to_as_a_whole() {
    let addresses = parse(["0.0.0.0:0", "[::]:0"]);
    let memory = MemoryReactor::new();
    let port = memory
        .listen_tcp(&addresses[..], Scripts::new(Script::new))
        .unwrap();
    assert_eq!(bound(&port).len(), 2);
    let reactor = Reactor::new().unwrap();
    let port = reactor
        .listen_tcp(&addresses[..], Scripts::new(Script::new))
        .unwrap();
    let number = bound(&port)[0].port();
    drop(TcpStream::connect(("127.0.0.1", number)).unwrap());
    if bound(&port).len() == 2 {
        assert_eq!(bound(&port)[1].port(), number);
        drop(TcpStream::connect(("::1", number)).unwrap());
    }
}

/// As `::1` is, where there is no IPv6.
#[test]
fn addresses_that_this_machine_does_not_have_are_left_out() {
    let reactor = Reactor::new().unwrap();
    let addresses = parse(["192.0.2.1:0", "127.0.0.1:0"]);
    let port = reactor
        .listen_tcp(&addresses[..], Scripts::new(Script::new))
        .unwrap();
    assert_eq!(bound(&port).len(), 1);
    let error = reactor
        .listen_tcp(&addresses[..1], Scripts::new(Script::new))
        .unwrap_err();
    assert_eq!(error.cause.kind(), io::ErrorKind::AddrNotAvailable);
    let none: [SocketAddr; 0] = [];
    let error = reactor
        .listen_tcp(&none[..], Scripts::new(Script::new))
        .unwrap_err();
    assert_eq!(error.cause.to_string(), "the name has no addresses");
}

#[test]
#[cfg(target_os = "linux")]
fn workers_share_each_address() {
    run_workers(2, |reactor, worker| {
        let addresses = parse(["127.0.0.1:0", "127.0.0.2:0"]);
        let port = worker.listen_tcp(&addresses[..], Scripts::new(Script::new))?;
        let all = bound(&port);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].port(), all[1].port());
        assert!(
            worker
                .listen_tcp(&all[..], Scripts::new(Script::new))
                .is_err()
        );
        let stop = reactor.clone();
        reactor.call_when_running(move || stop.stop().unwrap());
        Ok(())
    })
    .unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_udp_port_has_one_address() {
    struct Deaf;
    impl DatagramProtocol for Deaf {
        fn datagram_received(
            &mut self,
            _: &UdpTransport,
            _: &[u8],
            _: SocketAddr,
        ) -> Result<(), Failure> {
            Ok(())
        }
    }
    let reactor = Reactor::new().unwrap();
    let addresses = parse(["127.0.0.1:0", "127.0.0.2:0"]);
    let error = reactor.listen_udp(&addresses[..], Deaf).unwrap_err();
    assert_eq!(
        error.cause.to_string(),
        "the name has the addresses 127.0.0.1 and 127.0.0.2, but a UDP port has only one: \
         pass one of these"
    );
    let taken = UdpSocket::bind("127.0.0.2:0").unwrap();
    let number = taken.local_addr().unwrap().port();
    let both = addresses.map(|address| SocketAddr::new(address.ip(), number));
    assert!(reactor.listen_udp(&both[..], Deaf).is_err());
}
