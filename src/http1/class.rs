//! Classes of bytes.

/// A set of bytes that is asked by a look-up.
#[derive(Debug)]
pub(super) struct Class([bool; 256]);

impl Class {
    /// ASCII letters, digits, and `others`.
    pub(super) const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut table = [false; 256];
        let mut byte = 0u8;
        while byte < 128 {
            table[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = true;
            at += 1;
        }
        Self(table)
    }

    /// Visible ASCII, without `others`.
    pub(super) const fn visible_without(others: &[u8]) -> Self {
        let mut table = [false; 256];
        let mut byte = b'!';
        while byte <= b'~' {
            table[byte as usize] = true;
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            table[others[at] as usize] = false;
            at += 1;
        }
        Self(table)
    }

    /// All bytes but one.
    pub(super) const fn all_but(other: u8) -> Self {
        let mut table = [true; 256];
        table[other as usize] = false;
        Self(table)
    }

    #[inline]
    pub(super) const fn has(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }

    /// How many bytes at the start of `bytes` are in the class.
    #[inline]
    pub(super) fn count(&self, bytes: &[u8]) -> usize {
        let mut at = 0;
        // Four a step, which costs half of one a step.
        while let Some(&[first, second, third, fourth]) = bytes[at..].first_chunk()
            && self.has(first) & self.has(second) & self.has(third) & self.has(fourth)
        {
            at += 4;
        }
        let rest = bytes[at..].iter().position(|byte| !self.has(*byte));
        rest.map_or(bytes.len(), |rest| at + rest)
    }
}
