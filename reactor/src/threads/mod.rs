//! Threads: calls into a reactor from other threads, and a pool for blocking work.
//!
//! A reactor and everything it owns stay on one thread; the compiler rejects the rest. Other
//! threads use a [`RemoteReactor`], which sends closures to the loop, and may wait for a result
//! with [`blocking_call_from_thread`]. A [`RemoteResolver`] sends a single result. Work that would
//! block the loop is run in a thread with [`defer_to_thread`]. To use all cores, [`run_workers`]
//! runs a reactor on each of several threads.

mod blocking;
mod pool;
mod remote;
mod resolver;
mod workers;

pub use blocking::{BlockingCallError, blocking_call_from_thread};
pub(crate) use pool::Pool;
pub use pool::{ThreadPoolStats, defer_to_thread};
pub(crate) use remote::{CallQueue, Inbox};
pub use remote::{ReactorGoneError, RemoteReactor};
pub use resolver::RemoteResolver;
pub(crate) use resolver::RemoteResolvers;
pub use workers::{Worker, WorkerError, run_workers};
