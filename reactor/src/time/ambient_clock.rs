//! The current time of a thread, for code that has no clock.
//!
//! This is the system's time, except on a thread with a
//! [`MemoryReactor`](crate::testing::MemoryReactor). Code that has a clock uses that.

use std::cell::Cell;
use std::time::{Instant, SystemTime};

thread_local! {
    // Without a destructor, so that a read costs a nanosecond.
    static AMBIENT: Cell<Option<Ambient>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy)]
struct Ambient {
    start: Instant,
    now: Instant,
}

/// The current time: `Instant::now()`, or the clock of the
/// [`MemoryReactor`](crate::testing::MemoryReactor) of this thread, if there is one.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{testing::MemoryReactor, time::now};
///
/// let memory = MemoryReactor::new();
/// let start = now();
/// memory.advance(Duration::from_secs(5));
/// assert_eq!(now() - start, Duration::from_secs(5));
/// ```
#[inline]
pub fn now() -> Instant {
    match AMBIENT.get() {
        Some(ambient) => ambient.now,
        None => Instant::now(),
    }
}

/// The time of day: `SystemTime::now()`. On a thread with a
/// [`MemoryReactor`](crate::testing::MemoryReactor): 1 January 1970 plus the time since that
/// reactor was made.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use deferred_reactor::{testing::MemoryReactor, time::system_time};
///
/// let memory = MemoryReactor::new();
/// memory.advance(Duration::from_secs(60));
/// assert_eq!(system_time(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
/// ```
pub fn system_time() -> SystemTime {
    match AMBIENT.get() {
        Some(ambient) => SystemTime::UNIX_EPOCH + (ambient.now - ambient.start),
        None => SystemTime::now(),
    }
}

/// Replaces the system's time by a clock that began at `start`.
pub(super) fn set(start: Instant, now: Instant) {
    AMBIENT.set(Some(Ambient { start, now }));
}

pub(super) fn end() {
    AMBIENT.set(None);
}
