//! Async blocks: how they run, go on, end and are cancelled, with Deferreds and with the futures of
//! others.

mod peers;
mod support;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use deferred_reactor::deferred::spawn;
use deferred_reactor::{
    AbandonedError, CancelledError, Canceller, Clock, Deferred, Failure, NoLostFailures,
    PanicError, Reactor, Resolver, TimeoutError, sleep,
};
use futures_channel::{mpsc, oneshot};
use futures_util::future::{FutureExt, Shared, join, join_all, select, try_join};
use futures_util::lock::Mutex;
use futures_util::stream::{FuturesUnordered, StreamExt};
use peers::{LIMIT, Watchdog};
use support::{Bomb, Calls, Oops, in_small_stack, keep_log, logged, stack_address, tracked};

fn error<T: std::fmt::Debug>(deferred: Deferred<T>) -> Failure {
    deferred.result().unwrap_err()
}

/// Runs a reactor until it is stopped. A test that hangs ends the test program.
fn run(reactor: &Reactor) {
    let _watchdog = Watchdog::new();
    reactor.run_without_signals().unwrap();
}

fn stop_when_done<T: 'static>(reactor: &Reactor, deferred: Deferred<T>) -> Deferred<T> {
    let stop = reactor.clone();
    deferred.add_both(move |result| {
        stop.stop()?;
        result
    })
}

/// D-63.
#[test]
fn a_block_that_never_waits_has_ended_when_it_is_made() {
    let value = spawn(async { Ok(Deferred::succeed(1).await? + Deferred::succeed(2).await?) });
    assert!(value.is_fired());
    assert_eq!(value.result().unwrap(), 3);

    let failed = spawn(async { Ok(Deferred::<i32>::fail(Oops("no")).await? + 1) });
    assert!(failed.is_fired());
    assert_eq!(error(failed).check(), Some(&Oops("no")));

    let panicked = spawn(async { panic!("a {}", "panic") as Result<(), Failure> });
    assert!(panicked.is_fired());
    let panic = error(panicked).trap::<PanicError>().unwrap();
    assert_eq!(panic.message, "a panic");
}

/// D-63: also after a wait, and what it had captured is gone.
#[test]
fn a_panic_after_a_wait_is_a_failure() {
    let (deferred, resolver) = Deferred::<()>::pending();
    let (captured, is_dropped) = tracked();
    let block = spawn(async move {
        let _captured = captured;
        deferred.await?;
        panic!("later") as Result<(), Failure>
    });
    resolver.callback(()).unwrap();
    assert!(is_dropped.get());
    assert!(error(block).is::<PanicError>());
}

/// D-64.
#[test]
fn a_block_goes_on_inside_the_call_that_fires() {
    let calls = Calls::new();
    let (first, fire_first) = Deferred::pending();
    let (second, fire_second) = Deferred::pending();
    let noted = calls.clone();
    let block = spawn(async move {
        noted.push("begins");
        let one: i32 = first.await?;
        noted.push(format!("got {one}"));
        let two: i32 = second.await?;
        noted.push(format!("got {two}"));
        Ok(one + two)
    });
    let block = block.add_callback(calls.note("callback", Ok));
    assert_eq!(calls.take(), ["begins"]);
    fire_first.callback(1).unwrap();
    assert_eq!(calls.take(), ["got 1"]);
    fire_second.callback(2).unwrap();
    assert_eq!(calls.take(), ["got 2", "callback(3)"]);
    assert_eq!(block.result().unwrap(), 3);
}

/// D-64: a reactor makes no difference, whether it runs or not.
#[test]
fn a_block_of_a_reactor_is_as_prompt() {
    let reactor = Reactor::new().unwrap();
    let (idle, fire_idle) = Deferred::pending();
    let block = reactor.spawn(async { Ok(idle.await? + 1) });
    fire_idle.callback(1_i32).unwrap();
    assert_eq!(block.result().unwrap(), 2);

    let (running, fire_running) = Deferred::pending();
    let block = reactor.spawn(async { Ok(running.await? + 1) });
    let stop = reactor.clone();
    let was_prompt = Rc::new(Cell::new(false));
    let seen = was_prompt.clone();
    reactor.call_when_running(move || {
        fire_running.callback(1_i32).unwrap();
        seen.set(block.is_fired());
        stop.stop().unwrap();
    });
    run(&reactor);
    assert!(was_prompt.get());
}

/// D-64.
#[test]
fn a_block_that_awaits_a_block_goes_on_inside_the_same_call() {
    let (deferred, resolver) = Deferred::<i32>::pending();
    let inner = spawn(async { Ok(deferred.await? + 1) });
    let outer = spawn(async { Ok(inner.await? * 10) });
    resolver.callback(1).unwrap();
    assert_eq!(outer.result().unwrap(), 20);
}

/// D-64: there is no queue that a fire from inside a block would have to stand in.
#[test]
fn what_a_block_fires_is_as_prompt() {
    let calls = Calls::new();
    let (inner, fire_inner) = Deferred::<()>::pending();
    let (outer, fire_outer) = Deferred::<()>::pending();
    let noted = calls.clone();
    let waiter = spawn(async move {
        inner.await?;
        noted.push("the waiter");
        Ok(())
    });
    let noted = calls.clone();
    let firing = spawn(async move {
        outer.await?;
        noted.push("before");
        fire_inner.callback(())?;
        noted.push("after");
        Ok(())
    });
    fire_outer.callback(()).unwrap();
    assert_eq!(calls.take(), ["before", "the waiter", "after"]);
    assert!(waiter.is_fired() && firing.is_fired());
}

/// D-64: a combinator that keeps a waker of its own makes no difference.
#[test]
fn promptness_goes_through_combinators() {
    let (deferreds, resolvers): (Vec<_>, Vec<_>) = (0..3).map(|_| Deferred::pending()).unzip();
    let mut unordered: FuturesUnordered<Deferred<i32>> = deferreds.into_iter().collect();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let values = seen.clone();
    let block = spawn(async move {
        while let Some(value) = unordered.next().await {
            values.borrow_mut().push(value?);
        }
        Ok(())
    });
    for (n, resolver) in resolvers.into_iter().enumerate().rev() {
        resolver.callback(n as i32).unwrap();
        assert_eq!(seen.borrow().last(), Some(&(n as i32)));
    }
    assert!(block.is_fired());
}

/// D-64: a callback that returns a block waits for it.
#[test]
fn a_callback_may_return_a_block() {
    let (first, fire_first) = Deferred::pending();
    let (second, fire_second) = Deferred::pending();
    let chain = first
        .add_callback(|n: i32| spawn(async move { Ok(second.await? + n) }))
        .map(|sum: i32| sum * 2);
    fire_first.callback(1).unwrap();
    assert!(!chain.is_fired());
    fire_second.callback(2).unwrap();
    assert_eq!(chain.result().unwrap(), 6);
}

/// D-65.
#[test]
fn a_failure_that_was_awaited_is_handled() {
    let _guard = NoLostFailures::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    let block = spawn(async {
        let _ = Deferred::<()>::fail(Oops("at once")).await;
        let _ = deferred.await;
        Ok("recovered")
    });
    resolver.errback(Oops("later")).unwrap();
    assert_eq!(block.result().unwrap(), "recovered");
}

/// D-65: the other side of it.
#[test]
fn a_failure_that_ends_a_block_is_reported_if_nobody_takes_it() {
    let guard = NoLostFailures::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    let line = line!() + 1;
    drop(spawn(deferred));
    resolver.errback(Oops("lost")).unwrap();
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].made.line(), line);
}

/// D-66.
#[test]
fn fired_deferreds_are_awaited_in_constant_stack() {
    in_small_stack(|| {
        let places = Rc::new(RefCell::new((usize::MAX, 0)));
        let seen = places.clone();
        let block = spawn(async move {
            for n in 0..5000_usize {
                assert_eq!(Deferred::succeed(n).await?, n);
                let here = stack_address();
                let mut seen = seen.borrow_mut();
                *seen = (seen.0.min(here), seen.1.max(here));
            }
            Ok(())
        });
        block.result().unwrap();
        let (lowest, highest) = *places.borrow();
        assert_eq!(lowest, highest);
    });
}

const MANY: usize = 100_000;

/// A row of blocks, each awaiting the one before.
fn row(first: Deferred<usize>) -> Deferred<usize> {
    let mut last = first;
    for _ in 0..MANY {
        last = spawn(async move { Ok(last.await? + 1) });
    }
    last
}

/// D-66, D-67.
#[test]
fn a_long_row_of_blocks_takes_no_stack() {
    in_small_stack(|| {
        let (first, resolver) = Deferred::pending();
        let last = row(first);
        resolver.callback(0).unwrap();
        assert_eq!(last.result().unwrap(), MANY);

        let (first, resolver) = Deferred::pending();
        let last = row(first);
        drop(resolver);
        assert!(error(last).is::<AbandonedError>());

        let (first, resolver) = Deferred::pending();
        let last = row(first);
        last.cancel();
        assert!(error(last).is::<CancelledError>());
        drop(resolver);
    });
    // Left to the end of the thread, in either order.
    for is_reverse in [false, true] {
        in_small_stack(move || {
            if is_reverse {
                drop(row(Deferred::pending().0)); // leaves places that are taken last first
            }
            let (first, resolver) = Deferred::pending();
            drop(row(first));
            std::mem::forget(resolver);
        });
    }
}

/// D-66: nor does a row in which each waits for two.
#[test]
fn a_long_row_of_joins_takes_no_stack() {
    in_small_stack(|| {
        let (mut last, resolver) = Deferred::<usize>::pending();
        let mut resolvers = Vec::new();
        for _ in 0..MANY {
            let (other, other_resolver) = Deferred::<()>::pending();
            resolvers.push(other_resolver);
            last = spawn(async move {
                let (value, _) = join(last, other).await;
                value
            });
        }
        last.cancel();
        assert!(error(last).is::<CancelledError>());
        drop((resolver, resolvers));
    });
}

/// A Deferred that tells when it is cancelled.
fn telling(calls: &Calls, name: &'static str) -> (Deferred<i32>, Resolver<i32>) {
    let calls = calls.clone();
    Deferred::with_canceller(move |_| calls.push(name))
}

/// D-67.
#[test]
fn to_cancel_a_block_cancels_what_it_awaits() {
    let calls = Calls::new();
    for depth in 0..3 {
        let (deferred, _resolver) = telling(&calls, "cancelled");
        let mut block = spawn(deferred);
        for _ in 0..depth {
            block = spawn(async { Ok(block.await? + 1) });
        }
        block.cancel();
        assert_eq!(calls.take(), ["cancelled"], "at depth {depth}");
        assert!(error(block).is::<CancelledError>());
    }
}

/// D-67.
#[test]
fn what_a_block_awaited_before_is_left_alone() {
    let calls = Calls::new();
    let (first, fire_first) = telling(&calls, "first");
    let (second, _fire_second) = telling(&calls, "second");
    let block = spawn(async move { Ok(first.await? + second.await?) });
    fire_first.callback(1).unwrap();
    block.cancel();
    assert_eq!(calls.take(), ["second"]);
    assert!(error(block).is::<CancelledError>());
}

/// D-67: the canceller decides, as with callbacks.
#[test]
fn a_canceller_may_give_the_block_a_value() {
    let (deferred, _resolver) = Deferred::with_canceller(|resolver| {
        resolver.callback(20).unwrap();
    });
    let block = spawn(async { Ok(deferred.await? + 1) });
    block.cancel();
    assert_eq!(block.result().unwrap(), 21);
}

/// D-67.
#[test]
fn all_that_a_block_awaits_is_cancelled_before_it_goes_on() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| telling(&calls, name));
    let noted = calls.clone();
    let block = spawn(async move {
        // The first error makes it drop the others.
        let result = try_join(one.0, try_join(two.0, three.0)).await;
        noted.push("goes on");
        result.map(|_| ())
    });
    block.cancel();
    assert_eq!(calls.take(), ["one", "two", "three", "goes on"]);
    assert!(error(block).is::<CancelledError>());
}

/// D-67: a combinator does not poll the others again when one of them has fired.
#[test]
fn what_was_not_polled_again_is_cancelled_as_well() {
    let calls = Calls::new();
    let names = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let (deferreds, mut resolvers): (Vec<_>, Vec<_>) =
        names.iter().map(|name| telling(&calls, name)).unzip();
    let unordered: FuturesUnordered<_> = deferreds.into_iter().collect();
    let block = spawn(async { Ok(unordered.collect::<Vec<_>>().await) });
    resolvers.remove(3).callback(3).unwrap();
    resolvers.remove(0).callback(0).unwrap();
    block.cancel();
    let mut cancelled = calls.take();
    cancelled.sort();
    assert_eq!(cancelled, ["1", "2", "4", "5", "6", "7"]);
    assert_eq!(block.result().unwrap().len(), 8);
}

/// D-67: a Deferred that `select` has let go is nobody's any more.
#[test]
fn a_deferred_that_was_awaited_and_dropped_is_not_cancelled() {
    let _guard = NoLostFailures::new();
    let calls = Calls::new();
    let (late, _fire_late) = telling(&calls, "late");
    let (soon, fire_soon) = telling(&calls, "soon");
    let (other, _fire_other) = telling(&calls, "other");
    let block = spawn(async move {
        select(late, soon).await;
        other.await
    });
    fire_soon.callback(1).unwrap();
    block.cancel();
    assert_eq!(calls.take(), ["other"]);
    assert!(error(block).is::<CancelledError>());
}

/// D-67: nor is one that was polled and then given away.
#[test]
fn a_deferred_that_was_awaited_and_passed_on_is_not_cancelled() {
    let calls = Calls::new();
    let (mut late, fire_late) = telling(&calls, "late");
    let (soon, fire_soon) = telling(&calls, "soon");
    let (other, _fire_other) = telling(&calls, "other");
    let passed_on = Rc::new(RefCell::new(None));
    let place = passed_on.clone();
    let block = spawn(async move {
        select(&mut late, soon).await;
        place.replace(Some(late.map(|n| n + 1)));
        other.await
    });
    fire_soon.callback(1).unwrap();
    block.cancel();
    assert_eq!(calls.take(), ["other"]);
    assert!(error(block).is::<CancelledError>());
    fire_late.callback(1).unwrap();
    assert_eq!(passed_on.take().unwrap().result().unwrap(), 2);
}

/// D-68.
#[test]
fn a_block_may_make_something_else_of_its_cancelling() {
    let to_error = |deferred: Deferred<()>| {
        spawn(async {
            match deferred.await {
                Err(failure) if failure.is::<CancelledError>() => Err(Oops("mapped").into()),
                result => result.map(|()| 0),
            }
        })
    };
    let to_value = |deferred: Deferred<()>| spawn(async { Ok(deferred.await.map_or(7, |()| 0)) });

    let (deferred, _resolver) = Deferred::pending();
    let block = to_error(deferred);
    block.cancel();
    assert_eq!(error(block).check(), Some(&Oops("mapped")));

    let (deferred, _resolver) = Deferred::pending();
    let block = to_value(deferred);
    block.cancel();
    assert_eq!(block.result().unwrap(), 7);

    // One within the other: the outer block sees what the inner one made of it.
    let (deferred, _resolver) = Deferred::pending();
    let inner = to_error(deferred);
    let outer = spawn(async {
        let failure = inner.await.unwrap_err();
        Ok(failure.is::<Oops>())
    });
    outer.cancel();
    assert!(outer.result().unwrap());
}

/// D-68.
#[test]
fn a_block_may_wait_while_it_cleans_up() {
    let (work, _resolver) = Deferred::<()>::pending();
    let (cleaning, cleaned) = Deferred::<()>::pending();
    let block = spawn(async {
        let result = work.await;
        cleaning.await?;
        result
    });
    block.cancel();
    assert!(!block.is_fired());
    cleaned.callback(()).unwrap();
    assert!(error(block).is::<CancelledError>());
}

/// D-68: a timeout is a cancelling that is mapped.
#[test]
fn a_timeout_goes_through_a_block() {
    let clock = Clock::new();
    let (deferred, _resolver) = Deferred::<()>::pending();
    let block = spawn(deferred).add_timeout(Duration::from_secs(1), &clock);
    clock.advance(Duration::from_secs(1));
    assert!(error(block).is::<TimeoutError>());
}

#[test]
fn to_cancel_a_block_that_awaits_another_future_drops_it() {
    let (sender, receiver) = oneshot::channel::<()>();
    let block = spawn(async { Ok(receiver.await?) });
    block.cancel();
    assert!(sender.is_canceled());
    assert!(error(block).is::<CancelledError>());
}

#[test]
fn a_block_that_cancels_itself_is_cancelled_at_its_next_wait() {
    let calls = Calls::new();
    let own = Rc::new(RefCell::new(Canceller::default()));
    let (first, fire_first) = Deferred::<()>::pending();
    let (second, _fire_second) = telling(&calls, "second");
    let (canceller, noted) = (own.clone(), calls.clone());
    let block = spawn(async move {
        first.await?;
        canceller.borrow().cancel();
        noted.push("still here");
        second.await
    });
    own.replace(block.canceller());
    fire_first.callback(()).unwrap();
    assert_eq!(calls.take(), ["still here", "second"]);
    assert!(error(block).is::<CancelledError>());
}

#[test]
fn a_block_may_fire_what_it_awaits_itself() {
    let (deferred, resolver) = Deferred::pending();
    let block = spawn(async {
        let (value, ()) = join(deferred, async { resolver.callback(1).unwrap() }).await;
        value
    });
    assert_eq!(block.result().unwrap(), 1);
}

#[test]
fn a_block_goes_on_without_its_deferred() {
    let calls = Calls::new();
    let (deferred, resolver) = Deferred::<()>::pending();
    let noted = calls.clone();
    drop(spawn(async move {
        deferred.await?;
        noted.push("went on");
        Ok(())
    }));
    resolver.callback(()).unwrap();
    assert_eq!(calls.take(), ["went on"]);
}

#[test]
fn a_block_that_nobody_can_wake_is_dropped_and_says_so() {
    let (captured, is_dropped) = tracked();
    let block = spawn(async move {
        let _captured = captured;
        pending::<Result<(), Failure>>().await
    });
    assert!(is_dropped.get());
    assert!(error(block).is::<AbandonedError>());
}

/// What it waited for goes away later: with a waker that somebody had kept.
#[test]
fn a_block_whose_last_waker_is_dropped_later_is_dropped_too() {
    let waker = Rc::new(Cell::new(None));
    let (captured, is_dropped) = tracked();
    let kept = waker.clone();
    let block = spawn(async move {
        let _captured = captured;
        poll_fn(move |context| {
            kept.set(Some(context.waker().clone()));
            Poll::<Result<(), Failure>>::Pending
        })
        .await
    });
    assert!(!block.is_fired());
    waker.set(None);
    assert!(is_dropped.get());
    assert!(error(block).is::<AbandonedError>());
}

#[test]
fn a_block_that_waits_when_its_thread_ends_is_dropped() {
    let (sender, receiver) = std_mpsc::channel::<()>();
    thread::spawn(move || {
        let (deferred, resolver) = Deferred::<()>::pending();
        let block = spawn(async move {
            let _sender = sender;
            deferred.await
        });
        std::mem::forget((block, resolver));
    })
    .join()
    .unwrap();
    let gone = receiver.recv_timeout(LIMIT).unwrap_err();
    assert_eq!(gone, std_mpsc::RecvTimeoutError::Disconnected);
}

#[test]
fn what_panics_when_a_block_is_dropped_costs_nobody_the_result() {
    let (deferred, _resolver) = Deferred::<()>::pending();
    let (_sender, receiver) = oneshot::channel::<()>();
    let block = spawn(async move {
        let _bomb = Bomb;
        let _ = (receiver.await, deferred.await);
        Ok(())
    });
    keep_log();
    block.cancel();
    assert!(error(block).is::<CancelledError>());
    assert_eq!(logged().len(), 1);
}

#[test]
fn a_pause_holds_a_block_back_until_it_ends() {
    let (mut deferred, resolver) = Deferred::pending();
    let pauser = deferred.pauser();
    pauser.pause();
    let block = spawn(deferred);
    resolver.callback(1).unwrap();
    assert!(!block.is_fired());
    pauser.unpause();
    assert_eq!(block.result().unwrap(), 1);
}

/// The result is not lost because somebody forgot to call `unpause`.
#[test]
fn a_pause_that_nobody_can_end_does_not_hold_a_block_back() {
    let mut paused = Deferred::succeed(1).map(|n| n + 1);
    paused.pause();
    let paused = paused.map(|n: i32| n + 1);
    assert_eq!(spawn(paused).result().unwrap(), 3);

    let (mut deferred, resolver) = Deferred::pending();
    let pauser = deferred.pauser();
    pauser.pause();
    let block = spawn(deferred);
    resolver.callback(1).unwrap();
    drop(pauser);
    assert_eq!(block.result().unwrap(), 1);
}

#[test]
fn a_deferred_can_be_awaited_by_any_executor() {
    let reactor = Reactor::new().unwrap();
    let stop = reactor.clone();
    let nap = sleep(&reactor, Duration::from_millis(1)).map(move |()| stop.stop().is_ok());
    // The simplest executor there is: look, run the loop, look again.
    let mut nap = Box::pin(nap);
    assert!(nap.as_mut().now_or_never().is_none());
    run(&reactor);
    assert!(nap.now_or_never().unwrap().unwrap());
}

#[test]
fn combinators_of_others_work() {
    let clock = Clock::new();
    let naps: Vec<_> = (0..100)
        .map(|n| sleep(&clock, Duration::from_secs(n)).map(move |()| n))
        .collect();
    let shared: Shared<_> = async { 5 }.shared();
    let block = spawn(async move {
        let naps: Result<Vec<u64>, Failure> = join_all(naps).await.into_iter().collect();
        Ok((naps?.len(), shared.clone().await + shared.await))
    });
    clock.advance(Duration::from_secs(98));
    assert!(!block.is_fired());
    clock.advance(Duration::from_secs(1));
    assert_eq!(block.result().unwrap(), (100, 10));
}

/// One result, many blocks: the combinator wakes them with its lock held.
#[test]
fn many_blocks_share_one_deferred() {
    let (deferred, resolver) = Deferred::<i32>::pending();
    let shared = async { deferred.await.unwrap() }.shared();
    let blocks: Vec<_> = (0..10)
        .map(|n| {
            let shared = shared.clone();
            spawn(async move { Ok(shared.await + n) })
        })
        .collect();
    resolver.callback(100).unwrap();
    for (n, block) in (0..).zip(blocks) {
        assert_eq!(block.result().unwrap(), 100 + n);
    }
}

#[test]
fn blocks_talk_through_channels() {
    let reactor = Reactor::new().unwrap();
    let (sender, mut numbers) = mpsc::unbounded();
    let (answer, sum) = oneshot::channel();
    drop(reactor.spawn(async move {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number;
        }
        answer.send(sum).unwrap();
        Ok(())
    }));
    let clock = reactor.clone();
    drop(reactor.spawn(async move {
        for n in 1..=10 {
            sender.unbounded_send(n)?;
            sleep(&clock, Duration::ZERO).await?;
        }
        Ok(())
    }));
    let sum = reactor.spawn(async { Ok(sum.await?) });
    let sum = stop_when_done(&reactor, sum);
    run(&reactor);
    assert_eq!(sum.result().unwrap(), 55);
}

#[test]
fn a_block_is_polled_on_its_own_thread_wherever_it_is_woken() {
    let reactor = Reactor::new().unwrap();
    let home = thread::current().id();
    let (sender, mut numbers) = mpsc::unbounded();
    let sum = reactor.spawn(async move {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            assert_eq!(thread::current().id(), home);
            sum += number;
        }
        Ok(sum)
    });
    let sum = stop_when_done(&reactor, sum);
    let other = thread::spawn(move || {
        for n in 1..=1000 {
            sender.unbounded_send(n).unwrap();
        }
    });
    run(&reactor);
    other.join().unwrap();
    assert_eq!(sum.result().unwrap(), 500_500);
}

#[test]
fn a_block_whose_last_waker_is_dropped_in_another_thread_is_dropped_at_home() {
    let reactor = Reactor::new().unwrap();
    let (hand_over, handed) = std_mpsc::channel();
    let (captured, is_dropped) = tracked();
    let block = reactor.spawn(async move {
        let _captured = captured; // not Send
        poll_fn(move |context| {
            hand_over.send(context.waker().clone()).unwrap();
            Poll::<Result<(), Failure>>::Pending
        })
        .await
    });
    let block = stop_when_done(&reactor, block);
    let other = thread::spawn(move || drop(handed.recv().unwrap()));
    run(&reactor);
    other.join().unwrap();
    assert!(is_dropped.get());
    assert!(error(block).is::<AbandonedError>());
}

/// It wakes the next one with its own lock held, which the block takes when it is polled.
#[test]
fn a_lock_of_others_may_be_released_anywhere() {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new().unwrap();
    let lock = Rc::new(Mutex::new(0));
    let held = lock.try_lock().unwrap();
    // `held` borrows, so it cannot go into a callback: the block's turn comes when the loop runs.
    let locked = lock.clone();
    let block = reactor.spawn(async move {
        *locked.lock().await += 1;
        Ok(())
    });
    drop(held);
    assert!(!block.is_fired());
    let block = stop_when_done(&reactor, block);
    run(&reactor);
    block.result().unwrap();
    assert_eq!(*lock.try_lock().unwrap(), 1);
}

/// Law 4: nothing that keeps producing work can keep the others from theirs.
#[test]
fn a_block_that_wakes_itself_for_ever_does_not_stop_the_loop() {
    let reactor = Reactor::new().unwrap();
    let rounds = Rc::new(Cell::new(0));
    let count = rounds.clone();
    let busy = reactor.spawn(poll_fn(move |context| {
        count.set(count.get() + 1);
        context.waker().wake_by_ref();
        Poll::<Result<(), Failure>>::Pending
    }));
    let nap = sleep(&reactor, Duration::from_millis(5));
    let nap = stop_when_done(&reactor, nap);
    run(&reactor);
    nap.result().unwrap();
    assert!(rounds.get() > 1);
    busy.cancel();
    assert!(error(busy).is::<CancelledError>());
}

/// With no reactor, the wake itself polls.
#[test]
fn a_block_without_a_reactor_is_polled_where_it_is_woken() {
    let (sender, receiver) = oneshot::channel();
    let block = spawn(async { Ok(receiver.await?) });
    assert!(!block.is_fired());
    sender.send(3).unwrap();
    assert_eq!(block.result().unwrap(), 3);
}

/// Law 2, for wakes as well.
#[test]
fn a_long_row_of_blocks_and_channels_takes_no_stack() {
    in_small_stack(|| {
        let (first, mut receiver) = oneshot::channel();
        let mut last = None;
        for _ in 0..MANY {
            let (sender, next) = oneshot::channel();
            last = Some(spawn(async move {
                sender.send(receiver.await? + 1).unwrap();
                Ok(())
            }));
            receiver = next;
        }
        first.send(0).unwrap();
        last.unwrap().result().unwrap();
        assert_eq!(receiver.now_or_never().unwrap().unwrap(), MANY);
    });
}

#[test]
fn a_wake_from_another_thread_that_nobody_can_act_on_is_logged() {
    let waker = Rc::new(Cell::new(None));
    let kept = waker.clone();
    let block = spawn(poll_fn(move |context| {
        kept.set(Some(context.waker().clone()));
        Poll::<Result<(), Failure>>::Pending
    }));
    let waker = waker.take().unwrap();
    let log = thread::spawn(move || {
        keep_log();
        waker.wake();
        logged()
    });
    let log = log.join().unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].contains("Reactor::spawn"), "{log:?}");
    drop(block);
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn a_deferred_that_was_ready_is_not_polled_again() {
    let mut deferred = Deferred::succeed(1);
    assert!((&mut deferred).now_or_never().is_some());
    let _ = (&mut deferred).now_or_never();
}

/// B-16: whatever a block does where it goes on.
#[test]
fn a_block_may_spawn_fire_and_cancel_where_it_goes_on() {
    let reactor = Reactor::new().unwrap();
    let (deferred, resolver) = Deferred::<()>::pending();
    let here = reactor.clone();
    let block = reactor.spawn(async move {
        deferred.await?;
        let (other, fire) = Deferred::<i32>::pending();
        let inner = here.spawn(async { Ok(other.await? + 1) });
        let (never, _fire) = Deferred::<()>::pending();
        let cancelled = here.spawn(never);
        cancelled.cancel();
        assert!(cancelled.await.unwrap_err().is::<CancelledError>());
        fire.callback(1)?;
        let sum = inner.await?;
        sleep(&here, Duration::ZERO).await?;
        here.stop()?;
        Ok(sum)
    });
    reactor.call_when_running(move || resolver.callback(()).unwrap());
    run(&reactor);
    assert_eq!(block.result().unwrap(), 2);
}

/// The named futures of async functions are as good as blocks.
#[test]
fn an_async_function_may_call_itself() {
    fn countdown(
        clock: Clock,
        n: u32,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<u32, Failure>>>> {
        Box::pin(async move {
            if n == 0 {
                return Ok(0);
            }
            sleep(&clock, Duration::from_secs(1)).await?;
            Ok(countdown(clock, n - 1).await? + 1)
        })
    }
    let clock = Clock::new();
    let block = spawn(countdown(clock.clone(), 10));
    clock.pump([Duration::from_secs(1); 9]);
    assert!(!block.is_fired());
    clock.advance(Duration::from_secs(1));
    assert_eq!(block.result().unwrap(), 10);
}
