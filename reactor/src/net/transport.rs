//! The [`Transport`] that protocols write to, and close.
//!
//! No call touches the socket: each changes the state of the [`Connection`], and the loop acts on
//! it.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};

use bytes::Bytes;

use super::connection::{Connection, Flags, Sending};
use super::output::{Output, WORTH_SHARING};
use super::producer::Producer;
use super::stream::Stream;
use super::throttle::{Bucket, ThrottledStream};
use super::{Address, ProducerRegisteredError, Protocol, PullProducer, PushProducer};
use crate::guard::guard;
use crate::reactor::{Core, Reactor};
use crate::time::TimeSource;

/// The handle through which a protocol writes to its connection and closes it (Twisted's
/// `transport`).
///
/// Cheap to clone and to keep; it does not keep the connection open. After the connection is lost,
/// all calls do nothing.
///
/// No call sends or closes anything itself. `write` queues bytes, and the loop sends them before it
/// sleeps. Bytes that the system does not accept stay queued, without a limit. Code that writes
/// much therefore registers as a [producer](super#producers), or checks
/// [`buffered`](Self::buffered).
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use deferred_reactor::{Failure, net::{Protocol, Transport}, testing::MemoryReactor};
///
/// /// Everybody who is connected, to be told things by anybody.
/// #[derive(Clone, Default)]
/// struct Everybody(Rc<RefCell<Vec<Transport>>>);
///
/// impl Protocol for Everybody {
///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
///         self.0.borrow_mut().push(transport.clone());
///         Ok(())
///     }
///     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
///         self.0.borrow().iter().for_each(|one| one.write(data));
///         Ok(())
///     }
///     fn connection_lost(&mut self, _: &Failure) {
///         self.0.borrow_mut().retain(Transport::is_connected);
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// let everybody = Everybody::default();
/// let (ann, bob) = (memory.connect(everybody.clone()), memory.connect(everybody.clone()));
/// memory.pump();
/// ann.send("hello");
/// memory.pump();
/// assert_eq!(bob.received(), b"hello");
/// drop(bob);
/// memory.pump();
/// assert_eq!(everybody.0.borrow().len(), 1);
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone)]
pub struct Transport(pub(super) Weak<Connection>);

impl Transport {
    /// Queues a copy of `data` to be sent, in order. The loop sends it before it sleeps.
    pub fn write(&self, data: &[u8]) {
        self.with_output(|output| output.write(data));
    }

    /// Queues bytes without copying them if that is cheaper: for long pieces, and for pieces that
    /// are sent to many connections. [`Bytes`] is from the crate `bytes`.
    pub fn write_bytes(&self, data: Bytes) {
        if data.len() < WORTH_SHARING {
            // Dropped here, with no borrow held: the owner of the bytes may do anything in its
            // `drop`.
            return self.write(&data);
        }
        self.with_output(|output| output.write_bytes(data));
    }

    /// Lets `write` append to the output buffer directly, without a buffer of its own.
    pub fn write_with(&self, write: impl FnOnce(&mut Vec<u8>)) {
        /// Gives the buffer back also when `write` panics.
        struct Lent<'a>(&'a Transport, Vec<u8>);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                let buffer = std::mem::take(&mut self.1);
                self.0.with_output(|output| output.put_back(buffer));
            }
        }
        if let Some(buffer) = self.with_output(Output::lend_buffer) {
            write(&mut Lent(self, buffer).1);
        }
    }

    /// Number of bytes queued and not yet accepted by the system.
    pub fn buffered(&self) -> usize {
        // One that is lost has no queue.
        let connection = self.0.upgrade();
        connection.map_or(0, |connection| {
            connection.with_queue(|output| output.len()).unwrap_or(0)
        })
    }

    /// Number of bytes that the system has accepted so far. While it grows, the peer reads. Still
    /// valid inside [`connection_lost`](Protocol::connection_lost), and 0 afterwards.
    pub fn sent(&self) -> u64 {
        self.0
            .upgrade()
            .map_or(0, |connection| connection.sent.get())
    }

    /// Requests one call of [`write_drained`](Protocol::write_drained), made once the system has
    /// accepted everything that was written. Without this request, `write_drained` is called only
    /// after more than the [buffer limit](Self::set_buffer_limit) was queued or the system did not
    /// accept everything at once. If nothing is queued, the call follows soon.
    ///
    /// If [`lose_connection`](Self::lose_connection) closes the connection first, the protocol gets
    /// `connection_lost` with [`ConnectionDone`](super::ConnectionDone) instead.
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use deferred_reactor::{Failure, net::{Protocol, Transport}, testing::MemoryReactor};
    ///
    /// struct Greeter(Rc<Cell<bool>>);
    ///
    /// impl Protocol for Greeter {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
    ///         transport.write(b"hello\n");
    ///         transport.notify_drained();
    ///         Ok(())
    ///     }
    ///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
    ///         Ok(())
    ///     }
    ///     fn write_drained(&mut self, transport: &Transport) {
    ///         assert_eq!(transport.sent(), 6);
    ///         self.0.set(true);
    ///     }
    /// }
    ///
    /// let memory = MemoryReactor::new();
    /// let has_left = Rc::new(Cell::new(false));
    /// let peer = memory.connect(Greeter(has_left.clone()));
    /// memory.pump();
    /// assert!(has_left.get());
    /// # drop(peer);
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn notify_drained(&self) {
        if let Some((connection, core)) = self.connected() {
            connection.notify_drained(&core);
        }
    }

    /// The peer sends no more, and the protocol has nothing to add: stops the producer and closes.
    pub(super) fn close_after_peer(&self) {
        if let Some((connection, core)) = self.connected() {
            connection.stop_producer(&core);
        }
        self.lose_connection();
    }

    /// Closes the connection once everything is sent and any producer is unregistered. No more data
    /// is read.
    pub fn lose_connection(&self) {
        self.set(|flags| &flags.is_closing);
    }

    /// Closes the sending side, once everything is sent and any producer is unregistered; reading
    /// continues. The protocol gets [`write_connection_lost`](Protocol::write_connection_lost), and
    /// the peer reads the end of the stream.
    ///
    /// When the peer has closed its side as well, the connection ends.
    pub fn lose_write_connection(&self) {
        if let Some((connection, core)) = self.connected()
            && connection.flags.sending.get() == Sending::Open
        {
            connection.flags.sending.set(Sending::Closes);
            connection.request_service(&core);
        }
    }

    /// Closes the connection soon, without sending what is queued; the peer gets a reset.
    /// `connection_lost` is called later, not inside this call.
    pub fn abort_connection(&self) {
        if let Some((connection, core)) = self.connected() {
            connection.abort(&core);
        }
    }

    /// Replaces the protocol of the connection, for example after an upgrade (Twisted's
    /// `switchProtocol`).
    ///
    /// The present protocol is dropped when it returns, or soon if it is not being called; its
    /// `connection_lost` is not called. The new protocol gets `connection_made`, then `unread` in
    /// one piece, then the data that the peer sends. Pass as `unread` the bytes that the present
    /// protocol received but did not use. Reading resumes if it was
    /// [paused](Self::pause_producing). Queued output is still sent; a producer stays registered,
    /// and the buffer limit stays as it is.
    ///
    /// If the connection is lost before the switch, the present protocol gets `connection_lost`,
    /// and the new one is dropped.
    ///
    /// ```
    /// use deferred_reactor::{Failure, net::{Protocol, Transport}, testing::MemoryReactor};
    ///
    /// /// Waits for the line that says what comes.
    /// struct Hello;
    /// impl Protocol for Hello {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         if let Some(rest) = data.strip_prefix(b"echo\n") {
    ///             transport.switch_protocol(Box::new(Echo), rest.to_vec());
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// struct Echo;
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         transport.write(data);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let memory = MemoryReactor::new();
    /// let peer = memory.connect(Hello);
    /// assert_eq!(peer.exchange("echo\none"), b"one");
    /// assert_eq!(peer.exchange("two"), b"two");
    /// ```
    pub fn switch_protocol(&self, protocol: Box<dyn Protocol>, unread: Vec<u8>) {
        if let Some((connection, core)) = self.connected() {
            connection.switch_protocol(&core, protocol, unread);
        }
    }

    /// Stops reading: the protocol gets no data until [`resume_producing`](Self::resume_producing).
    /// It is still called when the peer closes its side ([`peer_closed`](Protocol::peer_closed))
    /// and when the connection breaks.
    pub fn pause_producing(&self) {
        if let Some(connection) = self.connection() {
            connection.flags.is_paused.set(true);
        }
    }

    /// Resumes reading. Does not undo [`lose_connection`](Self::lose_connection).
    pub fn resume_producing(&self) {
        if let Some((connection, core)) = self.connected()
            && connection.flags.is_paused.replace(false)
        {
            connection.request_service(&core);
        }
    }

    /// Has the protocol given its input by [`bytes_received`](Protocol::bytes_received), in pieces that
    /// it can keep or hand on without a copy, until this is turned off. For protocols through which
    /// much goes: a piece has up to 256 KiB, where that much comes at once.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use deferred_reactor::{Failure, net::{Protocol, Transport}, testing::MemoryReactor};
    ///
    /// /// Sends back what comes, which is not copied anywhere.
    /// struct Mirror;
    ///
    /// impl Protocol for Mirror {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
    ///         transport.receive_bytes(true);
    ///         Ok(())
    ///     }
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         self.bytes_received(transport, Bytes::copy_from_slice(data))
    ///     }
    ///     fn bytes_received(&mut self, transport: &Transport, data: Bytes) -> Result<(), Failure> {
    ///         transport.write_bytes(data);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let memory = MemoryReactor::new();
    /// let peer = memory.connect(Mirror);
    /// assert_eq!(peer.exchange("abc"), b"abc");
    /// ```
    pub fn receive_bytes(&self, on: bool) {
        if let Some(connection) = self.connection() {
            connection.flags.takes_bytes.set(on);
        }
    }

    /// Returns `true` while [`data_received`](super::Protocol::data_received) may be called: reading is
    /// not paused, and the connection is neither lost nor being closed.
    pub fn is_producing(&self) -> bool {
        self.connection()
            .is_some_and(|connection| connection.is_producing())
    }

    /// Requests one more call of [`data_received`](super::Protocol::data_received), with no bytes. The
    /// loop makes it later, before anything else is read, and not while reading is paused.
    ///
    /// This is for protocols that split their input into messages. When
    /// [`is_producing`](Self::is_producing) turns `false` between two messages, such a protocol keeps
    /// the remaining bytes and requests this call, which is made when reading is resumed. The
    /// [receivers](crate::protocols) work this way.
    ///
    /// ```
    /// use deferred_reactor::net::{Protocol, Transport};
    /// use deferred_reactor::{Failure, testing::MemoryReactor};
    ///
    /// /// Takes one byte, and pauses.
    /// struct Sips { kept: Vec<u8> }
    ///
    /// impl Protocol for Sips {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         self.kept.extend_from_slice(data);
    ///         if !self.kept.is_empty() {
    ///             transport.write(&[self.kept.remove(0)]);
    ///             transport.pause_producing();
    ///             transport.deliver_again();
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let memory = MemoryReactor::new();
    /// let peer = memory.connect(Sips { kept: Vec::new() });
    /// assert_eq!(peer.exchange("ab"), b"a");
    /// peer.transport().expect("it is connected").resume_producing();
    /// assert_eq!(peer.exchange(""), b"b");
    /// ```
    pub fn deliver_again(&self) {
        self.set(|flags| &flags.delivers_again);
    }

    /// Registers a push producer, which is paused and resumed as the peer reads (Twisted's
    /// `registerProducer(producer, True)`); see [producers](super#producers).
    ///
    /// The producer is called inside this call in two cases: it is paused if more than the buffer
    /// limit is queued, and stopped if the connection is lost. Wrap a producer that other code also
    /// uses in an `Rc`; pass another transport as it is.
    ///
    /// # Errors
    ///
    /// [`ProducerRegisteredError`] if another one is registered; `producer` is dropped.
    pub fn register_producer(
        &self,
        producer: impl PushProducer,
    ) -> Result<(), ProducerRegisteredError> {
        self.register(Producer::Push(Rc::new(producer)))
    }

    /// Registers a pull producer, which writes one piece for each `resume_producing`: the first is
    /// called here, the others whenever everything is sent (Twisted's `registerProducer(producer,
    /// False)`).
    ///
    /// If the connection is lost, `stop_producing` is called instead.
    ///
    /// # Errors
    ///
    /// [`ProducerRegisteredError`] if another one is registered; `producer` is dropped.
    pub fn register_pull_producer(
        &self,
        producer: impl PullProducer,
    ) -> Result<(), ProducerRegisteredError> {
        self.register(Producer::Pull(Rc::new(producer)))
    }

    /// Removes the producer without calling it. If [`lose_connection`](Self::lose_connection) waits
    /// for this, the connection is closed once everything is sent.
    pub fn unregister_producer(&self) {
        if let Some((connection, core)) = self.connected() {
            let producer = connection.with_queue(Output::unregister).flatten();
            connection.request_service(&core);
            drop(producer); // whatever it holds goes with nothing borrowed
        }
    }

    /// Whether a producer is registered.
    pub fn has_producer(&self) -> bool {
        let has_one = |queue: &mut Output| queue.has_producer();
        let connection = self.0.upgrade();
        connection.is_some_and(|connection| connection.with_queue(has_one) == Some(true))
    }

    /// Sets how many bytes may be queued before a push producer is paused: 64 KiB unless set
    /// (Twisted's `bufferSize`). Applies from the next write on.
    ///
    /// [`write_drained`](Protocol::write_drained) is called after more than this was queued and then sent.
    pub fn set_buffer_limit(&self, bytes: usize) {
        self.with_output(|output| output.set_limit(bytes));
    }

    /// Sets whether small writes are sent at once rather than collected (`TCP_NODELAY`).
    pub fn set_tcp_no_delay(&self, on: bool) {
        if let Some(connection) = self.connection()
            && let Some(stream) = &*connection.stream.borrow()
        {
            stream.set_no_delay(on);
        }
    }

    /// Turns keep-alive probes on or off (`SO_KEEPALIVE`, Twisted's `setTcpKeepAlive`); off unless set.
    ///
    /// The system then probes a silent peer, and ends the connection if the peer does not answer. Most
    /// systems send the first probe after two hours. A
    /// [`TimeoutProtocol`](crate::protocols::TimeoutProtocol) is quicker, and also ends connections
    /// whose peer answers probes and sends nothing. Has no effect on UNIX sockets and in memory.
    pub fn set_tcp_keep_alive(&self, on: bool) {
        if let Some(connection) = self.connection()
            && let Some(stream) = &*connection.stream.borrow()
        {
            stream.set_keep_alive(on);
        }
    }

    /// The address of the peer; `None` once the connection is lost.
    pub fn peer(&self) -> Option<Address> {
        self.connection().map(|connection| connection.peer.clone())
    }

    /// The address of this end; `None` once the connection is lost.
    pub fn host(&self) -> Option<Address> {
        let connection = self.connection()?;
        let stream = connection.stream.borrow();
        stream.as_ref()?.local_address()
    }

    /// Returns `true` until the connection is lost.
    pub fn is_connected(&self) -> bool {
        self.connection().is_some()
    }

    /// The clock of the connection's reactor, for deadlines; `None` once the connection is lost.
    pub fn time_source(&self) -> Option<TimeSource> {
        let (_, core) = self.connected()?;
        Some(core.time().clone())
    }

    /// The reactor that drives the connection; `None` once the connection is lost.
    pub fn reactor(&self) -> Option<Reactor> {
        let (_, core) = self.connected()?;
        Some(Reactor::from_core(core))
    }

    /// Limits the connection to the rates of these buckets, from now on.
    pub(crate) fn throttle(&self, read: Option<&Rc<Bucket>>, write: Option<&Rc<Bucket>>) {
        if let Some((connection, core)) = self.connected() {
            let mut stream = connection.stream.borrow_mut();
            *stream = stream.take().map(|stream| {
                let stream = ThrottledStream::new(stream, self, core.time(), read, write);
                Stream::Throttled(Box::new(stream))
            });
        }
    }

    /// Marks the connection readable, when no event of the system will do so.
    pub(super) fn may_read_again(&self) {
        self.set(|flags| &flags.may_read);
    }

    /// Marks the connection writable, when no event of the system will do so.
    pub(super) fn may_write_again(&self) {
        if let Some((connection, core)) = self.connected() {
            connection.flags.write_is_blocked.set(false);
            connection.request_service(&core);
        }
    }

    fn connection(&self) -> Option<Rc<Connection>> {
        self.0.upgrade().filter(|connection| !connection.is_lost())
    }

    fn connected(&self) -> Option<(Rc<Connection>, Rc<Core>)> {
        let connection = self.connection()?;
        let core = connection.core.upgrade()?;
        Some((connection, core))
    }

    fn with_output<R>(&self, write: impl FnOnce(&mut Output) -> R) -> Option<R> {
        let connection = self.connection()?;
        let flags = &connection.flags;
        if flags.sending.get() == Sending::Closed {
            return None;
        }
        let mut queue = match connection.output.take() {
            Some(queue) => queue,
            None => connection.core.upgrade()?.spares().take(),
        };
        let written = write(&mut queue);
        let has_backlog = queue.has_backlog();
        connection.output.set(Some(queue));
        if !flags.is_queued.get() {
            connection.request_service(&*connection.core.upgrade()?);
        }
        if has_backlog {
            connection.backlog_grows();
        }
        Some(written)
    }

    fn register(&self, producer: Producer) -> Result<(), ProducerRegisteredError> {
        match self.with_output(|output| output.register(producer.clone())) {
            Some(true) => {
                if let Producer::Pull(_) = producer
                    && let Some((connection, core)) = self.connected()
                {
                    connection.call_producer(&core, || producer.resume());
                }
                Ok(())
            }
            Some(false) => Err(ProducerRegisteredError),
            None => {
                guard("the producer of a connection", || producer.stop());
                Ok(())
            }
        }
    }

    fn set(&self, flag: impl FnOnce(&Flags) -> &Cell<bool>) {
        if let Some((connection, core)) = self.connected() {
            flag(&connection.flags).set(true);
            connection.request_service(&core);
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}
