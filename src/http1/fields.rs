//! Lists of fields: those of a head, and trailers.

use std::ops::Range;

use super::class::Class;
use super::refusal::{Excerpt, Refusal};

/// Fields in the order in which they came, and the bytes that they stand in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    pub(super) bytes: Vec<u8>,
    pub(super) places: Vec<Place>,
}

/// Where a field stands in the bytes. A name is a token, and so ASCII.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: Range<usize>,
    pub(super) value: Range<usize>,
}

impl Fields {
    /// Names and values, names spelled as they came.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &[u8])> {
        self.places.iter().map(|place| {
            let name = std::str::from_utf8(&self.bytes[place.name.clone()]).unwrap_or_default();
            (name, &self.bytes[place.value.clone()])
        })
    }

    /// The value of the last field of that name, whatever its case.
    pub(crate) fn last(&self, name: &str) -> Option<&[u8]> {
        let is_wanted = |place: &&Place| {
            place.name.len() == name.len()
                && self.bytes[place.name.clone()].eq_ignore_ascii_case(name.as_bytes())
        };
        let place = self.places.iter().rev().find(is_wanted)?;
        Some(&self.bytes[place.value.clone()])
    }

    /// Finds the fields that begin at `start` of `data`; where they end, empty line included, if
    /// all of them are there. The bytes are not copied yet.
    #[inline]
    pub(super) fn find<'a>(
        &mut self,
        data: &'a [u8],
        start: usize,
        most: usize,
        mut each: impl FnMut(&'a [u8], &'a [u8]) -> Result<(), Refusal>,
    ) -> Result<Option<usize>, Refusal> {
        self.places.clear();
        let mut at = start;
        loop {
            match look_at_line(&data[at..]) {
                Line::Field { name, value_end } => {
                    if self.places.len() >= most {
                        return Err(Refusal::TooManyFields { limit: most });
                    }
                    let line = &data[at..at + value_end];
                    let value = trim(&line[name + 1..]);
                    let value_at = value.as_ptr() as usize - data.as_ptr() as usize;
                    self.places.push(Place {
                        name: at..at + name,
                        value: value_at..value_at + value.len(),
                    });
                    each(&line[..name], value)?;
                    at += value_end + 2;
                }
                Line::End => return Ok(Some(at + 2)),
                Line::Partial => return Ok(None),
                Line::Bad => {
                    return Err(Refusal::Field {
                        line: Excerpt::line(&data[at..]),
                    });
                }
            }
        }
    }

    /// Keeps the bytes in which the fields were found.
    #[inline]
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a copy of a field.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.places.push(Place {
            name: start..middle,
            value: middle..self.bytes.len(),
        });
    }
}

/// What stands at the start of some bytes where a field or the end of all fields is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// A field, with the lengths of its name, and of everything before the CR LF.
    Field { name: usize, value_end: usize },
    /// The empty line.
    End,
    /// A line that is not complete, and good as far as it goes.
    Partial,
    /// No field.
    Bad,
}

/// Looks at the line that `bytes` begin with (RFC 9112, section 5).
#[inline]
fn look_at_line(bytes: &[u8]) -> Line {
    let name = TOKEN.count(bytes);
    let rest = &bytes[name..];
    if name == 0 || !rest.starts_with(b":") {
        return match rest {
            [] => Line::Partial,
            [b'\r', b'\n', ..] if name == 0 => Line::End,
            [b'\r'] if name == 0 => Line::Partial,
            _ => Line::Bad,
        };
    }
    let value_end = name + 1 + value_length(&bytes[name + 1..]);
    match &bytes[value_end..] {
        [b'\r', b'\n', ..] => Line::Field { name, value_end },
        [] | [b'\r'] => Line::Partial,
        _ => Line::Bad,
    }
}

/// Whether all of `bytes` may be in a field value.
#[inline]
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    value_length(bytes) == bytes.len()
}

/// How many bytes at the start of `bytes` may be in a field value.
#[inline]
fn value_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut at = 0;
    // Eight at a time: those below a blank, and DEL, show in the top bit of their byte. The lowest
    // bit that shows is right; those above it may not be.
    while let Some((eight, _)) = bytes[at..].split_first_chunk::<8>() {
        let eight = u64::from_le_bytes(*eight);
        let below = eight.wrapping_sub(ONES * 0x20) & !eight;
        let other = eight ^ (ONES * 0x7f);
        let deletes = other.wrapping_sub(ONES) & !other;
        let shown = (below | deletes) & (ONES * 0x80);
        if shown == 0 {
            at += 8;
            continue;
        }
        at += shown.trailing_zeros() as usize / 8;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    let rest = bytes[at..].iter().position(|byte| !is_value(*byte));
    at + rest.unwrap_or(bytes.len() - at)
}

/// `tchar` (RFC 9110, section 5.6.2).
static TOKEN: Class = Class::alphanumeric_and(b"!#$%&'*+-.^_`|~");

/// Whether a byte may be in a token, such as a field name or a method.
#[inline]
pub(crate) const fn is_token(byte: u8) -> bool {
    TOKEN.has(byte)
}

/// Whether a byte may be in a field value: no control byte but the tab (RFC 9110, section 5.5).
#[inline]
pub(crate) const fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// `bytes` without blanks and tabs at both ends. No other white space is blank in HTTP.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Eight bytes at a time find what one at a time does.
        #[test]
        fn the_length_of_a_value_is_that_of_its_bytes(
            bytes in proptest::collection::vec(
                proptest::prop_oneof![
                    8 => proptest::sample::select(b"a~ \t\x80\xff\xa0\x1f\x7f\r\n\0\x81\x01 !".to_vec()),
                    8 => b' '..=b'~',
                    1 => 0u8..,
                ],
                0..60,
            ),
        ) {
            let slow = bytes.iter().take_while(|byte| is_value(**byte)).count();
            assert_eq!(value_length(&bytes), slow);
        }
    }
}
