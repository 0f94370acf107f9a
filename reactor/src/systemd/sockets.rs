//! Sockets that the service manager hands over.

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
    /// Takes what was handed over; none outside of systemd, or if it was meant for another process.
    ///
    /// Call it once, and first in `main`: it removes the environment variables that tell of the
    /// sockets, so that child processes do not take them for theirs, and no other thread may look at
    /// the environment meanwhile.
    pub fn from_env() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self {
            sockets: ListenFd::from_env(),
            names: names.split(':').map(str::to_owned).collect(),
        }
    }

    /// How many sockets were handed over, with those that were listened on since.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the first socket of this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        let names = self.names.iter().take(self.len());
        names.into_iter().position(|one| one == name)
    }

    /// Makes a protocol for each connection to a socket, which is one of TCP or a UNIX socket
    /// (Twisted's endpoint `systemd:domain=INET:index=0`).
    ///
    /// The rest is as for [`Reactor::adopt_tcp_listener`]. systemd keeps its copy: while the port is
    /// closed, those who connect wait there.
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] if there is no such socket, if it was listened on before, or if it is of
    /// another kind; the factory is not started then.
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
                    true => "the socket was listened on before".to_owned(),
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
