//! Calls into a reactor from other threads.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use deferred_reactor::{Reactor, ReactorGoneError, RemoteReactor};

use peers::run;

thread_local! {
    /// What calls leave on the thread of the reactor. Each test has a thread of its own.
    static MADE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

fn made() -> Vec<usize> {
    MADE.take()
}

/// Asks the reactor to write a number down.
fn send(remote: &RemoteReactor, number: usize) {
    remote
        .call_from_thread(move |_| MADE.with_borrow_mut(|made| made.push(number)))
        .unwrap();
}

fn send_stop(remote: &RemoteReactor) {
    remote
        .call_from_thread(|reactor| reactor.stop().unwrap())
        .unwrap();
}

///
#[test]
fn calls_run_on_the_reactors_thread_in_the_order_made() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (told, tell) = mpsc::channel();
    let caller = thread::spawn(move || {
        for number in 0..1000 {
            send(&remote, number);
        }
        remote
            .call_from_thread(move |_| told.send(thread::current().id()).unwrap())
            .unwrap();
        send_stop(&remote);
    });
    run(&reactor);
    caller.join().unwrap();
    assert_eq!(tell.recv().unwrap(), thread::current().id());
    assert_eq!(made(), Vec::from_iter(0..1000));
}

/// it has nothing else to wake up for.
#[test]
fn a_sleeping_reactor_wakes_up() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (told, tell) = mpsc::channel();
    let caller = thread::spawn(move || {
        // Each question waits for the answer to the last, so the reactor sleeps in between.
        for number in 0..500 {
            let told = told.clone();
            remote
                .call_from_thread(move |_| told.send(number).unwrap())
                .unwrap();
            assert_eq!(tell.recv_timeout(peers::LIMIT), Ok(number));
        }
        send_stop(&remote);
    });
    run(&reactor);
    caller.join().unwrap();
}

///
#[test]
fn calls_made_before_run_are_kept() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    for number in 0..10 {
        send(&remote, number);
    }
    thread::spawn(move || {
        send(&remote, 10);
        send_stop(&remote);
    })
    .join()
    .unwrap();
    assert_eq!(made(), [], "nothing runs before the reactor does");
    run(&reactor);
    assert_eq!(made(), Vec::from_iter(0..=10));
}

///
#[test]
fn calls_made_between_two_runs_are_kept() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    send_stop(&remote);
    run(&reactor);
    for number in 0..3 {
        send(&remote, number);
    }
    send_stop(&remote);
    run(&reactor);
    assert_eq!(made(), [0, 1, 2]);
}

///
#[test]
fn each_of_several_threads_keeps_its_order() {
    const THREADS: usize = 8;
    const CALLS: usize = 500;
    let reactor = Reactor::new().unwrap();
    let barrier = Arc::new(Barrier::new(THREADS));
    for caller in 0..THREADS {
        let (remote, barrier) = (reactor.remote(), barrier.clone());
        thread::spawn(move || {
            barrier.wait();
            for number in 0..CALLS {
                send(&remote, caller * CALLS + number);
            }
            remote
                .call_from_thread(|reactor| {
                    if MADE.with_borrow(Vec::len) == THREADS * CALLS {
                        reactor.stop().unwrap();
                    }
                })
                .unwrap();
        });
    }
    run(&reactor);
    let mut next: Vec<usize> = (0..THREADS).map(|caller| caller * CALLS).collect();
    for number in made() {
        assert_eq!(number, next[number / CALLS]);
        next[number / CALLS] += 1;
    }
}

///
#[test]
fn a_burst_of_a_hundred_thousand_is_kept_while_the_reactor_is_busy() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (all_sent, wait) = mpsc::channel();
    let caller = thread::spawn(move || {
        for number in 0..100_000 {
            send(&remote, number);
        }
        // No call was waited for: the reactor is still in the one below.
        all_sent.send(()).unwrap();
        send_stop(&remote);
    });
    reactor.call_later(Duration::ZERO, move || {
        wait.recv_timeout(peers::LIMIT).unwrap();
    });
    // Nothing is made before that call has returned.
    run(&reactor);
    caller.join().unwrap();
    assert_eq!(made(), Vec::from_iter(0..100_000));
}

///
#[test]
fn a_call_made_inside_another_comes_after_it() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    reactor
        .remote()
        .call_from_thread(move |_| {
            send(&remote, 2);
            MADE.with_borrow_mut(|made| made.push(1));
            send_stop(&remote);
        })
        .unwrap();
    run(&reactor);
    assert_eq!(made(), [1, 2]);
}

///
#[test]
fn a_call_that_panics_is_logged_and_the_next_is_made() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    remote
        .call_from_thread(|_| panic!("this thread call is broken"))
        .unwrap();
    send(&remote, 1);
    send_stop(&remote);
    run(&reactor);
    assert_eq!(made(), [1]);
    assert_eq!(peers::times_logged("this thread call is broken"), 1);
}

/// A reactor that is gone says so, and drops what it was sent.
#[test]
fn a_reactor_that_is_gone_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let held = Arc::new(());
    let captured = held.clone();
    remote.call_from_thread(move |_| drop(captured)).unwrap();
    assert_eq!(Arc::strong_count(&held), 2);
    drop(reactor);
    assert_eq!(
        Arc::strong_count(&held),
        1,
        "the call that waited is dropped"
    );
    let captured = held.clone();
    let refused = remote.call_from_thread(move |_| drop(captured));
    assert!(matches!(refused, Err(ReactorGoneError { .. })));
    assert_eq!(
        Arc::strong_count(&held),
        1,
        "the call that came too late is dropped"
    );
}

/// Where a reactor has run, nothing of its own keeps it alive.
#[test]
fn a_reactor_that_has_run_is_gone_when_its_last_handle_is() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (_, address) = peers::listen(&reactor, peers::Scripts::new(peers::Script::echo));
    let timer = reactor.clone();
    reactor.call_later(Duration::from_secs(3600), move || drop(timer));
    peers::run_with_peer(&reactor, move || drop(peers::connect(address)));
    drop(reactor);
    assert!(remote.call_from_thread(|_| {}).is_err());
}

/// Threads that never stop sending keep nobody from the timers.
#[test]
fn a_flood_of_calls_does_not_hold_up_timers() {
    let reactor = Reactor::new().unwrap();
    fn again(reactor: &Reactor) {
        let remote = reactor.remote();
        // One call always waits, however many have been made.
        remote.call_from_thread(again).unwrap();
    }
    again(&reactor);
    again(&reactor);
    let (stop, count) = (reactor.clone(), Cell::new(0));
    fn tick(reactor: Reactor, count: Cell<u32>) {
        if count.get() == 20 {
            return reactor.stop().unwrap();
        }
        count.set(count.get() + 1);
        let next = reactor.clone();
        reactor.call_later(Duration::from_micros(200), move || tick(next, count));
    }
    tick(stop, count);
    run(&reactor);
}
