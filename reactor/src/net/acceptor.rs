//! The sockets of ports.

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
        #[cfg(all(test, unix))]
        if let Some(number) = tests::FAILURES.with_borrow_mut(std::collections::VecDeque::pop_front)
        {
            return Err(io::Error::from_raw_os_error(number));
        }
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

    /// Registers the socket with the selector. Its descriptor [`occupy`](Core::occupy)s the slot
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

#[cfg(all(test, unix))]
mod tests {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, VecDeque};

    use crate::net::{PortStats, Protocol, Transport, for_protocol};
    use crate::testing::{MemoryConnection, MemoryReactor};
    use crate::{Failure, net::Port};

    thread_local! {
        /// What accepting fails with next, on this thread.
        pub(super) static FAILURES: RefCell<VecDeque<i32>> = const { RefCell::new(VecDeque::new()) };
    }

    struct Hello;

    impl Protocol for Hello {
        fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
            transport.write(b"hello");
            Ok(())
        }
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }

    /// A port where two clients wait, and accepting fails with these numbers first.
    fn failing(
        errors: impl IntoIterator<Item = i32>,
    ) -> (MemoryReactor, Port, [MemoryConnection; 2]) {
        let memory = MemoryReactor::new();
        let address = "127.0.0.1:80";
        let port = memory.listen_tcp(address, for_protocol(|| Hello)).unwrap();
        let clients = [(), ()].map(|()| memory.connect_to(address).unwrap());
        FAILURES.set(errors.into_iter().collect());
        memory.pump();
        (memory, port, clients)
    }

    fn stats_of(port: &Port, accepted: u64, failed: &[(i32, u64)], rests: u64) {
        let failed: BTreeMap<i32, u64> = failed.iter().copied().collect();
        let want = PortStats {
            accepted,
            failed,
            rests,
            ..PortStats::default()
        };
        assert_eq!(port.stats(), want);
    }

    /// F-13: those that accept(2) says are to be treated like EAGAIN, and some more.
    #[test]
    fn errors_of_single_connections_are_counted_and_accepting_goes_on() {
        for error in [
            libc::ENETDOWN,
            libc::EPROTO,
            libc::ENOPROTOOPT,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::EOPNOTSUPP,
            libc::ENETUNREACH,
            libc::ECONNABORTED,
            libc::ECONNRESET,
            libc::EPERM,
            libc::ETIMEDOUT,
        ] {
            let (_memory, port, clients) = failing([error; 2]);
            for client in clients {
                assert_eq!(client.received(), b"hello", "error {error}");
            }
            stats_of(&port, 2, &[(error, 2)], 0);
        }
    }

    /// F-13.
    #[test]
    fn only_a_shortage_lets_clients_wait() {
        for error in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let (memory, port, clients) = failing([error]);
            assert!(clients[0].received().is_empty());
            stats_of(&port, 0, &[], 1);
            memory.advance(crate::net::accept_backoff::REST);
            assert_eq!(
                clients.map(|client| client.received()),
                [b"hello", b"hello"]
            );
            stats_of(&port, 2, &[], 1);
        }
    }

    /// F-13: a socket that is broken neither keeps the loop busy nor costs the clients their place.
    #[test]
    fn nothing_but_errors_lets_the_port_rest_and_refuses_nobody() {
        let (memory, port, clients) = failing([libc::EINVAL; 200]);
        assert_eq!(port.stats().rests, 1);
        for _ in 0..3 {
            memory.advance(crate::net::accept_backoff::REST);
        }
        assert_eq!(
            clients.map(|client| client.received()),
            [b"hello", b"hello"]
        );
        assert_eq!(port.stats().total_refused(), 0);
        assert_eq!(port.stats().rests, 3);
    }
}
