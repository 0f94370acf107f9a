//! Twisted's Deferred and reactor for Rust.
//!
//! - A [`Deferred`] is a value that will exist later. Callbacks are chained on it; each may fail,
//!   recover, or return another Deferred to wait for ([`deferred`]). It can be awaited, too, and an
//!   `async` block be made a Deferred ([`deferred::awaiting`]).
//! - A [`Reactor`] is a loop that runs callbacks: when their time has come ([`time`]), when something
//!   happens on a connection ([`net`]), and when another thread asks ([`threads`]).
//! - Lines, strings with their lengths and time limits for connections are [`protocols`]; limits for
//!   the connections of a factory are [`policies`].
//! - A [`Clock`] stands in for the reactor in tests, and moves only when told to. A
//!   [`MemoryReactor`](testing::MemoryReactor) also has connections, without sockets ([`testing`]).
//! - What the loop is busy with, and what holds it up, is told by [`health`].
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
//! Everything stays on the thread of its reactor, which the compiler sees to; only a
//! [`RemoteReactor`], and a [`RemoteResolver`] that stands on it, may be sent elsewhere.
//!
//! # What runs when
//!
//! One thing at a time, on one thread: while your code runs, nothing else does, and what it shares
//! needs no lock but an `Rc<Cell<_>>`. So it must not block; what blocks goes to
//! [`defer_to_thread`]. There are two ways in which code comes to run.
//!
//! **A Deferred calls its callbacks at once**, inside the call that fires it. No loop takes part in
//! that: a Deferred works without a reactor. An `async` block that awaits it goes on there as well.
//!
//! **The loop calls everything else**, in turns. A *turn* is what it does between waking up and
//! going back to sleep, in this order:
//!
//! | in a turn                       | calls                                                       |
//! |---------------------------------|-------------------------------------------------------------|
//! | what has happened on sockets    | protocols: a connection was made, bytes have come           |
//! | delayed calls that are due      | [`call_later`](Reactor::call_later), [`sleep`], [`LoopingCall`] |
//! | calls from other threads        | [`call_from_thread`](RemoteReactor::call_from_thread), results of [`defer_to_thread`], wakers |
//! | what connections were asked for | nothing but what comes of it: sends what was written, closes what was to be closed, goes on with what was cut short |
//!
//! Each takes only what was there when it began. A call that is scheduled with no delay is made in
//! the next turn, and one that becomes due while the loop is busy after one more look at the sockets:
//! a deadline does not act before the input that came in time. A peer that sends without end is read
//! so much a turn: nobody who makes work keeps the others from theirs. With nothing left to do, the
//! loop sleeps until the next deadline or event.
//!
//! What is called is called with nothing borrowed, so it may call anything of this package, also to
//! cancel, close or drop what it is called by. The exception is to run the loop inside of itself,
//! which is refused with [`ReactorAlreadyRunningError`].
//!
//! # What becomes of a failure
//!
//! Nothing that is called can stop the loop. An error, or a panic that was caught and is a
//! [`PanicError`] from then on, ends up
//!
//! | of                                         | with                                              |
//! |--------------------------------------------|---------------------------------------------------|
//! | a callback, an `async` block, a job        | the next errback of its Deferred                  |
//! | the same, where no errback is left         | the log, when the Deferred is dropped: [`on_unhandled`] |
//! | a method of a [`Protocol`](net::Protocol)  | the log, and the end of that connection           |
//! | the function of a [`LoopingCall`]          | the Deferred that `start` gave; the loop of calls ends |
//! | a delayed call, a call from a thread, a trigger, a factory | the log                           |
//!
//! Records go through the [`log`] crate. A program without a logger sees errors and warnings on
//! standard error, one line each, unless it [turns that off](logging::set_stderr_fallback). (What
//! Rust's own panic hook prints, it prints all the same.)
//!
//! # What the end of a run drops
//!
//! When a run is over, delayed calls that still wait are dropped, and connections are closed. A
//! Deferred that waited for one of these fails with [`AbandonedError`], which reaches its errbacks. If
//! it only waited for a delayed call, nobody needs to handle that: it is a `debug` record and not an
//! unhandled failure. What is to end in good order, such as an `async` loop around [`sleep`], is
//! cancelled by a [trigger](Reactor::add_system_event_trigger) before the shutdown:
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
//! // Without any of that:
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

/// The crate whose `Bytes` transports take, in the version that they take.
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
