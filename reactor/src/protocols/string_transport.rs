//! The transport of a protocol of strings.

use std::error::Error;
use std::fmt;

use super::StringFormat;
use super::string_formats::sealed::Format;
use crate::net::Transport;

/// The connection of a [`StringProtocol`](super::StringProtocol): sends strings, each with its length.
///
/// Cheap to clone and to keep; it does not keep the connection open.
#[derive(Debug, Clone)]
pub struct StringTransport {
    transport: Transport,
    longest: u64,
    end: &'static [u8],
    write_head: fn(u64, &mut Vec<u8>),
}

impl StringTransport {
    pub(super) fn new<F: StringFormat>(transport: &Transport) -> Self {
        Self {
            transport: transport.clone(),
            longest: <F as Format>::LONGEST,
            end: <F as Format>::END,
            write_head: <F as Format>::write_head,
        }
    }

    /// The transport of the connection: pauses, resumes and closes it, and has the peer's address.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Sends a string with its length (Twisted's `sendString`).
    ///
    /// # Errors
    ///
    /// [`StringTooLongError`] if the length does not fit its prefix; nothing is sent then. The
    /// [`max_length`](super::StringReceiver::max_length) is for received strings only.
    pub fn send_string(&self, string: impl AsRef<[u8]>) -> Result<(), StringTooLongError> {
        let string = string.as_ref();
        let length = string.len() as u64;
        if length > self.longest {
            return Err(StringTooLongError {
                length,
                longest: self.longest,
            });
        }
        self.transport.write_with(|buffer| {
            (self.write_head)(length, buffer);
            buffer.extend_from_slice(string);
            buffer.extend_from_slice(self.end);
        });
        Ok(())
    }

    /// Closes the connection once everything is sent; see [`Transport::lose_connection`]. No more
    /// strings are delivered.
    pub fn lose_connection(&self) {
        self.transport.lose_connection();
    }
}

/// A string is too long for its length prefix; it was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StringTooLongError {
    /// The length of the string, in bytes.
    pub length: u64,
    /// The maximum length, in bytes.
    pub longest: u64,
}

impl fmt::Display for StringTooLongError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, longest } = self;
        write!(
            f,
            "cannot send a string of {length} bytes: its length prefix allows {longest} bytes"
        )
    }
}

impl Error for StringTooLongError {}
