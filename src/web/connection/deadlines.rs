//! How long a client may take to send.

use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::ReactorTime;

use super::{Connection, Receiving, Replying};
use crate::web::{BodyError, RefusalReason};

/// How long a client that was refused may take to read why, before it is cut off.
pub(super) const LINGER: Duration = Duration::from_secs(5);

impl Connection {
    /// Sets the deadline for the head, body or request that is awaited, from now; `None` is no deadline.
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
}
