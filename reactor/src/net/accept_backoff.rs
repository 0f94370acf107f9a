//! What a port does when it cannot accept connections.
//!
//! Accepting fails for two kinds of reasons. Most errors concern one connection, which ended before
//! it was accepted, was forbidden by a firewall, or met a network error (accept(2) lists those of
//! TCP). They are counted, and the port accepts the next connection. The other errors are
//! shortages: `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM`.
//!
//! During a shortage, waiting clients stay in the system's queue: they believe that they are
//! connected, and the port stays readable. A loop that retries at once spins, and a loop that only
//! waits leaves the clients hanging. So the port does this:
//!
//! 1. It rests for [`REST`], because connections end all the time, and then accepts those that there is
//!    room for.
//! 2. It closes the remaining clients at once, and counts them. To have a descriptor to accept them
//!    with, the port keeps a spare one, which it gives up for that moment.
//!
//! When no client waits, the shortage is over: the next one begins at step 1.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::Address;
use super::stream::Stream;

/// Time between two attempts to accept.
pub(super) const REST: Duration = Duration::from_millis(100);

/// Maximum number of connections closed in one turn: the length of the queue on most systems.
const REFUSALS_PER_REST: usize = 4096;

/// Minimum interval between two shortage records.
const QUIET: Duration = Duration::from_secs(10);

/// The counters of a port, and its state during a shortage.
pub(super) struct AcceptBackoff {
    /// `None` if not even the spare descriptor could be opened.
    spare: Cell<Option<Socket>>,
    /// `None` for a port in memory, which has no shortage, and for a closed port.
    domain: Cell<Option<Domain>>,
    is_resting: Cell<bool>,
    /// A rest has ended, and the clients that still wait were there during the rest.
    has_rested: Cell<bool>,
    last_told: Cell<Option<Instant>>,
    accepted: Cell<u64>,
    rests: Cell<u64>,
    refused: RefCell<BTreeMap<i32, u64>>,
    failed: RefCell<BTreeMap<i32, u64>>,
}

/// The state after an attempt to accept has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// No client waits any more.
    IsOver,
    /// Try again after [`REST`].
    Lasts,
}

impl AcceptBackoff {
    /// `is_in_memory` means that no system call is made.
    pub(super) fn new(address: &Address, is_in_memory: bool) -> Self {
        let domain = address.socket_addr();
        let domain = domain.map_or(Domain::UNIX, Domain::for_address);
        let backoff = Self {
            spare: Cell::new(None),
            domain: Cell::new((!is_in_memory).then_some(domain)),
            is_resting: Cell::new(false),
            has_rested: Cell::new(false),
            last_told: Cell::new(None),
            accepted: Cell::new(0),
            rests: Cell::new(0),
            refused: RefCell::new(BTreeMap::new()),
            failed: RefCell::new(BTreeMap::new()),
        };
        backoff.keep_spare();
        backoff
    }

    /// Whether the last attempt to accept found no room.
    pub(super) fn is_resting(&self) -> bool {
        self.is_resting.get()
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.set(self.accepted.get() + 1);
    }

    pub(super) fn count_refused(&self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or_default();
        *self.refused.borrow_mut().entry(number).or_default() += 1;
    }

    /// Counts a connection that was lost before it was accepted.
    pub(super) fn count_failed(&self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or_default();
        *self.failed.borrow_mut().entry(number).or_default() += 1;
    }

    /// Ends the shortage: no client waits.
    pub(super) fn is_done(&self) {
        if self.has_rested.replace(false) {
            self.keep_spare();
        }
    }

    /// Handles a shortage. Clients that have waited through a rest are refused; `accept` takes the
    /// next of them.
    pub(super) fn is_short(
        &self,
        error: &io::Error,
        accept: impl Fn() -> io::Result<Stream>,
    ) -> Shortage {
        if self.has_rested.replace(false) {
            self.refuse_all(error, accept)
        } else {
            Shortage::Lasts
        }
    }

    pub(super) fn begin_rest(&self) {
        self.rests.set(self.rests.get() + 1);
        self.is_resting.set(true);
    }

    pub(super) fn end_rest(&self) {
        self.is_resting.set(false);
        self.has_rested.set(true);
    }

    pub(super) fn stats(&self) -> PortStats {
        PortStats {
            accepted: self.accepted.get(),
            refused: self.refused.borrow().clone(),
            failed: self.failed.borrow().clone(),
            rests: self.rests.get(),
        }
    }

    /// Releases the spare descriptor; the port is closed.
    pub(super) fn close(&self) {
        // A protocol that was just accepted may have closed the port, and then this is called
        // twice.
        self.domain.set(None);
        drop(self.spare.take());
    }

    fn refuse_all(&self, error: &io::Error, accept: impl Fn() -> io::Result<Stream>) -> Shortage {
        for _ in 0..REFUSALS_PER_REST {
            drop(self.spare.take());
            match accept() {
                Ok(stream) => {
                    // A clean end of the stream could be mistaken for an empty answer.
                    stream.reset_on_close();
                    self.count_refused(error);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.keep_spare();
                    return Shortage::IsOver;
                }
                Err(error) if !is_shortage(&error) => self.count_failed(&error),
                Err(_) => {
                    self.keep_spare();
                    return Shortage::Lasts;
                }
            }
            self.keep_spare();
        }
        Shortage::Lasts
    }

    fn keep_spare(&self) {
        let Some(domain) = self.domain.get() else {
            return;
        };
        let spare = self.spare.take();
        // A socket rather than a file: there may be no file that can be opened.
        self.spare
            .set(spare.or_else(|| Socket::new(domain, Type::STREAM, None).ok()));
    }

    /// Logs the shortage, at most once every [`QUIET`].
    pub(super) fn tell(&self, address: &Address, error: &io::Error) {
        let now = Instant::now();
        let was_told = self.last_told.get();
        if was_told.is_some_and(|told| now.duration_since(told) < QUIET) {
            return;
        }
        self.last_told.set(Some(now));
        let refused: u64 = self.refused.borrow().values().sum();
        crate::logging::warn!(
            target: "reactor",
            "cannot accept connections on {address} ({refused} refused so far), and tries again \
             after {REST:?}: {error}; if the process is out of descriptors, raise its limit (ulimit -n)"
        );
    }
}

/// Whether the process or the system lacks something that every connection needs. Other errors of
/// accepting say nothing about the next connection.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        let numbers = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        error
            .raw_os_error()
            .is_some_and(|number| numbers.contains(&number))
    }
    // WSAEMFILE and WSAENOBUFS.
    #[cfg(not(unix))]
    {
        matches!(error.raw_os_error(), Some(10024 | 10055))
    }
}

/// Numbers of connections of a port; from [`Port::stats`](super::Port::stats).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStats {
    /// Connections accepted, whatever the factory did with them.
    pub accepted: u64,
    /// Connections closed at once because the system had no room for them, by error number: `EMFILE`
    /// (24 on most systems) when the process is out of descriptors, `ENFILE` when the system is.
    pub refused: BTreeMap<i32, u64>,
    /// Connections lost before they were accepted, by error number: abandoned by the peer,
    /// forbidden by a firewall, or broken by the network, such as `EPROTO` (71 on Linux).
    pub failed: BTreeMap<i32, u64>,
    /// Number of rests, after a shortage or after nothing but errors.
    pub rests: u64,
}

impl PortStats {
    pub(super) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.rests += other.rests;
        for (number, count) in other.refused {
            *self.refused.entry(number).or_default() += count;
        }
        for (number, count) in other.failed {
            *self.failed.entry(number).or_default() += count;
        }
    }

    /// Total number of refused connections.
    pub fn total_refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B-11.
    #[test]
    fn a_port_that_is_closed_while_it_accepts_keeps_no_descriptor() {
        let address = Address::Tcp(([127, 0, 0, 1], 80).into());
        let backoff = AcceptBackoff::new(&address, false);
        backoff.begin_rest();
        backoff.end_rest();
        backoff.close(); // by the protocol of one that was accepted after the rest
        backoff.is_done();
        assert!(backoff.spare.take().is_none());
    }
}
