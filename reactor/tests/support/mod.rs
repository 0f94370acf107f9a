//! What the tests share: a record of calls, an error, a value that knows when it is dropped, a
//! thread with a small stack, and a logger that keeps what it is given.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::sync::Once;
use std::thread;

/// What was called, in order, and with what.
#[derive(Clone, Default)]
pub(crate) struct Calls(Rc<RefCell<Vec<String>>>);

impl Calls {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn push(&self, call: impl Into<String>) {
        self.0.borrow_mut().push(call.into());
    }

    /// `function`, which from now on leaves `name(its argument)` in the record.
    pub(crate) fn note<A: fmt::Debug, R, F: FnOnce(A) -> R>(
        &self,
        name: &'static str,
        function: F,
    ) -> impl FnOnce(A) -> R + use<A, R, F> {
        let calls = self.clone();
        move |argument| {
            calls.push(format!("{name}({argument:?})"));
            function(argument)
        }
    }

    /// The record so far, which starts anew.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// An error that can be told from all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Oops(pub(crate) &'static str);

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Oops {}

/// Something to be captured, and the means to see whether it has been dropped.
pub(crate) fn tracked() -> (Tracked, IsDropped) {
    let is_dropped = IsDropped(Rc::new(Cell::new(false)));
    (Tracked(is_dropped.0.clone()), is_dropped)
}

#[derive(Debug)]
pub(crate) struct Tracked(Rc<Cell<bool>>);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

pub(crate) struct IsDropped(Rc<Cell<bool>>);

impl IsDropped {
    pub(crate) fn get(&self) -> bool {
        self.0.get()
    }
}

/// Panics when it is dropped.
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("boom");
    }
}

/// Runs a test on 256 KiB of stack, where recursion over thousands of links cannot stay unseen.
pub(crate) fn in_small_stack(test: impl FnOnce() + Send + 'static) {
    thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(test)
        .expect("a thread can be started")
        .join()
        .expect("the test passes");
}

/// Where the stack of the caller is by now.
#[inline(never)]
pub(crate) fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

thread_local! {
    static RECORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct KeepingLogger;

impl log::Log for KeepingLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        RECORDS.with_borrow_mut(|records| records.push(line));
    }

    fn flush(&self) {}
}

/// What this thread logs from now on is kept for [`logged`].
pub(crate) fn keep_log() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&KeepingLogger).expect("there is no other logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
    logged();
}

/// What this thread has logged since the last time.
pub(crate) fn logged() -> Vec<String> {
    RECORDS.take()
}
