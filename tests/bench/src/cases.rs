//! What is measured inside one process: Deferreds and their like, timers, wake-ups.
//!
//! `inprocess` times these, and `allocations` counts what they allocate: a process of its own,
//! because counting slows each allocation down.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};
use prometheus_deferred::{Deferred, Reactor, count_exceptions, time, track_inprogress};
use tokio::runtime::Runtime;

/// One thing that is measured.
pub struct Case {
    pub name: String,
    /// How many operations one run does; `None` is as many as fit a millisecond.
    pub fixed: Option<usize>,
    /// Does so many operations, and tells how long they took.
    run: Box<dyn FnMut(usize) -> Duration>,
}

impl Case {
    pub fn run(&mut self, operations: usize) -> Duration {
        (self.run)(operations)
    }
}

/// A case whose operations are all alike.
fn case(name: impl Into<String>, mut operation: impl FnMut() + 'static) -> Case {
    timed(name, None, move |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            operation();
        }
        start.elapsed()
    })
}

/// A case that looks at the clock itself.
fn timed(
    name: impl Into<String>,
    fixed: Option<usize>,
    run: impl FnMut(usize) -> Duration + 'static,
) -> Case {
    Case {
        name: name.into(),
        fixed,
        run: Box::new(run),
    }
}

/// All that can be made without a clock or a thread.
pub fn deferreds() -> Vec<Case> {
    let mut cases = Vec::new();
    for callbacks in [0, 1, 10, 1_000] {
        cases.push(case(
            format!("pending Deferred, {callbacks} callbacks, fired"),
            move || pending_chain(callbacks),
        ));
    }
    for callbacks in [1, 10, 1_000] {
        cases.push(case(
            format!("fired Deferred, {callbacks} callbacks"),
            move || {
                let mut deferred = Deferred::succeed(black_box(1_u64));
                for _ in 0..callbacks {
                    deferred = deferred.add_callback(|n| Ok(black_box(n + 1)));
                }
                black_box(deferred.result().is_ok());
            },
        ));
    }
    cases.push(case("callback that returns a pending Deferred", || {
        let (inner, fire_inner) = Deferred::pending();
        let (outer, fire_outer) = Deferred::pending();
        let outer = outer.add_callback(move |_: u64| inner);
        fire_outer.callback(black_box(1)).expect("it is pending");
        fire_inner
            .callback(black_box(2_u64))
            .expect("it is pending");
        black_box(outer.result().is_ok());
    }));
    cases.push(case("pending Deferred, 1 errback, cancelled", || {
        let (deferred, resolver) = Deferred::<u64>::pending();
        let deferred = deferred.add_errback(|_| Ok(black_box(0)));
        deferred.cancel();
        black_box(deferred.result().is_ok());
        drop(resolver);
    }));
    cases.extend(boxes());
    cases.extend(channels());
    cases.extend(instruments());
    cases
}

fn pending_chain(callbacks: usize) {
    let (mut deferred, resolver) = Deferred::pending();
    for _ in 0..callbacks {
        deferred = deferred.add_callback(|n: u64| Ok(black_box(n + 1)));
    }
    resolver.callback(black_box(1)).expect("it is pending");
    black_box(deferred.result().is_ok());
}

type Function = Box<dyn FnOnce(u64) -> u64>;

fn boxes() -> Vec<Case> {
    fn function(captured: u64) -> Function {
        black_box(Box::new(move |n| n + captured))
    }
    vec![
        case("Box<dyn FnOnce>, made and called", || {
            black_box(function(black_box(1))(2));
        }),
        case("10 Box<dyn FnOnce> in a Vec, made and called", || {
            let mut functions = Vec::new();
            for captured in 0..10 {
                functions.push(function(black_box(captured)));
            }
            black_box(functions.into_iter().fold(0, |n, function| function(n)));
        }),
        case("Box of 64 bytes, made and dropped", || {
            drop(black_box(Box::new(black_box([0_u64; 8]))));
        }),
        case("Box of 128 bytes, made and dropped", || {
            drop(black_box(Box::new(black_box([0_u64; 16]))));
        }),
    ]
}

/// Polls once, as an executor would.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn channels() -> Vec<Case> {
    vec![
        case("tokio oneshot, made, awaited, sent, received", || {
            let (sender, mut receiver) = tokio::sync::oneshot::channel();
            black_box(poll(Pin::new(&mut receiver)).is_pending());
            sender.send(black_box(1_u64)).expect("it is awaited");
            black_box(poll(Pin::new(&mut receiver)).is_ready());
        }),
        case("tokio oneshot, made, sent, received", || {
            let (sender, mut receiver) = tokio::sync::oneshot::channel();
            sender.send(black_box(1_u64)).expect("it is awaited");
            black_box(poll(Pin::new(&mut receiver)).is_ready());
        }),
        case("futures oneshot, made, awaited, sent, received", || {
            let (sender, mut receiver) = futures_channel::oneshot::channel();
            black_box(poll(Pin::new(&mut receiver)).is_pending());
            sender.send(black_box(1_u64)).expect("it is awaited");
            black_box(poll(Pin::new(&mut receiver)).is_ready());
        }),
        case("futures oneshot, made, sent, received", || {
            let (sender, mut receiver) = futures_channel::oneshot::channel();
            sender.send(black_box(1_u64)).expect("it is awaited");
            black_box(poll(Pin::new(&mut receiver)).is_ready());
        }),
    ]
}

fn instruments() -> Vec<Case> {
    let histogram = |name: &str| {
        Histogram::with_opts(HistogramOpts::new(name, "Seconds.")).expect("it is valid")
    };
    let counter = IntCounter::new("failures_total", "Failures.").expect("it is valid");
    let gauge = || IntGauge::new("in_progress", "On their way.").expect("it is valid");
    let (seconds, running) = (histogram("seconds"), gauge());
    let (seconds_by_hand, running_by_hand) = (histogram("by_hand_seconds"), gauge());
    let (seconds_in_callback, running_in_callback) =
        (seconds_by_hand.clone(), running_by_hand.clone());
    vec![
        case(
            "by hand, in one add_both on a pending Deferred, fired",
            move || {
                let (deferred, resolver) = Deferred::pending();
                running_in_callback.inc();
                let start = Instant::now();
                let (seconds, running) = (seconds_in_callback.clone(), running_in_callback.clone());
                let deferred = deferred.add_both(move |result| {
                    seconds.observe(start.elapsed().as_secs_f64());
                    running.dec();
                    result
                });
                resolver.callback(black_box(1_u64)).expect("it is pending");
                black_box(deferred.result().is_ok());
            },
        ),
        case(
            "time, count_exceptions and track_inprogress on a pending Deferred, fired",
            move || {
                let (deferred, resolver) = Deferred::pending();
                let deferred = track_inprogress(&running, deferred);
                let deferred = time(&seconds, count_exceptions(&counter, deferred));
                resolver.callback(black_box(1_u64)).expect("it is pending");
                black_box(deferred.result().is_ok());
            },
        ),
        case(
            "by hand: two clock reads, observe, gauge up and down",
            move || {
                running_by_hand.inc();
                let start = Instant::now();
                black_box(1_u64);
                seconds_by_hand.observe(start.elapsed().as_secs_f64());
                running_by_hand.dec();
            },
        ),
    ]
}

const MILLION: usize = 1_000_000;

/// A timer that is due before all others. Without one, tokio would wake itself through the system
/// for each new timer, which becomes the earliest; a busy server has one.
const KEEPER: Duration = Duration::from_secs(30);

/// Delays of up to an hour and later than [`KEEPER`], in no order.
fn delays() -> impl FnMut() -> Duration {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        2 * KEEPER + Duration::from_nanos(state % 3_600_000_000_000)
    }
}

/// Timers: set and cancelled with none and a million others live, and a million set and fired.
pub fn timers() -> Vec<Case> {
    let mut cases = Vec::new();
    for live in [0, MILLION] {
        let reactor = Reactor::new().expect("epoll is there");
        let keeper = reactor.call_later(KEEPER, || ());
        let mut delay = delays();
        let others: Vec<_> = (0..live)
            .map(|_| reactor.call_later(delay(), || ()))
            .collect();
        let name = format!("call_later and cancel, {live} others live");
        cases.push(case(name, move || {
            let call = reactor.call_later(delay(), || ());
            call.cancel().expect("it is pending");
            black_box((&others, &keeper));
        }));

        let runtime = runtime();
        let mut delay = delays();
        let mut others = Vec::new();
        runtime.block_on(async {
            for _ in 0..live {
                let mut sleep = Box::pin(tokio::time::sleep(delay()));
                let _ = poll(sleep.as_mut());
                others.push(sleep);
            }
        });
        let name = format!("tokio sleep and drop, {live} others live");
        cases.push(timed(name, None, move |operations| {
            black_box(&others);
            runtime.block_on(async {
                let mut keeper = pin!(tokio::time::sleep(KEEPER));
                let _ = poll(keeper.as_mut());
                // It learns of the keeper when it has slept.
                tokio::time::sleep(Duration::from_millis(1)).await;
                let start = Instant::now();
                for _ in 0..operations {
                    let _ = poll(pin!(tokio::time::sleep(delay())));
                }
                start.elapsed()
            })
        }));
    }

    // All are due before the last is set, so that no time goes by in sleep.
    let soon = Duration::from_millis(1);
    let set_and_fire = move |count: usize| {
        let reactor = Reactor::new().expect("epoll is there");
        let left = Rc::new(Cell::new(count));
        let start = Instant::now();
        for _ in 0..count {
            let (left, stop) = (left.clone(), reactor.clone());
            reactor.call_later(soon, move || {
                left.set(left.get() - 1);
                if left.get() == 0 {
                    stop.stop().expect("it is running");
                }
            });
        }
        reactor.run_without_signals().expect("nothing fails");
        start.elapsed()
    };
    cases.push(timed(
        "call_later, a million set and fired",
        Some(MILLION),
        set_and_fire,
    ));
    cases.push(timed(
        "tokio sleep, a million set and fired",
        Some(MILLION),
        move |count| {
            runtime().block_on(async move {
                let start = Instant::now();
                let mut sleeps = Vec::new();
                for _ in 0..count {
                    let mut sleep = Box::pin(tokio::time::sleep(soon));
                    // With the waker of this task.
                    std::future::poll_fn(|context| {
                        let _ = sleep.as_mut().poll(context);
                        Poll::Ready(())
                    })
                    .await;
                    sleeps.push(sleep);
                }
                for sleep in sleeps {
                    sleep.await;
                }
                start.elapsed()
            })
        },
    ));
    cases
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("epoll is there")
}

/// From this thread to a loop in another and back.
pub fn wake_ups() -> Vec<Case> {
    let (hand_over, remote) = mpsc::channel();
    std::thread::spawn(move || {
        let reactor = Reactor::new().expect("epoll is there");
        hand_over.send(reactor.remote()).expect("it is awaited");
        reactor.run_without_signals().expect("nothing fails");
    });
    let remote = remote.recv().expect("the thread sends it");
    let (answer, answers) = mpsc::channel();
    let ours = case("call_from_thread and back", move || {
        let answer = answer.clone();
        let call = remote.call_from_thread(move |_| answer.send(()).expect("it is awaited"));
        call.expect("the reactor runs");
        answers.recv().expect("it answers");
    });

    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<()>();
    let (answer, answers) = mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            while receiver.recv().await.is_some() {
                if answer.send(()).is_err() {
                    break;
                }
            }
        });
    });
    let tokio = case(
        "tokio mpsc to a current_thread runtime and back",
        move || {
            sender.send(()).expect("the runtime runs");
            answers.recv().expect("it answers");
        },
    );
    vec![ours, tokio]
}
