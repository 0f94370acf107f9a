//! Threads that ask a reactor and wait for the answer.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use deferred_reactor::{
    AbandonedError, BlockingCallError, Deferred, Failure, NoLostFailures, PanicError, Phase,
    Reactor, RemoteReactor, Resolver, SystemEvent, blocking_call_from_thread, defer_later,
    defer_to_thread,
};

use peers::{Watchdog, run};

/// Runs this in a worker thread, and the reactor until it has returned.
fn on_a_worker<T: Send + 'static>(
    reactor: &Reactor,
    job: impl FnOnce(&RemoteReactor) -> T + Send + 'static,
) -> T {
    let (remote, stop) = (reactor.remote(), reactor.clone());
    let (tell, told) = mpsc::channel();
    let done = defer_to_thread(reactor, move || {
        tell.send(job(&remote)).ok();
        Ok(())
    });
    drop(done.add_both(move |_| Ok(stop.stop()?)));
    run(reactor);
    told.recv().unwrap()
}

fn why(failure: &Failure) -> Option<BlockingCallError> {
    failure.check::<BlockingCallError>().copied()
}

///
#[test]
fn a_worker_gets_the_value_of_a_call() {
    let reactor = Reactor::new().unwrap();
    let ids = on_a_worker(&reactor, |remote| {
        let there = blocking_call_from_thread(remote, |_| Ok(thread::current().id()));
        (thread::current().id(), there.unwrap())
    });
    assert_eq!(ids.1, thread::current().id());
    assert_ne!(ids.0, ids.1);
}

///
#[test]
fn a_worker_gets_the_value_of_a_deferred() {
    let reactor = Reactor::new().unwrap();
    let value = on_a_worker(&reactor, |remote| {
        blocking_call_from_thread(remote, |reactor| {
            defer_later(reactor, Duration::from_millis(2), || Ok("later"))
        })
    });
    assert_eq!(value.unwrap(), "later");
}

///
#[test]
fn a_worker_gets_the_error_of_a_call_or_of_its_deferred() {
    let reactor = Reactor::new().unwrap();
    let _nothing_lost = NoLostFailures::new();
    let [from_call, from_deferred] = on_a_worker(&reactor, |remote| {
        [
            blocking_call_from_thread(remote, |_| Ok("x".parse::<u8>()?)),
            blocking_call_from_thread(remote, |reactor| {
                defer_later(reactor, Duration::ZERO, || Ok("y".parse::<u8>()?))
            }),
        ]
    });
    for failure in [from_call.unwrap_err(), from_deferred.unwrap_err()] {
        assert!(failure.is::<std::num::ParseIntError>(), "{failure}");
    }
}

///
#[test]
fn a_worker_gets_the_panic_of_a_call() {
    let reactor = Reactor::new().unwrap();
    let outcome = on_a_worker(&reactor, |remote| {
        blocking_call_from_thread(remote, |_| -> Result<(), Failure> { panic!("in the call") })
    });
    let failure = outcome.unwrap_err();
    assert_eq!(
        failure.check::<PanicError>().unwrap().message,
        "in the call"
    );
}

/// a resolver that is lost does not leave the thread waiting.
#[test]
fn a_worker_is_told_that_the_result_was_abandoned() {
    let reactor = Reactor::new().unwrap();
    let outcome = on_a_worker(&reactor, |remote| {
        blocking_call_from_thread(remote, |_| Deferred::<()>::pending().0)
    });
    assert!(outcome.unwrap_err().is::<AbandonedError>());
}

///
#[test]
fn a_thread_that_asks_before_the_reactor_runs_waits_for_it() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (tell, told) = mpsc::channel();
    let caller = thread::spawn(move || {
        tell.send(()).unwrap();
        blocking_call_from_thread(&remote, |reactor| Ok(reactor.stop()?))
    });
    told.recv().unwrap();
    run(&reactor);
    caller.join().unwrap().unwrap();
}

/// it would wait for itself.
#[test]
fn a_call_from_the_reactors_own_thread_is_refused() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let refuse = |remote: &RemoteReactor| {
        let outcome = blocking_call_from_thread(remote, |_| -> Result<(), Failure> {
            unreachable!();
        });
        assert_eq!(
            why(&outcome.unwrap_err()),
            Some(BlockingCallError::OwnThread)
        );
    };
    let remote = reactor.remote();
    refuse(&remote);
    let stop = reactor.clone();
    reactor.call_when_running(move || {
        refuse(&remote);
        stop.stop().unwrap();
    });
    run(&reactor);
    refuse(&reactor.remote());
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

type KeptResolver = Rc<Cell<Option<Resolver<()>>>>;

/// A function that a thread can have called: it stops the reactor and returns a Deferred which
/// nobody fires by then.
fn stop_and_leave_pending(
    reactor: &Reactor,
) -> (KeptResolver, impl FnOnce() -> Deferred<()> + Send + use<>) {
    thread_local!(static LENT: Cell<Option<(Reactor, Deferred<()>)>> = const { Cell::new(None) });
    let (deferred, resolver) = Deferred::pending();
    LENT.set(Some((reactor.clone(), deferred)));
    let call = || {
        let (reactor, deferred) = LENT.take().unwrap();
        reactor.stop().unwrap();
        deferred
    };
    (Rc::new(Cell::new(Some(resolver))), call)
}

/// the pool joins its threads at the end, and this one waits for the loop.
#[test]
fn a_worker_that_waits_when_the_reactor_stops_is_told_so() {
    let reactor = Reactor::new().unwrap();
    let _nothing_lost = NoLostFailures::new();
    let (resolver, call) = stop_and_leave_pending(&reactor);
    let remote = reactor.remote();
    let (tell, told) = mpsc::channel();
    reactor.call_in_thread(move || {
        tell.send(blocking_call_from_thread(&remote, move |_| call()))
            .unwrap();
    });
    run(&reactor);
    let failure = told.recv().unwrap().unwrap_err();
    assert_eq!(why(&failure), Some(BlockingCallError::ReactorStopped));
    // The Deferred goes on by itself.
    let resolver = resolver.take().unwrap();
    assert!(resolver.is_pending());
    resolver.callback(()).unwrap();
}

/// a failure that comes when nobody waits any more is not lost silently.
#[test]
fn a_failure_that_comes_after_the_end_is_reported() {
    let reactor = Reactor::new().unwrap();
    let lost = NoLostFailures::new();
    let (resolver, call) = stop_and_leave_pending(&reactor);
    let remote = reactor.remote();
    reactor.call_in_thread(move || {
        assert!(blocking_call_from_thread(&remote, move |_| call()).is_err());
    });
    run(&reactor);
    let late = Failure::message("came late");
    resolver.take().unwrap().errback(late).unwrap();
    let lost = lost.flush();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].failure.to_string(), "came late");
}

/// jobs that are left over when it stops are still done, and ask in vain.
#[test]
fn a_job_that_asks_while_the_reactor_ends_is_refused_and_its_call_never_made() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let was_made = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    reactor.call_in_thread(move || may_go_on.recv_timeout(peers::LIMIT).unwrap());
    for _ in 0..3 {
        let (remote, tell, flag) = (reactor.remote(), tell.clone(), was_made.clone());
        reactor.call_in_thread(move || {
            let outcome = blocking_call_from_thread(&remote, move |_| {
                flag.store(true, Ordering::SeqCst);
                Ok(())
            });
            tell.send(outcome).unwrap();
        });
    }
    // The worker is let go by the last thing that runs before it is joined: the end of a port.
    let factory = peers::Scripts::new(peers::Script::new).stop(move || go_on.send(()).unwrap());
    peers::listen(&reactor, factory);
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    run(&reactor);
    for _ in 0..3 {
        let failure = told.recv().unwrap().unwrap_err();
        assert_eq!(why(&failure), Some(BlockingCallError::ReactorStopped));
    }
    // Nor are they made by another run.
    let stop = reactor.clone();
    reactor.call_later(Duration::from_millis(1), move || stop.stop().unwrap());
    run(&reactor);
    assert!(!was_made.load(Ordering::SeqCst));
}

/// whoever gives up takes the call along, also when it was sent in time.
#[test]
fn a_call_that_was_sent_and_not_made_when_the_reactor_ends_is_never_made() {
    const CALLERS: usize = 8;
    let reactor = Reactor::new().unwrap();
    let was_made = Arc::new(AtomicBool::new(false));
    let ready = Arc::new(Barrier::new(CALLERS + 1));
    let callers = (0..CALLERS).map(|_| {
        let (remote, flag, ready) = (reactor.remote(), was_made.clone(), ready.clone());
        thread::spawn(move || {
            ready.wait();
            blocking_call_from_thread(&remote, move |_| {
                flag.store(true, Ordering::SeqCst);
                Ok(())
            })
        })
    });
    let callers: Vec<_> = callers.collect();
    // This runs after the last turn. Most of them have sent their calls when it returns.
    let factory = peers::Scripts::new(peers::Script::new).stop(move || {
        ready.wait();
        for _ in 0..1000 {
            thread::yield_now();
        }
    });
    peers::listen(&reactor, factory);
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    run(&reactor);
    for caller in callers {
        let failure = caller.join().unwrap().unwrap_err();
        assert_eq!(why(&failure), Some(BlockingCallError::ReactorStopped));
    }
    assert!(!was_made.load(Ordering::SeqCst));
}

/// while the first phase of shutdown is waited for, the loop goes on.
#[test]
fn a_worker_can_ask_while_shutdown_waits_for_it() {
    let reactor = Reactor::new().unwrap();
    let (tell, told) = mpsc::channel();
    let here = reactor.clone();
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move || {
        let remote = here.remote();
        defer_to_thread(&here, move || {
            let answer = blocking_call_from_thread(&remote, |_| Ok("flushed"))?;
            Ok(tell.send(answer)?)
        })
    });
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    run(&reactor);
    assert_eq!(told.recv(), Ok("flushed"));
}

///
#[test]
fn a_reactor_that_has_stopped_refuses_at_once_and_one_that_runs_again_answers() {
    let reactor = Reactor::new().unwrap();
    let _watchdog = Watchdog::new();
    for _ in 0..3 {
        assert_eq!(on_a_worker(&reactor, |_| 1), 1);
        let remote = reactor.remote();
        let refused = thread::spawn(move || blocking_call_from_thread(&remote, |_| Ok(())));
        let failure = refused.join().unwrap().unwrap_err();
        assert_eq!(why(&failure), Some(BlockingCallError::ReactorStopped));
        let answer = on_a_worker(&reactor, |remote| {
            blocking_call_from_thread(remote, |_| Ok(2))
        });
        assert_eq!(answer.unwrap(), 2);
    }
}

///
#[test]
fn a_thread_that_waits_is_told_when_the_reactor_is_dropped() {
    let _watchdog = Watchdog::new();
    let held = Arc::new(());
    // Sooner or later the call is sent before the reactor goes, and both are fine.
    for _ in 0..50 {
        let reactor = Reactor::new().unwrap();
        let (remote, captured) = (reactor.remote(), held.clone());
        let (tell, told) = mpsc::channel();
        let caller = thread::spawn(move || {
            tell.send(()).unwrap();
            blocking_call_from_thread(&remote, move |_| {
                drop(captured);
                Ok(())
            })
        });
        told.recv().unwrap();
        thread::yield_now();
        drop(reactor);
        let failure = caller.join().unwrap().unwrap_err();
        assert_eq!(why(&failure), Some(BlockingCallError::ReactorGone));
    }
    assert_eq!(Arc::strong_count(&held), 1);
}

/// the threads of the pool are joined then as well.
#[test]
fn a_worker_that_waits_when_its_reactor_is_dropped_between_two_turns_is_told() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (tell, told) = mpsc::channel();
    let (made, is_made) = mpsc::channel();
    thread_local!(static KEPT: Cell<Option<Resolver<()>>> = const { Cell::new(None) });
    reactor.call_in_thread(move || {
        let outcome = blocking_call_from_thread(&remote, move |_| {
            let (deferred, resolver) = Deferred::<()>::pending();
            KEPT.set(Some(resolver));
            made.send(()).unwrap();
            deferred
        });
        tell.send(outcome).unwrap();
    });
    while is_made.try_recv().is_err() {
        assert!(reactor.turn_once(Duration::MAX).unwrap());
    }
    let resolver = KEPT.take().unwrap();
    drop(reactor);
    let failure = told.recv().unwrap().unwrap_err();
    assert_eq!(why(&failure), Some(BlockingCallError::ReactorGone));
    resolver.callback(()).unwrap();
}

/// many at once, each with its own answer.
#[test]
fn threads_that_ask_at_the_same_time_get_their_own_answers() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let asking = thread::spawn(move || {
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let remote = remote.clone();
                thread::spawn(move || {
                    for n in 0..200 {
                        let answer = blocking_call_from_thread(&remote, move |_| Ok((caller, n)));
                        assert_eq!(answer.unwrap(), (caller, n));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = callers.into_iter().map(thread::JoinHandle::join).collect();
        remote.call_from_thread(|r| r.stop().unwrap()).unwrap();
        ended
    });
    run(&reactor);
    for ended in asking.join().unwrap() {
        ended.unwrap();
    }
}
