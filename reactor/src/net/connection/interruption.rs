//! What comes before the next event of a connection: an abort, or another protocol.
//!
//! | asked for                                                | then                             |
//! |----------------------------------------------------------|----------------------------------|
//! | [`abort_connection`](crate::net::Transport::abort_connection) | the connection is lost      |
//! | [`switch_protocol`](crate::net::Transport::switch_protocol) | the new protocol is connected, and given the input that is left over, as soon as it reads |
//!
//! Both are done when the protocol that is being called has returned, or in the next turn. A
//! connection that is not interrupted pays one look at a flag for it.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Connection, InputEnd, Sending};
use crate::deferred::Failure;
use crate::guard::guard;
use crate::net::{ConnectionAborted, ConnectionDone, Protocol};
use crate::reactor::{Core, SlotId};

/// What a connection is interrupted for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Interruption {
    #[default]
    None,
    /// Another protocol takes over.
    Switch,
    /// It has, and is to be given the input that is left over.
    Leftover,
    /// Closes as soon as possible, whatever is unsent.
    Abort,
}

/// The protocols that are to take over connections, or have, and have not read what was left over.
/// Here, and not in their connections, so that the many which keep theirs pay nothing for it.
#[derive(Default)]
pub(crate) struct Switches(HashMap<SlotId, Switch>);

/// The other protocol, and what it is to read first.
pub(super) struct Switch {
    /// `None` once it has taken over.
    protocol: Option<Box<dyn Protocol>>,
    leftover: Vec<u8>,
}

impl Connection {
    pub(in crate::net) fn abort(self: &Rc<Self>, core: &Core) {
        self.flags.interruption.set(Interruption::Abort);
        self.request_service(core);
    }

    pub(in crate::net) fn switch_protocol(
        self: &Rc<Self>,
        core: &Core,
        protocol: Box<dyn Protocol>,
        mut leftover: Vec<u8>,
    ) {
        let before = self.take_switch(core);
        if let Some(before) = &before
            && before.protocol.is_none()
        {
            // The present protocol has not been given this yet.
            leftover.extend_from_slice(&before.leftover);
        }
        self.put_switch(core, Some(protocol), leftover);
        if self.flags.interruption.get() != Interruption::Abort {
            self.flags.interruption.set(Interruption::Switch);
        }
        self.request_service(core);
        drop(before); // with nothing borrowed: it may be a protocol that never took over
    }

    /// Does what the connection was interrupted for. `false` if it is lost now.
    #[cold]
    pub(super) fn serve_interruption(self: &Rc<Self>, core: &Rc<Core>) -> bool {
        loop {
            let goes_on = match self.flags.interruption.get() {
                Interruption::None => return true,
                Interruption::Abort => {
                    self.lose(core, Failure::cloneable(ConnectionAborted));
                    return false;
                }
                Interruption::Switch => self.take_over(core),
                Interruption::Leftover if !self.reads_leftover() => return true,
                Interruption::Leftover => self.read_leftover(core),
            };
            if !goes_on {
                return false;
            }
        }
    }

    fn take_over(self: &Rc<Self>, core: &Rc<Core>) -> bool {
        self.flags.interruption.set(Interruption::Leftover);
        let Some(Switch { protocol, leftover }) = self.take_switch(core) else {
            return true;
        };
        let old = self.protocol.replace(protocol);
        self.put_switch(core, None, leftover);
        // Whatever the old one had in mind when it stopped reading.
        self.flags.is_paused.set(false);
        self.flags.is_told_blocked.set(false);
        self.flags.takes_bytes.set(false);
        guard("dropping the protocol of a connection", || drop(old));
        // One that has not begun is connected when it begins.
        !self.flags.has_begun.get()
            || self.call(core, |protocol, transport| {
                protocol.connection_made(transport)
            })
    }

    fn read_leftover(self: &Rc<Self>, core: &Rc<Core>) -> bool {
        self.flags.interruption.set(Interruption::None);
        let leftover = self.take_switch(core).map(|switch| switch.leftover);
        let leftover = leftover.unwrap_or_default();
        if self.flags.is_closing.get() {
            return true; // nothing is read any more
        }
        if !leftover.is_empty()
            && !self.call(core, |protocol, transport| {
                protocol.data_received(transport, &leftover)
            })
        {
            return false;
        }
        if self.flags.input_end.get() == InputEnd::Read
            && self.flags.interruption.get() == Interruption::None
        {
            // The old protocol was told, too.
            let is_there = self.call(core, |protocol, transport| {
                protocol.read_connection_lost(transport);
                Ok(())
            });
            if is_there && self.flags.sending.get() == Sending::Closed {
                self.lose(core, Failure::cloneable(ConnectionDone));
                return false;
            }
            return is_there;
        }
        true
    }

    fn put_switch(&self, core: &Core, protocol: Option<Box<dyn Protocol>>, leftover: Vec<u8>) {
        let switch = Switch { protocol, leftover };
        core.switches().0.insert(self.slot, switch);
    }

    /// The switch of a connection that has been interrupted, if it was for that.
    pub(super) fn take_switch(&self, core: &Core) -> Option<Switch> {
        core.switches().0.remove(&self.slot)
    }

    /// Whether an interruption is to be seen to that no event will tell of.
    #[cold]
    pub(super) fn has_interruption(&self) -> bool {
        match self.flags.interruption.get() {
            Interruption::None => false,
            Interruption::Switch | Interruption::Abort => true,
            Interruption::Leftover => self.reads_leftover(),
        }
    }

    /// Whether the new protocol is there, and has not paused.
    fn reads_leftover(&self) -> bool {
        self.flags.has_begun.get() && !self.flags.is_paused.get()
    }
}
