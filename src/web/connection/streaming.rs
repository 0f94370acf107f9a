//! Responses whose bodies are made while they are sent.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};

use bytes::Bytes;
use deferred_reactor::net::PullProducer;
use deferred_reactor::{Deferred, Failure};

use super::{Connection, Replying};
use crate::web::body::Pieces;
use crate::web::carrier::Carrier;
use crate::web::request::{Exchange, Finished};

/// More is not asked for while more than 64 KiB wait for the client, framing apart: so two pieces of
/// the usual size leave at once, which costs two thirds of sending each alone.
const ENOUGH_BYTES: usize = 65 * 1024;

/// Asks a source for pieces, as its connection asks for bytes.
pub(super) struct Pump {
    connection: Weak<Connection>,
    exchange: Cell<Option<Box<Exchange>>>,
    /// `None` at the end, and while it is asked.
    pieces: RefCell<Option<Pieces>>,
    /// A piece was asked for, and is not there yet.
    is_waiting: Cell<bool>,
}

impl Connection {
    /// Sends a response that streams, unless a clone of it has been sent.
    pub(super) fn stream_once(
        self: Rc<Self>,
        exchange: Box<Exchange>,
        pieces: &RefCell<Option<Pieces>>,
    ) -> Finished {
        let taken = pieces.borrow_mut().take();
        match taken {
            Some(pieces) => self.stream(exchange, pieces),
            None => {
                self.returned.set(Some(exchange));
                let message = "a response that streams was cloned and sent twice";
                self.fail(&Failure::message(message));
                Finished(true)
            }
        }
    }

    /// Sends the head of a response, and has its source make the body.
    fn stream(self: Rc<Self>, exchange: Box<Exchange>, pieces: Pieces) -> Finished {
        self.begin_parts(&exchange, pieces.length);
        if self.sends_no_body() || pieces.length == Some(0) {
            drop(pieces);
            return self.finish(exchange);
        }
        let pump = Rc::new(Pump {
            connection: Rc::downgrade(&self),
            exchange: Cell::new(Some(exchange)),
            pieces: RefCell::new(Some(pieces)),
            is_waiting: Cell::new(false),
        });
        self.with_extra(|extra| extra.pump = Some(pump.clone()));
        // What a program has registered for the parts before gives way.
        self.transport().unregister_producer();
        let registered = self.transport().register_pull_producer(Pumping(pump));
        Finished(registered.is_ok())
    }
}

/// What the transport asks for bytes.
struct Pumping(Rc<Pump>);

impl PullProducer for Pumping {
    fn resume_producing(&self) {
        self.0.resume();
    }

    fn stop_producing(&self) {
        self.0.stop();
    }
}

impl Pump {
    fn resume(self: &Rc<Self>) {
        while let Some(connection) = self.connection.upgrade() {
            if self.is_waiting.get() || connection.transport().buffered() > ENOUGH_BYTES {
                return;
            }
            match self.ask(&connection).try_result() {
                Ok(result) => {
                    if !self.take(&connection, result) {
                        return;
                    }
                }
                Err(pending) => {
                    self.is_waiting.set(true);
                    let pump = self.clone();
                    drop(pending.add_both(move |result| {
                        pump.is_waiting.set(false);
                        if let Some(connection) = pump.connection.upgrade()
                            && pump.take(&connection, result)
                        {
                            pump.resume();
                        }
                        Ok(())
                    }));
                    return;
                }
            }
        }
    }

    fn stop(&self) {
        // The source goes, and whatever it holds. It may be in use further up the stack.
        let pieces = match self.pieces.try_borrow_mut() {
            Ok(mut pieces) => pieces.take(),
            Err(_) => None,
        };
        drop(pieces);
        // Kept for whoever is told how the request ended.
        if let (Some(exchange), Some(connection)) =
            (self.exchange.take(), self.connection.upgrade())
            && connection.is_replying_to(exchange.id)
        {
            connection.keep_for_end(exchange);
        }
    }

    fn ask(&self, connection: &Rc<Connection>) -> Deferred<Option<Bytes>> {
        let Some(reactor) = connection.reactor() else {
            return Deferred::succeed(None);
        };
        // Not borrowed while the program makes a piece: it may do anything, such as close.
        let Some(mut pieces) = self.pieces.take() else {
            let message = "a response was asked for a piece while it was making one";
            return Deferred::fail(Failure::message(message));
        };
        // Nobody else would see a panic that comes between two pieces, and end the response.
        let piece = match catch_unwind(AssertUnwindSafe(|| (pieces.next)(&reactor))) {
            Ok(piece) => piece,
            Err(payload) => Deferred::fail(Failure::from_panic(payload)),
        };
        if self.has_exchange() {
            self.pieces.replace(Some(pieces));
        }
        piece
    }

    /// Sends what the source gave; whether it is to be asked again.
    fn take(&self, connection: &Rc<Connection>, result: Result<Option<Bytes>, Failure>) -> bool {
        // Gone, or cut off, while the piece was made.
        let Some(exchange) = self.exchange.take() else {
            return false;
        };
        if !connection.is_replying_to(exchange.id) {
            return false;
        }
        match result {
            Ok(Some(piece)) => {
                if !piece.is_empty() && !connection.write_piece(&exchange.head, piece) {
                    // It may have no end.
                    connection.clone().finish(exchange);
                    return false;
                }
                self.exchange.set(Some(exchange));
                true
            }
            Ok(None) => {
                connection.clone().finish(exchange);
                false
            }
            Err(failure) => {
                connection.returned.set(Some(exchange));
                connection.fail(&failure);
                false
            }
        }
    }

    fn has_exchange(&self) -> bool {
        let exchange = self.exchange.take();
        let has = exchange.is_some();
        self.exchange.set(exchange);
        has
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let (Some(exchange), Some(connection)) =
            (self.exchange.take(), self.connection.upgrade())
            && connection.replying.get() != Replying::Gone
        {
            connection.site.spares.put_exchange(exchange);
        }
    }
}
