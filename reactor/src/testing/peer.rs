//! The ends of connections that a test holds.

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
/// What is [sent](Self::send) arrives in the next turn; what the protocol sends can be
/// [taken](Self::received) as soon as it has left. It can also be read and written like a socket:
/// [`Read`] makes turns until there is something, and fails with [`WouldBlock`] where a socket would
/// wait for ever.
///
/// Dropping it closes it, as when a client goes away. Once the reactor is dropped, it is closed.
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

/// The test's end of a wire, and that of the protocol.
const TEST: usize = 0;
const PROTOCOL: usize = 1;

impl MemoryConnection {
    pub(super) fn new(driver: &Rc<Driver>, wire: Rc<Wire>) -> Self {
        Self {
            driver: Rc::downgrade(driver),
            wire,
        }
    }

    /// Sends bytes, which arrive in the next turn. However many they are, they are taken; see
    /// [`unread`](Self::unread). Does nothing on a connection that is closed.
    pub fn send(&self, data: impl AsRef<[u8]>) {
        let _ = self.wire.write(TEST, data.as_ref());
    }

    /// What the protocol has sent since this was last called.
    pub fn received(&self) -> Vec<u8> {
        self.wire.take_arrived(TEST)
    }

    /// [Sends](Self::send) something, [pumps](super::MemoryReactor::pump), and tells what was
    /// [received](Self::received).
    ///
    /// # Panics
    ///
    /// As [`pump`](super::MemoryReactor::pump) does.
    pub fn exchange(&self, data: impl AsRef<[u8]>) -> Vec<u8> {
        self.send(data);
        self.pump();
        self.received()
    }

    /// How much of what was sent the protocol has not read: more of it than it wants, while it has
    /// [paused](Transport::pause_producing).
    pub fn unread(&self) -> usize {
        self.wire.unread(PROTOCOL)
    }

    /// From now on, at most so many bytes arrive in a turn, and at least one: `data_received` is
    /// given no more at once, also where several pieces have arrived while it had paused. Without a limit, everything that was sent arrives in one turn, unless
    /// the reactor has a [seed](super::MemoryReactor::with_seed).
    pub fn deliver_at_most(&self, bytes: usize) {
        self.wire.set_piece(PROTOCOL, bytes);
    }

    /// Takes `bytes` more from the protocol and then nothing, as a peer that does not read: what
    /// the protocol writes stays in its transport. Replaces what was said before.
    pub fn block_writes(&self, bytes: usize) {
        self.wire.set_window(TEST, bytes);
    }

    /// Takes everything again.
    pub fn unblock_writes(&self) {
        self.block_writes(usize::MAX);
    }

    /// Closes the sending side: the protocol is told, behind everything that was sent, by
    /// [`read_connection_lost`](crate::net::Protocol::read_connection_lost).
    pub fn close_sending(&self) {
        self.wire.end(TEST);
    }

    /// Closes both sides. What was sent arrives; what the protocol sends is not taken any more, and
    /// tells it, once it has tried, that the connection is lost.
    pub fn close(&self) {
        self.wire.close(TEST, false);
    }

    /// Resets the connection: what was sent and has not arrived is lost, and the protocol is told
    /// [`ConnectionLost`](crate::net::ConnectionLost).
    pub fn reset(&self) {
        self.wire.close(TEST, true);
    }

    /// Whether the protocol has closed its sending side, after what it had to send. The connection
    /// may still take what is sent.
    pub fn has_ended(&self) -> bool {
        self.wire.end_has_arrived(TEST)
    }

    /// Whether the other side is gone: its protocol has been told, or there never was one.
    pub fn is_closed(&self) -> bool {
        !self.wire.is_open(PROTOCOL)
    }

    /// Whether the other side has reset the connection: it was
    /// [aborted](Transport::abort_connection), or closed with something unread.
    pub fn is_reset(&self) -> bool {
        self.wire.reset_has_arrived(TEST)
    }

    /// The transport of the protocol, once it is connected and until it is lost.
    pub fn transport(&self) -> Option<Transport> {
        let core = self.driver.upgrade()?.reactor.core().clone();
        transport_at(&core, self.wire.slot(PROTOCOL)?)
    }

    /// This end, as the protocol sees it.
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
    /// Makes turns until there is something to read.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing and will be nothing until something else happens;
    /// `ConnectionReset`.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.wire.read(TEST, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if !self.driver.upgrade().is_some_and(|driver| driver.turn()) {
                // The last turn may have brought something.
                return self.wire.read(TEST, buffer);
            }
        }
    }
}

impl Write for &MemoryConnection {
    /// [Sends](MemoryConnection::send).
    ///
    /// # Errors
    ///
    /// `BrokenPipe` on a connection that is closed.
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

/// Two protocols that are connected with one another (Twisted's `iosim.connect`).
///
/// Dropping it changes nothing.
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

    /// From now on, at most so many bytes arrive in a turn, on each side, and at least one.
    pub fn deliver_at_most(&self, bytes: usize) {
        for index in 0..2 {
            self.wire.0.set_piece(index, bytes);
        }
    }

    /// Cuts the connection: what is on its way is lost, and both protocols are told
    /// [`ConnectionLost`](crate::net::ConnectionLost).
    pub fn reset(&self) {
        self.wire.0.cut();
    }
}
