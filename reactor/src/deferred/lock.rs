//! One at a time.

use std::fmt;
use std::num::NonZeroUsize;

use super::semaphore::{DeferredSemaphore, Permit};
use super::{Deferred, Outcome};

/// Lets one go on at a time; the others wait, first come first served (Twisted's `DeferredLock`).
///
/// Nothing blocks: waiting is a [`Deferred`]. Code between two callbacks needs no lock, as nothing
/// else runs on the thread meanwhile; this is for work that is spread over several callbacks.
///
/// A clone is another handle to the same lock.
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
    /// A lock that nobody holds.
    pub fn new() -> Self {
        Self {
            one: DeferredSemaphore::new(NonZeroUsize::MIN),
        }
    }

    /// Waits for the lock. The Deferred has fired already if nobody holds it.
    ///
    /// The lock is held as long as the [`Permit`] lives. Cancelled while it waits, the Deferred
    /// leaves the line and fails with [`CancelledError`](crate::CancelledError); if it is dropped,
    /// the lock is passed on when its turn comes.
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

    /// Calls `function` when the lock is free, and holds it until the function has ended: with a
    /// value, an error or a panic, or when the Deferred that it returned has fired.
    ///
    /// The lock is released before the result is passed on. Cancelled while it waits, the function
    /// is never called; cancelled later, its Deferred is cancelled.
    #[track_caller]
    pub fn run<R: Outcome>(&self, function: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        self.one.run(function)
    }

    /// Whether somebody who came now would have to wait (Twisted's `locked`).
    pub fn is_locked(&self) -> bool {
        self.one.tokens() == 0
    }

    /// How many wait for the lock.
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
