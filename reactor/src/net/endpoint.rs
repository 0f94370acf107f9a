//! Endpoints: where a client connects to and how, and where a UNIX server listens.
//!
//! Calls that connect take an address as it is (`"example.org:80"`, a `SocketAddr`, a path), or one
//! of these types, which add options.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

#[cfg(unix)]
use std::path::{Path, PathBuf};

/// The default limit for connecting, as in Twisted.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The delay recommended by RFC 8305, section 8.
const DEFAULT_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A TCP port to connect to (Twisted's `HostnameEndpoint` and `TCP4ClientEndpoint`).
///
/// Made from `"host:port"`, `(host, port)` or a `SocketAddr`. The host is a name or an IP address;
/// write an IPv6 address in brackets (`"[::1]:80"`). Other text is accepted here; connecting to it
/// fails as for a name that does not exist.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::net::TcpClientEndpoint;
///
/// let web = TcpClientEndpoint::new("example.org:80").timeout(Duration::from_secs(5));
/// assert_eq!(web.to_string(), "example.org:80");
/// assert_eq!(TcpClientEndpoint::new(("::1", 80)).to_string(), "[::1]:80");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpClientEndpoint {
    pub(super) host: Host,
    pub(super) timeout: Duration,
    pub(super) attempt_delay: Duration,
    pub(super) bind_address: Option<IpAddr>,
}

/// The address of a TCP endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Address(SocketAddr),
    /// A name to be looked up.
    Name(String, u16),
    /// Text that is not a host and a port.
    Invalid(String),
}

impl TcpClientEndpoint {
    /// An endpoint with the default options.
    pub fn new(address: impl Into<Self>) -> Self {
        address.into()
    }

    /// Sets the limit for connecting, the lookup of the name included (30 seconds unless set).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long to wait for one address before the next is tried in parallel (250 milliseconds
    /// unless set; RFC 8305 asks for 10 milliseconds at least, and 2 seconds at most).
    #[must_use]
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = delay;
        self
    }

    /// Sets the local address to connect from (the system's choice unless set). Addresses of the
    /// other IP family cannot be reached from it.
    #[must_use]
    pub fn bind_address(mut self, address: impl Into<IpAddr>) -> Self {
        self.bind_address = Some(address.into());
        self
    }

    fn with_host(host: Host) -> Self {
        Self {
            host,
            timeout: DEFAULT_TIMEOUT,
            attempt_delay: DEFAULT_ATTEMPT_DELAY,
            bind_address: None,
        }
    }

    fn parse(text: &str) -> Self {
        if let Ok(address) = text.parse() {
            return Self::with_host(Host::Address(address));
        }
        let parts = text.rsplit_once(':');
        Self::with_host(match parts.map(|(host, port)| (host, port.parse())) {
            // Another colon in the host means an IPv6 address without brackets, in which the port
            // is ambiguous. An address with a zone is in brackets.
            Some((host, Ok(port))) if !host.contains(':') => Host::Name(host.to_owned(), port),
            Some((host, Ok(port))) => {
                match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
                    Some(host) => Host::Name(host.to_owned(), port),
                    None => Host::Invalid(text.to_owned()),
                }
            }
            _ => Host::Invalid(text.to_owned()),
        })
    }

    fn of(host: &str, port: u16) -> Self {
        Self::with_host(match host.parse::<IpAddr>() {
            Ok(address) => Host::Address((address, port).into()),
            Err(_) => Host::Name(host.to_owned(), port),
        })
    }
}

impl fmt::Display for TcpClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => address.fmt(f),
            Host::Name(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Host::Name(host, port) => write!(f, "{host}:{port}"),
            Host::Invalid(text) => f.write_str(text),
        }
    }
}

impl From<&str> for TcpClientEndpoint {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl From<&String> for TcpClientEndpoint {
    fn from(text: &String) -> Self {
        Self::parse(text)
    }
}

impl From<String> for TcpClientEndpoint {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<SocketAddr> for TcpClientEndpoint {
    fn from(address: SocketAddr) -> Self {
        Self::with_host(Host::Address(address))
    }
}

impl From<(&str, u16)> for TcpClientEndpoint {
    fn from((host, port): (&str, u16)) -> Self {
        Self::of(host, port)
    }
}

impl From<(String, u16)> for TcpClientEndpoint {
    fn from((host, port): (String, u16)) -> Self {
        Self::of(&host, port)
    }
}

impl From<(IpAddr, u16)> for TcpClientEndpoint {
    fn from(address: (IpAddr, u16)) -> Self {
        Self::with_host(Host::Address(address.into()))
    }
}

/// A UNIX socket to connect to (Twisted's `UNIXClientEndpoint`).
///
/// On Linux, a path that begins with a NUL byte is a name in the abstract namespace.
#[cfg(unix)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixClientEndpoint {
    pub(super) path: PathBuf,
    pub(super) timeout: Duration,
}

#[cfg(unix)]
impl UnixClientEndpoint {
    /// An endpoint with the default options.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Sets the limit for connecting (30 seconds unless set). Connecting takes time only while the
    /// server's queue of waiting connections is full.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[cfg(unix)]
impl fmt::Display for UnixClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::Address::Unix(Some(self.path.clone())).fmt(f)
    }
}

#[cfg(unix)]
impl<P: AsRef<Path>> From<P> for UnixClientEndpoint {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

/// A UNIX socket to listen on (Twisted's `UNIXServerEndpoint`).
///
/// ```
/// use deferred_reactor::net::UnixServerEndpoint;
///
/// let for_us_alone = UnixServerEndpoint::new("/run/counter.sock").mode(0o600);
/// # drop(for_us_alone);
/// ```
#[cfg(unix)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixServerEndpoint {
    pub(super) path: PathBuf,
    pub(super) mode: Option<u32>,
}

#[cfg(unix)]
impl UnixServerEndpoint {
    /// An endpoint with the default options.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            mode: None,
        }
    }

    /// Sets the permissions of the socket file, such as `0o660`: clients need write permission to
    /// connect. Unless set, the process's umask decides (Twisted's default is `0o666`). The
    /// permissions are set before the first client can connect. An abstract name has no
    /// permissions.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }
}

#[cfg(unix)]
impl<P: AsRef<Path>> From<P> for UnixServerEndpoint {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}

/// A place to connect to: a TCP port, or a UNIX socket.
///
/// Made from everything that a [`TcpClientEndpoint`] is made from, or from a
/// [`UnixClientEndpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEndpoint {
    /// A TCP port.
    Tcp(TcpClientEndpoint),
    /// A UNIX socket.
    #[cfg(unix)]
    Unix(UnixClientEndpoint),
}

impl ClientEndpoint {
    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Tcp(endpoint) => endpoint.timeout,
            #[cfg(unix)]
            Self::Unix(endpoint) => endpoint.timeout,
        }
    }
}

impl fmt::Display for ClientEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(endpoint) => endpoint.fmt(f),
            #[cfg(unix)]
            Self::Unix(endpoint) => endpoint.fmt(f),
        }
    }
}

impl<T: Into<TcpClientEndpoint>> From<T> for ClientEndpoint {
    fn from(endpoint: T) -> Self {
        Self::Tcp(endpoint.into())
    }
}

#[cfg(unix)]
impl From<UnixClientEndpoint> for ClientEndpoint {
    fn from(endpoint: UnixClientEndpoint) -> Self {
        Self::Unix(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_an_address_or_a_name_or_neither() {
        let name = |host: &str, port| Host::Name(host.to_owned(), port);
        let address = |text: &str| Host::Address(text.parse().unwrap());
        for (text, want) in [
            ("127.0.0.1:80", address("127.0.0.1:80")),
            ("[::1]:80", address("[::1]:80")),
            ("example.org:80", name("example.org", 80)),
            ("localhost:0", name("localhost", 0)),
            ("[fe80::1%lo]:80", name("fe80::1%lo", 80)),
            ("example.org", Host::Invalid("example.org".into())),
            ("example.org:http", Host::Invalid("example.org:http".into())),
            (
                "example.org:65536",
                Host::Invalid("example.org:65536".into()),
            ),
            ("::1:80", Host::Invalid("::1:80".into())),
            ("", Host::Invalid(String::new())),
        ] {
            let endpoint = TcpClientEndpoint::new(text);
            assert_eq!(endpoint.host, want, "{text:?}");
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn a_host_that_is_an_address_needs_no_lookup() {
        for host in ["127.0.0.1", "::1"] {
            let endpoint = TcpClientEndpoint::new((host, 80));
            assert!(matches!(endpoint.host, Host::Address(_)), "{host}");
            let address: IpAddr = host.parse().unwrap();
            assert_eq!(endpoint, TcpClientEndpoint::new((address, 80)));
        }
        let endpoint = TcpClientEndpoint::new(("example.org", 80));
        assert_eq!(endpoint, TcpClientEndpoint::new("example.org:80"));
    }
}
