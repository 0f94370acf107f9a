//! What a protocol of lines says to its connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::net::Transport;

/// The connection of a [`LineProtocol`](super::LineProtocol): sends lines, and switches between lines
/// and raw data.
///
/// Cheap to clone and to keep, as the [`transport`](Self::transport) in it is; it does not keep the
/// connection open. All methods may be called at any time, also from outside of the protocol.
#[derive(Debug, Clone)]
pub struct LineTransport {
    transport: Transport,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    delimiter: Box<[u8]>,
    is_raw: Cell<bool>,
    /// Where the raw data lie that the protocol is called with: the first byte, and past the last.
    lent: Cell<Option<(*const u8, *const u8)>>,
    /// How many of their last bytes were given back.
    unused: Cell<usize>,
    /// Bytes that were given back and do not lie there.
    given_back: RefCell<Vec<u8>>,
}

impl LineTransport {
    pub(super) fn new(transport: &Transport, delimiter: &[u8]) -> Self {
        Self {
            transport: transport.clone(),
            shared: Rc::new(Shared {
                delimiter: delimiter.into(),
                is_raw: Cell::new(false),
                lent: Cell::new(None),
                unused: Cell::new(0),
                given_back: RefCell::new(Vec::new()),
            }),
        }
    }

    /// The transport of the connection: pauses and resumes it, closes it, and tells the peer.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends a line, and the delimiter behind it (Twisted's `sendLine`).
    ///
    /// The delimiter is not looked for in the line: a line that holds it arrives as two.
    pub fn send_line(&self, line: impl AsRef<[u8]>) {
        self.transport.write_with(|buffer| {
            buffer.extend_from_slice(line.as_ref());
            buffer.extend_from_slice(&self.shared.delimiter);
        });
    }

    /// Closes the connection once everything is sent; see [`Transport::lose_connection`]. No further
    /// line is delivered.
    pub fn lose_connection(&self) {
        self.transport.lose_connection();
    }

    /// Delivers what comes from now on to
    /// [`raw_data_received`](super::LineProtocol::raw_data_received), beginning with the bytes behind
    /// the line at hand (Twisted's `setRawMode`).
    pub fn set_raw_mode(&self) {
        self.shared.is_raw.set(true);
    }

    /// Delivers lines again (Twisted's `setLineMode`), beginning with those in `rest`.
    ///
    /// `rest` is what `raw_data_received` was given and has no use for: the end of its data as a slice
    /// (which is not copied), other bytes, or `b""`. It comes before all that was not delivered yet.
    pub fn set_line_mode(&self, rest: &[u8]) {
        self.shared.is_raw.set(false);
        if rest.is_empty() {
            return;
        }
        let given = rest.as_ptr_range();
        if let Some((start, end)) = self.shared.lent.take()
            && start <= given.start
            && end == given.end
        {
            self.shared.unused.set(rest.len());
        } else {
            self.shared.given_back.borrow_mut().extend_from_slice(rest);
            self.transport.deliver_again();
        }
    }

    /// Whether raw data are delivered, and not lines.
    pub fn is_raw(&self) -> bool {
        self.shared.is_raw.get()
    }

    /// Whether the next message may be delivered.
    pub(super) fn goes_on(&self) -> bool {
        self.transport.is_producing() && self.shared.given_back.borrow().is_empty()
    }

    /// Calls the protocol with raw data; how many of them it has used.
    pub(super) fn lend<E>(
        &self,
        data: &[u8],
        call: impl FnOnce() -> Result<(), E>,
    ) -> Result<usize, E> {
        let range = data.as_ptr_range();
        self.shared.lent.set(Some((range.start, range.end)));
        let outcome = call();
        self.shared.lent.set(None);
        let unused = self.shared.unused.take();
        outcome.map(|()| data.len() - unused)
    }

    /// What was given back, and has to be put before the input.
    pub(super) fn take_given_back(&self) -> Vec<u8> {
        self.shared.given_back.take()
    }
}
