//! What a port does when the system has no room for another connection.
//!
//! Accepting fails for two kinds of reasons. Most are of one connection, which has ended before it was
//! accepted, was forbidden by a firewall, or met an error of the network (accept(2) names those of
//! TCP). They are counted, and accepting goes on with the next. The others are shortages: `EMFILE`,
//! `ENFILE`, `ENOBUFS` and `ENOMEM`.
//!
//! Out of descriptors, accepting fails, and those who wait to be accepted stay where they are: they
//! are connected as far as they know, and the port stays readable. A loop that tries again at once
//! spins; one that only waits leaves them hanging. So a port that cannot accept does this:
//!
//! 1. It rests for a moment, since connections end all the time. Whoever there is room for then is
//!    served.
//! 2. Those who are left are closed at once, and counted. To have a descriptor to accept them with,
//!    the port keeps a spare one, which it gives up for a moment.
//!
//! Nothing goes on when nobody waits: the next who comes begins at 1.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::Address;
use super::stream::Stream;

/// How long accepting rests.
pub(super) const REST: Duration = Duration::from_millis(100);

/// Connections closed before the others have their turn: what most systems let wait.
const REFUSALS_PER_REST: usize = 4096;

/// The log is told of a shortage once in so long.
const QUIET: Duration = Duration::from_secs(10);

/// What a port has taken in, and what it does about the rest.
pub(super) struct AcceptBackoff {
    /// `None` where even this could not be had.
    spare: Cell<Option<Socket>>,
    /// `None` for a port in memory, which has room for everybody, and for one that is closed.
    domain: Cell<Option<Domain>>,
    is_resting: Cell<bool>,
    /// A rest has ended, and those who wait have waited through it.
    has_rested: Cell<bool>,
    last_told: Cell<Option<Instant>>,
    accepted: Cell<u64>,
    rests: Cell<u64>,
    refused: RefCell<BTreeMap<i32, u64>>,
    failed: RefCell<BTreeMap<i32, u64>>,
}

/// What is left to be done after accepting has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// Nobody waits any more.
    IsOver,
    /// Try again in a while.
    Lasts,
}

impl AcceptBackoff {
    /// `is_in_memory` says that no system is asked for anything.
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

    /// Whether there was no room a moment ago.
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

    /// One was lost before it was accepted.
    pub(super) fn count_failed(&self, error: &io::Error) {
        let number = error.raw_os_error().unwrap_or_default();
        *self.failed.borrow_mut().entry(number).or_default() += 1;
    }

    /// Nobody waits to be accepted.
    pub(super) fn is_done(&self) {
        if self.has_rested.replace(false) {
            self.keep_spare();
        }
    }

    /// Accepting has failed for want of something. Whoever has waited through a rest is refused,
    /// where `accept` takes the next of them.
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

    /// The port has been closed.
    pub(super) fn close(&self) {
        // It may have been closed by a protocol that was just accepted, and then we are called
        // once more.
        self.domain.set(None);
        drop(self.spare.take());
    }

    fn refuse_all(&self, error: &io::Error, accept: impl Fn() -> io::Result<Stream>) -> Shortage {
        for _ in 0..REFUSALS_PER_REST {
            drop(self.spare.take());
            match accept() {
                Ok(stream) => {
                    // A clean end might say that this is the answer.
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
        // Not a file, since there may be none that can be opened.
        self.spare
            .set(spare.or_else(|| Socket::new(domain, Type::STREAM, None).ok()));
    }

    /// Tells the log, where it has not been told a moment ago.
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
            "cannot accept on {address} ({refused} connections refused so far): {error}"
        );
    }
}

/// Whether the process or the system has run out of something that every connection needs. Whatever
/// else accepting fails with says nothing about the next one.
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

/// What became of those who came to a port; from [`Port::stats`](super::Port::stats).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortStats {
    /// Connections taken, whatever the factory did with them.
    pub accepted: u64,
    /// Connections closed at once because the system had no room for them, by error number: `EMFILE`
    /// (24 on most systems) when the process is out of descriptors, `ENFILE` when the system is.
    pub refused: BTreeMap<i32, u64>,
    /// Connections that were lost before they could be accepted, by error number: given up by the
    /// peer, forbidden by a firewall, or broken by the network, such as `EPROTO` (71 on Linux).
    pub failed: BTreeMap<i32, u64>,
    /// How often accepting rested, as there was no room, or nothing but errors.
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

    /// All connections that were refused, for whatever reason.
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
