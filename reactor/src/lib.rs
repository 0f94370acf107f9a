//! Twisted's Deferred and reactor for Rust.
#![forbid(unsafe_code)]

pub mod deferred;
pub mod time;

pub use deferred::{
    AbandonedError, AlreadyCalledError, CancelledError, Canceller, Deferred, Failure,
    NoLostFailures, NotFiredError, Outcome, PanicError, Pauser, Resolver, TimeoutError, Unhandled,
    maybe_deferred, on_unhandled,
};
pub use time::{Clock, DelayedCall, DelayedCallError, ReactorTime, defer_later, sleep};
