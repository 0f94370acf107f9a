//! Bodies that are read from files while they are sent.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deferred_reactor::{Deferred, Failure, Reactor, defer_to_thread};

use crate::web::ranges::Piece;

/// How much of a file is read at once.
const PIECE_BYTES: u64 = 64 * 1024;

/// A file, or parts of it, read in threads of the pool, one piece ahead of the client.
///
/// Reading neither uses nor moves the file's position, which all of its handles share.
pub(super) struct FileSource {
    file: Arc<File>,
    /// Where the body begins in the file.
    start: u64,
    /// The parts of the file that are still to be read, in order.
    left: VecDeque<Piece>,
    /// The piece after the one that was given last.
    ahead: Option<Reading>,
}

/// A piece on its way. A failure is a value here: one that is dropped unread is nobody's.
type Reading = Deferred<Result<Bytes, Failure>>;

impl FileSource {
    /// The rest of a file, from its position, and the length of that.
    pub(super) fn new(mut file: File) -> Result<(Self, u64), Failure> {
        let about = file.metadata()?;
        if about.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        }
        let start = file.stream_position()?;
        let length = about.len().saturating_sub(start);
        let source = Self {
            file: Arc::new(file),
            start,
            left: VecDeque::from([Piece::Content(0..length)]),
            ahead: None,
        };
        Ok((source, length))
    }

    /// Gives these pieces in the place of the whole. Only before the first was asked for.
    pub(super) fn cut(&mut self, pieces: Vec<Piece>) {
        self.left = pieces.into();
    }

    pub(super) fn next(&mut self, reactor: &Reactor) -> Deferred<Option<Bytes>> {
        let Some(reading) = self.ahead.take().or_else(|| self.begin(reactor)) else {
            return Deferred::succeed(None);
        };
        self.ahead = self.begin(reactor);
        reading.add_callback(|piece| piece.map(Some))
    }

    /// Begins to read the next piece, if there is one.
    fn begin(&mut self, reactor: &Reactor) -> Option<Reading> {
        loop {
            match self.left.pop_front()? {
                Piece::Framing(text) => return Some(Deferred::succeed(Ok(text.into()))),
                Piece::Content(part) if part.is_empty() => {}
                Piece::Content(part) => {
                    let end = part.end.min(part.start + PIECE_BYTES);
                    self.left.push_front(Piece::Content(end..part.end));
                    return Some(self.read(reactor, part.start..end));
                }
            }
        }
    }

    fn read(&self, reactor: &Reactor, part: Range<u64>) -> Reading {
        let (file, start) = (self.file.clone(), self.start);
        let reading = defer_to_thread(reactor, move || read(&file, start, part));
        reading.add_both(Ok)
    }
}

/// Reads a part of a body that begins at `start`.
fn read(file: &File, start: u64, part: Range<u64>) -> Result<Bytes, Failure> {
    // It is at most PIECE_BYTES long.
    let mut piece = vec![0; (part.end - part.start) as usize];
    let mut filled = 0;
    while filled < piece.len() {
        let at = start + part.start + filled as u64;
        match read_at(file, &mut piece[filled..], at) {
            Ok(0) => {
                let end = part.start + filled as u64;
                return Err(Failure::message(format!(
                    "the file became shorter while it was being sent: it ends after {end} bytes of the \
                     body, and at least {} were announced",
                    part.end
                )));
            }
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(piece.into())
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}
