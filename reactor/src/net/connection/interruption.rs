//! Interruptions: requests that are served before the next event of a connection.
//!
//! | request                                                  | effect                           |
//! |----------------------------------------------------------|----------------------------------|
//! | [`abort_connection`](crate::net::Transport::abort_connection) | the connection is lost      |
//! | [`switch_protocol`](crate::net::Transport::switch_protocol) | the new protocol is connected, and gets the leftover input as soon as it reads |
//!
//! Both are served when the running call of the protocol returns, or in the next turn. A connection
//! without interruption only checks a flag.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Connection, InputEnd, Sending};
use crate::deferred::Failure;
use crate::guard::guard;
use crate::net::{ConnectionAborted, ConnectionDone, Protocol};
use crate::reactor::{Core, SlotId};

/// The kind of an interruption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Interruption {
    #[default]
    None,
    /// Another protocol takes over.
    Switch,
    /// The new protocol has taken over, and has not got the leftover input yet.
    Leftover,
    /// The connection closes as soon as possible, with output unsent.
    Abort,
}

/// Protocols that take over connections, and leftover input. Stored here rather than in the
/// connections, because most connections never switch.
#[derive(Default)]
pub(crate) struct Switches(HashMap<SlotId, Switch>);

/// A new protocol, and its leftover input.
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
            // Input that the present protocol has not read yet.
            leftover.extend_from_slice(&before.leftover);
        }
        self.put_switch(core, Some(protocol), leftover);
        if self.flags.interruption.get() != Interruption::Abort {
            self.flags.interruption.set(Interruption::Switch);
        }
        self.request_service(core);
        drop(before); // with nothing borrowed: it may be a protocol that never took over
    }

    /// Serves the interruption. Returns `false` if the connection is lost by then.
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
        // A pause by the old protocol does not bind the new one.
        self.flags.is_paused.set(false);
        self.flags.is_told_blocked.set(false);
        self.flags.takes_bytes.set(false);
        guard("dropping the protocol of a connection", || drop(old));
        // If the connection has not begun, the new protocol is connected when it begins.
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

    /// Takes the switch of a connection, if one was requested.
    pub(super) fn take_switch(&self, core: &Core) -> Option<Switch> {
        core.switches().0.remove(&self.slot)
    }

    /// Whether an interruption is pending that no event will report.
    #[cold]
    pub(super) fn has_interruption(&self) -> bool {
        match self.flags.interruption.get() {
            Interruption::None => false,
            Interruption::Switch | Interruption::Abort => true,
            Interruption::Leftover => self.reads_leftover(),
        }
    }

    /// Whether the new protocol has taken over and reads.
    fn reads_leftover(&self) -> bool {
        self.flags.has_begun.get() && !self.flags.is_paused.get()
    }
}
