//! What a site tells of its connections and requests.

use std::time::Duration;

use deferred_reactor::net::Address;
use http::StatusCode;

use super::{RefusalReason, RequestHead};

/// Observes the connections and requests of a [`Site`](super::Site), for metrics and logs.
///
/// The methods run on the reactor's thread, in the middle of its work: they count, and return. A
/// site without an observer pays nothing for this. Every connection that is opened is closed once;
/// every request that begins ends once, also when it was refused for its body, when its resource
/// panics, and when the reactor stops. For a request whose head was refused, only
/// [`refused`](Self::refused) is called.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use prometheus_deferred::testing::MemoryReactor;
/// use prometheus_deferred::web::{Klein, RequestEnd, RequestHead, Site, SiteObserver};
///
/// #[derive(Default)]
/// struct Failures(Cell<u32>);
///
/// impl SiteObserver for Failures {
///     fn request_ended(&self, head: &RequestHead, end: &RequestEnd) {
///         if end.status.is_some_and(|status| status.is_server_error()) {
///             println!("{} failed", head.route());
///             self.0.set(self.0.get() + 1);
///         }
///     }
/// }
///
/// let failures = Rc::new(Failures::default());
/// let mut app = Klein::new();
/// app.route("/bad", |_| -> &'static str { panic!("on purpose") });
/// let memory = MemoryReactor::new();
/// memory.listen_tcp("127.0.0.1:80", Site::new(app.resource()).observe(failures.clone()))?;
/// memory.connect_to("127.0.0.1:80")?.exchange("GET /bad HTTP/1.1\r\nHost: h\r\n\r\n");
/// assert_eq!(failures.0.get(), 1);
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
pub trait SiteObserver: 'static {
    /// A client has connected.
    fn connection_opened(&self, peer: &Address) {
        let _ = peer;
    }

    /// A connection has ended: closed by the client, by the server, or broken.
    fn connection_closed(&self, peer: &Address) {
        let _ = peer;
    }

    /// The head of a request is there, and its resource was found: the
    /// [route](RequestHead::route) is known.
    ///
    /// A handler may answer with another resource. The route is then longer, or empty, in later
    /// calls, so count what is in progress without it.
    fn request_begun(&self, head: &RequestHead) {
        let _ = head;
    }

    /// The head of the response was queued, `after` so long since the request began.
    fn response_head_sent(&self, head: &RequestHead, status: StatusCode, after: Duration) {
        let _ = (head, status, after);
    }

    /// A request is over: its last byte was handed to the system, or it was cut off.
    fn request_ended(&self, head: &RequestHead, end: &RequestEnd) {
        let _ = (head, end);
    }

    /// A client was refused something by the server itself: a request that it could not
    /// understand, or a limit.
    fn refused(&self, reason: RefusalReason) {
        let _ = reason;
    }
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestEnd {
    /// The status of the response; `None` if its head was never queued.
    pub status: Option<StatusCode>,
    /// How it ended.
    pub outcome: RequestOutcome,
    /// From the complete head of the request to this moment.
    pub duration: Duration,
    /// Bytes of content that were received, without chunk framing.
    pub bytes_in: u64,
    /// Bytes of content that were queued to be sent, without head and chunk framing.
    pub bytes_out: u64,
}

/// How a request ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// The last byte of the response was handed to the system.
    Finished,
    /// The client went away before that.
    ClientGone,
    /// The server cut the connection off: a limit, or the end of the program.
    Aborted,
    /// The resource failed or panicked; a client that had got nothing yet got a page that says so.
    Failed,
}

impl RequestOutcome {
    /// The outcome as the value of a label: `finished`, `client_gone`, `aborted` or `failed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientGone => "client_gone",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

impl<O: SiteObserver + ?Sized> SiteObserver for std::rc::Rc<O> {
    fn connection_opened(&self, peer: &Address) {
        (**self).connection_opened(peer);
    }

    fn connection_closed(&self, peer: &Address) {
        (**self).connection_closed(peer);
    }

    fn request_begun(&self, head: &RequestHead) {
        (**self).request_begun(head);
    }

    fn response_head_sent(&self, head: &RequestHead, status: StatusCode, after: Duration) {
        (**self).response_head_sent(head, status, after);
    }

    fn request_ended(&self, head: &RequestHead, end: &RequestEnd) {
        (**self).request_ended(head, end);
    }

    fn refused(&self, reason: RefusalReason) {
        (**self).refused(reason);
    }
}
