//! Deferreds that are fired from other threads.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use deferred_reactor::{
    AbandonedError, CancelledError, Deferred, Failure, NoLostFailures, Reactor, ReactorGoneError,
    RemoteResolver,
};

use peers::run;

/// A Deferred that writes down its result and the thread it fired on, and stops the reactor.
#[allow(clippy::type_complexity, reason = "used here only")]
fn watched<T: Send + 'static>(
    reactor: &Reactor,
) -> (
    Rc<RefCell<Option<(Result<T, Failure>, thread::ThreadId)>>>,
    RemoteResolver<T>,
) {
    let (deferred, resolver) = Deferred::pending();
    let (seen, stop) = (Rc::new(RefCell::new(None)), reactor.clone());
    let result = seen.clone();
    drop(deferred.add_both(move |value| {
        *result.borrow_mut() = Some((value, thread::current().id()));
        let _ = stop.stop();
        Ok(())
    }));
    (seen, resolver.into_remote(reactor))
}

///
#[test]
fn a_deferred_is_fired_by_a_thread_and_runs_on_its_reactors() {
    let reactor = Reactor::new().unwrap();
    let (seen, resolver) = watched(&reactor);
    let firing = thread::spawn(move || resolver.callback("from there"));
    run(&reactor);
    firing.join().unwrap().unwrap();
    let (value, fired_on) = seen.take().unwrap();
    assert_eq!(value.unwrap(), "from there");
    assert_eq!(fired_on, thread::current().id());
}

///
#[test]
fn an_error_is_fired_by_a_thread() {
    let reactor = Reactor::new().unwrap();
    let (seen, resolver) = watched::<()>(&reactor);
    thread::spawn(move || resolver.errback("x".parse::<u8>().unwrap_err()));
    run(&reactor);
    let (value, _) = seen.take().unwrap();
    assert!(value.unwrap_err().is::<std::num::ParseIntError>());
}

/// here it could fire at once, and does not: its order among other calls is the same
/// wherever it is fired from.
#[test]
fn on_the_reactors_own_thread_it_fires_soon() {
    let reactor = Reactor::new().unwrap();
    let (seen, resolver) = watched(&reactor);
    resolver.callback(1).unwrap();
    assert!(seen.borrow().is_none());
    run(&reactor);
    assert!(seen.borrow().is_some());
}

/// Law 1: also when the thread panics.
#[test]
fn a_resolver_that_a_thread_drops_abandons_its_deferred_on_the_reactors_thread() {
    for panics in [false, true] {
        let reactor = Reactor::new().unwrap();
        let (seen, resolver) = watched::<()>(&reactor);
        let dropping = thread::spawn(move || {
            let _held = resolver;
            assert!(!panics, "this thread is broken");
        });
        run(&reactor);
        assert_eq!(dropping.join().is_err(), panics);
        let (value, fired_on) = seen.take().unwrap();
        assert!(value.unwrap_err().is::<AbandonedError>());
        assert_eq!(fired_on, thread::current().id());
    }
}

/// Law 1.
#[test]
fn a_reactor_that_is_dropped_abandons_its_deferreds() {
    let reactor = Reactor::new().unwrap();
    let (deferred, resolver) = Deferred::<Arc<()>>::pending();
    let resolver = resolver.into_remote(&reactor);
    drop(reactor);
    assert!(deferred.result().unwrap_err().is::<AbandonedError>());
    let value = Arc::new(());
    let late = resolver.callback(value.clone());
    assert!(matches!(late, Err(ReactorGoneError { .. })));
    assert_eq!(Arc::strong_count(&value), 1);
}

/// Its callbacks may take the reactor with them.
#[test]
fn a_result_that_comes_between_two_runs_is_kept() {
    let reactor = Reactor::new().unwrap();
    let (seen, resolver) = watched(&reactor);
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    run(&reactor);
    thread::spawn(move || resolver.callback(5))
        .join()
        .unwrap()
        .unwrap();
    assert!(seen.borrow().is_none());
    run(&reactor);
    assert_eq!(seen.take().unwrap().0.unwrap(), 5);
}

/// Law 1.
#[test]
fn a_cancelled_deferred_drops_what_comes_late() {
    let reactor = Reactor::new().unwrap();
    let _nothing_lost = NoLostFailures::new();
    let value = Arc::new(());
    let mut resolvers = Vec::new();
    for has_canceller in [false, true] {
        for _ in 0..2 {
            let (deferred, resolver) = match has_canceller {
                true => Deferred::with_canceller(|_| {}),
                false => Deferred::pending(),
            };
            resolvers.push(resolver.into_remote(&reactor));
            deferred.cancel();
            assert!(deferred.result().unwrap_err().is::<CancelledError>());
        }
    }
    let (_, last) = watched(&reactor);
    let late = value.clone();
    thread::spawn(move || {
        for (index, resolver) in resolvers.into_iter().enumerate() {
            if index % 2 == 0 {
                resolver.callback(late.clone()).unwrap();
            } else {
                resolver.errback(Failure::message("late")).unwrap();
            }
        }
        last.callback(()).unwrap();
    });
    run(&reactor);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// Places that were given back are used again, and never by the one before.
#[test]
fn every_result_reaches_its_own_deferred() {
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let reactor = Reactor::new().unwrap();
    let left = Rc::new(Cell::new(THREADS * EACH));
    fn ask(reactor: &Reactor, thread: usize, number: usize, left: &Rc<Cell<usize>>) {
        let (deferred, resolver) = Deferred::pending();
        let resolver = resolver.into_remote(reactor);
        let firing = move || resolver.callback((thread, number)).unwrap();
        match number % 7 {
            0 => reactor.call_in_thread(firing),
            _ => drop(thread::spawn(firing)),
        }
        let (here, left) = (reactor.clone(), left.clone());
        drop(deferred.add_callback(move |result| {
            assert_eq!(result, (thread, number));
            left.set(left.get() - 1);
            if number + 1 < EACH {
                ask(&here, thread, number + 1, &left);
            } else if left.get() == 0 {
                here.stop()?;
            }
            Ok(())
        }));
    }
    for thread in 0..THREADS {
        ask(&reactor, thread, 0, &left);
    }
    run(&reactor);
    assert_eq!(left.get(), 0);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

/// Law 4: no value needs to be `Sync`, and the resolver may be shared in a lock.
#[test]
fn it_may_be_sent_and_shared_whatever_its_value_is() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<RemoteResolver<Cell<u8>>>();
}
