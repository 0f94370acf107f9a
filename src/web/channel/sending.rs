//! Responses on their way out: heads, parts and ends.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use deferred_reactor::ReactorTime;
use http::{StatusCode, header};

use super::{Channel, Phase};
use crate::http1::{BodyFraming, LengthField, Reply, encode};
use crate::web::Response;
use crate::web::request::{Exchange, Finished};
use crate::web::response::ResponseHead;

/// Bodies up to this size are copied behind their heads, and leave with them.
const COPIED_BYTES: usize = 4 * 1024;

impl Channel {
    /// Writes a part of a body; the first one sends the head.
    pub(in crate::web) fn write(&self, exchange: &mut Exchange, data: &[u8]) {
        if !self.is_current(exchange.id) || data.is_empty() {
            return;
        }
        if self.current.get().sent.is_none() {
            self.write_head(&exchange.response, None, &[]);
            // What follows comes in small pieces, which should not wait for one another.
            self.transport().set_tcp_no_delay(true);
        }
        let mut current = self.current.get();
        match &mut current.sent {
            None | Some(BodyFraming::NoBody) => {}
            Some(BodyFraming::UntilClose) => self.transport().write(data),
            Some(BodyFraming::Chunked) => {
                self.transport().write_with(|out| encode::chunk(out, data));
            }
            Some(BodyFraming::Length(left)) => {
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
    pub(in crate::web) fn finish(self: &Rc<Self>, exchange: Box<Exchange>) -> Finished {
        if !self.is_current(exchange.id) {
            self.shared.put_exchange(exchange);
            return Finished(false);
        }
        match self.current.get().sent {
            None => self.write_whole(&exchange.response, &Bytes::new()),
            Some(BodyFraming::Chunked) => self.transport().write(encode::LAST_CHUNK),
            Some(BodyFraming::Length(left)) if left > 0 => {
                log::error!(
                    target: "web",
                    "{} {}: finished {left} bytes short of its content-length",
                    exchange.head.method,
                    exchange.head.target()
                );
                // Only a broken connection tells the client that this is not all.
                self.cut_off(exchange);
                return Finished(false);
            }
            Some(_) => {}
        }
        self.complete(exchange);
        Finished(true)
    }

    /// Answers with a whole response.
    pub(in crate::web) fn respond(
        self: &Rc<Self>,
        mut exchange: Box<Exchange>,
        response: Response,
    ) -> Finished {
        if !self.is_current(exchange.id) {
            self.shared.put_exchange(exchange);
            return Finished(false);
        }
        if self.current.get().sent.is_some() {
            self.write(&mut exchange, &response.body);
            return self.finish(exchange);
        }
        exchange.response.merge(response.head);
        self.write_whole(&exchange.response, &response.body);
        self.complete(exchange);
        Finished(true)
    }

    /// The response is complete: the next request may come.
    pub(super) fn complete(self: &Rc<Self>, exchange: Box<Exchange>) {
        self.shared.put_exchange(exchange);
        self.waiting.take();
        let current = self.current.get();
        if current.closes {
            self.close(!current.to.persists, self.shared.limits.abort_timeout);
        } else {
            self.phase.set(Phase::Idle);
            self.unsent.set(usize::MAX);
            // Where input is being used, the next request may be there already: what is expected
            // of the client is settled when nothing is left.
            if !self.is_consuming.get() {
                self.expect_within(self.shared.limits.keep_alive);
                // Not from here: whoever finishes a request does not expect to handle the next one.
                if self.kept() > 0
                    && let Some(clock) = self.clock.get()
                {
                    let channel = self.clone();
                    clock.call_later(Duration::ZERO, move || channel.go_on());
                }
            }
        }
        for resolver in self.to_notify.take() {
            let _ = resolver.callback(());
        }
    }

    /// Sends a head and, where there may be one, a body.
    pub(super) fn write_whole(&self, head: &ResponseHead, body: &Bytes) {
        let length = Some(body.len());
        if body.len() > COPIED_BYTES {
            self.write_head(head, length, &[]);
            if self.current.get().sent != Some(BodyFraming::NoBody) {
                self.transport().write_bytes(body.clone());
            }
        } else {
            self.write_head(head, length, body);
        }
    }

    /// Sends a head. `length` is that of a body that is known as a whole; if it is small, it may
    /// come along as `body`, to be copied behind the head where there may be one.
    pub(super) fn write_head(&self, head: &ResponseHead, length: Option<usize>, body: &[u8]) {
        let mut current = self.current.get();
        let mut status = head.status;
        if status.is_informational() {
            // A client would go on waiting for the response that this announces.
            log::error!(target: "web", "a resource answered with {status}, which is no answer");
            status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        let mut reply = Reply {
            status,
            length: length.map(|length| length as u64),
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
        let framing = reply.framing(&current.to);
        current.closes = framing.closes;
        current.sent = Some(framing.body);
        let mut out = self.shared.take_scratch();
        encode::status_line(&mut out, status);
        if let Some(clock) = self.clock.get() {
            self.shared.write_date(&mut out, clock.turn_time());
        }
        match &head.content_type {
            Some(value) => encode::content_type(&mut out, value),
            None if matches!(
                framing.field,
                LengthField::None | LengthField::ContentLength(0)
            ) && framing.body != BodyFraming::UntilClose => {}
            None => out.extend_from_slice(b"Content-Type: text/html\r\n"),
        }
        for (name, value) in head.fields() {
            match *name {
                // Ours to say.
                header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
                | header::CONNECTION
                | header::DATE => {}
                _ => encode::field(&mut out, name.as_str(), value.as_bytes()),
            }
        }
        encode::framing(&mut out, &framing);
        out.extend_from_slice(encode::LINE_END);
        if framing.body != BodyFraming::NoBody {
            out.extend_from_slice(body);
        }
        self.transport().write(&out);
        self.shared.put_scratch(out);
        self.current.set(current);
    }
}
