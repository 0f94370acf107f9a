//! What a request asks for: everything of it but its body and its answer.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use http::Method;
use percent_encoding::percent_decode_str;

use crate::http1::{self, Framing, Version};

/// The head of a request: method, target and fields, and how far its path has been walked.
///
/// A [`Request`](super::Request) has the same methods. The head alone is what a resource is shown
/// when it is asked [what becomes of a body](super::Resource::body_policy), before that has come.
#[derive(Clone, Default)]
pub struct RequestHead {
    pub(super) wire: http1::RequestHead,
    /// How many path segments have been walked.
    walked: Cell<usize>,
    /// Where in the path the last segment begins that was walked, with the slash before it.
    segment: Cell<usize>,
    /// Where in the path the next one begins; beyond its end when there is none.
    next_segment: Cell<usize>,
    /// Where the last segment ends that names a child which was put, after others that do.
    named_end: Cell<usize>,
    route: RefCell<Route>,
    /// What its site collects of a body, unless the resource says otherwise.
    pub(super) body_limit: Cell<u64>,
}

/// Which of the program's routes a request has taken, told without anything that the client chose.
#[derive(Debug, Clone, Default)]
enum Route {
    /// The resource was found in the tree.
    #[default]
    Tree,
    /// The Klein route that will be taken once the body is there.
    Expected(Rc<str>),
    /// Templates of the Klein routes that led here, one behind the other.
    Template(Rc<str>),
    /// Nothing was found.
    Unmatched,
}

impl RequestHead {
    pub(super) fn clear(&mut self) {
        self.walked.set(0);
        self.segment.set(0);
        self.next_segment.set(0);
        self.named_end.set(0);
        *self.route.get_mut() = Route::default();
    }

    /// The method, such as `GET`.
    pub fn method(&self) -> &Method {
        &self.wire.method
    }

    /// Whether the client speaks HTTP/1.1, and not 1.0.
    pub fn is_http_11(&self) -> bool {
        self.wire.version == Version::Http11
    }

    /// The request target as it came: `/path?query`, an absolute URI, or `*`.
    pub fn target(&self) -> &str {
        self.wire.target()
    }

    /// The path, still percent-encoded.
    pub fn path(&self) -> &str {
        self.wire.path()
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&str> {
        self.wire.query()
    }

    /// The query as names and values, decoded, in the order in which they came.
    pub fn args(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The value of a header field, whatever the case of its name; the last, if it came repeatedly.
    ///
    /// `None` also for a value that is not UTF-8, which [`headers`](Self::headers) shows.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        std::str::from_utf8(self.wire.fields().last(name.as_ref())?).ok()
    }

    /// All header fields in the order in which they came, names spelled as they came.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (&str, &[u8])> {
        self.wire.fields().iter()
    }

    /// How long the body is, where the head says so; `Some(0)` if there is none, `None` if it is
    /// chunked.
    pub fn content_length(&self) -> Option<u64> {
        match self.wire.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }

    /// How long the client has said that the body is.
    pub(super) fn declared_length(&self) -> Option<u64> {
        match self.wire.framing {
            Framing::Length(length) => Some(length),
            Framing::None | Framing::Chunked => None,
        }
    }

    /// Whether it asks something of the server, and not of a resource.
    pub(super) fn is_for_server(&self) -> bool {
        self.target() == "*" || *self.method() == Method::CONNECT
    }

    /// The longest body that the site collects for a resource that does not say otherwise
    /// ([`Site::max_body_bytes`](super::Site::max_body_bytes)), in bytes.
    pub fn max_body_bytes(&self) -> u64 {
        self.body_limit.get()
    }

    /// The path segments walked so far, decoded.
    pub fn prepath(&self) -> Vec<String> {
        self.segments()
            .take(self.walked.get())
            .map(Cow::into_owned)
            .collect()
    }

    /// The path segments that are left, decoded. A path that ends in a slash ends in an empty one.
    pub fn postpath(&self) -> Vec<String> {
        self.segments()
            .skip(self.walked.get())
            .map(Cow::into_owned)
            .collect()
    }

    /// The route that answers, as the program wrote it: `/todo/<int:id>` for a Klein route, the
    /// names that children were [put](super::Tree::put_child) under for resources in a tree, with
    /// `/*` for what was made by [`get_child`](super::Resource::get_child). Empty when nothing
    /// matched, so that clients cannot make up values of a label.
    ///
    /// It is known once the resource was found.
    pub fn route(&self) -> Cow<'_, str> {
        let named = decode(self.path().get(..self.named_end.get()).unwrap_or_default());
        let is_named = self.next_segment.get().saturating_sub(1) == self.named_end.get();
        match &*self.route.borrow() {
            Route::Unmatched => Cow::Borrowed(""),
            Route::Template(template) | Route::Expected(template) => {
                Cow::Owned(format!("{named}{template}"))
            }
            Route::Tree if !is_named => Cow::Owned(format!("{named}/*")),
            Route::Tree if named.is_empty() => Cow::Borrowed("/"),
            Route::Tree => named,
        }
    }

    /// A Klein route was taken.
    pub(super) fn take_route(&self, template: &Rc<str>) {
        let mut route = self.route.borrow_mut();
        *route = Route::Template(match &*route {
            // A route of one app that answers with another app.
            Route::Template(outer) => format!("{outer}{template}").into(),
            _ => template.clone(),
        });
    }

    /// A Klein route is going to be taken, once the body is there.
    pub(super) fn expect_route(&self, template: &Rc<str>) {
        let mut route = self.route.borrow_mut();
        if matches!(*route, Route::Tree) {
            *route = Route::Expected(template.clone());
        }
    }

    /// Nothing is there.
    pub(super) fn matches_nothing(&self) {
        self.route.replace(Route::Unmatched);
    }

    /// The segment that was walked last names a child that was put.
    pub(super) fn walked_to_named_child(&self) {
        let end = self.next_segment.get().saturating_sub(1);
        // Below a child that was made for the request, a name says nothing of where it is.
        if self.segment.get() == self.named_end.get() {
            self.named_end.set(end);
        }
    }

    /// The segments that are left, without a copy of those that were not encoded.
    pub(super) fn postpath_segments(&self) -> Vec<Cow<'_, str>> {
        self.segments().skip(self.walked.get()).collect()
    }

    /// The path segments, decoded. The target was checked: they are UTF-8.
    fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        decoded_segments(self.path())
    }

    /// The next segment to walk, or `None` at the end of the path. Counts it as walked.
    pub(super) fn next_segment(&self) -> Option<Cow<'_, str>> {
        let path = self.path();
        // The first segment comes after the slash that the path begins with.
        let start = self.next_segment.get().max(1);
        let rest = path.get(start..)?;
        let length = http1::segment_length(rest.as_bytes());
        self.segment.set(start - 1);
        self.next_segment.set(start + length + 1);
        self.walked.set(self.walked.get() + 1);
        let segment = &rest[..length];
        Some(if self.wire.has_escapes() {
            decode(segment)
        } else {
            Cow::Borrowed(segment)
        })
    }

    /// Counts segments as walked.
    pub(super) fn walk(&self, count: usize) {
        for _ in 0..count {
            if self.next_segment().is_none() {
                break;
            }
        }
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHead({} {})", self.method(), self.target())
    }
}

/// The segments of a path, decoded one by one, so that an encoded slash does not cut.
pub(super) fn decoded_segments(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    path.strip_prefix('/')
        .unwrap_or(path)
        .split('/')
        .map(decode)
}

fn decode(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}
