//! How long each phase may take.

use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::ReactorTime;
use http::StatusCode;

use super::{Channel, Phase};

impl Channel {
    /// Gives the phase at hand so long, from now; `None` is for ever.
    pub(super) fn expect_within(self: &Rc<Self>, time: Option<Duration>) {
        let call = match (time, self.deadline.take(), self.clock.get()) {
            (Some(time), Some(call), Some(clock))
                if call.reset_at(clock.turn_time() + time).is_ok() =>
            {
                Some(call)
            }
            (Some(time), _, Some(clock)) => {
                let channel = Rc::downgrade(self);
                Some(clock.call_later(time, move || {
                    if let Some(channel) = channel.upgrade() {
                        channel.expired();
                    }
                }))
            }
            (_, call, _) => {
                // It may have been made: this is called from it as well.
                let _ = call.map(|call| call.cancel());
                None
            }
        };
        self.deadline.set(call);
    }

    /// The time for the phase at hand is over.
    pub(super) fn expired(self: &Rc<Self>) {
        let limits = &self.shared.limits;
        match self.phase.get() {
            // A request that is being handled takes as long as it takes.
            Phase::Answering | Phase::Gone => {}
            Phase::Idle | Phase::Closing if self.is_reading_still() => {
                self.expect_within(Some(limits.abort_timeout));
            }
            Phase::Idle => {
                self.phase.set(Phase::Closing);
                self.transport().lose_connection();
                self.expect_within(Some(limits.abort_timeout));
            }
            Phase::Head | Phase::Body => {
                if let Some(incoming) = self.incoming.take() {
                    self.shared.put_exchange(incoming.exchange);
                }
                self.refuse(
                    StatusCode::REQUEST_TIMEOUT,
                    "the request took too long to come",
                    &[],
                );
            }
            // All of it is with the system, which goes on to deliver it; a reset would not.
            Phase::Closing if self.transport().buffered() == 0 => {
                self.transport().lose_connection();
            }
            Phase::Closing => self.transport().abort_connection(),
        }
    }

    /// Whether the client takes what was sent to it, if slowly. Asked once a deadline.
    pub(super) fn is_reading_still(&self) -> bool {
        let unsent = self.transport().buffered();
        let before = self.unsent.replace(unsent);
        unsent > 0 && unsent < before
    }
}
