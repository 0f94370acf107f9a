//! What the servers, the driver and the checks of this package share.
//!
//! - [`serve`]: a server's arguments, its metrics, and the line it prints.
//! - [`load`]: the generator: connections, requests, latencies.
//! - [`peers`]: starting a server on a core of its own, and stopping it.
//! - [`process`]: what a process has cost so far.
//! - [`streams`]: clients of bodies that stream: slow ones, uploads, event streams.
//! - [`cases`]: what is measured in one process: Deferreds, channels, timers.
//! - [`sys`]: epoll and a few other calls into the system; the only unsafe code here.

pub mod cases;
pub mod histogram;
pub mod load;
pub mod peers;
pub mod process;
pub mod serve;
pub mod streams;
pub mod sys;
