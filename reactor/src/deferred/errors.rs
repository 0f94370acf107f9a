//! The errors that a Deferred itself brings about.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::failure::Failure;

/// The result had been decided before (Twisted's `AlreadyCalledError`).
///
/// A [`Resolver`](crate::Resolver) is consumed by firing, so this is left for the races that no
/// type rules out: a canceller, or a timeout, that came first.
///
/// With [`set_debugging`](crate::deferred::set_debugging) on it also tells where the Deferred was made and where it
/// was fired first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlreadyCalledError {
    pub(crate) history: Option<History>,
}

/// The two lines that explain an [`AlreadyCalledError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) made: &'static Location<'static>,
    pub(crate) fired: &'static Location<'static>,
}

impl AlreadyCalledError {
    /// Where the Deferred was made, if debugging is on.
    pub fn made(&self) -> Option<&'static Location<'static>> {
        self.history.map(|history| history.made)
    }

    /// Where the Deferred was fired first, if debugging is on.
    pub fn first_fired(&self) -> Option<&'static Location<'static>> {
        self.history.map(|history| history.fired)
    }
}

impl fmt::Display for AlreadyCalledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this Deferred has its result already")?;
        match self.history {
            Some(History { made, fired }) => {
                write!(f, " (made at {made}, first fired at {fired})")
            }
            None => Ok(()),
        }
    }
}

impl Error for AlreadyCalledError {}

/// The Deferred was cancelled, and its canceller did not decide otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CancelledError;

impl fmt::Display for CancelledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl Error for CancelledError {}

/// What was waited for did not come in the time it was given: a Deferred's result, or a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutError {
    /// The time it was given.
    pub timeout: Duration,
    /// What did not come, unless it was a result.
    what: Option<Box<str>>,
}

impl TimeoutError {
    /// For code that keeps deadlines of its own.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            what: None,
        }
    }

    /// Where it was not a result that did not come: "connection to example.org:80".
    pub(crate) fn waiting_for(what: String, timeout: Duration) -> Self {
        Self {
            timeout,
            what: Some(what.into()),
        }
    }
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.as_deref().unwrap_or("result");
        write!(f, "no {what} within {:?}", self.timeout)
    }
}

impl Error for TimeoutError {}

/// The [`Resolver`](crate::Resolver) was dropped without firing, so no result can come any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbandonedError {
    /// Where the Deferred was made.
    pub made: &'static Location<'static>,
}

impl fmt::Display for AbandonedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the resolver of the Deferred made at {} was dropped unfired",
            self.made
        )
    }
}

impl Error for AbandonedError {}

/// A callback panicked; the panic stopped there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PanicError {
    /// The text that `panic!` was given.
    pub message: String,
}

impl fmt::Display for PanicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.message)
    }
}

impl Error for PanicError {}

/// A result was asked of a Deferred that has none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotFiredError {
    /// Where the Deferred was made.
    pub made: &'static Location<'static>,
}

impl fmt::Display for NotFiredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Deferred made at {} has no result yet", self.made)
    }
}

impl Error for NotFiredError {}

/// None of several Deferreds succeeded (Twisted's `FailureGroup`).
#[derive(Debug)]
#[non_exhaustive]
pub struct FailureGroup {
    /// The failure of each, in the order of the inputs.
    pub failures: Vec<Failure>,
}

impl fmt::Display for FailureGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failures.is_empty() {
            return f.write_str("there was no input that could succeed");
        }
        f.write_str("no input succeeded: ")?;
        for (index, failure) in self.failures.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}input {index} failed: {failure}")?;
        }
        Ok(())
    }
}

impl Error for FailureGroup {}
