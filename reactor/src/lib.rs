//! Twisted's Deferred and reactor for Rust.
#![forbid(unsafe_code)]

pub mod deferred;
pub mod net;
mod reactor;
#[cfg(unix)]
mod signals;
pub mod threads;
pub mod time;
mod triggers;

pub use deferred::{
    AbandonedError, AlreadyCalledError, CancelledError, Canceller, Deferred, Failure,
    NoLostFailures, NotFiredError, Outcome, PanicError, Pauser, Resolver, TimeoutError, Unhandled,
    maybe_deferred, on_unhandled,
};
pub use reactor::{Reactor, ReactorAlreadyRunningError, ReactorNotRunningError};
pub use threads::{ReactorGoneError, RemoteReactor, defer_to_thread};
pub use time::{Clock, DelayedCall, DelayedCallError, ReactorTime, defer_later, sleep};
pub use triggers::{Phase, SystemEvent, TriggerId, UnknownTriggerError};
