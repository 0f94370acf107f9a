//! Tests without sockets, sleeps and threads.
//!
//! A [`MemoryReactor`] is a [`Reactor`] without a system: its time is a [`Clock`], its connections
//! are queues of bytes, and it runs jobs for threads itself. It makes [turns](crate#turns) when the
//! test calls it, so a test runs the same way each time. All other code is the code of the program:
//! factories listen on the reactor, and protocols use the same transports.
//!
//! ```
//! use std::time::Duration;
//! use deferred_reactor::{Failure, net::for_protocol, testing::MemoryReactor};
//! use deferred_reactor::protocols::{ConnectionTimeout, TimeoutProtocol};
//! use deferred_reactor::protocols::{LineProtocol, LineReceiver, LineTransport};
//!
//! /// Answers each line with its length, and closes connections that are silent for a minute.
//! struct Lengths { patience: ConnectionTimeout }
//!
//! impl LineProtocol for Lengths {
//!     fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
//!         self.patience.reset_timeout();
//!         lines.send_line(line.len().to_string());
//!         Ok(())
//!     }
//! }
//!
//! // In the test:
//! let memory = MemoryReactor::new();
//! memory.listen_tcp("127.0.0.1:7000", for_protocol(|| {
//!     TimeoutProtocol::new(Duration::from_secs(60), |patience| {
//!         LineReceiver::new(Lengths { patience }).delimiter("\n")
//!     })
//! }))?;
//!
//! let client = memory.connect_to("127.0.0.1:7000")?;
//! assert_eq!(client.exchange("four\nse"), b"4\n");
//! assert_eq!(client.exchange("ven\n\n"), b"5\n0\n");
//!
//! memory.advance(Duration::from_secs(59));
//! assert!(!client.is_closed());
//! memory.advance(Duration::from_secs(1));
//! assert!(client.is_closed());
//! # Ok::<(), Failure>(())
//! ```
//!
//! Calls of a test on its end of a connection, and their effect on the protocol:
//!
//! | call of the test                                       | effect on the protocol                |
//! |-------------------------------------------------------|---------------------------------------|
//! | [`send`](MemoryConnection::send)                      | `data_received`, in the next turn     |
//! | [`deliver_at_most`](MemoryConnection::deliver_at_most) | bytes arrive in pieces of this size  |
//! | [`block_writes`](MemoryConnection::block_writes)      | `buffered` grows, producers pause     |
//! | [`unblock_writes`](MemoryConnection::unblock_writes)  | `write_drained`, producers resume     |
//! | [`close_sending`](MemoryConnection::close_sending)    | `read_connection_lost`                |
//! | [`close`](MemoryConnection::close), or a drop         | `read_connection_lost`; its output is lost |
//! | [`reset`](MemoryConnection::reset)                    | `connection_lost`, `ConnectionLost`   |
//!
//! # Random order
//!
//! Programs must not rely on the order of events in one turn, nor on where bytes are split. A
//! reactor with a [seed](MemoryReactor::with_seed) shuffles the order, splits sent bytes at random,
//! and delays some of them. The same seed gives the same run, so a test can try many seeds and name
//! the one that failed:
//!
//! ```
//! # use deferred_reactor::{Failure, net::{Protocol, Transport}, testing::MemoryReactor};
//! # struct Echo;
//! # impl Protocol for Echo {
//! #     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
//! #         transport.write(data);
//! #         Ok(())
//! #     }
//! # }
//! for seed in 0..100 {
//!     let memory = MemoryReactor::with_seed(seed);
//!     let client = memory.connect(Echo);
//!     assert_eq!(client.exchange("in any pieces"), b"in any pieces", "seed {seed}");
//! }
//! ```
//!
//! # Rules for tests
//!
//! - Panics of callbacks are caught and logged, as in a program, so make assertions outside of
//!   callbacks.
//! - [`time::now`](crate::time::now) returns the reactor's time on a thread with a
//!   [`MemoryReactor`].
//! - [`connect_tcp`](crate::Reactor::connect_tcp) only reaches ports that the program has opened
//!   with [`listen_tcp`](crate::Reactor::listen_tcp). Delays and timeouts take no real time. There
//!   are no UNIX sockets and no UDP.
//! - [`defer_to_thread`](crate::defer_to_thread) runs its function in the next turn, on this
//!   thread. Real threads may call [`call_from_thread`](crate::RemoteReactor::call_from_thread);
//!   join them before the next turn, so that the order is fixed.

mod peer;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::deferred::{Deferred, Failure};
pub use crate::net::memory::NothingLeftError;
use crate::net::memory::{Network, Wire};
use crate::net::{
    CannotListenError, ClientEndpoint, ClientFactory, Connection, Connector, Factory,
    ListenAddress, Port, Protocol, Stream, TcpClientEndpoint, Transport,
};
use crate::reactor::{Reactor, ReactorAlreadyRunningError, ReactorNotRunningError};
use crate::threads::RemoteReactor;
use crate::time::{Clock, DelayedCall, ReactorTime, TimeSource, after};

pub use peer::{MemoryConnection, MemoryPair};

/// After this many turns, `pump` assumes an endless loop.
const MOST_TURNS: u32 = 1_000_000;

/// A reactor without a system, for tests (Twisted's `MemoryReactorClock`).
///
/// [`reactor`](Self::reactor) returns the [`Reactor`], for code that takes one and for its other methods. The test drives it:
///
/// | call                           | effect                                                      |
/// |--------------------------------|-------------------------------------------------------------|
/// | [`turn`](Self::turn)           | makes one turn                                              |
/// | [`pump`](Self::pump)           | makes turns until no work is left at the current time       |
/// | [`advance`](Self::advance)     | moves the clock, and does the work that becomes due         |
/// | [`run`](Self::run)             | moves the clock until the reactor is stopped                |
///
/// The first turn starts the reactor, with its startup triggers. A turn after [`stop`](Self::stop)
/// shuts it down; further turns do nothing unless it is [started](Self::start) again.
///
/// These calls do nothing inside a callback: the current turn continues.
pub struct MemoryReactor(Rc<Driver>);

struct Driver {
    reactor: Reactor,
    clock: Clock,
    network: Rc<Network>,
    has_started: Cell<bool>,
}

impl MemoryReactor {
    /// Makes a reactor in which events happen in the order of their causes, and bytes arrive
    /// unsplit.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// Makes a reactor with events in random order and bytes split at random, always in the same
    /// way for the same seed.
    pub fn with_seed(seed: u64) -> Self {
        Self::with(Some(seed))
    }

    fn with(seed: Option<u64>) -> Self {
        let clock = Clock::new();
        let network = Network::new(seed);
        clock.time_source().set_ambient(true);
        Self(Rc::new(Driver {
            reactor: Reactor::in_memory(clock.time_source().clone(), network.clone()),
            clock,
            network,
            has_started: Cell::new(false),
        }))
    }

    /// The reactor, for code that takes one.
    pub fn reactor(&self) -> &Reactor {
        &self.0.reactor
    }

    /// The clock of the reactor. [`advance`](Self::advance) moves it and makes turns.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The time since the reactor was made.
    pub fn elapsed(&self) -> Duration {
        self.0.clock.elapsed()
    }

    /// See [`Reactor::listen_tcp`]. The test connects with [`connect_to`](Self::connect_to).
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] if the address is in use or invalid.
    #[track_caller]
    pub fn listen_tcp(
        &self,
        address: impl Into<ListenAddress>,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        self.0.reactor.listen_tcp(address, factory)
    }

    /// See [`Reactor::connect_tcp`]. Only ports of this reactor can be reached.
    #[track_caller]
    pub fn connect_tcp(
        &self,
        address: impl Into<TcpClientEndpoint>,
        factory: impl ClientFactory,
    ) -> Connector {
        self.0.reactor.connect_tcp(address, factory)
    }

    /// See [`Reactor::connect_protocol`]. Only ports of this reactor can be reached.
    #[track_caller]
    pub fn connect_protocol(
        &self,
        endpoint: impl Into<ClientEndpoint>,
        protocol: impl Protocol,
    ) -> Deferred<Transport> {
        self.0.reactor.connect_protocol(endpoint, protocol)
    }

    /// Calls `call` after `delay`; see [`ReactorTime::call_later`].
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.0.reactor.call_later(delay, call)
    }

    /// The waiting delayed calls, in the order in which they are due.
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.0.reactor.delayed_calls()
    }

    /// The current time of its clock.
    pub fn now(&self) -> Instant {
        self.0.clock.now()
    }

    /// See [`Reactor::spawn`].
    #[track_caller]
    pub fn spawn<T: 'static>(
        &self,
        future: impl Future<Output = Result<T, Failure>> + 'static,
    ) -> Deferred<T> {
        self.0.reactor.spawn(future)
    }

    /// A handle through which other threads reach it; see [`Reactor::remote`].
    pub fn remote(&self) -> RemoteReactor {
        self.0.reactor.remote()
    }

    /// Runs until it is [stopped](Self::stop), and moves the clock to each delayed call; see
    /// [`Reactor::run`].
    ///
    /// # Errors
    ///
    /// As for [`Reactor::run`]; [`NothingLeftError`] if nothing is left to wait for.
    pub fn run(&self) -> Result<(), Failure> {
        self.0.reactor.run()
    }

    /// Stops the reactor, which the next turns carry out; see [`Reactor::stop`].
    ///
    /// # Errors
    ///
    /// [`ReactorNotRunningError`] if it is not running, or is stopping already.
    pub fn stop(&self) -> Result<(), ReactorNotRunningError> {
        self.0.reactor.stop()
    }

    /// Returns `true` while it runs; see [`Reactor::is_running`].
    pub fn is_running(&self) -> bool {
        self.0.reactor.is_running()
    }

    /// Starts the reactor: runs the startup triggers. Needed only after a stop, or to test the
    /// start alone.
    ///
    /// # Errors
    ///
    /// [`ReactorAlreadyRunningError`] if the reactor is running.
    pub fn start(&self) -> Result<(), ReactorAlreadyRunningError> {
        self.0.has_started.set(true);
        self.0.reactor.start_in_memory()
    }

    /// Makes one turn: delayed calls that are due, calls from threads, the work of connections, and
    /// arriving bytes. Returns `true` if more work is due at the current time.
    ///
    /// Effects of a turn happen in a later turn.
    pub fn turn(&self) -> bool {
        self.0.turn()
    }

    /// Makes turns until no work is left at the current time.
    ///
    /// # Panics
    ///
    /// After a million turns: two protocols answer each other without end, or a delayed call
    /// schedules itself with no delay.
    pub fn pump(&self) {
        self.0.pump();
    }

    /// Moves the clock to each delayed call that becomes due within `amount`, and makes turns there
    /// until no work is left; then moves it to the end of `amount`.
    ///
    /// An amount too large for an `Instant`, such as `Duration::MAX`, counts as a century.
    ///
    /// A call sees the time it was scheduled for. [`Clock::advance`] differs: it moves to the end
    /// at once.
    ///
    /// # Panics
    ///
    /// As [`pump`](Self::pump) does.
    pub fn advance(&self, amount: Duration) {
        let driver = &self.0;
        if driver.network.is_inside() {
            return;
        }
        let time = driver.clock.time_source();
        let end = after(time.now(), amount);
        self.pump();
        while self.is_alive()
            && let Some(deadline) = time.next_deadline()
            && deadline <= end
        {
            time.set_now(deadline.max(time.now()));
            self.pump();
        }
        time.set_now(end);
        self.pump();
    }

    /// Connects the test to `protocol`, without a port; `connection_made` is called in the next
    /// turn.
    pub fn connect(&self, protocol: impl Protocol) -> MemoryConnection {
        let wire = Wire::new(&self.0.network, self.addresses(), true);
        self.drive(&wire, 1, Box::new(protocol));
        MemoryConnection::new(&self.0, wire)
    }

    /// Connects the test to a port opened by [`listen_tcp`](Self::listen_tcp), whose factory makes
    /// a protocol in the next turn.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` if no port is open at `address`.
    pub fn connect_to(&self, address: impl ToSocketAddrs) -> io::Result<MemoryConnection> {
        let mut refused = io::ErrorKind::AddrNotAvailable;
        for address in address.to_socket_addrs()? {
            match self.0.network.dial(address, None, true) {
                Ok(wire) => return Ok(MemoryConnection::new(&self.0, wire)),
                Err(kind) => refused = kind,
            }
        }
        Err(refused.into())
    }

    /// Connects two protocols to each other (Twisted's `iosim.connect`); `connection_made` of both
    /// is called in the next turn. At most 64 KiB are in transit in each direction.
    ///
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    /// use deferred_reactor::{Failure, net::{Protocol, Transport}, testing::MemoryReactor};
    ///
    /// struct Ask(Rc<RefCell<Vec<u8>>>);
    /// impl Protocol for Ask {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
    ///         transport.write(b"6 x 7?");
    ///         Ok(())
    ///     }
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         self.0.borrow_mut().extend_from_slice(data);
    ///         transport.lose_connection();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// struct Answer;
    /// impl Protocol for Answer {
    ///     fn data_received(&mut self, transport: &Transport, _: &[u8]) -> Result<(), Failure> {
    ///         transport.write(b"42");
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let memory = MemoryReactor::new();
    /// let answer = Rc::new(RefCell::new(Vec::new()));
    /// let pair = memory.connect_pair(Ask(answer.clone()), Answer);
    /// memory.pump();
    /// assert_eq!(*answer.borrow(), b"42");
    /// assert!(!pair.client().is_connected() && !pair.server().is_connected());
    /// ```
    pub fn connect_pair(&self, client: impl Protocol, server: impl Protocol) -> MemoryPair {
        let wire = Wire::new(&self.0.network, self.addresses(), false);
        let client = self.drive(&wire, 0, Box::new(client));
        let server = self.drive(&wire, 1, Box::new(server));
        MemoryPair::new(wire, client, server)
    }

    /// Lets the reactor drive one end of a wire.
    fn drive(&self, wire: &Rc<Wire>, index: usize, protocol: Box<dyn Protocol>) -> Transport {
        let core = self.0.reactor.core();
        let slot = core.add_slot();
        let stream = Stream::Memory(Box::new(wire.stream(index)));
        let connection = Connection::new(core, slot, stream, wire.address(1 - index), protocol);
        core.occupy(slot, connection.clone());
        let transport = connection.transport_of();
        let core = Rc::downgrade(core);
        self.0.network.call_soon(move || {
            if let Some(core) = core.upgrade() {
                connection.start_watched(&core);
            }
        });
        transport
    }

    /// Two addresses that are not in use.
    fn addresses(&self) -> [SocketAddr; 2] {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        [host, host].map(|host| self.0.network.client_address(host))
    }

    /// Whether turns do anything.
    fn is_alive(&self) -> bool {
        !self.0.has_started.get() || !self.0.reactor.is_idle()
    }
}

impl Driver {
    fn turn(&self) -> bool {
        let Some(_inside) = self.network.enter() else {
            return false;
        };
        if !self.has_started.replace(true) {
            // Fails if `run` has started it already.
            let _ = self.reactor.start_in_memory();
        }
        self.reactor.turn_in_memory()
    }

    fn pump(&self) {
        for _ in 0..MOST_TURNS {
            if !self.turn() {
                return;
            }
        }
        panic!(
            "{MOST_TURNS} turns were made and work is still due; make single turns with `turn` to find the cause"
        );
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.clock.time_source().set_ambient(false);
    }
}

impl Default for MemoryReactor {
    fn default() -> Self {
        Self::new()
    }
}

impl ReactorTime for MemoryReactor {
    fn time_source(&self) -> &TimeSource {
        self.0.clock.time_source()
    }
}

impl fmt::Debug for MemoryReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReactor")
            .field("elapsed", &self.elapsed())
            .field("reactor", &self.0.reactor)
            .finish_non_exhaustive()
    }
}
