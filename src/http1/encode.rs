//! Writing lines, fields and chunks, to the end of the caller's buffer.

use http::{Method, StatusCode};

use super::fields::{is_token, is_value};
use super::framing::Framing;
use super::host::is_host;
use super::refusal::Refusal;
use super::reply::{LengthField, ReplyFraming};
use super::target;

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

/// What a request asks for, and of which host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a Method,
    /// In one of the four forms of RFC 9112, section 3.2.
    pub(crate) target: &'a str,
    /// For the `Host` field; empty only where the target has no host.
    pub(crate) host: &'a str,
}

/// Appends a whole request head. Nothing that was not checked is written.
///
/// [Fields about the message](is_message_field) are left out of `fields`: these are decided by the
/// other arguments. `Connection` names `Upgrade` where that is among the fields.
///
/// # Errors
///
/// A bad target, host, or field.
pub(crate) fn request_head<'a>(
    out: &mut Vec<u8>,
    line: &RequestLine<'_>,
    fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: Framing,
    persists: bool,
) -> Result<(), Refusal> {
    let &RequestLine {
        method,
        target,
        host,
    } = line;
    target::parts(target, method)?;
    let may_lack_host = !target.starts_with('/');
    if !(is_host(host.as_bytes()) || host.is_empty() && may_lack_host) {
        return Err(Refusal::Host { value: host.into() });
    }
    let start = out.len();
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // First, as RFC 9110, 7.2 recommends.
    plain_field(out, "Host", host.as_bytes());
    let mut has_upgrade = false;
    for (name, value) in fields {
        if is_message_field(name) {
            continue;
        }
        let is_name = !name.is_empty() && name.bytes().all(is_token);
        if !is_name || !value.iter().copied().all(is_value) {
            out.truncate(start);
            return Err(Refusal::Field { line: name.into() });
        }
        has_upgrade |= name.eq_ignore_ascii_case("upgrade");
        plain_field(out, name, value);
    }
    match body {
        // A method that usually has a body says so if it has none (RFC 9110, 8.6).
        Framing::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
            out.extend_from_slice(b"Content-Length: 0\r\n");
        }
        Framing::None => {}
        Framing::Length(length) => {
            let mut digits = itoa::Buffer::new();
            plain_field(out, "Content-Length", digits.format(length).as_bytes());
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    match (persists, has_upgrade) {
        (true, false) => {}
        (true, true) => out.extend_from_slice(b"Connection: upgrade\r\n"),
        (false, false) => out.extend_from_slice(b"Connection: close\r\n"),
        (false, true) => out.extend_from_slice(b"Connection: upgrade, close\r\n"),
    }
    out.extend_from_slice(LINE_END);
    Ok(())
}

/// Whether a field is about the message and its connection, and so decided here and not by the
/// program.
pub(crate) fn is_message_field(name: &str) -> bool {
    ["host", "content-length", "transfer-encoding", "connection"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// Appends a field as it is.
fn plain_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn status_lines_have_a_reason() {
        for (status, want) in [
            (200, "HTTP/1.1 200 OK\r\n"),
            (404, "HTTP/1.1 404 Not Found\r\n"),
            (299, "HTTP/1.1 299 Unknown Status\r\n"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(written(|out| status_line(out, status)), want);
        }
    }

    #[test]
    fn names_have_their_usual_capitals() {
        for (name, want) in [
            ("location", "Location: x\r\n"),
            ("set-cookie", "Set-Cookie: x\r\n"),
            ("etag", "ETag: x\r\n"),
            ("www-authenticate", "WWW-Authenticate: x\r\n"),
            ("x-a--b1", "X-A--B1: x\r\n"),
        ] {
            assert_eq!(written(|out| field(out, name, b"x")), want);
        }
    }

    #[test]
    fn chunks_have_sizes_in_hexadecimal() {
        let text = written(|out| {
            chunk(out, b"abc");
            chunk(out, b"");
            chunk(out, &[b'x'; 26]);
            last_chunk(
                out,
                [
                    ("A", b"b\n".as_slice()),
                    ("Content-Length", b"3"),
                    ("b c", b""),
                ],
            );
        });
        let want = format!("3\r\nabc\r\n1a\r\n{}\r\n0\r\nA: b \r\n\r\n", "x".repeat(26));
        assert_eq!(text, want);
        assert_eq!(written(|out| last_chunk(out, [])).as_bytes(), LAST_CHUNK);
    }

    fn request(
        line: (&Method, &str, &str),
        fields: &[(&str, &[u8])],
        body: Framing,
        persists: bool,
    ) -> Result<String, Refusal> {
        let mut out = Vec::new();
        let (method, target, host) = line;
        let line = RequestLine {
            method,
            target,
            host,
        };
        let fields = fields.iter().copied();
        request_head(&mut out, &line, fields, body, persists)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn request_heads_say_what_is_asked() {
        let get = (&Method::GET, "/a?b", "h:80");
        let post = (&Method::POST, "/", "h");
        for (line, fields, body, persists, want) in [
            (
                get,
                &[][..],
                Framing::None,
                true,
                "GET /a?b HTTP/1.1\r\nHost: h:80\r\n\r\n",
            ),
            (
                get,
                &[
                    ("Accept", &b"*/*"[..]),
                    ("host", b"evil"),
                    ("CONNECTION", b"x"),
                ],
                Framing::None,
                false,
                "GET /a?b HTTP/1.1\r\nHost: h:80\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            ),
            (
                get,
                &[("Upgrade", b"websocket")],
                Framing::None,
                true,
                "GET /a?b HTTP/1.1\r\nHost: h:80\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            ),
            (
                post,
                &[],
                Framing::None,
                true,
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                post,
                &[("content-length", b"9"), ("transfer-encoding", b"gzip")],
                Framing::Length(5),
                true,
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
            ),
            (
                post,
                &[],
                Framing::Chunked,
                true,
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
        ] {
            assert_eq!(request(line, fields, body, persists).unwrap(), want);
        }
    }

    /// Nothing gets out of its place: no line break, no second field.
    #[test]
    fn request_heads_are_checked() {
        let get = Method::GET;
        for line in [
            (&get, "/a b", "h"),
            (&get, "/\r\nX: y", "h"),
            (&get, "", "h"),
            (&get, "a", "h"),
            (&get, "/", ""),
            (&get, "/", "h\r\nX: y"),
            (&get, "/", "h/a"),
        ] {
            assert!(request(line, &[], Framing::None, true).is_err(), "{line:?}");
        }
        for (name, value) in [
            ("A:", "b"),
            ("", "b"),
            ("A B", "c"),
            ("A", "b\r\nC: d"),
            ("A", "\0"),
        ] {
            let fields = [(name, value.as_bytes())];
            let outcome = request((&get, "/", "h"), &fields, Framing::None, true);
            assert!(outcome.is_err(), "{name:?} {value:?}");
        }
    }
}
