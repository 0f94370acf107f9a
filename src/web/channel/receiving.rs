//! What comes from the client: heads, bodies, and what has to wait.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::{Channel, Current, Incoming, Left, Phase};
use crate::http1::{ChunkLimits, Decoder, Framing, Progress, Refusal, encode};
use crate::web::request::Exchange;
use crate::web::{RefusalReason, pages};

/// How much may wait to be sent before the next request of a pipeline is looked at.
const OUTPUT_BYTES: usize = 256 * 1024;

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

    /// Uses a whole head, or the empty lines before one.
    pub(super) fn consume_head(self: &Rc<Self>, data: &[u8]) -> usize {
        let limits = &self.shared.limits;
        let mut exchange = self.shared.take_exchange();
        let mut reader = self.reader.get();
        let outcome = reader.read(&mut exchange.head, data, &limits.head);
        self.reader.set(reader);
        match outcome {
            Ok((used, Progress::Complete)) => {
                self.begin(exchange);
                used
            }
            Ok((used, progress)) => {
                self.shared.put_exchange(exchange);
                if progress == Progress::Begun && self.phase.replace(Phase::Head) == Phase::Idle {
                    // From the first byte on: later ones do not renew it.
                    self.expect_within(limits.header_timeout);
                }
                used
            }
            Err(refusal) => {
                self.shared.put_exchange(exchange);
                self.refuse_wire(&refusal, data)
            }
        }
    }

    /// Answers what the wire refuses.
    fn refuse_wire(self: &Rc<Self>, refusal: &Refusal, data: &[u8]) -> usize {
        let status = RefusalReason::from(refusal.reason()).status();
        let status = status.unwrap_or(StatusCode::BAD_REQUEST);
        self.refuse(status, &refusal.to_string(), data)
    }

    /// A head is complete: receives the body, or answers.
    pub(super) fn begin(self: &Rc<Self>, exchange: Box<Exchange>) {
        let limits = &self.shared.limits;
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
            Framing::Chunked => Left::Chunked(Decoder::new(ChunkLimits::default())),
        };
        if exchange.head.expects_continue {
            self.transport().write(encode::CONTINUE);
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
                let mut used = 0;
                while used < data.len() && !decoder.is_done() {
                    let room = limit.saturating_sub(incoming.body.len()) as u64;
                    match decoder.decode(&data[used..], room) {
                        Ok(decoded) => {
                            let input = &data[used..];
                            incoming.body.extend_from_slice(&input[decoded.data]);
                            used += decoded.used;
                        }
                        Err(refusal) => {
                            self.shared.put_exchange(incoming.exchange);
                            return self.refuse_wire(&refusal, data);
                        }
                    }
                }
                (used, decoder.is_done())
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
