//! Bodies that are delivered to an object.

use bytes::Bytes;
use deferred_reactor::{Deferred, Failure};

use super::Body;

/// Takes a body in pieces (the protocol that Twisted's `deliverBody` is given).
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use bytes::Bytes;
/// use prometheus_deferred::Failure;
/// use prometheus_deferred::web::{Body, BodyReceiver};
///
/// struct Count(Rc<Cell<usize>>);
///
/// impl BodyReceiver for Count {
///     fn data_received(&mut self, data: Bytes) -> Result<(), Failure> {
///         self.0.set(self.0.get() + data.len());
///         Ok(())
///     }
///     fn body_ended(&mut self, result: Result<(), Failure>) {
///         println!("{} bytes, {}", self.0.get(), if result.is_ok() { "whole" } else { "broken off" });
///     }
/// }
///
/// let count = Rc::new(Cell::new(0));
/// Body::from("twelve bytes").deliver_to(Count(count.clone()));
/// assert_eq!(count.get(), 12);
/// # Ok::<(), Failure>(())
/// ```
pub trait BodyReceiver: 'static {
    /// A piece has come, of any size but zero. The next one comes once this has returned.
    ///
    /// # Errors
    ///
    /// An error ends the delivery: it is what [`body_ended`](Self::body_ended) gets.
    fn data_received(&mut self, data: Bytes) -> Result<(), Failure>;

    /// Called once, and last: everything has come, or why not.
    fn body_ended(&mut self, result: Result<(), Failure>);
}

impl Body {
    /// Gives each piece to `receiver` as it comes, and then the end (Twisted's `deliverBody`).
    #[track_caller]
    pub fn deliver_to(self, receiver: impl BodyReceiver) {
        drop(deliver(self, Box::new(receiver)));
    }
}

fn deliver(body: Body, mut receiver: Box<dyn BodyReceiver>) -> Deferred<()> {
    body.read().add_both(move |result| {
        let result = match result {
            Ok(Some(piece)) => receiver.data_received(piece).map(|()| false),
            Ok(None) => Ok(true),
            Err(failure) => Err(failure),
        };
        match result {
            Ok(false) => deliver(body, receiver),
            Ok(true) => {
                receiver.body_ended(Ok(()));
                Deferred::succeed(())
            }
            Err(failure) => {
                receiver.body_ended(Err(failure));
                Deferred::succeed(())
            }
        }
    })
}
