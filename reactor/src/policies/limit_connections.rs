//! Limits the number of connections of a factory.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use super::{Around, ProtocolWrapper};
use crate::net::{Address, Factory, FactoryIdentity, Port, Protocol};

/// Refuses connections above a limit, in total or for each peer (Twisted's
/// `LimitTotalConnectionsFactory` and `LimitConnectionsByPeer`).
///
/// A refused connection is closed at once, and the wrapped factory is not asked for a protocol. A
/// connection counts from the time its protocol is made until it is lost.
///
/// A peer is an IP address. IPv6 addresses with the same first 64 bits are one peer, since a customer
/// usually has such a network; an IPv4-mapped IPv6 address is the IPv4 address. Connections over UNIX
/// sockets have no IP address: only [`max_connections`](Self::max_connections) applies to them.
///
/// ```
/// use deferred_reactor::net::{Protocol, Transport, for_protocol};
/// use deferred_reactor::policies::LimitConnectionsFactory;
/// use deferred_reactor::{Failure, Reactor};
///
/// struct Quiet;
///
/// impl Protocol for Quiet {
///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
///         Ok(())
///     }
/// }
///
/// let reactor = Reactor::new()?;
/// let factory = LimitConnectionsFactory::new(for_protocol(|| Quiet))
///     .max_connections(10_000)
///     .max_connections_per_peer(100);
/// reactor.listen_tcp("127.0.0.1:0", factory)?;
/// # Ok::<(), Failure>(())
/// ```
pub struct LimitConnectionsFactory<F> {
    factory: F,
    max_connections: usize,
    max_connections_per_peer: usize,
    places: Rc<Places>,
}

/// The connected peers.
#[derive(Default)]
struct Places {
    taken: Cell<usize>,
    by_peer: RefCell<HashMap<IpAddr, usize>>,
    accepted: Cell<u64>,
    refused: Cell<u64>,
    refused_by_peer: Cell<u64>,
}

impl<F: Factory> LimitConnectionsFactory<F> {
    /// Wraps `factory`, without a limit so far.
    pub fn new(factory: F) -> Self {
        Self {
            factory,
            max_connections: usize::MAX,
            max_connections_per_peer: usize::MAX,
            places: Rc::default(),
        }
    }

    /// Sets the maximum number of connections (no limit unless set; 0 refuses all).
    #[must_use]
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count;
        self
    }

    /// Sets the maximum number of connections for each peer (no limit unless set; 0 refuses all
    /// peers that have an IP address).
    #[must_use]
    pub fn max_connections_per_peer(mut self, count: usize) -> Self {
        self.max_connections_per_peer = count;
        self
    }

    /// Returns the numbers of connections now connected, accepted so far, and refused so far.
    pub fn counts(&self) -> ConnectionCounts {
        let places = &self.places;
        ConnectionCounts {
            connected: places.taken.get(),
            accepted: places.accepted.get(),
            refused: places.refused.get(),
            refused_by_peer: places.refused_by_peer.get(),
        }
    }

    /// Reserves a place for a connection from `peer`, if one is free.
    fn place_for(&self, peer: &Address) -> Option<Place> {
        let places = &self.places;
        let count = |refused: &Cell<u64>| refused.set(refused.get() + 1);
        if places.taken.get() >= self.max_connections {
            count(&places.refused);
            return None;
        }
        let peer = peer.socket_addr().map(|peer| network(peer.ip()));
        if let Some(peer) = peer {
            let mut by_peer = places.by_peer.borrow_mut();
            let taken = by_peer.get(&peer).copied().unwrap_or(0);
            if taken >= self.max_connections_per_peer {
                count(&places.refused_by_peer);
                return None;
            }
            by_peer.insert(peer, taken + 1);
        }
        places.taken.set(places.taken.get() + 1);
        Some(Place {
            places: places.clone(),
            peer,
        })
    }
}

impl<F: Factory> Factory for LimitConnectionsFactory<F> {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        // Reserved first: the place is freed if there is no protocol, or if making it panics.
        let place = self.place_for(peer)?;
        let protocol = self.factory.build_protocol(peer)?;
        let accepted = &self.places.accepted;
        accepted.set(accepted.get() + 1);
        Some(ProtocolWrapper::boxed(protocol, place))
    }

    fn port_opened(&self, port: &Port) {
        self.factory.port_opened(port);
    }

    fn start_factory(&self) {
        self.factory.start_factory();
    }

    fn stop_factory(&self) {
        self.factory.stop_factory();
    }

    fn shared_identity(&self) -> Option<FactoryIdentity> {
        self.factory.shared_identity()
    }
}

impl<F> fmt::Debug for LimitConnectionsFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitConnectionsFactory")
            .field("max_connections", &self.max_connections)
            .field("max_connections_per_peer", &self.max_connections_per_peer)
            .field("connected", &self.places.taken.get())
            .finish_non_exhaustive()
    }
}

/// The place of one connection, which is freed on drop.
struct Place {
    places: Rc<Places>,
    peer: Option<IpAddr>,
}

impl Around for Place {}

impl Drop for Place {
    fn drop(&mut self) {
        let places = &self.places;
        places.taken.set(places.taken.get() - 1);
        if let Some(peer) = self.peer {
            let mut by_peer = places.by_peer.borrow_mut();
            // Peers without connections are removed.
            match by_peer.get_mut(&peer) {
                Some(taken) if *taken > 1 => *taken -= 1,
                _ => drop(by_peer.remove(&peer)),
            }
        }
    }
}

/// The network that counts as one peer.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

/// Numbers of connections of a [`LimitConnectionsFactory`]; from
/// [`counts`](LimitConnectionsFactory::counts).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Connections open now.
    pub connected: usize,
    /// Connections that got a protocol so far.
    pub accepted: u64,
    /// Connections refused because of the total limit.
    pub refused: u64,
    /// Connections refused because of the limit for their peer.
    pub refused_by_peer: u64,
}

impl ConnectionCounts {
    /// Total number of refused connections.
    pub fn total_refused(&self) -> u64 {
        self.refused + self.refused_by_peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PO-05.
    #[test]
    fn peers_are_told_apart_by_address_or_network() {
        let same = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|address| network(address.parse().unwrap()));
            one == other
        };
        assert!(same("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(!same("127.0.0.1", "127.0.0.2"));
        assert!(!same("::ffff:127.0.0.1", "::ffff:127.0.0.2"));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
    }
}
