//! The ends of connections held by a test.

use std::fmt;
use std::io::{self, Read, Write};
use std::rc::{Rc, Weak};

use super::Driver;
use crate::net::memory::Wire;
use crate::net::{Address, Transport};
use crate::reactor::{Core, SlotId};

/// The peer's end of a connection, held by the test (Twisted's `StringTransport`, from the other
/// side).
///
/// Bytes that the test [sends](Self::send) arrive in the next turn; bytes that the protocol has
/// sent can be [taken](Self::received) at once. The end can also be read and written like a socket:
/// [`Read`] makes turns until bytes have arrived, and fails with [`WouldBlock`] when a socket would
/// wait without end.
///
/// Dropping it closes it, as when a client goes away. Dropping the reactor closes it, too.
///
/// [`WouldBlock`]: io::ErrorKind::WouldBlock
///
/// ```
/// use std::io::{BufRead, BufReader};
/// use deferred_reactor::{Failure, net::{Protocol, Transport}, testing::MemoryReactor};
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
/// let peer = memory.connect(Echo);
/// memory.pump(); // it is connected
/// peer.deliver_at_most(1); // in a turn
/// peer.send("one\ntwo\n");
/// assert!(memory.turn());
/// assert_eq!(peer.received(), b"o");
///
/// let lines: Result<Vec<String>, _> = BufReader::new(&peer).lines().take(2).collect();
/// assert_eq!(lines?, ["ne", "two"]);
/// # Ok::<(), Failure>(())
/// ```
#[must_use = "dropping it closes the connection"]
pub struct MemoryConnection {
    driver: Weak<Driver>,
    wire: Rc<Wire>,
}

/// The test's end of a wire; the protocol's is the other one.
const TEST: usize = 0;
const PROTOCOL: usize = 1;

impl MemoryConnection {
    pub(super) fn new(driver: &Rc<Driver>, wire: Rc<Wire>) -> Self {
        Self {
            driver: Rc::downgrade(driver),
            wire,
        }
    }

    /// Sends bytes, which arrive in the next turn. Accepts any number of bytes; see
    /// [`unread`](Self::unread). Does nothing on a closed connection.
    pub fn send(&self, data: impl AsRef<[u8]>) {
        let _ = self.wire.write(TEST, data.as_ref());
    }

    /// Takes the bytes that the protocol has sent since the last call.
    pub fn received(&self) -> Vec<u8> {
        self.wire.take_arrived(TEST)
    }

    /// [Sends](Self::send) `data`, [pumps](super::MemoryReactor::pump) the reactor, and returns the [received](Self::received) bytes.
    ///
    /// # Panics
    ///
    /// As [`pump`](super::MemoryReactor::pump) does.
    pub fn exchange(&self, data: impl AsRef<[u8]>) -> Vec<u8> {
        self.send(data);
        self.pump();
        self.received()
    }

    /// Number of sent bytes that the protocol has not read; they stay unread while it has
    /// [paused](Transport::pause_producing).
    pub fn unread(&self) -> usize {
        self.wire.unread(PROTOCOL)
    }

    /// Limits the bytes that arrive in one turn, and in one call of `data_received`, to `bytes`, at
    /// least 1. Without a limit, everything that was sent arrives in one turn, unless the reactor
    /// has a [seed](super::MemoryReactor::with_seed).
    pub fn deliver_at_most(&self, bytes: usize) {
        self.wire.set_piece(PROTOCOL, bytes);
    }

    /// Accepts `bytes` more bytes from the protocol and then none, like a peer that does not read:
    /// further output stays in the transport. Replaces an earlier limit.
    pub fn block_writes(&self, bytes: usize) {
        self.wire.set_window(TEST, bytes);
    }

    /// Accepts all output again.
    pub fn unblock_writes(&self) {
        self.block_writes(usize::MAX);
    }

    /// Closes the sending side: after all bytes have arrived, the protocol gets
    /// [`read_connection_lost`](crate::net::Protocol::read_connection_lost).
    pub fn close_sending(&self) {
        self.wire.end(TEST);
    }

    /// Closes both sides. Sent bytes still arrive. Output of the protocol is no longer accepted,
    /// and the connection is lost when it writes.
    pub fn close(&self) {
        self.wire.close(TEST, false);
    }

    /// Resets the connection: bytes in transit are lost, and the protocol gets `connection_lost`
    /// with [`ConnectionLost`](crate::net::ConnectionLost).
    pub fn reset(&self) {
        self.wire.close(TEST, true);
    }

    /// Returns `true` once the protocol has closed its sending side, after all its output. It may
    /// still receive.
    pub fn has_ended(&self) -> bool {
        self.wire.end_has_arrived(TEST)
    }

    /// Returns `true` once the other side is gone: `connection_lost` was called, or there was no
    /// protocol.
    pub fn is_closed(&self) -> bool {
        !self.wire.is_open(PROTOCOL)
    }

    /// Returns `true` if the other side has reset the connection: it was
    /// [aborted](Transport::abort_connection), or closed with unread input.
    pub fn is_reset(&self) -> bool {
        self.wire.reset_has_arrived(TEST)
    }

    /// The transport of the protocol, while it is connected.
    pub fn transport(&self) -> Option<Transport> {
        let core = self.driver.upgrade()?.reactor.core().clone();
        transport_at(&core, self.wire.slot(PROTOCOL)?)
    }

    /// The address of this end, which is the protocol's peer.
    pub fn address(&self) -> Address {
        self.wire.address(TEST)
    }

    fn pump(&self) {
        if let Some(driver) = self.driver.upgrade() {
            driver.pump();
        }
    }
}

fn transport_at(core: &Rc<Core>, slot: SlotId) -> Option<Transport> {
    let transport = core.descriptor(slot)?.transport()?;
    transport.is_connected().then_some(transport)
}

impl Read for &MemoryConnection {
    /// Makes turns until there are bytes to read.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there are no bytes and no work is left that could bring some;
    /// `ConnectionReset`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.wire.read(TEST, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if !self.driver.upgrade().is_some_and(|driver| driver.turn()) {
                // The last turn may have brought bytes.
                return self.wire.read(TEST, buffer);
            }
        }
    }
}

impl Write for &MemoryConnection {
    /// Sends `data`, as [`MemoryConnection::send`].
    ///
    /// # Errors
    ///
    /// `BrokenPipe` on a closed connection.
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.wire.write(TEST, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for MemoryConnection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buffer)
    }
}

impl Write for MemoryConnection {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for MemoryConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConnection")
            .field("address", &self.address())
            .field("unread", &self.unread())
            .field("has_ended", &self.has_ended())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// Two protocols that are connected to each other (Twisted's `iosim.connect`).
///
/// Dropping it does not close the connection.
#[derive(Debug, Clone)]
pub struct MemoryPair {
    wire: WireHandle,
    client: Transport,
    server: Transport,
}

#[derive(Clone)]
struct WireHandle(Rc<Wire>);

impl fmt::Debug for WireHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl MemoryPair {
    pub(super) fn new(wire: Rc<Wire>, client: Transport, server: Transport) -> Self {
        Self {
            wire: WireHandle(wire),
            client,
            server,
        }
    }

    /// The transport of the first protocol.
    pub fn client(&self) -> &Transport {
        &self.client
    }

    /// The transport of the second protocol.
    pub fn server(&self) -> &Transport {
        &self.server
    }

    /// Limits the bytes that arrive at each side in one turn to `bytes`, at least 1.
    pub fn deliver_at_most(&self, bytes: usize) {
        for index in 0..2 {
            self.wire.0.set_piece(index, bytes);
        }
    }

    /// Breaks the connection: bytes in transit are lost, and both protocols get `connection_lost`
    /// with [`ConnectionLost`](crate::net::ConnectionLost).
    pub fn reset(&self) {
        self.wire.0.cut();
    }
}
