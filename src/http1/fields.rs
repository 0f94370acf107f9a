//! Lists of fields: those of a head, and trailers.

use std::ops::Range;

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

/// `tchar` (RFC 9110, section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// A byte that may be in a field value: no control byte but the tab (RFC 9110, section 5.5).
pub(crate) const fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// `bytes` without blanks and tabs at both ends. No other white space is blank in HTTP.
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
