//! The ports and connections of a site that serves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};

use deferred_reactor::net::{Address, Port};
use deferred_reactor::{Deferred, DelayedCall, Resolver};

use super::limits::Limits;
use crate::web::RefusalReason;
use crate::web::connection::Connection;

/// Which ports and connections there are.
pub(in crate::web) struct Live {
    ports: RefCell<Vec<Port>>,
    /// Each knows its place.
    connections: RefCell<Vec<Weak<Connection>>>,
    /// Connections by client, while there is a limit on these.
    by_client: RefCell<HashMap<IpAddr, usize>>,
    drain: RefCell<Option<Drain>>,
    is_draining: Cell<bool>,
    refusals: RefCell<[u64; RefusalReason::ALL.len()]>,
    requests: Cell<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            ports: RefCell::default(),
            connections: RefCell::default(),
            by_client: RefCell::default(),
            drain: RefCell::default(),
            is_draining: Cell::default(),
            refusals: RefCell::new([0; RefusalReason::ALL.len()]),
            requests: Cell::default(),
        }
    }
}

/// A drain that is under way.
#[derive(Default)]
struct Drain {
    resolvers: Vec<Resolver<Drained>>,
    /// Connections whose last byte has not left, and calls of `drain` that are looking for them.
    left: usize,
    /// When what is left is cut off.
    deadlines: Vec<DelayedCall>,
    drained: Drained,
}

/// What became of a site's connections when it was drained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Connections that had nothing to finish, and were closed at once.
    pub idle: usize,
    /// Connections whose requests were answered to the last byte.
    pub finished: usize,
    /// What was cut off at the deadline: requests as `GET /path from address`, one whose head had not
    /// come as `a request from address`, and a response that was complete, but not read to its end,
    /// as `a response to address`.
    pub cut: Vec<String>,
}

/// How a connection was left when its site was drained.
pub(in crate::web) enum Left {
    Idle,
    Finished,
    /// With this request unfinished.
    Cut(String),
}

impl Live {
    /// Whether another client may connect.
    pub(super) fn admits(&self, peer: &Address, limits: &Limits) -> Result<(), RefusalReason> {
        if self.connections.borrow().len() >= limits.connections {
            return Err(RefusalReason::TooManyConnections);
        }
        if let (Some(limit), Some(client)) = (limits.connections_per_client, client_of(peer))
            && self.by_client.borrow().get(&client).copied().unwrap_or(0) >= limit
        {
            return Err(RefusalReason::TooManyConnectionsPerClient);
        }
        Ok(())
    }

    /// A connection is made; its place from now on.
    pub(in crate::web) fn opened(&self, connection: &Rc<Connection>) -> u32 {
        let mut connections = self.connections.borrow_mut();
        let key = u32::try_from(connections.len()).expect("descriptors are 32-bit numbers");
        connections.push(Rc::downgrade(connection));
        key
    }

    /// A connection is lost. The last one takes its place, so that no place is empty.
    pub(in crate::web) fn closed(&self, key: u32) {
        let mut connections = self.connections.borrow_mut();
        if (key as usize) < connections.len() {
            connections.swap_remove(key as usize);
            if let Some(moved) = connections.get(key as usize).and_then(Weak::upgrade) {
                moved.moved_to(key);
            }
        }
    }

    /// A client has one connection more.
    pub(in crate::web) fn count_client(&self, peer: &Address) {
        if let Some(client) = client_of(peer) {
            *self.by_client.borrow_mut().entry(client).or_default() += 1;
        }
    }

    /// A client has one connection less.
    pub(in crate::web) fn forget_client(&self, peer: &Address) {
        if let Some(client) = client_of(peer) {
            let mut clients = self.by_client.borrow_mut();
            if let Some(count) = clients.get_mut(&client) {
                *count -= 1;
                if *count == 0 {
                    clients.remove(&client);
                }
            }
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    pub(super) fn all(&self) -> Vec<Rc<Connection>> {
        let connections = self.connections.borrow();
        connections.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn add_port(&self, port: Port) {
        self.ports.borrow_mut().push(port);
    }

    pub(super) fn take_ports(&self) -> Vec<Port> {
        self.ports.take()
    }

    pub(in crate::web) fn count_refusal(&self, reason: RefusalReason) {
        self.refusals.borrow_mut()[reason as usize] += 1;
    }

    pub(super) fn refusals(&self, reason: RefusalReason) -> u64 {
        self.refusals.borrow()[reason as usize]
    }

    pub(in crate::web) fn count_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    pub(in crate::web) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// A drain begins, or another one joins it. It cannot be over before
    /// [`has_begun`](Self::has_begun) is called.
    #[track_caller]
    pub(super) fn begin_drain(&self) -> Deferred<Drained> {
        let (deferred, resolver) = Deferred::pending();
        self.is_draining.set(true);
        let mut drain = self.drain.borrow_mut();
        let drain = drain.get_or_insert_default();
        drain.resolvers.push(resolver);
        drain.left += 1;
        deferred
    }

    /// One connection more is waited for.
    pub(in crate::web) fn waits_for_one(&self) {
        if let Some(drain) = &mut *self.drain.borrow_mut() {
            drain.left += 1;
        }
    }

    /// All connections that a drain waits for are known.
    pub(super) fn has_begun(&self) {
        if let Some(drain) = &mut *self.drain.borrow_mut() {
            drain.left -= 1;
        }
        self.end_drain_if_done();
    }

    /// Keeps the call that ends the drain, to be cancelled when it is over before.
    pub(super) fn ends_drain_by(&self, deadline: DelayedCall) {
        if let Some(drain) = &mut *self.drain.borrow_mut() {
            drain.deadlines.push(deadline);
        }
    }

    /// The last byte of a connection has left, or it is lost.
    pub(in crate::web) fn has_left(&self, how: Left) {
        if let Some(drain) = &mut *self.drain.borrow_mut() {
            drain.left = drain.left.saturating_sub(1);
            match how {
                Left::Idle => drain.drained.idle += 1,
                Left::Finished => drain.drained.finished += 1,
                Left::Cut(request) => drain.drained.cut.push(request),
            }
        }
        self.end_drain_if_done();
    }

    fn end_drain_if_done(&self) {
        let done = self.drain.borrow_mut().take_if(|drain| drain.left == 0);
        if let Some(drain) = done {
            for deadline in drain.deadlines {
                // One of them may be what ended it.
                let _ = deadline.cancel();
            }
            for resolver in drain.resolvers {
                // Whoever asked may have cancelled.
                let _ = resolver.callback(drain.drained.clone());
            }
        }
    }
}

/// Where a client is, as far as it can be told apart from others.
fn client_of(peer: &Address) -> Option<IpAddr> {
    match peer {
        Address::Tcp(address) => Some(address.ip().to_canonical()),
        _ => None,
    }
}
