//! TCP clients: what a factory is told of connecting and of the end, and how a connector is told
//! what to do.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod factories;
mod peers;

use std::cell::RefCell;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{
    Address, ClientFactory, ConnectError, ConnectionDone, ConnectionRefusedError, Connector,
    ConnectorError, ConnectorState, Factory, LookupError, Protocol, TcpClientEndpoint, Transport,
    for_protocol,
};
use deferred_reactor::{
    CancelledError, Deferred, Failure, NoLostFailures, PanicError, Phase, Reactor, Resolver,
    SystemEvent, TimeoutError,
};

use factories::{Busy, Client, add_one, closed_port, counter, stop, why};
use peers::{Journal, Script, Scripts, journal, kind, listen, note, run};

const LONG: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(1);

/// Runs one client to its end; what its factory was told, and the last reason as text.
fn outcome(
    reactor: &Reactor,
    endpoint: impl Into<TcpClientEndpoint>,
    client: Client,
) -> (Vec<String>, String) {
    let told = client.journal.clone();
    let text = Rc::new(RefCell::new(String::new()));
    let (here, end) = (text.clone(), reactor.clone());
    let client = client.failed(move |_, reason| {
        *here.borrow_mut() = reason.to_string();
        stop(&end);
    });
    reactor.connect_tcp(endpoint, client);
    run(reactor);
    let text = text.take();
    (told.take(), text)
}

/// A server that greets, and closes.
fn greeter(reactor: &Reactor) -> SocketAddr {
    let factory = Scripts::new(|| {
        Script::new().made(|transport| {
            transport.write(b"hello");
            transport.lose_connection();
            Ok(())
        })
    });
    listen(reactor, factory).1
}

///
#[test]
fn a_closed_port_refuses_and_then_the_factory_is_stopped() {
    let reactor = Reactor::new().unwrap();
    let (_socket, address) = closed_port();
    let (told, text) = outcome(&reactor, address, Client::none());
    assert_eq!(told, ["start", "connecting", "failed: refused", "stop"]);
    let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    assert!(
        text.starts_with(&format!("connection to {address} refused (")),
        "{text}"
    );
    assert!(text.to_lowercase().contains(&cause.to_string()), "{text}");
}

/// and the protocol learns both ends.
#[test]
fn a_connection_is_made_after_started_connecting_and_ends_with_connection_lost() {
    let (reactor, told) = (Reactor::new().unwrap(), journal());
    let address = greeter(&reactor);
    let script = told.clone();
    let client = Client::for_peer(move |peer| {
        assert_eq!(*peer, Address::Tcp(address));
        let (made, data, lost) = (script.clone(), script.clone(), script.clone());
        let script = Script::new()
            .made(move |transport| {
                assert_eq!(transport.peer(), Some(Address::Tcp(address)));
                let host = transport.host().unwrap().socket_addr().unwrap();
                assert_eq!((host.ip(), host == address), (address.ip(), false));
                note(&made, "made");
                Ok(())
            })
            .data(move |_, bytes| {
                note(&data, String::from_utf8_lossy(bytes));
                Ok(())
            })
            .lost(move |reason| note(&lost, kind(reason)));
        Some(script)
    });
    reactor.connect_tcp(address, client.noting(&told).then_stop(&reactor));
    assert_eq!(*told.borrow(), ["start", "connecting"]);
    run(&reactor);
    let want = [
        "start",
        "connecting",
        "build",
        "made",
        "hello",
        "done",
        "lost: done",
        "stop",
    ];
    assert_eq!(*told.borrow(), want);
}

///
#[test]
fn a_reset_is_a_lost_connection_for_a_client_too() {
    let reactor = Reactor::new().unwrap();
    let factory = Scripts::new(|| {
        Script::new().data(|transport, _| {
            transport.abort_connection();
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    let client = Client::new(|| {
        Script::new().made(|transport| {
            transport.write(b"x");
            Ok(())
        })
    });
    let told = client.journal.clone();
    reactor.connect_tcp(address, client.then_stop(&reactor));
    run(&reactor);
    assert_eq!(told.borrow()[3..], ["lost: lost", "stop"]);
}

/// also from inside `client_connection_lost`.
#[test]
fn writing_to_a_lost_client_connection_is_ignored() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    let kept = Rc::new(RefCell::new(None::<Transport>));
    let (keep, seen, end) = (kept.clone(), kept.clone(), reactor.clone());
    let client = Client::new(move || {
        let keep = keep.clone();
        Script::new().made(move |transport| {
            keep.replace(Some(transport.clone()));
            Ok(())
        })
    });
    let client = client.lost(move |connector, _| {
        let transport = seen.borrow().clone().unwrap();
        transport.write(b"x");
        assert_eq!((transport.buffered(), transport.is_connected()), (0, false));
        assert!(connector.transport().is_none());
        stop(&end);
    });
    reactor.connect_tcp(address, client);
    run(&reactor);
    kept.borrow().as_ref().unwrap().write(b"x");
}

///
#[test]
fn a_client_that_pauses_is_given_nothing_until_it_resumes() {
    let (reactor, told) = (Reactor::new().unwrap(), journal());
    let address = greeter(&reactor);
    let (here, notes) = (reactor.clone(), told.clone());
    let client = Client::new(move || {
        let (here, notes, data) = (here.clone(), notes.clone(), notes.clone());
        Script::new()
            .made(move |transport| {
                transport.pause_producing();
                // What is there has been seen by the time that a second connection has ended.
                let (transport, notes) = (transport.clone(), notes.clone());
                let second = Client::new(Script::new).lost(move |_, _| {
                    note(&notes, "resume");
                    transport.resume_producing();
                });
                here.connect_tcp(address, second);
                Ok(())
            })
            .data(move |_, bytes| {
                note(&data, String::from_utf8_lossy(bytes));
                Ok(())
            })
    });
    reactor.connect_tcp(address, client.then_stop(&reactor));
    run(&reactor);
    assert_eq!(*told.borrow(), ["resume", "hello"]);
}

/// the limit is for all that connecting takes.
#[test]
fn a_peer_that_does_not_answer_is_a_timeout() {
    let reactor = Reactor::new().unwrap();
    let busy = Busy::new();
    let endpoint = TcpClientEndpoint::new(busy.address).timeout(Duration::from_millis(20));
    let (told, text) = outcome(&reactor, endpoint, Client::none());
    assert_eq!(told, ["start", "connecting", "failed: timeout", "stop"]);
    assert_eq!(
        text,
        format!("no connection to {} within 20ms", busy.address)
    );
    assert!(reactor.delayed_calls().is_empty());
}

///
#[test]
fn the_limit_is_thirty_seconds_unless_set() {
    let reactor = Reactor::new().unwrap();
    let before = std::time::Instant::now();
    let connector = reactor.connect_tcp("192.0.2.1:80", Client::none().failed(|_, _| {}));
    let after = std::time::Instant::now();
    let [call] = reactor.delayed_calls().try_into().unwrap();
    let limit = Duration::from_secs(30);
    assert!((before + limit..=after + limit).contains(&call.time().unwrap()));
    connector.stop_connecting().unwrap();
    assert!(!call.is_active());
}

///
#[test]
fn a_name_is_looked_up_by_the_system_in_a_thread() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    let client = Client::new(Script::new).then_stop(&reactor);
    let told = client.journal.clone();
    // It has an IPv6 address, too, perhaps, where nobody listens.
    let connector = reactor.connect_tcp(("localhost", address.port()), client);
    assert_eq!(connector.address(), format!("localhost:{}", address.port()));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["build", "lost: done", "stop"]);
}

///
#[test]
fn what_cannot_be_looked_up_is_a_lookup_error() {
    let reactor = Reactor::new().unwrap();
    reactor.install_name_resolver(|name, _| match name {
        "none" => Deferred::succeed(Vec::new()),
        "panics" => panic!("out of names"),
        "abandoned" => Deferred::pending().0,
        _ => Deferred::fail(Failure::message("never heard of it")),
    });
    for (address, want) in [
        ("none:80", "\"none\": it has no addresses"),
        ("unknown:80", "\"unknown\": never heard of it"),
        ("panics:80", "\"panics\": panicked: out of names"),
        ("abandoned:80", "was dropped without firing it"),
        ("[fe80::1%eth0]:80", "\"fe80::1%eth0\": never heard of it"),
        (
            "example.org",
            "\"example.org\" is no endpoint: write \"host:port\"",
        ),
        ("example.org:http", "is no endpoint: write"),
        ("::1:80", "is no endpoint: write"),
    ] {
        let (told, text) = outcome(&reactor, address, Client::none());
        assert_eq!(
            told,
            ["start", "connecting", "failed: lookup", "stop"],
            "{address}"
        );
        assert!(text.contains(want), "{text}");
    }
}

/// by the system, that is; without asking anybody, as no name has a NUL in it.
#[test]
fn an_error_of_the_system_s_lookup_is_a_lookup_error() {
    let reactor = Reactor::new().unwrap();
    let (told, _) = outcome(&reactor, ("no\0name", 80), Client::none());
    assert_eq!(told, ["start", "connecting", "failed: lookup", "stop"]);
}

///
#[test]
fn a_lookup_that_takes_too_long_is_cancelled_and_a_timeout() {
    let reactor = Reactor::new().unwrap();
    let cancelled = counter();
    let (count, held) = (cancelled.clone(), RefCell::new(Vec::new()));
    reactor.install_name_resolver(move |_, _| {
        let count = count.clone();
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            add_one(&count);
        });
        held.borrow_mut().push(resolver);
        deferred
    });
    let endpoint = TcpClientEndpoint::new("example.org:80").timeout(SOON);
    let (told, text) = outcome(&reactor, endpoint, Client::none());
    assert_eq!(told, ["start", "connecting", "failed: timeout", "stop"]);
    assert_eq!(text, "no connection to example.org:80 within 1ms");
    assert_eq!(cancelled.get(), 1);
}

/// Names that an installed resolver knows.
fn install_names(reactor: &Reactor, addresses: Vec<SocketAddr>) {
    reactor.install_name_resolver(move |_, _| Deferred::succeed(addresses.clone()));
}

/// RFC 8305. Were it not at once, it would be an hour later.
#[test]
fn an_address_that_fails_is_followed_by_the_next_at_once() {
    let reactor = Reactor::new().unwrap();
    let server = greeter(&reactor);
    let closed: SocketAddr = ([0, 0, 0, 0, 0, 0, 0, 1], server.port()).into();
    let (_socket, refusing) = closed_port();
    install_names(&reactor, vec![closed, refusing, server]);
    let client = Client::for_peer(move |peer| {
        assert_eq!(*peer, Address::Tcp(server));
        Some(Script::new())
    });
    let told = client.journal.clone();
    let endpoint = TcpClientEndpoint::new("server:80").attempt_delay(LONG);
    reactor.connect_tcp(endpoint, client.then_stop(&reactor));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["build", "lost: done", "stop"]);
}

/// RFC 8305. One family may not work at all.
#[test]
fn addresses_of_the_two_families_are_tried_in_turn() {
    let reactor = Reactor::new().unwrap();
    let (_socket, closed) = closed_port();
    let [second, third]: [SocketAddr; 2] =
        ["255.255.255.255:1", "255.255.255.255:2"].map(|address| address.parse().unwrap());
    let other: SocketAddr = ([0, 0, 0, 0, 0, 0, 0, 1], closed.port()).into();
    install_names(&reactor, vec![closed, second, third, other]);
    let order = Rc::new(RefCell::new(Vec::new()));
    let (tried, end) = (order.clone(), reactor.clone());
    let client = Client::none().failed(move |_, reason| {
        let error = reason.check::<ConnectionRefusedError>().unwrap();
        tried.replace(
            error
                .attempts
                .iter()
                .map(|one| one.address.clone())
                .collect(),
        );
        stop(&end);
    });
    reactor.connect_tcp("server:80", client);
    run(&reactor);
    assert_eq!(
        *order.borrow(),
        [closed, other, second, third].map(Address::Tcp)
    );
}

/// The event that tells of the connection may be the only one for what came with it.
#[test]
fn what_the_server_says_at_once_is_not_missed() {
    let (reactor, told) = (Reactor::new().unwrap(), journal());
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let notes = told.clone();
    let client = Client::new(move || {
        let notes = notes.clone();
        Script::new().data(move |_, data| {
            note(&notes, String::from_utf8_lossy(data));
            Ok(())
        })
    });
    reactor.connect_tcp(address, client.then_stop(&reactor));
    // This runs after connecting has begun, and before the loop asks what came of it.
    reactor.install_name_resolver(move |_, _| {
        let (mut peer, _) = server.accept().unwrap();
        peer.write_all(b"hello").unwrap();
        Deferred::pending().0
    });
    reactor.connect_tcp("trigger:80", Client::none());
    run(&reactor);
    assert_eq!(*told.borrow(), ["hello"]);
}

/// RFC 8305. The first is not given up, and has no part in what follows.
#[test]
fn an_address_that_does_not_answer_is_followed_by_the_next_after_a_while() {
    let reactor = Reactor::new().unwrap();
    let (busy, server) = (Busy::new(), greeter(&reactor));
    install_names(&reactor, vec![busy.address, server]);
    let client = Client::for_peer(move |peer| {
        assert_eq!(*peer, Address::Tcp(server));
        Some(Script::new())
    });
    let told = client.journal.clone();
    let endpoint = TcpClientEndpoint::new("server:80").attempt_delay(SOON);
    let before = format!("{reactor:?}");
    reactor.connect_tcp(endpoint, client.then_stop(&reactor));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["build", "lost: done", "stop"]);
    assert!(before.contains("sockets: 1") && format!("{reactor:?}").contains("sockets: 0"));
}

/// one of them was there, and did not want it.
#[test]
fn when_all_addresses_fail_the_error_tells_each() {
    let reactor = Reactor::new().unwrap();
    let (_socket, address) = closed_port();
    // Nobody is there, and a system without IPv6 has not even the address.
    let other: SocketAddr = ([0, 0, 0, 0, 0, 0, 0, 1], address.port()).into();
    let nowhere: SocketAddr = "255.255.255.255:1".parse().unwrap();
    install_names(&reactor, vec![other, address, nowhere]);
    let client = Client::none().failed({
        let end = reactor.clone();
        move |_, reason| {
            let error = reason.check::<ConnectionRefusedError>().unwrap();
            let tried = error.attempts.iter().map(|attempt| attempt.address.clone());
            let want = [other, address, nowhere].map(Address::Tcp);
            assert_eq!(tried.collect::<Vec<_>>(), want);
            assert_eq!(error.address, "server:80");
            let text = reason.to_string();
            assert!(text.contains(&format!("{address}: ")), "{text}");
            assert!(text.contains(&format!("{nowhere}: ")), "{text}");
            stop(&end);
        }
    });
    let told = client.journal.clone();
    reactor.connect_tcp("server:80", client);
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["failed: refused", "stop"]);
    assert!(peers::errors_logged_here().is_empty());
    // None of them was there.
    install_names(&reactor, vec![nowhere]);
    let (told, text) = outcome(&reactor, "server:80", Client::none());
    assert_eq!(told[2..], ["failed: cannot", "stop"]);
    let begin = format!("cannot connect to server:80 ({nowhere}: ");
    assert!(text.starts_with(&begin), "{text}");
}

/// what is known of the others is told with the timeout.
#[test]
fn a_timeout_tells_which_addresses_had_failed() {
    let reactor = Reactor::new().unwrap();
    let (busy, (_socket, refusing)) = (Busy::new(), closed_port());
    install_names(&reactor, vec![refusing, busy.address]);
    let endpoint = TcpClientEndpoint::new("server:80").timeout(Duration::from_millis(50));
    let (told, text) = outcome(&reactor, endpoint, Client::none());
    assert_eq!(told[2..], ["failed: timeout", "stop"]);
    assert!(text.contains(&format!("({refusing}: ")), "{text}");
    assert!(text.ends_with(") within 50ms"), "{text}");
}

/// The option of Twisted's `connectTCP`.
#[test]
fn a_client_can_connect_from_a_chosen_address() {
    let reactor = Reactor::new().unwrap();
    let (seen, server) = (journal(), reactor.clone());
    let peer = seen.clone();
    let factory = Scripts::for_peer(move |address| {
        note(&peer, address.socket_addr().unwrap().ip().to_string());
        None
    });
    let (_, address) = listen(&server, factory);
    let from: IpAddr = "127.11.12.13".parse().unwrap();
    let endpoint = TcpClientEndpoint::new(address).bind_address(from);
    let client = Client::new(Script::new).then_stop(&reactor);
    reactor.connect_tcp(endpoint, client);
    run(&reactor);
    assert_eq!(*seen.borrow(), ["127.11.12.13"]);
    // It is refused as well as any other.
    let (_socket, closed) = closed_port();
    let endpoint = TcpClientEndpoint::new(closed).bind_address(from);
    let (told, _) = outcome(&reactor, endpoint, Client::none());
    assert_eq!(told[2..], ["failed: refused", "stop"]);
    let foreign: IpAddr = "192.0.2.1".parse().unwrap();
    let endpoint = TcpClientEndpoint::new(address).bind_address(foreign);
    let (told, _) = outcome(&reactor, endpoint, Client::none());
    assert_eq!(told[2..], ["failed: cannot", "stop"]);
}

/// not inside the call, but before anything is connected.
#[test]
fn connecting_can_be_stopped_from_started_connecting() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    let client = Client::none().started(|connector| {
        connector.stop_connecting().unwrap();
        let again = connector.stop_connecting();
        assert_eq!(again, Err(ConnectorError::NotConnecting));
        assert_eq!(connector.state(), ConnectorState::Connecting);
        assert_eq!(connector.connect(), Err(ConnectorError::AlreadyConnecting));
    });
    let (told, text) = outcome(&reactor, address, client);
    assert_eq!(told, ["start", "connecting", "failed: user", "stop"]);
    assert_eq!(
        text,
        format!("connecting to {address} was stopped by its user")
    );
}

/// in whatever it waits for, and with either call.
#[test]
fn connecting_can_be_stopped_while_it_waits_for_a_peer_or_a_name() {
    let busy = Busy::new();
    let calls: [fn(&Connector); 2] = [
        |connector| connector.stop_connecting().unwrap(),
        Connector::disconnect,
    ];
    for call in calls {
        for address in [busy.address.to_string(), "example.org:80".to_owned()] {
            let reactor = Reactor::new().unwrap();
            let held = RefCell::new(Vec::new());
            reactor.install_name_resolver(move |_, _| {
                let (deferred, resolver) = Deferred::pending();
                held.borrow_mut().push(resolver);
                deferred
            });
            let client = Client::none().then_stop(&reactor);
            let told = client.journal.clone();
            let connector = reactor.connect_tcp(address, client);
            let here = told.clone();
            // Two turns later: it has begun by then.
            let timers = reactor.clone();
            reactor.call_later(Duration::ZERO, move || {
                timers.call_later(Duration::ZERO, move || {
                    call(&connector);
                    note(&here, "called");
                });
            });
            run(&reactor);
            let want = ["start", "connecting", "called", "failed: user", "stop"];
            assert_eq!(*told.borrow(), want);
            assert!(reactor.delayed_calls().is_empty());
        }
    }
}

/// a lookup that ends after that is for nobody.
#[test]
fn connecting_can_be_stopped_from_inside_the_lookup() {
    let reactor = Reactor::new().unwrap();
    let server = greeter(&reactor);
    let connector = Rc::new(RefCell::new(None::<Connector>));
    let to_stop = connector.clone();
    reactor.install_name_resolver(move |_, _| {
        to_stop
            .borrow()
            .as_ref()
            .unwrap()
            .stop_connecting()
            .unwrap();
        Deferred::succeed(vec![server])
    });
    let client = Client::none().then_stop(&reactor);
    let told = client.journal.clone();
    let started = reactor.connect_tcp("server:80", client);
    connector.replace(Some(started));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["failed: user", "stop"]);
}

///
#[test]
fn a_connector_that_is_not_connecting_has_nothing_to_stop() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    // Without a reactor in the factory, as the connector keeps that.
    let client = Client::new(Script::new).lost(|connector, _| {
        let stopped = connector.stop_connecting();
        assert_eq!(stopped, Err(ConnectorError::NotConnecting));
        connector.disconnect();
        stop(&connector.reactor().unwrap());
    });
    let connector = reactor.connect_tcp(address, client);
    run(&reactor);
    assert_eq!(connector.state(), ConnectorState::Disconnected);
    drop(reactor);
    assert_eq!(
        connector.stop_connecting(),
        Err(ConnectorError::ReactorGone)
    );
    assert_eq!(connector.connect(), Err(ConnectorError::ReactorGone));
    connector.disconnect();
    assert!(connector.reactor().is_none());
}

/// Twisted's `disconnect`, with a connection; what was written still arrives.
#[test]
fn disconnecting_closes_the_connection_once_everything_is_sent() {
    let (reactor, received) = (Reactor::new().unwrap(), journal());
    let (here, server) = (received.clone(), reactor.clone());
    let factory = Scripts::new(move || {
        let (here, server) = (here.clone(), server.clone());
        Script::new()
            .data(move |_, data| {
                note(&here, String::from_utf8_lossy(data));
                Ok(())
            })
            .lost(move |_| stop(&server))
    });
    let (_, address) = listen(&reactor, factory);
    let connector = Rc::new(RefCell::new(None::<Connector>));
    let to_stop = connector.clone();
    let client = Client::new(move || {
        let connector = to_stop.borrow().clone().unwrap();
        assert_eq!(connector.state(), ConnectorState::Connected);
        assert!(connector.transport().is_none());
        assert_eq!(connector.connect(), Err(ConnectorError::AlreadyConnected));
        Script::new().made(move |_| {
            connector.transport().unwrap().write(b"bye");
            connector.disconnect();
            Ok(())
        })
    });
    let told = client.journal.clone();
    let started = reactor.connect_tcp(address, client);
    connector.replace(Some(started));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["build", "lost: done", "stop"]);
    assert_eq!(*received.borrow(), ["bye"]);
    connector.replace(None);
}

/// the connection is there by then, so it is one that is lost.
#[test]
fn disconnecting_while_the_protocol_is_built_closes_the_connection() {
    let reactor = Reactor::new().unwrap();
    let (_, address) = listen(&reactor, Scripts::new(Script::echo));
    let connector = Rc::new(RefCell::new(None::<Connector>));
    let to_stop = connector.clone();
    let made = counter();
    let times = made.clone();
    let client = Client::new(move || {
        let connector = to_stop.take().unwrap();
        let stopped = connector.stop_connecting();
        assert_eq!(stopped, Err(ConnectorError::NotConnecting));
        connector.disconnect();
        let times = times.clone();
        Script::new().made(move |_| {
            add_one(&times);
            Ok(())
        })
    });
    let told = client.journal.clone();
    let started = reactor.connect_tcp(address, client.then_stop(&reactor));
    connector.replace(Some(started));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["build", "lost: done", "stop"]);
    assert_eq!(made.get(), 1);
}

/// once from inside, then once from outside.
#[test]
fn a_lost_client_can_connect_again_and_hears_of_the_protocol_first() {
    let (reactor, told) = (Reactor::new().unwrap(), journal());
    let address = greeter(&reactor);
    let (script, losses, end) = (told.clone(), counter(), reactor.clone());
    let client = Client::new(move || {
        let script = script.clone();
        Script::new().lost(move |_| note(&script, "protocol"))
    });
    let client = client.lost(move |connector, _| match add_one(&losses) {
        1 => {
            connector.connect().unwrap();
            assert_eq!(connector.connect(), Err(ConnectorError::AlreadyConnecting));
        }
        2 => {
            let connector = connector.clone();
            end.call_later(Duration::ZERO, move || connector.connect().unwrap());
        }
        _ => stop(&end),
    });
    reactor.connect_tcp(address, client.noting(&told));
    run(&reactor);
    let once = ["connecting", "build", "protocol", "lost: done"];
    let want = [
        &["start"],
        &once[..],
        &once,
        &["stop", "start"],
        &once,
        &["stop"],
    ];
    assert_eq!(*told.borrow(), want.concat());
}

/// it is still the same factory that goes on.
#[test]
fn a_client_that_failed_can_connect_again() {
    let reactor = Reactor::new().unwrap();
    let (_socket, address) = closed_port();
    let (failures, end) = (counter(), reactor.clone());
    let client = Client::none().failed(move |connector, _| match add_one(&failures) {
        3 => stop(&end),
        _ => connector.connect().unwrap(),
    });
    let told = client.journal.clone();
    reactor.connect_tcp(address, client);
    run(&reactor);
    let once = ["connecting", "failed: refused"];
    let want = [&["start"], &once[..], &once, &once, &["stop"]];
    assert_eq!(*told.borrow(), want.concat());
}

/// as long as any of them is connecting or connected, or a port is open.
#[test]
fn a_factory_of_several_connectors_is_started_and_stopped_once() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    let (_socket, closed) = closed_port();
    let (ends, end) = (counter(), reactor.clone());
    let count = move || {
        if add_one(&ends) == 4 {
            end.call_later(Duration::ZERO, {
                let end = end.clone();
                move || stop(&end)
            });
        }
    };
    let (one, other) = (count.clone(), count);
    let client = Client::new(Script::new)
        .failed(move |_, _| one())
        .lost(move |_, _| other());
    let (told, client) = (client.journal.clone(), Rc::new(client));
    let (port, _) = listen(&reactor, client.clone());
    for address in [address, closed, address, closed] {
        reactor.connect_tcp(address, client.clone());
    }
    assert_eq!(Rc::strong_count(&client), 6);
    port.stop_listening();
    run(&reactor);
    let told = told.take();
    let positions = |what: &str| {
        let all = told.iter().enumerate().filter(|(_, told)| *told == what);
        all.map(|(position, _)| position).collect::<Vec<_>>()
    };
    assert_eq!(positions("start"), [0]);
    assert_eq!(positions("stop"), [told.len() - 1]);
    assert_eq!(Rc::strong_count(&client), 1, "nothing keeps it");
}

/// As with Twisted.
#[test]
fn dropping_the_connector_leaves_everything_as_it_is() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    install_names(&reactor, vec![address]);
    let client = Client::new(Script::new).then_stop(&reactor);
    let told = client.journal.clone();
    drop(reactor.connect_tcp("server:80", client));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["build", "lost: done", "stop"]);
}

/// in whatever it waits for.
#[test]
fn a_reactor_that_stops_tells_those_who_are_connecting() {
    let reactor = Reactor::new().unwrap();
    let busy = Busy::new();
    let cancelled = counter();
    let (count, held) = (cancelled.clone(), RefCell::new(Vec::<Resolver<_>>::new()));
    reactor.install_name_resolver(move |_, _| {
        let count = count.clone();
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            add_one(&count);
        });
        held.borrow_mut().push(resolver);
        deferred
    });
    let told = [journal(), journal(), journal(), journal()];
    let text = Rc::new(RefCell::new(String::new()));
    let see = text.clone();
    let client = Client::none().failed(move |_, reason| drop(see.replace(reason.to_string())));
    reactor.connect_tcp("example.org:80", client.noting(&told[0]));
    reactor.connect_tcp(busy.address, Client::none().noting(&told[1]));
    let stopped = Client::none().noting(&told[2]);
    let stopped = reactor.connect_tcp("example.org:80", stopped);
    let (end, last) = (reactor.clone(), Client::none().noting(&told[3]));
    reactor.call_later(Duration::ZERO, {
        let end = end.clone();
        move || {
            end.clone().call_later(Duration::ZERO, move || {
                stopped.stop_connecting().unwrap();
                // This one does not even begin.
                end.connect_tcp(busy.address, last);
                stop(&end);
            });
        }
    });
    run(&reactor);
    for (told, want) in told.iter().zip(["stopped", "stopped", "user", "stopped"]) {
        let want = ["start", "connecting", &format!("failed: {want}"), "stop"];
        assert_eq!(*told.borrow(), want);
    }
    assert_eq!(
        *text.borrow(),
        "cannot connect to example.org:80: the reactor stopped"
    );
    assert_eq!(cancelled.get(), 2);
    assert!(reactor.delayed_calls().is_empty());
}

/// there may be something new at the end, but not for ever.
#[test]
fn a_client_that_always_connects_again_cannot_keep_a_reactor_from_stopping() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    let (failures, losses, end) = (counter(), counter(), reactor.clone());
    let (failed, lost) = (failures.clone(), losses.clone());
    let client = Client::new(move || {
        let end = end.clone();
        Script::new().made(move |_| {
            stop(&end);
            Ok(())
        })
    });
    let client = client
        .failed(move |connector, reason| {
            assert_eq!(why(reason), "stopped");
            add_one(&failed);
            connector.connect().unwrap();
        })
        .lost(move |connector, _| {
            add_one(&lost);
            connector.connect().unwrap();
        });
    let told = client.journal.clone();
    let connector = reactor.connect_tcp(address, client);
    run(&reactor);
    assert_eq!(losses.get(), 1);
    assert!((1..10).contains(&failures.get()));
    assert_eq!(told.borrow().last().unwrap(), "stop");
    assert_eq!(connector.state(), ConnectorState::Disconnected);
    assert_eq!(peers::times_logged("gave up connecting to"), 1);
    // It is as good as a new one.
    assert_eq!(connector.connect(), Ok(()));
    assert_eq!(told.borrow().last().unwrap(), "connecting");
}

/// a connector goes on in the next run.
#[test]
fn a_connector_can_be_used_in_a_second_run() {
    let reactor = Reactor::new().unwrap();
    let (_socket, address) = closed_port();
    let client = Client::none().then_stop(&reactor);
    let told = client.journal.clone();
    let connector = reactor.connect_tcp(address, client);
    for _ in 0..3 {
        run(&reactor);
        connector.connect().unwrap();
    }
    let once = ["start", "connecting", "failed: refused", "stop"];
    let want = [&once[..], &once, &once, &["start", "connecting"]].concat();
    assert_eq!(*told.borrow(), want);
}

/// R-30, for a client: Twisted has the connection lost.
#[test]
fn a_connection_that_the_factory_does_not_want_is_closed() {
    let reactor = Reactor::new().unwrap();
    let (ends, lost) = (journal(), journal());
    let notes = ends.clone();
    let factory = Scripts::new(move || {
        let notes = notes.clone();
        Script::new().lost(move |reason| note(&notes, kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    let client = Client::for_peer(|_| None).noting(&lost).then_stop(&reactor);
    let connector = reactor.connect_tcp(address, client);
    run(&reactor);
    assert_eq!(lost.borrow()[2..], ["build", "lost: done", "stop"]);
    assert_eq!(ends.borrow().len(), 1);
    assert!(connector.transport().is_none());
}

/// B-16, R-03.
#[test]
fn a_panic_in_a_factory_stops_nothing_but_itself() {
    struct Panics(Reactor, Journal);
    impl Factory for Panics {
        fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
            panic!("build")
        }
        fn start_factory(&self) {
            panic!("start")
        }
        fn stop_factory(&self) {
            note(&self.1, "stop");
            stop(&self.0);
            panic!("stop")
        }
    }
    impl ClientFactory for Panics {
        fn started_connecting(&self, _: &Connector) {
            panic!("started")
        }
        fn client_connection_failed(&self, _: &Connector, reason: &Failure) {
            assert!(reason.is::<PanicError>());
            note(&self.1, "failed");
            panic!("failed")
        }
        fn client_connection_lost(&self, _: &Connector, _: &Failure) {
            unreachable!("there was no connection")
        }
    }
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    peers::watch_log();
    let told = journal();
    reactor.connect_tcp(address, Panics(reactor.clone(), told.clone()));
    run(&reactor);
    assert_eq!(*told.borrow(), ["failed", "stop"]);
    let errors = peers::errors_logged_here();
    for what in ["start", "started", "build", "failed", "stop"] {
        let want = format!("panicked: {what}");
        assert!(
            errors.iter().any(|error| error.ends_with(&want)),
            "{errors:?}"
        );
    }
}

/// the end comes all the same.
#[test]
fn a_panic_in_a_client_protocol_ends_the_connection_and_the_factory_hears_of_it() {
    let reactor = Reactor::new().unwrap();
    let address = greeter(&reactor);
    let client = Client::new(|| {
        Script::new()
            .made(|_| panic!("made"))
            .lost(|_| panic!("lost"))
    });
    let told = client.journal.clone();
    reactor.connect_tcp(address, client.then_stop(&reactor));
    run(&reactor);
    assert_eq!(told.borrow()[2..], ["build", "lost: panic", "stop"]);
}

/// B-16: a table of the calls, in each of the places.
#[test]
fn a_connector_takes_any_call_in_any_callback() {
    type Call = (&'static str, fn(&Connector));
    let calls: [Call; 7] = [
        ("connect", |connector| {
            let _ = connector.connect();
        }),
        ("stop_connecting", |connector| {
            let _ = connector.stop_connecting();
        }),
        ("disconnect", Connector::disconnect),
        ("state", |connector| drop(format!("{connector:?}"))),
        ("transport", |connector| {
            if let Some(transport) = connector.transport() {
                transport.abort_connection();
            }
        }),
        ("another", |connector| {
            let reactor = connector.reactor().unwrap();
            let address = connector.address().to_owned();
            let other = reactor.connect_tcp(address, Client::new(Script::new));
            other.disconnect();
        }),
        ("stop", |connector| stop(&connector.reactor().unwrap())),
    ];
    for (name, call) in calls {
        for place in [
            "started", "built", "made", "lost", "failed", "protocol", "closed",
        ] {
            let reactor = Reactor::new().unwrap();
            let (_socket, closed) = closed_port();
            let address = match place {
                "failed" => closed,
                _ => greeter(&reactor),
            };
            let connector = Rc::new(RefCell::new(None::<Connector>));
            let calls = counter();
            let act: Rc<dyn Fn(&str)> = {
                let (connector, calls) = (connector.clone(), calls.clone());
                Rc::new(move |here| {
                    if here == place && add_one(&calls) == 1 {
                        let connector = connector.borrow().clone();
                        call(&connector.unwrap());
                    }
                })
            };
            let acts = [(); 5].map(|()| act.clone());
            let [built, closed, started, failed, lost] = acts;
            let client = Client::new(move || {
                built("built");
                let (made, protocol) = (built.clone(), built.clone());
                Script::new()
                    .made(move |_| {
                        made("made");
                        Ok(())
                    })
                    .lost(move |_| protocol("protocol"))
            });
            let (here, ends) = (connector.clone(), reactor.clone());
            let client = client
                .started(move |connector| {
                    here.borrow_mut().get_or_insert_with(|| connector.clone());
                    started("started");
                })
                .failed(move |_, _| failed("failed"))
                .lost(move |_, _| lost("lost"));
            let client = Stopping(client, Box::new(move || closed("closed")), ends);
            reactor.connect_tcp(address, client);
            run(&reactor);
            assert!(calls.get() >= 1, "{name} in {place}");
            let state = connector.borrow().as_ref().unwrap().state();
            assert_eq!(state, ConnectorState::Disconnected, "{name} in {place}");
            connector.take();
        }
    }
    let errors = peers::errors_logged_here();
    assert!(
        errors.iter().all(|e| e.contains("gave up connecting to")),
        "{errors:?}"
    );
}

/// Stops the reactor two turns after the factory was stopped, when whatever was begun there is over
/// or is stopped with it.
struct Stopping(Client, Box<dyn Fn()>, Reactor);

impl Factory for Stopping {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.0.build_protocol(peer)
    }
    fn stop_factory(&self) {
        (self.1)();
        let (one, other) = (self.2.clone(), self.2.clone());
        one.call_later(Duration::ZERO, move || {
            let end = other.clone();
            other.call_later(Duration::ZERO, move || stop(&end));
        });
    }
}

impl ClientFactory for Stopping {
    fn started_connecting(&self, connector: &Connector) {
        self.0.started_connecting(connector);
    }
    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        self.0.client_connection_failed(connector, reason);
    }
    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        self.0.client_connection_lost(connector, reason);
    }
}

/// Law 3: whoever does not care is told in the log.
#[test]
fn a_failure_that_the_factory_does_not_handle_is_logged() {
    struct Nothing;
    impl Protocol for Nothing {
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }
    let reactor = Reactor::new().unwrap();
    let (_socket, address) = closed_port();
    let again = reactor.connect_tcp(address, for_protocol(|| Nothing));
    let end = Client::none().then_stop(&reactor);
    reactor.connect_tcp(address, end);
    run(&reactor);
    assert_eq!(
        peers::times_logged(&format!("connection to {address} refused")),
        1
    );
    assert_eq!(again.state(), ConnectorState::Disconnected);
}

/// a thousand times over.
#[cfg(target_os = "linux")]
#[test]
fn failed_attempts_leave_no_descriptors_behind() {
    let child = peers::Process::start("child_fails_a_thousand_times");
    let (said, status) = child.ends();
    assert_eq!(
        said,
        ["refused 1000", "same true", "stopped 1000", "same true"]
    );
    assert!(status.success());
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "the child of another test"]
fn child_fails_a_thousand_times() {
    use factories::open_descriptors;
    let reactor = Reactor::new().unwrap();
    let (_socket, address) = closed_port();
    let busy = Busy::new();
    // What a first run opens, and keeps.
    outcome(&reactor, address, Client::none());
    let before = open_descriptors();
    for (address, want) in [(address, "refused"), (busy.address, "stopped")] {
        let (failures, reached) = (counter(), counter());
        for _ in 0..100 {
            let (failures, reached, end) = (failures.clone(), reached.clone(), reactor.clone());
            let client = Client::none().failed(move |connector, reason| {
                let reason = match why(reason) {
                    // The one that ends it all.
                    "user" => "stopped",
                    reason => reason,
                };
                assert_eq!(reason, want);
                if add_one(&failures) <= 900 {
                    connector.connect().unwrap();
                }
                if failures.get() == 1000 {
                    add_one(&reached);
                    stop(&end);
                }
            });
            let connector = reactor.connect_tcp(address, client);
            if want == "stopped" {
                stop_again_and_again(&reactor, connector);
            }
        }
        run(&reactor);
        peers::say(&format!("{want} {}", failures.get()));
        peers::say(&format!("same {}", open_descriptors() == before));
    }
}

/// Stops connecting in every turn, a turn after it has begun.
#[cfg(target_os = "linux")]
fn stop_again_and_again(reactor: &Reactor, connector: Connector) {
    let again = reactor.clone();
    reactor.call_later(Duration::ZERO, move || {
        if connector.state() == ConnectorState::Connecting {
            let _ = connector.stop_connecting();
            stop_again_and_again(&again, connector);
        }
    });
}

/// a reactor that never ran, or was left while something was connecting.
#[test]
fn a_dropped_reactor_takes_its_clients_with_it() {
    let busy = Busy::new();
    for is_run in [false, true] {
        let reactor = Reactor::new().unwrap();
        let held = Rc::new(RefCell::new(Vec::new()));
        let hold = held.clone();
        reactor.install_name_resolver(move |_, _| {
            let (deferred, resolver) = Deferred::pending();
            hold.borrow_mut().push(resolver);
            deferred
        });
        let client = Rc::new(Client::none());
        reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, {
            let (reactor, client, address) = (reactor.clone(), client.clone(), busy.address);
            move || {
                reactor.connect_tcp(address, client.clone());
                Ok(())
            }
        });
        reactor.connect_tcp(busy.address, client.clone());
        reactor.connect_tcp("example.org:80", client.clone());
        if is_run {
            let end = reactor.clone();
            reactor.call_later(SOON, move || stop(&end));
            run(&reactor);
            assert_eq!(Rc::strong_count(&client), 1);
            reactor.connect_tcp(busy.address, client.clone());
            reactor.connect_tcp("example.org:80", client.clone());
        } else {
            // Otherwise the trigger keeps the reactor that keeps the trigger.
            assert_eq!(Rc::strong_count(&client), 4);
            let end = reactor.clone();
            reactor.call_when_running(move || stop(&end));
            run(&reactor);
        }
        drop(reactor);
        assert_eq!(Rc::strong_count(&client), 1);
        drop(held.take());
    }
}

/// Says a word when it is connected.
struct Greets(&'static [u8], Journal);

impl Protocol for Greets {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        note(&self.1, "made");
        transport.write(self.0);
        Ok(())
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        note(&self.1, String::from_utf8_lossy(data));
        transport.lose_connection();
        Ok(())
    }
}

/// Twisted's `connectProtocol`.
#[test]
fn connect_protocol_fires_with_the_transport_once_the_protocol_is_connected() {
    let lost_failures = NoLostFailures::new();
    let (reactor, told) = (Reactor::new().unwrap(), journal());
    let (_, address) = listen(&reactor, Scripts::new(Script::echo));
    let fired = told.clone();
    let connected = reactor.connect_protocol(address, Greets(b"a", told.clone()));
    drop(connected.add_callback(move |transport| {
        note(&fired, "fired");
        assert_eq!(transport.peer(), Some(Address::Tcp(address)));
        Ok(())
    }));
    // This one's Deferred is dropped, and that changes nothing.
    drop(reactor.connect_protocol(address, Greets(b"c", told.clone())));
    let (watch, end) = (told.clone(), reactor.clone());
    fn until_all_is_told(told: Journal, reactor: Reactor) {
        if told.borrow().len() >= 5 {
            return stop(&reactor);
        }
        let again = reactor.clone();
        reactor.call_later(SOON, move || until_all_is_told(told, again));
    }
    until_all_is_told(watch, end);
    run(&reactor);
    let mut told = told.take();
    let fired = told.iter().position(|told| told == "fired").unwrap();
    let made = told.iter().position(|told| told == "made").unwrap();
    assert!(made < fired);
    told.sort();
    assert_eq!(told, ["a", "c", "fired", "made", "made"]);
    drop(lost_failures);
}

/// for the Deferred.
#[test]
fn connect_protocol_fails_with_what_a_factory_would_be_told() {
    let reactor = Reactor::new().unwrap();
    let (busy, (_socket, closed)) = (Busy::new(), closed_port());
    let limit = Duration::from_millis(20);
    let unanswered = TcpClientEndpoint::new(busy.address).timeout(limit);
    let lost = greeter(&reactor);
    struct Refuses;
    impl Protocol for Refuses {
        fn connection_made(&mut self, _: &Transport) -> Result<(), Failure> {
            Err(Failure::message("not with me"))
        }
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }
    let told = journal();
    let ends = counter();
    for endpoint in [closed.into(), unanswered, lost.into(), "nonsense".into()] {
        let (told, ends, end) = (told.clone(), ends.clone(), reactor.clone());
        let connected = reactor.connect_protocol(endpoint, Refuses);
        drop(connected.add_both(move |result| {
            note(&told, why(&result.unwrap_err()));
            if add_one(&ends) == 4 {
                stop(&end);
            }
            Ok(())
        }));
    }
    run(&reactor);
    let mut told = told.take();
    told.sort();
    assert_eq!(told, ["error", "lookup", "refused", "timeout"]);
}

/// R-28, D-rows of cancelling: the usual error, at once, and the usual timeout.
#[test]
fn cancelling_connect_protocol_stops_connecting() {
    let lost_failures = NoLostFailures::new();
    let reactor = Reactor::new().unwrap();
    let (busy, told) = (Busy::new(), journal());
    // Before anything has begun.
    let connected = reactor.connect_protocol(busy.address, Greets(b"", told.clone()));
    connected.cancel();
    assert!(connected.result().unwrap_err().is::<CancelledError>());
    // Under way.
    let connected = reactor.connect_protocol(busy.address, Greets(b"", told.clone()));
    let end = reactor.clone();
    let limited = connected
        .add_timeout(SOON, &reactor)
        .add_both(move |result| {
            stop(&end);
            result
        });
    run(&reactor);
    assert!(limited.result().unwrap_err().is::<TimeoutError>());
    assert!(told.borrow().is_empty());
    assert!(format!("{reactor:?}").contains("sockets: 0"));
    drop(lost_failures);
}

/// B-16: there is a connection by then, which is closed.
#[test]
fn cancelling_connect_protocol_from_inside_the_protocol_closes_the_connection() {
    type ToCancel = Rc<RefCell<Option<deferred_reactor::Canceller>>>;
    struct Cancels(ToCancel, Journal, Reactor);
    impl Protocol for Cancels {
        fn connection_made(&mut self, _: &Transport) -> Result<(), Failure> {
            self.0.take().unwrap().cancel();
            note(&self.1, "made");
            Ok(())
        }
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
        fn connection_lost(&mut self, reason: &Failure) {
            assert!(reason.is::<ConnectionDone>());
            note(&self.1, "lost");
            stop(&self.2);
        }
    }
    let (reactor, told, canceller) = (Reactor::new().unwrap(), journal(), ToCancel::default());
    let (_, address) = listen(&reactor, Scripts::new(Script::echo));
    let protocol = Cancels(canceller.clone(), told.clone(), reactor.clone());
    let connected = reactor.connect_protocol(address, protocol);
    canceller.replace(Some(connected.canceller()));
    let notes = told.clone();
    drop(connected.map(drop).add_errback(move |failure| {
        failure.trap::<CancelledError>()?;
        note(&notes, "cancelled");
        Ok(())
    }));
    run(&reactor);
    assert_eq!(*told.borrow(), ["cancelled", "made", "lost"]);
}

/// nobody waits for ever.
#[test]
fn a_reactor_that_stops_or_is_dropped_fails_connect_protocol() {
    let (reactor, busy) = (Reactor::new().unwrap(), Busy::new());
    let told = journal();
    let connect = || reactor.connect_protocol(busy.address, Greets(b"", told.clone()));
    let (stopped, end) = (connect(), reactor.clone());
    reactor.call_later(SOON, move || stop(&end));
    run(&reactor);
    let failure = stopped.result().unwrap_err();
    assert!(failure.check::<ConnectError>().unwrap().is_stopped);
    let dropped = connect();
    drop(reactor);
    assert!(dropped.result().is_err());
}

/// what is downcast to can be looked into.
#[test]
fn a_lookup_error_tells_the_name_and_the_cause() {
    let reactor = Reactor::new().unwrap();
    let end = reactor.clone();
    let connected = reactor.connect_protocol("nowhere", Greets(b"", journal()));
    let error = connected.map(|_| None).add_errback(move |failure| {
        stop(&end);
        Ok(Some(failure.trap::<LookupError>()?))
    });
    run(&reactor);
    let error = error.result().unwrap().unwrap();
    assert_eq!(error.name, "nowhere");
    assert!(error.to_string().contains(&error.cause.to_string()));
}

/// A blocking client of ours against a server that is not.
#[test]
fn a_client_speaks_with_a_server_of_another_kind() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        assert_eq!(peers::read_exactly(&mut peer, 5), b"hello");
        peer.write_all(b"world").unwrap();
        peers::read_all(&mut peer)
    });
    let (reactor, told) = (Reactor::new().unwrap(), journal());
    let notes = told.clone();
    let client = Client::new(move || {
        let notes = notes.clone();
        Script::new()
            .made(|transport| {
                transport.write(b"hello");
                Ok(())
            })
            .data(move |transport, data| {
                note(&notes, String::from_utf8_lossy(data));
                transport.write(b"bye");
                transport.lose_connection();
                Ok(())
            })
    });
    reactor.connect_tcp(address, client.then_stop(&reactor));
    run(&reactor);
    assert_eq!(serving.join().unwrap(), b"bye");
    assert_eq!(told.borrow().concat(), "world");
}
