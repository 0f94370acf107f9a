//! Containment of panics in users' code.
//!
//! Two functions contain a panic: [`catch`] returns it, and [`guard`] logs it. Every call into
//! users' code, and every drop of a user's value, goes through one of them. This file uses the log,
//! and nothing else of the package.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Calls users' code and returns a panic in it as the error.
///
/// Unwind safety: the closure is consumed. State that it shares with other code is that code's
/// responsibility, as with a thread that panics while it holds a lock.
#[inline]
pub(crate) fn catch<R>(call: impl FnOnce() -> R) -> thread::Result<R> {
    catch_unwind(AssertUnwindSafe(call))
}

/// Calls users' code and logs a panic in it.
pub(crate) fn guard<R>(what: impl Display, call: impl FnOnce() -> R) -> Option<R> {
    match catch(call) {
        Ok(value) => Some(value),
        Err(payload) => {
            log_panic("reactor", what, payload);
            None
        }
    }
}

/// Calls `call` for each item and logs panics. After a panic it continues with the next item.
#[inline]
pub(crate) fn guard_each<T>(
    what: impl Display + Copy,
    mut items: impl Iterator<Item = T>,
    mut call: impl FnMut(T),
) {
    // One guard for all items, as long as none panics.
    while guard(what, || items.by_ref().for_each(&mut call)).is_none() {}
}

/// Logs a panic that [`catch`] has returned.
#[cold]
pub(crate) fn log_panic(target: &str, what: impl Display, payload: Box<dyn Any + Send>) {
    crate::logging::error!(target: target, "{what} panicked: {}", message(payload));
}

/// The message of a panic.
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(payload) => {
                // Dropping the payload may panic in turn; that panic must stop here as well.
                let _ = catch(|| drop(payload));
                "a panic whose payload is not text".to_owned()
            }
        },
    }
}
