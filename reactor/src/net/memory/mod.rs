//! Connections without a system: what ports and sockets are in memory.
//!
//! A [`Network`] stands where the selector would: it knows what is on its way, and tells the slots of
//! the reactor that they are ready. [`MemoryListener`] and [`MemoryStream`] stand where sockets would.
//! It knows slots and readiness, and neither the loop nor its clock.

mod network;
mod random;
mod wire;

pub use network::NothingLeftError;
pub(crate) use network::{MemoryListener, Network};
use random::Random;
pub(crate) use wire::{MemoryStream, Wire};
