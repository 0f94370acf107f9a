//! Law 2: the stack does not grow with what is put together, however it is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use deferred_reactor::deferred::spawn;
use deferred_reactor::{Deferred, DeferredLock, Failure, gather_results, race};

const MANY: usize = 100_000;

/// D-24: each Deferred fires the next.
#[test]
fn a_long_row_of_chained_deferreds_takes_no_stack() {
    for fails in [false, true] {
        let (first, resolver) = Deferred::pending();
        let (mut last, order) = (first, Rc::new(Cell::new(0)));
        for place in 0..MANY {
            let (next, target) = Deferred::pending();
            let order = order.clone();
            let seen = last.add_both(move |result| {
                assert_eq!(order.replace(place + 1), place);
                result
            });
            drop(seen.chain_deferred(target));
            last = next;
        }
        match fails {
            false => resolver.callback(1).unwrap(),
            true => resolver.errback(Failure::message("no")).unwrap(),
        }
        assert_eq!(order.get(), MANY);
        assert_eq!(last.result().is_err(), fails);
    }
}

/// D-54, D-57: lists of lists of lists, and races of races.
#[test]
fn lists_within_lists_take_no_stack() {
    let (first, resolver) = Deferred::pending();
    let mut last: Deferred<i32> = first;
    for place in 0..MANY {
        last = match place % 2 {
            0 => gather_results([last, Deferred::succeed(1)]).map(|both| both[0]),
            _ => race([last]).map(|(_, value)| value),
        };
    }
    resolver.callback(7).unwrap();
    assert_eq!(last.result().unwrap(), 7);
}

/// D-63, D-69: one of each kind within the other.
#[test]
fn a_row_of_everything_takes_no_stack() {
    let lock = DeferredLock::new();
    let (first, resolver) = Deferred::pending();
    let mut last: Deferred<usize> = first;
    for place in 0..MANY {
        let inner = last;
        last = match place % 6 {
            0 => spawn(async move { Ok(inner.await? + 1) }),
            1 => Deferred::succeed(()).add_callback(move |()| inner),
            2 => {
                let (outer, fire) = Deferred::<()>::pending();
                let outer = outer.add_callback(move |()| inner);
                fire.callback(()).unwrap();
                outer
            }
            3 => {
                let mut paused = inner.map(|n| n + 1);
                let pauser = paused.pauser();
                pauser.pause();
                pauser.unpause();
                paused
            }
            4 => {
                let (copy, target) = Deferred::pending();
                drop(inner.chain_deferred(target));
                copy
            }
            _ => gather_results([inner]).map(|all| all[0]),
        };
    }
    // The rest of the row waits for the lock as well.
    let permit = lock.acquire().result().unwrap();
    let waiting = lock.run(move || last);
    permit.release();
    resolver.callback(0).unwrap();
    assert!(waiting.result().unwrap() > 0);
}

/// D-24: where a row is short, the target has fired when `chain_deferred` returns, also inside of
/// others.
#[test]
fn a_target_fires_at_once_inside_the_callback_of_another() {
    let (first, target) = Deferred::pending();
    let seen = Rc::new(RefCell::new(None));
    let inside = seen.clone();
    let ended = first.map(move |n: i32| {
        let (copy, target) = Deferred::pending();
        assert!(Deferred::succeed(n + 1).chain_deferred(target).is_fired());
        *inside.borrow_mut() = copy.try_result().ok().and_then(Result::ok);
    });
    drop(Deferred::succeed(1).chain_deferred(target));
    ended.result().unwrap();
    assert_eq!(seen.take(), Some(2));
}
