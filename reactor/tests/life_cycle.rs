//! Starting, stopping, starting again, and what runs on the way.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::Phase::{After, Before, During};
use deferred_reactor::SystemEvent::{Named, Shutdown, Startup};
use deferred_reactor::net::Transport;
use deferred_reactor::{
    Deferred, Failure, Phase, Reactor, ReactorAlreadyRunningError, ReactorNotRunningError,
    Resolver, SystemEvent, TriggerId, UnknownTriggerError, defer_later,
};

use peers::{Journal, Script, Scripts, connect, journal, kind, listen, note, run, run_with_peer};

/// A trigger that writes a name down.
fn noting(
    reactor: &Reactor,
    journal: &Journal,
    phase: Phase,
    event: SystemEvent,
    name: &'static str,
) -> TriggerId {
    let journal = journal.clone();
    reactor.add_system_event_trigger(phase, event, move || {
        note(&journal, name);
        Ok(())
    })
}

fn stop_when_running(reactor: &Reactor) {
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
}

///
#[test]
fn functions_wait_for_the_start_and_run_in_order() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    noting(&reactor, &order, During, Startup, "startup");
    for name in ["first", "second"] {
        let order = order.clone();
        reactor.call_when_running(move || note(&order, name));
    }
    stop_when_running(&reactor);
    assert!(order.borrow().is_empty());
    run(&reactor);
    assert_eq!(*order.borrow(), ["startup", "first", "second"]);
}

///
#[test]
fn a_function_runs_at_once_when_the_reactor_does() {
    let reactor = Reactor::new().unwrap();
    let (here, was_at_once) = (reactor.clone(), Rc::new(Cell::new(false)));
    let seen = was_at_once.clone();
    reactor.call_later(Duration::ZERO, move || {
        let (inner, stop) = (seen.clone(), here.clone());
        here.call_when_running(move || {
            inner.set(true);
            stop.stop().unwrap();
        });
        assert!(seen.get());
    });
    run(&reactor);
    assert!(was_at_once.get());
    assert!(peers::errors_logged_here().is_empty());
}

///
#[test]
fn stopping_a_reactor_that_does_not_run_is_an_error() {
    let reactor = Reactor::new().unwrap();
    assert!(matches!(reactor.stop(), Err(ReactorNotRunningError { .. })));
    let (stop, second) = (reactor.clone(), Rc::new(Cell::new(None)));
    let seen = second.clone();
    reactor.call_when_running(move || {
        stop.stop().unwrap();
        seen.set(Some(stop.stop()));
    });
    let (stop, third) = (reactor.clone(), Rc::new(Cell::new(None)));
    let seen = third.clone();
    reactor.add_system_event_trigger(During, Shutdown, move || {
        seen.set(Some(stop.stop()));
        Ok(())
    });
    run(&reactor);
    assert!(second.get().unwrap().is_err());
    assert!(third.get().unwrap().is_err());
    assert!(matches!(reactor.stop(), Err(ReactorNotRunningError { .. })));
}

///
#[test]
fn running_a_reactor_from_inside_itself_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let (inner, outcome) = (reactor.clone(), Rc::new(RefCell::new(None)));
    let seen = outcome.clone();
    reactor.call_when_running(move || {
        *seen.borrow_mut() = Some(inner.run());
        inner.stop().unwrap();
    });
    run(&reactor);
    let failure = outcome.take().unwrap().unwrap_err();
    assert!(failure.is::<ReactorAlreadyRunningError>());
}

///
#[test]
fn a_stopped_reactor_runs_again_as_a_fresh_one_would() {
    let reactor = Reactor::new().unwrap();
    for round in 0..50u8 {
        let (_, address) = listen(&reactor, Scripts::new(Script::echo));
        let phases = journal();
        for phase in [Before, During, After] {
            noting(&reactor, &phases, phase, Startup, "start");
            noting(&reactor, &phases, phase, Shutdown, "end");
        }
        let job = deferred_reactor::defer_to_thread(&reactor, move || Ok(round));
        let answer = run_with_peer(&reactor, move || {
            let mut peer = connect(address);
            peer.write_all(&[round]).unwrap();
            peers::read_exactly(&mut peer, 1)
        });
        assert_eq!(answer, [round]);
        assert_eq!(job.result().unwrap(), round);
        assert_eq!(
            phases.take(),
            ["start", "start", "start", "end", "end", "end"]
        );
        assert!(!reactor.is_running());
    }
}

///
#[test]
fn two_reactors_can_run_inside_each_other() {
    let (outer, inner) = (Reactor::new().unwrap(), Reactor::new().unwrap());
    let (stop, done) = (outer.clone(), Rc::new(Cell::new(false)));
    let seen = done.clone();
    outer.call_later(Duration::ZERO, move || {
        stop_when_running(&inner);
        inner.run_without_signals().unwrap();
        seen.set(true);
        stop.stop().unwrap();
    });
    run(&outer);
    assert!(done.get());
}

///
#[test]
fn shutdown_triggers_run_after_the_stop_call_and_before_run_returns() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    for (phase, name) in [
        (After, "after 1"),
        (During, "during 1"),
        (Before, "before 1"),
        (During, "during 2"),
        (After, "after 2"),
        (Before, "before 2"),
    ] {
        noting(&reactor, &order, phase, Shutdown, name);
    }
    let (stop, seen) = (reactor.clone(), order.clone());
    reactor.call_later(Duration::ZERO, move || {
        stop.stop().unwrap();
        note(&seen, "stop returned");
    });
    run(&reactor);
    let want = [
        "stop returned",
        "before 1",
        "before 2",
        "during 1",
        "during 2",
        "after 1",
        "after 2",
    ];
    assert_eq!(*order.borrow(), want);
}

///
#[test]
fn a_reactor_can_be_stopped_from_anywhere() {
    type Arrange = fn(&Reactor);
    let ways: [(&str, Arrange); 6] = [
        ("a delayed call", |reactor| {
            let stop = reactor.clone();
            reactor.call_later(Duration::ZERO, move || stop.stop().unwrap());
        }),
        ("a call from a thread", |reactor| {
            let remote = reactor.remote();
            remote
                .call_from_thread(|reactor| reactor.stop().unwrap())
                .unwrap();
        }),
        ("a job's callback", |reactor| {
            let stop = reactor.clone();
            let job = deferred_reactor::defer_to_thread(reactor, || Ok(()));
            drop(job.add_callback(move |()| Ok(stop.stop()?)));
        }),
        ("a startup trigger", |reactor| {
            let stop = reactor.clone();
            reactor.add_system_event_trigger(During, Startup, move || Ok(stop.stop()?));
        }),
        ("an early startup trigger", |reactor| {
            let stop = reactor.clone();
            reactor.add_system_event_trigger(Before, Startup, move || Ok(stop.stop()?));
        }),
        ("a function that waited for the start", stop_when_running),
    ];
    for (name, arrange) in ways {
        let (reactor, order) = (Reactor::new().unwrap(), journal());
        noting(&reactor, &order, During, Shutdown, "shutdown");
        arrange(&reactor);
        run(&reactor);
        assert_eq!(*order.borrow(), ["shutdown"], "{name}");
        assert!(!reactor.is_running(), "{name}");
    }
}

///
#[test]
fn shutdown_waits_for_the_deferreds_of_its_first_phase() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (_, address) = listen(&reactor, Scripts::new(Script::echo));
    noting(&reactor, &order, During, Shutdown, "during");
    let (served, resolver) = Deferred::<()>::pending();
    reactor.add_system_event_trigger(Before, Shutdown, move || served);
    let (timers, seen) = (reactor.clone(), order.clone());
    reactor.add_system_event_trigger(Before, Shutdown, move || {
        defer_later(&timers, Duration::from_millis(1), move || {
            note(&seen, "a timer");
            Ok(())
        })
    });
    stop_when_running(&reactor);

    let seen = order.clone();
    // From here on only the thread can let the shutdown go on.
    let go_on = peers::lend(&reactor, move || {
        note(&seen, "a connection");
        resolver.callback(()).unwrap();
    });
    let peer = std::thread::spawn(move || {
        let mut peer = connect(address);
        peer.write_all(b"still there?").unwrap();
        let answer = peers::read_exactly(&mut peer, 12);
        go_on();
        answer
    });
    run(&reactor);
    assert_eq!(peer.join().unwrap(), b"still there?");
    let order = order.take();
    assert_eq!(order.len(), 3, "{order:?}");
    assert_eq!(order[2], "during");
}

/// whoever fires the last of those Deferreds; a protocol cannot be told inside itself that it
/// is disconnected.
#[test]
fn a_protocol_can_let_the_shutdown_go_on() {
    peers::watch_log();
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (goodbye, resolver) = Deferred::<()>::pending();
    let resolver = Rc::new(Cell::new(Some(resolver)));
    reactor.add_system_event_trigger(Before, Shutdown, move || goodbye);
    noting(&reactor, &order, During, Shutdown, "during");
    noting(&reactor, &order, After, Shutdown, "after");
    let (seen, stop) = (order.clone(), reactor.clone());
    let factory = Scripts::new(move || {
        let (data, lost, resolver) = (seen.clone(), seen.clone(), resolver.clone());
        Script::new()
            .data(move |_, _| {
                resolver.take().unwrap().callback(()).unwrap();
                note(&data, "data_received returns");
                Ok(())
            })
            .lost(move |reason| note(&lost, kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    stop.call_when_running(move || reactor.stop().unwrap());
    let peer = std::thread::spawn(move || {
        let mut peer = connect(address);
        peer.write_all(b"bye").unwrap();
        let _ = peer.read(&mut [0]);
    });
    run(&stop);
    peer.join().unwrap();
    let want = ["data_received returns", "lost", "during", "after"];
    assert_eq!(*order.borrow(), want);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

///
#[test]
fn the_reactor_counts_as_running_from_during_startup_until_during_shutdown() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    for (event, name) in [(Startup, "startup"), (Shutdown, "shutdown")] {
        for phase in [Before, During, After] {
            let (here, order) = (reactor.clone(), order.clone());
            reactor.add_system_event_trigger(phase, event, move || {
                note(&order, format!("{phase:?} {name}: {}", here.is_running()));
                Ok(())
            });
        }
    }
    stop_when_running(&reactor);
    assert!(!reactor.is_running());
    run(&reactor);
    assert!(!reactor.is_running());
    let want = [
        "Before startup: false",
        "During startup: true",
        "After startup: true",
        "Before shutdown: true",
        "During shutdown: false",
        "After shutdown: false",
    ];
    assert_eq!(*order.borrow(), want);
}

///
#[test]
fn a_reactor_stopped_before_it_had_started_never_counts_as_running() {
    let reactor = Reactor::new().unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let stop = reactor.clone();
    reactor.add_system_event_trigger(Before, Startup, move || Ok(stop.stop()?));
    for (phase, event) in [(Before, Startup), (Before, Shutdown), (During, Shutdown)] {
        let (here, seen) = (reactor.clone(), seen.clone());
        reactor.add_system_event_trigger(phase, event, move || {
            seen.borrow_mut().push(here.is_running());
            Ok(())
        });
    }
    run(&reactor);
    assert_eq!(*seen.borrow(), [false, false, false]);
}

/// What it waited for may come when nobody starts any more.
#[test]
fn a_startup_trigger_that_ends_after_its_run_starts_nothing() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (pending, resolver) = Deferred::pending();
    reactor.add_system_event_trigger(Before, Startup, move || pending);
    let when_running = order.clone();
    reactor.call_when_running(move || note(&when_running, "running"));
    let stop = reactor.clone();
    reactor.call_later(Duration::ZERO, move || stop.stop().unwrap());
    run(&reactor);

    resolver.callback(()).unwrap();
    assert!(order.borrow().is_empty() && !reactor.is_running());

    stop_when_running(&reactor);
    run(&reactor);
    assert_eq!(*order.borrow(), ["running"]);
}

///
#[test]
fn a_pending_startup_trigger_delays_the_start_and_not_the_loop() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (timers, seen) = (reactor.clone(), order.clone());
    reactor.add_system_event_trigger(Before, Startup, move || {
        defer_later(&timers, Duration::from_millis(3), move || {
            note(&seen, "ready");
            Ok(())
        })
    });
    let (here, seen) = (reactor.clone(), order.clone());
    reactor.call_later(Duration::ZERO, move || {
        note(&seen, format!("a call, running: {}", here.is_running()));
    });
    noting(&reactor, &order, During, Startup, "started");
    stop_when_running(&reactor);
    run(&reactor);
    assert_eq!(
        *order.borrow(),
        ["a call, running: false", "ready", "started"]
    );
}

///
#[test]
fn a_removed_trigger_does_not_run() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    for phase in [Before, During, After] {
        let id = noting(&reactor, &order, phase, Startup, "removed");
        reactor.remove_system_event_trigger(id).unwrap();
        let again = reactor.remove_system_event_trigger(id);
        assert!(matches!(again, Err(UnknownTriggerError { .. })));
    }
    let ran = noting(&reactor, &order, During, Startup, "kept");
    stop_when_running(&reactor);
    run(&reactor);
    assert_eq!(*order.borrow(), ["kept"]);
    let late = reactor.remove_system_event_trigger(ran);
    assert!(late.is_err());
}

///
#[test]
fn a_trigger_can_remove_one_that_comes_after_it() {
    for later in [Before, During, After] {
        let (reactor, order) = (Reactor::new().unwrap(), journal());
        let id = Rc::new(Cell::new(None));
        let (here, to_remove) = (reactor.clone(), id.clone());
        reactor.add_system_event_trigger(Before, Shutdown, move || {
            Ok(here.remove_system_event_trigger(to_remove.get().unwrap())?)
        });
        id.set(Some(noting(&reactor, &order, later, Shutdown, "removed")));
        noting(&reactor, &order, later, Shutdown, "kept");
        stop_when_running(&reactor);
        run(&reactor);
        assert_eq!(*order.borrow(), ["kept"], "{later:?}");
    }
}

///
#[test]
fn a_trigger_that_fails_is_logged_and_the_others_run() {
    peers::watch_log();
    for phase in [Before, During, After] {
        let (reactor, order) = (Reactor::new().unwrap(), journal());
        let logged = peers::errors_logged_here().len();
        reactor.add_system_event_trigger(phase, Shutdown, || {
            Err::<(), _>(Failure::message("this trigger failed"))
        });
        reactor.add_system_event_trigger(phase, Shutdown, || -> Result<(), Failure> {
            panic!("this trigger panicked")
        });
        reactor.add_system_event_trigger(phase, Shutdown, || {
            Deferred::<()>::fail(Failure::message("the deferred of this trigger failed"))
        });
        noting(&reactor, &order, phase, Shutdown, "next");
        stop_when_running(&reactor);
        run(&reactor);
        assert_eq!(*order.borrow(), ["next"]);
        let errors = peers::errors_logged_here().split_off(logged);
        assert_eq!(errors.len(), 3, "{phase:?}: {errors:#?}");
        assert!(errors[0].contains("this trigger failed"), "{errors:#?}");
        assert!(errors[1].contains("this trigger panicked"), "{errors:#?}");
    }
}

///
#[test]
fn a_function_that_waited_for_the_start_and_panics_does_not_stop_the_next() {
    peers::watch_log();
    let reactor = Reactor::new().unwrap();
    reactor.call_when_running(|| panic!("a broken start"));
    stop_when_running(&reactor);
    run(&reactor);
    assert_eq!(peers::times_logged("a broken start"), 1);
}

///
#[test]
fn each_trigger_of_a_users_event_runs_once() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    noting(&reactor, &order, After, Named("reload"), "after");
    noting(&reactor, &order, Before, Named("reload"), "before");
    noting(&reactor, &order, During, Named("other"), "other");
    assert!(reactor.fire_system_event("reload").result().is_ok());
    assert_eq!(*order.borrow(), ["before", "after"]);
    assert!(reactor.fire_system_event("reload").result().is_ok());
    assert_eq!(*order.borrow(), ["before", "after"]);
}

///
#[test]
fn a_trigger_can_add_itself_again_for_the_next_firing() {
    fn again(reactor: &Reactor, count: &Rc<Cell<u32>>) {
        let (next, count) = (reactor.clone(), count.clone());
        reactor.add_system_event_trigger(During, Named("reload"), move || {
            count.set(count.get() + 1);
            again(&next, &count);
            Ok(())
        });
    }
    let (reactor, count) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    again(&reactor, &count);
    for fired in 1..4 {
        assert!(reactor.fire_system_event("reload").result().is_ok());
        assert_eq!(count.get(), fired);
    }
}

///
#[test]
fn a_users_event_has_happened_when_its_first_phase_is_done() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (slow, resolver) = Deferred::<()>::pending();
    reactor.add_system_event_trigger(Before, Named("reload"), move || slow);
    noting(&reactor, &order, During, Named("reload"), "during");
    let happened = reactor.fire_system_event("reload");
    assert!(!happened.is_fired());
    assert!(order.borrow().is_empty());
    Resolver::callback(resolver, ()).unwrap();
    assert!(happened.is_fired());
    assert_eq!(*order.borrow(), ["during"]);
}

///
#[test]
fn stopping_closes_connections_and_ports() {
    let (reactor, order) = (Reactor::new().unwrap(), journal());
    let (seen, ended) = (order.clone(), order.clone());
    let factory = Scripts::new(move || {
        let lost = seen.clone();
        Script::echo().lost(move |reason| note(&lost, kind(reason)))
    })
    .stop(move || note(&ended, "factory stopped"));
    let port = reactor.listen_tcp("127.15.0.1:0", factory).unwrap();
    let address = peers::address_of(&port);
    noting(&reactor, &order, After, Shutdown, "after");
    let mut peers = run_with_peer(&reactor, move || {
        let mut peers: Vec<_> = (0..3).map(|_| connect(address)).collect();
        for peer in &mut peers {
            peer.write_all(b"x").unwrap();
            peers::read_exactly(peer, 1);
        }
        peers
    });
    let mut order = order.take();
    assert_eq!(order.pop().as_deref(), Some("after"));
    order.sort();
    assert_eq!(order, ["factory stopped", "lost", "lost", "lost"]);
    for peer in &mut peers {
        assert_eq!(peers::read_all(peer), b"");
    }
    drop(peers);
    assert!(peers::is_free(address));
}

/// what was written last is not lost to a stop, as far as the system takes it.
#[test]
fn what_was_written_before_the_stop_is_sent() {
    let reactor = Reactor::new().unwrap();
    let stop = reactor.clone();
    let factory = Scripts::new(move || {
        let stop = stop.clone();
        Script::new().data(move |transport: &Transport, _| {
            transport.write(b"goodbye");
            Ok(stop.stop()?)
        })
    });
    let (_, address) = listen(&reactor, factory);
    let answer = run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"stop").unwrap();
        peers::read_all(&mut peer)
    });
    assert_eq!(answer, b"goodbye");
}

/// what is told of the end may open something new; it is closed as well.
#[test]
fn a_port_opened_while_stopping_is_closed_again() {
    let reactor = Reactor::new().unwrap();
    let opened = Rc::new(RefCell::new(Vec::new()));
    let (here, ports) = (reactor.clone(), opened.clone());
    let open = Rc::new(move || {
        let factory = Scripts::new(Script::new);
        let port = here.listen_tcp("127.15.0.2:0", factory).unwrap();
        ports.borrow_mut().push(port);
    });
    let again = open.clone();
    listen(&reactor, Scripts::new(Script::new).stop(move || again()));
    reactor.add_system_event_trigger(After, Shutdown, move || {
        open();
        Ok(())
    });
    stop_when_running(&reactor);
    run(&reactor);
    assert_eq!(opened.borrow().len(), 2);
    for port in opened.take() {
        assert!(peers::is_free(peers::address_of(&port)));
    }
}
