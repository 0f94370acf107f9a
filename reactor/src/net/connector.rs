//! The [`Connector`]: what users hold of a client connection.

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
/// | state        | left by                              | then, and what the factory is told      |
/// |--------------|--------------------------------------|-----------------------------------------|
/// | disconnected | [`connect`](Self::connect)           | connecting: `started_connecting`        |
/// | connecting   | the first address that answers       | connected: `build_protocol`             |
/// | connecting   | the last address that fails, the limit, [`stop_connecting`](Self::stop_connecting), the reactor's end | disconnected: `client_connection_failed` |
/// | connected    | the end of the connection            | disconnected: `client_connection_lost`  |
///
/// The addresses of a name are tried in the order of RFC 8305: those of the two families in turn,
/// each a quarter of a second after the one before, or at once when that has failed. The first that
/// connects wins, and the others are closed. The factory is never told of a failure from inside the
/// call that made it fail, but a little later, by the loop.
///
/// Cheap to clone. Dropping it stops nothing: the reactor keeps what is connecting or connected. It
/// keeps its factory, so a factory that keeps a connector of its own is never dropped.
#[derive(Clone)]
pub struct Connector(Rc<Dialer>);

/// What a connector is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectorState {
    /// Nothing.
    Disconnected,
    /// It looks up a name, or waits for an address to answer; or it has failed, and the factory is
    /// still to be told.
    Connecting,
    /// It has a connection.
    Connected,
}

impl Connector {
    /// Who asked for it.
    pub(super) fn line(&self) -> &'static Location<'static> {
        self.0.line
    }

    /// Connects once more. Calls [`started_connecting`](ClientFactory::started_connecting) before it
    /// returns.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::AlreadyConnecting`], [`ConnectorError::AlreadyConnected`], or
    /// [`ConnectorError::ReactorGone`].
    pub fn connect(&self) -> Result<(), ConnectorError> {
        self.0.connect()
    }

    /// Gives up connecting. The factory is told later, and not inside this call, with a
    /// [`UserError`].
    ///
    /// # Errors
    ///
    /// [`ConnectorError::NotConnecting`] if it is not, any more or yet.
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

    /// Gives up connecting, or closes the connection once everything is sent; does nothing
    /// otherwise.
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
            // It is not connecting, perhaps, and then there is nothing to do.
            None => drop(self.stop_connecting()),
        }
    }

    /// Where it connects to, as it was asked for: `example.org:80`, `unix:/run/db.sock`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// What it is doing.
    pub fn state(&self) -> ConnectorState {
        match &*self.0.state.borrow() {
            State::Disconnected => ConnectorState::Disconnected,
            State::Connecting(_) | State::Failed(_) => ConnectorState::Connecting,
            State::Connected(_) => ConnectorState::Connected,
        }
    }

    /// The transport of the connection, if there is one. Its protocol has one, too.
    pub fn transport(&self) -> Option<Transport> {
        match &*self.0.state.borrow() {
            State::Connected(transport) => transport.clone(),
            _ => None,
        }
    }

    /// The reactor that it connects in, unless that is gone.
    pub fn reactor(&self) -> Option<Reactor> {
        self.0.core.upgrade().map(Reactor::from_core)
    }

    /// The time of its reactor; or, where that is gone, a time that does not pass.
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

/// A connector that its factory may keep.
pub(super) struct WeakConnector(Weak<Dialer>);

impl WeakConnector {
    pub(super) fn upgrade(&self) -> Option<Connector> {
        self.0.upgrade().map(Connector)
    }

    pub(super) fn is(&self, connector: &Connector) -> bool {
        std::ptr::eq(self.0.as_ptr(), Rc::as_ptr(&connector.0))
    }
}
