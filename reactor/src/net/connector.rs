//! Client connections: the [`Connector`] that makes them, and what users write for it.
//!
//! A [`Link`] is what a connector stands for: its state, and in it, while it is connecting, the
//! [`Race`] of the addresses. Each [`Attempt`] is one socket; the one that wins hands its socket and
//! its slot over to a [`Connection`].
//!
//! What fails is told to the factory by the loop, and never from inside the call that made it fail:
//! a factory that has something of its own borrowed while it stops connecting must not be called
//! back there, and one that connects again from every failure must not fill the stack.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use slab::Slab;

use super::attempt::{Attempt, in_turn};
use super::connect_errors::{Attempts, all_failed};
use super::connection::Connection;
use super::endpoint::Host;
use super::lookup::Lookup;
use super::{
    Address, ClientEndpoint, ConnectError, ConnectorError, Factory, FailedAttempt, LookupError,
    Protocol, TcpClientEndpoint, Transport, UserError,
};
use crate::deferred::{Canceller, Deferred, Failure, Resolver, TimeoutError};
use crate::guard::{catch, guard, guard_each};
use crate::reactor::{Core, Descriptor, Reactor, Readiness, SlotId};
use crate::time::{DelayedCall, TimeSource};

#[cfg(unix)]
use super::UnixClientEndpoint;

/// When a server has as many connections waiting as it may, UNIX sockets are not told when it has
/// one less.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Makes the protocols of client connections, and is told how connecting goes (Twisted's
/// `ClientFactory`).
///
/// Whatever makes protocols is made one with `impl ClientFactory for MyFactory {}`. A factory in an
/// `Rc` may be used for several connectors; it is started before the first of them connects, and
/// stopped once none is connecting or connected.
///
/// ```
/// use deferred_reactor::Failure;
/// use deferred_reactor::net::{Address, ClientFactory, Connector, Factory, Protocol};
///
/// struct KeepsTrying<F>(F);
///
/// impl<F: Factory> Factory for KeepsTrying<F> {
///     fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
///         self.0.build_protocol(peer)
///     }
/// }
///
/// impl<F: Factory> ClientFactory for KeepsTrying<F> {
///     fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
///         eprintln!("{} is gone ({reason}), connecting again", connector.address());
///         connector.connect().expect("it is disconnected here");
///     }
/// }
/// ```
pub trait ClientFactory: Factory {
    /// Connecting has begun, and may be stopped from here.
    fn started_connecting(&self, connector: &Connector) {
        let _ = connector;
    }

    /// There will be no connection, unless [`connect`](Connector::connect) is called, here or later.
    ///
    /// The reason holds a [`ConnectionRefusedError`](super::ConnectionRefusedError), a
    /// [`TimeoutError`], a [`LookupError`], a [`UserError`] or a [`ConnectError`]; or a
    /// [`PanicError`](crate::PanicError), where `build_protocol` has panicked. Unless this is
    /// overridden, it is logged as a warning.
    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        let _ = connector;
        if !reason.is::<UserError>() {
            log::warn!(target: "reactor", "{reason}");
        }
    }

    /// The connection is gone, and its protocol has been told so;
    /// [`connect`](Connector::connect) makes another.
    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        let _ = (connector, reason);
    }
}

impl<F: ClientFactory + ?Sized> ClientFactory for Rc<F> {
    fn started_connecting(&self, connector: &Connector) {
        (**self).started_connecting(connector);
    }

    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        (**self).client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        (**self).client_connection_lost(connector, reason);
    }
}

/// Makes connections to one endpoint, for one factory, one at a time (Twisted's `IConnector`).
///
/// | state        | left by                              | then, and what the factory is told      |
/// |--------------|--------------------------------------|-----------------------------------------|
/// | disconnected | [`connect`](Self::connect)           | connecting: `started_connecting`        |
/// | connecting   | the first address that answers       | connected: `build_protocol`             |
/// | connecting   | the last address that fails, the limit, [`stop_connecting`](Self::stop_connecting), the reactor's end | disconnected: `client_connection_failed` |
/// | connected    | the end of the connection            | disconnected: `client_connection_lost`  |
///
/// The addresses of a name are tried in the order of RFC 8305: those of the two families in turn,
/// each a quarter of a second after the one before, or at once when that has failed. The first that
/// connects wins, and the others are closed. The factory is never told of a failure from inside the
/// call that made it fail, but a little later, by the loop.
///
/// Cheap to clone. Dropping it stops nothing: the reactor keeps what is connecting or connected. It
/// keeps its factory, so a factory that keeps a connector of its own is never dropped.
#[derive(Clone)]
pub struct Connector(Rc<Link>);

/// What a connector is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectorState {
    /// Nothing.
    Disconnected,
    /// It looks up a name, or waits for an address to answer; or it has failed, and the factory is
    /// still to be told.
    Connecting,
    /// It has a connection.
    Connected,
}

impl Connector {
    /// Connects once more. Calls [`started_connecting`](ClientFactory::started_connecting) before it
    /// returns.
    ///
    /// # Errors
    ///
    /// [`ConnectorError::AlreadyConnecting`], [`ConnectorError::AlreadyConnected`], or
    /// [`ConnectorError::ReactorGone`].
    pub fn connect(&self) -> Result<(), ConnectorError> {
        self.0.connect()
    }

    /// Gives up connecting. The factory is told later, and not inside this call, with a
    /// [`UserError`].
    ///
    /// # Errors
    ///
    /// [`ConnectorError::NotConnecting`] if it is not, any more or yet.
    pub fn stop_connecting(&self) -> Result<(), ConnectorError> {
        let core = self.0.core.upgrade().ok_or(ConnectorError::ReactorGone)?;
        let address = self.0.address.clone();
        match self.0.fail(&core, |_| UserError { address }.into()) {
            true => Ok(()),
            false => Err(ConnectorError::NotConnecting),
        }
    }

    /// Gives up connecting, or closes the connection once everything is sent; does nothing
    /// otherwise.
    pub fn disconnect(&self) {
        let transport = match &*self.0.state.borrow() {
            State::Connected(Some(transport)) => Some(transport.clone()),
            State::Connected(None) => {
                self.0.leaves_at_once.set(true);
                None
            }
            _ => None,
        };
        match transport {
            Some(transport) => transport.lose_connection(),
            // It is not connecting, perhaps, and then there is nothing to do.
            None => drop(self.stop_connecting()),
        }
    }

    /// Where it connects to, as it was asked for: `example.org:80`, `unix:/run/db.sock`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// What it is doing.
    pub fn state(&self) -> ConnectorState {
        match &*self.0.state.borrow() {
            State::Disconnected => ConnectorState::Disconnected,
            State::Connecting(_) | State::Failed(_) => ConnectorState::Connecting,
            State::Connected(_) => ConnectorState::Connected,
        }
    }

    /// The transport of the connection, if there is one. Its protocol has one, too.
    pub fn transport(&self) -> Option<Transport> {
        match &*self.0.state.borrow() {
            State::Connected(transport) => transport.clone(),
            _ => None,
        }
    }

    /// The reactor that it connects in, unless that is gone.
    pub fn reactor(&self) -> Option<Reactor> {
        self.0.core.upgrade().map(Reactor::from_core)
    }

    /// The time of its reactor; or, where that is gone, a time that does not pass.
    pub(super) fn time_source(&self) -> TimeSource {
        match self.0.core.upgrade() {
            Some(core) => core.time().clone(),
            None => TimeSource::frozen_at(Instant::now()),
        }
    }

    pub(super) fn downgrade(&self) -> WeakConnector {
        WeakConnector(Rc::downgrade(&self.0))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.0.address)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// A connector that its factory may keep.
pub(super) struct WeakConnector(Weak<Link>);

impl WeakConnector {
    pub(super) fn upgrade(&self) -> Option<Connector> {
        self.0.upgrade().map(Connector)
    }

    pub(super) fn is(&self, connector: &Connector) -> bool {
        std::ptr::eq(self.0.as_ptr(), Rc::as_ptr(&connector.0))
    }
}

impl Reactor {
    /// Connects to a TCP port, and makes a protocol when the connection is there.
    ///
    /// `address` is `"host:port"`, `(host, port)` or a `SocketAddr`; for a limit other than 30
    /// seconds, or a local address, give a [`TcpClientEndpoint`]. Whatever goes wrong, also with the
    /// text of the address, is told to the factory. Connecting begins when the reactor runs.
    ///
    /// A name is looked up in a thread of the pool, unless there is
    /// [another way](Self::install_name_resolver). A thread cannot be interrupted: when the reactor
    /// stops meanwhile, [`run`](Self::run) returns once the system has answered.
    ///
    /// ```
    /// use deferred_reactor::net::{Protocol, Transport, for_protocol};
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// struct Ping;
    ///
    /// impl Protocol for Ping {
    ///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
    ///         transport.write(b"ping");
    ///         Ok(())
    ///     }
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         println!("{}", String::from_utf8_lossy(data));
    ///         transport.lose_connection();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let connector = reactor.connect_tcp("localhost:7", for_protocol(|| Ping));
    /// assert_eq!(connector.address(), "localhost:7");
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn connect_tcp(
        &self,
        address: impl Into<TcpClientEndpoint>,
        factory: impl ClientFactory,
    ) -> Connector {
        let endpoint = ClientEndpoint::Tcp(address.into());
        Connector(Link::start(self.core(), endpoint, Rc::new(factory), None))
    }

    /// Connects to a UNIX socket, and makes a protocol when the connection is there.
    ///
    /// `path` is a path, or a [`UnixClientEndpoint`] for a limit other than 30 seconds. The rest is
    /// as for [`connect_tcp`](Self::connect_tcp).
    ///
    /// ```no_run
    /// # use deferred_reactor::net::{Protocol, Transport, for_protocol};
    /// # use deferred_reactor::{Failure, Reactor};
    /// # struct Query;
    /// # impl Protocol for Query {
    /// #     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> { Ok(()) }
    /// # }
    /// let reactor = Reactor::new()?;
    /// reactor.connect_unix("/run/counter.sock", for_protocol(|| Query));
    /// reactor.run()?;
    /// # Ok::<(), Failure>(())
    /// ```
    #[cfg(unix)]
    pub fn connect_unix(
        &self,
        path: impl Into<UnixClientEndpoint>,
        factory: impl ClientFactory,
    ) -> Connector {
        let endpoint = ClientEndpoint::Unix(path.into());
        Connector(Link::start(self.core(), endpoint, Rc::new(factory), None))
    }

    /// Connects, once, for one protocol (Twisted's `connectProtocol`).
    ///
    /// The Deferred fires when `connection_made` of the protocol has been called, with the transport
    /// of the connection; or with the reason why there is none, which is what
    /// [`client_connection_failed`](ClientFactory::client_connection_failed) would get. Cancelling it
    /// stops connecting. Dropping it does not.
    ///
    /// ```
    /// use deferred_reactor::net::{ConnectionRefusedError, Protocol, Transport};
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// struct Shout;
    ///
    /// impl Protocol for Shout {
    ///     fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         println!("{}", String::from_utf8_lossy(data).to_uppercase());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let reactor = Reactor::new()?;
    /// let stop = reactor.clone();
    /// reactor
    ///     .connect_protocol("127.0.0.1:1", Shout)
    ///     .map(|transport| transport.write(b"anybody there?"))
    ///     .add_errback(|failure| {
    ///         failure.trap::<ConnectionRefusedError>()?;
    ///         Ok(())
    ///     })
    ///     .add_both(move |result| {
    ///         stop.stop()?;
    ///         result
    ///     });
    /// reactor.run()?;
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn connect_protocol(
        &self,
        endpoint: impl Into<ClientEndpoint>,
        protocol: impl Protocol,
    ) -> Deferred<Transport> {
        let link = Rc::new(Cell::new(Weak::<Link>::new()));
        let to_stop = link.clone();
        let (deferred, resolver) = Deferred::with_canceller(move |_| {
            // The Deferred has its result when this returns; that of connecting comes too late.
            if let Some(link) = to_stop.take().upgrade() {
                Connector(link).disconnect();
            }
        });
        let factory = Rc::new(OneProtocol(Cell::new(Some(Box::new(protocol)))));
        let started = Link::start(self.core(), endpoint.into(), factory, Some(resolver));
        link.set(Rc::downgrade(&started));
        deferred
    }
}

/// The factory behind `connect_protocol`, which tells the Deferred and not the factory.
struct OneProtocol(Cell<Option<Box<dyn Protocol>>>);

impl Factory for OneProtocol {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        self.0.take()
    }
}

impl ClientFactory for OneProtocol {
    fn client_connection_failed(&self, _: &Connector, _: &Failure) {}
}

/// What clients share in one reactor.
#[derive(Default)]
pub(crate) struct Clients {
    /// Those that are connecting. The reactor keeps them, as nobody else has to.
    connecting: RefCell<Slab<Rc<Link>>>,
    /// Those that are connected. Here, and not in their connections, so that those which were
    /// accepted pay nothing for it.
    connected: RefCell<HashMap<SlotId, Rc<Link>>>,
    pub(super) lookup: Lookup,
}

impl Clients {
    /// Tells all that are connecting that the reactor stops.
    pub(crate) fn shut_down(&self, core: &Rc<Core>) {
        guard_each("the end of connecting", self.all().into_iter(), |link| {
            let address = link.address.clone();
            link.fail(core, |attempts| {
                ConnectError {
                    address,
                    attempts,
                    is_stopped: true,
                }
                .into()
            });
            link.tell_failure(core);
        });
    }

    /// Lets go of those that go on connecting whatever they are told.
    pub(crate) fn give_up(&self, core: &Rc<Core>) {
        for link in self.all() {
            log::error!(
                target: "reactor",
                "connecting to {} was begun again and again while the reactor stopped",
                link.address
            );
            link.fail(core, |_| Failure::message("the reactor stopped"));
            link.state.replace(State::Disconnected);
            self.leave(&link);
            link.settle(core);
        }
    }

    /// The connection of this slot is lost, and its protocol has been told.
    pub(super) fn lost(&self, core: &Core, slot: SlotId, reason: Failure) {
        let link = self.connected.borrow_mut().remove(&slot);
        if let Some(link) = link {
            link.lost(core, reason);
        }
    }

    fn all(&self) -> Vec<Rc<Link>> {
        let connecting = self.connecting.borrow();
        connecting.iter().map(|(_, link)| link.clone()).collect()
    }

    fn join(&self, link: Rc<Link>) {
        let mut connecting = self.connecting.borrow_mut();
        let entry = connecting.vacant_entry();
        link.key.set(Some(entry.key()));
        entry.insert(link);
    }

    fn leave(&self, link: &Link) {
        if let Some(key) = link.key.take() {
            let left = self.connecting.borrow_mut().try_remove(key);
            drop(left); // with nothing borrowed
        }
    }
}

/// What a connector stands for.
pub(crate) struct Link {
    core: Weak<Core>,
    endpoint: ClientEndpoint,
    address: String,
    factory: Rc<dyn ClientFactory>,
    /// Never borrowed while something of the user's is called.
    state: RefCell<State>,
    /// Tells this try from those before it, which may still have calls waiting.
    tries: Cell<u64>,
    /// Where it is among those that are connecting.
    key: Cell<Option<usize>>,
    /// The factory has been told to start, and not yet to stop.
    has_opened_factory: Cell<bool>,
    /// It was told to disconnect while its protocol was being built.
    leaves_at_once: Cell<bool>,
    /// Who waits for the first connection, where it is not the factory.
    waiter: Cell<Option<Resolver<Transport>>>,
}

enum State {
    Disconnected,
    Connecting(Race),
    /// Connecting has failed, and the factory is to be told.
    Failed(Failure),
    /// `None` while the protocol is being built.
    Connected(Option<Transport>),
}

/// One try to connect: addresses that compete.
#[derive(Default)]
struct Race {
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

impl Link {
    fn start(
        core: &Rc<Core>,
        endpoint: ClientEndpoint,
        factory: Rc<dyn ClientFactory>,
        waiter: Option<Resolver<Transport>>,
    ) -> Rc<Self> {
        let link = Rc::new(Self {
            core: Rc::downgrade(core),
            address: endpoint.to_string(),
            endpoint,
            factory,
            state: RefCell::new(State::Disconnected),
            tries: Cell::new(0),
            key: Cell::new(None),
            has_opened_factory: Cell::new(false),
            leaves_at_once: Cell::new(false),
            waiter: Cell::new(waiter),
        });
        // It cannot be refused: a new one is disconnected, and its reactor is here.
        let _ = link.connect();
        link
    }

    fn connect(self: &Rc<Self>) -> Result<(), ConnectorError> {
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
        let timeout = self.call_later(&core, limit, move |link, core| {
            link.fail(core, |attempts| {
                let to = format!(
                    "connection to {}{}",
                    link.address,
                    Attempts(&link.address, &attempts)
                );
                TimeoutError::waiting_for(to, limit).into()
            });
        });
        self.state.replace(State::Connecting(Race {
            timeout: Some(timeout),
            ..Race::default()
        }));
        core.clients().join(self.clone());
        if !self.has_opened_factory.replace(true) {
            core.factory_opens(&*self.factory);
        }
        guard("started_connecting", || {
            self.factory.started_connecting(&Connector(self.clone()));
        });
        core.want_attention(self.clone());
        Ok(())
    }

    /// Makes a call later, unless this try is over by then.
    fn call_later(
        self: &Rc<Self>,
        core: &Core,
        delay: Duration,
        call: impl FnOnce(&Rc<Self>, &Rc<Core>) + 'static,
    ) -> DelayedCall {
        let (link, this_try) = (Rc::downgrade(self), self.tries.get());
        core.time().call_later(delay, move || {
            if let Some(link) = link.upgrade()
                && link.tries.get() == this_try
                && let Some(core) = link.core.upgrade()
            {
                call(&link, &core);
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
                Host::Invalid(text) => {
                    let cause = "not a host and a port number with a colon between them";
                    self.fail_lookup(core, text, cause.into());
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
        let (link, this_try, name) = (Rc::downgrade(self), self.tries.get(), name.to_owned());
        drop(found.add_both(move |result| {
            if let Some(link) = link.upgrade()
                && link.tries.get() == this_try
                && let Some(core) = link.core.upgrade()
            {
                link.looked_up(&core, &name, result);
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
                let failure = Failure::from_panic(payload);
                log::error!(target: "reactor", "build_protocol for {peer} {failure}");
                core.release(slot);
                drop(stream);
                self.state.replace(State::Failed(failure));
                return core.want_attention(self);
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
        connection.ready(core, readiness);
    }

    /// Ends this try; the factory is told by the loop. `false` if it is not connecting.
    fn fail(
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
        core.want_attention(self.clone());
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
        guard("client_connection_failed", || {
            let connector = Connector(self.clone());
            self.factory.client_connection_failed(&connector, &reason);
        });
        self.settle(core);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.errback(reason);
        }
    }

    fn lost(self: &Rc<Self>, core: &Core, reason: Failure) {
        self.state.replace(State::Disconnected);
        guard("client_connection_lost", || {
            let connector = Connector(self.clone());
            self.factory.client_connection_lost(&connector, &reason);
        });
        self.settle(core);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.errback(reason);
        }
    }

    /// Stops the factory, unless it has connected again.
    fn settle(&self, core: &Core) {
        let is_disconnected = matches!(*self.state.borrow(), State::Disconnected);
        if is_disconnected && self.has_opened_factory.replace(false) {
            core.factory_closed(&*self.factory);
        }
    }
}

impl Descriptor for Link {
    fn ready(self: Rc<Self>, _: &Rc<Core>, _: Readiness) {}

    fn attend(self: Rc<Self>, core: &Rc<Core>) {
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
