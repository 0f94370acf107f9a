//! What the layers know of one another: how long a page takes to render can be measured.
//!
//! `instrument` knows nothing of HTTP and `web` nothing of metrics, so this stands beside them.

use crate::instrument::{End, Ending};
use crate::web::{Rendered, Response};

impl Ending for Response {}

/// A page that comes later is measured until it is there; [`NOT_DONE_YET`] is all that is seen of
/// one that is written elsewhere.
///
/// [`NOT_DONE_YET`]: crate::web::NOT_DONE_YET
impl Ending for Rendered {
    #[track_caller]
    fn when_ended(self, end: impl FnOnce(End<'_>) + 'static) -> Self {
        match self {
            Self::Deferred(deferred) => Self::Deferred(deferred.when_ended(end)),
            Self::DeferredResource(deferred) => Self::DeferredResource(deferred.when_ended(end)),
            rendered => {
                end(match &rendered {
                    Self::Failed(failure) => End::Error(failure),
                    _ => End::Success,
                });
                rendered
            }
        }
    }
}
