//! Waiters of a semaphore or a queue, first come, first served.
//!
//! Both fire the resolver of the first waiter, and its callbacks may cause the next hand-over. If
//! each of these fired the next waiter inside itself, a row of waiters would grow the stack. So the
//! outermost call also makes the hand-overs requested inside it ([`HandOut`]).

use std::cell::Cell;
use std::collections::BTreeMap;

use super::Resolver;
use super::chain::Line;
use crate::guard::{catch, log_panic};

/// The resolvers of all waiters.
pub(super) struct Waiters<T: 'static> {
    /// In order of arrival. A map, so that a waiter can leave from any place at low cost.
    waiters: BTreeMap<WaiterId, Resolver<T>>,
    next: u64,
}

/// Identifies one waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaiterId(u64);

impl<T> Waiters<T> {
    pub(super) fn new() -> Self {
        Self {
            waiters: BTreeMap::new(),
            next: 0,
        }
    }

    /// Assigns an id for a new waiter: the canceller needs it before there is a resolver.
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

    /// Removes and returns the first waiter.
    pub(super) fn call_up(&mut self) -> Option<(WaiterId, Resolver<T>)> {
        self.waiters.pop_first()
    }

    /// Removes waiters whose Deferred was dropped, so that nothing is handed to them.
    pub(super) fn forget_unheard(&mut self) {
        self.waiters.retain(|_, resolver| !resolver.is_unheard());
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }
}

/// The right to hand over: held by the outermost call.
pub(super) struct HandOut<'a>(&'a Cell<bool>);

impl<'a> HandOut<'a> {
    /// `None` if a call further up the stack holds it.
    pub(super) fn take(is_taken: &'a Cell<bool>) -> Option<Self> {
        if is_taken.replace(true) {
            return None;
        }
        Some(Self(is_taken))
    }

    /// Fires a waiter. A panic in a `Drop` must not stop the other hand-overs.
    pub(super) fn hand<T: 'static>(&self, resolver: Resolver<T>, value: T, line: Line) {
        // Cancelled waiters have been removed, so this one is pending.
        if let Err(payload) = catch(|| resolver.fire_at(Ok(value), line)) {
            log_panic("deferred", "a value dropped by a callback", payload);
        }
    }
}

impl Drop for HandOut<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
