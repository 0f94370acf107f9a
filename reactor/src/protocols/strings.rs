//! Length-prefixed strings: the trait that users implement, and the receiver that splits input into
//! strings.

use std::fmt;
use std::marker::PhantomData;

use super::input::{Input, feed};
use super::string_formats::{Netstring, sealed::Format};
use super::{NetstringParseError, StringFormat, StringTransport};
use crate::deferred::Failure;
use crate::net::{Protocol, Transport};

/// The longest string unless set, in bytes: Twisted's `MAX_LENGTH`.
const MAX_LENGTH: u64 = 99_999;

/// One end of a connection that exchanges strings with their lengths; a [`StringReceiver`] makes a
/// [`Protocol`] of it.
///
/// The methods are called one at a time, as those of a [`Protocol`]. If one returns an error or
/// panics, its connection is closed, and `connection_lost` gets the error.
pub trait StringProtocol: 'static {
    /// The connection was established. `strings` may be cloned and kept.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn connection_made(&mut self, strings: &StringTransport) -> Result<(), Failure> {
        let _ = strings;
        Ok(())
    }

    /// A string was received; it may be empty (Twisted's `stringReceived`).
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn string_received(&mut self, strings: &StringTransport, string: &[u8]) -> Result<(), Failure>;

    /// The peer has announced a string longer than [`max_length`](StringReceiver::max_length) bytes
    /// (Twisted's `lengthLimitExceeded`). Called once for each such string, when its length has
    /// arrived.
    ///
    /// The default closes the connection. If it stays open, the string is skipped, and the next one
    /// is delivered.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn length_limit_exceeded(
        &mut self,
        strings: &StringTransport,
        length: u64,
    ) -> Result<(), Failure> {
        let _ = length;
        strings.lose_connection();
        Ok(())
    }

    /// Received bytes are not a netstring (Twisted's `handleParseError`); only a
    /// [`NetstringReceiver`] calls this. The start of the next string is unknown, so nothing more
    /// is delivered.
    ///
    /// The default closes the connection.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn handle_parse_error(
        &mut self,
        strings: &StringTransport,
        error: NetstringParseError,
    ) -> Result<(), Failure> {
        let _ = error;
        strings.lose_connection();
        Ok(())
    }

    /// The peer has closed its sending side; see [`Protocol::read_connection_lost`]. The default
    /// closes the connection once everything is sent.
    fn read_connection_lost(&mut self, strings: &StringTransport) {
        strings.lose_connection();
    }

    /// The peer has closed its side while the transport is paused, and input is left to be
    /// delivered; see [`Protocol::peer_closed`].
    fn peer_closed(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// The sending side is closed; see [`Protocol::write_connection_lost`].
    fn write_connection_lost(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// The system accepts no more output for now; see [`Protocol::write_blocked`].
    fn write_blocked(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// The system has accepted all output after a congestion; see [`Protocol::write_drained`].
    fn write_drained(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// The connection has ended; called once, and last. See [`Protocol::connection_lost`].
    fn connection_lost(&mut self, reason: &Failure) {
        let _ = reason;
    }
}

/// Splits the input into strings for a [`StringProtocol`].
///
/// The type parameter `F` is the format; the aliases are [`Int8StringReceiver`],
/// [`Int16StringReceiver`], [`Int32StringReceiver`] and [`NetstringReceiver`]. Strings are at most
/// 99 999 bytes long unless set.
///
/// ```
/// use deferred_reactor::protocols::{Int16StringReceiver, StringProtocol, StringTransport};
/// use deferred_reactor::{Failure, testing::MemoryReactor};
///
/// struct Reverse;
///
/// impl StringProtocol for Reverse {
///     fn string_received(&mut self, strings: &StringTransport, string: &[u8]) -> Result<(), Failure> {
///         let reversed: Vec<u8> = string.iter().rev().copied().collect();
///         strings.send_string(reversed)?;
///         Ok(())
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// let client = memory.connect(Int16StringReceiver::new(Reverse).max_length(100));
/// assert_eq!(client.exchange(b"\x00\x03abc\x00\x00"), b"\x00\x03cba\x00\x00");
/// client.exchange(b"\x01\x00");
/// assert!(client.is_closed()); // 256 bytes are more than 100
/// # Ok::<(), Failure>(())
/// ```
pub struct StringReceiver<P, F> {
    protocol: P,
    max_length: u64,
    /// `Some` from the start of the connection.
    strings: Option<StringTransport>,
    kept: Input,
    state: State,
    format: PhantomData<F>,
}

/// Receives strings with a big-endian length of type `N`: `u8`, `u16` or `u32` (Twisted's
/// `IntNStringReceiver`).
pub type IntNStringReceiver<P, N> = StringReceiver<P, N>;

/// Receives strings with a length of 1 byte (Twisted's `Int8StringReceiver`).
pub type Int8StringReceiver<P> = IntNStringReceiver<P, u8>;

/// Receives strings with a big-endian length of 2 bytes (Twisted's `Int16StringReceiver`).
pub type Int16StringReceiver<P> = IntNStringReceiver<P, u16>;

/// Receives strings with a big-endian length of 4 bytes (Twisted's `Int32StringReceiver`).
pub type Int32StringReceiver<P> = IntNStringReceiver<P, u32>;

/// Receives netstrings, such as `5:hello,` (Twisted's `NetstringReceiver`).
///
/// ```
/// use deferred_reactor::protocols::{NetstringParseError, NetstringReceiver};
/// use deferred_reactor::protocols::{StringProtocol, StringTransport};
/// use deferred_reactor::{Failure, testing::MemoryReactor};
///
/// struct Echo;
///
/// impl StringProtocol for Echo {
///     fn string_received(&mut self, strings: &StringTransport, string: &[u8]) -> Result<(), Failure> {
///         strings.send_string(string)?;
///         Ok(())
///     }
///     fn handle_parse_error(
///         &mut self,
///         strings: &StringTransport,
///         error: NetstringParseError,
///     ) -> Result<(), Failure> {
///         strings.send_string(error.to_string())?;
///         strings.lose_connection();
///         Ok(())
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// let client = memory.connect(NetstringReceiver::new(Echo));
/// assert_eq!(client.exchange("5:hello,0:,"), b"5:hello,0:,");
/// assert_eq!(client.exchange("3:abc;"), b"38:a netstring ends with a comma, got \";\",");
/// ```
pub type NetstringReceiver<P> = StringReceiver<P, Netstring>;

/// The beginning of the input.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A string.
    Begins,
    /// The rest of a string that is too long: this many bytes, its end included.
    Skips(u64),
    /// Bytes that are not a string.
    IsBroken,
}

impl<P: StringProtocol, F: StringFormat> StringReceiver<P, F> {
    /// Wraps `protocol`, which gets the strings.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            max_length: MAX_LENGTH,
            strings: None,
            kept: Input::default(),
            state: State::Begins,
            format: PhantomData,
        }
    }

    /// Sets the longest string that is delivered, in bytes (99 999 unless set; with 0, only empty
    /// strings).
    ///
    /// Memory is allocated as the bytes of a string arrive, not when its length is announced.
    #[must_use]
    pub fn max_length(mut self, bytes: u64) -> Self {
        self.max_length = bytes;
        self
    }

    /// Delivers complete strings from `input`, and returns the number of bytes used.
    fn deliver(&mut self, strings: &StringTransport, input: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        while used < input.len() && strings.transport().is_producing() {
            let rest = &input[used..];
            match self.state {
                State::Begins => match self.next(strings, rest)? {
                    0 => return Ok(used), // the rest of it has not come
                    count => used += count,
                },
                State::Skips(missing) => {
                    // At most the bytes that have arrived.
                    let skipped = missing.min(rest.len() as u64);
                    used += skipped as usize;
                    self.state = match missing - skipped {
                        0 => State::Begins,
                        missing => State::Skips(missing),
                    };
                }
                State::IsBroken => return Ok(input.len()),
            }
        }
        if used < input.len() {
            strings.transport().deliver_again(); // when it goes on
        }
        Ok(used)
    }

    /// Delivers the string at the beginning of `input`; returns the number of bytes used, 0 if the
    /// string is incomplete.
    fn next(&mut self, strings: &StringTransport, input: &[u8]) -> Result<usize, Failure> {
        let head = match <F as Format>::head(input) {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(0),
            Err(error) => return self.breaks(strings, input, error),
        };
        let end = <F as Format>::END;
        let rest = &input[head.prefix..];
        if head.length > self.max_length {
            let missing = head.length.saturating_add(end.len() as u64);
            self.state = State::Skips(missing);
            self.protocol.length_limit_exceeded(strings, head.length)?;
            return Ok(head.prefix);
        }
        // A string too long for the address space is incomplete, too.
        let Ok(length) = usize::try_from(head.length) else {
            return Ok(0);
        };
        let Some((string, behind)) = rest.split_at_checked(length) else {
            return Ok(0);
        };
        if !behind.starts_with(end) {
            return match behind.first() {
                Some(&byte) => self.breaks(strings, input, NetstringParseError::Comma { byte }),
                None => Ok(0),
            };
        }
        self.protocol.string_received(strings, string)?;
        Ok(head.prefix + length + end.len())
    }

    fn breaks(
        &mut self,
        strings: &StringTransport,
        input: &[u8],
        error: NetstringParseError,
    ) -> Result<usize, Failure> {
        self.state = State::IsBroken;
        self.protocol.handle_parse_error(strings, error)?;
        Ok(input.len())
    }

    /// Calls the protocol, which is connected.
    fn tell(&mut self, call: impl FnOnce(&mut P, &StringTransport)) {
        if let Some(strings) = &self.strings {
            call(&mut self.protocol, strings);
        }
    }
}

impl<P: StringProtocol, F: StringFormat> Protocol for StringReceiver<P, F> {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        let strings = StringTransport::new::<F>(transport);
        self.strings = Some(strings.clone());
        self.protocol.connection_made(&strings)
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
        let Some(strings) = self.strings.clone() else {
            return Ok(()); // nothing comes before the connection is made
        };
        let mut kept = std::mem::take(&mut self.kept);
        feed(&mut kept, data, |input| self.deliver(&strings, input))?;
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

impl<P, F> fmt::Debug for StringReceiver<P, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StringReceiver")
            .field("format", &std::any::type_name::<F>())
            .field("max_length", &self.max_length)
            .finish_non_exhaustive()
    }
}
