//! Strings with their lengths: what users write, and what puts the strings together.

use std::fmt;
use std::marker::PhantomData;

use super::input::{Input, feed};
use super::string_formats::{Netstring, sealed::Format};
use super::{NetstringParseError, StringFormat, StringTransport};
use crate::deferred::Failure;
use crate::net::{Protocol, Transport};

/// The longest string unless set, in bytes: Twisted's `MAX_LENGTH`.
const MAX_LENGTH: u64 = 99_999;

/// One end of a connection that speaks in strings of known length; a [`StringReceiver`] makes a
/// protocol of it.
///
/// The methods are called one at a time, as those of a [`Protocol`] are. One that returns an error or
/// panics loses its connection, and the error is the reason that `connection_lost` gets.
pub trait StringProtocol: 'static {
    /// The connection is there. `strings` may be cloned and kept.
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn connection_made(&mut self, strings: &StringTransport) -> Result<(), Failure> {
        let _ = strings;
        Ok(())
    }

    /// A string has come; it may be empty (Twisted's `stringReceived`).
    ///
    /// # Errors
    ///
    /// Ends the connection.
    fn string_received(&mut self, strings: &StringTransport, string: &[u8]) -> Result<(), Failure>;

    /// A string is announced that is longer than [`max_length`](StringReceiver::max_length) (Twisted's
    /// `lengthLimitExceeded`); called once for each, when its length has come.
    ///
    /// Closes the connection unless overridden. If it stays open, that string is skipped, and the next
    /// one is delivered.
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

    /// What came is not a netstring (Twisted's `handleParseError`); only a [`NetstringReceiver`] calls
    /// it. Nobody can tell where the next string begins: nothing is delivered after this.
    ///
    /// Closes the connection unless overridden.
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

    /// The peer will send no more; see [`Protocol::read_connection_lost`]. Closes the connection once
    /// everything is sent, unless overridden.
    fn read_connection_lost(&mut self, strings: &StringTransport) {
        strings.lose_connection();
    }

    /// The peer will send no more, and there is input that was not delivered, since the transport is
    /// paused; see [`Protocol::peer_closed`].
    fn peer_closed(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// Our sending side is closed; see [`Protocol::write_connection_lost`].
    fn write_connection_lost(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// The system takes no more for now; see [`Protocol::write_blocked`].
    fn write_blocked(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// Everything that was written has left, after it had jammed; see [`Protocol::write_drained`].
    fn write_drained(&mut self, strings: &StringTransport) {
        let _ = strings;
    }

    /// The connection is gone; called once, and last. See [`Protocol::connection_lost`].
    fn connection_lost(&mut self, reason: &Failure) {
        let _ = reason;
    }
}

/// Splits the input into strings for a [`StringProtocol`].
///
/// The second parameter is the format. Its names are [`Int8StringReceiver`], [`Int16StringReceiver`],
/// [`Int32StringReceiver`] and [`NetstringReceiver`]. Strings are 99 999 bytes long at most, unless
/// set.
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
    /// From the beginning of the connection.
    strings: Option<StringTransport>,
    kept: Input,
    state: State,
    format: PhantomData<F>,
}

/// Receives strings behind a big-endian length of type `N`: `u8`, `u16` or `u32` (Twisted's
/// `IntNStringReceiver`).
pub type IntNStringReceiver<P, N> = StringReceiver<P, N>;

/// Receives strings behind a length of 1 byte (Twisted's `Int8StringReceiver`).
pub type Int8StringReceiver<P> = IntNStringReceiver<P, u8>;

/// Receives strings behind a big-endian length of 2 bytes (Twisted's `Int16StringReceiver`).
pub type Int16StringReceiver<P> = IntNStringReceiver<P, u16>;

/// Receives strings behind a big-endian length of 4 bytes (Twisted's `Int32StringReceiver`).
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

/// What the input begins with.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A string.
    Begins,
    /// The rest of a string that is too long, so many bytes of it with what ends it.
    Skips(u64),
    /// Something that is no string.
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

    /// Sets the longest string that is delivered, in bytes (99 999 unless set; with 0, only empty ones).
    ///
    /// Memory is taken as the bytes of a string come, and not when it is announced.
    #[must_use]
    pub fn max_length(mut self, bytes: u64) -> Self {
        self.max_length = bytes;
        self
    }

    /// Delivers what it can from `input`, and tells how much that was.
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
                    // No more than there is in memory.
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

    /// Delivers the string at the beginning of `input`; how many bytes that has used, and none if it
    /// has not come whole.
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
        // One that does not fit an address has not come whole, either.
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

    /// Calls the protocol; it is connected.
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
