//! What the wire refuses, and why.

use std::error::Error;
use std::fmt;

/// How much of an offending value is kept to be shown.
const SHOWN_BYTES: usize = 80;

/// The start of an offending value, as it was received.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    start: Box<[u8]>,
    is_cut: bool,
}

/// A malformed, ambiguous or too large message. `Display` is a sentence with the offending value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// More empty lines before a request line than are tolerated.
    EmptyLines,
    /// A line that ends in LF without CR.
    BareLineFeed { line: Excerpt },
    /// A request line that is not `METHOD SP TARGET SP VERSION`.
    RequestLine { line: Excerpt },
    /// A status line that is not `VERSION SP STATUS SP [REASON]`.
    StatusLine { line: Excerpt },
    /// A version that is not `HTTP/DIGIT.DIGIT`.
    MalformedVersion { line: Excerpt },
    /// A version of another major number than 1.
    UnsupportedVersion { version: Excerpt },
    /// A request target in none of the four forms, or with bytes that may not be in it.
    Target { target: Excerpt },
    /// A path that is not UTF-8 once decoded.
    PathEncoding { path: Excerpt },
    /// A field line without colon, with a bad name, or with bytes that may not be in a value.
    Field { line: Excerpt },
    /// An HTTP/1.1 request without `Host`.
    NoHost,
    /// More than one `Host`.
    RepeatedHost,
    /// A `Host`, or the authority of a target, that is not a host with an optional port.
    Host { value: Excerpt },
    /// A `Content-Length` that is not a decimal number below 2^64.
    ContentLength { value: Excerpt },
    /// Several `Content-Length` fields, or one beside `Transfer-Encoding`.
    AmbiguousLength,
    /// A transfer coding that is not known here.
    TransferCoding { value: Excerpt },
    /// A `Transfer-Encoding` that is no list of codings with `chunked` once, as the last one.
    MalformedTransferCoding { value: Excerpt },
    /// A `Transfer-Encoding` in an HTTP/1.0 message.
    OldTransferCoding,
    /// An expectation other than `100-continue`.
    Expectation { value: Excerpt },
    /// A request line longer than the limit, in bytes.
    RequestLineTooLong { limit: usize },
    /// A head larger than the limit, in bytes.
    HeadTooLarge { limit: usize },
    /// More fields than the limit.
    TooManyFields { limit: usize },
    /// A chunk size that is not a hexadecimal number below 2^64.
    ChunkSize { line: Excerpt },
    /// A malformed chunk extension, or a size line that does not end in CR LF.
    ChunkLine { line: Excerpt },
    /// A chunk line longer than the limit, in bytes.
    ChunkLineTooLong { limit: usize },
    /// Chunk data that is not followed by CR LF.
    ChunkEnd { found: u8 },
    /// More chunk framing than the content is worth.
    ChunkOverhead { limit: u64 },
    /// A malformed trailer field.
    Trailer { line: Excerpt },
    /// A trailer section larger than the limit, in bytes.
    TrailersTooLarge { limit: usize },
    /// More trailer fields than the limit.
    TooManyTrailers { limit: usize },
    /// A body longer than is allowed.
    BodyTooLarge {
        /// The size of the chunk that is too much.
        size: u64,
        /// How many more bytes were allowed.
        room: u64,
    },
}

/// The kind of a [`Refusal`]: a closed set, for statuses and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the Refusal of the same name")]
pub(crate) enum Reason {
    EmptyLines,
    BareLineFeed,
    MalformedRequestLine,
    MalformedStatusLine,
    MalformedVersion,
    UnsupportedVersion,
    BadTarget,
    PathNotUtf8,
    MalformedField,
    MissingHost,
    RepeatedHost,
    BadHost,
    BadContentLength,
    AmbiguousLength,
    UnknownTransferCoding,
    MalformedTransferCoding,
    OldTransferCoding,
    UnknownExpectation,
    RequestLineTooLong,
    HeadTooLarge,
    TooManyFields,
    BadChunkSize,
    BadChunkLine,
    ChunkLineTooLong,
    BadChunkEnd,
    ChunkOverhead,
    BadTrailer,
    TrailersTooLarge,
    TooManyTrailers,
    BodyTooLarge,
}

impl Refusal {
    /// The kind of this refusal.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::EmptyLines => Reason::EmptyLines,
            Self::BareLineFeed { .. } => Reason::BareLineFeed,
            Self::RequestLine { .. } => Reason::MalformedRequestLine,
            Self::StatusLine { .. } => Reason::MalformedStatusLine,
            Self::MalformedVersion { .. } => Reason::MalformedVersion,
            Self::UnsupportedVersion { .. } => Reason::UnsupportedVersion,
            Self::Target { .. } => Reason::BadTarget,
            Self::PathEncoding { .. } => Reason::PathNotUtf8,
            Self::Field { .. } => Reason::MalformedField,
            Self::NoHost => Reason::MissingHost,
            Self::RepeatedHost => Reason::RepeatedHost,
            Self::Host { .. } => Reason::BadHost,
            Self::ContentLength { .. } => Reason::BadContentLength,
            Self::AmbiguousLength => Reason::AmbiguousLength,
            Self::TransferCoding { .. } => Reason::UnknownTransferCoding,
            Self::MalformedTransferCoding { .. } => Reason::MalformedTransferCoding,
            Self::OldTransferCoding => Reason::OldTransferCoding,
            Self::Expectation { .. } => Reason::UnknownExpectation,
            Self::RequestLineTooLong { .. } => Reason::RequestLineTooLong,
            Self::HeadTooLarge { .. } => Reason::HeadTooLarge,
            Self::TooManyFields { .. } => Reason::TooManyFields,
            Self::ChunkSize { .. } => Reason::BadChunkSize,
            Self::ChunkLine { .. } => Reason::BadChunkLine,
            Self::ChunkLineTooLong { .. } => Reason::ChunkLineTooLong,
            Self::ChunkEnd { .. } => Reason::BadChunkEnd,
            Self::ChunkOverhead { .. } => Reason::ChunkOverhead,
            Self::Trailer { .. } => Reason::BadTrailer,
            Self::TrailersTooLarge { .. } => Reason::TrailersTooLarge,
            Self::TooManyTrailers { .. } => Reason::TooManyTrailers,
            Self::BodyTooLarge { .. } => Reason::BodyTooLarge,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyLines => f.write_str("nothing but empty lines was received"),
            Self::BareLineFeed { line } => {
                write!(
                    f,
                    "the line {line} ends in LF without CR; lines end in CR LF"
                )
            }
            Self::RequestLine { line } => write!(
                f,
                "the request line {line} is not a method, a target and a version with one blank \
                 between them"
            ),
            Self::StatusLine { line } => {
                write!(
                    f,
                    "the status line {line} is not a version, a status and a reason"
                )
            }
            Self::MalformedVersion { line } => {
                write!(f, "{line} does not end in an HTTP version such as HTTP/1.1")
            }
            Self::UnsupportedVersion { version } => {
                write!(
                    f,
                    "the version {version} is not supported; HTTP/1.1 and HTTP/1.0 are"
                )
            }
            Self::Target { target } => write!(
                f,
                "the request target {target} is not a path with an optional query, an absolute \
                 URI, or *"
            ),
            Self::PathEncoding { path } => {
                write!(f, "the path {path} is not UTF-8 once percent-decoded")
            }
            Self::Field { line } => write!(
                f,
                "the field line {line} is not a name, a colon and a value without control bytes"
            ),
            Self::NoHost => f.write_str("the request has no Host field; HTTP/1.1 requires one"),
            Self::RepeatedHost => f.write_str("the request has more than one Host field"),
            Self::Host { value } => write!(f, "{value} is not a host with an optional port"),
            Self::ContentLength { value } => {
                write!(
                    f,
                    "the Content-Length {value} is not a decimal number below 2^64"
                )
            }
            Self::AmbiguousLength => f.write_str(
                "the length of the body is ambiguous: there are several Content-Length fields, \
                 or one beside Transfer-Encoding",
            ),
            Self::TransferCoding { value } => {
                write!(
                    f,
                    "the transfer coding {value} is not supported; chunked is"
                )
            }
            Self::MalformedTransferCoding { value } => write!(
                f,
                "the Transfer-Encoding {value} is not a list of codings that ends in chunked"
            ),
            Self::OldTransferCoding => {
                f.write_str("an HTTP/1.0 message has a Transfer-Encoding, which that version lacks")
            }
            Self::Expectation { value } => {
                write!(f, "the expectation {value} is not 100-continue")
            }
            Self::RequestLineTooLong { limit } => {
                write!(f, "the request line is longer than {limit} bytes")
            }
            Self::HeadTooLarge { limit } => write!(f, "the head is larger than {limit} bytes"),
            Self::TooManyFields { limit } => {
                write!(f, "the head has more than {limit} fields")
            }
            Self::ChunkSize { line } => {
                write!(
                    f,
                    "the chunk size {line} is not a hexadecimal number below 2^64"
                )
            }
            Self::ChunkLine { line } => write!(
                f,
                "the chunk line {line} is not a size with optional extensions that ends in CR LF"
            ),
            Self::ChunkLineTooLong { limit } => {
                write!(f, "a chunk line is longer than {limit} bytes")
            }
            Self::ChunkEnd { found } => write!(
                f,
                "chunk data is followed by \"{}\" instead of CR LF",
                found.escape_ascii()
            ),
            Self::ChunkOverhead { limit } => write!(
                f,
                "chunk sizes and extensions take more than {limit} bytes, which is too much for \
                 the content between them"
            ),
            Self::Trailer { line } => write!(
                f,
                "the trailer line {line} is not a name, a colon and a value without control bytes"
            ),
            Self::TrailersTooLarge { limit } => {
                write!(f, "the trailer section is larger than {limit} bytes")
            }
            Self::TooManyTrailers { limit } => {
                write!(f, "the trailer section has more than {limit} fields")
            }
            Self::BodyTooLarge { size, room } => write!(
                f,
                "the body is too large: a chunk of {size} bytes came where {room} more were allowed"
            ),
        }
    }
}

impl Error for Refusal {}

impl Excerpt {
    /// The start of `bytes`, up to a line end.
    pub(crate) fn line(bytes: &[u8]) -> Self {
        let line = bytes.split(|byte| *byte == b'\n').next();
        let line = line.unwrap_or_default();
        Self::from(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl From<&[u8]> for Excerpt {
    fn from(bytes: &[u8]) -> Self {
        let start = &bytes[..bytes.len().min(SHOWN_BYTES)];
        Self {
            start: start.into(),
            is_cut: start.len() < bytes.len(),
        }
    }
}

impl From<&str> for Excerpt {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.is_cut { "..." } else { "" };
        write!(f, "\"{}{rest}\"", self.start.escape_ascii())
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
