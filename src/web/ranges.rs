//! Parts of a body: the `Range` field, and bodies of several parts (RFC 9110, section 14).

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::ops::Range;

/// The most parts that one answer has; more get the whole body.
const MOST_RANGES: usize = 16;

/// What a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: the field is of another unit, malformed, or asks for too much.
    Whole,
    /// These parts, in this order; at least one, none empty, no two overlapping.
    Parts(Vec<Range<u64>>),
    /// Only what is beyond the end.
    Nothing,
}

/// Reads the value of a `Range` field, for a body of `length` bytes.
///
/// | the field                                            | gives                                 |
/// |------------------------------------------------------|---------------------------------------|
/// | `bytes=0-99`, `bytes=100-`, `bytes=-100`             | that part, cut at the end of the body |
/// | several of them, with commas                         | those that begin before the end       |
/// | none that begins before the end, or `bytes=-0`       | [`Wanted::Nothing`]                   |
/// | another unit, anything malformed                     | [`Wanted::Whole`]                     |
/// | more than 16, or some that overlap                   | [`Wanted::Whole`]                     |
/// | any, for an empty body                               | [`Wanted::Whole`]                     |
///
/// Parts that do not overlap are no more than the whole together. For an empty body, clients that
/// send the field with every request get 200, and not an error.
pub(crate) fn read(value: &[u8], length: u64) -> Wanted {
    let Some(set) = strip_unit(value) else {
        return Wanted::Whole;
    };
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut count = 0;
    for spec in set.split(|byte| *byte == b',').map(trim_blanks) {
        // Empty elements are allowed in lists (RFC 9110, 5.6.1.2).
        if spec.is_empty() {
            continue;
        }
        count += 1;
        let Some(spec) = Spec::read(spec) else {
            return Wanted::Whole;
        };
        let Some(part) = spec.resolve(length) else {
            continue;
        };
        let overlaps = |other: &Range<u64>| part.start < other.end && other.start < part.end;
        if count > MOST_RANGES || parts.iter().any(overlaps) {
            return Wanted::Whole;
        }
        parts.push(part);
    }
    if count == 0 || count > MOST_RANGES || length == 0 {
        Wanted::Whole
    } else if parts.is_empty() {
        Wanted::Nothing
    } else {
        Wanted::Parts(parts)
    }
}

/// What follows `bytes=`; units are case-insensitive (RFC 9110, 14.1).
fn strip_unit(value: &[u8]) -> Option<&[u8]> {
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// One element of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-last`, both included.
    Between(u64, u64),
    /// `first-`
    From(u64),
    /// `-count`
    Last(u64),
}

impl Spec {
    fn read(spec: &[u8]) -> Option<Self> {
        let hyphen = spec.iter().position(|byte| *byte == b'-')?;
        match (&spec[..hyphen], &spec[hyphen + 1..]) {
            ([], count) => Some(Self::Last(number(count)?)),
            (first, []) => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The part that there is of it, if any.
    fn resolve(self, length: u64) -> Option<Range<u64>> {
        let part = match self {
            Self::Between(first, last) => first..length.min(last.saturating_add(1)),
            Self::From(first) => first..length,
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (part.start < part.end).then_some(part)
    }
}

/// ASCII digits, however many: what does not fit is beyond every end.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| {
        let digit = u64::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    };
    Some(digits.iter().fold(0, add))
}

/// The value of `Content-Range` for a part of a body of `length` bytes.
pub(crate) fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// The value of `Content-Range` where no part can be sent.
pub(crate) fn unsatisfied_range(length: u64) -> String {
    format!("bytes */{length}")
}

/// A body of type `multipart/byteranges` (RFC 9110, 14.6).
///
/// It is made of what is around the parts, and says where each goes, so that the parts can come from
/// memory or from a file.
#[derive(Debug)]
pub(crate) struct Multipart {
    boundary: String,
    /// Each with the head that comes before it.
    parts: Vec<(String, Range<u64>)>,
    end: String,
}

/// One of the pieces, in order, that a body of status 206 consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// This text.
    Framing(String),
    /// These bytes of the whole body.
    Content(Range<u64>),
}

impl Piece {
    /// How many bytes it has.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Framing(text) => text.len() as u64,
            Self::Content(part) => part.end - part.start,
        }
    }
}

impl Multipart {
    /// Frames parts of a body of `length` bytes and this type.
    pub(crate) fn new(parts: Vec<Range<u64>>, length: u64, content_type: &str) -> Self {
        // Nobody who writes a body can know it, so it is in none.
        Self::with_boundary(random_boundary(), parts, length, content_type)
    }

    fn with_boundary(
        boundary: String,
        parts: Vec<Range<u64>>,
        length: u64,
        content_type: &str,
    ) -> Self {
        let mut start = "";
        let head = |part: Range<u64>| {
            let range = content_range(&part, length);
            let head = format!(
                "{start}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n"
            );
            start = "\r\n";
            (head, part)
        };
        Self {
            parts: parts.into_iter().map(head).collect(),
            end: format!("\r\n--{boundary}--\r\n"),
            boundary,
        }
    }

    /// The value of `Content-Type` of the response.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// What to send, in order.
    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        let parts = self.parts.into_iter();
        parts
            .flat_map(|(head, part)| [Piece::Framing(head), Piece::Content(part)])
            .chain([Piece::Framing(self.end)])
            .collect()
    }
}

/// How many bytes a body of these pieces has.
pub(crate) fn total_length(pieces: &[Piece]) -> u64 {
    pieces
        .iter()
        .map(Piece::length)
        .fold(0, u64::saturating_add)
}

/// 128 bits that nobody can guess: the system's random numbers are the keys of std's hash maps.
fn random_boundary() -> String {
    let mut boundary = String::with_capacity(32);
    for _ in 0..2 {
        let random = RandomState::new().hash_one(0);
        // A `String` takes everything.
        let _ = write!(boundary, "{random:016x}");
    }
    boundary
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the field and what it asks for, of a body of ten bytes. W-59.
    #[test]
    fn range_fields_are_read_strictly() {
        let parts = |parts: &[(u64, u64)]| {
            Wanted::Parts(parts.iter().map(|(start, end)| *start..*end).collect())
        };
        let seventeen = format!("bytes={}", vec!["0-0"; 17].join(","));
        let seventeen_beyond = format!("bytes={}", vec!["20-"; 17].join(","));
        let rows: &[(&str, Wanted)] = &[
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=2-4", parts(&[(2, 5)])),
            ("bytes=0-", parts(&[(0, 10)])),
            ("bytes=9-", parts(&[(9, 10)])),
            ("bytes=-1", parts(&[(9, 10)])),
            ("bytes=-10", parts(&[(0, 10)])),
            ("bytes=-11", parts(&[(0, 10)])),
            ("bytes=5-99", parts(&[(5, 10)])),
            ("bytes=007-008", parts(&[(7, 9)])),
            ("Bytes=0-0", parts(&[(0, 1)])),
            ("bytes=0-18446744073709551615", parts(&[(0, 10)])),
            ("bytes=0-99999999999999999999999", parts(&[(0, 10)])),
            ("bytes=-99999999999999999999999", parts(&[(0, 10)])),
            // Several, in the order in which they are asked for.
            ("bytes=0-1,4-5", parts(&[(0, 2), (4, 6)])),
            ("bytes=-2, 0-1", parts(&[(8, 10), (0, 2)])),
            ("bytes= 0-1 ,\t4-5 ", parts(&[(0, 2), (4, 6)])),
            ("bytes=,0-1,,4-5,", parts(&[(0, 2), (4, 6)])),
            ("bytes=0-1,2-3", parts(&[(0, 2), (2, 4)])),
            ("bytes=0-1,10-", parts(&[(0, 2)])),
            ("bytes=20-30,-0,3-3", parts(&[(3, 4)])),
            // Nothing that there is.
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-20", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=10-,20-30", Wanted::Nothing),
            // Overlapping, or too many.
            ("bytes=0-4,4-5", Wanted::Whole),
            ("bytes=0-,0-", Wanted::Whole),
            ("bytes=0-0,-10", Wanted::Whole),
            (&seventeen, Wanted::Whole),
            (&seventeen_beyond, Wanted::Whole),
            // Malformed, or another unit.
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,5-2", Wanted::Whole),
            ("bytes=99-98", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=,", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=--1", Wanted::Whole),
            ("bytes=0", Wanted::Whole),
            ("bytes=0-1-2", Wanted::Whole),
            ("bytes=0 - 1", Wanted::Whole),
            ("bytes=+0-1", Wanted::Whole),
            ("bytes=0x0-1", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=0-1;2-3", Wanted::Whole),
            ("bytes=\u{661}-\u{662}", Wanted::Whole), // digits, but not of ASCII
            ("bytes=0-\u{ff11}", Wanted::Whole),
            ("bytes =0-1", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
            ("0-1", Wanted::Whole),
            ("", Wanted::Whole),
        ];
        for (field, wanted) in rows {
            assert_eq!(read(field.as_bytes(), 10), *wanted, "{field}");
        }
    }

    #[test]
    fn sixteen_parts_are_granted() {
        let field = (0..16).map(|n| format!("{}-{}", 2 * n, 2 * n));
        let field = format!("bytes={}", field.collect::<Vec<_>>().join(","));
        let Wanted::Parts(parts) = read(field.as_bytes(), 100) else {
            panic!("{field}");
        };
        assert_eq!(parts.len(), 16);
    }

    #[test]
    fn an_empty_body_has_no_parts() {
        for field in ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=-0"] {
            assert_eq!(read(field.as_bytes(), 0), Wanted::Whole, "{field}");
        }
    }

    #[test]
    fn bodies_as_large_as_there_can_be_are_cut() {
        let end = u64::MAX;
        let row = |field: &str| read(field.as_bytes(), end);
        assert_eq!(
            row("bytes=-1"),
            Wanted::Parts(std::iter::once(end - 1..end).collect())
        );
        assert_eq!(
            row("bytes=0-18446744073709551615"),
            Wanted::Parts(std::iter::once(0..end).collect())
        );
        assert_eq!(row("bytes=18446744073709551615-"), Wanted::Nothing);
        let parts = vec![0..1, 1..end];
        let multipart = Multipart::new(parts, end, "text/plain");
        assert_eq!(total_length(&multipart.into_pieces()), end);
    }

    #[test]
    fn parts_are_framed() {
        let body = b"0123456789";
        let parts = vec![0..2, 8..10];
        let multipart = Multipart::with_boundary("XX".into(), parts, 10, "text/plain");
        assert_eq!(
            multipart.content_type(),
            "multipart/byteranges; boundary=XX"
        );
        let pieces = multipart.into_pieces();
        let mut sent = Vec::new();
        for piece in &pieces {
            match piece {
                Piece::Framing(text) => sent.extend_from_slice(text.as_bytes()),
                Piece::Content(part) => {
                    sent.extend_from_slice(&body[part.start as usize..part.end as usize]);
                }
            }
        }
        assert_eq!(
            String::from_utf8(sent.clone()).unwrap(),
            "--XX\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
             --XX\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n\
             --XX--\r\n"
        );
        assert_eq!(total_length(&pieces), sent.len() as u64);
    }

    #[test]
    fn boundaries_differ() {
        let boundaries: std::collections::HashSet<_> =
            (0..100).map(|_| random_boundary()).collect();
        assert_eq!(boundaries.len(), 100);
        assert!(boundaries.iter().all(|boundary| boundary.len() == 32));
    }

    proptest::proptest! {
        /// Whatever is asked for, what is given is inside the body, not empty, and no more than all
        /// of it.
        #[test]
        fn parts_are_parts(
            specs in proptest::collection::vec("[0-9]{0,3}-[0-9]{0,3}|,|[ \t]|[a-z]", 0..18),
            length in 0u64..300,
        ) {
            let field = format!("bytes={}", specs.join(","));
            if let Wanted::Parts(parts) = read(field.as_bytes(), length) {
                assert!((1..=MOST_RANGES).contains(&parts.len()));
                assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
                let sum: u64 = parts.iter().map(|part| part.end - part.start).sum();
                assert!(sum <= length);
            }
        }
    }
}
