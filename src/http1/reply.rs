//! How a response is framed, and whether the connection goes on after it (RFC 9112, 6.3 and 9.3).

use http::StatusCode;

use super::framing::Version;

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

#[cfg(test)]
mod tests {
    use super::*;

    /// F-23, W-48. RFC 9112, 6.3 and 9.3; RFC 9110, 8.6.
    #[test]
    fn responses_are_framed_by_request_status_and_length() {
        use BodyFraming::{Chunked, Length, NoBody, UntilClose};
        let (new, old) = (Version::Http11, Version::Http10);
        for (version, is_head, persists, status, length, declared, body, field, closes, keeps) in [
            (
                new,
                false,
                true,
                200,
                Some(5),
                None,
                Length(5),
                LengthField::ContentLength(5),
                false,
                false,
            ),
            (
                new,
                false,
                true,
                200,
                Some(5),
                Some(9),
                Length(5),
                LengthField::ContentLength(5),
                false,
                false,
            ),
            (
                new,
                false,
                true,
                200,
                Some(0),
                None,
                Length(0),
                LengthField::ContentLength(0),
                false,
                false,
            ),
            (
                new,
                false,
                true,
                200,
                None,
                None,
                Chunked,
                LengthField::Chunked,
                false,
                false,
            ),
            (
                new,
                false,
                true,
                200,
                None,
                Some(9),
                Length(9),
                LengthField::ContentLength(9),
                false,
                false,
            ),
            (
                new,
                false,
                false,
                200,
                None,
                None,
                Chunked,
                LengthField::Chunked,
                true,
                false,
            ),
            (
                new,
                true,
                true,
                200,
                Some(5),
                None,
                NoBody,
                LengthField::ContentLength(5),
                false,
                false,
            ),
            (
                new,
                true,
                true,
                200,
                Some(0),
                Some(9),
                NoBody,
                LengthField::ContentLength(9),
                false,
                false,
            ),
            (
                new,
                true,
                true,
                200,
                None,
                None,
                NoBody,
                LengthField::Chunked,
                false,
                false,
            ),
            (
                new,
                false,
                true,
                204,
                Some(5),
                Some(5),
                NoBody,
                LengthField::None,
                false,
                false,
            ),
            (
                new,
                false,
                true,
                304,
                None,
                None,
                NoBody,
                LengthField::None,
                false,
                false,
            ),
            (
                new,
                false,
                true,
                205,
                Some(5),
                None,
                NoBody,
                LengthField::ContentLength(0),
                false,
                false,
            ),
            (
                new,
                false,
                true,
                101,
                None,
                None,
                NoBody,
                LengthField::None,
                false,
                false,
            ),
            (
                old,
                false,
                false,
                200,
                Some(5),
                None,
                Length(5),
                LengthField::ContentLength(5),
                true,
                false,
            ),
            (
                old,
                false,
                true,
                200,
                Some(5),
                None,
                Length(5),
                LengthField::ContentLength(5),
                false,
                true,
            ),
            (
                old,
                false,
                true,
                200,
                None,
                None,
                UntilClose,
                LengthField::None,
                true,
                false,
            ),
            (
                old,
                false,
                true,
                204,
                None,
                None,
                NoBody,
                LengthField::None,
                false,
                true,
            ),
            (
                old,
                true,
                true,
                200,
                None,
                None,
                NoBody,
                LengthField::None,
                false,
                true,
            ),
        ] {
            let reply = Reply {
                status: StatusCode::from_u16(status).unwrap(),
                length,
                declared,
                closes: false,
            };
            let to = ReplyTo {
                version,
                is_head,
                persists,
            };
            let want = ReplyFraming {
                body,
                field,
                closes,
                says_keep_alive: keeps,
            };
            assert_eq!(reply.framing(&to), want, "{reply:?} {to:?}");
            let closing = Reply {
                closes: true,
                ..reply
            }
            .framing(&to);
            assert!(
                closing.closes && !closing.says_keep_alive,
                "{reply:?} {to:?}"
            );
        }
    }
}
