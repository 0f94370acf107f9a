//! The time of a thread, for code that is given no clock to ask.
//!
//! That is the system's time, except in a test that stands on a
//! [`MemoryReactor`](crate::testing::MemoryReactor). Code that is given a clock asks that.

use std::cell::Cell;
use std::time::{Instant, SystemTime};

thread_local! {
    // Without a destructor, so that looking at it costs a nanosecond.
    static AMBIENT: Cell<Option<Ambient>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy)]
struct Ambient {
    start: Instant,
    now: Instant,
}

/// The present moment: `Instant::now()`, or what the clock of a
/// [`MemoryReactor`](crate::testing::MemoryReactor) says, if there is one on this thread.
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

/// The time of day: `SystemTime::now()`, or, where a
/// [`MemoryReactor`](crate::testing::MemoryReactor) is on this thread, the first of January 1970 and
/// what has passed since that was made.
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

/// Takes the place of the system's time, with a clock that began at `start`.
pub(super) fn set(start: Instant, now: Instant) {
    AMBIENT.set(Some(Ambient { start, now }));
}

pub(super) fn end() {
    AMBIENT.set(None);
}
