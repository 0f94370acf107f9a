//! What a request needs of whatever carries it.

use std::panic::Location;
use std::rc::Rc;

use deferred_reactor::Deferred;
use deferred_reactor::net::Transport;

use super::request::{Exchange, Finished};
use super::{Rendered, RequestHead, Response};

/// Carries requests to resources, and their answers back: an HTTP/1 connection.
///
/// A [`Request`](super::Request) names itself by the id of its exchange, since the carrier may have
/// gone on to another one by the time that a request which was kept is used.
pub(super) trait Carrier {
    /// Whether the request is the one that is being answered.
    fn is_current(&self, id: u64) -> bool;

    /// Sends a part of the body, behind the head.
    fn write(&self, exchange: &mut Exchange, data: &[u8]);

    /// Completes a response that was written in parts, or not at all.
    fn finish(self: Rc<Self>, exchange: Box<Exchange>) -> Finished;

    /// Answers with a whole response.
    fn respond(self: Rc<Self>, exchange: Box<Exchange>, response: Response) -> Finished;

    /// A request was dropped unfinished.
    fn dropped(self: Rc<Self>, exchange: Box<Exchange>);

    /// The route of a request was found.
    fn route_found(&self, head: &RequestHead);

    /// Fires when something has happened to the request that is being answered.
    fn notify(&self, id: u64, event: Event) -> Deferred<()>;

    /// Hands the connection to another protocol.
    fn upgrade(self: Rc<Self>, exchange: Box<Exchange>, upgrade: Upgrade) -> Rendered;

    /// How the bytes travel.
    fn transport(&self) -> Option<&Transport>;
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The last byte of the response was handed to the system.
    Finished,
    /// Everything that was written so far was.
    Drained,
    /// The site ends.
    SiteDrains,
}

/// How a connection goes on after `101 Switching Protocols`.
pub(super) struct Upgrade {
    pub(super) protocol: String,
    pub(super) make: MakeProtocol,
    /// Where the program asked for it.
    pub(super) line: &'static Location<'static>,
}

type MakeProtocol =
    Box<dyn FnOnce(&Transport, bytes::Bytes) -> Box<dyn deferred_reactor::net::Protocol>>;
