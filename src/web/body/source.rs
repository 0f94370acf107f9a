//! Bodies that are made while they are sent.

use std::fs::File;
use std::io::{Read, Seek};

use bytes::Bytes;
use deferred_reactor::{Deferred, Failure, Reactor, defer_to_thread};

use super::Body;

/// How much of a file is read at once.
const FILE_PIECE_BYTES: usize = 64 * 1024;

/// What gives a response's body piece by piece, as the client takes it.
///
/// | source                                         | `M`, which the compiler finds |
/// |------------------------------------------------|-------------------------------|
/// | an iterator of pieces, or of `Result`s of pieces | [`ByIterator`]              |
/// | a function that returns a `Deferred` of the next piece, or of `None` at the end | [`ByFunction`] |
/// | a [`Body`], such as the one of a request       | [`ByItself`]                  |
///
/// A piece is a `Bytes`, `Vec<u8>`, `String`, `&'static str` or `&'static [u8]`. The next one is
/// asked for when less than 64 KiB wait to be sent, so at most that and one piece is held for a
/// client, however slowly it reads. A source that fails breaks the connection, since only that tells
/// the client that the body is not complete. When the client goes away, the source is dropped.
pub trait BodySource<M>: 'static {
    /// The same as a function.
    #[doc(hidden)]
    fn into_pieces(self) -> Pieces;
}

/// Marks iterators among the kinds of [`BodySource`].
#[derive(Debug)]
pub enum ByIterator {}

/// Marks functions among the kinds of [`BodySource`].
#[derive(Debug)]
pub enum ByFunction {}

/// Marks what is a source by itself among the kinds of [`BodySource`].
#[derive(Debug)]
pub enum ByItself {}

type NextPiece = Box<dyn FnMut(&Reactor) -> Deferred<Option<Bytes>>>;

/// A source of any kind.
#[doc(hidden)]
pub struct Pieces {
    pub(crate) next: NextPiece,
    /// All pieces together, where that is known.
    pub(crate) length: Option<u64>,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Pieces {
    fn new(next: impl FnMut(&Reactor) -> Deferred<Option<Bytes>> + 'static) -> Self {
        Self {
            next: Box::new(next),
            length: None,
        }
    }

    /// The rest of a file, from where it stands, read in threads of the pool, one piece ahead.
    pub(crate) fn file(mut file: File) -> Result<Self, Failure> {
        let end = file.metadata()?.len();
        let length = end.saturating_sub(file.stream_position()?);
        let mut pieces = Self::new(read_ahead(file, length));
        pieces.length = Some(length);
        Ok(pieces)
    }
}

/// What one read of a file gives: the file again, and a piece.
type FileRead = Deferred<(File, Vec<u8>)>;

fn read_ahead(file: File, length: u64) -> impl FnMut(&Reactor) -> Deferred<Option<Bytes>> {
    let left = std::rc::Rc::new(std::cell::Cell::new(length));
    let ahead: std::rc::Rc<std::cell::Cell<Option<FileRead>>> = std::rc::Rc::default();
    let mut unread = Some(file);
    move |reactor| {
        let reading = match (unread.take(), ahead.take()) {
            (Some(file), _) => read_piece(reactor, file, left.get()),
            (None, Some(reading)) => reading,
            (None, None) => return Deferred::succeed(None),
        };
        let (left, ahead, threads) = (left.clone(), ahead.clone(), reactor.clone());
        reading.add_callback(move |(file, piece)| {
            if piece.is_empty() {
                return match left.get() {
                    0 => Ok(None),
                    missing => Err(Failure::message(format!(
                        "the file became {missing} bytes shorter while it was being sent"
                    ))),
                };
            }
            left.set(left.get() - piece.len() as u64);
            ahead.set(Some(read_piece(&threads, file, left.get())));
            Ok(Some(Bytes::from(piece)))
        })
    }
}

#[track_caller]
fn read_piece(reactor: &Reactor, mut file: File, left: u64) -> FileRead {
    let size = usize::try_from(left).map_or(FILE_PIECE_BYTES, |left| left.min(FILE_PIECE_BYTES));
    if size == 0 {
        return Deferred::succeed((file, Vec::new()));
    }
    defer_to_thread(reactor, move || {
        let mut piece = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match file.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        piece.truncate(filled);
        Ok((file, piece))
    })
}

/// What converts into a piece of a body, or the failure to make one.
#[doc(hidden)]
pub trait IntoPiece {
    fn into_piece(self) -> Result<Bytes, Failure>;
}

macro_rules! into_piece {
    ($($bytes:ty),*) => {$(
        impl IntoPiece for $bytes {
            fn into_piece(self) -> Result<Bytes, Failure> {
                Ok(self.into())
            }
        }
    )*};
}

into_piece!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

impl<P: IntoPiece, E: Into<Failure>> IntoPiece for Result<P, E> {
    fn into_piece(self) -> Result<Bytes, Failure> {
        self.map_err(Into::into)?.into_piece()
    }
}

impl<I> BodySource<ByIterator> for I
where
    I: Iterator + 'static,
    I::Item: IntoPiece,
{
    fn into_pieces(mut self) -> Pieces {
        Pieces::new(move |_| {
            Deferred::from_result(self.next().map(IntoPiece::into_piece).transpose())
        })
    }
}

impl<F, P> BodySource<ByFunction> for F
where
    F: FnMut() -> Deferred<Option<P>> + 'static,
    P: IntoPiece + 'static,
{
    fn into_pieces(mut self) -> Pieces {
        Pieces::new(move |_| {
            self().add_callback(|piece| piece.map(IntoPiece::into_piece).transpose())
        })
    }
}

impl BodySource<ByItself> for Body {
    fn into_pieces(self) -> Pieces {
        let length = self.length();
        let mut pieces = Pieces::new(move |_| self.read());
        pieces.length = length;
        pieces
    }
}
