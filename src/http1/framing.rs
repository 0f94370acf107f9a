//! What the fields of a head say about the body and the connection (RFC 9112, 6 and 9.3).

use super::fields::{is_token, trim};
use super::refusal::Refusal;

/// The versions of HTTP that are spoken here. Minor versions above 1 count as 1.1 (RFC 9112, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    Http10,
    Http11,
}

impl Version {
    /// Reads a version that stands in `line`. A higher minor version is spoken as the highest that
    /// is known (RFC 9112, 2.3).
    pub(super) fn parse(version: &[u8], line: &[u8]) -> Result<Self, Refusal> {
        match version {
            b"HTTP/1.0" => Ok(Self::Http10),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Ok(Self::Http11),
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                Err(Refusal::UnsupportedVersion {
                    version: version.into(),
                })
            }
            _ => Err(Refusal::MalformedVersion { line: line.into() }),
        }
    }
}

/// Where the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// No body.
    None,
    /// So many bytes, more than none.
    Length(u64),
    Chunked,
}

/// What the fields of a head say about its body and its connection.
#[derive(Debug, Default)]
pub(super) struct Meaning<'a> {
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
    pub(super) closes: bool,
    pub(super) keeps_alive: bool,
    pub(super) has_upgrade: bool,
    pub(super) names_upgrade: bool,
    pub(super) expectation: Option<&'a [u8]>,
}

impl<'a> Meaning<'a> {
    /// Takes a field into account. Told apart by length first: most fields are none of these.
    #[inline]
    pub(super) fn add(
        &mut self,
        name: &[u8],
        value: &'a [u8],
        version: Version,
    ) -> Result<(), Refusal> {
        match name.len() {
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

    /// How the body is framed, as far as the fields say.
    #[inline]
    pub(super) fn framing(&self) -> Result<Framing, Refusal> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Refusal::AmbiguousLength),
            (None, true) => Ok(Framing::Chunked),
            (None | Some(0), false) => Ok(Framing::None),
            (Some(length), false) => Ok(Framing::Length(length)),
        }
    }

    /// Whether there is a `Content-Length`.
    pub(super) fn has_length(&self) -> bool {
        self.length.is_some()
    }

    /// Whether another message may follow on the connection (RFC 9112, 9.3).
    #[inline]
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.closes && (version == Version::Http11 || self.keeps_alive)
    }
}

/// Refuses a `Transfer-Encoding` that is not `chunked` alone (RFC 9112, section 6.3), or follows
/// one that is.
fn bad_coding(value: &[u8], follows_chunked: bool) -> Refusal {
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
fn parse_content_length(value: &[u8]) -> Result<u64, Refusal> {
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
    use super::*;

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
}
