//! Limits for the connections of a factory: their number and their speed.
//!
//! A policy is a factory that wraps another factory, which may be a policy too (Twisted's
//! `twisted.protocols.policies`):
//! `twisted.protocols.policies`):
//!
//! ```
//! use deferred_reactor::net::{Protocol, Transport, for_protocol};
//! use deferred_reactor::policies::{LimitConnectionsFactory, ThrottlingFactory};
//! use deferred_reactor::{Failure, testing::MemoryReactor};
//! use std::rc::Rc;
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
//!         transport.write(data);
//!         Ok(())
//!     }
//! }
//!
//! let memory = MemoryReactor::new();
//! let slow = ThrottlingFactory::new(for_protocol(|| Echo)).write_limit(1_000_000);
//! let few = Rc::new(LimitConnectionsFactory::new(slow).max_connections(2));
//! memory.listen_tcp("127.0.0.1:7", few.clone())?;
//! let clients: Result<Vec<_>, _> = (0..3).map(|_| memory.connect_to("127.0.0.1:7")).collect();
//! let answers: Vec<_> = clients?.iter().map(|client| client.exchange("hello")).collect();
//! assert_eq!(answers, [b"hello".to_vec(), b"hello".to_vec(), vec![]]);
//! assert_eq!(few.counts().total_refused(), 1);
//! # Ok::<(), Failure>(())
//! ```
//!
//! A policy passes all calls on to the wrapped factory, and has its
//! [`shared_identity`](crate::net::Factory::shared_identity): a shared factory is started and stopped
//! once, however many policies wrap it. To read the counts of a policy while it is in use, keep it in an
//! `Rc`.
//!
//! For time limits, see [`TimeoutProtocol`](crate::protocols::TimeoutProtocol).

mod limit_connections;
mod throttling;
mod wrapper;

pub use limit_connections::{ConnectionCounts, LimitConnectionsFactory};
pub use throttling::{ThrottlingCounts, ThrottlingFactory};
use wrapper::{Around, ProtocolWrapper};
