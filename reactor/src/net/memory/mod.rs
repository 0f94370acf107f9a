//! Connections without a system: ports and sockets in memory.
//!
//! A [`Network`] takes the place of the selector: it stores bytes on their way, and reports slots
//! of the reactor as ready. [`MemoryListener`] and [`MemoryStream`] take the place of sockets. The
//! network knows slots and readiness, but neither the loop nor its clock.

mod network;
mod random;
mod wire;

pub use network::NothingLeftError;
pub(crate) use network::{MemoryListener, Network};
use random::Random;
pub(crate) use wire::{MemoryStream, Wire};
