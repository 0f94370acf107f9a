//! The [`Connector`]: the user's handle of a client connection.

use std::fmt;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Instant;

#[cfg(doc)]
use super::ClientFactory;
use super::dial::{Dialer, State};
use super::{ConnectorError, Transport, UserError};
use crate::deferred::Failure;
use crate::reactor::Reactor;
use crate::time::TimeSource;

/// Makes connections to one endpoint, for one factory, one at a time (Twisted's `IConnector`).
///
/// | state        | left by                              | then, and what the factory gets         |
/// |--------------|--------------------------------------|-----------------------------------------|
/// | disconnected | [`connect`](Self::connect)           | connecting: `started_connecting`        |
/// | connecting   | the first address that answers       | connected: `build_protocol`             |
/// | connecting   | the failure of the last address, the time limit, [`stop_connecting`](Self::stop_connecting), the end of the reactor | disconnected: `client_connection_failed` |
/// | connected    | the end of the connection            | disconnected: `client_connection_lost`  |
///
/// The addresses of a name are tried in the order of RFC 8305: the two IP families alternate, and
/// each attempt begins 250 milliseconds after the previous one, or at once when that has failed.
/// The first attempt that connects wins, and the others are closed. The loop calls the factory's
/// methods about failures later, never inside the call that failed.
///
/// Cheap to clone. Dropping it stops nothing: the reactor keeps attempts and connections. A
/// connector keeps its factory alive, so a factory that stores its own connector is never dropped.
#[derive(Clone)]
pub struct Connector(Rc<Dialer>);

/// The state of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectorState {
    /// There is no connection and no attempt.
    Disconnected,
    /// A name is being looked up, or an attempt is pending; or connecting has failed, and the
    /// factory has not been called yet.
    Connecting,
    /// There is a connection.
    Connected,
}

impl Connector {
    /// The source line that asked for the connection.
    pub(super) fn line(&self) -> &'static Location<'static> {
        self.0.line
    }

    /// Connects again. Calls [`started_connecting`](ClientFactory::started_connecting) before it
    /// returns.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::AlreadyConnecting`], [`ConnectorError::AlreadyConnected`], or
    /// [`ConnectorError::ReactorGone`].
    pub fn connect(&self) -> Result<(), ConnectorError> {
        self.0.connect()
    }

    /// Stops connecting. The factory's `client_connection_failed` is called later, not inside this
    /// call, with a [`UserError`].
    ///
    /// # Errors
    ///
    /// [`ConnectorError::NotConnecting`] if the connector is disconnected or connected.
    pub fn stop_connecting(&self) -> Result<(), ConnectorError> {
        let core = self.0.core.upgrade().ok_or(ConnectorError::ReactorGone)?;
        let address = self.0.address.clone();
        match self
            .0
            .fail(&core, |_| Failure::cloneable(UserError { address }))
        {
            true => Ok(()),
            false => Err(ConnectorError::NotConnecting),
        }
    }

    /// Stops connecting, or closes the connection once everything is sent; does nothing when
    /// disconnected.
    pub fn disconnect(&self) {
        let transport = match &*self.0.state.borrow() {
            State::Connected(Some(transport)) => Some(transport.clone()),
            State::Connected(None) => {
                self.0.leaves_at_once.set(true);
                None
            }
            _ => None,
        };
        match transport {
            Some(transport) => transport.lose_connection(),
            // Fails if the connector is not connecting; then there is nothing to do.
            None => drop(self.stop_connecting()),
        }
    }

    /// The endpoint as it was given: `example.org:80`, `unix:/run/db.sock`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// The state of the connector.
    pub fn state(&self) -> ConnectorState {
        match &*self.0.state.borrow() {
            State::Disconnected => ConnectorState::Disconnected,
            State::Connecting(_) | State::Failed(_) => ConnectorState::Connecting,
            State::Connected(_) => ConnectorState::Connected,
        }
    }

    /// The transport of the connection, if there is one; its protocol uses the same.
    pub fn transport(&self) -> Option<Transport> {
        match &*self.0.state.borrow() {
            State::Connected(transport) => transport.clone(),
            _ => None,
        }
    }

    /// The reactor of the connector; `None` once the reactor is dropped.
    pub fn reactor(&self) -> Option<Reactor> {
        self.0.core.upgrade().map(Reactor::from_core)
    }

    /// The time of the reactor; after the reactor is dropped, a time that stands still.
    pub(super) fn time_source(&self) -> TimeSource {
        match self.0.core.upgrade() {
            Some(core) => core.time().clone(),
            None => TimeSource::frozen_at(Instant::now()),
        }
    }

    pub(super) fn of(dialer: Rc<Dialer>) -> Self {
        Self(dialer)
    }

    pub(super) fn downgrade(&self) -> WeakConnector {
        WeakConnector(Rc::downgrade(&self.0))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.0.address)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// A connector that its factory may keep, without a cycle.
pub(super) struct WeakConnector(Weak<Dialer>);

impl WeakConnector {
    pub(super) fn upgrade(&self) -> Option<Connector> {
        self.0.upgrade().map(Connector)
    }

    pub(super) fn is(&self, connector: &Connector) -> bool {
        std::ptr::eq(self.0.as_ptr(), Rc::as_ptr(&connector.0))
    }
}
