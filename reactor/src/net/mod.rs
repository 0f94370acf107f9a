//! Connections: listening ports, transports, and the protocols that users write.
//!
//! [`Reactor::listen_tcp`](crate::Reactor::listen_tcp) opens a port and asks a [`Factory`] for a
//! [`Protocol`] for each connection that comes. The protocol is told what happens, and answers
//! through its [`Transport`].
//!
//! Datagrams have no connections: [`Reactor::listen_udp`](crate::Reactor::listen_udp) hands all that
//! come to one [`DatagramProtocol`].
//!
//! What the reactor takes care of, so that protocols need not:
//!
//! - Readiness is edge-triggered underneath. Each connection is read and written until the system
//!   has no more, but only so much a turn, so that a busy peer does not starve the others.
//! - All connections share one read buffer, and one that has nothing to send owns no other.
//! - What a protocol writes while it handles one event leaves in one system call.

mod address;
mod connection;
mod errors;
mod intake;
mod output;
mod port;
pub mod producer;
mod protocol;
mod shared;
mod stream;
mod udp;

pub use address::Address;
pub use connection::Transport;
pub(crate) use connection::{Connection, Spares};
pub use errors::{CannotListenError, ConnectionAborted, ConnectionDone, ConnectionLost};
pub use intake::PortStats;
pub use port::Port;
pub(crate) use port::{first_of, listen_tcp, open_tcp};
pub use producer::{ProducerRegisteredError, PullProducer, PushProducer};
pub use protocol::{Factory, Protocol, for_protocol};
pub(crate) use shared::{listen_first, listen_too};
pub(crate) use stream::Stream;
pub(crate) use udp::listen_udp;
pub use udp::{
    DatagramProtocol, InvalidAddressError, UdpAddress, UdpError, UdpPort, UdpStats, UdpTransport,
};
