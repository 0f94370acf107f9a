//! Threads: the one way into a reactor from another thread, and a pool for work that blocks.
//!
//! Everything that belongs to a reactor stays on its thread; the compiler sees to that. Other
//! threads reach it through a [`RemoteReactor`], which carries closures to the loop, and may wait
//! for what they lead to with [`blocking_call_from_thread`]. A single result goes the same way
//! through a [`RemoteResolver`]. Work that would block the loop goes in the other direction, with
//! [`defer_to_thread`]. To use all cores, [`run_workers`] runs a reactor on each of several threads.

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
