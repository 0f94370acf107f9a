//! What connections come through.

use std::io;

use mio::net::TcpListener;

use super::Address;
use super::memory::MemoryListener;
use super::stream::Stream;
#[cfg(unix)]
use super::unix::UnixAcceptor;
use crate::reactor::{Core, Interest, SlotId};

/// The socket of a port, of whichever kind.
pub(crate) enum Acceptor {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixAcceptor),
    Memory(MemoryListener),
}

impl Acceptor {
    pub(crate) fn accept(&self) -> io::Result<(Stream, Address)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((Stream::Tcp(stream), Address::Tcp(peer)))
            }
            #[cfg(unix)]
            Self::Unix(acceptor) => {
                let (stream, peer) = acceptor.socket.accept()?;
                Ok((Stream::Unix(stream), super::unix::address(&peer)))
            }
            Self::Memory(socket) => {
                let (stream, peer) = socket.accept()?;
                Ok((Stream::Memory(Box::new(stream)), peer))
            }
        }
    }

    /// Where it listens, with the real port number.
    pub(crate) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => Ok(Address::Tcp(socket.local_addr()?)),
            #[cfg(unix)]
            Self::Unix(acceptor) => Ok(super::unix::address(&acceptor.socket.local_addr()?)),
            Self::Memory(socket) => Ok(Address::Tcp(socket.address())),
        }
    }

    /// Has the reactor tell of those who come, whose descriptor [`occupy`](Core::occupy)s the slot
    /// next.
    pub(crate) fn watch(&mut self, core: &Core) -> io::Result<SlotId> {
        match self {
            Self::Tcp(socket) => core.register(socket, Interest::Read),
            #[cfg(unix)]
            Self::Unix(acceptor) => core.register(&mut acceptor.socket, Interest::Read),
            Self::Memory(socket) => {
                let slot = core.add_slot();
                socket.watch_at(slot);
                Ok(slot)
            }
        }
    }
}
