//! Any public call inside any callback.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use deferred_reactor::net::{Port, Transport};
use deferred_reactor::{Deferred, Phase, Reactor, SystemEvent, defer_later, defer_to_thread};

use peers::{Journal, Script, Scripts, connect, journal, kind, listen, note, run};

/// What callbacks get to work with.
#[derive(Clone)]
struct Scene {
    reactor: Reactor,
    transport: Rc<RefCell<Option<Transport>>>,
    port: Rc<RefCell<Option<Port>>>,
    /// Where it was called.
    places: Journal,
    act: Rc<dyn Fn(&Scene)>,
}

impl Scene {
    fn new(act: impl Fn(&Scene) + 'static) -> Self {
        Self {
            reactor: Reactor::new().unwrap(),
            transport: Rc::default(),
            port: Rc::default(),
            places: journal(),
            act: Rc::new(act),
        }
    }

    /// Does the thing, in the callback of this name.
    fn act(&self, place: &str) {
        note(&self.places, place);
        (self.act)(self);
    }

    fn transport(&self, call: impl FnOnce(&Transport)) {
        let transport = self.transport.borrow().clone();
        if let Some(transport) = transport {
            call(&transport);
        }
    }
}

/// Everything that leaves connections, ports and the reactor as they are.
fn use_everything(scene: &Scene) {
    let reactor = &scene.reactor;
    let call = reactor.call_later(Duration::from_secs(9), || unreachable!());
    call.reset(Duration::from_secs(5)).unwrap();
    call.delay(Duration::from_secs(5)).unwrap();
    assert!(call.time().is_some());
    assert!(!reactor.delayed_calls().is_empty());
    call.cancel().unwrap();
    reactor.call_later(Duration::ZERO, || {});
    // Whatever they end with, when the reactor stops for example.
    let later = defer_later(reactor, Duration::ZERO, || Ok(()));
    drop(later.add_errback(|_| Ok(())));
    let nap = deferred_reactor::sleep(reactor, Duration::ZERO);
    drop(
        nap.add_timeout(Duration::ZERO, reactor)
            .add_errback(|_| Ok(())),
    );

    reactor.remote().call_from_thread(|_| {}).unwrap();
    reactor.call_in_thread(|| {});
    drop(defer_to_thread(reactor, || Ok(())));
    reactor.suggest_thread_pool_size(3);

    let id = reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, || Ok(()));
    reactor.remove_system_event_trigger(id).unwrap();
    reactor.remove_system_event_trigger(id).unwrap_err();
    let here = reactor.clone();
    reactor.add_system_event_trigger(Phase::During, SystemEvent::Named("user"), move || {
        drop(here.fire_system_event("another"));
        Ok(())
    });
    assert!(reactor.fire_system_event("user").is_fired());
    reactor.call_when_running(|| {});

    assert!(reactor.run_without_signals().is_err());
    assert_eq!(reactor.exit_signal(), None);
    let (port, _) = listen(reactor, Scripts::new(Script::new));
    drop(format!(
        "{reactor:?} {port:?} {} {}",
        reactor.is_running(),
        port.address()
    ));
    assert!(port.stop_listening().is_fired());

    scene.transport(|transport| {
        transport.pause_producing();
        transport.resume_producing();
        transport.set_tcp_no_delay(true);
        transport.write(b"a");
        transport.write_bytes(Bytes::from_static(&[b'b'; 20_000]));
        transport.write_with(|buffer| {
            buffer.push(b'd');
            transport.write_with(|inner| inner.push(b'c'));
            drop(format!("{transport:?} {}", transport.buffered()));
        });
        assert_eq!(transport.peer().is_some(), transport.is_connected());
        assert_eq!(
            transport.host().is_some(),
            transport.time_source().is_some()
        );
    });
}

/// Runs a server and a peer through all there is, and acts in every callback.
fn play(scene: &Scene) {
    let reactor = &scene.reactor;
    let (build, begin, end) = (scene.clone(), scene.clone(), scene.clone());
    let factory = Scripts::new(move || {
        build.act("build_protocol");
        let (made, data, read_lost) = (build.clone(), build.clone(), build.clone());
        let (drained, lost) = (build.clone(), build.clone());
        Script::new()
            .made(move |transport| {
                *made.transport.borrow_mut() = Some(transport.clone());
                // More than 64 KiB, so that it is told when that is sent.
                transport.write(&[b'h'; 70_000]);
                made.act("connection_made");
                Ok(())
            })
            .data(move |_, _| {
                data.act("data_received");
                Ok(())
            })
            .read_lost(move |transport| {
                read_lost.act("read_connection_lost");
                transport.lose_connection();
            })
            .drained(move |_| {
                if !drained.places.borrow().iter().any(|p| p == "write_drained") {
                    drained.act("write_drained");
                }
            })
            .lost(move |reason| {
                lost.act("connection_lost");
                note(&lost.places, kind(reason));
            })
    })
    .start(move || begin.act("start_factory"))
    .stop(move || end.act("stop_factory"));

    for (event, name) in [
        (SystemEvent::Startup, "start"),
        (SystemEvent::Shutdown, "end"),
    ] {
        for phase in [Phase::Before, Phase::During, Phase::After] {
            let scene = scene.clone();
            reactor.add_system_event_trigger(phase, event, move || {
                scene.act(&format!("{phase:?} {name}"));
                Ok(())
            });
        }
    }
    let when_running = scene.clone();
    reactor.call_when_running(move || {
        when_running.act("call_when_running");
        when_running.reactor.call_later(Duration::ZERO, {
            let scene = when_running.clone();
            move || scene.act("call_later")
        });
        let scene = when_running.clone();
        let job = defer_to_thread(&when_running.reactor, || Ok(()));
        drop(job.map(move |()| scene.act("a job's callback")));
    });
    let from_thread = scene.clone();
    peers::lend(reactor, move || from_thread.act("call_from_thread"))();
    let cancelled = scene.clone();
    let (deferred, _resolver) =
        Deferred::<()>::with_canceller(move |_| cancelled.act("a canceller"));
    let canceller = deferred.canceller();
    drop(deferred.add_errback(|_| Ok(())));
    reactor.call_later(Duration::ZERO, move || canceller.cancel());
    let dropped = OnDrop(scene.clone());
    reactor.call_later(Duration::from_secs(99), move || drop(dropped));

    // The factory is started inside of this, so nobody must hold a borrow of the scene.
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = peers::address_of(&port);
    *scene.port.borrow_mut() = Some(port);
    let remote = reactor.remote();
    let peer = std::thread::spawn(move || {
        // The port may be closed before.
        if let Ok(mut peer) = std::net::TcpStream::connect(address) {
            peer.set_read_timeout(Some(peers::LIMIT)).unwrap();
            // Speaks first: a port that is closed in the middle of a handshake may leave a peer that
            // only listens without a word.
            let _ = peer.write_all(b"data");
            let _ = peer.read_exact(&mut [0; 5]);
            let _ = peer.shutdown(Shutdown::Write);
            let _ = peer.read_to_end(&mut Vec::new());
        }
        // It may have been stopped before.
        let _ = remote.call_from_thread(|reactor| {
            let _ = reactor.stop();
        });
    });
    run(reactor);
    peer.join().unwrap();
    scene.port.take();
    scene.transport.take();
}

/// What a delayed call has captured.
struct OnDrop(Scene);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.act("a drop");
    }
}

/// B-16.
#[test]
fn everything_can_be_used_in_every_callback() {
    let scene = Scene::new(|scene| {
        if scene.places.borrow().len() == 1 {
            // It does not run while its factory is started, so it would run here.
            return;
        }
        use_everything(scene);
    });
    play(&scene);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
    let places = scene.places.take();
    for place in [
        "start_factory",
        "Before start",
        "During start",
        "After start",
        "call_when_running",
        "call_later",
        "call_from_thread",
        "a job's callback",
        "a canceller",
        "build_protocol",
        "connection_made",
        "data_received",
        "write_drained",
        "read_connection_lost",
        "connection_lost",
        "Before end",
        "During end",
        "After end",
        "stop_factory",
        "a drop",
    ] {
        assert!(
            places.iter().any(|p| p == place),
            "{place} is missing in {places:?}"
        );
    }
}

/// Everything that ends something, in each callback in turn: the run returns, nothing panics, and
/// whoever was connected has been told once.
fn end_in_every_callback(end: fn(&Scene)) {
    for place in [
        "start_factory",
        "After start",
        "call_when_running",
        "call_later",
        "call_from_thread",
        "a job's callback",
        "a canceller",
        "build_protocol",
        "connection_made",
        "data_received",
        "write_drained",
        "read_connection_lost",
        "connection_lost",
        "Before end",
        "During end",
        "After end",
        "stop_factory",
        "a drop",
    ] {
        let scene = Scene::new(move |scene| {
            let is_here = scene.places.borrow().last().is_some_and(|p| p == place);
            if is_here {
                end(scene);
            }
        });
        play(&scene);
        assert_eq!(peers::errors_logged_here(), Vec::<String>::new(), "{place}");
        let places = scene.places.take();
        let count = |name| places.iter().filter(|p| *p == name).count();
        assert_eq!(
            count("connection_made"),
            count("connection_lost"),
            "{place}"
        );
        assert_eq!(count("stop_factory"), 1, "{place}");
        assert_eq!(count("After end"), 1, "{place}");
    }
}

/// B-16.
#[test]
fn a_connection_can_be_closed_in_every_callback() {
    end_in_every_callback(|scene| scene.transport(Transport::lose_connection));
}

/// B-16.
#[test]
fn a_connection_can_be_half_closed_in_every_callback() {
    end_in_every_callback(|scene| scene.transport(Transport::lose_write_connection));
}

/// B-16.
#[test]
fn a_connection_can_be_aborted_in_every_callback() {
    end_in_every_callback(|scene| scene.transport(Transport::abort_connection));
}

/// B-16.
#[test]
fn a_port_can_be_closed_in_every_callback() {
    end_in_every_callback(|scene| {
        let port = scene.port.borrow().clone();
        if let Some(port) = port {
            assert!(port.stop_listening().is_fired());
        }
    });
}

/// B-16.
#[test]
fn a_reactor_can_be_stopped_in_every_callback() {
    end_in_every_callback(|scene| {
        let _ = scene.reactor.stop();
    });
}

/// B-16.
#[test]
fn all_can_be_closed_at_once_in_every_callback() {
    end_in_every_callback(|scene| {
        let port = scene.port.borrow().clone();
        drop(port.map(|port| port.stop_listening()));
        let _ = scene.reactor.stop();
        scene.transport(|transport| {
            transport.write(b"last");
            transport.lose_connection();
            transport.abort_connection();
            transport.write(b"too late");
        });
    });
}

/// B-16: a connection closes others, and is not the one that is told.
#[test]
fn a_protocol_can_close_all_connections() {
    let (reactor, ends) = (Reactor::new().unwrap(), journal());
    let (all, seen) = (Rc::new(RefCell::new(Vec::<Transport>::new())), ends.clone());
    let factory = Scripts::new(move || {
        let (made, data, lost) = (all.clone(), all.clone(), seen.clone());
        Script::new()
            .made(move |transport| {
                made.borrow_mut().push(transport.clone());
                transport.write(b"?");
                Ok(())
            })
            .data(move |_, _| {
                data.borrow().iter().for_each(Transport::lose_connection);
                Ok(())
            })
            .lost(move |reason| note(&lost, kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    peers::run_with_peer(&reactor, move || {
        let mut all: Vec<_> = (0..10).map(|_| connect(address)).collect();
        for peer in &mut all {
            peers::read_exactly(peer, 1);
        }
        all[3].write_all(b"x").unwrap();
        for peer in &mut all {
            assert_eq!(peers::read_all(peer), b"");
        }
    });
    assert_eq!(*ends.borrow(), ["done"; 10]);
}
