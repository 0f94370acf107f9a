//! Endpoints: where a client connects to and how, and where a UNIX server listens.
//!
//! Calls that connect take an address as it is (`"example.org:80"`, a `SocketAddr`, a path), or one
//! of these types, which add options.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::endpoint_text::{Description, EndpointError, EndpointProblem};

#[cfg(unix)]
use std::path::{Path, PathBuf};

/// The default limit for connecting, as in Twisted.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The delay recommended by RFC 8305, section 8.
const DEFAULT_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A TCP port to connect to (Twisted's `HostnameEndpoint` and `TCP4ClientEndpoint`).
///
/// Made from `"host:port"`, `(host, port)`, a `SocketAddr`, or a description such as
/// `"tcp:host=example.org:port=80:timeout=5"` (Twisted's `clientFromString`). The host is a name or
/// an IP address; write an IPv6 address in brackets (`"[::1]:80"`). Other text is accepted here,
/// and connecting to it fails as for a name that does not exist; [`str::parse`] reports the error
/// at once.
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
    /// No host and port.
    Invalid(EndpointError),
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
        text.parse()
            .unwrap_or_else(|error| Self::with_host(Host::Invalid(error)))
    }

    /// Parses `host:port`. `None` if the text has another form.
    fn parse_short(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::with_host(Host::Address(address)));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        // Another colon in the host means an IPv6 address without brackets, in which the port is
        // ambiguous. An address with a zone is in brackets.
        let host = match host.contains(':') {
            true => host.strip_prefix('[')?.strip_suffix(']')?,
            false => host,
        };
        (!host.is_empty()).then(|| Self::with_host(Host::Name(host.to_owned(), port)))
    }

    fn parse_description(mut found: Description) -> Result<Self, EndpointError> {
        let host = found.required("host")?;
        let port = found.port()?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(&host);
        let mut endpoint = Self::of(host, port);
        if let Some(timeout) = found.timeout()? {
            endpoint.timeout = timeout;
        }
        if let Some(address) = found.optional("bindAddress") {
            let address =
                found.read("bindAddress", address, "an IP address", |a| a.parse().ok())?;
            endpoint.bind_address = Some(address);
        }
        Ok(endpoint)
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
            Host::Invalid(error) => f.write_str(&error.text),
        }
    }
}

impl FromStr for TcpClientEndpoint {
    type Err = EndpointError;

    /// Parses `"host:port"`, or a description such as `"tcp:host=example.org:port=80:timeout=5"`.
    /// Host and port may be given without their names (`"tcp:example.org:80"`).
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let arguments = ["host", "port", "timeout", "bindAddress"];
        if let Some(found) = Description::parse(text, "tcp", &arguments, 2) {
            return Self::parse_description(found?);
        }
        Self::parse_short(text).ok_or_else(|| EndpointError {
            text: text.to_owned(),
            problem: EndpointProblem::NotAnEndpoint,
        })
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
/// [`UnixClientEndpoint`]. A text may also describe a UNIX socket, `"unix:/path"`:
///
/// ```
/// use deferred_reactor::net::ClientEndpoint;
///
/// for text in ["example.org:80", "tcp:host=example.org:port=80:timeout=5", "unix:/run/counter.sock"] {
///     let endpoint: ClientEndpoint = text.parse()?;
///     println!("{endpoint}");
/// }
/// let error = "example.org".parse::<ClientEndpoint>().unwrap_err();
/// assert!(error.to_string().starts_with("\"example.org\" is no endpoint: write \"host:port\""));
/// # Ok::<(), deferred_reactor::net::EndpointError>(())
/// ```
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
        let endpoint = endpoint.into();
        #[cfg(unix)]
        if let Host::Invalid(EndpointError { text, .. }) = &endpoint.host
            && let Ok(Self::Unix(endpoint)) = text.parse()
        {
            return Self::Unix(endpoint);
        }
        Self::Tcp(endpoint)
    }
}

impl FromStr for ClientEndpoint {
    type Err = EndpointError;

    /// Parses the text of a [`TcpClientEndpoint`], or `"unix:/path"`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        #[cfg(unix)]
        if text.starts_with("unix:") {
            return text.parse().map(Self::Unix);
        }
        text.parse().map(Self::Tcp)
    }
}

#[cfg(unix)]
impl FromStr for UnixClientEndpoint {
    type Err = EndpointError;

    /// Parses `"unix:/path"`, optionally followed by `:timeout=5`, or a path that begins with a
    /// slash. On Linux, `unix:@` begins a name in the abstract namespace.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (path, rest) = read_path(text, &["path", "timeout"])?;
        let mut endpoint = Self::new(path);
        if let Some(mut found) = rest
            && let Some(timeout) = found.timeout()?
        {
            endpoint.timeout = timeout;
        }
        Ok(endpoint)
    }
}

#[cfg(unix)]
impl FromStr for UnixServerEndpoint {
    type Err = EndpointError;

    /// Parses `"unix:/path"`, optionally followed by `:mode=660`, or a path that begins with a
    /// slash. On Linux, `unix:@` begins a name in the abstract namespace.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (path, rest) = read_path(text, &["path", "mode"])?;
        let mut endpoint = Self::new(path);
        if let Some(mut found) = rest
            && let Some(mode) = found.optional("mode")
        {
            let octal = |mode: &str| u32::from_str_radix(mode, 8).ok().filter(|m| *m <= 0o7777);
            let mode = found.read("mode", mode, "an octal number such as 660", octal)?;
            endpoint.mode = Some(mode);
        }
        Ok(endpoint)
    }
}

/// Returns the path, and the other arguments of a description.
#[cfg(unix)]
fn read_path(
    text: &str,
    arguments: &[&'static str],
) -> Result<(PathBuf, Option<Description>), EndpointError> {
    match Description::parse(text, "unix", arguments, 1) {
        Some(found) => {
            let mut found = found?;
            let path = found.required("path")?;
            let path = match path.strip_prefix('@') {
                Some(name) => format!("\0{name}"),
                None => path,
            };
            Ok((path.into(), Some(found)))
        }
        None if text.starts_with('/') => Ok((text.into(), None)),
        None => Err(EndpointError {
            text: text.to_owned(),
            problem: EndpointProblem::NotAnEndpoint,
        }),
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
        let invalid = |text: &str| {
            Host::Invalid(EndpointError {
                text: text.to_owned(),
                problem: EndpointProblem::NotAnEndpoint,
            })
        };
        let address = |text: &str| Host::Address(text.parse().unwrap());
        for (text, want) in [
            ("127.0.0.1:80", address("127.0.0.1:80")),
            ("[::1]:80", address("[::1]:80")),
            ("example.org:80", name("example.org", 80)),
            ("localhost:0", name("localhost", 0)),
            ("[fe80::1%lo]:80", name("fe80::1%lo", 80)),
            ("example.org", invalid("example.org")),
            ("example.org:http", invalid("example.org:http")),
            ("example.org:65536", invalid("example.org:65536")),
            ("::1:80", invalid("::1:80")),
            (":80", invalid(":80")),
            ("", invalid("")),
        ] {
            let endpoint = TcpClientEndpoint::new(text);
            assert_eq!(endpoint.host, want, "{text:?}");
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn a_description_is_the_endpoint_that_its_arguments_say() {
        let web = || TcpClientEndpoint::new("example.org:80");
        let patient = || web().timeout(Duration::from_millis(2500));
        for (text, want) in [
            ("tcp:host=example.org:port=80", web()),
            ("tcp:example.org:80", web()),
            ("tcp:port=80:host=example.org", web()),
            ("tcp:example.org:80:timeout=2.5", patient()),
            (r"tcp:\:\:1:80", TcpClientEndpoint::new("[::1]:80")),
            (
                r"tcp:host=[\:\:1]:port=80",
                TcpClientEndpoint::new("[::1]:80"),
            ),
            (
                "tcp:example.org:80:bindAddress=127.0.0.2",
                web().bind_address([127, 0, 0, 2]),
            ),
        ] {
            assert_eq!(text.parse().as_ref(), Ok(&want), "{text:?}");
        }
        assert_eq!(ClientEndpoint::from("tcp:example.org:80"), web().into());
    }

    #[cfg(unix)]
    #[test]
    fn a_description_may_be_a_unix_socket() {
        let socket = || UnixClientEndpoint::new("/run/s");
        for (text, want) in [
            ("unix:/run/s", socket()),
            (
                "unix:path=/run/s:timeout=5",
                socket().timeout(Duration::from_secs(5)),
            ),
            (r"unix:/run/a\:b", UnixClientEndpoint::new("/run/a:b")),
            ("unix:@name", UnixClientEndpoint::new("\0name")),
        ] {
            assert_eq!(
                text.parse::<UnixClientEndpoint>().as_ref(),
                Ok(&want),
                "{text:?}"
            );
            assert_eq!(
                ClientEndpoint::from(text),
                ClientEndpoint::Unix(want),
                "{text:?}"
            );
        }
        let served: UnixServerEndpoint = "unix:/run/s:mode=660".parse().unwrap();
        assert_eq!(served, UnixServerEndpoint::new("/run/s").mode(0o660));
        assert_eq!("/run/s".parse(), Ok(UnixServerEndpoint::new("/run/s")));
    }

    #[test]
    fn an_error_says_what_is_wrong_with_the_text() {
        for (text, want) in [
            (
                "example.org",
                "\"example.org\" is no endpoint: write \"host:port\"",
            ),
            (
                "tcp:example.org",
                "the endpoint \"tcp:example.org\" has no port",
            ),
            ("tcp:port=80", "the endpoint \"tcp:port=80\" has no host"),
            (
                "tcp:example.org:http",
                "the port of the endpoint \"tcp:example.org:http\" is \"http\", and should be a number",
            ),
            (
                "tcp:a:80:colour=red",
                "the endpoint \"tcp:a:80:colour=red\" has an argument \"colour\"",
            ),
            (
                "tcp:a:80:81",
                "the endpoint \"tcp:a:80:81\" has an argument \"81\"",
            ),
            (
                "tcp:a:80:host=b",
                "the endpoint \"tcp:a:80:host=b\" has its host twice",
            ),
            (
                "tcp:a:80:timeout=-1",
                "the timeout of the endpoint \"tcp:a:80:timeout=-1\" is \"-1\"",
            ),
            #[cfg(unix)]
            ("unix:", "the endpoint \"unix:\" has no path"),
        ] {
            let error = text.parse::<ClientEndpoint>().unwrap_err();
            assert!(error.to_string().starts_with(want), "{error}");
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
