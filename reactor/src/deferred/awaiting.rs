//! Straight-line code: `async` blocks that await Deferreds, and Deferreds of async blocks.
//!
//! A Deferred is a future of `Result<T, Failure>`, and [`spawn`] makes a Deferred of a future. An
//! async block is then what a chain of callbacks is, written in one piece: `?` passes a failure on,
//! a `match` on the result is an errback, and a loop is a loop.
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
//! What holds:
//!
//! - **A block is as prompt as a callback.** It runs up to its first wait before `spawn` returns,
//!   and goes on inside the call that fires the Deferred which it awaits. No reactor is needed.
//! - **Cancelling goes through.** To cancel the Deferred of a block cancels what the block awaits,
//!   through blocks that await blocks, and the block sees the [`CancelledError`]; it may clean up,
//!   or answer with something else. With several awaited at once (`join`, `select`), all are
//!   cancelled before the block goes on. A block that awaits no Deferred but some other future is
//!   dropped there and fails with `CancelledError`.
//! - **To drop is not to cancel**: neither the Deferred of a block, which goes on without it, nor
//!   a Deferred that a block has awaited and drops, as `select` does with the one that comes late.
//! - **Other futures work too**, with nothing else than [`Reactor::spawn`](crate::Reactor::spawn):
//!   a block that was woken by anything but a Deferred, on whatever thread, is polled in the
//!   reactor's next turn.
//! - **The cost** of an await is no allocation, pending or not. That of a block is three.
//!
//! [`CancelledError`]: crate::CancelledError

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::chain;
use super::{Deferred, Failure, State, task};

/// Runs a future, usually an `async` block, and fires with what it ends with (Twisted's
/// `Deferred.fromCoroutine`).
///
/// It is polled here and now, and again inside the call that fires the Deferred it awaits; see
/// [the module](self) for what else holds. A panic in it is a failure with
/// [`PanicError`](crate::PanicError), and if it comes to wait for something that is gone, so that
/// nobody can ever wake it, it is dropped and the failure is
/// [`AbandonedError`](crate::AbandonedError).
///
/// What awaits other futures than Deferreds is better spawned on a reactor
/// ([`Reactor::spawn`](crate::Reactor::spawn)). Here there is none, so the block is polled by
/// whatever wakes it, from inside that call, which some types do with a lock held that the block
/// would take (`futures::lock::Mutex`). A wake from another thread is logged as an error and lost,
/// as nobody could act on it.
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
/// In a block made by [`spawn`] or [`Reactor::spawn`](crate::Reactor::spawn) the wait ends inside
/// the call that fires this Deferred. In any other executor its waker is called then. A failure
/// that was awaited is handled, also if it is ignored.
///
/// # Panics
///
/// If it is polled once more after it was ready, as futures may; `.await` does not do that.
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

/// The value is never pinned: it is moved out when it is there.
impl<T> Unpin for Deferred<T> {}
