//! Requests: how a test makes and sends them.

use std::fmt;
use std::rc::Rc;

use http::Method;

use super::response::{Exchange, Received, TestResponse};
use super::{MemoryConnection, MemoryReactor};

/// The address of requests whose target names no server.
const USUAL_ADDRESS: &str = "127.0.0.1:80";

/// Makes requests: on a [`MemoryReactor`], each on its own connection; on a [`TestClient`], one after
/// another on its connection.
///
/// The target on a `MemoryReactor` is a path for the site at `127.0.0.1:80`, or a URL with the address
/// and port of another site, such as `http://127.0.0.1:8080/todos`.
///
/// ```
/// use prometheus_deferred::testing::{MemoryReactor, SendRequests};
/// use prometheus_deferred::web::{Klein, Method, Request, Site};
///
/// let mut app = Klein::new();
/// app.route("/echo", |request: Request| request.body().clone()).methods([Method::POST]);
/// let memory = MemoryReactor::new();
/// memory.listen_tcp("127.0.0.1:8080", Site::new(app.resource()))?;
///
/// let response = memory.post("http://127.0.0.1:8080/echo", "hello").header("X-Id", "7").send();
/// assert_eq!(response.text(), "hello");
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
pub trait SendRequests {
    /// A request of any method, which is sent by [`send`](TestRequest::send).
    ///
    /// # Panics
    ///
    /// If the method is not a token, or no site listens at the address.
    fn request(&self, method: impl AsRef<str>, target: impl AsRef<str>) -> TestRequest;

    /// A GET request.
    fn get(&self, target: impl AsRef<str>) -> TestRequest {
        self.request("GET", target)
    }

    /// A HEAD request.
    fn head(&self, target: impl AsRef<str>) -> TestRequest {
        self.request("HEAD", target)
    }

    /// A POST request with a body.
    fn post(&self, target: impl AsRef<str>, body: impl AsRef<[u8]>) -> TestRequest {
        self.request("POST", target).body(body)
    }

    /// A PUT request with a body.
    fn put(&self, target: impl AsRef<str>, body: impl AsRef<[u8]>) -> TestRequest {
        self.request("PUT", target).body(body)
    }

    /// A PATCH request with a body.
    fn patch(&self, target: impl AsRef<str>, body: impl AsRef<[u8]>) -> TestRequest {
        self.request("PATCH", target).body(body)
    }

    /// A DELETE request.
    fn delete(&self, target: impl AsRef<str>) -> TestRequest {
        self.request("DELETE", target)
    }
}

impl SendRequests for MemoryReactor {
    fn request(&self, method: impl AsRef<str>, target: impl AsRef<str>) -> TestRequest {
        let target = target.as_ref();
        let (address, path) = match target.strip_prefix("http://") {
            None => (USUAL_ADDRESS, target),
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        };
        let path = if path.is_empty() { "/" } else { path };
        TestClient::connect_to(self, address).request(method, path)
    }
}

/// One connection, for requests that follow each other on it.
///
/// A request may be sent before the one before is answered. Targets go out as they are. Dropping the client and its responses
/// closes the connection.
///
/// ```
/// use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient};
/// use prometheus_deferred::web::{Klein, Site};
///
/// let mut app = Klein::new();
/// app.route("/a", |_| "first");
/// app.route("/b", |_| "second");
/// let memory = MemoryReactor::new();
/// memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
///
/// let client = TestClient::connect(&memory);
/// let (a, b) = (client.get("/a").send(), client.get("/b").send());
/// assert_eq!((a.text(), b.text()), ("first".into(), "second".into()));
///
/// client.send_bytes("GET /a HTTP/1.1\r\nHo"); // exactly these
/// client.send_bytes("st: h\r\n\r\n");
/// assert_eq!(client.next_response("GET").text(), "first");
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
#[derive(Debug, Clone)]
pub struct TestClient {
    received: Rc<Received>,
    host: String,
}

impl TestClient {
    /// Connects to the site at `127.0.0.1:80`.
    ///
    /// # Panics
    ///
    /// If no site listens there.
    pub fn connect(memory: &MemoryReactor) -> Self {
        Self::connect_to(memory, USUAL_ADDRESS)
    }

    /// Connects to a site at another address, such as `127.0.0.1:8080`.
    ///
    /// # Panics
    ///
    /// If no site listens there.
    pub fn connect_to(memory: &MemoryReactor, address: impl AsRef<str>) -> Self {
        let address = address.as_ref();
        let connection = memory.connect_to(address).unwrap_or_else(|error| {
            panic!(
                "no site listens on {address}: {error}; listen there, or name the address where one \
                 does, as in \"http://127.0.0.1:8080/\""
            )
        });
        Self {
            received: Rc::new(Received::new(connection)),
            host: address.strip_suffix(":80").unwrap_or(address).to_owned(),
        }
    }

    /// Sends raw bytes. Read the answer with [`next_response`](Self::next_response), or with
    /// [`bytes`](Self::bytes).
    pub fn send_bytes(&self, bytes: impl AsRef<[u8]>) {
        self.received.connection.send(bytes);
        self.received.look();
    }

    /// The next response that was not expected yet, to a request of this method.
    ///
    /// # Panics
    ///
    /// If the method is not a token.
    pub fn next_response(&self, method: impl AsRef<str>) -> TestResponse {
        let exchange = Rc::new(Exchange::new(
            parse_method(method.as_ref()),
            "sent as bytes",
        ));
        self.received.expect(exchange.clone());
        TestResponse::new(self.received.clone(), exchange)
    }

    /// Takes the received bytes that belong to no expected response.
    pub fn bytes(&self) -> Vec<u8> {
        self.received.look();
        self.received.take_unread()
    }

    /// The connection: to slow it down, to close it, or to check whether the server has closed it.
    pub fn connection(&self) -> &MemoryConnection {
        &self.received.connection
    }
}

impl SendRequests for TestClient {
    fn request(&self, method: impl AsRef<str>, target: impl AsRef<str>) -> TestRequest {
        TestRequest {
            client: self.clone(),
            method: parse_method(method.as_ref()),
            target: target.as_ref().to_owned(),
            fields: Vec::new(),
            body: None,
        }
    }
}

fn parse_method(method: &str) -> Method {
    Method::from_bytes(method.as_bytes()).unwrap_or_else(|_| {
        panic!("{method:?} is no method; use TestClient::send_bytes to send it")
    })
}

/// A request that is not sent yet.
#[must_use = "a request is sent by `send`"]
pub struct TestRequest {
    client: TestClient,
    method: Method,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl TestRequest {
    /// Adds a header field with this spelling. `Host` and `Content-Length` are added automatically
    /// unless they are set here.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let field = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.fields.push(field);
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// Sends the request and [pumps](MemoryReactor::pump) the reactor, which starts it if it has not
    /// started.
    pub fn send(mut self) -> TestResponse {
        let body = self.body.take();
        if let Some(body) = &body
            && !self.has("Content-Length")
            && !self.has("Transfer-Encoding")
        {
            self = self.header("Content-Length", body.len().to_string());
        }
        let mut bytes = self.head();
        bytes.extend_from_slice(&body.unwrap_or_default());
        self.sent(&bytes, false)
    }

    /// Sends the head alone: the body follows by [`TestResponse::send_body`] and ends with
    /// [`TestResponse::end_body`]. It is chunked, unless a `Content-Length` was added.
    ///
    /// ```
    /// use prometheus_deferred::testing::{MemoryReactor, SendRequests};
    /// use prometheus_deferred::web::{Klein, Method, Request, Site};
    ///
    /// let mut app = Klein::new();
    /// app.route("/echo", |request: Request| request.body().clone()).methods([Method::POST]);
    /// let memory = MemoryReactor::new();
    /// memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
    ///
    /// let response = memory.post("/echo", "").header("Expect", "100-continue").send_head();
    /// response.send_body("in ");
    /// response.send_body("pieces");
    /// assert!(!response.has_begun());
    /// response.end_body();
    /// assert_eq!(response.text(), "in pieces");
    /// # Ok::<(), prometheus_deferred::Failure>(())
    /// ```
    pub fn send_head(mut self) -> TestResponse {
        let is_chunked = !self.has("Content-Length");
        if is_chunked && !self.has("Transfer-Encoding") {
            self = self.header("Transfer-Encoding", "chunked");
        }
        let bytes = self.head();
        self.sent(&bytes, is_chunked)
    }

    fn sent(self, bytes: &[u8], is_chunked: bool) -> TestResponse {
        let received = self.client.received;
        let exchange = Exchange::new(self.method, &self.target);
        exchange.sends_chunks.set(is_chunked);
        let exchange = Rc::new(exchange);
        received.expect(exchange.clone());
        received.connection.send(bytes);
        received.look();
        TestResponse::new(received, exchange)
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.has("Host") {
            head += &format!("Host: {}\r\n", self.client.host);
        }
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }

    fn has(&self, name: &str) -> bool {
        let is_it = |(known, _): &(String, String)| known.eq_ignore_ascii_case(name);
        self.fields.iter().any(is_it)
    }
}

impl fmt::Debug for TestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestRequest({} {})", self.method, self.target)
    }
}
