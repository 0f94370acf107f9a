//! Time that a test moves by hand.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::{Clock, DelayedCall, DelayedCallError};
use support::{Calls, tracked};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Schedules a call that leaves `name` in the record.
fn noting(clock: &Clock, calls: &Calls, delay: u64, name: &'static str) -> DelayedCall {
    let calls = calls.clone();
    clock.call_later(seconds(delay), move || calls.push(name))
}

/// T-01.
#[test]
fn a_delayed_call_is_made_once_when_its_time_has_come() {
    let clock = Clock::new();
    let calls = Calls::new();
    assert_eq!(clock.elapsed(), Duration::ZERO);
    assert!(clock.delayed_calls().is_empty());

    let call = noting(&clock, &calls, 1, "f");
    assert!(call.is_active());
    assert_eq!(call.time(), Some(clock.now() + seconds(1)));
    let listed = clock.delayed_calls();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].time(), call.time());

    clock.advance(seconds(1));
    assert_eq!(calls.take(), ["f"]);
    assert_eq!(clock.elapsed(), seconds(1));
    assert!(!call.is_active());
    assert_eq!(call.time(), None);
    assert!(clock.delayed_calls().is_empty());

    clock.advance(seconds(1));
    assert!(calls.take().is_empty());
}

/// T-02.
#[test]
fn an_advance_that_stops_short_makes_no_call() {
    let clock = Clock::new();
    let calls = Calls::new();
    let call = noting(&clock, &calls, 1, "f");
    clock.advance(seconds(1) - Duration::from_nanos(1));
    assert!(calls.take().is_empty());
    assert!(call.is_active());
}

/// T-03.
#[test]
fn calls_are_made_in_the_order_in_which_they_are_due() {
    let clock = Clock::new();
    let calls = Calls::new();
    noting(&clock, &calls, 3, "c");
    let gone = noting(&clock, &calls, 1, "gone");
    noting(&clock, &calls, 1, "a");
    gone.cancel().unwrap();
    noting(&clock, &calls, 2, "b");
    noting(&clock, &calls, 1, "a, but later");
    let order: Vec<_> = clock
        .delayed_calls()
        .iter()
        .map(DelayedCall::time)
        .collect();
    assert!(order.is_sorted());
    clock.advance(seconds(3));
    assert_eq!(calls.take(), ["a", "a, but later", "b", "c"]);
}

/// T-03.
#[test]
fn a_call_that_was_reset_takes_its_new_place() {
    let clock = Clock::new();
    let calls = Calls::new();
    let a = noting(&clock, &calls, 1, "a");
    noting(&clock, &calls, 2, "b");
    let c = noting(&clock, &calls, 9, "c");
    a.reset(seconds(3)).unwrap();
    c.reset(seconds(1)).unwrap();
    clock.pump([seconds(1), seconds(1)]);
    assert_eq!(calls.take(), ["c", "b"]);
    clock.pump([seconds(1)]);
    assert_eq!(calls.take(), ["a"]);
    assert_eq!(clock.elapsed(), seconds(3));
}

/// T-03: a call may move another one, and add one that is due in the same advance.
#[test]
fn a_call_may_reset_and_add_calls() {
    let clock = Clock::new();
    let calls = Calls::new();
    let moved = noting(&clock, &calls, 2, "moved");
    noting(&clock, &calls, 3, "three");
    let (inside, at) = (calls.clone(), clock.clone());
    clock.call_later(seconds(1), move || {
        inside.push("one");
        moved.reset(seconds(9)).unwrap();
        noting(&at, &inside, 0, "added");
    });
    clock.advance(seconds(3));
    // "added" counts from the new time, as all that a call sees does.
    assert_eq!(calls.take(), ["one", "three", "added"]);
    clock.advance(seconds(9));
    assert_eq!(calls.take(), ["moved"]);
}

/// T-04.
#[test]
fn reset_counts_from_now_and_delay_from_the_old_deadline() {
    let clock = Clock::new();
    let calls = Calls::new();
    let start = clock.now();
    let call = noting(&clock, &calls, 10, "f");
    clock.advance(seconds(4));
    call.reset(seconds(10)).unwrap();
    assert_eq!(call.time(), Some(start + seconds(14)));
    call.reset(seconds(1)).unwrap();
    assert_eq!(call.time(), Some(start + seconds(5)));
    call.delay(seconds(2)).unwrap();
    assert_eq!(call.time(), Some(start + seconds(7)));

    clock.advance(seconds(3) - Duration::from_nanos(1));
    assert!(calls.take().is_empty());
    clock.advance(Duration::from_nanos(1));
    assert_eq!(calls.take(), ["f"]);
}

/// T-05.
#[test]
fn a_cancelled_call_is_not_made_and_cannot_be_moved() {
    let clock = Clock::new();
    let calls = Calls::new();
    let call = noting(&clock, &calls, 1, "f");
    call.cancel().unwrap();
    assert!(!call.is_active());
    assert!(clock.delayed_calls().is_empty());
    let refused = Err(DelayedCallError::AlreadyCancelled);
    assert_eq!(call.cancel(), refused);
    assert_eq!(call.reset(seconds(1)), refused);
    assert_eq!(call.delay(seconds(1)), refused);
    clock.advance(seconds(2));
    assert!(calls.take().is_empty());
}

/// T-05: after the call, and while it is being made.
#[test]
fn a_call_that_was_made_cannot_be_cancelled_or_moved() {
    let clock = Clock::new();
    let own = Rc::new(RefCell::new(None::<DelayedCall>));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let try_all = {
        let (own, seen) = (own.clone(), seen.clone());
        move || {
            let call = own.borrow().clone().unwrap();
            seen.borrow_mut().extend([
                call.cancel(),
                call.reset(seconds(1)),
                call.delay(seconds(1)),
            ]);
        }
    };
    *own.borrow_mut() = Some(clock.call_later(seconds(1), try_all.clone()));
    clock.advance(seconds(1));
    try_all();
    assert_eq!(seen.take(), [Err(DelayedCallError::AlreadyCalled); 6]);
    own.take();
}

/// What a call had captured goes away with the chance to make it.
#[test]
fn a_cancelled_call_drops_what_it_captured() {
    let clock = Clock::new();
    let (witness, is_dropped) = tracked();
    let call = clock.call_later(seconds(1), move || drop(witness));
    call.cancel().unwrap();
    assert!(is_dropped.get());
}

/// A call may hold the last handle of the clock, or a handle of itself.
#[test]
fn a_clock_that_is_dropped_drops_its_calls() {
    let (witness, is_dropped) = tracked();
    let clock = Clock::new();
    let call = clock.call_later(seconds(1), move || drop(witness));
    drop(clock);
    assert!(is_dropped.get());
    assert!(!call.is_active());
    assert_eq!(call.time(), None);
    assert_eq!(call.cancel(), Err(DelayedCallError::AlreadyCancelled));
}

/// A deadline that cannot be told is far away, and no reason to panic.
#[test]
fn the_longest_delay_is_far_away() {
    let clock = Clock::new();
    let calls = Calls::new();
    let call = clock.call_later(Duration::MAX, || ());
    call.reset(Duration::MAX).unwrap();
    call.delay(Duration::MAX).unwrap();
    noting(&clock, &calls, 1, "f");
    clock.advance(seconds(60 * 60 * 24 * 365));
    assert_eq!(calls.take(), ["f"]);
    assert!(call.is_active());
}
