//! How a connection is made: a name is looked up, and attempts to its addresses compete.
//!
//! A [`Dialer`] is the shared state behind a connector. While it is connecting, it holds the
//! [`Race`] of the addresses. Each [`Attempt`] is one socket; the winner passes its socket and slot
//! to a [`Connection`].
//!
//! The loop calls the factory after a failure, never the call that failed: a factory that stops
//! connecting may hold a borrow of its own state, and one that connects again after every failure
//! must not fill the stack.

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

/// A UNIX socket gets no event when the server's full queue has room again, so it is tried again
/// after this time.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// The clients of one reactor.
#[derive(Default)]
pub(crate) struct Clients {
    /// Dialers that are connecting. The reactor keeps them, because no other owner has to.
    connecting: RefCell<Slab<Rc<Dialer>>>,
    /// Dialers that are connected. Stored here rather than in the connections, so that accepted
    /// connections need no space for them.
    connected: RefCell<HashMap<SlotId, Rc<Dialer>>>,
    pub(super) lookup: Lookup,
}

impl Clients {
    /// Fails all dialers that are connecting: the reactor stops.
    pub(crate) fn shut_down(&self, core: &Rc<Core>) {
        guard_each(
            "the failing of a connector",
            self.all().into_iter(),
            |dialer| {
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
            },
        );
    }

    /// Fails dialers that connect again after every failure.
    pub(crate) fn give_up(&self, core: &Rc<Core>) {
        for dialer in self.all() {
            crate::logging::error!(
                target: "reactor",
                "gave up connecting to {}: its factory connected again each time it failed while the reactor was stopping",
                dialer.address
            );
            dialer.fail(core, |_| Failure::message("the reactor stopped"));
            dialer.state.replace(State::Disconnected);
            self.leave(&dialer);
            dialer.settle(core);
        }
    }

    /// The connection of this slot is lost, after its protocol's `connection_lost`.
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

/// The shared state behind a connector.
pub(crate) struct Dialer {
    pub(super) core: Weak<Core>,
    endpoint: ClientEndpoint,
    pub(super) address: String,
    factory: Rc<dyn ClientFactory>,
    /// The source line that asked for the connection.
    pub(super) line: &'static Location<'static>,
    /// Never borrowed during a call of users' code.
    pub(super) state: RefCell<State>,
    /// Distinguishes this try from earlier ones, whose delayed calls may still be waiting.
    tries: Cell<u64>,
    /// The key of the dialer in `connecting`.
    key: Cell<Option<usize>>,
    /// The factory was started for this dialer, and not stopped yet.
    has_opened_factory: Cell<bool>,
    /// `disconnect` was called while the protocol was being built.
    pub(super) leaves_at_once: Cell<bool>,
    /// The Deferred of `connect_protocol`.
    waiter: Cell<Option<Resolver<Transport>>>,
}

pub(super) enum State {
    Disconnected,
    Connecting(Race),
    /// Connecting has failed, and the factory has not been called yet.
    Failed(Failure),
    /// `None` while the protocol is being built.
    Connected(Option<Transport>),
}

/// One try to connect: competing attempts.
#[derive(Default)]
pub(super) struct Race {
    has_begun: bool,
    timeout: Option<DelayedCall>,
    lookup: Option<Canceller>,
    /// Addresses not tried yet.
    addresses: VecDeque<Address>,
    /// The delayed call that tries the next address.
    next: Option<DelayedCall>,
    attempts: Vec<Rc<Attempt>>,
    failed: Vec<FailedAttempt>,
}

impl Race {
    /// Closes all attempts and cancels all calls.
    fn end(&mut self, core: &Core) {
        // A call that is running now has nothing left to do.
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
        // Not refused: a new dialer is disconnected, and its reactor exists.
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

    /// Schedules a call, which is skipped if this try is over by then.
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
            // Stopped inside the lookup.
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

    /// May run anywhere, because lookups may end anywhere.
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

    /// Tries the next address, and the one after that after a delay, or at once on failure.
    fn try_next(self: &Rc<Self>, core: &Rc<Core>) {
        let (from, delay) = match &self.endpoint {
            ClientEndpoint::Tcp(endpoint) => (endpoint.bind_address, endpoint.attempt_delay),
            #[cfg(unix)]
            ClientEndpoint::Unix(_) => (None, ASK_AGAIN),
        };
        while let State::Connecting(race) = &mut *self.state.borrow_mut() {
            if let Some(call) = race.next.take() {
                // The call may be the one that is running.
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

    /// Handles a failed attempt.
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

    /// Handles the attempt that connected: the race is over.
    pub(super) fn won(self: Rc<Self>, core: &Rc<Core>, winner: &Rc<Attempt>, readiness: Readiness) {
        let Some(stream) = winner.stream.take() else {
            return;
        };
        let state = self.state.replace(State::Connected(None));
        let State::Connecting(mut race) = state else {
            // Attempts of an ended race were closed with it.
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
            // As in Twisted, the connection exists and is lost at once.
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
        // If the connection is lost already, the Deferred has failed with the reason.
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.callback(transport);
        }
        // The rest of the event belongs to the connection.
        connection.on_ready(core, readiness);
    }

    /// Ends this try; the loop calls the factory later. Returns `false` if the dialer is not
    /// connecting.
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

/// The protocol of a connection for which the factory returned `None`.
struct NoProtocol;

impl Protocol for NoProtocol {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}
