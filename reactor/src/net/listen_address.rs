//! Addresses of TCP and UDP ports.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::str::FromStr;

use super::endpoint_text::{Description, EndpointError, EndpointProblem};

/// The interface and the port to listen on (Twisted's `TCP4ServerEndpoint`).
///
/// Made from `"127.0.0.1:8000"`, `"localhost:8000"`, `("::1", 8000)`, a `SocketAddr` or several; or
/// from a description such as `"tcp:port=8000:interface=127.0.0.1"` (Twisted's `serverFromString`),
/// whose port may be given without its name. A description without an interface means all
/// interfaces of both IP families. Other text is accepted here, and listening on it fails;
/// [`str::parse`] reports the error at once.
///
/// ```
/// use deferred_reactor::net::ListenAddress;
///
/// let address: ListenAddress = "tcp:8000:interface=127.0.0.1".parse()?;
/// assert_eq!(address, ListenAddress::from((std::net::Ipv4Addr::LOCALHOST, 8000)));
/// assert_eq!(ListenAddress::from("localhost:8000").to_string(), "localhost:8000");
/// assert!("localhost".parse::<ListenAddress>().is_err());
/// # Ok::<(), deferred_reactor::net::EndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress(Interface);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Interface {
    Addresses(Vec<SocketAddr>),
    /// A name to be looked up.
    Name(String, u16),
    Invalid(EndpointError),
}

impl ListenAddress {
    fn at(host: &str, port: u16) -> Self {
        Self(match host.parse::<IpAddr>() {
            Ok(address) => Interface::Addresses(vec![(address, port).into()]),
            Err(_) => Interface::Name(host.to_owned(), port),
        })
    }

    fn parse_short(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(address.into());
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let host = match host.contains(':') {
            true => host.strip_prefix('[')?.strip_suffix(']')?,
            false => host,
        };
        (!host.is_empty()).then(|| Self::at(host, port))
    }
}

impl FromStr for ListenAddress {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(found) = Description::parse(text, "tcp", &["port", "interface"], 1) {
            let mut found = found?;
            let port = found.port()?;
            return Ok(match found.optional("interface") {
                Some(interface) => Self::at(&interface, port),
                None => Self(Interface::Addresses(vec![
                    (Ipv4Addr::UNSPECIFIED, port).into(),
                    (Ipv6Addr::UNSPECIFIED, port).into(),
                ])),
            });
        }
        Self::parse_short(text).ok_or_else(|| EndpointError {
            text: text.to_owned(),
            problem: EndpointProblem::NotAnAddress,
        })
    }
}

/// Looks up a name, which may block.
impl ToSocketAddrs for ListenAddress {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        match &self.0 {
            Interface::Addresses(addresses) => Ok(addresses.clone().into_iter()),
            Interface::Name(name, port) => (name.as_str(), *port).to_socket_addrs(),
            // What is not a description is an address with a mistake, which the standard library names.
            Interface::Invalid(error) if error.problem == EndpointProblem::NotAnAddress => {
                error.text.to_socket_addrs()
            }
            Interface::Invalid(error) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, error.clone()))
            }
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Interface::Addresses(addresses) => match &addresses[..] {
                [] => f.write_str("no address"),
                [first, others @ ..] => {
                    first.fmt(f)?;
                    others.iter().try_for_each(|one| write!(f, " and {one}"))
                }
            },
            Interface::Name(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Interface::Name(host, port) => write!(f, "{host}:{port}"),
            Interface::Invalid(error) => f.write_str(&error.text),
        }
    }
}

impl From<&str> for ListenAddress {
    fn from(text: &str) -> Self {
        text.parse()
            .unwrap_or_else(|error| Self(Interface::Invalid(error)))
    }
}

impl From<(&str, u16)> for ListenAddress {
    fn from((host, port): (&str, u16)) -> Self {
        Self::at(host, port)
    }
}

impl From<&[SocketAddr]> for ListenAddress {
    fn from(addresses: &[SocketAddr]) -> Self {
        Self(Interface::Addresses(addresses.to_vec()))
    }
}

impl<const N: usize> From<[SocketAddr; N]> for ListenAddress {
    fn from(addresses: [SocketAddr; N]) -> Self {
        addresses.as_slice().into()
    }
}

/// Conversions from other types, by those above.
macro_rules! from {
    ($($from:ty => $make:expr;)*) => {$(
        impl From<$from> for ListenAddress {
            fn from(from: $from) -> Self {
                let make: fn($from) -> Self = $make;
                make(from)
            }
        }
    )*};
}

from! {
    String => |text| text.as_str().into();
    &String => |text| text.as_str().into();
    &&str => |text| (*text).into();
    (String, u16) => |(host, port)| Self::at(&host, port);
    SocketAddr => |address| [address].as_slice().into();
    &SocketAddr => |address| (*address).into();
    SocketAddrV4 => |address| SocketAddr::from(address).into();
    SocketAddrV6 => |address| SocketAddr::from(address).into();
    (IpAddr, u16) => |address| SocketAddr::from(address).into();
    (Ipv4Addr, u16) => |address| SocketAddr::from(address).into();
    (Ipv6Addr, u16) => |address| SocketAddr::from(address).into();
    Vec<SocketAddr> => |addresses| addresses.as_slice().into();
    &ListenAddress => |address| address.clone();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_addresses_names_or_neither() {
        for (text, want) in [
            ("127.0.0.1:80", Ok("127.0.0.1:80")),
            ("[::1]:80", Ok("[::1]:80")),
            ("localhost:0", Ok("localhost:0")),
            ("tcp:80", Ok("0.0.0.0:80 and [::]:80")),
            ("tcp:port=80:interface=localhost", Ok("localhost:80")),
            (r"tcp:80:interface=\:\:1", Ok("[::1]:80")),
            ("localhost", Err("\"localhost\" is no address to listen on")),
            ("::1:80", Err("\"::1:80\" is no address to listen on")),
            (
                "tcp:http",
                Err("the port of the endpoint \"tcp:http\" is \"http\""),
            ),
            (
                "tcp:80:backlog=5",
                Err("the endpoint \"tcp:80:backlog=5\" has an argument \"backlog\""),
            ),
        ] {
            match (text.parse::<ListenAddress>(), want) {
                (Ok(address), Ok(want)) => assert_eq!(address.to_string(), want),
                (Err(error), Err(want)) => assert!(error.to_string().starts_with(want), "{error}"),
                (got, want) => panic!("{text:?} is {got:?}, not {want:?}"),
            }
        }
    }
}
