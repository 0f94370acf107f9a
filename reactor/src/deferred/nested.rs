//! Limits how deep Deferreds fire one another inside callbacks, so that the stack does not
//! overflow.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::guard::{catch, log_panic};

/// Number of nested fires before the next one is postponed.
const NESTED_FIRES: u32 = 32;

type PutOff = Box<dyn FnOnce()>;

thread_local! {
    /// Number of nested fires on the stack.
    static NESTED: Cell<u32> = const { Cell::new(0) };
    /// Postponed fires, made by the innermost fire when it is done.
    static PUT_OFF: RefCell<VecDeque<PutOff>> = const { RefCell::new(VecDeque::new()) };
}

/// Fires a Deferred inside a callback of another, as lists and `chain_deferred` do.
///
/// In a long row each fire would nest in the one before. So beyond [`NESTED_FIRES`] it is postponed
/// until the running callbacks are done.
/// those callbacks are through which this one is among.
pub(crate) fn fire_nested(fire: impl FnOnce() + 'static) {
    /// Counts down also if a `Drop` panics.
    struct Nested(u32);
    impl Drop for Nested {
        fn drop(&mut self) {
            NESTED.set(self.0);
        }
    }
    let depth = NESTED.get();
    if depth >= NESTED_FIRES {
        let mut fire = Some(fire);
        let queued = PUT_OFF.try_with(|queue| {
            if let Some(fire) = fire.take() {
                queue.borrow_mut().push_back(Box::new(fire));
            }
        });
        // The thread may be ending.
        if queued.is_err()
            && let Some(fire) = fire
        {
            fire();
        }
        return;
    }
    NESTED.set(depth + 1);
    let nested = Nested(depth);
    if depth + 1 < NESTED_FIRES {
        return fire();
    }
    let mut next: Option<PutOff> = Some(Box::new(fire));
    while let Some(fire) = next {
        if let Err(payload) = catch(fire) {
            log_panic("deferred", "a value dropped by a callback", payload);
        }
        next = PUT_OFF
            .try_with(|queue| queue.borrow_mut().pop_front())
            .ok()
            .flatten();
    }
    drop(nested);
}
