//! UDP ports.
//!
//! [`Reactor::listen_udp`](crate::Reactor::listen_udp) binds a socket and passes each datagram to a [`DatagramProtocol`]. The protocol answers through its [`UdpTransport`]. UDP has no connections and no streams: a datagram arrives whole or not at all, and an error in one does not close the port.
//!
//! Datagrams are sent at once and never queued: one that the system has no room for is dropped and
//! counted.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::rc::{Rc, Weak};

use mio::net::UdpSocket;

use super::Address;
use crate::deferred::{Deferred, Failure, Resolver};
use crate::guard::{catch, guard, log_panic};
use crate::health::{Callback, CallbackKind, Place};
use crate::reactor::{Core, Descriptor, Interest, Reactor, Readiness, SlotId};
use crate::time::TimeSource;

/// Maximum number of datagrams received in one turn.
const DATAGRAMS_PER_TURN: usize = 64;

/// Maximum number of tries to send one datagram, when the system reports errors of earlier
/// datagrams.
const TRIES: usize = 4;

/// Handles the datagrams that arrive at one port (Twisted's `DatagramProtocol`).
///
/// The reactor calls these methods one at a time, never one from inside another.
///
/// ```
/// use std::net::SocketAddr;
/// use deferred_reactor::net::{DatagramProtocol, UdpTransport};
/// use deferred_reactor::{Failure, Reactor};
///
/// /// Sends everything back.
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn datagram_received(
///         &mut self,
///         transport: &UdpTransport,
///         data: &[u8],
///         sender: SocketAddr,
///     ) -> Result<(), Failure> {
///         Ok(transport.send_to(data, sender)?)
///     }
/// }
///
/// let reactor = Reactor::new()?;
/// let port = reactor.listen_udp("127.0.0.1:0", Echo)?;
/// assert_ne!(port.address().port(), Some(0));
/// # Ok::<(), Failure>(())
/// ```
pub trait DatagramProtocol: 'static {
    /// The port is open; called once, before `listen_udp` returns. The transport may be cloned and
    /// kept.
    fn start_protocol(&mut self, transport: &UdpTransport) {
        let _ = transport;
    }

    /// A datagram was received: 0 to 65,507 bytes.
    ///
    /// # Errors
    ///
    /// Errors and panics are logged, and the port stays open.
    fn datagram_received(
        &mut self,
        transport: &UdpTransport,
        data: &[u8],
        sender: SocketAddr,
    ) -> Result<(), Failure>;

    /// The system reported the [connected](UdpTransport::connect) port unreachable. Later datagrams
    /// may arrive all the same.
    fn connection_refused(&mut self, transport: &UdpTransport) {
        let _ = transport;
    }

    /// The port is closed; called once, and last.
    fn stop_protocol(&mut self) {}

    /// Names the protocol in records of slow callbacks.
    #[doc(hidden)]
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

/// The reactor's side of a UDP port. Only the reactor owns it.
pub(crate) struct Datagrams {
    core: Weak<Core>,
    slot: SlotId,
    address: SocketAddr,
    /// `None` once closed.
    socket: RefCell<Option<UdpSocket>>,
    /// `None` once `stop_protocol` has been called.
    protocol: RefCell<Option<Box<dyn DatagramProtocol>>>,
    /// Deferreds of `stop_listening`.
    ending: RefCell<Vec<Resolver<()>>>,
    peer: Cell<Option<SocketAddr>>,
    /// The system reported a refusal while sending; `connection_refused` is still to be called.
    was_refused: Cell<bool>,
    stats: Rc<Cell<UdpStats>>,
}

impl Datagrams {
    /// Calls the protocol, then does what was requested during the call.
    fn tell(
        &self,
        what: &str,
        call: impl FnOnce(&mut dyn DatagramProtocol) -> Result<(), Failure>,
    ) {
        let outcome = {
            let mut protocol = self.protocol.borrow_mut();
            let Some(protocol) = protocol.as_deref_mut() else {
                return;
            };
            catch(|| call(protocol))
        };
        let address = self.address;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                crate::logging::error!(target: "reactor", "{what} on {address} failed: {failure:#?}");
            }
            Err(payload) => {
                log_panic("reactor", format_args!("{what} on {address}"), payload);
            }
        }
        if self.is_closed() {
            self.end();
        }
    }

    /// Closes the socket. `stop_protocol` is called now, or when the protocol returns from a call.
    fn close(&self) {
        if self.socket.take().is_some()
            && let Some(core) = self.core.upgrade()
        {
            core.release(self.slot);
        }
        self.end();
    }

    /// Ends the protocol and fires the waiting Deferreds, unless the protocol is being called.
    fn end(&self) {
        let Ok(mut slot) = self.protocol.try_borrow_mut() else {
            return;
        };
        let protocol = slot.take();
        drop(slot);
        if let Some(mut protocol) = protocol {
            guard("stop_protocol", || protocol.stop_protocol());
            // Contained, because the protocol may be dropped during a panic, and a second panic
            // aborts the process.
            guard("dropping the protocol of a port", || drop(protocol));
        }
        for resolver in self.ending.take() {
            let _ = resolver.callback(());
        }
    }

    fn is_closed(&self) -> bool {
        self.socket.borrow().is_none()
    }

    /// Receives until no datagram is left, at most [`DATAGRAMS_PER_TURN`]. Returns `true` if there
    /// may be more.
    fn receive(self: &Rc<Self>, buffer: &mut [u8]) -> bool {
        let transport = UdpTransport(Rc::downgrade(self));
        for _ in 0..DATAGRAMS_PER_TURN {
            let received = match &*self.socket.borrow() {
                Some(socket) => socket.recv_from(buffer),
                None => return false,
            };
            match received {
                Ok((_, sender)) if self.is_stranger(sender) => {}
                Ok((count, sender)) => {
                    self.count(|stats| stats.received += 1);
                    self.tell("datagram_received", |protocol| {
                        protocol.datagram_received(&transport, &buffer[..count], sender)
                    });
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return false,
                    io::ErrorKind::Interrupted => {}
                    // The peer refused one of our datagrams.
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                        self.refused(&transport);
                    }
                    // The network failed for one datagram. The next may get through.
                    _ => {
                        crate::logging::warn!(target: "reactor", "cannot receive a datagram on {}: {error}; the port stays open", self.address)
                    }
                },
            }
        }
        true
    }

    /// Whether a datagram came from another sender before the transport was connected.
    fn is_stranger(&self, sender: SocketAddr) -> bool {
        self.peer
            .get()
            .is_some_and(|peer| (peer.ip(), peer.port()) != (sender.ip(), sender.port()))
    }

    fn refused(&self, transport: &UdpTransport) {
        self.tell("connection_refused", |protocol| {
            protocol.connection_refused(transport);
            Ok(())
        });
    }

    /// Sends with either system call.
    fn send(
        self: &Rc<Self>,
        send: impl Fn(&UdpSocket) -> io::Result<usize>,
    ) -> Result<(), UdpError> {
        for _ in 0..TRIES {
            let outcome = match &*self.socket.borrow() {
                Some(socket) => send(socket),
                None => return Err(UdpError::Closed),
            };
            match outcome {
                Ok(_) => {
                    self.count(|stats| stats.sent += 1);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // The error belongs to an earlier datagram; the system reports it once, to the
                    // next call. This datagram has not been sent yet.
                    io::ErrorKind::ConnectionRefused => {
                        if !self.was_refused.replace(true)
                            && let Some(core) = self.core.upgrade()
                        {
                            core.request_service(self.clone());
                        }
                    }
                    io::ErrorKind::WouldBlock => break,
                    _ => return Err(UdpError::System(error)),
                },
            }
        }
        self.count(|stats| stats.dropped += 1);
        Ok(())
    }

    fn count(&self, change: impl FnOnce(&mut UdpStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

impl Descriptor for Datagrams {
    fn on_ready(self: Rc<Self>, core: &Rc<Core>, _: Readiness) {
        self.service(core);
    }

    fn service(self: Rc<Self>, core: &Rc<Core>) {
        if self.was_refused.replace(false) {
            self.refused(&UdpTransport(Rc::downgrade(&self)));
        }
        let mut buffer = core.take_read_buffer();
        let has_more = self.receive(&mut buffer);
        core.put_read_buffer(buffer);
        if has_more {
            core.request_service(self);
        }
    }

    fn shut_down(self: Rc<Self>, _: &Rc<Core>) {
        self.close();
    }

    fn callback(&self) -> Callback {
        let protocol = self.protocol.borrow();
        let name = protocol.as_ref().map_or("closed", |p| p.type_name());
        Callback::new(CallbackKind::Protocol, Place::Type(name))
    }
}

/// The handle through which a protocol sends datagrams (Twisted's `IUDPTransport`).
///
/// Cheap to clone and to keep; it does not keep the port open. A datagram that the system has no
/// room for is dropped and [counted](UdpStats::dropped); this is not an error.
#[derive(Clone)]
pub struct UdpTransport(Weak<Datagrams>);

impl UdpTransport {
    /// Sends one datagram to an address, at once.
    ///
    /// `to` is a [`SocketAddr`], an IP address and a port, or both as text. Names are refused,
    /// because a lookup would block the loop.
    ///
    /// # Errors
    ///
    /// [`UdpError::InvalidAddress`] for a name, for an address of another IP family than the port's, and, on a [connected](Self::connect) transport, for another address; [`UdpError::Closed`]; and [`UdpError::System`] if the system refuses the datagram, for example because it is too long.
    pub fn send_to(&self, data: &[u8], to: impl UdpAddress) -> Result<(), UdpError> {
        let datagrams = self.open()?;
        let to = datagrams.checked(&to)?;
        match datagrams.peer.get() {
            None => datagrams.send(|socket| socket.send_to(data, to)),
            Some(peer) if peer == to => datagrams.send(|socket| socket.send(data)),
            Some(_) => {
                Err(InvalidAddressError::new(to, "the port is connected to another address").into())
            }
        }
    }

    /// Sends one datagram to the address that the transport is [connected](Self::connect) to.
    ///
    /// # Errors
    ///
    /// [`UdpError::NotConnected`], and otherwise as for [`send_to`](Self::send_to).
    pub fn write(&self, data: &[u8]) -> Result<(), UdpError> {
        let datagrams = self.open()?;
        if datagrams.peer.get().is_none() {
            return Err(UdpError::NotConnected);
        }
        datagrams.send(|socket| socket.send(data))
    }

    /// Restricts the port to datagrams from and to one address. Sends nothing.
    ///
    /// [`DatagramProtocol::connection_refused`] is called if the system reports that no program listens there.
    ///
    /// # Errors
    ///
    /// [`UdpError::AlreadyConnected`] the second time, and otherwise as for
    /// [`send_to`](Self::send_to).
    pub fn connect(&self, to: impl UdpAddress) -> Result<(), UdpError> {
        let datagrams = self.open()?;
        if let Some(peer) = datagrams.peer.get() {
            return Err(UdpError::AlreadyConnected { peer });
        }
        let to = datagrams.checked(&to)?;
        if let Some(socket) = &*datagrams.socket.borrow() {
            socket.connect(to).map_err(UdpError::System)?;
            // The system replaces an unspecified address by a real one.
            datagrams.peer.set(Some(socket.peer_addr().unwrap_or(to)));
        }
        Ok(())
    }

    /// Sets whether datagrams may be sent to broadcast addresses (`SO_BROADCAST`; off unless set).
    ///
    /// # Errors
    ///
    /// [`UdpError::Closed`] and [`UdpError::System`].
    pub fn set_broadcast(&self, on: bool) -> Result<(), UdpError> {
        let datagrams = self.open()?;
        match &*datagrams.socket.borrow() {
            Some(socket) => socket.set_broadcast(on).map_err(UdpError::System),
            None => Err(UdpError::Closed),
        }
    }

    /// The bound address, with the real port number; `None` once the port is closed.
    pub fn host(&self) -> Option<Address> {
        Some(Address::Udp(self.open().ok()?.address))
    }

    /// The address that the transport is connected to, if it is.
    pub fn peer(&self) -> Option<Address> {
        self.open().ok()?.peer.get().map(Address::Udp)
    }

    /// Closes the port: no more datagrams are received, and the port number can be bound again at
    /// once.
    ///
    /// The Deferred fires once [`stop_protocol`](DatagramProtocol::stop_protocol) has been called:
    /// at once, or, if called inside the protocol, when the protocol returns.
    #[track_caller]
    pub fn stop_listening(&self) -> Deferred<()> {
        let Some(datagrams) = self.0.upgrade() else {
            return Deferred::succeed(());
        };
        let (ended, resolver) = Deferred::pending();
        datagrams.ending.borrow_mut().push(resolver);
        datagrams.close();
        ended
    }

    /// The clock of the port's reactor, for deadlines; `None` once the port is closed.
    pub fn time_source(&self) -> Option<TimeSource> {
        let core = self.open().ok()?.core.upgrade()?;
        Some(core.time().clone())
    }

    /// The reactor that drives the port; `None` once the port is closed.
    pub fn reactor(&self) -> Option<Reactor> {
        Some(Reactor::from_core(self.open().ok()?.core.upgrade()?))
    }

    fn open(&self) -> Result<Rc<Datagrams>, UdpError> {
        self.0
            .upgrade()
            .filter(|datagrams| !datagrams.is_closed())
            .ok_or(UdpError::Closed)
    }
}

impl Datagrams {
    /// The numeric address, if this port can reach it.
    fn checked(&self, to: &impl UdpAddress) -> Result<SocketAddr, InvalidAddressError> {
        let to = to.to_socket_address()?;
        match (self.address.is_ipv4(), to.is_ipv4()) {
            (true, false) => Err(InvalidAddressError::new(
                to,
                "the port is bound to an IPv4 address",
            )),
            (false, true) => Err(InvalidAddressError::new(
                to,
                "the port is bound to an IPv6 address",
            )),
            _ => Ok(to),
        }
    }
}

impl fmt::Debug for UdpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpTransport")
            .field("host", &self.host())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// The handle of an open UDP port (Twisted's `IListeningPort`).
///
/// Dropping it leaves the port open; the reactor closes it when it stops.
#[derive(Clone)]
pub struct UdpPort {
    transport: UdpTransport,
    address: Address,
    stats: Rc<Cell<UdpStats>>,
}

impl UdpPort {
    /// Opens the port on a socket, and starts the protocol.
    pub(super) fn open(
        core: &Rc<Core>,
        mut socket: UdpSocket,
        protocol: Box<dyn DatagramProtocol>,
    ) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let slot = core.register(&mut socket, Interest::Read)?;
        let stats = Rc::new(Cell::new(UdpStats::default()));
        let datagrams = Rc::new(Datagrams {
            core: Rc::downgrade(core),
            slot,
            address,
            socket: RefCell::new(Some(socket)),
            protocol: RefCell::new(Some(protocol)),
            ending: RefCell::new(Vec::new()),
            peer: Cell::new(None),
            was_refused: Cell::new(false),
            stats: stats.clone(),
        });
        core.occupy(slot, datagrams.clone());
        let transport = UdpTransport(Rc::downgrade(&datagrams));
        datagrams.tell("start_protocol", |protocol| {
            protocol.start_protocol(&transport);
            Ok(())
        });
        Ok(Self {
            transport,
            address: Address::Udp(address),
            stats,
        })
    }

    /// The bound address, with the real port number (Twisted's `getHost`).
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The transport of the protocol, to send through.
    pub fn transport(&self) -> &UdpTransport {
        &self.transport
    }

    /// Closes the port; see [`UdpTransport::stop_listening`].
    #[track_caller]
    pub fn stop_listening(&self) -> Deferred<()> {
        self.transport.stop_listening()
    }

    /// Numbers of datagrams so far; also after the port is closed.
    pub fn stats(&self) -> UdpStats {
        self.stats.get()
    }
}

impl fmt::Debug for UdpPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpPort")
            .field("address", &self.address)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Numbers of datagrams of one port; from [`UdpPort::stats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpStats {
    /// Datagrams passed to the protocol.
    pub received: u64,
    /// Datagrams accepted by the system for sending.
    pub sent: u64,
    /// Datagrams dropped because the system had no room.
    pub dropped: u64,
}

/// A destination of a datagram: an IP address and a port, in numbers or as text.
///
/// Implemented for types that need no lookup of a name, and sealed.
pub trait UdpAddress: private::Sealed {
    #[doc(hidden)]
    fn to_socket_address(&self) -> Result<SocketAddr, InvalidAddressError>;
}

mod private {
    pub trait Sealed {}
}

macro_rules! address_in_numbers {
    ($($type:ty),*) => {$(
        impl private::Sealed for $type {}

        impl UdpAddress for $type {
            fn to_socket_address(&self) -> Result<SocketAddr, InvalidAddressError> {
                Ok((*self).into())
            }
        }
    )*};
}

address_in_numbers!(
    SocketAddr,
    SocketAddrV4,
    SocketAddrV6,
    (IpAddr, u16),
    (Ipv4Addr, u16),
    (Ipv6Addr, u16)
);

impl private::Sealed for str {}

impl UdpAddress for str {
    fn to_socket_address(&self) -> Result<SocketAddr, InvalidAddressError> {
        self.parse()
            .map_err(|_| InvalidAddressError::new(self, "it is not an IP address and a port"))
    }
}

impl private::Sealed for (&str, u16) {}

impl UdpAddress for (&str, u16) {
    fn to_socket_address(&self) -> Result<SocketAddr, InvalidAddressError> {
        let (host, port) = *self;
        match host.parse::<IpAddr>() {
            Ok(address) => Ok((address, port).into()),
            Err(_) => Err(InvalidAddressError::new(host, "it is not an IP address")),
        }
    }
}

impl private::Sealed for String {}

impl UdpAddress for String {
    fn to_socket_address(&self) -> Result<SocketAddr, InvalidAddressError> {
        self.as_str().to_socket_address()
    }
}

impl private::Sealed for Address {}

impl UdpAddress for Address {
    fn to_socket_address(&self) -> Result<SocketAddr, InvalidAddressError> {
        self.socket_addr()
            .ok_or_else(|| InvalidAddressError::new(self, "it is not an IP address and a port"))
    }
}

impl<A: UdpAddress + ?Sized> private::Sealed for &A {}

impl<A: UdpAddress + ?Sized> UdpAddress for &A {
    fn to_socket_address(&self) -> Result<SocketAddr, InvalidAddressError> {
        (**self).to_socket_address()
    }
}

/// A datagram cannot be sent to this address (Twisted's `InvalidAddressError`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidAddressError {
    /// The address as it was given.
    pub address: String,
    /// Why the address cannot be used.
    pub reason: &'static str,
}

impl InvalidAddressError {
    fn new(address: impl fmt::Display, reason: &'static str) -> Self {
        let address = address.to_string();
        Self { address, reason }
    }
}

impl fmt::Display for InvalidAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid address \"{}\": {}", self.address, self.reason)
    }
}

impl Error for InvalidAddressError {}

/// Why a datagram was not sent, or a transport was not connected.
#[derive(Debug)]
#[non_exhaustive]
pub enum UdpError {
    /// The address is a name, or one that this port cannot reach.
    InvalidAddress(InvalidAddressError),
    /// [`UdpTransport::write`] was called on a transport that is not connected.
    NotConnected,
    /// The transport is connected already; it can be connected once.
    AlreadyConnected {
        /// The address it is connected to.
        peer: SocketAddr,
    },
    /// The port is closed.
    Closed,
    /// The system refused the call.
    System(io::Error),
}

impl From<InvalidAddressError> for UdpError {
    fn from(error: InvalidAddressError) -> Self {
        Self::InvalidAddress(error)
    }
}

impl fmt::Display for UdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidAddress(error) => error.fmt(f),
            Self::NotConnected => {
                f.write_str("the UDP port is not connected: call connect first, or send_to")
            }
            Self::AlreadyConnected { peer } => {
                write!(f, "the UDP port is connected to {peer} already")
            }
            Self::Closed => f.write_str("the UDP port is closed"),
            Self::System(_) => f.write_str("the system refused a call on the UDP port"),
        }
    }
}

impl Error for UdpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}
