//! A tree of resources, served over HTTP/1.1.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use deferred_reactor::net::{Address, Factory, Protocol};
use deferred_reactor::time::system_time;

use super::channel::HttpProtocol;
use super::request::Exchange;
use super::{Request, Resource};
use crate::http1::HeadLimits;

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
/// What a client may cost, unless set otherwise:
///
/// | limit                               | default   | beyond it                            |
/// |-------------------------------------|-----------|--------------------------------------|
/// | [request line](Self::max_request_line_bytes) | 8 KiB | 414, close                     |
/// | [head](Self::max_head_bytes)        | 16 KiB    | 431, close                           |
/// | [header fields](Self::max_header_fields) | 500  | 431, close                           |
/// | [body](Self::max_body_bytes)        | 1 MiB     | 413, close                           |
/// | [read ahead](Self::max_read_ahead_bytes) while a request is handled | 64 KiB | reading pauses |
/// | [time for a head](Self::header_timeout), from its first byte | 30 s | 408, close          |
/// | [time for a body](Self::body_timeout), from the end of its head | 60 s | 408, close       |
/// | [idle connection](Self::keep_alive) | 60 s      | close                                |
/// | [reading nothing of a response](Self::abort_timeout) when closing | 15 s | abort          |
///
/// A client that reads its response, however slowly, is waited for.
pub struct Site {
    shared: Rc<Shared>,
}

/// What all connections of a site share.
pub(super) struct Shared {
    pub(super) root: Rc<dyn Resource>,
    pub(super) limits: Limits,
    pub(super) displays_tracebacks: bool,
    date: RefCell<Date>,
    #[allow(
        clippy::vec_box,
        reason = "they move as boxes between here and requests"
    )]
    spare_exchanges: RefCell<Vec<Box<Exchange>>>,
    /// Where response heads are put together.
    scratch: Cell<Vec<u8>>,
    pub(super) next_id: Cell<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) head: HeadLimits,
    pub(super) body_bytes: usize,
    pub(super) read_ahead_bytes: usize,
    pub(super) keep_alive: Option<Duration>,
    pub(super) header_timeout: Option<Duration>,
    pub(super) body_timeout: Option<Duration>,
    pub(super) abort_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits {
                bytes: 16 * 1024,
                line_bytes: 8 * 1024,
                fields: 500,
            },
            body_bytes: 1024 * 1024,
            read_ahead_bytes: 64 * 1024,
            keep_alive: Some(Duration::from_secs(60)),
            header_timeout: Some(Duration::from_secs(30)),
            body_timeout: Some(Duration::from_secs(60)),
            abort_timeout: Duration::from_secs(15),
        }
    }
}

impl Site {
    /// Serves `root` and everything below it.
    pub fn new(root: impl Resource) -> Self {
        Self {
            shared: Rc::new(Shared {
                root: Rc::new(root),
                limits: Limits::default(),
                displays_tracebacks: false,
                date: RefCell::new(Date::default()),
                spare_exchanges: RefCell::new(Vec::new()),
                scratch: Cell::new(Vec::new()),
                next_id: Cell::new(1),
            }),
        }
    }

    /// How long a connection may stay open without a request; `None` is for ever.
    pub fn keep_alive(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|shared| shared.limits.keep_alive = time.into())
    }

    /// How long a request head may take from its first byte to its last, however steadily the
    /// bytes come; `None` is for ever.
    pub fn header_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|shared| shared.limits.header_timeout = time.into())
    }

    /// How long a request body may take, however steadily the bytes come; `None` is for ever.
    pub fn body_timeout(self, time: impl Into<Option<Duration>>) -> Self {
        self.with(|shared| shared.limits.body_timeout = time.into())
    }

    /// How long a connection that is to be closed waits for a peer that takes nothing any more.
    pub fn abort_timeout(self, time: Duration) -> Self {
        self.with(|shared| shared.limits.abort_timeout = time)
    }

    /// The longest request line.
    pub fn max_request_line_bytes(self, bytes: usize) -> Self {
        self.with(|shared| shared.limits.head.line_bytes = bytes)
    }

    /// The longest request head: the line and all fields.
    pub fn max_head_bytes(self, bytes: usize) -> Self {
        self.with(|shared| shared.limits.head.bytes = bytes)
    }

    /// The most header fields in a request.
    pub fn max_header_fields(self, fields: usize) -> Self {
        self.with(|shared| shared.limits.head.fields = fields)
    }

    /// The largest request body. It is held in memory as a whole.
    pub fn max_body_bytes(self, bytes: usize) -> Self {
        self.with(|shared| shared.limits.body_bytes = bytes)
    }

    /// How many bytes of further requests are taken in while one is being handled.
    pub fn max_read_ahead_bytes(self, bytes: usize) -> Self {
        self.with(|shared| shared.limits.read_ahead_bytes = bytes)
    }

    /// Whether the page of a failed request shows the error. Off unless set: an error text may say
    /// more than strangers should know.
    pub fn display_tracebacks(self, on: bool) -> Self {
        self.with(|shared| shared.displays_tracebacks = on)
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Rc::get_mut(&mut self.shared).expect("nobody shares a site before it listens"));
        self
    }
}

impl Factory for Site {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(HttpProtocol::new(self.shared.clone())))
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Finds the resource for a request, from `start` down (Twisted's `getChildForRequest`).
    pub(super) fn find(start: Rc<dyn Resource>, request: &Request) -> Option<Rc<dyn Resource>> {
        let mut resource = start;
        while !resource.is_leaf() {
            let Some(segment) = request.next_segment() else {
                break;
            };
            resource = resource.get_child_with_default(&segment, request)?;
        }
        Some(resource)
    }

    pub(super) fn take_exchange(&self) -> Box<Exchange> {
        self.spare_exchanges.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn put_exchange(&self, mut exchange: Box<Exchange>) {
        /// Enough for those that are in use between two turns.
        const KEEP: usize = 64;
        let mut spare = self.spare_exchanges.borrow_mut();
        if spare.len() < KEEP {
            exchange.clear();
            spare.push(exchange);
        }
    }

    /// An empty buffer to put a response head together in.
    pub(super) fn take_scratch(&self) -> Vec<u8> {
        self.scratch.take()
    }

    pub(super) fn put_scratch(&self, mut scratch: Vec<u8>) {
        /// What no usual head exceeds, with a small body behind it.
        const KEEP_CAPACITY: usize = 16 * 1024;
        if scratch.capacity() <= KEEP_CAPACITY {
            scratch.clear();
            self.scratch.set(scratch);
        }
    }

    /// Appends the `Date` field (RFC 9110, 6.6.1). The clock is read once a second, or so: `now`
    /// tells when.
    pub(super) fn write_date(&self, out: &mut Vec<u8>, now: Instant) {
        let mut date = self.date.borrow_mut();
        if date.valid_until.is_none_or(|end| now >= end) {
            let time = system_time();
            let age = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = Duration::from_secs(1) - Duration::from_nanos(age.subsec_nanos().into());
            date.valid_until = Some(now + left);
            date.line = format!("Date: {}\r\n", httpdate::fmt_http_date(time));
        }
        out.extend_from_slice(date.line.as_bytes());
    }
}

#[derive(Debug, Default)]
struct Date {
    /// When the next second begins.
    valid_until: Option<Instant>,
    line: String,
}
