//! The formats of strings and their lengths.

use std::error::Error;
use std::fmt;

/// A format of strings with their lengths: `u8`, `u16` and `u32` stand for a big-endian length
/// before the string, [`Netstring`] for `5:hello,`.
pub trait StringFormat: sealed::Format + fmt::Debug + 'static {}

/// The format of netstrings: the length in decimal digits, a colon, the string, a comma.
///
/// ```
/// use deferred_reactor::protocols::{NetstringReceiver, StringReceiver, Netstring};
///
/// fn same<P>(receiver: NetstringReceiver<P>) -> StringReceiver<P, Netstring> {
///     receiver
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Netstring;

/// The head of a string, before its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of bytes before the string.
    pub(super) prefix: usize,
    /// The length of the string.
    pub(super) length: u64,
}

pub(super) mod sealed {
    use super::{Head, NetstringParseError};

    /// Sealed, so that a method can be added without breaking users' code.
    pub trait Format {
        /// The longest string in this format, in bytes.
        const LONGEST: u64;
        /// The bytes after a string.
        const END: &'static [u8];

        /// Reads the head of a string. `None` while it is incomplete.
        fn head(input: &[u8]) -> Result<Option<Head>, NetstringParseError>;

        /// Writes the head of a string.
        fn write_head(length: u64, buffer: &mut Vec<u8>);
    }
}

macro_rules! prefix {
    ($integer:ty) => {
        impl StringFormat for $integer {}

        impl sealed::Format for $integer {
            const LONGEST: u64 = <$integer>::MAX as u64;
            const END: &'static [u8] = b"";

            fn head(input: &[u8]) -> Result<Option<Head>, NetstringParseError> {
                Ok(input.first_chunk().map(|bytes| Head {
                    prefix: bytes.len(),
                    length: <$integer>::from_be_bytes(*bytes).into(),
                }))
            }

            fn write_head(length: u64, buffer: &mut Vec<u8>) {
                // The length fits, so the integer is its low bytes.
                let bytes = length.to_be_bytes();
                buffer.extend_from_slice(&bytes[bytes.len() - size_of::<$integer>()..]);
            }
        }
    };
}

prefix!(u8);
prefix!(u16);
prefix!(u32);

impl StringFormat for Netstring {}

impl sealed::Format for Netstring {
    const LONGEST: u64 = u64::MAX;
    const END: &'static [u8] = b",";

    fn head(input: &[u8]) -> Result<Option<Head>, NetstringParseError> {
        // The number of digits of 2^64 - 1.
        const MOST_DIGITS: usize = 20;
        let mut length: u64 = 0;
        for (index, &byte) in input.iter().enumerate() {
            match byte {
                b':' if index > 0 => {
                    return Ok(Some(Head {
                        prefix: index + 1,
                        length,
                    }));
                }
                // A length has only one representation: "00" and "01" are refused.
                b'0'..=b'9' if index == 1 && input[0] == b'0' => {
                    return Err(NetstringParseError::LeadingZero);
                }
                b'0'..=b'9' if index < MOST_DIGITS => {
                    length = length
                        .checked_mul(10)
                        .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                        .ok_or(NetstringParseError::LengthTooLarge)?;
                }
                b'0'..=b'9' => return Err(NetstringParseError::LengthTooLarge),
                _ => return Err(NetstringParseError::Length { byte }),
            }
        }
        Ok(None)
    }

    fn write_head(length: u64, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(format!("{length}:").as_bytes());
    }
}

/// Received bytes are not a netstring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetstringParseError {
    /// The length has a byte that is not a digit, or no digits.
    Length {
        /// The byte.
        byte: u8,
    },
    /// The length has a leading zero.
    LeadingZero,
    /// The length is 2^64 or more.
    LengthTooLarge,
    /// No comma follows the string.
    Comma {
        /// The byte in its place.
        byte: u8,
    },
}

impl fmt::Display for NetstringParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { byte } => write!(
                f,
                "the length of a netstring is decimal digits and a colon, got \"{}\"",
                byte.escape_ascii()
            ),
            Self::LeadingZero => f.write_str("the length of a netstring has a leading zero"),
            Self::LengthTooLarge => f.write_str("the length of a netstring is 2^64 or more"),
            Self::Comma { byte } => write!(
                f,
                "a netstring ends with a comma, got \"{}\"",
                byte.escape_ascii()
            ),
        }
    }
}

impl Error for NetstringParseError {}

#[cfg(test)]
mod tests {
    use super::sealed::Format;
    use super::*;

    /// PR-18.
    #[test]
    fn heads_of_netstrings() {
        let head = |prefix, length| Ok(Some(Head { prefix, length }));
        for (input, want) in [
            ("", Ok(None)),
            ("1", Ok(None)),
            ("0:", head(2, 0)),
            ("12:x", head(3, 12)),
            ("18446744073709551615:", head(21, u64::MAX)),
            (
                "18446744073709551616",
                Err(NetstringParseError::LengthTooLarge),
            ),
            (
                "100000000000000000000",
                Err(NetstringParseError::LengthTooLarge),
            ),
            ("00:", Err(NetstringParseError::LeadingZero)),
            ("01:", Err(NetstringParseError::LeadingZero)),
            (":", Err(NetstringParseError::Length { byte: b':' })),
            ("+1:", Err(NetstringParseError::Length { byte: b'+' })),
            ("1 :", Err(NetstringParseError::Length { byte: b' ' })),
            ("-1:", Err(NetstringParseError::Length { byte: b'-' })),
        ] {
            assert_eq!(Netstring::head(input.as_bytes()), want, "{input:?}");
        }
    }

    #[test]
    fn heads_of_prefixed_strings_are_big_endian() {
        assert_eq!(u16::head(b"\x01"), Ok(None));
        let want = Head {
            prefix: 2,
            length: 258,
        };
        assert_eq!(u16::head(b"\x01\x02\x03"), Ok(Some(want)));
        let mut buffer = Vec::new();
        u32::write_head(258, &mut buffer);
        u8::write_head(255, &mut buffer);
        assert_eq!(buffer, b"\0\0\x01\x02\xff");
    }
}
