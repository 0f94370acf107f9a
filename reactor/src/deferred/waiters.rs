//! Waiters for a semaphore or a queue, first come first served.
//!
//! Shared by the semaphore and the queue. Both hand something to the one who came first by firing
//! its resolver, whose callbacks may hand on the next thing in turn. If each of these calls fired
//! the next waiter on the spot, a row of them would grow the stack; so the first call hands out
//! for all that are made inside it ([`HandOut`]).

use std::cell::Cell;
use std::collections::BTreeMap;

use super::Resolver;
use super::chain::Line;
use crate::guard::{catch, log_panic};

/// The resolvers of all that wait.
pub(super) struct Waiters<T: 'static> {
    /// In the order in which they came. A map, so that leaving is cheap from any place and leaves
    /// nothing behind.
    waiters: BTreeMap<WaiterId, Resolver<T>>,
    next: u64,
}

/// Names one waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaiterId(u64);

impl<T> Waiters<T> {
    pub(super) fn new() -> Self {
        Self {
            waiters: BTreeMap::new(),
            next: 0,
        }
    }

    /// An id to join with: the canceller has to know it before there is a resolver.
    pub(super) fn draw(&mut self) -> WaiterId {
        self.next += 1;
        WaiterId(self.next)
    }

    pub(super) fn join(&mut self, id: WaiterId, resolver: Resolver<T>) {
        self.waiters.insert(id, resolver);
    }

    pub(super) fn leave(&mut self, id: WaiterId) -> Option<Resolver<T>> {
        self.waiters.remove(&id)
    }

    /// The one who came first, and leaves now.
    pub(super) fn call_up(&mut self) -> Option<(WaiterId, Resolver<T>)> {
        self.waiters.pop_first()
    }

    /// Forgets those whose Deferred was dropped, so that nobody would get what they are handed.
    pub(super) fn forget_unheard(&mut self) {
        self.waiters.retain(|_, resolver| !resolver.is_unheard());
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }
}

/// The right to hand out: held by the first call, and by none of those inside it.
pub(super) struct HandOut<'a>(&'a Cell<bool>);

impl<'a> HandOut<'a> {
    /// `None` if a call further up the stack has it.
    pub(super) fn take(is_taken: &'a Cell<bool>) -> Option<Self> {
        if is_taken.replace(true) {
            return None;
        }
        Some(Self(is_taken))
    }

    /// Fires one who waited. The panic of a `Drop` must not cost the others their turn.
    pub(super) fn hand<T: 'static>(&self, resolver: Resolver<T>, value: T, line: Line) {
        // Those who have been cancelled have left, so it is pending.
        if let Err(payload) = catch(|| resolver.fire_at(Ok(value), line)) {
            log_panic(
                "deferred",
                "what was dropped by a callback at its turn",
                payload,
            );
        }
    }
}

impl Drop for HandOut<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
