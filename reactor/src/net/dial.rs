//! How a connection is made: a name is looked up, and its addresses compete.
//!
//! A [`Dialer`] is what a connector stands for: its state, and in it, while it is connecting, the
//! [`Race`] of the addresses. Each [`Attempt`] is one socket; the one that wins hands its socket and
//! its slot over to a [`Connection`].
//!
//! What fails is told to the factory by the loop, and never from inside the call that made it fail:
//! a factory that has something of its own borrowed while it stops connecting must not be called
//! back there, and one that connects again from every failure must not fill the stack.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::time::Duration;

use slab::Slab;

use super::attempt::{Attempt, in_turn};
use super::connect_errors::{Attempts, all_failed};
use super::connection::Connection;
use super::endpoint::Host;
use super::lookup::Lookup;
use super::{
    Address, ClientEndpoint, ClientFactory, ConnectError, Connector, ConnectorError, FailedAttempt,
    LookupError, Protocol, Transport,
};
use crate::deferred::{Canceller, Failure, Resolver, TimeoutError};
use crate::guard::{catch, guard, guard_each};
use crate::reactor::{Core, Descriptor, Reactor, Readiness, SlotId};
use crate::time::DelayedCall;

/// When a server has as many connections waiting as it may, UNIX sockets are not told when it has
/// one less.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What clients share in one reactor.
#[derive(Default)]
pub(crate) struct Clients {
    /// Those that are connecting. The reactor keeps them, as nobody else has to.
    connecting: RefCell<Slab<Rc<Dialer>>>,
    /// Those that are connected. Here, and not in their connections, so that those which were
    /// accepted pay nothing for it.
    connected: RefCell<HashMap<SlotId, Rc<Dialer>>>,
    pub(super) lookup: Lookup,
}

impl Clients {
    /// Tells all that are connecting that the reactor stops.
    pub(crate) fn shut_down(&self, core: &Rc<Core>) {
        guard_each("the end of connecting", self.all().into_iter(), |dialer| {
            let address = dialer.address.clone();
            dialer.fail(core, |attempts| {
                ConnectError {
                    address,
                    attempts,
                    is_stopped: true,
                }
                .into()
            });
            dialer.tell_failure(core);
        });
    }

    /// Lets go of those that go on connecting whatever they are told.
    pub(crate) fn give_up(&self, core: &Rc<Core>) {
        for dialer in self.all() {
            crate::logging::error!(
                target: "reactor",
                "connecting to {} was begun again and again while the reactor stopped",
                dialer.address
            );
            dialer.fail(core, |_| Failure::message("the reactor stopped"));
            dialer.state.replace(State::Disconnected);
            self.leave(&dialer);
            dialer.settle(core);
        }
    }

    /// The connection of this slot is lost, and its protocol has been told.
    pub(super) fn lost(&self, core: &Core, slot: SlotId, reason: Failure) {
        let dialer = self.connected.borrow_mut().remove(&slot);
        if let Some(dialer) = dialer {
            dialer.lost(core, reason);
        }
    }

    fn all(&self) -> Vec<Rc<Dialer>> {
        let connecting = self.connecting.borrow();
        connecting
            .iter()
            .map(|(_, dialer)| dialer.clone())
            .collect()
    }

    fn join(&self, dialer: Rc<Dialer>) {
        let mut connecting = self.connecting.borrow_mut();
        let entry = connecting.vacant_entry();
        dialer.key.set(Some(entry.key()));
        entry.insert(dialer);
    }

    fn leave(&self, dialer: &Dialer) {
        if let Some(key) = dialer.key.take() {
            let left = self.connecting.borrow_mut().try_remove(key);
            drop(left); // with nothing borrowed
        }
    }
}

/// What a connector stands for.
pub(crate) struct Dialer {
    pub(super) core: Weak<Core>,
    endpoint: ClientEndpoint,
    pub(super) address: String,
    factory: Rc<dyn ClientFactory>,
    /// Who asked for it.
    pub(super) line: &'static Location<'static>,
    /// Never borrowed while something of the user's is called.
    pub(super) state: RefCell<State>,
    /// Tells this try from those before it, which may still have calls waiting.
    tries: Cell<u64>,
    /// Where it is among those that are connecting.
    key: Cell<Option<usize>>,
    /// The factory has been told to start, and not yet to stop.
    has_opened_factory: Cell<bool>,
    /// It was told to disconnect while its protocol was being built.
    pub(super) leaves_at_once: Cell<bool>,
    /// Who waits for the first connection, where it is not the factory.
    waiter: Cell<Option<Resolver<Transport>>>,
}

pub(super) enum State {
    Disconnected,
    Connecting(Race),
    /// Connecting has failed, and the factory is to be told.
    Failed(Failure),
    /// `None` while the protocol is being built.
    Connected(Option<Transport>),
}

/// One try to connect: addresses that compete.
#[derive(Default)]
pub(super) struct Race {
    has_begun: bool,
    timeout: Option<DelayedCall>,
    lookup: Option<Canceller>,
    /// Those not tried yet.
    addresses: VecDeque<Address>,
    /// The call that tries the next of them.
    next: Option<DelayedCall>,
    attempts: Vec<Rc<Attempt>>,
    failed: Vec<FailedAttempt>,
}

impl Race {
    /// Closes and cancels everything.
    fn end(&mut self, core: &Core) {
        // A call that is being made just now has done what it was for.
        for call in [self.timeout.take(), self.next.take()]
            .into_iter()
            .flatten()
        {
            let _ = call.cancel();
        }
        for attempt in self.attempts.drain(..) {
            drop(attempt.stream.take());
            core.release(attempt.slot);
        }
        if let Some(lookup) = self.lookup.take() {
            lookup.cancel();
        }
    }
}

impl Dialer {
    #[track_caller]
    pub(super) fn start(
        core: &Rc<Core>,
        endpoint: ClientEndpoint,
        factory: Rc<dyn ClientFactory>,
        waiter: Option<Resolver<Transport>>,
    ) -> Rc<Self> {
        let dialer = Rc::new(Self {
            core: Rc::downgrade(core),
            address: endpoint.to_string(),
            endpoint,
            factory,
            line: Location::caller(),
            state: RefCell::new(State::Disconnected),
            tries: Cell::new(0),
            key: Cell::new(None),
            has_opened_factory: Cell::new(false),
            leaves_at_once: Cell::new(false),
            waiter: Cell::new(waiter),
        });
        // It cannot be refused: a new one is disconnected, and its reactor is here.
        let _ = dialer.connect();
        dialer
    }

    pub(super) fn connect(self: &Rc<Self>) -> Result<(), ConnectorError> {
        let core = self.core.upgrade().ok_or(ConnectorError::ReactorGone)?;
        match &*self.state.borrow() {
            State::Disconnected => {}
            State::Connecting(_) | State::Failed(_) => {
                return Err(ConnectorError::AlreadyConnecting);
            }
            State::Connected(_) => return Err(ConnectorError::AlreadyConnected),
        }
        self.tries.set(self.tries.get() + 1);
        let limit = self.endpoint.timeout();
        let timeout = self.call_later(&core, limit, move |dialer, core| {
            dialer.fail(core, |attempts| {
                let to = format!(
                    "connection to {}{}",
                    dialer.address,
                    Attempts(&dialer.address, &attempts)
                );
                Failure::cloneable(TimeoutError::waiting_for(to, limit))
            });
        });
        self.state.replace(State::Connecting(Race {
            timeout: Some(timeout),
            ..Race::default()
        }));
        core.clients().join(self.clone());
        if !self.has_opened_factory.replace(true) {
            core.factory_opens(&*self.factory, self.line);
        }
        guard(
            format_args!("started_connecting of the factory given at {}", self.line),
            || {
                self.factory
                    .started_connecting(&Connector::of(self.clone()));
            },
        );
        core.request_service(self.clone());
        Ok(())
    }

    /// Makes a call later, unless this try is over by then.
    fn call_later(
        self: &Rc<Self>,
        core: &Core,
        delay: Duration,
        call: impl FnOnce(&Rc<Self>, &Rc<Core>) + 'static,
    ) -> DelayedCall {
        let (dialer, this_try) = (Rc::downgrade(self), self.tries.get());
        core.time().call_later_for(self.line, delay, move || {
            if let Some(dialer) = dialer.upgrade()
                && dialer.tries.get() == this_try
                && let Some(core) = dialer.core.upgrade()
            {
                call(&dialer, &core);
            }
        })
    }

    fn begin(self: &Rc<Self>, core: &Rc<Core>) {
        match &self.endpoint {
            ClientEndpoint::Tcp(endpoint) => match &endpoint.host {
                Host::Address(address) => {
                    self.compete(core, [Address::Tcp(*address)].into());
                }
                Host::Name(name, port) => self.look_up(core, name, *port),
                Host::Invalid(error) => {
                    self.fail_lookup(core, &error.text, error.clone().into());
                }
            },
            #[cfg(unix)]
            ClientEndpoint::Unix(endpoint) => {
                self.compete(core, [Address::Unix(Some(endpoint.path.clone()))].into());
            }
        }
    }

    fn look_up(self: &Rc<Self>, core: &Rc<Core>, name: &str, port: u16) {
        let reactor = Reactor::from_core(core.clone());
        let found = core.clients().lookup.find(&reactor, name, port);
        let canceller = found.canceller();
        let unused = match &mut *self.state.borrow_mut() {
            State::Connecting(race) => race.lookup.replace(canceller),
            // Stopped from inside the lookup.
            _ => Some(canceller),
        };
        if let Some(canceller) = unused {
            canceller.cancel();
        }
        let (dialer, this_try, name) = (Rc::downgrade(self), self.tries.get(), name.to_owned());
        drop(found.add_both(move |result| {
            if let Some(dialer) = dialer.upgrade()
                && dialer.tries.get() == this_try
                && let Some(core) = dialer.core.upgrade()
            {
                dialer.looked_up(&core, &name, result);
            }
            Ok(())
        }));
    }

    /// May be called from anywhere, as lookups end where they like.
    fn looked_up(
        self: &Rc<Self>,
        core: &Rc<Core>,
        name: &str,
        result: Result<Vec<SocketAddr>, Failure>,
    ) {
        match result {
            Ok(addresses) if addresses.is_empty() => {
                self.fail_lookup(core, name, "it has no addresses".into());
            }
            Ok(addresses) => self.compete(core, in_turn(addresses)),
            Err(failure) => self.fail_lookup(core, name, failure.into_error()),
        }
    }

    fn fail_lookup(
        self: &Rc<Self>,
        core: &Rc<Core>,
        name: &str,
        cause: Box<dyn std::error::Error + Send + Sync>,
    ) {
        let name = name.to_owned();
        self.fail(core, |_| LookupError { name, cause }.into());
    }

    fn compete(self: &Rc<Self>, core: &Rc<Core>, addresses: VecDeque<Address>) {
        match &mut *self.state.borrow_mut() {
            State::Connecting(race) => race.addresses = addresses,
            _ => return,
        }
        self.try_next(core);
    }

    /// Tries the next address; the one after that some time later, or at once if it fails.
    fn try_next(self: &Rc<Self>, core: &Rc<Core>) {
        let (from, delay) = match &self.endpoint {
            ClientEndpoint::Tcp(endpoint) => (endpoint.bind_address, endpoint.attempt_delay),
            #[cfg(unix)]
            ClientEndpoint::Unix(_) => (None, ASK_AGAIN),
        };
        while let State::Connecting(race) = &mut *self.state.borrow_mut() {
            if let Some(call) = race.next.take() {
                // It may be the one that is being made.
                let _ = call.cancel();
            }
            let Some(address) = race.addresses.pop_front() else {
                if !race.attempts.is_empty() {
                    return;
                }
                break;
            };
            match Attempt::start(core, self, address.clone(), from) {
                Ok(attempt) => race.attempts.push(attempt),
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && matches!(address, Address::Unix(_)) =>
                {
                    race.addresses.push_front(address);
                }
                Err(error) => {
                    race.failed.push(FailedAttempt::new(address, error));
                    continue;
                }
            }
            if !race.addresses.is_empty() {
                race.next = Some(self.call_later(core, delay, Self::try_next));
            }
            return;
        }
        let address = self.address.clone();
        self.fail(core, |attempts| all_failed(address, attempts));
    }

    /// One address is out of the race.
    pub(super) fn attempt_failed(
        self: Rc<Self>,
        core: &Rc<Core>,
        attempt: &Rc<Attempt>,
        error: io::Error,
    ) {
        drop(attempt.stream.take());
        core.release(attempt.slot);
        if let State::Connecting(race) = &mut *self.state.borrow_mut() {
            race.attempts.retain(|other| !Rc::ptr_eq(other, attempt));
            let address = attempt.address.clone();
            race.failed.push(FailedAttempt::new(address, error));
        }
        self.try_next(core);
    }

    /// One address has connected: the race is over.
    pub(super) fn won(self: Rc<Self>, core: &Rc<Core>, winner: &Rc<Attempt>, readiness: Readiness) {
        let Some(stream) = winner.stream.take() else {
            return;
        };
        let state = self.state.replace(State::Connected(None));
        let State::Connecting(mut race) = state else {
            // An attempt of a race that has ended was closed with it.
            self.state.replace(state);
            return;
        };
        race.attempts.retain(|other| !Rc::ptr_eq(other, winner));
        race.end(core);
        self.leaves_at_once.set(false);
        let (slot, peer) = (winner.slot, winner.address.clone());
        let built = catch(|| self.factory.build_protocol(&peer));
        let protocol = match built {
            Ok(Some(protocol)) => protocol,
            // As with Twisted, the connection is there, and is lost at once.
            Ok(None) => {
                self.leaves_at_once.set(true);
                Box::new(NoProtocol)
            }
            Err(payload) => {
                let line = self.line;
                let failure = Failure::from_panic_at(payload, line);
                crate::logging::error!(
                    target: "reactor",
                    "build_protocol for {peer} of the factory given at {line} {failure}"
                );
                core.release(slot);
                drop(stream);
                self.state.replace(State::Failed(failure));
                return core.request_service(self);
            }
        };
        core.clients().leave(&self);
        let connection = Connection::new(core, slot, stream, peer, protocol);
        connection.has_connector();
        let connected = &core.clients().connected;
        connected.borrow_mut().insert(slot, self.clone());
        core.occupy(slot, connection.clone());
        let transport = connection.transport_of();
        self.state
            .replace(State::Connected(Some(transport.clone())));
        if self.leaves_at_once.get() {
            transport.lose_connection();
        }
        connection.start(core);
        // If the connection is lost already, it has failed with the reason.
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.callback(transport);
        }
        // What the event said beside that is for the connection.
        connection.on_ready(core, readiness);
    }

    /// Ends this try; the factory is told by the loop. `false` if it is not connecting.
    pub(super) fn fail(
        self: &Rc<Self>,
        core: &Rc<Core>,
        reason: impl FnOnce(Vec<FailedAttempt>) -> Failure,
    ) -> bool {
        let mut race = match &mut *self.state.borrow_mut() {
            State::Connecting(race) => mem::take(race),
            _ => return false,
        };
        let reason = reason(mem::take(&mut race.failed));
        self.state.replace(State::Failed(reason));
        race.end(core);
        core.request_service(self.clone());
        true
    }

    fn tell_failure(self: &Rc<Self>, core: &Core) {
        let reason = match self.state.replace(State::Disconnected) {
            State::Failed(reason) => reason,
            state => {
                self.state.replace(state);
                return;
            }
        };
        core.clients().leave(self);
        guard(
            format_args!(
                "client_connection_failed of the factory given at {}",
                self.line
            ),
            || {
                let connector = Connector::of(self.clone());
                self.factory.client_connection_failed(&connector, &reason);
            },
        );
        self.settle(core);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.errback(reason);
        }
    }

    fn lost(self: &Rc<Self>, core: &Core, reason: Failure) {
        self.state.replace(State::Disconnected);
        guard(
            format_args!(
                "client_connection_lost of the factory given at {}",
                self.line
            ),
            || {
                let connector = Connector::of(self.clone());
                self.factory.client_connection_lost(&connector, &reason);
            },
        );
        self.settle(core);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.errback(reason);
        }
    }

    /// Stops the factory, unless it has connected again.
    fn settle(&self, core: &Core) {
        let is_disconnected = matches!(*self.state.borrow(), State::Disconnected);
        if is_disconnected && self.has_opened_factory.replace(false) {
            core.factory_closed(&*self.factory, self.line);
        }
    }
}

impl Descriptor for Dialer {
    fn on_ready(self: Rc<Self>, _: &Rc<Core>, _: Readiness) {}

    fn service(self: Rc<Self>, core: &Rc<Core>) {
        let begins = match &mut *self.state.borrow_mut() {
            State::Connecting(race) => !mem::replace(&mut race.has_begun, true),
            _ => false,
        };
        if begins {
            self.begin(core);
        } else {
            self.tell_failure(core);
        }
    }

    fn shut_down(self: Rc<Self>, _: &Rc<Core>) {}
}

/// The protocol of a connection that the factory did not want.
struct NoProtocol;

impl Protocol for NoProtocol {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}
