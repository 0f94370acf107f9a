//! The syntax of HTTP/1 messages (RFC 9112): bytes in, bytes out.
//!
//! There are no sockets, clocks or resources here. A server reads requests and writes responses
//! with this module; a client does the opposite.
//!
//! | file       | what it knows                                                                |
//! |------------|------------------------------------------------------------------------------|
//! | `request`  | request heads: the request line, and what the fields mean for the connection |
//! | `response` | response heads: the status line, and where the body ends                     |
//! | `scan`     | where a head ends                                                            |
//! | `target`   | the four forms of request targets, and their paths                           |
//! | `host`     | hosts with ports: the `Host` field and the authority of an absolute target   |
//! | `fields`   | lists of header or trailer fields                                            |
//! | `framing`  | what fields say about the body and the connection                            |
//! | `reply`    | how a response is framed, and whether the connection goes on after it        |
//! | `chunked`  | the decoder of the chunked transfer coding                                   |
//! | `encode`   | everything that is written: lines, fields, chunks                            |
//! | `refusal`  | everything that is refused, in both directions                               |
//! | `class`    | sets of bytes                                                                |

mod chunked;
mod class;
pub(crate) mod encode;
mod fields;
mod framing;
mod host;
mod refusal;
mod reply;
mod request;
mod response;
mod scan;
mod target;

#[allow(
    unused_imports,
    reason = "callers name some of these types only by inference"
)]
mod names {
    pub(crate) use super::chunked::{ChunkLimits, Decoded, Decoder};
    pub(crate) use super::fields::{Fields, is_field_value};
    pub(crate) use super::framing::{Framing, Version};
    pub(crate) use super::refusal::{Reason, Refusal};
    pub(crate) use super::reply::{BodyFraming, LengthField, Reply, ReplyFraming, ReplyTo};
    pub(crate) use super::request::{HeadLimits, Progress, RequestHead, RequestReader};
    pub(crate) use super::response::{ResponseHead, ResponseReader};
    pub(crate) use super::target::segment_length;
}
pub(crate) use names::*;
