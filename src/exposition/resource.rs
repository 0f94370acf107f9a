//! `/metrics` as a resource.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;

use bytes::Bytes;
use deferred_reactor::{Deferred, Failure, Reactor, RemoteReactor, Resolver};
use prometheus::Registry;

use super::{gzip, text};
use crate::web::{Method, Rendered, Request, Resource, Response, header};

/// Answers with the metrics of a registry in the text format of Prometheus.
///
/// - It is a leaf: paths below it give the same answer, except `favicon.ico`, which is empty.
/// - `?name[]=a&name[]=b` gives only the samples of these names.
/// - The body is compressed for clients that accept gzip, as Prometheus does.
/// - A large registry is gathered and encoded in a thread, so that other requests are not held up.
///   The first scrape tells the resource and its clones whether the registry is large. At most one
///   such thread runs for a resource; requests for the same samples meanwhile get the same result.
///   On a [`MemoryReactor`](deferred_reactor::testing::MemoryReactor) there is no thread.
///
/// ```
/// use prometheus_deferred::MetricsResource;
/// use prometheus_deferred::web::{Site, Tree};
///
/// let root = Tree::new();
/// root.put_child("metrics", MetricsResource::new());
/// let site = Site::new(root);
/// # let _ = site;
/// ```
///
/// It stands for `prometheus_client.twisted.MetricsResource`.
#[derive(Clone)]
pub struct MetricsResource {
    registry: Registry,
    compresses: bool,
    is_in_place: bool,
    /// The length of its text, if known. Shared by clones, and identifies this resource.
    size: Arc<AtomicUsize>,
}

impl Default for MetricsResource {
    fn default() -> Self {
        Self::new()
    }
}

impl MetricsResource {
    /// The metrics of the default registry, which the `register_*!` macros use.
    pub fn new() -> Self {
        // One default registry, for any number of resources.
        static SIZE: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);
        Self {
            size: SIZE.clone(),
            ..Self::with_registry(prometheus::default_registry().clone())
        }
    }

    /// The metrics of a registry of your own.
    pub fn with_registry(registry: Registry) -> Self {
        Self {
            registry,
            compresses: true,
            is_in_place: false,
            size: Arc::default(),
        }
    }

    /// Sets whether to compress for clients that accept it (on unless set).
    #[must_use]
    pub fn compression(mut self, on: bool) -> Self {
        self.compresses = on;
        self
    }

    /// Gathers on the reactor's thread: for a reactor that does nothing else.
    pub(super) fn in_place(mut self) -> Self {
        self.is_in_place = true;
        self
    }

    /// Gathers in a thread, or waits for a running thread that gathers the same.
    fn in_a_thread(&self, scrape: Scrape, reactor: &Reactor) -> Deferred<Exposition> {
        let (deferred, resolver) = Deferred::pending();
        let is_first = RUNNING.with_borrow_mut(|running| {
            if let Some(same) = running.iter_mut().find(|other| other.scrape == scrape) {
                same.waiting.push(resolver);
                return false;
            }
            running.push(Running {
                scrape: scrape.clone(),
                waiting: vec![resolver],
            });
            true
        });
        if is_first {
            self.start_thread(scrape, reactor.remote());
        }
        deferred
    }

    /// Uses a thread outside of the pool: the pool may be busy with the program's jobs, and then
    /// the metrics matter most.
    fn start_thread(&self, scrape: Scrape, remote: RemoteReactor) {
        let registry = self.registry.clone();
        let asked = scrape.clone();
        let thread = thread::Builder::new().name("metrics-gather".to_owned());
        let started = thread.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| scrape.gather(&registry)))
                .map_err(Failure::from_panic);
            // A dropped reactor has no requests to answer.
            let _ = remote.call_from_thread(move |_| tell(Running::take(&scrape), result));
        });
        if let Err(error) = started {
            tell(Running::take(&asked), Err(error.into()));
        }
    }

    fn scrape(&self, request: &Request) -> Scrape {
        let accepted = request
            .headers()
            .filter(|(name, _)| header::ACCEPT_ENCODING.as_str().eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok());
        Scrape {
            size: self.size.clone(),
            names: request
                .args()
                .filter(|(name, _)| name == "name[]")
                .map(|(_, value)| value.into_owned())
                .collect(),
            varies: self.compresses,
            compresses: self.compresses && gzip::is_accepted(accepted),
        }
    }
}

impl Resource for MetricsResource {
    fn is_leaf(&self) -> bool {
        true
    }

    fn render_get(&self, request: Request) -> Rendered {
        if request.path().ends_with("/favicon.ico") {
            return ().into();
        }
        let scrape = self.scrape(&request);
        if !self.is_in_place
            && self.size.load(Ordering::Relaxed) > WORTH_A_THREAD
            && let Some(reactor) = request.reactor()
            && !reactor.is_in_memory()
        {
            let exposition = self.in_a_thread(scrape, &reactor);
            return exposition
                .map(|exposition| exposition.into_response())
                .into();
        }
        scrape.gather(&self.registry).into_response().into()
    }

    fn render_options(&self, _: Request) -> Rendered {
        Response::default()
            .with_allow(&self.allowed_methods())
            .into()
    }

    fn allowed_methods(&self) -> Vec<Method> {
        vec![Method::GET, Method::OPTIONS]
    }
}

impl fmt::Debug for MetricsResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsResource")
            .field("compresses", &self.compresses)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// Scrapes in threads, for the reactor of this thread.
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
}

/// From this length of text on, a scrape is gathered and encoded in a thread, so that the loop
/// continues: some 3,000 samples, which take a millisecond. A thread costs the scrape about 50
/// microseconds.
const WORTH_A_THREAD: usize = 256 * 1024;

/// Estimated length of one sample's text, for scrapes of some samples only.
const SAMPLE_BYTES: usize = 80;

/// A scrape that runs in a thread, and the waiting requests.
struct Running {
    scrape: Scrape,
    waiting: Vec<Resolver<Exposition>>,
}

impl Running {
    /// Ends a scrape; returns the waiting requests.
    fn take(scrape: &Scrape) -> Vec<Resolver<Exposition>> {
        RUNNING.with_borrow_mut(|running| {
            let index = running.iter().position(|other| other.scrape == *scrape);
            index.map_or_else(Vec::new, |index| running.swap_remove(index).waiting)
        })
    }
}

/// The samples that a request asks for, and its resource.
#[derive(Clone)]
struct Scrape {
    size: Arc<AtomicUsize>,
    /// Only samples of these names; all of them if there are none.
    names: HashSet<String>,
    /// Whether another client might get another encoding.
    varies: bool,
    compresses: bool,
}

impl PartialEq for Scrape {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.size, &other.size)
            && self.compresses == other.compresses
            && self.names == other.names
    }
}

/// The answer to a scrape.
#[derive(Clone)]
struct Exposition {
    body: Bytes,
    varies: bool,
    is_compressed: bool,
}

impl Scrape {
    fn gather(&self, registry: &Registry) -> Exposition {
        let families = registry.gather();
        let mut text = Vec::new();
        let size = if self.names.is_empty() {
            // Reserved at once, so that the text is not copied as it grows.
            text.reserve(self.size.load(Ordering::Relaxed));
            text::encode(&families, &mut text);
            text.len()
        } else {
            text::encode_named(&families, |name| self.names.contains(name), &mut text);
            let samples = families.iter().map(|family| family.get_metric().len());
            samples.sum::<usize>() * SAMPLE_BYTES
        };
        self.size.store(size, Ordering::Relaxed);
        let compressed = self.compresses.then(|| gzip::compress(&text)).flatten();
        Exposition {
            is_compressed: compressed.is_some(),
            body: compressed.unwrap_or_else(|| text.into()),
            varies: self.varies,
        }
    }
}

/// Passes the result to all waiting requests. Requests of disconnected clients were cancelled.
fn tell(waiting: Vec<Resolver<Exposition>>, result: Result<Exposition, Failure>) {
    match result {
        Ok(exposition) => {
            for resolver in waiting {
                let _ = resolver.callback(exposition.clone());
            }
        }
        Err(failure) => {
            for resolver in waiting {
                let _ = resolver.errback(failure.share());
            }
        }
    }
}

impl Exposition {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body).with_content_type(text::CONTENT_TYPE);
        if self.varies {
            response = response.with_header(header::VARY, "Accept-Encoding");
        }
        if self.is_compressed {
            response = response.with_header(header::CONTENT_ENCODING, "gzip");
        }
        response
    }
}
