//! What a resource answers: a status, fields, and a body.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{Method, StatusCode};

/// A complete response.
///
/// Length, date and connection handling are added when it is sent. Without a `Content-Type`, a body
/// goes out as `text/html`, as in Twisted.
///
/// ```
/// use prometheus_deferred::web::{Response, StatusCode, header};
///
/// let response = Response::new("gone fishing\n")
///     .with_status(StatusCode::SERVICE_UNAVAILABLE)
///     .with_content_type("text/plain; charset=utf-8")
///     .with_header(header::RETRY_AFTER, "3600");
/// assert_eq!(response.status(), 503);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub(super) head: ResponseHead,
    pub(super) body: Bytes,
}

impl Response {
    /// A response of status 200 with this body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            head: ResponseHead::default(),
            body: body.into(),
        }
    }

    /// The same with another status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.head.status = status;
        self
    }

    /// The same with a header field set; one of that name that was there is replaced.
    ///
    /// Bytes that may not be in a value, such as line breaks, become spaces.
    pub fn with_header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        self.head.set(name, value.as_ref());
        self
    }

    /// The same with another body.
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The same with this `Content-Type`. A literal is not copied.
    pub fn with_content_type(mut self, value: impl Into<Cow<'static, str>>) -> Self {
        self.head.content_type = Some(field_value(value.into()));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The value of a field that was set.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.head.get(name)
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Says which methods there are instead (RFC 9110, 10.2.1).
    pub(crate) fn with_allow(mut self, methods: &[Method]) -> Self {
        self.head.set(header::ALLOW, &allow_value(methods));
        self
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

/// An empty body, an HTML page, or bytes: what converts into a [`Response`].
macro_rules! response_from {
    ($($body:ty),*) => {$(
        impl From<$body> for Response {
            fn from(body: $body) -> Self {
                Self::new(body)
            }
        }
    )*};
}

response_from!(&'static str, String, &'static [u8], Vec<u8>, Bytes);

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
    pub(super) status: StatusCode,
    /// Kept apart: nearly every response has one, and most have nothing else.
    pub(super) content_type: Option<Cow<'static, str>>,
    /// The others, in a list, as there are few; an empty one owns no memory.
    fields: Vec<(HeaderName, String)>,
}

impl ResponseHead {
    pub(super) fn set(&mut self, name: HeaderName, value: &str) {
        self.fields.retain(|(known, _)| *known != name);
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

    pub(super) fn get(&self, name: &HeaderName) -> Option<&str> {
        if *name == header::CONTENT_TYPE {
            return self.content_type.as_deref();
        }
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn clear(&mut self) {
        self.status = StatusCode::OK;
        self.content_type = None;
        self.fields.clear();
    }

    /// Takes over what `other` says; its fields win over those of the same name.
    pub(super) fn merge(&mut self, other: Self) {
        self.status = other.status;
        if other.content_type.is_some() {
            self.content_type = other.content_type;
        }
        if other.fields.is_empty() {
            return;
        }
        self.fields
            .retain(|(name, _)| other.fields.iter().all(|(known, _)| known != name));
        self.fields.extend(other.fields);
    }

    /// The fields apart from the content type.
    pub(super) fn fields(&self) -> &[(HeaderName, String)] {
        &self.fields
    }
}

/// A value that cannot break out of its line.
fn field_value(value: Cow<'static, str>) -> Cow<'static, str> {
    // Without a branch per byte, which costs half as much.
    let breaks_out = |byte: u8| (byte < b' ') & (byte != b'\t') | (byte == 0x7f);
    if !value
        .bytes()
        .fold(false, |any, byte| any | breaks_out(byte))
    {
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
