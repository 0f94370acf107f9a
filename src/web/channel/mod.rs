//! One HTTP connection: requests in, responses out, one at a time and in order.
//!
//! | phase      | what comes in                             | left when                              |
//! |------------|-------------------------------------------|----------------------------------------|
//! | idle       | begins a head                             | its first byte: head                   |
//! | head       | is looked at for the end of a head        | it is there: body, or answering        |
//! | body       | is added to the body                      | it is complete: answering              |
//! | answering  | is kept for later, up to a limit          | the response is complete: idle, closing |
//! | closing    | is thrown away                            | the connection is lost                 |
//!
//! The [`Channel`] is shared by the protocol, which the reactor calls, and the [`Request`], which
//! its holder may finish at any time and from anywhere. So all its state is in cells, no borrow is
//! held while anything of the user's runs, and a request that is finished from outside does not
//! start the next one there: that is left to the reactor.
//!
//! Who answers is settled by [`Answer`]: while `render` runs, and while a Deferred that it returned
//! is waited for, a dropped request comes back here; afterwards it is its holder's to finish.

mod answering;
mod deadlines;
mod receiving;
mod sending;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use deferred_reactor::net::{Protocol, Transport};
use deferred_reactor::time::TimeSource;
use deferred_reactor::{Canceller, DelayedCall, Failure, Resolver};

use super::request::Exchange;
use super::site::Shared;
use crate::http1::{BodyFraming, Decoder, ReplyTo, RequestReader, Version};

/// The reactor's end: hands everything to the channel.
pub(super) struct HttpProtocol(Rc<Channel>);

/// The state of one connection.
pub(super) struct Channel {
    shared: Rc<Shared>,
    transport: OnceCell<Transport>,
    clock: OnceCell<TimeSource>,
    phase: Cell<Phase>,
    /// What came and could not be used yet; empty, and without memory, most of the time.
    input: Cell<Vec<u8>>,
    reader: Cell<RequestReader>,
    /// The request whose body is being received.
    incoming: Cell<Option<Box<Incoming>>>,
    /// The response that is being made.
    current: Cell<Current>,
    answer: Cell<Answer>,
    /// A request that was dropped while the answer is [`Answer::Ours`].
    returned: Cell<Option<Box<Exchange>>>,
    waiting: Cell<Option<Canceller>>,
    /// Not a `Vec`, which is larger: few have any.
    to_notify: Cell<Box<[Resolver<()>]>>,
    deadline: Cell<Option<DelayedCall>>,
    /// What was left to send when somebody last looked whether the client reads it.
    unsent: Cell<usize>,
    /// Input is being used further up the stack.
    is_consuming: Cell<bool>,
    is_paused: Cell<bool>,
    /// The client sends no more.
    has_ended: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of the next request has come.
    Idle,
    Head,
    Body,
    Answering,
    Closing,
    /// The connection is lost.
    Gone,
}

struct Incoming {
    exchange: Box<Exchange>,
    body: Vec<u8>,
    left: Left,
}

/// What is left of a body.
enum Left {
    Length(u64),
    Chunked(Decoder),
}

/// The response that is being made, apart from its fields.
#[derive(Debug, Clone, Copy)]
struct Current {
    id: u64,
    to: ReplyTo,
    closes: bool,
    /// `None` before the head is sent; then how the body ends, with what is left of its length.
    sent: Option<BodyFraming>,
}

/// Who is to answer the current request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// `render` runs, or its Deferred is waited for.
    Ours,
    /// Whoever holds the request.
    TheHolders,
}

impl HttpProtocol {
    pub(super) fn new(shared: Rc<Shared>) -> Self {
        Self(Rc::new(Channel {
            shared,
            transport: OnceCell::new(),
            clock: OnceCell::new(),
            phase: Cell::new(Phase::Idle),
            input: Cell::new(Vec::new()),
            reader: Cell::new(RequestReader::default()),
            incoming: Cell::new(None),
            current: Cell::new(Current::NONE),
            answer: Cell::new(Answer::Ours),
            returned: Cell::new(None),
            waiting: Cell::new(None),
            to_notify: Cell::default(),
            deadline: Cell::new(None),
            unsent: Cell::new(usize::MAX),
            is_consuming: Cell::new(false),
            is_paused: Cell::new(false),
            has_ended: Cell::new(false),
        }))
    }
}

impl Protocol for HttpProtocol {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        let _ = self.0.transport.set(transport.clone());
        if let Some(clock) = transport.time_source() {
            let _ = self.0.clock.set(clock);
        }
        self.0.expect_within(self.0.shared.limits.keep_alive);
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.0.receive(data);
        Ok(())
    }

    fn read_connection_lost(&mut self, _: &Transport) {
        self.0.input_ended();
    }

    fn write_drained(&mut self, _: &Transport) {
        self.0.go_on();
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.0.lost(reason);
    }
}

impl Current {
    const NONE: Self = Self {
        id: 0,
        to: ReplyTo {
            version: Version::Http11,
            is_head: false,
            persists: true,
        },
        closes: true,
        sent: None,
    };
}
