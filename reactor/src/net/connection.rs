//! The reactor's side of one connection.
//!
//! No call of a protocol on its [`Transport`] touches the socket. Writes are queued, and closing
//! and resuming set a flag. Each puts the connection on the reactor's list for
//! [service](Descriptor::service), which is done before the reactor sleeps. So a protocol is never
//! called inside itself, everything written during one event is sent together, and every call is
//! allowed at any time.

mod interruption;
mod producing;

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::net::Shutdown;
use std::rc::{Rc, Weak};

use self::interruption::Interruption;
pub(crate) use self::interruption::Switches;
use super::output::Output;
use super::stream::Stream;
use super::{Address, ConnectionAborted, ConnectionDone, ConnectionLost, Protocol, Transport};
use crate::deferred::Failure;
use crate::guard::{catch, guard, log_panic};
use crate::health::{Callback, CallbackKind, Place, watch};
use crate::reactor::{Core, Descriptor, Readiness, SlotId};

/// Maximum number of reads, and of writes, of one connection in one turn.
const CALLS_PER_TURN: usize = 16;

/// Output queues returned by drained connections, for reuse.
#[derive(Default)]
#[allow(
    clippy::vec_box,
    reason = "they move between here and connections, which keep a pointer"
)]
pub(crate) struct Spares(Vec<Box<Output>>);

impl Spares {
    /// More queues than can be in use between two sleeps would never be reused.
    const KEEP: usize = 64;

    pub(super) fn take(&mut self) -> Box<Output> {
        self.0.pop().unwrap_or_default()
    }

    fn put(&mut self, output: Box<Output>) {
        if self.0.len() < Self::KEEP {
            self.0.push(output);
        }
    }
}

/// The reactor's side of a connection. Only the reactor owns it; transports point to it weakly.
pub(crate) struct Connection {
    pub(super) core: Weak<Core>,
    slot: SlotId,
    /// `None` once closed.
    pub(super) stream: RefCell<Option<Stream>>,
    /// `None` once the connection is lost, and while the protocol is being called.
    protocol: Cell<Option<Box<dyn Protocol>>>,
    /// `None` while there is nothing to send and no producer.
    pub(super) output: Cell<Option<Box<Output>>>,
    pub(super) peer: Address,
    /// Number of bytes that the system has accepted.
    pub(super) sent: Cell<u64>,
    pub(super) flags: Flags,
}

/// The state of a connection, and the requests of its protocol. All start out false.
#[derive(Default)]
pub(super) struct Flags {
    /// On the reactor's list for service.
    pub(super) is_queued: Cell<bool>,
    /// The system may have something to read.
    pub(super) may_read: Cell<bool>,
    /// The peer has closed its sending side: after a short read there may be more to read.
    has_hung_up: Cell<bool>,
    /// Nothing can be sent any more, although we have not closed the sending side.
    is_broken: Cell<bool>,
    input_end: Cell<InputEnd>,
    /// The protocol wants no data for now.
    pub(super) is_paused: Cell<bool>,
    /// The protocol keeps input, and has requested a call for it.
    pub(super) delivers_again: Cell<bool>,
    /// The system accepts no more output for now.
    pub(super) write_is_blocked: Cell<bool>,
    /// Close once everything is sent.
    pub(super) is_closing: Cell<bool>,
    pub(super) sending: Cell<Sending>,
    /// The protocol is given its input in buffers of its own.
    pub(super) takes_bytes: Cell<bool>,
    /// A request to be served before the next event.
    interruption: Cell<Interruption>,
    /// `connection_made` has been called.
    has_begun: Cell<bool>,
    /// Much was queued, or could not be sent at once, or the protocol has asked for it: it is told
    /// when everything has gone.
    has_backlog: Cell<bool>,
    /// `write_blocked` has been called.
    is_told_blocked: Cell<bool>,
    /// A client connection: its connector is notified of the end.
    has_connector: Cell<bool>,
}

/// What becomes of the sending side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sending {
    #[default]
    Open,
    /// It is to be shut down once everything is sent.
    Closes,
    /// It is shut down.
    Closed,
}

/// What is known of the end of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum InputEnd {
    #[default]
    Open,
    /// The protocol was told that the peer has closed its side, behind input that it does not read.
    Told,
    /// It was read.
    Read,
}

impl Connection {
    /// Takes over an accepted stream that is registered at `slot`.
    pub(crate) fn new(
        core: &Rc<Core>,
        slot: SlotId,
        stream: Stream,
        peer: Address,
        protocol: Box<dyn Protocol>,
    ) -> Rc<Self> {
        Rc::new(Self {
            core: Rc::downgrade(core),
            slot,
            stream: RefCell::new(Some(stream)),
            protocol: Cell::new(Some(protocol)),
            output: Cell::new(None),
            peer,
            sent: Cell::new(0),
            flags: Flags::default(),
        })
    }

    /// Marks a client connection, whose connector is notified of the end after the protocol.
    pub(crate) fn has_connector(&self) {
        self.flags.has_connector.set(true);
    }

    /// Calls `connection_made`.
    pub(crate) fn start(self: &Rc<Self>, core: &Rc<Core>) {
        self.flags.has_begun.set(true);
        // Measured separately from the port that accepted it or the attempt to connect.
        let name = self.callback();
        watch(
            || name,
            || {
                self.tell(core, |protocol, transport| {
                    protocol.connection_made(transport)
                })
            },
        );
        self.flush(core);
    }

    /// Like [`start`](Self::start), for a stream in memory that was not watched before.
    pub(crate) fn start_watched(self: &Rc<Self>, core: &Rc<Core>) {
        if let Some(Stream::Memory(stream)) = &*self.stream.borrow() {
            stream.watch_at(self.slot);
        }
        self.start(core);
    }

    pub(crate) fn transport_of(self: &Rc<Self>) -> Transport {
        Transport(Rc::downgrade(self))
    }

    /// Calls the protocol, then serves an interruption. Returns `false` if the connection is lost
    /// by then.
    #[inline]
    fn tell(
        self: &Rc<Self>,
        core: &Rc<Core>,
        call: impl FnOnce(&mut dyn Protocol, &Transport) -> Result<(), Failure>,
    ) -> bool {
        self.call(core, call)
            && (self.flags.interruption.get() == Interruption::None
                || self.serve_interruption(core))
    }

    /// Calls the protocol. Returns `false` if the connection is lost by then.
    fn call(
        self: &Rc<Self>,
        core: &Rc<Core>,
        call: impl FnOnce(&mut dyn Protocol, &Transport) -> Result<(), Failure>,
    ) -> bool {
        let Some(mut protocol) = self.protocol.take() else {
            return false;
        };
        let transport = self.transport_of();
        let outcome = catch(|| call(&mut *protocol, &transport));
        // Nothing was put there meanwhile; checking would cost each event 15 instructions.
        let none = self.protocol.replace(Some(protocol));
        debug_assert!(none.is_none());
        std::mem::forget(none);
        let outcome = match outcome {
            Ok(Ok(())) => None,
            // `{:#?}` shows the source line of the error. The message of a panic has been printed
            // already.
            Ok(Err(failure)) => Some((format!("{failure:#?}"), failure)),
            Err(payload) => {
                let failure = Failure::from_panic(payload);
                Some((failure.to_string(), failure))
            }
        };
        if let Some((text, failure)) = outcome {
            crate::logging::error!(
                target: "reactor",
                "closing the connection with {}, because its protocol failed: {text}",
                self.peer
            );
            self.lose(core, failure);
            return false;
        }
        true
    }

    /// Closes the connection now and calls `connection_lost`. Never called inside the protocol.
    fn lose(&self, core: &Core, reason: Failure) {
        let Some(mut protocol) = self.protocol.take() else {
            return;
        };
        core.release(self.slot);
        if let Some(stream) = self.stream.take()
            && reason.is::<ConnectionAborted>()
        {
            stream.reset_on_close();
        }
        if let Some(mut output) = self.output.take() {
            let producer = output.clear();
            core.spares().put(output);
            if let Some(producer) = producer {
                guard("the producer of a connection", || producer.stop());
                guard("dropping the producer of a connection", || drop(producer));
            }
        }
        let told = catch(|| protocol.connection_lost(&reason));
        if let Err(payload) = told {
            let what = format_args!("connection_lost of the connection from {}", self.peer);
            log_panic("reactor", what, payload);
        }
        // Contained, because this may run during a panic, and a second panic aborts the process.
        guard("dropping the protocol of a connection", || drop(protocol));
        if self.flags.interruption.get() != Interruption::None
            && let Some(switch) = self.take_switch(core)
        {
            guard("dropping the next protocol of a connection", || {
                drop(switch)
            });
        }
        if self.flags.has_connector.get() {
            core.clients().lost(core, self.slot, reason);
        }
    }

    fn wants_data(&self) -> bool {
        let flags = &self.flags;
        !flags.is_paused.get() && !flags.is_closing.get() && flags.input_end.get() != InputEnd::Read
    }

    /// Reads until the system has no more, the protocol pauses, or the turn's limit is reached.
    fn read(self: &Rc<Self>, core: &Rc<Core>) {
        if self.flags.delivers_again.get() && !self.deliver_again(core) {
            return;
        }
        let mut shared = core.take_read_buffer();
        let mut owned = Vec::new();
        for _ in 0..CALLS_PER_TURN {
            if !self.flags.may_read.get() || !self.wants_data() {
                break;
            }
            let takes_bytes = self.flags.takes_bytes.get();
            if takes_bytes && owned.is_empty() {
                owned = core.read_pool().take();
            }
            let buffer = if takes_bytes { &mut owned } else { &mut shared };
            let outcome = match &*self.stream.borrow() {
                Some(stream) => (&*stream).read(buffer),
                None => break,
            };
            let goes_on = match outcome {
                Ok(0) => {
                    self.flags.may_read.set(false);
                    self.flags.input_end.set(InputEnd::Read);
                    self.tell(core, |protocol, transport| {
                        protocol.read_connection_lost(transport);
                        Ok(())
                    });
                    if self.flags.sending.get() == Sending::Closed {
                        // Both sides are closed, and no event will come.
                        self.lose(core, Failure::cloneable(ConnectionDone));
                    }
                    false
                }
                Ok(count) => {
                    // A short read emptied the buffer of the system; later bytes cause a new event
                    // (epoll(7), question 9). This saves a read that would only return
                    // `WouldBlock`.
                    if count < buffer.len() && !self.flags.has_hung_up.get() {
                        self.flags.may_read.set(false);
                    }
                    if takes_bytes {
                        let piece = core.read_pool().piece(std::mem::take(&mut owned), count);
                        self.tell(core, |protocol, transport| {
                            protocol.bytes_received(transport, piece)
                        })
                    } else {
                        self.tell(core, |protocol, transport| {
                            protocol.data_received(transport, &shared[..count])
                        })
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flags.may_read.set(false);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.lose(
                        core,
                        Failure::cloneable(ConnectionLost { cause: Some(error) }),
                    );
                    false
                }
            };
            if !goes_on {
                break;
            }
        }
        if !owned.is_empty() {
            core.read_pool().put(owned);
        }
        core.put_read_buffer(shared);
    }

    /// Calls `peer_closed`: the peer has closed its side behind input that the protocol does not
    /// read.
    #[cold]
    fn tell_of_unread_end(self: &Rc<Self>, core: &Rc<Core>) {
        let flags = &self.flags;
        if flags.input_end.get() == InputEnd::Open && !flags.is_closing.get() {
            flags.input_end.set(InputEnd::Told);
            self.tell(core, |protocol, transport| {
                protocol.peer_closed(transport);
                Ok(())
            });
        }
    }

    /// Calls a protocol that keeps input until it needs no more calls. Returns `false` if the
    /// connection is lost by then.
    #[cold]
    fn deliver_again(self: &Rc<Self>, core: &Rc<Core>) -> bool {
        for _ in 0..CALLS_PER_TURN {
            if !self.wants_kept_data() {
                break;
            }
            self.flags.delivers_again.set(false);
            if !self.tell(core, |protocol, transport| {
                protocol.data_received(transport, &[])
            }) {
                return false;
            }
        }
        true
    }

    /// Whether the protocol is to be called for input that it keeps; also after the end of the
    /// input.
    fn wants_kept_data(&self) -> bool {
        self.flags.delivers_again.get() && self.is_producing()
    }

    /// Whether `data_received` may be called.
    pub(super) fn is_producing(&self) -> bool {
        let flags = &self.flags;
        !flags.is_paused.get()
            && !flags.is_closing.get()
            && flags.interruption.get() != Interruption::Abort
    }

    /// Sends until everything is sent, the system accepts no more, or the turn's limit is reached.
    fn flush(self: &Rc<Self>, core: &Rc<Core>) {
        if self.flush_once(core) {
            self.flush_what_is_produced(core);
        }
    }

    #[cold]
    fn flush_what_is_produced(self: &Rc<Self>, core: &Rc<Core>) {
        for _ in 1..CALLS_PER_TURN {
            if !self.flush_once(core) {
                break;
            }
        }
    }

    /// Returns `true` if the producer has written something.
    #[inline]
    fn flush_once(self: &Rc<Self>, core: &Rc<Core>) -> bool {
        if self.flags.write_is_blocked.get() {
            return false;
        }
        let mut feeds = false;
        if let Some(mut output) = self.output.take() {
            feeds = output.is_kept() && !output.is_empty();
            match self.send(&mut output) {
                Ok(true) if output.is_kept() => {
                    self.put_back(output);
                }
                Ok(true) => core.spares().put(output),
                Ok(false) => {
                    self.put_back(output);
                    self.flags.has_backlog.set(true);
                    self.tell_blocked(core);
                    return false;
                }
                Err(error) => {
                    self.put_back(output);
                    self.lose(
                        core,
                        Failure::cloneable(ConnectionLost { cause: Some(error) }),
                    );
                    return false;
                }
            }
        }
        if self.is_to_end() {
            return self.end(core);
        }
        if self.flags.has_backlog.replace(false) {
            self.flags.is_told_blocked.set(false);
            self.tell(core, |protocol, transport| {
                protocol.write_drained(transport);
                Ok(())
            });
        }
        feeds && self.feed(core)
    }

    /// Calls `write_blocked`, once until everything is sent.
    #[cold]
    fn tell_blocked(self: &Rc<Self>, core: &Rc<Core>) {
        // Otherwise only the turn's limit was reached, and the system may accept more.
        if self.flags.write_is_blocked.get() && !self.flags.is_told_blocked.replace(true) {
            self.tell(core, |protocol, transport| {
                protocol.write_blocked(transport);
                Ok(())
            });
        }
    }

    /// Requests `write_drained` once the system has accepted everything that is queued.
    pub(super) fn notify_drained(self: &Rc<Self>, core: &Core) {
        self.flags.has_backlog.set(true);
        self.request_service(core);
    }

    /// Puts the output back after sending.
    #[inline]
    fn put_back(&self, mut output: Box<Output>) {
        // Dropping the sent shared bytes may have called their owner, which may have written.
        if let Some(mut newer) = self.output.take() {
            output.append(&mut newer);
        }
        self.output.set(Some(output));
    }

    /// Whether this side is to be closed once everything is sent, and is not closed yet.
    #[inline]
    fn is_to_end(&self) -> bool {
        let flags = &self.flags;
        (flags.is_closing.get() || flags.sending.get() == Sending::Closes) && !self.is_held_open()
    }

    /// Closes this side, or both, after everything is sent. Never requests another flush.
    fn end(self: &Rc<Self>, core: &Rc<Core>) -> bool {
        if self.flags.is_closing.get() {
            self.discard_input(core);
            self.lose(core, Failure::cloneable(ConnectionDone));
            return false;
        }
        self.flags.sending.set(Sending::Closed);
        if let Some(stream) = &*self.stream.borrow() {
            // Fails if the peer is gone, which the next read reports.
            let _ = stream.shutdown(Shutdown::Write);
        }
        self.tell(core, |protocol, transport| {
            protocol.write_connection_lost(transport);
            Ok(())
        });
        if self.flags.input_end.get() == InputEnd::Read {
            self.lose(core, Failure::cloneable(ConnectionDone));
        }
        false
    }

    /// Reads and drops the input. Closing a socket with unread input resets the connection, and a
    /// reset may destroy output that is still on its way (RFC 1122, 4.2.2.13).
    ///
    /// Input that arrives later still causes a reset. A protocol is safe from that only if it
    /// closes its sending side first and then waits for the end of the peer's.
    fn discard_input(&self, core: &Core) {
        let mut buffer = core.take_read_buffer();
        for _ in 0..CALLS_PER_TURN {
            if self.flags.input_end.get() == InputEnd::Read {
                break;
            }
            let outcome = match &*self.stream.borrow() {
                Some(stream) => stream.discard(&mut buffer),
                None => break,
            };
            if !matches!(outcome, Ok(count) if count == buffer.len()) {
                break;
            }
        }
        core.put_read_buffer(buffer);
    }

    /// Calls `look` with the queue, if there is one. `look` must not call other code.
    pub(super) fn with_queue<R>(&self, look: impl FnOnce(&mut Output) -> R) -> Option<R> {
        let mut output = self.output.take()?;
        let seen = look(&mut output);
        self.output.set(Some(output));
        Some(seen)
    }

    fn has_output(&self) -> bool {
        self.with_queue(|output| !output.is_empty()) == Some(true)
    }

    /// `true` once everything is sent; `false` when the system, or this turn, takes no more.
    #[inline]
    fn send(&self, output: &mut Output) -> io::Result<bool> {
        let stream = self.stream.borrow();
        let Some(stream) = &*stream else {
            return Ok(true);
        };
        for _ in 0..CALLS_PER_TURN {
            if output.is_empty() {
                return Ok(true);
            }
            match output.send(stream) {
                Ok(count) => self.sent.set(self.sent.get().wrapping_add(count as u64)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.flags.write_is_blocked.set(true);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(output.is_empty())
    }

    /// Whether work is left that no event will report.
    fn has_work(&self) -> bool {
        let flags = &self.flags;
        // Ordered so that an idle connection is checked quickly.
        (flags.may_read.get() && self.wants_data()
            || self.wants_kept_data()
            || !flags.write_is_blocked.get()
                && (flags.has_backlog.get() || self.has_to_flush() || self.is_to_end())
            || flags.interruption.get() != Interruption::None && self.has_interruption())
            && !self.is_lost()
    }

    /// Whether output is queued, or an empty queue is to be returned.
    fn has_to_flush(&self) -> bool {
        self.with_queue(|output| !output.is_kept() || !output.is_empty()) == Some(true)
    }

    pub(super) fn request_service(self: &Rc<Self>, core: &Core) {
        if !self.flags.is_queued.replace(true) {
            core.request_service(self.clone());
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.stream.borrow().is_none()
    }
}

impl Descriptor for Connection {
    fn on_ready(self: Rc<Self>, core: &Rc<Core>, readiness: Readiness) {
        if readiness.is_readable {
            self.flags.may_read.set(true);
        }
        if readiness.has_hung_up {
            self.flags.has_hung_up.set(true);
        }
        if readiness.is_writable {
            self.flags.write_is_blocked.set(false);
        }
        // When both sides have closed their sending sides, the connection has hung up, but is not
        // broken: input may be left to read.
        if readiness.has_failed
            || readiness.cannot_send && self.flags.sending.get() != Sending::Closed
        {
            self.flags.is_broken.set(true);
        }
        self.service(core);
    }

    fn service(self: Rc<Self>, core: &Rc<Core>) {
        // Requests of the protocol are served below, or found by `has_work`.
        self.flags.is_queued.set(true);
        if self.flags.interruption.get() != Interruption::None && !self.serve_interruption(core) {
            return;
        }
        self.read(core);
        if self.flags.is_broken.get() && !self.wants_data() {
            // The protocol does not read, so no read would find the error.
            let cause = match &*self.stream.borrow() {
                Some(stream) => stream.take_error().ok().flatten(),
                None => None,
            };
            return self.lose(core, Failure::cloneable(ConnectionLost { cause }));
        }
        if self.flags.has_hung_up.get() && !self.wants_data() {
            self.tell_of_unread_end(core);
        }
        self.flush(core);
        self.flags.is_queued.set(false);
        if self.has_work() {
            self.request_service(core);
        }
    }

    fn transport(self: Rc<Self>) -> Option<Transport> {
        Some(self.transport_of())
    }

    fn shut_down(self: Rc<Self>, core: &Rc<Core>) {
        // Sends what the system accepts at once, so that a last response is not lost by a stop.
        if let Some(mut output) = self.output.take() {
            let _ = self.send(&mut output);
            self.put_back(output);
        }
        self.discard_input(core);
        let reason = match self.flags.interruption.get() == Interruption::Abort {
            // A clean end would tell the peer that everything was sent.
            true => Failure::cloneable(ConnectionAborted),
            false => Failure::cloneable(ConnectionLost { cause: None }),
        };
        self.lose(core, reason);
    }

    fn callback(&self) -> Callback {
        let protocol = self.protocol.take();
        let name = protocol.as_ref().map_or("lost", |p| p.type_name());
        self.protocol.set(protocol);
        Callback::new(CallbackKind::Protocol, Place::Type(name))
    }

    fn peer(&self) -> Option<Address> {
        Some(self.peer.clone())
    }
}
