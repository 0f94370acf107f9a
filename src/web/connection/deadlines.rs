//! How long each phase may take, in both directions.

use std::rc::Rc;
use std::time::{Duration, Instant};

use deferred_reactor::{DelayedCall, ReactorTime};

use super::{Connection, Receiving, Replying};
use crate::http1::Refusal;
use crate::web::request::Exchange;
use crate::web::response::Content;
use crate::web::site::Limits;
use crate::web::{BodyError, RefusalReason, Response};

/// How long a client that was refused may take to read why, before it is cut off.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// How often it is looked whether a client reads.
const LOOK: Duration = Duration::from_millis(2500);

impl Connection {
    /// Gives what is being received so long, from now; `None` is for ever.
    pub(super) fn expect_within(self: &Rc<Self>, time: Option<Duration>) {
        let (Some(clock), call) = (self.clock.get(), self.deadline.take()) else {
            return;
        };
        let moment = time.and_then(|time| clock.turn_time().checked_add(time));
        let call = match (moment, time, call) {
            (Some(moment), _, Some(call)) if call.reset_at(moment).is_ok() => Some(call),
            (Some(_), Some(time), _) => {
                let connection = Rc::downgrade(self);
                Some(clock.call_later(time, move || {
                    if let Some(connection) = connection.upgrade() {
                        connection.expired();
                    }
                }))
            }
            (_, _, call) => {
                // It may have been made: this is called from it as well.
                let _ = call.map(|call| call.cancel());
                None
            }
        };
        self.deadline.set(call);
    }

    /// Waits for the next request.
    pub(super) fn expect_request(self: &Rc<Self>) {
        self.expect_within(self.site.limits.keep_alive);
    }

    /// Waits for the body, or for the moment when the client could be too slow.
    pub(super) fn expect_body(self: &Rc<Self>) {
        let Some(clock) = self.clock.get() else {
            return;
        };
        let (now, rate) = (clock.turn_time(), &self.site.limits.min_rate);
        let next = self.look_at_incoming(|incoming| {
            let left = incoming
                .deadline
                .map(|at| at.saturating_duration_since(now));
            let pace = incoming.pace.time_left(incoming.received, rate, now);
            match (left, pace) {
                (Some(left), Some(pace)) => Some(left.min(pace)),
                (left, pace) => left.or(pace),
            }
        });
        self.expect_within(next.flatten());
    }

    /// The time for what is being received is over.
    pub(super) fn expired(self: &Rc<Self>) {
        let limits = &self.site.limits;
        match (self.receiving.get(), self.replying.get()) {
            (_, Replying::Gone) => {}
            (_, Replying::Closing) => self.expire_closing(),
            (Receiving::Idle, _) if self.is_reading_still() => {
                self.expect_within(Some(limits.abort_timeout));
            }
            (Receiving::Idle, _) => self.close_idle(),
            (Receiving::Head, _) => {
                let message = "The head of the request took too long to come.";
                self.refuse(RefusalReason::HeaderTimeout, message.to_owned());
            }
            (Receiving::Body, Replying::Idle) => self.close(false, limits.abort_timeout),
            (Receiving::Body, _) if self.flags.has_ended.get() => self.body_breaks_off(),
            (Receiving::Body, _) => self.expire_body(),
            // The client has ended; it had its time.
            (Receiving::Waiting | Receiving::Discarding, _)
                if self.flags.has_ended.get() || self.flags.will_end.get() =>
            {
                self.transport().lose_connection();
            }
            // A request that is being handled takes as long as it takes.
            (Receiving::Waiting | Receiving::Discarding, _) => {}
        }
    }

    fn expire_closing(self: &Rc<Self>) {
        if self.is_reading_still() {
            self.expect_within(Some(self.site.limits.abort_timeout));
        } else if self.transport().buffered() == 0 {
            // All of it is with the system, which goes on to deliver it; a reset would not.
            self.transport().lose_connection();
        } else {
            self.cut();
        }
    }

    fn expire_body(self: &Rc<Self>) {
        let Some(clock) = self.clock.get() else {
            return;
        };
        let (now, rate) = (clock.turn_time(), &self.site.limits.min_rate);
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        let reason = if incoming.deadline.is_some_and(|deadline| now >= deadline) {
            RefusalReason::BodyTimeout
        } else if incoming.pace.time_left(incoming.received, rate, now) == Some(Duration::ZERO)
            && incoming.is_expected()
        {
            RefusalReason::BodyTooSlow
        } else {
            self.incoming.set(Some(incoming));
            // What is not read for a while is not looked at for a while.
            let grace = rate.grace.max(Duration::from_secs(1));
            return match self.body_has_room() {
                true => self.expect_body(),
                false => self.expect_within(Some(grace)),
            };
        };
        let message = match reason {
            RefusalReason::BodyTimeout => "The body of the request took too long to come.",
            _ => "The body of the request came too slowly.",
        };
        let error = BodyError::TooSlow {
            received: incoming.received,
        };
        self.body_fails(*incoming, reason, error, message.to_owned());
    }

    /// Whether the client takes what was sent to it, if slowly. Asked once a deadline.
    fn is_reading_still(&self) -> bool {
        let taken = self.transport().sent() as u32;
        self.taken.replace(taken) != taken && self.transport().buffered() > 0
    }

    /// Answers what cannot be understood, and ends the connection.
    pub(super) fn refuse_wire(self: &Rc<Self>, refusal: &Refusal) {
        let mut message = refusal.to_string();
        if let Some(first) = message.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        message.push('.');
        self.refuse(refusal.reason().into(), message);
    }

    /// Answers a request that never came as far as its head, and ends the connection.
    fn refuse(self: &Rc<Self>, reason: RefusalReason, message: String) {
        log::debug!(target: "web", "refused {}: {message}", self.client());
        self.count_refusal(reason);
        let Some(status) = reason.status() else {
            return self.cut();
        };
        let page = self.site.pages.make(status, &message, None);
        self.send_unasked(page);
        self.close(false, LINGER);
    }

    /// Sends a response that is the answer to no request.
    fn send_unasked(&self, page: Response) {
        let mut exchange: Box<Exchange> = self.site.spares.take_exchange();
        self.head.take();
        exchange.response.merge(page.head);
        self.current.set(super::Current::NONE);
        if let Content::Whole(body) = &page.content {
            self.write_whole(&exchange, body);
        }
        self.site.spares.put_exchange(exchange);
    }
}

/// Watches a client while bytes wait for it.
///
/// The rate is that of a bucket which holds as many bytes as the client may be behind: it begins
/// with those of the grace, bytes that the system takes fill it, and time empties it. So a client
/// that reads in gulps is not cut off between them, and one that has once read fast cannot trickle
/// for ever.
pub(super) struct WriteWatch {
    call: DelayedCall,
    began: Instant,
    looked: Instant,
    progressed: Instant,
    /// Bytes taken by the system, in all.
    taken: u64,
    bucket: f64,
}

impl Connection {
    /// The system takes no more for now.
    pub(super) fn blocked(self: &Rc<Self>) {
        self.flags.is_blocked.set(true);
        self.cut_off_if_overrun();
        let limits = &self.site.limits;
        let is_watched = self.look_at_extra(|extra| extra.write_watch.is_some()) == Some(true);
        if is_watched || self.flags.is_cut.get() {
            return;
        }
        let Some(clock) = self.clock.get() else {
            return;
        };
        let Some(wait) = first_look(limits) else {
            return;
        };
        let now = clock.turn_time();
        let watch = WriteWatch {
            call: self.look_later(wait),
            began: now,
            looked: now,
            progressed: now,
            taken: self.transport().sent(),
            bucket: limits.min_rate.grace.as_secs_f64()
                * f64::from(limits.min_rate.bytes_per_second),
        };
        self.with_extra(|extra| extra.write_watch = Some(watch));
    }

    fn look_later(self: &Rc<Self>, wait: Duration) -> DelayedCall {
        let connection = Rc::downgrade(self);
        let look = move || {
            if let Some(connection) = connection.upgrade() {
                connection.look_at_reader();
            }
        };
        match self.clock.get() {
            Some(clock) => clock.call_later(wait, look),
            None => unreachable!("a connection has a clock before it sends"),
        }
    }

    /// Everything is with the system: nobody is waited for.
    pub(super) fn drained(self: &Rc<Self>) {
        self.flags.is_blocked.set(false);
        if let Some(Some(watch)) = self.look_at_extra(|extra| extra.write_watch.take()) {
            watch.end();
        }
        self.has_drained();
        self.end_drain_if_left();
        if self.replying.get() != Replying::Gone {
            self.go_on();
        }
    }

    fn look_at_reader(self: &Rc<Self>) {
        let Some(clock) = self.clock.get() else {
            return;
        };
        let (now, limits, taken) = (clock.turn_time(), self.site.limits, self.transport().sent());
        let verdict = self.look_at_extra(|extra| {
            let watch = extra.write_watch.as_mut()?;
            Some(watch.look(now, taken, &limits))
        });
        match verdict.flatten() {
            None => {}
            Some(Ok(wait)) => {
                let call = self.look_later(wait);
                self.look_at_extra(|extra| {
                    if let Some(watch) = &mut extra.write_watch {
                        watch.call = call;
                    }
                });
            }
            Some(Err(reason)) => {
                log::debug!(
                    target: "web",
                    "the connection from {} is cut off: {reason}",
                    self.client()
                );
                self.count_refusal(reason);
                self.cut();
            }
        }
    }
}

/// When a client that has just stopped reading is looked at; `None` where nothing limits it.
fn first_look(limits: &Limits) -> Option<Duration> {
    let rate = (limits.min_rate.bytes_per_second > 0).then_some(LOOK);
    let times = [rate, limits.write_timeout, limits.response_timeout];
    times.into_iter().flatten().min().map(|time| time.min(LOOK))
}

impl WriteWatch {
    /// Nobody is waited for any more.
    pub(super) fn end(self) {
        // It has run if the connection was cut off by it.
        let _ = self.call.cancel();
    }

    /// When to look again, or why the client is cut off.
    fn look(
        &mut self,
        now: Instant,
        taken: u64,
        limits: &Limits,
    ) -> Result<Duration, RefusalReason> {
        let rate = f64::from(limits.min_rate.bytes_per_second);
        let progress = taken.saturating_sub(self.taken);
        let elapsed = now.saturating_duration_since(self.looked).as_secs_f64();
        self.bucket -= rate * elapsed;
        if progress > 0 {
            self.bucket += progress as f64;
            if rate > 0.0 && self.bucket < 0.0 {
                return Err(RefusalReason::WriteTooSlow);
            }
            let patience = limits
                .write_timeout
                .unwrap_or_default()
                .max(limits.min_rate.grace);
            self.bucket = self.bucket.min(patience.as_secs_f64() * rate);
            self.progressed = now;
            self.taken = taken;
        }
        self.looked = now;
        let mut wait = LOOK;
        let ends = [
            (self.progressed, limits.write_timeout),
            // Without a deadline, the rate is what ends a client that reads nothing.
            (self.progressed, no_deadline_but_rate(limits)),
            (self.began, limits.response_timeout),
        ];
        for (since, time) in ends {
            let Some(time) = time else { continue };
            let left = time.saturating_sub(now.saturating_duration_since(since));
            if left.is_zero() {
                return Err(RefusalReason::WriteTimeout);
            }
            wait = wait.min(left);
        }
        Ok(wait)
    }
}

fn no_deadline_but_rate(limits: &Limits) -> Option<Duration> {
    let has_rate = limits.min_rate.bytes_per_second > 0;
    (limits.write_timeout.is_none() && has_rate).then_some(limits.min_rate.grace)
}
