//! Resources over HTTP/1.1: what URLs name, and how they answer.
//!
//! A [`Site`] is given to [`Reactor::listen_tcp`](crate::Reactor::listen_tcp). For each request it
//! walks from its root [`Resource`] down the path and asks the resource found there to render. The
//! root is often a [`Tree`], with resources under names, or a [`Klein`] app, with handlers under
//! routes; each can stand anywhere in the other.
//!
//! ```
//! use prometheus_deferred::Reactor;
//! use prometheus_deferred::web::{Klein, Rendered, Request, Resource, Response, Site, Tree};
//!
//! struct Greeting;
//!
//! impl Resource for Greeting {
//!     fn render_get(&self, request: Request) -> Rendered {
//!         let name = request.args().find(|(key, _)| key == "name");
//!         let name = name.map_or("stranger".into(), |(_, value)| value);
//!         Response::new(format!("hello, {name}\n")).with_content_type("text/plain; charset=utf-8").into()
//!     }
//! }
//!
//! let mut api = Klein::new();
//! api.route("/double/<int:n>", |request: Request| {
//!     request.param::<u64>("n").map_or(String::new(), |n| (2 * n).to_string())
//! });
//!
//! let root = Tree::new();
//! root.put_child("hello", Greeting);
//! root.put_child("api", api.resource());
//! let reactor = Reactor::new()?;
//! reactor.listen_tcp("127.0.0.1:0", Site::new(root))?;
//! # Ok::<(), prometheus_deferred::Failure>(())
//! ```
//!
//! Rendering gives a [`Rendered`]: a body or a [`Response`] at once, a `Deferred` of one, another
//! resource, or [`NOT_DONE_YET`], when the [`Request`] was moved to where it will be finished. A
//! resource that panics or fails is answered with 500; the error is logged and not shown.
//!
//! # The way of a request
//!
//! 1. The head of a request arrives. A malformed one is refused and counted; [`RefusalReason`] has the
//!    table of all refusals.
//! 2. If a body follows, the resource is found first, and its [`body_policy`](Resource::body_policy)
//!    is asked: the body is refused, collected in memory up to a limit, or streams. A client that
//!    waits for `100 Continue` gets its answer now, so 404, 405 and 413 come before the body is sent.
//! 3. The resource renders: when the body is complete, or, if it streams, at once. It reads a streamed
//!    body with [`Request::take_body`]; the client can send only as fast as the [`Body`] is read.
//! 4. The response is sent: as a whole, piece by piece from a source ([`Response::stream`],
//!    [`Response::file`]), or as the program [writes](Request::write) it. A source is asked for more
//!    only as the client reads. The [conditions](Response::with_etag) and
//!    [ranges](Response::accept_ranges) of the request are applied just before.
//! 5. [`Request::notify_finish`] fires when the last byte was handed to the system. The next request
//!    on the connection is handled then; bytes of it that came earlier were kept, up to a limit.
//!
//! Two machines share a connection: one receives requests, the other replies to them. They overlap
//! while a body streams; a request may be answered before all of its body has come.
//!
//! ```text
//!              ┌───────────── receiving ─────────────┐
//!   client ──> │ idle ─> head ─> body ─> waiting     │   a piece of a body, or the whole of it
//!              └──────────────────│───────▲──────────┘          │
//!                                 ▼       │ the response is complete
//!              ┌───────────── replying ──────────────┐          ▼
//!   client <── │ sending <── making <── idle         │ <── the resource, or the holder of the request
//!              └─────────────────────────────────────┘
//! ```
//!
//! The bytes and the time of every state have limits: see the [table of limits](Site#limits). A
//! [`SiteObserver`] is notified of connections, requests and refusals.
//!
//! # The end of a site
//!
//! [`SiteHandle::drain`] closes the ports and the idle connections, and lets requests that are being
//! handled finish. A reactor that stops drains its sites by itself ([`Site::drain_on_shutdown`]).
//! Responses that last, such as event streams, wait for [`Request::notify_drain`] and end then.
//!
//! # Testing a site
//!
//! On a [`MemoryReactor`](crate::testing::MemoryReactor), a site works as in the program, and a test
//! needs no port, no waiting and no thread. [`memory.get`](crate::testing::SendRequests::get) and the
//! like make requests. A measured time is exactly the time by which the test moves the clock:
//!
//! ```
//! use std::time::Duration;
//! use prometheus::{Histogram, HistogramOpts, Registry};
//! use prometheus_deferred::web::{Klein, Site};
//! use prometheus_deferred::testing::{MemoryReactor, SendRequests};
//! use prometheus_deferred::{Failure, MetricsResource, defer_later, time};
//!
//! let registry = Registry::new();
//! let seconds = Histogram::with_opts(HistogramOpts::new("nap_duration_seconds", "Naps."))?;
//! registry.register(Box::new(seconds.clone()))?;
//!
//! let memory = MemoryReactor::new();
//! let clock = memory.reactor().clone();
//! let mut app = Klein::new();
//! app.route("/nap", move |_| {
//!     time(&seconds, defer_later(&clock, Duration::from_secs(5), || Ok("good morning\n")))
//! });
//! app.route("/metrics", move |_| MetricsResource::with_registry(registry.clone()));
//! memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()))?;
//!
//! let nap = memory.get("/nap").send();
//! assert!(!nap.has_begun());
//! memory.advance(Duration::from_secs(5));
//! assert_eq!(nap.text(), "good morning\n");
//! assert!(memory.get("/metrics").send().text().contains("\nnap_duration_seconds_sum 5\n"));
//!
//! memory.advance(Duration::from_secs(60)); // idle for so long, its connection is closed
//! assert!(nap.connection().has_ended());
//! # Ok::<(), Failure>(())
//! ```

mod body;
mod body_policy;
mod carrier;
mod conditional;
mod connection;
mod etag;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod klein;
mod observer;
pub mod pages;
mod ranges;
mod refusals;
mod request;
mod request_head;
mod resource;
mod response;
mod site;
mod tree;

pub use http::header;
pub use http::{Method, StatusCode};

pub use body::{Body, BodyError, BodyReceiver, BodySource, ByFunction, ByIterator, ByItself};
pub use body_policy::BodyPolicy;
pub use etag::EntityTag;
pub use klein::{FromParam, Klein, ParamValue, Params, PatternError, Route};
pub use observer::{RequestEnd, RequestOutcome, SiteObserver};
pub use pages::ErrorDetails;
pub use refusals::RefusalReason;
pub use request::{ClientGoneError, Finished, Request};
pub use request_head::RequestHead;
pub use resource::{DeferredResource, NOT_DONE_YET, Rendered, Resource};
pub use response::{Html, Response};
pub use site::{Drained, Site, SiteHandle};
pub use tree::Tree;
