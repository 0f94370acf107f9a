//! How long a client may take to read.

use std::rc::Rc;
use std::time::{Duration, Instant};

use deferred_reactor::{DelayedCall, ReactorTime};

use super::{Connection, Replying};
use crate::web::RefusalReason;
use crate::web::site::Limits;

/// How often it is looked whether a client reads.
const LOOK: Duration = Duration::from_millis(2500);

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

    /// The system has taken everything: ends the watch, and goes on with kept input.
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
