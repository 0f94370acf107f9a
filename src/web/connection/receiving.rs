//! What comes from the client: heads, and what has to wait.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use deferred_reactor::ReactorTime;
use http::Method;

use super::{Answer, Connection, Current, Receiving, Replying, Sent};
use crate::http1::{Framing, Progress, ReplyTo};
use crate::web::request::Exchange;

/// How much may wait to be sent before the next request of a pipeline is looked at.
const OUTPUT_BYTES: usize = 256 * 1024;

impl Connection {
    /// Takes what has come from the client.
    pub(super) fn receive(self: &Rc<Self>, data: &[u8]) {
        match self.receiving.get() {
            Receiving::Discarding => {}
            Receiving::Waiting => self.keep(data),
            Receiving::Idle | Receiving::Head | Receiving::Body => {
                if let Some(mut input) = self.input.take() {
                    input.extend_from_slice(data);
                    let used = self.consume(&input);
                    input.drain(..used);
                    // A quiet connection owns no buffer.
                    if !input.is_empty() {
                        self.input.set(Some(input));
                    }
                    self.pace();
                } else {
                    let used = self.consume(data);
                    self.keep(&data[used..]);
                }
                self.switch_if_upgraded();
            }
        }
    }

    /// The same with bytes that a body which streams can keep.
    pub(super) fn receive_piece(self: &Rc<Self>, data: &Bytes) {
        self.look_at_incoming(|incoming| incoming.source = data.clone());
        self.receive(data);
        self.look_at_incoming(|incoming| incoming.source = Bytes::new());
    }

    /// Looks again at what was kept, once there is room for it.
    pub(super) fn go_on(self: &Rc<Self>) {
        self.flags.is_scheduled.set(false);
        if self.flags.is_consuming.get() {
            return;
        }
        self.receive(&[]);
        if self.flags.has_ended.get() {
            self.input_ended();
        }
    }

    /// Has the reactor look at kept input soon. A program that finishes a request, or reads a body, does not
    /// expect to handle the next one inside of that.
    pub(super) fn go_on_soon(self: &Rc<Self>) {
        if !self.flags.is_consuming.get()
            && (self.kept() > 0 || self.flags.has_ended.get())
            && let Some(clock) = self.clock.get()
            && !self.flags.is_scheduled.replace(true)
        {
            let connection = self.clone();
            clock.call_later(Duration::ZERO, move || connection.go_on());
        }
    }

    /// The client sends no more. It may have closed its sending side alone, to read the answers to
    /// what it has sent, or it may have gone; the two cannot be told apart. Complete requests are
    /// answered, if the answers come within [`Site::half_close_grace`](crate::web::Site).
    pub(super) fn input_ended(self: &Rc<Self>) {
        self.flags.has_ended.set(true);
        // There may be room again for what had to wait; nobody has looked since.
        self.receive(&[]);
        match (self.receiving.get(), self.replying.get()) {
            (_, Replying::Closing | Replying::Gone) => self.transport().lose_connection(),
            // Later requests wait for this answer, or for the client to read.
            (Receiving::Waiting, _) => self.await_answer(),
            // What was wrong with the body may be answered yet.
            (Receiving::Discarding, _) if self.is_replying() => self.await_answer(),
            (Receiving::Idle | Receiving::Head, _) if self.is_output_full() && self.kept() > 0 => {}
            // The program has not read yet what has come.
            (Receiving::Body, _) if !self.body_has_room() => self.await_answer(),
            (Receiving::Body, _) => self.body_breaks_off(),
            _ => self.transport().lose_connection(),
        }
    }

    /// The client has closed its side, behind more than is read ahead.
    pub(super) fn input_will_end(self: &Rc<Self>) {
        self.flags.will_end.set(true);
        if self.receiving.get() == Receiving::Waiting {
            self.await_answer();
        }
    }

    /// The client's end is known, and is not told again: what it has sent before has its time.
    pub(super) fn await_last_answers(self: &Rc<Self>) {
        if self.flags.will_end.get() && self.receiving.get() == Receiving::Waiting {
            self.await_answer();
        }
    }

    /// Gives the answer to a client that sends no more a short time.
    fn await_answer(self: &Rc<Self>) {
        self.expect_within(Some(self.site.limits.half_close_grace));
    }

    /// Keeps what cannot be used yet.
    #[inline]
    fn keep(&self, data: &[u8]) {
        if !data.is_empty() {
            let mut input = self.input.take().unwrap_or_default();
            input.extend_from_slice(data);
            self.input.set(Some(input));
        }
        self.pace();
    }

    /// Pauses the client while much is kept that has to wait, and for no longer: what is kept of a
    /// request that is still coming has limits of its own.
    pub(super) fn pace(&self) {
        let has_to_wait = match self.receiving.get() {
            Receiving::Waiting => true,
            Receiving::Idle | Receiving::Head => self.is_output_full(),
            Receiving::Body => return self.pause(!self.body_has_room()),
            Receiving::Discarding => false,
        };
        let kept = self.kept();
        self.pause(has_to_wait && kept > 0 && kept >= self.site.limits.read_ahead_bytes);
    }

    fn pause(&self, pauses: bool) {
        match (pauses, self.flags.is_paused.replace(pauses)) {
            (true, false) => self.transport().pause_producing(),
            (false, true) => self.transport().resume_producing(),
            _ => {}
        }
    }

    /// Whether so much is to be sent that no further request is looked at.
    fn is_output_full(&self) -> bool {
        self.transport().buffered() > OUTPUT_BYTES
    }

    /// How much has come and waits to be used.
    pub(super) fn kept(&self) -> usize {
        let input = self.input.take();
        let kept = input.as_ref().map_or(0, |input| input.len());
        self.input.set(input);
        kept
    }

    /// Uses as much as can be used; how much that was.
    fn consume(self: &Rc<Self>, data: &[u8]) -> usize {
        self.flags.is_consuming.set(true);
        let mut used = 0;
        loop {
            let rest = &data[used..];
            if rest.is_empty() {
                break;
            }
            let step = match self.receiving.get() {
                Receiving::Idle | Receiving::Head if self.is_output_full() => 0,
                Receiving::Idle | Receiving::Head => self.consume_head(rest),
                Receiving::Body => self.consume_body(rest),
                Receiving::Waiting => 0,
                Receiving::Discarding => rest.len(),
            };
            used += step;
            if step == 0 {
                break;
            }
        }
        self.flags.is_consuming.set(false);
        if self.flags.has_answered.replace(false) && self.receiving.get() == Receiving::Idle {
            self.expect_request();
        }
        used
    }

    /// Uses a whole head, or nothing.
    #[inline]
    fn consume_head(self: &Rc<Self>, data: &[u8]) -> usize {
        let limits = &self.site.limits;
        let mut exchange = self.site.spares.take_exchange();
        let mut reader = self.reader.get();
        let outcome = reader.read(&mut exchange.new_head().wire, data, &limits.head);
        self.reader.set(reader);
        match outcome {
            Ok((used, Progress::Complete)) => {
                self.begin(exchange);
                used
            }
            Ok((used, progress)) => {
                self.site.spares.put_exchange(exchange);
                if progress == Progress::Begun
                    && self.receiving.replace(Receiving::Head) == Receiving::Idle
                {
                    // From the first byte on: later ones do not renew it.
                    self.expect_within(limits.header_timeout);
                }
                used
            }
            Err(refusal) => {
                self.site.spares.put_exchange(exchange);
                self.refuse_wire(&refusal);
                data.len()
            }
        }
    }

    /// A head is complete: finds who answers.
    #[inline]
    fn begin(self: &Rc<Self>, mut exchange: Box<Exchange>) {
        let site = &self.site;
        let id = site.next_id.get();
        site.next_id.set(id + 1);
        exchange.id = id;
        let wire = &exchange.head.wire;
        let requests = self.requests.get().saturating_add(1);
        self.requests.set(requests);
        self.current.set(Current {
            id,
            to: ReplyTo {
                version: wire.version,
                is_head: wire.method == Method::HEAD,
                persists: wire.persists,
            },
            closes: site.closes_behind(requests.into()),
            body: Sent::Nothing,
            status: None,
            is_in_parts: false,
        });
        self.head.set(Some(exchange.head.clone()));
        self.replying.set(Replying::Making);
        self.answer.set(Answer::Ours);
        self.request_came();
        if exchange.head.wire.framing == Framing::None {
            self.receiving.set(Receiving::Waiting);
            self.dispatch(exchange);
        } else {
            self.begin_body(exchange);
        }
        self.await_last_answers();
    }
}
