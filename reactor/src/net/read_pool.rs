//! Buffers that are read into and handed on without a copy.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// What a read is given at first, in bytes.
const SMALL: usize = 64 * 1024;

/// What a read is given where reads fill less.
const LARGE: usize = 256 * 1024;

/// Buffers kept for reuse. More can be in use.
const KEEP: usize = 4;

/// Owned buffers to read into. One that has been handed on comes back when its last piece is
/// dropped, in whatever thread that is.
#[derive(Default)]
pub(crate) struct ReadPool {
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    /// The last read filled its buffer.
    is_large: Cell<bool>,
}

impl ReadPool {
    /// A buffer of 64 KiB, or of 256 KiB where much comes at once.
    pub(super) fn take(&self) -> Vec<u8> {
        let size = if self.is_large.get() { LARGE } else { SMALL };
        let mut spare = lock(&self.spare);
        match spare.iter().position(|buffer| buffer.len() == size) {
            Some(at) => spare.swap_remove(at),
            None => vec![0; size],
        }
    }

    /// Makes what was read a piece of its own. A buffer that is mostly empty is not tied up for that.
    pub(super) fn piece(&self, buffer: Vec<u8>, length: usize) -> Bytes {
        self.is_large.set(match self.is_large.get() {
            true => length > SMALL,
            false => length == buffer.len(),
        });
        if length * 2 < buffer.len() {
            let piece = Bytes::copy_from_slice(&buffer[..length]);
            self.put(buffer);
            return piece;
        }
        Bytes::from_owner(Lent {
            buffer,
            length,
            home: self.spare.clone(),
        })
    }

    pub(super) fn put(&self, buffer: Vec<u8>) {
        put(&self.spare, buffer);
    }
}

/// A buffer that is part of a piece.
struct Lent {
    buffer: Vec<u8>,
    length: usize,
    home: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        put(&self.home, std::mem::take(&mut self.buffer));
    }
}

fn put(spare: &Mutex<Vec<Vec<u8>>>, buffer: Vec<u8>) {
    let mut spare = lock(spare);
    if spare.len() < KEEP {
        spare.push(buffer);
    }
}

/// Nothing panics while it is locked, so what is in it is whole.
fn lock(spare: &Mutex<Vec<Vec<u8>>>) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_piece_is_dropped() {
        let pool = ReadPool::default();
        let mut buffer = pool.take();
        buffer[..3].copy_from_slice(b"abc");
        let address = buffer.as_ptr();
        let piece = pool.piece(buffer, SMALL);
        let part = piece.slice(..3);
        drop(piece);
        assert!(lock(&pool.spare).is_empty());
        assert_eq!(part, &b"abc"[..]);
        std::thread::spawn(|| drop(part)).join().unwrap();
        assert_eq!(lock(&pool.spare)[0].as_ptr(), address);
    }

    #[test]
    fn buffers_grow_where_reads_fill_them_and_small_reads_are_copied() {
        let pool = ReadPool::default();
        let buffer = pool.take();
        drop(pool.piece(buffer, SMALL));
        let buffer = pool.take();
        assert_eq!(buffer.len(), LARGE);
        let piece = pool.piece(buffer, 10);
        assert_eq!(piece.len(), 10);
        assert_eq!(lock(&pool.spare).len(), 2);
        assert_eq!(pool.take().len(), SMALL);
    }
}
