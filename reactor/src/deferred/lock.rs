//! Locks (mutexes) for asynchronous work.

use std::fmt;
use std::num::NonZeroUsize;

use super::semaphore::{DeferredSemaphore, Permit};
use super::{Deferred, Outcome};

/// A lock for work that spans several callbacks; waiting operations get it first come, first served
/// (Twisted's `DeferredLock`).
///
/// No thread blocks: waiting is a [`Deferred`]. Code inside one callback needs no lock, because
/// nothing else runs on the thread meanwhile.
///
/// Cheap to clone: all clones are handles of one lock.
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{Clock, DeferredLock, Failure, defer_later};
///
/// let clock = Clock::new();
/// let lock = DeferredLock::new();
/// let timer = clock.clone();
/// let first = lock.run(move || defer_later(&timer, Duration::from_secs(1), || Ok("first")));
/// let second = lock.run(|| Ok("second"));
/// assert!(!second.is_fired()); // it has not even begun
///
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(first.result()?, "first");
/// assert_eq!(second.result()?, "second");
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone)]
pub struct DeferredLock {
    one: DeferredSemaphore,
}

impl DeferredLock {
    /// Makes a free lock.
    pub fn new() -> Self {
        Self {
            one: DeferredSemaphore::new(NonZeroUsize::MIN),
        }
    }

    /// Waits for the lock. The Deferred has fired already if the lock is free.
    ///
    /// The lock is held until the [`Permit`] is dropped. Cancelling the waiting Deferred removes it
    /// from the queue and fails it with [`CancelledError`](crate::CancelledError). If the Deferred
    /// is dropped, the lock passes to the next in the queue when it is its turn.
    ///
    /// ```
    /// # use deferred_reactor::{DeferredLock, Failure};
    /// let lock = DeferredLock::new();
    /// let done = lock.acquire().add_callback(|permit| {
    ///     // ... several steps, the last of which says
    ///     permit.release();
    ///     Ok(())
    /// });
    /// assert!(!lock.is_locked());
    /// # done.result()?;
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Permit> {
        self.one.acquire()
    }

    /// Calls `function` once the lock is free, and holds the lock until the function ends: with a
    /// value, an error or a panic, or when its Deferred has fired.
    ///
    /// The lock is released before the result is passed on. Cancelled while waiting, `function` is
    /// never called; cancelled later, its Deferred is cancelled.
    #[track_caller]
    pub fn run<R: Outcome>(&self, function: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        self.one.run(function)
    }

    /// Returns `true` if `acquire` would have to wait (Twisted's `locked`).
    pub fn is_locked(&self) -> bool {
        self.one.tokens() == 0
    }

    /// Number of operations that wait for the lock.
    pub fn waiting(&self) -> usize {
        self.one.waiting()
    }
}

impl Default for DeferredLock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DeferredLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredLock")
            .field("is_locked", &self.is_locked())
            .field("waiting", &self.waiting())
            .finish()
    }
}
