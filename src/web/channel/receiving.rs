//! What comes from the client: heads, bodies, and what has to wait.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::{Channel, Current, Incoming, Left, Phase};
use crate::http1::chunked::Decoder;
use crate::http1::head::{Framing, Scan};
use crate::web::pages;
use crate::web::request::{Exchange, is_utf8};

/// How much may wait to be sent before the next request of a pipeline is looked at.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Empty lines tolerated before a request line (RFC 9112, 2.2).
const EMPTY_LINES: u8 = 4;

/// How long a client that was refused may take to read why, before it is cut off.
const LINGER: Duration = Duration::from_secs(5);

impl Channel {
    /// Takes what has come from the client.
    pub(super) fn receive(self: &Rc<Self>, data: &[u8]) {
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
                    self.input.set(input);
                    self.trim_input();
                    self.pace();
                }
            }
        }
    }

    /// Looks again at what was kept, once there is room for an answer.
    pub(super) fn go_on(self: &Rc<Self>) {
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
    pub(super) fn input_ended(self: &Rc<Self>) {
        self.has_ended.set(true);
        // There may be room again for what had to wait; nobody has looked since.
        self.receive(&[]);
        let waits_for_room = matches!(self.phase.get(), Phase::Idle | Phase::Head)
            && self.is_output_full()
            && self.kept() > 0;
        if !waits_for_room {
            self.transport().lose_connection();
        }
    }

    /// Keeps what cannot be used yet.
    pub(super) fn keep(&self, data: &[u8]) {
        let mut input = self.input.take();
        input.extend_from_slice(data);
        self.input.set(input);
        self.pace();
    }

    /// Pauses the client while much is kept that has to wait, and for no longer: what is kept of a
    /// request that is still coming has limits of its own.
    pub(super) fn pace(&self) {
        let has_to_wait = match self.phase.get() {
            Phase::Answering => true,
            Phase::Idle | Phase::Head => self.is_output_full(),
            Phase::Body | Phase::Closing | Phase::Gone => false,
        };
        let kept = self.kept();
        let pauses = has_to_wait && kept > 0 && kept >= self.shared.limits.read_ahead_bytes;
        match (pauses, self.is_paused.replace(pauses)) {
            (true, false) => self.transport().pause_producing(),
            (false, true) => self.transport().resume_producing(),
            _ => {}
        }
    }

    /// Whether so much is to be sent that no further request is looked at.
    pub(super) fn is_output_full(&self) -> bool {
        self.transport().buffered() > OUTPUT_BYTES
    }

    /// How much has come and waits to be used.
    pub(super) fn kept(&self) -> usize {
        let input = self.input.take();
        let kept = input.len();
        self.input.set(input);
        kept
    }

    /// A quiet connection owns no buffer.
    pub(super) fn trim_input(&self) {
        let input = self.input.take();
        if !input.is_empty() {
            self.input.set(input);
        }
    }

    /// Uses as much as can be used; how much that was.
    pub(super) fn consume(self: &Rc<Self>, data: &[u8]) -> usize {
        self.is_consuming.set(true);
        let last_answered = self.current.get().id;
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
        if self.phase.get() == Phase::Idle && self.current.get().id != last_answered {
            self.expect_within(self.shared.limits.keep_alive);
        }
        used
    }

    /// Uses a whole head, or nothing.
    pub(super) fn consume_head(self: &Rc<Self>, data: &[u8]) -> usize {
        let limits = &self.shared.limits;
        if self.phase.get() == Phase::Idle {
            let mut exchange = self.shared.take_exchange();
            if let Some(length) = exchange.head.read_at_once(data, &limits.head) {
                self.empty_lines.set(0);
                self.begin(exchange);
                return length;
            }
            self.shared.put_exchange(exchange);
        }
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
    pub(super) fn begin(self: &Rc<Self>, exchange: Box<Exchange>) {
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
    pub(super) fn consume_body(self: &Rc<Self>, data: &[u8]) -> usize {
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
    pub(super) fn refuse(self: &Rc<Self>, status: StatusCode, message: &str, data: &[u8]) -> usize {
        log::debug!(target: "web", "refused with {status}: {message}");
        let page = pages::page(status, message);
        self.current.set(Current {
            closes: true,
            ..Current::NONE
        });
        self.write_whole(&page.head, &page.body);
        self.close(false, LINGER);
        data.len()
    }

    /// Closes the connection once everything is sent, or `patience` ends without the client taking
    /// anything.
    ///
    /// A client may be sending still. Closing at once would reset the connection, and with it the
    /// answer on its way; so only our side is closed, and what comes is thrown away, until the
    /// client closes its own. One that has sent its last request (RFC 9112, 9.6: "MUST NOT send
    /// further requests") is not waited for.
    pub(super) fn close(self: &Rc<Self>, is_last: bool, patience: Duration) {
        self.phase.set(Phase::Closing);
        self.input.take();
        self.pace();
        let transport = self.transport();
        self.unsent.set(transport.buffered());
        if is_last {
            transport.lose_connection();
        } else {
            transport.lose_write_connection();
        }
        self.expect_within(Some(patience));
    }
}
