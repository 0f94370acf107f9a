//! What a connection does with its producer: asks it for more, has it wait, and stops it.

use std::rc::Rc;

use super::Connection;
use crate::guard::guard;
use crate::net::output::Output;
use crate::reactor::Core;

impl Connection {
    /// Whether somebody makes more to send, so that this side must not be closed.
    #[cold]
    pub(super) fn is_held_open(&self) -> bool {
        let producer = self.with_queue(|output| output.producer()).flatten();
        // One that panics when it is asked will be of no more use.
        producer.is_some_and(|producer| {
            guard("the producer of a connection", || producer.holds_open()) == Some(true)
        })
    }

    /// Everything is sent: asks the producer for more. `true` if it has written something.
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

    /// More is queued than should be: whoever makes it is to wait.
    #[cold]
    pub(in crate::net) fn backlog_grows(self: &Rc<Self>) {
        self.flags.has_backlog.set(true);
        let producer = self.with_queue(Output::pause).flatten();
        if let (Some(producer), Some(core)) = (producer, self.core.upgrade()) {
            self.call_producer(&core, || producer.pause_producing());
        }
    }

    /// One that panics is asked no more, and the connection ends: whoever waits for the rest
    /// should not wait for ever, nor take what has come for all.
    pub(in crate::net) fn call_producer(self: &Rc<Self>, core: &Core, call: impl FnOnce()) {
        if guard("the producer of a connection", call).is_none() && !self.is_lost() {
            self.abort(core);
        }
    }

    /// Takes a producer away that keeps the connection open, and tells it that nobody wants any
    /// more.
    pub(in crate::net) fn stop_producer(self: &Rc<Self>, core: &Core) {
        if self.is_held_open()
            && let Some(producer) = self.with_queue(Output::unregister).flatten()
        {
            self.call_producer(core, || producer.stop());
            guard("dropping the producer of a connection", || drop(producer));
        }
    }
}
