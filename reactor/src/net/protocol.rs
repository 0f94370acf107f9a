//! What users write: how to speak on a connection.

use std::rc::Rc;

use bytes::Bytes;

use super::{Address, ClientFactory, Port, Transport};
use crate::deferred::Failure;

/// One end of one connection (Twisted's `Protocol`).
///
/// The reactor calls these methods one at a time, never one from inside another. A method that
/// returns an error or panics loses its connection, and no other: the problem is logged, and is
/// the reason that `connection_lost` gets.
///
/// ```
/// use deferred_reactor::{Failure, net::{Protocol, Transport}};
///
/// /// Sends everything back.
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
///         transport.write(data);
///         if transport.buffered() > 64 * 1024 {
///             transport.pause_producing(); // the peer does not read: it gets no more memory
///         }
///         Ok(())
///     }
///
///     fn write_drained(&mut self, transport: &Transport) {
///         transport.resume_producing();
///     }
/// }
/// ```
pub trait Protocol: 'static {
    /// The connection is there. The transport may be cloned and kept.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        let _ = transport;
        Ok(())
    }

    /// Some bytes have come: any number, wherever they happened to be cut. `data` is empty only after
    /// [`Transport::deliver_again`].
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure>;

    /// The same, with bytes that can be kept: called in the place of
    /// [`data_received`](Self::data_received), and calling that unless overridden, while the protocol
    /// has asked for it by [`Transport::receive_bytes`].
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn bytes_received(&mut self, transport: &Transport, data: Bytes) -> Result<(), Failure> {
        self.data_received(transport, &data)
    }

    /// The peer will send no more, but may still read.
    ///
    /// Closes the connection once everything is sent, unless overridden: that is how a protocol
    /// says that it knows about connections that are closed on one side only (Twisted's
    /// `IHalfCloseableProtocol`). A producer that keeps the connection open is told to stop at once.
    fn read_connection_lost(&mut self, transport: &Transport) {
        transport.close_after_peer();
    }

    /// The peer will send no more, or has gone altogether, and there is input that this protocol has
    /// not read, since it has [paused](Transport::pause_producing). Called at most once.
    ///
    /// For a protocol that works on an answer and wants to know whether somebody waits for it. What
    /// the peer has sent can still be read: [`read_connection_lost`](Self::read_connection_lost)
    /// comes behind it, as always. A peer that resets the connection is told by `connection_lost`,
    /// paused or not.
    ///
    /// The end comes behind all that the peer has sent, so the system learns of it when it has room
    /// for the rest. The end of a peer that has sent more than the receive buffer of the socket holds,
    /// some 100 KiB on most systems, is noticed when the protocol has read some of it.
    fn peer_closed(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// Our sending side is closed, as [`lose_write_connection`] had asked: everything is sent, and
    /// what is written from now on is ignored. The peer may go on sending.
    ///
    /// [`lose_write_connection`]: Transport::lose_write_connection
    fn write_connection_lost(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The system takes no more for now: the peer reads more slowly than this protocol writes.
    ///
    /// Called once, and again only after [`write_drained`](Self::write_drained), which follows when
    /// everything that was written has been taken. A deadline for the peer to read begins here; how
    /// far it has come is [`Transport::sent`].
    fn write_blocked(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// All that was written has been taken by the system, after more than
    /// [64 KiB](Transport::set_buffer_limit) had been queued, or the system had not taken
    /// everything at once, or after [`notify_drained`](Transport::notify_drained).
    ///
    /// Who writes much waits for this when [`buffered`](Transport::buffered) grows. What makes
    /// bytes for a connection by itself is better [registered](Transport::register_producer).
    fn write_drained(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The connection is gone; called once, and last.
    ///
    /// The reason holds [`ConnectionDone`](super::ConnectionDone),
    /// [`ConnectionLost`](super::ConnectionLost), [`ConnectionAborted`](super::ConnectionAborted),
    /// or the error that this protocol returned. To fail what still waits for the peer with it, see
    /// [`Failure::share`].
    fn connection_lost(&mut self, reason: &Failure) {
        let _ = reason;
    }

    /// What it is called when it is slow.
    #[doc(hidden)]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// Makes the protocol for each connection (Twisted's `Factory`).
///
/// [`for_protocol`] makes one out of a function. A type of its own is for factories that look at the
/// peer, or want to know when they are started and stopped. What the protocols share, they are given
/// here, usually as an `Rc`:
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use deferred_reactor::net::{Address, Factory, Protocol, Transport};
/// use deferred_reactor::{Failure, testing::MemoryReactor};
///
/// /// Tells each client how many have come, and lets in three.
/// #[derive(Default)]
/// struct Doorman { guests: Rc<Cell<u32>> }
///
/// struct Guest { guests: Rc<Cell<u32>> }
///
/// impl Factory for Doorman {
///     fn build_protocol(&self, _peer: &Address) -> Option<Box<dyn Protocol>> {
///         (self.guests.get() < 3).then(|| {
///             self.guests.set(self.guests.get() + 1);
///             Box::new(Guest { guests: self.guests.clone() }) as Box<dyn Protocol>
///         })
///     }
/// }
///
/// impl Protocol for Guest {
///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
///         transport.write(format!("{}\n", self.guests.get()).as_bytes());
///         Ok(())
///     }
///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
///         Ok(())
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// memory.listen_tcp("127.0.0.1:7000", Doorman::default())?;
/// for want in ["1\n", "2\n", "3\n", ""] {
///     let client = memory.connect_to("127.0.0.1:7000")?;
///     assert_eq!(client.exchange(""), want.as_bytes());
/// }
/// # Ok::<(), Failure>(())
/// ```
///
/// A factory in an `Rc` can listen on several ports: it is started once before the first opens,
/// and stopped once after the last has closed. A factory around another one forwards all its
/// methods: [`shared_identity`](Self::shared_identity) has an example. For client connections, see
/// [`ClientFactory`].
pub trait Factory: 'static {
    /// A protocol for a new connection from `peer`, or `None` to close it.
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>>;

    /// A port is open that makes its connections with this factory: for one that closes its ports
    /// itself, or has something to do when their reactor stops. Called for each port, after
    /// [`start_factory`](Self::start_factory).
    fn port_opened(&self, port: &Port) {
        let _ = port;
    }

    /// The first port is open, or the first client is about to connect.
    fn start_factory(&self) {}

    /// The last port has closed, and no client connects or is connected any more.
    fn stop_factory(&self) {}

    /// What tells a factory that is used in several places from others; `None` for one that is not.
    ///
    /// The reactor counts by it how many ports and connectors use a factory, so that it is started
    /// once and stopped once. An `Rc` has one. A factory around another one that forwards
    /// `start_factory` and `stop_factory` forwards this as well, or the inner one would be started
    /// once for each wrapper:
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use deferred_reactor::net::{Address, Factory, FactoryIdentity, Port, Protocol};
    /// use deferred_reactor::testing::MemoryReactor;
    ///
    /// /// Lets in connections from this machine.
    /// struct LocalOnly<F>(F);
    ///
    /// impl<F: Factory> Factory for LocalOnly<F> {
    ///     fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
    ///         let is_local = peer.socket_addr().is_none_or(|peer| peer.ip().is_loopback());
    ///         is_local.then(|| self.0.build_protocol(peer))?
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
    ///         self.0.shared_identity()
    ///     }
    /// }
    ///
    /// /// Counts how often it is started.
    /// struct Counts(Cell<u32>);
    ///
    /// impl Factory for Counts {
    ///     fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
    ///         None
    ///     }
    ///     fn start_factory(&self) {
    ///         self.0.set(self.0.get() + 1);
    ///     }
    /// }
    ///
    /// let memory = MemoryReactor::new();
    /// let shared = Rc::new(Counts(Cell::new(0)));
    /// for address in ["127.0.0.1:7001", "127.0.0.1:7002"] {
    ///     memory.listen_tcp(address, LocalOnly(shared.clone()))?;
    /// }
    /// assert_eq!(shared.0.get(), 1);
    /// # Ok::<(), deferred_reactor::Failure>(())
    /// ```
    fn shared_identity(&self) -> Option<FactoryIdentity> {
        None
    }
}

/// Tells one shared [`Factory`] from another: see [`Factory::shared_identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FactoryIdentity(usize);

impl FactoryIdentity {
    /// That of the value behind an `Rc`, the same for all its clones.
    pub fn of<F: ?Sized>(shared: &Rc<F>) -> Self {
        Self(Rc::as_ptr(shared).cast::<()>() as usize)
    }
}

impl<F: Factory + ?Sized> Factory for Rc<F> {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        (**self).build_protocol(peer)
    }

    fn port_opened(&self, port: &Port) {
        (**self).port_opened(port);
    }

    fn start_factory(&self) {
        (**self).start_factory();
    }

    fn stop_factory(&self) {
        (**self).stop_factory();
    }

    fn shared_identity(&self) -> Option<FactoryIdentity> {
        // A wrapper in an `Rc` is its inner factory, if that is shared.
        let inner = (**self).shared_identity();
        inner.or_else(|| Some(FactoryIdentity::of(self)))
    }
}

/// A factory out of a function that makes protocols, for servers and for clients (Twisted's
/// `Factory.forProtocol`).
///
/// ```
/// use deferred_reactor::{Failure, Reactor, net::{Protocol, Transport, for_protocol}};
///
/// struct Hello;
///
/// impl Protocol for Hello {
///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
///         transport.write(b"hello\r\n");
///         transport.lose_connection();
///         Ok(())
///     }
///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
///         Ok(())
///     }
/// }
///
/// let reactor = Reactor::new()?;
/// let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(|| Hello))?;
/// assert_ne!(port.address().port(), Some(0));
/// # Ok::<(), Failure>(())
/// ```
pub fn for_protocol<P: Protocol>(make: impl Fn() -> P + 'static) -> impl ClientFactory {
    struct ForProtocol<F>(F);

    impl<P: Protocol, F: Fn() -> P + 'static> Factory for ForProtocol<F> {
        fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
            Some(Box::new((self.0)()))
        }
    }

    impl<P: Protocol, F: Fn() -> P + 'static> ClientFactory for ForProtocol<F> {}

    ForProtocol(make)
}
