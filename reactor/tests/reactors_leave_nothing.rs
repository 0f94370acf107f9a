//! A reactor is a value: one that is dropped has left nothing behind. Alone in its process, as it
//! counts what that holds.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use deferred_reactor::net::{DatagramProtocol, Port, Transport, UdpTransport};
use deferred_reactor::{
    AbandonedError, Deferred, Failure, Phase, Reactor, RemoteReactor, RemoteResolver, SystemEvent,
    blocking_call_from_thread, defer_to_thread,
};

use peers::{Script, Scripts, Watchdog};

/// Threads and descriptors of the process; none where the system does not tell.
fn held() -> [usize; 2] {
    ["/proc/self/task", "/proc/self/fd"]
        .map(|path| std::fs::read_dir(path).map_or(0, Iterator::count))
}

/// What is captured by everything that a reactor is given; it tells when something is kept.
type Canary = Arc<()>;

struct Datagrams(#[allow(dead_code, reason = "held until it is dropped")] Canary);

impl DatagramProtocol for Datagrams {
    fn datagram_received(
        &mut self,
        transport: &UdpTransport,
        data: &[u8],
        sender: SocketAddr,
    ) -> Result<(), Failure> {
        Ok(transport.send_to(data, sender)?)
    }
}

/// Gives a reactor something of everything, and nothing that holds it.
fn furnish(reactor: &Reactor, canary: &Canary) -> (Port, SocketAddr) {
    let kept = canary.clone();
    let (port, address) = peers::listen(
        reactor,
        Scripts::new(move || {
            let kept = kept.clone();
            Script::echo().lost(move |_| drop(kept.clone()))
        }),
    );
    reactor
        .listen_udp("127.0.0.1:0", Datagrams(canary.clone()))
        .unwrap();
    let kept = canary.clone();
    reactor.call_later(Duration::from_secs(3600), move || drop(kept));
    let kept = canary.clone();
    reactor.call_when_running(move || drop(kept));
    let kept = canary.clone();
    reactor.add_system_event_trigger(Phase::During, SystemEvent::Named("reload"), move || {
        drop(kept);
        Ok(())
    });
    let kept = canary.clone();
    reactor.call_in_thread(move || drop(kept));
    let kept = canary.clone();
    drop(defer_to_thread(reactor, move || Ok(kept)));
    let kept = canary.clone();
    let remote = reactor.remote();
    remote.call_from_thread(move |_| drop(kept)).unwrap();
    (port, address)
}

/// What somebody keeps when the reactor has gone.
struct Kept {
    _port: Port,
    _remote: RemoteReactor,
    _resolver: RemoteResolver<Canary>,
    _transport: Rc<RefCell<Option<Transport>>>,
}

/// One that is dropped without having run.
fn never_run(canary: &Canary) -> Kept {
    let reactor = Reactor::new().unwrap();
    let (port, _) = furnish(&reactor, canary);
    let (waits, resolver) = Deferred::<Canary>::pending();
    let resolver = resolver.into_remote(&reactor);
    let remote = reactor.remote();
    let also = reactor.clone();
    drop(reactor);
    drop(also);
    assert!(waits.result().unwrap_err().is::<AbandonedError>());
    Kept {
        _port: port,
        _remote: remote,
        _resolver: resolver,
        _transport: Rc::default(),
    }
}

/// One that runs, and is full of what holds itself when it is stopped.
fn run(canary: &Canary, times: u32, with_signals: bool) -> Kept {
    let reactor = Reactor::new().unwrap();
    let kept_transport = Rc::new(RefCell::new(None));
    let mut kept = None;
    for _ in 0..times {
        let (port, address) = furnish(&reactor, canary);
        let (transport, own) = (kept_transport.clone(), reactor.clone());
        let holder = reactor.clone();
        let (_, second) = peers::listen(
            &reactor,
            Scripts::new(move || {
                let (transport, own) = (transport.clone(), own.clone());
                Script::echo().made(move |made| {
                    *transport.borrow_mut() = Some(made.clone());
                    let _ = own.clone();
                    Ok(())
                })
            })
            .stop(move || drop(holder.clone())),
        );
        let own = reactor.clone();
        reactor.call_later(Duration::from_secs(3600), move || drop(own));
        let remote = reactor.remote();
        let (waits, resolver) = Deferred::<Canary>::pending();
        drop(
            waits
                .add_errback(|failure| {
                    assert!(failure.is::<AbandonedError>());
                    Err(Failure::message("handled below"))
                })
                .add_errback(|_| Ok(Canary::default())),
        );
        let resolver = resolver.into_remote(&reactor);
        let asks = remote.clone();
        let peer = thread::spawn(move || {
            // Both are open when the reactor stops.
            let mut peers = [address, second].map(peers::connect);
            for peer in &mut peers {
                peer.write_all(b"x").unwrap();
                peers::read_exactly(peer, 1);
            }
            blocking_call_from_thread(&asks, |reactor| Ok(reactor.stop()?)).unwrap();
            for peer in &mut peers {
                let _ = peer.read_to_end(&mut Vec::new());
            }
        });
        if with_signals {
            reactor.run().unwrap();
        } else {
            reactor.run_without_signals().unwrap();
        }
        peer.join().unwrap();
        kept = Some(Kept {
            _port: port,
            _remote: remote,
            _resolver: resolver,
            _transport: kept_transport.clone(),
        });
    }
    kept.unwrap()
}

/// A reactor is a value: a thousand of them leave no thread, no descriptor, and nothing captured.
#[test]
fn a_thousand_reactors_leave_nothing_behind() {
    let _watchdog = Watchdog::new();
    peers::watch_log();
    let canary = Canary::default();
    drop(run(&canary, 1, true)); // what a process has once, such as handlers of signals
    let before = held();
    for round in 0..1000 {
        let _kept = match round % 4 {
            0 | 1 => never_run(&canary),
            2 => run(&canary, 1, round % 8 == 2),
            _ => run(&canary, 2, false),
        };
        // While the handles of others are still there.
        assert_eq!(Arc::strong_count(&canary), 1, "round {round}");
    }
    // The system takes a moment to forget a thread that has ended.
    let start = Instant::now();
    while held() != before && start.elapsed() < peers::LIMIT / 2 {
        thread::yield_now();
    }
    assert_eq!(held(), before);
    sockets_are_closed_when_the_last_handle_is_dropped();
    what_is_told_of_the_end_still_has_a_reactor();
    what_holds_its_own_reactor_can_be_taken_back();
}

/// In the same test, as they open descriptors as well.
fn sockets_are_closed_when_the_last_handle_is_dropped() {
    let reactor = Reactor::new().unwrap();
    let ended = Rc::new(Cell::new(0));
    let seen = ended.clone();
    let factory = Scripts::new(Script::new).stop(move || seen.set(seen.get() + 1));
    let port = reactor.listen_tcp("127.15.3.1:0", factory).unwrap();
    let tcp = peers::address_of(&port);
    let port = reactor
        .listen_udp("127.15.3.1:0", Datagrams(Canary::default()))
        .unwrap();
    let udp = port.address().socket_addr().unwrap();
    let other = reactor.clone();
    drop(reactor);
    assert_eq!(ended.get(), 0);
    assert!(TcpStream::connect(tcp).is_ok());
    drop(other);
    assert_eq!(ended.get(), 1, "its factory was told");
    assert!(peers::is_free(tcp));
    assert!(UdpSocket::bind(udp).is_ok());
}

/// And may take a handle of it, or panic.
fn what_is_told_of_the_end_still_has_a_reactor() {
    let reactor = Reactor::new().unwrap();
    let port = Rc::new(RefCell::new(None::<Port>));
    let (own, told) = (port.clone(), Rc::new(Cell::new(false)));
    let seen = told.clone();
    let factory = Scripts::new(Script::new).stop(move || {
        let port = own.take().unwrap();
        assert!(port.stop_listening().is_fired());
        seen.set(true);
        panic!("it is told, and panics");
    });
    *port.borrow_mut() = Some(peers::listen(&reactor, factory).0);
    struct Schedules(Reactor);
    impl Drop for Schedules {
        fn drop(&mut self) {
            // The closure that holds this is dropped by `run`; here it still can be used.
            self.0.call_later(Duration::ZERO, || unreachable!());
        }
    }
    let schedules = Schedules(reactor.clone());
    let call = reactor.call_later(Duration::from_secs(3600), move || drop(schedules));
    call.cancel().unwrap();
    drop(reactor);
    assert!(told.get());
    assert_eq!(peers::times_logged("it is told, and panics"), 1);
}

/// The circle that nobody but the program can know of.
fn what_holds_its_own_reactor_can_be_taken_back() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let own = reactor.clone();
    reactor.call_later(Duration::ZERO, move || own.stop().unwrap());
    let own = reactor.clone();
    let trigger =
        reactor.add_system_event_trigger(Phase::During, SystemEvent::Startup, move || {
            drop(own);
            Ok(())
        });
    let own = reactor.clone();
    let (port, _) = peers::listen(
        &reactor,
        Scripts::new(move || {
            let _ = own.clone();
            Script::new()
        }),
    );
    assert!(remote.call_from_thread(|_| {}).is_ok());
    for call in reactor.delayed_calls() {
        call.cancel().unwrap();
    }
    assert!(port.stop_listening().is_fired());
    reactor.remove_system_event_trigger(trigger).unwrap();
    drop(reactor);
    assert!(remote.call_from_thread(|_| {}).is_err());
}
