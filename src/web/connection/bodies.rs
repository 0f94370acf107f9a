//! What becomes of the bodies of requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use deferred_reactor::ReactorTime;
use http::Method;

use super::deadlines::LINGER;
use super::incoming::{Incoming, Left, Pace, Sink};
use super::{Connection, Receiving, Replying, Sent};
use crate::http1::{ChunkLimits, Decoder, Framing, Reason, Refusal, encode};
use crate::web::body::{Feeder, Pipe};
use crate::web::request::Exchange;
use crate::web::site::SiteCore;
use crate::web::{Body, BodyError, BodyPolicy, RefusalReason, Request, Resource};

impl Connection {
    /// A head is complete that has a body behind it: finds the resource, and does with the body
    /// what that wants.
    pub(super) fn begin_body(self: &Rc<Self>, exchange: Box<Exchange>) {
        let (id, limits) = (exchange.id, &self.site.limits);
        exchange.head.body_limit.set(limits.body_bytes);
        let wire = &exchange.head.wire;
        let Some(clock) = self.clock.get() else {
            return;
        };
        // Until it is known better.
        self.incoming.set(Some(Box::new(Incoming {
            id,
            left: match wire.framing {
                Framing::Length(length) => Left::Length(length),
                Framing::None | Framing::Chunked => {
                    Left::Chunked(Box::new(Decoder::new(ChunkLimits::default())))
                }
            },
            sink: Sink::Discard(limits.discard_bytes),
            is_awaited: wire.expects_continue,
            source: Bytes::new(),
            received: 0,
            max_bytes: u64::MAX,
            deadline: None,
            pace: Pace::new(clock.turn_time()),
        })));
        self.receiving.set(Receiving::Body);
        self.body_has_room();
        if exchange.head.is_for_server() {
            return self.dispatch(exchange);
        }
        let request = Request::new(exchange, self.clone());
        let settled = catch_unwind(AssertUnwindSafe(|| {
            let resource = SiteCore::find(self.site.root.clone(), &request)?;
            let policy = resource.body_policy(request.head());
            Some((resource, policy))
        }));
        // It comes back, unless somebody has answered it.
        drop(request);
        if !self.is_replying_to(id) {
            return;
        }
        match settled {
            Ok(Some((resource, policy))) => self.follow(id, resource, policy),
            Ok(None) => {
                let rendered = self.render_found(None, self.reclaim(id));
                self.settle(id, rendered);
            }
            Err(payload) => self.settle(id, Err(self.panicked(payload, ""))),
        }
    }

    fn follow(self: &Rc<Self>, id: u64, resource: Rc<dyn Resource>, policy: BodyPolicy) {
        let exchange = self.reclaim(id);
        let (max_bytes, streams) = match policy {
            BodyPolicy::Refuse => {
                let rendered = self.render_found(Some(resource), exchange);
                return self.settle(id, rendered);
            }
            BodyPolicy::Collect { max_bytes } => (max_bytes, false),
            BodyPolicy::Stream { max_bytes } => (max_bytes, true),
        };
        self.route_found_of(&exchange.head);
        let length = self.look_at_incoming(|incoming| {
            incoming.max_bytes = max_bytes;
            incoming.length().unwrap_or(0)
        });
        let is_too_long = length.is_some_and(|length| length > max_bytes);
        if (is_too_long || exchange.head.wire.expects_continue)
            && !is_listed(&*resource, exchange.head.method())
        {
            let methods = resource.allowed_methods();
            self.returned.set(Some(exchange));
            return self.settle(id, Ok(self.not_allowed(methods)));
        }
        if is_too_long {
            self.returned.set(Some(exchange));
            return self.answer_refusal(
                RefusalReason::BodyTooLarge,
                format!("The body is longer than {max_bytes} bytes."),
            );
        }
        match streams {
            true => self.stream_body(exchange, resource),
            false => self.collect_body(exchange, resource),
        }
    }

    /// Receives the body first.
    fn collect_body(self: &Rc<Self>, exchange: Box<Exchange>, resource: Rc<dyn Resource>) {
        let limits = &self.site.limits;
        let now = self.clock.get().map(|clock| clock.turn_time());
        let deadline = now.and_then(|now| now.checked_add(limits.body_timeout?));
        let is_awaited = self.look_at_incoming(|incoming| {
            incoming.sink = Sink::Collect {
                body: Vec::new(),
                exchange,
                resource,
            };
            incoming.deadline = deadline;
            std::mem::take(&mut incoming.is_awaited)
        });
        if is_awaited == Some(true) {
            self.transport().write(encode::CONTINUE);
        }
        self.expect_body();
    }

    /// Has the resource render, and read the body as it comes.
    fn stream_body(self: &Rc<Self>, mut exchange: Box<Exchange>, resource: Rc<dyn Resource>) {
        let id = exchange.id;
        let feeder: Rc<dyn Feeder> = self.clone();
        let pipe = Pipe::new(Rc::downgrade(&feeder), id, exchange.head.declared_length());
        exchange.stream = Some(Body::from_pipe(pipe.clone(), self.transport.get().cloned()));
        self.look_at_incoming(|incoming| incoming.sink = Sink::Stream(pipe));
        self.transport().receive_bytes(true);
        self.expect_body();
        let rendered = self.render_found(Some(resource), exchange);
        self.settle(id, rendered);
    }

    /// Uses what belongs to the body.
    pub(super) fn consume_body(self: &Rc<Self>, data: &[u8]) -> usize {
        let Some(mut incoming) = self.incoming.take() else {
            return 0;
        };
        if !incoming.has_room() {
            self.incoming.set(Some(incoming));
            return 0;
        }
        let before = incoming.received;
        let step = match incoming.decode(data) {
            Ok(step) => step,
            Err(refusal) => {
                self.body_refused(*incoming, &refusal);
                return data.len();
            }
        };
        self.count_in(incoming.received - before);
        if incoming.is_complete() {
            self.body_is_complete(*incoming, step.content);
            return step.used;
        }
        let pipe = match &incoming.sink {
            Sink::Stream(pipe) if !step.content.is_empty() => Some(pipe.clone()),
            _ => None,
        };
        self.incoming.set(Some(incoming));
        if let Some(pipe) = pipe {
            pipe.push(step.content);
        } else {
            self.close_if_discarded_enough();
        }
        step.used
    }

    fn body_is_complete(self: &Rc<Self>, incoming: Incoming, content: Bytes) {
        let trailers = incoming.trailers();
        let is_answered = !self.is_replying();
        self.receiving.set(match is_answered {
            true => Receiving::Idle,
            false => Receiving::Waiting,
        });
        match incoming.sink {
            Sink::Collect {
                body,
                mut exchange,
                resource,
            } => {
                exchange.body = body.into();
                exchange.trailers = trailers;
                let rendered = self.render_found(Some(resource), exchange);
                self.settle(incoming.id, rendered);
            }
            Sink::Stream(pipe) => {
                self.transport().receive_bytes(false);
                pipe.set_trailers(trailers);
                if !content.is_empty() {
                    pipe.push(content);
                }
                pipe.end(Ok(()));
            }
            Sink::Discard(_) if is_answered => self.expect_request(),
            Sink::Discard(_) => {}
        }
        self.await_last_answers();
    }

    /// The body cannot be understood, or is longer than allowed. Nothing behind it can be used.
    fn body_refused(self: &Rc<Self>, incoming: Incoming, refusal: &Refusal) {
        let reason = RefusalReason::from(refusal.reason());
        let error = match refusal.reason() {
            Reason::BodyTooLarge => BodyError::TooLarge {
                limit: incoming.max_bytes,
            },
            _ => BodyError::Malformed {
                received: incoming.received,
                reason: refusal.to_string(),
            },
        };
        let message = match &error {
            BodyError::TooLarge { limit } => format!("The body is longer than {limit} bytes."),
            _ => format!("The body is malformed: {refusal}."),
        };
        self.body_fails(incoming, reason, error, message);
    }

    /// The body ends before its end. Whoever reads it fails; who has not begun to answer says why.
    pub(super) fn body_fails(
        self: &Rc<Self>,
        incoming: Incoming,
        reason: RefusalReason,
        error: BodyError,
        message: String,
    ) {
        self.receiving.set(Receiving::Discarding);
        let mut current = self.current.get();
        current.closes = true;
        self.current.set(current);
        match incoming.sink {
            Sink::Collect { exchange, .. } => {
                self.returned.set(Some(exchange));
                self.answer_refusal(reason, message);
            }
            Sink::Stream(pipe) => {
                self.count_refusal(reason);
                pipe.end(Err(error));
            }
            Sink::Discard(_) => {
                self.count_refusal(reason);
                if !self.is_replying() {
                    self.close(false, LINGER);
                }
            }
        }
    }

    /// The client has ended in the middle of a body.
    pub(super) fn body_breaks_off(self: &Rc<Self>) {
        if let Some(incoming) = self.incoming.take() {
            self.receiving.set(Receiving::Discarding);
            let error = incoming.truncated();
            match incoming.sink {
                Sink::Stream(pipe) => pipe.end(Err(error)),
                Sink::Collect { exchange, .. } => self.returned.set(Some(exchange)),
                Sink::Discard(_) => {}
            }
        }
        self.transport().lose_connection();
    }

    /// Whether the body can be received further. The time of a client that cannot send does not
    /// count.
    pub(super) fn body_has_room(&self) -> bool {
        let now = self.clock.get().map(|clock| clock.turn_time());
        self.look_at_incoming(|incoming| {
            if let Some(now) = now {
                incoming.keep_pace(now);
            }
            incoming.has_room()
        })
        .unwrap_or(true)
    }

    pub(super) fn look_at_incoming<R>(&self, look: impl FnOnce(&mut Incoming) -> R) -> Option<R> {
        let mut incoming = self.incoming.take()?;
        let seen = look(&mut incoming);
        self.incoming.set(Some(incoming));
        Some(seen)
    }

    /// Whether the connection has to close behind a response, as its client may not send the body,
    /// or sends more of it than is worth waiting for. `is_whole` says that the response is complete, so
    /// the body is no longer read.
    pub(super) fn closes_for_body(&self, is_whole: bool) -> bool {
        let limit = self.site.limits.discard_bytes;
        self.look_at_incoming(|incoming| {
            let room = match &incoming.sink {
                Sink::Discard(left) => *left,
                _ if is_whole => limit,
                _ => u64::MAX,
            };
            // A body of unknown length has at least an end to be read.
            incoming.is_awaited || incoming.missing().unwrap_or(1) > room
        })
        .unwrap_or(false)
    }

    /// The response is complete before the body is: what is left of that is thrown away.
    pub(super) fn discard_body(self: &Rc<Self>) {
        let reader = self.take_reader();
        self.expect_within(Some(self.site.limits.discard_timeout));
        self.pace();
        self.close_if_discarded_enough();
        reader.tell();
    }

    /// Has the rest of the body thrown away. Gives back the pipe of the program that reads it, if there is
    /// one, to be ended last.
    pub(super) fn take_reader(&self) -> Reader {
        let limit = self.site.limits.discard_bytes;
        let reader = self.look_at_incoming(|incoming| {
            if let Sink::Discard(_) = incoming.sink {
                return None;
            }
            match std::mem::replace(&mut incoming.sink, Sink::Discard(limit)) {
                Sink::Stream(pipe) => Some((pipe, incoming.received)),
                _ => None,
            }
        });
        self.transport().receive_bytes(false);
        Reader(reader.flatten())
    }

    /// Closes the connection if more of an unread body has come than is worth reading, and its
    /// request is answered.
    pub(super) fn close_if_discarded_enough(self: &Rc<Self>) {
        if self.replying.get() == Replying::Idle && !self.body_has_room() {
            self.close(false, LINGER);
        }
    }
}

/// The reader of a body whose request is answered, and how much of it had come.
#[must_use = "its callbacks run when it is told"]
pub(super) struct Reader(Option<(Rc<Pipe>, u64)>);

impl Reader {
    /// Says that nothing more will come. The reader's callbacks run here, so the connection has to
    /// be done with the response.
    pub(super) fn tell(self) {
        if let Some((pipe, received)) = self.0 {
            pipe.end(Err(BodyError::Answered { received }));
        }
    }
}

impl Incoming {
    /// The error of a body that breaks off here.
    pub(super) fn truncated(&self) -> BodyError {
        BodyError::Truncated {
            received: self.received,
            length: self.length(),
        }
    }
}

impl Feeder for Connection {
    fn wanted(self: Rc<Self>, id: u64) {
        let is_awaited = self.look_at_incoming(|incoming| {
            incoming.id == id && std::mem::take(&mut incoming.is_awaited)
        });
        if is_awaited == Some(true) && self.current.get().body == Sent::Nothing {
            self.transport().write(encode::CONTINUE);
        }
        self.pace();
        self.go_on_soon();
    }

    fn unwanted(self: Rc<Self>, id: u64) {
        let limit = self.site.limits.discard_bytes;
        let dropped = self.look_at_incoming(|incoming| {
            let is_it = incoming.id == id && matches!(incoming.sink, Sink::Stream(_));
            is_it.then(|| std::mem::replace(&mut incoming.sink, Sink::Discard(limit)))
        });
        if let Some(Some(_)) = dropped {
            self.pace();
            self.go_on_soon();
        }
    }
}

/// Whether a resource may have a method.
fn is_listed(resource: &dyn Resource, method: &Method) -> bool {
    let listed = resource.allowed_methods();
    // GET alone is what a resource says that has not thought about it.
    resource.has_routes()
        || listed == [Method::GET]
        || listed.contains(method)
        || *method == Method::HEAD && listed.contains(&Method::GET)
}
