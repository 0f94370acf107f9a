//! Ports, the protocols made for their connections, and how connections end.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{Shutdown, TcpListener};
use std::rc::Rc;
use std::sync::mpsc;

use deferred_reactor::net::{
    Address, CannotListenError, ConnectionLost, Factory, FactoryIdentity, Protocol, Transport,
};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor};

use peers::{
    Script, Scripts, address_of, connect, journal, kind, listen, note, read_all, read_exactly, run,
    run_with_peer,
};

///
#[test]
fn a_port_is_bound_when_listen_tcp_returns() {
    let reactor = Reactor::new().unwrap();
    let (port, address) = listen(&reactor, Scripts::new(Script::new));
    assert_ne!(address.port(), 0);
    assert_eq!(
        port.address().to_string(),
        format!("127.0.0.1:{}", address.port())
    );
    // The system takes connections already; the reactor does when it runs.
    drop(connect(address));
}

///
#[test]
fn each_connection_gets_a_protocol_that_learns_both_ends() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let seen = calls.clone();
    let factory = Scripts::for_peer(move |peer| {
        let (seen, peer) = (seen.clone(), peer.clone());
        Some(Script::new().made(move |transport| {
            assert_eq!(transport.peer(), Some(peer.clone()));
            let (from, to) = (transport.peer().unwrap(), transport.host().unwrap());
            note(&seen, format!("{from} to {to}"));
            transport.write(b"hello");
            transport.lose_connection();
            Ok(())
        }))
    });
    let (_, address) = listen(&reactor, factory);
    let want = run_with_peer(&reactor, move || {
        let connections = (0..3).map(|_| {
            let mut peer = connect(address);
            assert_eq!(read_all(&mut peer), b"hello");
            format!("{} to {address}", peer.local_addr().unwrap())
        });
        connections.collect::<Vec<_>>()
    });
    assert_eq!(*calls.borrow(), want);
}

///
#[test]
fn a_port_can_be_on_ipv6() {
    let reactor = Reactor::new().unwrap();
    let Ok(port) = reactor.listen_tcp("[::1]:0", Scripts::new(Script::echo)) else {
        return; // this machine has none
    };
    let address = address_of(&port);
    assert!(address.is_ipv6());
    let answer = run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"x").unwrap();
        read_exactly(&mut peer, 1)
    });
    assert_eq!(answer, b"x");
}

///
#[test]
fn an_address_in_use_is_an_error_and_the_factory_is_not_started() {
    let reactor = Reactor::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let factory = Scripts::new(Script::new)
        .start(|| unreachable!("started"))
        .stop(|| unreachable!("stopped"));
    let error: CannotListenError = reactor.listen_tcp(address, factory).unwrap_err();
    assert_eq!(error.address, address.to_string());
    assert_eq!(error.cause.kind(), std::io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(std::error::Error::source(&error).is_some());
}

///
#[test]
fn an_address_that_makes_no_sense_is_an_error() {
    let reactor = Reactor::new().unwrap();
    for address in ["127.0.0.1", "127.0.0.1:x", "192.0.2.1:0"] {
        let error = reactor
            .listen_tcp(address, Scripts::new(Script::new))
            .unwrap_err();
        assert_eq!(error.address, address);
    }
}

///
#[test]
fn a_port_that_stopped_can_be_bound_again_and_keeps_its_connections() {
    let reactor = Reactor::new().unwrap();
    let port = reactor
        .listen_tcp("127.22.24.1:0", Scripts::new(Script::echo))
        .unwrap();
    let address = address_of(&port);
    let (here, (tell, told)) = (reactor.clone(), mpsc::channel());
    let bind_again = peers::lend(&reactor, move || {
        let again = port.stop_listening().add_callback(move |()| {
            let factory = Scripts::new(|| {
                Script::new().made(|transport| {
                    transport.write(b"new");
                    Ok(())
                })
            });
            Ok(here.listen_tcp(address, factory)?)
        });
        tell.send(again.result().is_ok()).unwrap();
    });
    run_with_peer(&reactor, move || {
        let mut old = connect(address);
        old.write_all(b"1").unwrap();
        read_exactly(&mut old, 1);
        bind_again();
        assert_eq!(told.recv_timeout(peers::LIMIT), Ok(true));
        let mut new = connect(address);
        assert_eq!(read_exactly(&mut new, 3), b"new");
        old.write_all(b"2").unwrap();
        assert_eq!(read_exactly(&mut old, 1), b"2");
    });
}

///
#[test]
fn a_port_can_be_stopped_twice_and_when_the_reactor_is_gone() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let ended = calls.clone();
    let factory = Scripts::new(Script::new).stop(move || note(&ended, "stopped"));
    let (port, _) = listen(&reactor, factory);
    for _ in 0..2 {
        assert!(port.stop_listening().result().is_ok());
    }
    drop(reactor);
    assert!(port.stop_listening().result().is_ok());
    assert_eq!(*calls.borrow(), ["stopped"]);
}

///
#[test]
fn a_shared_factory_is_started_once_and_stopped_once() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let (begun, ended) = (calls.clone(), calls.clone());
    let factory = Rc::new(
        Scripts::new(Script::new)
            .start(move || note(&begun, "start"))
            .stop(move || note(&ended, "stop")),
    );
    for _ in 0..2 {
        let (first, _) = listen(&reactor, factory.clone());
        let (second, _) = listen(&reactor, factory.clone());
        assert_eq!(*calls.borrow(), ["start"]);
        drop(first.stop_listening());
        let (third, _) = listen(&reactor, factory.clone());
        drop(second.stop_listening());
        assert_eq!(*calls.borrow(), ["start"]);
        drop(third.stop_listening());
        assert_eq!(calls.take(), ["start", "stop"]);
    }
}

/// A factory around another one, as users write them.
struct Around<F>(F);

impl<F: Factory> Factory for Around<F> {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.0.build_protocol(peer)
    }
    fn start_factory(&self) {
        self.0.start_factory();
    }
    fn stop_factory(&self) {
        self.0.stop_factory();
    }
    fn shared_identity(&self) -> Option<FactoryIdentity> {
        self.0.shared_identity()
    }
}

/// F-21.
#[test]
fn a_factory_is_started_once_and_stopped_once_whatever_is_around_it() {
    let journal = journal();
    let (started, ended) = (journal.clone(), journal.clone());
    let factory = Rc::new(
        Scripts::new(Script::new)
            .start(move || note(&started, "start"))
            .stop(move || note(&ended, "stop")),
    );
    let memory = MemoryReactor::new();
    let ports = [
        memory.listen_tcp("127.0.0.1:1", factory.clone()).unwrap(),
        memory
            .listen_tcp("127.0.0.1:2", Around(factory.clone()))
            .unwrap(),
        memory
            .listen_tcp("127.0.0.1:3", Rc::new(Around(factory.clone())))
            .unwrap(),
        memory
            .listen_tcp("127.0.0.1:4", Around(Rc::new(Around(factory))))
            .unwrap(),
    ];
    assert_eq!(*journal.borrow(), ["start"]);
    for port in ports {
        assert_eq!(*journal.borrow(), ["start"]);
        drop(port.stop_listening());
    }
    assert_eq!(*journal.borrow(), ["start", "stop"]);
}

///
#[test]
fn a_shared_factory_is_stopped_once_when_the_reactor_stops() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let ended = calls.clone();
    let factory = Rc::new(Scripts::new(Script::new).stop(move || note(&ended, "stop")));
    listen(&reactor, factory.clone());
    listen(&reactor, factory);
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    run(&reactor);
    assert_eq!(*calls.borrow(), ["stop"]);
}

///
#[test]
fn a_connection_that_is_not_wanted_is_closed_and_the_next_is_served() {
    let reactor = Reactor::new().unwrap();
    let count = Cell::new(0);
    let factory = Scripts::for_peer(move |_| {
        count.set(count.get() + 1);
        (count.get() % 2 == 0).then(Script::echo)
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        for _ in 0..3 {
            assert_eq!(read_all(&mut connect(address)), b"");
            let mut served = connect(address);
            served.write_all(b"x").unwrap();
            assert_eq!(read_exactly(&mut served, 1), b"x");
        }
    });
}

///
#[test]
fn a_factory_that_panics_loses_that_connection_only() {
    let reactor = Reactor::new().unwrap();
    let count = Cell::new(0);
    let factory = Scripts::new(move || {
        count.set(count.get() + 1);
        assert!(count.get() > 1, "this factory cannot build");
        Script::echo()
    })
    .start(|| panic!("this factory cannot start"))
    .stop(|| panic!("this factory cannot stop"));
    peers::watch_log();
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        assert_eq!(read_all(&mut connect(address)), b"");
        let mut served = connect(address);
        served.write_all(b"x").unwrap();
        assert_eq!(read_exactly(&mut served, 1), b"x");
    });
    for text in ["cannot build", "cannot start", "cannot stop"] {
        let text = format!("this factory {text}");
        assert_eq!(peers::times_logged(&text), 1, "{text}");
    }
}

/// Serves one connection and tells how it ended, once it has.
fn ending_of(
    script: impl Fn(Script) -> Script + 'static,
    peer: impl FnOnce(std::net::TcpStream) + Send + 'static,
) -> Failure {
    let reactor = Reactor::new().unwrap();
    let ending = Rc::new(RefCell::new(None));
    let (seen, stop) = (ending.clone(), reactor.clone());
    let factory = Scripts::new(move || {
        let (seen, stop) = (seen.clone(), stop.clone());
        script(Script::new()).lost(move |reason| {
            let reason = match reason.check::<ConnectionLost>() {
                Some(lost) => {
                    Failure::from(ConnectionLostWith(lost.cause.as_ref().map(|c| c.kind())))
                }
                None => Failure::message(format!("{} {reason}", kind(reason))),
            };
            assert!(seen.replace(Some(reason)).is_none(), "lost twice");
            stop.stop().unwrap();
        })
    });
    let (_, address) = listen(&reactor, factory);
    let thread = std::thread::spawn(move || peer(connect(address)));
    run(&reactor);
    thread.join().unwrap();
    ending.take().unwrap()
}

/// What is left of a [`ConnectionLost`], which is not to be had by value.
#[derive(Debug)]
struct ConnectionLostWith(Option<std::io::ErrorKind>);

impl std::fmt::Display for ConnectionLostWith {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lost {:?}", self.0)
    }
}

impl std::error::Error for ConnectionLostWith {}

///
#[test]
fn a_peer_that_closes_is_a_clean_end() {
    for half in [true, false] {
        let ending = ending_of(
            |script| script,
            move |mut peer| {
                peer.write_all(b"x").unwrap();
                if half {
                    peer.shutdown(Shutdown::Write).unwrap();
                    assert_eq!(read_all(&mut peer), b"");
                }
            },
        );
        assert!(ending.to_string().starts_with("done"), "{ending}");
    }
}

///
#[test]
fn a_peer_that_closes_at_once_is_a_clean_end() {
    let ending = ending_of(|script| script, drop);
    assert!(ending.to_string().starts_with("done"), "{ending}");
}

///
#[test]
fn a_peer_that_resets_is_a_loss() {
    let write = |transport: &Transport| {
        transport.write(b"never read");
        Ok(())
    };
    let ending = ending_of(move |script| script.made(write), peers::reset);
    assert_eq!(ending.to_string(), "lost Some(ConnectionReset)");
}

/// also where nobody reads.
#[test]
fn a_peer_that_resets_is_noticed_while_reading_is_paused() {
    let write = |transport: &Transport| {
        transport.pause_producing();
        transport.write(b"never read");
        Ok(())
    };
    let ending = ending_of(move |script| script.made(write), peers::reset);
    assert_eq!(ending.to_string(), "lost Some(ConnectionReset)");
}

/// also where the last that was read made the protocol pause.
#[test]
fn a_reset_that_comes_with_data_is_noticed_although_the_data_made_the_protocol_pause() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let (seen, stop) = (calls.clone(), reactor.clone());
    let factory = Scripts::new(move || {
        let (data, lost, stop) = (seen.clone(), seen.clone(), stop.clone());
        Script::new()
            .made(|transport| {
                transport.write(b"never read");
                Ok(())
            })
            .data(move |transport, bytes| {
                note(&data, String::from_utf8_lossy(bytes));
                transport.pause_producing();
                Ok(())
            })
            .lost(move |reason| {
                note(&lost, kind(reason));
                stop.stop().unwrap();
            })
    });
    let (_, address) = listen(&reactor, factory);
    let ((tell, told), (go, may_go)) = (mpsc::channel(), mpsc::channel());
    let hold = peers::lend(&reactor, move || {
        tell.send(()).unwrap();
        may_go.recv_timeout(peers::LIMIT).unwrap();
    });
    let peer = std::thread::spawn(move || {
        let mut peer = connect(address);
        peer.peek(&mut [0]).unwrap();
        // While the reactor is busy with something else, both happen.
        hold();
        told.recv_timeout(peers::LIMIT).unwrap();
        peer.write_all(b"data").unwrap();
        peers::reset(peer);
        go.send(()).unwrap();
    });
    run(&reactor);
    peer.join().unwrap();
    assert_eq!(*calls.borrow(), ["data", "lost"]);
}

/// with output that the peer had not taken.
#[test]
fn a_reset_while_closing_is_a_loss() {
    let ending = ending_of(
        |script| {
            script.made(|transport| {
                transport.write_bytes(vec![0; peers::HUGE].into());
                transport.lose_connection();
                Ok(())
            })
        },
        peers::reset,
    );
    assert!(ending.to_string().starts_with("lost Some"), "{ending}");
}

///
#[test]
fn an_error_in_a_protocol_is_the_reason_its_connection_ends() {
    let ending = ending_of(
        |script| script.data(|_, _| Err(Failure::message("this is not my language"))),
        |mut peer| {
            peer.write_all(b"x").unwrap();
            let _ = std::io::Read::read(&mut peer, &mut [0]);
        },
    );
    assert_eq!(ending.to_string(), "error this is not my language");
    assert_eq!(peers::times_logged("this is not my language"), 1);
}

///
#[test]
fn a_panic_in_a_protocol_ends_its_connection_and_no_other() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let seen = calls.clone();
    let factory = Scripts::new(move || {
        let lost = seen.clone();
        Script::new()
            .data(|transport, data| {
                assert_ne!(data, b"!", "data that this protocol panics on");
                transport.write(data);
                Ok(())
            })
            .lost(move |reason| note(&lost, kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        let (mut good, mut bad) = (connect(address), connect(address));
        bad.write_all(b"!").unwrap();
        assert_eq!(read_all(&mut bad), b"");
        good.write_all(b"x").unwrap();
        assert_eq!(read_exactly(&mut good, 1), b"x");
    });
    assert_eq!(calls.borrow()[0], "panic");
    assert_eq!(calls.borrow().len(), 2);
    assert_eq!(peers::times_logged("data that this protocol panics on"), 1);
}

/// in each of the methods.
#[test]
fn a_protocol_may_panic_in_any_method() {
    type Break = fn(Script) -> Script;
    let ways: [(&str, &str, Break); 4] = [
        ("connection_made", "panic", |script| {
            script.made(|_| panic!("a broken connection_made"))
        }),
        ("data_received", "panic", |script| {
            script.data(|_, _| panic!("a broken data_received"))
        }),
        ("read_connection_lost", "panic", |script| {
            script.read_lost(|_| panic!("a broken read_connection_lost"))
        }),
        ("connection_lost", "done", |script| script),
    ];
    for (name, want, break_it) in ways {
        let (reactor, ends) = (Reactor::new().unwrap(), journal());
        let seen = ends.clone();
        let factory = Scripts::new(move || {
            let lost = seen.clone();
            break_it(Script::new()).lost(move |reason| {
                note(&lost, kind(reason));
                panic!("a broken connection_lost");
            })
        });
        let (_, address) = listen(&reactor, factory);
        let logged = peers::times_logged(&format!("a broken {name}"));
        run_with_peer(&reactor, move || {
            let mut peer = connect(address);
            // It may be gone already.
            let _ = peer.write_all(b"x");
            let _ = peer.shutdown(Shutdown::Write);
            let _ = std::io::Read::read_to_end(&mut peer, &mut Vec::new());
        });
        assert_eq!(*ends.borrow(), [want], "{name}");
        let logged_since = peers::times_logged(&format!("a broken {name}")) - logged;
        assert_eq!(logged_since, 1, "{name}");
    }
}

///
#[test]
fn a_protocol_may_panic_in_write_drained() {
    let (tell, told) = mpsc::channel();
    let ending = ending_of(
        move |script| {
            let tell = tell.clone();
            script
                .made(|transport| {
                    transport.write_bytes(vec![0; peers::HUGE].into());
                    Ok(())
                })
                .data(move |_, _| Ok(tell.send(())?))
                .drained(|_| panic!("a broken write_drained"))
        },
        move |mut peer| {
            peer.write_all(b"x").unwrap();
            told.recv_timeout(peers::LIMIT).unwrap();
            let _ = std::io::Read::read_to_end(&mut peer, &mut Vec::new());
        },
    );
    assert!(ending.to_string().starts_with("panic"), "{ending}");
}

///
#[test]
fn nothing_is_delivered_between_pause_and_resume() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let transports = Rc::new(RefCell::new(None::<Transport>));
    let (seen, kept) = (calls.clone(), transports.clone());
    let factory = Scripts::new(move || {
        let (made, data) = (kept.clone(), seen.clone());
        Script::new()
            .made(move |transport| {
                transport.pause_producing();
                *made.borrow_mut() = Some(transport.clone());
                transport.write(b"?");
                Ok(())
            })
            .data(move |transport, bytes| {
                note(&data, String::from_utf8_lossy(bytes));
                transport.write(b"!");
                Ok(())
            })
    });
    let (_, address) = listen(&reactor, factory);
    let seen = calls.clone();
    let resume = peers::lend(&reactor, move || {
        note(&seen, "resumed");
        transports.take().unwrap().resume_producing();
    });
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        read_exactly(&mut peer, 1);
        peer.write_all(b"hello").unwrap();
        resume();
        read_exactly(&mut peer, 1);
    });
    assert_eq!(*calls.borrow(), ["resumed", "hello"]);
}

///
#[test]
fn pausing_inside_data_received_keeps_the_rest_for_later() {
    let (reactor, sizes) = (Reactor::new().unwrap(), Rc::new(RefCell::new(Vec::new())));
    let (seen, timers) = (sizes.clone(), reactor.clone());
    const SENT: usize = 1 << 20;
    let factory = Scripts::new(move || {
        let (seen, timers) = (seen.clone(), timers.clone());
        Script::new().data(move |transport, data| {
            transport.pause_producing();
            seen.borrow_mut().push(data.len());
            if seen.borrow().iter().sum::<usize>() == SENT {
                transport.write(b"all");
            }
            // A turn of the loop goes by without data.
            let (transport, before) = (transport.clone(), seen.borrow().len());
            let seen = seen.clone();
            timers.call_later(std::time::Duration::ZERO, move || {
                assert_eq!(seen.borrow().len(), before);
                transport.resume_producing();
            });
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(&peers::pattern(SENT)).unwrap();
        assert_eq!(read_exactly(&mut peer, 3), b"all");
    });
    assert!(sizes.borrow().len() > 1);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

///
#[test]
fn resuming_does_not_undo_lose_connection() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let (seen, kept) = (calls.clone(), Rc::new(RefCell::new(None::<Transport>)));
    let transport_of = kept.clone();
    let factory = Scripts::new(move || {
        let (data, lost, kept) = (seen.clone(), seen.clone(), kept.clone());
        Script::new()
            .made(move |transport| {
                transport.pause_producing();
                // More than the system takes, so that the connection stays for a while.
                transport.write_bytes(vec![0; peers::HUGE].into());
                transport.lose_connection();
                transport.resume_producing();
                *kept.borrow_mut() = Some(transport.clone());
                Ok(())
            })
            .data(move |_, _| {
                note(&data, "data");
                Ok(())
            })
            .lost(move |reason| note(&lost, kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"x").unwrap();
        // What is unread on the other side makes its close a reset.
        let mut bytes = vec![0; 1 << 16];
        let mut received = 0;
        while let Ok(count @ 1..) = std::io::Read::read(&mut peer, &mut bytes) {
            received += count;
        }
        received
    });
    assert!(received > 1 << 20);
    assert_eq!(*calls.borrow(), ["done"]);
    let transport = transport_of.take().unwrap();
    transport.resume_producing();
    assert!(!transport.is_connected());
}
