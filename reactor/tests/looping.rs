//! A function that is called again and again: when, with which counts, and how that ends.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::deferred::spawn;
use deferred_reactor::{
    AbandonedError, CancelledError, Clock, Deferred, Failure, LoopingCall, LoopingCallError,
    NoLostFailures, PanicError, Reactor, Resolver, sleep,
};
use support::{Oops, tracked};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// When something happened, in milliseconds of the clock.
#[derive(Clone, Default)]
struct Times(Rc<RefCell<Vec<u128>>>);

impl Times {
    fn note(&self, clock: &Clock) {
        self.0.borrow_mut().push(clock.elapsed().as_millis());
    }

    fn take(&self) -> Vec<u128> {
        self.0.take()
    }
}

/// A loop that notes when it is called.
fn noting(clock: &Clock) -> (LoopingCall, Times) {
    let times = Times::default();
    let (noted, now) = (times.clone(), clock.clone());
    let looping = LoopingCall::new(clock, move || {
        noted.note(&now);
        Ok(())
    });
    (looping, times)
}

/// A loop that notes the count it is given.
fn counting(clock: &Clock) -> (LoopingCall, Rc<RefCell<Vec<u64>>>) {
    let counts = Rc::new(RefCell::new(Vec::new()));
    let noted = counts.clone();
    let looping = LoopingCall::with_count(clock, move |count| {
        noted.borrow_mut().push(count);
        Ok(())
    });
    (looping, counts)
}

/// A loop whose calls return the Deferreds of these resolvers.
type Fires = Rc<RefCell<Vec<Resolver<()>>>>;

fn waiting(clock: &Clock) -> (LoopingCall, Fires) {
    let fires = Fires::default();
    let made = fires.clone();
    let looping = LoopingCall::new(clock, move || {
        let (deferred, resolver) = Deferred::pending();
        made.borrow_mut().push(resolver);
        deferred
    });
    (looping, fires)
}

fn fire(fires: &Fires) {
    let resolver = fires.borrow_mut().remove(0);
    resolver.callback(()).unwrap();
}

fn assert_idle(clock: &Clock, looping: &LoopingCall) {
    assert!(!looping.is_running());
    assert!(clock.delayed_calls().is_empty());
}

/// T-06.
#[test]
fn the_function_is_called_at_the_start_and_at_each_multiple_of_the_interval() {
    let clock = Clock::new();
    clock.advance(ms(700)); // the grid begins at the start, wherever that is
    let (looping, times) = noting(&clock);
    assert_eq!(looping.interval(), None);
    let ended = looping.start(ms(1000)).unwrap();
    assert_eq!(times.take(), [700]);
    clock.pump([ms(500); 7]);
    assert_eq!(times.take(), [1700, 2700, 3700]);
    assert!(looping.is_running() && !ended.is_fired());
    assert_eq!(looping.interval(), Some(ms(1000)));
}

/// T-07.
#[test]
fn a_delayed_start_waits_for_one_interval() {
    let clock = Clock::new();
    let (looping, times) = noting(&clock);
    drop(looping.start_later(ms(1000)).unwrap());
    clock.advance(ms(999));
    assert!(times.take().is_empty());
    clock.pump([ms(1), ms(1000)]);
    assert_eq!(times.take(), [1000, 2000]);
}

/// T-08.
#[test]
fn a_stopped_loop_leaves_nothing_and_says_so() {
    let clock = Clock::new();
    for (is_delayed, advance) in [(false, 0), (false, 2500), (true, 0), (true, 2500)] {
        let (looping, times) = noting(&clock);
        let ended = match is_delayed {
            false => looping.start(ms(1000)).unwrap(),
            true => looping.start_later(ms(1000)).unwrap(),
        };
        clock.advance(ms(advance));
        looping.stop().unwrap();
        assert_idle(&clock, &looping);
        let handle = ended.result().unwrap();
        assert!(!handle.is_running());
        times.take();
        clock.advance(ms(5000));
        assert!(times.take().is_empty());
    }
}

/// T-08: from inside the function.
#[test]
fn a_function_may_stop_its_own_loop() {
    let clock = Clock::new();
    let mut left = 3;
    let looping = LoopingCall::with_handle(&clock, move |looping, _| {
        left -= 1;
        if left == 0 {
            looping.stop()?;
            assert!(!looping.is_running());
        }
        Ok(())
    });
    let ended = looping.start(ms(10)).unwrap();
    clock.pump([ms(10); 5]);
    assert!(ended.is_fired());
    assert_idle(&clock, &looping);

    let at_once = LoopingCall::with_handle(&clock, |looping, _| Ok(looping.stop()?));
    assert!(at_once.start(ms(10)).unwrap().result().is_ok());
    assert_idle(&clock, &at_once);
}

/// T-09.
#[test]
fn a_call_that_takes_longer_than_the_interval_skips_what_it_missed() {
    let clock = Clock::new();
    let times = Times::default();
    let (noted, inner) = (times.clone(), clock.clone());
    let looping = LoopingCall::new(&clock, move || {
        noted.note(&inner);
        inner.advance(ms(2500)); // time passes while it works
        Ok(())
    });
    drop(looping.start(ms(1000)).unwrap());
    assert_eq!(times.take(), [0]);
    clock.advance(ms(499));
    assert!(times.take().is_empty());
    clock.advance(ms(1)); // 3000, the next one after 2500
    assert_eq!(times.take(), [3000]);
}

/// T-09: a call that ends just on the grid.
#[test]
fn the_next_call_is_strictly_in_the_future() {
    let clock = Clock::new();
    let times = Times::default();
    let (noted, inner) = (times.clone(), clock.clone());
    let looping = LoopingCall::new(&clock, move || {
        noted.note(&inner);
        inner.advance(ms(2000));
        Ok(())
    });
    drop(looping.start(ms(1000)).unwrap());
    let next = clock.delayed_calls()[0].time().unwrap();
    assert_eq!(next - clock.now(), ms(1000));
    assert_eq!(times.take(), [0]);
}

/// T-10.
#[test]
fn a_clock_that_jumps_makes_one_call_and_returns_to_the_grid() {
    let clock = Clock::new();
    let (looping, times) = noting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    clock.advance(ms(3700));
    clock.pump([ms(299), ms(1), ms(1000)]);
    assert_eq!(times.take(), [0, 3700, 4000, 5000]);
}

/// T-11.
#[test]
fn the_count_tells_how_many_intervals_have_passed() {
    let clock = Clock::new();
    let (looping, counts) = counting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    assert_eq!(counts.take(), [1]);
    clock.pump([ms(1000), ms(1000)]);
    assert_eq!(counts.take(), [1, 1]);
    clock.advance(ms(3500));
    clock.advance(ms(500));
    assert_eq!(counts.take(), [3, 1]);

    let (looping, counts) = counting(&clock);
    drop(looping.start_later(ms(1000)).unwrap());
    clock.pump([ms(1000), ms(2999), ms(1)]);
    assert_eq!(counts.take(), [1, 2, 1]);
}

/// T-11: what passes while a Deferred is waited for counts as well.
#[test]
fn the_count_goes_on_while_a_deferred_is_waited_for() {
    let clock = Clock::new();
    let counts = Rc::new(RefCell::new(Vec::new()));
    let (noted, time) = (counts.clone(), clock.clone());
    let looping = LoopingCall::with_count(&clock, move |count| {
        noted.borrow_mut().push(count);
        sleep(&time, ms(2300))
    });
    drop(looping.start(ms(1000)).unwrap());
    clock.pump([ms(100); 70]);
    assert_eq!(*counts.borrow(), [1, 3, 3]);
}

/// T-11: with the handle, too.
#[test]
fn a_function_with_its_handle_is_told_the_count() {
    let clock = Clock::new();
    let looping = LoopingCall::with_handle(&clock, |looping, count| {
        if count == 3 {
            looping.stop()?;
        }
        Ok(())
    });
    let ended = looping.start(ms(10)).unwrap();
    clock.pump([ms(10), ms(25)]);
    assert!(!ended.is_fired());
    clock.advance(ms(25));
    assert!(ended.is_fired());
}

/// T-12: the loop looks at its sockets and at other calls between any two.
#[test]
fn interval_zero_is_once_per_turn() {
    let reactor = Reactor::new().unwrap();
    let calls = Rc::new(Cell::new(0_u32));
    let counted = calls.clone();
    let looping = LoopingCall::with_count(&reactor, move |count| {
        assert_eq!(count, 1);
        counted.set(counted.get() + 1);
        Ok(())
    });
    let ended = looping.start(Duration::ZERO).unwrap();
    assert_eq!(calls.get(), 1);
    for turn in 0..100 {
        assert!(reactor.turn_once(Duration::MAX).unwrap());
        assert_eq!(calls.get(), turn + 2);
    }
    looping.stop().unwrap();
    assert!(ended.is_fired());

    // The same where the reactor has the loop: other calls are made in between.
    drop(looping.start(Duration::ZERO).unwrap());
    reactor.stop().unwrap();
    assert!(!reactor.turn_once(Duration::MAX).unwrap());
    drop(looping.start(Duration::ZERO).unwrap());
    reactor.run_for(ms(5)).unwrap();
    assert!(calls.get() > 100);
    assert!(!looping.is_running());
}

/// T-12.
#[test]
fn with_interval_zero_the_count_is_one_after_a_wait_too() {
    let clock = Clock::new();
    let counts = Rc::new(RefCell::new(Vec::new()));
    let (noted, time) = (counts.clone(), clock.clone());
    let looping = LoopingCall::with_count(&clock, move |count| {
        noted.borrow_mut().push(count);
        sleep(&time, ms(100))
    });
    drop(looping.start_later(Duration::ZERO).unwrap());
    clock.pump([ms(0), ms(50), ms(50), ms(100)]);
    assert_eq!(*counts.borrow(), [1, 1, 1]);
}

/// T-13.
#[test]
fn a_failure_or_a_panic_ends_the_loop() {
    let _guard = NoLostFailures::new();
    let clock = Clock::new();
    for calls_before in 0..3 {
        for panics in [false, true] {
            let mut left = calls_before;
            let looping = LoopingCall::new(&clock, move || -> Result<(), Failure> {
                if left > 0 {
                    left -= 1;
                    return Ok(());
                }
                assert!(!panics, "a panic");
                Err(Oops("no").into())
            });
            let ended = looping.start(ms(10)).unwrap();
            clock.pump([ms(10); 4]);
            assert_idle(&clock, &looping);
            let failure = ended.result().unwrap_err();
            assert_eq!(failure.is::<PanicError>(), panics);
            assert_eq!(failure.is::<Oops>(), !panics);
            assert_eq!(looping.stop(), Err(LoopingCallError::NotRunning));
        }
    }
}

/// T-13: also when it had been stopped before it failed.
#[test]
fn a_failure_after_a_stop_is_not_lost() {
    let clock = Clock::new();
    let looping = LoopingCall::with_handle(&clock, |looping, _| {
        looping.stop()?;
        Err::<(), Failure>(Oops("no").into())
    });
    let ended = looping.start(ms(10)).unwrap();
    assert!(ended.result().unwrap_err().is::<Oops>());
}

/// T-14.
#[test]
fn a_deferred_is_waited_for() {
    let clock = Clock::new();
    let (looping, fires) = waiting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    clock.pump([ms(1000); 3]);
    assert_eq!(fires.borrow().len(), 1);
    assert!(clock.delayed_calls().is_empty());
    clock.advance(ms(500));
    fire(&fires);
    assert_eq!(
        fires.borrow().len(),
        0,
        "not before the next point of the grid"
    );
    clock.advance(ms(500));
    assert_eq!(fires.borrow().len(), 1);
}

/// T-14.
#[test]
fn a_deferred_that_fails_ends_the_loop() {
    let _guard = NoLostFailures::new();
    let clock = Clock::new();
    let (looping, fires) = waiting(&clock);
    let ended = looping.start(ms(1000)).unwrap();
    fires.borrow_mut().remove(0).errback(Oops("no")).unwrap();
    assert_idle(&clock, &looping);
    assert!(ended.result().unwrap_err().is::<Oops>());
}

/// T-14, with an async block.
#[test]
fn an_async_function_is_waited_for() {
    let clock = Clock::new();
    let times = Times::default();
    let (noted, time) = (times.clone(), clock.clone());
    let looping = LoopingCall::new(&clock, move || {
        let (noted, time) = (noted.clone(), time.clone());
        spawn(async move {
            sleep(&time, ms(1500)).await?;
            noted.note(&time);
            Ok(())
        })
    });
    drop(looping.start(ms(1000)).unwrap());
    clock.pump([ms(100); 60]);
    assert_eq!(times.take(), [1500, 3500, 5500]);
}

/// T-08, T-14: the last call is waited for.
#[test]
fn a_loop_that_was_stopped_during_a_call_ends_with_it() {
    let clock = Clock::new();
    let (looping, fires) = waiting(&clock);
    let ended = looping.start(ms(1000)).unwrap();
    looping.stop().unwrap();
    assert!(!looping.is_running());
    assert!(!ended.is_fired());
    assert_eq!(looping.stop(), Err(LoopingCallError::NotRunning));
    assert_eq!(looping.reset(), Err(LoopingCallError::NotRunning));
    assert_eq!(
        looping.start(ms(1000)).unwrap_err(),
        LoopingCallError::LastCallPending
    );
    fire(&fires);
    assert_idle(&clock, &looping);
    assert!(ended.result().is_ok());
    drop(looping.start(ms(1000)).unwrap());
    assert_eq!(fires.borrow().len(), 1);
}

/// T-15.
#[test]
fn misuse_is_reported_and_changes_nothing() {
    let clock = Clock::new();
    let (looping, times) = noting(&clock);
    assert_eq!(looping.stop(), Err(LoopingCallError::NotRunning));
    assert_eq!(looping.reset(), Err(LoopingCallError::NotRunning));
    let ended = looping.start(ms(1000)).unwrap();
    for start in [LoopingCall::start, LoopingCall::start_later] {
        assert_eq!(
            start(&looping, ms(1)).unwrap_err(),
            LoopingCallError::AlreadyRunning
        );
    }
    clock.pump([ms(1000); 2]);
    assert_eq!(times.take(), [0, 1000, 2000]);
    looping.stop().unwrap();
    assert_eq!(looping.stop(), Err(LoopingCallError::NotRunning));
    assert_eq!(looping.reset(), Err(LoopingCallError::NotRunning));
    assert!(ended.result().is_ok());
    assert!(clock.delayed_calls().is_empty());
}

/// T-16: a `Duration` cannot be negative; the ends of what it can be work.
#[test]
fn the_longest_interval_is_a_very_long_one() {
    let clock = Clock::new();
    let (looping, times) = noting(&clock);
    for start in [LoopingCall::start, LoopingCall::start_later] {
        drop(start(&looping, Duration::MAX).unwrap());
        clock.advance(Duration::from_secs(1000));
        assert!(times.take().len() <= 1);
        looping.reset().unwrap();
        looping.stop().unwrap();
        assert_idle(&clock, &looping);
    }
}

/// T-17.
#[test]
fn reset_puts_the_next_call_off_and_moves_the_grid() {
    let clock = Clock::new();
    let (looping, times) = noting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    clock.advance(ms(800));
    looping.reset().unwrap();
    assert_eq!(clock.delayed_calls().len(), 1);
    clock.pump([ms(999), ms(1), ms(1000)]);
    assert_eq!(times.take(), [0, 1800, 2800]);
    assert!(looping.is_running());
}

/// T-17: the count begins anew with the grid.
#[test]
fn after_a_reset_calls_in_time_count_one() {
    let clock = Clock::new();
    let (looping, counts) = counting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    clock.pump([ms(1000), ms(800)]);
    looping.reset().unwrap();
    clock.pump([ms(1000), ms(2500)]);
    assert_eq!(*counts.borrow(), [1, 1, 1, 2]);
}

/// T-17: while it is called there is nothing to put off.
#[test]
fn reset_during_a_call_changes_nothing() {
    let clock = Clock::new();
    let (looping, fires) = waiting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    clock.advance(ms(500));
    looping.reset().unwrap();
    fire(&fires);
    clock.advance(ms(500));
    assert_eq!(fires.borrow().len(), 1);
}

/// T-18.
#[test]
fn a_loop_that_is_started_again_has_a_new_grid() {
    let clock = Clock::new();
    let (looping, times) = noting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    clock.advance(ms(300));
    looping.stop().unwrap();
    clock.advance(ms(5000));
    drop(looping.start(ms(2000)).unwrap());
    clock.pump([ms(2000); 2]);
    assert_eq!(times.take(), [0, 5300, 7300, 9300]);
}

/// T-18: also from the callback that is told of the end, however that came about.
#[test]
fn a_loop_may_be_started_again_where_it_ended() {
    let clock = Clock::new();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let looping = LoopingCall::new(&clock, move || {
        counted.set(counted.get() + 1);
        match counted.get() {
            2 => Err(Failure::new(Oops("no"))),
            _ => Ok(()),
        }
    });
    let again = looping.clone();
    let ended = looping.start(ms(10)).unwrap().add_errback(move |failure| {
        assert!(failure.is::<Oops>());
        again.start(ms(100)).unwrap()
    });
    clock.advance(ms(10)); // fails, and starts again at once
    assert_eq!(calls.get(), 3);
    clock.advance(ms(100));
    assert_eq!(calls.get(), 4);
    looping.stop().unwrap();
    assert!(ended.result().is_ok());
}

#[test]
fn to_cancel_the_deferred_of_a_loop_stops_it() {
    let _guard = NoLostFailures::new();
    let clock = Clock::new();
    let (looping, _) = noting(&clock);
    let ended = looping.start(ms(10)).unwrap();
    ended.cancel();
    assert_idle(&clock, &looping);
    assert!(ended.result().unwrap_err().is::<CancelledError>());

    // With a Deferred of the function out, that one is cancelled.
    let cancelled = Rc::new(Cell::new(false));
    let seen = cancelled.clone();
    let looping = LoopingCall::new(&clock, move || {
        let seen = seen.clone();
        let (deferred, resolver) = Deferred::<()>::with_canceller(move |_| seen.set(true));
        std::mem::forget(resolver);
        deferred
    });
    let ended = looping.start(ms(10)).unwrap();
    ended.cancel();
    assert!(cancelled.get());
    assert_idle(&clock, &looping);
    assert!(ended.result().unwrap_err().is::<CancelledError>());
    drop(looping.start(ms(10)).unwrap());
}

#[test]
fn what_fails_after_a_cancel_is_reported() {
    let guard = NoLostFailures::new();
    let clock = Clock::new();
    let own = Rc::new(RefCell::new(None::<Deferred<LoopingCall>>));
    let ended = own.clone();
    let looping = LoopingCall::new(&clock, move || match &*ended.borrow() {
        None => Ok(()),
        Some(ended) => {
            ended.cancel();
            Err(Failure::new(Oops("too late")))
        }
    });
    own.replace(Some(looping.start(ms(10)).unwrap()));
    clock.advance(ms(10));
    assert_idle(&clock, &looping);
    let ended = own.take().unwrap();
    assert!(ended.result().unwrap_err().is::<CancelledError>());
    let lost = guard.flush();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].failure.is::<Oops>());
}

#[test]
fn a_loop_goes_on_without_its_handles() {
    let clock = Clock::new();
    let (looping, times) = noting(&clock);
    drop(looping.start(ms(1000)).unwrap());
    drop(looping);
    clock.pump([ms(1000); 2]);
    assert_eq!(times.take(), [0, 1000, 2000]);
}

#[test]
fn a_clock_that_is_dropped_ends_the_loop_and_drops_the_function() {
    let clock = Clock::new();
    let (captured, is_dropped) = tracked();
    let looping = LoopingCall::new(&clock, move || {
        let _captured = &captured;
        Ok(())
    });
    let ended = looping.start(ms(1000)).unwrap();
    drop(clock);
    assert!(!looping.is_running());
    assert!(ended.result().unwrap_err().is::<AbandonedError>());
    assert_eq!(
        looping.start(ms(1)).unwrap_err(),
        LoopingCallError::ClockGone
    );
    drop(looping);
    assert!(is_dropped.get());

    // With the function's Deferred out, it is seen when that has fired.
    let clock = Clock::new();
    let (looping, fires) = waiting(&clock);
    let ended = looping.start(ms(1000)).unwrap();
    drop(clock);
    fire(&fires);
    assert!(!looping.is_running());
    assert!(ended.result().unwrap_err().is::<AbandonedError>());
}

#[test]
fn a_reactor_that_stops_ends_the_loop_which_may_run_in_the_next_run() {
    let reactor = Reactor::new().unwrap();
    let looping = LoopingCall::new(&reactor, || Ok(()));
    let mut left = 3;
    let stop = reactor.clone();
    let stopping = LoopingCall::with_handle(&reactor, move |looping, _| {
        left -= 1;
        if left == 0 {
            left = 3;
            looping.stop()?;
            stop.stop()?;
        }
        Ok(())
    });
    for _ in 0..2 {
        let ended = looping.start(Duration::from_secs(3600)).unwrap();
        let stopped = stopping.start_later(ms(1)).unwrap();
        reactor.run_without_signals().unwrap();
        assert!(stopped.result().is_ok());
        assert!(!looping.is_running());
        assert!(ended.result().unwrap_err().is::<AbandonedError>());
    }
}

/// B-16.
#[test]
fn a_function_may_do_anything_to_its_own_loop() {
    let clock = Clock::new();
    let mut calls = 0;
    let looping = LoopingCall::with_handle(&clock, move |looping, _| {
        calls += 1;
        assert_eq!(
            looping.start(ms(1)).unwrap_err(),
            LoopingCallError::AlreadyRunning
        );
        looping.reset()?;
        assert!(looping.is_running());
        assert_eq!(looping.interval(), Some(ms(10)));
        assert!(format!("{looping:?}").contains("is_running: true"));
        if calls == 2 {
            looping.stop()?;
            assert_eq!(looping.stop(), Err(LoopingCallError::NotRunning));
            assert_eq!(
                looping.start(ms(1)).unwrap_err(),
                LoopingCallError::LastCallPending
            );
        }
        Ok(())
    });
    let ended = looping.start(ms(10)).unwrap();
    clock.advance(ms(10));
    assert!(ended.result().is_ok());
}
