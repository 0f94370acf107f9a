//! How a connection resumes, pauses and stops its producer.

use std::rc::Rc;

use super::Connection;
use crate::guard::guard;
use crate::net::output::Output;
use crate::reactor::Core;

impl Connection {
    /// Whether a producer keeps this side open.
    #[cold]
    pub(super) fn is_held_open(&self) -> bool {
        let producer = self.with_queue(|output| output.producer()).flatten();
        // A producer that panics does not keep the connection open.
        producer.is_some_and(|producer| {
            guard("the producer of a connection", || producer.holds_open()) == Some(true)
        })
    }

    /// Resumes the producer, if everything is sent. Returns `true` if it has written something.
    pub(super) fn feed(self: &Rc<Self>, core: &Core) -> bool {
        let producer = self.with_queue(|output| {
            // The protocol may have written something meanwhile.
            if output.is_empty() {
                output.resume()
            } else {
                None
            }
        });
        let Some(producer) = producer.flatten() else {
            return false;
        };
        self.call_producer(core, || producer.resume());
        self.has_output()
    }

    /// Pauses the producer: more is queued than the limit.
    #[cold]
    pub(in crate::net) fn backlog_grows(self: &Rc<Self>) {
        self.flags.has_backlog.set(true);
        let producer = self.with_queue(Output::pause).flatten();
        if let (Some(producer), Some(core)) = (producer, self.core.upgrade()) {
            self.call_producer(&core, || producer.pause_producing());
        }
    }

    /// Calls the producer. If it panics, it is not called again, and the connection is aborted: the
    /// peer must neither wait without end nor take the output for complete.
    pub(in crate::net) fn call_producer(self: &Rc<Self>, core: &Core, call: impl FnOnce()) {
        if guard("the producer of a connection", call).is_none() && !self.is_lost() {
            self.abort(core);
        }
    }

    /// Removes a producer that keeps the connection open, and stops it.
    pub(in crate::net) fn stop_producer(self: &Rc<Self>, core: &Core) {
        if self.is_held_open()
            && let Some(producer) = self.with_queue(Output::unregister).flatten()
        {
            self.call_producer(core, || producer.stop());
            guard("dropping the producer of a connection", || drop(producer));
        }
    }
}
