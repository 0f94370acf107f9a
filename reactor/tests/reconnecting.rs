//! Connecting again, later and later, until it works or nobody wants it any more.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod factories;
mod peers;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{
    Address, ClientFactory, Connector, ConnectorState, Factory, Protocol,
    ReconnectingClientFactory, Reconnection,
};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Clock, Failure, Reactor};

use factories::{Client, closed_port, counter, stop};
use peers::{Journal, Script, Scripts, journal, listen, note, run};

const SECOND: Duration = Duration::from_secs(1);

/// Exact delays, by a clock that the test moves.
fn exact(clock: &Clock) -> Reconnection {
    Reconnection::new().jitter(0.0).clock(clock)
}

/// Has each wait noted, and then be over at once.
fn skip_waits(reactor: &Reactor, clock: &Clock, told: &Journal) {
    if let Some(call) = clock.delayed_calls().first() {
        let wait = call.time().unwrap() - clock.now();
        note(told, format!("waits {}", wait.as_secs_f64()));
        clock.advance(wait);
    }
    let (again, clock, told) = (reactor.clone(), clock.clone(), told.clone());
    reactor.call_later(Duration::ZERO, move || skip_waits(&again, &clock, &told));
}

/// The waits that were noted.
fn waits(told: &Journal) -> Vec<String> {
    let told = told.borrow();
    let waits = told.iter().filter_map(|told| told.strip_prefix("waits "));
    waits.map(str::to_owned).collect()
}

/// Runs a client against a port where nobody listens, until it has failed so often.
fn fail(reactor: &Reactor, again: Reconnection, clock: &Clock, times: u32) -> Vec<String> {
    let (_socket, address) = closed_port();
    let (failures, end) = (counter(), reactor.clone());
    let client = Client::none().failed(move |_, _| {
        if factories::add_one(&failures) == times {
            stop(&end);
        }
    });
    let told = client.journal.clone();
    reactor.connect_tcp(
        address,
        ReconnectingClientFactory::with(again.clone(), client),
    );
    skip_waits(reactor, clock, &told);
    run(reactor);
    again.stop_trying();
    told.take()
}

#[test]
fn a_client_that_fails_tries_again_later_and_later() {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let told = fail(&reactor, exact(&clock), &clock, 3);
    let once = ["start", "connecting", "failed: refused", "stop"];
    let want = [&once[..], &["waits 1"], &once, &["waits 2"], &once].concat();
    assert_eq!(told, want);
}

#[test]
fn waits_are_as_they_were_set() {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let again = exact(&clock)
        .initial_delay(SECOND * 3)
        .factor(3.0)
        .max_delay(SECOND * 20);
    let told = Rc::new(RefCell::new(fail(&reactor, again, &clock, 5)));
    assert_eq!(waits(&told), ["3", "9", "20", "20"]);
}

/// By default they vary, so that not all come back at the same moment.
#[test]
fn waits_vary_unless_they_are_told_not_to() {
    let run = |seed| {
        let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
        let again = Reconnection::new().clock(&clock).seed(seed);
        let told = Rc::new(RefCell::new(fail(&reactor, again, &clock, 4)));
        waits(&told)
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
    for (wait, usual) in first.iter().zip([1.0, 2.0, 4.0]) {
        let wait: f64 = wait.parse().unwrap();
        assert!((0.75 * usual..1.25 * usual).contains(&wait), "{first:?}");
    }
}

#[test]
fn after_so_many_retries_it_gives_up() {
    for retries in [0, 2] {
        let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
        let told = fail(
            &reactor,
            exact(&clock).max_retries(retries),
            &clock,
            retries + 1,
        );
        let failures = told.iter().filter(|told| *told == "failed: refused");
        assert_eq!(failures.count(), retries as usize + 1);
        assert_eq!(told.last().unwrap(), "stop");
        assert!(clock.delayed_calls().is_empty());
        let text = format!("after {retries} retries");
        assert!(peers::times_logged(&text) >= 1);
    }
}

/// A server that closes each connection, and the clock moved so far while each is there.
fn lose(lasting: Duration, times: u32, data: fn(&Reconnection)) -> Vec<String> {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let factory = Scripts::new(|| {
        Script::new().made(|transport| {
            transport.write(b"x");
            transport.lose_connection();
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    let again = exact(&clock);
    let (moved, inner) = (clock.clone(), again.clone());
    let (losses, end) = (counter(), reactor.clone());
    let client = Client::new(move || {
        let (moved, inner) = (moved.clone(), inner.clone());
        Script::new().data(move |_, _| {
            moved.advance(lasting);
            data(&inner);
            Ok(())
        })
    });
    let client = client.lost(move |_, _| {
        if factories::add_one(&losses) == times {
            stop(&end);
        }
    });
    let told = client.journal.clone();
    let factory = ReconnectingClientFactory::with(again.clone(), client);
    reactor.connect_tcp(address, factory);
    skip_waits(&reactor, &clock, &told);
    run(&reactor);
    again.stop_trying();
    assert_eq!(
        told.borrow()[..4],
        ["start", "connecting", "build", "lost: done"]
    );
    waits(&told)
}

#[test]
fn a_server_that_closes_at_once_is_asked_later_and_later() {
    assert_eq!(lose(SECOND / 2, 5, |_| {}), ["1", "2", "4", "8"]);
}

#[test]
fn a_connection_that_lasted_longer_than_the_wait_makes_it_begin_anew() {
    assert_eq!(lose(SECOND * 3, 6, |_| {}), ["1", "1", "1", "1", "1"]);
    // Longer than the first two waits, and not longer than the third.
    assert_eq!(lose(SECOND, 5, |_| {}), ["1", "1", "1", "1"]);
}

/// Twisted's `resetDelay`, as a protocol calls it.
#[test]
fn a_protocol_can_make_waiting_begin_anew() {
    assert_eq!(
        lose(Duration::ZERO, 4, Reconnection::reset_delay),
        ["1", "1", "1"]
    );
}

/// What is reached from outside while the reactor runs.
fn waiting_client(
    reactor: &Reactor,
    clock: &Clock,
    address: SocketAddr,
) -> (Reconnection, Connector, Journal) {
    let again = exact(clock);
    let client = Client::new(Script::new);
    let told = client.journal.clone();
    let factory = ReconnectingClientFactory::with(again.clone(), client);
    let connector = reactor.connect_tcp(address, factory);
    (again, connector, told)
}

/// Does something once there is a wait, and ends the run two turns later.
fn once_it_waits(reactor: &Reactor, clock: &Clock, act: impl FnOnce() + 'static) {
    fn look(reactor: Reactor, clock: Clock, act: Box<dyn FnOnce()>) {
        let again = reactor.clone();
        reactor.call_later(Duration::ZERO, move || {
            if clock.delayed_calls().is_empty() {
                return look(again, clock, act);
            }
            act();
            let end = again.clone();
            again.call_later(Duration::ZERO, move || {
                let last = end.clone();
                end.call_later(Duration::ZERO, move || stop(&last));
            });
        });
    }
    look(reactor.clone(), clock.clone(), Box::new(act));
    run(reactor);
}

#[test]
fn stop_trying_ends_the_waiting() {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let (_socket, address) = closed_port();
    let (again, connector, told) = waiting_client(&reactor, &clock, address);
    once_it_waits(&reactor, &clock, move || again.stop_trying());
    assert!(clock.delayed_calls().is_empty());
    assert_eq!(connector.state(), ConnectorState::Disconnected);
    assert_eq!(told.borrow().last().unwrap(), "stop");
    // By hand it connects still, but only once.
    connector.connect().unwrap();
    let end = reactor.clone();
    reactor.connect_tcp(address, Client::none().then_stop(&end));
    run(&reactor);
    assert!(clock.delayed_calls().is_empty());
}

///
#[test]
fn stop_trying_stops_connecting_and_the_factory_is_told() {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let busy = factories::Busy::new();
    let again = exact(&clock);
    let to_stop = again.clone();
    let client = Client::none().started(move |_| to_stop.stop_trying());
    let client = client.then_stop(&reactor);
    let told = client.journal.clone();
    reactor.connect_tcp(busy.address, ReconnectingClientFactory::with(again, client));
    run(&reactor);
    assert_eq!(told.borrow()[1..], ["connecting", "failed: user", "stop"]);
    assert!(clock.delayed_calls().is_empty());
}

/// Twisted would go on.
#[test]
fn a_connector_that_was_stopped_does_not_connect_again() {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let busy = factories::Busy::new();
    let client = Client::none().started(|connector| connector.stop_connecting().unwrap());
    let client = client.then_stop(&reactor);
    reactor.connect_tcp(
        busy.address,
        ReconnectingClientFactory::with(exact(&clock), client),
    );
    run(&reactor);
    assert!(clock.delayed_calls().is_empty());
}

/// B-16: there is no second attempt beside it.
#[test]
fn a_factory_that_connects_by_itself_is_left_to_it() {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let (_socket, address) = closed_port();
    let (failures, end) = (counter(), reactor.clone());
    let client = Client::none().failed(move |connector, _| match factories::add_one(&failures) {
        3 => stop(&end),
        _ => connector.connect().unwrap(),
    });
    let (again, waiting) = (exact(&clock), clock.clone());
    let client = client.started(move |_| assert!(waiting.delayed_calls().is_empty()));
    reactor.connect_tcp(address, ReconnectingClientFactory::with(again, client));
    run(&reactor);
    assert!(peers::errors_logged_here().is_empty());

    // Nor while it waits.
    let (_, connector, told) = waiting_client(&reactor, &clock, address);
    let waiting = clock.clone();
    clock.advance(SECOND * 100);
    once_it_waits(&reactor, &clock, move || {
        connector.connect().unwrap();
        assert!(waiting.delayed_calls().is_empty());
    });
    assert!(told.borrow().len() >= 6);
}

/// Each connector has waits of its own, and they are ended together.
#[test]
fn a_factory_for_several_connectors_keeps_them_apart() {
    let (reactor, clock) = (Reactor::new().unwrap(), Clock::new());
    let (_socket, address) = closed_port();
    let (again, failures, end) = (exact(&clock), counter(), reactor.clone());
    let client = Client::none().failed(move |_, _| {
        if factories::add_one(&failures) == 2 {
            stop(&end);
        }
    });
    let factory = Rc::new(ReconnectingClientFactory::with(again, client));
    for _ in 0..2 {
        reactor.connect_tcp(address, factory.clone());
    }
    run(&reactor);
    let waits = clock.delayed_calls();
    let waits: Vec<_> = waits.iter().map(|call| call.time().unwrap()).collect();
    assert_eq!(waits, [clock.now() + SECOND; 2]);
    factory.reconnection().stop_trying();
    assert!(clock.delayed_calls().is_empty());
    assert_eq!(Rc::strong_count(&factory), 1, "nothing keeps it");
}

/// By the reactor's own time, which ends with the run.
#[test]
fn a_reactor_that_stops_forgets_who_waits() {
    let reactor = Reactor::new().unwrap();
    let (_socket, address) = closed_port();
    let client = Client::none().then_stop(&reactor);
    let again = Reconnection::new();
    let factory = Rc::new(ReconnectingClientFactory::with(again.clone(), client));
    reactor.connect_tcp(address, factory.clone());
    run(&reactor);
    assert!(reactor.delayed_calls().is_empty());
    assert_eq!(Rc::strong_count(&factory), 1, "nothing keeps it");
    again.stop_trying();
}

/// With the defaults, and nothing but the loop.
#[test]
fn a_server_that_comes_back_is_found() {
    let reactor = Reactor::new().unwrap();
    let (socket, address) = closed_port();
    let again = Reconnection::new().initial_delay(Duration::from_millis(1));
    let (failures, server) = (counter(), RefCell::new(Some(socket)));
    let client = Client::new(Script::new).failed(move |_, _| {
        if factories::add_one(&failures) == 3 {
            server.borrow().as_ref().unwrap().listen(1).unwrap();
        }
    });
    let (end, to_stop) = (reactor.clone(), again.clone());
    let client = client.lost(move |_, _| {
        to_stop.stop_trying();
        stop(&end);
    });
    let connector = Rc::new(RefCell::new(None::<Connector>));
    let told = client.journal.clone();
    let started = reactor.connect_tcp(address, ReconnectingClientFactory::with(again, client));
    connector.replace(Some(started));
    fn until_connected(reactor: &Reactor, connector: Connector) {
        let again = reactor.clone();
        reactor.call_later(Duration::from_millis(1), move || {
            match connector.transport() {
                Some(transport) => transport.lose_connection(),
                None => until_connected(&again, connector),
            }
        });
    }
    until_connected(&reactor, connector.take().unwrap());
    run(&reactor);
    let told = told.take();
    assert_eq!(
        told.iter()
            .filter(|told| *told == "failed: refused")
            .count(),
        3
    );
    assert_eq!(told[told.len() - 3..], ["build", "lost: done", "stop"]);
}

/// What is within the reconnecting ones may be shared.
#[test]
fn a_shared_factory_that_connects_again_is_started_once() {
    struct Counting(Journal);

    impl Factory for Counting {
        fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
            None
        }
        fn start_factory(&self) {
            note(&self.0, "start");
        }
        fn stop_factory(&self) {
            note(&self.0, "stop");
        }
    }

    impl ClientFactory for Counting {
        fn client_connection_failed(&self, _: &Connector, _: &Failure) {
            note(&self.0, "failed");
        }
    }

    let (memory, told) = (MemoryReactor::new(), journal());
    let shared = Rc::new(Counting(told.clone()));
    for port in [1, 2] {
        let again = Reconnection::new().max_retries(0);
        let factory = ReconnectingClientFactory::with(again, shared.clone());
        memory.connect_tcp(("127.0.0.1", port), factory);
    }
    memory.pump();
    assert_eq!(*told.borrow(), ["start", "failed", "failed", "stop"]);
}
