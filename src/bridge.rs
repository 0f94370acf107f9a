//! Measuring how long a page takes to render.
//!
//! `instrument` knows no HTTP and `web` knows no metrics, so this file connects them.

use crate::instrument::{End, Ending};
use crate::web::{Rendered, Response};

impl Ending for Response {}

/// A page behind a Deferred is measured until the Deferred fires. [`NOT_DONE_YET`] is measured only
/// until it is returned, because the response is written elsewhere.
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
