//! One HTTP/1 connection: requests in, responses out, in order.
//!
//! Two machines share it. One receives requests, the other replies to them; they overlap while a
//! body streams, and the replying one finishes first where a request is answered before all of its
//! body has come.
//!
//! ```text
//!              ┌───────────── receiving ─────────────┐
//!   socket ──> │ idle ─> head ─> body ─> waiting     │   a piece of a body, or the whole of it
//!              └──────────────────│───────▲──────────┘          │
//!                                 ▼       │ the response is complete
//!              ┌───────────── replying ──────────────┐          ▼
//!   socket <── │ sending <── making <── idle         │ <── the resource, or whoever holds the request
//!              └─────────────────────────────────────┘
//! ```
//!
//! | receiving | what comes in                             | left when                              |
//! |-----------|-------------------------------------------|----------------------------------------|
//! | idle      | begins a head                             | its first byte: head                   |
//! | head      | is looked at for the end of a head        | it is there: body, or waiting          |
//! | body      | is collected, handed on, or thrown away   | it is complete: waiting, or idle if its response is |
//! | waiting   | is kept for later, up to a limit          | the response is complete: idle         |
//! | discarding | is thrown away                           | the connection is lost                 |
//!
//! | replying  | the response                              | left when                              |
//! |-----------|-------------------------------------------|----------------------------------------|
//! | idle      |                                           | a resource is to be found: making      |
//! | making    | nothing of it is sent                     | its head is sent: sending              |
//! | sending   | is written in parts, or streams           | it is complete: idle, or closing       |
//! | closing   | was the last                              | the connection is lost: gone           |
//! | gone      |                                           |                                        |
//!
//! The [`Connection`] is shared by the protocol, which the reactor calls, and the
//! [`Request`](super::Request), which its holder may finish at any time and from anywhere. So all
//! its state is in cells, no borrow is held while anything of the user's runs, and a request that is
//! finished from outside does not start the next one there: that is left to the reactor.
//!
//! Who answers is settled by [`Answer`]: while `render` runs, and while a Deferred that it returned
//! is waited for, a dropped request comes back here; afterwards it is its holder's to finish.

mod bodies;
mod closing;
mod deadlines;
mod departures;
mod incoming;
mod protocol;
mod receiving;
mod refusing;
mod rendering;
mod sending;
mod streaming;
mod upgrading;
mod write_watch;

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::time::Instant;

use deferred_reactor::net::{Address, Transport};
use deferred_reactor::time::TimeSource;
use deferred_reactor::{Canceller, DelayedCall, Reactor, Resolver};
use http::StatusCode;

use self::departures::Departure;
use self::incoming::Incoming;
pub(super) use self::protocol::HttpProtocol;
use self::streaming::Pump;
use self::write_watch::WriteWatch;
use super::carrier::Upgrade;
use super::request::Exchange;
use super::site::SiteCore;
use super::{RequestHead, RequestOutcome};
use crate::http1::{BodyFraming, ReplyTo, RequestReader, Version};

/// The state of one connection. There are many of them, so it holds no more than each needs while
/// nothing happens on it; `tests/bench/run --checks` weighs it.
pub(super) struct Connection {
    site: Rc<SiteCore>,
    transport: OnceCell<Transport>,
    clock: OnceCell<TimeSource>,
    receiving: Cell<Receiving>,
    replying: Cell<Replying>,
    /// What came and could not be used yet; never empty.
    #[allow(
        clippy::box_collection,
        reason = "nearly all connections have none, which is a pointer then"
    )]
    input: Cell<Option<Box<Vec<u8>>>>,
    reader: Cell<RequestReader>,
    /// The body that is being received.
    incoming: Cell<Option<Box<Incoming>>>,
    /// The head of the request that is being answered.
    head: Cell<Option<Rc<RequestHead>>>,
    /// The response that is being made.
    current: Cell<Current>,
    answer: Cell<Answer>,
    /// A request that was dropped while the answer is [`Answer::Ours`].
    returned: Cell<Option<Box<Exchange>>>,
    waiting: Cell<Canceller>,
    /// For what is being received, and for the end.
    deadline: Cell<Option<DelayedCall>>,
    /// What the system had taken, in its low bits, when somebody last looked whether the client
    /// reads.
    taken: Cell<u32>,
    /// What few connections have.
    extra: Cell<Option<Box<Extra>>>,
    requests: Cell<u32>,
    /// Where the site keeps it.
    key: Cell<u32>,
    flags: Flags,
}

/// Facts about the connection. All start out false.
#[derive(Default)]
struct Flags {
    /// Input is being used further up the stack.
    is_consuming: Cell<bool>,
    /// A response was completed meanwhile.
    has_answered: Cell<bool>,
    /// Reading is paused.
    is_paused: Cell<bool>,
    /// The client sends no more, and all that it has sent was read.
    has_ended: Cell<bool>,
    /// The same, but for what waits to be read.
    will_end: Cell<bool>,
    /// The system takes nothing more for now.
    is_blocked: Cell<bool>,
    /// A call of `go_on` is scheduled.
    is_scheduled: Cell<bool>,
    /// We have cut it off.
    is_cut: Cell<bool>,
    /// The site drains, and this connection is waited for.
    is_drained: Cell<bool>,
}

/// The state of the receiving machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    /// Nothing of the next request has come.
    Idle,
    Head,
    Body,
    /// A request is complete, and being answered.
    Waiting,
    Discarding,
}

/// The state of the replying machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replying {
    Idle,
    Making,
    Sending,
    /// The last response was sent.
    Closing,
    /// The connection is lost.
    Gone,
}

/// The response that is being made, apart from its fields.
#[derive(Debug, Clone, Copy)]
struct Current {
    id: u64,
    to: ReplyTo,
    /// The connection closes behind this response.
    closes: bool,
    body: Sent,
    status: Option<StatusCode>,
    /// The program writes it, at its own speed.
    is_in_parts: bool,
}

/// How much of a response has gone out, and how its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    Head(BodyFraming),
}

/// Who is to answer the current request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// `render` runs, or its Deferred is waited for.
    Ours,
    /// Whoever holds the request.
    TheHolders,
}

/// What few connections have, or few of the time.
#[derive(Default)]
struct Extra {
    /// Who waits for the end of the current response.
    to_notify: Vec<Resolver<()>>,
    /// Who waits until everything written is with the system.
    drained: Vec<Resolver<()>>,
    /// Who waits for the site to end.
    site_drains: Vec<Resolver<()>>,
    /// Responses that are complete and have not left yet.
    departures: Vec<Departure>,
    /// Watches the client read.
    write_watch: Option<WriteWatch>,
    /// Makes the body of the current response.
    pump: Option<Rc<Pump>>,
    upgrade: Option<Upgrade>,
    /// How much had been written on the connection before its program began to write the current
    /// response in parts.
    parts_from: u64,
    /// For what is told of the connection's end.
    peer: Option<Address>,
    tally: Tally,
}

/// What an observer is told at the end of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    began: Option<Instant>,
    has_begun: bool,
    outcome: Option<RequestOutcome>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Connection {
    fn new(site: Rc<SiteCore>) -> Rc<Self> {
        Rc::new(Self {
            site,
            transport: OnceCell::new(),
            clock: OnceCell::new(),
            receiving: Cell::new(Receiving::Idle),
            replying: Cell::new(Replying::Idle),
            input: Cell::new(None),
            reader: Cell::new(RequestReader::default()),
            incoming: Cell::new(None),
            head: Cell::new(None),
            current: Cell::new(Current::NONE),
            answer: Cell::new(Answer::Ours),
            returned: Cell::new(None),
            waiting: Cell::default(),
            deadline: Cell::new(None),
            taken: Cell::new(0),
            extra: Cell::new(None),
            requests: Cell::new(0),
            key: Cell::new(u32::MAX),
            flags: Flags::default(),
        })
    }

    fn transport(&self) -> &Transport {
        self.transport
            .get()
            .expect("a connection is made before anything happens on it")
    }

    pub(super) fn reactor(&self) -> Option<Reactor> {
        self.transport.get()?.reactor()
    }

    /// Whether a response is being made or sent.
    fn is_replying(&self) -> bool {
        matches!(self.replying.get(), Replying::Making | Replying::Sending)
    }

    /// Uses what few connections have, which this one has from now on. What uses it does nothing
    /// else.
    fn with_extra<R>(&self, use_it: impl FnOnce(&mut Extra) -> R) -> R {
        let mut extra = self.extra.take().unwrap_or_default();
        let result = use_it(&mut extra);
        self.extra.set(Some(extra));
        result
    }

    /// The same, if there is any of it.
    fn look_at_extra<R>(&self, use_it: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        let mut extra = self.extra.take()?;
        let result = use_it(&mut extra);
        self.extra.set(Some(extra));
        Some(result)
    }

    /// The client's address, for the log.
    fn client(&self) -> String {
        match self.transport.get().and_then(Transport::peer) {
            Some(peer) => peer.to_string(),
            None => "a client that has gone".to_owned(),
        }
    }

    /// Names a request in the log.
    fn describe(&self, head: &RequestHead) -> String {
        if head.target().is_empty() {
            return format!("a request from {}", self.client());
        }
        let (method, path) = (head.method(), head.path());
        let route = head.route();
        let client = self.client();
        match route.is_empty() || route == path {
            true => format!("{method} {path} from {client}"),
            false => format!("{method} {path} (route {route}) from {client}"),
        }
    }
}

impl Current {
    const NONE: Self = Self {
        id: 0,
        to: ReplyTo {
            version: Version::Http11,
            is_head: false,
            persists: false,
        },
        closes: true,
        body: Sent::Nothing,
        status: None,
        is_in_parts: false,
    };
}
