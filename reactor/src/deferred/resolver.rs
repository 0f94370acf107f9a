//! The firing end of a Deferred.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::chain::{Line, Root};
use super::{AlreadyCalledError, Failure};

/// Fires one Deferred, once: firing consumes it.
///
/// The callbacks of the Deferred run on the caller's stack, before the firing call returns.
/// Dropping the resolver without firing fails the Deferred with
/// [`AbandonedError`](crate::AbandonedError), so that no callback waits in vain.
///
/// A second fire does not compile:
///
/// ```compile_fail
/// # use deferred_reactor::Deferred;
/// let (_deferred, resolver) = Deferred::pending();
/// resolver.callback(1).unwrap();
/// resolver.callback(2).unwrap();
/// ```
#[must_use = "a resolver that is dropped fails its Deferred with AbandonedError"]
pub struct Resolver<T: 'static> {
    /// `None` once fired.
    root: Option<Rc<Root<T>>>,
    /// Whether dropping it means that no result will come.
    abandons: bool,
}

impl<T> Resolver<T> {
    pub(super) fn new(root: Rc<Root<T>>) -> Self {
        Self {
            root: Some(root),
            abandons: true,
        }
    }

    /// The second resolver of a Deferred, lent to its canceller.
    pub(super) fn for_canceller(root: Rc<Root<T>>) -> Self {
        Self {
            root: Some(root),
            abandons: false,
        }
    }

    /// Fires with a value and runs the callbacks added so far.
    ///
    /// They run here, on the caller's stack, before this returns. A callback that returns a
    /// Deferred suspends the chain until that one fires.
    ///
    /// # Errors
    ///
    /// [`AlreadyCalledError`] if a canceller has decided the result before. On a Deferred that was cancelled and has no canceller, this call does nothing and returns `Ok`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use deferred_reactor::Deferred;
    /// let (page, resolver) = Deferred::pending();
    /// let length = page.map(|text: &str| text.len());
    /// resolver.callback("hello")?;
    /// assert_eq!(length.result()?, 5);
    /// # Ok::<(), deferred_reactor::Failure>(())
    /// ```
    #[track_caller]
    pub fn callback(self, value: T) -> Result<(), AlreadyCalledError> {
        self.fire(Ok(value))
    }

    /// Fires with an error and runs the errbacks added so far.
    ///
    /// # Errors
    ///
    /// As for [`callback`](Self::callback).
    ///
    /// # Examples
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let (page, resolver) = Deferred::<String>::pending();
    /// let text = page.add_errback(|failure| Ok(format!("<h1>{failure}</h1>")));
    /// resolver.errback(Failure::message("out of paper"))?;
    /// assert_eq!(text.result()?, "<h1>out of paper</h1>");
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn errback(self, error: impl Into<Failure>) -> Result<(), AlreadyCalledError> {
        self.fire(Err(error.into()))
    }

    /// Fires with a result.
    ///
    /// # Errors
    ///
    /// As for [`callback`](Self::callback).
    #[track_caller]
    pub fn fire(self, result: Result<T, Failure>) -> Result<(), AlreadyCalledError> {
        self.fire_at(result, Location::caller())
    }

    #[inline]
    pub(crate) fn fire_at(
        mut self,
        result: Result<T, Failure>,
        line: Line,
    ) -> Result<(), AlreadyCalledError> {
        match self.root.take() {
            Some(root) => root.fire(result, line),
            None => unreachable!("firing consumes the resolver"),
        }
    }

    /// Returns `true` while the result is not decided, so that this resolver would decide it; also
    /// while the canceller runs.
    pub fn is_pending(&self) -> bool {
        self.root.as_ref().is_some_and(|root| root.is_pending())
    }

    /// For a canceller that has cancelled other Deferreds, from which the result still comes. The
    /// Deferred stays pending unless it has fired, and `canceller` is called at the next cancel.
    pub(super) fn wait_on(self, canceller: impl FnOnce(Self) + 'static) {
        if let Some(root) = &self.root {
            root.wait_on(Box::new(canceller));
        }
    }

    /// For a canceller: whether it was called because a time limit is over, so that the Deferred
    /// must end now.
    pub(super) fn is_timing_out(&self) -> bool {
        self.root.as_ref().is_some_and(|root| root.is_timing_out())
    }

    /// Drops the resolver without a result: the Deferred waits until it is cancelled.
    pub(super) fn never_fire(mut self) {
        self.abandons = false;
    }

    /// Whether nobody gets the result: the Deferred was dropped, and had no callbacks.
    pub(super) fn is_unheard(&self) -> bool {
        self.root.as_ref().is_some_and(|root| root.is_unheard())
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        if self.abandons
            && let Some(root) = self.root.take()
        {
            root.abandon();
        }
    }
}

impl<T> fmt::Debug for Resolver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("is_pending", &self.is_pending())
            .finish_non_exhaustive()
    }
}
