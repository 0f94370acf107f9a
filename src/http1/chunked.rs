//! The decoder of the chunked transfer coding (RFC 9112, section 7.1).
//!
//! The decoder takes its input in any pieces, and hands out data as ranges of that input. It is
//! strict, because where two parsers disagree on where a body ends, the rest of it becomes another
//! client's request. Lines end in CR LF, a size is hexadecimal digits, and extensions follow the
//! grammar. Extensions are ignored; trailers are kept apart from the head.

use std::ops::Range;

use memchr::memchr;

use super::encode::is_forbidden_trailer;
use super::fields::{Fields, is_token, is_value, trim};
use super::refusal::{Excerpt, Refusal};

/// The most digits in a chunk size: those of 2^64 - 1.
const SIZE_DIGITS: usize = 16;

/// How many bytes of framing a byte of content may have, beyond the allowance. A chunk of one byte
/// needs five.
const OVERHEAD_PER_BYTE: u64 = 8;

/// What a sender may add to the content of a chunked body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkLimits {
    /// The longest line with a chunk size and extensions.
    pub(crate) line_bytes: usize,
    /// All bytes that are not content, beyond 8 for each byte of content.
    pub(crate) overhead_bytes: u64,
    /// All trailer lines together.
    pub(crate) trailer_bytes: usize,
    pub(crate) trailer_fields: usize,
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self {
            line_bytes: 1024,
            overhead_bytes: 16 * 1024,
            trailer_bytes: 16 * 1024,
            trailer_fields: 100,
        }
    }
}

/// Reads one chunked body.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    limits: ChunkLimits,
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// Bytes so far that were content, and that were not.
    content: u64,
    overhead: u64,
    /// Bytes of trailer lines, and how many lines.
    trailer_bytes: usize,
    trailer_lines: usize,
    trailers: Fields,
}

/// A step of decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// How much of the input was used, data included.
    pub(crate) used: usize,
    /// Where the data stands in the input; empty if no data came.
    pub(crate) data: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data {
        left: u64,
    },
    /// Before the CR behind data.
    DataCr,
    /// Before the LF behind data.
    DataLf,
    Trailer,
    Done,
}

impl Decoder {
    pub(crate) fn new(limits: ChunkLimits) -> Self {
        Self {
            state: State::Size,
            limits,
            line: Vec::new(),
            content: 0,
            overhead: 0,
            trailer_bytes: 0,
            trailer_lines: 0,
            trailers: Fields::default(),
        }
    }

    /// Whether the body and its trailers are complete. Input behind them is not touched.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers, without those that may not be trailers (RFC 9110, 6.5.1).
    pub(crate) fn trailers(&self) -> &Fields {
        &self.trailers
    }

    /// Uses `input` up to the end of the first piece of data in it, or as far as it goes.
    ///
    /// `room` is how many more bytes of content are allowed; a larger chunk is refused when its
    /// size is there. To be called until all input is used or the body [is done](Self::is_done).
    pub(crate) fn decode(&mut self, input: &[u8], room: u64) -> Result<Decoded, Refusal> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data { left } => {
                    let rest = input.len() - at;
                    let here = usize::try_from(left).map_or(rest, |left| left.min(rest));
                    self.state = match left - here as u64 {
                        0 => State::DataCr,
                        left => State::Data { left },
                    };
                    return Ok(Decoded {
                        used: at + here,
                        data: at..at + here,
                    });
                }
                State::DataCr | State::DataLf => {
                    let Some(&found) = input.get(at) else { break };
                    self.state = match (self.state, found) {
                        (State::DataCr, b'\r') => State::DataLf,
                        (State::DataLf, b'\n') => State::Size,
                        _ => return Err(Refusal::ChunkEnd { found }),
                    };
                    at += 1;
                }
                State::Size => {
                    let limit = self.limits.line_bytes;
                    let too_long = Refusal::ChunkLineTooLong { limit };
                    let Some(line) = take_line(&mut self.line, input, &mut at, limit, too_long)?
                    else {
                        break;
                    };
                    let size = parse_size_line(line)?;
                    // The CR LF of this line, and the one behind the data.
                    self.overhead += line.len() as u64 + 4;
                    self.line.clear();
                    self.start_chunk(size, room)?;
                }
                State::Trailer => {
                    let limit = self.limits.trailer_bytes;
                    let left = limit - self.trailer_bytes;
                    let too_large = Refusal::TrailersTooLarge { limit };
                    let Some(line) = take_line(&mut self.line, input, &mut at, left, too_large)?
                    else {
                        break;
                    };
                    if line.is_empty() {
                        self.state = State::Done;
                        break;
                    }
                    self.trailer_bytes = (self.trailer_bytes + line.len() + 2).min(limit);
                    self.trailer_lines += 1;
                    if self.trailer_lines > self.limits.trailer_fields {
                        let limit = self.limits.trailer_fields;
                        return Err(Refusal::TooManyTrailers { limit });
                    }
                    keep_trailer(line, &mut self.trailers)?;
                    self.line.clear();
                }
                State::Done => break,
            }
        }
        Ok(Decoded {
            used: at,
            data: at..at,
        })
    }

    fn start_chunk(&mut self, size: u64, room: u64) -> Result<(), Refusal> {
        let worth = self.content.saturating_mul(OVERHEAD_PER_BYTE);
        let limit = self.limits.overhead_bytes.saturating_add(worth);
        if self.overhead > limit {
            return Err(Refusal::ChunkOverhead { limit });
        }
        if size > room {
            return Err(Refusal::BodyTooLarge { size, room });
        }
        self.content = self.content.saturating_add(size);
        self.state = match size {
            0 => State::Trailer,
            left => State::Data { left },
        };
        Ok(())
    }
}

/// The line that ends next in `input`, without its CR LF; its start may be in `held`. Without an
/// end, the input is held for later.
fn take_line<'a>(
    held: &'a mut Vec<u8>,
    input: &'a [u8],
    at: &mut usize,
    limit: usize,
    too_long: Refusal,
) -> Result<Option<&'a [u8]>, Refusal> {
    let rest = &input[*at..];
    // With its CR, a line may be as long as that.
    let room = (limit + 1).saturating_sub(held.len());
    let Some(length) = memchr(b'\n', rest) else {
        if rest.len() > room {
            return Err(too_long);
        }
        held.extend_from_slice(rest);
        *at = input.len();
        return Ok(None);
    };
    if length > room {
        return Err(too_long);
    }
    *at += length + 1;
    let line = if held.is_empty() {
        &rest[..length]
    } else {
        held.extend_from_slice(&rest[..length]);
        held
    };
    match line {
        [line @ .., b'\r'] => Ok(Some(line)),
        _ => Err(Refusal::ChunkLine { line: line.into() }),
    }
}

/// `chunk-size [ chunk-ext ]` (RFC 9112, section 7.1).
#[inline]
fn parse_size_line(line: &[u8]) -> Result<u64, Refusal> {
    let mut size = 0;
    let mut digits = 0;
    for byte in line {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => break,
        };
        digits += 1;
        if digits > SIZE_DIGITS {
            break;
        }
        size = size << 4 | u64::from(digit);
    }
    if digits == 0 || digits > SIZE_DIGITS {
        return Err(Refusal::ChunkSize { line: line.into() });
    }
    match &line[digits..] {
        [] => Ok(size),
        extensions if are_extensions(extensions) => Ok(size),
        [b'\t' | b' ' | b';', ..] => Err(Refusal::ChunkLine { line: line.into() }),
        _ => Err(Refusal::ChunkSize { line: line.into() }),
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112, section 7.1.1).
fn are_extensions(extensions: &[u8]) -> bool {
    let mut rest = extensions;
    while !rest.is_empty() {
        let [b';', name @ ..] = trim_start(rest) else {
            return false;
        };
        let Some(after_name) = skip_token(trim_start(name)) else {
            return false;
        };
        rest = after_name;
        if let [b'=', value @ ..] = trim_start(rest) {
            let value = trim_start(value);
            let after_value = match value {
                [b'"', quoted @ ..] => skip_quoted(quoted),
                value => skip_token(value),
            };
            let Some(after_value) = after_value else {
                return false;
            };
            rest = after_value;
        }
    }
    true
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t'));
    &bytes[blanks.count()..]
}

/// What follows a token, if there is one.
fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.iter().take_while(|byte| is_token(**byte)).count();
    (length > 0).then(|| &bytes[length..])
}

/// What follows the quote that ends a quoted string, if there is one (RFC 9110, section 5.6.4).
fn skip_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', byte, rest @ ..] if is_value(*byte) => rest,
            [b'\\', ..] => return None,
            [byte, rest @ ..] if is_value(*byte) => rest,
            _ => return None,
        };
    }
}

/// Keeps a trailer, unless it may not be one.
fn keep_trailer(line: &[u8], trailers: &mut Fields) -> Result<(), Refusal> {
    let name = line.iter().take_while(|byte| is_token(**byte)).count();
    let (name, rest) = line.split_at(name);
    match rest {
        [b':', value @ ..] if !name.is_empty() && value.iter().all(|byte| is_value(*byte)) => {
            let is_forbidden = std::str::from_utf8(name).is_ok_and(is_forbidden_trailer);
            if !is_forbidden {
                trailers.push(name, trim(value));
            }
            Ok(())
        }
        _ => Err(Refusal::Trailer {
            line: Excerpt::from(line),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Reason;

    fn decode(input: &[u8]) -> Result<(Vec<u8>, usize, bool), Refusal> {
        let mut decoder = Decoder::new(ChunkLimits::default());
        let mut body = Vec::new();
        let used = feed(&mut decoder, input, &mut body)?;
        Ok((body, used, decoder.is_done()))
    }

    fn feed(decoder: &mut Decoder, input: &[u8], body: &mut Vec<u8>) -> Result<usize, Refusal> {
        let mut used = 0;
        while used < input.len() && !decoder.is_done() {
            let decoded = decoder.decode(&input[used..], 100 - body.len() as u64)?;
            body.extend_from_slice(&input[used..][decoded.data]);
            used += decoded.used;
        }
        Ok(used)
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
        let long_line = format!("1;{}\r\nx", "y".repeat(1024));
        let long_trailer = format!("0\r\nA: {}\r\n\r\n", "y".repeat(16 * 1024));
        for (input, want) in [
            ("\r\n", Reason::BadChunkSize),
            ("x\r\n", Reason::BadChunkSize),
            ("0x3\r\nabc\r\n", Reason::BadChunkSize),
            ("-3\r\nabc\r\n", Reason::BadChunkSize),
            ("+3\r\nabc\r\n", Reason::BadChunkSize),
            (" 3\r\nabc\r\n", Reason::BadChunkSize),
            ("fffffffffffffffff\r\n", Reason::BadChunkSize),
            ("3\nabc", Reason::BadChunkLine),
            ("3;a\nb\r\nabc", Reason::BadChunkLine),
            ("3;a\0\r\nabc", Reason::BadChunkLine),
            ("3\r\nabcd\r\n", Reason::BadChunkEnd),
            ("3\r\nabc\n", Reason::BadChunkEnd),
            ("3\rabc\r\n", Reason::BadChunkSize),
            ("65\r\n", Reason::BodyTooLarge),
            ("0\r\nno colon\r\n\r\n", Reason::BadTrailer),
            ("0\r\n: no name\r\n\r\n", Reason::BadTrailer),
            ("0\r\nA: b\n\r\n", Reason::BadChunkLine),
            (long_line.as_str(), Reason::ChunkLineTooLong),
            (long_trailer.as_str(), Reason::TrailersTooLarge),
        ] {
            let refusal = decode(input.as_bytes()).unwrap_err();
            assert_eq!(refusal.reason(), want, "{input:?}");
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
            let mut decoder = Decoder::new(ChunkLimits::default());
            let mut body = Vec::new();
            let mut at = 0;
            let mut outcome = Ok(());
            for cut in cuts {
                match feed(&mut decoder, &wire[at..cut], &mut body) {
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
