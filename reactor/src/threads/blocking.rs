//! Asking the reactor from another thread, and waiting for the answer.
//!
//! A waiting thread has passed the [`Gate`]. It is open from the beginning until the reactor, having
//! stopped, makes no more calls, and again whenever it runs again. When it closes, all waiting
//! threads get an error, and those who come later do at once: the reactor is about to join its worker
//! threads, and would otherwise wait for a thread that waits for the reactor.

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

/// Runs `call` on the reactor's thread, and waits for what it ends with (Twisted's
/// `blockingCallFromThread`).
///
/// It returns a `Result`, or a Deferred, which is waited for; a panic in it is a failure holding a
/// [`PanicError`](crate::PanicError). Meant for jobs in worker threads, and for programs that keep
/// their main thread and run the reactor in another. If the reactor has not run yet, this waits
/// until it does.
///
/// Two threads that each run a reactor must not call each other in this way at the same time:
/// neither could answer.
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
/// What `call`, or its Deferred, fails with; or a [`BlockingCallError`] where no result can come.
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
        // Once the gate has closed, the caller is told that this was not done.
        if waits.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        drop(
            call_for(line, || call(reactor)).add_both(move |result| match answer.send(result) {
                Ok(()) => Ok(()),
                // Nobody waits any more: a failure is reported as one that nobody handled.
                Err(unsent) => unsent.into_inner().map(drop),
            }),
        );
    });
    if sent.is_err() {
        return Err(BlockingCallError::ReactorGone.into());
    }
    let answer = select! {
        // An error means that the call was dropped unmade.
        recv(answered) -> answer => answer.ok(),
        recv(open) -> _ => answered.try_recv().ok(),
    };
    answer.unwrap_or_else(|| Err(gate.why_closed().into()))
}

/// Why a [`blocking_call_from_thread`] has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockingCallError {
    /// It was made on the reactor's own thread, which would wait for itself for ever. The call was
    /// not made. Call the function directly.
    OwnThread,
    /// The reactor has stopped. If the call had not been made by then, it never is; if it had, and
    /// had returned a Deferred, that one goes on without anybody who waits for it.
    ReactorStopped,
    /// The reactor has been dropped. The call was not made.
    ReactorGone,
}

impl fmt::Display for BlockingCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnThread => "a blocking call was made on the reactor's own thread",
            Self::ReactorStopped => "the reactor stopped before a blocking call had its result",
            Self::ReactorGone => "the reactor has been dropped",
        })
    }
}

impl Error for BlockingCallError {}

/// Lets threads wait for a reactor's answers while it is open: their side of it.
pub(super) struct Gate {
    /// The thread of the reactor.
    thread: ThreadId,
    access: Mutex<Access>,
}

enum Access {
    /// Nothing is ever sent through this: it ends when the gate closes.
    Open(Receiver<Infallible>),
    Closed,
    /// It is closed for ever.
    Gone,
}

/// The reactor's side of a [`Gate`], which opens and closes it.
pub(super) struct GateControl {
    gate: Arc<Gate>,
    keeps_open: Cell<Option<Sender<Infallible>>>,
}

impl Gate {
    /// What ends when there is nothing more to wait for.
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

    /// For those who had passed it. It may have opened again since.
    fn why_closed(&self) -> BlockingCallError {
        match &*self.access.lock() {
            Access::Open(_) | Access::Closed => BlockingCallError::ReactorStopped,
            Access::Gone => BlockingCallError::ReactorGone,
        }
    }
}

impl GateControl {
    /// Of the reactor of this thread; open.
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

    /// Ends the waiting of all who have passed it.
    pub(super) fn close(&self) {
        self.deny(Access::Closed);
    }

    fn deny(&self, access: Access) {
        // In this order: whoever stops waiting can ask why.
        *self.gate.access.lock() = access;
        self.keeps_open.set(None);
    }
}

impl Drop for GateControl {
    fn drop(&mut self) {
        self.deny(Access::Gone);
    }
}
