//! Calls into the reactor from another thread that wait for the result.
//!
//! A waiting thread has passed the [`Gate`]. The gate is open from the start until the reactor has
//! stopped and makes no more calls, and is open again in the next run. When it closes, all waiting
//! threads get an error, and later calls fail at once: the reactor is about to join its worker
//! threads, and must not wait for a thread that waits for the reactor.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::thread::{self, ThreadId};

use crossbeam_channel::{Receiver, Sender, TryRecvError, select};
use parking_lot::Mutex;

use super::RemoteReactor;
use crate::deferred::{Failure, Outcome, call_for};
use crate::reactor::Reactor;

/// Runs `call` on the reactor's thread, and waits for its result (Twisted's
/// `blockingCallFromThread`).
///
/// `call` returns a `Result`, or a Deferred, which is waited for; a panic in it is a failure that
/// holds a [`PanicError`](crate::PanicError). Meant for jobs in worker threads, and for programs
/// that run the reactor in a thread other than the main one. If the reactor has not run yet, this
/// waits until it does.
///
/// Two threads that each run a reactor must not make blocking calls to each other at the same time:
/// both would wait without end.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{Failure, Reactor, blocking_call_from_thread, defer_later};
///
/// let reactor = Reactor::new()?;
/// let remote = reactor.remote();
/// let thread = std::thread::spawn(move || {
///     let answer = blocking_call_from_thread(&remote, |reactor| {
///         defer_later(reactor, Duration::from_millis(5), || Ok(6 * 7))
///     });
///     let _ = remote.call_from_thread(|reactor| reactor.stop().expect("it runs"));
///     answer
/// });
/// reactor.run()?;
/// assert_eq!(thread.join().expect("it does not panic")?, 42);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
///
/// The failure of `call` or of its Deferred; or a [`BlockingCallError`] if there can be no result.
#[track_caller]
pub fn blocking_call_from_thread<R>(
    remote: &RemoteReactor,
    call: impl FnOnce(&Reactor) -> R + Send + 'static,
) -> Result<R::Value, Failure>
where
    R: Outcome,
    R::Value: Send,
{
    let (gate, line) = (remote.gate(), Location::caller());
    let open = gate.pass()?;
    let (answer, answered) = crossbeam_channel::bounded(1);
    let waits = open.clone();
    let sent = remote.call_from_thread_for(line, move |reactor| {
        // After the gate has closed, the caller has got an error saying that the call was not made.
        if waits.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        drop(
            call_for(line, || call(reactor)).add_both(move |result| match answer.send(result) {
                Ok(()) => Ok(()),
                // The caller no longer waits: a failure is reported as unhandled.
                Err(unsent) => unsent.into_inner().map(drop),
            }),
        );
    });
    if sent.is_err() {
        return Err(BlockingCallError::ReactorGone.into());
    }
    let answer = select! {
        // An error means that the call was dropped without being made.
        recv(answered) -> answer => answer.ok(),
        recv(open) -> _ => answered.try_recv().ok(),
    };
    answer.unwrap_or_else(|| Err(gate.why_closed().into()))
}

/// Why a [`blocking_call_from_thread`] has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockingCallError {
    /// It was called on the reactor's own thread, which would wait for itself without end. The call
    /// was not made. Call the function directly.
    OwnThread,
    /// The reactor has stopped. A call that had not been made by then is never made. If it was made
    /// and had returned a Deferred, that Deferred continues, and its result is dropped.
    ReactorStopped,
    /// The reactor has been dropped. The call was not made.
    ReactorGone,
}

impl fmt::Display for BlockingCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnThread => "a blocking call was made on the reactor's own thread, where it would wait for itself: call the function directly",
            Self::ReactorStopped => "the reactor stopped before a blocking call had its result",
            Self::ReactorGone => "the reactor has been dropped",
        })
    }
}

impl Error for BlockingCallError {}

/// The side of the waiting threads: they may wait for a reactor while the gate is open.
pub(super) struct Gate {
    /// The thread of the reactor.
    thread: ThreadId,
    access: Mutex<Access>,
}

enum Access {
    /// Nothing is sent through this channel: it disconnects when the gate closes.
    Open(Receiver<Infallible>),
    Closed,
    /// The reactor was dropped.
    Gone,
}

/// The reactor's side of a [`Gate`], which opens and closes it.
pub(super) struct GateControl {
    gate: Arc<Gate>,
    keeps_open: Cell<Option<Sender<Infallible>>>,
}

impl Gate {
    /// Returns a channel that disconnects when there is no result to wait for any more.
    fn pass(&self) -> Result<Receiver<Infallible>, BlockingCallError> {
        if thread::current().id() == self.thread {
            return Err(BlockingCallError::OwnThread);
        }
        match &*self.access.lock() {
            Access::Open(open) => Ok(open.clone()),
            Access::Closed => Err(BlockingCallError::ReactorStopped),
            Access::Gone => Err(BlockingCallError::ReactorGone),
        }
    }

    /// The error for threads that had passed the gate. It may have opened again since.
    fn why_closed(&self) -> BlockingCallError {
        match &*self.access.lock() {
            Access::Open(_) | Access::Closed => BlockingCallError::ReactorStopped,
            Access::Gone => BlockingCallError::ReactorGone,
        }
    }
}

impl GateControl {
    /// An open gate for the reactor of this thread.
    pub(super) fn new() -> Self {
        let gate_control = Self {
            gate: Arc::new(Gate {
                thread: thread::current().id(),
                access: Mutex::new(Access::Closed),
            }),
            keeps_open: Cell::new(None),
        };
        gate_control.open();
        gate_control
    }

    pub(super) fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    pub(super) fn open(&self) {
        let mut access = self.gate.access.lock();
        if !matches!(*access, Access::Open(_)) {
            let (keeps_open, open) = crossbeam_channel::bounded(0);
            *access = Access::Open(open);
            self.keeps_open.set(Some(keeps_open));
        }
    }

    /// Ends the waiting of all threads that have passed the gate.
    pub(super) fn close(&self) {
        self.deny(Access::Closed);
    }

    fn deny(&self, access: Access) {
        // In this order: a thread that stops waiting reads the reason.
        *self.gate.access.lock() = access;
        self.keeps_open.set(None);
    }
}

impl Drop for GateControl {
    fn drop(&mut self) {
        self.deny(Access::Gone);
    }
}
