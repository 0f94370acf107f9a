//! Delayed calls in the order of their deadlines.
//!
//! [`Timers`] never reads the clock: `now` is always an argument, so that a test can move time by hand. It is a binary heap beside a slab. A heap entry does not change when its call is cancelled or postponed; it is recognised as stale when it reaches the top:
//!
//! - cancelling frees the slot and leaves a stale entry; when more than half of the heap is stale,
//!   it is rebuilt. So cancelling costs O(1), and stale entries do not accumulate;
//! - postponing only writes the new deadline (4 ns; a connection does this for every request); the
//!   entry moves once, when the old deadline comes;
//! - bringing forward pushes a second entry.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use slab::Slab;

/// Calls waiting for their deadline, earliest first; equal deadlines in the order they came.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    calls: Slab<Call<T>>,
    /// Holds, for each call, one entry with its `queued` moment. All other entries are stale.
    heap: BinaryHeap<Reverse<Entry>>,
    /// Age of the next call. Invariant: greater than every age in `calls`.
    next_age: u64,
    /// Stale entries in `heap`.
    stale: usize,
}

#[derive(Debug)]
struct Call<T> {
    deadline: Instant,
    /// When the heap will bring this call up. Invariant: not after `deadline`.
    queued: Instant,
    age: u64,
    call: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Instant,
    age: u64,
    slot: usize,
}

/// Names one delayed call. Never names another one, however often its slot is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerId {
    slot: usize,
    age: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Timers<T> {
    /// No calls.
    pub(crate) fn new() -> Self {
        Self {
            calls: Slab::new(),
            heap: BinaryHeap::new(),
            next_age: 0,
            stale: 0,
        }
    }

    /// Adds a call.
    pub(crate) fn call_at(&mut self, deadline: Instant, call: T) -> TimerId {
        let age = self.next_age;
        self.next_age += 1;
        let slot = self.calls.insert(Call {
            deadline,
            queued: deadline,
            age,
            call,
        });
        self.push(deadline, age, slot);
        TimerId { slot, age }
    }

    /// Removes a call before its time. `None` if it is gone already.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.get(id)?;
        let call = self.calls.remove(id.slot).call;
        self.leave_stale();
        Some(call)
    }

    /// Moves a call to another deadline, earlier or later. `false` if it is gone already.
    pub(crate) fn reset(&mut self, id: TimerId, deadline: Instant) -> bool {
        let Some(call) = self.calls.get_mut(id.slot).filter(|c| c.age == id.age) else {
            return false;
        };
        call.deadline = deadline;
        if deadline < call.queued {
            call.queued = deadline;
            self.push(deadline, id.age, id.slot);
            self.leave_stale();
        }
        true
    }

    /// When a call is due, if it is still there.
    pub(crate) fn deadline(&self, id: TimerId) -> Option<Instant> {
        self.get(id).map(|call| call.deadline)
    }

    /// Removes and returns the earliest call due at `now`.
    #[cfg(test)]
    fn pop_due(&mut self, now: Instant) -> Option<T> {
        self.pop_due_among(now, u64::MAX).map(|(_, call)| call)
    }

    /// The earliest call due at `now`, if that is one of the first `calls` that were ever added, and
    /// when it was due.
    #[inline]
    pub(crate) fn pop_due_among(&mut self, now: Instant, calls: u64) -> Option<(Instant, T)> {
        loop {
            let Reverse(entry) = *self.heap.peek()?;
            if entry.at > now {
                return None;
            }
            if self.settle(entry) {
                if entry.age >= calls {
                    return None;
                }
                self.heap.pop();
                return Some((entry.at, self.calls.remove(entry.slot).call));
            }
        }
    }

    /// How many calls were ever added.
    pub(crate) fn added(&self) -> u64 {
        self.next_age
    }

    /// When the next call is due, or somewhat earlier: never later.
    ///
    /// It is exact unless many calls were put off or cancelled since. To look at all of these each time would
    /// cost a busy server more than the rest of its turn; each is looked at when its old deadline
    /// comes.
    pub(crate) fn next_deadline(&mut self) -> Option<Instant> {
        const LOOKS: usize = 8;
        if self.calls.is_empty() {
            // Only stale entries can be left.
            self.heap.clear();
            self.stale = 0;
            return None;
        }
        for _ in 0..LOOKS {
            let Reverse(entry) = *self.heap.peek()?;
            if self.settle(entry) {
                return Some(entry.at);
            }
        }
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// How many calls are waiting.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call is waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The calls that are waiting, in the order in which they are due.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TimerId, &T)> {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(_, call)| (call.deadline, call.age));
        calls.into_iter().map(|(slot, call)| {
            let age = call.age;
            (TimerId { slot, age }, &call.call)
        })
    }

    /// Removes all calls, in no order.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.heap.clear();
        self.stale = 0;
        self.calls.drain().map(|call| call.call).collect()
    }

    /// Looks at the top of the heap: `true` if it is a call that is due when it says. Otherwise it
    /// is moved to where the call was put off to, or discarded.
    fn settle(&mut self, top: Entry) -> bool {
        match self.calls.get_mut(top.slot) {
            Some(call) if call.age == top.age && call.queued == top.at => {
                if call.deadline == top.at {
                    return true;
                }
                call.queued = call.deadline;
                let at = call.deadline;
                if let Some(mut entry) = self.heap.peek_mut() {
                    *entry = Reverse(Entry { at, ..top });
                }
            }
            _ => {
                self.heap.pop();
                self.stale -= 1;
            }
        }
        false
    }

    fn get(&self, id: TimerId) -> Option<&Call<T>> {
        self.calls.get(id.slot).filter(|call| call.age == id.age)
    }

    fn push(&mut self, at: Instant, age: u64, slot: usize) {
        self.heap.push(Reverse(Entry { at, age, slot }));
    }

    fn leave_stale(&mut self) {
        self.stale += 1;
        // A rebuild costs O(n) and comes after n/2 cancellations; small heaps are not worth it.
        if self.stale > 32 && self.stale > self.heap.len() / 2 {
            let calls = &self.calls;
            self.heap.retain(|Reverse(entry)| {
                calls
                    .get(entry.slot)
                    .is_some_and(|call| call.age == entry.age && call.queued == entry.at)
            });
            self.stale = self.heap.len() - self.calls.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn drain<T>(timers: &mut Timers<T>, now: Instant) -> Vec<T> {
        std::iter::from_fn(|| timers.pop_due(now)).collect()
    }

    #[test]
    fn a_call_is_due_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut timers = Timers::new();
        timers.call_at(start + Duration::from_secs(1), "flush");

        assert_eq!(timers.pop_due(start), None);
        assert_eq!(
            timers.pop_due(start + Duration::from_secs(1)),
            Some("flush")
        );
        assert!(timers.is_empty());
    }

    #[test]
    fn equal_deadlines_run_in_the_order_they_came() {
        let start = Instant::now();
        let mut timers = Timers::new();
        for name in ["a", "b", "c"] {
            timers.call_at(start, name);
        }
        assert_eq!(drain(&mut timers, start), ["a", "b", "c"]);
    }

    #[test]
    fn cancelling_leaves_no_garbage_that_grows() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let kept = timers.call_at(start + Duration::from_secs(9), 0);
        for n in 0..100_000 {
            let id = timers.call_at(start + Duration::from_secs(1), n);
            assert_eq!(timers.cancel(id), Some(n));
            assert_eq!(timers.cancel(id), None);
        }
        assert!(timers.heap.len() < 100, "{} entries", timers.heap.len());
        assert_eq!(timers.deadline(kept), Some(start + Duration::from_secs(9)));
    }

    #[test]
    fn bringing_forward_leaves_no_garbage_that_grows() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let far = Duration::from_secs(1000);
        let id = timers.call_at(start + far, ());
        for n in 0..10_000 {
            assert!(timers.reset(id, start + far - Duration::from_millis(n)));
        }
        assert!(timers.heap.len() < 100, "{} entries", timers.heap.len());
    }

    #[test]
    fn many_calls_that_were_put_off_are_not_all_looked_at_each_time() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut timers = Timers::new();
        let ids: Vec<_> = (0..1000)
            .map(|n| timers.call_at(start + second, n))
            .collect();
        for id in ids {
            timers.reset(id, start + 9 * second);
        }
        assert_eq!(timers.next_deadline(), Some(start + second));
        assert_eq!(timers.pop_due(start + second), None);
        assert_eq!(timers.next_deadline(), Some(start + 9 * second));
        assert_eq!(drain(&mut timers, start + 9 * second).len(), 1000);
    }

    #[test]
    fn when_all_calls_are_cancelled_none_is_due() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let ids: Vec<_> = (0..20).map(|n| timers.call_at(start, n)).collect();
        for id in ids {
            timers.cancel(id);
        }
        assert_eq!(timers.next_deadline(), None);
        timers.call_at(start, 20);
        assert_eq!(drain(&mut timers, start), [20]);
    }

    #[test]
    fn a_call_that_was_put_off_does_not_wake_anybody_at_the_old_time() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut timers = Timers::new();
        let id = timers.call_at(start + second, "x");
        timers.reset(id, start + 5 * second);
        assert_eq!(timers.next_deadline(), Some(start + 5 * second));
        assert_eq!(timers.pop_due(start + 4 * second), None);
        assert_eq!(timers.pop_due(start + 5 * second), Some("x"));
        assert_eq!(timers.next_deadline(), None);
    }

    proptest::proptest! {
        /// Against the obvious way: a list that is sorted each time.
        #[test]
        fn behaves_as_a_sorted_list(
            steps in proptest::collection::vec((0u8..4, 0u64..40, 0usize..30), 1..200),
        ) {
            let start = Instant::now();
            let at = |n: u64| start + Duration::from_millis(n);
            let mut timers = Timers::new();
            let mut list: Vec<(Instant, usize)> = Vec::new();
            let mut ids = Vec::new();
            for (step, (what, moment, which)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        ids.push((step, timers.call_at(at(moment), step)));
                        list.push((at(moment), step));
                    }
                    1 if !ids.is_empty() => {
                        let (name, id) = ids[which % ids.len()];
                        let known = list.iter().position(|(_, n)| *n == name);
                        assert_eq!(timers.cancel(id), known.map(|i| list.remove(i).1));
                    }
                    2 if !ids.is_empty() => {
                        let (name, id) = ids[which % ids.len()];
                        let known = list.iter_mut().find(|(_, n)| *n == name);
                        assert_eq!(timers.reset(id, at(moment)), known.is_some());
                        if let Some(entry) = known {
                            entry.0 = at(moment);
                        }
                    }
                    _ => {
                        list.sort();
                        let due = list.iter().take_while(|(t, _)| *t <= at(moment)).count();
                        let want: Vec<usize> = list.drain(..due).map(|(_, n)| n).collect();
                        assert_eq!(drain(&mut timers, at(moment)), want);
                    }
                }
                list.sort();
                let first = list.first().map(|(t, _)| *t);
                assert!(timers.next_deadline() <= first);
                assert_eq!(timers.next_deadline().is_some(), first.is_some());
                assert_eq!(timers.len(), list.len());
            }
        }
    }
}
