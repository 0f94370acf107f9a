//! A connection in memory, in place of two sockets.
//!
//! Bytes that one end has sent are *coming* to the other, and *arrive* in a later turn, in pieces
//! or as a whole; then they can be read. The end of the stream and a reset arrive behind them, or
//! instead of them. At an end held by a test, everything arrives at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::rc::{Rc, Weak};

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::Network;
use crate::net::Address;
use crate::reactor::{Readiness, SlotId};

/// Capacity of the buffer between two connections of a reactor, in bytes.
const CAPACITY: usize = 64 * 1024;

pub(crate) struct Wire {
    network: Weak<Network>,
    ends: [End; 2],
    /// On the network's list of busy items.
    is_listed: Cell<bool>,
}

/// One end, and the bytes that the other end has sent to it.
struct End {
    address: SocketAddr,
    /// The slot that gets events: `None` until the connection is accepted, or at an end held by a
    /// test.
    slot: Cell<Option<SlotId>>,
    is_held: bool,
    coming: RefCell<VecDeque<u8>>,
    arrived: RefCell<VecDeque<u8>>,
    /// Number of bytes that arrive in one turn, and are read by one call.
    piece: Cell<usize>,
    /// A piece was read and more is left: another event is due.
    has_more: Cell<bool>,
    end_is_coming: Cell<bool>,
    end_has_arrived: Cell<bool>,
    reset_is_coming: Cell<bool>,
    reset_has_arrived: Cell<bool>,
    /// Number of bytes that an end held by a test still accepts.
    window: Cell<usize>,
    /// A write found no room, and an event is due once there is some.
    waits_to_write: Cell<bool>,
    is_open: Cell<bool>,
    /// Closing resets the connection.
    resets: Cell<bool>,
}

impl End {
    fn new(address: SocketAddr, is_held: bool) -> Self {
        Self {
            address,
            slot: Cell::new(None),
            is_held,
            coming: RefCell::default(),
            arrived: RefCell::default(),
            piece: Cell::new(usize::MAX),
            has_more: Cell::new(false),
            end_is_coming: Cell::new(false),
            end_has_arrived: Cell::new(false),
            reset_is_coming: Cell::new(false),
            reset_has_arrived: Cell::new(false),
            window: Cell::new(usize::MAX),
            waits_to_write: Cell::new(false),
            is_open: Cell::new(true),
            resets: Cell::new(false),
        }
    }

    fn unread(&self) -> usize {
        self.coming.borrow().len() + self.arrived.borrow().len()
    }

    /// Number of bytes that can be sent to this end.
    fn room(&self) -> usize {
        match self.is_held {
            true => self.window.get(),
            false => CAPACITY.saturating_sub(self.unread()),
        }
    }

    fn has_ended(&self) -> bool {
        self.end_is_coming.get() || self.end_has_arrived.get()
    }

    fn take_end(&self) {
        if self.is_held {
            self.end_has_arrived.set(true);
        } else {
            self.end_is_coming.set(true);
        }
    }

    fn take_reset(&self) {
        if self.is_held {
            self.reset_has_arrived.set(true);
        } else {
            self.coming.borrow_mut().clear();
            self.reset_is_coming.set(true);
        }
    }
}

impl Wire {
    /// Number 0 is the client's end, which a test may hold; the other is driven by the reactor.
    pub(crate) fn new(
        network: &Rc<Network>,
        addresses: [SocketAddr; 2],
        first_is_held: bool,
    ) -> Rc<Self> {
        let [first, second] = addresses;
        Rc::new(Self {
            network: Rc::downgrade(network),
            ends: [End::new(first, first_is_held), End::new(second, false)],
            is_listed: Cell::new(false),
        })
    }

    /// Reports the client as connected, with its first event.
    pub(crate) fn announce(&self) {
        self.ends[0].waits_to_write.set(!self.ends[0].is_held);
    }

    /// The stream of an end driven by the reactor. It gets no events until it is watched.
    pub(crate) fn stream(self: &Rc<Self>, index: usize) -> MemoryStream {
        MemoryStream {
            wire: self.clone(),
            index,
        }
    }

    pub(crate) fn address(&self, index: usize) -> Address {
        Address::Tcp(self.ends[index].address)
    }

    pub(crate) fn slot(&self, index: usize) -> Option<SlotId> {
        self.ends[index].slot.get()
    }

    /// Sends as many bytes as there is room for.
    pub(crate) fn write(self: &Rc<Self>, from: usize, data: &[u8]) -> io::Result<usize> {
        let (end, other) = self.both(from);
        if end.reset_has_arrived.get() || other.has_ended() || !end.is_open.get() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if data.is_empty() {
            return Ok(0);
        }
        if !other.is_open.get() {
            // As a real system, which learns of a reset from the answer to what it sent.
            end.take_reset();
            self.list();
            return Ok(data.len());
        }
        let mut count = data.len();
        if !end.is_held {
            count = count.min(other.room());
            if let Some(network) = self.network.upgrade()
                && let Some(random) = network.random()
            {
                count = match random.one_in(8) {
                    true => 0,
                    false => random.part_of(count),
                };
            }
            if count == 0 {
                end.waits_to_write.set(true);
                self.list();
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        if other.is_held {
            let window = other.window.get();
            if window != usize::MAX {
                other.window.set(window - count);
            }
            other.arrived.borrow_mut().extend(&data[..count]);
        } else {
            other.coming.borrow_mut().extend(&data[..count]);
            self.list();
        }
        Ok(count)
    }

    pub(crate) fn read(self: &Rc<Self>, index: usize, buffer: &mut [u8]) -> io::Result<usize> {
        let end = &self.ends[index];
        let mut arrived = end.arrived.borrow_mut();
        if !arrived.is_empty() {
            let most = buffer.len().min(end.piece.get());
            let count = io::Read::read(&mut *arrived, &mut buffer[..most])?;
            // The reader takes a short read for the end of the buffer.
            let has_more = count < buffer.len() && !arrived.is_empty();
            drop(arrived);
            if has_more {
                end.has_more.set(true);
                self.list();
            }
            if self.ends[1 - index].waits_to_write.get() {
                self.list(); // there is room now
            }
            return Ok(count);
        }
        if end.reset_has_arrived.get() {
            Err(io::ErrorKind::ConnectionReset.into())
        } else if end.end_has_arrived.get() {
            Ok(0)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// Sends the end of the stream, behind all bytes.
    pub(crate) fn end(self: &Rc<Self>, from: usize) {
        let (end, other) = self.both(from);
        if end.is_open.get() && !other.has_ended() {
            other.take_end();
            self.list();
        }
    }

    pub(crate) fn close(self: &Rc<Self>, from: usize, resets: bool) {
        let (end, other) = self.both(from);
        if !end.is_open.replace(false) {
            return;
        }
        if other.is_open.get() && !other.reset_has_arrived.get() {
            // A real system also resets if input is unread (RFC 1122, 4.2.2.13).
            if resets || !end.is_held && end.unread() > 0 {
                other.take_reset();
            } else if !other.has_ended() {
                other.take_end();
            }
        }
        end.coming.borrow_mut().clear();
        end.arrived.borrow_mut().clear();
        self.list();
    }

    /// Breaks the connection.
    pub(crate) fn cut(self: &Rc<Self>) {
        for end in &self.ends {
            if end.is_open.get() && !end.reset_has_arrived.get() {
                end.take_reset();
            }
        }
        self.list();
    }

    /// Takes all bytes that have arrived.
    pub(crate) fn take_arrived(&self, index: usize) -> Vec<u8> {
        self.ends[index].arrived.take().into()
    }

    /// Number of bytes sent to an end and not read.
    pub(crate) fn unread(&self, index: usize) -> usize {
        self.ends[index].unread()
    }

    pub(crate) fn is_open(&self, index: usize) -> bool {
        self.ends[index].is_open.get()
    }

    pub(crate) fn end_has_arrived(&self, index: usize) -> bool {
        self.ends[index].end_has_arrived.get()
    }

    pub(crate) fn reset_has_arrived(&self, index: usize) -> bool {
        self.ends[index].reset_has_arrived.get()
    }

    pub(crate) fn set_piece(&self, index: usize, bytes: usize) {
        self.ends[index].piece.set(bytes.max(1));
    }

    pub(crate) fn set_window(self: &Rc<Self>, index: usize, bytes: usize) {
        self.ends[index].window.set(bytes);
        self.list();
    }

    fn both(&self, index: usize) -> (&End, &End) {
        (&self.ends[index], &self.ends[1 - index])
    }

    /// Puts the wire on the network's list for the next turn.
    pub(crate) fn list(self: &Rc<Self>) {
        if let Some(network) = self.network.upgrade()
            && (self.has_work(0) || self.has_work(1))
            && !self.is_listed.replace(true)
        {
            network.list_wire(self.clone());
        }
    }

    /// Whether an event is due at an end.
    fn has_work(&self, index: usize) -> bool {
        let (end, other) = self.both(index);
        end.slot.get().is_some()
            && end.is_open.get()
            && (end.reset_is_coming.get()
                || end.end_is_coming.get()
                || end.has_more.get()
                || !end.coming.borrow().is_empty()
                || end.waits_to_write.get() && Self::may_write(other))
    }

    fn may_write(to: &End) -> bool {
        to.room() > 0 || !to.is_open.get()
    }

    /// Lets bytes arrive at both ends.
    pub(super) fn deliver(
        self: &Rc<Self>,
        network: &Network,
        mut tell: impl FnMut(SlotId, Readiness),
    ) {
        self.is_listed.set(false);
        for index in [1, 0] {
            if self.has_work(index)
                && let Some(readiness) = self.arrive(index, network)
                && let Some(slot) = self.ends[index].slot.get()
            {
                tell(slot, readiness);
            }
        }
        self.list();
    }

    fn arrive(&self, index: usize, network: &Network) -> Option<Readiness> {
        let (end, other) = self.both(index);
        let mut readiness = Readiness {
            is_readable: false,
            is_writable: false,
            has_hung_up: false,
            cannot_send: false,
            has_failed: false,
        };
        if end.reset_is_coming.replace(false) {
            end.reset_has_arrived.set(true);
            return Some(Readiness {
                is_readable: true,
                is_writable: true,
                has_hung_up: true,
                cannot_send: true,
                has_failed: true,
            });
        }
        readiness.is_readable = end.has_more.replace(false);
        let mut coming = end.coming.borrow_mut();
        if !coming.is_empty() {
            let mut count = coming.len().min(end.piece.get());
            if let Some(random) = network.random() {
                count = random.part_of(count);
            }
            end.arrived.borrow_mut().extend(coming.drain(..count));
            readiness.is_readable = true;
        }
        // At random, the end of the stream arrives alone or with the last bytes.
        let comes_along = |random: &super::Random| random.one_in(2);
        if end.end_is_coming.get()
            && coming.is_empty()
            && (!readiness.is_readable || network.random().is_none_or(comes_along))
        {
            end.end_is_coming.set(false);
            end.end_has_arrived.set(true);
            readiness.is_readable = true;
            readiness.has_hung_up = true;
        }
        if end.waits_to_write.get() && Self::may_write(other) {
            end.waits_to_write.set(false);
            readiness.is_writable = true;
        }
        (readiness.is_readable || readiness.is_writable).then_some(readiness)
    }
}

/// One end of a [`Wire`], in place of a socket.
pub(crate) struct MemoryStream {
    wire: Rc<Wire>,
    index: usize,
}

impl MemoryStream {
    /// Sets the slot that gets the events.
    pub(crate) fn watch_at(&self, slot: SlotId) {
        self.end().slot.set(Some(slot));
        self.wire.list();
    }

    pub(crate) fn local_address(&self) -> Address {
        self.wire.address(self.index)
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.read(self.index, buffer)
    }

    /// Drops all bytes that have arrived, whatever the size of pieces.
    pub(crate) fn discard(&self) {
        drop(self.wire.take_arrived(self.index));
    }

    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.wire.write(self.index, data)
    }

    pub(crate) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sent = 0;
        for slice in slices.iter().filter(|slice| !slice.is_empty()) {
            match self.write(slice) {
                Ok(count) => {
                    sent += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    pub(crate) fn shutdown(&self, side: Shutdown) -> io::Result<()> {
        if side != Shutdown::Read {
            self.wire.end(self.index);
        }
        Ok(())
    }

    pub(crate) fn error(&self) -> Option<io::Error> {
        let is_reset = self.end().reset_has_arrived.get();
        is_reset.then(|| io::ErrorKind::ConnectionReset.into())
    }

    pub(crate) fn reset_on_close(&self) {
        self.end().resets.set(true);
    }

    fn end(&self) -> &End {
        &self.wire.ends[self.index]
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.wire.close(self.index, self.end().resets.get());
    }
}

impl std::fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStream")
            .field("address", &self.end().address)
            .finish_non_exhaustive()
    }
}

/// Needs no selector: its wire reports events.
impl Source for MemoryStream {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}
