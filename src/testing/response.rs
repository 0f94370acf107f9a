//! Responses, as a test reads them.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;
use std::rc::Rc;

use http::{Method, StatusCode};

use super::MemoryConnection;

/// A response to a request of a test, complete or not.
///
/// Every method first [pumps](deferred_reactor::testing::MemoryReactor::pump) the reactor; time
/// does not pass.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use prometheus_deferred::testing::{MemoryReactor, SendRequests};
/// use prometheus_deferred::web::{Klein, NOT_DONE_YET, Request, Site};
///
/// let kept = Rc::new(RefCell::new(None));
/// let keep = kept.clone();
/// let mut app = Klein::new();
/// app.route("/events", move |mut request: Request| {
///     request.write("one ");
///     keep.replace(Some(request));
///     NOT_DONE_YET
/// });
/// let memory = MemoryReactor::new();
/// memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
///
/// let response = memory.get("/events").send();
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.body_so_far(), b"one ");
/// let mut request = kept.take().expect("it was kept");
/// request.write("two");
/// assert_eq!(response.body_so_far(), b"one two");
/// assert!(!response.is_complete());
/// request.finish();
/// assert_eq!(response.text(), "one two");
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
pub struct TestResponse {
    received: Rc<Received>,
    exchange: Rc<Exchange>,
}

impl TestResponse {
    pub(super) fn new(received: Rc<Received>, exchange: Rc<Exchange>) -> Self {
        Self { received, exchange }
    }

    /// The status, such as 200; those from 100 to 199 are [informational](Self::informational).
    ///
    /// # Panics
    ///
    /// If the head has not arrived.
    pub fn status(&self) -> StatusCode {
        self.head().status
    }

    /// The value of a header field, whatever the case of its name; the first, if there are several.
    ///
    /// # Panics
    ///
    /// If the head has not arrived.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        let is_it = |(known, _): &(&str, &str)| known.eq_ignore_ascii_case(name.as_ref());
        self.headers().find(is_it).map(|(_, value)| value)
    }

    /// All header fields, in the order and spelling in which they were received.
    ///
    /// # Panics
    ///
    /// If the head has not arrived.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.head().fields)
    }

    /// The decoded body.
    ///
    /// # Panics
    ///
    /// If the body is not complete: see [`body_so_far`](Self::body_so_far).
    pub fn body(&self) -> Vec<u8> {
        assert!(
            self.is_complete(),
            "the response to {} is not complete{}; let time pass, or use body_so_far",
            self.exchange.request,
            self.what_came()
        );
        self.exchange.body.borrow().clone()
    }

    /// The [`body`](Self::body) as text.
    ///
    /// # Panics
    ///
    /// If it is not complete, or not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8(self.body())
            .unwrap_or_else(|_| panic!("the body of {} is not UTF-8", self.exchange.request))
    }

    /// The decoded part of the body that has arrived.
    pub fn body_so_far(&self) -> Vec<u8> {
        self.received.look();
        self.exchange.body.borrow().clone()
    }

    /// The fields after the last chunk, once the response is complete.
    pub fn trailers(&self) -> Vec<(String, String)> {
        self.received.look();
        self.exchange.trailers.borrow().clone()
    }

    /// The statuses from 100 to 199 received before the response, such as 100 Continue.
    pub fn informational(&self) -> Vec<StatusCode> {
        self.received.look();
        self.exchange.informational.borrow().clone()
    }

    /// Returns `true` once the head has arrived.
    pub fn has_begun(&self) -> bool {
        self.received.look();
        self.exchange.head.get().is_some()
    }

    /// Returns `true` once the whole response has arrived.
    pub fn is_complete(&self) -> bool {
        self.received.look();
        self.exchange.is_complete.get()
    }

    /// Returns `true` if the connection has ended before the response was complete.
    pub fn is_cut_off(&self) -> bool {
        !self.is_complete() && self.received.has_ended()
    }

    /// Sends a piece of the request's body, after [`send_head`](super::TestRequest::send_head).
    pub fn send_body(&self, piece: impl AsRef<[u8]>) {
        let piece = piece.as_ref();
        if !self.exchange.sends_chunks.get() {
            self.received.connection.send(piece);
        } else if !piece.is_empty() {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            self.received.connection.send(chunk);
        }
        self.received.look();
    }

    /// Ends the request's body.
    pub fn end_body(&self) {
        if self.exchange.sends_chunks.replace(false) {
            self.received.connection.send("0\r\n\r\n");
        }
        self.received.look();
    }

    /// The connection: to slow it down, to reset it, or to check whether the server has closed it.
    pub fn connection(&self) -> &MemoryConnection {
        &self.received.connection
    }

    fn head(&self) -> &Head {
        self.received.look();
        self.exchange.head.get().unwrap_or_else(|| {
            panic!(
                "{} is not answered{}; let time pass, as in memory.advance(..)",
                self.exchange.request,
                self.what_came()
            )
        })
    }

    /// Describes the received part of a response, for a panic.
    fn what_came(&self) -> String {
        let ended = match (
            self.received.connection.is_reset(),
            self.received.has_ended(),
        ) {
            (true, _) => ", and the server has reset the connection",
            (_, true) => ", and the server has closed the connection",
            _ => "",
        };
        match self.exchange.head.get() {
            None => ended.to_owned(),
            Some(head) => {
                let length = self.exchange.body.borrow().len();
                format!(" ({}, {length} bytes of its body came){ended}", head.status)
            }
        }
    }
}

impl fmt::Debug for TestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.exchange.head.get();
        f.debug_struct("TestResponse")
            .field("request", &self.exchange.request)
            .field("status", &head.map(|head| head.status))
            .field("body_bytes", &self.exchange.body.borrow().len())
            .field("is_complete", &self.exchange.is_complete.get())
            .finish_non_exhaustive()
    }
}

fn pairs(fields: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    fields.iter().map(|(name, value)| (&**name, &**value))
}

/// One request, and the received part of its response.
pub(super) struct Exchange {
    method: Method,
    /// Names the request in panics.
    request: String,
    /// The request's body must still be ended by a last chunk.
    pub(super) sends_chunks: Cell<bool>,
    informational: RefCell<Vec<StatusCode>>,
    head: OnceCell<Head>,
    body: RefCell<Vec<u8>>,
    trailers: RefCell<Vec<(String, String)>>,
    is_complete: Cell<bool>,
}

struct Head {
    status: StatusCode,
    fields: Vec<(String, String)>,
    framing: Cell<Framing>,
}

/// The next part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// This many bytes, and then the end.
    Length(u64),
    ChunkSize,
    /// This many bytes of a chunk, and its line end.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

impl Exchange {
    pub(super) fn new(method: Method, target: &str) -> Self {
        Self {
            request: format!("{method} {target}"),
            method,
            sends_chunks: Cell::new(false),
            informational: RefCell::default(),
            head: OnceCell::new(),
            body: RefCell::default(),
            trailers: RefCell::default(),
            is_complete: Cell::new(false),
        }
    }

    /// Takes the bytes of this response from the front of `bytes`. Continues if there may be more.
    fn take(&self, bytes: &mut Vec<u8>) -> ControlFlow<()> {
        let Some(head) = self.head.get() else {
            return self.take_head(bytes);
        };
        match head.framing.get() {
            Framing::Length(0) => return self.complete(),
            Framing::Length(left) => {
                head.framing
                    .set(Framing::Length(self.take_body(left, bytes)?));
            }
            Framing::Chunk(0) => head.framing.set(Framing::ChunkEnd),
            Framing::Chunk(left) => head
                .framing
                .set(Framing::Chunk(self.take_body(left, bytes)?)),
            Framing::UntilClose => {
                self.take_body(u64::MAX, bytes)?;
            }
            Framing::ChunkSize => {
                let line = self.take_line(bytes)?;
                let size = line.split(';').next().unwrap_or_default();
                let is_size = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
                head.framing.set(match u64::from_str_radix(size, 16) {
                    Ok(0) if is_size => Framing::Trailers,
                    Ok(size) if is_size => Framing::Chunk(size),
                    _ => panic!("{:?} is no chunk size, answering {}", line, self.request),
                });
            }
            Framing::ChunkEnd => {
                let line = self.take_line(bytes)?;
                assert!(
                    line.is_empty(),
                    "{line:?} follows a chunk, answering {}",
                    self.request
                );
                head.framing.set(Framing::ChunkSize);
            }
            Framing::Trailers => {
                let line = self.take_line(bytes)?;
                if line.is_empty() {
                    return self.complete();
                }
                self.trailers.borrow_mut().push(self.field(&line));
            }
        }
        ControlFlow::Continue(())
    }

    fn complete(&self) -> ControlFlow<()> {
        self.is_complete.set(true);
        ControlFlow::Break(())
    }

    /// Takes the head, or an informational one before it.
    fn take_head(&self, bytes: &mut Vec<u8>) -> ControlFlow<()> {
        let Some(length) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
            return ControlFlow::Break(());
        };
        let text: Vec<u8> = bytes.drain(..length + 4).collect();
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| StatusCode::from_bytes(rest.get(..3)?.as_bytes()).ok())
            .filter(|_| status_line.as_bytes().get(12) == Some(&b' '))
            .unwrap_or_else(|| {
                panic!(
                    "{status_line:?} is no status line, answering {}",
                    self.request
                )
            });
        let fields: Vec<_> = lines.map(|line| self.field(line)).collect();
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            self.informational.borrow_mut().push(status);
            return ControlFlow::Continue(());
        }
        let framing = self.framing(status, &fields);
        let head = Head {
            status,
            fields,
            framing: Cell::new(framing),
        };
        // Looked for only while there was none.
        let _ = self.head.set(head);
        ControlFlow::Continue(())
    }

    fn field(&self, line: &str) -> (String, String) {
        let field = line.split_once(':').filter(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let Some((name, value)) = field else {
            panic!("{line:?} is no header field, answering {}", self.request);
        };
        (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
    }

    /// How the body ends (RFC 9112, 6.3).
    fn framing(&self, status: StatusCode, fields: &[(String, String)]) -> Framing {
        let values = |wanted: &str| {
            let is_it = move |(name, _): &&(String, String)| name.eq_ignore_ascii_case(wanted);
            fields
                .iter()
                .filter(is_it)
                .map(|(_, value)| &**value)
                .collect::<Vec<_>>()
        };
        let (lengths, codings) = (values("Content-Length"), values("Transfer-Encoding"));
        let has_no_body = self.method == Method::HEAD
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match (&*lengths, &*codings) {
            _ if has_no_body => Framing::Length(0),
            _ if status == StatusCode::SWITCHING_PROTOCOLS => Framing::Length(0),
            ([], []) => Framing::UntilClose,
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Framing::ChunkSize,
            ([length], []) => match length.parse() {
                Ok(length) if length_is_digits(lengths[0]) => Framing::Length(length),
                _ => panic!("{length:?} is no length, answering {}", self.request),
            },
            _ => panic!(
                "it is not clear where the answer to {} ends: content-length {lengths:?}, \
                 transfer-encoding {codings:?}",
                self.request
            ),
        }
    }

    /// Takes at most `left` bytes of the body; returns how many are left. Breaks if there are no
    /// bytes.
    fn take_body(&self, left: u64, bytes: &mut Vec<u8>) -> ControlFlow<(), u64> {
        if bytes.is_empty() {
            return ControlFlow::Break(());
        }
        let length = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.body.borrow_mut().extend(bytes.drain(..length));
        ControlFlow::Continue(left - length as u64)
    }

    /// Takes a line, without its end.
    fn take_line(&self, bytes: &mut Vec<u8>) -> ControlFlow<(), String> {
        let Some(length) = bytes.windows(2).position(|end| end == b"\r\n") else {
            return ControlFlow::Break(());
        };
        let line: Vec<u8> = bytes.drain(..length + 2).collect();
        ControlFlow::Continue(String::from_utf8_lossy(&line[..length]).into_owned())
    }
}

fn length_is_digits(length: &str) -> bool {
    length.bytes().all(|byte| byte.is_ascii_digit())
}

/// The bytes of one connection, split into responses.
pub(super) struct Received {
    pub(super) connection: MemoryConnection,
    unread: RefCell<Vec<u8>>,
    /// Requests without a complete response, in the order in which they were sent.
    expected: RefCell<VecDeque<Rc<Exchange>>>,
}

impl Received {
    pub(super) fn new(connection: MemoryConnection) -> Self {
        Self {
            connection,
            unread: RefCell::default(),
            expected: RefCell::default(),
        }
    }

    pub(super) fn expect(&self, exchange: Rc<Exchange>) {
        self.expected.borrow_mut().push_back(exchange);
    }

    pub(super) fn take_unread(&self) -> Vec<u8> {
        self.unread.take()
    }

    /// Pumps the reactor, and parses what was received.
    pub(super) fn look(&self) {
        let arrived = self.connection.exchange("");
        let mut unread = self.unread.borrow_mut();
        unread.extend_from_slice(&arrived);
        let mut expected = self.expected.borrow_mut();
        while let Some(exchange) = expected.front() {
            while exchange.take(&mut unread).is_continue() {}
            let ends_with_connection = exchange
                .head
                .get()
                .is_some_and(|head| head.framing.get() == Framing::UntilClose);
            if ends_with_connection && self.has_ended() && !self.connection.is_reset() {
                exchange.is_complete.set(true);
            }
            if !exchange.is_complete.get() {
                break;
            }
            expected.pop_front();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.connection.has_ended() || self.connection.is_reset()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
