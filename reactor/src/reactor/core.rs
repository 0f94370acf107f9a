//! The state that the reactor shares with the sockets it drives, and the slots of those sockets.
//!
//! Each [`Descriptor`] has a slot. The selector, or the network in memory, reports that a slot is
//! ready. A [`SlotId`] distinguishes a descriptor from earlier ones that used the same slot.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::io;
use std::panic::Location;
use std::rc::Rc;

use mio::event::Source;
use mio::{Events, Poll, Registry, Token, Waker};
use slab::Slab;

use super::run_loop::LifeState;
use crate::guard::guard;
use crate::health::{Callback, CallbackKind, Meter, Place};
use crate::net::memory::Network;
use crate::net::{
    Address, Clients, Factory, FactoryIdentity, ReadPool, Spares, Switches, Transport,
};
#[cfg(unix)]
use crate::signals::Signals;
use crate::threads::{Inbox, Pool, RemoteResolvers};
use crate::time::TimeSource;
use crate::triggers::Triggers;

/// The state of a reactor, shared with everything that it drives.
pub(crate) struct Core {
    pub(super) time: TimeSource,
    /// Borrowed only while asleep. `None` for a reactor in memory, which has a `network`.
    pub(super) poll: Option<RefCell<Poll>>,
    pub(super) registry: Option<Registry>,
    /// Replaces the system in a reactor in memory.
    pub(super) network: Option<Rc<Network>>,
    /// Taken out while the events are handled.
    pub(super) events: Cell<Option<Events>>,
    pub(super) slots: RefCell<Slab<Slot>>,
    pub(super) next_generation: Cell<u32>,
    /// Descriptors that have requested service; serviced before the next sleep.
    pub(super) service_requests: RefCell<Vec<Rc<dyn Descriptor>>>,
    /// One buffer for all connections; taken out while in use.
    pub(super) read_buffer: Cell<Vec<u8>>,
    read_pool: ReadPool,
    pub(super) spares: RefCell<Spares>,
    switches: RefCell<Switches>,
    /// Declared before the pool: dropping the pool joins its threads, and none may wait for the
    /// inbox then.
    pub(super) inbox: Inbox,
    pub(super) pool: Pool,
    pub(super) remote_resolvers: RemoteResolvers,
    pub(super) clients: Clients,
    pub(super) triggers: Rc<Triggers>,
    pub(super) meter: Rc<Meter>,
    pub(super) state: Cell<LifeState>,
    /// Number of runs so far.
    pub(super) runs: Cell<u64>,
    /// Whether `run` or `turn_once` is on the stack.
    pub(super) is_turning: Cell<bool>,
    /// From the *during* phase of startup until that of shutdown.
    pub(super) is_running: Cell<bool>,
    /// How many ports and connectors use each shared factory.
    pub(super) factories: RefCell<HashMap<FactoryIdentity, usize>>,
    pub(super) exit_signal: Cell<Option<i32>>,
    #[cfg(unix)]
    pub(super) signals: RefCell<Option<Signals>>,
}

/// The selector and the waker of a reactor outside of tests.
pub(super) struct System {
    poll: Poll,
    registry: Registry,
    waker: Waker,
}

/// A registered socket.
pub(super) struct Slot {
    /// Distinguishes this socket from earlier ones in the same slot.
    generation: u32,
    /// `None` between `register` and `occupy`.
    pub(super) descriptor: Option<Rc<dyn Descriptor>>,
}

/// Identifies one registered socket, and never another one, even when its slot is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SlotId {
    index: u32,
    generation: u32,
}

/// What a socket is watched for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interest {
    Read,
    Both,
}

/// What an event reports about a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readiness {
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// The peer sends no more.
    pub(crate) has_hung_up: bool,
    /// Nothing can be sent any more: the connection broke, or both sides have closed it.
    pub(crate) cannot_send: bool,
    /// The system has an error to report for the socket.
    pub(crate) has_failed: bool,
}

/// Something that the reactor drives (Twisted's `FileDescriptor`).
pub(crate) trait Descriptor {
    /// Handles an event.
    fn on_ready(self: Rc<Self>, core: &Rc<Core>, readiness: Readiness);

    /// Does the work for which service was requested.
    fn service(self: Rc<Self>, core: &Rc<Core>);

    /// Closes the descriptor, because the reactor stops.
    fn shut_down(self: Rc<Self>, core: &Rc<Core>);

    /// The transport of its protocol, if it has one.
    fn transport(self: Rc<Self>) -> Option<Transport> {
        None
    }

    /// Names the descriptor in records of slow callbacks.
    fn callback(&self) -> Callback {
        let kind = CallbackKind::Other("descriptor");
        Callback::new(kind, Place::Type(std::any::type_name::<Self>()))
    }

    /// The address of the peer, for records of slow callbacks.
    fn peer(&self) -> Option<Address> {
        None
    }
}

pub(super) const WAKER: Token = Token(usize::MAX);
pub(super) const SIGNAL: Token = Token(usize::MAX - 1);

/// Half of a token is the number of the slot, the other half is its generation.
const HALF: u32 = usize::BITS / 2;

/// Maximum number of events taken from the system in one call.
const EVENTS_PER_TURN: usize = 1024;

/// Size of the reactor's read buffer.
const READ_BUFFER_BYTES: usize = 64 * 1024;

impl System {
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        Ok(Self {
            poll,
            registry,
            waker,
        })
    }
}

impl Core {
    pub(super) fn new(
        time: TimeSource,
        system: Option<System>,
        network: Option<Rc<Network>>,
    ) -> Self {
        let events = system
            .is_some()
            .then(|| Events::with_capacity(EVENTS_PER_TURN));
        let (poll, registry, waker) = match system {
            Some(system) => (
                Some(RefCell::new(system.poll)),
                Some(system.registry),
                Some(system.waker),
            ),
            None => (None, None, None),
        };
        let meter = Rc::new(Meter::new(time.now()));
        let pool = Pool::new(&time);
        Self {
            time,
            poll,
            registry,
            network,
            events: Cell::new(events),
            slots: RefCell::new(Slab::new()),
            next_generation: Cell::new(0),
            service_requests: RefCell::new(Vec::new()),
            read_buffer: Cell::new(Vec::new()),
            read_pool: ReadPool::default(),
            spares: RefCell::new(Spares::default()),
            switches: RefCell::new(Switches::default()),
            inbox: Inbox::new(waker),
            pool,
            remote_resolvers: RefCell::new(Slab::new()),
            clients: Clients::default(),
            triggers: Rc::new(Triggers::default()),
            meter,
            state: Cell::new(LifeState::Idle),
            runs: Cell::new(0),
            is_turning: Cell::new(false),
            is_running: Cell::new(false),
            factories: RefCell::new(HashMap::new()),
            exit_signal: Cell::new(None),
            #[cfg(unix)]
            signals: RefCell::new(None),
        }
    }

    pub(crate) fn time(&self) -> &TimeSource {
        &self.time
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn remote_resolvers(&self) -> &RemoteResolvers {
        &self.remote_resolvers
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn switches(&self) -> RefMut<'_, Switches> {
        self.switches.borrow_mut()
    }

    pub(crate) fn spares(&self) -> RefMut<'_, Spares> {
        self.spares.borrow_mut()
    }

    /// Buffers for connections that hand on what they read.
    pub(crate) fn read_pool(&self) -> &ReadPool {
        &self.read_pool
    }

    pub(crate) fn take_read_buffer(&self) -> Vec<u8> {
        let mut buffer = self.read_buffer.take();
        if buffer.is_empty() {
            buffer.resize(READ_BUFFER_BYTES, 0);
        }
        buffer
    }

    pub(crate) fn put_read_buffer(&self, buffer: Vec<u8>) {
        self.read_buffer.set(buffer);
    }

    /// Registers a descriptor for service before the next sleep.
    pub(crate) fn request_service(&self, descriptor: Rc<dyn Descriptor>) {
        self.service_requests.borrow_mut().push(descriptor);
    }

    /// The network of a reactor in memory.
    pub(crate) fn network(&self) -> Option<&Rc<Network>> {
        self.network.as_ref()
    }

    /// The selector's registry. Fails in a reactor in memory, before a socket is opened.
    pub(crate) fn system(&self) -> io::Result<&Registry> {
        self.registry.as_ref().ok_or_else(|| {
            let message = "a reactor in memory has TCP connections and no other sockets";
            io::Error::new(io::ErrorKind::Unsupported, message)
        })
    }

    /// Registers a socket with the selector. Its descriptor [`occupy`](Self::occupy)s the slot
    /// next.
    pub(crate) fn register(
        &self,
        socket: &mut impl Source,
        interest: Interest,
    ) -> io::Result<SlotId> {
        let registry = self.system()?;
        let id = self.add_slot();
        let interest = match interest {
            Interest::Read => mio::Interest::READABLE,
            Interest::Both => mio::Interest::READABLE | mio::Interest::WRITABLE,
        };
        if let Err(error) = registry.register(socket, id.token(), interest) {
            self.release(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Adds a slot whose events do not come from the selector.
    pub(crate) fn add_slot(&self) -> SlotId {
        let generation = self.next_generation.get();
        self.next_generation.set(generation.wrapping_add(1));
        let index = self.slots.borrow_mut().insert(Slot {
            generation,
            descriptor: None,
        });
        // A process cannot have this many descriptors.
        SlotId {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation,
        }
    }

    pub(crate) fn occupy(&self, id: SlotId, descriptor: Rc<dyn Descriptor>) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(id.index as usize) {
            slot.descriptor = Some(descriptor);
        }
    }

    /// Frees the slot. Closing the socket ends the watch.
    pub(crate) fn release(&self, id: SlotId) {
        let mut slots = self.slots.borrow_mut();
        let is_same = |slot: &&mut Slot| slot.generation == id.generation;
        if slots.get_mut(id.index as usize).filter(is_same).is_some() {
            let released = slots.remove(id.index as usize);
            drop(slots); // the descriptor may be dropped here, with whatever it owns
            drop(released);
        }
    }

    /// The descriptor that an event is for, unless its slot was reused since.
    pub(super) fn find(&self, token: Token) -> Option<Rc<dyn Descriptor>> {
        let id = SlotId::of(token);
        let slots = self.slots.borrow();
        let slot = slots.get(id.index as usize)?;
        (slot.generation & generation_mask() == id.generation)
            .then(|| slot.descriptor.clone())
            .flatten()
    }

    /// The descriptor in this slot, unless the slot was reused since.
    pub(crate) fn descriptor(&self, id: SlotId) -> Option<Rc<dyn Descriptor>> {
        self.find(id.token())
    }

    pub(crate) fn factory_opens(&self, factory: &dyn Factory, line: &'static Location<'static>) {
        let is_first = match factory.shared_identity() {
            None => true,
            Some(identity) => {
                let mut factories = self.factories.borrow_mut();
                let ports = factories.entry(identity).or_default();
                *ports += 1;
                *ports == 1
            }
        };
        if is_first {
            guard(
                format_args!("start_factory of the factory given at {line}"),
                || factory.start_factory(),
            );
        }
    }

    pub(crate) fn factory_closed(&self, factory: &dyn Factory, line: &'static Location<'static>) {
        let is_last = match factory.shared_identity() {
            None => true,
            Some(identity) => {
                let mut factories = self.factories.borrow_mut();
                let ports = factories.entry(identity).or_default();
                *ports = ports.saturating_sub(1);
                let is_last = *ports == 0;
                if is_last {
                    factories.remove(&identity);
                }
                is_last
            }
        };
        if is_last {
            guard(
                format_args!("stop_factory of the factory given at {line}"),
                || factory.stop_factory(),
            );
        }
    }

    /// Passes an event to a descriptor.
    pub(crate) fn hand_on(self: &Rc<Self>, descriptor: Rc<dyn Descriptor>, readiness: Readiness) {
        self.meter.count_event();
        self.watched(descriptor, |descriptor| {
            descriptor.on_ready(self, readiness)
        });
    }

    /// Calls a descriptor, and measures the call if turns are observed.
    pub(super) fn watched(
        &self,
        descriptor: Rc<dyn Descriptor>,
        call: impl FnOnce(Rc<dyn Descriptor>),
    ) {
        let Some(frame) = self.meter.begin() else {
            return call(descriptor);
        };
        let callback = descriptor.callback(); // which it may not know any more when it is lost
        call(descriptor.clone());
        self.meter.end_frame(frame, callback, || descriptor.peer());
    }
}

fn generation_mask() -> u32 {
    u32::try_from(usize::MAX >> HALF).unwrap_or(u32::MAX)
}

impl SlotId {
    fn token(self) -> Token {
        Token(self.index as usize | ((self.generation & generation_mask()) as usize) << HALF)
    }

    fn of(token: Token) -> Self {
        Self {
            index: (token.0 & (usize::MAX >> HALF)) as u32,
            generation: (token.0 >> HALF) as u32,
        }
    }
}
