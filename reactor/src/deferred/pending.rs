//! Tracking of pending Deferreds, by the source line that made them.
//!
//! The list is kept only while [`track_pending`] is on. A Deferred is added when it is made, and
//! removed when it is fired, cancelled or abandoned. Both take a few steps, whatever the length of
//! the list, because the Deferreds of one line are linked in the order in which they were made:
//!
//! ```text
//! by_address: address of the root ─▶ entry      lines: src/feed.rs:20 ─▶ oldest ⇄ ... ⇄ newest
//! ```
//!
//! A root is identified by its address, so that it needs no extra field while tracking is off.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;

use super::chain::Line;
use crate::time::now;

thread_local! {
    static IS_TRACKING: Cell<bool> = const { Cell::new(false) };
    static TABLE: PendingDeferreds = PendingDeferreds(Arc::default());
}

/// Turns tracking of this thread's pending Deferreds on or off.
///
/// Deferreds made before are not in the list. Turning tracking off empties the list. While it is
/// on, making and firing a Deferred costs some 60 ns more.
///
/// ```
/// use deferred_reactor::Deferred;
/// use deferred_reactor::deferred::{pending_deferreds, track_pending};
///
/// track_pending(true);
/// let (deferred, resolver) = Deferred::pending();
/// let lines = pending_deferreds().lines();
/// assert_eq!((lines.len(), lines[0].count), (1, 1));
/// println!("{}", lines[0]); // 1 made at src/feed.rs:20:28, the oldest 1.2s ago
///
/// resolver.callback(())?;
/// assert!(pending_deferreds().lines().is_empty());
/// # deferred.result()?;
/// # Ok::<(), deferred_reactor::Failure>(())
/// ```
pub fn track_pending(on: bool) {
    if IS_TRACKING.replace(on) && !on {
        let _ = TABLE.try_with(|table| table.0.lock().clear());
    }
}

/// Whether [`track_pending`] is on for this thread.
pub fn is_tracking_pending() -> bool {
    IS_TRACKING.get()
}

/// The list of this thread, which any thread may read; empty unless [`track_pending`] is on.
pub fn pending_deferreds() -> PendingDeferreds {
    // A thread that is ending waits for nothing.
    TABLE.try_with(Clone::clone).unwrap_or_default()
}

/// Adds a pending Deferred.
#[inline]
pub(super) fn made<R>(root: &R, line: Line) {
    if IS_TRACKING.get() {
        enter(address_of(root), line);
    }
}

/// Removes a Deferred whose result is decided. It may have been made before tracking was turned on.
#[inline]
pub(super) fn ended<R>(root: &R) {
    if IS_TRACKING.get() {
        leave(address_of(root));
    }
}

fn address_of<R>(root: &R) -> usize {
    std::ptr::from_ref(root).addr()
}

#[cold]
fn enter(address: usize, line: Line) {
    let now = now();
    let _ = TABLE.try_with(|table| table.0.lock().enter(address, line, now));
}

#[cold]
fn leave(address: usize) {
    let _ = TABLE.try_with(|table| table.0.lock().leave(address));
}

/// The pending Deferreds of one thread. Made by [`pending_deferreds`]; cheap to clone.
#[derive(Clone, Default)]
pub struct PendingDeferreds(Arc<Mutex<Table>>);

impl PendingDeferreds {
    /// Number of pending Deferreds for each source line, largest first. Lines with none are left
    /// out.
    pub fn lines(&self) -> Vec<PendingLine> {
        let mut lines = self.0.lock().lines(now());
        lines.sort_by(|one, other| {
            (other.count.cmp(&one.count)).then_with(|| one.made.cmp(other.made))
        });
        lines
    }

    /// Total number of pending Deferreds.
    pub fn count(&self) -> usize {
        self.0.lock().entries.len()
    }
}

impl fmt::Debug for PendingDeferreds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingDeferreds")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

/// The pending Deferreds made by one source line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingLine {
    /// The source line that made them.
    pub made: &'static Location<'static>,
    /// Number of pending Deferreds.
    pub count: usize,
    /// How long ago the oldest of them was made.
    pub oldest: Duration,
}

impl fmt::Display for PendingLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            made,
            count,
            oldest,
        } = self;
        write!(f, "{count} made at {made}, the oldest {oldest:.1?} ago")
    }
}

#[derive(Default)]
struct Table {
    entries: Slab<Entry>,
    by_address: ByAddress,
    lines: Vec<LineOf>,
    /// A source line may have several addresses, because it may be compiled several times.
    line_by_address: ByAddress,
}

type ByAddress = HashMap<usize, usize, BuildHasherDefault<AddressHasher>>;

struct Entry {
    line: usize,
    made: Instant,
    older: usize,
    newer: usize,
}

struct LineOf {
    made: Line,
    count: usize,
    oldest: usize,
    newest: usize,
}

/// No entry.
const NONE: usize = usize::MAX;

impl Table {
    fn enter(&mut self, address: usize, line: Line, now: Instant) {
        let line = self.index_of(line);
        let list = &mut self.lines[line];
        let older = list.newest;
        let entry = self.entries.insert(Entry {
            line,
            made: now,
            older,
            newer: NONE,
        });
        list.count += 1;
        list.newest = entry;
        match self.entries.get_mut(older) {
            Some(older) => older.newer = entry,
            None => list.oldest = entry,
        }
        self.by_address.insert(address, entry);
    }

    fn leave(&mut self, address: usize) {
        let Some(entry) = self.by_address.remove(&address) else {
            return; // it was made before tracking began
        };
        let Entry {
            line, older, newer, ..
        } = self.entries.remove(entry);
        let list = &mut self.lines[line];
        list.count -= 1;
        match self.entries.get_mut(older) {
            Some(older) => older.newer = newer,
            None => list.oldest = newer,
        }
        match self.entries.get_mut(newer) {
            Some(newer) => newer.older = older,
            None => list.newest = older,
        }
    }

    fn index_of(&mut self, made: Line) -> usize {
        let next = self.lines.len();
        let address = address_of(made);
        let index = *self.line_by_address.entry(address).or_insert(next);
        if index == next {
            self.lines.push(LineOf {
                made,
                count: 0,
                oldest: NONE,
                newest: NONE,
            });
        }
        index
    }

    fn lines(&self, now: Instant) -> Vec<PendingLine> {
        let mut lines: HashMap<Line, PendingLine> = HashMap::new();
        for line in &self.lines {
            let Some(oldest) = self.entries.get(line.oldest) else {
                continue;
            };
            let same = lines.entry(line.made).or_insert(PendingLine {
                made: line.made,
                count: 0,
                oldest: Duration::ZERO,
            });
            same.count += line.count;
            let age = now.saturating_duration_since(oldest.made);
            same.oldest = same.oldest.max(age);
        }
        lines.into_values().collect()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Addresses differ enough by themselves; the hash map needs the upper bits to differ, too.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // 2^64 divided by the golden ratio.
        let mixed = (self.0 ^ address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// B-07: against the obvious way, a list that is searched each time.
        #[test]
        fn behaves_as_a_list(
            steps in proptest::collection::vec((0u8..3, 0usize..12, 0usize..3), 1..200),
        ) {
            fn line(which: usize) -> Line {
                match which {
                    0 => Location::caller(),
                    1 => Location::caller(),
                    _ => Location::caller(),
                }
            }
            let start = Instant::now();
            let mut table = Table::default();
            let mut list: Vec<(usize, Line, Instant)> = Vec::new();
            for (n, (what, address, which)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_millis(n as u64);
                let known = list.iter().position(|(other, ..)| *other == address);
                match (what, known) {
                    (0, Some(index)) => {
                        table.leave(address);
                        list.remove(index);
                    }
                    (0, None) => table.leave(address),
                    (_, Some(_)) => {}
                    (_, None) => {
                        table.enter(address, line(which), now);
                        list.push((address, line(which), now));
                    }
                }
                let mut lines = table.lines(now);
                lines.sort_by_key(|line| line.made);
                let mut want: Vec<PendingLine> = Vec::new();
                for made in (0..3).map(line) {
                    let mut of_line = list.iter().filter(|(_, line, _)| *line == made);
                    let count = of_line.clone().count();
                    if let Some((.., oldest)) = of_line.next() {
                        want.push(PendingLine { made, count, oldest: now - *oldest });
                    }
                }
                assert_eq!(lines, want);
                assert_eq!(table.entries.len(), list.len());
            }
        }
    }
}
