//! Calls from other threads: the [`RemoteReactor`] that sends them, and the [`Inbox`] of the reactor.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::blocking::{Gate, GateControl};
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
    loop_waker: Arc<LoopWaker>,
    gate: Arc<Gate>,
}

/// Wakes the loop, once for any number of calls.
struct LoopWaker {
    /// `None` for a loop that does not sleep.
    waker: Option<mio::Waker>,
    is_woken: AtomicBool,
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
        if !self.loop_waker.is_woken.swap(true, Ordering::AcqRel) {
            // It fails only if the system is out of memory for a counter it has already.
            if let Some(Err(error)) = self.loop_waker.waker.as_ref().map(mio::Waker::wake) {
                crate::logging::error!(target: "reactor", "cannot wake the reactor: {error}");
            }
        }
        Ok(())
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
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

/// The reactor's side: the calls that have come, for it to make.
pub(crate) struct Inbox {
    /// Before the calls, so that it is dropped before them: those whose calls are dropped unmade
    /// can then be told why.
    gate_control: GateControl,
    calls: Receiver<Call>,
    remote: RemoteReactor,
    /// Calls seen, and not yet made because a turn makes only those that had come before it.
    left: Cell<usize>,
}

impl Inbox {
    pub(crate) fn new(waker: Option<mio::Waker>) -> Self {
        let (sender, calls) = crossbeam_channel::unbounded();
        let loop_waker = Arc::new(LoopWaker {
            waker,
            is_woken: AtomicBool::new(false),
        });
        let gate_control = GateControl::new();
        let remote = RemoteReactor {
            calls: sender,
            loop_waker,
            gate: gate_control.gate(),
        };
        Self {
            gate_control,
            calls,
            remote,
            left: Cell::new(0),
        }
    }

    /// From now on, other threads may wait for the results of their calls.
    pub(crate) fn allow_waiting(&self) {
        self.gate_control.open();
    }

    /// From now on they may not, and those who do get an error.
    pub(crate) fn end_waiting(&self) {
        self.gate_control.close();
    }

    pub(crate) fn remote(&self) -> RemoteReactor {
        self.remote.clone()
    }

    pub(crate) fn queue(&self) -> CallQueue {
        CallQueue(self.remote.calls.clone())
    }

    /// Whether calls have come that were not made.
    pub(crate) fn has_calls(&self) -> bool {
        self.remote.loop_waker.is_woken.load(Ordering::Acquire)
    }

    /// Begins a turn: the calls that have come up to now can be taken.
    pub(crate) fn begin_turn(&self) {
        let loop_waker = &self.remote.loop_waker;
        // Cleared before counting, so that a call that comes later wakes it again.
        if loop_waker.is_woken.load(Ordering::Relaxed)
            && loop_waker.is_woken.swap(false, Ordering::AcqRel)
        {
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
