//! `async` blocks that await Deferreds, and Deferreds made from `async` blocks.
//!
//! A Deferred is a future of `Result<T, Failure>`, and [`spawn`] makes a Deferred from a future. An
//! async block replaces a chain of callbacks: `?` passes a failure on, a `match` on the result is
//! an errback, and a loop is a loop.
//!
//! ```
//! use deferred_reactor::deferred::{Deferred, spawn};
//! use deferred_reactor::Failure;
//!
//! async fn add(one: Deferred<i32>, other: Deferred<i32>) -> Result<i32, Failure> {
//!     let one = one.await?;
//!     let other = other.await.unwrap_or(0); // a failure that is ignored is handled
//!     Ok(one + other)
//! }
//!
//! let (one, fire) = Deferred::pending();
//! let sum = spawn(add(one, Deferred::fail(Failure::message("none"))));
//! assert!(!sum.is_fired());
//! fire.callback(5)?; // the function goes on and ends in here
//! assert_eq!(sum.result()?, 5);
//! # Ok::<(), Failure>(())
//! ```
//!
//! These rules hold:
//!
//! - **A block runs as soon as a callback would.** It runs up to its first wait before `spawn`
//!   returns, and continues inside the call that fires the awaited Deferred. No reactor is needed.
//! - **Cancelling goes through.** Cancelling the Deferred of a block cancels the Deferred that the
//!   block awaits, through blocks that await blocks. The block gets the [`CancelledError`]; it may
//!   clean up, or return something else. If several are awaited at once (`join`, `select`), all are
//!   cancelled before the block continues. A block that awaits only other futures is dropped and
//!   fails with `CancelledError`.
//! - **Dropping does not cancel**: a block continues when its Deferred is dropped, and so does the
//!   work behind a Deferred that a block has awaited and dropped, as `select` does with the slower
//!   one.
//! - **Other futures work too**, if the block is spawned with
//!   [`Reactor::spawn`](crate::Reactor::spawn): when anything but a Deferred wakes the block, on
//!   any thread, it is polled in the reactor's next [turn](crate#turns).
//! - **The cost** of an await is no allocation, pending or not. A block costs three allocations.
//!
//! [`CancelledError`]: crate::CancelledError

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::chain;
use super::{Deferred, Failure, State, task};

/// Runs a future, usually an `async` block; the Deferred fires with its result (Twisted's
/// `Deferred.fromCoroutine`).
///
/// The future is polled at once, and again inside each call that fires a Deferred it awaits; see
/// [the module](self) for the other rules. A panic in it becomes a failure that holds a
/// [`PanicError`](crate::PanicError). If the future waits for something that was dropped, so that
/// it can never be woken, it is dropped and fails with [`AbandonedError`](crate::AbandonedError).
///
/// For futures other than Deferreds, use [`Reactor::spawn`](crate::Reactor::spawn). Without a
/// reactor, the block is polled inside the call that wakes it, and some types wake while they hold
/// a lock that the block needs (`futures::lock::Mutex`). A wake from another thread is logged as an
/// error and ignored.
///
/// ```
/// # use deferred_reactor::{Deferred, Failure, deferred::spawn};
/// let (page, fire) = Deferred::<String>::pending();
/// let length = spawn(async {
///     match page.await {
///         Ok(text) => Ok(text.len()),
///         Err(_) => Ok(0),
///     }
/// });
/// fire.errback(Failure::message("no answer"))?;
/// assert_eq!(length.result()?, 0);
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn spawn<T: 'static>(
    future: impl Future<Output = Result<T, Failure>> + 'static,
) -> Deferred<T> {
    task::start(Box::pin(future), None, Location::caller())
}

/// Waits for the result.
///
/// In a block made by [`spawn`] or [`Reactor::spawn`](crate::Reactor::spawn), the wait ends inside
/// the call that fires this Deferred. In another executor, the waker is called there. A failure
/// that was awaited counts as handled.
///
/// # Panics
///
/// If it is polled again after it was ready; `.await` does not do that.
impl<T> Future for Deferred<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.state.take() {
            None => panic!("a Deferred was polled after it was ready"),
            Some(State::Fired { result, .. }) => Poll::Ready(result),
            Some(State::Pending { node, root }) => {
                chain::give_away(&root);
                if !root.chain().is_paused()
                    && let Some(result) = node.tail().take_result()
                {
                    return Poll::Ready(result);
                }
                chain::wake_later(&node, &root, context.waker());
                self.state = Some(State::Pending { node, root });
                Poll::Pending
            }
        }
    }
}

/// The value is never pinned: it is moved out when it is ready.
impl<T> Unpin for Deferred<T> {}
