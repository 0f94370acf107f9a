//! Connections: listening ports, transports, and the protocols that users write.
//!
//! [`Reactor::listen_tcp`](crate::Reactor::listen_tcp) opens a port and asks a [`Factory`] for a [`Protocol`] for each new connection. The reactor calls the protocol, and the protocol answers through its [`Transport`].
//!
//! The reactor calls the methods of a protocol in this order:
//!
//! | method                                                   | how often                       |
//! |----------------------------------------------------------|---------------------------------|
//! | [`connection_made`](Protocol::connection_made)           | once                            |
//! | [`data_received`](Protocol::data_received)               | whenever bytes were received    |
//! | [`write_drained`](Protocol::write_drained)               | when queued output was sent after a congestion, or when requested |
//! | [`peer_closed`](Protocol::peer_closed)                   | at most once, if the peer closes its side while reading is paused |
//! | [`write_connection_lost`](Protocol::write_connection_lost) | once, if the protocol closed its sending side |
//! | [`read_connection_lost`](Protocol::read_connection_lost) | once, if the peer closed its sending side; no data follows |
//! | [`connection_lost`](Protocol::connection_lost)           | once, whatever the reason       |
//!
//! Requests to the [`Transport`] are carried out after the protocol has returned, so a protocol is
//! never called inside itself. Bytes arrive in pieces of any size; the receivers in
//! [`protocols`](crate::protocols) assemble lines and other messages. A protocol gets shared data,
//! such as a list of connected clients, from its factory, usually as an `Rc`;
//! [`Transport::reactor`] gives it the reactor.
//!
//! Datagrams have no connections: [`Reactor::listen_udp`](crate::Reactor::listen_udp) passes all
//! datagrams of a port to one [`DatagramProtocol`]. A datagram arrives whole or not at all.
//! Datagrams are sent at once and never queued: one that the system has no room for is dropped and
//! [counted](UdpStats::dropped). An error in one datagram does not close the port.
//!
//! For client connections, [`Reactor::connect_tcp`](crate::Reactor::connect_tcp) asks a
//! [`ClientFactory`] for the protocol, and
//! [`Reactor::connect_protocol`](crate::Reactor::connect_protocol) uses a given protocol.
//! [`ReconnectingClientFactory`] connects again when the connection is lost. UNIX sockets have the
//! same calls.
//!
//! The reactor takes care of the following:
//!
//! - Readiness is edge-triggered. Each connection is read and written until the system has no more,
//!   but at most a fixed amount in one [turn](crate#turns), so that a busy peer does not starve the
//!   others.
//! - All connections share one read buffer. A connection with nothing to send owns no buffer.
//! - Everything that a protocol writes while it handles one event is sent in one system call.
//!
//! # Producers
//!
//! Code that writes faster than the peer reads fills the memory. A *producer* that is registered on
//! a [`Transport`] is paused and resumed, so that about [64 KiB](Transport::set_buffer_limit) are
//! queued at most:
//!
//! | kind | writes                    | is called                                                    |
//! |------|---------------------------|--------------------------------------------------------------|
//! | push | whenever it has something | `pause_producing`, inside the write that exceeds the limit; `resume_producing`, once everything is sent |
//! | pull | one piece for each call   | `resume_producing`, at registration and whenever everything is sent |
//!
//! `stop_producing` is called when the connection is lost, before the protocol's `connection_lost`.
//! It is also called when the peer closes its side, unless the protocol overrides
//! `read_connection_lost`. While a producer is registered,
//! [`lose_connection`](Transport::lose_connection) and
//! [`lose_write_connection`](Transport::lose_write_connection) wait until it is
//! [unregistered](Transport::unregister_producer): a producer unregisters itself after its last
//! bytes.
//!
//! A transport is also a push producer: it produces what its peer sends. A proxy copies bytes
//! between two connections and registers each as the producer of the other, so that it reads
//! neither faster than the other accepts the bytes:
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
//! When one of the two connections is lost, the other stops reading, and is closed once everything
//! is sent. When only one direction ends, the proxy passes the end on: its `read_connection_lost`
//! calls [`lose_write_connection`](Transport::lose_write_connection) on the other transport.

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
mod lookup;
pub(crate) mod memory;
mod open;
mod output;
mod port;
mod producer;
mod protocol;
mod read_pool;
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
pub(crate) use open::{bind_all, open_tcp};
pub use port::Port;
pub use producer::{ProducerRegisteredError, PullProducer, PushProducer};
pub use protocol::{Factory, FactoryIdentity, Protocol, for_protocol};
pub(crate) use read_pool::ReadPool;
pub use reconnecting::{ReconnectingClientFactory, Reconnection};
pub(crate) use reuse_port::{listen_first, listen_too};
pub(crate) use stream::Stream;
pub(crate) use throttle::Bucket;
pub use transport::Transport;
pub use udp::{
    DatagramProtocol, InvalidAddressError, UdpAddress, UdpError, UdpPort, UdpStats, UdpTransport,
};
