//! The chunked transfer coding, as a server reads it (RFC 9112, section 7.1).
//!
//! The decoder takes its input in any pieces. It is strict, because where two parsers disagree on
//! where a body ends, the rest of it becomes somebody else's request: a size is hexadecimal digits
//! and nothing else, each line ends in CR LF, and extensions hold no control bytes. Extensions and
//! trailers are checked, counted against a limit, and ignored.

use std::error::Error;
use std::fmt;

use http::StatusCode;

/// The longest line that tells a chunk's size, extensions included.
const SIZE_LINE_BYTES: usize = 1024;

/// All trailer lines together.
const TRAILER_BYTES: usize = 16 * 1024;

/// Reads one chunked body.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes of the line, or of the trailers, so far.
    line: usize,
    /// Size of the chunk whose size line is being read.
    size: u64,
    has_digits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeEnd,
    Data {
        left: u64,
    },
    DataCr,
    DataEnd,
    /// At the start of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerEnd,
    /// The CR of the empty line was read.
    LastEnd,
    Done,
}

/// Why a chunked body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkError {
    /// Something else than hexadecimal digits, or too many of them, where a size should be.
    Size,
    /// A control byte in an extension, or a line end that is not CR LF.
    Line,
    /// A size line or the trailers are longer than allowed.
    TooLong,
    /// A trailer is no header field.
    Trailer,
    /// The body is longer than allowed.
    TooLarge,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "a chunk size is not a hexadecimal number",
            Self::Line => "a chunk line is malformed",
            Self::TooLong => "a chunk size line or the trailer section is too long",
            Self::Trailer => "a trailer field is malformed",
            Self::TooLarge => "the request body is too large",
        })
    }
}

impl Error for ChunkError {}

impl ChunkError {
    /// What the client is told.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Size,
            line: 0,
            size: 0,
            has_digits: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Decodes `input` onto the end of `body`, which may grow to `limit` bytes; how much of the
    /// input was used. What is left behind belongs to the next request.
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        limit: usize,
    ) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if let State::Data { left } = self.state {
                let here = usize::try_from(left)
                    .map_or(input.len() - at, |left| left.min(input.len() - at));
                body.extend_from_slice(&input[at..at + here]);
                at += here;
                self.state = match left - here as u64 {
                    0 => State::DataCr,
                    left => State::Data { left },
                };
                continue;
            }
            self.step(input[at], (limit.saturating_sub(body.len())) as u64)?;
            at += 1;
        }
        Ok(at)
    }

    /// Takes one byte of anything but data. `room` is how large the next chunk may be.
    fn step(&mut self, byte: u8, room: u64) -> Result<(), ChunkError> {
        self.count_line()?;
        self.state = match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or_default());
                self.size = self
                    .size
                    .checked_mul(16)
                    .map(|size| size + digit)
                    .ok_or(ChunkError::Size)?;
                self.has_digits = true;
                State::Size
            }
            (State::Size, _) if !self.has_digits => return Err(ChunkError::Size),
            // White space before the extensions is allowed, if bad (RFC 9112, 7.1.1).
            (State::Size, b';' | b' ' | b'\t') => State::Extension,
            (State::Size | State::Extension, b'\r') => State::SizeEnd,
            (State::Size, _) => return Err(ChunkError::Size),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => State::Extension,
            (State::SizeEnd, b'\n') => {
                let size = std::mem::take(&mut self.size);
                self.has_digits = false;
                self.line = 0;
                match size {
                    0 => State::Trailer,
                    size if size > room => return Err(ChunkError::TooLarge),
                    left => State::Data { left },
                }
            }
            (State::DataCr, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => {
                self.line = 0;
                State::Size
            }
            (State::Trailer, b'\r') => State::LastEnd,
            (State::Trailer | State::TrailerName, byte) if is_token(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::Trailer | State::TrailerName, _) => return Err(ChunkError::Trailer),
            (State::TrailerValue, b'\r') => State::TrailerEnd,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => State::TrailerValue,
            (State::TrailerEnd, b'\n') => State::Trailer,
            (State::LastEnd, b'\n') => State::Done,
            _ => return Err(ChunkError::Line),
        };
        Ok(())
    }

    fn count_line(&mut self) -> Result<(), ChunkError> {
        self.line += 1;
        let limit = match self.state {
            State::Size | State::Extension | State::SizeEnd => SIZE_LINE_BYTES,
            _ => TRAILER_BYTES,
        };
        if self.line > limit {
            return Err(ChunkError::TooLong);
        }
        Ok(())
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut decoder = Decoder::new();
        let mut body = Vec::new();
        let used = decoder.decode(input, &mut body, 100)?;
        Ok((body, used, decoder.is_done()))
    }

    /// W-45.
    #[test]
    fn good_bodies_are_read_and_what_follows_is_left() {
        for (input, body, rest) in [
            ("0\r\n\r\n", "", ""),
            ("3\r\nabc\r\n0\r\n\r\nGET", "abc", "GET"),
            ("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde", ""),
            ("A\r\n0123456789\r\n00\r\n\r\n", "0123456789", ""),
            ("3;name=value\r\nabc\r\n0;x=\"y z\"\r\n\r\n", "abc", ""),
            ("3 ; a\r\nabc\r\n0\r\n\r\n", "abc", ""),
            (
                "1\r\nx\r\n0\r\nTrailer: value\r\nOther:\r\n\r\nrest",
                "x",
                "rest",
            ),
        ] {
            let (got, used, is_done) = decode(input.as_bytes()).unwrap();
            assert!(is_done, "{input:?}");
            assert_eq!(got, body.as_bytes(), "{input:?}");
            assert_eq!(&input[used..], rest, "{input:?}");
        }
    }

    /// W-45.
    #[test]
    fn bad_bodies_are_refused() {
        let long_line = format!("1;{}\r\nx", "y".repeat(SIZE_LINE_BYTES));
        let long_trailer = format!("0\r\nA: {}\r\n\r\n", "y".repeat(TRAILER_BYTES));
        for (input, want) in [
            ("\r\n", ChunkError::Size),
            ("x\r\n", ChunkError::Size),
            ("0x3\r\nabc\r\n", ChunkError::Size),
            ("-3\r\nabc\r\n", ChunkError::Size),
            ("+3\r\nabc\r\n", ChunkError::Size),
            (" 3\r\nabc\r\n", ChunkError::Size),
            ("fffffffffffffffff\r\n", ChunkError::Size),
            ("3\nabc", ChunkError::Size),
            ("3;a\nb\r\nabc", ChunkError::Line),
            ("3;a\0\r\nabc", ChunkError::Line),
            ("3\r\nabcd\r\n", ChunkError::Line),
            ("3\r\nabc\n", ChunkError::Line),
            ("3\rabc", ChunkError::Line),
            ("65\r\n", ChunkError::TooLarge),
            ("0\r\nno colon\r\n\r\n", ChunkError::Trailer),
            ("0\r\n: no name\r\n\r\n", ChunkError::Trailer),
            ("0\r\nA: b\n\r\n", ChunkError::Line),
            (long_line.as_str(), ChunkError::TooLong),
            (long_trailer.as_str(), ChunkError::TooLong),
        ] {
            assert_eq!(decode(input.as_bytes()), Err(want), "{input:?}");
        }
    }

    proptest::proptest! {
        /// Any cut of the same bytes gives the same body, or the same refusal.
        #[test]
        fn pieces_do_not_matter(
            chunks in proptest::collection::vec(proptest::collection::vec(0u8.., 1..20), 0..6),
            noise in proptest::option::of((0usize..200, 0u8..)),
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\nA: b\r\n\r\n");
            if let Some((at, byte)) = noise {
                let at = at % wire.len();
                wire[at] = byte;
            }
            let whole = decode(&wire).map(|(body, _, is_done)| (body, is_done));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % wire.len()).collect();
            cuts.push(wire.len());
            cuts.sort_unstable();
            let mut decoder = Decoder::new();
            let mut body = Vec::new();
            let mut at = 0;
            let mut outcome = Ok(());
            for cut in cuts {
                match decoder.decode(&wire[at..cut], &mut body, 100) {
                    Ok(_) => at = cut,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            assert_eq!(outcome.map(|()| (body, decoder.is_done())), whole);
        }
    }
}
