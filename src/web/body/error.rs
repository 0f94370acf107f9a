//! Why a body cannot be read to its end.

use std::error::Error;
use std::fmt;

/// Why a [`Body`](super::Body) cannot be read to its end.
///
/// `received` is how many bytes of content had come before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// The peer went away in the middle of the body.
    Truncated {
        /// Bytes of content that came.
        received: u64,
        /// What the peer had announced, if it had.
        length: Option<u64>,
    },
    /// The body is longer than was allowed.
    TooLarge {
        /// What was allowed, in bytes.
        limit: u64,
    },
    /// The body came more slowly than allowed, or not within its time.
    TooSlow {
        /// Bytes of content that came.
        received: u64,
    },
    /// The coding of the body is malformed.
    Malformed {
        /// Bytes of content that came.
        received: u64,
        /// The mistake, as a sentence.
        reason: String,
    },
    /// The response was completed before all of the request's body had come; the rest was thrown
    /// away.
    Answered {
        /// Bytes of content that came.
        received: u64,
    },
    /// Another `read` of the same body is still waiting.
    AlreadyReading,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated {
                received,
                length: Some(length),
            } => write!(
                f,
                "the body broke off after {received} of {length} bytes: the peer went away"
            ),
            Self::Truncated { received, .. } => write!(
                f,
                "the body broke off after {received} bytes: the peer went away"
            ),
            Self::TooLarge { limit } => write!(f, "the body is longer than {limit} bytes"),
            Self::TooSlow { received } => {
                write!(f, "the body came too slowly: {received} bytes in its time")
            }
            Self::Malformed { received, reason } => {
                write!(f, "the body is malformed after {received} bytes: {reason}")
            }
            Self::Answered { received } => write!(
                f,
                "the response was completed after {received} bytes of the request's body"
            ),
            Self::AlreadyReading => {
                f.write_str("another read of this body is still waiting: wait for it first")
            }
        }
    }
}

impl Error for BodyError {}
