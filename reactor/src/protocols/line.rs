//! Lines: the trait that users implement, and the receiver that splits input into lines.

use std::fmt;

use memchr::memchr;

use super::LineTransport;
use super::input::{Input, feed};
use crate::deferred::Failure;
use crate::net::{Protocol, Transport};

/// The longest line unless set, in bytes: Twisted's `MAX_LENGTH`.
const MAX_LENGTH: usize = 16_384;

/// One end of a connection that exchanges lines; a [`LineReceiver`] makes a [`Protocol`] of it.
///
/// The methods are called one at a time, as those of a [`Protocol`]. If one returns an error or
/// panics, its connection is closed, and `connection_lost` gets the error.
///
/// An example of a command that announces raw data:
///
/// ```
/// use deferred_reactor::protocols::{LineProtocol, LineReceiver, LineTransport};
/// use deferred_reactor::{Failure, testing::MemoryReactor};
///
/// /// `put N` is followed by N bytes.
/// #[derive(Default)]
/// struct Store { missing: usize, stored: Vec<u8> }
///
/// impl LineProtocol for Store {
///     fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
///         match std::str::from_utf8(line)?.strip_prefix("put ") {
///             Some(length) => {
///                 self.missing = length.parse()?;
///                 lines.set_raw_mode();
///             }
///             None => lines.send_line("put what?"),
///         }
///         Ok(())
///     }
///
///     fn raw_data_received(&mut self, lines: &LineTransport, data: &[u8]) -> Result<(), Failure> {
///         let (ours, rest) = data.split_at(self.missing.min(data.len()));
///         self.stored.extend_from_slice(ours);
///         self.missing -= ours.len();
///         if self.missing == 0 {
///             lines.send_line(format!("{} bytes stored", self.stored.len()));
///             lines.set_line_mode(rest);
///         }
///         Ok(())
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// let client = memory.connect(LineReceiver::new(Store::default()));
/// assert_eq!(client.exchange("put 4\r\na\r\nbget\r\n"), b"4 bytes stored\r\nput what?\r\n");
/// # Ok::<(), Failure>(())
/// ```
pub trait LineProtocol: 'static {
    /// The connection was established. `lines` may be cloned and kept.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn connection_made(&mut self, lines: &LineTransport) -> Result<(), Failure> {
        let _ = lines;
        Ok(())
    }

    /// A line was received. `line` is without its delimiter, and may be empty (Twisted's
    /// `lineReceived`).
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure>;

    /// Bytes were received in [raw mode](LineTransport::set_raw_mode): one or more (Twisted's
    /// `rawDataReceived`).
    ///
    /// # Errors
    ///
    /// Ends the connection. The default returns an error, so a protocol that sets raw mode must
    /// override it.
    fn raw_data_received(&mut self, lines: &LineTransport, data: &[u8]) -> Result<(), Failure> {
        let _ = (lines, data);
        Err(Failure::message(format!(
            "{} has set raw mode and does not implement raw_data_received",
            std::any::type_name::<Self>()
        )))
    }

    /// A line is longer than [`max_length`](LineReceiver::max_length) bytes (Twisted's
    /// `lineLengthExceeded`). Called once for each such line, as soon as it is certain; `line` is
    /// the part received so far.
    ///
    /// The default closes the connection. If it stays open, the rest of the line is skipped, and
    /// the next line is delivered.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn line_length_exceeded(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
        let _ = line;
        lines.lose_connection();
        Ok(())
    }

    /// The peer has closed its sending side; see [`Protocol::read_connection_lost`]. The default
    /// closes the connection once everything is sent.
    fn read_connection_lost(&mut self, lines: &LineTransport) {
        lines.lose_connection();
    }

    /// The peer has closed its side while the transport is paused, and input is left to be
    /// delivered; see [`Protocol::peer_closed`].
    fn peer_closed(&mut self, lines: &LineTransport) {
        let _ = lines;
    }

    /// The sending side is closed; see [`Protocol::write_connection_lost`].
    fn write_connection_lost(&mut self, lines: &LineTransport) {
        let _ = lines;
    }

    /// The system accepts no more output for now; see [`Protocol::write_blocked`].
    fn write_blocked(&mut self, lines: &LineTransport) {
        let _ = lines;
    }

    /// The system has accepted all output after a congestion; see [`Protocol::write_drained`].
    fn write_drained(&mut self, lines: &LineTransport) {
        let _ = lines;
    }

    /// The connection has ended; called once, and last. See [`Protocol::connection_lost`].
    fn connection_lost(&mut self, reason: &Failure) {
        let _ = reason;
    }
}

/// Splits the input into lines for a [`LineProtocol`] (Twisted's `LineReceiver`).
///
/// Lines end with CR LF and are 16 384 bytes long at most, unless set. Only the delimiter itself ends
/// a line: with CR LF, a line feed alone is part of it.
///
/// ```
/// use deferred_reactor::protocols::{LineProtocol, LineReceiver, LineTransport};
/// use deferred_reactor::{Failure, testing::MemoryReactor};
///
/// struct Count(usize);
///
/// impl LineProtocol for Count {
///     fn line_received(&mut self, lines: &LineTransport, _line: &[u8]) -> Result<(), Failure> {
///         self.0 += 1;
///         lines.send_line(self.0.to_string());
///         Ok(())
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// let client = memory.connect(LineReceiver::new(Count(0)).delimiter("\n").max_length(80));
/// assert_eq!(client.exchange("one\ntwo\n"), b"1\n2\n");
/// client.exchange("x".repeat(82));
/// assert!(client.is_closed()); // as `line_length_exceeded` does
/// # Ok::<(), Failure>(())
/// ```
pub struct LineReceiver<P> {
    protocol: P,
    delimiter: Vec<u8>,
    max_length: usize,
    /// `Some` from the start of the connection.
    lines: Option<LineTransport>,
    kept: Input,
    cutter: Cutter,
}

/// The state of the search for the end of a line.
#[derive(Debug, Default)]
struct Cutter {
    /// Number of bytes of the current line that were searched.
    searched: usize,
    /// The current line is too long and was reported: it is skipped.
    skips: bool,
}

/// The beginning of the input.
enum Cut {
    /// A line of this length, and its delimiter.
    Line(usize),
    /// The end of a skipped line, of this length with its delimiter.
    Skipped(usize),
    /// Part of a line that is too long and was not reported yet.
    TooLong,
    /// Part of a line.
    Nothing,
}

impl Cutter {
    /// Looks for a line at the beginning of `input`. Unless the previous call found one, `input`
    /// must begin with the same bytes as then.
    fn cut(&mut self, input: &[u8], delimiter: &[u8], max_length: usize) -> Cut {
        let Some(&last) = delimiter.last() else {
            return Cut::Nothing; // `LineReceiver::delimiter` takes none that is empty
        };
        // Searches for the last byte of the delimiter: the bytes before it have arrived by then,
        // wherever the input was split.
        while let Some(found) = memchr(last, &input[self.searched..]) {
            self.searched += found + 1;
            if input[..self.searched].ends_with(delimiter) {
                let end = std::mem::take(&mut self.searched);
                return match std::mem::take(&mut self.skips) {
                    true => Cut::Skipped(end),
                    false => Cut::Line(end - delimiter.len()),
                };
            }
        }
        self.searched = input.len();
        // A line of the maximum length may have arrived with all but the last byte of its
        // delimiter.
        match !self.skips && input.len() >= max_length.saturating_add(delimiter.len()) {
            true => Cut::TooLong,
            false => Cut::Nothing,
        }
    }

    /// Starts or continues to skip a line of which `length` bytes have arrived; returns how many of
    /// them can be dropped.
    fn skip(&mut self, length: usize, delimiter: &[u8]) -> usize {
        self.skips = true;
        let kept = length.min(delimiter.len() - 1); // perhaps a part of the delimiter
        self.searched = 0;
        length - kept
    }
}

impl<P: LineProtocol> LineReceiver<P> {
    /// Wraps `protocol`, which gets the lines.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            delimiter: b"\r\n".to_vec(),
            max_length: MAX_LENGTH,
            lines: None,
            kept: Input::default(),
            cutter: Cutter::default(),
        }
    }

    /// Sets what ends a line, received or sent (CR LF unless set).
    ///
    /// # Panics
    ///
    /// If it is empty.
    #[must_use]
    pub fn delimiter(mut self, delimiter: impl AsRef<[u8]>) -> Self {
        let delimiter = delimiter.as_ref();
        assert!(
            !delimiter.is_empty(),
            "the delimiter of a LineReceiver is empty; give it one byte or more, such as \"\\n\""
        );
        self.delimiter = delimiter.to_vec();
        self
    }

    /// Sets the longest line that is delivered, in bytes and without its delimiter (16 384 unless set;
    /// with 0, only empty lines are). Raw data have no limit, since they are not kept.
    #[must_use]
    pub fn max_length(mut self, bytes: usize) -> Self {
        self.max_length = bytes;
        self
    }

    /// Delivers complete lines from `input`, and returns the number of bytes used.
    fn deliver(&mut self, lines: &LineTransport, input: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        while used < input.len() && lines.goes_on() {
            let rest = &input[used..];
            if lines.is_raw() {
                self.cutter = Cutter::default();
                used += lines.lend(rest, || self.protocol.raw_data_received(lines, rest))?;
                continue;
            }
            match self.cutter.cut(rest, &self.delimiter, self.max_length) {
                Cut::Line(length) => {
                    used += length + self.delimiter.len();
                    let line = &rest[..length];
                    match length <= self.max_length {
                        true => self.protocol.line_received(lines, line)?,
                        false => self.protocol.line_length_exceeded(lines, line)?,
                    }
                }
                Cut::Skipped(length) => used += length,
                Cut::TooLong => {
                    used += self.cutter.skip(rest.len(), &self.delimiter);
                    self.protocol.line_length_exceeded(lines, rest)?;
                    return Ok(used);
                }
                Cut::Nothing => {
                    if self.cutter.skips {
                        used += self.cutter.skip(rest.len(), &self.delimiter);
                    }
                    return Ok(used);
                }
            }
        }
        if used < input.len() {
            lines.transport().deliver_again(); // when it goes on
        }
        Ok(used)
    }

    /// Calls the protocol, which is connected.
    fn tell(&mut self, call: impl FnOnce(&mut P, &LineTransport)) {
        if let Some(lines) = &self.lines {
            call(&mut self.protocol, lines);
        }
    }
}

impl<P: LineProtocol> Protocol for LineReceiver<P> {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        let lines = LineTransport::new(transport, &self.delimiter);
        self.lines = Some(lines.clone());
        self.protocol.connection_made(&lines)
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
        let Some(lines) = self.lines.clone() else {
            return Ok(()); // nothing comes before the connection is made
        };
        let given_back = lines.take_given_back();
        let mut kept = std::mem::take(&mut self.kept);
        if !given_back.is_empty() {
            kept.push_front(given_back);
            self.cutter.searched = 0;
        }
        feed(&mut kept, data, |input| self.deliver(&lines, input))?;
        self.kept = kept;
        Ok(())
    }

    fn read_connection_lost(&mut self, _: &Transport) {
        self.tell(P::read_connection_lost);
    }

    fn peer_closed(&mut self, _: &Transport) {
        self.tell(P::peer_closed);
    }

    fn write_connection_lost(&mut self, _: &Transport) {
        self.tell(P::write_connection_lost);
    }

    fn write_blocked(&mut self, _: &Transport) {
        self.tell(P::write_blocked);
    }

    fn write_drained(&mut self, _: &Transport) {
        self.tell(P::write_drained);
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.protocol.connection_lost(reason);
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<P>()
    }
}

impl<P> fmt::Debug for LineReceiver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineReceiver")
            .field("delimiter", &self.delimiter.escape_ascii().to_string())
            .field("max_length", &self.max_length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PR-12: what was searched is not looked at again, which shows where it has changed.
    #[test]
    fn no_byte_is_searched_twice() {
        let mut cutter = Cutter::default();
        let mut cut = |input: &[u8]| cutter.cut(input, b"\r\n", 100);
        assert!(matches!(cut(b"abcd"), Cut::Nothing));
        assert!(matches!(cut(b"\r\n\r\nef\r"), Cut::Nothing));
        assert!(matches!(cut(b"\r\n\r\nef\r\n"), Cut::Line(6)));
        assert!(matches!(cut(b"\r\n"), Cut::Line(0)));
    }
}
