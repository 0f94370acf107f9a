//! Where a head ends.

use memchr::memchr;

use super::refusal::{Excerpt, Refusal};
use super::request::HeadLimits;

/// Where the empty line ends, and how far the bytes have been looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    /// The start of the line that is not complete yet.
    line: u32,
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
        let mut line = self.line as usize;
        while let Some(length) = memchr(b'\n', &data[line..]) {
            let end = line + length;
            self.check(end, limits)?;
            if end == line || data[end - 1] != b'\r' {
                return Err(Refusal::BareLineFeed {
                    line: Excerpt::from(&data[line..end]),
                });
            }
            let is_empty = end - line == 1;
            line = end + 1;
            self.line = u32::try_from(line).map_err(|_| Refusal::HeadTooLarge {
                limit: limits.bytes,
            })?;
            if is_empty {
                return Ok(Some(end + 1));
            }
        }
        // As if the line ended with the next byte.
        self.check(data.len().saturating_sub(1), limits)?;
        Ok(None)
    }

    /// Refuses a line whose LF is `end` bytes behind the start of the head, or comes later. What
    /// is refused must not depend on how much of it is there: the smaller limit counts.
    fn check(&self, end: usize, limits: &HeadLimits) -> Result<(), Refusal> {
        let is_first = self.line == 0;
        if is_first && limits.line_bytes < limits.bytes && end > limits.line_bytes {
            return Err(Refusal::RequestLineTooLong {
                limit: limits.line_bytes,
            });
        }
        if end >= limits.bytes {
            return Err(Refusal::HeadTooLarge {
                limit: limits.bytes,
            });
        }
        Ok(())
    }
}
