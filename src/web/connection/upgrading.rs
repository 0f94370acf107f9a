//! Connections that go on with another protocol (RFC 9110, 7.8).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bytes::Bytes;
use deferred_reactor::{Failure, ReactorTime};
use http::{StatusCode, header};

use super::{Answer, Connection, Receiving, Replying, Sent};
use crate::http1::{BodyFraming, encode};
use crate::web::carrier::Upgrade;
use crate::web::request::Exchange;
use crate::web::{NOT_DONE_YET, Rendered, RequestHead, Response};

impl Connection {
    /// Answers 101, if that was asked for and is still possible.
    pub(super) fn begin_upgrade(
        self: Rc<Self>,
        exchange: Box<Exchange>,
        upgrade: Upgrade,
    ) -> Rendered {
        if !self.is_replying_to(exchange.id) {
            self.site.spares.put_exchange(exchange);
            return NOT_DONE_YET;
        }
        let is_asked = exchange.head.wire.wants_upgrade
            && names(&exchange.head, &upgrade.protocol)
            && self.receiving.get() == Receiving::Waiting
            && self.current.get().body == Sent::Nothing;
        if !is_asked {
            let message = format!(
                "{} speaks {} alone: ask for it in an Upgrade field.",
                exchange.head.path(),
                upgrade.protocol
            );
            let response = Response::page(StatusCode::UPGRADE_REQUIRED, message)
                .with_header(header::UPGRADE, &upgrade.protocol);
            self.clone().send_response(exchange, response);
            return NOT_DONE_YET;
        }
        self.answer_upgrade(&exchange, &upgrade.protocol);
        self.depart(exchange);
        self.answer.set(Answer::TheHolders);
        self.with_extra(|extra| extra.upgrade = Some(upgrade));
        if !self.flags.is_consuming.get() {
            self.switch_if_upgraded();
        }
        NOT_DONE_YET
    }

    fn answer_upgrade(&self, exchange: &Exchange, protocol: &str) {
        let mut out = self.site.spares.take_scratch();
        encode::status_line(&mut out, StatusCode::SWITCHING_PROTOCOLS);
        if let Some(clock) = self.clock.get() {
            self.site.date.write(&mut out, clock.turn_time());
        }
        encode::field(&mut out, "connection", b"Upgrade");
        encode::field(&mut out, "upgrade", protocol.as_bytes());
        for (name, value) in exchange.response.fields() {
            if !matches!(
                *name,
                header::UPGRADE
                    | header::CONTENT_LENGTH
                    | header::TRANSFER_ENCODING
                    | header::CONNECTION
                    | header::DATE
            ) {
                encode::field(&mut out, name.as_str(), value.as_bytes());
            }
        }
        out.extend_from_slice(encode::LINE_END);
        self.transport().write(&out);
        self.site.spares.put_scratch(out);
        let mut current = self.current.get();
        current.body = Sent::Head(BodyFraming::NoBody);
        current.status = Some(StatusCode::SWITCHING_PROTOCOLS);
        self.current.set(current);
        self.replying.set(Replying::Closing);
        self.head_sent(exchange, StatusCode::SWITCHING_PROTOCOLS);
    }

    /// Hands the connection over, once nothing of ours is further up the stack.
    #[inline]
    pub(super) fn switch_if_upgraded(self: &Rc<Self>) {
        let Some(Some(upgrade)) = self.look_at_extra(|extra| extra.upgrade.take()) else {
            return;
        };
        self.receiving.set(Receiving::Discarding);
        self.expect_within(None);
        // It watches how HTTP responses are read.
        if let Some(Some(watch)) = self.look_at_extra(|extra| extra.write_watch.take()) {
            watch.end();
        }
        let unread = Bytes::from(self.input.take().map_or_else(Vec::new, |input| *input));
        self.pace();
        let transport = self.transport().clone();
        // What it shares with others is the program's to mind.
        let make = AssertUnwindSafe(|| (upgrade.make)(&transport, unread));
        match catch_unwind(make) {
            Ok(protocol) => {
                transport.switch_protocol(protocol, Vec::new());
                self.end_for_upgrade();
            }
            Err(payload) => {
                crate::logging::error!(
                    target: "web",
                    "making the protocol {} for {} failed, so the connection is cut off: {:#?}",
                    upgrade.protocol,
                    self.client(),
                    Failure::from_panic_at(payload, upgrade.line)
                );
                self.cut();
            }
        }
    }
}

/// Whether the client has asked for this protocol.
fn names(head: &RequestHead, protocol: &str) -> bool {
    let asked = head
        .headers()
        .filter(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    asked
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(protocol.as_bytes()))
}
