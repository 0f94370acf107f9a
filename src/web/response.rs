//! What a resource answers: a status, fields, and a body.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use deferred_reactor::Failure;
use http::header::{self, HeaderName};
use http::{Method, StatusCode};

use super::EntityTag;
use super::body::{BodySource, Pieces};
use super::conditional::Validators;
use crate::http1;

/// A complete response.
///
/// Length, date and connection handling are added when it is sent. Without a `Content-Type`, text
/// goes out as `text/plain; charset=utf-8`, so that nothing a client has sent can become script, and
/// bytes as `text/html; charset=utf-8`, as in Twisted; [`Html`] is for pages.
///
/// ```
/// use prometheus_deferred::web::{Response, StatusCode, header};
///
/// let response = Response::new("gone fishing\n")
///     .with_status(StatusCode::SERVICE_UNAVAILABLE)
///     .with_header(header::RETRY_AFTER, "3600");
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.header(&header::CONTENT_TYPE), Some("text/plain; charset=utf-8"));
/// ```
///
/// A clone of a response shares its bytes. A body that is made while it is sent can be sent once.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub(super) head: ResponseHead,
    pub(super) content: Content,
}

/// What a response carries.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Whole(Bytes),
    /// Made while it is sent. The first clone that is sent takes it.
    Pieces(Rc<RefCell<Option<Pieces>>>),
    /// A sentence for the page of an error, which is made when the client is known.
    Page(Cow<'static, str>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Content {
    fn pieces(pieces: Pieces) -> Self {
        Self::Pieces(Rc::new(RefCell::new(Some(pieces))))
    }
}

impl Response {
    /// A response of status 200 with this body: text, bytes, [`Html`], `()` for none, or a
    /// [`StatusCode`] of its own.
    pub fn new(body: impl Into<Self>) -> Self {
        body.into()
    }

    /// A response whose body is made while it is sent, piece by piece, as the client reads: from an
    /// iterator, a [`Body`](super::Body), or a function that returns a Deferred of the next piece
    /// ([`BodySource`]).
    ///
    /// It is chunked, or, if the source or a `Content-Length` field tells the length, as long as
    /// that.
    ///
    /// ```
    /// use prometheus_deferred::web::{Klein, Response};
    ///
    /// let mut app = Klein::new();
    /// app.route("/numbers", |_| {
    ///     Response::stream((0..1_000_000).map(|number| format!("{number}\n")))
    ///         .with_content_type("text/plain; charset=utf-8")
    /// });
    /// ```
    pub fn stream<M>(source: impl BodySource<M>) -> Self {
        Self {
            content: Content::pieces(source.into_pieces()),
            ..Self::default()
        }
    }

    /// A response whose body is the rest of a file, from its position. The file is read in threads of
    /// the reactor's pool, one piece of 64 KiB ahead of the client, and its position does not move.
    /// With [`accept_ranges`](Self::accept_ranges), clients may ask for parts.
    ///
    /// A file that becomes shorter meanwhile breaks the connection, so that the client does not take
    /// what it got for all.
    ///
    /// # Errors
    ///
    /// Asking the file for its length and position failed, or it is a directory.
    ///
    /// ```
    /// use std::fs::File;
    /// use prometheus_deferred::Failure;
    /// use prometheus_deferred::web::{Klein, Response};
    ///
    /// let mut app = Klein::new();
    /// app.route("/log", |_| {
    ///     let response = Response::file(File::open("/var/log/messages")?)?;
    ///     Ok::<_, Failure>(response.with_content_type("text/plain; charset=utf-8"))
    /// });
    /// ```
    pub fn file(file: File) -> Result<Self, Failure> {
        Ok(Self {
            content: Content::pieces(Pieces::file(file)?),
            ..Self::default()
        })
    }

    /// The page of an error; see [`Site::error_pages`](super::Site::error_pages).
    pub(crate) fn page(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            head: ResponseHead {
                status: Some(status),
                ..ResponseHead::default()
            },
            content: Content::Page(message.into()),
        }
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.head.status = Some(status);
        self
    }

    /// The same with a header field set; one of that name that was there is replaced, but for
    /// `Set-Cookie`, which stands once for each cookie.
    ///
    /// Bytes that may not be in a value, such as line breaks, become spaces.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        self.head.set(name, value.as_ref());
        self
    }

    /// The same with a header field added, beside those of that name.
    #[must_use]
    pub fn with_added_header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        self.head.add(name, value.as_ref());
        self
    }

    /// The same with another body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.content = Content::Whole(body.into());
        self
    }

    /// The same with this `Content-Type`. A literal is not copied.
    #[must_use]
    pub fn with_content_type(mut self, value: impl Into<Cow<'static, str>>) -> Self {
        self.head.content_type = Some(field_value(value.into()));
        self
    }

    /// The same with this `ETag`: a client that has the body already gets 304 in its place.
    ///
    /// A response of status 200 to GET or HEAD is then sent as the conditions of its request ask for
    /// (RFC 9110, section 13): whole, or as 304 without a body, or as 412. Every other response goes
    /// out as it is.
    ///
    /// ```
    /// use prometheus_deferred::testing::{MemoryReactor, SendRequests};
    /// use prometheus_deferred::web::{EntityTag, Klein, Response, Site};
    ///
    /// let mut app = Klein::new();
    /// app.route("/prices", |_| Response::new("bread 3\n").with_etag(EntityTag::strong("v7")));
    /// let memory = MemoryReactor::new();
    /// memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
    ///
    /// let first = memory.get("/prices").send();
    /// assert_eq!((first.status(), first.header("ETag")), (200.try_into()?, Some("\"v7\"")));
    /// let second = memory.get("/prices").header("If-None-Match", "\"v7\"").send();
    /// assert_eq!(second.status(), 304);
    /// # Ok::<(), prometheus_deferred::Failure>(())
    /// ```
    ///
    /// The program has made the body by then. To save that work, call
    /// [`Request::set_etag`](super::Request::set_etag) first.
    #[must_use]
    pub fn with_etag(mut self, etag: EntityTag) -> Self {
        self.head.set_etag(etag);
        self
    }

    /// The same with this `Last-Modified`, rounded up to a second: a client that has the body already
    /// gets 304 in its place, as with [`with_etag`](Self::with_etag).
    ///
    /// Of several times, the latest counts. One outside of the years 1970 to 9999 is ignored.
    #[must_use]
    pub fn with_last_modified(mut self, when: SystemTime) -> Self {
        self.head.set_last_modified(when);
        self
    }

    /// The same, and GET may ask for parts of the body by `Range` (RFC 9110, section 14).
    ///
    /// One part is sent as 206 with `Content-Range`, several as `multipart/byteranges`, and what is
    /// beyond the end is answered with 416. A malformed field, more than 16 parts, or some that
    /// overlap, get the whole body. `If-Range` is heeded if there is a strong
    /// [tag](Self::with_etag), or a [date](Self::with_last_modified) at least a second old.
    ///
    /// Of a [file](Self::file), only the parts that are asked for are read. Any other body that is
    /// [streamed](Self::stream) is sent as a whole.
    ///
    /// ```
    /// use prometheus_deferred::testing::{MemoryReactor, SendRequests};
    /// use prometheus_deferred::web::{Klein, Response, Site};
    ///
    /// let mut app = Klein::new();
    /// app.route("/digits", |_| Response::new("0123456789").accept_ranges());
    /// let memory = MemoryReactor::new();
    /// memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
    ///
    /// let part = memory.get("/digits").header("Range", "bytes=-3").send();
    /// assert_eq!(part.status(), 206);
    /// assert_eq!(part.header("Content-Range"), Some("bytes 7-9/10"));
    /// assert_eq!(part.text(), "789");
    /// # Ok::<(), prometheus_deferred::Failure>(())
    /// ```
    #[must_use]
    pub fn accept_ranges(mut self) -> Self {
        self.head.accept_ranges();
        self
    }

    /// The status: 200 unless set.
    pub fn status(&self) -> StatusCode {
        self.head.status()
    }

    /// The value of a field that was set; the first, if there are several.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.get(name)
    }

    /// The body; empty for one that is made while it is sent, or when the client is known.
    pub fn body(&self) -> &[u8] {
        match &self.content {
            Content::Whole(body) => body,
            Content::Pieces(_) | Content::Page(_) => &[],
        }
    }

    /// Says which methods there are instead (RFC 9110, 10.2.1).
    pub(crate) fn with_allow(mut self, methods: &[Method]) -> Self {
        self.head.set(header::ALLOW, &allow_value(methods));
        self
    }

    /// Whether nothing is lost when it is not sent.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.content, Content::Whole(body) if body.is_empty())
    }
}

/// `GET, HEAD`: sorted, each method once, and HEAD wherever there is GET.
pub(super) fn allow_value(methods: &[Method]) -> String {
    let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// A page of HTML, for a handler to return: `Html(format!("<p>{}</p>", escaped))`.
///
/// What stands in it goes to the browser as it is, so text that comes from outside has to be
/// escaped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Html<T>(
    /// The page.
    pub T,
);

/// The type of text that does not say what it is.
const TEXT: &str = "text/plain; charset=utf-8";

/// The type of pages, and of bytes that do not say what they are.
const HTML: &str = "text/html; charset=utf-8";

macro_rules! response_from {
    ($is_text:literal; $($body:ty),*) => {$(
        impl From<$body> for Response {
            fn from(body: $body) -> Self {
                Self {
                    head: ResponseHead {
                        is_text: $is_text,
                        ..ResponseHead::default()
                    },
                    content: Content::Whole(body.into()),
                }
            }
        }
    )*};
}

response_from!(true; &'static str, String);
response_from!(false; &'static [u8], Vec<u8>, Bytes);

impl<T: Into<Bytes>> From<Html<T>> for Response {
    fn from(Html(page): Html<T>) -> Self {
        Self::default().with_content_type(HTML).with_body(page)
    }
}

impl From<()> for Response {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<StatusCode> for Response {
    fn from(status: StatusCode) -> Self {
        Self::default().with_status(status)
    }
}

/// Status and fields, as far as they were set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) status: Option<StatusCode>,
    /// Kept apart: nearly every response has one, and most have nothing else.
    pub(super) content_type: Option<Cow<'static, str>>,
    /// The body is text, and not bytes.
    is_text: bool,
    /// What the request's conditions are compared with; few responses have any.
    pub(super) validators: Option<Box<Validators>>,
    /// The others, in a list, as there are few; an empty one owns no memory.
    fields: Vec<(HeaderName, String)>,
}

impl ResponseHead {
    pub(super) fn status(&self) -> StatusCode {
        self.status.unwrap_or(StatusCode::OK)
    }

    /// The `Content-Type` of the body: the one that was set, or the default for text or bytes.
    pub(super) fn content_type(&self) -> &str {
        match &self.content_type {
            Some(value) => value,
            None if self.is_text => TEXT,
            None => HTML,
        }
    }

    pub(super) fn set(&mut self, name: HeaderName, value: &str) {
        // Two cookies cannot share a line (RFC 6265, 3).
        if name != header::SET_COOKIE {
            self.fields.retain(|(known, _)| *known != name);
        }
        self.add(name, value);
    }

    /// A content type is one; further ones take its place.
    pub(super) fn add(&mut self, name: HeaderName, value: &str) {
        let value = field_value(value.to_owned().into());
        if name == header::CONTENT_TYPE {
            self.content_type = Some(value);
        } else {
            self.fields.push((name, value.into_owned()));
        }
    }

    /// Removes a field; a content type is removed by hand.
    pub(super) fn remove(&mut self, name: &HeaderName) {
        self.fields.retain(|(known, _)| known != name);
    }

    pub(super) fn get(&self, name: &HeaderName) -> Option<&str> {
        if *name == header::CONTENT_TYPE {
            return match self.is_text {
                true => Some(self.content_type()),
                false => self.content_type.as_deref(),
            };
        }
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.status = None;
        self.content_type = None;
        self.is_text = false;
        self.validators = None;
        self.fields.clear();
    }

    /// Takes over what `other` says; its fields win over those of the same name, unless each of
    /// them says something of its own.
    #[inline]
    pub(super) fn merge(&mut self, other: Self) {
        self.status = other.status.or(self.status);
        self.content_type = other.content_type.or(self.content_type.take());
        self.is_text = other.is_text;
        match (&mut self.validators, other.validators) {
            (Some(ours), Some(newer)) => ours.merge(*newer),
            (ours @ None, newer) => *ours = newer,
            (Some(_), None) => {}
        }
        self.merge_fields(other.fields);
    }

    /// Takes over the type of a page, and those of its fields that are not set.
    pub(super) fn take_page(&mut self, page: Self) {
        self.content_type = page.content_type;
        self.is_text = page.is_text;
        let mut fields = page.fields;
        fields.retain(|(name, _)| self.get(name).is_none());
        self.fields.extend(fields);
    }

    #[inline]
    fn merge_fields(&mut self, fields: Vec<(HeaderName, String)>) {
        if fields.is_empty() {
            return;
        }
        self.fields
            .retain(|(name, _)| adds_up(name) || fields.iter().all(|(known, _)| known != name));
        self.fields.extend(fields);
    }

    /// The fields apart from the content type.
    pub(super) fn fields(&self) -> &[(HeaderName, String)] {
        &self.fields
    }
}

/// Whether fields of this name add up: those set on the request and those of the response are all
/// sent.
fn adds_up(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::SET_COOKIE | header::VARY | header::LINK | header::WWW_AUTHENTICATE
    )
}

/// A value that cannot break out of its line.
fn field_value(value: Cow<'static, str>) -> Cow<'static, str> {
    if http1::is_field_value(value.as_bytes()) {
        return value;
    }
    let is_good = |char: char| !char.is_ascii_control() || char == '\t';
    let clean = value
        .chars()
        .map(|char| if is_good(char) { char } else { ' ' });
    Cow::Owned(clean.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_in_a_value_becomes_a_space() {
        let response = Response::new("").with_header(header::LOCATION, "/a\r\nSet-Cookie: b");
        let location = response.header(&header::LOCATION).unwrap();
        assert_eq!(location, "/a  Set-Cookie: b");
    }

    #[test]
    fn allow_is_sorted_and_has_head_with_get() {
        let methods = [Method::POST, Method::GET, Method::POST];
        assert_eq!(allow_value(&methods), "GET, HEAD, POST");
        assert_eq!(allow_value(&[Method::PUT]), "PUT");
    }
}
