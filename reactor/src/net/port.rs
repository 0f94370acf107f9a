//! A listening port: a TCP port, or a UNIX socket.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};

use super::accept_backoff::{AcceptBackoff, PortStats, REST, Shortage, is_shortage};
use super::acceptor::Acceptor;
use super::connection::Connection;
use super::stream::Stream;
use super::{Address, Factory};
use crate::deferred::Deferred;
use crate::guard::{catch, guard, log_panic};
use crate::health::{Callback, CallbackKind};
use crate::reactor::{Core, Descriptor, Reactor, Readiness, SlotId};

/// Maximum number of connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// The reactor's side of a port.
pub(crate) struct Listener {
    slot: SlotId,
    address: Address,
    /// `None` once closed.
    socket: RefCell<Option<Acceptor>>,
    backoff: Rc<AcceptBackoff>,
    factory: Rc<Opened>,
}

/// The factory of a port; stopped when the last listener of the port closes.
struct Opened {
    factory: Rc<dyn Factory>,
    /// The source line that opened the port.
    line: &'static Location<'static>,
    listeners: Cell<usize>,
}

impl Opened {
    fn listener_closed(&self, core: &Core) {
        self.listeners.set(self.listeners.get() - 1);
        if self.listeners.get() == 0 {
            core.factory_closed(&*self.factory, self.line);
        }
    }
}

impl Listener {
    /// Accepts until no client is waiting. Returns `true` if clients may still be waiting, and an
    /// error after a shortage or after nothing but errors.
    fn accept(&self, core: &Rc<Core>) -> io::Result<bool> {
        let mut failed = 0;
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match &*self.socket.borrow() {
                Some(socket) => socket.accept(),
                None => return Ok(false),
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.backoff.count_accepted();
                    self.welcome(core, stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if !is_shortage(&error) && failed + 1 < ACCEPTS_PER_TURN => {
                    self.backoff.count_failed(&error);
                    failed += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn welcome(&self, core: &Rc<Core>, mut stream: Stream, peer: Address) {
        let built = catch(|| self.factory.factory.build_protocol(&peer));
        let protocol = match built {
            Ok(Some(protocol)) => protocol,
            Ok(None) => return,
            Err(payload) => {
                let line = self.factory.line;
                let what = format_args!("build_protocol for {peer} of the factory given at {line}");
                log_panic("reactor", what, payload);
                return;
            }
        };
        match stream.watch(core) {
            Ok(slot) => {
                let connection = Connection::new(core, slot, stream, peer, protocol);
                core.occupy(slot, connection.clone());
                connection.start(core);
            }
            Err(error) => {
                self.backoff.count_refused(&error);
                crate::logging::error!(target: "reactor", "closed the connection from {peer}: the selector cannot watch it: {error}");
            }
        }
    }

    /// Tries again after a delay. The selector does not report readiness again for clients that
    /// already wait, so a delayed call does it, and the loop does not spin.
    fn rest(self: &Rc<Self>, core: &Rc<Core>) {
        self.backoff.begin_rest();
        let core_again = Rc::downgrade(core);
        let listener = Rc::downgrade(self);
        core.time()
            .call_later_for(self.factory.line, REST, move || {
                if let (Some(core), Some(listener)) = (core_again.upgrade(), listener.upgrade()) {
                    listener.backoff.end_rest();
                    listener.service(&core);
                }
            });
    }

    fn close(&self, core: &Core) {
        if self.socket.take().is_some() {
            self.backoff.close();
            core.release(self.slot);
            self.factory.listener_closed(core);
        }
    }
}

impl Descriptor for Listener {
    fn on_ready(self: Rc<Self>, core: &Rc<Core>, _: Readiness) {
        self.service(core);
    }

    fn service(self: Rc<Self>, core: &Rc<Core>) {
        // Clients that arrive meanwhile wait with the others.
        if self.backoff.is_resting() {
            return;
        }
        match self.accept(core) {
            Ok(false) => self.backoff.is_done(),
            Ok(true) => core.request_service(self),
            Err(error) => {
                let accept = || match &*self.socket.borrow() {
                    Some(socket) => Ok(socket.accept()?.0),
                    None => Err(io::ErrorKind::WouldBlock.into()),
                };
                // Without a shortage no client is refused, but a broken socket must not keep the
                // loop busy.
                if !is_shortage(&error) || self.backoff.is_short(&error, accept) == Shortage::Lasts
                {
                    self.rest(core);
                }
                self.backoff.tell(&self.address, &error);
            }
        }
    }

    fn shut_down(self: Rc<Self>, core: &Rc<Core>) {
        self.close(core);
    }

    fn callback(&self) -> Callback {
        Callback::at(CallbackKind::Port, self.factory.line)
    }
}

/// A listening port (Twisted's `IListeningPort`).
///
/// Dropping it leaves the port open; the reactor closes it when it stops.
#[derive(Clone)]
pub struct Port {
    core: Weak<Core>,
    /// One listener for each address; at least one.
    listeners: Rc<[Listening]>,
}

/// The part of a listener that a port keeps.
struct Listening {
    listener: Weak<Listener>,
    address: Address,
    backoff: Rc<AcceptBackoff>,
}

impl Port {
    /// Listens on `listeners`, at least one, and starts the factory.
    pub(super) fn open(
        core: &Rc<Core>,
        sockets: Vec<Acceptor>,
        factory: Rc<dyn Factory>,
        line: &'static Location<'static>,
    ) -> io::Result<Self> {
        let factory = Rc::new(Opened {
            factory,
            line,
            listeners: Cell::new(sockets.len()),
        });
        let mut listeners: Vec<Rc<Listener>> = Vec::with_capacity(sockets.len());
        for mut socket in sockets {
            let watched = socket
                .address()
                .and_then(|address| Ok((address, socket.watch(core)?)));
            let (address, slot) = watched.inspect_err(|_| {
                // All of them or none. No other code knows these slots yet.
                listeners.iter().for_each(|one| core.release(one.slot));
            })?;
            let listener = Rc::new(Listener {
                slot,
                backoff: Rc::new(AcceptBackoff::new(&address, core.network().is_some())),
                address,
                socket: RefCell::new(Some(socket)),
                factory: factory.clone(),
            });
            core.occupy(slot, listener.clone());
            listeners.push(listener);
        }
        core.factory_opens(&*factory.factory, line);
        let listening = listeners.iter().map(|listener| Listening {
            listener: Rc::downgrade(listener),
            address: listener.address.clone(),
            backoff: listener.backoff.clone(),
        });
        let port = Self {
            core: Rc::downgrade(core),
            listeners: listening.collect(),
        };
        let what = format_args!("port_opened of the factory given at {line}");
        guard(what, || factory.factory.port_opened(&port));
        Ok(port)
    }

    /// The bound address, with the real port number (Twisted's `getHost`); the first one, if there
    /// are [several](Self::addresses).
    pub fn address(&self) -> &Address {
        &self.listeners[0].address
    }

    /// All bound addresses; a name may have several. For TCP, all have the same port number if they
    /// were asked for the same.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(|one| &one.address)
    }

    /// The reactor that drives the port; `None` once the reactor is dropped.
    pub fn reactor(&self) -> Option<Reactor> {
        self.core.upgrade().map(Reactor::from_core)
    }

    /// Accepts now the connections that wait in the system's queue. Clients in that queue believe
    /// that they are connected, and lose the connection when the port is
    /// [closed](Self::stop_listening).
    pub fn accept_waiting(&self) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        for listener in self.open_listeners() {
            // A shortage of descriptors ends the loop: the waiting clients cannot be accepted.
            while let Ok(true) = listener.accept(&core) {}
        }
    }

    /// Closes the port. Connections accepted before stay open.
    ///
    /// When the Deferred fires (for TCP at once), the port number can be bound again, and the file
    /// of a UNIX socket is removed, unless another server has replaced it.
    #[track_caller]
    pub fn stop_listening(&self) -> Deferred<()> {
        if let Some(core) = self.core.upgrade() {
            for listener in self.open_listeners() {
                listener.close(&core);
            }
        }
        Deferred::succeed(())
    }

    /// Numbers of connections accepted and refused so far; also after the port is closed.
    ///
    /// When the process is out of descriptors, existing connections continue. New clients wait for
    /// a tenth of a second; those that still find no room are closed with a reset and counted in
    /// [`PortStats::refused`]. The port accepts again as soon as there is room.
    pub fn stats(&self) -> PortStats {
        let mut stats = PortStats::default();
        for one in &*self.listeners {
            stats.add(one.backoff.stats());
        }
        stats
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open_listeners()
            .any(|listener| listener.socket.borrow().is_some())
    }

    fn open_listeners(&self) -> impl Iterator<Item = Rc<Listener>> {
        self.listeners
            .iter()
            .filter_map(|one| one.listener.upgrade())
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("address", self.address())
            .finish_non_exhaustive()
    }
}
