//! A reactor with nothing to do does nothing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use deferred_reactor::deferred::{pending_deferreds, track_pending};
use deferred_reactor::health::ReactorObserver;
use deferred_reactor::{DelayedCall, Reactor, sleep};

use peers::{Script, Scripts, connect, listen, read_exactly, run, run_with_peer};

const HOUR: Duration = Duration::from_secs(3600);

/// How often a thread has gone to sleep by itself. A turn of an idle loop is one such time.
fn sleeps(status: &str) -> u64 {
    let status = std::fs::read_to_string(status).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// A reactor on a thread of its own, and how to look at that thread.
struct Watched {
    remote: deferred_reactor::RemoteReactor,
    /// Its folder in /proc.
    thread: String,
    join: thread::JoinHandle<()>,
}

impl Watched {
    fn start(prepare: impl FnOnce(&Reactor) + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        let join = thread::spawn(move || {
            let reactor = Reactor::new().unwrap();
            prepare(&reactor);
            let remote = reactor.remote();
            let thread = std::fs::read_link("/proc/thread-self").unwrap();
            reactor.call_when_running(move || {
                let thread = format!("/proc/{}", thread.display());
                tell.send((remote, thread)).unwrap();
            });
            run(&reactor);
        });
        let (remote, thread) = told.recv_timeout(peers::LIMIT).unwrap();
        Self {
            remote,
            thread,
            join,
        }
    }

    /// Waits until it sleeps, and tells how often it has.
    fn asleep(&self) -> u64 {
        let _watchdog = peers::Watchdog::new();
        loop {
            let before = self.sleeps();
            let stat = std::fs::read_to_string(format!("{}/stat", self.thread)).unwrap();
            let (_, after_name) = stat.rsplit_once(") ").unwrap();
            if after_name.starts_with('S') && self.sleeps() == before {
                return before;
            }
            thread::yield_now();
        }
    }

    fn sleeps(&self) -> u64 {
        sleeps(&format!("{}/status", self.thread))
    }

    fn stop(self) {
        self.remote
            .call_from_thread(|reactor| reactor.stop().unwrap())
            .unwrap();
        self.join.join().unwrap();
    }
}

/// Something that takes a while and is not a clock: questions and answers on another reactor, whose
/// timers run meanwhile.
fn while_others_work() {
    let reactor = Reactor::new().unwrap();
    let (_, address) = listen(&reactor, Scripts::new(Script::echo));
    let (tell, told) = mpsc::channel();
    reactor.call_later(Duration::from_millis(50), move || tell.send(()).unwrap());
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        while told.try_recv().is_err() {
            peer.write_all(b"ping").unwrap();
            read_exactly(&mut peer, 4);
        }
    });
}

/// B-19.
#[test]
fn an_idle_reactor_does_not_wake_up() {
    // With all that may make it wake up: a far call, a call cancelled, a port, idle workers.
    let idle = Watched::start(|reactor| {
        reactor.call_later(HOUR, || {});
        reactor
            .call_later(Duration::from_millis(1), || {})
            .cancel()
            .unwrap();
        listen(reactor, Scripts::new(Script::new));
        reactor.call_in_thread(|| {});
    });
    let before = idle.asleep();
    while_others_work();
    assert_eq!(idle.asleep(), before);
    idle.stop();
}

/// B-19: to be looked at is no reason to wake up, nor to look.
#[test]
fn a_reactor_that_is_measured_does_not_wake_up_for_it() {
    struct Observer;
    impl ReactorObserver for Observer {}
    let (tell, told) = mpsc::channel();
    let idle = Watched::start(move |reactor| {
        reactor.add_observer(Observer);
        reactor.set_slow_callback_limit(Duration::from_millis(1));
        track_pending(true);
        // It waits for something, and knows it.
        reactor.call_later(HOUR, || {});
        drop(sleep(reactor, HOUR));
        tell.send((reactor.monitor(), pending_deferreds())).unwrap();
    });
    let (monitor, pending) = told.recv().unwrap();
    let before = idle.asleep();
    let stats = monitor.stats();
    while_others_work();
    let later = monitor.stats();
    assert_eq!((later.turns, later.busy), (stats.turns, stats.busy));
    assert!(later.idle > stats.idle);
    assert_eq!(pending.count(), 1);
    assert!(monitor.slow_callbacks().len() <= 1);
    assert_eq!(idle.asleep(), before);
    idle.stop();
}

/// B-19.
#[test]
fn an_idle_connection_does_not_wake_the_reactor_up() {
    let (tell, told) = mpsc::channel();
    let idle = Watched::start(move |reactor| {
        let factory = Scripts::new(|| {
            Script::new().made(|transport| {
                transport.write(b"hello");
                Ok(())
            })
        });
        let (_, address) = listen(reactor, factory);
        // One whose peer reads nothing, and has a backlog for ever.
        let backlog = Scripts::new(|| {
            Script::new().made(|transport| {
                transport.write_bytes(vec![0; peers::HUGE].into());
                Ok(())
            })
        });
        let (_, stuck) = listen(reactor, backlog);
        // One that sends to a protocol that does not want it.
        let paused = Scripts::new(|| {
            Script::new().made(|transport| {
                transport.pause_producing();
                transport.write(b"hello");
                Ok(())
            })
        });
        let (_, paused) = listen(reactor, paused);
        tell.send((address, stuck, paused)).unwrap();
    });
    let (address, stuck, paused) = told.recv().unwrap();
    let mut quiet = connect(address);
    read_exactly(&mut quiet, 5);
    let stuck = connect(stuck);
    stuck.peek(&mut [0]).unwrap();
    let mut ignored = connect(paused);
    read_exactly(&mut ignored, 5);
    ignored.write_all(b"anybody there?").unwrap();
    // It has seen all of that once it has answered another.
    read_exactly(&mut connect(address), 5);
    let before = idle.asleep();
    while_others_work();
    // Those who are still connected here are what is idle there; the last one has closed.
    assert_eq!(idle.asleep(), before);
    drop((quiet, stuck, ignored));
    idle.stop();
}

/// B-19: the time that a call was put off from is not a reason to wake up.
#[test]
fn a_moved_deadline_does_not_wake_the_reactor_up() {
    const CALLS: u64 = 100;
    let reactor = Reactor::new().unwrap();
    let calls: Rc<RefCell<Vec<DelayedCall>>> = Rc::default();
    // A hundred moments at which nothing is left to be done, and one at which it is over.
    for n in 1..=CALLS {
        let call = reactor.call_later(Duration::from_micros(n * 500), || unreachable!());
        calls.borrow_mut().push(call);
    }
    let (begun, slept) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let begin = begun.clone();
    reactor.call_when_running(move || {
        for (n, call) in calls.borrow().iter().enumerate() {
            match n % 2 {
                0 => call.reset(HOUR).unwrap(),
                _ => call.cancel().unwrap(),
            }
        }
        begin.set(sleeps("/proc/thread-self/status"));
    });
    let (stop, count) = (reactor.clone(), slept.clone());
    reactor.call_later(Duration::from_micros((CALLS + 10) * 500), move || {
        count.set(sleeps("/proc/thread-self/status") - begun.get());
        stop.stop().unwrap();
    });
    run(&reactor);
    // Once, for the end. A few more may be the system's, as where memory was paged in.
    assert!(slept.get() < CALLS / 5, "{} times awake", slept.get());
}

/// B-19: one call from another thread wakes it once.
#[test]
fn many_calls_from_a_thread_wake_the_reactor_no_more_often_than_it_sleeps() {
    let idle = Watched::start(|_| {});
    let before = idle.asleep();
    for _ in 0..10 {
        let (tell, told) = mpsc::channel();
        idle.remote
            .call_from_thread(move |_| tell.send(()).unwrap())
            .unwrap();
        told.recv_timeout(peers::LIMIT).unwrap();
        idle.asleep();
    }
    let turns = idle.asleep() - before;
    assert!((10..=20).contains(&turns), "{turns} turns for 10 calls");
    idle.stop();
}
