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
//! # Testing a site
//!
//! On a [`MemoryReactor`](crate::testing::MemoryReactor), a site is what it is in the program, and a
//! test needs no port, no waiting and no thread. Requests are made by
//! [`memory.get`](crate::testing::SendRequests::get) and its like. What is measured takes exactly as
//! long as the test lets pass:
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
