//! Why a connection was not made.
//!
//! The [`Failure`](crate::Failure) passed to
//! [`client_connection_failed`](super::ClientFactory::client_connection_failed), and to the
//! Deferred of [`connect_protocol`](crate::Reactor::connect_protocol), holds one of these errors or
//! a [`TimeoutError`](crate::TimeoutError).

use std::error::Error;
use std::fmt;
use std::io;

use super::Address;

/// One attempt to connect that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The address.
    pub address: Address,
    /// The error of the system.
    pub cause: io::Error,
}

impl FailedAttempt {
    pub(super) fn new(address: Address, cause: io::Error) -> Self {
        Self { address, cause }
    }
}

/// No program listens at the address: no attempt succeeded, and at least one was refused (Twisted's
/// `ConnectionRefusedError`).
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectionRefusedError {
    /// The address as it was given.
    pub address: String,
    /// The failed attempts, in order.
    pub attempts: Vec<FailedAttempt>,
}

/// The system could not connect, or the reactor stopped during connecting (Twisted's
/// `ConnectError`).
#[derive(Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// The address as it was given.
    pub address: String,
    /// The failed attempts, in order.
    pub attempts: Vec<FailedAttempt>,
    /// The reactor stopped; attempts that were pending then are not in the list.
    pub is_stopped: bool,
}

/// The name was not found, or the text has no name (Twisted's `DNSLookupError`).
#[derive(Debug)]
#[non_exhaustive]
pub struct LookupError {
    /// The name, or the text that is not a host and a port.
    pub name: String,
    /// Why the lookup failed.
    pub cause: Box<dyn Error + Send + Sync>,
}

/// [`stop_connecting`](super::Connector::stop_connecting) or
/// [`disconnect`](super::Connector::disconnect) was called before there was a connection (Twisted's
/// `UserError`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserError {
    /// The address as it was given.
    pub address: String,
}

/// [`ConnectionRefusedError`] if an attempt was refused, otherwise [`ConnectError`].
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
/// The address of a single attempt is not repeated.
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

/// Why a call of a [`Connector`](super::Connector) failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The connector is not connecting, so there is nothing to stop.
    NotConnecting,
    /// The connector is connecting already, or has failed and not yet called its factory.
    AlreadyConnecting,
    /// The connector has a connection already.
    AlreadyConnected,
    /// The reactor of the connector has been dropped.
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
