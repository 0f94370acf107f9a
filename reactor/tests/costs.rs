//! What a Deferred costs: one allocation, one more for each callback, and no stack.
//!
//! The long chains run on a small stack, where recursion would overflow.

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use allocation_counter::measure;
use deferred_reactor::deferred::spawn;
use deferred_reactor::{Clock, Deferred, NoLostFailures, Resolver, sleep};
use support::{Oops, in_small_stack, stack_address};

const MILLION: usize = 1_000_000;

#[test]
fn a_pending_deferred_is_one_allocation() {
    let info = measure(|| drop(Deferred::<[u64; 8]>::pending()));
    assert_eq!((info.count_total, info.count_current), (1, 0));
}

#[test]
fn each_callback_is_one_allocation_and_firing_is_none() {
    for callbacks in [0, 1, 10, 100] {
        let mut ends = None;
        let adding = measure(|| {
            let (mut deferred, resolver) = Deferred::<u64>::pending();
            for n in 0..callbacks {
                deferred = match n % 4 {
                    0 => deferred.map(move |value| value + n),
                    1 => deferred.add_callback(move |value| Ok(value + n)),
                    2 => deferred.add_errback(move |_| Ok(n)),
                    _ => deferred.add_both(move |result| result),
                };
            }
            ends = Some((deferred, resolver));
        });
        assert_eq!(adding.count_total, 1 + callbacks);

        let (deferred, resolver) = ends.unwrap();
        let firing = measure(|| resolver.callback(1).unwrap());
        assert_eq!(firing.count_total, 0);
        // All but the last link have gone; with the handle that one goes as well.
        let ending = measure(|| assert!(deferred.result().is_ok()));
        assert_eq!(ending.count_total, 0);
        let freed = firing.count_current + ending.count_current;
        assert_eq!(freed, -(1 + callbacks as i64));
    }
}

#[test]
fn callbacks_on_a_fired_deferred_allocate_nothing() {
    let info = measure(|| {
        let mut deferred = Deferred::succeed(0_u64);
        for n in 0..100 {
            deferred = deferred
                .map(move |value| value + n)
                .add_errback(Err)
                .add_callback(|value| Deferred::succeed(value + 1));
        }
        assert_eq!(deferred.result().unwrap(), 5050);
    });
    assert_eq!(info.count_total, 0);
}

/// A wait costs nothing beside the two chains.
#[test]
fn waiting_for_another_deferred_allocates_nothing() {
    let (inner, fire_inner) = Deferred::<u64>::pending();
    let (outer, fire_outer) = Deferred::pending();
    let outer = outer.add_callback(move |()| inner);
    let info = measure(|| {
        fire_outer.callback(()).unwrap();
        fire_inner.callback(1).unwrap();
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(outer.result().unwrap(), 1);
}

/// The future, the block, and what its wakers share; none of them for an await.
#[test]
fn a_block_is_three_allocations_and_an_await_none() {
    let (deferred, resolver) = Deferred::<()>::pending();
    drop(spawn(deferred));
    resolver.callback(()).unwrap(); // the tables of this thread are there now
    let info = measure(|| {
        spawn(async { Deferred::succeed(()).await })
            .result()
            .unwrap()
    });
    assert_eq!((info.count_total, info.count_current), (3, 0));

    let (deferreds, resolvers): (Vec<_>, Vec<_>) = (0..100).map(|_| Deferred::pending()).unzip();
    let mut block = None;
    let spawning = measure(|| {
        block = Some(spawn(async move {
            let mut sum = 0;
            for deferred in deferreds {
                sum += deferred.await?;
            }
            Ok(sum)
        }));
    });
    assert_eq!(spawning.count_total, 3);
    let firing = measure(|| {
        for resolver in resolvers {
            resolver.callback(1_u32).unwrap();
        }
    });
    assert_eq!(firing.count_total, 0);
    assert_eq!(block.unwrap().result().unwrap(), 100);
}

/// A pending Deferred and a million callbacks on it.
fn long_chain() -> (Deferred<usize>, Resolver<usize>) {
    let (mut deferred, resolver) = Deferred::pending();
    for _ in 0..MILLION {
        deferred = deferred.map(|n| n + 1);
    }
    (deferred, resolver)
}

#[test]
fn a_chain_of_a_million_callbacks_runs_in_constant_stack() {
    in_small_stack(|| {
        let (deferred, resolver) = long_chain();
        resolver.callback(0).unwrap();
        assert_eq!(deferred.result().unwrap(), MILLION);
    });
}

/// However it ends: failed, abandoned, cancelled, and with or without its handle.
#[test]
fn a_chain_of_a_million_callbacks_goes_away_in_constant_stack() {
    in_small_stack(|| {
        for keeps_handle in [true, false] {
            let ends: [fn(Resolver<usize>); 3] = [
                drop,
                |resolver| resolver.errback(Oops("no")).unwrap(),
                |resolver| resolver.callback(0).unwrap(),
            ];
            for end in ends {
                let (deferred, resolver) = long_chain();
                let mut handle = Some(deferred.add_errback(|_| Ok(0)));
                handle = handle.filter(|_| keeps_handle);
                end(resolver);
                drop(handle);
            }
            let (deferred, resolver) = long_chain();
            let deferred = deferred.add_errback(|_| Ok(0));
            deferred.cancel();
            let _keep = (keeps_handle.then_some(deferred), resolver);
        }
    });
}

const LINKS: usize = 100_000;

/// `links` Deferreds, each returned from a callback of the one before; the outermost, and the
/// resolver of the innermost. `more` is added to each of them.
///
/// The waits begin with the outermost, or with the innermost.
fn nested(
    links: usize,
    outermost_first: bool,
    more: fn(Deferred<usize>) -> Deferred<usize>,
) -> (Deferred<usize>, Resolver<usize>) {
    let (mut deferred, innermost) = Deferred::pending();
    let mut resolvers = Vec::new();
    for _ in 0..links {
        let (outer, resolver) = Deferred::pending();
        let inner = deferred;
        deferred = more(outer.add_callback(move |()| inner));
        resolvers.push(resolver);
    }
    if outermost_first {
        resolvers.reverse();
    }
    for resolver in resolvers {
        resolver.callback(()).expect("it is fired once");
    }
    (deferred, innermost)
}

/// Both where the wait is handed on and where each chain has something to do afterwards.
const MORE: [fn(Deferred<usize>) -> Deferred<usize>; 2] = [|d| d, |d| d.map(|n| n + 1)];

/// D-23.
#[test]
fn nested_deferreds_complete_at_a_stack_depth_that_does_not_depend_on_their_number() {
    fn depth(links: usize, outermost_first: bool, more: usize) -> usize {
        let below = stack_address();
        let (deferred, innermost) = nested(links, outermost_first, MORE[more]);
        let above = Rc::new(Cell::new(0));
        let seen = above.clone();
        let deferred = deferred.map(move |n| {
            seen.set(stack_address());
            n
        });
        innermost.callback(0).unwrap();
        assert_eq!(deferred.result().unwrap(), more * links);
        below - above.get()
    }
    in_small_stack(|| {
        for outermost_first in [true, false] {
            for more in [0, 1] {
                let deep = depth(LINKS, outermost_first, more);
                assert_eq!(deep, depth(10, outermost_first, more));
            }
        }
    });
}

#[test]
fn nested_deferreds_are_cancelled_and_abandoned_in_constant_stack() {
    in_small_stack(|| {
        for outermost_first in [true, false] {
            for more in MORE {
                let (deferred, innermost) = nested(LINKS, outermost_first, more);
                deferred.cancel();
                assert!(deferred.result().is_err());
                assert!(!innermost.is_pending());

                let (deferred, innermost) = nested(LINKS, outermost_first, more);
                drop(innermost);
                assert!(deferred.result().is_err());

                let (deferred, innermost) = nested(LINKS, outermost_first, more);
                drop(deferred.add_errback(|_| Ok(0)));
                drop(innermost);
            }
        }
    });
}

/// Where the present round of a loop waits to be fired.
type Round = Rc<RefCell<Option<Resolver<usize>>>>;

/// A loop without an end: each callback returns the next round. Every hundredth round fails.
fn looping(round: Round, stack: Rc<Cell<usize>>) -> Deferred<()> {
    let (deferred, resolver) = Deferred::pending();
    *round.borrow_mut() = Some(resolver);
    deferred.add_both(move |_| {
        stack.set(stack_address());
        looping(round, stack)
    })
}

/// B-05.
#[test]
fn a_recursive_loop_runs_for_ever_in_constant_memory_and_stack() {
    in_small_stack(|| {
        let _guard = NoLostFailures::new();
        type Around = fn(Deferred<()>) -> Option<Deferred<()>>;
        let arounds: [Around; 4] = [
            Some,
            |inside| {
                drop(inside);
                None
            },
            |inside| {
                Some(
                    Deferred::succeed(())
                        .add_callback(move |()| inside)
                        .map(|()| ()),
                )
            },
            |inside| {
                let (outer, resolver) = Deferred::pending();
                let outer = outer.add_callback(move |()| inside);
                resolver.callback(()).unwrap();
                Some(outer.map(|()| ()))
            },
        ];
        // The full million for the plain loop; a leak or a growing stack shows sooner, too.
        for (around, times) in arounds.into_iter().zip([MILLION, LINKS, LINKS, LINKS]) {
            let (round, stack) = (Round::default(), Rc::new(Cell::new(0)));
            let handle = around(looping(round.clone(), stack.clone()));
            let go_round = |times: usize| {
                for n in 0..times {
                    let resolver = round.take().unwrap();
                    if n % 100 == 0 {
                        resolver.errback(Oops("every hundredth")).unwrap();
                    } else {
                        resolver.callback(n).unwrap();
                    }
                }
                stack.get()
            };
            let measured = |times| {
                let mut stack = 0;
                let info = measure(|| stack = go_round(times));
                (info, stack)
            };
            let (_, stack_at_first) = measured(100);
            let (info, stack_at_last) = measured(times);
            assert_eq!(stack_at_last, stack_at_first);
            assert_eq!((info.count_current, info.bytes_current), (0, 0));
            assert!(info.bytes_max < 1000, "{} bytes at most", info.bytes_max);
            // Cancelled, the loop would go round once more; this is the end of it.
            std::mem::forget(round.take());
            drop(handle);
        }
    });
}

/// B-05: with timers and deadlines, as real loops have them.
#[test]
fn a_loop_with_timers_and_timeouts_leaves_nothing_behind() {
    fn poll(clock: Clock) -> Deferred<()> {
        sleep(&clock, Duration::from_secs(1))
            .add_timeout(Duration::from_secs(2), &clock)
            .add_callback(move |()| poll(clock))
    }
    in_small_stack(|| {
        let clock = Clock::new();
        let polling = poll(clock.clone());
        let go_round = |times: usize| {
            for _ in 0..times {
                clock.advance(Duration::from_secs(1));
            }
        };
        go_round(1000);
        let info = measure(|| go_round(100_000));
        assert_eq!((info.count_current, info.bytes_current), (0, 0));
        assert!(!polling.is_fired());
        polling.cancel();
        assert!(polling.result().is_err());
        assert!(clock.delayed_calls().is_empty());
    });
}
