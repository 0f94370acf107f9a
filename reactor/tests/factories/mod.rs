//! What the tests of clients share: a factory made of closures that keeps a journal, servers that
//! do not answer, and errors in one word.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file takes this in as a module, and uses a part of it"
)]

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use deferred_reactor::net::{
    Address, ClientFactory, ConnectError, ConnectionRefusedError, Connector, Factory, LookupError,
    Protocol, UserError,
};
use deferred_reactor::{Failure, Reactor, TimeoutError};
use socket2::{Domain, Socket, Type};

use crate::peers::{Journal, Script, journal, kind, note};

type Build = dyn Fn(&Address) -> Option<Script>;
type OnConnector = dyn Fn(&Connector);
type OnEnd = dyn Fn(&Connector, &Failure);

/// A factory that notes what it is told, and then does what it was given.
pub struct Client {
    pub journal: Journal,
    build: Box<Build>,
    started: Box<OnConnector>,
    failed: Box<OnEnd>,
    lost: Box<OnEnd>,
}

impl Client {
    pub fn new(build: impl Fn() -> Script + 'static) -> Self {
        Self::for_peer(move |_| Some(build()))
    }

    /// One that is not meant to connect.
    pub fn none() -> Self {
        Self::new(|| unreachable!("connected"))
    }

    pub fn for_peer(build: impl Fn(&Address) -> Option<Script> + 'static) -> Self {
        Self {
            journal: journal(),
            build: Box::new(build),
            started: Box::new(|_| {}),
            failed: Box::new(|_, _| {}),
            lost: Box::new(|_, _| {}),
        }
    }

    pub fn noting(mut self, journal: &Journal) -> Self {
        self.journal = journal.clone();
        self
    }

    pub fn started(mut self, f: impl Fn(&Connector) + 'static) -> Self {
        self.started = Box::new(f);
        self
    }

    pub fn failed(mut self, f: impl Fn(&Connector, &Failure) + 'static) -> Self {
        self.failed = Box::new(f);
        self
    }

    pub fn lost(mut self, f: impl Fn(&Connector, &Failure) + 'static) -> Self {
        self.lost = Box::new(f);
        self
    }

    /// Stops the reactor when it has failed or lost its connection.
    pub fn then_stop(self, reactor: &Reactor) -> Self {
        let (one, other) = (reactor.clone(), reactor.clone());
        self.failed(move |_, _| stop(&one))
            .lost(move |_, _| stop(&other))
    }
}

impl Factory for Client {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        note(&self.journal, "build");
        Some(Box::new((self.build)(peer)?))
    }

    fn start_factory(&self) {
        note(&self.journal, "start");
    }

    fn stop_factory(&self) {
        note(&self.journal, "stop");
    }
}

impl ClientFactory for Client {
    fn started_connecting(&self, connector: &Connector) {
        note(&self.journal, "connecting");
        (self.started)(connector);
    }

    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        note(&self.journal, format!("failed: {}", why(reason)));
        (self.failed)(connector, reason);
    }

    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        note(&self.journal, format!("lost: {}", why(reason)));
        (self.lost)(connector, reason);
    }
}

/// Stops the reactor, whether it runs or not.
pub fn stop(reactor: &Reactor) {
    let _ = reactor.stop();
}

/// The reason in one word.
pub fn why(reason: &Failure) -> &'static str {
    if reason.is::<ConnectionRefusedError>() {
        "refused"
    } else if reason.is::<TimeoutError>() {
        "timeout"
    } else if reason.is::<LookupError>() {
        "lookup"
    } else if reason.is::<UserError>() {
        "user"
    } else if let Some(error) = reason.check::<ConnectError>() {
        if error.is_stopped {
            "stopped"
        } else {
            "cannot"
        }
    } else {
        kind(reason)
    }
}

/// An address of this machine where nobody listens. Nobody else is given the port while the socket
/// is there.
pub fn closed_port() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A server that has as many connections waiting as the system keeps for it, and takes none: who
/// connects gets no answer.
pub struct Busy {
    _socket: Socket,
    _waiting: Vec<Socket>,
    pub address: SocketAddr,
}

impl Busy {
    pub fn new() -> Self {
        let (socket, address) = closed_port();
        socket.listen(0).unwrap();
        let waiting = std::iter::repeat_with(|| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address.into());
            client
        });
        Self {
            _waiting: waiting.take(4).collect(),
            _socket: socket,
            address,
        }
    }
}

/// How many descriptors this process has open.
#[cfg(target_os = "linux")]
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A counter that closures share.
pub fn counter() -> Rc<Cell<u32>> {
    Rc::default()
}

pub fn add_one(counter: &Cell<u32>) -> u32 {
    counter.set(counter.get() + 1);
    counter.get()
}
