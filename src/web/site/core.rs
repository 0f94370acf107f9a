//! What all connections of a site share.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::date::DateLine;
use super::limits::Limits;
use super::live::Live;
use super::spares::Spares;
use crate::web::pages::ErrorPages;
use crate::web::{Request, Resource, SiteObserver};

/// A site that serves: its settings do not change any more.
pub(in crate::web) struct SiteCore {
    pub(in crate::web) root: Rc<dyn Resource>,
    /// Where the program made the site.
    pub(in crate::web) line: &'static Location<'static>,
    pub(in crate::web) limits: Limits,
    pub(in crate::web) displays_tracebacks: bool,
    pub(in crate::web) pages: ErrorPages,
    pub(in crate::web) observer: Option<Rc<dyn SiteObserver>>,
    pub(in crate::web) date: DateLine,
    pub(in crate::web) spares: Spares,
    pub(in crate::web) live: Rc<Live>,
    pub(in crate::web) next_id: Cell<u64>,
}

impl SiteCore {
    /// Whether a connection closes behind so many requests.
    #[inline]
    pub(in crate::web) fn closes_behind(&self, requests: u64) -> bool {
        self.limits
            .requests_per_connection
            .is_some_and(|most| requests >= most)
            || self.limits.keep_alive == Some(Duration::ZERO)
            || self.live.is_draining()
    }

    /// Finds the resource for a request, from `start` down (Twisted's `getChildForRequest`).
    #[inline]
    pub(in crate::web) fn find(
        start: Rc<dyn Resource>,
        request: &Request,
    ) -> Option<Rc<dyn Resource>> {
        let mut resource = start;
        while !resource.is_leaf() {
            let Some(segment) = request.head().next_segment() else {
                break;
            };
            resource = resource.get_child_with_default(&segment, request)?;
        }
        Some(resource)
    }
}
