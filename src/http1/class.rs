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

    #[inline]
    pub(super) const fn has(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }

    /// How many bytes at the start of `bytes` are in the class.
    #[inline]
    pub(super) fn count(&self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        // Four a step, which costs half of one a step.
        while let &[first, second, third, fourth, ref others @ ..] = rest {
            let at = bytes.len() - rest.len();
            if !self.has(first) {
                return at;
            }
            if !self.has(second) {
                return at + 1;
            }
            if !self.has(third) {
                return at + 2;
            }
            if !self.has(fourth) {
                return at + 3;
            }
            rest = others;
        }
        while let [first, others @ ..] = rest
            && self.has(*first)
        {
            rest = others;
        }
        bytes.len() - rest.len()
    }
}
