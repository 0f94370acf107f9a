//! Why a connection was not made.
//!
//! Each is what the [`Failure`](crate::Failure) holds that
//! [`client_connection_failed`](super::ClientFactory::client_connection_failed) and the Deferred of
//! [`connect_protocol`](crate::Reactor::connect_protocol) get. The last of the kind is
//! [`TimeoutError`](crate::TimeoutError).

use std::error::Error;
use std::fmt;
use std::io;

use super::Address;

/// An address that was tried, and why it was in vain.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The address.
    pub address: Address,
    /// What the system said.
    pub cause: io::Error,
}

impl FailedAttempt {
    pub(super) fn new(address: Address, cause: io::Error) -> Self {
        Self { address, cause }
    }
}

/// Nobody listens there: none of the addresses took the connection, and at least one refused it
/// (Twisted's `ConnectionRefusedError`).
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionRefusedError {
    /// Where the connection was to go, as it was asked for.
    pub address: String,
    /// What was tried, in this order.
    pub attempts: Vec<FailedAttempt>,
}

/// The system could not connect, or the reactor stopped before it had (Twisted's `ConnectError`).
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// Where the connection was to go, as it was asked for.
    pub address: String,
    /// What was tried, in this order.
    pub attempts: Vec<FailedAttempt>,
    /// The reactor stopped; the attempts that had not ended by then are not in the list.
    pub is_stopped: bool,
}

/// The name could not be found, or there was none (Twisted's `DNSLookupError`).
#[derive(Debug)]
#[non_exhaustive]
pub struct LookupError {
    /// What was looked up, or the text that is not a host and a port.
    pub name: String,
    /// Why it was not found.
    pub cause: Box<dyn Error + Send + Sync>,
}

/// [`stop_connecting`](super::Connector::stop_connecting) or
/// [`disconnect`](super::Connector::disconnect) was called before there was a connection (Twisted's
/// `UserError`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserError {
    /// Where the connection was to go, as it was asked for.
    pub address: String,
}

/// The right one of [`ConnectionRefusedError`] and [`ConnectError`].
pub(super) fn all_failed(address: String, attempts: Vec<FailedAttempt>) -> crate::Failure {
    let refused =
        |attempt: &FailedAttempt| attempt.cause.kind() == io::ErrorKind::ConnectionRefused;
    if attempts.iter().any(refused) {
        ConnectionRefusedError { address, attempts }.into()
    } else {
        ConnectError {
            address,
            attempts,
            is_stopped: false,
        }
        .into()
    }
}

/// ` (127.0.0.1:80: connection refused, [::1]:80: network unreachable)`, or nothing.
///
/// The address of the only attempt is not told once more.
pub(super) struct Attempts<'a>(pub(super) &'a str, pub(super) &'a [FailedAttempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(asked_for, attempts) = self;
        let mut before = " (";
        for FailedAttempt { address, cause } in *attempts {
            f.write_str(before)?;
            before = ", ";
            let address = address.to_string();
            if attempts.len() > 1 || address != *asked_for {
                write!(f, "{address}: ")?;
            }
            write!(f, "{cause}")?;
        }
        f.write_str(if attempts.is_empty() { "" } else { ")" })
    }
}

impl fmt::Display for ConnectionRefusedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, attempts } = self;
        write!(
            f,
            "connection to {address} refused{}",
            Attempts(address, attempts)
        )
    }
}

impl Error for ConnectionRefusedError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address, attempts, ..
        } = self;
        let stopped = if self.is_stopped {
            ": the reactor stopped"
        } else {
            ""
        };
        write!(
            f,
            "cannot connect to {address}{stopped}{}",
            Attempts(address, attempts)
        )
    }
}

impl Error for ConnectError {}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot find the address of \"{}\": {}",
            self.name, self.cause
        )
    }
}

impl Error for LookupError {}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connecting to {} was stopped by its user", self.address)
    }
}

impl Error for UserError {}

/// Why a connector cannot do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectorError {
    /// It is not connecting, so there is nothing to stop.
    NotConnecting,
    /// It is connecting already, or its factory is still to be told that this failed.
    AlreadyConnecting,
    /// It has a connection already.
    AlreadyConnected,
    /// Its reactor has been dropped.
    ReactorGone,
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotConnecting => "the connector is not connecting",
            Self::AlreadyConnecting => "the connector is connecting already",
            Self::AlreadyConnected => "the connector has a connection already",
            Self::ReactorGone => "the reactor of the connector has been dropped",
        })
    }
}

impl Error for ConnectorError {}
