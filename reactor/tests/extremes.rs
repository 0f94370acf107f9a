//! Every `Duration` and count that the package takes works at zero, at one and at its maximum, or is
//! refused with a sentence (F-10 is one that did not).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{
    ReconnectingClientFactory, Reconnection, TcpClientEndpoint, for_protocol,
};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{
    Clock, Deferred, DeferredQueue, DeferredSemaphore, LoopingCall, Reactor, TimeoutError,
    defer_later, defer_to_thread, run_workers, sleep,
};

use peers::{Script, Scripts};

const TIMES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_secs(1),
    Duration::from_secs(u64::MAX / 4),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];

const COUNTS: [usize; 4] = [0, 1, usize::MAX - 1, usize::MAX];

/// What a row does with one of the values. A panic fails it, and names the row and the value.
type Row<T> = (&'static str, fn(T));

fn for_each<T: Copy + std::fmt::Debug>(values: &[T], rows: &[Row<T>]) {
    for (name, row) in rows {
        for value in values {
            let run = || row(*value);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                panic!("{name} with {value:?}");
            }
        }
    }
}

/// As long as anybody waits: what cannot be told is a century.
const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// Advances a clock past `time`, and says whether that can be done.
fn pass(clock: &Clock, time: Duration) {
    clock.advance(time.min(CENTURY));
}

fn is_short(time: Duration) -> bool {
    time <= CENTURY
}

#[test]
fn delays() {
    for_each(
        &TIMES,
        &[
            ("call_later", |time| {
                let (clock, made) = (Clock::new(), Rc::new(Cell::new(false)));
                let flag = made.clone();
                let call = clock.call_later(time, move || flag.set(true));
                pass(&clock, time);
                // A time that the clock can tell is waited for, however long it is.
                assert_eq!(made.get(), !call.is_active());
                assert!(made.get() || !is_short(time));
            }),
            ("DelayedCall::reset and delay", |time| {
                let clock = Clock::new();
                let call = clock.call_later(Duration::from_secs(5), || {});
                call.reset(time).unwrap();
                call.delay(time).unwrap();
                call.delay(time).unwrap();
                assert!(call.time().unwrap() >= clock.now());
                clock.advance(Duration::ZERO);
                assert_eq!(call.is_active(), !time.is_zero());
            }),
            ("sleep and defer_later", |time| {
                let clock = Clock::new();
                let (nap, later) = (sleep(&clock, time), defer_later(&clock, time, || Ok(1)));
                pass(&clock, time);
                assert!(nap.is_fired() || !is_short(time));
                assert!(later.is_fired() || !is_short(time));
                drop((nap, later));
            }),
            ("add_timeout", |time| {
                let clock = Clock::new();
                let (deferred, _resolver) = Deferred::<()>::pending();
                let deferred = deferred.add_timeout(time, &clock);
                pass(&clock, time);
                if is_short(time) {
                    assert!(deferred.result().unwrap_err().is::<TimeoutError>());
                } else {
                    drop(deferred);
                }
            }),
            ("TimeoutError", |time| {
                assert!(!TimeoutError::new(time).to_string().is_empty());
            }),
            ("Clock::advance", |time| {
                let clock = Clock::new();
                for _ in 0..3 {
                    clock.advance(time);
                }
                assert!(clock.elapsed() >= time.min(CENTURY));
                clock.pump([time; 3]);
            }),
            ("MemoryReactor::advance", |time| {
                let memory = MemoryReactor::new();
                let made = Rc::new(Cell::new(0));
                let count = made.clone();
                memory.call_later(time.min(CENTURY), move || count.set(1));
                for _ in 0..3 {
                    memory.advance(time);
                }
                assert_eq!(made.get(), 1);
                assert!(memory.elapsed() >= time.min(CENTURY));
                let _ = deferred_reactor::time::system_time();
            }),
        ],
    );
}

#[test]
fn looping_calls() {
    for_each(
        &TIMES[1..],
        &[("LoopingCall::start", |time| {
            let (clock, calls) = (Clock::new(), Rc::new(Cell::new(0)));
            let count = calls.clone();
            let looping = LoopingCall::with_count(&clock, move |points| {
                assert!(points > 0);
                count.set(count.get() + 1);
                Ok(())
            });
            drop(looping.start(time).unwrap());
            pass(&clock, time);
            assert!(calls.get() == 2 || !is_short(time), "{}", calls.get());
            looping.reset().unwrap();
            clock.advance(Duration::MAX);
            looping.stop().unwrap();
            drop(looping.start_later(time).unwrap());
            assert_eq!(looping.interval(), Some(time));
            clock.advance(Duration::MAX);
            looping.stop().unwrap();
        })],
    );
    // Once in each turn.
    let (memory, calls) = (MemoryReactor::new(), Rc::new(Cell::new(0)));
    let count = calls.clone();
    let looping = LoopingCall::new(&memory, move || {
        count.set(count.get() + 1);
        Ok(())
    });
    drop(looping.start(Duration::ZERO).unwrap());
    for _ in 0..5 {
        memory.turn();
    }
    assert!(calls.get() >= 5);
}

/// A clock has no turns, so this would never end.
#[test]
#[should_panic(expected = "use the turns of a MemoryReactor")]
fn a_looping_call_with_interval_zero_is_refused_by_a_clock() {
    let clock = Clock::new();
    let looping = LoopingCall::new(&clock, || Ok(()));
    drop(looping.start(Duration::ZERO).unwrap());
    clock.advance(Duration::ZERO);
}

#[test]
fn reactors_and_their_loop() {
    for_each(
        &TIMES,
        &[
            ("turn_once", |time| {
                let reactor = Reactor::new().unwrap();
                reactor.call_later(Duration::from_millis(1), || {});
                assert!(reactor.turn_once(time).unwrap());
                reactor.stop().unwrap();
                while reactor.turn_once(time).unwrap() {}
            }),
            ("run_for", |time| {
                let reactor = Reactor::new().unwrap();
                let stop = reactor.clone();
                reactor.call_later(Duration::from_millis(2), move || {
                    let _ = stop.stop();
                });
                reactor.run_for(time.min(Duration::from_millis(1))).unwrap();
                let stop = reactor.clone();
                reactor.call_later(Duration::ZERO, move || {
                    let _ = stop.stop();
                });
                reactor.run_for(time).unwrap();
            }),
            ("call_later on the system's clock", |time| {
                let reactor = Reactor::new().unwrap();
                let call = reactor.call_later(time, || {});
                reactor.run_for(Duration::from_millis(1)).unwrap();
                assert!(!call.is_active());
            }),
            ("set_slow_callback_limit", |time| {
                let reactor = Reactor::new().unwrap();
                reactor.set_slow_callback_limit(time);
                reactor.call_later(Duration::ZERO, || {});
                reactor.run_for(Duration::ZERO).unwrap();
                let is_slow = !reactor.monitor().slow_callbacks().is_empty();
                assert!(is_slow == (time < Duration::from_secs(1)) || time.as_nanos() == 1);
            }),
        ],
    );
}

#[test]
fn clients() {
    for_each(
        &TIMES,
        &[
            ("TcpClientEndpoint::timeout and attempt_delay", |time| {
                let memory = MemoryReactor::new();
                memory
                    .listen_tcp("127.0.0.1:80", Scripts::new(Script::new))
                    .unwrap();
                memory.reactor().install_name_resolver(|_, port| {
                    Deferred::succeed(vec![
                        ([127, 0, 0, 2], port).into(),
                        ([127, 0, 0, 1], port).into(),
                    ])
                });
                let endpoint = TcpClientEndpoint::new("name:80")
                    .timeout(time)
                    .attempt_delay(time);
                let connected = memory.connect_protocol(endpoint, Script::new());
                memory.advance(Duration::from_secs(1));
                // At zero, the time may be up before the address has answered.
                assert!(connected.is_fired());
                if time > Duration::from_secs(1) {
                    connected.result().unwrap();
                } else {
                    drop(connected.add_errback(|_| {
                        Deferred::<deferred_reactor::net::Transport>::pending().0
                    }));
                }
            }),
            ("Reconnection::initial_delay and max_delay", |time| {
                let memory = MemoryReactor::new();
                let tries = Rc::new(Cell::new(0));
                let count = tries.clone();
                let again = Reconnection::new()
                    .initial_delay(time)
                    .max_delay(time)
                    .max_retries(3);
                let factory = peers_factory(move || count.set(count.get() + 1));
                let factory = ReconnectingClientFactory::with(again, factory);
                memory.connect_tcp("127.0.0.1:81", factory);
                memory.pump();
                for _ in 0..4 {
                    memory.advance(time.saturating_mul(2));
                }
                assert!(tries.get() == 4 || !is_short(time), "{}", tries.get());
            }),
        ],
    );
    let numbers = [0.0, 1.0, -1.0, f64::MAX, f64::INFINITY, f64::NAN];
    for_each(
        &numbers,
        &[("Reconnection::factor and jitter", |number| {
            let memory = MemoryReactor::new();
            let again = Reconnection::new().factor(number).jitter(number);
            let factory = ReconnectingClientFactory::with(again, for_protocol(Script::new));
            memory.connect_tcp("127.0.0.1:81", factory);
            memory.advance(Duration::from_secs(600));
        })],
    );
    for retries in [0, 1, u32::MAX] {
        let memory = MemoryReactor::new();
        let tries = Rc::new(Cell::new(0));
        let count = tries.clone();
        let factory = peers_factory(move || count.set(count.get() + 1));
        let again = Reconnection::new().max_retries(retries);
        memory.connect_tcp(
            "127.0.0.1:81",
            ReconnectingClientFactory::with(again, factory),
        );
        memory.advance(Duration::from_secs(600));
        assert_eq!(tries.get() == 1, retries == 0);
        assert_eq!(tries.get() > 2, retries == u32::MAX);
    }
}

/// A factory that calls `failed` when connecting has failed.
fn peers_factory(failed: impl Fn() + 'static) -> impl deferred_reactor::net::ClientFactory {
    use deferred_reactor::net::{Address, ClientFactory, Connector, Factory, Protocol};
    struct Counting<F>(F);
    impl<F: Fn() + 'static> Factory for Counting<F> {
        fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
            None
        }
    }
    impl<F: Fn() + 'static> ClientFactory for Counting<F> {
        fn client_connection_failed(&self, _: &Connector, _: &deferred_reactor::Failure) {
            (self.0)();
        }
    }
    Counting(failed)
}

#[test]
fn counts() {
    for_each(
        &COUNTS,
        &[
            ("suggest_thread_pool_size", |count| {
                let reactor = Reactor::new().unwrap();
                reactor.suggest_thread_pool_size(count);
                let jobs = [1, 2].map(|n| defer_to_thread(&reactor, move || Ok(n)));
                let [one, two] = jobs;
                assert_eq!(
                    reactor.run_until(one.add_callback(move |_| two)).unwrap(),
                    2
                );
                assert_eq!(reactor.thread_pool_stats().size, count.max(1));
            }),
            ("DeferredQueue::with_size", |count| {
                let queue = DeferredQueue::new().with_size(count);
                assert_eq!(queue.put(1).is_ok(), count > 0);
                assert_eq!(queue.put(2).is_ok(), count > 1);
            }),
            ("DeferredQueue::with_backlog", |count| {
                let queue = DeferredQueue::<u8>::new().with_backlog(count);
                assert_eq!(queue.get().is_err(), count == 0);
            }),
            ("DeferredSemaphore::new", |count| {
                let Some(tokens) = NonZeroUsize::new(count) else {
                    return; // refused by the compiler
                };
                let semaphore = DeferredSemaphore::new(tokens);
                let permit = semaphore.acquire().result().unwrap();
                assert_eq!(semaphore.tokens(), count - 1);
                permit.release();
                assert_eq!(semaphore.tokens(), count);
            }),
            ("Transport::set_buffer_limit", |count| {
                let memory = MemoryReactor::new();
                let drained = Rc::new(Cell::new(0));
                let counter = drained.clone();
                let peer =
                    memory.connect(Script::new().drained(move |_| counter.set(counter.get() + 1)));
                memory.pump();
                let transport = peer.transport().unwrap();
                transport.set_buffer_limit(count);
                transport.write(b"more than one");
                memory.pump();
                assert_eq!(drained.get(), u32::from(count < 13));
                assert_eq!(peer.received(), b"more than one");
            }),
            (
                "MemoryConnection::deliver_at_most and block_writes",
                |count| {
                    let memory = MemoryReactor::new();
                    let sizes = Rc::new(RefCell::new(Vec::new()));
                    let seen = sizes.clone();
                    let peer = memory.connect(Script::new().data(move |transport, data| {
                        seen.borrow_mut().push(data.len());
                        transport.write(data);
                        Ok(())
                    }));
                    memory.pump();
                    peer.deliver_at_most(count);
                    peer.block_writes(count);
                    peer.send("abc");
                    memory.pump();
                    assert_eq!(sizes.borrow().len(), if count < 2 { 3 } else { 1 });
                    assert_eq!(peer.received().len(), count.min(3));
                },
            ),
            ("run_workers", |count| {
                let started = std::sync::atomic::AtomicUsize::new(0);
                let outcome = run_workers(count, |reactor, worker| {
                    started.fetch_add(worker.count(), std::sync::atomic::Ordering::SeqCst);
                    let stop = reactor.clone();
                    reactor.call_when_running(move || stop.stop().unwrap());
                    Ok(())
                });
                if count > 1 {
                    let refused = outcome.unwrap_err().cause.to_string();
                    assert!(
                        refused.contains("takes 4096 workers at most, got "),
                        "{refused}"
                    );
                } else {
                    outcome.unwrap();
                    assert_eq!(started.into_inner(), 1);
                }
            }),
        ],
    );
    for seed in [0, 1, u64::MAX] {
        let memory = MemoryReactor::with_seed(seed);
        let peer = memory.connect(Script::echo());
        assert_eq!(peer.exchange("abc"), b"abc");
    }
}

/// Every other bit is the system's to refuse.
#[test]
#[cfg(unix)]
fn the_mode_of_a_unix_socket() {
    use deferred_reactor::net::UnixServerEndpoint;
    let directory = std::env::temp_dir().join(format!("extremes-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let reactor = Reactor::new().unwrap();
    for mode in [0, 1, u32::MAX] {
        let endpoint = UnixServerEndpoint::new(directory.join("s")).mode(mode);
        match reactor.listen_unix(endpoint, Scripts::new(Script::new)) {
            Ok(port) => drop(port.stop_listening()),
            Err(error) => assert!(!error.cause.to_string().is_empty()),
        }
        assert_eq!(
            std::fs::read_dir(&directory).unwrap().count(),
            0,
            "{mode:o}"
        );
    }
    std::fs::remove_dir(&directory).unwrap();
}
