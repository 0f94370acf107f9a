//! How connections begin and end.

use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{ConnectionDone, Transport};
use deferred_reactor::{Failure, ReactorTime};

use super::incoming::Sink;
use super::{Connection, Receiving, Replying};
use crate::web::site::Left;

impl Connection {
    /// The transport is there.
    pub(super) fn made(self: &Rc<Self>, transport: &Transport) {
        let _ = self.transport.set(transport.clone());
        if let Some(clock) = transport.time_source() {
            let _ = self.clock.set(clock);
        }
        let limits = &self.site.limits;
        self.key.set(self.site.live.opened(self));
        if (self.site.observer.is_some() || limits.connections_per_client.is_some())
            && let Some(peer) = transport.peer()
        {
            self.site.live.count_client(&peer);
            if let Some(observer) = &self.site.observer {
                observer.connection_opened(&peer);
            }
            self.with_extra(|extra| extra.peer = Some(peer));
        }
        // However little time there is between requests, the first has that for its head.
        match (limits.keep_alive, limits.header_timeout) {
            (Some(idle), Some(head)) => self.expect_within(Some(idle.max(head))),
            (Some(Duration::ZERO), None) => self.expect_within(None),
            _ => self.expect_request(),
        }
    }

    /// Closes the connection once everything is sent, or `patience` ends without the client taking
    /// anything.
    ///
    /// A client may be sending still. Closing at once would reset the connection, and with it the
    /// answer on its way; so only our side is closed, and what comes is thrown away, until the
    /// client closes its own. One that has sent its last request (RFC 9112, 9.6: "MUST NOT send
    /// further requests") is not waited for.
    pub(super) fn close(self: &Rc<Self>, is_last: bool, patience: Duration) {
        self.replying.set(Replying::Closing);
        self.receiving.set(Receiving::Discarding);
        self.incoming.take();
        self.input.take();
        self.pace();
        let transport = self.transport();
        self.taken.set(transport.sent() as u32);
        if is_last {
            transport.lose_connection();
        } else {
            transport.lose_write_connection();
        }
        self.expect_within(Some(patience));
    }

    /// Closes a connection on which nothing happens.
    pub(super) fn close_idle(self: &Rc<Self>) {
        self.replying.set(Replying::Closing);
        self.receiving.set(Receiving::Discarding);
        self.transport().lose_connection();
        self.expect_within(Some(self.site.limits.abort_timeout));
    }

    /// Ends the connection now, with a reset.
    pub(super) fn cut(&self) {
        self.flags.is_cut.set(true);
        self.transport().abort_connection();
    }

    /// The connection is gone, and with it the request that was being answered.
    pub(super) fn lost(self: &Rc<Self>, reason: &Failure) {
        let was_replying = self.is_replying();
        // While it is known.
        let unfinished = self.flags.is_drained.get().then(|| self.last_request());
        self.replying.set(Replying::Gone);
        self.receiving.set(Receiving::Discarding);
        if let Some(call) = self.deadline.take() {
            let _ = call.cancel();
        }
        if let Some(Some(watch)) = self.look_at_extra(|extra| extra.write_watch.take()) {
            watch.end();
        }
        self.input.take();
        if let Some(incoming) = self.incoming.take() {
            let error = incoming.truncated();
            match incoming.sink {
                Sink::Stream(pipe) => pipe.end(Err(error)),
                Sink::Collect { exchange, .. } => self.returned.set(Some(exchange)),
                Sink::Discard(_) => {}
            }
        }
        self.end_requests(reason, was_replying);
        if let Some(exchange) = self.returned.take() {
            self.site.spares.put_exchange(exchange);
        }
        self.waiting.take().cancel();
        let pump = self.look_at_extra(|extra| (extra.pump.take(), extra.upgrade.take()));
        drop(pump);
        self.fail_waiters(reason);
        self.leave_site();
        self.head.take();
        if let Some(request) = unfinished
            && self.flags.is_drained.replace(false)
        {
            let is_done = reason.is::<ConnectionDone>() && !self.flags.is_cut.get();
            self.site.live.has_left(match is_done {
                true => Left::Finished,
                false => Left::Cut(request),
            });
        }
    }

    /// The site keeps the connection elsewhere.
    pub(in crate::web) fn moved_to(&self, key: u32) {
        self.key.set(key);
    }

    /// The site does not know the connection any more.
    fn leave_site(&self) {
        self.site.live.closed(self.key.replace(u32::MAX));
        if let Some(Some(peer)) = self.look_at_extra(|extra| extra.peer.take()) {
            self.site.live.forget_client(&peer);
            if let Some(observer) = &self.site.observer {
                observer.connection_closed(&peer);
            }
        }
    }

    /// The connection has gone on to another protocol, whose end is not told here.
    pub(super) fn end_for_upgrade(&self) {
        self.replying.set(Replying::Gone);
        self.has_drained();
        self.leave_site();
        if self.flags.is_drained.replace(false) {
            self.site.live.has_left(Left::Finished);
        }
    }

    /// The site drains: has what is being done come to its end, unless that is under way.
    pub(in crate::web) fn begin_drain(self: &Rc<Self>) {
        let has_left = match self.replying.get() {
            Replying::Gone => true,
            Replying::Closing => self.transport().buffered() == 0,
            Replying::Idle | Replying::Making | Replying::Sending => false,
        };
        if has_left || self.flags.is_drained.replace(true) {
            return;
        }
        self.site.live.waits_for_one();
        match self.replying.get() {
            Replying::Making | Replying::Sending => {
                let mut current = self.current.get();
                current.closes = true;
                self.current.set(current);
            }
            // Answered, and the client still sends a body that nobody reads.
            Replying::Idle if self.receiving.get() == Receiving::Body => {
                self.close(false, self.site.limits.abort_timeout);
            }
            Replying::Idle if self.transport().buffered() == 0 => {
                self.close_if_idle_soon(|| Left::Idle);
            }
            // When the last byte has left.
            Replying::Idle | Replying::Closing | Replying::Gone => {
                self.transport().notify_drained();
            }
        }
        let waiters = self.look_at_extra(|extra| std::mem::take(&mut extra.site_drains));
        for resolver in waiters.unwrap_or_default() {
            let _ = resolver.callback(());
        }
    }

    /// Closes a connection without a request, once the system was asked whether one has come.
    fn close_if_idle_soon(self: &Rc<Self>, how: fn() -> Left) {
        let connection = Rc::downgrade(self);
        let close = move || {
            if let Some(connection) = connection.upgrade()
                && connection.is_idle()
                && connection.flags.is_drained.replace(false)
            {
                connection.site.live.has_left(how());
                connection.close_idle();
            }
        };
        let Some(clock) = self.clock.get() else {
            return;
        };
        // The calls of a turn are made before it asks the system, so the turn after the next is the
        // first that comes behind all that had been received when the drain began.
        let later = clock.clone();
        clock.call_later(Duration::ZERO, move || {
            later.call_later(Duration::ZERO, close);
        });
    }

    fn is_idle(&self) -> bool {
        self.replying.get() == Replying::Idle
            && self.receiving.get() == Receiving::Idle
            && self.transport().buffered() == 0
            && self.kept() == 0
    }

    /// The last byte of a connection that is waited for has left.
    pub(super) fn end_drain_if_left(self: &Rc<Self>) {
        if !self.flags.is_drained.get() || self.transport().buffered() > 0 {
            return;
        }
        match self.replying.get() {
            Replying::Closing => {
                self.flags.is_drained.set(false);
                self.site.live.has_left(Left::Finished);
            }
            // Its head had said that the connection stays, before the drain began.
            Replying::Idle => self.close_if_idle_soon(|| Left::Finished),
            Replying::Making | Replying::Sending | Replying::Gone => {}
        }
    }

    /// The drain's time is over: resets the connection of an incomplete response, so that its client does
    /// not take the part for the whole.
    pub(in crate::web) fn cut_for_drain(self: &Rc<Self>) {
        let is_idle = self.is_idle();
        if self.flags.is_drained.replace(false) {
            self.site.live.has_left(match is_idle {
                true => Left::Idle,
                false => Left::Cut(self.last_request()),
            });
        }
        match self.replying.get() {
            Replying::Gone => {}
            Replying::Closing if self.transport().buffered() == 0 => {}
            _ if is_idle => self.close_idle(),
            _ => self.cut(),
        }
    }

    pub(super) fn last_request(&self) -> String {
        let head = self.head.take();
        let name = match &head {
            Some(head) => self.describe(head),
            // Complete, but for what its client has not read.
            None if self.receiving.get() != Receiving::Head => {
                format!("a response to {}", self.client())
            }
            None => format!("a request from {}", self.client()),
        };
        self.head.set(head);
        name
    }
}
