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

use super::fields::{Fields, Place};
use super::framing::{Framing, Meaning, Version};
use super::host::is_host;
use super::refusal::{Excerpt, Refusal};
use super::scan::Scan;
use super::target::{self, PLAIN_PATH, Parts};

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
#[derive(Debug, Clone)]
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
        let Some(at) = self.parse_line(data)? else {
            return Ok(None);
        };
        if at - 1 > limits.line_bytes {
            return Err(Refusal::RequestLineTooLong {
                limit: limits.line_bytes,
            });
        }
        let Self {
            fields, version, ..
        } = self;
        let mut meaning = Meaning::default();
        let mut host = None;
        let found = fields.find(data, at, limits.fields, |name, value| {
            if name.eq_ignore_ascii_case(b"host") {
                return take_host(&mut host, value);
            }
            meaning.add(name, value, *version)
        })?;
        let Some(length) = found else {
            return Ok(None);
        };
        if length > limits.bytes {
            return Err(Refusal::HeadTooLarge {
                limit: limits.bytes,
            });
        }
        fields.keep(&data[..length]);
        self.understand(&meaning, host)?;
        Ok(Some(length))
    }

    /// Reads the request line; how long it is with its end, if all of it is there.
    #[inline]
    fn parse_line(&mut self, data: &[u8]) -> Result<Option<usize>, Refusal> {
        // What nearly all requests are.
        if let Some(rest) = data.strip_prefix(b"GET ")
            && rest.starts_with(b"/")
            && let length = PLAIN_PATH.count(rest)
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
        self.version = Version::parse(version, line)?;
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
        // Clients ask for the same thing again and again, and comparing costs less than checking.
        if self.target.as_bytes() != target {
            self.target.clear();
            self.target
                .push_str(std::str::from_utf8(target).unwrap_or_default());
        }
    }

    /// Decides what the fields mean for the connection.
    #[inline]
    fn understand(&mut self, meaning: &Meaning<'_>, host: Option<&[u8]>) -> Result<(), Refusal> {
        self.framing = meaning.framing()?;
        let is_new = self.version == Version::Http11;
        match host {
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
        self.persists = meaning.persists(self.version);
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

/// Takes a `Host` field into account.
#[inline]
fn take_host<'a>(host: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), Refusal> {
    if host.is_some() {
        return Err(Refusal::RepeatedHost);
    }
    if !value.is_empty() && !is_host(value) {
        return Err(Refusal::Host {
            value: value.into(),
        });
    }
    *host = Some(value);
    Ok(())
}

fn request_line(head: &[u8]) -> Refusal {
    Refusal::RequestLine {
        line: Excerpt::line(head),
    }
}

#[cfg(test)]
mod tests;
