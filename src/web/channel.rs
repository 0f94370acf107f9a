//! One HTTP connection: requests in, responses out, one at a time and in order.
//!
//! | phase      | what comes in                             | left when                              |
//! |------------|-------------------------------------------|----------------------------------------|
//! | head       | is looked at for the end of a head        | it is there: body, or answering        |
//! | body       | is added to the body                      | it is complete: answering              |
//! | answering  | is kept for later, up to a limit          | the response is complete: head, closing |
//! | closing    | is thrown away                            | the connection is lost                 |
//!
//! The [`Channel`] is shared by the protocol, which the reactor calls, and the [`Request`], which
//! its holder may finish at any time and from anywhere. So all its state is in cells, no borrow is
//! held while anything of the user's runs, and a request that is finished from outside does not
//! start the next one there: that is left to the reactor.
//!
//! Who answers is settled by [`Answer`]: while `render` runs, and while a Deferred that it returned
//! is waited for, a dropped request comes back here; afterwards it is its holder's to finish.

use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use deferred_reactor::net::{
    ConnectionAborted, ConnectionDone, ConnectionLost, Protocol, Transport,
};
use deferred_reactor::time::TimeSource;
use deferred_reactor::{
    CancelledError, Canceller, Deferred, DelayedCall, Failure, ReactorTime, Resolver,
};
use http::{Method, StatusCode, header};

use super::http1::chunked::Decoder;
use super::http1::head::{Framing, Scan, Version};
use super::request::{Exchange, Finished, is_utf8};
use super::response::{ResponseHead, allow_value};
use super::site::Shared;
use super::{Rendered, Request, Resource, Response, pages};

/// How much may wait to be sent before the next request of a pipeline is looked at.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Bodies up to this size are copied behind their heads, and leave with them.
const COPIED_BYTES: usize = 4 * 1024;

/// Empty lines tolerated before a request line (RFC 9112, 2.2).
const EMPTY_LINES: u8 = 4;

/// How long a client that was refused may take to read why, before it is cut off.
const LINGER: Duration = Duration::from_secs(5);

/// How often a rendered resource may name another in its place.
const HOPS: usize = 32;

/// The reactor's end: hands everything to the channel.
pub(super) struct HttpProtocol(Rc<Channel>);

/// The state of one connection.
pub(super) struct Channel {
    shared: Rc<Shared>,
    transport: OnceCell<Transport>,
    clock: OnceCell<TimeSource>,
    phase: Cell<Phase>,
    /// What came and could not be used yet; empty, and without memory, most of the time.
    input: RefCell<Vec<u8>>,
    scan: Cell<Scan>,
    /// Empty lines since the last request.
    empty_lines: Cell<u8>,
    /// The request whose body is being received.
    incoming: Cell<Option<Box<Incoming>>>,
    /// The response that is being made.
    current: Cell<Current>,
    answer: Cell<Answer>,
    /// A request that was dropped while the answer is [`Answer::Ours`].
    returned: Cell<Option<Box<Exchange>>>,
    waiting: Cell<Option<Canceller>>,
    to_notify: Cell<Vec<Resolver<()>>>,
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
    version: Version,
    is_head: bool,
    closes: bool,
    sent: Sent,
}

/// How much of a response has gone out, and how its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    Chunked,
    /// So many bytes are to come, by the `Content-Length` that was set.
    Length(u64),
    /// The body ends with the connection.
    UntilClose,
    /// There is no body, whatever is written: HEAD, 204, 304.
    NoBody,
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
            input: RefCell::new(Vec::new()),
            scan: Cell::new(Scan::default()),
            empty_lines: Cell::new(0),
            incoming: Cell::new(None),
            current: Cell::new(Current::NONE),
            answer: Cell::new(Answer::Ours),
            returned: Cell::new(None),
            waiting: Cell::new(None),
            to_notify: Cell::new(Vec::new()),
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
        version: Version::Http11,
        is_head: false,
        closes: true,
        sent: Sent::Nothing,
    };
}

/// Receiving.
impl Channel {
    /// Takes what has come from the client.
    fn receive(self: &Rc<Self>, data: &[u8]) {
        match self.phase.get() {
            Phase::Closing | Phase::Gone => {}
            Phase::Answering => self.keep(data),
            Phase::Idle | Phase::Head | Phase::Body => {
                let mut input = self.input.take();
                if input.is_empty() {
                    let used = self.consume(data);
                    self.keep(&data[used..]);
                } else {
                    input.extend_from_slice(data);
                    let used = self.consume(&input);
                    input.drain(..used);
                    self.input.replace(input);
                    self.trim_input();
                    self.pace();
                }
            }
        }
    }

    /// Looks again at what was kept, once there is room for an answer.
    fn go_on(self: &Rc<Self>) {
        if self.is_consuming.get() {
            return;
        }
        self.receive(&[]);
        if self.has_ended.get() {
            self.input_ended();
        }
    }

    /// The client sends no more. It cannot be told apart from one that has gone, and Twisted takes
    /// it for one; but requests that wait only for earlier answers to be read get theirs first.
    fn input_ended(&self) {
        let waits_for_room = self.phase.get() == Phase::Idle
            && self.is_output_full()
            && !self.input.borrow().is_empty();
        self.has_ended.set(true);
        if !waits_for_room {
            self.transport().lose_connection();
        }
    }

    /// Keeps what cannot be used yet.
    fn keep(&self, data: &[u8]) {
        self.input.borrow_mut().extend_from_slice(data);
        self.pace();
    }

    /// Pauses the client while much is kept that has to wait, and for no longer: what is kept of a
    /// request that is still coming has limits of its own.
    fn pace(&self) {
        let has_to_wait = match self.phase.get() {
            Phase::Answering => true,
            Phase::Idle | Phase::Head => self.is_output_full(),
            Phase::Body | Phase::Closing | Phase::Gone => false,
        };
        let kept = self.input.borrow().len();
        let pauses = has_to_wait && kept > 0 && kept >= self.shared.limits.read_ahead_bytes;
        match (pauses, self.is_paused.replace(pauses)) {
            (true, false) => self.transport().pause_producing(),
            (false, true) => self.transport().resume_producing(),
            _ => {}
        }
    }

    /// Whether so much is to be sent that no further request is looked at.
    fn is_output_full(&self) -> bool {
        self.transport().buffered() > OUTPUT_BYTES
    }

    /// A quiet connection owns no buffer.
    fn trim_input(&self) {
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            *input = Vec::new();
        }
    }

    /// Uses as much as can be used; how much that was.
    fn consume(self: &Rc<Self>, data: &[u8]) -> usize {
        self.is_consuming.set(true);
        let mut used = 0;
        loop {
            let rest = &data[used..];
            if rest.is_empty() {
                break;
            }
            let step = match self.phase.get() {
                Phase::Idle | Phase::Head if self.is_output_full() => 0,
                Phase::Idle | Phase::Head => self.consume_head(rest),
                Phase::Body => self.consume_body(rest),
                Phase::Answering => 0,
                Phase::Closing | Phase::Gone => rest.len(),
            };
            used += step;
            if step == 0 {
                break;
            }
        }
        self.is_consuming.set(false);
        used
    }

    /// Uses a whole head, or nothing.
    fn consume_head(self: &Rc<Self>, data: &[u8]) -> usize {
        let limits = &self.shared.limits;
        let skipped = 2 * data.chunks(2).take_while(|line| line == b"\r\n").count();
        let lines = u8::try_from(skipped / 2).unwrap_or(u8::MAX);
        let empty_lines = self.empty_lines.get().saturating_add(lines);
        self.empty_lines.set(empty_lines);
        if empty_lines > EMPTY_LINES {
            return self.refuse(
                StatusCode::BAD_REQUEST,
                "nothing but empty lines came",
                data,
            );
        }
        let rest = &data[skipped..];
        if rest.is_empty() || rest == b"\r" {
            return skipped;
        }
        let is_new = self.phase.replace(Phase::Head) == Phase::Idle;
        let mut scan = if is_new {
            Scan::default()
        } else {
            self.scan.get()
        };
        let found = scan.find_end(rest, &limits.head);
        self.scan.set(scan);
        let length = match found {
            Ok(Some(length)) => length,
            Ok(None) => {
                if is_new {
                    // From the first byte on: later ones do not renew it.
                    self.expect_within(limits.header_timeout);
                }
                return skipped;
            }
            Err(error) => return self.refuse(error.status(), &error.to_string(), data),
        };
        self.empty_lines.set(0);
        let mut exchange = self.shared.take_exchange();
        if let Err(error) = exchange.head.read(&rest[..length], &limits.head) {
            self.shared.put_exchange(exchange);
            return self.refuse(error.status(), &error.to_string(), data);
        }
        self.begin(exchange);
        skipped + length
    }

    /// A head is complete: receives the body, or answers.
    fn begin(self: &Rc<Self>, exchange: Box<Exchange>) {
        let limits = &self.shared.limits;
        if exchange.head.has_escapes && !is_utf8(exchange.head.path()) {
            self.refuse(StatusCode::BAD_REQUEST, "the path is not UTF-8", &[]);
            return self.shared.put_exchange(exchange);
        }
        let left = match exchange.head.framing {
            Framing::None => return self.dispatch(exchange),
            Framing::Length(length) if length > limits.body_bytes as u64 => {
                let message = format!(
                    "the request body is larger than {} bytes",
                    limits.body_bytes
                );
                self.refuse(StatusCode::PAYLOAD_TOO_LARGE, &message, &[]);
                return self.shared.put_exchange(exchange);
            }
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Decoder::new()),
        };
        if exchange.head.expects_continue {
            self.transport().write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.phase.set(Phase::Body);
        self.expect_within(limits.body_timeout);
        self.incoming.replace(Some(Box::new(Incoming {
            exchange,
            body: Vec::new(),
            left,
        })));
    }

    /// Uses what belongs to the body.
    fn consume_body(self: &Rc<Self>, data: &[u8]) -> usize {
        let Some(mut incoming) = self.incoming.take() else {
            return 0;
        };
        let (used, is_complete) = match &mut incoming.left {
            Left::Length(left) => {
                let used = usize::try_from(*left).map_or(data.len(), |left| left.min(data.len()));
                incoming.body.extend_from_slice(&data[..used]);
                *left -= used as u64;
                (used, *left == 0)
            }
            Left::Chunked(decoder) => {
                let limit = self.shared.limits.body_bytes;
                match decoder.decode(data, &mut incoming.body, limit) {
                    Ok(used) => (used, decoder.is_done()),
                    Err(error) => {
                        self.shared.put_exchange(incoming.exchange);
                        return self.refuse(error.status(), &error.to_string(), data);
                    }
                }
            }
        };
        if is_complete {
            let mut exchange = incoming.exchange;
            exchange.body = Bytes::from(incoming.body);
            self.dispatch(exchange);
        } else {
            self.incoming.replace(Some(incoming));
        }
        used
    }

    /// Answers what cannot be understood, and ends the connection. Uses up all of `data`.
    fn refuse(self: &Rc<Self>, status: StatusCode, message: &str, data: &[u8]) -> usize {
        log::debug!(target: "web", "refused with {status}: {message}");
        let page = pages::page(status, message);
        self.current.set(Current {
            closes: true,
            ..Current::NONE
        });
        self.write_whole(&page.head, &page.body);
        self.close_gently(LINGER);
        data.len()
    }

    /// Closes our side once everything is sent, and the connection when the client does, or when
    /// `patience` ends.
    ///
    /// The client may be sending still. Closing at once would reset the connection, and with it
    /// the answer on its way (RFC 9112, 9.6); so what comes is thrown away for a while.
    fn close_gently(self: &Rc<Self>, patience: Duration) {
        self.phase.set(Phase::Closing);
        self.input.take();
        self.pace();
        self.unsent.set(self.transport().buffered());
        self.transport().lose_write_connection();
        self.expect_within(Some(patience));
    }
}

/// Time.
impl Channel {
    /// Gives the phase at hand so long, from now; `None` is for ever.
    fn expect_within(self: &Rc<Self>, time: Option<Duration>) {
        let call = match (time, self.deadline.take(), self.clock.get()) {
            (Some(time), Some(call), Some(clock))
                if call.reset_at(clock.turn_time() + time).is_ok() =>
            {
                Some(call)
            }
            (Some(time), _, Some(clock)) => {
                let channel = Rc::downgrade(self);
                Some(clock.call_later(time, move || {
                    if let Some(channel) = channel.upgrade() {
                        channel.expired();
                    }
                }))
            }
            (_, call, _) => {
                // It may have been made: this is called from it as well.
                let _ = call.map(|call| call.cancel());
                None
            }
        };
        self.deadline.set(call);
    }

    /// The time for the phase at hand is over.
    fn expired(self: &Rc<Self>) {
        let limits = &self.shared.limits;
        match self.phase.get() {
            // A request that is being handled takes as long as it takes.
            Phase::Answering | Phase::Gone => {}
            Phase::Idle | Phase::Closing if self.is_reading_still() => {
                self.expect_within(Some(limits.abort_timeout));
            }
            Phase::Idle => {
                self.phase.set(Phase::Closing);
                self.transport().lose_connection();
                self.expect_within(Some(limits.abort_timeout));
            }
            Phase::Head | Phase::Body => {
                if let Some(incoming) = self.incoming.take() {
                    self.shared.put_exchange(incoming.exchange);
                }
                self.refuse(
                    StatusCode::REQUEST_TIMEOUT,
                    "the request took too long to come",
                    &[],
                );
            }
            Phase::Closing => self.transport().abort_connection(),
        }
    }

    /// Whether the client takes what was sent to it, if slowly. Asked once a deadline.
    fn is_reading_still(&self) -> bool {
        let unsent = self.transport().buffered();
        let before = self.unsent.replace(unsent);
        unsent > 0 && unsent < before
    }
}

/// Answering.
impl Channel {
    /// Renders a complete request.
    fn dispatch(self: &Rc<Self>, mut exchange: Box<Exchange>) {
        let id = self.shared.next_id.get();
        self.shared.next_id.set(id + 1);
        exchange.id = id;
        let head = &exchange.head;
        self.current.set(Current {
            id,
            version: head.version,
            is_head: head.method == Method::HEAD,
            closes: head.closes,
            sent: Sent::Nothing,
        });
        self.phase.set(Phase::Answering);
        self.answer.set(Answer::Ours);
        let is_for_server = head.target() == "*" || head.method == Method::CONNECT;
        let request = Request::new(exchange, self.clone());
        let rendered = if is_for_server {
            Ok(answer_for_server(request))
        } else {
            self.render(self.shared.root.clone(), request)
        };
        self.settle(id, rendered, HOPS);
    }

    /// Walks down from `start` and renders what is found there. A panic becomes a failure.
    fn render(
        self: &Rc<Self>,
        start: Rc<dyn Resource>,
        request: Request,
    ) -> Result<Rendered, Failure> {
        // Unwind safety: the request comes back through its drop, and what a resource shares with
        // others is its own to mind.
        catch_unwind(AssertUnwindSafe(|| {
            let Some(resource) = Shared::find(start, &request) else {
                return pages::not_found().render(request);
            };
            match resource.render(request) {
                Rendered::NotAllowed => self.not_allowed(&*resource),
                rendered => rendered,
            }
        }))
        .map_err(Failure::from_panic)
    }

    /// The page for a method that a resource does not have (RFC 9110, 15.5.6).
    fn not_allowed(&self, resource: &dyn Resource) -> Rendered {
        let mut methods = resource.allowed_methods();
        let Some(exchange) = self.returned.take() else {
            return Failure::message("a resource refused the method of a request and kept it")
                .into();
        };
        let (method, target) = (&exchange.head.method, exchange.head.target());
        // It just said that it does not have this one.
        methods.retain(|known| known != method);
        let message = format!(
            "{target} does not take {method}, but {}.",
            allow_value(&methods)
        );
        self.returned.set(Some(exchange));
        pages::page(StatusCode::METHOD_NOT_ALLOWED, &message)
            .with_allow(&methods)
            .into()
    }

    /// Does what `render` returned asks for. `hops` is how many more resources may be named.
    fn settle(self: &Rc<Self>, id: u64, rendered: Result<Rendered, Failure>, hops: usize) {
        let mut rendered = rendered;
        for hops in (0..hops).rev() {
            if !self.is_current(id) {
                // Finished before `render` returned, or the client has gone.
                return log_late_failure(&rendered);
            }
            match rendered {
                Err(failure) | Ok(Rendered::Failed(failure)) => return self.fail(&failure),
                Ok(Rendered::Response(response)) => {
                    let exchange = self.reclaim(id);
                    self.respond(exchange, response);
                    return;
                }
                Ok(Rendered::NotAllowed) => {
                    return self.fail(&Failure::message("NotAllowed has no resource to ask"));
                }
                Ok(Rendered::NotDoneYet) => {
                    self.answer.set(Answer::TheHolders);
                    if let Some(exchange) = self.returned.take() {
                        self.abandoned(exchange);
                    }
                    return;
                }
                Ok(Rendered::Deferred(deferred)) => {
                    return self.wait_for(id, deferred.map(Rendered::Response), hops);
                }
                Ok(Rendered::DeferredResource(deferred)) => {
                    return self.wait_for(id, deferred.map(Rendered::Resource), hops);
                }
                Ok(Rendered::Resource(resource)) => {
                    let Some(exchange) = self.returned.take() else {
                        let message = "a resource named another for a request and kept it";
                        return self.fail(&Failure::message(message));
                    };
                    rendered = self.render(resource, Request::new(exchange, self.clone()));
                }
            }
        }
        if self.is_current(id) {
            self.fail(&Failure::message("resources name each other in a circle"));
        }
    }

    fn wait_for(self: &Rc<Self>, id: u64, deferred: Deferred<Rendered>, hops: usize) {
        self.waiting.set(Some(deferred.canceller()));
        let channel = self.clone();
        drop(deferred.add_both(move |result| {
            channel.waiting.take();
            channel.settle(id, result, hops);
            Ok(())
        }));
    }

    /// The request that was dropped by `render`; a bare one if it is held somewhere.
    fn reclaim(&self, id: u64) -> Box<Exchange> {
        self.returned.take().unwrap_or_else(|| {
            let mut exchange = self.shared.take_exchange();
            exchange.id = id;
            exchange
        })
    }

    /// A [`Request`] was dropped unfinished.
    pub(super) fn dropped(self: &Rc<Self>, exchange: Box<Exchange>) {
        if !self.is_current(exchange.id) {
            return self.shared.put_exchange(exchange);
        }
        match self.answer.get() {
            Answer::Ours => {
                self.returned.replace(Some(exchange));
            }
            Answer::TheHolders => self.abandoned(exchange),
        }
    }

    fn abandoned(self: &Rc<Self>, exchange: Box<Exchange>) {
        let (method, target) = (&exchange.head.method, exchange.head.target());
        let failure = Failure::message(format!(
            "the request {method} {target} was dropped without being finished"
        ));
        self.returned.replace(Some(exchange));
        self.fail(&failure);
    }

    /// Answers the current request with a page that says it failed, or cuts it off if it is too
    /// late for that.
    fn fail(self: &Rc<Self>, failure: &Failure) {
        log::error!(target: "web", "a request failed: {failure:#?}");
        let current = self.current.get();
        let mut exchange = self.reclaim(current.id);
        if current.sent != Sent::Nothing {
            return self.cut_off(exchange);
        }
        exchange.response.clear();
        let text;
        let message = if self.shared.displays_tracebacks {
            text = format!("{failure:#?}");
            &text
        } else {
            "Sorry, this went wrong on our side."
        };
        self.respond(
            exchange,
            pages::page(StatusCode::INTERNAL_SERVER_ERROR, message),
        );
    }

    /// Ends the connection in the middle of a response. Nothing that follows is looked at.
    fn cut_off(&self, exchange: Box<Exchange>) {
        self.shared.put_exchange(exchange);
        self.phase.set(Phase::Closing);
        self.transport().abort_connection();
    }

    /// Whether this is the request that is being answered.
    pub(super) fn is_current(&self, id: u64) -> bool {
        self.phase.get() == Phase::Answering && self.current.get().id == id
    }

    pub(super) fn notify_finish(&self, id: u64) -> Deferred<()> {
        if !self.is_current(id) {
            return Deferred::fail(super::ClientGoneError);
        }
        let (deferred, resolver) = Deferred::pending();
        let mut to_notify = self.to_notify.take();
        to_notify.push(resolver);
        self.to_notify.set(to_notify);
        deferred
    }

    /// The connection is gone, and with it the request that was being answered.
    fn lost(&self, reason: &Failure) {
        self.phase.set(Phase::Gone);
        if let Some(call) = self.deadline.take() {
            let _ = call.cancel();
        }
        self.incoming.take();
        self.input.take();
        if let Some(exchange) = self.returned.take() {
            self.shared.put_exchange(exchange);
        }
        if let Some(canceller) = self.waiting.take() {
            canceller.cancel();
        }
        for resolver in self.to_notify.take() {
            let _ = resolver.errback(same_reason(reason));
        }
    }

    pub(super) fn transport(&self) -> &Transport {
        self.transport
            .get()
            .expect("a connection is made before anything happens on it")
    }
}

/// Sending.
impl Channel {
    /// Writes a part of a body; the first one sends the head.
    pub(super) fn write(&self, exchange: &mut Exchange, data: &[u8]) {
        if !self.is_current(exchange.id) || data.is_empty() {
            return;
        }
        if self.current.get().sent == Sent::Nothing {
            self.write_head(&exchange.response, None, &[]);
            // What follows comes in small pieces, which should not wait for one another.
            self.transport().set_tcp_no_delay(true);
        }
        let mut current = self.current.get();
        match &mut current.sent {
            Sent::Nothing | Sent::NoBody => {}
            Sent::UntilClose => self.transport().write(data),
            Sent::Chunked => self.transport().write_with(|out| {
                let mut size = [0; 16];
                out.extend_from_slice(hexadecimal(data.len(), &mut size));
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }),
            Sent::Length(left) => {
                let room = usize::try_from(*left).unwrap_or(usize::MAX);
                if data.len() > room {
                    log::error!(
                        target: "web",
                        "{} {}: {} bytes more than its content-length were not sent",
                        exchange.head.method,
                        exchange.head.target(),
                        data.len() - room
                    );
                }
                let data = &data[..data.len().min(room)];
                *left -= data.len() as u64;
                self.transport().write(data);
            }
        }
        self.current.set(current);
    }

    /// Completes a response that was written in parts, or not at all.
    pub(super) fn finish(self: &Rc<Self>, exchange: Box<Exchange>) -> Finished {
        if !self.is_current(exchange.id) {
            self.shared.put_exchange(exchange);
            return Finished(false);
        }
        match self.current.get().sent {
            Sent::Nothing => self.write_whole(&exchange.response, &Bytes::new()),
            Sent::Chunked => self.transport().write(b"0\r\n\r\n"),
            Sent::Length(left) if left > 0 => {
                log::error!(
                    target: "web",
                    "{} {}: finished {left} bytes short of its content-length",
                    exchange.head.method,
                    exchange.head.target()
                );
                // Only a broken connection tells the client that this is not all.
                self.cut_off(exchange);
                return Finished(true);
            }
            Sent::Length(_) | Sent::UntilClose | Sent::NoBody => {}
        }
        self.complete(exchange);
        Finished(true)
    }

    /// Answers with a whole response.
    pub(super) fn respond(
        self: &Rc<Self>,
        mut exchange: Box<Exchange>,
        response: Response,
    ) -> Finished {
        if !self.is_current(exchange.id) {
            self.shared.put_exchange(exchange);
            return Finished(false);
        }
        if self.current.get().sent != Sent::Nothing {
            self.write(&mut exchange, &response.body);
            return self.finish(exchange);
        }
        exchange.response.merge(response.head);
        self.write_whole(&exchange.response, &response.body);
        self.complete(exchange);
        Finished(true)
    }

    /// The response is complete: the next request may come.
    fn complete(self: &Rc<Self>, exchange: Box<Exchange>) {
        self.shared.put_exchange(exchange);
        if self.current.get().closes {
            self.close_gently(self.shared.limits.abort_timeout);
        } else {
            self.phase.set(Phase::Idle);
            self.unsent.set(usize::MAX);
            self.expect_within(self.shared.limits.keep_alive);
            // Not from here: whoever finishes a request does not expect to handle the next one.
            if !self.is_consuming.get()
                && !self.input.borrow().is_empty()
                && let Some(clock) = self.clock.get()
            {
                let channel = self.clone();
                clock.call_later(Duration::ZERO, move || channel.go_on());
            }
        }
        for resolver in self.to_notify.take() {
            let _ = resolver.callback(());
        }
    }

    /// Sends a head and, where there may be one, a body.
    fn write_whole(&self, head: &ResponseHead, body: &Bytes) {
        let length = Some(body.len());
        if body.len() > COPIED_BYTES {
            self.write_head(head, length, &[]);
            if self.current.get().sent != Sent::NoBody {
                self.transport().write_bytes(body.clone());
            }
        } else {
            self.write_head(head, length, body);
        }
    }

    /// Sends a head. `length` is that of a body that is known as a whole; if it is small, it may
    /// come along as `body`, to be copied behind the head where there may be one.
    fn write_head(&self, head: &ResponseHead, length: Option<usize>, body: &[u8]) {
        let mut current = self.current.get();
        let has_no_body = matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        let declared = head
            .get(&header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let closing = head.get(&header::CONNECTION);
        current.closes |=
            closing.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        // For HEAD, a resource may know the length of a body that it did not make.
        let length = match (length, declared) {
            (Some(0), Some(declared)) if current.is_head => Some(declared),
            (Some(length), _) => Some(length as u64),
            (None, declared) => declared,
        };
        current.sent = match length {
            _ if has_no_body => Sent::NoBody,
            Some(length) => Sent::Length(length),
            None if current.version == Version::Http11 => Sent::Chunked,
            None => {
                current.closes = true;
                Sent::UntilClose
            }
        };
        self.transport().write_with(|out| {
            write_status_line(out, head.status);
            if let Some(clock) = self.clock.get() {
                self.shared.write_date(out, clock.turn_time());
            }
            let mut has_type = has_no_body || length == Some(0);
            for (name, value) in head.fields() {
                match *name {
                    // Ours to say.
                    header::CONTENT_LENGTH
                    | header::TRANSFER_ENCODING
                    | header::CONNECTION
                    | header::DATE => continue,
                    header::CONTENT_TYPE => has_type = true,
                    _ => {}
                }
                write_field(out, name.as_str(), value.as_bytes());
            }
            if !has_type {
                out.extend_from_slice(b"Content-Type: text/html\r\n");
            }
            match current.sent {
                Sent::Length(length) => {
                    out.extend_from_slice(b"Content-Length: ");
                    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                Sent::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
                Sent::Nothing | Sent::UntilClose | Sent::NoBody => {}
            }
            if current.closes {
                out.extend_from_slice(b"Connection: close\r\n");
            }
            out.extend_from_slice(b"\r\n");
            if !has_no_body && !current.is_head {
                out.extend_from_slice(body);
            }
        });
        if current.is_head {
            current.sent = Sent::NoBody;
        }
        self.current.set(current);
    }
}

/// Tells of a failure that nobody is left to be answered with.
fn log_late_failure(rendered: &Result<Rendered, Failure>) {
    if let Err(failure) | Ok(Rendered::Failed(failure)) = rendered
        && !failure.is::<CancelledError>()
    {
        log::error!(target: "web", "a request failed after its end: {failure:#?}");
    }
}

/// Answers what is asked of the server itself: `OPTIONS *`, and nothing else.
fn answer_for_server(request: Request) -> Rendered {
    if *request.method() == Method::OPTIONS {
        return ().into();
    }
    let message = format!("The server as a whole does not take {}.", request.method());
    pages::page(StatusCode::METHOD_NOT_ALLOWED, &message)
        .with_allow(&[Method::OPTIONS])
        .into()
}

fn write_status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = status.canonical_reason().unwrap_or("Unknown Status");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a field with its name in the usual capitals, which some clients still look for.
fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    match name {
        "etag" => out.extend_from_slice(b"ETag"),
        "www-authenticate" => out.extend_from_slice(b"WWW-Authenticate"),
        _ => {
            let mut starts = true;
            out.extend(name.bytes().map(|byte| {
                let starts_here = std::mem::replace(&mut starts, byte == b'-');
                if starts_here {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                }
            }));
        }
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn hexadecimal(number: usize, buffer: &mut [u8; 16]) -> &[u8] {
    let mut at = buffer.len();
    let mut left = number;
    loop {
        at -= 1;
        buffer[at] = b"0123456789abcdef"[left % 16];
        left /= 16;
        if left == 0 {
            return &buffer[at..];
        }
    }
}

/// The reason that a connection was lost, once more: each of those who wait for it gets its own.
fn same_reason(reason: &Failure) -> Failure {
    if reason.is::<ConnectionDone>() {
        ConnectionDone::default().into()
    } else if reason.is::<ConnectionAborted>() {
        ConnectionAborted::default().into()
    } else if let Some(lost) = reason.check::<ConnectionLost>() {
        lost.again().into()
    } else {
        Failure::message(reason.to_string())
    }
}
