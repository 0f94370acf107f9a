//! Twisted's Deferred and reactor for Rust.
//!
//! - A [`Deferred`] is a value that will exist later. Callbacks are chained on it; each may fail,
//!   recover, or return another Deferred to wait for ([`deferred`]). It can be awaited, too, and an
//!   `async` block be made a Deferred ([`deferred::awaiting`]).
//! - A [`Reactor`] is a loop that runs callbacks: when their time has come ([`time`]), when something
//!   happens on a connection ([`net`]), and when another thread asks ([`threads`]).
//! - A [`Clock`] stands in for the reactor in tests, and moves only when told to. A
//!   [`MemoryReactor`](testing::MemoryReactor) also has connections, without sockets ([`testing`]).
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
//! [`RemoteReactor`], and a [`RemoteResolver`] that stands on it, may be sent elsewhere. Nothing a callback does can stop the loop: its errors go
//! down the chain, and its panics become failures like any other.

#![forbid(unsafe_code)]
// Not in the tests, examples and benches: what a peer or the system controls is an Err.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod deferred;
pub mod health;
pub mod net;
mod react;
mod reactor;
#[cfg(unix)]
mod signals;
pub mod testing;
pub mod threads;
pub mod time;
mod triggers;

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
    Clock, DelayedCall, DelayedCallError, LoopingCall, LoopingCallError, ReactorTime, defer_later,
    sleep,
};
pub use triggers::{Phase, SystemEvent, TriggerId, UnknownTriggerError};
