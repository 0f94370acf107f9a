//! The ends of requests: who is told when the last byte has left, and of what.

use std::rc::Rc;
use std::time::Instant;

use deferred_reactor::net::ConnectionDone;
use deferred_reactor::{Failure, ReactorTime, Resolver};
use http::StatusCode;

use super::{Connection, Tally};
use crate::web::request::Exchange;
use crate::web::{RefusalReason, RequestEnd, RequestHead, RequestOutcome};

/// A response that is complete, and whose last byte may not have left.
pub(super) struct Departure {
    to_notify: Vec<Resolver<()>>,
    /// What the observer is told then.
    ended: Option<(Box<Exchange>, RequestEnd, Option<Instant>)>,
}

impl Connection {
    /// A head has come.
    pub(super) fn request_came(&self) {
        self.site.live.count_request();
        if self.site.observer.is_some() {
            let began = self.clock.get().map(|clock| clock.turn_time());
            self.with_extra(|extra| {
                extra.tally = Tally {
                    began,
                    ..Tally::default()
                };
            });
        }
    }

    /// The route of a request is known.
    pub(super) fn route_found_of(&self, head: &Rc<RequestHead>) {
        self.head.set(Some(head.clone()));
        if let Some(observer) = &self.site.observer
            && self.with_extra(|extra| !std::mem::replace(&mut extra.tally.has_begun, true))
        {
            observer.request_begun(head);
        }
    }

    /// The head of the response is queued.
    pub(super) fn head_sent(&self, exchange: &Exchange, status: StatusCode) {
        if let Some(observer) = &self.site.observer
            && self.current.get().id != 0
        {
            // HEAD may have been rendered as GET: what was shared is what the client has sent.
            let head = self.head.take().unwrap_or_else(|| exchange.head.clone());
            self.route_found_of(&head);
            let began = self.with_extra(|extra| extra.tally.began);
            observer.response_head_sent(&head, status, self.since(began));
        }
    }

    fn since(&self, began: Option<Instant>) -> std::time::Duration {
        match (self.clock.get(), began) {
            (Some(clock), Some(began)) => clock.now().saturating_duration_since(began),
            _ => std::time::Duration::ZERO,
        }
    }

    pub(super) fn count_in(&self, bytes: u64) {
        if self.site.observer.is_some() {
            self.with_extra(|extra| extra.tally.bytes_in += bytes);
        }
    }

    pub(super) fn count_out(&self, bytes: u64) {
        if self.site.observer.is_some() {
            self.with_extra(|extra| extra.tally.bytes_out += bytes);
        }
    }

    /// How the current request will have ended, unless it was settled before.
    pub(super) fn has_outcome(&self, outcome: RequestOutcome) {
        if self.site.observer.is_some() {
            self.with_extra(|extra| *extra.tally.outcome.get_or_insert(outcome));
        }
    }

    /// A client is refused something.
    pub(super) fn count_refusal(&self, reason: RefusalReason) {
        self.site.live.count_refusal(reason);
        if let Some(observer) = &self.site.observer {
            observer.refused(reason);
        }
    }

    /// A response is complete; what is to be told then waits until it has left.
    pub(super) fn depart(self: &Rc<Self>, mut exchange: Box<Exchange>) {
        let head = self.head.take();
        let to_notify = self.look_at_extra(|extra| {
            extra.site_drains.clear();
            std::mem::take(&mut extra.to_notify)
        });
        let to_notify = to_notify.unwrap_or_default();
        let ended = match self.site.observer {
            None => {
                drop(head);
                self.site.spares.put_exchange(exchange);
                if to_notify.is_empty() {
                    return;
                }
                None
            }
            Some(_) => {
                if let Some(head) = head {
                    exchange.head = head;
                }
                let (end, began) = self.end_of_request(RequestOutcome::Finished);
                Some((exchange, end, began))
            }
        };
        self.with_extra(|extra| extra.departures.push(Departure { to_notify, ended }));
        self.transport().notify_drained();
    }

    fn end_of_request(&self, outcome: RequestOutcome) -> (RequestEnd, Option<Instant>) {
        let status = self.current.get().status;
        self.with_extra(|extra| {
            let tally = std::mem::take(&mut extra.tally);
            let end = RequestEnd {
                status,
                outcome: tally.outcome.unwrap_or(outcome),
                duration: std::time::Duration::ZERO,
                bytes_in: tally.bytes_in,
                bytes_out: tally.bytes_out,
            };
            (end, tally.began)
        })
    }

    /// The request that is being answered is cut off, and ends with its connection.
    pub(super) fn keep_for_end(&self, exchange: Box<Exchange>) {
        match self.site.observer {
            Some(_) => self.returned.set(Some(exchange)),
            None => self.site.spares.put_exchange(exchange),
        }
    }

    /// Everything that was written has been handed to the system.
    pub(super) fn has_drained(&self) {
        let waiters = self.look_at_extra(|extra| {
            let drained = std::mem::take(&mut extra.drained);
            (std::mem::take(&mut extra.departures), drained)
        });
        let Some((departures, drained)) = waiters else {
            return;
        };
        for departure in departures {
            self.departed(departure, None);
        }
        for resolver in drained {
            let _ = resolver.callback(());
        }
    }

    /// The connection is gone; what had been complete may have left or not.
    pub(super) fn end_requests(&self, reason: &Failure, was_replying: bool) {
        let outcome = match self.flags.is_cut.get() {
            true => RequestOutcome::Aborted,
            false => RequestOutcome::ClientGone,
        };
        let departures = self.look_at_extra(|extra| std::mem::take(&mut extra.departures));
        for departure in departures.unwrap_or_default() {
            // We close only behind the last byte.
            let unsent = (!reason.is::<ConnectionDone>()).then_some((reason, outcome));
            self.departed(departure, unsent);
        }
        if let (Some(observer), true) = (&self.site.observer, was_replying) {
            let exchange = self.reclaim(self.current.get().id);
            self.route_found_of(&exchange.head);
            let (mut end, began) = self.end_of_request(outcome);
            end.duration = self.since(began);
            observer.request_ended(&exchange.head, &end);
            self.site.spares.put_exchange(exchange);
        }
    }

    fn departed(&self, departure: Departure, unsent: Option<(&Failure, RequestOutcome)>) {
        if let (Some((exchange, mut end, began)), Some(observer)) =
            (departure.ended, &self.site.observer)
        {
            end.duration = self.since(began);
            if let (Some((_, outcome)), RequestOutcome::Finished) = (unsent, end.outcome) {
                end.outcome = outcome;
            }
            observer.request_ended(&exchange.head, &end);
            self.site.spares.put_exchange(exchange);
        }
        for resolver in departure.to_notify {
            let _ = match unsent {
                None => resolver.callback(()),
                Some((reason, _)) => resolver.errback(reason.share()),
            };
        }
    }
}
