//! A tree of resources, served over HTTP/1.1.

mod core;
mod date;
mod handle;
mod limits;
mod live;
mod spares;

use std::cell::OnceCell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{Address, Factory, Port, Protocol};

use super::connection::HttpProtocol;
use super::pages::{ErrorDetails, ErrorPages};
use super::{Resource, Response, SiteObserver};

pub(super) use self::core::SiteCore;
pub use handle::SiteHandle;
pub(super) use limits::{Limits, MinRate};
pub use live::Drained;
pub(super) use live::Left;
use live::Live;

/// A root resource, and what clients are granted (Twisted's `Site`).
///
/// ```
/// use std::time::Duration;
/// use prometheus_deferred::{Reactor, web::{Site, Tree}};
///
/// let reactor = Reactor::new()?;
/// let site = Site::new(Tree::new())
///     .keep_alive(Duration::from_secs(15))
///     .max_body_bytes(64 * 1024);
/// let port = reactor.listen_tcp("127.0.0.1:0", site)?;
/// println!("listening on http://{}/", port.address());
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
///
/// # Limits
///
/// What a client may cost, unless set otherwise. A client that is refused something, or cut off, is
/// counted by its [reason](super::RefusalReason); connections that close for being idle or used up, and
/// reading that pauses, are not refusals:
///
/// | limit                               | default   | beyond it                            |
/// |-------------------------------------|-----------|--------------------------------------|
/// | [request line](Self::max_request_line_bytes) | 8 KiB | 414, close                     |
/// | [head](Self::max_head_bytes)        | 16 KiB    | 431, close                           |
/// | [header fields](Self::max_header_fields) | 500  | 431, close                           |
/// | [body](Self::max_body_bytes)        | 1 MiB     | 413, close                           |
/// | [read ahead](Self::max_read_ahead_bytes) while a request is handled | 64 KiB | reading pauses |
/// | [unread output](Self::max_unread_output_bytes) of a program that writes without heed | 1 MiB | abort |
/// | [time for a head](Self::header_timeout), from its first byte | 30 s | 408, close          |
/// | [time for a body](Self::body_timeout) that is collected, from the end of its head | 60 s | 408, close |
/// | [rate](Self::min_bytes_per_second) of bodies and of responses | 240 bytes/s after 10 s | 408 or abort |
/// | [idle connection](Self::keep_alive) | 60 s      | close                                |
/// | [reading nothing](Self::write_timeout) of a response | 30 s | abort                    |
/// | [time for a response](Self::response_timeout) to be read | none | abort                 |
/// | [reading nothing](Self::abort_timeout) when closing | 15 s | abort                      |
/// | [after the end of its input](Self::half_close_grace) | 1 s | taken for gone             |
/// | [unread body](Self::discard) behind a response | 256 KiB, 2 s | close                  |
/// | [connections](Self::max_connections) | descriptors less 64, at most 10,000 | closed unanswered |
/// | [connections per client](Self::max_connections_per_client) | none | closed unanswered   |
/// | [requests per connection](Self::max_requests_per_connection) | none | `Connection: close` |
///
/// So one connection holds at most a head or what is read ahead, the body as its resource takes it
/// (collected: the limit on bodies; streamed: one piece of at most 256 KiB), and of a response what
/// was given whole, or 65 KiB and a piece of a streamed one, or the limit on unread output. A limit of
/// time that is zero cuts off every client that does not do the thing at once.
pub struct Site {
    settings: Settings,
    live: Rc<Live>,
    /// Made when the first client connects.
    core: OnceCell<Rc<SiteCore>>,
    drains: DrainOnShutdown,
}

#[derive(Clone)]
struct Settings {
    root: Rc<dyn Resource>,
    line: &'static Location<'static>,
    limits: Limits,
    displays_tracebacks: bool,
    pages: ErrorPages,
    observer: Option<Rc<dyn SiteObserver>>,
}

/// How long a shutdown waits for requests that are being handled.
#[derive(Debug, Clone, Copy)]
struct DrainOnShutdown {
    /// After SIGTERM, or [`Reactor::stop`](crate::Reactor::stop).
    stop: Duration,
    /// After SIGINT.
    interrupt: Duration,
}

impl Site {
    /// Serves `root` and everything below it.
    #[track_caller]
    pub fn new(root: impl Resource) -> Self {
        Self {
            settings: Settings {
                root: Rc::new(root),
                line: Location::caller(),
                limits: Limits::default(),
                displays_tracebacks: false,
                pages: ErrorPages::default(),
                observer: None,
            },
            live: Rc::default(),
            core: OnceCell::new(),
            drains: DrainOnShutdown {
                stop: Duration::from_secs(10),
                interrupt: Duration::from_secs(2),
            },
        }
    }

    /// Handle that describes the site and drains it while it serves.
    pub fn handle(&self) -> SiteHandle {
        SiteHandle::new(self.live.clone())
    }

    /// Sets how long a connection may stay open between two requests; `None` means no limit, and
    /// zero closes it after each response. The first request has at least the time for a
    /// [head](Self::header_timeout).
    #[must_use]
    pub fn keep_alive(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|limits| limits.keep_alive = time.into())
    }

    /// Sets how long a request head may take from its first byte to its last, however steadily the
    /// bytes arrive; `None` means no limit.
    #[must_use]
    pub fn header_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|limits| limits.header_timeout = time.into())
    }

    /// Sets how long a collected request body may take, however steadily the bytes arrive; `None`
    /// means no limit. For a streamed body only [`min_bytes_per_second`] applies.
    ///
    /// [`min_bytes_per_second`]: Self::min_bytes_per_second
    #[must_use]
    pub fn body_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|limits| limits.body_timeout = time.into())
    }

    /// The slowest that a client may send a body or read a response, on average, looked at once
    /// `grace` has passed, which is taken for at least a second. Zero is no limit.
    ///
    /// While the program does not read a streamed body, its time does not count. A response is
    /// looked at while bytes wait for the client to read.
    #[must_use]
    pub fn min_bytes_per_second(self, rate: u32, grace: Duration) -> Self {
        self.with(|limits| {
            limits.min_rate = MinRate {
                bytes_per_second: rate,
                // Before a first byte could come, any rate is too low.
                grace: grace.max(Duration::from_secs(1)),
            };
        })
    }

    /// Sets how long a response may wait for a client that reads none of it; each byte that the
    /// system accepts restarts the time. `None` means no limit.
    #[must_use]
    pub fn write_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|limits| limits.write_timeout = time.into())
    }

    /// Sets how long a client may take to read, from the first moment that bytes wait for it until
    /// none do, however steadily it reads (no limit unless set, or with `None`). An event stream
    /// whose client keeps up is not affected.
    #[must_use]
    pub fn response_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|limits| limits.response_timeout = time.into())
    }

    /// Sets how long a connection that is being closed waits for a peer that reads nothing.
    #[must_use]
    pub fn abort_timeout(self, time: Duration) -> Self {
        self.with(|limits| limits.abort_timeout = time)
    }

    /// How long a request is still answered after its client has closed its sending side. Then the
    /// client counts as gone, which cannot be told apart.
    #[must_use]
    pub fn half_close_grace(self, time: Duration) -> Self {
        self.with(|limits| limits.half_close_grace = time)
    }

    /// The longest request line; at most 1 GiB.
    #[must_use]
    pub fn max_request_line_bytes(self, bytes: usize) -> Self {
        self.with(|limits| limits.head.line_bytes = bytes.min(MOST_HEAD_BYTES))
    }

    /// The longest request head: the line and all fields; at most 1 GiB.
    #[must_use]
    pub fn max_head_bytes(self, bytes: usize) -> Self {
        self.with(|limits| limits.head.bytes = bytes.min(MOST_HEAD_BYTES))
    }

    /// The most header fields in a request; at most 65,536.
    #[must_use]
    pub fn max_header_fields(self, fields: usize) -> Self {
        self.with(|limits| limits.head.fields = fields.min(MOST_FIELDS))
    }

    /// The largest request body that is collected, where its resource does not say otherwise
    /// ([`Resource::body_policy`]). It is held in memory as a whole.
    #[must_use]
    pub fn max_body_bytes(self, bytes: usize) -> Self {
        self.with(|limits| limits.body_bytes = bytes as u64)
    }

    /// How many bytes of further requests are taken in while one is being handled.
    #[must_use]
    pub fn max_read_ahead_bytes(self, bytes: usize) -> Self {
        self.with(|limits| limits.read_ahead_bytes = bytes)
    }

    /// How much of a response that is [written](super::Request::write) in parts may wait for the
    /// client beyond what the system takes. A program that goes on writing to a client that does
    /// not read loses that connection, with a log record that names the route.
    ///
    /// A response that is given whole, or [streams](Response::stream), is not held to this, and who
    /// watches [`buffered`](super::Request::buffered) or registers a
    /// [producer](super::Request::register_producer) stays below it.
    #[must_use]
    pub fn max_unread_output_bytes(self, bytes: usize) -> Self {
        self.with(|limits| limits.unread_output_bytes = bytes)
    }

    /// Sets how much of an unread request body is read and dropped after the response, and for how
    /// long, so that the connection can carry the next request. If more is left, the connection is
    /// closed.
    #[must_use]
    pub fn discard(self, bytes: u64, time: Duration) -> Self {
        self.with(|limits| {
            limits.discard_bytes = bytes;
            limits.discard_timeout = time;
        })
    }

    /// The most connections at once. Further clients are closed without an answer.
    #[must_use]
    pub fn max_connections(self, connections: usize) -> Self {
        self.with(|limits| limits.connections = connections)
    }

    /// The most connections at once from one IP address; `None`, unless set, is any number.
    #[must_use]
    pub fn max_connections_per_client(self, connections: impl Into<Option<usize>>) -> Self {
        self.with(|limits| limits.connections_per_client = connections.into())
    }

    /// The most requests on one connection, the last of which is answered with `Connection: close`;
    /// `None`, unless set, is any number. Zero is taken for one.
    #[must_use]
    pub fn max_requests_per_connection(self, requests: impl Into<Option<u64>>) -> Self {
        self.with(|limits| limits.requests_per_connection = requests.into().map(|most| most.max(1)))
    }

    /// Whether the page of a failed request shows the error. Off unless set: an error text may say
    /// more than strangers should know.
    #[must_use]
    pub fn display_tracebacks(mut self, on: bool) -> Self {
        self.settings.displays_tracebacks = on;
        self
    }

    /// Sets the function that makes error pages: of refusals, of 404, 405, 413 and 500, and of
    /// [`pages`](super::pages).
    ///
    /// Unless set, error pages are HTML or JSON (RFC 9457) for clients that ask for it, and plain text
    /// for others. The status of the answer is that of the error, whatever the page says.
    ///
    /// ```
    /// use prometheus_deferred::web::{Response, Site, Tree};
    ///
    /// let site = Site::new(Tree::new()).error_pages(|error| {
    ///     Response::new(format!("{}: {}\n", error.status(), error.message()))
    /// });
    /// ```
    #[must_use]
    pub fn error_pages(mut self, make: impl Fn(&ErrorDetails<'_>) -> Response + 'static) -> Self {
        self.settings.pages = ErrorPages::of(make);
        self
    }

    /// Tells `observer` of connections and requests, in the place of an earlier one.
    #[must_use]
    pub fn observe(mut self, observer: impl SiteObserver) -> Self {
        self.settings.observer = Some(Rc::new(observer));
        self
    }

    /// How long a shutdown of the reactor waits for requests that are being handled: 10 seconds
    /// unless set, or 2 when it was Ctrl-C (SIGINT) that ended the program, if that is shorter.
    /// Zero cuts them off.
    ///
    /// See [`SiteHandle::drain`] for what a drain does.
    #[must_use]
    pub fn drain_on_shutdown(mut self, time: Duration) -> Self {
        self.drains = DrainOnShutdown {
            stop: time,
            interrupt: time.min(self.drains.interrupt),
        };
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.settings.limits);
        self
    }

    fn core(&self) -> &Rc<SiteCore> {
        self.core.get_or_init(|| {
            let settings = self.settings.clone();
            Rc::new(SiteCore {
                root: settings.root,
                line: settings.line,
                limits: settings.limits,
                displays_tracebacks: settings.displays_tracebacks,
                pages: settings.pages,
                observer: settings.observer,
                date: Default::default(),
                spares: Default::default(),
                live: self.live.clone(),
                next_id: 1.into(),
            })
        })
    }
}

/// The most that a head may be granted.
const MOST_HEAD_BYTES: usize = 1 << 30;

/// The most fields that a head may be granted.
const MOST_FIELDS: usize = 1 << 16;

impl Factory for Site {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        if let Err(reason) = self.live.admits(peer, &self.settings.limits) {
            self.live.count_refusal(reason);
            if let Some(observer) = &self.settings.observer {
                observer.refused(reason);
            }
            return None;
        }
        Some(Box::new(HttpProtocol::new(self.core().clone())))
    }

    fn port_opened(&self, port: &Port) {
        handle::serve(&self.live, port, self.drains);
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("limits", &self.settings.limits)
            .finish_non_exhaustive()
    }
}
