//! One request, and the answer to it in the making.

use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use deferred_reactor::net::Address;
use deferred_reactor::{Deferred, Reactor};
use http::header::HeaderName;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

use super::channel::Channel;
use super::klein::Params;
use super::response::ResponseHead;
use crate::http1::{RequestHead, Version};

/// A request, with the means to answer it (Twisted's `twisted.web.server.Request`).
///
/// It can be moved: into a callback, into a list of those who wait. Finishing consumes it, so
/// nothing can be written to it afterwards:
///
/// ```compile_fail
/// # use prometheus_deferred::web::Request;
/// fn render(request: Request) {
///     request.finish();
///     request.finish(); // W-33: the compiler is the proof
/// }
/// ```
///
/// | what happens to it                    | then                                             |
/// |---------------------------------------|--------------------------------------------------|
/// | `finish`                              | the response is complete                         |
/// | dropped while `render` runs           | what `render` returns is the answer              |
/// | dropped later, unfinished             | 500, or an aborted connection if bytes were sent |
/// | its client goes away                  | writing is ignored, `finish` says so             |
pub struct Request {
    /// `None` only while it is being consumed.
    exchange: Option<Box<Exchange>>,
    channel: Rc<Channel>,
}

/// What belongs to one request and not to its connection. Reused for the next.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Tells it from others on the same connection.
    pub(super) id: u64,
    pub(super) head: RequestHead,
    pub(super) body: Bytes,
    pub(super) response: ResponseHead,
    /// How many path segments have been walked.
    walked: Cell<usize>,
    /// Where in the path the next one begins; beyond its end when there is none.
    next_segment: Cell<usize>,
    pub(super) params: Params,
}

impl Exchange {
    pub(super) fn clear(&mut self) {
        self.body = Bytes::new();
        self.response.clear();
        self.walked.set(0);
        self.next_segment.set(0);
        self.params.clear();
    }
}

impl Request {
    pub(super) fn new(exchange: Box<Exchange>, channel: Rc<Channel>) -> Self {
        Self {
            exchange: Some(exchange),
            channel,
        }
    }

    /// The method, such as `GET`.
    pub fn method(&self) -> &Method {
        &self.head().method
    }

    /// Whether the client speaks HTTP/1.1, and not 1.0.
    pub fn is_http_11(&self) -> bool {
        self.head().version == Version::Http11
    }

    /// The request target as it came: `/path?query`, an absolute URI, or `*`.
    pub fn target(&self) -> &str {
        self.head().target()
    }

    /// The path, still percent-encoded.
    pub fn path(&self) -> &str {
        self.head().path()
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&str> {
        self.head().query()
    }

    /// The query as names and values, decoded, in the order in which they came.
    ///
    /// ```
    /// # use prometheus_deferred::web::Request;
    /// fn limit(request: &Request) -> Option<usize> {
    ///     let (_, value) = request.args().find(|(name, _)| name == "limit")?;
    ///     value.parse().ok()
    /// }
    /// ```
    pub fn args(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query().unwrap_or_default().as_bytes())
    }

    /// The value of a header field, whatever the case of its name; the last, if it came repeatedly.
    ///
    /// `None` also for a value that is not UTF-8, which [`headers`](Self::headers) shows.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        std::str::from_utf8(self.head().fields().last(name.as_ref())?).ok()
    }

    /// All header fields in the order in which they came, names spelled as they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head().fields().iter()
    }

    /// The body, which was received in full before the request was rendered.
    pub fn body(&self) -> &Bytes {
        &self.exchange().body
    }

    /// A parameter of the [`Klein`](super::Klein) route that led here.
    ///
    /// `None` if the route has no parameter of that name, or its value does not fit the type.
    pub fn param<'r, T: super::FromParam<'r>>(&'r self, name: &str) -> Option<T> {
        self.exchange().params.get(name)
    }

    /// The path segments walked so far, decoded.
    pub fn prepath(&self) -> Vec<String> {
        self.segments()
            .take(self.walked())
            .map(Cow::into_owned)
            .collect()
    }

    /// The path segments that are left, decoded. A path that ends in a slash ends in an empty one.
    pub fn postpath(&self) -> Vec<String> {
        self.segments()
            .skip(self.walked())
            .map(Cow::into_owned)
            .collect()
    }

    /// The same without a copy of those that were not encoded.
    pub(super) fn postpath_segments(&self) -> Vec<Cow<'_, str>> {
        self.segments().skip(self.walked()).collect()
    }

    /// The client's address; `None` once it has gone.
    pub fn client_address(&self) -> Option<Address> {
        self.channel.transport().peer()
    }

    /// The reactor that serves this request, for timers and threads; `None` once the client has gone.
    pub fn reactor(&self) -> Option<Reactor> {
        self.channel.transport().reactor()
    }

    /// Sets the status; 200 unless set. Without effect once something was written.
    pub fn set_response_code(&mut self, status: StatusCode) {
        self.exchange_mut().response.status = status;
    }

    /// Sets a header field of the response, in the place of one of that name.
    ///
    /// Bytes that may not be in a value, such as line breaks, become spaces. Without effect once
    /// something was written.
    pub fn set_header(&mut self, name: HeaderName, value: impl AsRef<str>) {
        self.exchange_mut().response.set(name, value.as_ref());
    }

    /// Adds a header field to the response, beside those of that name.
    pub fn add_header(&mut self, name: HeaderName, value: impl AsRef<str>) {
        self.exchange_mut().response.add(name, value.as_ref());
    }

    /// Writes a part of the body.
    ///
    /// The first one sends the head. Unless a `Content-Length` was set, the body is then chunked;
    /// for HTTP/1.0 it ends with the connection. Once the client has gone it does nothing.
    pub fn write(&mut self, data: impl AsRef<[u8]>) {
        if let Some(exchange) = &mut self.exchange {
            self.channel.write(exchange, data.as_ref());
        }
    }

    /// Completes the response.
    ///
    /// The result may be ignored: that a client has gone is no fault of the program's, and whoever
    /// wants to know earlier asks [`notify_finish`](Self::notify_finish).
    pub fn finish(mut self) -> Finished {
        match self.exchange.take() {
            Some(exchange) => self.channel.finish(exchange),
            None => Finished(false),
        }
    }

    /// Answers with a whole response; fields that were set on the request are kept where the
    /// response does not say otherwise.
    ///
    /// If something was written before, only the body is added to it.
    pub fn respond(mut self, response: impl Into<super::Response>) -> Finished {
        match self.exchange.take() {
            Some(exchange) => self.channel.respond(exchange, response.into()),
            None => Finished(false),
        }
    }

    /// Fires with `()` when the response is complete, and fails with the connection's reason if the
    /// client goes away before.
    ///
    /// ```
    /// use prometheus_deferred::Canceller;
    /// use prometheus_deferred::web::Request;
    ///
    /// /// Gives up what is done for a client that does not wait for it.
    /// fn cancel_if_gone(request: &Request, work: Canceller) {
    ///     request.notify_finish().add_errback(move |_gone| {
    ///         work.cancel();
    ///         Ok(())
    ///     });
    /// }
    /// # let _ = cancel_if_gone;
    /// ```
    #[track_caller]
    pub fn notify_finish(&self) -> Deferred<()> {
        self.channel.notify_finish(self.exchange().id)
    }

    /// Whether the client is still there to be answered.
    pub fn is_connected(&self) -> bool {
        self.channel.is_current(self.exchange().id)
    }

    /// The path segments, decoded. The target was checked: they are UTF-8.
    fn segments(&self) -> impl Iterator<Item = Cow<'_, str>> {
        decoded_segments(self.path())
    }

    fn walked(&self) -> usize {
        self.exchange().walked.get()
    }

    /// The next segment to walk, or `None` at the end of the path. Counts it as walked.
    pub(super) fn next_segment(&self) -> Option<Cow<'_, str>> {
        let exchange = self.exchange();
        let path = self.path();
        // The first segment comes after the slash that the path begins with.
        let start = exchange.next_segment.get().max(1);
        let rest = path.get(start..)?;
        // Segments are short: a plain loop beats a call to a faster one.
        let length = rest.bytes().position(|byte| byte == b'/');
        let length = length.unwrap_or(rest.len());
        exchange.next_segment.set(start + length + 1);
        exchange.walked.set(exchange.walked.get() + 1);
        let segment = &rest[..length];
        Some(if exchange.head.has_escapes() {
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

    pub(super) fn set_params(&mut self, params: Params) {
        self.exchange_mut().params = params;
    }

    fn head(&self) -> &RequestHead {
        &self.exchange().head
    }

    fn exchange(&self) -> &Exchange {
        self.exchange
            .as_deref()
            .expect("only consuming a request takes its exchange")
    }

    fn exchange_mut(&mut self) -> &mut Exchange {
        self.exchange
            .as_deref_mut()
            .expect("only consuming a request takes its exchange")
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.channel.dropped(exchange);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method(), self.target())
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

/// Whether a finished response has gone out. Unlike a `Result`, it may be ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished(pub(super) bool);

impl Finished {
    /// Whether the client was still there.
    pub fn is_ok(self) -> bool {
        self.0
    }

    /// Whether the client had gone.
    pub fn is_err(self) -> bool {
        !self.0
    }

    /// The same as a `Result`, for those who want `?`.
    ///
    /// # Errors
    ///
    /// [`ClientGoneError`] if nobody was there to read the response.
    pub fn into_result(self) -> Result<(), ClientGoneError> {
        if self.0 { Ok(()) } else { Err(ClientGoneError) }
    }
}

/// The client went away before its response was complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientGoneError;

impl fmt::Display for ClientGoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client went away before its response was complete")
    }
}

impl Error for ClientGoneError {}
