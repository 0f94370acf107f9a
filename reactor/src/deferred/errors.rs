//! The errors with which a Deferred ends by itself.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::failure::Failure;

/// The result was decided before (Twisted's `AlreadyCalledError`).
///
/// Firing consumes a [`Resolver`](crate::Resolver), so this error remains for a race with a
/// canceller or a timeout that came first.
///
/// With [`set_debugging`](crate::deferred::set_debugging) on, the error also says where the
/// Deferred was made and where it was fired first.
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
        write!(f, "the Deferred has a result already")?;
        match self.history {
            Some(History { made, fired }) => {
                write!(f, " (made at {made}, first fired at {fired})")
            }
            None => Ok(()),
        }
    }
}

impl Error for AlreadyCalledError {}

/// The Deferred was cancelled, and its canceller did not fire it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CancelledError;

impl fmt::Display for CancelledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl Error for CancelledError {}

/// A Deferred had no result, or a connection was not established, within the time limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutError {
    /// The time limit.
    pub timeout: Duration,
    /// The thing that was waited for, unless it was a result.
    what: Option<Box<str>>,
}

impl TimeoutError {
    /// For code with time limits of its own.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            what: None,
        }
    }

    /// Names a thing other than a result: "connection to example.org:80".
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

/// The [`Resolver`](crate::Resolver) was dropped without firing, so the Deferred can get no result.
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
            "the resolver of the Deferred made at {} was dropped without firing it",
            self.made
        )
    }
}

impl Error for AbandonedError {}

/// A callback panicked; the panic was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PanicError {
    /// The message of the panic.
    pub message: String,
}

impl fmt::Display for PanicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked: {}", self.message)
    }
}

impl Error for PanicError {}

/// The result of a Deferred was taken before it had one.
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
            return f.write_str("no input succeeded: there were no inputs");
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
