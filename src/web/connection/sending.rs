//! Responses on their way out: heads, parts and ends.

use std::rc::Rc;

use bytes::Bytes;
use deferred_reactor::net::Transport;
use deferred_reactor::{Deferred, Failure, ReactorTime};
use http::{StatusCode, header};

use super::deadlines::LINGER;
use super::{Answer, Connection, Receiving, Replying, Sent};
use crate::http1::{BodyFraming, Reply, encode};
use crate::web::carrier::{Carrier, Event, Upgrade};
use crate::web::request::{Exchange, Finished};
use crate::web::response::{Content, ResponseHead};
use crate::web::{
    ClientGoneError, RefusalReason, Rendered, RequestHead, RequestOutcome, Response, conditional,
};

/// Bodies up to this size are copied behind their heads, and leave with them.
const COPIED_BYTES: usize = 4 * 1024;

/// How a response is to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// The length of the body, where it is known.
    pub(super) length: Option<u64>,
    /// The response is complete with this call, so the request's body is no longer read.
    pub(super) is_whole: bool,
}

impl Carrier for Connection {
    fn is_current(&self, id: u64) -> bool {
        self.is_replying_to(id)
    }

    fn write(&self, exchange: &mut Exchange, data: &[u8]) {
        if !self.is_replying_to(exchange.id) || data.is_empty() {
            return;
        }
        self.count_parts();
        self.begin_parts(exchange, None);
        self.write_part(&exchange.head, data);
        self.limit_parts();
    }

    fn finish(self: Rc<Self>, exchange: Box<Exchange>) -> Finished {
        if !self.is_replying_to(exchange.id) {
            self.site.spares.put_exchange(exchange);
            return Finished(false);
        }
        match self.current.get().body {
            Sent::Nothing => self.write_whole(&exchange, &Bytes::new()),
            Sent::Head(BodyFraming::Chunked) => self.transport().write(encode::LAST_CHUNK),
            Sent::Head(BodyFraming::Length(left)) if left > 0 => {
                crate::logging::error!(
                    target: "web",
                    "{} {}: finished {left} bytes short of its content-length, so the connection is \
                     cut off",
                    exchange.head.method(),
                    exchange.head.target()
                );
                self.has_outcome(RequestOutcome::Failed);
                // Only a broken connection tells the client that this is not all.
                self.cut_off(exchange);
                return Finished(false);
            }
            Sent::Head(_) => {}
        }
        self.complete(exchange);
        Finished(true)
    }

    fn respond(self: Rc<Self>, exchange: Box<Exchange>, response: Response) -> Finished {
        self.send_response(exchange, response)
    }

    fn dropped(self: Rc<Self>, exchange: Box<Exchange>) {
        if !self.is_replying_to(exchange.id) {
            return self.site.spares.put_exchange(exchange);
        }
        match self.answer.get() {
            Answer::Ours => {
                self.returned.replace(Some(exchange));
            }
            Answer::TheHolders => self.abandoned(exchange),
        }
    }

    fn route_found(&self, head: &RequestHead) {
        self.route_found_of(head);
    }

    fn notify(&self, id: u64, event: Event) -> Deferred<()> {
        if !self.is_replying_to(id) {
            return Deferred::fail(ClientGoneError);
        }
        if event == Event::Drained && self.transport().buffered() == 0
            || event == Event::SiteDrains && self.site.live.is_draining()
        {
            return Deferred::succeed(());
        }
        if event == Event::Drained {
            self.transport().notify_drained();
        }
        let (deferred, resolver) = Deferred::pending();
        self.with_extra(|extra| {
            match event {
                Event::Finished => &mut extra.to_notify,
                Event::Drained => &mut extra.drained,
                Event::SiteDrains => &mut extra.site_drains,
            }
            .push(resolver);
        });
        deferred
    }

    fn upgrade(self: Rc<Self>, exchange: Box<Exchange>, upgrade: Upgrade) -> Rendered {
        self.begin_upgrade(exchange, upgrade)
    }

    fn transport(&self) -> Option<&Transport> {
        self.transport.get()
    }
}

impl Connection {
    /// Answers with a whole response, or one that streams.
    pub(super) fn send_response(
        self: Rc<Self>,
        mut exchange: Box<Exchange>,
        mut response: Response,
    ) -> Finished {
        if !self.is_replying_to(exchange.id) {
            self.site.spares.put_exchange(exchange);
            return Finished(false);
        }
        if self.current.get().body != Sent::Nothing {
            return match response.content {
                Content::Whole(body) => {
                    self.write_part(&exchange.head, &body);
                    self.finish(exchange)
                }
                Content::Pieces(pieces) => self.stream_once(exchange, &pieces),
                Content::Page(_) => self.finish(exchange),
            };
        }
        exchange.response.merge(response.head);
        conditional::apply(
            &exchange.head.wire,
            &mut exchange.response,
            &mut response.content,
        );
        if let Content::Page(message) = &response.content {
            let head = (!exchange.head.target().is_empty()).then_some(&*exchange.head);
            let page = self
                .site
                .pages
                .make(exchange.response.status(), message, head);
            exchange.response.take_page(page.head);
            response.content = page.content;
        }
        match response.content {
            Content::Whole(body) => {
                self.write_whole(&exchange, &body);
                self.complete(exchange);
                Finished(true)
            }
            Content::Pieces(pieces) => self.stream_once(exchange, &pieces),
            Content::Page(_) => self.finish(exchange),
        }
    }

    /// Sends the head of a response whose body comes in parts.
    pub(super) fn begin_parts(&self, exchange: &Exchange, length: Option<u64>) {
        if self.current.get().body != Sent::Nothing {
            return;
        }
        let extent = Extent {
            length,
            is_whole: false,
        };
        self.write_head(exchange, extent, &[]);
        // What follows comes in small pieces, which should not wait for one another.
        self.transport().set_tcp_no_delay(true);
    }

    /// Sends a part of the body; `head` is that of the request.
    pub(super) fn write_part(&self, head: &RequestHead, data: &[u8]) {
        let mut current = self.current.get();
        let Sent::Head(body) = &mut current.body else {
            return;
        };
        if data.is_empty() {
            return;
        }
        let data = match body {
            BodyFraming::Length(left) => {
                within_length(left, data.len(), head).map_or(data, |length| &data[..length])
            }
            _ => data,
        };
        match body {
            BodyFraming::NoBody => return,
            BodyFraming::UntilClose | BodyFraming::Length(_) => self.transport().write(data),
            BodyFraming::Chunked => self.transport().write_with(|out| encode::chunk(out, data)),
        }
        self.current.set(current);
        self.count_out(data.len() as u64);
    }

    /// The same without a copy of bytes that are worth sharing.
    ///
    /// Returns whether there is room for more: not if the content-length was exceeded.
    pub(super) fn write_piece(&self, head: &RequestHead, data: Bytes) -> bool {
        let mut current = self.current.get();
        let mut has_room = true;
        let mut length = data.len() as u64;
        match &mut current.body {
            Sent::Head(BodyFraming::UntilClose) => self.transport().write_bytes(data),
            Sent::Head(BodyFraming::Chunked) if data.len() > COPIED_BYTES => {
                let transport = self.transport();
                transport.write_with(|out| encode::chunk_head(out, data.len()));
                transport.write_bytes(data);
                transport.write(encode::LINE_END);
            }
            Sent::Head(BodyFraming::Length(left)) => {
                let data = match within_length(left, data.len(), head) {
                    Some(length) => {
                        has_room = false;
                        data.slice(..length)
                    }
                    None => data,
                };
                length = data.len() as u64;
                self.transport().write_bytes(data);
            }
            _ => {
                self.write_part(head, &data);
                return true;
            }
        }
        self.current.set(current);
        self.count_out(length);
        has_room
    }

    /// The response is complete: the next request may come.
    #[inline]
    pub(super) fn complete(self: &Rc<Self>, exchange: Box<Exchange>) {
        self.waiting.take();
        self.head.take();
        if let Some(Some(_)) = self.look_at_extra(|extra| extra.pump.take()) {
            self.transport().unregister_producer();
        } else if self.transport().has_producer() {
            crate::logging::error!(
                target: "web",
                "{}: finished while its producer was registered, which is removed: unregister it \
                 before",
                self.describe(&exchange.head)
            );
            self.transport().unregister_producer();
        }
        self.depart(exchange);
        let current = self.current.get();
        let receives_body = self.receiving.get() == Receiving::Body;
        if current.closes {
            let is_refused = self.receiving.get() == Receiving::Discarding;
            let reader = self.take_reader();
            // One that sends its last request sends nothing behind it (RFC 9112, 9.6).
            let is_last = !current.to.persists && !receives_body;
            match receives_body || is_refused {
                true => self.close(is_last, LINGER),
                false => self.close(is_last, self.site.limits.abort_timeout),
            }
            return reader.tell();
        }
        self.replying.set(Replying::Idle);
        if receives_body {
            return self.discard_body();
        }
        self.receiving.set(Receiving::Idle);
        // Where input is being used, the next request may be there already: what is expected of the
        // client is settled when nothing is left.
        if self.flags.is_consuming.get() {
            self.flags.has_answered.set(true);
        } else {
            self.expect_request();
            self.go_on_soon();
        }
    }

    /// Sends a head and, where there may be one, a body.
    #[inline]
    pub(super) fn write_whole(&self, exchange: &Exchange, body: &Bytes) {
        let extent = Extent {
            length: Some(body.len() as u64),
            is_whole: true,
        };
        if body.len() > COPIED_BYTES {
            self.write_head(exchange, extent, &[]);
            if !self.sends_no_body() {
                self.transport().write_bytes(body.clone());
            }
        } else {
            self.write_head(exchange, extent, body);
        }
        if self.site.observer.is_some() && !self.sends_no_body() {
            self.count_out(body.len() as u64);
        }
    }

    /// Sends a head. A small body may come along, to be copied behind the head where there may be
    /// one.
    pub(super) fn write_head(&self, exchange: &Exchange, extent: Extent, body: &[u8]) {
        let head = &exchange.response;
        let mut current = self.current.get();
        let mut status = head.status();
        if status.is_informational() {
            // A client would go on waiting for the response that this announces.
            crate::logging::error!(
                target: "web",
                "{}: a resource answered with {status}, which is no answer",
                self.describe(&exchange.head)
            );
            status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let mut reply = Reply {
            status,
            length: extent.length,
            declared: None,
            closes: current.closes,
        };
        for (name, value) in head.fields() {
            match *name {
                header::CONTENT_LENGTH => reply.declared = value.parse::<u64>().ok(),
                header::CONNECTION => reply.closes |= value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        if self.receiving.get() == Receiving::Body {
            reply.closes |= self.closes_for_body(extent.is_whole);
        }
        let framing = reply.framing(&current.to);
        let mut out = self.site.spares.take_scratch();
        encode::status_line(&mut out, status);
        if let Some(clock) = self.clock.get() {
            self.site.date.write(&mut out, clock.turn_time());
        }
        let has_content = !reply.has_no_body() && extent.length != Some(0);
        if has_content || head.content_type.is_some() {
            encode::content_type(&mut out, head.content_type());
        }
        write_fields(&mut out, head);
        encode::framing(&mut out, &framing);
        out.extend_from_slice(encode::LINE_END);
        if framing.body != BodyFraming::NoBody {
            out.extend_from_slice(body);
        }
        self.transport().write(&out);
        self.site.spares.put_scratch(out);
        current.closes = framing.closes;
        current.body = Sent::Head(framing.body);
        current.status = Some(status);
        self.current.set(current);
        self.replying.set(Replying::Sending);
        self.head_sent(exchange, status);
    }

    /// The program begins to write a response in parts: what waits for the client until then is not
    /// its doing.
    fn count_parts(&self) {
        let mut current = self.current.get();
        if !current.is_in_parts {
            let transport = self.transport();
            let written = transport.sent() + transport.buffered() as u64;
            current.is_in_parts = true;
            self.current.set(current);
            self.with_extra(|extra| extra.parts_from = written);
        }
    }

    /// Whether more of the parts waits for the client than may.
    fn is_overrun(&self) -> bool {
        if !self.current.get().is_in_parts {
            return false;
        }
        let from = self.look_at_extra(|extra| extra.parts_from).unwrap_or(0);
        let (waiting, sent) = (self.transport().buffered(), self.transport().sent());
        let of_parts = (sent + waiting as u64).saturating_sub(from);
        of_parts.min(waiting as u64) > self.site.limits.unread_output_bytes as u64
    }

    /// Looks whether the program writes on though the client does not read.
    fn limit_parts(&self) {
        if self.flags.is_blocked.get() {
            self.cut_off_if_overrun();
        }
    }

    /// Ends a connection whose client does not read what the program goes on writing. What the
    /// system takes at once does not count.
    pub(super) fn cut_off_if_overrun(&self) {
        // One that is complete grows no further, and one that was cut off has been told of.
        if self.flags.is_cut.get() || !self.is_replying() || !self.is_overrun() {
            return;
        }
        let limit = self.site.limits.unread_output_bytes;
        crate::logging::warn!(
            target: "web",
            "{}: the client does not read, and more than {} bytes wait for it, so the \
             connection is cut off: look at Request::buffered, wait for Request::drained, or answer \
             with a stream",
            self.last_request(),
            limit
        );
        self.count_refusal(RefusalReason::UnreadOutput);
        self.cut();
    }

    /// Fails everybody who waits for the current response.
    pub(super) fn fail_waiters(&self, reason: &Failure) {
        let waiters = self.look_at_extra(|extra| {
            let mut waiters = std::mem::take(&mut extra.to_notify);
            waiters.append(&mut extra.drained);
            waiters.append(&mut extra.site_drains);
            waiters
        });
        for resolver in waiters.unwrap_or_default() {
            let _ = resolver.errback(reason.share());
        }
    }
}

/// Writes the fields of a response, but for those that are ours to say.
pub(super) fn write_fields(out: &mut Vec<u8>, head: &ResponseHead) {
    for (name, value) in head.fields() {
        match *name {
            header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::CONNECTION
            | header::DATE => {}
            header::UPGRADE => {
                encode::field(out, name.as_str(), value.as_bytes());
                // RFC 9110, 7.8: whoever sends the one must send the other.
                encode::field(out, header::CONNECTION.as_str(), b"Upgrade");
            }
            _ => encode::field(out, name.as_str(), value.as_bytes()),
        }
    }
}

/// Counts bytes against the length that was declared; how many may be sent, if not all.
fn within_length(left: &mut u64, length: usize, head: &RequestHead) -> Option<usize> {
    let room = usize::try_from(*left).unwrap_or(usize::MAX);
    let sent = length.min(room);
    *left -= sent as u64;
    (sent < length).then(|| {
        crate::logging::error!(
            target: "web",
            "{} {}: {} bytes more than its content-length were not sent",
            head.method(),
            head.target(),
            length - sent
        );
        sent
    })
}
