//! Locks and semaphores: who may go on, and who waits for how long.
//!
//! A permit is given back by dropping it, so that releasing what one does not hold, or twice, does
//! not compile (`Permit` has the example).

mod support;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::rc::Rc;

use allocation_counter::measure;
use deferred_reactor::{
    CancelledError, Canceller, Deferred, DeferredLock, DeferredSemaphore, Failure, NoLostFailures,
    PanicError, Permit,
};
use proptest::prelude::*;
use support::{Bomb, Calls, Oops, in_small_stack, keep_log, logged, stack_address, tracked};

fn semaphore(tokens: usize) -> DeferredSemaphore {
    DeferredSemaphore::new(NonZeroUsize::new(tokens).unwrap())
}

/// Asks for the lock, notes when it comes, and keeps it.
fn ask(lock: &DeferredLock, name: &'static str, calls: &Calls) -> Deferred<Permit> {
    let calls = calls.clone();
    lock.acquire().map(move |permit| {
        calls.push(name);
        permit
    })
}

/// D-69.
#[test]
fn a_lock_goes_from_one_to_the_next_in_the_order_of_arrival() {
    let calls = Calls::new();
    let lock = DeferredLock::new();
    assert!(!lock.is_locked());
    let first = ask(&lock, "first", &calls);
    assert_eq!(calls.take(), ["first"]);
    assert!(lock.is_locked());
    let [second, third] = ["second", "third"].map(|name| ask(&lock, name, &calls));
    assert!(calls.take().is_empty());
    assert_eq!(lock.waiting(), 2);

    first.result().unwrap().release();
    assert_eq!(calls.take(), ["second"]);
    assert!(lock.is_locked());
    drop(second.result().unwrap()); // the same
    assert_eq!(calls.take(), ["third"]);
    assert_eq!((lock.is_locked(), lock.waiting()), (true, 0));
    drop(third); // the handle, and what is in it
    assert!(!lock.is_locked());
}

/// D-69: whoever looks, at whatever moment, even where it is released inside a turn.
#[test]
fn a_lock_is_never_seen_unlocked_between_two_owners() {
    let calls = Calls::new();
    let lock = DeferredLock::new();
    let first = lock.acquire().result().unwrap();
    for name in ["second", "third"] {
        let (lock, seen, calls) = (lock.clone(), lock.clone(), calls.clone());
        drop(lock.acquire().map(move |permit| {
            calls.push(format!("{name} {}", seen.is_locked()));
            permit.release();
            // The third one has it coming, so that nobody can step in between.
            calls.push(format!("{name} has released {}", seen.is_locked()));
            let barges_in = seen.acquire();
            calls.push(format!("{name} again {}", barges_in.is_fired()));
            drop(barges_in);
        }));
    }
    first.release();
    assert_eq!(
        calls.take(),
        [
            "second true",
            "second has released true",
            "second again false",
            "third true",
            // Only the one who was dropped waits behind the third.
            "third has released true",
            "third again false",
        ]
    );
    assert!(!lock.is_locked());
}

/// D-70.
#[test]
fn run_holds_the_lock_until_the_function_has_ended_and_passes_the_result_on() {
    let lock = DeferredLock::new();
    let (inner, fire) = Deferred::pending();
    let ran = lock.run(move || inner);
    assert!(lock.is_locked());
    fire.callback(5).unwrap();
    assert!(!lock.is_locked());
    assert_eq!(ran.result().unwrap(), 5);

    let (inner, fire) = Deferred::<i32>::pending();
    let ran = lock.run(move || inner);
    assert!(lock.is_locked());
    fire.errback(Oops("later")).unwrap();
    assert!(!lock.is_locked());
    assert_eq!(ran.result().unwrap_err().check(), Some(&Oops("later")));

    let (inner, fire) = Deferred::<i32>::pending();
    let ran = lock.run(move || inner.map(|_| panic!("a callback")));
    fire.callback(1).unwrap();
    assert!(!lock.is_locked());
    let result: Result<(), _> = ran.result();
    assert!(result.unwrap_err().is::<PanicError>());
}

/// D-70: where it ends at once, and for one who had to wait.
#[test]
fn run_releases_after_a_value_an_error_or_a_panic() {
    type End = fn() -> Result<i32, Failure>;
    let ends: [(End, &str); 3] = [
        (|| Ok(1), "Ok(1)"),
        (|| Err(Oops("no").into()), "Err(no)"),
        (|| panic!("at the disco"), "Err(panicked: at the disco)"),
    ];
    for (end, want) in ends {
        for waits in [false, true] {
            let lock = DeferredLock::new();
            let before = waits.then(|| lock.acquire().result().unwrap());
            let seen = lock.clone();
            let ran = lock.run(move || {
                assert!(seen.is_locked());
                end()
            });
            assert_eq!(ran.is_fired(), !waits);
            drop(before);
            assert!(!lock.is_locked());
            assert_eq!(format!("{:?}", ran.result()), want);
        }
    }
}

/// D-70: the next one runs before the result of the first is passed on, as its turn has come.
#[test]
fn run_releases_before_it_passes_the_result_on() {
    let calls = Calls::new();
    let lock = DeferredLock::new();
    let (inner, fire) = Deferred::pending();
    let seen = lock.clone();
    let noted = calls.clone();
    let first = lock.run(move || inner).map(move |n: i32| {
        noted.push(format!("first is through, locked {}", seen.is_locked()));
        n
    });
    let noted = calls.clone();
    let second = lock.run(move || {
        noted.push("second");
        Ok(())
    });
    fire.callback(1).unwrap();
    assert_eq!(calls.take(), ["second", "first is through, locked false"]);
    first.result().unwrap();
    second.result().unwrap();
}

/// D-70: a panic names the line that gave the function.
#[test]
fn a_panic_under_the_lock_names_the_line_of_the_run() {
    let run: Deferred<()> = DeferredLock::new().run(|| -> Result<(), Failure> { panic!("no") });
    let line = line!() - 1;
    assert_eq!(run.result().unwrap_err().location().line(), line);
}

/// D-71: the compiler is the proof; what is left is that one release is one token.
#[test]
fn a_permit_is_one_token_however_it_goes() {
    let ends: [fn(Permit); 4] = [
        Permit::release,
        drop,
        |permit| drop(Deferred::succeed(permit)),
        |permit| drop(Rc::new(RefCell::new(Some(permit))).take()),
    ];
    for end in ends {
        let semaphore = semaphore(2);
        let one = semaphore.acquire().result().unwrap();
        let two = semaphore.acquire().result().unwrap();
        assert_eq!(semaphore.tokens(), 0);
        end(one);
        assert_eq!(semaphore.tokens(), 1);
        end(two);
        assert_eq!((semaphore.tokens(), semaphore.limit()), (2, 2));
    }
}

/// D-72.
#[test]
fn cancelling_an_acquire_that_has_fired_changes_nothing() {
    let lock = DeferredLock::new();
    let first = lock.acquire();
    first.cancel();
    assert!(lock.is_locked());

    let second = lock.acquire();
    drop(first);
    second.cancel(); // it had to wait, and has fired
    assert!(lock.is_locked());
    second.result().unwrap().release();
    assert!(!lock.is_locked());
}

/// D-72.
#[test]
fn an_acquire_that_is_cancelled_while_it_waits_leaves_the_line() {
    let calls = Calls::new();
    for cancelled in 0..3 {
        let lock = DeferredLock::new();
        let held = lock.acquire().result().unwrap();
        let mut waiting: Vec<_> = ["a", "b", "c"].map(|name| ask(&lock, name, &calls)).into();
        let gone = waiting.remove(cancelled);
        gone.cancel();
        assert!(gone.result().unwrap_err().is::<CancelledError>());
        assert_eq!(lock.waiting(), 2);
        held.release();
        for waiter in waiting {
            waiter.result().unwrap().release();
        }
        let mut want = vec!["a", "b", "c"];
        want.remove(cancelled);
        assert_eq!(calls.take(), want);
        assert!(!lock.is_locked());
    }
}

/// D-72: for a semaphore, and in the errback it has left already.
#[test]
fn a_cancelled_acquire_of_a_semaphore_leaves_its_token_to_the_next() {
    let semaphore = semaphore(2);
    let held = [(); 2].map(|()| semaphore.acquire().result().unwrap());
    let seen = semaphore.clone();
    let cancelled = semaphore.acquire().add_errback(move |failure| {
        assert_eq!(seen.waiting(), 1);
        Err(failure)
    });
    let next = semaphore.acquire();
    cancelled.cancel();
    assert!(cancelled.result().unwrap_err().is::<CancelledError>());
    drop(held);
    assert!(next.is_fired());
    assert_eq!(semaphore.tokens(), 1);
}

/// D-72: a function that was cancelled before its turn is never called; after that its Deferred is
/// cancelled, and the lock is released when that has ended.
#[test]
fn a_run_can_be_cancelled_before_and_during_its_turn() {
    let calls = Calls::new();
    let lock = DeferredLock::new();
    let (canceller_calls, function_calls) = (calls.clone(), calls.clone());
    let (inner, _resolver) = Deferred::<()>::with_canceller(move |_| canceller_calls.push("inner"));
    let running = lock.run(move || inner);
    let waiting = lock.run(move || {
        function_calls.push("called");
        Ok(())
    });
    waiting.cancel();
    assert!(waiting.result().unwrap_err().is::<CancelledError>());
    assert!(calls.take().is_empty() && lock.is_locked());

    running.cancel();
    assert_eq!(calls.take(), ["inner"]);
    assert!(running.result().unwrap_err().is::<CancelledError>());
    assert!(!lock.is_locked());
}

/// D-73.
#[test]
fn a_semaphore_lets_as_many_go_on_as_it_has_tokens() {
    for tokens in 1..=4 {
        let semaphore = semaphore(tokens);
        let mut held: Vec<_> = (0..tokens).map(|_| semaphore.acquire()).collect();
        assert!(held.iter().all(Deferred::is_fired));
        assert_eq!(semaphore.tokens(), 0);
        let last = semaphore.acquire();
        assert!(!last.is_fired());
        assert_eq!(semaphore.waiting(), 1);
        held.pop().unwrap().result().unwrap().release();
        assert!(last.is_fired());
        assert_eq!((semaphore.tokens(), semaphore.waiting()), (0, 0));
    }
}

/// D-74: there is no such number; what is left is the smallest.
#[test]
fn a_semaphore_of_no_tokens_cannot_be_written_down() {
    assert!(NonZeroUsize::new(0).is_none());
    assert_eq!(DeferredSemaphore::new(NonZeroUsize::MIN).limit(), 1);
}

/// A waiter whose handle was dropped is passed over, or has its callbacks run.
#[test]
fn a_dropped_acquire_does_not_swallow_the_lock() {
    let calls = Calls::new();
    let lock = DeferredLock::new();
    let held = lock.acquire().result().unwrap();
    drop(lock.acquire());
    drop(ask(&lock, "dropped with a callback", &calls));
    drop(lock.acquire());
    let last = ask(&lock, "last", &calls);
    held.release();
    assert_eq!(calls.take(), ["dropped with a callback", "last"]);
    drop(last);
    assert!(!lock.is_locked());
}

/// The lock lives as long as anybody holds it or waits for it.
#[test]
fn those_who_wait_are_served_when_no_handle_is_left() {
    let lock = DeferredLock::new();
    let held = lock.acquire().result().unwrap();
    let waiting = lock.acquire();
    drop(lock);
    assert!(!waiting.is_fired());
    held.release();
    assert!(waiting.is_fired());
}

/// Releasing, acquiring, cancelling and running inside callbacks of those who waited.
#[test]
fn a_lock_may_be_used_inside_the_callbacks_of_its_waiters() {
    let calls = Calls::new();
    let lock = DeferredLock::new();
    let held = lock.acquire().result().unwrap();
    let victim: Rc<RefCell<Canceller>> = Rc::default();
    let (cancels, again, noted) = (victim.clone(), lock.clone(), calls.clone());
    drop(lock.acquire().map(move |permit| {
        noted.push("one");
        permit.release();
        cancels.borrow().cancel();
        let inside = noted.clone();
        drop(again.run(move || {
            inside.push("run from one");
            Ok(())
        }));
        noted.push("one is through");
    }));
    let noted = calls.clone();
    let cancelled = ask(&lock, "never", &calls).add_errback(move |failure| {
        noted.push("cancelled");
        Err(failure)
    });
    *victim.borrow_mut() = cancelled.canceller();
    drop(ask(&lock, "three", &calls));
    held.release();
    assert_eq!(
        calls.take(),
        [
            "one",
            "cancelled",
            "one is through",
            "three",
            "run from one"
        ]
    );
    assert!(cancelled.result().is_err());
    assert!(!lock.is_locked() && lock.waiting() == 0);
}

/// Law 2: each one releases in its callback.
#[test]
fn a_million_waiters_pass_the_lock_on_in_constant_stack() {
    in_small_stack(|| {
        let lock = DeferredLock::new();
        let held = lock.acquire().result().unwrap();
        let (passed, depths) = (Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
        for n in 0..1_000_000 {
            let (passed, depths) = (passed.clone(), depths.clone());
            drop(lock.acquire().map(move |permit| {
                passed.set(passed.get() + 1);
                if n == 10 || n == 999_999 {
                    depths.borrow_mut().push(stack_address());
                }
                drop(permit);
            }));
        }
        held.release();
        assert_eq!(passed.get(), 1_000_000);
        assert_eq!(depths.borrow()[0], depths.borrow()[1]);
        assert!(!lock.is_locked());
    });
}

/// Law 2: the same for functions, and for handles that nobody kept.
#[test]
fn a_long_line_of_any_kind_takes_no_stack() {
    in_small_stack(|| {
        let lock = DeferredLock::new();
        let held = lock.acquire().result().unwrap();
        let ran = Rc::new(Cell::new(0));
        for _ in 0..50_000 {
            let counts = ran.clone();
            drop(lock.run(move || {
                counts.set(counts.get() + 1);
                Ok(())
            }));
            drop(lock.acquire());
        }
        held.release();
        assert_eq!(ran.get(), 50_000);
        assert!(!lock.is_locked());
    });
}

/// Many may give up, from any place in a line that does not move.
#[test]
fn cancelled_waiters_leave_nothing_behind() {
    let _guard = NoLostFailures::new();
    let lock = DeferredLock::new();
    let held = lock.acquire().result().unwrap();
    let before = measure(|| {
        let mut waiting: VecDeque<_> = (0..10).map(|_| lock.acquire()).collect();
        for n in 0..10_000 {
            waiting.push_back(lock.acquire());
            let place = n * 7 % waiting.len();
            let gone = waiting.remove(place).unwrap();
            gone.cancel();
            drop(gone.add_errback(|_| Err(Oops("handled").into())).result());
        }
        assert_eq!(lock.waiting(), 10);
        for waiter in waiting {
            waiter.cancel();
            drop(waiter.result());
        }
    });
    assert_eq!(lock.waiting(), 0);
    assert!(before.bytes_max < 100_000, "{} bytes", before.bytes_max);
    assert!(
        before.bytes_current < 2_000,
        "{} bytes",
        before.bytes_current
    );
    held.release();
}

/// What a function or a callback holds goes when its turn is over, or will not come.
#[test]
fn closures_that_wait_for_the_lock_are_dropped_in_time() {
    let lock = DeferredLock::new();
    let held = lock.acquire().result().unwrap();
    let ((ran, ran_dropped), (cancelled, cancelled_dropped)) = (tracked(), tracked());
    let runs = lock.run(move || {
        drop(ran);
        Ok(())
    });
    let never = lock.run(move || {
        drop(cancelled);
        Ok(())
    });
    never.cancel();
    assert!(cancelled_dropped.get() && !ran_dropped.get());
    drop(never.result());
    held.release();
    assert!(ran_dropped.get());
    runs.result().unwrap();
}

/// The panic of a value that nobody wanted is logged, and the next one goes on.
#[test]
fn a_drop_that_panics_at_its_turn_does_not_stop_the_line() {
    keep_log();
    let lock = DeferredLock::new();
    let held = lock.acquire().result().unwrap();
    drop(lock.acquire().map(|permit| {
        drop(permit);
        Bomb // dropped by nobody in particular
    }));
    let next = lock.acquire();
    held.release();
    assert!(next.is_fired());
    let log = logged();
    assert_eq!(log.len(), 1);
    assert!(log[0].contains("panicked: boom"), "{log:?}");
    drop(next);
    assert!(!lock.is_locked());
}

/// Even where the next one panics as well, in the middle of the first panic.
#[test]
fn a_panic_of_the_holder_releases_the_lock() {
    let guard = NoLostFailures::new();
    let calls = Calls::new();
    let lock = DeferredLock::new();
    let (start, go) = Deferred::pending();
    let inside = lock.clone();
    drop(start.add_callback(move |()| {
        inside
            .acquire()
            .add_callback(|_permit| -> Result<(), Failure> { panic!("first") })
    }));
    let held = lock.acquire().result().unwrap();
    go.callback(()).unwrap();
    drop(
        lock.acquire()
            .add_callback(|_permit| -> Result<(), Failure> { panic!("second") }),
    );
    drop(ask(&lock, "third", &calls));
    let panics =
        Deferred::succeed(held).add_callback(|_held| -> Result<(), Failure> { panic!("holder") });
    assert_eq!(calls.take(), ["third"]);
    assert!(!lock.is_locked());
    assert!(panics.result().unwrap_err().is::<PanicError>());
    let lost: Vec<_> = guard
        .flush()
        .iter()
        .map(|lost| lost.failure.to_string())
        .collect();
    assert_eq!(lost, ["panicked: first", "panicked: second"]);
}

/// The handle goes away while its own callbacks run, or those of whoever releases.
#[test]
fn handles_may_be_dropped_inside_a_turn() {
    let calls = Calls::new();
    let lock = DeferredLock::new();
    let held = lock.acquire().result().unwrap();
    let handles: Rc<RefCell<Vec<Deferred<Permit>>>> = Rc::default();
    let (drops, noted) = (handles.clone(), calls.clone());
    let first = lock.acquire().map(move |permit| {
        noted.push("first");
        drops.borrow_mut().clear();
        permit
    });
    let second = lock.acquire();
    handles.borrow_mut().extend([first, second]);
    drop(ask(&lock, "third", &calls));
    held.release();
    assert_eq!(calls.take(), ["first", "third"]);
    assert!(!lock.is_locked());
}

#[test]
fn a_free_token_costs_no_allocation() {
    let semaphore = semaphore(2);
    let info = measure(|| {
        for _ in 0..100 {
            semaphore.acquire().result().unwrap().release();
            semaphore.run(|| Ok(())).result().unwrap();
        }
    });
    assert_eq!(info.count_total, 0);
}

/// What one does with a semaphore.
#[derive(Debug, Clone)]
enum Act {
    /// Asks for a token, and does the next thing when it comes.
    Acquire(Vec<Act>),
    /// Asks for one, and keeps it in the handle.
    AcquireIdly,
    /// Releases one of those that are held.
    Release(usize),
    /// Cancels one of all that ever asked.
    Cancel(usize),
    /// Drops the handle of one of those who asked idly.
    Drop(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let simple = prop_oneof![
        Just(Act::AcquireIdly),
        any::<usize>().prop_map(Act::Release),
        any::<usize>().prop_map(Act::Cancel),
        any::<usize>().prop_map(Act::Drop),
    ];
    let act = simple.prop_recursive(4, 16, 1, |inner| {
        prop_oneof![
            // One thing at most, as it is not told what runs first of the next waiter and the rest
            // of a callback.
            prop::collection::vec(inner.clone(), 0..=1).prop_map(Act::Acquire),
            inner,
        ]
    });
    prop::collection::vec(act, 0..40)
}

/// A semaphore as one would write it down without a thought for the stack.
#[derive(Default)]
struct Model {
    free: usize,
    asked: usize,
    waiting: VecDeque<(usize, Kind)>,
    held: Vec<usize>,
    log: Vec<String>,
}

#[derive(Debug, Clone)]
enum Kind {
    Acts(Vec<Act>),
    Idle,
    Dropped,
}

impl Model {
    fn act(&mut self, act: &Act) {
        match act {
            Act::Acquire(acts) => self.ask(Kind::Acts(acts.clone())),
            Act::AcquireIdly => self.ask(Kind::Idle),
            Act::Release(which) if !self.held.is_empty() => {
                self.held.sort_unstable();
                self.held.remove(which % self.held.len());
                self.give_back();
            }
            Act::Cancel(which) if self.asked > 0 => {
                let id = which % self.asked;
                let place = self.waiting.iter().position(|(waits, _)| *waits == id);
                if let Some(place) = place
                    && !matches!(self.waiting[place].1, Kind::Dropped)
                {
                    self.waiting.remove(place);
                    self.log.push(format!("{id} is cancelled"));
                }
            }
            Act::Drop(which) if self.asked > 0 => {
                let id = which % self.asked;
                if let Some((_, kind)) = self.waiting.iter_mut().find(|(waits, _)| *waits == id)
                    && matches!(kind, Kind::Idle)
                {
                    *kind = Kind::Dropped;
                }
            }
            _ => {}
        }
    }

    fn ask(&mut self, kind: Kind) {
        let id = self.asked;
        self.asked += 1;
        if self.free > 0 && self.waiting.is_empty() {
            self.free -= 1;
            self.grant(id, kind);
        } else {
            self.waiting.push_back((id, kind));
        }
    }

    fn give_back(&mut self) {
        match self.waiting.pop_front() {
            Some((id, kind)) => self.grant(id, kind),
            None => self.free += 1,
        }
    }

    fn grant(&mut self, id: usize, kind: Kind) {
        match kind {
            Kind::Acts(acts) => {
                self.log.push(format!("{id} goes on"));
                self.held.push(id);
                acts.iter().for_each(|act| self.act(act));
            }
            Kind::Idle => self.held.push(id),
            Kind::Dropped => self.give_back(),
        }
    }
}

/// The real one, and those who use it.
#[derive(Clone)]
struct World {
    semaphore: DeferredSemaphore,
    asked: Rc<Cell<usize>>,
    /// Those who do something when their turn has come, or had it.
    active: Rc<RefCell<BTreeMap<usize, Deferred<()>>>>,
    idle: Rc<RefCell<BTreeMap<usize, Deferred<Permit>>>>,
    held: Rc<RefCell<BTreeMap<usize, Permit>>>,
    calls: Calls,
}

impl World {
    fn act(&self, act: &Act) {
        match act {
            Act::Acquire(acts) => {
                let id = self.next();
                let (world, acts) = (self.clone(), acts.clone());
                let noted = self.calls.clone();
                let deferred = self.semaphore.acquire().add_callbacks(
                    move |permit| {
                        world.calls.push(format!("{id} goes on"));
                        world.held.borrow_mut().insert(id, permit);
                        acts.iter().for_each(|act| world.act(act));
                        Ok(())
                    },
                    move |_| {
                        noted.push(format!("{id} is cancelled"));
                        Ok(())
                    },
                );
                self.active.borrow_mut().insert(id, deferred);
            }
            Act::AcquireIdly => {
                let id = self.next();
                let deferred = self.semaphore.acquire();
                self.idle.borrow_mut().insert(id, deferred);
            }
            Act::Release(which) => {
                self.collect();
                let mut held = self.held.borrow_mut();
                let count = held.len();
                if count > 0
                    && let Some(id) = held.keys().nth(which % count).copied()
                {
                    let released = held.remove(&id);
                    drop(held);
                    drop(released);
                }
            }
            Act::Cancel(which) if self.asked.get() > 0 => {
                let id = which % self.asked.get();
                let found = self.active.borrow().get(&id).map(Deferred::canceller);
                if let Some(canceller) = found {
                    canceller.cancel();
                }
                self.collect();
                let found = self.idle.borrow_mut().remove(&id);
                if let Some(deferred) = found {
                    deferred.cancel();
                    assert!(deferred.result().unwrap_err().is::<CancelledError>());
                    self.calls.push(format!("{id} is cancelled"));
                }
            }
            Act::Drop(which) if self.asked.get() > 0 => {
                let id = which % self.asked.get();
                self.collect();
                let dropped = self.idle.borrow_mut().remove(&id);
                drop(dropped);
            }
            _ => {}
        }
    }

    fn next(&self) -> usize {
        self.asked.replace(self.asked.get() + 1)
    }

    /// Takes the permits out of the handles.
    fn collect(&self) {
        let (fired, waiting) = self
            .idle
            .take()
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, deferred)| deferred.is_fired());
        self.idle.replace(waiting);
        for (id, deferred) in fired {
            let permit = deferred.result().unwrap();
            self.held.borrow_mut().insert(id, permit);
        }
    }
}

proptest! {
    /// D-72, D-73: whatever is done, and wherever, tokens and turns are as in the model.
    #[test]
    fn a_semaphore_does_what_a_simple_one_would(tokens in 1_usize..4, acts in acts()) {
        let mut model = Model { free: tokens, ..Model::default() };
        let world = World {
            semaphore: semaphore(tokens),
            asked: Rc::default(),
            active: Rc::default(),
            idle: Rc::default(),
            held: Rc::default(),
            calls: Calls::new(),
        };
        for act in &acts {
            model.act(act);
            world.act(act);
            prop_assert_eq!(std::mem::take(&mut model.log), world.calls.take());
            prop_assert_eq!(world.semaphore.tokens(), model.free);
            prop_assert_eq!(world.semaphore.waiting(), model.waiting.len());
            world.collect();
            model.held.sort_unstable();
            let held: Vec<_> = world.held.borrow().keys().copied().collect();
            prop_assert_eq!(held, model.held.clone());
        }
    }
}
