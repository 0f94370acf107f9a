//! The syntax of HTTP/1 messages (RFC 9112): bytes in, bytes out.
//!
//! There are no sockets, clocks or resources here. A server reads requests and writes responses
//! with this module; a client does the opposite.
//!
//! | file      | what it knows                                                                  |
//! |-----------|--------------------------------------------------------------------------------|
//! | `scan`    | where a head ends                                                              |
//! | `request` | request heads: the request line, and what the fields mean for the connection   |
//! | `target`  | the four forms of request targets, and their paths                             |
//! | `host`    | hosts with ports: the `Host` field and the authority of an absolute target     |
//! | `fields`  | lists of header or trailer fields                                              |
//! | `chunked` | the decoder of the chunked transfer coding                                     |
//! | `framing` | how a message body ends, and whether the connection persists                   |
//! | `encode`  | everything that is written: lines, fields, chunks                              |
//! | `refusal` | everything that is refused, in both directions                                 |

mod chunked;
pub(crate) mod encode;
mod fields;
mod framing;
mod host;
mod refusal;
mod request;
mod scan;
mod target;

#[allow(
    unused_imports,
    reason = "callers name some of these types only by inference"
)]
pub(crate) use chunked::{ChunkLimits, Decoded, Decoder};
#[allow(
    unused_imports,
    reason = "callers name some of these types only by inference"
)]
pub(crate) use framing::{
    BodyFraming, Framing, LengthField, Reply, ReplyFraming, ReplyTo, Version,
};
pub(crate) use refusal::{Reason, Refusal};
pub(crate) use request::{HeadLimits, Progress, RequestHead, RequestReader};
