//! Calls from other threads: the [`RemoteReactor`] sends them, and the reactor's [`Inbox`] receives
//! them.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::blocking::{Gate, GateControl};
use crate::reactor::Reactor;

/// A call, and the source line that asked for it.
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
    /// Runs `call` on the reactor's thread, in its next [turn](crate#turns) (Twisted's
    /// `callFromThread`).
    ///
    /// Calls run in the order in which they were made. A call made while the reactor is not running
    /// waits for the next run. Never blocks; the number of waiting calls is not limited.
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

    /// [`call_from_thread`](Self::call_from_thread) for the library's own calls, attributed to a source line of the program.
    pub(crate) fn call_from_thread_for(
        &self,
        line: &'static Location<'static>,
        call: impl FnOnce(&Reactor) + Send + 'static,
    ) -> Result<(), ReactorGoneError> {
        self.calls
            .send((line, Box::new(call)))
            .map_err(|_| ReactorGoneError)?;
        if !self.loop_waker.is_woken.swap(true, Ordering::AcqRel) {
            // Fails only if the system is out of memory for a counter that exists already.
            if let Some(Err(error)) = self.loop_waker.waker.as_ref().map(mio::Waker::wake) {
                crate::logging::error!(target: "reactor", "cannot wake the reactor for a call from another thread: {error}; the call waits for the next turn");
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

/// The queue of waiting calls, for counting. It owns no descriptor.
#[derive(Clone)]
pub(crate) struct CallQueue(Sender<Call>);

impl CallQueue {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The reactor's side: received calls.
pub(crate) struct Inbox {
    /// Declared before the calls, so that it is dropped first: callers whose calls are dropped can
    /// then get the reason.
    gate_control: GateControl,
    calls: Receiver<Call>,
    remote: RemoteReactor,
    /// Number of calls that this turn may still make; later ones wait for the next turn.
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

    /// Allows other threads to wait for results from now on.
    pub(crate) fn allow_waiting(&self) {
        self.gate_control.open();
    }

    /// Ends waiting: waiting threads get an error, and later calls fail.
    pub(crate) fn end_waiting(&self) {
        self.gate_control.close();
    }

    pub(crate) fn remote(&self) -> RemoteReactor {
        self.remote.clone()
    }

    pub(crate) fn queue(&self) -> CallQueue {
        CallQueue(self.remote.calls.clone())
    }

    /// Whether calls are waiting.
    pub(crate) fn has_calls(&self) -> bool {
        self.remote.loop_waker.is_woken.load(Ordering::Acquire)
    }

    /// Begins a turn, which makes the calls received so far.
    pub(crate) fn begin_turn(&self) {
        let loop_waker = &self.remote.loop_waker;
        // Cleared before counting, so that a later call wakes the loop again.
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

/// The reactor that a call was for has been dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorGoneError;

impl fmt::Display for ReactorGoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor has been dropped")
    }
}

impl Error for ReactorGoneError {}
