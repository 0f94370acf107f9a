//! Services of systemd: socket activation, start-up and watchdog notifications (feature `systemd`).
//!
//! systemd starts a unit with a socket when a client connects, and clients wait while the unit
//! restarts. A unit of `Type=notify` counts as started once it has sent `READY=1`. systemd restarts
//! a unit with `WatchdogSec=` when its loop is stuck:
//!
//! ```text
//! # hello.socket                    # hello.service
//! [Socket]                          [Service]
//! ListenStream=80                   Type=notify
//! FileDescriptorName=web            ExecStart=/usr/bin/hello
//!                                   WatchdogSec=10
//! ```
//!
//! ```no_run
//! use deferred_reactor::net::{Protocol, Transport, for_protocol};
//! use deferred_reactor::systemd::{ListenSockets, notify_manager};
//! use deferred_reactor::{Failure, Reactor};
//!
//! struct Hello;
//!
//! impl Protocol for Hello {
//!     fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result<(), Failure> {
//!         transport.write(b"hello\n");
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<(), Failure> {
//!     let mut sockets = ListenSockets::from_env(); // first of all
//!     let reactor = Reactor::new()?;
//!     let factory = for_protocol(|| Hello);
//!     match sockets.index_of("web") {
//!         Some(index) => sockets.listen(&reactor, index, factory)?,
//!         None => reactor.listen_tcp("127.0.0.1:8000", factory)?, // started by hand
//!     };
//!     notify_manager(&reactor);
//!     reactor.run()
//! }
//! ```
//!
//! Outside of systemd there are no sockets, and nothing is sent.

mod notify;
mod sockets;

pub use notify::notify_manager;
pub use sockets::ListenSockets;
