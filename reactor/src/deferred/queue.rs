//! Objects on their way from those who have them to those who want them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::waiters::{HandOut, WaiterId, Waiters};
use super::{Deferred, Resolver};

/// Matches objects with those who wait for them, first in first out on both sides (Twisted's
/// `DeferredQueue`).
///
/// An object that is [`put`](Self::put) goes to the one who has waited longest, or is kept until
/// somebody asks. A [`get`](Self::get) gives the oldest object, or waits for one. Both sides can be
/// limited; without a limit they are not.
///
/// A clone is another handle to the same queue. When the last one is dropped those who still wait
/// fail with [`AbandonedError`](crate::AbandonedError); a callback of theirs that holds a handle
/// keeps that from happening.
///
/// ```
/// use deferred_reactor::{DeferredQueue, Failure};
///
/// let queue = DeferredQueue::new();
/// let first = queue.get()?.map(|word: &str| word.len());
/// let second = queue.get()?;
/// queue.put("hello")?; // runs the callbacks of the first
/// assert_eq!(first.result()?, 5);
///
/// second.cancel();
/// queue.put("world")?; // kept: nobody waits
/// assert_eq!(queue.get()?.result()?, "world");
/// # drop(second.add_errback(|_| Ok("")));
/// # Ok::<(), Failure>(())
/// ```
pub struct DeferredQueue<T: 'static> {
    shared: Rc<QueueState<T>>,
}

struct QueueState<T: 'static> {
    limits: Cell<Limits>,
    sides: RefCell<Sides<T>>,
    is_handing_out: Cell<bool>,
}

#[derive(Clone, Copy, Default)]
struct Limits {
    size: Option<usize>,
    backlog: Option<usize>,
}

struct Sides<T: 'static> {
    /// Empty while anybody waits who can be told.
    objects: VecDeque<T>,
    waiting: Waiters<T>,
    /// Objects that were put while another was being handed out, oldest first.
    promised: VecDeque<Promise<T>>,
}

/// Whose the object is, and the two of them, unless that one has been cancelled meanwhile.
type Promise<T> = (WaiterId, Option<(Resolver<T>, T)>);

impl<T> DeferredQueue<T> {
    /// An empty queue without limits.
    pub fn new() -> Self {
        Self {
            shared: Rc::new(QueueState {
                limits: Cell::default(),
                sides: RefCell::new(Sides {
                    objects: VecDeque::new(),
                    waiting: Waiters::new(),
                    promised: VecDeque::new(),
                }),
                is_handing_out: Cell::new(false),
            }),
        }
    }

    /// Keeps at most so many objects that nobody has asked for yet. With 0, an object can only be
    /// put when somebody waits for it.
    #[must_use]
    pub fn with_size(self, objects: usize) -> Self {
        let size = Some(objects);
        self.shared.limits.set(Limits {
            size,
            ..self.shared.limits.get()
        });
        self
    }

    /// Lets at most so many wait for an object. With 0, nobody can.
    #[must_use]
    pub fn with_backlog(self, gets: usize) -> Self {
        let backlog = Some(gets);
        self.shared.limits.set(Limits {
            backlog,
            ..self.shared.limits.get()
        });
        self
    }

    /// Gives an object to the one who has waited longest, or keeps it.
    ///
    /// The callbacks of the one who waited run before this returns. The exception is an object that
    /// is put inside such a callback: it is handed on when that callback's chain is through. This
    /// keeps the stack constant, however many wait. A Deferred that was dropped without a callback
    /// is passed over.
    ///
    /// # Errors
    ///
    /// [`QueueOverflow`], with the object, if the queue is full.
    #[track_caller]
    pub fn put(&self, object: T) -> Result<(), QueueOverflow<T>> {
        let line = Location::caller();
        let shared = &self.shared;
        let Some((id, resolver)) = shared.next_waiting() else {
            return shared.keep(object);
        };
        let Some(hand_out) = HandOut::take(&shared.is_handing_out) else {
            let promise = (id, Some((resolver, object)));
            shared.sides.borrow_mut().promised.push_back(promise);
            return Ok(());
        };
        hand_out.hand(resolver, object, line);
        while let Some((_, promise)) = shared.next_promise() {
            if let Some((resolver, object)) = promise {
                hand_out.hand(resolver, object, line);
            }
        }
        Ok(())
    }

    /// Takes the oldest object, or waits for one. The Deferred has fired already if there is one.
    ///
    /// Cancelled while it waits, it fails with [`CancelledError`](crate::CancelledError), and the
    /// next object goes to somebody else.
    ///
    /// # Errors
    ///
    /// [`QueueUnderflow`] if as many wait as may.
    #[track_caller]
    pub fn get(&self) -> Result<Deferred<T>, QueueUnderflow> {
        let mut sides = self.shared.sides.borrow_mut();
        if let Some(object) = sides.objects.pop_front() {
            return Ok(Deferred::succeed(object));
        }
        if let Some(backlog) = self.shared.limits.get().backlog
            && sides.waiting.len() >= backlog
        {
            sides.waiting.forget_unheard();
            if sides.waiting.len() >= backlog {
                return Err(QueueUnderflow { backlog });
            }
        }
        let id = sides.waiting.draw();
        let shared = Rc::downgrade(&self.shared);
        let (deferred, resolver) = Deferred::with_canceller(move |resolver| {
            if let Some(shared) = shared.upgrade() {
                shared.leave(id, resolver);
            }
        });
        sides.waiting.join(id, resolver);
        Ok(deferred)
    }

    /// How many objects are kept (the length of Twisted's `pending`).
    pub fn len(&self) -> usize {
        self.shared.sides.borrow().objects.len()
    }

    /// Whether a `get` would have to wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for an object (the length of Twisted's `waiting`).
    ///
    /// Those whose Deferred was dropped count until their turn would come.
    pub fn waiting(&self) -> usize {
        self.shared.sides.borrow().waiting.len()
    }
}

impl<T> QueueState<T> {
    /// The one who has waited longest, of those who would get the object.
    fn next_waiting(&self) -> Option<(WaiterId, Resolver<T>)> {
        loop {
            let (id, resolver) = self.sides.borrow_mut().waiting.call_up()?;
            if !resolver.is_unheard() {
                return Some((id, resolver));
            }
        }
    }

    fn next_promise(&self) -> Option<Promise<T>> {
        self.sides.borrow_mut().promised.pop_front()
    }

    fn keep(&self, object: T) -> Result<(), QueueOverflow<T>> {
        let objects = &mut self.sides.borrow_mut().objects;
        match self.limits.get().size {
            Some(size) if objects.len() >= size => Err(QueueOverflow { object, size }),
            _ => {
                objects.push_back(object);
                Ok(())
            }
        }
    }

    /// Somebody who waited was cancelled.
    fn leave(&self, id: WaiterId, resolver: Resolver<T>) {
        let mut sides = self.sides.borrow_mut();
        if sides.waiting.leave(id).is_some() {
            return;
        }
        // Its object had been put, which cancelling does not undo: it comes now. Ids are drawn
        // and called up in their order, so the promises are sorted by them.
        let Ok(place) = sides.promised.binary_search_by_key(&id, |(of, _)| *of) else {
            return;
        };
        let promise = sides.promised[place].1.take();
        drop(sides);
        if let Some((_, object)) = promise {
            // The canceller decides, so this is not refused.
            let _ = resolver.callback(object);
        }
    }
}

impl<T> Clone for DeferredQueue<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Default for DeferredQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for DeferredQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredQueue")
            .field("len", &self.len())
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

/// The queue keeps as many objects as it may (Twisted's `QueueOverflow`).
///
/// It carries the object that found no room. Where that is not `Send` and `Sync`, which the `?` of a
/// function that returns a [`Failure`](crate::Failure) asks for, leave it behind:
///
/// ```
/// use std::rc::Rc;
/// use deferred_reactor::{DeferredQueue, Failure, QueueOverflow};
///
/// fn fill(queue: &DeferredQueue<Rc<str>>) -> Result<(), Failure> {
///     loop {
///         queue.put("more".into()).map_err(QueueOverflow::without_object)?;
///     }
/// }
/// let failure = fill(&DeferredQueue::new().with_size(2)).unwrap_err();
/// assert_eq!(failure.check::<QueueOverflow>().unwrap().size, 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueOverflow<T = ()> {
    /// What was to be put.
    pub object: T,
    /// How many objects the queue keeps.
    pub size: usize,
}

impl<T> QueueOverflow<T> {
    /// The error alone.
    pub fn without_object(self) -> QueueOverflow {
        QueueOverflow {
            object: (),
            size: self.size,
        }
    }
}

// Not derived: an object need not be shown for the error to be.
impl<T> fmt::Debug for QueueOverflow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueOverflow")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for QueueOverflow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the queue keeps {} objects and has no room", self.size)
    }
}

impl<T> Error for QueueOverflow<T> {}

/// As many wait for an object as may (Twisted's `QueueUnderflow`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueUnderflow {
    /// How many may wait.
    pub backlog: usize,
}

impl fmt::Display for QueueUnderflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the queue is empty and {} wait for it already",
            self.backlog
        )
    }
}

impl Error for QueueUnderflow {}
