//! Datagrams.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{
    Address, CannotListenError, DatagramProtocol, UdpAddress, UdpError, UdpPort, UdpTransport,
};
use deferred_reactor::{Failure, Phase, Reactor, SystemEvent};

use peers::{Journal, journal, note, run, run_with_peer};

type OnStart = Box<dyn FnOnce(&UdpTransport)>;
type OnData = Box<dyn FnMut(&UdpTransport, &[u8], SocketAddr) -> Result<(), Failure>>;
type OnRefused = Box<dyn FnMut(&UdpTransport)>;
type OnStop = Box<dyn FnOnce()>;

/// A protocol made of closures.
#[derive(Default)]
struct Script {
    start: Option<OnStart>,
    data: Option<OnData>,
    refused: Option<OnRefused>,
    stop: Option<OnStop>,
}

impl Script {
    fn start(mut self, f: impl FnOnce(&UdpTransport) + 'static) -> Self {
        self.start = Some(Box::new(f));
        self
    }

    fn data(
        mut self,
        f: impl FnMut(&UdpTransport, &[u8], SocketAddr) -> Result<(), Failure> + 'static,
    ) -> Self {
        self.data = Some(Box::new(f));
        self
    }

    fn refused(mut self, f: impl FnMut(&UdpTransport) + 'static) -> Self {
        self.refused = Some(Box::new(f));
        self
    }

    fn stop(mut self, f: impl FnOnce() + 'static) -> Self {
        self.stop = Some(Box::new(f));
        self
    }

    fn echo() -> Self {
        Self::default().data(|transport, data, sender| Ok(transport.send_to(data, sender)?))
    }
}

impl DatagramProtocol for Script {
    fn start_protocol(&mut self, transport: &UdpTransport) {
        if let Some(start) = self.start.take() {
            start(transport);
        }
    }

    fn datagram_received(
        &mut self,
        transport: &UdpTransport,
        data: &[u8],
        sender: SocketAddr,
    ) -> Result<(), Failure> {
        self.data
            .as_mut()
            .map_or(Ok(()), |f| f(transport, data, sender))
    }

    fn connection_refused(&mut self, transport: &UdpTransport) {
        if let Some(refused) = &mut self.refused {
            refused(transport);
        }
    }

    fn stop_protocol(&mut self) {
        let stop = self.stop.take().expect("it ends once, and has a stop");
        stop();
    }
}

fn listen(reactor: &Reactor, protocol: Script) -> (UdpPort, SocketAddr) {
    let protocol = match protocol.stop {
        Some(_) => protocol,
        None => protocol.stop(|| {}),
    };
    let port = reactor.listen_udp("127.0.0.1:0", protocol).unwrap();
    let address = port.address().socket_addr().unwrap();
    (port, address)
}

/// A socket of somebody else. Receiving gives up rather than hang.
fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(peers::LIMIT)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (count, sender) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(count);
    (buffer, sender)
}

/// Longer ones do not fit the length field of an IPv4 packet.
const LONGEST: usize = 65_507;

///
#[test]
fn a_protocol_gets_data_and_sender_and_answers() {
    let reactor = Reactor::new().unwrap();
    let senders = Rc::new(RefCell::new(Vec::new()));
    let seen = senders.clone();
    let echo = Script::default().data(move |transport, data, sender| {
        seen.borrow_mut().push(sender);
        Ok(transport.send_to(data, sender)?)
    });
    let (port, address) = listen(&reactor, echo);
    let ((one, first), (two, second)) = (peer(), peer());
    run_with_peer(&reactor, move || {
        for length in [1, 0, 1472, LONGEST] {
            let data = peers::pattern(length);
            for socket in [&one, &two] {
                socket.send_to(&data, address).unwrap();
                let (answer, sender) = receive(socket);
                assert!(answer == data, "{length} bytes");
                assert_eq!(sender, address);
            }
        }
    });
    assert_eq!(senders.take(), [first, second].repeat(4));
    let stats = port.stats();
    assert_eq!((stats.received, stats.sent, stats.dropped), (8, 8, 0));
}

/// one of the protocol's own methods may be what sends first.
#[test]
fn the_protocol_is_started_with_its_transport_before_listen_returns() {
    let reactor = Reactor::new().unwrap();
    let (socket, address) = peer();
    let has_started = Rc::new(Cell::new(false));
    let seen = has_started.clone();
    let (port, bound) = listen(
        &reactor,
        Script::default().start(move |transport| {
            transport.send_to(b"here I am", address).unwrap();
            seen.set(true);
        }),
    );
    assert!(has_started.get());
    assert_eq!(receive(&socket), (b"here I am".to_vec(), bound));
    assert_eq!(port.address(), &Address::Udp(bound));
    assert_eq!(port.transport().host(), Some(Address::Udp(bound)));
    assert_eq!(port.address().to_string(), bound.to_string());
}

///
#[test]
fn an_error_or_a_panic_is_logged_and_the_port_stays_open() {
    peers::watch_log();
    let reactor = Reactor::new().unwrap();
    let protocol = Script::default().data(|transport, data, sender| {
        match data {
            b"error" => return Err(Failure::message("a datagram that nobody likes")),
            b"panic" => panic!("a datagram that hurts"),
            _ => transport.send_to(data, sender)?,
        }
        Ok(())
    });
    let (_, address) = listen(&reactor, protocol);
    let (socket, _) = peer();
    run_with_peer(&reactor, move || {
        for data in ["error", "panic", "fine"] {
            socket.send_to(data.as_bytes(), address).unwrap();
        }
        assert_eq!(receive(&socket).0, b"fine");
    });
    let errors = peers::errors_logged_here();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].contains("a datagram that nobody likes"));
    assert!(errors[1].contains("a datagram that hurts"));
    assert!(errors.iter().all(|e| e.contains(&address.to_string())));
}

///
#[test]
fn a_used_port_is_an_error_and_the_protocol_is_not_started() {
    let reactor = Reactor::new().unwrap();
    let (_socket, taken) = peer();
    let protocol = Script::default().start(|_| unreachable!());
    let error: CannotListenError = reactor.listen_udp(taken, protocol).unwrap_err();
    assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
    let nonsense = reactor.listen_udp("nowhere", Script::default());
    assert!(nonsense.is_err());
}

/// R-43, F-20: of the addresses of a name, one is on this machine.
#[test]
fn one_of_several_addresses_is_enough_if_the_others_are_elsewhere() {
    let reactor = Reactor::new().unwrap();
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let port = reactor
        .listen_udp(&[elsewhere, free][..], Script::default())
        .unwrap();
    let bound = port.address().socket_addr().unwrap();
    assert_eq!(bound.ip(), free.ip());
    let both = [free, bound];
    let error = reactor
        .listen_udp(&both[..], Script::default())
        .unwrap_err();
    assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
}

fn noting(journal: &Journal, script: Script) -> Script {
    let seen = journal.clone();
    script.stop(move || note(&seen, "stopped"))
}

fn is_free(address: SocketAddr) -> bool {
    UdpSocket::bind(address).is_ok()
}

///
#[test]
fn a_port_that_is_closed_is_free_and_its_protocol_told() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let protocol = noting(&order, Script::echo());
    let port = reactor.listen_udp("127.15.2.1:0", protocol).unwrap();
    let address = port.address().socket_addr().unwrap();
    assert!(!is_free(address));
    assert!(port.stop_listening().is_fired());
    assert_eq!(*order.borrow(), ["stopped"]);
    assert!(is_free(address));
    // Again is as good as once.
    assert!(port.stop_listening().is_fired());
    let transport = port.transport();
    for outcome in [
        transport.send_to(b"x", address),
        transport.write(b"x"),
        transport.connect(address),
        transport.set_broadcast(true),
    ] {
        assert!(matches!(outcome, Err(UdpError::Closed)));
    }
    assert!(transport.host().is_none() && transport.peer().is_none());
    assert!(transport.reactor().is_none() && transport.time_source().is_none());
    assert_eq!(port.address().socket_addr(), Some(address));
}

/// the protocol is being called, so it is told when it returns.
#[test]
fn a_port_can_be_closed_from_inside_its_protocol() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (seen, stop) = (order.clone(), reactor.clone());
    let protocol = Script::default().data(move |transport, data, _| {
        note(&seen, String::from_utf8_lossy(data));
        for _ in 0..2 {
            let (fired, stop) = (seen.clone(), stop.clone());
            let ended = transport.stop_listening();
            assert!(!ended.is_fired());
            drop(ended.map(move |()| {
                note(&fired, "fired");
                let _ = stop.stop();
            }));
        }
        assert!(matches!(transport.write(b"x"), Err(UdpError::Closed)));
        note(&seen, "returns");
        Ok(())
    });
    let (_, address) = listen(&reactor, noting(&order, protocol));
    let (socket, _) = peer();
    // They wait in the system when the reactor comes to look.
    socket.send_to(b"first", address).unwrap();
    socket.send_to(b"second", address).unwrap();
    run(&reactor);
    assert_eq!(
        *order.borrow(),
        ["first", "returns", "stopped", "fired", "fired"]
    );
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

/// as soon as it has begun.
#[test]
fn a_port_can_be_closed_while_its_protocol_starts() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let seen = order.clone();
    let protocol = Script::default().start(move |transport| {
        assert!(!transport.stop_listening().is_fired());
        note(&seen, "started");
    });
    let (port, _) = listen(&reactor, noting(&order, protocol));
    assert_eq!(*order.borrow(), ["started", "stopped"]);
    assert!(port.stop_listening().is_fired());
}

/// B-16: whatever it does there.
#[test]
fn a_protocol_can_call_anything_when_it_is_stopped() {
    peers::watch_log();
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (seen, here) = (order.clone(), reactor.clone());
    let kept = Rc::new(RefCell::new(None::<UdpPort>));
    let port = kept.clone();
    let protocol = Script::default().stop(move || {
        let port = port.borrow().clone().unwrap();
        assert!(port.stop_listening().is_fired());
        assert!(matches!(
            port.transport().write(b"x"),
            Err(UdpError::Closed)
        ));
        let address = port.address().socket_addr().unwrap();
        let next = Script::default().stop(|| panic!("this one panics"));
        let next = here.listen_udp(address, next).unwrap();
        assert!(next.stop_listening().is_fired());
        note(&seen, "stopped");
    });
    let (port, _) = listen(&reactor, protocol);
    *kept.borrow_mut() = Some(port.clone());
    assert!(port.stop_listening().is_fired());
    assert_eq!(*order.borrow(), ["stopped"]);
    let errors = peers::errors_logged_here();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("this one panics"));
}

///
#[test]
fn stopping_the_reactor_closes_its_udp_ports() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let protocol = noting(&order, Script::echo());
    let port = reactor.listen_udp("127.15.2.2:0", protocol).unwrap();
    let seen = order.clone();
    reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, move || {
        note(&seen, "after");
        Ok(())
    });
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    run(&reactor);
    assert_eq!(*order.borrow(), ["stopped", "after"]);
    assert!(is_free(port.address().socket_addr().unwrap()));
}

fn is_invalid(outcome: Result<(), UdpError>, address: &str) -> bool {
    let Err(UdpError::InvalidAddress(error)) = outcome else {
        return false;
    };
    assert_eq!(error.address, address);
    error.to_string().starts_with("invalid address \"")
}

/// a name would have to be looked up, which takes its time.
#[test]
fn sending_to_a_name_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let (port, _) = listen(&reactor, Script::default());
    let transport = port.transport();
    for name in ["localhost:53", "localhost", "127.0.0.1", "", "[::1]", ":1"] {
        assert!(is_invalid(transport.send_to(b"x", name), name));
        assert!(is_invalid(transport.connect(name.to_owned()), name));
    }
    assert!(is_invalid(
        transport.send_to(b"x", ("localhost", 53)),
        "localhost"
    ));
    assert!(transport.peer().is_none());
    assert_eq!(port.stats().sent, 0);
}

///
#[test]
fn sending_to_an_address_of_the_other_family_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let (four, address) = listen(&reactor, Script::default());
    assert!(is_invalid(
        four.transport().send_to(b"x", "[::1]:53"),
        "[::1]:53"
    ));
    assert!(is_invalid(four.transport().connect("[::1]:53"), "[::1]:53"));
    // Not every machine has the other family.
    let protocol = Script::default().stop(|| {});
    if let Ok(six) = reactor.listen_udp("[::1]:0", protocol) {
        let text = address.to_string();
        assert!(is_invalid(six.transport().send_to(b"x", address), &text));
        assert!(is_invalid(six.transport().connect(address), &text));
        let own = six.address().socket_addr().unwrap();
        assert!(six.transport().send_to(b"x", own).is_ok());
    }
}

/// all these are one address.
#[test]
fn an_address_can_be_given_in_many_ways() {
    let reactor = Reactor::new().unwrap();
    let (port, _) = listen(&reactor, Script::default());
    let (socket, address) = peer();
    let SocketAddr::V4(v4) = address else {
        unreachable!()
    };
    let send = |to: &dyn Fn(&UdpTransport) -> Result<(), UdpError>| {
        to(port.transport()).unwrap();
        assert_eq!(receive(&socket).0, b"x");
    };
    fn to(address: impl UdpAddress + Clone) -> impl Fn(&UdpTransport) -> Result<(), UdpError> {
        move |transport| transport.send_to(b"x", address.clone())
    }
    let text = address.to_string();
    send(&to(address));
    send(&to(v4));
    send(&to((address.ip(), address.port())));
    send(&to((Ipv4Addr::LOCALHOST, address.port())));
    send(&to(("127.0.0.1", address.port())));
    send(&to(text.as_str()));
    send(&to(text.clone()));
    send(&to(Address::Udp(address)));
}

///
#[test]
fn a_second_connect_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let (port, _) = listen(&reactor, Script::default());
    let ((socket, address), (_, other)) = (peer(), peer());
    let transport = port.transport();
    assert!(matches!(transport.write(b"x"), Err(UdpError::NotConnected)));
    transport.connect(address).unwrap();
    assert_eq!(transport.peer(), Some(Address::Udp(address)));
    for again in [address, other] {
        let Err(UdpError::AlreadyConnected { peer, .. }) = transport.connect(again) else {
            panic!("{again}");
        };
        assert_eq!(peer, address);
    }
    // It is connected to the first, and to nobody else.
    transport.write(b"one").unwrap();
    transport.send_to(b"two", address).unwrap();
    assert_eq!(receive(&socket).0, b"one");
    assert_eq!(receive(&socket).0, b"two");
    assert!(is_invalid(
        transport.send_to(b"x", other),
        &other.to_string()
    ));
}

/// not even from those whose datagrams had come before.
#[test]
fn a_connected_port_receives_only_from_its_peer() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (seen, stop) = (order.clone(), reactor.clone());
    let protocol = Script::default().data(move |transport, data, sender| {
        assert_eq!(transport.peer(), Some(Address::Udp(sender)));
        note(&seen, String::from_utf8_lossy(data));
        if data == b"last" {
            stop.stop()?;
        }
        Ok(())
    });
    let (port, address) = listen(&reactor, protocol);
    let ((friend, friends), (stranger, _)) = (peer(), peer());
    stranger.send_to(b"early", address).unwrap();
    port.transport().connect(friends).unwrap();
    stranger.send_to(b"late", address).unwrap();
    friend.send_to(b"first", address).unwrap();
    friend.send_to(b"last", address).unwrap();
    run(&reactor);
    assert_eq!(*order.borrow(), ["first", "last"]);
    assert_eq!(port.stats().received, 2);
}

/// A port of this machine where nobody listens, as long as the socket lives.
fn nobody() -> (std::net::TcpListener, SocketAddr) {
    // The number is taken, for the other protocol.
    let listener = std::net::TcpListener::bind("127.15.2.3:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// the protocol is told, and the port stays open.
#[cfg(target_os = "linux")]
#[test]
fn a_protocol_is_told_that_nobody_listens_there() {
    let (reactor, told) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    let (_held, address) = nobody();
    let (seen, stop) = (told.clone(), reactor.clone());
    let protocol = Script::default()
        .start(move |transport| {
            transport.connect(address).unwrap();
            transport.write(b"anybody?").unwrap();
        })
        .refused(move |transport| {
            seen.set(seen.get() + 1);
            match seen.get() {
                3 => stop.stop().unwrap(),
                // Once more; it may do so here.
                _ => transport.write(b"really?").unwrap(),
            }
        });
    let (port, _) = listen(&reactor, protocol);
    run(&reactor);
    assert_eq!((told.get(), port.stats().sent), (3, 3));
}

/// the system tells once, and a send may be what it tells.
#[cfg(target_os = "linux")]
#[test]
fn a_protocol_is_told_also_when_the_next_send_was_told_first() {
    let (reactor, told) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    let (_held, address) = nobody();
    let (seen, stop) = (told.clone(), reactor.clone());
    let protocol = Script::default().refused(move |_| {
        seen.set(seen.get() + 1);
        // Once for all that sending was told, and once for what reading is told about the last.
        if seen.get() == 2 {
            stop.stop().unwrap();
        }
    });
    let (port, _) = listen(&reactor, protocol);
    let transport = port.transport().clone();
    transport.connect(address).unwrap();
    reactor.call_when_running(move || {
        for _ in 0..5 {
            transport.write(b"anybody?").unwrap();
        }
    });
    run(&reactor);
    assert_eq!(told.get(), 2);
    assert_eq!((port.stats().sent, port.stats().dropped), (5, 0));
}

/// What the system refuses is told to who sent it.
#[test]
fn a_datagram_that_is_too_long_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let (port, _) = listen(&reactor, Script::default());
    let (_socket, address) = peer();
    let long = vec![0; LONGEST + 1];
    let Err(UdpError::System(error)) = port.transport().send_to(&long, address) else {
        panic!("it was sent");
    };
    assert!(error.raw_os_error().is_some());
    port.transport().send_to(&long[..LONGEST], address).unwrap();
}

/// A port whose peers never stop keeps nobody from the timers.
#[test]
fn a_flood_of_datagrams_does_not_hold_up_timers() {
    let reactor = Reactor::new().unwrap();
    let protocol = Script::default().data(|transport, data, _| {
        // Back to itself: there is always one more.
        let own = transport.host().unwrap();
        Ok(transport.send_to(data, own)?)
    });
    let (port, address) = listen(&reactor, protocol);
    for _ in 0..4 {
        port.transport().send_to(b"again", address).unwrap();
    }
    fn tick(reactor: Reactor, left: u32) {
        if left == 0 {
            return reactor.stop().unwrap();
        }
        let next = reactor.clone();
        reactor.call_later(Duration::from_micros(200), move || tick(next, left - 1));
    }
    tick(reactor.clone(), 20);
    run(&reactor);
    assert!(port.stats().received > 0);
}

/// More than a turn takes at once: none is forgotten, though readiness is told only once.
#[test]
fn a_burst_is_received_to_its_end() {
    const BURST: u64 = 200;
    let (reactor, count) = (Reactor::new().unwrap(), Rc::new(Cell::new(0_u64)));
    let (seen, stop) = (count.clone(), reactor.clone());
    let protocol = Script::default().data(move |_, data, _| {
        assert_eq!(data, seen.get().to_be_bytes());
        seen.set(seen.get() + 1);
        if seen.get() == BURST {
            stop.stop()?;
        }
        Ok(())
    });
    let (_, address) = listen(&reactor, protocol);
    let (socket, _) = peer();
    for number in 0..BURST {
        socket.send_to(&number.to_be_bytes(), address).unwrap();
    }
    run(&reactor);
    assert_eq!(count.get(), BURST);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

/// B-15: their protocols are called directly in a test.
#[test]
fn a_reactor_in_memory_says_that_it_has_no_datagrams() {
    let memory = deferred_reactor::testing::MemoryReactor::new();
    let protocol = Script::default().start(|_| unreachable!());
    let error = memory.reactor().listen_udp("127.0.0.1:0", protocol);
    assert_eq!(error.unwrap_err().cause.kind(), io::ErrorKind::Unsupported);
}

/// A transport keeps neither port nor reactor.
#[test]
fn a_transport_may_outlive_its_reactor() {
    let reactor = Reactor::new().unwrap();
    let (port, address) = listen(&reactor, Script::default());
    let transport = port.transport().clone();
    assert!(transport.reactor().is_some() && transport.time_source().is_some());
    drop(reactor);
    assert!(matches!(
        transport.send_to(b"x", address),
        Err(UdpError::Closed)
    ));
    assert!(port.stop_listening().is_fired());
    assert!(transport.reactor().is_none());
}
