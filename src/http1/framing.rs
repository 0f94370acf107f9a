//! How a message body ends, and whether the connection goes on after it (RFC 9112, 6.3 and 9.3).

use http::StatusCode;

/// The versions of HTTP that are spoken here. Minor versions above 1 count as 1.1 (RFC 9112, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// Where the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// So many bytes, more than none.
    Length(u64),
    Chunked,
}

/// Where the body of a response ends, as far as bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// No body is sent, whatever is written: HEAD, 204, 205, 304.
    NoBody,
    /// Exactly so many bytes.
    Length(u64),
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// What the head says about the length of the body. HEAD is told what GET would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LengthField {
    None,
    ContentLength(u64),
    Chunked,
}

/// What matters of a request for the framing of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) version: Version,
    pub(crate) is_head: bool,
    /// The client is ready for another response on this connection.
    pub(crate) persists: bool,
}

/// What matters of a response for its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// The length of the body, if it is there as a whole.
    pub(crate) length: Option<u64>,
    /// The `Content-Length` that the program set.
    pub(crate) declared: Option<u64>,
    /// The server or the program wants the connection closed.
    pub(crate) closes: bool,
}

/// How a response is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyFraming {
    pub(crate) body: BodyFraming,
    pub(crate) field: LengthField,
    /// The connection closes behind this response, and the head says so.
    pub(crate) closes: bool,
    /// The head says `Connection: keep-alive`, which HTTP/1.0 clients that persist look for.
    pub(crate) says_keep_alive: bool,
}

impl Reply {
    /// Decides the framing of this response.
    #[inline]
    pub(crate) fn framing(&self, to: &ReplyTo) -> ReplyFraming {
        let mut closes = self.closes || !to.persists;
        let (body, field) = if self.has_no_body() {
            (BodyFraming::NoBody, LengthField::None)
        } else if self.status == StatusCode::RESET_CONTENT {
            // A body that is empty, and not one that is absent (RFC 9110, 15.3.6).
            (BodyFraming::NoBody, LengthField::ContentLength(0))
        } else {
            let length = match (self.length, self.declared) {
                // For HEAD, a resource may know the length of a body that it did not make.
                (Some(0), Some(declared)) if to.is_head => Some(declared),
                (Some(length), _) => Some(length),
                (None, declared) => declared,
            };
            let (body, field) = match length {
                Some(length) => (
                    BodyFraming::Length(length),
                    LengthField::ContentLength(length),
                ),
                None if to.version == Version::Http11 => {
                    (BodyFraming::Chunked, LengthField::Chunked)
                }
                None => (BodyFraming::UntilClose, LengthField::None),
            };
            match to.is_head {
                true => (BodyFraming::NoBody, field),
                false => (body, field),
            }
        };
        closes |= body == BodyFraming::UntilClose;
        ReplyFraming {
            body,
            field,
            closes,
            says_keep_alive: to.version == Version::Http10 && !closes,
        }
    }

    /// Whether the status alone rules out a body, and fields about it (RFC 9110, 8.6).
    pub(crate) fn has_no_body(&self) -> bool {
        self.status.is_informational()
            || matches!(
                self.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
    }
}
