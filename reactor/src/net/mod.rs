//! Connections: listening ports, transports, and the protocols that users write.
//!
//! [`Reactor::listen_tcp`](crate::Reactor::listen_tcp) opens a port and asks a [`Factory`] for a
//! [`Protocol`] for each connection that comes. The protocol is told what happens, and answers
//! through its [`Transport`].
//!
//! Datagrams have no connections: [`Reactor::listen_udp`](crate::Reactor::listen_udp) hands all that
//! come to one [`DatagramProtocol`].
//!
//! In the other direction, [`Reactor::connect_tcp`](crate::Reactor::connect_tcp) asks a
//! [`ClientFactory`] for the protocol of the connection that it makes, and
//! [`Reactor::connect_protocol`](crate::Reactor::connect_protocol) makes one for a given protocol.
//! [`ReconnectingClientFactory`] connects again when it is lost. UNIX sockets do all this, too.
//!
//! What the reactor takes care of, so that protocols need not:
//!
//! - Readiness is edge-triggered underneath. Each connection is read and written until the system
//!   has no more, but only so much a turn, so that a busy peer does not starve the others.
//! - All connections share one read buffer, and one that has nothing to send owns no other.
//! - What a protocol writes while it handles one event leaves in one system call.
//!
//! # Producers
//!
//! Whoever writes faster than the peer reads fills the memory. A *producer* that is registered on
//! a [`Transport`] is told when to go on, so that about [64 KiB](Transport::set_buffer_limit) wait
//! at most:
//!
//! | kind | writes                    | is told                                                      |
//! |------|---------------------------|--------------------------------------------------------------|
//! | push | whenever it has something | to pause, inside the write that went beyond the limit; to resume, once everything is sent |
//! | pull | one piece when asked      | to resume, at registration and whenever everything is sent  |
//!
//! Both are told to stop when the connection is lost, before the protocol is told. While one is
//! registered, [`lose_connection`](Transport::lose_connection) and
//! [`lose_write_connection`](Transport::lose_write_connection) wait until it is
//! [unregistered](Transport::unregister_producer): a producer that has written its last bytes
//! unregisters itself.
//!
//! A transport is a push producer as well: what it produces is what its peer sends. So that of two
//! connections which are written through to each other, neither is read faster than the other
//! takes, a proxy registers each as the producer of the other:
//!
//! ```
//! use deferred_reactor::net::{ProducerRegisteredError, Transport};
//!
//! fn join(client: &Transport, server: &Transport) -> Result<(), ProducerRegisteredError> {
//!     client.register_producer(server.clone())?;
//!     server.register_producer(client.clone())
//! }
//! ```

mod acceptor;
mod address;
mod attempt;
mod connect_errors;
mod connection;
mod connector;
mod endpoint;
mod errors;
mod intake;
mod lookup;
mod output;
mod port;
mod producer;
mod protocol;
mod reconnecting;
mod shared;
mod stream;
mod udp;
#[cfg(unix)]
mod unix;

pub use address::Address;
pub use connect_errors::{
    ConnectError, ConnectionRefusedError, ConnectorError, FailedAttempt, LookupError, UserError,
};
pub use connection::Transport;
pub(crate) use connection::{Connection, Spares};
pub(crate) use connector::Clients;
pub use connector::{ClientFactory, Connector, ConnectorState};
pub use endpoint::{ClientEndpoint, TcpClientEndpoint};
#[cfg(unix)]
pub use endpoint::{UnixClientEndpoint, UnixServerEndpoint};
pub use errors::{CannotListenError, ConnectionAborted, ConnectionDone, ConnectionLost};
pub use intake::PortStats;
pub use port::Port;
pub(crate) use port::{first_of, listen_tcp, open_tcp};
pub use producer::{ProducerRegisteredError, PullProducer, PushProducer};
pub use protocol::{Factory, Protocol, for_protocol};
pub use reconnecting::{ReconnectingClientFactory, Reconnection};
pub(crate) use shared::{listen_first, listen_too};
pub(crate) use stream::Stream;
pub(crate) use udp::listen_udp;
pub use udp::{
    DatagramProtocol, InvalidAddressError, UdpAddress, UdpError, UdpPort, UdpStats, UdpTransport,
};
