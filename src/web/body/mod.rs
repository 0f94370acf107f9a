//! Bodies that stream.
//!
//! A [`Body`] is what a peer sends behind a head, read one piece at a time. Nothing is read from
//! the connection ahead of the reader but one piece, so a peer that sends fast is slowed down by a
//! program that reads slowly, and neither of them costs memory.
//!
//! ```text
//!   socket ──> connection ──> one piece ──> Body::read() ──> the program
//!                 paused while the piece waits
//! ```
//!
//! | the program            | the peer                                  | `read` gives                   |
//! |------------------------|-------------------------------------------|--------------------------------|
//! | reads                  | has sent a piece                          | the piece, at once             |
//! | reads                  | has sent nothing yet                      | the piece, when it comes       |
//! | reads                  | has sent everything                       | `None`, and `None` again       |
//! | reads                  | breaks off, or is too slow                | a [`BodyError`]                |
//! | drops the body         | goes on sending                           |                                |
//!
//! The rest of a dropped body is read and discarded, up to a limit; if more is left, the connection
//! closes after the response.

mod error;
mod file;
mod pipe;
mod receiver;
mod save;
mod source;

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use deferred_reactor::net::Transport;
use deferred_reactor::{Deferred, Failure};

pub use error::BodyError;
pub(crate) use pipe::{Feeder, Pipe};
pub use receiver::BodyReceiver;
pub(crate) use source::Pieces;
pub use source::{BodySource, ByFunction, ByIterator, ByItself};

/// A body that is read as it comes (what Twisted's `deliverBody` delivers).
///
/// [`Request::take_body`](super::Request::take_body) returns it. The body streams if the resource asked
/// for [`BodyPolicy::Stream`](super::BodyPolicy::Stream); otherwise it was collected before, and is read
/// as one piece.
///
/// ```
/// use prometheus_deferred::web::{Body, Klein, Request};
/// use prometheus_deferred::{Failure, Reactor};
///
/// /// How many bytes are zero, in a body of any size.
/// async fn zeros(body: Body) -> Result<String, Failure> {
///     let mut zeros = 0;
///     while let Some(piece) = body.read().await? {
///         zeros += piece.iter().filter(|byte| **byte == 0).count();
///     }
///     Ok(format!("{zeros}\n"))
/// }
///
/// let reactor = Reactor::new()?;
/// let mut app = Klein::new();
/// app.route("/zeros", move |mut request: Request| {
///     reactor.spawn(zeros(request.take_body()))
/// })
/// .streaming();
/// # Ok::<(), Failure>(())
/// ```
pub struct Body {
    source: Source,
    /// The connection that it comes from, for its reactor; `None` for one made of bytes.
    transport: Option<Transport>,
}

enum Source {
    /// Everything, until it is read.
    Whole(Cell<Bytes>),
    Pipe(Rc<Pipe>),
}

impl Body {
    pub(crate) fn from_pipe(pipe: Rc<Pipe>, transport: Option<Transport>) -> Self {
        Self {
            source: Source::Pipe(pipe),
            transport,
        }
    }

    pub(crate) fn whole(bytes: Bytes, transport: Option<Transport>) -> Self {
        Self {
            source: Source::Whole(bytes.into()),
            transport,
        }
    }

    /// The next piece, of any size but zero; `None` at the end.
    ///
    /// Cancelling it loses nothing: the next `read` gives what this one would have given.
    ///
    /// # Errors
    ///
    /// The Deferred fails with a [`BodyError`]: the peer went away or was too slow, the body is
    /// malformed or longer than allowed, the response was completed before all of it had come, or
    /// another `read` is still waiting.
    #[track_caller]
    pub fn read(&self) -> Deferred<Option<Bytes>> {
        match &self.source {
            Source::Whole(bytes) => {
                let bytes = bytes.take();
                Deferred::succeed((!bytes.is_empty()).then_some(bytes))
            }
            Source::Pipe(pipe) => pipe.read(),
        }
    }

    /// All of it, or an error once it turns out to be longer than `max_bytes`.
    ///
    /// # Errors
    ///
    /// [`BodyError::TooLarge`], and those of [`read`](Self::read).
    ///
    /// ```
    /// use prometheus_deferred::web::{Body, BodyError};
    ///
    /// let all = Body::from("all of it").collect(9);
    /// assert_eq!(all.result()?, "all of it");
    /// let failure = Body::from("too much").collect(7).result().unwrap_err();
    /// assert_eq!(failure.check(), Some(&BodyError::TooLarge { limit: 7 }));
    /// # Ok::<(), prometheus_deferred::Failure>(())
    /// ```
    #[track_caller]
    pub fn collect(self, max_bytes: usize) -> Deferred<Bytes> {
        if self
            .length()
            .is_some_and(|length| length > max_bytes as u64)
        {
            return Deferred::fail(BodyError::TooLarge {
                limit: max_bytes as u64,
            });
        }
        collect(self, BytesMut::new(), max_bytes)
    }

    /// How long it is as a whole, where the peer has said so before sending it.
    pub fn length(&self) -> Option<u64> {
        match &self.source {
            Source::Whole(bytes) => {
                let whole = bytes.take();
                let length = whole.len() as u64;
                bytes.set(whole);
                Some(length)
            }
            Source::Pipe(pipe) => pipe.length(),
        }
    }

    /// The trailer fields that came behind a chunked body, once `read` has given `None`; names are
    /// spelled as they came.
    ///
    /// They are never merged into the head, and fields that decide what a message means, such as
    /// `Content-Length` or `Host`, are dropped (RFC 9110, 6.5).
    pub fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        match &self.source {
            Source::Whole(_) => Vec::new(),
            Source::Pipe(pipe) => pipe.trailers(),
        }
    }
}

/// Reads on behind what is there already.
#[track_caller]
fn collect(body: Body, mut read: BytesMut, max_bytes: usize) -> Deferred<Bytes> {
    body.read().add_callback(move |piece| {
        let Some(piece) = piece else {
            return Deferred::succeed(read.freeze());
        };
        if read.len() + piece.len() > max_bytes {
            return Deferred::fail(BodyError::TooLarge {
                limit: max_bytes as u64,
            });
        }
        read.extend_from_slice(&piece);
        collect(body, read, max_bytes)
    })
}

macro_rules! body_from {
    ($($bytes:ty),*) => {$(
        impl From<$bytes> for Body {
            fn from(bytes: $bytes) -> Self {
                Self::whole(bytes.into(), None)
            }
        }
    )*};
}

body_from!(&'static str, String, &'static [u8], Vec<u8>, Bytes);

impl Drop for Body {
    fn drop(&mut self) {
        if let Source::Pipe(pipe) = &self.source {
            pipe.abandon();
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

/// The same error for each of several readers.
fn failed<T: 'static>(error: &BodyError) -> Deferred<T> {
    Deferred::fail(Failure::from(error.clone()))
}
