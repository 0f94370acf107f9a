//! Twisted's Deferred and reactor for Rust.
//!
//! - A [`Deferred`] is a value that will exist later. Callbacks are chained on it; each may fail,
//!   recover, or return another Deferred to wait for ([`deferred`]). An `async` block can await a
//!   Deferred, and can be made one ([`deferred::awaiting`]).
//! - A [`Reactor`] is an event loop. It runs callbacks when a delay has passed ([`time`]), when
//!   something happens on a connection ([`net`]), and when another thread asks for it
//!   ([`threads`]).
//! - Receivers for lines and length-prefixed strings, and time limits for connections, are in
//!   [`protocols`]; limits on the connections of a factory are in [`policies`].
//! - A [`Clock`] replaces the reactor's time in tests and moves only when the test moves it. A
//!   [`MemoryReactor`](testing::MemoryReactor) also has connections, without sockets ([`testing`]).
//! - Measurements of the loop, and the callbacks that hold it up, are in [`health`].
//! - Log targets, and what is written to each, are listed in [`logging`].
//!
//! ```
//! use std::time::Duration;
//! use deferred_reactor::{Failure, Reactor, defer_later};
//!
//! fn main() -> Result<(), Failure> {
//!     let reactor = Reactor::new()?;
//!     let stop = reactor.clone();
//!     defer_later(&reactor, Duration::from_millis(10), || Ok("6 x 7".to_owned()))
//!         .add_callback(|question| {
//!             println!("{question} = {}", 6 * 7);
//!             Ok(())
//!         })
//!         .add_both(move |result| {
//!             stop.stop()?;
//!             result
//!         });
//!     reactor.run()
//! }
//! ```
//!
//! A reactor and everything it drives stay on one thread; the compiler rejects the rest. Only a
//! [`RemoteReactor`], and a [`RemoteResolver`] that is based on one, may be sent to other threads.
//!
//! # What runs when
//!
//! One callback runs at a time, on one thread. Callbacks can share data in an `Rc<Cell<_>>`,
//! without locks. A callback must not block, because nothing else runs until it returns; blocking
//! work goes to [`defer_to_thread`]. Code is called in one of two ways.
//!
//! **A Deferred calls its callbacks at once**, inside the call that fires it. No loop is involved:
//! a Deferred works without a reactor. An `async` block that awaits the Deferred also continues
//! there.
//!
//! **The loop calls everything else**, in turns.
//!
//! ## Turns
//!
//! A *turn* is everything that the loop does between waking up and going back to sleep, in this
//! order:
//!
//! | step of a turn         | calls                                                                |
//! |------------------------|----------------------------------------------------------------------|
//! | events of sockets      | protocols: a connection was made, bytes were received                |
//! | delayed calls          | those due: [`call_later`](Reactor::call_later), [`sleep`], [`LoopingCall`] |
//! | calls of other threads | [`call_from_thread`](RemoteReactor::call_from_thread), results of [`defer_to_thread`], wakers |
//! | work of connections    | sends what was written, closes connections, and continues reads that had reached their limit |
//!
//! Each step takes only the work that existed when the step began. A call scheduled with no delay
//! therefore runs in the next turn. A call that becomes due while the loop is busy runs after one
//! more look at the sockets, so that a deadline does not act before input that arrived in time. At
//! most a fixed amount is read from one connection in one turn, so that no peer starves the others.
//! When no work is left, the loop sleeps until the next deadline or event.
//!
//! Callbacks run with no internal borrow held, so they may call any API of this package, and may
//! also cancel, close or drop the object that calls them. One call is refused: running the loop
//! inside itself returns [`ReactorAlreadyRunningError`].
//!
//! # What becomes of a failure
//!
//! No callback can stop the loop by failing. An error ends up as follows, and so does a panic,
//! which is caught and becomes a [`PanicError`]:
//!
//! | failure in                                   | goes to                                            |
//! |----------------------------------------------|----------------------------------------------------|
//! | a callback, an `async` block, a job          | the next errback of its Deferred                   |
//! | the same, with no errback left               | the log, when the Deferred is dropped: [`on_unhandled`] |
//! | a method of a [`Protocol`](net::Protocol)    | the log; that connection is closed                 |
//! | the function of a [`LoopingCall`]            | the Deferred that `start` returned; the calls end  |
//! | a delayed call, a call from a thread, a trigger, a factory | the log                              |
//!
//! Records go through the [`log`] crate. A program without a logger sees errors and warnings on
//! standard error, one line each, unless it [turns that off](logging::set_stderr_fallback). Rust's
//! panic hook prints its own message as well.
//!
//! # What the end of a run drops
//!
//! At the end of a run, delayed calls that are still waiting are dropped, and connections are
//! closed. A Deferred that waited for one of them fails with [`AbandonedError`], which reaches its
//! errbacks. If it waited only for a delayed call, the failure need not be handled: it is logged at
//! level `debug` and does not count as unhandled. Work that should end in good order, such as an
//! `async` loop around [`sleep`], can be cancelled by a
//! [trigger](Reactor::add_system_event_trigger) before the shutdown:
//!
//! ```
//! use std::time::Duration;
//! use deferred_reactor::{AbandonedError, CancelledError, Failure, Phase, Reactor, SystemEvent, sleep};
//!
//! let reactor = Reactor::new()?;
//! let clock = reactor.clone();
//! let cleaning = reactor.spawn(async move {
//!     loop {
//!         sleep(&clock, Duration::from_secs(3600)).await?;
//!         // ... the work
//!     }
//! });
//! let canceller = cleaning.canceller();
//! let ended = cleaning.add_errback(|failure: Failure| failure.trap::<CancelledError>().map(|_| ()));
//! reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move || {
//!     canceller.cancel();
//!     Ok(())
//! });
//!
//! reactor.run_for(Duration::from_millis(5))?;
//! assert!(ended.result().is_ok());
//!
//! // Without a trigger:
//! let nap = sleep(&reactor, Duration::from_secs(3600));
//! reactor.run_for(Duration::from_millis(5))?;
//! assert!(nap.result().unwrap_err().is::<AbandonedError>());
//! # Ok::<(), Failure>(())
//! ```

#![forbid(unsafe_code)]
// Not in the tests, examples and benches: what a peer or the system controls is an Err.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod deferred;
mod guard;
pub mod health;
pub mod logging;
pub mod net;
pub mod policies;
pub mod protocols;
mod react;
mod reactor;
#[cfg(unix)]
mod signals;
#[cfg(all(unix, feature = "systemd"))]
pub mod systemd;
pub mod testing;
pub mod threads;
pub mod time;
mod triggers;

/// The crate of the `Bytes` that transports take, in the right version.
pub use bytes;
pub use deferred::{
    AbandonedError, AlreadyCalledError, CancelledError, Canceller, Deferred, DeferredList,
    DeferredLock, DeferredQueue, DeferredSemaphore, Failure, FailureGroup, FirstError, ListEntry,
    NoLostFailures, NotFiredError, Outcome, PanicError, Pauser, Permit, QueueOverflow,
    QueueUnderflow, Resolver, TimeoutError, Unhandled, deferred_list, gather_results,
    maybe_deferred, on_unhandled, race,
};
pub use react::{ExitRequest, ReactorStoppedError, react};
pub use reactor::{Reactor, ReactorAlreadyRunningError, ReactorNotRunningError};
pub use threads::{
    BlockingCallError, ReactorGoneError, RemoteReactor, RemoteResolver, Worker, WorkerError,
    blocking_call_from_thread, defer_to_thread, run_workers,
};
pub use time::{
    Clock, CooperativeTask, Cooperator, DelayedCall, DelayedCallError, LoopingCall,
    LoopingCallError, ReactorTime, cooperate, defer_later, sleep,
};
pub use triggers::{Phase, SystemEvent, TriggerId, UnknownTriggerError};
