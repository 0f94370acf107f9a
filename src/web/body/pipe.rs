//! Between a connection that receives a body and the program that reads it: one piece.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use bytes::Bytes;
use deferred_reactor::{Deferred, Resolver};

use super::{BodyError, failed};

/// What sends pieces into a [`Pipe`], and is asked for more of them.
pub(crate) trait Feeder {
    /// There is room for a piece of body `id`.
    fn wanted(self: Rc<Self>, id: u64);

    /// Nobody will read body `id` any more.
    fn unwanted(self: Rc<Self>, id: u64);
}

/// Holds at most one piece, or the reader who waits for it.
///
/// | state   | `push`               | `read`                       | left when              |
/// |---------|----------------------|------------------------------|------------------------|
/// | empty   | piece                | waiting                      |                        |
/// | piece   | (not called)         | gives it: empty              |                        |
/// | waiting | gives it: empty      | fails with `AlreadyReading`  | cancelled: empty       |
/// | ended   | (not called)         | gives a last piece, then the end |                    |
pub(crate) struct Pipe {
    piece: Cell<Bytes>,
    reader: Cell<Option<Resolver<Option<Bytes>>>>,
    end: RefCell<Option<Result<(), BodyError>>>,
    trailers: RefCell<Vec<(String, Vec<u8>)>>,
    length: Option<u64>,
    feeder: Weak<dyn Feeder>,
    id: u64,
}

impl Pipe {
    pub(crate) fn new(feeder: Weak<dyn Feeder>, id: u64, length: Option<u64>) -> Rc<Self> {
        Rc::new(Self {
            piece: Cell::new(Bytes::new()),
            reader: Cell::new(None),
            end: RefCell::new(None),
            trailers: RefCell::default(),
            length,
            feeder,
            id,
        })
    }

    /// Whether the next piece may come: none waits to be read.
    pub(crate) fn has_room(&self) -> bool {
        let piece = self.piece.take();
        let has_room = piece.is_empty();
        self.piece.set(piece);
        has_room
    }

    /// Whether somebody waits for a piece.
    pub(crate) fn is_awaited(&self) -> bool {
        let reader = self.reader.take();
        let is_awaited = reader.as_ref().is_some_and(Resolver::is_pending);
        self.reader.set(reader);
        is_awaited
    }

    /// Hands on a piece that is not empty. Only while there is [room](Self::has_room). The reader's
    /// callbacks run here.
    pub(crate) fn push(&self, piece: Bytes) {
        match self.reader.take() {
            Some(reader) if reader.is_pending() => {
                let _ = reader.callback(Some(piece));
            }
            _ => self.piece.set(piece),
        }
    }

    /// Nothing will come any more. The reader's callbacks run here.
    pub(crate) fn end(&self, result: Result<(), BodyError>) {
        if self.end.borrow().is_some() {
            return;
        }
        self.end.replace(Some(result.clone()));
        if let Some(reader) = self.reader.take() {
            // It may have been cancelled.
            let _ = match result {
                Ok(()) => reader.callback(None),
                Err(error) => reader.errback(error),
            };
        }
    }

    pub(crate) fn set_trailers(&self, trailers: Vec<(String, Vec<u8>)>) {
        self.trailers.replace(trailers);
    }

    pub(super) fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        self.trailers.borrow().clone()
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    #[track_caller]
    pub(super) fn read(&self) -> Deferred<Option<Bytes>> {
        let piece = self.piece.take();
        if !piece.is_empty() {
            self.ask();
            return Deferred::succeed(Some(piece));
        }
        match &*self.end.borrow() {
            None => {}
            Some(Ok(())) => return Deferred::succeed(None),
            Some(Err(error)) => return failed(error),
        }
        if self.is_awaited() {
            return failed(&BodyError::AlreadyReading);
        }
        let (deferred, resolver) = Deferred::pending();
        self.reader.set(Some(resolver));
        self.ask();
        deferred
    }

    fn ask(&self) {
        if self.end.borrow().is_none()
            && let Some(feeder) = self.feeder.upgrade()
        {
            feeder.wanted(self.id);
        }
    }

    /// The [`Body`](super::Body) was dropped.
    pub(super) fn abandon(&self) {
        self.piece.take();
        if self.end.borrow().is_none()
            && let Some(feeder) = self.feeder.upgrade()
        {
            feeder.unwanted(self.id);
        }
    }
}
