//! Why a connection ended, or a port could not be opened.

use std::error::Error;
use std::fmt;
use std::io;

/// The connection was closed cleanly by the peer or by this side, and everything was sent.
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
    /// The error of the system, if the system reported one.
    pub cause: Option<io::Error>,
}

impl Clone for ConnectionLost {
    fn clone(&self) -> Self {
        // `io::Error` cannot be cloned, but its number can be copied.
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
        f.write_str("the connection was aborted on this side by abort_connection")
    }
}

impl Error for ConnectionAborted {}

/// A port could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub struct CannotListenError {
    /// The interface and port that were asked for.
    pub address: String,
    /// The error of the system.
    pub cause: io::Error,
}

impl CannotListenError {
    /// For whatever else opens ports: what was asked for, and what the system said.
    pub fn new(address: impl fmt::Display, cause: io::Error) -> Self {
        let address = address.to_string();
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
    use crate::deferred::Failure;

    #[test]
    fn a_shared_connection_lost_says_what_the_system_said() {
        let cause = Some(io::Error::from_raw_os_error(104));
        let lost = Failure::cloneable(ConnectionLost { cause });
        let shared = lost.share().share();
        let cause = &shared.check::<ConnectionLost>().unwrap().cause;
        assert_eq!(cause.as_ref().unwrap().raw_os_error(), Some(104));
    }
}
