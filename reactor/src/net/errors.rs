//! Why a connection ended, or a port could not be opened.

use std::error::Error;
use std::fmt;
use std::io;

use crate::deferred::Failure;

/// The peer closed the connection, or we did, and everything was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionDone;

impl fmt::Display for ConnectionDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was closed cleanly")
    }
}

impl Error for ConnectionDone {}

/// The connection broke, or was cut because the reactor stopped.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionLost {
    /// What the system said, if it was the system.
    pub cause: Option<io::Error>,
}

impl ConnectionLost {
    /// The same error once more, for one more of those who are to be told.
    pub fn again(&self) -> Self {
        let cause = self.cause.as_ref().map(|cause| match cause.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(cause.kind(), cause.to_string()),
        });
        Self { cause }
    }
}

impl fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was lost")
    }
}

impl Error for ConnectionLost {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// We called [`abort_connection`](super::Transport::abort_connection).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionAborted;

impl fmt::Display for ConnectionAborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was aborted on this side")
    }
}

impl Error for ConnectionAborted {}

/// The reason that a connection has ended, once more: for each of those who waited for it.
///
/// [`ConnectionDone`], [`ConnectionLost`] and [`ConnectionAborted`] stay what they are; of another
/// error, such as one that the protocol has returned, the text is left.
///
/// ```
/// use deferred_reactor::net::{self, ConnectionLost, Protocol, Transport};
/// use deferred_reactor::{Deferred, Failure, Resolver, testing::MemoryReactor};
///
/// /// A client whose questions fail with the reason when the connection does.
/// struct Questions { waiting: Vec<Resolver<String>> }
///
/// impl Protocol for Questions {
///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
///         Ok(()) // ... answers the oldest
///     }
///     fn connection_lost(&mut self, reason: &Failure) {
///         for resolver in self.waiting.drain(..) {
///             let _ = resolver.errback(net::same_reason(reason));
///         }
///     }
/// }
///
/// let (answer, resolver) = Deferred::pending();
/// let memory = MemoryReactor::new();
/// let server = memory.connect(Questions { waiting: vec![resolver] });
/// memory.pump();
/// server.reset();
/// memory.pump();
/// assert!(answer.result().unwrap_err().is::<ConnectionLost>());
/// ```
pub fn same_reason(reason: &Failure) -> Failure {
    let error: Box<dyn Error + Send + Sync> = if reason.is::<ConnectionDone>() {
        Box::new(ConnectionDone)
    } else if reason.is::<ConnectionAborted>() {
        Box::new(ConnectionAborted)
    } else if let Some(lost) = reason.check::<ConnectionLost>() {
        Box::new(lost.again())
    } else {
        reason.to_string().into()
    };
    Failure::at(error, reason.location())
}

/// A port could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct CannotListenError {
    /// The interface and port that were asked for.
    pub address: String,
    /// What the system said.
    pub cause: io::Error,
}

impl CannotListenError {
    /// For whatever else opens ports. A text given as the address is shown without its quotes.
    pub fn new(address: impl fmt::Debug, cause: io::Error) -> Self {
        let address = format!("{address:?}").trim_matches('"').to_owned();
        Self { address, cause }
    }
}

impl fmt::Display for CannotListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}", self.address)
    }
}

impl Error for CannotListenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_is_of_the_same_type_and_from_the_same_line() {
        let cause = Some(io::Error::from_raw_os_error(104));
        let lost = Failure::new(ConnectionLost { cause });
        let again = same_reason(&same_reason(&lost));
        assert_eq!(again.location(), lost.location());
        let cause = &again.check::<ConnectionLost>().unwrap().cause;
        assert_eq!(cause.as_ref().unwrap().raw_os_error(), Some(104));
        assert!(same_reason(&Failure::new(ConnectionDone)).is::<ConnectionDone>());
        assert!(same_reason(&Failure::new(ConnectionAborted)).is::<ConnectionAborted>());
        let other = same_reason(&Failure::message("line too long"));
        assert_eq!(other.to_string(), "line too long");
    }
}
