//! Where a connection comes from and goes to.

use std::fmt;
use std::net::SocketAddr;

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a TCP port.
    Tcp(SocketAddr),
    /// An IP address and a UDP port.
    Udp(SocketAddr),
}

impl Address {
    /// The IP address and port, for transports that have them.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
        }
    }

    /// The port number, for transports that have one.
    pub fn port(&self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }
}

impl fmt::Display for Address {
    /// As in a URL: `127.0.0.1:8000`, `[::1]:8000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
        }
    }
}
