//! Threads: the one door into a reactor, and a pool for work that blocks.
//!
//! Everything that belongs to a reactor stays on its thread; the compiler sees to that. Other
//! threads reach it through a [`RemoteReactor`], which carries closures to the loop. Work that
//! would block the loop goes the other way, with [`defer_to_thread`].

mod pool;
mod remote;

pub use pool::defer_to_thread;
pub(crate) use pool::{Pool, Waiting};
pub(crate) use remote::Door;
pub use remote::{ReactorGoneError, RemoteReactor};
