//! The output queue of a connection.
//!
//! Small writes are copied into one buffer, one after another; a large `Bytes` is queued without a
//! copy. The queue is sent in as few system calls as possible. A drained [`Output`] is returned to
//! the reactor's pool, so that a quiet connection holds none, unless it has a producer.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;

use bytes::Bytes;

use super::producer::{Producer, PushProducer};

/// The default buffer limit (Twisted's `bufferSize`).
const BACKLOG_BYTES: usize = 64 * 1024;

/// From this length on, queueing a `Bytes` costs less than copying it.
pub(crate) const WORTH_SHARING: usize = 16 * 1024;

/// Maximum number of slices in one system call.
const SLICES: usize = 16;

/// A buffer with more capacity than this is not kept for reuse.
const KEEP_CAPACITY: usize = 64 * 1024;

/// A queue of bytes, partly copied and partly shared.
pub(crate) struct Output {
    pieces: VecDeque<Piece>,
    /// Number of bytes of the first piece that are sent.
    sent: usize,
    /// Number of bytes in all pieces, sent ones included.
    length: usize,
    /// Above this number of bytes, the queue has a backlog.
    limit: usize,
    /// The producer and the buffer limit, if they were set. While set, the queue is not returned to
    /// the pool.
    orders: Option<Box<Orders>>,
}

#[derive(Default)]
struct Orders {
    producer: Option<Producer>,
    /// The push producer is paused.
    is_paused: bool,
    has_own_limit: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            sent: 0,
            length: 0,
            limit: BACKLOG_BYTES,
            orders: None,
        }
    }
}

#[derive(Debug)]
enum Piece {
    Copied(Vec<u8>),
    Shared(Bytes),
    /// A buffer of this length that is lent to a writer.
    Lent(usize),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Shared(bytes) => bytes,
            Self::Lent(_) => &[],
        }
    }
}

impl Output {
    /// Number of bytes to be sent.
    pub(crate) fn len(&self) -> usize {
        self.length - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lends the buffer for small writes to a writer; [`put_back`](Self::put_back) ends the write.
    ///
    /// Meanwhile, nothing is sent, and other writes are queued behind the lent buffer. Another
    /// buffer may be lent, if it is put back first.
    pub(crate) fn lend_buffer(&mut self) -> Vec<u8> {
        let may_be_added_to = !self.is_partly_sent();
        if let Some(piece @ Piece::Copied(_)) = self.pieces.back_mut()
            && may_be_added_to
        {
            let length = piece.bytes().len();
            if let Piece::Copied(buffer) = std::mem::replace(piece, Piece::Lent(length)) {
                return buffer;
            }
        }
        self.pieces.push_back(Piece::Lent(0));
        Vec::new()
    }

    /// Whether the last piece is partly sent. It takes no more writes, so that a queue that never
    /// drains completely still frees what is sent.
    fn is_partly_sent(&self) -> bool {
        self.sent > 0 && self.pieces.len() == 1
    }

    pub(crate) fn put_back(&mut self, buffer: Vec<u8>) {
        for piece in self.pieces.iter_mut().rev() {
            if let Piece::Lent(length) = *piece {
                self.length = self.length - length + buffer.len();
                *piece = Piece::Copied(buffer);
                return;
            }
        }
    }

    pub(crate) fn write(&mut self, data: &[u8]) {
        self.length += data.len();
        let may_be_added_to = !self.is_partly_sent();
        match self.pieces.back_mut() {
            Some(Piece::Copied(buffer)) if may_be_added_to => buffer.extend_from_slice(data),
            _ => self.pieces.push_back(Piece::Copied(data.to_vec())),
        }
    }

    pub(crate) fn write_bytes(&mut self, data: Bytes) {
        if data.len() < WORTH_SHARING {
            self.write(&data);
        } else {
            self.length += data.len();
            self.pieces.push_back(Piece::Shared(data));
        }
    }

    /// Makes one system call; returns how many bytes the system has accepted.
    #[inline]
    pub(crate) fn send(&mut self, mut to: impl Write) -> io::Result<usize> {
        let taken = match self.pieces.len() {
            0 => return Ok(0),
            1 => to.write(&self.pieces[0].bytes()[self.sent..])?,
            _ => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut count = 0;
                let pieces = self.pieces.iter().filter(|piece| !piece.bytes().is_empty());
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    let skip = if count == 0 { self.sent } else { 0 };
                    *slice = IoSlice::new(&piece.bytes()[skip..]);
                    count += 1;
                }
                to.write_vectored(&slices[..count])?
            }
        };
        if taken == 0 && !self.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.advance(taken);
        Ok(taken)
    }

    #[inline]
    fn advance(&mut self, taken: usize) {
        self.sent += taken;
        while let Some(first) = self.pieces.front_mut() {
            let length = first.bytes().len();
            if self.sent < length {
                break;
            }
            self.sent -= length;
            self.length -= length;
            // The last buffer is emptied and kept for the next write.
            match first {
                Piece::Copied(buffer) if self.length == 0 && buffer.capacity() <= KEEP_CAPACITY => {
                    buffer.clear();
                    break;
                }
                _ => {
                    self.pieces.pop_front();
                }
            }
        }
    }

    /// Appends output that was queued while this queue was taken out.
    #[cold]
    pub(crate) fn append(&mut self, newer: &mut Self) {
        self.pieces.append(&mut newer.pieces);
        self.length += newer.length;
        if let (None, Some(orders)) = (&self.orders, newer.orders.take()) {
            self.orders = Some(orders);
            self.limit = newer.limit;
        }
    }

    /// Removes all output and settings; returns the producer.
    pub(crate) fn clear(&mut self) -> Option<Producer> {
        let length = self.length;
        self.sent = self.sent.min(length);
        self.advance(length - self.sent);
        self.limit = BACKLOG_BYTES;
        self.orders.take()?.producer
    }

    /// Whether more is queued than the limit.
    pub(crate) fn has_backlog(&self) -> bool {
        self.len() > self.limit
    }

    /// Whether the queue stays with its connection even when empty.
    pub(crate) fn is_kept(&self) -> bool {
        self.orders.is_some()
    }

    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
        self.orders.get_or_insert_default().has_own_limit = bytes != BACKLOG_BYTES;
        self.forget_empty_orders();
    }

    /// Returns `false` if there is a producer already.
    pub(crate) fn register(&mut self, producer: Producer) -> bool {
        let orders = self.orders.get_or_insert_default();
        let is_first = orders.producer.is_none();
        if is_first {
            orders.producer = Some(producer);
        }
        is_first
    }

    pub(crate) fn unregister(&mut self) -> Option<Producer> {
        let orders = self.orders.as_mut()?;
        orders.is_paused = false;
        let producer = orders.producer.take();
        self.forget_empty_orders();
        producer
    }

    pub(crate) fn has_producer(&self) -> bool {
        let orders = self.orders.as_ref();
        orders.is_some_and(|orders| orders.producer.is_some())
    }

    pub(crate) fn producer(&self) -> Option<Producer> {
        self.orders.as_ref()?.producer.clone()
    }

    /// Returns the producer if it is to be paused now.
    pub(crate) fn pause(&mut self) -> Option<Rc<dyn PushProducer>> {
        let orders = self.orders.as_mut()?;
        match &orders.producer {
            Some(Producer::Push(producer)) if !orders.is_paused => {
                orders.is_paused = true;
                Some(producer.clone())
            }
            _ => None,
        }
    }

    /// Returns the producer if it is to be resumed now.
    pub(crate) fn resume(&mut self) -> Option<Producer> {
        let orders = self.orders.as_mut()?;
        match &orders.producer {
            Some(Producer::Push(_)) if !orders.is_paused => None,
            producer => {
                orders.is_paused = false;
                producer.clone()
            }
        }
    }

    fn forget_empty_orders(&mut self) {
        self.orders
            .take_if(|orders| orders.producer.is_none() && !orders.has_own_limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most so many bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl Write for &mut Narrow {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let taken = data.len().min(self.1);
            self.0.extend_from_slice(&data[..taken]);
            Ok(taken)
        }
        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.write(&all)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest::proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(
            writes in proptest::collection::vec((0usize..40_000, proptest::bool::ANY), 0..12),
            narrow in 1usize..70_000,
        ) {
            let mut output = Output::default();
            let mut sink = Narrow(Vec::new(), narrow);
            let mut want = Vec::new();
            for (n, (size, is_shared)) in writes.into_iter().enumerate() {
                let data: Vec<u8> = (0..size).map(|i| (i + n) as u8).collect();
                want.extend_from_slice(&data);
                if is_shared {
                    output.write_bytes(Bytes::from(data));
                } else {
                    let mut buffer = output.lend_buffer();
                    assert_eq!(output.len() + size, want.len() - sink.0.len());
                    buffer.extend_from_slice(&data);
                    output.put_back(buffer);
                }
                if n % 3 == 2 {
                    output.send(&mut sink).unwrap();
                }
                assert_eq!(output.len(), want.len() - sink.0.len());
            }
            while !output.is_empty() {
                output.send(&mut sink).unwrap();
            }
            assert_eq!(sink.0, want);
            assert!(output.pieces.len() <= 1);
        }
    }

    #[test]
    fn clearing_leaves_an_empty_queue_that_works() {
        let mut output = Output::default();
        output.write(b"abc");
        output.write_bytes(Bytes::from(vec![0; WORTH_SHARING]));
        output.clear();
        assert!(output.is_empty());
        output.write(b"x");
        assert_eq!(output.len(), 1);
    }
}
