//! An attempt to connect to one address, and the order of the addresses.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::Address;
use super::dial::Dialer;
use super::stream::Stream;
use crate::reactor::{Core, Descriptor, Readiness, SlotId};

/// A connecting socket; its slot passes to the connection if it succeeds.
pub(super) struct Attempt {
    dialer: Weak<Dialer>,
    pub(super) slot: SlotId,
    pub(super) address: Address,
    /// `None` once it is over, either way.
    pub(super) stream: RefCell<Option<Stream>>,
}

impl Attempt {
    /// Starts to connect. The outcome is not known yet when this returns, except for an error.
    pub(super) fn start(
        core: &Rc<Core>,
        dialer: &Rc<Dialer>,
        address: Address,
        from: Option<IpAddr>,
    ) -> io::Result<Rc<Self>> {
        let mut stream = match &address {
            Address::Tcp(address) | Address::Udp(address) => match core.network() {
                None => Stream::Tcp(connect_tcp(*address, from)?),
                Some(network) => {
                    let wire = network.dial(*address, from, false)?;
                    Stream::Memory(Box::new(wire.stream(0)))
                }
            },
            #[cfg(unix)]
            Address::Unix(path) => {
                core.system()?;
                let path = path.as_deref().unwrap_or("".as_ref());
                Stream::Unix(super::unix::connect(path)?)
            }
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let slot = stream.watch(core)?;
        let attempt = Rc::new(Self {
            dialer: Rc::downgrade(dialer),
            slot,
            address,
            stream: RefCell::new(Some(stream)),
        });
        core.occupy(slot, attempt.clone());
        Ok(attempt)
    }

    /// The outcome, or `None` while the socket is connecting.
    fn outcome(&self) -> Option<io::Result<()>> {
        let stream = self.stream.borrow();
        let stream = stream.as_ref()?;
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
        }
        // The only check that works on every system (see mio's `TcpStream::connect`).
        match stream.has_peer() {
            Ok(()) => Some(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl Descriptor for Attempt {
    fn on_ready(self: Rc<Self>, core: &Rc<Core>, readiness: Readiness) {
        let Some(dialer) = self.dialer.upgrade() else {
            return;
        };
        match self.outcome() {
            Some(Ok(())) => dialer.won(core, &self, readiness),
            Some(Err(error)) => dialer.attempt_failed(core, &self, error),
            None => {}
        }
    }

    fn service(self: Rc<Self>, _: &Rc<Core>) {}

    /// Its connector was notified before.
    fn shut_down(self: Rc<Self>, _: &Rc<Core>) {}
}

fn connect_tcp(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else {
        return TcpStream::connect(address);
    };
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Whether a non-blocking connect is in progress.
fn is_in_progress(error: &io::Error) -> bool {
    // The standard library maps `EINPROGRESS` on every system, but its variant is not public yet;
    // Windows returns `WouldBlock`.
    error.kind() == io::ErrorKind::WouldBlock || format!("{:?}", error.kind()) == "InProgress"
}

/// RFC 8305, section 4: in the order of the system, with the two families alternating, so that a
/// broken family costs one delay rather than one for each address.
pub(super) fn in_turn(addresses: Vec<SocketAddr>) -> VecDeque<Address> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_ipv6);
    let mut second = second.into_iter();
    let mut sorted = VecDeque::new();
    for address in first {
        sorted.push_back(Address::Tcp(address));
        sorted.extend(second.next().map(Address::Tcp));
    }
    sorted.extend(second.map(Address::Tcp));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    ///
    #[test]
    fn families_take_turns_and_keep_their_order() {
        for (found, want) in [
            ("", ""),
            ("4a", "4a"),
            ("6a 6b 4a 4b", "6a 4a 6b 4b"),
            ("4a 4b 4c 6a", "4a 6a 4b 4c"),
            ("6a 4a 4b 4c", "6a 4a 4b 4c"),
            ("4a 6a 6b 4b 6c", "4a 6a 4b 6b 6c"),
        ] {
            let address = |name: &str| -> SocketAddr {
                let (family, letter) = name.split_at(1);
                match family {
                    "4" => format!("192.0.2.{}:80", letter.as_bytes()[0]),
                    _ => format!("[2001:db8::{letter}]:80"),
                }
                .parse()
                .unwrap()
            };
            let addresses = |names: &str| names.split_whitespace().map(address).collect::<Vec<_>>();
            let sorted: Vec<_> = in_turn(addresses(found)).into_iter().collect();
            let want: Vec<_> = addresses(want).into_iter().map(Address::Tcp).collect();
            assert_eq!(sorted, want, "{found}");
        }
    }
}
