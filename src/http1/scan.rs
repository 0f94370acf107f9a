//! Where a head ends.

use memchr::memchr;

use super::refusal::{Excerpt, Refusal};
use super::request::HeadLimits;

/// Where the empty line ends, and how far the bytes have been looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    /// The start of the line that is not complete yet.
    line: usize,
}

impl Scan {
    /// The length of the head, empty line included, once it is all there.
    ///
    /// `data` begins where the head does, and has only grown since the last call.
    pub(super) fn find_end(
        &mut self,
        data: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
        while let Some(length) = memchr(b'\n', &data[self.line..]) {
            let end = self.line + length;
            if end == self.line || data[end - 1] != b'\r' {
                return Err(Refusal::BareLineFeed {
                    line: Excerpt::from(&data[self.line..end]),
                });
            }
            if self.line == 0 && end > limits.line_bytes {
                return Err(too_long(limits));
            }
            if end >= limits.bytes {
                return Err(too_large(limits));
            }
            let is_empty = end - self.line == 1;
            self.line = end + 1;
            if is_empty {
                return Ok(Some(end + 1));
            }
        }
        if self.line == 0 && data.len() > limits.line_bytes {
            return Err(too_long(limits));
        }
        if data.len() > limits.bytes {
            return Err(too_large(limits));
        }
        Ok(None)
    }
}

fn too_long(limits: &HeadLimits) -> Refusal {
    Refusal::RequestLineTooLong {
        limit: limits.line_bytes,
    }
}

fn too_large(limits: &HeadLimits) -> Refusal {
    Refusal::HeadTooLarge {
        limit: limits.bytes,
    }
}
