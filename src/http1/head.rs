//! Request heads: the request line and the header fields (RFC 9112, sections 2 to 5).
//!
//! Reading a head takes two steps. [`Scan::find_end`] looks for the empty line, from where the last
//! look ended, and refuses line ends that are not CR LF; so a head that comes a byte at a time is
//! parsed once. [`Head::read`] then copies the bytes, lets `httparse` cut them into fields, and
//! decides what the fields mean for the connection: where the body ends, and whether another
//! request may follow. Whatever two readers could understand differently is refused.
//!
//! Most heads come whole and are as they should be. [`Head::read_at_once`] reads these without
//! looking for their end first, and leaves all others to the two steps, which know what is wrong.

use std::error::Error;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

use http::{Method, StatusCode};
use memchr::memchr;

/// What a client may send in one head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadLimits {
    /// Request line and fields together.
    pub(crate) bytes: usize,
    /// The request line alone.
    pub(crate) line_bytes: usize,
    pub(crate) fields: usize,
}

/// Where the empty line ends, and how far the bytes have been looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scan {
    /// The start of the line that is not complete yet.
    line: usize,
}

impl Scan {
    /// The length of the head, empty line included, once it is all there.
    ///
    /// `data` begins where the head does, and has only grown since the last call.
    pub(crate) fn find_end(
        &mut self,
        data: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, HeadError> {
        while let Some(length) = memchr(b'\n', &data[self.line..]) {
            let end = self.line + length;
            if end == self.line || data[end - 1] != b'\r' {
                return Err(HeadError::BareLineFeed);
            }
            if self.line == 0 && end > limits.line_bytes {
                return Err(HeadError::LineTooLong {
                    limit: limits.line_bytes,
                });
            }
            if end + 1 > limits.bytes {
                return Err(HeadError::TooLong {
                    limit: limits.bytes,
                });
            }
            let is_empty = end - self.line == 1;
            self.line = end + 1;
            if is_empty {
                return Ok(Some(end + 1));
            }
        }
        if self.line == 0 && data.len() > limits.line_bytes {
            return Err(HeadError::LineTooLong {
                limit: limits.line_bytes,
            });
        }
        if data.len() > limits.bytes {
            return Err(HeadError::TooLong {
                limit: limits.bytes,
            });
        }
        Ok(None)
    }
}

/// Few heads have more fields than this, and preparing room for 500 costs time.
const FEW_FIELDS: usize = 32;

/// One request head: its bytes, and where in them things are.
#[derive(Debug)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// Copied out, as a `str`: it is looked at several times, and checked once.
    target: String,
    /// Where the path is in the target.
    path: Range<usize>,
    /// Whether anything in the target is percent-encoded.
    pub(crate) has_escapes: bool,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    /// The client wants no further request on this connection, or cannot have one.
    pub(crate) closes: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

#[derive(Debug, Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

/// The versions of HTTP that are spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Http10,
    Http11,
}

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    Length(u64),
    Chunked,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            fields: Vec::new(),
            target: String::new(),
            path: 0..0,
            has_escapes: false,
            method: Method::GET,
            version: Version::Http11,
            framing: Framing::None,
            closes: false,
            expects_continue: false,
        }
    }
}

impl Head {
    /// Reads a head that `data` begins with, over what was here before; its length.
    ///
    /// `None` if it is not all there, if anything is wrong with it, or if it has many fields.
    pub(crate) fn read_at_once(&mut self, data: &[u8], limits: &HeadLimits) -> Option<usize> {
        // Empty lines before it are counted elsewhere.
        if !data.first()?.is_ascii_graphic() {
            return None;
        }
        let data = &data[..data.len().min(limits.bytes)];
        let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
        let length = self.cut(data, &mut few).ok()??;
        let head = &data[..length];
        let mut line_ends = self.fields.iter().map(|field| field.name.start);
        // httparse takes a line feed alone for the end of a line.
        let first_line = line_ends.clone().next().unwrap_or(length - 2);
        if !line_ends.all(|end| head[..end].ends_with(b"\r\n"))
            || !head.ends_with(b"\r\n\r\n")
            || first_line > limits.line_bytes + 1
            || self.fields.len() > limits.fields
        {
            return None;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
        self.check_target().ok()?;
        Some(length)
    }

    /// Reads a complete head, as [`Scan::find_end`] has found it, over what was here before.
    pub(crate) fn read(&mut self, head: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
        let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
        let outcome = match self.cut(head, &mut few) {
            Err(HeadError::TooManyFields { .. }) => {
                let mut many = vec![MaybeUninit::uninit(); limits.fields];
                self.cut(head, &mut many)
            }
            outcome => outcome,
        };
        if outcome?.is_none() {
            return Err(HeadError::RequestLine);
        }
        if self.fields.len() > limits.fields {
            return Err(HeadError::TooManyFields {
                limit: limits.fields,
            });
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
        self.check_target()
    }

    /// Finds the fields, and what they mean; how long the head is, if all of it is there.
    fn cut<'b>(
        &mut self,
        bytes: &'b [u8],
        room: &mut [MaybeUninit<httparse::Header<'b>>],
    ) -> Result<Option<usize>, HeadError> {
        let limit = room.len();
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, room) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(HeadError::TooManyFields { limit });
            }
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
                return Err(HeadError::Field);
            }
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Err(_) => return Err(HeadError::RequestLine),
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
            .map_err(|_| HeadError::RequestLine)?;
        self.target.clear();
        self.target.push_str(request.path.unwrap_or_default());
        self.fields.clear();
        self.fields
            .extend(request.headers.iter().map(|field| Field {
                name: place(field.name.as_bytes()),
                value: place(field.value.trim_ascii()),
            }));
        self.understand(request.headers)?;
        Ok(Some(length))
    }

    /// Finds the path, and refuses targets that are none of the four forms of RFC 9112, section
    /// 3.2.
    fn check_target(&mut self) -> Result<(), HeadError> {
        let mut end = self.target.len();
        self.has_escapes = false;
        for (at, byte) in self.target.bytes().enumerate() {
            match byte {
                b'?' => end = end.min(at),
                b'%' => {
                    self.has_escapes = true;
                    let digits = self.target.as_bytes().get(at + 1..at + 3);
                    if !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
                        return Err(HeadError::Target);
                    }
                }
                // A fragment is never sent (RFC 9112, 3.2.1), and what is not ASCII is encoded.
                b'#' => return Err(HeadError::Target),
                byte if byte.is_ascii_graphic() => {}
                _ => return Err(HeadError::Target),
            }
        }
        self.path = find_path(&self.target[..end]);
        let is_asterisk = self.target == "*";
        let is_authority = self.method == Method::CONNECT;
        if !(self.path().starts_with('/') || is_asterisk || is_authority) {
            return Err(HeadError::Target);
        }
        Ok(())
    }

    /// Decides what the fields mean for the connection.
    fn understand(&mut self, fields: &[httparse::Header<'_>]) -> Result<(), HeadError> {
        let mut hosts = 0;
        let mut length = None;
        let mut is_chunked = false;
        let mut closes = self.version == Version::Http10;
        let mut expects_continue = false;
        for field in fields {
            let (name, value) = (field.name, field.value.trim_ascii());
            // Told apart by length first: most fields are none of these.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => hosts += 1,
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(HeadError::Expectation);
                    }
                    expects_continue = self.version == Version::Http11;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    closes |= value
                        .split(|byte| *byte == b',')
                        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    if length.is_some() {
                        return Err(HeadError::Framing);
                    }
                    length = Some(parse_content_length(value).ok_or_else(|| {
                        HeadError::ContentLength {
                            value: value.to_vec(),
                        }
                    })?);
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if is_chunked || self.version == Version::Http10 {
                        return Err(HeadError::Framing);
                    }
                    if !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(HeadError::TransferCoding {
                            value: value.to_vec(),
                        });
                    }
                    is_chunked = true;
                }
                _ => {}
            }
        }
        if hosts > 1 || hosts == 0 && self.version == Version::Http11 {
            return Err(HeadError::Host);
        }
        self.framing = match (length, is_chunked) {
            (Some(_), true) => return Err(HeadError::Framing),
            (None, true) => Framing::Chunked,
            (None | Some(0), false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        self.closes = closes;
        self.expects_continue = expects_continue && self.framing != Framing::None;
        Ok(())
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
    pub(crate) fn fields(&self) -> impl DoubleEndedIterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            // httparse gave the name out as a `str`.
            let name = std::str::from_utf8(&self.bytes[field.name.clone()]).unwrap_or_default();
            (name, &self.bytes[field.value.clone()])
        })
    }

    /// The value of the last field of that name, whatever its case.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        let is_wanted = |field: &&Field| {
            field.name.len() == name.len()
                && self.bytes[field.name.clone()].eq_ignore_ascii_case(name.as_bytes())
        };
        let field = self.fields.iter().rev().find(is_wanted)?;
        Some(&self.bytes[field.value.clone()])
    }
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

fn parse_content_length(value: &[u8]) -> Option<u64> {
    // Digits only: `str::parse` would also take a leading `+`, which a proxy in front may read
    // differently from us (RFC 9110, 8.6).
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Why a request head was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// A line does not end in CR LF.
    BareLineFeed,
    /// The request line is not `METHOD SP TARGET SP HTTP/1.x`.
    RequestLine,
    /// The version is neither 1.0 nor 1.1.
    Version,
    /// The request target is not a path, an absolute URI or `*`, or holds bytes it may not.
    Target,
    /// A header field has no colon, a bad name, or bytes in its value that may not be there.
    Field,
    /// There is no `Host`, or more than one.
    Host,
    /// `Content-Length` is not a decimal number.
    ContentLength {
        /// The field value as it came.
        value: Vec<u8>,
    },
    /// The body has two lengths, or a length and a transfer coding.
    Framing,
    /// A transfer coding that is not `chunked`.
    TransferCoding {
        /// The field value as it came.
        value: Vec<u8>,
    },
    /// An expectation that is not `100-continue`.
    Expectation,
    /// The request line is longer than the site allows.
    LineTooLong {
        /// What the site allows, in bytes.
        limit: usize,
    },
    /// The head is longer than the site allows.
    TooLong {
        /// What the site allows, in bytes.
        limit: usize,
    },
    /// There are more fields than the site allows.
    TooManyFields {
        /// What the site allows.
        limit: usize,
    },
}

impl HeadError {
    /// What the client is told.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::LineTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::TooLong { .. } | Self::TooManyFields { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BareLineFeed => f.write_str("a line does not end in CR LF"),
            Self::RequestLine => f.write_str("the request line is malformed"),
            Self::Version => f.write_str("the HTTP version is neither 1.0 nor 1.1"),
            Self::Target => f.write_str("the request target is malformed"),
            Self::Field => f.write_str("a header field is malformed"),
            Self::Host => f.write_str("a request has exactly one host field"),
            Self::ContentLength { value } => {
                write!(
                    f,
                    "content-length \"{}\" is not a number",
                    value.escape_ascii()
                )
            }
            Self::Framing => f.write_str("the length of the body is ambiguous"),
            Self::TransferCoding { value } => {
                write!(
                    f,
                    "transfer coding \"{}\" is not known",
                    value.escape_ascii()
                )
            }
            Self::Expectation => f.write_str("the expectation is not 100-continue"),
            Self::LineTooLong { limit } => {
                write!(f, "the request line is longer than {limit} bytes")
            }
            Self::TooLong { limit } => write!(f, "the request head is longer than {limit} bytes"),
            Self::TooManyFields { limit } => {
                write!(f, "the request has more than {limit} header fields")
            }
        }
    }
}

impl Error for HeadError {}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 400,
        line_bytes: 100,
        fields: 40,
    };

    fn read(bytes: &[u8]) -> Result<Head, HeadError> {
        let mut head = Head::default();
        let end = Scan::default()
            .find_end(bytes, &LIMITS)?
            .expect("a complete head");
        head.read(&bytes[..end], &LIMITS)?;
        Ok(head)
    }

    fn line(line: &str) -> Result<Head, HeadError> {
        read(format!("{line}\r\nHost: h\r\n\r\n").as_bytes())
    }

    fn field(field: &str) -> Result<Head, HeadError> {
        read(format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n").as_bytes())
    }

    /// W-42.
    #[test]
    fn malformed_request_lines_are_refused() {
        for (bad, want) in [
            ("GET  / HTTP/1.1", HeadError::RequestLine),
            ("GET /  HTTP/1.1", HeadError::Version),
            (" GET / HTTP/1.1", HeadError::RequestLine),
            ("GET / HTTP/1.1 ", HeadError::RequestLine),
            ("GET /", HeadError::RequestLine),
            ("GET", HeadError::RequestLine),
            ("GET HTTP/1.1", HeadError::RequestLine),
            ("G\u{1}T / HTTP/1.1", HeadError::RequestLine),
            ("GET /\0 HTTP/1.1", HeadError::RequestLine),
            ("GET / HTTP/1.2", HeadError::Version),
            ("GET / HTTP/2.0", HeadError::Version),
            ("GET / HTTP/0.9", HeadError::Version),
            ("GET / http/1.1", HeadError::Version),
            ("GET /a#b HTTP/1.1", HeadError::Target),
            ("GET /%zz HTTP/1.1", HeadError::Target),
            ("GET /%4 HTTP/1.1", HeadError::Target),
            ("GET /\u{fc} HTTP/1.1", HeadError::Target),
            ("GET relative HTTP/1.1", HeadError::Target),
            ("GET ftp://h/ HTTP/1.1", HeadError::Target),
        ] {
            let error = line(bad).unwrap_err();
            assert!(
                error == want || want == HeadError::Version && error == HeadError::RequestLine,
                "{bad:?}: {error:?}"
            );
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{bad:?}");
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
            assert_eq!(field(bad).unwrap_err(), HeadError::Field, "{bad:?}");
        }
        assert_eq!(
            read(b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n").unwrap_err(),
            HeadError::Field
        );
    }

    #[test]
    fn lines_end_in_carriage_return_and_line_feed() {
        for bad in [
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\n\n",
        ] {
            let found = Scan::default().find_end(bad.as_bytes(), &LIMITS);
            assert_eq!(found.unwrap_err(), HeadError::BareLineFeed, "{bad:?}");
        }
    }

    /// W-44.
    #[test]
    fn ambiguous_framing_is_refused() {
        for bad in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(field(bad).unwrap_err(), HeadError::Framing, "{bad:?}");
        }
        for bad in ["gzip", "chunked, gzip", "identity", "xchunked", ""] {
            let error = field(&format!("Transfer-Encoding: {bad}")).unwrap_err();
            assert!(matches!(error, HeadError::TransferCoding { .. }), "{bad:?}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(old).unwrap_err(), HeadError::Framing);
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
            read(b"GET / HTTP/1.1\r\n\r\n").unwrap_err(),
            HeadError::Host
        );
        assert_eq!(field("Host: other").unwrap_err(), HeadError::Host);
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
            ("GET / HTTP/1.0\r\nConnection: keep-alive", true),
        ] {
            let head = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
            assert_eq!(head.closes, closes, "{lines:?}");
        }
    }

    /// W-46.
    #[test]
    fn heads_beyond_the_limits_are_refused_before_they_end() {
        let scan = |text: &str| Scan::default().find_end(text.as_bytes(), &LIMITS);
        let long_line = format!("GET /{}", "x".repeat(100));
        assert_eq!(
            scan(&long_line).unwrap_err().status(),
            StatusCode::URI_TOO_LONG
        );
        let too_long = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(400));
        assert_eq!(scan(&long).unwrap_err().status(), too_long);
        assert_eq!(
            scan(&format!("{long}\r\n\r\n")).unwrap_err().status(),
            too_long
        );
        let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A:b\r\n".repeat(40));
        assert_eq!(
            read(many.as_bytes()).unwrap_err(),
            HeadError::TooManyFields { limit: 40 }
        );
        let enough = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A:b\r\n".repeat(39));
        assert_eq!(read(enough.as_bytes()).unwrap().fields().count(), 40);
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
        let read = |text: &str| Head::default().read_at_once(text.as_bytes(), &LIMITS);
        let good = head(None);
        assert_eq!(read(&good), Some(good.len()));
        for bare in 0..lines.len() {
            let bad = head(Some(bare));
            assert_eq!(read(&bad), None, "{bad:?}");
            let refused = Scan::default().find_end(bad.as_bytes(), &LIMITS);
            assert_eq!(refused.unwrap_err(), HeadError::BareLineFeed, "{bad:?}");
        }
    }

    fn meaning(head: &Head) -> impl PartialEq + fmt::Debug {
        let fields: Vec<_> = head
            .fields()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect();
        let target = (head.target().to_owned(), head.path().to_owned());
        let method = (head.method.clone(), head.version);
        let body = (head.framing, head.closes, head.expects_continue);
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
            let mut at_once = Head::default();
            let length = at_once.read_at_once(&bytes, &limits);
            let end = Scan::default().find_end(&bytes, &limits);
            let mut head = Head::default();
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
                let _ = Head::default().read(&bytes[..end], &LIMITS);
            }
        }
    }
}
