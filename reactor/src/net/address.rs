//! The addresses of connections.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// An IP address and a TCP port.
    Tcp(SocketAddr),
    /// An IP address and a UDP port.
    Udp(SocketAddr),
    /// The path of a UNIX socket, or `None` for a socket without a name, such as a client's.
    ///
    /// A path that begins with a NUL byte is a name in Linux' abstract namespace.
    Unix(Option<PathBuf>),
}

impl Address {
    /// The IP address and port, for transports that have them.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The port number, for transports that have one.
    pub fn port(&self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }

    /// The path of a UNIX socket, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) | Self::Udp(_) => None,
            Self::Unix(path) => path.as_deref(),
        }
    }
}

impl fmt::Display for Address {
    /// As in a URL (`127.0.0.1:8000`, `[::1]:8000`), or `unix:` and the path, if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
            Self::Unix(None) => f.write_str("unix:"),
            Self::Unix(Some(path)) => {
                // An abstract name begins with NUL, which tools of the system show as `@`.
                let path = path.to_string_lossy();
                match path.strip_prefix('\0') {
                    Some(name) => write!(f, "unix:@{name}"),
                    None => write!(f, "unix:{path}"),
                }
            }
        }
    }
}
