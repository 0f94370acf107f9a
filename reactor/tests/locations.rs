//! F-09: a callback that panics, or is slow, is located at the line of the program that gave it to
//! the reactor, whatever kind of callback it is.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deferred_reactor::health::{
    Callback, CallbackKind, Place, ReactorObserver, SlowCallback, Turn,
};
use deferred_reactor::net::{Address, ClientFactory, Connector, Factory, Protocol};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{
    Clock, Deferred, Failure, LoopingCall, PanicError, Phase, Reactor, SystemEvent,
    blocking_call_from_thread, defer_later, defer_to_thread, maybe_deferred, on_unhandled,
    run_workers,
};

use support::{keep_log, logged};

fn bad<T>() -> T {
    panic!("a callback panics")
}

fn bad_result() -> Result<(), Failure> {
    bad()
}

/// Evaluates an expression, and gives the lines that it stands on as well.
macro_rules! located {
    ($call:expr $(,)? ; $end:expr) => {
        (line!()..$end + 1, $call)
    };
}

/// The log has one record of the panic, which names one of these lines.
#[track_caller]
fn assert_logged(lines: Range<u32>) {
    let records: Vec<String> = logged()
        .into_iter()
        .filter(|record| record.contains("a callback panics"))
        .collect();
    let [record] = &records[..] else {
        panic!("{records:#?}");
    };
    let is_named = |line: u32| record.contains(&format!("{}:{line}:", file!()));
    assert!(
        lines.clone().any(is_named),
        "{record} names none of {lines:?}"
    );
}

#[track_caller]
fn assert_located(lines: Range<u32>, failure: &Failure) {
    assert!(failure.is::<PanicError>(), "{failure:#?}");
    let found = failure.location();
    assert_eq!(found.file(), file!());
    assert!(
        lines.contains(&found.line()),
        "{found} is none of {lines:?}"
    );
}

#[test]
fn panics_that_become_failures() {
    let clock = Clock::new();
    let reactor = Reactor::new().unwrap();
    let looping = LoopingCall::new(&clock, bad_result);

    let (lines, ended) = located!(looping.start(Duration::from_secs(1)).unwrap(); line!());
    assert_located(lines, &ended.result().unwrap_err());

    let (lines, ended) = located!(looping.start_later(Duration::from_secs(1)).unwrap(); line!());
    clock.advance(Duration::from_secs(1));
    assert_located(lines, &ended.result().unwrap_err());

    let (lines, called) = located!(defer_later(&clock, Duration::ZERO, bad_result); line!());
    clock.advance(Duration::ZERO);
    assert_located(lines, &called.result().unwrap_err());

    let (lines, called) = located!(maybe_deferred(bad_result); line!());
    assert_located(lines, &called.result().unwrap_err());

    let (lines, called) = located!(Deferred::succeed(()).map(|()| bad::<u8>()); line!());
    assert_located(lines, &called.result().unwrap_err());

    let (lines, job) = located!(defer_to_thread(&reactor, bad_result); line!());
    assert_located(lines, &reactor.run_until(job).unwrap_err());

    let remote = reactor.remote();
    let thread = std::thread::spawn(
        move || located!(blocking_call_from_thread(&remote, |_| bad_result()).unwrap_err(); line!()),
    );
    let (lines, failure) = {
        let stop = reactor.clone();
        let waits = defer_to_thread(&reactor, move || Ok(thread.join().unwrap()));
        reactor.run_until(waits.add_both(move |result| {
            drop(stop);
            result
        }))
    }
    .unwrap();
    assert_located(lines, &failure);

    let (lines, error) = located!(run_workers(1, |_, _| bad_result()).unwrap_err(); line!());
    assert_located(lines, &error.cause);
}

/// Panics in whatever method has this name.
struct Bad(&'static str);

impl Bad {
    fn is(&self, name: &str) {
        if self.0 == name {
            bad::<()>();
        }
    }
}

impl Factory for Bad {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.is("build_protocol");
        None
    }
    fn port_opened(&self, _: &deferred_reactor::net::Port) {
        self.is("port_opened");
    }
    fn start_factory(&self) {
        self.is("start_factory");
    }
    fn stop_factory(&self) {
        self.is("stop_factory");
    }
}

impl ClientFactory for Bad {
    fn started_connecting(&self, _: &Connector) {
        self.is("started_connecting");
    }
    fn client_connection_failed(&self, _: &Connector, _: &Failure) {
        self.is("client_connection_failed");
    }
    fn client_connection_lost(&self, _: &Connector, _: &Failure) {
        self.is("client_connection_lost");
    }
}

impl ReactorObserver for Bad {
    fn turn(&self, _: &Turn) {
        self.is("turn");
    }
}

#[test]
fn panics_that_are_logged() {
    keep_log();
    let memory = MemoryReactor::new();

    let (lines, _) = located!(memory.call_later(Duration::ZERO, bad); line!());
    memory.pump();
    assert_logged(lines);

    let (lines, _) = located!(memory.reactor().call_when_running(bad); line!());
    assert_logged(lines);

    let (lines, _) = located!(memory.remote().call_from_thread(|_| bad()).unwrap(); line!());
    memory.pump();
    assert_logged(lines);

    let (lines, _) = located!(memory.reactor().call_in_thread(bad); line!());
    memory.pump();
    assert_logged(lines);

    let event = SystemEvent::Named("event");
    let (lines, _) = located!(memory.reactor().add_system_event_trigger(Phase::During, event, bad_result); line!());
    assert!(memory.reactor().fire_system_event("event").is_fired());
    assert_logged(lines);

    let (lines, id) = located!(memory.reactor().add_observer(Bad("turn")); line!());
    memory.call_later(Duration::ZERO, || {});
    memory.turn();
    memory.reactor().remove_observer(id).unwrap();
    assert_logged(lines);

    let (lines, _) = located!(on_unhandled(|_| bad()); line!());
    drop(Deferred::<()>::fail(Failure::message("lost")));
    assert_logged(lines);
}

#[test]
fn panics_of_factories() {
    keep_log();
    for (method, address) in [
        ("start_factory", "127.0.0.1:7000"),
        ("port_opened", "127.0.0.1:7000"),
        ("build_protocol", "127.0.0.1:7000"),
        ("stop_factory", "127.0.0.1:7000"),
    ] {
        let memory = MemoryReactor::new();
        let (lines, port) = located!(memory.listen_tcp(address, Bad(method)).unwrap(); line!());
        let peer = memory.connect_to(address).unwrap();
        memory.pump();
        drop(port.stop_listening());
        drop(peer);
        assert_logged(lines);
    }
    for (method, port) in [
        ("start_factory", 7000),
        ("started_connecting", 7000),
        ("build_protocol", 7000),
        ("client_connection_lost", 7000),
        ("client_connection_failed", 7001),
        ("stop_factory", 7001),
    ] {
        let memory = MemoryReactor::new();
        memory.listen_tcp("127.0.0.1:7000", Bad("nothing")).unwrap();
        let address = ("127.0.0.1", port);
        let (lines, _) = located!(memory.connect_tcp(address, Bad(method)); line!());
        memory.pump();
        assert_logged(lines);
    }
}

/// The kinds that the loop itself makes, of calls that the library makes itself as well.
#[test]
fn slow_callbacks_are_located_at_lines_of_the_program() {
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<Callback>>>);
    impl ReactorObserver for Seen {
        fn slow_callback(&self, slow: &SlowCallback) {
            self.0.lock().unwrap().push(slow.callback);
        }
    }
    let reactor = Reactor::new().unwrap();
    reactor.set_slow_callback_limit(Duration::ZERO);
    let seen = Seen::default();
    reactor.add_observer(seen.clone());
    let looping = LoopingCall::new(&reactor, || Ok(()));
    drop(looping.start_later(Duration::ZERO).unwrap());
    let job = defer_to_thread(&reactor, || Ok(()));
    let again = reactor.clone();
    reactor.call_later(Duration::ZERO, move || {
        again.call_when_running(|| {});
        let event = SystemEvent::Named("event");
        again.add_system_event_trigger(Phase::Before, event, || Ok(()));
        drop(again.fire_system_event("event"));
    });
    reactor.run_until(job).unwrap();
    reactor.run_for(Duration::ZERO).unwrap();
    let seen = seen.0.lock().unwrap();
    // Of the callbacks that the library adds to its own Deferreds, none does anything.
    let is_given = |seen: &&Callback| seen.kind != CallbackKind::Deferred;
    for callback in seen.iter().filter(is_given) {
        let Place::Line(line) = callback.place else {
            panic!("{callback}");
        };
        assert_eq!(line.file(), file!(), "{callback}");
    }
    for kind in [
        CallbackKind::DelayedCall,
        CallbackKind::LoopingCall,
        CallbackKind::Trigger,
        CallbackKind::ThreadCall,
    ] {
        assert!(
            seen.iter().any(|seen| seen.kind == kind),
            "{kind}: {seen:#?}"
        );
    }
}
