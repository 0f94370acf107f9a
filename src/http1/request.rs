//! Request heads: the request line and the header fields (RFC 9112, sections 2 to 5).
//!
//! Most heads come whole and are as they should be: `RequestHead::parse` reads these in one pass.
//! For all others, `Scan::find_end` looks for the empty line first, from where the last look ended,
//! and refuses line ends that are not CR LF. So a head that comes a byte at a time is parsed once,
//! and what is refused does not depend on how the bytes came.
//!
//! Whatever two readers could understand differently is refused.

use http::Method;
use memchr::memchr;

use super::fields::{Fields, Line, Place, is_token, look_at_line, trim};
use super::framing::{Framing, Version};
use super::host::is_host;
use super::refusal::{Excerpt, Refusal};
use super::scan::Scan;
use super::target::{self, Parts, plain_length};

/// Empty lines tolerated before a request line (RFC 9112, 2.2).
const EMPTY_LINES: u8 = 4;

/// What a client may send in one head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Request line and fields together.
    pub(crate) bytes: usize,
    /// The request line alone.
    pub(crate) line_bytes: usize,
    pub(crate) fields: usize,
}

/// Reads one request head after another, in whatever pieces their bytes come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestReader {
    scan: Scan,
    /// Empty lines since the last request.
    empty_lines: u8,
    has_begun: bool,
}

/// How far a request head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing of it has come, apart from empty lines before it.
    Nothing,
    /// It has begun.
    Begun,
    /// It is complete, and the reader is ready for the next one.
    Complete,
}

impl RequestReader {
    /// Reads a head that `data` begins with into `head`; how much of `data` was used.
    ///
    /// What was not used is to be shown again, with what comes behind it.
    #[inline]
    pub(crate) fn read(
        &mut self,
        head: &mut RequestHead,
        data: &[u8],
        limits: &HeadLimits,
    ) -> Result<(usize, Progress), Refusal> {
        if !self.has_begun
            && let Some(length) = head.read_at_once(data, limits)
        {
            self.empty_lines = 0;
            return Ok((length, Progress::Complete));
        }
        self.read_in_pieces(head, data, limits)
    }

    fn read_in_pieces(
        &mut self,
        head: &mut RequestHead,
        data: &[u8],
        limits: &HeadLimits,
    ) -> Result<(usize, Progress), Refusal> {
        let mut skipped = 0;
        while !self.has_begun && data[skipped..].starts_with(b"\r\n") {
            skipped += 2;
            self.empty_lines += 1;
            if self.empty_lines > EMPTY_LINES {
                return Err(Refusal::EmptyLines);
            }
        }
        let rest = &data[skipped..];
        if matches!(rest, [] | [b'\r']) {
            return Ok((skipped, Progress::Nothing));
        }
        self.has_begun = true;
        let Some(length) = self.scan.find_end(rest, limits)? else {
            return Ok((skipped, Progress::Begun));
        };
        head.read(&rest[..length], limits)?;
        *self = Self::default();
        Ok((skipped + length, Progress::Complete))
    }
}

/// One request head: its bytes, and where in them things are.
#[derive(Debug)]
pub(crate) struct RequestHead {
    fields: Fields,
    /// Copied out, as a `str`: it is looked at several times, and checked once.
    target: String,
    parts: Parts,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    /// Another request may follow on this connection. HTTP/1.0 clients have to ask for that.
    pub(crate) persists: bool,
    /// The client would go on with one of the protocols in its `Upgrade` field.
    pub(crate) wants_upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            fields: Fields::default(),
            target: String::new(),
            parts: Parts::default(),
            method: Method::GET,
            version: Version::Http11,
            framing: Framing::None,
            persists: true,
            wants_upgrade: false,
            expects_continue: false,
        }
    }
}

impl RequestHead {
    /// Reads a head that `data` begins with, over what was here before; its length.
    ///
    /// `None` if it is not all there, or if anything is wrong with it.
    #[inline]
    fn read_at_once(&mut self, data: &[u8], limits: &HeadLimits) -> Option<usize> {
        self.parse(data, limits).ok()?
    }

    /// Reads a complete head, as [`Scan::find_end`] has found it, over what was here before.
    fn read(&mut self, head: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        match self.parse(head, limits)? {
            Some(_) => Ok(()),
            None => Err(request_line(head)),
        }
    }

    /// The length of the head, if all of it is there.
    fn parse(&mut self, data: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        let Some(mut at) = self.parse_line(data)? else {
            return Ok(None);
        };
        if at - 1 > limits.line_bytes {
            return Err(Refusal::RequestLineTooLong {
                limit: limits.line_bytes,
            });
        }
        self.fields.places.clear();
        let mut meaning = Meaning::default();
        loop {
            match look_at_line(&data[at..]) {
                Line::Field { name, value_end } => {
                    let line = &data[at..at + value_end];
                    let value = trim(&line[name + 1..]);
                    if self.fields.places.len() >= limits.fields {
                        return Err(Refusal::TooManyFields {
                            limit: limits.fields,
                        });
                    }
                    let start = value.as_ptr() as usize - data.as_ptr() as usize;
                    self.fields.places.push(Place {
                        name: at..at + name,
                        value: start..start + value.len(),
                    });
                    meaning.add(&line[..name], value, self.version)?;
                    at += value_end + 2;
                }
                Line::End => break,
                Line::Partial => return Ok(None),
                Line::Bad => {
                    return Err(Refusal::Field {
                        line: Excerpt::line(&data[at..]),
                    });
                }
            }
        }
        let length = at + 2;
        if length > limits.bytes {
            return Err(Refusal::HeadTooLarge {
                limit: limits.bytes,
            });
        }
        self.fields.bytes.clear();
        self.fields.bytes.extend_from_slice(&data[..length]);
        self.understand(&meaning)?;
        Ok(Some(length))
    }

    /// Reads the request line; how long it is with its end, if all of it is there.
    #[inline]
    fn parse_line(&mut self, data: &[u8]) -> Result<Option<usize>, Refusal> {
        // What nearly all requests are.
        if let Some(rest) = data.strip_prefix(b"GET ")
            && let Some(length) = plain_length(rest)
            && rest[0] == b'/'
            && rest[length..].starts_with(b" HTTP/1.1\r\n")
        {
            self.method = Method::GET;
            self.version = Version::Http11;
            self.set_target(&rest[..length]);
            self.parts.path = 0..length;
            self.parts.has_escapes = false;
            self.parts.authority = None;
            return Ok(Some(4 + length + 11));
        }
        self.parse_any_line(data)
    }

    fn parse_any_line(&mut self, data: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some(length) = memchr(b'\n', data) else {
            return Ok(None);
        };
        let bad = || request_line(data);
        let line = data[..length].strip_suffix(b"\r").ok_or_else(bad)?;
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let is_visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        if target.is_empty() || !target.iter().all(is_visible) || version.is_empty() {
            return Err(bad());
        }
        self.method = Method::from_bytes(method).map_err(|_| bad())?;
        self.version = match version {
            b"HTTP/1.0" => Version::Http10,
            // A higher minor version is spoken as the highest that is known (RFC 9112, 2.3).
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Refusal::UnsupportedVersion {
                    version: version.into(),
                });
            }
            _ => return Err(Refusal::MalformedVersion { line: line.into() }),
        };
        let text = std::str::from_utf8(target).map_err(|_| Refusal::Target {
            target: target.into(),
        })?;
        self.parts = target::parts(text, &self.method)?;
        self.set_target(target);
        Ok(Some(length + 1))
    }

    /// Copies a target that was checked, and is ASCII.
    #[inline]
    fn set_target(&mut self, target: &[u8]) {
        self.target.clear();
        self.target
            .push_str(std::str::from_utf8(target).unwrap_or_default());
    }

    /// Decides what the fields mean for the connection.
    #[inline]
    fn understand(&mut self, meaning: &Meaning<'_>) -> Result<(), Refusal> {
        self.framing = match (meaning.length, meaning.is_chunked) {
            (Some(_), true) => return Err(Refusal::AmbiguousLength),
            (None, true) => Framing::Chunked,
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        let is_new = self.version == Version::Http11;
        match meaning.host {
            None if is_new => return Err(Refusal::NoHost),
            // Nothing else names the host (RFC 9112, 3.3).
            Some(b"") if is_new && self.target.starts_with('/') => {
                return Err(Refusal::Host {
                    value: b"".as_slice().into(),
                });
            }
            _ => {}
        }
        if self.parts.authority.is_some() {
            self.replace_host();
        }
        self.persists = !meaning.closes && (is_new || meaning.keeps_alive);
        self.wants_upgrade = is_new && meaning.has_upgrade && meaning.names_upgrade;
        self.expects_continue =
            is_new && meaning.expectation.is_some() && self.framing != Framing::None;
        match meaning.expectation {
            Some(value) if !value.eq_ignore_ascii_case(b"100-continue") => {
                Err(Refusal::Expectation {
                    value: value.into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Puts the authority of an absolute target in the place of `Host` (RFC 9112, 3.2.2).
    fn replace_host(&mut self) {
        let Some(authority) = self.parts.authority.clone() else {
            return;
        };
        let Fields { bytes, places } = &mut self.fields;
        // The target stands behind the method and a blank.
        let start = self.method.as_str().len() + 1;
        let value = start + authority.start..start + authority.end;
        let is_host = |place: &&mut Place| bytes[place.name.clone()].eq_ignore_ascii_case(b"host");
        match places.iter_mut().find(is_host) {
            Some(place) => place.value = value,
            None => {
                let name = bytes.len();
                bytes.extend_from_slice(b"host");
                places.push(Place {
                    name: name..name + 4,
                    value,
                });
            }
        }
    }

    /// The request target as it came.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The path of the target, still encoded; the whole target where that has none.
    pub(crate) fn path(&self) -> &str {
        &self.target[self.parts.path.clone()]
    }

    /// Whether anything in the path is percent-encoded.
    pub(crate) fn has_escapes(&self) -> bool {
        self.parts.has_escapes
    }

    /// Host and port that the request is for, if it names any: the authority of an absolute
    /// target, or else the `Host` field.
    pub(crate) fn host(&self) -> Option<&str> {
        let value = self.fields.last("host")?;
        std::str::from_utf8(value)
            .ok()
            .filter(|host| !host.is_empty())
    }

    /// What follows the first question mark.
    pub(crate) fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The fields in the order in which they came.
    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }
}

/// What the fields of a head say about its body and its connection.
#[derive(Debug, Default)]
struct Meaning<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
    has_upgrade: bool,
    names_upgrade: bool,
    expectation: Option<&'a [u8]>,
}

impl<'a> Meaning<'a> {
    /// Takes a field into account. Told apart by length first: most fields are none of these.
    #[inline]
    fn add(&mut self, name: &[u8], value: &'a [u8], version: Version) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(Refusal::RepeatedHost);
                }
                if !value.is_empty() && !is_host(value) {
                    return Err(Refusal::Host {
                        value: value.into(),
                    });
                }
                self.host = Some(value);
            }
            6 if name.eq_ignore_ascii_case(b"expect") => self.expectation = Some(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.has_upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|byte| *byte == b',').map(trim) {
                    self.closes |= option.eq_ignore_ascii_case(b"close");
                    self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.names_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::AmbiguousLength);
                }
                self.length = Some(parse_content_length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if version == Version::Http10 {
                    return Err(Refusal::OldTransferCoding);
                }
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad_coding(value, self.is_chunked));
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }
}

fn request_line(head: &[u8]) -> Refusal {
    Refusal::RequestLine {
        line: Excerpt::line(head),
    }
}

/// Refuses a `Transfer-Encoding` that is not `chunked` alone (RFC 9112, section 6.3), or follows
/// one that is.
pub(super) fn bad_coding(value: &[u8], follows_chunked: bool) -> Refusal {
    let is_coding = |coding: &[u8]| !coding.is_empty() && coding.iter().copied().all(is_token);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings: Vec<_> = value.split(|byte| *byte == b',').map(trim).collect();
    let (_, but_last) = codings.split_last().unwrap_or((&value, &[]));
    let are_codings = codings.iter().all(|coding| is_coding(coding));
    let value = value.into();
    if are_codings && !follows_chunked && !but_last.iter().any(|coding| is_chunked(coding)) {
        Refusal::TransferCoding { value }
    } else {
        Refusal::MalformedTransferCoding { value }
    }
}

/// Digits only: `str::parse` would also take a leading `+`, which a proxy in front may read
/// differently from us (RFC 9110, 8.6).
pub(super) fn parse_content_length(value: &[u8]) -> Result<u64, Refusal> {
    let number = match value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        true => None,
        false => std::str::from_utf8(value)
            .ok()
            .and_then(|digits| digits.parse().ok()),
    };
    number.ok_or_else(|| Refusal::ContentLength {
        value: value.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;
    use crate::http1::Reason;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 400,
        line_bytes: 100,
        fields: 40,
    };

    fn read(bytes: &[u8]) -> Result<RequestHead, Refusal> {
        let mut head = RequestHead::default();
        let end = Scan::default()
            .find_end(bytes, &LIMITS)?
            .expect("a complete head");
        head.read(&bytes[..end], &LIMITS)?;
        Ok(head)
    }

    fn line(line: &str) -> Result<RequestHead, Refusal> {
        read(format!("{line}\r\nHost: h\r\n\r\n").as_bytes())
    }

    fn field(field: &str) -> Result<RequestHead, Refusal> {
        read(format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n").as_bytes())
    }

    /// W-42.
    #[test]
    fn malformed_request_lines_are_refused() {
        for (bad, want) in [
            ("GET  / HTTP/1.1", Reason::MalformedRequestLine),
            ("GET /  HTTP/1.1", Reason::MalformedRequestLine),
            (" GET / HTTP/1.1", Reason::MalformedRequestLine),
            ("GET / HTTP/1.1 ", Reason::MalformedRequestLine),
            ("GET /", Reason::MalformedRequestLine),
            ("GET", Reason::MalformedRequestLine),
            ("GET HTTP/1.1", Reason::MalformedRequestLine),
            ("G\u{1}T / HTTP/1.1", Reason::MalformedRequestLine),
            ("GET /\0 HTTP/1.1", Reason::MalformedRequestLine),
            ("GET / HTTP/1.32", Reason::MalformedVersion),
            ("GET / HTTP/2.0", Reason::UnsupportedVersion),
            ("GET / HTTP/0.9", Reason::UnsupportedVersion),
            ("GET / http/1.1", Reason::MalformedVersion),
            ("GET /a#b HTTP/1.1", Reason::BadTarget),
            ("GET /%zz HTTP/1.1", Reason::BadTarget),
            ("GET /%4 HTTP/1.1", Reason::BadTarget),
            ("GET /\u{fc} HTTP/1.1", Reason::BadTarget),
            ("GET relative HTTP/1.1", Reason::BadTarget),
            ("GET ftp://h/ HTTP/1.1", Reason::BadTarget),
        ] {
            let error = line(bad).unwrap_err().reason();
            assert_eq!(error, want, "{bad:?}");
        }
    }

    #[test]
    fn targets_have_a_path_and_a_query() {
        for (target, path, query) in [
            ("/", "/", None),
            ("/a/b?c=d", "/a/b", Some("c=d")),
            ("/a??", "/a", Some("?")),
            ("//evil/x", "//evil/x", None),
            ("http://h/a?b", "/a", Some("b")),
            ("HTTP://h", "/", None),
            ("https://h?b", "/", Some("b")),
            ("*", "*", None),
        ] {
            let head = line(&format!("GET {target} HTTP/1.1")).unwrap();
            assert_eq!((head.path(), head.query()), (path, query), "{target:?}");
        }
    }

    /// W-43.
    #[test]
    fn malformed_fields_are_refused() {
        for bad in [
            "No colon",
            "Name : x",
            "N\u{e4}me: x",
            "N(me: x",
            "A: b\0c",
            ": x",
            " A: b",
        ] {
            assert_eq!(
                field(bad).unwrap_err().reason(),
                Reason::MalformedField,
                "{bad:?}"
            );
        }
        assert_eq!(
            read(b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n")
                .unwrap_err()
                .reason(),
            Reason::MalformedField
        );
    }

    #[test]
    fn lines_end_in_carriage_return_and_line_feed() {
        for bad in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\n",
        ] {
            let found = Scan::default().find_end(bad.as_bytes(), &LIMITS);
            assert_eq!(found.unwrap_err().reason(), Reason::BareLineFeed, "{bad:?}");
        }
    }

    /// W-44.
    #[test]
    fn ambiguous_framing_is_refused() {
        for bad in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(
                field(bad).unwrap_err().reason(),
                Reason::AmbiguousLength,
                "{bad:?}"
            );
        }
        for bad in ["gzip", "gzip, chunked", "identity", "xchunked", "a, b"] {
            let error = field(&format!("Transfer-Encoding: {bad}")).unwrap_err();
            assert_eq!(error.reason(), Reason::UnknownTransferCoding, "{bad:?}");
        }
        for bad in [
            "",
            ",",
            ",chunked",
            "chunked,",
            "chunked;x=y",
            "chunked, gzip",
            "chunked, chunked",
            "\"chunked\"",
            "\u{a0}chunked",
            "chunked\u{85}",
            "chun ked",
            "chunked;",
        ] {
            let error = field(&format!("Transfer-Encoding: {bad}")).unwrap_err();
            assert_eq!(error.reason(), Reason::MalformedTransferCoding, "{bad:?}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(old).unwrap_err().reason(), Reason::OldTransferCoding);
    }

    /// W-44.
    #[test]
    fn content_length_is_digits_only() {
        for (value, want) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("+42", None),
            ("-1", None),
            ("4 2", None),
            ("4,4", None),
            ("0x4", None),
            ("", None),
            ("18446744073709551616", None), // u64::MAX + 1
        ] {
            assert_eq!(
                parse_content_length(value.as_bytes()).ok(),
                want,
                "value {value:?}"
            );
        }
    }

    #[test]
    fn a_request_has_one_host() {
        assert_eq!(
            read(b"GET / HTTP/1.1\r\n\r\n").unwrap_err().reason(),
            Reason::MissingHost
        );
        assert_eq!(
            field("Host: other").unwrap_err().reason(),
            Reason::RepeatedHost
        );
        assert!(read(b"GET / HTTP/1.0\r\n\r\n").is_ok());
    }

    /// F-22. RFC 9112, 3.2.2: the authority of an absolute target replaces the Host field.
    #[test]
    fn the_host_is_that_of_the_target_or_of_the_field() {
        for (lines, host) in [
            ("GET / HTTP/1.1\r\nHost: h:80", Some("h:80")),
            ("GET http://a/b HTTP/1.1\r\nX: y\r\nHost: other", Some("a")),
            ("POST https://[::1]:8/ HTTP/1.1\r\nHost:", Some("[::1]:8")),
            ("GET http://a HTTP/1.0\r\nX: y", Some("a")),
            ("GET / HTTP/1.0", None),
            ("GET / HTTP/1.0\r\nHost:", None),
            ("OPTIONS * HTTP/1.1\r\nHost:", None),
        ] {
            let head = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(head.host(), host, "{lines}");
        }
    }

    /// RFC 9110, 7.8: HTTP/1.0 has no Upgrade, and elsewhere Connection names it.
    #[test]
    fn an_upgrade_is_wanted_where_both_fields_say_so() {
        for (lines, wants) in [
            (
                "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Upgrade\r\nUpgrade: websocket",
                true,
            ),
            ("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket", false),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade", false),
            (
                "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket",
                false,
            ),
        ] {
            let head = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(head.wants_upgrade, wants, "{lines}");
        }
    }

    #[test]
    fn connection_options_are_understood() {
        for (lines, closes) in [
            ("GET / HTTP/1.1\r\nHost: h", false),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: Close", true),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: te, close", true),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: closed", false),
            ("GET / HTTP/1.0", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive, close", true),
        ] {
            let head = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(!head.persists, closes, "{lines:?}");
        }
    }

    /// W-46.
    #[test]
    fn heads_beyond_the_limits_are_refused_before_they_end() {
        let scan = |text: &str| Scan::default().find_end(text.as_bytes(), &LIMITS);
        let long_line = format!("GET /{}", "x".repeat(100));
        assert_eq!(
            scan(&long_line).unwrap_err().reason(),
            Reason::RequestLineTooLong
        );
        let too_long = Reason::HeadTooLarge;
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(400));
        assert_eq!(scan(&long).unwrap_err().reason(), too_long);
        assert_eq!(
            scan(&format!("{long}\r\n\r\n")).unwrap_err().reason(),
            too_long
        );
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A:b\r\n".repeat(40));
        assert_eq!(
            read(many.as_bytes()).unwrap_err().reason(),
            Reason::TooManyFields
        );
        let enough = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A:b\r\n".repeat(39));
        assert_eq!(read(enough.as_bytes()).unwrap().fields().iter().count(), 40);
    }

    /// W-42, W-43. Some parsers take a line feed alone for the end of a line. Wherever one stands, the
    /// head is not read at once, and refused by the scan.
    #[test]
    fn no_line_that_ends_in_a_line_feed_alone_is_read_at_once() {
        let lines = ["GET / HTTP/1.1", "Host: h", "A: b", ""];
        let head = |bare: Option<usize>| -> String {
            let end = |at| if bare == Some(at) { "\n" } else { "\r\n" };
            let lines = lines.iter().enumerate();
            lines
                .map(|(at, line)| format!("{line}{}", end(at)))
                .collect()
        };
        let read = |text: &str| RequestHead::default().read_at_once(text.as_bytes(), &LIMITS);
        let good = head(None);
        assert_eq!(read(&good), Some(good.len()));
        for bare in 0..lines.len() {
            let bad = head(Some(bare));
            assert_eq!(read(&bad), None, "{bad:?}");
            let refused = Scan::default().find_end(bad.as_bytes(), &LIMITS);
            assert_eq!(
                refused.unwrap_err().reason(),
                Reason::BareLineFeed,
                "{bad:?}"
            );
        }
    }

    fn meaning(head: &RequestHead) -> impl PartialEq + fmt::Debug {
        let fields: Vec<_> = head
            .fields()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect();
        let target = (head.target().to_owned(), head.path().to_owned());
        let method = (head.method.clone(), head.version);
        let body = (
            head.framing,
            head.persists,
            head.wants_upgrade,
            head.expects_continue,
        );
        (method, target, fields, body, head.has_escapes())
    }

    proptest::proptest! {
        /// What is read at once is what two steps would have read, and what is left to them is
        /// refused, or incomplete, or has many fields.
        #[test]
        fn one_step_reads_what_two_steps_read(
            pieces in proptest::collection::vec(proptest::sample::select(vec![
                "GET / HTTP/1.1\r\n", "POST /a?b%20 HTTP/1.0\r\n", "GET  /#", "Host: h\r\n", "A:b\r\n",
                "Content-Length: 3\r\n", "Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n",
                "Connection: close\r\n", "X: 1\n", "\r\n", "\n", "\r", " ", "x", "GET", ":",
                "E:\r\n", "E: \t \r\n", " folded\r\n", "\t", "\0", "\u{e9}", "Expect: 100-continue\r\n",
                "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
                "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ]), 0..14),
            is_started in proptest::bool::weighted(0.8),
            fields in proptest::sample::select(vec![2, 40]),
        ) {
            let limits = HeadLimits { fields, ..LIMITS };
            let start = if is_started { "GET /s HTTP/1.1\r\nHost: h\r\n" } else { "" };
            let bytes = format!("{start}{}", pieces.concat()).into_bytes();
            let mut at_once = RequestHead::default();
            let length = at_once.read_at_once(&bytes, &limits);
            let end = Scan::default().find_end(&bytes, &limits);
            let mut head = RequestHead::default();
            let read = match end {
                Ok(Some(end)) if head.read(&bytes[..end], &limits).is_ok() => Some(end),
                _ => None,
            };
            // An empty line comes first: that is counted elsewhere.
            if bytes.starts_with(b"\r") {
                assert_eq!(length, None);
            } else {
                assert_eq!(length, read);
            }
            if length.is_some() {
                assert_eq!(meaning(&at_once), meaning(&head));
            }
        }

        /// W-47. The end is found in the same place wherever the bytes are cut, and no input
        /// makes the reader panic.
        #[test]
        fn pieces_do_not_matter(
            bytes in proptest::collection::vec(
                proptest::sample::select(b"\r\r\n\nGET /x:HTTP1.1 Host".to_vec()), 0..120),
            cut in 0usize..120,
        ) {
            let whole = Scan::default().find_end(&bytes, &LIMITS);
            let mut scan = Scan::default();
            let pieces = match scan.find_end(&bytes[..cut.min(bytes.len())], &LIMITS) {
                Ok(None) => scan.find_end(&bytes, &LIMITS),
                found => found,
            };
            assert_eq!(&pieces, &whole);
            if let Ok(Some(end)) = whole {
                let _ = RequestHead::default().read(&bytes[..end], &LIMITS);
            }
        }
    }
}
