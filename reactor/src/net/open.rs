//! Where connections are opened: every `listen_*` and `connect_*` of the reactor.

use std::cell::Cell;
use std::rc::{Rc, Weak};

#[cfg(unix)]
use super::UnixClientEndpoint;
use super::dial::Link;
use super::{
    Address, ClientEndpoint, ClientFactory, Connector, Factory, Protocol, TcpClientEndpoint,
    Transport,
};
use crate::deferred::{Deferred, Failure};
use crate::reactor::Reactor;

impl Reactor {
    /// Connects to a TCP port, and makes a protocol when the connection is there.
    ///
    /// `address` is `"host:port"`, `(host, port)` or a `SocketAddr`; for a limit other than 30
    /// seconds, or a local address, give a [`TcpClientEndpoint`]. Whatever goes wrong, also with the
    /// text of the address, is told to the factory. Connecting begins when the reactor runs.
    ///
    /// A name is looked up in a thread of the pool, unless there is
    /// [another way](Self::install_name_resolver). A thread cannot be interrupted: when the reactor
    /// stops meanwhile, [`run`](Self::run) returns once the system has answered.
    ///
    /// ```
    /// use deferred_reactor::net::{Protocol, Transport, for_protocol};
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// struct Ping;
    ///
    /// impl Protocol for Ping {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
    ///         transport.write(b"ping");
    ///         Ok(())
    ///     }
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         println!("{}", String::from_utf8_lossy(data));
    ///         transport.lose_connection();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let connector = reactor.connect_tcp("localhost:7", for_protocol(|| Ping));
    /// assert_eq!(connector.address(), "localhost:7");
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn connect_tcp(
        &self,
        address: impl Into<TcpClientEndpoint>,
        factory: impl ClientFactory,
    ) -> Connector {
        let endpoint = ClientEndpoint::Tcp(address.into());
        Connector::of(Link::start(self.core(), endpoint, Rc::new(factory), None))
    }

    /// Connects to a UNIX socket, and makes a protocol when the connection is there.
    ///
    /// `path` is a path, or a [`UnixClientEndpoint`] for a limit other than 30 seconds. The rest is
    /// as for [`connect_tcp`](Self::connect_tcp).
    ///
    /// ```no_run
    /// # use deferred_reactor::net::{Protocol, Transport, for_protocol};
    /// # use deferred_reactor::{Failure, Reactor};
    /// # struct Query;
    /// # impl Protocol for Query {
    /// #     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> { Ok(()) }
    /// # }
    /// let reactor = Reactor::new()?;
    /// reactor.connect_unix("/run/counter.sock", for_protocol(|| Query));
    /// reactor.run()?;
    /// # Ok::<(), Failure>(())
    /// ```
    #[cfg(unix)]
    pub fn connect_unix(
        &self,
        path: impl Into<UnixClientEndpoint>,
        factory: impl ClientFactory,
    ) -> Connector {
        let endpoint = ClientEndpoint::Unix(path.into());
        Connector::of(Link::start(self.core(), endpoint, Rc::new(factory), None))
    }

    /// Connects, once, for one protocol (Twisted's `connectProtocol`).
    ///
    /// The Deferred fires when `connection_made` of the protocol has been called, with the transport
    /// of the connection; or with the reason why there is none, which is what
    /// [`client_connection_failed`](ClientFactory::client_connection_failed) would get. Cancelling it
    /// stops connecting. Dropping it does not.
    ///
    /// ```
    /// use deferred_reactor::net::{ConnectionRefusedError, Protocol, Transport};
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// struct Shout;
    ///
    /// impl Protocol for Shout {
    ///     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         println!("{}", String::from_utf8_lossy(data).to_uppercase());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let stop = reactor.clone();
    /// reactor
    ///     .connect_protocol("127.0.0.1:1", Shout)
    ///     .map(|transport| transport.write(b"anybody there?"))
    ///     .add_errback(|failure| {
    ///         failure.trap::<ConnectionRefusedError>()?;
    ///         Ok(())
    ///     })
    ///     .add_both(move |result| {
    ///         stop.stop()?;
    ///         result
    ///     });
    /// reactor.run()?;
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn connect_protocol(
        &self,
        endpoint: impl Into<ClientEndpoint>,
        protocol: impl Protocol,
    ) -> Deferred<Transport> {
        let link = Rc::new(Cell::new(Weak::<Link>::new()));
        let to_stop = link.clone();
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            // The Deferred has its result when this returns; that of connecting comes too late.
            if let Some(link) = to_stop.take().upgrade() {
                Connector::of(link).disconnect();
            }
        });
        let factory = Rc::new(OneProtocol(Cell::new(Some(Box::new(protocol)))));
        let started = Link::start(self.core(), endpoint.into(), factory, Some(resolver));
        link.set(Rc::downgrade(&started));
        deferred
    }
}

/// The factory behind `connect_protocol`, which tells the Deferred and not the factory.
struct OneProtocol(Cell<Option<Box<dyn Protocol>>>);

impl Factory for OneProtocol {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.0.take()
    }
}

impl ClientFactory for OneProtocol {
    fn client_connection_failed(&self, _: &Connector, _: &Failure) {}
}
