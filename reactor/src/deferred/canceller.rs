//! The [`Canceller`] of a Deferred that has been moved elsewhere.

use std::fmt;
use std::panic::Location;
use std::rc::Weak;

#[cfg(doc)]
use super::Deferred;
use super::chain::{self, ChainRoot, Line, Why};

/// Cancels a Deferred that has been moved elsewhere.
///
/// Cheap to clone; does not keep the Deferred alive. Does nothing once the Deferred has fired.
///
/// ```
/// # use deferred_reactor::{CancelledError, Deferred};
/// let (deferred, _resolver) = Deferred::<()>::pending();
/// let canceller = deferred.canceller();
/// let ended = deferred.add_both(|result| Ok(result.unwrap_err().is::<CancelledError>()));
/// canceller.cancel();
/// assert!(ended.result().unwrap());
/// ```
#[derive(Clone, Default)]
pub struct Canceller {
    pub(super) root: Option<Weak<dyn ChainRoot>>,
}

impl Canceller {
    /// `None` for a Deferred that has fired.
    pub(super) fn new(root: Option<Weak<dyn ChainRoot>>) -> Self {
        Self { root }
    }

    /// Cancels the operation that the Deferred waits for, because its time limit is over.
    pub(super) fn time_is_up(&self, line: Line) {
        if let Some(root) = self.root.as_ref().and_then(Weak::upgrade) {
            chain::cancel(root, line, Why::TimeIsUp);
        }
    }

    /// Cancels the operation that the Deferred waits for, as [`Deferred::cancel`] does.
    #[track_caller]
    pub fn cancel(&self) {
        if let Some(root) = self.root.as_ref().and_then(Weak::upgrade) {
            chain::cancel(root, Location::caller(), Why::Asked);
        }
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}
