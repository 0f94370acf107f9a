//! Opening connections: every `listen_*` and `connect_*` method of the reactor.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::Location;
use std::rc::{Rc, Weak};

#[cfg(unix)]
use mio::net::UnixListener;
use mio::net::{TcpListener, UdpSocket};
use socket2::{Domain, Socket, Type};

use super::acceptor::Acceptor;
use super::dial::Dialer;
use super::memory::MemoryListener;
#[cfg(unix)]
use super::unix::UnixAcceptor;
use super::{
    Address, CannotListenError, ClientEndpoint, ClientFactory, Connector, DatagramProtocol,
    Factory, ListenAddress, Port, Protocol, TcpClientEndpoint, Transport, UdpPort,
};
#[cfg(unix)]
use super::{UnixClientEndpoint, UnixServerEndpoint};
use crate::deferred::{Deferred, Failure};
use crate::reactor::{Core, Reactor};

/// Length of the queue of connections that wait to be accepted.
const BACKLOG: i32 = 128;

impl Reactor {
    /// Opens a TCP port and makes a protocol for each connection to it.
    ///
    /// The address is `"127.0.0.1:8000"`, `("::1", 8000)`, a `SocketAddr` and so on: see
    /// [`ListenAddress`]. Port 0 takes a
    /// free port number, which [`Port::address`] returns. The port accepts while the reactor runs,
    /// and is closed when the reactor stops; the [`Port`] need not be kept.
    ///
    /// A name is looked up inside this call, which may block. If a name has several addresses, as
    /// `localhost` often has, the port listens on all of them, or fails as a whole if one of them
    /// is in use. Addresses that this machine does not have are skipped if it has at least one of
    /// the others.
    ///
    /// [`for_protocol`](crate::net::for_protocol) makes a factory from a function, and has an example.
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] with the address and the cause; the factory is not started then.
    #[track_caller]
    pub fn listen_tcp(
        &self,
        address: impl Into<ListenAddress>,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        let (core, line) = (self.core(), Location::caller());
        let address = address.into();
        bind_tcp(core, &address)
            .and_then(|socket| Port::open(core, socket, Rc::new(factory), line))
            .map_err(|cause| CannotListenError::new(address, cause))
    }

    /// Listens on a UNIX socket, and makes a protocol for each connection to it.
    ///
    /// `path` is a path, or a [`UnixServerEndpoint`] for the permissions of the file. The file is
    /// removed when the port is closed, and when the reactor stops or is dropped.
    ///
    /// A file left by a dead server is replaced. To find out, `listen_unix` connects to it; a live
    /// server sees a connection that ends at once. Meanwhile a file with `.lock` appended to its
    /// name is locked (flock(2)): of several servers that start together one wins, and the others
    /// fail. The lock file is created and removed for this; one that exists already is not changed.
    ///
    /// ```
    /// use deferred_reactor::net::{Protocol, Transport, UnixServerEndpoint, for_protocol};
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// struct Hello;
    ///
    /// impl Protocol for Hello {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
    ///         transport.write(b"hello\n");
    ///         transport.lose_connection();
    ///         Ok(())
    ///     }
    ///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # let path = std::env::temp_dir().join(format!("hello-{}.sock", std::process::id()));
    /// let reactor = Reactor::new()?;
    /// let endpoint = UnixServerEndpoint::new(&path).mode(0o600);
    /// let port = reactor.listen_unix(endpoint, for_protocol(|| Hello))?;
    /// assert_eq!(port.address().path(), Some(path.as_path()));
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] with the path and the cause; the factory is not started then. The kind of the cause is [`AddrInUse`](io::ErrorKind::AddrInUse) if a server is alive at the path, or the file is no socket.
    #[cfg(unix)]
    #[track_caller]
    pub fn listen_unix(
        &self,
        path: impl Into<UnixServerEndpoint>,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        let (core, line) = (self.core(), Location::caller());
        let endpoint = path.into();
        bind_unix(core, &endpoint)
            .and_then(|socket| Port::open(core, socket, Rc::new(factory), line))
            .map_err(|cause| {
                let address = Address::Unix(Some(endpoint.path)).to_string();
                CannotListenError::new(address, cause)
            })
    }

    /// Uses a TCP socket that listens already (Twisted's `adoptStreamPort`), and makes a protocol
    /// for each connection to it: for sockets that were opened before giving up privileges, or
    /// handed over by another program.
    ///
    /// The socket is made non-blocking, and is closed with the port.
    ///
    /// ```
    /// use std::net::TcpListener;
    /// use deferred_reactor::net::{Protocol, Transport, for_protocol};
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// struct Echo;
    ///
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         transport.write(data);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let socket = TcpListener::bind("127.0.0.1:0")?; // as root, perhaps, and on port 7
    /// let address = socket.local_addr()?;
    /// let reactor = Reactor::new()?;
    /// let port = reactor.adopt_tcp_listener(socket, for_protocol(|| Echo))?;
    /// assert_eq!(port.address().socket_addr(), Some(address));
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] with the address and the cause; the socket is closed, and the factory is
    /// not started then. A reactor [in memory](Self::is_in_memory) takes no sockets.
    #[doc(alias = "adoptStreamPort")]
    #[track_caller]
    pub fn adopt_tcp_listener(
        &self,
        socket: std::net::TcpListener,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        let (core, line) = (self.core(), Location::caller());
        let address = socket.local_addr();
        adopt_tcp(core, socket)
            .and_then(|socket| Port::open(core, vec![socket], Rc::new(factory), line))
            .map_err(|cause| match address {
                Ok(address) => CannotListenError::new(address, cause),
                Err(_) => CannotListenError::new("a socket without an address", cause),
            })
    }

    /// Uses a UNIX socket that listens already, as [`adopt_tcp_listener`](Self::adopt_tcp_listener)
    /// does for TCP. The socket file stays when the port is closed; the program that created it
    /// removes it.
    ///
    /// # Errors
    ///
    /// As for [`adopt_tcp_listener`](Self::adopt_tcp_listener).
    #[cfg(unix)]
    #[doc(alias = "adoptStreamPort")]
    #[track_caller]
    pub fn adopt_unix_listener(
        &self,
        socket: std::os::unix::net::UnixListener,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        let (core, line) = (self.core(), Location::caller());
        let address = socket.local_addr();
        adopt_unix(core, socket)
            .and_then(|socket| Port::open(core, vec![socket], Rc::new(factory), line))
            .map_err(|cause| {
                let path = address
                    .ok()
                    .and_then(|address| Some(address.as_pathname()?.to_owned()));
                CannotListenError::new(Address::Unix(path).to_string(), cause)
            })
    }

    /// Opens a UDP port, and passes its datagrams to `protocol`.
    ///
    /// Port 0 takes a free port number, which [`UdpPort::address`] returns. A name is looked up
    /// inside this call, which may block; it must have exactly one address on this machine.
    /// Datagrams can be sent at once, and are received while the reactor runs. [`DatagramProtocol`]
    /// has an example.
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] with the address and the cause; the protocol is not started then. A reactor [in memory](Self::is_in_memory) has no UDP.
    pub fn listen_udp(
        &self,
        address: impl Into<ListenAddress>,
        protocol: impl DatagramProtocol,
    ) -> Result<UdpPort, CannotListenError> {
        let core = self.core();
        let address = address.into();
        bind_udp(core, &address)
            .and_then(|socket| UdpPort::open(core, socket, Box::new(protocol)))
            .map_err(|cause| CannotListenError::new(address, cause))
    }

    /// Connects to a TCP port, and makes a protocol once the connection is established.
    ///
    /// `address` is `"host:port"`, `(host, port)` or a `SocketAddr`. For a time limit other than 30
    /// seconds, or a local address, pass a [`TcpClientEndpoint`]. Every error, an invalid `address`
    /// included, goes to the factory's
    /// [`client_connection_failed`](ClientFactory::client_connection_failed). Connecting begins
    /// when the reactor runs.
    ///
    /// A name is looked up in a thread of the pool, unless a [name
    /// resolver](Self::install_name_resolver) is installed. A thread cannot be interrupted: if the
    /// reactor stops during a lookup, [`run`](Self::run) returns once the system has answered.
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
    #[track_caller]
    pub fn connect_tcp(
        &self,
        address: impl Into<TcpClientEndpoint>,
        factory: impl ClientFactory,
    ) -> Connector {
        let endpoint = ClientEndpoint::Tcp(address.into());
        Connector::of(Dialer::start(self.core(), endpoint, Rc::new(factory), None))
    }

    /// Connects to a UNIX socket, and makes a protocol once the connection is established.
    ///
    /// `path` is a path, or a [`UnixClientEndpoint`] for a time limit other than 30 seconds.
    /// Otherwise as [`connect_tcp`](Self::connect_tcp).
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
    #[track_caller]
    pub fn connect_unix(
        &self,
        path: impl Into<UnixClientEndpoint>,
        factory: impl ClientFactory,
    ) -> Connector {
        let endpoint = ClientEndpoint::Unix(path.into());
        Connector::of(Dialer::start(self.core(), endpoint, Rc::new(factory), None))
    }

    /// Connects once, for one protocol (Twisted's `connectProtocol`).
    ///
    /// The Deferred fires with the transport once the protocol's `connection_made` has been called,
    /// or fails with the reason that
    /// [`client_connection_failed`](ClientFactory::client_connection_failed) would get. Cancelling
    /// it stops connecting. Dropping it does not.
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
        let dialer = Rc::new(Cell::new(Weak::<Dialer>::new()));
        let to_stop = dialer.clone();
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            // The canceller must leave the Deferred decided; the failure of connecting comes later.
            if let Some(dialer) = to_stop.take().upgrade() {
                Connector::of(dialer).disconnect();
            }
        });
        let factory = Rc::new(OneProtocol(Cell::new(Some(Box::new(protocol)))));
        let started = Dialer::start(self.core(), endpoint.into(), factory, Some(resolver));
        dialer.set(Rc::downgrade(&started));
        deferred
    }
}

/// A socket on each of the addresses.
fn bind_tcp(core: &Core, address: &ListenAddress) -> io::Result<Vec<Acceptor>> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let is_any = |address: &SocketAddr| address.ip().is_unspecified();
    let has_any_v4 = addresses.iter().any(|one| one.is_ipv4() && is_any(one));
    bind_all(addresses.into_iter(), |address| {
        let socket = match core.network() {
            None if has_any_v4 && address.is_ipv6() && is_any(&address) => {
                bind_v6_only(address).map(Acceptor::Tcp)?
            }
            None => TcpListener::bind(address).map(Acceptor::Tcp)?,
            Some(network) => MemoryListener::bind(network, address).map(Acceptor::Memory)?,
        };
        let bound = socket.address()?.socket_addr();
        Ok((socket, bound.unwrap_or(address)))
    })
}

/// Binds an IPv6 address without IPv4: on most systems `[::]` would include `0.0.0.0`, and be in
/// use.
fn bind_v6_only(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_only_v6(true)?;
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[cfg(unix)]
fn bind_unix(core: &Core, endpoint: &UnixServerEndpoint) -> io::Result<Vec<Acceptor>> {
    core.system()?;
    Ok(vec![Acceptor::Unix(super::unix::listen(endpoint)?)])
}

fn adopt_tcp(core: &Core, socket: std::net::TcpListener) -> io::Result<Acceptor> {
    core.system()?;
    socket.set_nonblocking(true)?;
    Ok(Acceptor::Tcp(TcpListener::from_std(socket)))
}

#[cfg(unix)]
fn adopt_unix(core: &Core, socket: std::os::unix::net::UnixListener) -> io::Result<Acceptor> {
    core.system()?;
    socket.set_nonblocking(true)?;
    let socket = UnixAcceptor::adopt(UnixListener::from_std(socket));
    Ok(Acceptor::Unix(socket))
}

fn bind_udp(core: &Core, address: &ListenAddress) -> io::Result<UdpSocket> {
    core.system()?;
    let mut sockets = bind_all(address.to_socket_addrs()?, |address| {
        let socket = UdpSocket::bind(address)?;
        let bound = socket.local_addr()?;
        Ok(((socket, bound), bound))
    })?;
    match (sockets.pop(), &sockets[..]) {
        (Some((socket, _)), []) => Ok(socket),
        (last, others) => {
            let all: Vec<String> = others
                .iter()
                .chain(&last)
                .map(|(_, at)| at.ip().to_string())
                .collect();
            let text = format!(
                "the name has the addresses {}, but a UDP port has only one: pass one of these",
                all.join(" and ")
            );
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// Opens a port on listening sockets.
pub(crate) fn open_tcp(
    core: &Rc<Core>,
    sockets: Vec<TcpListener>,
    factory: Rc<dyn Factory>,
    line: &'static Location<'static>,
) -> io::Result<Port> {
    let sockets = sockets.into_iter().map(Acceptor::Tcp).collect();
    Port::open(core, sockets, factory, line)
}

/// How many free port numbers to try for a name with several addresses, when a number is free at
/// one address and taken at another.
const FREE_PORT_ATTEMPTS: usize = 16;

/// Binds each of the addresses, at least one; if one fails, none stays bound.
///
/// An address that this machine does not have, such as the IPv6 address of `localhost` without
/// IPv6, is skipped if another can be bound. If a free port is asked for, all addresses get the
/// same number. `bind` also returns the address that it has bound.
pub(crate) fn bind_all<T>(
    addresses: impl Iterator<Item = SocketAddr>,
    mut bind: impl FnMut(SocketAddr) -> io::Result<(T, SocketAddr)>,
) -> io::Result<Vec<T>> {
    let mut asked: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if !asked.contains(&address) {
            asked.push(address);
        }
    }
    let is_free_choice = asked.len() > 1 && asked.iter().any(|address| address.port() == 0);
    let attempts = if is_free_choice {
        FREE_PORT_ATTEMPTS
    } else {
        1
    };
    for _ in 1..attempts {
        match bind_each(&asked, &mut bind) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    bind_each(&asked, &mut bind)
}

fn bind_each<T>(
    asked: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<(T, SocketAddr)>,
) -> io::Result<Vec<T>> {
    let mut bound = Vec::with_capacity(asked.len());
    let (mut missing, mut free_port) = (None, None);
    for &address in asked {
        let mut address = address;
        let is_free = address.port() == 0;
        if is_free && let Some(port) = free_port {
            address.set_port(port);
        }
        match bind(address) {
            Ok((socket, at)) => {
                if is_free {
                    free_port = Some(at.port());
                }
                bound.push(socket);
            }
            Err(error) if is_missing(&error) => missing = Some(error),
            Err(error) if asked.len() > 1 => {
                let text = format!("{address}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if bound.is_empty() => Err(error),
        _ if bound.is_empty() => {
            let text = "the name has no addresses";
            Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text))
        }
        _ => Ok(bound),
    }
}

/// Whether the error says that this machine does not have the address.
fn is_missing(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EAFNOSUPPORT) {
        return true;
    }
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// The factory behind `connect_protocol`; results go to the Deferred.
struct OneProtocol(Cell<Option<Box<dyn Protocol>>>);

impl Factory for OneProtocol {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.0.take()
    }
}

impl ClientFactory for OneProtocol {
    fn client_connection_failed(&self, _: &Connector, _: &Failure) {}
}
