//! Answers to what never came as far as a request.

use std::rc::Rc;

use super::deadlines::LINGER;
use super::{Connection, Current};
use crate::http1::Refusal;
use crate::web::response::Content;
use crate::web::{RefusalReason, Response};

impl Connection {
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
    pub(super) fn refuse(self: &Rc<Self>, reason: RefusalReason, message: String) {
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
        let mut exchange = self.site.spares.take_exchange();
        self.head.take();
        exchange.response.merge(page.head);
        self.current.set(Current::NONE);
        if let Content::Whole(body) = &page.content {
            self.write_whole(&exchange, body);
        }
        self.site.spares.put_exchange(exchange);
    }
}
