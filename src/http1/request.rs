//! Request heads: the request line and the header fields (RFC 9112, sections 2 to 5).
//!
//! Reading a head takes two steps. `Scan::find_end` looks for the empty line, from where the last
//! look ended, and refuses line ends that are not CR LF; so a head that comes a byte at a time is
//! parsed once. [`Head::read`] then copies the bytes, lets `httparse` cut them into fields, and
//! decides what the fields mean for the connection: where the body ends, and whether another
//! request may follow. Whatever two readers could understand differently is refused.
//!
//! Most heads come whole and are as they should be. [`Head::read_at_once`] reads these without
//! looking for their end first, and leaves all others to the two steps, which know what is wrong.

use std::mem::MaybeUninit;
use std::ops::Range;

use http::Method;
use percent_encoding::percent_decode_str;

use super::fields::{Fields, Place, is_token, is_value, trim};
use super::framing::{Framing, Version};
use super::refusal::{Excerpt, Refusal};
use super::scan::Scan;

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

/// Few heads have more fields than this, and preparing room for 500 costs time.
const FEW_FIELDS: usize = 32;

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
    /// Where the path is in the target.
    path: Range<usize>,
    /// Whether anything in the target is percent-encoded.
    pub(crate) has_escapes: bool,
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
            path: 0..0,
            has_escapes: false,
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
    /// `None` if it is not all there, if anything is wrong with it, or if it has many fields.
    fn read_at_once(&mut self, data: &[u8], limits: &HeadLimits) -> Option<usize> {
        // Empty lines before it are counted elsewhere.
        if !data.first()?.is_ascii_graphic() {
            return None;
        }
        let data = &data[..data.len().min(limits.bytes)];
        let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
        let length = self.cut(data, &mut few).ok()??;
        let head = &data[..length];
        let mut line_ends = self.fields.places.iter().map(|place| place.name.start);
        // httparse takes a line feed alone for the end of a line.
        let first_line = line_ends.clone().next().unwrap_or(length - 2);
        if !line_ends.all(|end| head[..end].ends_with(b"\r\n"))
            || !head.ends_with(b"\r\n\r\n")
            || first_line > limits.line_bytes + 1
            || self.fields.places.len() > limits.fields
        {
            return None;
        }
        self.fields.bytes.clear();
        self.fields.bytes.extend_from_slice(head);
        self.check_target().ok()?;
        Some(length)
    }

    /// Reads a complete head, as [`Scan::find_end`] has found it, over what was here before.
    fn read(&mut self, head: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
        let outcome = match self.cut(head, &mut few) {
            Err(Refusal::TooManyFields { .. }) => {
                let mut many = vec![MaybeUninit::uninit(); limits.fields];
                self.cut(head, &mut many)
            }
            outcome => outcome,
        };
        if outcome?.is_none() {
            return Err(request_line(head));
        }
        if self.fields.places.len() > limits.fields {
            return Err(Refusal::TooManyFields {
                limit: limits.fields,
            });
        }
        self.fields.bytes.clear();
        self.fields.bytes.extend_from_slice(head);
        self.check_target()
    }

    /// Finds the fields, and what they mean; how long the head is, if all of it is there.
    fn cut<'b>(
        &mut self,
        bytes: &'b [u8],
        room: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<Option<usize>, Refusal> {
        let limit = room.len();
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, room) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal::TooManyFields { limit });
            }
            Err(error) => return Err(why(error, bytes)),
        };
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - bytes.as_ptr() as usize;
            start..start + part.len()
        };
        self.version = match request.version {
            Some(0) => Version::Http10,
            _ => Version::Http11,
        };
        self.method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
            .map_err(|_| request_line(bytes))?;
        self.target.clear();
        self.target.push_str(request.path.unwrap_or_default());
        self.fields.places.clear();
        self.fields
            .places
            .extend(request.headers.iter().map(|field| Place {
                name: place(field.name.as_bytes()),
                value: place(trim(field.value)),
            }));
        self.understand(request.headers)?;
        Ok(Some(length))
    }

    /// Finds the path, and refuses targets that are none of the four forms of RFC 9112, section
    /// 3.2.
    fn check_target(&mut self) -> Result<(), Refusal> {
        let mut end = self.target.len();
        self.has_escapes = false;
        for (at, byte) in self.target.bytes().enumerate() {
            match byte {
                b'?' => end = end.min(at),
                b'%' => {
                    self.has_escapes = true;
                    let digits = self.target.as_bytes().get(at + 1..at + 3);
                    if !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
                        return Err(self.bad_target());
                    }
                }
                // A fragment is never sent (RFC 9112, 3.2.1), and what is not ASCII is encoded.
                b'#' => return Err(self.bad_target()),
                byte if byte.is_ascii_graphic() => {}
                _ => return Err(self.bad_target()),
            }
        }
        self.path = find_path(&self.target[..end]);
        let is_asterisk = self.target == "*";
        let is_authority = self.method == Method::CONNECT;
        if !(self.path().starts_with('/') || is_asterisk || is_authority) {
            return Err(self.bad_target());
        }
        if self.has_escapes && percent_decode_str(self.path()).decode_utf8().is_err() {
            return Err(Refusal::PathEncoding {
                path: self.path().into(),
            });
        }
        Ok(())
    }

    fn bad_target(&self) -> Refusal {
        Refusal::Target {
            target: self.target().into(),
        }
    }

    /// Decides what the fields mean for the connection.
    fn understand(&mut self, fields: &[httparse::Header<'_>]) -> Result<(), Refusal> {
        let mut hosts = 0;
        let mut length = None;
        let mut is_chunked = false;
        let mut closes = false;
        let mut keeps_alive = false;
        let mut has_upgrade = false;
        let mut names_upgrade = false;
        let mut expectation: Option<&[u8]> = None;
        for field in fields {
            let (name, value) = (field.name, trim(field.value));
            // Told apart by length first: most fields are none of these.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => hosts += 1,
                6 if name.eq_ignore_ascii_case("expect") => expectation = Some(value),
                7 if name.eq_ignore_ascii_case("upgrade") => has_upgrade = true,
                10 if name.eq_ignore_ascii_case("connection") => {
                    for option in value.split(|byte| *byte == b',').map(trim) {
                        closes |= option.eq_ignore_ascii_case(b"close");
                        keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                        names_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    if length.is_some() {
                        return Err(Refusal::AmbiguousLength);
                    }
                    length = Some(parse_content_length(value).ok_or_else(|| {
                        Refusal::ContentLength {
                            value: value.into(),
                        }
                    })?);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if self.version == Version::Http10 {
                        return Err(Refusal::OldTransferCoding);
                    }
                    if is_chunked {
                        return Err(Refusal::MalformedTransferCoding {
                            value: b"chunked, chunked".as_slice().into(),
                        });
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(bad_coding(value));
                    }
                    is_chunked = true;
                }
                _ => {}
            }
        }
        match hosts {
            0 if self.version == Version::Http11 => return Err(Refusal::NoHost),
            0 | 1 => {}
            _ => return Err(Refusal::RepeatedHost),
        }
        self.framing = match (length, is_chunked) {
            (Some(_), true) => return Err(Refusal::AmbiguousLength),
            (None, true) => Framing::Chunked,
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        let is_new = self.version == Version::Http11;
        self.persists = !closes && (is_new || keeps_alive);
        self.wants_upgrade = is_new && has_upgrade && names_upgrade;
        self.expects_continue = expectation.is_some() && is_new && self.framing != Framing::None;
        match expectation {
            Some(value) if !value.eq_ignore_ascii_case(b"100-continue") => {
                Err(Refusal::Expectation {
                    value: value.into(),
                })
            }
            _ => Ok(()),
        }
    }

    /// The request target as it came.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The path of the target, still encoded; the whole target where that has none.
    pub(crate) fn path(&self) -> &str {
        &self.target[self.path.clone()]
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

fn request_line(head: &[u8]) -> Refusal {
    Refusal::RequestLine {
        line: Excerpt::line(head),
    }
}

/// Refuses the version at the end of a request line, or the line if more is wrong with it.
fn bad_version(head: &[u8]) -> Refusal {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut parts = line.split(|byte| *byte == b' ').skip(2);
    match (parts.next(), parts.next()) {
        (Some(version @ [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal::UnsupportedVersion {
                version: version.into(),
            }
        }
        (Some([_, ..]), None) => Refusal::MalformedVersion { line: line.into() },
        _ => Refusal::RequestLine { line: line.into() },
    }
}

/// What `httparse` found wrong with `head`.
fn why(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            let mut lines = head.split(|byte| *byte == b'\n').skip(1);
            let is_bad = |line: &&[u8]| !is_field_line(line.strip_suffix(b"\r").unwrap_or(line));
            Refusal::Field {
                line: Excerpt::line(lines.find(is_bad).unwrap_or_default()),
            }
        }
        httparse::Error::Version => bad_version(head),
        _ => request_line(head),
    }
}

/// Whether a line is a field (RFC 9112, section 5).
fn is_field_line(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| is_token(**byte)).count();
    name > 0 && line.get(name) == Some(&b':') && line[name + 1..].iter().all(|byte| is_value(*byte))
}

/// Where the path is in a target without its query; all of it where it is no absolute URI.
fn find_path(target: &str) -> Range<usize> {
    let end = target.len();
    if target.starts_with('/') {
        return 0..end;
    }
    match absolute_form(target) {
        None => 0..end,
        Some(after_scheme) => match after_scheme.find('/') {
            Some(slash) => end - after_scheme.len() + slash..end,
            // An absolute URI without a path means its root; the slash of the scheme will do.
            None => end - after_scheme.len() - 1..end - after_scheme.len(),
        },
    }
}

/// What follows the scheme, where the target is an absolute URI.
fn absolute_form(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme)
            .then(|| &target[scheme.len()..])
    })
}

/// Refuses a `Transfer-Encoding` that is not `chunked` alone (RFC 9112, section 6.3).
fn bad_coding(value: &[u8]) -> Refusal {
    let is_coding = |coding: &[u8]| !coding.is_empty() && coding.iter().copied().all(is_token);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let codings: Vec<_> = value.split(|byte| *byte == b',').map(trim).collect();
    let (_, but_last) = codings.split_last().unwrap_or((&value, &[]));
    let are_codings = codings.iter().all(|coding| is_coding(coding));
    let value = value.into();
    if are_codings && !but_last.iter().any(|coding| is_chunked(coding)) {
        Refusal::TransferCoding { value }
    } else {
        Refusal::MalformedTransferCoding { value }
    }
}

fn parse_content_length(value: &[u8]) -> Option<u64> {
    // Digits only: `str::parse` would also take a leading `+`, which a proxy in front may read
    // differently from us (RFC 9110, 8.6).
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
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
            ("GET / HTTP/1.2", Reason::UnsupportedVersion),
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
                parse_content_length(value.as_bytes()),
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

    /// W-42, W-43. httparse takes a line feed alone for the end of a line; wherever it stands, the
    /// head is left to those who refuse it.
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
        (method, target, fields, body, head.has_escapes)
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
