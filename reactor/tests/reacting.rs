//! Running a reactor for as long as something takes, and turn by turn.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use deferred_reactor::Phase::{After, Before, During};
use deferred_reactor::SystemEvent::{Shutdown, Startup};
use deferred_reactor::{
    Deferred, ExitRequest, Failure, NoLostFailures, Reactor, ReactorAlreadyRunningError,
    ReactorStoppedError, Resolver, defer_later, defer_to_thread, react, sleep,
};

use peers::{
    Journal, Script, Scripts, Watchdog, connect, errors_logged_here, journal, listen, note,
    times_logged, watch_log,
};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn text(code: ExitCode) -> String {
    format!("{code:?}")
}

fn assert_code(code: ExitCode, want: u8) {
    assert_eq!(text(code), text(ExitCode::from(want)));
}

/// Notes the shutdown of a reactor.
fn note_shutdown(reactor: &Reactor, journal: &Journal) {
    for (phase, name) in [(Before, "before"), (During, "during"), (After, "after")] {
        let journal = journal.clone();
        reactor.add_system_event_trigger(phase, Shutdown, move || {
            note(&journal, name);
            Ok(())
        });
    }
}

fn stop_later(reactor: &Reactor, delay: Duration) {
    let stop = reactor.clone();
    reactor.call_later(delay, move || stop.stop().unwrap());
}

/// T-30.
#[test]
fn a_program_that_succeeds_exits_with_zero() {
    let _watchdog = Watchdog::new();
    watch_log();
    let order = journal();
    let notes = order.clone();
    let code = react(|reactor| {
        note_shutdown(&reactor, &notes);
        Ok(())
    });
    assert_code(code, 0);
    assert_eq!(order.take(), ["before", "during", "after"]);

    let notes = order.clone();
    let code = react(|reactor| {
        note_shutdown(&reactor, &notes);
        let running = reactor.clone();
        defer_later(&reactor, ms(1), move || {
            assert!(running.is_running());
            Ok(())
        })
    });
    assert_code(code, 0);
    assert_eq!(order.take(), ["before", "during", "after"]);
    assert!(errors_logged_here().is_empty());
}

/// T-31.
#[test]
fn a_program_that_fails_exits_with_one_and_says_why_once() {
    let _watchdog = Watchdog::new();
    watch_log();
    let _guard = NoLostFailures::new();
    assert_code(react(|_| Err(Failure::message("main says no at once"))), 1);
    let later = react(|reactor| {
        defer_later(&reactor, ms(1), || {
            Err::<(), _>(Failure::message("main says no later"))
        })
    });
    assert_code(later, 1);
    let panicked = react(|_| -> Result<(), Failure> { panic!("main panics") });
    assert_code(panicked, 1);
    for text in ["main says no at once", "main says no later", "main panics"] {
        assert_eq!(times_logged(text), 1, "{text}");
    }
}

#[test]
#[ignore = "the child of the next test"]
fn child_fails_without_a_logger() {
    assert_code(react(|_| Err(Failure::message("main says no"))), 1);
    assert_code(react(|_| Err(ExitRequest::new(2).into())), 2);
}

/// T-31: in a program that has no logger the failure is not lost.
#[test]
fn a_failure_that_no_logger_takes_is_written_to_standard_error() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_fails_without_a_logger"])
        .args(["--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(child.status.success());
    let text = String::from_utf8(child.stderr).unwrap();
    let ours: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(ours, ["Error: main says no"]);
}

/// T-31.
#[test]
fn a_program_may_ask_for_an_exit_code() {
    let _watchdog = Watchdog::new();
    watch_log();
    for code in [0, 3, 255] {
        assert_code(react(|_| Err(ExitRequest::new(code).into())), code);
        let later = react(|reactor| {
            let clock = reactor.clone();
            reactor.spawn(async move {
                sleep(&clock, ms(1)).await?;
                Err::<(), _>(ExitRequest::new(code).into())
            })
        });
        assert_code(later, code);
    }
    assert!(errors_logged_here().is_empty());
}

/// T-32.
#[test]
fn a_program_that_is_stopped_otherwise_exits_with_zero() {
    let _watchdog = Watchdog::new();
    watch_log();
    let order = journal();
    // Once it runs, and later; with a Deferred that nobody fires, one that the shutdown drops, and
    // one that fires on the way out.
    for (delay, kind) in [ms(0), ms(2)]
        .into_iter()
        .flat_map(|d| [(d, 0), (d, 1), (d, 2)])
    {
        let notes = order.clone();
        let mut kept = None;
        let code = react(|reactor| {
            note_shutdown(&reactor, &notes);
            stop_later(&reactor, delay);
            let (deferred, resolver) = Deferred::pending();
            match kind {
                0 => kept = Some(resolver),
                1 => {
                    reactor.call_later(Duration::from_secs(3600), move || drop(resolver));
                }
                _ => {
                    reactor.add_system_event_trigger(Before, Shutdown, move || {
                        Ok(resolver.callback(())?)
                    });
                }
            }
            deferred
        });
        assert_code(code, 0);
        assert_eq!(order.take(), ["before", "during", "after"]);
    }
    assert!(errors_logged_here().is_empty());
}

/// T-32: what fails on the way out has failed.
#[test]
fn a_failure_during_the_shutdown_counts() {
    let _watchdog = Watchdog::new();
    watch_log();
    let code = react(|reactor| {
        stop_later(&reactor, ms(0));
        let (deferred, resolver) = Deferred::<()>::pending();
        reactor.add_system_event_trigger(Before, Shutdown, move || {
            Ok(resolver.errback(Failure::message("failed on the way out"))?)
        });
        deferred
    });
    assert_code(code, 1);
    assert_eq!(times_logged("failed on the way out"), 1);
}

/// T-31: a resolver that is lost while the reactor runs is a failure, and not a stop.
#[test]
fn a_program_whose_deferred_is_abandoned_has_failed() {
    let _watchdog = Watchdog::new();
    watch_log();
    let code = react(|reactor| {
        let (deferred, resolver) = Deferred::<()>::pending();
        reactor.call_later(ms(1), move || drop(resolver));
        deferred
    });
    assert_code(code, 1);
    // An error of another reactor is no stop of this one.
    let code = react(|_| {
        let other = Reactor::new()?;
        stop_later(&other, ms(0));
        let (deferred, _resolver) = Deferred::<()>::pending();
        other.run_until(deferred)
    });
    assert_code(code, 1);
}

/// T-30.
#[test]
fn the_result_of_a_deferred_is_run_for() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let order = journal();
    for round in 0..3 {
        note_shutdown(&reactor, &order);
        let value = defer_later(&reactor, ms(1), move || Ok(round));
        assert_eq!(reactor.run_until(value).unwrap(), round);
        assert_eq!(order.take(), ["before", "during", "after"]);
        assert!(!reactor.is_running());
    }
    let failure = defer_later(&reactor, ms(1), || Err::<(), _>(Failure::message("no")));
    assert_eq!(reactor.run_until(failure).unwrap_err().to_string(), "no");
}

/// T-30: a Deferred that has fired makes no difference to the run.
#[test]
fn a_deferred_that_has_fired_is_run_for_as_well() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let order = journal();
    for result in [Ok(1), Err(Failure::message("no"))] {
        note_shutdown(&reactor, &order);
        let started = order.clone();
        reactor.call_when_running(move || note(&started, "running"));
        let want = format!("{result:?}");
        let result = reactor.run_until(Deferred::from_result(result));
        assert_eq!(format!("{result:?}"), want);
        assert_eq!(order.take(), ["running", "before", "during", "after"]);
    }
}

/// T-32.
#[test]
fn a_reactor_that_is_stopped_before_the_result_is_there_says_so() {
    let _watchdog = Watchdog::new();
    watch_log();
    let reactor = Reactor::new().unwrap();
    let (pending, resolver) = Deferred::<()>::pending();
    stop_later(&reactor, ms(1));
    let error = reactor.run_until(pending).unwrap_err();
    let error = error.trap::<ReactorStoppedError>().unwrap();
    assert_eq!(error.signal, None);
    assert_eq!(
        error.to_string(),
        "the reactor was stopped before the Deferred given to run_until fired"
    );

    // What fires now stops no later run, and a failure is nobody's.
    let guard = NoLostFailures::new();
    let mut late = Some(resolver);
    let value = defer_later(&reactor, ms(1), move || {
        late.take().unwrap().errback(Failure::message("late"))?;
        Ok(7)
    });
    let clock = reactor.clone();
    let value = value.add_callback(move |value| sleep(&clock, ms(1)).map(move |()| value));
    assert_eq!(reactor.run_until(value).unwrap(), 7);
    assert_eq!(guard.flush().len(), 1);

    // A wait that the shutdown ended.
    stop_later(&reactor, ms(1));
    let nap = sleep(&reactor, Duration::from_secs(3600));
    let error = reactor.run_until(nap).unwrap_err();
    assert!(error.is::<ReactorStoppedError>());
    assert!(errors_logged_here().is_empty());
}

/// A refused run leaves nothing behind.
#[test]
fn a_reactor_that_runs_cannot_be_run_for_something() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let here = reactor.clone();
    let refused = defer_later(&reactor, ms(1), move || {
        let fired = here.run_until(Deferred::succeed(1)).unwrap_err();
        let pending = here.run_until(sleep(&here, ms(1))).unwrap_err();
        let timed = here.run_for(ms(1)).unwrap_err();
        let turned = here.turn_once(ms(1)).unwrap_err();
        let errors = [fired, pending, timed, turned];
        assert!(here.is_running());
        let all = errors.iter().all(Failure::is::<ReactorAlreadyRunningError>);
        Ok((all, sleep(&here, ms(3)), here))
    });
    let waited =
        refused.add_callback(|(all, nap, here)| nap.map(move |()| (all, here.is_running())));
    assert_eq!(reactor.run_until(waited).unwrap(), (true, true));
}

#[test]
fn a_reactor_runs_for_a_while_or_until_it_is_stopped() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let naps = Rc::new(Cell::new(0));
    for _ in 0..2 {
        let done = naps.clone();
        drop(sleep(&reactor, ms(1)).map(move |()| done.set(done.get() + 1)));
        let begun = Instant::now();
        reactor.run_for(ms(5)).unwrap();
        assert!(begun.elapsed() >= ms(5));
    }
    assert_eq!(naps.get(), 2);
    stop_later(&reactor, ms(1));
    reactor.run_for(Duration::from_secs(3600)).unwrap();
    assert!(reactor.delayed_calls().is_empty());
}

/// the first turn starts it.
#[test]
fn turns_start_the_reactor_and_carry_it_to_its_end() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let order = journal();
    for _ in 0..2 {
        note_shutdown(&reactor, &order);
        let started = order.clone();
        reactor.call_when_running(move || note(&started, "running"));
        assert!(!reactor.is_running());
        assert!(reactor.turn_once(Duration::ZERO).unwrap());
        assert_eq!(order.take(), ["running"]);
        assert!(reactor.is_running());

        let (at_once, reactor_here) = (order.clone(), reactor.clone());
        reactor.call_when_running(move || note(&at_once, "at once"));
        assert_eq!(order.take(), ["at once"]);
        assert!(reactor.turn_once(Duration::ZERO).unwrap());

        let error = reactor_here.run_without_signals().unwrap_err();
        assert!(error.is::<ReactorAlreadyRunningError>());
        reactor.stop().unwrap();
        assert!(order.take().is_empty(), "not inside the call of stop");
        assert!(!reactor.turn_once(Duration::MAX).unwrap());
        assert_eq!(order.take(), ["before", "during", "after"]);
        assert!(!reactor.is_running());
    }
    reactor.run_for(ms(1)).unwrap();
}

/// the turns go on for as long as a trigger takes.
#[test]
fn turns_go_on_until_the_shutdown_is_over() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let (saved, save) = Deferred::<()>::pending();
    reactor.add_system_event_trigger(Before, Shutdown, move || saved);
    let stop = reactor.clone();
    reactor.add_system_event_trigger(After, Startup, move || Ok(stop.stop()?));
    for _ in 0..3 {
        assert!(reactor.turn_once(ms(1)).unwrap());
    }
    save.callback(()).unwrap();
    assert!(!reactor.turn_once(Duration::MAX).unwrap());
}

#[test]
fn a_turn_waits_for_what_comes_first_and_does_it() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    assert!(reactor.turn_once(Duration::ZERO).unwrap());

    // A delayed call: due while the turn waits, and made in it.
    let nap = sleep(&reactor, ms(2));
    let begun = Instant::now();
    while !nap.is_fired() {
        reactor.turn_once(Duration::MAX).unwrap();
    }
    assert!(begun.elapsed() >= ms(2));

    // A call from another thread.
    let remote = reactor.remote();
    thread_local!(static CALLED: Cell<bool> = const { Cell::new(false) });
    thread::spawn(move || remote.call_from_thread(|_| CALLED.set(true)).unwrap());
    reactor.turn_once(Duration::MAX).unwrap();
    assert!(CALLED.get(), "made in the turn that it has woken");

    // Nothing at all: the time it was given ends it.
    reactor.turn_once(ms(3)).unwrap();
}

/// The pool works, and its answers come in a turn.
#[test]
fn worker_threads_work_for_a_reactor_that_is_turned() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let before = defer_to_thread(&reactor, || Ok(1));
    assert!(reactor.turn_once(Duration::ZERO).unwrap());
    let after = defer_to_thread(&reactor, || Ok(2));
    while !(before.is_fired() && after.is_fired()) {
        reactor.turn_once(Duration::MAX).unwrap();
    }
    assert_eq!(before.result().unwrap() + after.result().unwrap(), 3);
}

#[test]
fn connections_live_from_turn_to_turn() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let (_port, address) = listen(&reactor, Scripts::new(Script::echo));
    let (fire, answered) = answer_of(&reactor, move || {
        let mut peer = connect(address);
        for _ in 0..3 {
            peer.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello");
        }
    });
    while !answered.is_fired() {
        reactor.turn_once(Duration::MAX).unwrap();
    }
    fire.join().unwrap();
    reactor.stop().unwrap();
    while reactor.turn_once(Duration::MAX).unwrap() {}
    assert!(peers::is_free(address));
}

/// Fires when the peer, on a thread of its own, is done.
fn answer_of(
    reactor: &Reactor,
    peer: impl FnOnce() + Send + 'static,
) -> (thread::JoinHandle<()>, Deferred<()>) {
    thread_local!(static DONE: RefCell<Option<Resolver<()>>> = const { RefCell::new(None) });
    let (deferred, resolver) = Deferred::pending();
    DONE.set(Some(resolver));
    let remote = reactor.remote();
    let thread = thread::spawn(move || {
        peer();
        let fire = |_: &Reactor| DONE.take().unwrap().callback(()).unwrap();
        remote.call_from_thread(fire).unwrap();
    });
    (thread, deferred)
}

/// also without a stop.
#[test]
fn a_reactor_that_is_dropped_between_turns_closes_what_it_owned() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let (port, address) = listen(&reactor, Scripts::new(Script::echo));
    drop(port);
    drop(defer_to_thread(&reactor, || Ok(())));
    reactor.turn_once(Duration::ZERO).unwrap();
    drop(reactor);
    assert!(peers::is_free(address));
}
