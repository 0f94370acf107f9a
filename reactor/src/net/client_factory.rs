//! What users write for client connections: the [`ClientFactory`].

use std::rc::Rc;

#[cfg(doc)]
use super::{ConnectError, LookupError};
use super::{Connector, Factory, UserError};
#[cfg(doc)]
use crate::TimeoutError;
use crate::deferred::Failure;

/// Makes the protocols of client connections, and is called when connecting begins, fails or ends
/// (Twisted's `ClientFactory`).
///
/// Every [`Factory`] becomes a client factory with `impl ClientFactory for MyFactory {}`. A factory
/// in an `Rc` may be used for several connectors; it is started before the first of them connects,
/// and stopped once none is connecting or connected.
///
/// ```
/// use deferred_reactor::Failure;
/// use deferred_reactor::net::{
///     Address, ClientFactory, Connector, Factory, FactoryIdentity, Port, Protocol,
/// };
///
/// struct KeepsTrying<F>(F);
///
/// impl<F: Factory> Factory for KeepsTrying<F> {
///     fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
///         self.0.build_protocol(peer)
///     }
///     fn port_opened(&self, port: &Port) {
///         self.0.port_opened(port);
///     }
///     fn start_factory(&self) {
///         self.0.start_factory();
///     }
///     fn stop_factory(&self) {
///         self.0.stop_factory();
///     }
///     fn shared_identity(&self) -> Option<FactoryIdentity> {
///         self.0.shared_identity() // so that it is started once, however many use it
///     }
/// }
///
/// impl<F: Factory> ClientFactory for KeepsTrying<F> {
///     fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
///         eprintln!("{} is gone ({reason}), connecting again", connector.address());
///         connector.connect().expect("it is disconnected here");
///     }
/// }
/// ```
pub trait ClientFactory: Factory {
    /// Connecting has begun; `connector` can stop it here.
    fn started_connecting(&self, connector: &Connector) {
        let _ = connector;
    }

    /// Connecting failed. [`connect`](Connector::connect) tries again, here or later.
    ///
    /// The reason holds a [`ConnectionRefusedError`](super::ConnectionRefusedError), a
    /// [`TimeoutError`], a [`LookupError`], a [`UserError`] or a [`ConnectError`]; or a
    /// [`PanicError`](crate::PanicError) if `build_protocol` panicked. The default logs it as a
    /// warning.
    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        let _ = connector;
        if !reason.is::<UserError>() {
            crate::logging::warn!(target: "reactor", "{reason}");
        }
    }

    /// The connection has ended, after its protocol's `connection_lost`;
    /// [`connect`](Connector::connect) makes another.
    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        let _ = (connector, reason);
    }
}

impl<F: ClientFactory + ?Sized> ClientFactory for Rc<F> {
    fn started_connecting(&self, connector: &Connector) {
        (**self).started_connecting(connector);
    }

    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        (**self).client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        (**self).client_connection_lost(connector, reason);
    }
}
