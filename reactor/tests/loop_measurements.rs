//! A loop that tells how it is: turns, lag, how busy it is, and which callbacks hold it up.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::panic::Location;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use deferred_reactor::deferred::{pending_deferreds, track_pending};
use deferred_reactor::health::{
    Callback, CallbackKind, Monitor, Place, ReactorObserver, SlowCallback, Turn,
    UnknownObserverError, watch,
};
use deferred_reactor::net::{Protocol, Transport, for_protocol};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{
    Clock, Deferred, Failure, LoopingCall, NoLostFailures, Phase, Reactor, SystemEvent,
    defer_later, sleep,
};

use peers::{Script, Scripts, address_of, connect, listen, read_exactly, run, run_with_peer};

const HOUR: Duration = Duration::from_secs(3600);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Holds the thread, as no callback should.
fn hold(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {}
}

fn stop_later(reactor: &Reactor, delay: Duration) {
    let stop = reactor.clone();
    reactor.call_later(delay, move || stop.stop().unwrap());
}

/// Keeps what it is told.
#[derive(Default)]
struct Told {
    turns: RefCell<Vec<Turn>>,
    slow: RefCell<Vec<SlowCallback>>,
}

impl Told {
    fn by(reactor: &Reactor) -> Rc<Self> {
        let told = Rc::new(Self::default());
        reactor.add_observer(told.clone());
        told
    }

    /// How often a line was slow. Others may be as well, where the system is busy.
    fn times(&self, line: u32) -> usize {
        let slow = self.slow.borrow();
        slow.iter()
            .filter(|slow| line_of(&slow.callback) == line)
            .count()
    }

    /// The first time that a line was slow.
    #[track_caller]
    fn slow_at(&self, line: u32) -> SlowCallback {
        let slow = self.slow.borrow();
        let found = slow.iter().find(|slow| line_of(&slow.callback) == line);
        found.expect("it is told").clone()
    }
}

impl ReactorObserver for Told {
    fn turn(&self, turn: &Turn) {
        self.turns.borrow_mut().push(*turn);
    }

    fn slow_callback(&self, slow: &SlowCallback) {
        self.slow.borrow_mut().push(slow.clone());
    }
}

/// The line of this file that a callback comes from; 0 where it is known by its type.
fn line_of(callback: &Callback) -> u32 {
    match callback.place {
        Place::Line(line) => {
            assert_eq!(line.file(), Location::caller().file());
            line.line()
        }
        _ => 0,
    }
}

#[track_caller]
fn here() -> u32 {
    Location::caller().line()
}

fn wait_until(monitor: &Monitor, is_so: impl Fn(&Monitor) -> bool) {
    let _watchdog = peers::Watchdog::new();
    while !is_so(monitor) {
        thread::yield_now();
    }
}

/// B-06.
#[test]
fn what_the_loop_does_is_counted() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    let (_, address) = listen(&reactor, Scripts::new(Script::echo));
    for _ in 0..5 {
        reactor.call_later(ms(1), || {});
    }
    reactor.call_later(HOUR, || {});
    let remote = reactor.remote();
    for _ in 0..3 {
        remote.call_from_thread(|_| {}).unwrap();
    }
    let before = reactor.stats();
    assert_eq!((before.pending_timers, before.pending_calls), (6, 3));
    assert_eq!((before.turns, before.delayed_calls), (0, 0));
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"ping").unwrap();
        read_exactly(&mut peer, 4);
        // Not before those have been made.
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let sent = tell.clone();
            remote
                .call_from_thread(move |r| {
                    r.call_later(ms(2), move || sent.send(()).unwrap());
                })
                .unwrap();
        });
        told.recv_timeout(peers::LIMIT).unwrap();
    });
    let after = reactor.stats();
    assert_eq!(after.delayed_calls, 6);
    assert_eq!(after.thread_calls, 5); // three, the one of the peer, and the one that stops
    assert!(after.events >= 2, "{after:?}"); // the peer, and what it sends
    assert!(after.turns >= 2 && after.busy > Duration::ZERO, "{after:?}");
    assert_eq!((after.pending_timers, after.pending_calls), (0, 0));
    assert_eq!(after.turn_running, None);

    // The observer was told the same, turn by turn.
    let turns = told.turns.borrow();
    let sum = |count: fn(&Turn) -> u64| turns.iter().map(count).sum::<u64>();
    assert_eq!(turns.len() as u64, after.turns);
    assert_eq!(sum(|turn| turn.delayed_calls), 6);
    assert_eq!(sum(|turn| turn.thread_calls), 5);
    assert_eq!(sum(|turn| turn.events), after.events);
    let longest = turns.iter().map(|turn| turn.time).max();
    assert_eq!(longest, Some(after.longest_turn));
    let lags: Vec<_> = turns.iter().filter_map(|turn| turn.lag).collect();
    assert_eq!(lags.iter().max(), Some(&after.longest_lag));
    for turn in turns.iter() {
        assert_eq!(turn.lag.is_some(), turn.delayed_calls > 0, "{turn:?}");
    }
}

/// B-06: seen from outside, as a scrape sees it.
#[test]
fn a_turn_that_goes_on_is_seen_from_another_thread_while_it_does() {
    let reactor = Reactor::new().unwrap();
    let monitor = reactor.monitor();
    assert_eq!(monitor.stats().turn_running, None);
    let (seen, is_seen) = mpsc::channel();
    let watcher = {
        let monitor = monitor.clone();
        thread::spawn(move || {
            wait_until(&monitor, |m| m.stats().turn_running > Some(ms(3)));
            let earlier = monitor.stats();
            wait_until(&monitor, |m| m.stats().busy >= earlier.busy + ms(1));
            let later = monitor.stats();
            seen.send(()).unwrap();
            (earlier, later)
        })
    };
    let stop = reactor.clone();
    reactor.call_later(ms(1), move || {
        is_seen.recv_timeout(peers::LIMIT).unwrap();
        stop.stop().unwrap();
    });
    run(&reactor);
    let (earlier, later) = watcher.join().unwrap();
    // It did nothing else between the two.
    assert_eq!(later.busy_ratio_since(&earlier), 1.0);
    assert_eq!(later.turns, earlier.turns);
    let after = monitor.stats();
    assert!(after.longest_turn >= ms(4), "{after:?}");
    assert_eq!(after.turn_running, None);
    drop(reactor);
    assert_eq!(monitor.stats().turns, after.turns);
}

/// B-06.
#[test]
fn a_loop_that_sleeps_is_not_busy() {
    let (tell, told) = mpsc::channel();
    let join = thread::spawn(move || {
        let reactor = Reactor::new().unwrap();
        tell.send((reactor.monitor(), reactor.remote())).unwrap();
        run(&reactor);
    });
    let (monitor, remote) = told.recv_timeout(peers::LIMIT).unwrap();
    wait_until(&monitor, |m| {
        m.stats().turns > 0 && m.stats().turn_running.is_none()
    });
    let earlier = monitor.stats();
    wait_until(&monitor, |m| m.stats().idle > earlier.idle);
    let later = monitor.stats();
    assert_eq!(later.busy, earlier.busy);
    assert_eq!(later.busy_ratio_since(&earlier), 0.0);
    assert!(later.busy_ratio() < 1.0);
    remote
        .call_from_thread(|reactor| reactor.stop().unwrap())
        .unwrap();
    join.join().unwrap();
}

/// B-06.
#[test]
fn lag_is_how_late_a_delayed_call_was() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    let due = reactor.call_later(ms(4), || {}).time().unwrap();
    reactor.call_later(ms(1), move || while Instant::now() < due + ms(5) {});
    stop_later(&reactor, ms(20));
    run(&reactor);
    let turns = told.turns.borrow();
    assert!(turns.iter().any(|turn| turn.lag >= Some(ms(5))));
    assert!(reactor.stats().longest_lag >= ms(5));
}

/// B-06: also for a call that had to wait for another of the same turn.
#[test]
fn lag_is_that_of_the_latest_call_of_a_turn() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    for hold_for in [ms(0), ms(5), ms(0)] {
        reactor.call_later(Duration::ZERO, move || hold(hold_for));
    }
    stop_later(&reactor, ms(10));
    run(&reactor);
    let first = told.turns.borrow()[0];
    assert!(
        first.delayed_calls >= 3 && first.lag >= Some(ms(5)),
        "{first:?}"
    );
}

/// B-06: and so may be any call in it, as in any callback.
#[test]
fn an_observer_may_call_anything() {
    struct Busy {
        reactor: Reactor,
        made: Rc<Cell<u32>>,
        turns: Cell<u32>,
        myself: Cell<Option<deferred_reactor::health::ObserverId>>,
    }
    struct Nothing;
    impl ReactorObserver for Nothing {}
    impl ReactorObserver for Busy {
        fn turn(&self, _: &Turn) {
            let (reactor, made) = (&self.reactor, &self.made);
            self.turns.set(self.turns.get() + 1);
            if self.turns.get() == 1 {
                let count = made.clone();
                reactor.call_later(Duration::ZERO, move || count.set(count.get() + 1));
                reactor
                    .remote()
                    .call_from_thread(|r| r.call_when_running(|| {}))
                    .unwrap();
                let other = reactor.add_observer(Nothing);
                reactor.remove_observer(other).unwrap();
                listen(reactor, Scripts::new(Script::new));
                let _ = (reactor.stats(), reactor.monitor().stats());
                reactor.set_slow_callback_limit(HOUR);
                drop(Deferred::succeed(()).map(|()| {}));
            }
            if made.get() == 1 && reactor.stop().is_ok() {
                // Goes while it is being told, with all that it holds.
                reactor
                    .remove_observer(self.myself.take().unwrap())
                    .unwrap();
            }
        }
    }
    let reactor = Reactor::new().unwrap();
    let made = Rc::new(Cell::new(0));
    let busy = Rc::new(Busy {
        reactor: reactor.clone(),
        made: made.clone(),
        turns: Cell::new(0),
        myself: Cell::new(None),
    });
    let id = reactor.add_observer(busy.clone());
    busy.myself.set(Some(id));
    run(&reactor); // it does not sleep over what the observer asked for, nor when it was stopped
    assert_eq!(made.get(), 1);
    let again: Result<(), UnknownObserverError> = reactor.remove_observer(id);
    assert!(again.is_err());
    assert_eq!(Rc::strong_count(&busy), 1);
}

/// B-06.
#[test]
fn an_observer_that_panics_stops_nothing() {
    struct Broken;
    impl ReactorObserver for Broken {
        fn turn(&self, _: &Turn) {
            panic!("this observer is broken");
        }
    }
    let reactor = Reactor::new().unwrap();
    reactor.add_observer(Broken);
    let told = Told::by(&reactor);
    stop_later(&reactor, ms(1));
    run(&reactor);
    let count = told.turns.borrow().len();
    assert!(count >= 1);
    assert_eq!(peers::times_logged("this observer is broken"), count);
}

/// B-06.
#[test]
fn a_slow_delayed_call_is_named_by_the_line_that_scheduled_it() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    reactor.call_later(ms(1), || hold(ms(5)));
    let line = here() - 1;
    stop_later(&reactor, ms(20));
    run(&reactor);
    assert_eq!(told.times(line), 1);
    let slow = told.slow_at(line);
    assert_eq!(slow.callback.kind, CallbackKind::DelayedCall);
    assert!(slow.time >= ms(5) && slow.limit == ms(2), "{slow:?}");
    let by_line = reactor.monitor().slow_callbacks();
    let known = by_line.iter().find(|known| known.callback == slow.callback);
    let known = known.unwrap();
    assert_eq!(
        (known.count, known.longest, known.total),
        (1, slow.time, slow.time)
    );
    let all: u64 = by_line.iter().map(|known| known.count).sum();
    assert_eq!(reactor.stats().slow_callbacks, all);
    let label = slow.callback.place.label();
    assert_eq!(label, format!("{}:{line}", file!()));
    let record = format!("slow callback: the delayed call made at {label}:");
    assert_eq!(peers::times_logged(&record), 1);
}

/// B-06.
#[test]
fn a_line_that_is_slow_again_and_again_is_counted_and_logged_once() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(1));
    let slow_line = |delay| reactor.call_later(delay, || hold(ms(2)));
    let line = here() - 1;
    for n in 0..5 {
        slow_line(ms(3 * n));
    }
    stop_later(&reactor, ms(40));
    run(&reactor);
    assert_eq!(told.times(line), 5);
    let most = reactor.monitor().slow_callbacks()[0]; // they come most often slow first
    assert_eq!((line_of(&most.callback), most.count), (line, 5));
    let record = format!("the delayed call made at {}:{line}:", file!());
    assert_eq!(peers::times_logged(&record), 1);
}

/// B-06.
#[test]
fn a_slow_call_from_a_thread_is_named_by_the_line_that_made_it() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    let remote = reactor.remote();
    let line = thread::spawn(move || {
        remote.call_from_thread(|_| hold(ms(5))).unwrap();
        here() - 1
    });
    stop_later(&reactor, ms(20));
    let line = line.join().unwrap();
    run(&reactor);
    assert_eq!(told.times(line), 1);
    let kind = told.slow_at(line).callback.kind;
    assert_eq!(kind, CallbackKind::ThreadCall);
}

/// B-06: not by what fired it, and not by those that ran before or after it.
#[test]
fn a_slow_callback_of_a_deferred_is_named_by_the_line_that_added_it() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(100));
    let (inner, resolver) = Deferred::pending();
    let inner = inner
        .map(|()| 1)
        .map(|n| {
            hold(ms(120));
            n
        })
        .map(|n| n + 1);
    let line = here() - 5;
    let (outer, start) = Deferred::pending();
    let fire = outer.map(move |()| resolver.callback(()).unwrap());
    reactor.call_later(ms(1), move || start.callback(()).unwrap());
    stop_later(&reactor, ms(150));
    run(&reactor);
    let end = here();
    drop((inner, fire));
    assert_eq!(told.times(line), 1);
    for other in (line - 5..line).chain(line + 1..end) {
        assert_eq!(told.times(other), 0, "line {other}");
    }
    let kind = told.slow_at(line).callback.kind;
    assert_eq!(kind, CallbackKind::Deferred);
}

/// B-06: also where it panics, and where the Deferred had fired already.
#[test]
fn a_slow_callback_that_panics_is_named() {
    let lost = NoLostFailures::new();
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    reactor.call_later(ms(1), || {
        drop(Deferred::succeed(()).map(|()| {
            hold(ms(5));
            panic!("slow, and broken");
        }));
    });
    let line = here() - 5;
    reactor.call_later(ms(2), || {
        hold(ms(5));
        panic!("slow, and broken too");
    });
    let second = here() - 4;
    stop_later(&reactor, ms(20));
    run(&reactor);
    assert_eq!((told.times(line), told.times(second)), (1, 1));
    assert_eq!(lost.flush().len(), 1);
}

/// B-06.
#[test]
fn what_is_slow_by_many_quick_callbacks_is_named_itself() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(50));
    reactor.call_later(ms(1), || {
        for _ in 0..60 {
            drop(Deferred::succeed(()).map(|()| hold(ms(1))));
        }
    });
    let line = here() - 5;
    stop_later(&reactor, ms(70));
    run(&reactor);
    assert_eq!(told.times(line), 1);
}

struct Slow;

impl Protocol for Slow {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        hold(ms(5));
        if data.starts_with(b"end") {
            transport.abort_connection();
        } else {
            transport.write(data);
        }
        Ok(())
    }
}

/// B-06.
#[test]
fn a_slow_protocol_is_named_by_its_type_and_peer() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    let port = reactor
        .listen_tcp("127.0.0.1:0", for_protocol(|| Slow))
        .unwrap();
    let address = address_of(&port);
    let peer = run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"hello").unwrap();
        read_exactly(&mut peer, 5);
        // It is known also when it is lost in the same moment.
        peer.write_all(b"end").unwrap();
        let _ = peers::read_all_or_reset(&mut peer);
        peer.local_addr().unwrap()
    });
    let told = told.slow.borrow();
    let of_protocol = told
        .iter()
        .filter(|slow| slow.callback.kind == CallbackKind::Protocol);
    assert!(of_protocol.clone().count() >= 2);
    for slow in of_protocol {
        let name = slow.callback.place.label();
        assert_eq!(name, "loop_measurements::Slow");
        assert_eq!(slow.peer.as_ref().unwrap().socket_addr(), Some(peer));
    }
    let record = format!("the protocol loop_measurements::Slow of the connection with {peer}");
    assert_eq!(peers::times_logged(&record), 1);
}

/// B-06.
#[test]
fn what_is_slow_in_accepting_is_named_by_the_line_that_opened_the_port() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    let factory = Scripts::new(|| {
        hold(ms(5));
        Script::echo()
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let line = here() - 1;
    let address = address_of(&port);
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"hello").unwrap();
        read_exactly(&mut peer, 5);
    });
    assert_eq!(told.times(line), 1);
    let kind = told.slow_at(line).callback.kind;
    assert_eq!(kind, CallbackKind::Port);
}

/// B-06.
#[test]
fn a_library_names_what_it_calls() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    let name = Callback::new(CallbackKind::Other("page"), Place::Type("/slow"));
    assert_eq!(watch(|| unreachable!(), || 1), 1); // outside the loop, nothing is named
    reactor.set_slow_callback_limit(ms(2));
    reactor.call_later(ms(1), move || watch(|| name, || hold(ms(5))));
    let broken = Callback::new(CallbackKind::Other("page"), Place::Type("/broken"));
    reactor.call_later(ms(10), move || {
        watch(
            || broken,
            || {
                hold(ms(5));
                panic!("a broken page")
            },
        )
    });
    stop_later(&reactor, ms(20));
    run(&reactor);
    let told = told.slow.borrow();
    let times = |callback| told.iter().filter(|s| s.callback == callback).count();
    assert_eq!((times(name), times(broken)), (1, 1));
    assert_eq!(name.to_string(), "the page /slow");
}

/// B-06.
#[test]
fn nothing_is_named_without_a_limit_or_below_it() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    let (line, after) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (named, unnamed) = (line.clone(), after.clone());
    // Each call makes the next one, which therefore comes in a later turn.
    let first = reactor.clone();
    let begin = here();
    reactor.call_later(ms(1), move || {
        hold(ms(3));
        let second = first.clone();
        first.call_later(ms(1), move || {
            second.set_slow_callback_limit(HOUR);
            hold(ms(3));
            let third = second.clone();
            second.call_later(ms(1), move || {
                hold(ms(3));
                // From the next turn on, and not for what this one takes.
                third.set_slow_callback_limit(ms(2));
                hold(ms(3));
                let fourth = third.clone();
                named.set(here() + 1);
                third.call_later(ms(1), move || {
                    hold(ms(3));
                    let fifth = fourth.clone();
                    fourth.call_later(ms(1), move || {
                        fifth.set_slow_callback_limit(None);
                        let sixth = fifth.clone();
                        unnamed.set(here() + 1);
                        fifth.call_later(ms(1), move || {
                            hold(ms(3));
                            sixth.stop().unwrap();
                        });
                    });
                });
            });
        });
    });
    run(&reactor);
    for line in begin..line.get() {
        assert_eq!(told.times(line), 0, "line {line}");
    }
    assert_eq!(told.times(line.get()), 1);
    assert_eq!(told.times(after.get()), 0);
}

/// B-06: each loop names its own.
#[test]
fn a_reactor_inside_another_is_watched_for_itself() {
    let (outer, inner) = (Reactor::new().unwrap(), Reactor::new().unwrap());
    let (told_outer, told_inner) = (Told::by(&outer), Told::by(&inner));
    outer.set_slow_callback_limit(ms(2));
    inner.set_slow_callback_limit(ms(2));
    inner.call_later(ms(1), || drop(Deferred::succeed(()).map(|()| hold(ms(5)))));
    let inner_line = here() - 1;
    stop_later(&inner, ms(8));
    outer.call_later(ms(1), move || {
        inner.run_without_signals().unwrap();
        drop(Deferred::succeed(()).map(|()| hold(ms(5))));
    });
    let (outer_line, callback_line) = (here() - 4, here() - 2);
    stop_later(&outer, ms(30));
    run(&outer);
    assert_eq!(told_inner.times(inner_line), 1);
    assert_eq!(told_inner.times(callback_line), 0);
    assert_eq!(told_outer.times(inner_line), 0);
    assert_eq!(told_outer.times(callback_line), 1);
    assert_eq!(told_outer.times(outer_line), 1);
}

/// B-06: what is called to tell of a slow callback is not told of itself.
#[test]
fn an_observer_of_slow_callbacks_may_be_slow() {
    struct Slower(Reactor, Cell<u32>);
    impl ReactorObserver for Slower {
        fn slow_callback(&self, _: &SlowCallback) {
            self.1.set(self.1.get() + 1);
            drop(Deferred::succeed(()).map(|()| hold(ms(5))));
            drop(defer_later(&self.0, HOUR, || Ok(())));
            let _ = self.0.monitor().slow_callbacks();
        }
    }
    let reactor = Reactor::new().unwrap();
    let slower = Rc::new(Slower(reactor.clone(), Cell::new(0)));
    let id = reactor.add_observer(slower.clone());
    reactor.set_slow_callback_limit(ms(2));
    reactor.call_later(ms(1), || drop(Deferred::succeed(()).map(|()| hold(ms(5)))));
    let lost = NoLostFailures::new();
    stop_later(&reactor, ms(20));
    run(&reactor);
    // Not of the five milliseconds that this takes, each of which would be one more.
    assert!((1..10).contains(&slower.1.get()));
    reactor.remove_observer(id).unwrap();
    lost.flush();
}

/// B-06.
#[test]
fn lost_failures_are_in_the_numbers() {
    let lost = NoLostFailures::new();
    let reactor = Reactor::new().unwrap();
    let before = reactor.stats().unhandled_failures;
    reactor.call_later(ms(1), || {
        drop(Deferred::<()>::fail(Failure::message("nobody looks")));
    });
    stop_later(&reactor, ms(3));
    run(&reactor);
    assert_eq!(reactor.stats().unhandled_failures, before + 1);
    assert_eq!(lost.flush().len(), 1);
}

/// A reactor that runs again goes on counting, and was idle in between.
#[test]
fn the_time_between_two_runs_is_idle() {
    let reactor = Reactor::new().unwrap();
    stop_later(&reactor, ms(1));
    run(&reactor);
    let between = reactor.stats();
    hold(ms(2));
    assert_eq!(reactor.stats().busy, between.busy);
    assert!(reactor.stats().idle >= between.idle + ms(2));
    stop_later(&reactor, ms(1));
    run(&reactor);
    assert!(reactor.stats().turns > between.turns);
    assert_eq!(reactor.stats().delayed_calls, 2);
}

/// B-06: straight-line code is named by the line that spawned it.
#[test]
fn a_slow_async_block_is_named_by_the_line_that_spawned_it() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    let nap = sleep(&reactor, ms(1));
    let block = reactor.spawn(async move {
        nap.await?;
        hold(ms(5));
        Ok(())
    });
    let line = here() - 5;
    stop_later(&reactor, ms(10));
    run(&reactor);
    assert!(block.result().is_ok());
    assert_eq!(told.times(line), 1);
    assert_eq!(told.slow_at(line).callback.kind, CallbackKind::Block);
}

/// B-06.
#[test]
fn a_slow_looping_call_is_named_by_the_line_that_started_it() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    let looping = LoopingCall::new(&reactor, || {
        hold(ms(3));
        Ok(())
    });
    let starting = looping.clone();
    reactor.call_when_running(move || drop(starting.start(ms(4))));
    let line = here() - 1;
    stop_later(&reactor, ms(20));
    run(&reactor);
    assert!(told.times(line) >= 1);
    assert_eq!(told.slow_at(line).callback.kind, CallbackKind::LoopingCall);
    drop(looping);
}

/// B-06: the time of a program's own loop is not that of the reactor in it.
#[test]
fn what_comes_between_single_turns_is_not_counted_as_busy() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(2));
    let made = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let count = made.clone();
        reactor.call_later(Duration::ZERO, move || count.set(count.get() + 1));
        assert!(reactor.turn_once(ms(0)).unwrap());
        let between = reactor.stats();
        assert_eq!(between.turn_running, None);
        hold(ms(5));
        let after = reactor.stats();
        assert_eq!(after.busy, between.busy);
        assert!(after.idle >= between.idle + ms(5));
    }
    assert_eq!(made.get(), 3);
    let turns = told.turns.borrow();
    let delayed: u64 = turns.iter().map(|turn| turn.delayed_calls).sum();
    assert_eq!((turns.len() as u64, delayed), (reactor.stats().turns, 3));
}

/// B-06, B-15: in memory the numbers are those of the virtual time, and the same each time.
#[test]
fn a_reactor_in_memory_is_measured_by_its_own_clock() {
    struct Late(Rc<Cell<Option<Clock>>>);
    impl Protocol for Late {
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            let clock = self.0.take().unwrap();
            clock.advance(ms(300)); // what takes time here is what the test says
            self.0.set(Some(clock));
            Ok(())
        }
    }
    let measure = || {
        let memory = MemoryReactor::new();
        let told = Told::by(memory.reactor());
        memory.reactor().set_slow_callback_limit(ms(200));
        track_pending(true);
        memory.start().unwrap();
        let clock = Rc::new(Cell::new(Some(memory.clock().clone())));
        let client = memory.connect(Late(clock));
        memory.call_later(ms(50), || {});
        let nap = sleep(memory.reactor(), ms(1000));
        memory.advance(ms(100));
        client.send("hello");
        memory.pump();
        memory.advance(ms(100));
        let pending: Vec<_> = pending_deferreds().lines();
        let stats = memory.reactor().stats();
        track_pending(false);
        drop(nap);
        let slow = told.slow.borrow().clone();
        (told.turns.take(), slow, stats, pending)
    };
    let lost = NoLostFailures::new();
    let (turns, slow, stats, pending) = measure();
    assert_eq!(slow.len(), 1);
    assert_eq!((slow[0].time, slow[0].limit), (ms(300), ms(200)));
    assert!(slow[0].callback.to_string().contains("Late"), "{slow:?}");
    assert_eq!(turns.iter().map(|turn| turn.time).max(), Some(ms(300)));
    assert_eq!(stats.busy, ms(300));
    assert_eq!(stats.busy + stats.idle, ms(500));
    assert!(stats.events >= 1);
    assert_eq!(pending.iter().map(|line| line.oldest).max(), Some(ms(500)));
    assert_eq!(measure(), (turns, slow, stats, pending));
    lost.flush();
}

/// B-06: what runs between two turns, as shutdown triggers do, is not blamed on what comes next.
#[test]
fn a_callback_is_not_named_for_what_ran_before_it() {
    let reactor = Reactor::new().unwrap();
    let told = Told::by(&reactor);
    reactor.set_slow_callback_limit(ms(100));
    let clock = reactor.clone();
    let lines = Rc::new(Cell::new(0..0));
    let innocent = lines.clone();
    let (waits, resolver) = Deferred::pending();
    reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move || {
        let begin = here();
        clock.call_later(Duration::ZERO, move || resolver.callback(()).unwrap());
        innocent.set(begin..here());
        hold(ms(120));
        waits
    });
    reactor
        .remote()
        .call_from_thread(|r| r.stop().unwrap())
        .unwrap();
    run(&reactor);
    for line in lines.take() {
        assert_eq!(told.times(line), 0);
    }
}
