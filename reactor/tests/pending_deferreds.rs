//! What a program is waiting for: pending Deferreds by the line that made them.
//!
//! Tracking belongs to a thread, and each test has its own.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use deferred_reactor::deferred::{
    PendingDeferreds, PendingLine, is_tracking_pending, pending_deferreds, track_pending,
};
use deferred_reactor::{
    Clock, Deferred, Failure, NoLostFailures, Reactor, Resolver, defer_to_thread, gather_results,
    sleep,
};

type Ends = (Deferred<u32>, Resolver<u32>);

#[track_caller]
fn here() -> u32 {
    Location::caller().line()
}

/// The lines of this file that Deferreds were made in, most first, and how many.
fn lines() -> Vec<(u32, usize)> {
    counts(&pending_deferreds())
}

fn counts(pending: &PendingDeferreds) -> Vec<(u32, usize)> {
    let lines = pending.lines();
    let sum: usize = lines.iter().map(|line| line.count).sum();
    assert_eq!(sum, pending.count());
    lines
        .iter()
        .map(|line| {
            assert_eq!(line.made.file(), file!());
            (line.made.line(), line.count)
        })
        .collect()
}

/// B-07.
#[test]
fn pending_deferreds_are_counted_by_the_line_that_made_them() {
    assert!(!is_tracking_pending());
    track_pending(true);
    assert!(is_tracking_pending());
    let many: Vec<Ends> = (0..3).map(|_| Deferred::pending()).collect();
    let (many_line, one_line) = (here() - 1, here() + 1);
    let one: Ends = Deferred::with_canceller(drop);
    let _fired = Deferred::succeed(1);
    assert_eq!(lines(), [(many_line, 3), (one_line, 1)]);

    let shown = pending_deferreds().lines()[0].to_string();
    let want = format!("3 made at {}:{many_line}:", file!());
    assert!(shown.starts_with(&want), "{shown}");
    drop(many);
    assert_eq!(lines(), [(one_line, 1)]);
    drop(one);
    assert_eq!(lines(), []);
}

/// B-07.
#[test]
fn a_deferred_is_pending_until_its_result_is_decided_in_whatever_way() {
    let lost = NoLostFailures::new();
    track_pending(true);
    let ends: [fn(Ends); 10] = [
        |(_deferred, resolver)| resolver.callback(1).unwrap(),
        |(_deferred, resolver)| resolver.errback(Failure::message("no")).unwrap(),
        |(_deferred, resolver)| drop(resolver),
        |(deferred, _resolver)| deferred.cancel(),
        |(deferred, resolver)| {
            deferred.cancel();
            assert_eq!(lines(), []);
            resolver.callback(1).unwrap(); // late
        },
        |(deferred, resolver)| {
            drop(deferred);
            assert_eq!(lines().len(), 1); // its callbacks would still run
            drop(resolver);
        },
        |(deferred, resolver)| {
            drop(resolver);
            drop(deferred);
        },
        |(mut deferred, resolver)| {
            deferred.pause();
            resolver.callback(1).unwrap(); // decided, and held back
        },
        |(deferred, resolver)| {
            let deferred = deferred.map(|_| panic!("of a callback"));
            resolver.callback(1).unwrap();
            drop::<Deferred<()>>(deferred);
        },
        |(deferred, resolver)| {
            let clock = Clock::new();
            let deferred = deferred.add_timeout(Duration::from_secs(1), &clock);
            clock.advance(Duration::from_secs(1));
            assert_eq!(lines(), []);
            drop((deferred, resolver));
        },
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let made = Deferred::pending();
        assert_eq!(lines().len(), 1);
        end(made);
        assert_eq!(lines(), [], "ending {n}");
    }
    assert!(!lost.flush().is_empty());
}

/// B-07: a canceller is asked before it is decided, and may look at the list.
#[test]
fn a_deferred_is_pending_while_its_canceller_runs() {
    let lost = NoLostFailures::new();
    track_pending(true);
    let cancellers: [fn(Resolver<u32>); 3] = [
        |resolver| {
            assert_eq!(lines().len(), 1);
            resolver.callback(1).unwrap();
            assert_eq!(lines(), []);
        },
        |_| assert_eq!(lines().len(), 1),
        |_| panic!("a broken canceller"),
    ];
    for canceller in cancellers {
        let (deferred, _resolver): Ends = Deferred::with_canceller(canceller);
        deferred.cancel();
        assert_eq!(lines(), []);
    }
    lost.flush();
}

/// B-07: what a chain waits for is the Deferred that has not fired, not the one that did.
#[test]
fn a_chain_that_waits_is_pending_where_the_other_was_made() {
    track_pending(true);
    let (outer, start) = Deferred::pending();
    let (inner, resolver): Ends = Deferred::pending();
    let inner_line = here() - 1;
    let outer = outer.add_callback(move |()| inner);
    start.callback(()).unwrap();
    assert_eq!(lines(), [(inner_line, 1)]);
    assert!(!outer.is_fired());
    resolver.callback(1).unwrap();
    assert_eq!(lines(), []);
    assert_eq!(outer.result().unwrap(), 1);
}

/// B-07.
#[test]
fn the_age_is_that_of_the_oldest_that_is_still_pending() {
    track_pending(true);
    let mut made: Vec<(Instant, Ends, Instant)> = (0..4)
        .map(|_| (Instant::now(), Deferred::pending(), Instant::now()))
        .collect();
    let mut expect = |gone: usize| {
        drop(made.remove(gone));
        let Some((before, _, after)) = made.first() else {
            return assert_eq!(lines(), []);
        };
        let least = after.elapsed();
        let line = pending_deferreds().lines()[0];
        let most = before.elapsed();
        assert!((least..=most).contains(&line.oldest), "{line}");
        assert_eq!(line.count, made.len());
    };
    for gone in [1, 0, 1, 0] {
        expect(gone);
    }
}

/// B-07: switched on and off at any moment, it neither counts wrong nor loses count.
#[test]
fn those_made_before_tracking_began_or_ended_are_not_counted() {
    let early: Ends = Deferred::pending();
    assert_eq!(lines(), []);
    track_pending(true);
    let counted: Ends = Deferred::pending();
    let line = here() - 1;
    assert_eq!(lines(), [(line, 1)]);
    track_pending(true); // again: nothing is forgotten
    assert_eq!(lines(), [(line, 1)]);
    early.1.callback(1).unwrap();
    assert_eq!(lines(), [(line, 1)]);
    track_pending(false);
    assert_eq!(lines(), []);
    let unseen: Ends = Deferred::pending();
    track_pending(true);
    unseen.1.callback(1).unwrap();
    counted.1.callback(1).unwrap();
    assert_eq!(lines(), []);
    let again: Ends = Deferred::pending();
    assert_eq!(lines(), [(here() - 1, 1)]);
    drop(again);
    assert_eq!(lines(), []);
}

/// B-07: asked from another thread, as a scrape does.
#[test]
fn another_thread_can_ask_what_this_one_waits_for() {
    track_pending(true);
    let pending = pending_deferreds();
    let _waiting: Ends = Deferred::pending();
    let line = here() - 1;
    let seen = thread::spawn(move || {
        // What it waits for itself is its own.
        track_pending(true);
        let _own: Ends = Deferred::pending();
        counts(&pending)
    });
    assert_eq!(seen.join().unwrap(), [(line, 1)]);
}

/// B-07: the list outlives its thread, and a Deferred may be dropped while that is torn down.
#[test]
fn the_list_of_a_thread_that_has_ended_can_be_read() {
    thread_local! {
        static KEPT: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    }
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        // Made before the list, so that it goes after it.
        KEPT.with_borrow_mut(|kept| kept.reserve(1));
        track_pending(true);
        KEPT.with_borrow_mut(|kept| kept.push(Deferred::pending()));
        tell.send(pending_deferreds()).unwrap();
    })
    .join()
    .unwrap();
    let pending = told.recv().unwrap();
    assert!(pending.count() <= 1);
}

/// B-07: in a program, with what the library itself makes.
#[test]
fn a_program_can_tell_what_it_waits_for() {
    track_pending(true);
    let reactor = Reactor::new().unwrap();
    let nap = sleep(&reactor, Duration::from_secs(3600));
    let nap_line = here() - 1;
    let (go_on, wait) = mpsc::channel::<()>();
    let job = defer_to_thread(&reactor, move || Ok(wait.recv()?));
    let job_line = here() - 1;
    let stop = reactor.clone();
    reactor.call_when_running(move || {
        // The startup of the reactor may be waiting for something itself.
        let waiting = pending_deferreds().lines();
        let count = |line| {
            let of_line =
                |known: &&PendingLine| known.made.file() == file!() && known.made.line() == line;
            waiting.iter().find(of_line).map(|known| known.count)
        };
        assert_eq!((count(nap_line), count(job_line)), (Some(1), Some(1)));
        go_on.send(()).unwrap();
    });
    let job = job.add_both(move |result| {
        stop.stop()?;
        result
    });
    let lost = NoLostFailures::new();
    reactor.run_without_signals().unwrap();
    assert!(job.result().is_ok());
    assert!(nap.result().is_err()); // the reactor has gone without it
    assert_eq!(lines(), []);
    assert!(lost.flush().is_empty());
}

/// B-07: a future is pending where it was spawned, until it ends, in whatever way.
#[test]
fn a_spawned_future_is_pending_where_it_was_spawned() {
    let lost = NoLostFailures::new();
    track_pending(true);
    let reactor = Reactor::new().unwrap();
    let ends: [fn(Ends, Deferred<u32>); 4] = [
        |(.., resolver), _| resolver.callback(1).unwrap(),
        |(.., resolver), _| drop(resolver),
        |_, block| block.cancel(),
        |(.., resolver), block| {
            drop(block);
            resolver.callback(1).unwrap();
        },
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let (inner, resolver): Ends = Deferred::pending();
        let inner_line = here() - 1;
        let block = reactor.spawn(async move { Ok(inner.await? + 1) });
        let block_line = here() - 1;
        let mut waiting = lines();
        waiting.sort();
        assert_eq!(waiting, [(inner_line, 1), (block_line, 1)]);
        end((Deferred::succeed(0), resolver), block);
        assert_eq!(lines(), [], "ending {n}");
    }
    // Those that end at once were never waited for.
    assert_eq!(reactor.spawn(async { Ok(1) }).result().unwrap(), 1);
    assert_eq!(lines(), []);
    lost.flush();
}

/// B-07: what stands for several is pending in its own line.
#[test]
fn what_gathers_others_is_pending_where_it_was_made() {
    track_pending(true);
    let (one, first): Ends = Deferred::pending();
    let (other, second): Ends = Deferred::pending();
    let both = gather_results([one, other]);
    let line = here() - 1;
    first.callback(1).unwrap();
    let mut waiting = lines();
    waiting.sort();
    assert_eq!(waiting, [(line - 1, 1), (line, 1)]);
    second.callback(2).unwrap();
    assert_eq!(lines(), []);
    assert_eq!(both.result().unwrap(), [1, 2]);
}
