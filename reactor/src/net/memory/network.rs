//! The network of a reactor in memory: its ports, wires and order of events.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};

use super::random::Random;
use super::wire::{MemoryStream, Wire};
use crate::guard::guard_each;
use crate::net::Address;
use crate::reactor::{Readiness, SlotId};

/// The first number given to a port that listens on number 0.
const FIRST_PORT: u16 = 49152;

/// The first port number given to clients.
const FIRST_CLIENT_PORT: u16 = 32768;

pub(crate) struct Network {
    /// Items of the next turn; handled in this order, or at random.
    busy: RefCell<Vec<Busy>>,
    backlogs: RefCell<Vec<Rc<Backlog>>>,
    next_port: Cell<u16>,
    next_client_port: Cell<u16>,
    random: Option<Random>,
    /// A turn is running, or the reactor runs by itself.
    is_inside: Cell<bool>,
}

enum Busy {
    Wire(Rc<Wire>),
    Backlog(Rc<Backlog>),
    Call(Box<dyn FnOnce()>),
}

/// Clients of a port that are connected and not accepted yet.
struct Backlog {
    address: SocketAddr,
    slot: Cell<Option<SlotId>>,
    waiting: RefCell<VecDeque<Rc<Wire>>>,
}

impl Network {
    pub(crate) fn new(seed: Option<u64>) -> Rc<Self> {
        Rc::new(Self {
            busy: RefCell::default(),
            backlogs: RefCell::default(),
            next_port: Cell::new(FIRST_PORT),
            next_client_port: Cell::new(FIRST_CLIENT_PORT),
            random: seed.map(Random::new),
            is_inside: Cell::new(false),
        })
    }

    pub(crate) fn random(&self) -> Option<&Random> {
        self.random.as_ref()
    }

    /// Marks that turns are running, until the returned value is dropped. `None` if they are
    /// running already.
    pub(crate) fn enter(&self) -> Option<Inside<'_>> {
        (!self.is_inside.replace(true)).then(|| Inside(&self.is_inside))
    }

    /// Whether turns are running.
    pub(crate) fn is_inside(&self) -> bool {
        self.is_inside.get()
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.busy.borrow().is_empty()
    }

    pub(super) fn list_wire(&self, wire: Rc<Wire>) {
        self.busy.borrow_mut().push(Busy::Wire(wire));
    }

    /// Schedules a call for the next turn, as one of its events.
    pub(crate) fn call_soon(&self, call: impl FnOnce() + 'static) {
        self.busy.borrow_mut().push(Busy::Call(Box::new(call)));
    }

    /// Handles the items of this turn, and reports readiness to their slots.
    pub(crate) fn deliver(&self, mut tell: impl FnMut(SlotId, Readiness)) {
        let mut busy = self.busy.take();
        if let Some(random) = &self.random {
            random.shuffle(&mut busy);
        }
        guard_each("an event in memory", busy.into_iter(), |item| {
            if self.random.as_ref().is_some_and(|random| random.one_in(4)) {
                self.busy.borrow_mut().push(item); // another time
                return;
            }
            match item {
                Busy::Wire(wire) => wire.deliver(self, &mut tell),
                Busy::Call(call) => call(),
                Busy::Backlog(backlog) => {
                    if let Some(slot) = backlog.slot.get() {
                        tell(slot, READABLE);
                    }
                }
            }
        });
    }

    /// An address for a client of `to`.
    pub(crate) fn client_address(&self, to: IpAddr) -> SocketAddr {
        SocketAddr::new(to, take_port(&self.next_client_port, FIRST_CLIENT_PORT))
    }

    /// Connects to a port; its listener gets an event in the next turn. The client's end, number 0
    /// of the wire, is held by a test or driven by the reactor.
    pub(crate) fn dial(
        self: &Rc<Self>,
        to: SocketAddr,
        from: Option<IpAddr>,
        is_held: bool,
    ) -> Result<Rc<Wire>, io::ErrorKind> {
        let backlog = {
            let backlogs = self.backlogs.borrow();
            let listens = |backlog: &&Rc<Backlog>| backlog.listens_at(to);
            let found = backlogs.iter().find(listens);
            found.cloned().ok_or(io::ErrorKind::ConnectionRefused)?
        };
        let ip = match to.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        let from = self.client_address(from.unwrap_or(ip));
        let to = SocketAddr::new(ip, to.port());
        let wire = Wire::new(self, [from, to], is_held);
        wire.announce();
        backlog.waiting.borrow_mut().push_back(wire.clone());
        self.busy.borrow_mut().push(Busy::Backlog(backlog));
        Ok(wire)
    }
}

/// Takes the next port number, and starts again after the last.
fn take_port(next: &Cell<u16>, first: u16) -> u16 {
    let port = next.get();
    next.set(port.checked_add(1).unwrap_or(first));
    port
}

const READABLE: Readiness = Readiness {
    is_readable: true,
    is_writable: false,
    has_hung_up: false,
    cannot_send: false,
    has_failed: false,
};

/// Marks that turns are running.
pub(crate) struct Inside<'a>(&'a Cell<bool>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Backlog {
    fn listens_at(&self, address: SocketAddr) -> bool {
        let ip = self.address.ip();
        self.address.port() == address.port() && (ip.is_unspecified() || ip == address.ip())
    }
}

/// A listening port in memory.
pub(crate) struct MemoryListener {
    network: Weak<Network>,
    backlog: Rc<Backlog>,
}

impl MemoryListener {
    /// Port 0 takes a free port number.
    pub(crate) fn bind(network: &Rc<Network>, address: SocketAddr) -> io::Result<Self> {
        let mut backlogs = network.backlogs.borrow_mut();
        let is_taken = |address: SocketAddr| {
            backlogs.iter().any(|backlog| {
                let ips = [backlog.address.ip(), address.ip()];
                backlog.address.port() == address.port()
                    && ips[0].is_ipv4() == ips[1].is_ipv4()
                    && (ips[0] == ips[1] || ips.iter().any(IpAddr::is_unspecified))
            })
        };
        let address = match address.port() {
            0 => {
                let mut free = (FIRST_PORT..=u16::MAX)
                    .map(|_| take_port(&network.next_port, FIRST_PORT))
                    .map(|port| SocketAddr::new(address.ip(), port));
                free.find(|address| !is_taken(*address))
                    .ok_or(io::ErrorKind::AddrInUse)?
            }
            _ if is_taken(address) => return Err(io::ErrorKind::AddrInUse.into()),
            _ => address,
        };
        let backlog = Rc::new(Backlog {
            address,
            slot: Cell::new(None),
            waiting: RefCell::default(),
        });
        backlogs.push(backlog.clone());
        Ok(Self {
            network: Rc::downgrade(network),
            backlog,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.backlog.address
    }

    /// Sets the slot that gets an event for each new client.
    pub(crate) fn watch_at(&self, slot: SlotId) {
        self.backlog.slot.set(Some(slot));
    }

    pub(crate) fn accept(&self) -> io::Result<(MemoryStream, Address)> {
        match self.backlog.waiting.borrow_mut().pop_front() {
            Some(wire) => Ok((wire.stream(1), wire.address(0))),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Drop for MemoryListener {
    /// Frees the port; waiting clients are reset.
    fn drop(&mut self) {
        if let Some(network) = self.network.upgrade() {
            let mut backlogs = network.backlogs.borrow_mut();
            backlogs.retain(|backlog| !Rc::ptr_eq(backlog, &self.backlog));
        }
        for wire in self.backlog.waiting.take() {
            wire.close(1, true);
        }
    }
}

/// A reactor in memory has nothing left to wait for: no delayed call, no byte on its way, and no
/// call of `stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NothingLeftError;

impl fmt::Display for NothingLeftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the reactor would never return: nothing is left to do, and stop was not called",
        )
    }
}

impl Error for NothingLeftError {}
