//! Failures that nobody handled.
//!
//! When the last handle of a Deferred goes away and its chain ends in a failure, that failure is
//! reported here, once: counted, and handed to the hook of this thread, which by default writes
//! one `error` record through [`log`] with the lines that matter; [`on_unhandled`] shows one.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::AbandonedError;
use super::failure::Failure;
use crate::guard::{catch, log_panic};

/// A failure that nobody handled, and the lines that lead to it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unhandled {
    /// What went wrong; [`Failure::location`] is where.
    pub failure: Failure,
    /// Where the Deferred was made.
    pub made: &'static Location<'static>,
    /// The last line that touched its handle.
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

/// What takes the failures, and where it was given.
#[derive(Clone)]
struct Hook {
    take: Rc<dyn Fn(Unhandled)>,
    line: &'static Location<'static>,
}

// Deferreds belong to a thread and need no reactor, so what they report to belongs to it as well.
thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static DEBUGGING: Cell<bool> = const { Cell::new(false) };
    /// What waited for a time that will not come is being dropped.
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

/// Hands the unhandled failures of this thread to `hook` instead of the log.
///
/// A failure is unhandled when the last handle of its Deferred is gone and no errback has taken it.
/// Until a hook is set, each is one `error` record with the target `deferred`:
///
/// ```text
/// unhandled failure: connection refused (made at src/feed.rs:20:9, failed at src/feed.rs:31:14,
/// dropped after src/feed.rs:24:10)
/// ```
///
/// *Made* is where the Deferred came from, *failed* where its error became a [`Failure`], and
/// *dropped after* the last line that touched the handle. They are [counted](unhandled_failures),
/// too; [`NoLostFailures`] fails a test that has some. What only waited for a delayed call when its
/// reactor stopped is none of them, but a `debug` record.
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

/// How many failures this thread has lost since it started.
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

/// Fails the test that lost a failure.
///
/// While the guard lives it collects the unhandled failures of this thread. If any are left when
/// it is dropped, it panics and names them. Failures that the test meant to lose are taken out
/// with [`flush`](Self::flush), as with trial's `flushLoggedErrors`.
///
/// What still waits for a job or a connection when its reactor is dropped fails then, and is lost as
/// well. So make the guard after the reactor: it is dropped before it, and looks at the test alone.
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

    /// Takes out what was lost so far, oldest first.
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
            panic!("{} lost failure(s):\n{}", lines.len(), lines.join("\n"));
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
    // A Deferred may be dropped while its thread is torn down; there is nobody to tell then.
    HOOK.try_with(|slot| slot.replace(hook)).ok().flatten()
}

/// Calls `end`, which drops what a reactor or a clock was to do later.
///
/// Whatever waited for that is abandoned, which is no fault of anybody's: a program that is told
/// to stop while it sleeps has lost nothing.
pub(crate) fn at_the_end(end: impl FnOnce()) {
    /// Also where `end` panics.
    struct Ended(bool);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = ENDING.try_with(|ending| ending.set(self.0));
        }
    }
    let _ended = Ended(ENDING.replace(true));
    end();
}

/// Reports one lost failure.
#[cold]
pub(crate) fn report(report: Unhandled) {
    if ENDING.try_with(Cell::get) == Ok(true) && report.failure.is::<AbandonedError>() {
        return log::debug!(
            target: "deferred",
            "the Deferred made at {} waited for a time that does not come any more",
            report.made
        );
    }
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    // Cloned out, so that a hook may lose failures itself, or install another hook.
    let hook = HOOK.try_with(|slot| slot.borrow().clone()).ok().flatten();
    match hook {
        // Often run from a `drop`, where a second panic would end the process.
        Some(hook) => {
            if let Err(payload) = catch(|| (hook.take)(report)) {
                let what = format_args!("the hook given to on_unhandled at {}", hook.line);
                log_panic("deferred", what, payload);
            }
        }
        None => crate::logging::error!(target: "deferred", "{report}"),
    }
}
