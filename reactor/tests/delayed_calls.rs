//! Calls that are made later: when, in which order, and how often.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use deferred_reactor::{DelayedCall, DelayedCallError, Failure, Reactor};

use peers::{journal, note, run};

const HOUR: Duration = Duration::from_secs(3600);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Writes a name down when its time has come.
fn noting(reactor: &Reactor, journal: &peers::Journal, name: &str, delay: Duration) -> DelayedCall {
    let (journal, name) = (journal.clone(), name.to_owned());
    reactor.call_later(delay, move || note(&journal, name))
}

fn stopping(reactor: &Reactor, delay: Duration) -> DelayedCall {
    let stop = reactor.clone();
    reactor.call_later(delay, move || stop.stop().unwrap())
}

///
#[test]
fn calls_are_made_once_and_in_order_of_due_time() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    for (name, delay) in [("c", ms(7)), ("a", ms(0)), ("d", ms(9)), ("b", ms(3))] {
        noting(&reactor, &calls, name, delay);
    }
    stopping(&reactor, ms(12));
    run(&reactor);
    assert_eq!(*calls.borrow(), ["a", "b", "c", "d"]);
}

///
#[test]
fn a_call_is_never_made_before_its_time() {
    let reactor = Reactor::new().unwrap();
    let begin = Instant::now();
    let made = Rc::new(RefCell::new(Vec::new()));
    for delay in (0..20).map(|n| Duration::from_micros(n * 700)) {
        let made = made.clone();
        reactor.call_later(delay, move || {
            made.borrow_mut().push((delay, begin.elapsed()));
        });
    }
    stopping(&reactor, ms(15));
    run(&reactor);
    assert_eq!(made.borrow().len(), 20);
    for (delay, elapsed) in made.take() {
        assert!(elapsed >= delay, "{elapsed:?} is before {delay:?}");
    }
}

///
#[test]
fn a_cancelled_call_is_never_made() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let before_run = noting(&reactor, &calls, "cancelled before run", ms(1));
    before_run.cancel().unwrap();
    let while_running = noting(&reactor, &calls, "cancelled by an earlier call", ms(2));
    reactor.call_later(ms(1), move || while_running.cancel().unwrap());
    stopping(&reactor, ms(4));
    run(&reactor);
    assert!(calls.borrow().is_empty(), "{calls:?}");
}

///
#[test]
fn calls_due_at_the_same_time_can_cancel_each_other() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let second = Rc::new(RefCell::new(None::<DelayedCall>));
    let to_cancel = second.clone();
    reactor.call_later(ms(1), move || {
        // Long enough that both are due in this turn.
        let until = Instant::now() + ms(3);
        while Instant::now() < until {}
        to_cancel.take().unwrap().cancel().unwrap();
    });
    *second.borrow_mut() = Some(noting(&reactor, &calls, "second", ms(2)));
    stopping(&reactor, ms(4));
    run(&reactor);
    assert!(calls.borrow().is_empty());
}

///
#[test]
fn a_call_is_active_until_it_is_made_or_cancelled() {
    let reactor = Reactor::new().unwrap();
    let handle = Rc::new(RefCell::new(None::<DelayedCall>));
    let inside = handle.clone();
    let made = reactor.call_later(ms(1), move || {
        let me = inside.take().unwrap();
        assert!(!me.is_active(), "it is being made");
        assert_eq!(me.cancel(), Err(DelayedCallError::AlreadyCalled));
        assert_eq!(me.reset(ms(1)), Err(DelayedCallError::AlreadyCalled));
    });
    *handle.borrow_mut() = Some(made.clone());
    let cancelled = reactor.call_later(ms(1), || unreachable!());
    cancelled.cancel().unwrap();
    assert!(made.is_active());
    assert!(!cancelled.is_active());
    assert_eq!(cancelled.cancel(), Err(DelayedCallError::AlreadyCancelled));
    stopping(&reactor, ms(2));
    run(&reactor);
    assert!(!made.is_active());
    assert!(
        handle.borrow().is_none(),
        "the call was made and did not panic"
    );
    assert_eq!(made.delay(ms(1)), Err(DelayedCallError::AlreadyCalled));
    assert_eq!(made.time(), None);
}

///
#[test]
fn the_listing_holds_exactly_those_that_wait() {
    let reactor = Reactor::new().unwrap();
    let late = reactor.call_later(2 * HOUR, || {});
    let early = reactor.call_later(HOUR, || {});
    let cancelled = reactor.call_later(HOUR, || {});
    let times = |calls: Vec<DelayedCall>| calls.iter().map(|c| c.time()).collect::<Vec<_>>();
    cancelled.cancel().unwrap();
    assert_eq!(times(reactor.delayed_calls()), [early.time(), late.time()]);

    let (listing, seen) = (reactor.clone(), Rc::new(Cell::new(0)));
    let count = seen.clone();
    reactor.call_later(ms(1), move || {
        count.set(listing.delayed_calls().len());
        listing.stop().unwrap();
    });
    assert_eq!(reactor.delayed_calls().len(), 3);
    run(&reactor);
    assert_eq!(seen.get(), 2, "a call that is being made is not listed");
}

///
#[test]
fn a_call_that_was_put_off_is_made_once_at_the_new_time() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let begin = Instant::now();
    let moved = noting(&reactor, &calls, "moved", ms(1));
    moved.reset(ms(5)).unwrap();
    moved.delay(ms(2)).unwrap();
    moved.delay(ms(3)).unwrap();
    noting(&reactor, &calls, "before", ms(4));
    noting(&reactor, &calls, "after", ms(13));
    stopping(&reactor, ms(14));
    assert!(moved.time().unwrap() >= begin + ms(10));
    run(&reactor);
    assert_eq!(*calls.borrow(), ["before", "moved", "after"]);
}

///
#[test]
fn a_call_brought_forward_is_made_at_the_new_time() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let far = noting(&reactor, &calls, "far", HOUR);
    let farther = noting(&reactor, &calls, "farther", 2 * HOUR);
    noting(&reactor, &calls, "between", HOUR / 2);
    let stop = stopping(&reactor, 3 * HOUR);
    reactor.call_later(ms(1), move || {
        far.reset(ms(0)).unwrap();
        farther.reset(ms(1)).unwrap();
        stop.reset(ms(2)).unwrap();
    });
    run(&reactor);
    assert_eq!(*calls.borrow(), ["far", "farther"]);
}

///
#[test]
fn a_call_that_panics_is_logged_and_the_next_is_made() {
    peers::watch_log();
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    reactor.call_later(ms(0), || panic!("this delayed call is broken"));
    noting(&reactor, &calls, "next", ms(0));
    stopping(&reactor, ms(2));
    run(&reactor);
    assert_eq!(*calls.borrow(), ["next"]);
    assert_eq!(peers::times_logged("this delayed call is broken"), 1);
}

///
#[test]
fn a_delay_of_a_century_or_more_neither_fails_nor_fires() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let century = Duration::from_secs(100 * 366 * 24 * 3600);
    for delay in [century, Duration::from_secs(u64::MAX / 2), Duration::MAX] {
        noting(&reactor, &calls, "far", delay);
    }
    stopping(&reactor, ms(2));
    run(&reactor);
    assert!(calls.borrow().is_empty());
}

///
#[test]
fn a_call_at_the_end_of_time_can_be_put_off_further() {
    let reactor = Reactor::new().unwrap();
    // The latest moment the system can tell, to a few seconds.
    let mut delay = Duration::ZERO;
    for bit in (3..64).rev() {
        let more = delay + Duration::from_secs(1 << bit);
        if Instant::now().checked_add(more).is_some() {
            delay = more;
        }
    }
    let call = reactor.call_later(delay, || unreachable!());
    call.delay(Duration::from_secs(100)).unwrap();
    call.delay(Duration::MAX).unwrap();
    call.reset(Duration::MAX).unwrap();
    assert!(call.is_active());
    call.reset(HOUR).unwrap();
    assert!(call.time().unwrap() <= Instant::now() + HOUR);
}

/// a hundred thousand calls that wait are nothing special.
#[test]
fn a_hundred_thousand_calls_can_wait() {
    let (reactor, made) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    let mut handles = Vec::new();
    for n in 0..100_000u64 {
        let made = made.clone();
        let delay = if n % 4 == 0 {
            ms(n % 3)
        } else {
            HOUR + ms(n % 977)
        };
        handles.push(reactor.call_later(delay, move || made.set(made.get() + 1)));
    }
    // Of those that are far: a third is cancelled, a third put off, a third brought forward.
    for (n, call) in handles.iter().enumerate() {
        match n % 4 {
            1 => call.cancel().unwrap(),
            2 => call.delay(HOUR).unwrap(),
            3 => call.reset(ms(n as u64 % 5)).unwrap(),
            _ => {}
        }
    }
    stopping(&reactor, ms(6));
    assert_eq!(reactor.delayed_calls().len(), 75_001);
    let (listing, left) = (reactor.clone(), Rc::new(Cell::new(0)));
    let count = left.clone();
    reactor.add_system_event_trigger(
        deferred_reactor::Phase::Before,
        deferred_reactor::SystemEvent::Shutdown,
        move || {
            count.set(listing.delayed_calls().len());
            Ok(())
        },
    );
    run(&reactor);
    assert_eq!(made.get(), 50_000);
    assert_eq!(left.get(), 25_000);
}

/// What waits for a time that does not come is let go, with all that it holds.
#[test]
fn calls_that_still_wait_when_the_reactor_stops_are_dropped() {
    let (reactor, held) = (Reactor::new().unwrap(), Rc::new(()));
    let captured = held.clone();
    let waiting = reactor.call_later(HOUR, move || drop(captured));
    let (nap, failure) = (
        deferred_reactor::sleep(&reactor, HOUR),
        Rc::new(Cell::new(None)),
    );
    let seen = failure.clone();
    drop(nap.add_errback(move |failure| {
        seen.set(Some(failure));
        Ok(())
    }));
    stopping(&reactor, ms(0));
    run(&reactor);
    assert_eq!(Rc::strong_count(&held), 1);
    assert!(!waiting.is_active());
    assert_eq!(waiting.cancel(), Err(DelayedCallError::AlreadyCancelled));
    let failure: Failure = failure.take().unwrap();
    assert!(failure.is::<deferred_reactor::AbandonedError>());
    assert!(reactor.delayed_calls().is_empty());
}

/// The end of one call may make more of them; that ends as well.
#[test]
fn calls_scheduled_while_the_others_are_dropped_do_not_keep_the_reactor() {
    struct Again(Reactor);
    impl Drop for Again {
        fn drop(&mut self) {
            let again = Again(self.0.clone());
            self.0.call_later(HOUR, move || drop(again));
        }
    }
    let reactor = Reactor::new().unwrap();
    let again = Again(reactor.clone());
    reactor.call_later(HOUR, move || drop(again));
    stopping(&reactor, ms(0));
    run(&reactor);
}
