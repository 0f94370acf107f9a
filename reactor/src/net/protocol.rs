//! The traits that users implement to speak on a connection.

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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    note = "`impl Protocol for {Self}` needs one method, `data_received`; a type that reads lines or \
            strings goes into a receiver of `deferred_reactor::protocols`, and what makes protocols, \
            such as `for_protocol(|| ...)`, is a factory and not a protocol"
)]
pub trait Protocol: 'static {
    /// The connection was established. The transport may be cloned and kept.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        let _ = transport;
        Ok(())
    }

    /// Bytes were received: any number, split anywhere. `data` is empty only after
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

    /// The peer has closed its sending side, but may still read.
    ///
    /// The default closes the connection once everything is sent; a producer that keeps it open is
    /// stopped at once. A protocol that overrides this supports half-closed connections (Twisted's
    /// `IHalfCloseableProtocol`).
    fn read_connection_lost(&mut self, transport: &Transport) {
        transport.close_after_peer();
    }

    /// The peer closed its side or went away while this protocol had
    /// [paused](Transport::pause_producing) reading, with unread input left. Called at most once.
    ///
    /// For a protocol that works on an answer and wants to know whether the client still waits for
    /// it. The unread input can still be read; [`read_connection_lost`](Self::read_connection_lost)
    /// follows it, as always. After a reset by the peer, `connection_lost` is called, paused or
    /// not.
    ///
    /// The end of the stream comes after all bytes of the peer. If the peer has sent more than the
    /// socket's receive buffer holds (some 100 KiB on most systems), the system learns of the end
    /// only after the protocol has read some of it.
    fn peer_closed(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The sending side is closed, as requested by [`lose_write_connection`]: everything is sent,
    /// and later writes are ignored. The peer may still send.
    ///
    /// [`lose_write_connection`]: Transport::lose_write_connection
    fn write_connection_lost(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The system accepts no more output for now: the peer reads more slowly than this protocol
    /// writes.
    ///
    /// Called once, and again only after [`write_drained`](Self::write_drained), which follows once
    /// the system has accepted everything. A deadline for the peer to read starts here;
    /// [`Transport::sent`] shows its progress.
    fn write_blocked(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The system has accepted all output. Called after more than [64
    /// KiB](Transport::set_buffer_limit) had been queued, after the system had not accepted
    /// everything at once, or after [`notify_drained`](Transport::notify_drained).
    ///
    /// A protocol that writes much stops when [`buffered`](Transport::buffered) grows, and
    /// continues here. Code that produces bytes by itself should be
    /// [registered](Transport::register_producer) as a producer instead.
    fn write_drained(&mut self, transport: &Transport) {
        let _ = transport;
    }

    /// The connection has ended; called once, and last.
    ///
    /// The reason holds [`ConnectionDone`](super::ConnectionDone),
    /// [`ConnectionLost`](super::ConnectionLost), [`ConnectionAborted`](super::ConnectionAborted),
    /// or the error that this protocol returned. To fail several waiting Deferreds with it, use
    /// [`Failure::share`].
    fn connection_lost(&mut self, reason: &Failure) {
        let _ = reason;
    }

    /// Names the protocol in records of slow callbacks.
    #[doc(hidden)]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// Makes the protocol for each connection (Twisted's `Factory`).
///
/// [`for_protocol`] makes a factory from a function. Write a type of your own for a factory that checks the address of the peer, or does something when it is started and stopped. The factory gives its protocols the data that they share, usually as an `Rc`:
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
/// A factory in an `Rc` can listen on several ports: it is started once before the first port
/// opens, and stopped once after the last has closed. A factory that wraps another forwards all its
/// methods; [`shared_identity`](Self::shared_identity) has an example. For client connections, see
/// [`ClientFactory`].
pub trait Factory: 'static {
    /// Returns the protocol for a new connection from `peer`, or `None` to close the connection.
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>>;

    /// A port with this factory is open. Called for each port, after
    /// [`start_factory`](Self::start_factory). For a factory that closes its ports itself, or needs
    /// their reactor.
    fn port_opened(&self, port: &Port) {
        let _ = port;
    }

    /// Called before the first port opens, or before the first client connects.
    fn start_factory(&self) {}

    /// Called after the last port has closed and the last client connection has ended.
    fn stop_factory(&self) {}

    /// Identifies a factory that is used in several places; `None` for a factory used in one.
    ///
    /// The reactor counts the ports and connectors of each identity, so that the factory is started
    /// once and stopped once. A factory in an `Rc` has an identity. A wrapper that forwards
    /// `start_factory` and `stop_factory` must forward this method too, otherwise the inner factory
    /// is started once for each wrapper:
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

/// Identifies one shared [`Factory`]: see [`Factory::shared_identity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FactoryIdentity(usize);

impl FactoryIdentity {
    /// Identifies the value behind an `Rc`; the same for all clones.
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
        // The identity of a wrapper in an `Rc` is that of its inner factory, if the inner one is
        // shared.
        let inner = (**self).shared_identity();
        inner.or_else(|| Some(FactoryIdentity::of(self)))
    }
}

/// Makes a factory from a function that makes protocols, for servers and for clients (Twisted's
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
