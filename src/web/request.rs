//! One request, and the answer to it in the making.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use deferred_reactor::net::{
    Address, ProducerRegisteredError, Protocol, PullProducer, PushProducer, Transport,
};
use deferred_reactor::{Deferred, Reactor};
use http::header::HeaderName;
use http::{Method, StatusCode};

use super::carrier::{Carrier, Event, Upgrade};
use super::klein::{FromParam, Params};
use super::response::ResponseHead;
use super::{Body, EntityTag, Rendered, RequestHead, Response, conditional};

/// A request, with the means to answer it (Twisted's `twisted.web.server.Request`).
///
/// It can be moved: into a callback, or into a list of waiting requests. Finishing consumes it, so
/// nothing can be written to it afterwards:
///
/// ```compile_fail
/// # use prometheus_deferred::web::Request;
/// fn render(request: Request) {
///     request.finish();
///     request.finish(); // does not compile: the request was consumed
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
    carrier: Rc<dyn Carrier>,
}

/// What belongs to one request and not to its connection. Reused for the next.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Tells it from others on the same connection.
    pub(super) id: u64,
    /// Shared with the connection, which names the request by it wherever that is held.
    pub(super) head: Rc<RequestHead>,
    /// Of the route that was taken.
    params: Params,
    /// A request for the head alone, which its resource answers as it answers GET.
    pub(super) stands_for_get: bool,
    /// The body, where it was collected.
    pub(super) body: Bytes,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
    /// The body, where it streams, until it is taken.
    pub(super) stream: Option<Body>,
    pub(super) response: ResponseHead,
}

impl Exchange {
    #[inline]
    pub(super) fn clear(&mut self) {
        self.new_head().clear();
        self.params.clear();
        self.stands_for_get = false;
        self.body = Bytes::new();
        self.trailers.clear();
        self.stream = None;
        self.response.clear();
    }
}

impl Exchange {
    /// The head, to be filled in: another one, if that of an earlier request is still in use.
    pub(super) fn new_head(&mut self) -> &mut RequestHead {
        if Rc::get_mut(&mut self.head).is_none() {
            self.head = Rc::default();
        }
        Rc::get_mut(&mut self.head).expect("nobody else has what was just made, or was not shared")
    }
}

impl Request {
    pub(super) fn new(exchange: Box<Exchange>, carrier: Rc<dyn Carrier>) -> Self {
        Self {
            exchange: Some(exchange),
            carrier,
        }
    }

    /// The head: all of the request but its body.
    pub fn head(&self) -> &RequestHead {
        &self.exchange().head
    }

    /// The method, such as `GET`.
    pub fn method(&self) -> &Method {
        match self.exchange().stands_for_get {
            true => &Method::GET,
            false => self.head().method(),
        }
    }

    /// Whether the client speaks HTTP/1.1, and not 1.0.
    pub fn is_http_11(&self) -> bool {
        self.head().is_http_11()
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
        self.head().args()
    }

    /// The value of a header field, whatever the case of its name; the last, if it came repeatedly.
    ///
    /// `None` also for a value that is not UTF-8, which [`headers`](Self::headers) shows.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.head().header(name)
    }

    /// All header fields in the order in which they came, names spelled as they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head().headers()
    }

    /// The body, where it was collected before the request was rendered; empty where it streams, or
    /// was [taken](Self::take_body).
    pub fn body(&self) -> &Bytes {
        &self.exchange().body
    }

    /// Takes the body apart from the request, to be read as it comes.
    ///
    /// One that was collected, as bodies are unless a resource
    /// [says otherwise](super::Resource::body_policy), is there as one piece. The second call gives
    /// an empty one.
    pub fn take_body(&mut self) -> Body {
        let transport = self.carrier.transport().cloned();
        let exchange = self.exchange_mut();
        match exchange.stream.take() {
            Some(body) => body,
            None => Body::whole(std::mem::take(&mut exchange.body), transport),
        }
    }

    /// The trailer fields that came behind a chunked body that was collected; names are spelled as
    /// they came. See [`Body::trailers`] for what they are not.
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let trailers = self.exchange().trailers.iter();
        trailers.map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// A parameter of the [`Klein`](super::Klein) route that led here.
    ///
    /// `None` if the route has no parameter of that name, or its value does not fit the type.
    pub fn param<'r, T: FromParam<'r>>(&'r self, name: &str) -> Option<T> {
        self.exchange().params.get(name)
    }

    /// The path segments walked so far, decoded.
    pub fn prepath(&self) -> Vec<String> {
        self.head().prepath()
    }

    /// The path segments that are left, decoded. A path that ends in a slash ends in an empty one.
    pub fn postpath(&self) -> Vec<String> {
        self.head().postpath()
    }

    /// The client's address; `None` once it has gone.
    pub fn client_address(&self) -> Option<Address> {
        self.carrier.transport()?.peer()
    }

    /// The reactor that serves this request, for timers and threads; `None` once the client has gone.
    pub fn reactor(&self) -> Option<Reactor> {
        self.carrier.transport()?.reactor()
    }

    /// Sets the status; 200 unless set. It holds unless a response that is given back has a status
    /// of its own. Without effect once something was written.
    pub fn set_response_code(&mut self, status: StatusCode) {
        self.exchange_mut().response.status = Some(status);
    }

    /// Sets a header field of the response, in the place of one of that name; cookies
    /// (`Set-Cookie`) stand beside one another.
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

    /// Sets the `ETag`, and tells whether the request's conditions decide the answer (Twisted's
    /// `setETag`).
    ///
    /// `Some(304)` means that the client's copy is current; `Some(412)` that the request must not be
    /// carried out on this state of the resource. The response already has that status: finish it without
    /// a body. `None` means to go on.
    ///
    /// ```
    /// use prometheus_deferred::web::{EntityTag, Rendered, Request, Resource};
    ///
    /// struct Report { version: u64 }
    ///
    /// impl Resource for Report {
    ///     fn render_get(&self, mut request: Request) -> Rendered {
    ///         if let Some(status) = request.set_etag(EntityTag::strong(self.version.to_string())) {
    ///             return status.into();
    ///         }
    ///         "what takes long to make".into()
    ///     }
    /// }
    /// ```
    ///
    /// For methods other than GET and HEAD, call it before the change, with the tag of what is there;
    /// the field is then sent only with 412. An `ETag` that was [set](Self::set_header) by hand stays
    /// as it is. Without effect on the response once something was written.
    pub fn set_etag(&mut self, etag: EntityTag) -> Option<StatusCode> {
        self.decide(|response| response.set_etag(etag))
    }

    /// Sets `Last-Modified`, and tells whether the request's conditions decide the answer (Twisted's
    /// `setLastModified`); see [`set_etag`](Self::set_etag).
    ///
    /// A fraction of a second is rounded up. Of several times, the latest counts. One outside of the
    /// years 1970 to 9999 is ignored. Conditions on tags take precedence over dates, so set the tag first
    /// if there is one.
    pub fn set_last_modified(&mut self, when: SystemTime) -> Option<StatusCode> {
        self.decide(|response| response.set_last_modified(when))
    }

    fn decide(&mut self, set: impl FnOnce(&mut ResponseHead)) -> Option<StatusCode> {
        let Exchange { head, response, .. } = self.exchange_mut();
        conditional::set_and_decide(&head.wire, response, set)
    }

    /// Writes a part of the body.
    ///
    /// The first one sends the head. Unless a `Content-Length` was set, the body is then chunked;
    /// for HTTP/1.0 it ends with the connection. Once the client has gone it does nothing.
    ///
    /// What a client does not read waits in memory. A program that writes much looks at
    /// [`buffered`](Self::buffered), waits for [`drained`](Self::drained), registers a
    /// [producer](Self::register_producer), or answers with a [stream](Response::stream); beyond
    /// [a limit](super::Site::max_unread_output_bytes) the connection is cut off.
    pub fn write(&mut self, data: impl AsRef<[u8]>) {
        if let Some(exchange) = &mut self.exchange {
            self.carrier.write(exchange, data.as_ref());
        }
    }

    /// How many bytes wait for the client to read them, in the memory of this process.
    pub fn buffered(&self) -> usize {
        self.current_transport().map_or(0, Transport::buffered)
    }

    /// Fires once everything that was written so far has been handed to the system, so that a
    /// program goes on writing at the client's speed. Fails with the connection's reason if the
    /// client goes away before.
    ///
    /// ```
    /// use prometheus_deferred::Failure;
    /// use prometheus_deferred::web::Request;
    ///
    /// async fn count(mut request: Request) -> Result<(), Failure> {
    ///     for number in 0..1_000_000 {
    ///         request.write(format!("{number}\n"));
    ///         if request.buffered() > 64 * 1024 {
    ///             request.drained().await?;
    ///         }
    ///     }
    ///     request.finish();
    ///     Ok(())
    /// }
    /// # let _ = count;
    /// ```
    #[track_caller]
    pub fn drained(&self) -> Deferred<()> {
        self.carrier.notify(self.exchange().id, Event::Drained)
    }

    /// Registers something that [writes](Self::write) by itself, to be paused while more than 64 KiB
    /// wait for the client, and resumed when everything has been handed to the system (Twisted's
    /// `registerProducer(producer, True)`).
    ///
    /// [Unregister](Self::unregister_producer) it before the response is finished; otherwise it is removed then, with a log record. `stop_producing` is called when the client goes away.
    ///
    /// # Errors
    ///
    /// [`ProducerRegisteredError`] if another one is registered.
    pub fn register_producer(
        &self,
        producer: impl PushProducer,
    ) -> Result<(), ProducerRegisteredError> {
        match self.current_transport() {
            Some(transport) => transport.register_producer(producer),
            None => {
                producer.stop_producing();
                Ok(())
            }
        }
    }

    /// Registers something that writes one piece when it is asked to, which is here, and then
    /// whenever everything has been handed to the system (Twisted's `registerProducer(producer,
    /// False)`).
    ///
    /// # Errors
    ///
    /// [`ProducerRegisteredError`] if another one is registered.
    pub fn register_pull_producer(
        &self,
        producer: impl PullProducer,
    ) -> Result<(), ProducerRegisteredError> {
        match self.current_transport() {
            Some(transport) => transport.register_pull_producer(producer),
            None => {
                producer.stop_producing();
                Ok(())
            }
        }
    }

    /// Forgets the producer (Twisted's `unregisterProducer`).
    pub fn unregister_producer(&self) {
        if let Some(transport) = self.current_transport() {
            transport.unregister_producer();
        }
    }

    /// Completes the response.
    ///
    /// The result may be ignored. To learn earlier that the client has gone, use
    /// [`notify_finish`](Self::notify_finish).
    pub fn finish(mut self) -> Finished {
        match self.exchange.take() {
            Some(exchange) => self.carrier.clone().finish(exchange),
            None => Finished(false),
        }
    }

    /// Answers with a whole response; status and fields that were set on the request are kept where
    /// the response does not say otherwise.
    ///
    /// If something was written before, only the body is added to it.
    pub fn respond(mut self, response: impl Into<Response>) -> Finished {
        match self.exchange.take() {
            Some(exchange) => self.carrier.clone().respond(exchange, response.into()),
            None => Finished(false),
        }
    }

    /// Fires when the last byte of the response was handed to the system, and fails with the
    /// connection's reason if the client goes away before.
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
        self.carrier.notify(self.exchange().id, Event::Finished)
    }

    /// Fires when the site is [drained](super::SiteHandle::drain), as it is before the program ends:
    /// for responses that last, such as event streams, to end in good order and at once.
    ///
    /// ```
    /// use prometheus_deferred::web::{Klein, NOT_DONE_YET, Request};
    ///
    /// let mut app = Klein::new();
    /// app.route("/events", |mut request: Request| {
    ///     request.write("data: hello\n\n");
    ///     request.notify_drain().map(move |()| {
    ///         request.finish();
    ///     });
    ///     NOT_DONE_YET
    /// });
    /// ```
    #[track_caller]
    pub fn notify_drain(&self) -> Deferred<()> {
        self.carrier.notify(self.exchange().id, Event::SiteDrains)
    }

    /// Whether the client is still there to be answered.
    pub fn is_connected(&self) -> bool {
        self.carrier.is_current(self.exchange().id)
    }

    /// Goes on with another protocol on the same connection, if the client has asked for it in its
    /// `Upgrade` field (RFC 9110, 7.8): answers `101 Switching Protocols`, with the fields that were
    /// set on the request, and passes the connection to the protocol that `make` returns, with the bytes
    /// that followed the request.
    ///
    /// Return the result from the resource. A client that did not ask for this protocol gets 426 with
    /// the protocol's name. If the `Upgrade` field is ignored, the bytes that follow are the next request.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use prometheus_deferred::Failure;
    /// use prometheus_deferred::net::{Protocol, Transport};
    /// use prometheus_deferred::web::{Klein, Request};
    ///
    /// struct Echo;
    ///
    /// impl Protocol for Echo {
    ///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
    ///         transport.write(data);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut app = Klein::new();
    /// app.route("/echo", |request: Request| {
    ///     request.upgrade("echo", |transport, unread: Bytes| {
    ///         transport.write(&unread);
    ///         Echo
    ///     })
    /// });
    /// ```
    #[track_caller]
    pub fn upgrade<P: Protocol>(
        mut self,
        protocol: &str,
        make: impl FnOnce(&Transport, Bytes) -> P + 'static,
    ) -> Rendered {
        let upgrade = Upgrade {
            protocol: protocol.to_owned(),
            make: Box::new(move |transport, unread| Box::new(make(transport, unread))),
            line: Location::caller(),
        };
        match self.exchange.take() {
            Some(exchange) => self.carrier.clone().upgrade(exchange, upgrade),
            None => super::NOT_DONE_YET,
        }
    }

    /// The transport, while this request is the one that is being answered.
    fn current_transport(&self) -> Option<&Transport> {
        match self.is_connected() {
            true => self.carrier.transport(),
            false => None,
        }
    }

    /// A Klein route was taken.
    pub(super) fn take_route(&mut self, template: &Rc<str>, consumed: usize, params: Params) {
        self.exchange_mut().params = params;
        let head = self.head();
        head.walk(consumed);
        head.take_route(template);
        self.carrier.route_found(self.head());
    }

    /// No route matches.
    pub(super) fn matches_nothing(&self) {
        self.head().matches_nothing();
        self.carrier.route_found(self.head());
    }

    fn exchange(&self) -> &Exchange {
        self.exchange
            .as_deref()
            .expect("only consuming a request takes its exchange")
    }

    pub(super) fn exchange_mut(&mut self) -> &mut Exchange {
        self.exchange
            .as_deref_mut()
            .expect("only consuming a request takes its exchange")
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.carrier.clone().dropped(exchange);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method(), self.target())
    }
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

    /// The same as a `Result`, for use with `?`.
    ///
    /// # Errors
    ///
    /// [`ClientGoneError`] if the client had gone before it could read the response.
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
