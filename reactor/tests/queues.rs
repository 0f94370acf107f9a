//! A queue matches objects with those who wait for them.

mod support;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use allocation_counter::measure;
use deferred_reactor::{
    AbandonedError, CancelledError, Canceller, Deferred, DeferredQueue, Failure, NoLostFailures,
    QueueOverflow, QueueUnderflow,
};
use proptest::prelude::*;
use support::{Bomb, Calls, in_small_stack, keep_log, logged, stack_address, tracked};

/// Waits for an object, and notes it.
fn ask(queue: &DeferredQueue<i32>, name: &'static str, calls: &Calls) -> Deferred<i32> {
    queue.get().unwrap().map(calls.note(name, |object| object))
}

/// D-75.
#[test]
fn objects_that_wait_are_handed_out_in_their_order() {
    let queue = DeferredQueue::new();
    for object in 1..=3 {
        queue.put(object).unwrap();
    }
    assert_eq!((queue.len(), queue.waiting()), (3, 0));
    for object in 1..=3 {
        let got = queue.get().unwrap();
        assert!(got.is_fired());
        assert_eq!(got.result().unwrap(), object);
    }
    assert!(queue.is_empty());
}

/// D-75.
#[test]
fn those_who_wait_are_served_in_their_order() {
    let calls = Calls::new();
    let queue = DeferredQueue::new();
    let waiting = ["a", "b", "c"].map(|name| ask(&queue, name, &calls));
    assert_eq!((queue.len(), queue.waiting()), (0, 3));
    for object in 1..=3 {
        queue.put(object).unwrap();
    }
    assert_eq!(calls.take(), ["a(1)", "b(2)", "c(3)"]);
    assert_eq!(waiting.map(|got| got.result().unwrap()), [1, 2, 3]);
    queue.put(4).unwrap();
    assert_eq!(queue.clone().get().unwrap().result().unwrap(), 4);
}

/// D-76.
#[test]
fn a_full_queue_gives_the_object_back() {
    for size in 0..3 {
        let queue = DeferredQueue::default().with_size(size);
        for _ in 0..size {
            queue.put("kept".to_owned()).unwrap();
        }
        let refused: QueueOverflow<String> = queue.put("one more".to_owned()).unwrap_err();
        assert_eq!((refused.object.as_str(), refused.size), ("one more", size));
        assert_eq!(queue.len(), size);
        let text = format!("the queue is full: it stores {size} objects at most");
        assert_eq!(refused.to_string(), text);
        assert_eq!(Failure::from(refused).to_string(), text);

        // There is room again, or somebody who waits.
        let got = queue.get().unwrap();
        queue.put("after".to_owned()).unwrap();
        assert!(got.is_fired());
        assert_eq!(queue.len(), size);
    }
}

/// D-76.
#[test]
fn no_more_may_wait_than_the_backlog_has_room_for() {
    for backlog in 0..3 {
        let queue = DeferredQueue::new().with_backlog(backlog);
        let waiting: Vec<_> = (0..backlog).map(|_| queue.get().unwrap()).collect();
        let refused: QueueUnderflow = queue.get().unwrap_err();
        assert_eq!(refused.backlog, backlog);
        let text = format!("the queue is empty, and {backlog} consumers wait already");
        assert_eq!(refused.to_string(), text);
        assert_eq!(queue.waiting(), backlog);

        // Whoever finds an object does not wait.
        for _ in 0..=backlog {
            queue.put(1).unwrap();
        }
        assert!(waiting.iter().all(Deferred::is_fired));
        assert_eq!(queue.get().unwrap().result().unwrap(), 1);
    }
}

/// D-76: both limits, in any order, on the same queue.
#[test]
fn the_two_limits_do_not_touch_each_other() {
    let queue = DeferredQueue::new()
        .with_size(1)
        .with_backlog(2)
        .with_size(2);
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    queue.put(3).unwrap_err();
    drop((queue.get(), queue.get()));
    let _waiting = [queue.get().unwrap(), queue.get().unwrap()];
    queue.get().unwrap_err();
}

/// D-77.
#[test]
fn an_object_goes_past_a_get_that_was_cancelled() {
    let calls = Calls::new();
    let queue = DeferredQueue::new();
    let cancelled = queue.get().unwrap();
    cancelled.cancel();
    assert!(cancelled.result().unwrap_err().is::<CancelledError>());
    assert_eq!(queue.waiting(), 0);
    queue.put(1).unwrap();
    assert_eq!(queue.get().unwrap().result().unwrap(), 1);

    let [first, second, third] = ["a", "b", "c"].map(|name| ask(&queue, name, &calls));
    second.cancel();
    queue.put(2).unwrap();
    queue.put(3).unwrap();
    assert_eq!(calls.take(), ["a(2)", "c(3)"]);
    assert!(second.result().unwrap_err().is::<CancelledError>());
    drop((first, third));
}

/// D-77: one that had its object before.
#[test]
fn cancelling_a_get_that_has_fired_changes_nothing() {
    let queue = DeferredQueue::new();
    queue.put(1).unwrap();
    let got = queue.get().unwrap();
    got.cancel();
    assert_eq!(got.result().unwrap(), 1);
    let got = queue.get().unwrap();
    queue.put(2).unwrap();
    got.cancel();
    assert_eq!(got.result().unwrap(), 2);
    assert_eq!((queue.len(), queue.waiting()), (0, 0));
}

/// Nobody would get to see the object.
#[test]
fn a_get_that_was_dropped_does_not_swallow_an_object() {
    let calls = Calls::new();
    let queue = DeferredQueue::new();
    drop(queue.get());
    queue.put(1).unwrap();
    assert_eq!((queue.len(), queue.waiting()), (1, 0));
    assert_eq!(queue.get().unwrap().result().unwrap(), 1);

    drop(queue.get());
    drop(ask(&queue, "callback", &calls)); // this one has use for it
    drop(queue.get());
    let last = queue.get().unwrap();
    queue.put(2).unwrap();
    queue.put(3).unwrap();
    assert_eq!(calls.take(), ["callback(2)"]);
    assert_eq!(last.result().unwrap(), 3);
}

/// D-76: nor does it take a place that somebody else could wait in, or a place of an object.
#[test]
fn a_get_that_was_dropped_takes_no_room() {
    let queue = DeferredQueue::<i32>::new().with_backlog(2).with_size(0);
    let first = queue.get().unwrap();
    for _ in 0..100 {
        drop(queue.get().unwrap());
    }
    let last = queue.get().unwrap();
    queue.get().unwrap_err();
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert_eq!((first.result().unwrap(), last.result().unwrap()), (1, 2));

    drop(queue.get().unwrap());
    assert_eq!(queue.put(3).unwrap_err().object, 3);
}

/// What nobody can be given any more is not waited for.
#[test]
fn those_who_wait_are_told_when_the_queue_is_gone() {
    let queue = DeferredQueue::<i32>::new();
    let other = queue.clone();
    let waiting = queue.get().unwrap();
    drop(queue);
    assert!(!waiting.is_fired());
    drop(other);
    assert!(waiting.result().unwrap_err().is::<AbandonedError>());
}

/// Putting, getting and cancelling inside the callback of a get.
#[test]
fn a_queue_may_be_used_inside_the_callbacks_of_those_who_wait() {
    let calls = Calls::new();
    let queue = DeferredQueue::new().with_size(1);
    let victim: Rc<RefCell<Canceller>> = Rc::default();
    let (inside, cancels, noted) = (queue.clone(), victim.clone(), calls.clone());
    drop(queue.get().unwrap().map(move |object| {
        noted.push(format!("one({object})"));
        cancels.borrow().cancel(); // the second
        inside.put(2).unwrap(); // for the third
        inside.put(3).unwrap(); // for whoever comes
        assert_eq!(inside.put(4).unwrap_err().object, 4);
        assert_eq!((inside.len(), inside.waiting()), (1, 0));
        assert_eq!(inside.get().unwrap().result().unwrap(), 3);
        drop(ask(&inside, "four", &noted));
        noted.push("one is through");
    }));
    let second = ask(&queue, "two", &calls);
    *victim.borrow_mut() = second.canceller();
    let second = second.add_errback(calls.note("cancelled", |_| Ok(0)));
    drop(ask(&queue, "three", &calls));
    queue.put(1).unwrap();
    queue.put(5).unwrap();
    let want = [
        "one(1)",
        "cancelled(cancelled)",
        "one is through",
        "three(2)",
        "four(5)",
    ];
    assert_eq!(calls.take(), want);
    drop(second);
}

/// Put is put: the turn of the second has come, although its callbacks have not run yet.
#[test]
fn cancelling_comes_too_late_for_whom_an_object_was_put() {
    let calls = Calls::new();
    let queue = DeferredQueue::new();
    let victim: Rc<RefCell<Canceller>> = Rc::default();
    let (inside, cancels, noted) = (queue.clone(), victim.clone(), calls.clone());
    drop(queue.get().unwrap().map(move |_| {
        inside.put(2).unwrap();
        inside.put(3).unwrap();
        cancels.borrow().cancel();
        noted.push("cancelled the second");
        cancels.borrow().cancel();
    }));
    let second = ask(&queue, "two", &calls);
    *victim.borrow_mut() = second.canceller();
    drop(ask(&queue, "three", &calls));
    queue.put(1).unwrap();
    assert_eq!(calls.take(), ["two(2)", "cancelled the second", "three(3)"]);
    assert_eq!(second.result().unwrap(), 2);
    assert_eq!((queue.len(), queue.waiting()), (0, 0));
}

/// Law 2: each one puts the object of the next, and a consumer asks for the next one in turn.
#[test]
fn a_million_waiters_are_served_in_constant_stack() {
    in_small_stack(|| {
        let queue = DeferredQueue::new();
        let depths = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..1_000_000 {
            let (inside, depths) = (queue.clone(), depths.clone());
            drop(queue.get().unwrap().map(move |n| {
                if n == 10 || n == 999_999 {
                    depths.borrow_mut().push(stack_address());
                }
                inside.put(n + 1).unwrap();
            }));
        }
        queue.put(0).unwrap();
        assert_eq!(queue.get().unwrap().result().unwrap(), 1_000_000);
        assert_eq!(depths.borrow()[0], depths.borrow()[1]);
    });
}

/// Law 2: two callbacks that throw one ball.
#[test]
fn a_consumer_that_puts_and_gets_for_ever_takes_neither_stack_nor_memory() {
    in_small_stack(|| {
        fn consume(queue: DeferredQueue<u32>, ends: u32) {
            let inside = queue.clone();
            drop(queue.get().unwrap().map(move |n| {
                if n < ends {
                    consume(inside.clone(), ends);
                    inside.put(n + 1).unwrap();
                }
            }));
        }
        let queue = DeferredQueue::new();
        consume(queue.clone(), 100_000);
        let info = measure(|| queue.put(0).unwrap());
        assert!(info.bytes_max < 10_000, "{} bytes", info.bytes_max);
        assert_eq!((queue.len(), queue.waiting()), (0, 0));
    });
}

#[test]
fn cancelled_gets_leave_nothing_behind() {
    let _guard = NoLostFailures::new();
    let queue = DeferredQueue::<i32>::new();
    let info = measure(|| {
        let mut waiting: VecDeque<_> = (0..10).map(|_| queue.get().unwrap()).collect();
        for n in 0..10_000 {
            waiting.push_back(queue.get().unwrap());
            let gone = waiting.remove(n * 7 % waiting.len()).unwrap();
            gone.cancel();
            drop(gone.result());
        }
        for gone in waiting {
            gone.cancel();
            drop(gone.result());
        }
    });
    assert_eq!(queue.waiting(), 0);
    assert!(info.bytes_max < 100_000, "{} bytes", info.bytes_max);
    assert!(info.bytes_current < 2_000, "{} bytes", info.bytes_current);
}

#[test]
fn objects_and_closures_go_with_the_queue() {
    let ((kept, kept_dropped), (callback, callback_dropped)) = (tracked(), tracked());
    let queue = DeferredQueue::new();
    queue.put(kept).unwrap();
    drop(queue);
    assert!(kept_dropped.get());

    let queue = DeferredQueue::<()>::new();
    let waiting = queue.get().unwrap().add_both(move |_| {
        drop(callback);
        Ok(())
    });
    waiting.cancel();
    assert!(callback_dropped.get());
    drop((queue, waiting));
}

#[test]
fn a_drop_that_panics_does_not_cost_others_their_objects() {
    keep_log();
    let calls = Calls::new();
    let queue = DeferredQueue::new();
    let inside = queue.clone();
    drop(queue.get().unwrap().map(move |_| {
        inside.put(2).unwrap();
        Bomb // dropped by nobody in particular
    }));
    drop(ask(&queue, "next", &calls));
    queue.put(1).unwrap();
    assert_eq!(calls.take(), ["next(2)"]);
    assert_eq!(logged().len(), 1);
}

/// What one does with a queue.
#[derive(Debug, Clone)]
enum Act {
    Put,
    /// Asks for an object, and does the next thing when it comes.
    Get(Vec<Act>),
    /// Asks for one, to take it out of the handle later.
    GetIdly,
    /// Cancels one of all that ever asked.
    Cancel(usize),
    /// Drops the handle of one who asked idly.
    Drop(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let simple = prop_oneof![
        3 => Just(Act::Put),
        1 => Just(Act::GetIdly),
        1 => any::<usize>().prop_map(Act::Cancel),
        1 => any::<usize>().prop_map(Act::Drop),
    ];
    let act = simple.prop_recursive(4, 16, 1, |inner| {
        prop_oneof![
            // One thing at most, as it is not told what runs first of the next waiter and the rest
            // of a callback.
            prop::collection::vec(inner.clone(), 0..=1).prop_map(Act::Get),
            inner,
        ]
    });
    prop::collection::vec(act, 0..40)
}

/// A queue as one would write it down without a thought for the stack.
#[derive(Default)]
struct Model {
    size: Option<usize>,
    backlog: Option<usize>,
    put: usize,
    asked: usize,
    objects: VecDeque<usize>,
    waiting: VecDeque<(usize, Kind)>,
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
            Act::Put => {
                let object = self.put;
                self.put += 1;
                while let Some((id, kind)) = self.waiting.pop_front() {
                    if !matches!(kind, Kind::Dropped) {
                        return self.give(id, kind, object);
                    }
                }
                if self.size.is_some_and(|size| self.objects.len() >= size) {
                    self.log.push(format!("{object} is refused"));
                } else {
                    self.objects.push_back(object);
                }
            }
            Act::Get(acts) => self.ask(Kind::Acts(acts.clone())),
            Act::GetIdly => self.ask(Kind::Idle),
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
        if let Some(object) = self.objects.pop_front() {
            return self.give(id, kind, object);
        }
        if let Some(backlog) = self.backlog {
            if self.waiting.len() >= backlog {
                self.waiting
                    .retain(|(_, kind)| !matches!(kind, Kind::Dropped));
            }
            if self.waiting.len() >= backlog {
                self.log.push(format!("{id} is sent away"));
                return;
            }
        }
        self.waiting.push_back((id, kind));
    }

    fn give(&mut self, id: usize, kind: Kind, object: usize) {
        self.log.push(format!("{id} gets {object}"));
        if let Kind::Acts(acts) = kind {
            acts.iter().for_each(|act| self.act(act));
        }
    }
}

/// The real one, and those who use it.
#[derive(Clone)]
struct World {
    queue: DeferredQueue<usize>,
    put: Rc<Cell<usize>>,
    asked: Rc<Cell<usize>>,
    active: Rc<RefCell<BTreeMap<usize, Deferred<()>>>>,
    idle: Rc<RefCell<BTreeMap<usize, Deferred<usize>>>>,
    calls: Calls,
}

impl World {
    fn act(&self, act: &Act) {
        match act {
            Act::Put => {
                let object = self.put.replace(self.put.get() + 1);
                if let Err(refused) = self.queue.put(object) {
                    self.calls.push(format!("{} is refused", refused.object));
                }
            }
            Act::Get(acts) => {
                let (world, acts) = (self.clone(), acts.clone());
                let Some((id, got)) = self.get() else { return };
                let noted = self.calls.clone();
                let deferred = got.add_callbacks(
                    move |object| {
                        world.calls.push(format!("{id} gets {object}"));
                        acts.iter().for_each(|act| world.act(act));
                        Ok(())
                    },
                    move |failure| {
                        assert!(failure.is::<CancelledError>());
                        noted.push(format!("{id} is cancelled"));
                        Ok(())
                    },
                );
                self.active.borrow_mut().insert(id, deferred);
            }
            Act::GetIdly => {
                if let Some((id, got)) = self.get() {
                    self.idle.borrow_mut().insert(id, got);
                    self.collect();
                }
            }
            Act::Cancel(which) if self.asked.get() > 0 => {
                self.collect();
                let id = which % self.asked.get();
                let found = self.active.borrow().get(&id).map(Deferred::canceller);
                if let Some(canceller) = found {
                    canceller.cancel();
                }
                let found = self.idle.borrow_mut().remove(&id);
                if let Some(deferred) = found {
                    deferred.cancel();
                    assert!(deferred.result().unwrap_err().is::<CancelledError>());
                    self.calls.push(format!("{id} is cancelled"));
                }
            }
            Act::Drop(which) if self.asked.get() > 0 => {
                self.collect();
                let id = which % self.asked.get();
                let dropped = self.idle.borrow_mut().remove(&id);
                drop(dropped);
            }
            _ => {}
        }
    }

    fn get(&self) -> Option<(usize, Deferred<usize>)> {
        let id = self.asked.replace(self.asked.get() + 1);
        match self.queue.get() {
            Ok(got) => Some((id, got)),
            Err(_) => {
                self.calls.push(format!("{id} is sent away"));
                None
            }
        }
    }

    /// Notes what those have who asked idly.
    fn collect(&self) {
        let (fired, waiting) = self
            .idle
            .take()
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, deferred)| deferred.is_fired());
        self.idle.replace(waiting);
        for (id, deferred) in fired {
            let object = deferred.result().unwrap();
            self.calls.push(format!("{id} gets {object}"));
        }
    }
}

proptest! {
    /// D-75, D-76, D-77: whatever is done, and wherever, each object goes where it does in the
    /// model.
    #[test]
    fn a_queue_does_what_a_simple_one_would(
        size in prop::option::of(0_usize..3),
        backlog in prop::option::of(0_usize..3),
        acts in acts(),
    ) {
        let mut model = Model { size, backlog, ..Model::default() };
        let mut queue = DeferredQueue::new();
        if let Some(size) = size {
            queue = queue.with_size(size);
        }
        if let Some(backlog) = backlog {
            queue = queue.with_backlog(backlog);
        }
        let world = World {
            queue,
            put: Rc::default(),
            asked: Rc::default(),
            active: Rc::default(),
            idle: Rc::default(),
            calls: Calls::new(),
        };
        for act in &acts {
            model.act(act);
            world.act(act);
            world.collect();
            // Those who asked idly tell only now what they have.
            let (mut want, mut got) = (std::mem::take(&mut model.log), world.calls.take());
            want.sort();
            got.sort();
            prop_assert_eq!(got, want);
            prop_assert_eq!(world.queue.len(), model.objects.len());
            prop_assert_eq!(world.queue.waiting(), model.waiting.len());
        }
    }
}
