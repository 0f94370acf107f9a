//! Connections: listening ports, transports, and the protocols that users write.
//!
//! [`Reactor::listen_tcp`](crate::Reactor::listen_tcp) opens a port and asks a [`Factory`] for a
//! [`Protocol`] for each connection that comes. The protocol is told what happens, and answers
//! through its [`Transport`].
//!
//! A protocol is told of the life of its connection in this order:
//!
//! | method                                                              | how often                       |
//! |---------------------------------------------------------------------|---------------------------------|
//! | [`connection_made`](Protocol::connection_made)                      | once                            |
//! | [`data_received`](Protocol::data_received)                          | as often as bytes come          |
//! | [`write_drained`](Protocol::write_drained)                          | when the peer reads again, after a jam, or when asked for |
//! | [`peer_closed`](Protocol::peer_closed)                              | at most once, where the peer has closed its side and the protocol has paused |
//! | [`write_connection_lost`](Protocol::write_connection_lost)          | once, where the protocol has closed its sending side |
//! | [`read_connection_lost`](Protocol::read_connection_lost)            | once, where the peer has closed its own; no data comes after it |
//! | [`connection_lost`](Protocol::connection_lost)                      | once, whatever the reason       |
//!
//! Whatever a protocol asks its [`Transport`] for is done once the protocol has returned, and so it
//! is never called from inside itself. Bytes come in pieces of any size; the receivers in
//! [`protocols`](crate::protocols) put lines and other messages together. What a protocol needs of
//! the program, such as a list of those who are connected, its factory gives it, usually as an `Rc`;
//! the reactor is at hand as [`Transport::reactor`].
//!
//! Datagrams have no connections: [`Reactor::listen_udp`](crate::Reactor::listen_udp) hands all that
//! come to one [`DatagramProtocol`]. Each comes whole, or not at all. Sending goes to the system at
//! once and nothing is queued here: what it has no room for is lost, as it could be anywhere on its
//! way, and [counted](UdpStats::dropped). An error in one datagram does not close the port.
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
//! Both are told to stop when the connection is lost, before the protocol is told; and when the peer
//! closes its side, unless the protocol has a `read_connection_lost` of its own. While one is
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
//!
//! When one of the two is lost, the other is told to stop producing, and is closed once everything
//! is sent. Where only one direction ends, the proxy passes that on: its `read_connection_lost` calls
//! [`lose_write_connection`](Transport::lose_write_connection) of the other one.

mod accept_backoff;
mod acceptor;
mod address;
mod attempt;
mod client_factory;
mod connect_errors;
mod connection;
mod connector;
mod dial;
mod endpoint;
mod endpoint_text;
mod errors;
mod listen_address;
mod lookup;
pub(crate) mod memory;
mod open;
mod output;
mod port;
mod producer;
mod protocol;
mod reconnecting;
mod reuse_port;
mod stream;
mod throttle;
mod transport;
mod udp;
#[cfg(unix)]
mod unix;

pub use accept_backoff::PortStats;
pub use address::Address;
pub use client_factory::ClientFactory;
pub use connect_errors::{
    ConnectError, ConnectionRefusedError, ConnectorError, FailedAttempt, LookupError, UserError,
};
pub(crate) use connection::{Connection, Spares, Switches};
pub use connector::{Connector, ConnectorState};
pub(crate) use dial::Clients;
pub use endpoint::{ClientEndpoint, TcpClientEndpoint};
#[cfg(unix)]
pub use endpoint::{UnixClientEndpoint, UnixServerEndpoint};
pub use endpoint_text::{EndpointError, EndpointProblem};
pub use errors::{CannotListenError, ConnectionAborted, ConnectionDone, ConnectionLost};
pub use listen_address::ListenAddress;
pub(crate) use open::{bind_all, open_tcp};
pub use port::Port;
pub use producer::{ProducerRegisteredError, PullProducer, PushProducer};
pub use protocol::{Factory, FactoryIdentity, Protocol, for_protocol};
pub use reconnecting::{ReconnectingClientFactory, Reconnection};
pub(crate) use reuse_port::{listen_first, listen_too};
pub(crate) use stream::Stream;
pub(crate) use throttle::Bucket;
pub use transport::Transport;
pub use udp::{
    DatagramProtocol, InvalidAddressError, UdpAddress, UdpError, UdpPort, UdpStats, UdpTransport,
};
