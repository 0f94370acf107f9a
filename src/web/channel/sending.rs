//! Responses on their way out: heads, parts and ends.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use deferred_reactor::ReactorTime;
use http::{StatusCode, header};

use super::{Channel, Current, Phase, Sent};
use crate::http1::head::Version;
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
    pub(in crate::web) fn finish(self: &Rc<Self>, exchange: Box<Exchange>) -> Finished {
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
                return Finished(false);
            }
            Sent::Length(_) | Sent::UntilClose | Sent::NoBody => {}
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
    pub(super) fn complete(self: &Rc<Self>, exchange: Box<Exchange>) {
        self.shared.put_exchange(exchange);
        self.waiting.take();
        let Current {
            closes, is_last, ..
        } = self.current.get();
        if closes {
            self.close(is_last, self.shared.limits.abort_timeout);
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
            if self.current.get().sent != Sent::NoBody {
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
        let has_no_body = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // A body that is empty, and not one that is absent (RFC 9110, 15.3.6).
        let is_reset = status == StatusCode::RESET_CONTENT;
        let mut declared = None;
        for (name, value) in head.fields() {
            match *name {
                header::CONTENT_LENGTH => declared = value.parse::<u64>().ok(),
                header::CONNECTION => current.closes |= value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        // For HEAD, a resource may know the length of a body that it did not make.
        let length = match (length, declared) {
            _ if is_reset => Some(0),
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
        let mut out = self.shared.take_scratch();
        write_status_line(&mut out, status);
        if let Some(clock) = self.clock.get() {
            self.shared.write_date(&mut out, clock.turn_time());
        }
        match &head.content_type {
            Some(value) => {
                out.extend_from_slice(b"Content-Type: ");
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            None if has_no_body || length == Some(0) => {}
            None => out.extend_from_slice(b"Content-Type: text/html\r\n"),
        }
        for (name, value) in head.fields() {
            match *name {
                // Ours to say.
                header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
                | header::CONNECTION
                | header::DATE => {}
                _ => write_field(&mut out, name.as_str(), value.as_bytes()),
            }
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
        if !has_no_body && !is_reset && !current.is_head {
            out.extend_from_slice(body);
        }
        self.transport().write(&out);
        self.shared.put_scratch(out);
        if current.is_head || is_reset {
            current.sent = Sent::NoBody;
        }
        self.current.set(current);
    }
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
