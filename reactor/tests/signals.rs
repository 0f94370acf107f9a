//! SIGINT and SIGTERM, each time in a process of its own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

use deferred_reactor::{Deferred, Phase, Reactor, SystemEvent, react, sleep};

use peers::{Process, listen_to_parent, say};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

fn reactor_that_talks() -> Reactor {
    let reactor = Reactor::new().unwrap();
    reactor.call_when_running(|| say("running"));
    for (phase, text) in [(Phase::Before, "before"), (Phase::After, "after")] {
        reactor.add_system_event_trigger(phase, SystemEvent::Shutdown, move || {
            say(text);
            Ok(())
        });
    }
    reactor
}

#[test]
#[ignore = "the child of other tests"]
fn child_runs() {
    let reactor = reactor_that_talks();
    reactor.run().unwrap();
    say(&format!("{:?}", reactor.exit_signal()));
}

/// Says what is logged, so that the parent hears it.
struct Said;

impl log::Log for Said {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        say(&record.args().to_string());
    }
    fn flush(&self) {}
}

fn say_what_is_logged() {
    log::set_logger(&Said).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
}

#[test]
#[ignore = "the child of another test"]
fn child_waits_for_a_trigger() {
    say_what_is_logged();
    let reactor = Reactor::new().unwrap();
    reactor.call_when_running(|| say("running"));
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, || {
        say("waiting");
        let (deferred, resolver) = Deferred::<()>::pending();
        std::mem::forget(resolver);
        deferred
    });
    reactor.run().unwrap();
    say("returned");
}

#[test]
#[ignore = "the child of another test"]
fn child_waits_for_a_job() {
    say_what_is_logged();
    let reactor = Reactor::new().unwrap();
    reactor.call_in_thread(|| {
        say("running");
        loop {
            std::thread::park();
        }
    });
    reactor.run().unwrap();
    say("returned");
}

#[test]
#[ignore = "the child of another test"]
fn child_runs_until_told() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    reactor.call_when_running(|| {
        say("running");
        std::thread::spawn(move || {
            listen_to_parent();
            remote.call_from_thread(|reactor| {
                let _ = reactor.stop(); // a signal may have been first
            })
        });
    });
    reactor.run().unwrap();
    say(&format!("{:?}", reactor.exit_signal()));
    listen_to_parent();
    say("the end");
}

#[test]
#[ignore = "the child of another test"]
fn child_runs_without_signals() {
    let reactor = reactor_that_talks();
    reactor.run_without_signals().unwrap();
    say("returned");
}

#[test]
#[ignore = "the child of another test"]
fn child_runs_and_stays() {
    let reactor = Reactor::new().unwrap();
    for _ in 0..3 {
        let stop = reactor.clone();
        reactor.call_when_running(move || stop.stop().unwrap());
        reactor.run().unwrap();
    }
    say("returned");
    listen_to_parent();
    say("still here");
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_handler_of_its_own() {
    let signals = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut told, tell) = signals;
    signal_hook::low_level::pipe::register(SIGTERM, tell).unwrap();
    let reactor = Reactor::new().unwrap();
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    reactor.run().unwrap();
    say("returned");
    std::io::Read::read_exact(&mut told, &mut [0]).unwrap();
    say("handled");
}

#[test]
#[ignore = "the child of another test"]
fn child_runs_again_after_a_signal() {
    let reactor = Reactor::new().unwrap();
    for _ in 0..2 {
        reactor.call_when_running(|| say("running"));
        reactor.run().unwrap();
        say(&format!("{:?}", reactor.exit_signal()));
    }
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    reactor.run().unwrap();
    say(&format!("{:?}", reactor.exit_signal()));
}

#[test]
#[ignore = "the child of another test"]
fn child_runs_one_with_signals_and_one_without() {
    let (started, has_started) = std::sync::mpsc::channel();
    let without = std::thread::spawn(move || {
        let reactor = Reactor::new().unwrap();
        let remote = reactor.remote();
        reactor.call_when_running(move || started.send(remote).unwrap());
        reactor.run_without_signals().unwrap();
        say(&format!("without: {:?}", reactor.exit_signal()));
    });
    let remote = has_started.recv().unwrap();
    let reactor = Reactor::new().unwrap();
    reactor.call_when_running(|| say("running"));
    reactor.run().unwrap();
    say(&format!("with: {:?}", reactor.exit_signal()));
    remote.call_from_thread(|r| r.stop().unwrap()).unwrap();
    without.join().unwrap();
}

#[test]
#[ignore = "the child of another test"]
fn child_runs_for_a_deferred() {
    let reactor = Reactor::new().unwrap();
    reactor.call_when_running(|| say("running"));
    let (deferred, _resolver) = Deferred::<()>::pending();
    let error = reactor.run_until(deferred).unwrap_err();
    say(&error.to_string());
    let code = react(|reactor| {
        reactor.call_when_running(|| say("running"));
        sleep(&reactor, Duration::from_secs(3600))
    });
    say(&(code == ExitCode::SUCCESS).to_string());
}

/// T-32: the signal is what stopped it otherwise.
#[test]
fn a_signal_ends_a_run_for_a_deferred() {
    let mut child = Process::start("child_runs_for_a_deferred");
    assert_eq!(child.hears().as_deref(), Some("running"));
    child.signal("-TERM");
    let error = child.hears().unwrap();
    assert!(
        error.starts_with("the reactor was stopped by signal 15 before"),
        "{error}"
    );
    assert_eq!(child.hears().as_deref(), Some("running"));
    child.signal("-TERM");
    let (said, status) = child.ends();
    assert_eq!(said, ["true"]);
    assert!(status.success());
}

/// The two signals, without those that this process was told to ignore, as background jobs of some
/// shells are: nothing they start can be ended by them.
fn signals_that_end_a_program() -> impl Iterator<Item = (&'static str, i32)> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    [("-INT", SIGINT), ("-TERM", SIGTERM)]
        .into_iter()
        .filter(move |(_, number)| ignored >> (number - 1) & 1 == 0)
}

///
#[test]
fn a_signal_stops_the_reactor_as_a_call_of_stop_does() {
    for (name, number) in signals_that_end_a_program() {
        let mut child = Process::start("child_runs");
        assert_eq!(child.hears().as_deref(), Some("running"));
        child.signal(name);
        let (said, status) = child.ends();
        assert_eq!(said, ["before", "after", &format!("Some({number})")]);
        assert!(status.success(), "{status}");
    }
}

///
#[test]
fn a_reactor_without_signals_leaves_them_alone() {
    for (name, number) in signals_that_end_a_program() {
        let mut child = Process::start("child_runs_without_signals");
        assert_eq!(child.hears().as_deref(), Some("running"));
        child.signal(name);
        let (said, status) = child.ends();
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(status.signal(), Some(number));
    }
}

///
#[test]
fn signals_end_the_program_again_when_run_has_returned() {
    for (name, number) in signals_that_end_a_program() {
        let mut child = Process::start("child_runs_and_stays");
        assert_eq!(child.hears().as_deref(), Some("returned"));
        child.signal(name);
        let (said, status) = child.ends();
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(status.signal(), Some(number));
    }
}

/// F-19.
#[test]
fn a_second_signal_ends_a_program_whose_shutdown_waits() {
    for (name, number) in signals_that_end_a_program() {
        let mut child = Process::start("child_waits_for_a_trigger");
        assert_eq!(child.hears().as_deref(), Some("running"));
        child.signal(name);
        assert_eq!(child.hears().as_deref(), Some("waiting"));
        child.signal(name);
        let (said, status) = child.ends();
        let want = format!(
            "signal {number} arrived while the reactor was stopping because of signal {number}: \
             the program ends at once"
        );
        assert_eq!(said, [want]);
        assert_eq!(status.signal(), Some(number));

        let mut child = Process::start("child_waits_for_a_job");
        assert_eq!(child.hears().as_deref(), Some("running"));
        child.signal(name);
        let want = format!(
            "signal {number} stops the reactor once the jobs in its threads are done (1 left); \
             another signal ends the program at once"
        );
        assert_eq!(child.hears(), Some(want));
        child.signal(name);
        let (said, status) = child.ends();
        assert!(said.is_empty(), "{said:?}");
        assert_eq!(status.signal(), Some(number));
    }
}

///
#[test]
fn a_handler_of_the_programs_own_stays_in_charge() {
    let mut child = Process::start("child_with_a_handler_of_its_own");
    assert_eq!(child.hears().as_deref(), Some("returned"));
    child.signal("-TERM");
    let (said, status) = child.ends();
    assert_eq!(said, ["handled"]);
    assert!(status.success(), "{status}");
}

///
#[test]
fn each_run_has_a_signal_of_its_own() {
    let signals: Vec<_> = signals_that_end_a_program().collect();
    if signals.is_empty() {
        return; // none can be sent
    }
    let mut child = Process::start("child_runs_again_after_a_signal");
    for &(name, number) in signals.iter().cycle().take(2) {
        assert_eq!(child.hears().as_deref(), Some("running"));
        child.signal(name);
        assert_eq!(child.hears(), Some(format!("Some({number})")));
    }
    let (said, status) = child.ends();
    assert_eq!(said, ["None"]);
    assert!(status.success(), "{status}");
}

/// F-14: `sh -c 'program &'` starts it so, and Ctrl-C is meant for somebody else.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    for (name, ignoring) in [("-INT", "trap '' INT"), ("-TERM", "trap '' TERM")] {
        let mut child = Process::start_after("child_runs_until_told", ignoring);
        assert_eq!(child.hears().as_deref(), Some("running"));
        child.signal(name);
        child.tell("stop");
        assert_eq!(child.hears().as_deref(), Some("None"));
        child.signal(name);
        child.tell("end");
        let (said, status) = child.ends();
        assert_eq!(said, ["the end"]);
        assert!(status.success(), "{status}");
    }
}

///
#[test]
fn a_signal_stops_only_the_reactor_that_wants_it() {
    let mut child = Process::start("child_runs_one_with_signals_and_one_without");
    assert_eq!(child.hears().as_deref(), Some("running"));
    child.signal("-TERM");
    let (said, status) = child.ends();
    assert_eq!(said, ["with: Some(15)", "without: None"]);
    assert!(status.success(), "{status}");
}

///
#[test]
fn a_run_that_no_signal_has_ended_remembers_none() {
    let reactor = Reactor::new().unwrap();
    assert_eq!(reactor.exit_signal(), None);
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    reactor.run().unwrap();
    assert_eq!(reactor.exit_signal(), None);
}
