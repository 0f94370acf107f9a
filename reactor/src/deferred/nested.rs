//! Deferreds that fire one another from inside callbacks, without filling the stack.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::guard::{catch, log_panic};

/// How many Deferreds fire one another from inside callbacks before the next has to wait.
const NESTED_FIRES: u32 = 32;

type PutOff = Box<dyn FnOnce()>;

thread_local! {
    /// How many of those are on the stack.
    static NESTED: Cell<u32> = const { Cell::new(0) };
    /// What waits for the innermost of them.
    static PUT_OFF: RefCell<VecDeque<PutOff>> = const { RefCell::new(VecDeque::new()) };
}

/// Fires a Deferred from inside a callback that we have added to another, as lists do and
/// `chain_deferred`.
///
/// In a long row each would fire the next on top of itself. So, far down in one, it is put off until
/// those callbacks are through which this one is among.
pub(crate) fn fire_nested(fire: impl FnOnce() + 'static) {
    /// Counts down also when a `Drop` panics.
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
        // The thread may be on its way out.
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
            log_panic("deferred", "what was dropped by a callback", payload);
        }
        next = PUT_OFF
            .try_with(|queue| queue.borrow_mut().pop_front())
            .ok()
            .flatten();
    }
    drop(nested);
}
