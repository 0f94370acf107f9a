//! Bodies that are made while they are sent.

use std::fs::File;

use bytes::Bytes;
use deferred_reactor::{Deferred, Failure, Reactor};

use super::Body;
use super::file::FileSource;
use crate::web::ranges::Piece;

/// What gives a response's body piece by piece, as the client takes it.
///
/// | source                                         | `M`, which the compiler finds |
/// |------------------------------------------------|-------------------------------|
/// | an iterator of pieces, or of `Result`s of pieces | [`ByIterator`]              |
/// | a function that returns a `Deferred` of the next piece, or of `None` at the end | [`ByFunction`] |
/// | a [`Body`], such as the one of a request       | [`ByItself`]                  |
///
/// A piece is a `Bytes`, `Vec<u8>`, `String`, `&'static str` or `&'static [u8]`. The next one is
/// asked for while at most 65 KiB wait to be sent, so at most that and one piece are held for a
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

/// A source of any kind.
#[doc(hidden)]
pub struct Pieces {
    source: Source,
    /// All pieces together, where that is known.
    pub(crate) length: Option<u64>,
}

enum Source {
    Function(Box<dyn FnMut() -> Deferred<Option<Bytes>>>),
    File(FileSource),
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pieces")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Pieces {
    fn new(next: impl FnMut() -> Deferred<Option<Bytes>> + 'static) -> Self {
        Self {
            source: Source::Function(Box::new(next)),
            length: None,
        }
    }

    /// The rest of a file, from its position.
    pub(crate) fn file(file: File) -> Result<Self, Failure> {
        let (source, length) = FileSource::new(file)?;
        Ok(Self {
            source: Source::File(source),
            length: Some(length),
        })
    }

    /// The next piece, which may be empty; `None` at the end.
    pub(crate) fn next(&mut self, reactor: &Reactor) -> Deferred<Option<Bytes>> {
        match &mut self.source {
            Source::Function(next) => next(),
            Source::File(file) => file.next(reactor),
        }
    }

    /// The length of a source of which any part can be sent alone.
    pub(crate) fn seekable_length(&self) -> Option<u64> {
        match self.source {
            Source::Function(_) => None,
            Source::File(_) => self.length,
        }
    }

    /// Gives these pieces, `length` bytes together, in the place of the whole. Only for a source with
    /// a [`seekable_length`](Self::seekable_length), before its first piece was asked for.
    pub(crate) fn cut(&mut self, pieces: Vec<Piece>, length: u64) {
        if let Source::File(file) = &mut self.source {
            file.cut(pieces);
            self.length = Some(length);
        }
    }
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
        Pieces::new(move || {
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
        Pieces::new(move || {
            self().add_callback(|piece| piece.map(IntoPiece::into_piece).transpose())
        })
    }
}

impl BodySource<ByItself> for Body {
    fn into_pieces(self) -> Pieces {
        let length = self.length();
        let mut pieces = Pieces::new(move || self.read());
        pieces.length = length;
        pieces
    }
}
