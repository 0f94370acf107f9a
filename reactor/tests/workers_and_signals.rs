//! A signal ends the reactors of all threads.
//!
//! Apart from the other tests of workers, which look whether ports are free: a process that is just
//! being started has all that its parent has open, for a moment.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::os::unix::process::ExitStatusExt;
use std::sync::Barrier;

use deferred_reactor::{Phase, SystemEvent, run_workers};

use peers::{Process, Script, Scripts, say};

#[test]
#[ignore = "the child of another test"]
fn child_runs_workers() {
    const COUNT: usize = 3;
    let ready = Barrier::new(COUNT);
    run_workers(COUNT, |reactor, worker| {
        worker.listen_tcp("127.0.0.1:0", Scripts::new(Script::new))?;
        let index = worker.index();
        reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, move || {
            say(&format!("ended {index}"));
            Ok(())
        });
        ready.wait();
        let told = reactor.remote();
        reactor.call_when_running(move || {
            told.call_from_thread(move |_| say("running")).unwrap();
        });
        Ok(())
    })
    .unwrap();
    say("returned");
}

/// B-14.
#[test]
fn a_signal_ends_all_workers() {
    for name in ["-INT", "-TERM"] {
        let mut child = Process::start("child_runs_workers");
        for _ in 0..3 {
            assert_eq!(child.hears().as_deref(), Some("running"));
        }
        child.signal(name);
        let (mut said, status) = child.ends();
        assert_eq!(said.pop().as_deref(), Some("returned"));
        said.sort();
        assert_eq!(said, ["ended 0", "ended 1", "ended 2"]);
        assert!(status.success(), "{status}, {:?}", status.signal());
    }
}
