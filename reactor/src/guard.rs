//! Where the panics of users' code stop.
//!
//! Two functions contain a panic: [`catch`] hands it back, and [`guard`] logs it. Everything of the
//! user's that is called or dropped goes through one of them. This file uses the log, and nothing
//! else of the package.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Calls something that belongs to the user. A panic in it is handed back.
///
/// Unwind safety: the closure is consumed, and what it shares with others is theirs to mind, as with
/// a thread that panics while it holds a lock.
#[inline]
pub(crate) fn catch<R>(call: impl FnOnce() -> R) -> thread::Result<R> {
    catch_unwind(AssertUnwindSafe(call))
}

/// Calls something that belongs to the user. A panic in it is logged, and nothing more.
pub(crate) fn guard<R>(what: impl Display, call: impl FnOnce() -> R) -> Option<R> {
    match catch(call) {
        Ok(value) => Some(value),
        Err(payload) => {
            log_panic("reactor", what, payload);
            None
        }
    }
}

/// Does the same for each of several. After a panic, which comes from something that was dropped
/// where nobody looks closer, it goes on with the next.
#[inline]
pub(crate) fn guard_each<T>(
    what: impl Display + Copy,
    mut items: impl Iterator<Item = T>,
    mut call: impl FnMut(T),
) {
    // One guard for all, as long as nothing panics.
    while guard(what, || items.by_ref().for_each(&mut call)).is_none() {}
}

/// Logs what [`catch`] has handed back.
#[cold]
pub(crate) fn log_panic(target: &str, what: impl Display, payload: Box<dyn Any + Send>) {
    crate::logging::error!(target: target, "{what} panicked: {}", message(payload));
}

/// What a panic says.
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => {
                // Its `Drop` may panic in turn, and that has to stop here as well.
                let _ = catch(|| drop(payload));
                "a panic whose payload is not text".to_owned()
            }
        },
    }
}
