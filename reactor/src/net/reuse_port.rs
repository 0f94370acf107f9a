//! Several listeners on one port number; the system spreads the connections over them.
//!
//! The option is `SO_REUSEPORT`. It also lets another program of the same user listen on the number
//! and silently take half of the connections. So our first listener checks that the number is free
//! without the option.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

/// Length of the queue of connections; the system has a limit of its own.
///
/// More than the 128 of an ordinary port: connections that wait for a busy worker cannot be
/// accepted by the others.
const BACKLOG: i32 = 1024;

/// The first of several listeners on `address`; port 0 takes a free one.
pub(crate) fn listen_first(address: SocketAddr) -> io::Result<TcpListener> {
    if address.port() != 0 {
        // Refused if any socket listens there, whatever options it has.
        let socket = unbound(address)?;
        socket.bind(&address.into())?;
    }
    listen_too(address)
}

/// Opens one more listener on an address that we already listen on.
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
    // As for other ports: connections that ended a moment ago do not block the number.
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
