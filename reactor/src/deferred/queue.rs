//! Queues that pass objects between producers and consumers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::waiters::{HandOut, WaiterId, Waiters};
use super::{Deferred, Resolver};

/// Passes objects to the consumers that wait for them, first in, first out (Twisted's
/// `DeferredQueue`).
///
/// [`put`](Self::put) passes an object to the consumer that has waited longest, or stores it. [`get`](Self::get) returns the oldest object, or waits for one. The numbers of stored objects and of waiting consumers are unlimited unless set.
///
/// Cheap to clone: all clones are handles of one queue. When the last handle is dropped, waiting
/// consumers fail with [`AbandonedError`](crate::AbandonedError). A callback that captures a handle
/// keeps the queue alive.
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
    /// Empty while a consumer waits that can be given an object.
    objects: VecDeque<T>,
    waiting: Waiters<T>,
    /// Objects put while another object was being passed on, oldest first.
    promised: VecDeque<Promise<T>>,
}

/// A consumer and its object; `None` if the consumer was cancelled meanwhile.
type Promise<T> = (WaiterId, Option<(Resolver<T>, T)>);

impl<T> DeferredQueue<T> {
    /// Makes an empty queue without limits.
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

    /// Sets the maximum number of stored objects. With 0, `put` succeeds only while a consumer
    /// waits.
    #[must_use]
    pub fn with_size(self, objects: usize) -> Self {
        let size = Some(objects);
        self.shared.limits.set(Limits {
            size,
            ..self.shared.limits.get()
        });
        self
    }

    /// Sets the maximum number of waiting consumers. With 0, `get` fails if the queue is empty.
    #[must_use]
    pub fn with_backlog(self, gets: usize) -> Self {
        let backlog = Some(gets);
        self.shared.limits.set(Limits {
            backlog,
            ..self.shared.limits.get()
        });
        self
    }

    /// Passes an object to the consumer that has waited longest, or stores it.
    ///
    /// The callbacks of the consumer run before `put` returns. The exception is a `put` inside such
    /// a callback: the object is passed on after that callback's chain. So the stack does not grow
    /// with the number of consumers. Consumers whose Deferred was dropped without a callback are
    /// skipped.
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

    /// Takes the oldest object, or waits for one. The Deferred has fired already if an object is
    /// stored.
    ///
    /// Cancelling the waiting Deferred fails it with [`CancelledError`](crate::CancelledError), and
    /// the next object goes to another consumer.
    ///
    /// # Errors
    ///
    /// [`QueueUnderflow`] if the maximum number of consumers waits already.
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

    /// Number of stored objects (the length of Twisted's `pending`).
    pub fn len(&self) -> usize {
        self.shared.sides.borrow().objects.len()
    }

    /// Returns `true` if `get` would have to wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of waiting consumers (the length of Twisted's `waiting`).
    ///
    /// Consumers whose Deferred was dropped count until their turn comes.
    pub fn waiting(&self) -> usize {
        self.shared.sides.borrow().waiting.len()
    }
}

impl<T> QueueState<T> {
    /// The consumer that has waited longest and can be given an object.
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

    /// Removes a cancelled consumer.
    fn leave(&self, id: WaiterId, resolver: Resolver<T>) {
        let mut sides = self.sides.borrow_mut();
        if sides.waiting.leave(id).is_some() {
            return;
        }
        // An object was already put for this consumer, and cancelling does not undo that: it gets
        // the object now. Ids are assigned and served in order, so the promises are sorted.
        let Ok(place) = sides.promised.binary_search_by_key(&id, |(of, _)| *of) else {
            return;
        };
        let promise = sides.promised[place].1.take();
        drop(sides);
        if let Some((_, object)) = promise {
            // Not refused, because the canceller decides.
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

/// The queue is full (Twisted's `QueueOverflow`).
///
/// The error carries the object that was not stored. To use `?` in a function that returns a
/// [`Failure`](crate::Failure), the object must be `Send` and `Sync`; otherwise leave it out with
/// [`without_object`](Self::without_object):
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
    /// The object that was not stored.
    pub object: T,
    /// The maximum number of stored objects.
    pub size: usize,
}

impl<T> QueueOverflow<T> {
    /// The error without the object.
    pub fn without_object(self) -> QueueOverflow {
        QueueOverflow {
            object: (),
            size: self.size,
        }
    }
}

// Not derived: the object need not be `Debug`.
impl<T> fmt::Debug for QueueOverflow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueOverflow")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for QueueOverflow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the queue is full: it stores {} objects at most",
            self.size
        )
    }
}

impl<T> Error for QueueOverflow<T> {}

/// The maximum number of consumers waits already (Twisted's `QueueUnderflow`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueUnderflow {
    /// The maximum number of waiting consumers.
    pub backlog: usize,
}

impl fmt::Display for QueueUnderflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the queue is empty, and {} consumers wait already",
            self.backlog
        )
    }
}

impl Error for QueueUnderflow {}
