//! Unhandled failures.
//!
//! When the last handle of a Deferred is dropped and its chain ends in a failure, the failure is
//! reported here, once. It is counted and passed to the hook of this thread. By default it is
//! logged at level `error` with the source lines that matter; [`on_unhandled`] shows such a record.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::AbandonedError;
use super::failure::Failure;
use crate::guard::{catch, log_panic};

/// An unhandled failure, and the source lines that lead to it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unhandled {
    /// The failure; [`Failure::location`] is where it arose.
    pub failure: Failure,
    /// Where the Deferred was made.
    pub made: &'static Location<'static>,
    /// The source line of the last call on its handle.
    pub dropped: &'static Location<'static>,
    /// Where it was fired, if [`set_debugging`] is on.
    pub fired: Option<&'static Location<'static>>,
}

impl fmt::Display for Unhandled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unhandled failure: {:?} (made at {}, failed at {}, dropped after {}",
            self.failure,
            self.made,
            self.failure.location(),
            self.dropped
        )?;
        if let Some(fired) = self.fired {
            write!(f, ", fired at {fired}")?;
        }
        write!(f, ")")
    }
}

/// The function that gets the failures, and the line that set it.
#[derive(Clone)]
struct Hook {
    take: Rc<dyn Fn(Unhandled)>,
    line: &'static Location<'static>,
}

// A thread-local, because Deferreds belong to a thread and need no reactor.
thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static DEBUGGING: Cell<bool> = const { Cell::new(false) };
    /// Delayed calls are being dropped at the end of a reactor or clock.
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

/// Passes the unhandled failures of this thread to `hook` instead of the log.
///
/// A failure is unhandled when the last handle of its Deferred is dropped and no errback has taken
/// the failure. Without a hook, each is logged at level `error` with the target `deferred`:
///
/// ```text
/// unhandled failure: connection refused (made at src/feed.rs:20:9, failed at src/feed.rs:31:14,
/// dropped after src/feed.rs:24:10)
/// ```
///
/// *Made* is the line that made the Deferred, *failed* the line where its error became a
/// [`Failure`], and *dropped after* the line of the last call on the handle. Unhandled failures are
/// also [counted](unhandled_failures); [`NoLostFailures`] fails a test that has some. A Deferred
/// that waited only for a delayed call when its reactor stopped is logged at level `debug` instead,
/// and not counted.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use deferred_reactor::{Deferred, Failure, on_unhandled};
///
/// let seen = Rc::new(Cell::new(0));
/// let count = seen.clone();
/// on_unhandled(move |report| {
///     assert_eq!(report.failure.to_string(), "nobody cares");
///     count.set(count.get() + 1);
/// });
/// drop(Deferred::<()>::fail(Failure::message("nobody cares")));
/// assert_eq!(seen.get(), 1);
/// ```
#[track_caller]
pub fn on_unhandled(hook: impl Fn(Unhandled) + 'static) {
    swap_hook(Some(Hook {
        take: Rc::new(hook),
        line: Location::caller(),
    }));
}

/// Number of unhandled failures on this thread since it started.
pub fn unhandled_failures() -> u64 {
    COUNT.get()
}

/// Makes [`AlreadyCalledError`](crate::AlreadyCalledError) and [`Unhandled`] also name the line
/// that fired the Deferred, on this thread (Twisted's `setDebugging`).
pub fn set_debugging(on: bool) {
    DEBUGGING.set(on);
}

/// Whether [`set_debugging`] is on for this thread.
pub fn is_debugging() -> bool {
    DEBUGGING.get()
}

/// Fails a test in which failures were unhandled.
///
/// While the guard lives, it collects the unhandled failures of this thread. If any are left when
/// the guard is dropped, it panics and lists them. Take expected failures out with
/// [`flush`](Self::flush), as with trial's `flushLoggedErrors`.
///
/// Deferreds that wait for a job or a connection fail when their reactor is dropped, which counts
/// as well. So make the guard after the reactor: it is then dropped first.
///
/// ```should_panic
/// use deferred_reactor::{Deferred, Failure, NoLostFailures};
///
/// let _guard = NoLostFailures::new();
/// drop(Deferred::<()>::fail(Failure::message("forgotten")));
/// ```
#[must_use = "the guard looks at what happens while it lives"]
pub struct NoLostFailures {
    lost: Rc<RefCell<Vec<Unhandled>>>,
    before: Option<Hook>,
}

impl NoLostFailures {
    /// Starts to collect.
    #[allow(clippy::new_without_default, reason = "a guard is made on purpose")]
    pub fn new() -> Self {
        let lost = Rc::new(RefCell::new(Vec::new()));
        let collected = lost.clone();
        let before = swap_hook(Some(Hook {
            take: Rc::new(move |report| collected.borrow_mut().push(report)),
            line: Location::caller(),
        }));
        Self { lost, before }
    }

    /// Takes out the failures collected so far, oldest first.
    pub fn flush(&self) -> Vec<Unhandled> {
        self.lost.take()
    }
}

impl Drop for NoLostFailures {
    fn drop(&mut self) {
        swap_hook(self.before.take());
        let lost = self.lost.take();
        if !lost.is_empty() && !std::thread::panicking() {
            let lines: Vec<String> = lost.iter().map(Unhandled::to_string).collect();
            panic!(
                "{} unhandled failure(s):\n{}",
                lines.len(),
                lines.join("\n")
            );
        }
    }
}

impl fmt::Debug for NoLostFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoLostFailures")
            .field("lost", &self.lost.borrow().len())
            .finish_non_exhaustive()
    }
}

fn swap_hook(hook: Option<Hook>) -> Option<Hook> {
    // During the end of the thread there is no hook any more.
    HOOK.try_with(|slot| slot.replace(hook)).ok().flatten()
}

/// Calls `end`, which drops delayed calls at the end of a reactor or clock.
///
/// Deferreds that waited for these calls are abandoned, which is not an error: a program that is
/// stopped while it sleeps has lost nothing.
pub(crate) fn at_the_end(end: impl FnOnce()) {
    /// Restored also if `end` panics.
    struct Ended(bool);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = ENDING.try_with(|ending| ending.set(self.0));
        }
    }
    let _ended = Ended(ENDING.replace(true));
    end();
}

/// Reports one unhandled failure.
#[cold]
pub(crate) fn report(report: Unhandled) {
    if ENDING.try_with(Cell::get) == Ok(true) && report.failure.is::<AbandonedError>() {
        return log::debug!(
            target: "deferred",
            "the Deferred made at {} was abandoned: its reactor stopped before the delayed call that it waited for",
            report.made
        );
    }
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    // Cloned out, so that a hook may cause unhandled failures itself, or install another hook.
    let hook = HOOK.try_with(|slot| slot.borrow().clone()).ok().flatten();
    match hook {
        // Often called in a `drop`, where a second panic would abort the process.
        Some(hook) => {
            if let Err(payload) = catch(|| (hook.take)(report)) {
                let what = format_args!("the hook given to on_unhandled at {}", hook.line);
                log_panic("deferred", what, payload);
            }
        }
        None => crate::logging::error!(target: "deferred", "{report}"),
    }
}
