//! Receivers for lines and length-prefixed strings, and time limits for connections.
//!
//! A [`Protocol`](crate::net::Protocol) receives bytes that are split anywhere. The receivers here
//! assemble messages, and call your protocol with whole messages:
//!
//! | receiver                                        | a message is                                 | yours implements     |
//! |-------------------------------------------------|----------------------------------------------|----------------------|
//! | [`LineReceiver`]                                | a line, up to a delimiter (CR LF unless set) | [`LineProtocol`]     |
//! | [`Int8StringReceiver`], [`Int16StringReceiver`], [`Int32StringReceiver`] | a string behind its length, big-endian in 1, 2 or 4 bytes | [`StringProtocol`] |
//! | [`NetstringReceiver`]                           | a netstring: `5:hello,`                      | [`StringProtocol`]   |
//!
//! The receiver is the protocol that a factory makes:
//!
//! ```
//! use deferred_reactor::net::for_protocol;
//! use deferred_reactor::protocols::{LineProtocol, LineReceiver, LineTransport};
//! use deferred_reactor::{Failure, testing::MemoryReactor};
//!
//! /// Sends each line back, in capitals.
//! struct Shout;
//!
//! impl LineProtocol for Shout {
//!     fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
//!         lines.send_line(line.to_ascii_uppercase());
//!         Ok(())
//!     }
//! }
//!
//! let memory = MemoryReactor::new();
//! memory.listen_tcp("127.0.0.1:7", for_protocol(|| LineReceiver::new(Shout)))?;
//! let client = memory.connect_to("127.0.0.1:7")?;
//! assert_eq!(client.exchange("hello\r\nwor"), b"HELLO\r\n");
//! assert_eq!(client.exchange("ld\r\n"), b"WORLD\r\n");
//! # Ok::<(), Failure>(())
//! ```
//!
//! Properties of all receivers:
//!
//! - **A message has a maximum length**, checked as early as possible, so that a peer cannot fill
//!   the memory. A longer message is not delivered; by default its connection is closed.
//! - **Pausing stops delivery at once.** After
//!   [`pause_producing`](crate::net::Transport::pause_producing), no further message is delivered,
//!   even one that has arrived already, and nothing more is read, so that the peer has to wait.
//!   [`resume_producing`](crate::net::Transport::resume_producing) continues with the next message.
//!   A connection that is being closed delivers nothing more.
//! - **The work is linear** in the number of bytes, wherever they are split. A message that arrives
//!   whole is delivered without a copy.
//! - An unfinished message at the end of a connection is dropped.
//!
//! A [`TimeoutProtocol`] wraps a protocol, and closes its connection when the time limit is not
//! reset in time.

mod input;
mod line;
mod line_transport;
mod string_formats;
mod string_transport;
mod strings;
mod timeout;

pub use line::{LineProtocol, LineReceiver};
pub use line_transport::LineTransport;
pub use string_formats::{Netstring, NetstringParseError, StringFormat};
pub use string_transport::{StringTooLongError, StringTransport};
pub use strings::{
    Int8StringReceiver, Int16StringReceiver, Int32StringReceiver, IntNStringReceiver,
    NetstringReceiver, StringProtocol, StringReceiver,
};
pub use timeout::{ConnectionTimeout, TimeoutProtocol};
