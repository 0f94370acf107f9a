//! Clients and their servers in one process, without sockets and without waiting.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod factories;
mod peers;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use deferred_reactor::Failure;
use deferred_reactor::net::{
    ConnectorState, DatagramProtocol, ReconnectingClientFactory, UdpTransport, for_protocol,
};
use deferred_reactor::testing::MemoryReactor;

use factories::Client;
use peers::{Script, Scripts, journal, kind, note};

const SECOND: Duration = Duration::from_secs(1);

/// B-15, R-26.
#[test]
fn a_client_connects_to_a_port_of_the_same_memory() {
    for seed in 0..20 {
        let (memory, calls) = (MemoryReactor::with_seed(seed), journal());
        let (_, address) = peers::listen(memory.reactor(), Scripts::new(Script::echo));
        let seen = calls.clone();
        let client = for_protocol(move || {
            let [data, lost] = [(); 2].map(|()| seen.clone());
            let mut received = Vec::new();
            Script::new()
                .made(|transport| {
                    transport.write(b"hello");
                    Ok(())
                })
                .data(move |transport, bytes| {
                    received.extend_from_slice(bytes);
                    if received == b"hello" {
                        note(&data, "answered");
                        transport.lose_connection();
                    }
                    Ok(())
                })
                .lost(move |reason| note(&lost, kind(reason)))
        });
        let connector = memory.reactor().connect_tcp(address.to_string(), client);
        memory.pump();
        assert_eq!(calls.take(), ["answered", "done"], "seed {seed}");
        assert_eq!(connector.state(), ConnectorState::Disconnected);
    }
}

/// B-15, R-28: the delays of an hour take no time.
#[test]
fn a_client_comes_back_when_its_server_does() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let made = calls.clone();
    let client = for_protocol(move || {
        let made = made.clone();
        Script::new().made(move |_| {
            note(&made, "connected");
            Ok(())
        })
    });
    let factory = ReconnectingClientFactory::new(client);
    memory.reactor().connect_tcp("127.0.0.1:80", factory);
    memory.advance(3600 * SECOND);
    assert_eq!(calls.take(), [""; 0]);
    let echo = Scripts::new(Script::echo);
    memory.listen_tcp("127.0.0.1:80", echo).unwrap();
    memory.advance(75 * SECOND);
    assert_eq!(calls.take(), ["connected"], "at the next try");
}

/// B-15, R-27.
#[test]
fn a_client_is_refused_where_nobody_listens() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let client = Client::none().noting(&calls);
    memory.reactor().connect_tcp("127.0.0.1:81", client);
    memory.pump();
    let calls = calls.take();
    assert_eq!(calls, ["start", "connecting", "failed: refused", "stop"]);
}

/// B-15: and leaves no file and no descriptor behind.
#[test]
#[cfg(unix)]
fn there_are_no_unix_sockets_and_no_datagrams_in_memory() {
    let memory = MemoryReactor::new();
    let path = std::env::temp_dir().join(format!("in-memory-{}", std::process::id()));
    let echo = Scripts::new(Script::echo);
    let error = memory
        .reactor()
        .listen_unix(path.clone(), echo)
        .unwrap_err();
    assert_eq!(error.cause.kind(), ErrorKind::Unsupported);
    assert!(!path.exists());
    struct Quiet;
    impl DatagramProtocol for Quiet {
        fn datagram_received(
            &mut self,
            _: &UdpTransport,
            _: &[u8],
            _: SocketAddr,
        ) -> Result<(), Failure> {
            Ok(())
        }
    }
    let error = memory
        .reactor()
        .listen_udp("127.0.0.1:0", Quiet)
        .unwrap_err();
    assert_eq!(error.cause.kind(), ErrorKind::Unsupported);
}
