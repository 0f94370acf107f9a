//! Reproducible random numbers: the same for the same seed.

use std::cell::Cell;

/// SplitMix64 (Steele, Lea and Flood, 2014): one word of state, and every seed is good.
#[derive(Debug)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number in `0..count`; 0 if `count` is 0.
    pub(crate) fn below(&self, count: usize) -> usize {
        // The bias is the ratio of `count` to 2^64.
        usize::try_from(self.next() % (count.max(1) as u64)).unwrap_or(0)
    }

    pub(crate) fn one_in(&self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// A part of `count` bytes: often all of them, and at least one.
    pub(crate) fn part_of(&self, count: usize) -> usize {
        match self.below(4) {
            0 => count.min(1),
            1 => (1 + self.below(count)).min(count),
            _ => count,
        }
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
