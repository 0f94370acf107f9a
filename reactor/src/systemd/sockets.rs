//! Sockets passed by the service manager.

use std::env;
use std::fmt;
use std::io;

use listenfd::ListenFd;

use crate::Reactor;
use crate::net::{CannotListenError, Factory, Port};

/// The sockets that systemd has opened for this process (`sd_listen_fds(3)`).
///
/// They are numbered from 0, in the order of the unit's `ListenStream=` lines, and named by its
/// `FileDescriptorName=`.
pub struct ListenSockets {
    sockets: ListenFd,
    names: Vec<String>,
}

impl ListenSockets {
    /// Takes the passed sockets; none outside of systemd, or if they were passed to another
    /// process.
    ///
    /// Call it once, and first in `main`: it removes the environment variables that describe the
    /// sockets, so that child processes do not use them. No other thread may read the environment
    /// meanwhile.
    pub fn from_env() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self {
            sockets: ListenFd::from_env(),
            names: names.split(':').map(str::to_owned).collect(),
        }
    }

    /// Number of passed sockets, including those that `listen` has used.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Returns `true` if no sockets were passed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index of the first socket with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        let names = self.names.iter().take(self.len());
        names.into_iter().position(|one| one == name)
    }

    /// Makes a protocol for each connection to a socket, which is a TCP or a UNIX socket (Twisted's
    /// endpoint `systemd:domain=INET:index=0`).
    ///
    /// Otherwise as [`Reactor::adopt_tcp_listener`]. systemd keeps a copy of the socket: while the
    /// port is closed, clients wait in its queue.
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] if there is no such socket, if `listen` has used it before, or if it is of another kind; the factory is not started then.
    #[track_caller]
    pub fn listen(
        &mut self,
        reactor: &Reactor,
        index: usize,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        let failed = |cause| CannotListenError::new(format!("systemd:index={index}"), cause);
        // Of the wrong kind, it stays where it is.
        if let Ok(Some(socket)) = self.sockets.take_tcp_listener(index) {
            return reactor.adopt_tcp_listener(socket, factory);
        }
        match self.sockets.take_unix_listener(index) {
            Ok(Some(socket)) => reactor.adopt_unix_listener(socket, factory),
            Ok(None) => Err(failed(io::Error::new(
                io::ErrorKind::NotFound,
                match index < self.len() {
                    true => "the socket is in use: listen was called for it before".to_owned(),
                    false => format!("systemd has handed over {} sockets", self.len()),
                },
            ))),
            Err(_) => Err(failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket is neither one of TCP nor a UNIX socket that listens for connections",
            ))),
        }
    }
}

impl fmt::Debug for ListenSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenSockets")
            .field("len", &self.len())
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
