//! A listening TCP port.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::Duration;

use mio::net::TcpListener;

use super::connection::Connection;
use super::stream::Stream;
use super::{Address, Factory};
use crate::deferred::{Deferred, Failure};
use crate::reactor::{Core, Descriptor, Interest, Readiness, SlotId};
use crate::testing::MemoryListener;

/// Connections accepted before the others have their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long accepting rests when the system has no room for another connection.
const REST: Duration = Duration::from_millis(100);

/// The reactor's side of a port.
pub(crate) struct Listener {
    slot: SlotId,
    address: Address,
    /// `None` once closed.
    socket: RefCell<Option<Socket>>,
    /// There was no room for another connection; a delayed call will try again.
    is_resting: Cell<bool>,
    factory: Rc<dyn Factory>,
}

/// What accepts.
enum Socket {
    Tcp(TcpListener),
    Memory(MemoryListener),
}

impl Socket {
    fn accept(&self) -> io::Result<(Stream, Address)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((Stream::Tcp(stream), Address::Tcp(peer)))
            }
            Self::Memory(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((Stream::Memory(stream), peer))
            }
        }
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr(),
            Self::Memory(socket) => Ok(socket.address()),
        }
    }

    fn watch(&mut self, core: &Core) -> io::Result<SlotId> {
        match self {
            Self::Tcp(socket) => core.register(socket, Interest::Read),
            Self::Memory(socket) => Ok(socket.watch(core)),
        }
    }
}

/// Opens a port on the first of the addresses that can be bound.
pub(crate) fn listen_tcp(
    core: &Rc<Core>,
    address: &impl ToSocketAddrs,
    factory: Rc<dyn Factory>,
) -> io::Result<Port> {
    let socket = first_of(address.to_socket_addrs()?, |address| match core.network() {
        None => TcpListener::bind(address).map(Socket::Tcp),
        Some(network) => MemoryListener::bind(network, address).map(Socket::Memory),
    })?;
    open(core, socket, factory)
}

/// Opens a port on a socket that listens.
pub(crate) fn open_tcp(
    core: &Rc<Core>,
    socket: TcpListener,
    factory: Rc<dyn Factory>,
) -> io::Result<Port> {
    open(core, Socket::Tcp(socket), factory)
}

fn open(core: &Rc<Core>, mut socket: Socket, factory: Rc<dyn Factory>) -> io::Result<Port> {
    let address = Address::Tcp(socket.address()?);
    let slot = socket.watch(core)?;
    let listener = Rc::new(Listener {
        slot,
        address,
        socket: RefCell::new(Some(socket)),
        is_resting: Cell::new(false),
        factory,
    });
    core.occupy(slot, listener.clone());
    core.factory_opens(&*listener.factory);
    Ok(Port {
        core: Rc::downgrade(core),
        listener: Rc::downgrade(&listener),
        address: listener.address.clone(),
    })
}

/// What can be bound to the first of the addresses for which that works.
pub(crate) fn first_of<T>(
    addresses: impl Iterator<Item = SocketAddr>,
    mut bind: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for address in addresses {
        match bind(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| {
        io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no addresses")
    }))
}

impl Listener {
    /// Accepts until nobody is waiting. `true` if somebody may be waiting still.
    fn accept(&self, core: &Rc<Core>) -> io::Result<bool> {
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match &*self.socket.borrow() {
                Some(socket) => socket.accept(),
                None => return Ok(false),
            };
            match accepted {
                Ok((stream, peer)) => self.welcome(core, stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // Of this one connection, which its peer has given up.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn welcome(&self, core: &Rc<Core>, mut stream: Stream, peer: Address) {
        let built = catch_unwind(AssertUnwindSafe(|| self.factory.build_protocol(&peer)));
        let protocol = match built {
            Ok(Some(protocol)) => protocol,
            Ok(None) => return,
            Err(payload) => {
                let failure = Failure::from_panic(payload);
                log::error!(target: "reactor", "build_protocol for {peer} {failure}");
                return;
            }
        };
        match stream.watch(core) {
            Ok(slot) => {
                let connection = Connection::new(core, slot, stream, peer, protocol);
                core.occupy(slot, connection.clone());
                connection.start(core);
            }
            Err(error) => {
                log::error!(target: "reactor", "cannot watch the connection from {peer}: {error}");
            }
        }
    }

    fn close(&self, core: &Core) {
        if self.socket.take().is_some() {
            core.release(self.slot);
            core.factory_closed(&*self.factory);
        }
    }
}

impl Descriptor for Listener {
    fn ready(self: Rc<Self>, core: &Rc<Core>, _: Readiness) {
        self.attend(core);
    }

    fn attend(self: Rc<Self>, core: &Rc<Core>) {
        // Those who come meanwhile are waiting with the others.
        if self.is_resting.get() {
            return;
        }
        match self.accept(core) {
            Ok(false) => {}
            Ok(true) => core.want_attention(self),
            Err(error) => {
                // Out of descriptors or memory. Readiness will not be told again for those who
                // wait already, so come back by ourselves, and do not spin meanwhile.
                log::warn!(
                    target: "reactor",
                    "cannot accept on {} (trying again in {REST:?}): {error}",
                    self.address
                );
                self.is_resting.set(true);
                let core_again = Rc::downgrade(core);
                let listener = Rc::downgrade(&self);
                core.time().call_later(REST, move || {
                    if let (Some(core), Some(listener)) = (core_again.upgrade(), listener.upgrade())
                    {
                        listener.is_resting.set(false);
                        listener.attend(&core);
                    }
                });
            }
        }
    }

    fn shut_down(self: Rc<Self>, core: &Rc<Core>) {
        self.close(core);
    }
}

/// A listening port (Twisted's `IListeningPort`).
///
/// Dropping it leaves the port open; the reactor closes it when it stops.
#[derive(Clone)]
pub struct Port {
    core: Weak<Core>,
    listener: Weak<Listener>,
    address: Address,
}

impl Port {
    /// The address that is bound, with the real port number (Twisted's `getHost`).
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Closes the port. Connections accepted before stay open.
    ///
    /// When the Deferred fires, which is at once for TCP, the number can be bound again.
    #[track_caller]
    pub fn stop_listening(&self) -> Deferred<()> {
        if let (Some(core), Some(listener)) = (self.core.upgrade(), self.listener.upgrade()) {
            listener.close(&core);
        }
        Deferred::succeed(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.listener
            .upgrade()
            .is_some_and(|listener| listener.socket.borrow().is_some())
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
