//! Deferreds: values that will exist later, and chains of callbacks on them.
//!
//! The model is Twisted's. [`Deferred::pending`] makes two ends: the [`Deferred`], to which
//! callbacks are added, and the [`Resolver`], which fires it once. Each `add_*` call consumes the
//! Deferred and returns the next one, because each callback may change the type:
//!
//! ```
//! use deferred_reactor::{Deferred, Failure};
//!
//! let (deferred, resolver) = Deferred::<String>::pending();
//! let length = deferred
//!     .add_callback(|text| Ok(text.parse::<u32>()?)) // may fail, with any error
//!     .add_errback(|failure| {
//!         eprintln!("using the default: {failure}");
//!         Ok(80)
//!     })
//!     .map(|port| port + 8000); // cannot fail
//!
//! resolver.callback("x80".to_owned())?; // runs all three, here and now
//! assert_eq!(length.result()?, 8080);
//! # Ok::<(), Failure>(())
//! ```
//!
//! [`deferred_list`], [`gather_results`] and [`race`] combine several Deferreds into one. [`DeferredLock`] and [`DeferredSemaphore`] limit how many operations run at the same time, and [`DeferredQueue`] passes objects between callbacks.
//!
//! These rules hold everywhere:
//!
//! - **Callbacks run at once and in order**, on the stack of the code that fires, before `callback`
//!   returns. A callback added to a Deferred that has fired runs before `add_callback` returns.
//! - **A callback returns a `Result` or another Deferred.** With a Deferred, the chain waits for it
//!   and continues with its result. A panic becomes a failure that holds a [`PanicError`].
//! - **The end of a resolver is a result.** Dropping the resolver fires
//!   [`AbandonedError`]; cancelling fires [`CancelledError`], or the result that the canceller
//!   chooses.
//! - **No failure is lost silently**: see [`on_unhandled`].
//! - **`async` code works**: a Deferred can be awaited, and [`spawn`] makes one from an `async`
//!   block, which continues where a callback would have run ([`awaiting`]).
//! - **The cost** is one allocation for a pending Deferred, one for each callback added to it, and
//!   none for a fired one. The stack does not grow with the length of a chain or its nesting.

pub mod awaiting;
mod canceller;
mod chain;
mod errors;
mod failure;
mod gather;
mod handle;
mod list;
mod lock;
mod nested;
mod outcome;
mod pauser;
mod pending;
mod queue;
mod race;
mod resolver;
mod semaphore;
pub(crate) mod task;
mod timeout;
pub(crate) mod unhandled;
mod waiters;

pub use awaiting::spawn;
pub use canceller::Canceller;
pub use errors::{
    AbandonedError, AlreadyCalledError, CancelledError, FailureGroup, NotFiredError, PanicError,
    TimeoutError,
};
pub use failure::Failure;
pub use gather::ListEntry;
pub use handle::Deferred;
pub(crate) use handle::State;
pub use list::{DeferredList, FirstError, deferred_list, gather_results};
pub use lock::DeferredLock;
use outcome::Step;
pub(crate) use outcome::call_for;
pub use outcome::{Outcome, maybe_deferred};
pub use pauser::Pauser;
pub use pending::{
    PendingDeferreds, PendingLine, is_tracking_pending, pending_deferreds, track_pending,
};
pub use queue::{DeferredQueue, QueueOverflow, QueueUnderflow};
pub use race::race;
pub use resolver::Resolver;
pub use semaphore::{DeferredSemaphore, Permit};
pub use unhandled::{
    NoLostFailures, Unhandled, is_debugging, on_unhandled, set_debugging, unhandled_failures,
};
