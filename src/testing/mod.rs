//! Tests without sockets, sleeps and threads: a reactor in memory, and an HTTP client for it.
//!
//! A [`MemoryReactor`] runs the program's own code, and the test moves its time. All of
//! [`deferred_reactor::testing`], which describes it, is re-exported here. This module adds the client:
//! [`SendRequests`] makes requests of the sites that listen on such a reactor.
//!
//! ```
//! use prometheus_deferred::testing::{MemoryReactor, SendRequests};
//! use prometheus_deferred::web::{Klein, Request, Site};
//!
//! let mut app = Klein::new();
//! app.route("/hello/<name>", |request: Request| format!("hello, {}", request.param("name").unwrap_or("")));
//!
//! let memory = MemoryReactor::new();
//! memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
//! assert_eq!(memory.get("/hello/world").send().text(), "hello, world");
//! assert_eq!(memory.delete("/nothing").send().status(), 404);
//! # Ok::<(), prometheus_deferred::Failure>(())
//! ```
//!
//! [`send`](TestRequest::send) returns a [`TestResponse`] at once, whether the server has answered or
//! not. If the response takes time, advance the reactor's time:
//!
//! ```
//! use std::time::Duration;
//! use prometheus_deferred::defer_later;
//! use prometheus_deferred::testing::{MemoryReactor, SendRequests};
//! use prometheus_deferred::web::{Klein, Site};
//!
//! let memory = MemoryReactor::new();
//! let clock = memory.reactor().clone();
//! let mut app = Klein::new();
//! app.route("/nap", move |_| defer_later(&clock, Duration::from_secs(5), || Ok("good morning")));
//! memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
//!
//! let (first, second) = (memory.get("/nap").send(), memory.get("/nap").send()); // two clients
//! memory.advance(Duration::from_secs(4));
//! assert!(!first.has_begun());
//! memory.advance(Duration::from_secs(1));
//! assert_eq!((first.text(), second.status()), ("good morning".into(), 200.try_into()?));
//! # Ok::<(), prometheus_deferred::Failure>(())
//! ```
//!
//! | to have                                        | use                                               |
//! |------------------------------------------------|---------------------------------------------------|
//! | one request on its own connection              | [`memory.get`](SendRequests::get), `.post`, `.put` |
//! | several requests on one connection, or raw bytes | [`TestClient::connect`]                         |
//! | a request body in pieces                       | [`TestRequest::send_head`], [`TestResponse::send_body`] |
//! | a response body in pieces                      | [`TestResponse::body_so_far`]                     |
//! | a client that reads slowly or disconnects      | [`TestResponse::connection`]                      |
//!
//! The client parses HTTP/1.1 with its own code, not the server's. It panics if a response is malformed,
//! and the panic shows what the server sent.

mod client;
mod response;

pub use deferred_reactor::testing::*;

pub use client::{SendRequests, TestClient, TestRequest};
pub use response::TestResponse;
