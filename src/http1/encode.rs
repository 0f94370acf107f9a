//! What is written: lines, fields, chunks. Everything is appended to a buffer of the caller's.

use http::{Method, StatusCode};

use super::fields::{is_token, is_value};
use super::framing::{LengthField, ReplyFraming};

/// What ends each line, each head, and the data of each chunk.
pub(crate) const LINE_END: &[u8] = b"\r\n";

/// The interim response for which a client with `Expect: 100-continue` waits.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The end of a chunked body without trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Fields that a trailer section may not have: those about framing, routing, authentication, request
/// modifiers, caching and the content (RFC 9110, section 6.5.1).
const NOT_IN_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
];

/// Appends the status line of a response.
#[inline]
pub(crate) fn status_line(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = status.canonical_reason().unwrap_or("Unknown Status");
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(LINE_END);
}

/// Appends a request line. `target` was checked, or comes from a URI.
pub(crate) fn request_line(out: &mut Vec<u8>, method: &Method, target: &str) {
    debug_assert!(
        target.bytes().all(|byte| byte.is_ascii_graphic()),
        "{target:?}"
    );
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends a field with its name in the usual capitals, which some clients still look for.
///
/// `name` is a token in lower case, and `value` has no control bytes: both were checked when they
/// were set.
pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    debug_assert!(
        value.iter().all(|byte| is_value(*byte)),
        "{name}: {value:?}"
    );
    match name {
        "etag" => out.extend_from_slice(b"ETag"),
        "www-authenticate" => out.extend_from_slice(b"WWW-Authenticate"),
        _ => {
            let mut starts = true;
            out.extend(name.bytes().map(|byte| {
                let starts_here = std::mem::replace(&mut starts, byte == b'-');
                if starts_here {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                }
            }));
        }
    }
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
}

/// Appends `Content-Type`, which nearly every response has.
#[inline]
pub(crate) fn content_type(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(LINE_END);
}

/// Appends the fields that say where the body ends and whether the connection persists.
#[inline]
pub(crate) fn framing(out: &mut Vec<u8>, framing: &ReplyFraming) {
    match framing.field {
        LengthField::None => {}
        LengthField::ContentLength(length) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(LINE_END);
        }
        LengthField::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if framing.closes {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if framing.says_keep_alive {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

/// Appends what stands before the data of a chunk. `length` is not 0, which would end the body.
#[inline]
pub(crate) fn chunk_head(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "a chunk of 0 bytes ends the body");
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut left = length;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left % 16];
        left /= 16;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(LINE_END);
}

/// Appends a chunk. Nothing for empty data, as an empty chunk would end the body.
pub(crate) fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    chunk_head(out, data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(LINE_END);
}

/// Appends the last chunk and the trailers. Fields that may not be trailers are left out, and
/// control bytes in values become blanks.
pub(crate) fn last_chunk<'a>(
    out: &mut Vec<u8>,
    trailers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if name.is_empty() || !name.bytes().all(is_token) || is_forbidden_trailer(name) {
            continue;
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.iter().map(|byte| match is_value(*byte) {
            true => *byte,
            false => b' ',
        }));
        out.extend_from_slice(LINE_END);
    }
    out.extend_from_slice(LINE_END);
}

/// Whether a field may not be a trailer.
pub(crate) fn is_forbidden_trailer(name: &str) -> bool {
    NOT_IN_TRAILERS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}
