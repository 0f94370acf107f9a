//! Received bytes that a receiver keeps, until a message is complete or may be delivered.

/// Bytes that were received and not yet delivered.
///
/// Every byte is copied in once, and moved at most once more for each time that the buffer doubles:
/// the work is linear however the input is cut. An empty input owns no buffer.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Bytes before this index were delivered.
    start: usize,
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Adds bytes at the end.
    pub(super) fn push(&mut self, data: &[u8]) {
        // Only if more than half is delivered, so that each byte is moved at most once for every
        // byte delivered.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    /// Adds bytes before all others.
    pub(super) fn push_front(&mut self, data: Vec<u8>) {
        let behind = std::mem::replace(&mut self.bytes, data);
        self.bytes.extend_from_slice(&behind[self.start..]);
        self.start = 0;
    }

    /// Removes the first `count` bytes, and frees the buffer when it is empty.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

/// Passes input to `deliver`, which returns how many bytes it has used, and keeps the rest.
///
/// Input with complete messages is delivered in place, without a copy.
///
/// # Errors
///
/// The error of `deliver`, after which the input is dropped: the connection ends.
pub(super) fn feed<E>(
    kept: &mut Input,
    data: &[u8],
    deliver: impl FnOnce(&[u8]) -> Result<usize, E>,
) -> Result<(), E> {
    if kept.is_empty() {
        let used = deliver(data)?;
        if used < data.len() {
            kept.push(&data[used..]);
        }
    } else {
        let mut input = std::mem::take(kept);
        input.push(data);
        let used = deliver(input.as_slice())?;
        input.consume(used);
        *kept = input;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_input_owns_no_buffer() {
        let mut input = Input::default();
        input.push(b"abc");
        input.consume(1);
        assert_eq!(input.as_slice(), b"bc");
        input.consume(2);
        assert!(input.is_empty());
        assert_eq!(input.bytes.capacity(), 0);
    }

    /// PR-12.
    #[test]
    fn delivering_moves_nothing() {
        let mut input = Input::default();
        input.push(&[b'x'; 1000]);
        let address = |input: &Input| input.as_slice().as_ptr().addr();
        let first = address(&input);
        for delivered in 1..500 {
            input.consume(1);
            assert_eq!(address(&input), first + delivered);
        }
        let capacity = input.bytes.capacity();
        for _ in 0..100_000 {
            input.push(b"y");
            input.consume(1);
        }
        assert!(
            input.bytes.capacity() <= 4 * capacity,
            "nor is anything kept for ever"
        );
    }

    #[test]
    fn what_is_put_in_front_comes_before_the_rest() {
        let mut input = Input::default();
        input.push(b"abcd");
        input.consume(3);
        input.push(b"ef");
        assert_eq!(input.start, 0, "the larger part was delivered");
        input.push_front(b"xy".to_vec());
        assert_eq!(input.as_slice(), b"xydef");
    }
}
