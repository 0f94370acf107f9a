//! Response heads: the status line, and what the fields mean for the body and the connection
//! (RFC 9112, sections 4 and 6.3).

use std::borrow::Cow;

use http::{Method, StatusCode};
use memchr::memchr;

use super::fields::Fields;
use super::framing::{Framing, Meaning, Version};
use super::refusal::{Excerpt, Refusal};
use super::reply::BodyFraming;
use super::request::{HeadLimits, Progress};
use super::scan::Scan;

/// Reads one response head after another, in whatever pieces their bytes come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ResponseReader {
    scan: Scan,
}

/// One response head.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    fields: Fields,
    reason: Vec<u8>,
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    /// Where the body ends.
    pub(crate) body: BodyFraming,
    /// Another request may follow on this connection, once the body is read.
    pub(crate) persists: bool,
}

impl ResponseReader {
    /// Reads a head that `data` begins with into `head`, as the response to a request of this
    /// method; how much of `data` was used.
    ///
    /// What was not used is to be shown again, with what comes behind it. Behind an
    /// [interim](ResponseHead::is_interim) head, another one follows.
    pub(crate) fn read(
        &mut self,
        head: &mut ResponseHead,
        data: &[u8],
        limits: &HeadLimits,
        method: &Method,
    ) -> Result<(usize, Progress), Refusal> {
        if data.is_empty() {
            return Ok((0, Progress::Nothing));
        }
        let Some(length) = self.scan.find_end(data, limits)? else {
            return Ok((0, Progress::Begun));
        };
        head.read(&data[..length], limits, method)?;
        *self = Self::default();
        Ok((length, Progress::Complete))
    }
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            fields: Fields::default(),
            reason: Vec::new(),
            status: StatusCode::OK,
            version: Version::Http11,
            body: BodyFraming::NoBody,
            persists: false,
        }
    }
}

impl ResponseHead {
    /// The fields in the order in which they came.
    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The text behind the status, as it came; it means nothing to a program.
    pub(crate) fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Whether the final response is still to come (RFC 9110, 15.2). 101 is final: the connection
    /// is another protocol's.
    pub(crate) fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// Reads a complete head, over what was here before.
    fn read(&mut self, head: &[u8], limits: &HeadLimits, method: &Method) -> Result<(), Refusal> {
        let head = &*unfold(head);
        let start = self.read_line(head)?;
        let version = self.version;
        let mut meaning = Meaning::default();
        let found = self
            .fields
            .find(head, start, limits.fields, |name, value| {
                meaning.add(name, value, version)
            })?;
        if found.is_none() {
            return Err(Refusal::Field {
                line: Excerpt::line(&head[start..]),
            });
        }
        self.fields.keep(head);
        self.understand(&meaning, method)
    }

    /// `VERSION SP 3DIGIT [ SP REASON ] CR LF`; how long it is. Some servers leave out the blank in
    /// front of an empty reason.
    fn read_line(&mut self, head: &[u8]) -> Result<usize, Refusal> {
        let length = memchr(b'\n', head).unwrap_or_default();
        let line = head[..length].strip_suffix(b"\r").unwrap_or_default();
        let bad = || Refusal::StatusLine { line: line.into() };
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let (Some(version), Some(status)) = (parts.next(), parts.next()) else {
            return Err(bad());
        };
        let reason = parts.next().unwrap_or_default();
        if !version.starts_with(b"HTTP/")
            || !reason.iter().all(|byte| super::fields::is_value(*byte))
        {
            return Err(bad());
        }
        self.version = Version::parse(version, line)?;
        self.status = StatusCode::from_bytes(status).map_err(|_| bad())?;
        self.reason.clear();
        self.reason.extend_from_slice(reason);
        Ok(length + 1)
    }

    /// Decides where the body ends (RFC 9112, 6.3).
    fn understand(&mut self, meaning: &Meaning<'_>, method: &Method) -> Result<(), Refusal> {
        let status = self.status;
        let is_tunnel = *method == Method::CONNECT && status.is_success();
        let has_no_body = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || is_tunnel;
        self.body = match meaning.framing() {
            _ if has_no_body => BodyFraming::NoBody,
            Err(refusal) => return Err(refusal),
            Ok(Framing::Chunked) => BodyFraming::Chunked,
            Ok(Framing::Length(length)) => BodyFraming::Length(length),
            Ok(Framing::None) if meaning.has_length() => BodyFraming::Length(0),
            Ok(Framing::None) => BodyFraming::UntilClose,
        };
        // A connection that became a tunnel, or another protocol's, has no next response.
        let is_given_away = is_tunnel || status == StatusCode::SWITCHING_PROTOCOLS;
        self.persists = meaning.persists(self.version)
            && self.body != BodyFraming::UntilClose
            && !is_given_away;
        Ok(())
    }
}

/// `head` with each folded line joined to the one before it, of the same length (RFC 9112, 5.2: a
/// user agent MUST replace what folds a line by blanks).
fn unfold(head: &[u8]) -> Cow<'_, [u8]> {
    let is_fold = |four: &[u8]| matches!(four, [b'\r', b'\n', b' ' | b'\t']);
    // What follows the status line belongs to no field.
    let fields = memchr(b'\n', head).unwrap_or_default();
    if !head[fields..].windows(3).any(is_fold) {
        return Cow::Borrowed(head);
    }
    let mut head = head.to_vec();
    for at in fields..head.len() - 2 {
        if is_fold(&head[at..at + 3]) {
            head[at] = b' ';
            head[at + 1] = b' ';
        }
    }
    Cow::Owned(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Reason;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 400,
        line_bytes: 100,
        fields: 10,
    };

    fn read(method: &Method, bytes: &[u8]) -> Result<(ResponseHead, usize), Refusal> {
        let mut head = ResponseHead::default();
        let mut reader = ResponseReader::default();
        let (used, progress) = reader.read(&mut head, bytes, &LIMITS, method)?;
        assert_eq!(progress, Progress::Complete);
        Ok((head, used))
    }

    fn get(lines: &str) -> Result<ResponseHead, Refusal> {
        read(&Method::GET, format!("{lines}\r\n\r\n").as_bytes()).map(|(head, _)| head)
    }

    /// RFC 9112, 6.3, in its order.
    #[test]
    fn the_body_ends_where_method_status_and_fields_say() {
        use BodyFraming::{Chunked, Length, NoBody, UntilClose};
        let (get, head) = (Method::GET, Method::HEAD);
        let connect = Method::CONNECT;
        for (method, lines, body, persists) in [
            (
                &get,
                "HTTP/1.1 200 OK\r\nContent-Length: 5",
                Length(5),
                true,
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\nContent-Length: 0",
                Length(0),
                true,
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked",
                Chunked,
                true,
            ),
            (&get, "HTTP/1.1 200 OK", UntilClose, false),
            (
                &get,
                "HTTP/1.1 200 OK\r\nConnection: keep-alive",
                UntilClose,
                false,
            ),
            (
                &get,
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, close",
                Length(5),
                false,
            ),
            (
                &get,
                "HTTP/1.0 200 OK\r\nContent-Length: 5",
                Length(5),
                false,
            ),
            (
                &get,
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive",
                Length(5),
                true,
            ),
            (&get, "HTTP/1.0 200 OK", UntilClose, false),
            (
                &get,
                "HTTP/1.5 200 OK\r\nContent-Length: 5",
                Length(5),
                true,
            ),
            (&get, "HTTP/1.1 204 No Content", NoBody, true),
            (
                &get,
                "HTTP/1.1 204 No Content\r\nContent-Length: 5",
                NoBody,
                true,
            ),
            (
                &get,
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5",
                NoBody,
                true,
            ),
            (
                &get,
                "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked",
                NoBody,
                true,
            ),
            (&get, "HTTP/1.1 100 Continue", NoBody, true),
            (&get, "HTTP/1.1 101 Switching Protocols", NoBody, false),
            (&head, "HTTP/1.1 200 OK\r\nContent-Length: 5", NoBody, true),
            (
                &head,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
                NoBody,
                true,
            ),
            (&head, "HTTP/1.1 200 OK", NoBody, true),
            (
                &connect,
                "HTTP/1.1 200 OK\r\nContent-Length: 5",
                NoBody,
                false,
            ),
            (
                &connect,
                "HTTP/1.1 407 No\r\nContent-Length: 5",
                Length(5),
                true,
            ),
        ] {
            let (found, _) = read(method, format!("{lines}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(
                (found.body, found.persists),
                (body, persists),
                "{method} {lines}"
            );
        }
    }

    #[test]
    fn status_lines_are_read() {
        for (line, status, reason, version) in [
            ("HTTP/1.1 200 OK", 200, "OK", Version::Http11),
            ("HTTP/1.1 200 ", 200, "", Version::Http11),
            ("HTTP/1.0 404", 404, "", Version::Http10),
            (
                "HTTP/1.1 599 a  b\t\u{e9}",
                599,
                "a  b\t\u{e9}",
                Version::Http11,
            ),
        ] {
            let head = get(line).unwrap();
            assert_eq!(head.status, status, "{line:?}");
            assert_eq!(head.reason(), reason.as_bytes(), "{line:?}");
            assert_eq!(head.version, version, "{line:?}");
        }
    }

    #[test]
    fn malformed_status_lines_are_refused() {
        for (line, reason) in [
            ("HTTP/1.1", Reason::MalformedStatusLine),
            ("HTTP/1.1 ", Reason::MalformedStatusLine),
            ("HTTP/1.1  200 OK", Reason::MalformedStatusLine),
            ("HTTP/1.1 20 OK", Reason::MalformedStatusLine),
            ("HTTP/1.1 2000 OK", Reason::MalformedStatusLine),
            ("HTTP/1.1 099 OK", Reason::MalformedStatusLine),
            ("HTTP/1.1 +20 OK", Reason::MalformedStatusLine),
            ("HTTP/1.1 200 O\0K", Reason::MalformedStatusLine),
            ("HTTP/1.1 200 O\rK", Reason::MalformedStatusLine),
            ("HTTP/1.1\t200 OK", Reason::MalformedVersion),
            (" HTTP/1.1 200 OK", Reason::MalformedStatusLine),
            ("ICY 200 OK", Reason::MalformedStatusLine),
            ("http/1.1 200 OK", Reason::MalformedStatusLine),
            ("SSH-2.0-x y", Reason::MalformedStatusLine),
            ("HTTP/1.10 200 OK", Reason::MalformedVersion),
            ("HTTP/2.0 200 OK", Reason::UnsupportedVersion),
            ("HTTP/1.1 200 OK\n", Reason::BareLineFeed),
        ] {
            assert_eq!(get(line).unwrap_err().reason(), reason, "{line:?}");
        }
    }

    /// Ambiguous framing is refused, as the rest of one response would be taken for the next.
    #[test]
    fn malformed_fields_of_responses_are_refused() {
        for (fields, reason) in [
            (
                "Content-Length: 5\r\nContent-Length: 5",
                Reason::AmbiguousLength,
            ),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                Reason::AmbiguousLength,
            ),
            ("Content-Length: +5", Reason::BadContentLength),
            ("Transfer-Encoding: gzip", Reason::UnknownTransferCoding),
            (
                "Transfer-Encoding: chunked, gzip",
                Reason::MalformedTransferCoding,
            ),
            ("A : b", Reason::MalformedField),
            ("A: b\0", Reason::MalformedField),
            ("A", Reason::MalformedField),
        ] {
            let error = get(&format!("HTTP/1.1 200 OK\r\n{fields}")).unwrap_err();
            assert_eq!(error.reason(), reason, "{fields:?}");
        }
        let old = get("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked").unwrap_err();
        assert_eq!(old.reason(), Reason::OldTransferCoding);
        let folded = get("HTTP/1.1 200 OK\r\n folded: x").unwrap_err();
        assert_eq!(folded.reason(), Reason::MalformedField);
        let many = get(&format!("HTTP/1.1 200 OK{}", "\r\nA: b".repeat(11))).unwrap_err();
        assert_eq!(many, Refusal::TooManyFields { limit: 10 });
        let large = get(&format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(400))).unwrap_err();
        assert_eq!(large, Refusal::HeadTooLarge { limit: 400 });
    }

    #[test]
    fn folded_lines_of_responses_are_joined() {
        let head = get("HTTP/1.1 200 OK\r\nA: b\r\n  c\r\n\td\r\nE: f").unwrap();
        assert_eq!(head.fields().last("a"), Some(&b"b    c  \td"[..]));
        assert_eq!(head.fields().last("e"), Some(&b"f"[..]));
    }

    /// RFC 9110, 15.2: a client reads any number of interim responses before the final one.
    #[test]
    fn interim_heads_come_before_the_final_one() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let mut rest = bytes.as_slice();
        let mut statuses = Vec::new();
        loop {
            let (head, used) = read(&Method::POST, rest).unwrap();
            rest = &rest[used..];
            statuses.push(head.status.as_u16());
            if !head.is_interim() {
                break;
            }
        }
        assert_eq!(
            (statuses.as_slice(), rest),
            (&[100, 103, 200][..], &b"hi"[..])
        );
    }
}
