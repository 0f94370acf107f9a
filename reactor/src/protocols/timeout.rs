//! Time limits for connections, set and reset by their protocols.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::deferred::Failure;
use crate::net::{Protocol, Transport};
use crate::time::DelayedCall;

/// The handle with which a protocol sets and resets the time limit of its connection. Made by
/// [`TimeoutProtocol::new`].
///
/// Cheap to clone: all clones are handles of one limit. Does nothing once the connection is lost.
#[derive(Clone)]
pub struct ConnectionTimeout(Rc<Limit>);

struct Limit {
    period: Cell<Option<Duration>>,
    /// The delayed call that ends the connection, while there is a connection and a limit.
    call: RefCell<Option<DelayedCall>>,
    /// `Some` while there is a connection.
    transport: RefCell<Option<Transport>>,
    /// The limit has closed the connection already.
    has_closed: Cell<bool>,
    /// Twisted's `timeoutConnection`.
    timeout_connection: RefCell<Option<OnTimeout>>,
}

type OnTimeout = Rc<dyn Fn(&Transport)>;

impl ConnectionTimeout {
    fn new(period: Option<Duration>) -> Self {
        Self(Rc::new(Limit {
            period: Cell::new(period),
            call: RefCell::new(None),
            transport: RefCell::new(None),
            has_closed: Cell::new(false),
            timeout_connection: RefCell::new(None),
        }))
    }

    /// Sets the limit, and starts it now; `None` turns it off. Returns the previous limit
    /// (Twisted's `setTimeout`).
    ///
    /// `Duration::ZERO` ends the connection in the next turn.
    pub fn set_timeout(&self, period: impl Into<Option<Duration>>) -> Option<Duration> {
        let before = self.0.period.replace(period.into());
        self.count_anew();
        before
    }

    /// Restarts the limit now (Twisted's `resetTimeout`). Does nothing without a limit.
    pub fn reset_timeout(&self) {
        // The usual case: the call exists and is moved.
        if let Some(period) = self.0.period.get()
            && let Some(call) = &*self.0.call.borrow()
            && call.reset(period).is_ok()
        {
            return;
        }
        self.count_anew();
    }

    /// The limit; `None` without one.
    pub fn timeout(&self) -> Option<Duration> {
        self.0.period.get()
    }

    fn begin(&self, transport: &Transport) {
        self.0.transport.replace(Some(transport.clone()));
        self.count_anew();
    }

    fn count_anew(&self) {
        self.stop_counting();
        let time = self
            .0
            .transport
            .borrow()
            .as_ref()
            .and_then(Transport::time_source);
        if let (Some(period), Some(time)) = (self.0.period.get(), time) {
            // Weak: the connection may end long before the call.
            let limit = Rc::downgrade(&self.0);
            let call = time.call_later(period, move || {
                if let Some(limit) = limit.upgrade() {
                    Self(limit).is_over();
                }
            });
            self.0.call.replace(Some(call));
        }
    }

    fn stop_counting(&self) {
        if let Some(call) = self.0.call.take() {
            let _ = call.cancel(); // it may be the one that is being made
        }
    }

    fn is_over(&self) {
        self.0.call.take();
        let Some(transport) = self.0.transport.borrow().clone() else {
            return;
        };
        // Cloned out, because it may set another limit.
        let timeout_connection = self.0.timeout_connection.borrow().clone();
        match timeout_connection {
            Some(timeout_connection) => timeout_connection(&transport),
            // A peer that reads nothing would otherwise keep the connection without end.
            None if self.0.has_closed.replace(true) => transport.abort_connection(),
            None => {
                transport.lose_connection();
                self.count_anew();
            }
        }
    }

    fn end(&self) {
        self.stop_counting();
        self.0.transport.take();
    }
}

impl fmt::Debug for ConnectionTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTimeout")
            .field("timeout", &self.timeout())
            .finish_non_exhaustive()
    }
}

/// Wraps a protocol, and closes its connection when a time limit is over (Twisted's
/// `TimeoutMixin`).
///
/// The limit starts when the connection is made. What resets it depends on the constructor:
///
/// | made by                     | reset by                                                             |
/// |-----------------------------|----------------------------------------------------------------------|
/// | [`new`](Self::new)          | [`reset_timeout`](ConnectionTimeout::reset_timeout), which the protocol makes |
/// | [`idle`](Self::idle)        | `data_received`: the limit is how long the peer may be silent         |
///
/// When the limit is over, [`lose_connection`](Transport::lose_connection) closes the connection.
/// If the peer does not read the last bytes within the same time again, the connection is aborted.
/// [`timeout_connection`](Self::timeout_connection) replaces both.
///
/// A protocol of lines should reset the limit for each line and not for each byte: otherwise a peer
/// that sends single bytes, and never a line, can stay without end.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::protocols::{ConnectionTimeout, TimeoutProtocol};
/// use deferred_reactor::protocols::{LineProtocol, LineReceiver, LineTransport};
/// use deferred_reactor::{Failure, testing::MemoryReactor};
///
/// struct Patient { timeout: ConnectionTimeout }
///
/// impl LineProtocol for Patient {
///     fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
///         self.timeout.reset_timeout();
///         lines.send_line(line);
///         Ok(())
///     }
/// }
///
/// let minute = Duration::from_secs(60);
/// let memory = MemoryReactor::new();
/// let client = memory.connect(
///     TimeoutProtocol::new(minute, |timeout| LineReceiver::new(Patient { timeout }))
///         .timeout_connection(|transport| {
///             transport.write(b"good bye\r\n");
///             transport.lose_connection();
///         }),
/// );
/// client.exchange("hello\r\n");
/// memory.advance(minute / 2);
/// client.exchange("are you there");
/// memory.advance(minute / 2);
/// assert_eq!(client.received(), b"good bye\r\n");
/// assert!(client.is_closed());
/// ```
#[derive(Debug)]
pub struct TimeoutProtocol<P> {
    protocol: P,
    timeout: ConnectionTimeout,
    /// Received bytes reset the limit.
    is_idle_limit: bool,
}

impl<P: Protocol> TimeoutProtocol<P> {
    /// Wraps the protocol that `make` returns; `make` gets the handle that resets the limit. With `None`
    /// there is no limit until [`set_timeout`](ConnectionTimeout::set_timeout).
    pub fn new(
        period: impl Into<Option<Duration>>,
        make: impl FnOnce(ConnectionTimeout) -> P,
    ) -> Self {
        let timeout = ConnectionTimeout::new(period.into());
        Self {
            protocol: make(timeout.clone()),
            timeout,
            is_idle_limit: false,
        }
    }

    /// Wraps `protocol`. All received bytes reset the limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use deferred_reactor::net::{Protocol, Transport, for_protocol};
    /// # use deferred_reactor::protocols::TimeoutProtocol;
    /// # use deferred_reactor::{Failure, Reactor};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    /// #         transport.write(data);
    /// #         Ok(())
    /// #     }
    /// # }
    /// let reactor = Reactor::new()?;
    /// let limit = Duration::from_secs(60);
    /// reactor.listen_tcp("127.0.0.1:0", for_protocol(move || TimeoutProtocol::idle(limit, Echo)))?;
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn idle(period: Duration, protocol: P) -> Self {
        Self {
            protocol,
            timeout: ConnectionTimeout::new(Some(period)),
            is_idle_limit: true,
        }
    }

    /// Sets what happens when the limit is over, in place of closing the connection (Twisted's
    /// `timeoutConnection`).
    ///
    /// `act` is called by the loop, with no internal borrow held. The limit counts again only when it
    /// is set or reset.
    #[must_use]
    pub fn timeout_connection(self, act: impl Fn(&Transport) + 'static) -> Self {
        self.timeout
            .0
            .timeout_connection
            .replace(Some(Rc::new(act)));
        self
    }
}

impl<P> TimeoutProtocol<P> {
    fn input_came(&self, data: &[u8]) {
        if self.is_idle_limit && !data.is_empty() {
            self.timeout.reset_timeout();
        }
    }
}

impl<P: Protocol> Protocol for TimeoutProtocol<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        // First, so that the protocol may change the limit in `connection_made`.
        self.timeout.begin(transport);
        self.protocol.connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.input_came(data);
        self.protocol.data_received(transport, data)
    }

    fn bytes_received(&mut self, transport: &Transport, data: Bytes) -> Result<(), Failure> {
        self.input_came(&data);
        self.protocol.bytes_received(transport, data)
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        self.protocol.read_connection_lost(transport);
    }

    fn peer_closed(&mut self, transport: &Transport) {
        self.protocol.peer_closed(transport);
    }

    fn write_connection_lost(&mut self, transport: &Transport) {
        self.protocol.write_connection_lost(transport);
    }

    fn write_blocked(&mut self, transport: &Transport) {
        self.protocol.write_blocked(transport);
    }

    fn write_drained(&mut self, transport: &Transport) {
        self.protocol.write_drained(transport);
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.timeout.end();
        self.protocol.connection_lost(reason);
    }

    fn type_name(&self) -> &'static str {
        self.protocol.type_name()
    }
}

impl<P> Drop for TimeoutProtocol<P> {
    fn drop(&mut self) {
        self.timeout.end(); // also where the connection was never made
    }
}
