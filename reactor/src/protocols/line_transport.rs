//! The transport of a protocol of lines.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::net::Transport;

/// The connection of a [`LineProtocol`](super::LineProtocol): sends lines, and switches between
/// lines and raw data.
///
/// Cheap to clone and to keep; it does not keep the connection open. All methods may be called at
/// any time, also outside of the protocol.
#[derive(Debug, Clone)]
pub struct LineTransport {
    transport: Transport,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    delimiter: Box<[u8]>,
    is_raw: Cell<bool>,
    /// The address range of the raw data that the protocol is being called with.
    lent: Cell<Option<(*const u8, *const u8)>>,
    /// Number of bytes at the end of that range that were returned as unused.
    unused: Cell<usize>,
    /// Bytes that were returned and are not part of that range.
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

    /// The transport of the connection: pauses, resumes and closes it, and has the peer's address.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends a line, followed by the delimiter (Twisted's `sendLine`).
    ///
    /// The line is not searched for the delimiter: a line that contains it arrives as two.
    pub fn send_line(&self, line: impl AsRef<[u8]>) {
        self.transport.write_with(|buffer| {
            buffer.extend_from_slice(line.as_ref());
            buffer.extend_from_slice(&self.shared.delimiter);
        });
    }

    /// Closes the connection once everything is sent; see [`Transport::lose_connection`]. No more
    /// lines are delivered.
    pub fn lose_connection(&self) {
        self.transport.lose_connection();
    }

    /// Switches to raw mode: [`raw_data_received`](super::LineProtocol::raw_data_received) gets all
    /// further bytes, starting after the current line (Twisted's `setRawMode`).
    pub fn set_raw_mode(&self) {
        self.shared.is_raw.set(true);
    }

    /// Switches back to lines (Twisted's `setLineMode`), starting with the bytes in `rest`.
    ///
    /// `rest` has the bytes that `raw_data_received` got and did not use: the end of its data as a
    /// slice (which is not copied), other bytes, or `b""`. They come before all undelivered bytes.
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

    /// Returns `true` in raw mode.
    pub fn is_raw(&self) -> bool {
        self.shared.is_raw.get()
    }

    /// Whether the next message may be delivered.
    pub(super) fn goes_on(&self) -> bool {
        self.transport.is_producing() && self.shared.given_back.borrow().is_empty()
    }

    /// Calls the protocol with raw data; returns the number of bytes used.
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

    /// Returned bytes, which come before the input.
    pub(super) fn take_given_back(&self) -> Vec<u8> {
        self.shared.given_back.take()
    }
}
