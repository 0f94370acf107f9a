//! Semaphores for asynchronous work.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::rc::{Rc, Weak};

use super::waiters::{HandOut, WaiterId, Waiters};
use super::{Deferred, Outcome, Step, chain};

/// Limits how many operations run at the same time; the others wait, first come, first served
/// (Twisted's `DeferredSemaphore`).
///
/// [`run`](Self::run) calls a function once a token is free. [`acquire`](Self::acquire) returns a [`Permit`] instead; dropping the permit releases the token.
///
/// Cheap to clone: all clones are handles of one semaphore. For one operation at a time, use
/// [`DeferredLock`](crate::DeferredLock).
/// [`DeferredLock`](crate::DeferredLock).
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::time::Duration;
/// use deferred_reactor::{Clock, DeferredSemaphore, Failure, defer_later, gather_results};
///
/// let clock = Clock::new();
/// let two = DeferredSemaphore::new(NonZeroUsize::new(2).expect("it is 2"));
/// let pages = gather_results([1, 2, 3].map(|page| {
///     let clock = clock.clone();
///     two.run(move || defer_later(&clock, Duration::from_secs(1), move || Ok(page * 100)))
/// }));
/// clock.advance(Duration::from_secs(1)); // the first two
/// assert!(!pages.is_fired());
/// clock.advance(Duration::from_secs(1)); // the third
/// assert_eq!(pages.result()?, [100, 200, 300]);
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone)]
pub struct DeferredSemaphore {
    shared: Rc<Tokens>,
}

struct Tokens {
    limit: NonZeroUsize,
    /// Free tokens. While tokens are being passed to waiting operations, some may be promised;
    /// otherwise nothing waits while a token is free.
    free: Cell<usize>,
    waiting: RefCell<Waiters<Permit>>,
    is_handing_out: Cell<bool>,
}

impl DeferredSemaphore {
    /// Makes a semaphore with `tokens` tokens; at least one, or every operation would wait without
    /// end.
    pub fn new(tokens: NonZeroUsize) -> Self {
        Self {
            shared: Rc::new(Tokens {
                limit: tokens,
                free: Cell::new(tokens.get()),
                waiting: RefCell::new(Waiters::new()),
                is_handing_out: Cell::new(false),
            }),
        }
    }

    /// Waits for a token. The Deferred has fired already if one is free.
    ///
    /// Cancelling the waiting Deferred removes it from the queue and fails it with
    /// [`CancelledError`](crate::CancelledError). If the Deferred is dropped, its permit is dropped
    /// when its turn comes, and the next in the queue gets the token.
    ///
    /// ```
    /// # use deferred_reactor::{DeferredSemaphore, Failure};
    /// # use std::num::NonZeroUsize;
    /// let semaphore = DeferredSemaphore::new(NonZeroUsize::MIN);
    /// let permit = semaphore.acquire().result()?;
    /// let second = semaphore.acquire();
    /// assert!(!second.is_fired());
    /// permit.release();
    /// assert!(second.is_fired());
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn acquire(&self) -> Deferred<Permit> {
        if self.tokens() > 0 {
            return Deferred::succeed(self.shared.take_token());
        }
        let id = self.shared.waiting.borrow_mut().draw();
        let shared = Rc::downgrade(&self.shared);
        let (deferred, resolver) = Deferred::with_canceller(move |_| leave(&shared, id));
        self.shared.waiting.borrow_mut().join(id, resolver);
        deferred
    }

    /// Calls `function` once a token is free, and holds the token until the function ends: with a
    /// value, an error or a panic, or when its Deferred has fired.
    ///
    /// The token is released before the result is passed on. Cancelled while waiting, `function` is
    /// never called; cancelled later, its Deferred is cancelled. A [timeout](Deferred::add_timeout)
    /// on the returned Deferred includes the waiting; one on the Deferred of `function` does not.
    #[track_caller]
    pub fn run<R: Outcome>(&self, function: impl FnOnce() -> R + 'static) -> Deferred<R::Value> {
        let line = Location::caller();
        self.acquire().then(line, move |result| {
            let permit = match result {
                Ok(permit) => permit,
                Err(failure) => return Step::Now(Err(failure)),
            };
            match chain::call(|()| function().into_step(), (), line) {
                Step::Now(result) => {
                    permit.release();
                    Step::Now(result)
                }
                Step::Wait { node, root } => Deferred::waiting(node, root, line)
                    .then(line, move |result| {
                        permit.release();
                        Step::Now(result)
                    })
                    .into(),
            }
        })
    }

    /// Number of operations that could start now without waiting (Twisted's `tokens`).
    pub fn tokens(&self) -> usize {
        match self.waiting() {
            0 => self.shared.free.get(),
            _ => 0, // what is free is promised
        }
    }

    /// Maximum number of operations at the same time (Twisted's `limit`).
    pub fn limit(&self) -> usize {
        self.shared.limit.get()
    }

    /// Number of operations that wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.borrow().len()
    }
}

fn leave(shared: &Weak<Tokens>, id: WaiterId) {
    if let Some(shared) = shared.upgrade() {
        let resolver = shared.waiting.borrow_mut().leave(id);
        drop(resolver);
    }
}

impl Tokens {
    fn take_token(self: &Rc<Self>) -> Permit {
        self.free.set(self.free.get() - 1);
        Permit {
            shared: self.clone(),
        }
    }

    fn give_back(self: &Rc<Self>) {
        self.free.set(self.free.get() + 1);
        debug_assert!(self.free.get() <= self.limit.get());
        let Some(hand_out) = HandOut::take(&self.is_handing_out) else {
            return;
        };
        while self.free.get() > 0 {
            let Some((_, resolver)) = self.waiting.borrow_mut().call_up() else {
                return;
            };
            hand_out.hand(resolver, self.take_token(), Location::caller());
        }
    }
}

impl fmt::Debug for DeferredSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredSemaphore")
            .field("tokens", &self.tokens())
            .field("limit", &self.limit())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// One token of a [`DeferredSemaphore`], or the hold on a [`DeferredLock`](crate::DeferredLock).
///
/// Dropping the permit releases the token, also in a panic. Releasing a token that is not held, or
/// twice, does not compile; Twisted checks for this misuse at run time.
///
/// ```compile_fail
/// # use deferred_reactor::DeferredLock;
/// let lock = DeferredLock::new();
/// let permit = lock.acquire().result().unwrap();
/// permit.release();
/// permit.release(); // D-71: the compiler is the proof
/// ```
///
/// The operation that has waited longest continues before `release` returns. The exception is a
/// release inside a callback of an operation that was waiting: the next one continues after those
/// callbacks. So the stack does not grow with the number of waiting operations.
#[must_use = "the token is given back when the permit is dropped"]
pub struct Permit {
    shared: Rc<Tokens>,
}

impl Permit {
    /// Releases the token, as dropping the permit does.
    pub fn release(self) {}
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.give_back();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
