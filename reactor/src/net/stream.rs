//! The streams that carry the bytes of a connection.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use super::Address;
use super::memory::MemoryStream;
use super::throttle::ThrottledStream;
use crate::reactor::{self, Core, SlotId};

/// The stream of a connection: a socket of any kind, or one in memory.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    /// Boxed, so that the others are small.
    Memory(Box<MemoryStream>),
    #[cfg(unix)]
    Unix(UnixStream),
    /// Limited to a number of bytes per second. Boxed, because it is rare.
    Throttled(Box<ThrottledStream>),
}

impl Stream {
    /// Registers the socket with the selector. Its descriptor [`occupy`](Core::occupy)s the slot
    /// next.
    pub(crate) fn watch(&mut self, core: &Core) -> io::Result<SlotId> {
        match self {
            Self::Throttled(stream) => stream.inner_mut().watch(core),
            Self::Memory(stream) => {
                let slot = core.add_slot();
                stream.watch_at(slot);
                Ok(slot)
            }
            _ => core.register(self, reactor::Interest::Both),
        }
    }

    pub(crate) fn shutdown(&self, side: Shutdown) -> io::Result<()> {
        match self {
            Self::Throttled(stream) => stream.inner().shutdown(side),
            Self::Tcp(stream) => stream.shutdown(side),
            Self::Memory(stream) => stream.shutdown(side),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(side),
        }
    }

    /// Fails while the socket is not connected.
    pub(crate) fn has_peer(&self) -> io::Result<()> {
        match self {
            Self::Throttled(stream) => stream.inner().has_peer(),
            Self::Tcp(stream) => stream.peer_addr().map(drop),
            #[cfg(unix)]
            Self::Unix(stream) => stream.peer_addr().map(drop),
            Self::Memory(_) => Ok(()),
        }
    }

    /// The pending error of the socket.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Throttled(stream) => stream.inner().take_error(),
            Self::Tcp(stream) => stream.take_error(),
            Self::Memory(stream) => Ok(stream.error()),
            #[cfg(unix)]
            Self::Unix(stream) => stream.take_error(),
        }
    }

    /// Makes closing send a reset from now on: a clean end would tell the peer that everything was
    /// sent.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Self::Throttled(stream) => stream.inner().reset_on_close(),
            Self::Tcp(stream) => {
                // Fails only on a connection that is gone.
                let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
            Self::Memory(stream) => stream.reset_on_close(),
            // A UNIX socket sends no reset, unless input is unread.
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }

    pub(crate) fn set_no_delay(&self, on: bool) {
        match self {
            Self::Throttled(stream) => stream.inner().set_no_delay(on),
            Self::Tcp(stream) => {
                // Fails only on a connection that is gone.
                let _ = stream.set_nodelay(on);
            }
            Self::Memory(_) => {}
            #[cfg(unix)]
            Self::Unix(_) => {} // where nothing is held back
        }
    }

    pub(crate) fn set_keep_alive(&self, on: bool) {
        match self {
            Self::Throttled(stream) => stream.inner().set_keep_alive(on),
            Self::Tcp(stream) => {
                // Fails only on a connection that is gone.
                let _ = socket2::SockRef::from(stream).set_keepalive(on);
            }
            Self::Memory(_) => {}
            #[cfg(unix)]
            Self::Unix(_) => {} // whose peer is on this machine
        }
    }

    /// Reads and drops input, without the limits of a throttled stream.
    pub(crate) fn discard(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Throttled(stream) => stream.inner().discard(buffer),
            Self::Memory(stream) => {
                stream.discard();
                Ok(0)
            }
            mut stream => stream.read(buffer),
        }
    }

    pub(crate) fn local_address(&self) -> Option<Address> {
        match self {
            Self::Throttled(stream) => stream.inner().local_address(),
            Self::Tcp(stream) => Some(Address::Tcp(stream.local_addr().ok()?)),
            Self::Memory(stream) => Some(stream.local_address()),
            #[cfg(unix)]
            Self::Unix(stream) => Some(super::unix::address(&stream.local_addr().ok()?)),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Throttled(stream) => stream.inner_mut().source(),
            Self::Tcp(stream) => stream,
            Self::Memory(stream) => &mut **stream,
            #[cfg(unix)]
            Self::Unix(stream) => stream,
        }
    }
}

impl Read for &Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Memory(stream) => stream.read(buffer),
            #[cfg(unix)]
            Stream::Unix(stream) => (&*stream).read(buffer),
            Stream::Throttled(stream) => stream.read(buffer),
        }
    }
}

impl Write for &Stream {
    #[inline]
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(data),
            Stream::Memory(stream) => stream.write(data),
            #[cfg(unix)]
            Stream::Unix(stream) => (&*stream).write(data),
            Stream::Throttled(stream) => stream.write(data),
        }
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write_vectored(slices),
            Stream::Memory(stream) => stream.write_vectored(slices),
            #[cfg(unix)]
            Stream::Unix(stream) => (&*stream).write_vectored(slices),
            Stream::Throttled(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}
