//! What requests leave behind for the next ones.

use std::cell::{Cell, RefCell};

use crate::web::request::Exchange;

/// Memory that is in use only while requests are.
#[derive(Default)]
pub(in crate::web) struct Spares {
    #[allow(
        clippy::vec_box,
        reason = "they move as boxes between here and requests"
    )]
    exchanges: RefCell<Vec<Box<Exchange>>>,
    /// Where response heads are put together.
    scratch: Cell<Vec<u8>>,
}

impl Spares {
    #[inline]
    pub(in crate::web) fn take_exchange(&self) -> Box<Exchange> {
        self.exchanges.borrow_mut().pop().unwrap_or_default()
    }

    #[inline]
    pub(in crate::web) fn put_exchange(&self, mut exchange: Box<Exchange>) {
        /// Enough for those that are in use between two turns.
        const KEEP: usize = 64;
        // With nothing borrowed: a body or a source of the program's is dropped here.
        exchange.clear();
        let mut spare = self.exchanges.borrow_mut();
        if spare.len() < KEEP {
            spare.push(exchange);
        }
    }

    /// An empty buffer to put a response head together in.
    pub(in crate::web) fn take_scratch(&self) -> Vec<u8> {
        self.scratch.take()
    }

    #[inline]
    pub(in crate::web) fn put_scratch(&self, mut scratch: Vec<u8>) {
        /// What no usual head exceeds, with a small body behind it.
        const KEEP_CAPACITY: usize = 16 * 1024;
        if scratch.capacity() <= KEEP_CAPACITY {
            scratch.clear();
            self.scratch.set(scratch);
        }
    }
}
