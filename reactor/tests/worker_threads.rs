//! Work that blocks, on threads of the reactor's pool.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use deferred_reactor::{
    AbandonedError, CancelledError, Deferred, Failure, PanicError, Phase, Reactor, RemoteReactor,
    SystemEvent, defer_to_thread,
};

use peers::run;

/// Stops the reactor when all of these have fired.
fn stop_after<T>(reactor: &Reactor, jobs: Vec<Deferred<T>>) {
    let left = Rc::new(Cell::new(jobs.len()));
    for job in jobs {
        let (left, stop) = (left.clone(), reactor.clone());
        drop(job.add_both(move |_| {
            left.set(left.get() - 1);
            if left.get() == 0 {
                stop.stop().unwrap();
            }
            Ok(())
        }));
    }
}

/// A job that has no result.
fn job(reactor: &Reactor, function: impl FnOnce() + Send + 'static) -> Deferred<()> {
    defer_to_thread(reactor, move || {
        function();
        Ok(())
    })
}

fn wait<T>(channel: &mpsc::Receiver<T>) -> T {
    channel.recv_timeout(peers::LIMIT).unwrap()
}

/// Counts how many are inside at once.
#[derive(Default)]
struct Crowd {
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Crowd {
    fn visit(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        for _ in 0..20 {
            thread::yield_now();
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

///
#[test]
fn a_job_runs_on_another_thread() {
    let reactor = Reactor::new().unwrap();
    let remote = reactor.remote();
    let (tell, told) = mpsc::channel::<ThreadId>();
    reactor.call_in_thread(move || {
        tell.send(thread::current().id()).unwrap();
        remote
            .call_from_thread(|reactor| reactor.stop().unwrap())
            .unwrap();
    });
    run(&reactor);
    assert_ne!(wait(&told), thread::current().id());
}

///
#[test]
fn a_panic_in_a_job_is_logged_and_leaves_the_worker_alive() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let (tell, told) = mpsc::channel();
    let first = tell.clone();
    reactor.call_in_thread(move || {
        first.send(thread::current().id()).unwrap();
        panic!("this job is broken");
    });
    let remote = reactor.remote();
    reactor.call_in_thread(move || {
        tell.send(thread::current().id()).unwrap();
        remote
            .call_from_thread(|reactor| reactor.stop().unwrap())
            .unwrap();
    });
    run(&reactor);
    assert_eq!(wait(&told), wait(&told), "the same worker did both");
    assert_eq!(peers::times_logged("this job is broken"), 1);
}

///
#[test]
fn the_result_of_a_job_fires_its_deferred_on_the_reactors_thread() {
    let reactor = Reactor::new().unwrap();
    let seen = Rc::new(RefCell::new(None));
    let result = seen.clone();
    let job = defer_to_thread(&reactor, || Ok(thread::current().id()));
    let job = job.add_both(move |value| {
        *result.borrow_mut() = Some((value, thread::current().id()));
        Ok(())
    });
    stop_after(&reactor, vec![job]);
    assert!(seen.borrow().is_none(), "not before the reactor runs");
    run(&reactor);
    let (worker, fired_on) = seen.take().unwrap();
    assert_ne!(worker.unwrap(), thread::current().id());
    assert_eq!(fired_on, thread::current().id());
}

///
#[test]
fn the_error_of_a_job_fails_its_deferred() {
    let reactor = Reactor::new().unwrap();
    let (seen, failures) = (Rc::new(RefCell::new(Vec::new())), Rc::default());
    let keep = |failures: &Rc<RefCell<Vec<Failure>>>| {
        let failures = failures.clone();
        move |failure| {
            failures.borrow_mut().push(failure);
            Ok(0)
        }
    };
    let fails = defer_to_thread(&reactor, || Ok("x".parse::<u8>()?));
    let panics = defer_to_thread(&reactor, || panic!("in the job"));
    let fine = defer_to_thread(&reactor, || Ok(7));
    let result = seen.clone();
    stop_after(
        &reactor,
        vec![
            fails.add_errback(keep(&failures)),
            panics.add_errback(keep(&failures)),
            fine.map(move |value| {
                result.borrow_mut().push(value);
                value
            }),
        ],
    );
    run(&reactor);
    let failures = failures.take();
    assert!(failures.iter().any(|f| f.is::<std::num::ParseIntError>()));
    let panic = failures.iter().find_map(|f| f.check::<PanicError>());
    assert_eq!(panic.unwrap().message, "in the job");
    assert_eq!(seen.take(), [7]);
}

/// and what it had captured is gone when `cancel` returns.
#[test]
fn a_queued_job_that_is_cancelled_never_runs() {
    let reactor = Reactor::new().unwrap();
    let _nothing_lost = deferred_reactor::NoLostFailures::new();
    let (held, other) = (Arc::new(()), Arc::new(AtomicUsize::new(0)));
    let captured = held.clone();
    let job = defer_to_thread(&reactor, move || -> Result<(), Failure> {
        unreachable!("{captured:?}")
    });
    let jobs = (0..3).map(|_| {
        let other = other.clone();
        defer_to_thread(&reactor, move || Ok(other.fetch_add(1, Ordering::SeqCst)))
    });
    let jobs: Vec<_> = jobs.collect();
    assert_eq!(reactor.thread_pool_stats().queued, 4);
    job.cancel();
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(reactor.thread_pool_stats().queued, 3);
    assert_eq!(reactor.thread_pool_stats().cancelled, 1);
    assert!(job.result().unwrap_err().is::<CancelledError>());
    stop_after(&reactor, jobs);
    run(&reactor);
    assert_eq!(other.load(Ordering::SeqCst), 3, "the others do run");
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

/// while the only worker is busy with another.
#[test]
fn a_job_can_be_cancelled_while_the_reactor_runs() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let (go_on, may_go_on) = mpsc::channel();
    let first = job(&reactor, move || wait(&may_go_on));
    let second = job(&reactor, || unreachable!());
    let here = reactor.clone();
    reactor.call_when_running(move || {
        second.cancel();
        second.cancel();
        assert!(second.result().unwrap_err().is::<CancelledError>());
        stop_after(&here, vec![first, job(&here, || {})]);
        go_on.send(()).unwrap();
    });
    run(&reactor);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

///
#[test]
fn the_result_of_a_job_that_was_cancelled_while_it_ran_is_dropped() {
    for fails in [false, true] {
        let reactor = Reactor::new().unwrap();
        let _nothing_lost = deferred_reactor::NoLostFailures::new();
        let result = Arc::new(());
        let value = result.clone();
        let ((tell, told), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
        let job = defer_to_thread(&reactor, move || {
            tell.send(()).unwrap();
            wait(&may_go_on);
            match fails {
                true => Err(Failure::message("too late")),
                false => Ok(value),
            }
        });
        let here = reactor.clone();
        reactor.call_when_running(move || {
            wait(&told);
            job.cancel();
            assert!(job.result().unwrap_err().is::<CancelledError>());
            go_on.send(()).unwrap();
            assert_eq!(here.thread_pool_stats().cancelled, 0);
            here.stop().unwrap();
        });
        run(&reactor);
        assert_eq!(Arc::strong_count(&result), 1);
        assert_eq!(reactor.thread_pool_stats().done, 1);
        assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
    }
}

/// B-16: what a job had captured may do anything when it is dropped.
#[test]
fn a_cancelled_job_may_ask_for_more_while_it_is_dropped() {
    struct Asks(RemoteReactor);
    impl Drop for Asks {
        fn drop(&mut self) {
            let asked = self.0.call_from_thread(|reactor| {
                let next = job(reactor, || {});
                next.cancel();
                assert!(next.result().unwrap_err().is::<CancelledError>());
                reactor.stop().unwrap();
            });
            asked.unwrap();
            panic!("and even this");
        }
    }
    let reactor = Reactor::new().unwrap();
    let asks = Asks(reactor.remote());
    let job = job(&reactor, move || drop(asks));
    peers::watch_log();
    job.cancel();
    assert!(job.result().unwrap_err().is::<CancelledError>());
    run(&reactor);
    let errors = peers::errors_logged_here();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("and even this"));
}

/// what can be read while it works.
#[test]
fn the_pool_tells_how_it_is_doing() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(2);
    let stats = reactor.thread_pool_stats();
    assert_eq!((stats.size, stats.threads, stats.queued), (2, 0, 0));
    assert_eq!(stats.longest_wait, Duration::ZERO);
    let barrier = Arc::new(Barrier::new(3));
    let jobs = (0..5).map(|n| {
        let barrier = barrier.clone();
        job(&reactor, move || {
            if n < 2 {
                barrier.wait();
                barrier.wait();
            }
        })
    });
    let jobs = jobs.collect();
    let stats = reactor.thread_pool_stats();
    assert_eq!((stats.threads, stats.queued, stats.active), (0, 5, 0));
    stop_after(&reactor, jobs);
    let here = reactor.clone();
    reactor.call_when_running(move || {
        barrier.wait(); // two are at work
        let stats = here.thread_pool_stats();
        assert_eq!((stats.threads, stats.queued, stats.active), (2, 3, 2));
        assert_eq!((stats.done, stats.cancelled), (0, 0));
        assert!(stats.oldest_queued > Duration::ZERO);
        assert!(stats.longest_wait > Duration::ZERO);
        barrier.wait();
    });
    run(&reactor);
    let stats = reactor.thread_pool_stats();
    assert_eq!((stats.threads, stats.queued, stats.active), (0, 0, 0));
    assert_eq!((stats.done, stats.cancelled), (5, 0));
    assert_eq!(stats.oldest_queued, Duration::ZERO);
    assert!(stats.waited > stats.longest_wait);
    assert!(stats.waited < 5 * stats.longest_wait);
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

///
#[test]
fn no_more_jobs_run_at_once_than_was_suggested() {
    for size in [1, 3] {
        let reactor = Reactor::new().unwrap();
        reactor.suggest_thread_pool_size(size);
        let crowd = Arc::new(Crowd::default());
        let jobs = (0..60).map(|_| {
            let crowd = crowd.clone();
            job(&reactor, move || crowd.visit())
        });
        stop_after(&reactor, jobs.collect());
        run(&reactor);
        assert!(crowd.most() <= size, "{} of {size}", crowd.most());
    }
}

///
#[test]
fn as_many_jobs_run_at_once_as_was_suggested() {
    const SIZE: usize = 5;
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(SIZE);
    // Each of them waits until all are there.
    let barrier = Arc::new(Barrier::new(SIZE));
    let jobs = (0..2 * SIZE).map(|_| {
        let barrier = barrier.clone();
        job(&reactor, move || {
            barrier.wait();
        })
    });
    stop_after(&reactor, jobs.collect());
    run(&reactor);
}

/// also for jobs that had been queued before.
#[test]
fn a_pool_made_smaller_while_busy_takes_up_no_more_than_that() {
    const BEFORE: usize = 6;
    const AFTER: usize = 2;
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(BEFORE);
    let barrier = Arc::new(Barrier::new(BEFORE + 1));
    let (crowd, done) = (
        Arc::new(Crowd::default()),
        Arc::new(Barrier::new(BEFORE + 1)),
    );
    for _ in 0..BEFORE {
        let (barrier, done) = (barrier.clone(), done.clone());
        reactor.call_in_thread(move || {
            barrier.wait();
            done.wait();
        });
    }
    let jobs = (0..60).map(|_| {
        let crowd = crowd.clone();
        job(&reactor, move || crowd.visit())
    });
    stop_after(&reactor, jobs.collect());
    let resize = reactor.clone();
    reactor.call_when_running(move || {
        barrier.wait(); // all of them are at work
        resize.suggest_thread_pool_size(AFTER);
        done.wait();
    });
    run(&reactor);
    assert!(crowd.most() <= AFTER, "{} of {AFTER}", crowd.most());
}

///
#[test]
fn a_pool_made_larger_while_busy_takes_up_more_at_once() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    // The second can only be done beside the first.
    let barrier = Arc::new(Barrier::new(2));
    let jobs = (0..2).map(|_| {
        let barrier = barrier.clone();
        job(&reactor, move || {
            barrier.wait();
        })
    });
    stop_after(&reactor, jobs.collect());
    let resize = reactor.clone();
    reactor.call_when_running(move || resize.suggest_thread_pool_size(2));
    run(&reactor);
}

/// however often the size has changed while they were busy.
#[test]
fn no_job_is_forgotten_when_the_size_changes_up_and_down() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(3);
    let begun = Arc::new(Barrier::new(4));
    let (go_on, may_go_on) = crossbeam_channel::bounded::<()>(0);
    for _ in 0..3 {
        let (begun, may_go_on) = (begun.clone(), may_go_on.clone());
        reactor.call_in_thread(move || {
            begun.wait();
            let _ = may_go_on.recv();
        });
    }
    let here = reactor.clone();
    reactor.call_when_running(move || {
        begun.wait();
        for size in [1, 3, 1, 2, 1, 3, 0, 5, 1] {
            here.suggest_thread_pool_size(size);
        }
        let jobs = (0..10).map(|_| defer_to_thread(&here, || Ok(())));
        stop_after(&here, jobs.collect());
        drop(go_on);
    });
    run(&reactor);
}

///
#[test]
fn a_size_of_zero_is_one() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(0);
    let job = defer_to_thread(&reactor, || Ok(()));
    stop_after(&reactor, vec![job]);
    run(&reactor);
}

///
#[test]
fn the_pool_starts_with_the_reactor() {
    let reactor = Reactor::new().unwrap();
    let has_run = Arc::new(AtomicBool::new(false));
    let (flag, has_started) = (has_run.clone(), Rc::new(Cell::new(false)));
    let job = job(&reactor, move || flag.store(true, Ordering::SeqCst));
    let seen = has_started.clone();
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Startup, move || {
        seen.set(has_run.load(Ordering::SeqCst));
        Ok(())
    });
    stop_after(&reactor, vec![job]);
    run(&reactor);
    assert!(!has_started.get());
}

///
#[test]
fn jobs_that_wait_when_the_reactor_stops_are_done_before_run_returns() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(2);
    let done = Arc::new(AtomicUsize::new(0));
    let fired = Rc::new(Cell::new(0));
    for _ in 0..100 {
        let (done, fired) = (done.clone(), fired.clone());
        let job = defer_to_thread(&reactor, move || Ok(done.fetch_add(1, Ordering::SeqCst)));
        drop(job.map(move |_| fired.set(fired.get() + 1)));
    }
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
    run(&reactor);
    assert_eq!(done.load(Ordering::SeqCst), 100);
    assert_eq!(fired.get(), 100, "their Deferreds have fired as well");
}

/// what a thread holds is dropped when it ends.
#[test]
fn the_threads_have_ended_when_run_returns() {
    let reactor = Reactor::new().unwrap();
    let alive = Arc::new(());
    struct OnThread(#[allow(dead_code, reason = "held until the thread ends")] Arc<()>);
    thread_local!(static HELD: Cell<Option<OnThread>> = const { Cell::new(None) });
    let jobs = (0..20).map(|_| {
        let held = OnThread(alive.clone());
        job(&reactor, move || HELD.set(Some(held)))
    });
    stop_after(&reactor, jobs.collect());
    run(&reactor);
    assert_eq!(Arc::strong_count(&alive), 1);
}

///
#[test]
fn a_job_given_after_the_end_waits_for_the_next_run() {
    let reactor = Reactor::new().unwrap();
    let late = Rc::new(RefCell::new(None));
    let (here, slot) = (reactor.clone(), late.clone());
    reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, move || {
        *slot.borrow_mut() = Some(defer_to_thread(&here, || Ok("late")));
        Ok(())
    });
    let first = defer_to_thread(&reactor, || Ok(()));
    stop_after(&reactor, vec![first]);
    run(&reactor);
    let late = late.take().unwrap();
    assert!(!late.is_fired());
    let (seen, result) = (Rc::new(Cell::new("")), late);
    let value = seen.clone();
    stop_after(&reactor, vec![result.map(move |text| value.set(text))]);
    run(&reactor);
    assert_eq!(seen.get(), "late");
}

/// what never runs says so.
#[test]
fn jobs_of_a_reactor_that_never_runs_are_abandoned_with_it() {
    let reactor = Reactor::new().unwrap();
    let held = Arc::new(());
    let captured = held.clone();
    let job = job(&reactor, move || drop(captured));
    reactor.call_in_thread(|| unreachable!());
    drop(reactor);
    assert!(job.result().unwrap_err().is::<AbandonedError>());
    assert_eq!(Arc::strong_count(&held), 1);
}

///
#[test]
fn a_job_can_have_more_jobs_done() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    fn generation(reactor: &Reactor, left: u32) {
        let remote = reactor.remote();
        reactor.call_in_thread(move || {
            remote
                .call_from_thread(move |reactor| match left {
                    0 => reactor.stop().unwrap(),
                    _ => generation(reactor, left - 1),
                })
                .unwrap();
        });
    }
    generation(&reactor, 200);
    run(&reactor);
}

/// those who wait in a thread do not hold up the loop.
#[test]
fn timers_run_while_all_workers_are_busy() {
    let reactor = Reactor::new().unwrap();
    reactor.suggest_thread_pool_size(1);
    let (go_on, may_go_on) = mpsc::channel();
    let job = job(&reactor, move || wait(&may_go_on));
    reactor.call_later(Duration::from_millis(2), move || go_on.send(()).unwrap());
    stop_after(&reactor, vec![job]);
    run(&reactor);
}

/// Its parent takes it the memory for the stack of another thread while it waits to be told.
#[test]
#[ignore = "the child of another test"]
fn child_without_threads() {
    let reactor = Reactor::new().unwrap();
    let (again, stop) = (reactor.clone(), reactor.clone());
    reactor.call_when_running(move || {
        peers::say("running");
        let command = peers::listen_to_parent();
        drop(job(&again, || peers::say("done")).add_both({
            let stop = stop.clone();
            move |result| {
                let _ = stop.stop(); // it may have been stopped
                result
            }
        }));
        peers::say(&format!("threads {}", again.thread_pool_stats().threads));
        if command == "stop" {
            stop.stop().unwrap();
        }
    });
    reactor.run_without_signals().unwrap();
    peers::say("returned");
}

/// F-12: a limit on memory does what one on processes does, from which root is exempt.
#[test]
#[cfg(target_os = "linux")]
fn a_job_is_done_although_the_first_thread_was_refused() {
    use std::process::Command;

    for (command, is_lifted) in [("wait", true), ("stop", false)] {
        let mut child = peers::Process::start("child_without_threads");
        assert_eq!(child.hears().as_deref(), Some("running"));
        let id = child.id();
        let limit = |soft: &str| {
            let pid = format!("--pid={id}");
            let limit = format!("--as={soft}:");
            Command::new("prlimit").args([&pid, &limit]).status()
        };
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let size = size
            .and_then(|size| size.trim().strip_suffix(" kB"))
            .unwrap();
        // The stack of a thread takes 2 MiB.
        let size = (size.parse::<u64>().unwrap() + 1024) * 1024;
        if !limit(&size.to_string()).is_ok_and(|status| status.success()) {
            eprintln!("skipped: this needs prlimit");
            return;
        }
        child.tell(command);
        assert_eq!(child.hears().as_deref(), Some("threads 0"));
        if is_lifted {
            limit("unlimited").unwrap();
        }
        let (said, status) = child.ends();
        assert_eq!(said, ["done", "returned"], "{command}");
        assert!(status.success(), "{status}");
    }
}
