//! One port number for several listeners, over which the system spreads the connections.
//!
//! That is `SO_REUSEPORT`. It also lets a second program of the same user listen on the number, and
//! take half of the connections, without either of them being told; so the first of our listeners
//! looks whether the number is free in the ordinary sense.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the system has a limit of its own.
///
/// More than the 128 of an ordinary port: a worker that is busy is not helped by the others with
/// those who wait for it.
const BACKLOG: i32 = 1024;

/// The first of several listeners on `address`; port 0 takes a free one.
pub(crate) fn listen_first(address: SocketAddr) -> io::Result<TcpListener> {
    if address.port() != 0 {
        // Refused if anybody listens there, whatever options they have set.
        let socket = unbound(address)?;
        socket.bind(&address.into())?;
    }
    listen_too(address)
}

/// One more listener on an address that is ours.
pub(crate) fn listen_too(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(address)?;
    share(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // As for every other port: connections that ended a moment ago do not count.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "dragonfly"))]
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(target_os = "freebsd")]
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

// Elsewhere the option does not exist, or gives all connections to the last listener.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd"
)))]
fn share(_: &Socket) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system does not spread the connections to a port over several listeners",
    ))
}
