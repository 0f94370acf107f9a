//! The door between a reactor and all other threads.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::blocking::{Doorkeeper, Lobby};
use crate::reactor::Reactor;

/// What is to be done, and the line that asked for it.
type Call = (&'static Location<'static>, Box<dyn FnOnce(&Reactor) + Send>);

/// Reaches a reactor from any thread. Cheap to clone.
///
/// ```
/// use deferred_reactor::{Failure, Reactor};
///
/// let reactor = Reactor::new()?;
/// let remote = reactor.remote();
/// std::thread::spawn(move || {
///     remote.call_from_thread(|reactor| reactor.stop().expect("it is running"))
/// });
/// reactor.run()?;
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone)]
pub struct RemoteReactor {
    calls: Sender<Call>,
    bell: Arc<Bell>,
    lobby: Arc<Lobby>,
}

/// Wakes the loop, once for any number of calls.
struct Bell {
    /// `None` for a loop that does not sleep.
    waker: Option<mio::Waker>,
    has_rung: AtomicBool,
}

impl RemoteReactor {
    /// Runs `call` on the reactor's thread, soon (Twisted's `callFromThread`).
    ///
    /// Calls run in the order they were made. One made while the reactor does not run is kept for
    /// when it does. Never blocks, however many there are.
    ///
    /// # Errors
    ///
    /// [`ReactorGoneError`] if the reactor has been dropped; the call is dropped too.
    #[track_caller]
    pub fn call_from_thread(
        &self,
        call: impl FnOnce(&Reactor) + Send + 'static,
    ) -> Result<(), ReactorGoneError> {
        self.call_from_thread_for(Location::caller(), call)
    }

    /// [`call_from_thread`](Self::call_from_thread) for something of the library's own, under the
    /// line of the program that it is for.
    pub(crate) fn call_from_thread_for(
        &self,
        line: &'static Location<'static>,
        call: impl FnOnce(&Reactor) + Send + 'static,
    ) -> Result<(), ReactorGoneError> {
        self.calls
            .send((line, Box::new(call)))
            .map_err(|_| ReactorGoneError)?;
        if !self.bell.has_rung.swap(true, Ordering::AcqRel) {
            // It fails only if the system is out of memory for a counter it has already.
            if let Some(Err(error)) = self.bell.waker.as_ref().map(mio::Waker::wake) {
                crate::logging::error!(target: "reactor", "cannot wake the reactor: {error}");
            }
        }
        Ok(())
    }

    pub(super) fn lobby(&self) -> &Lobby {
        &self.lobby
    }
}

impl fmt::Debug for RemoteReactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteReactor").finish_non_exhaustive()
    }
}

/// The calls that wait to be made, for those who count them. It keeps no descriptor.
#[derive(Clone)]
pub(crate) struct CallQueue(Sender<Call>);

impl CallQueue {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The reactor's side of the door.
pub(crate) struct Door {
    /// Before the calls, so that it is dropped before them: those whose calls are dropped unmade
    /// can then be told why.
    doorkeeper: Doorkeeper,
    calls: Receiver<Call>,
    remote: RemoteReactor,
    /// Calls seen, and not yet made because a turn makes only those that had come before it.
    left: Cell<usize>,
}

impl Door {
    pub(crate) fn new(waker: Option<mio::Waker>) -> Self {
        let (sender, calls) = crossbeam_channel::unbounded();
        let bell = Arc::new(Bell {
            waker,
            has_rung: AtomicBool::new(false),
        });
        let doorkeeper = Doorkeeper::new();
        let remote = RemoteReactor {
            calls: sender,
            bell,
            lobby: doorkeeper.lobby(),
        };
        Self {
            doorkeeper,
            calls,
            remote,
            left: Cell::new(0),
        }
    }

    /// From now on, other threads may wait for the results of their calls.
    pub(crate) fn let_wait(&self) {
        self.doorkeeper.open();
    }

    /// From now on they may not, and those who do get an error.
    pub(crate) fn send_home(&self) {
        self.doorkeeper.close();
    }

    pub(crate) fn remote(&self) -> RemoteReactor {
        self.remote.clone()
    }

    pub(crate) fn queue(&self) -> CallQueue {
        CallQueue(self.remote.calls.clone())
    }

    /// Whether somebody has called, and it was not seen to.
    pub(crate) fn has_calls(&self) -> bool {
        self.remote.bell.has_rung.load(Ordering::Acquire)
    }

    /// Begins a turn: the calls that have come up to now can be taken.
    pub(crate) fn open(&self) {
        let bell = &self.remote.bell;
        // Cleared before counting, so that a call that comes later rings again.
        if bell.has_rung.load(Ordering::Relaxed) && bell.has_rung.swap(false, Ordering::AcqRel) {
            self.left.set(self.calls.len());
        }
    }

    /// The next call of this turn.
    pub(crate) fn next(&self) -> Option<Call> {
        let left = self.left.get().checked_sub(1)?;
        self.left.set(left);
        self.calls.try_recv().ok()
    }
}

/// The reactor that a call was for does not exist any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorGoneError;

impl fmt::Display for ReactorGoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor has been dropped")
    }
}

impl Error for ReactorGoneError {}
