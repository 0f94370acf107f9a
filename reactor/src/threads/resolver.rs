//! Firing a Deferred from another thread.
//!
//! The Deferred, its callbacks and its [`Resolver`] stay on their thread. The reactor stores the
//! resolver under a key, and the other thread sends the key and the result with a call from that
//! thread.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

use slab::Slab;

use super::{ReactorGoneError, RemoteReactor};
use crate::deferred::{Failure, Resolver};
use crate::reactor::Reactor;

/// Resolvers that other threads will fire.
///
/// Each belongs to one [`RemoteResolver`] and is removed by its last message, so a key is not
/// reused while it could still be sent.
pub(crate) type RemoteResolvers = RefCell<Slab<Box<dyn Any>>>;

impl<T: Send + 'static> Resolver<T> {
    /// Converts into a resolver that may be sent to other threads. It fires this Deferred on the
    /// thread of `reactor`, which must be this thread.
    ///
    /// ```
    /// use deferred_reactor::{Deferred, Failure, Reactor};
    ///
    /// let reactor = Reactor::new()?;
    /// let (answer, resolver) = Deferred::pending();
    /// let resolver = resolver.into_remote(&reactor);
    /// std::thread::spawn(move || resolver.callback(6 * 7));
    ///
    /// let stop = reactor.clone();
    /// let answer = answer.add_callback(move |answer| {
    ///     stop.stop()?;
    ///     Ok(answer)
    /// });
    /// reactor.run()?;
    /// assert_eq!(answer.result()?, 42);
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn into_remote(self, reactor: &Reactor) -> RemoteResolver<T> {
        let resolvers = reactor.core().remote_resolvers();
        let key = resolvers.borrow_mut().insert(Box::new(self));
        RemoteResolver {
            remote: reactor.remote(),
            key: Some(key),
            made: Location::caller(),
            fires: PhantomData,
        }
    }
}

/// Fires one Deferred, once, from any thread: a [`Resolver`] that is `Send`.
///
/// Made by [`Resolver::into_remote`]. The callbacks run on the reactor's thread while it runs, in
/// order with all other calls from threads ([`RemoteReactor::call_from_thread`]). Dropping it
/// without firing fails the Deferred with [`AbandonedError`](crate::AbandonedError), also on the
/// reactor's thread.
///
/// If the reactor is dropped first, the Deferred fails with that error at once.
#[must_use = "a resolver that is dropped fails its Deferred with AbandonedError"]
pub struct RemoteResolver<T: Send + 'static> {
    remote: RemoteReactor,
    /// The key of the stored resolver; `None` once a message was sent.
    key: Option<usize>,
    made: &'static Location<'static>,
    /// Takes values of this type, and stores none.
    fires: PhantomData<fn(T)>,
}

impl<T: Send + 'static> RemoteResolver<T> {
    /// Fires with a value, in the reactor's next [turn](crate#turns).
    ///
    /// A Deferred that was cancelled meanwhile drops the value; this side is not notified.
    ///
    /// # Errors
    ///
    /// [`ReactorGoneError`] if the reactor has been dropped; the value is dropped then.
    #[track_caller]
    pub fn callback(self, value: T) -> Result<(), ReactorGoneError> {
        self.fire(Ok(value))
    }

    /// Fires with an error, in the reactor's next turn.
    ///
    /// # Errors
    ///
    /// As for [`callback`](Self::callback).
    #[track_caller]
    pub fn errback(self, error: impl Into<Failure>) -> Result<(), ReactorGoneError> {
        self.fire(Err(error.into()))
    }

    /// Fires with a result, in the reactor's next turn.
    ///
    /// # Errors
    ///
    /// As for [`callback`](Self::callback).
    #[track_caller]
    pub fn fire(self, result: Result<T, Failure>) -> Result<(), ReactorGoneError> {
        self.fire_for(Location::caller(), result)
    }

    pub(super) fn fire_for(
        mut self,
        line: &'static Location<'static>,
        result: Result<T, Failure>,
    ) -> Result<(), ReactorGoneError> {
        let Some(key) = self.key.take() else {
            unreachable!("firing consumes the resolver");
        };
        self.remote.call_from_thread_for(line, move |reactor| {
            if let Some(resolver) = take(reactor, key)
                && let Ok(resolver) = resolver.downcast::<Resolver<T>>()
            {
                // Refused only if the Deferred was cancelled; the result is not wanted then.
                let _ = resolver.fire_at(result, line);
            }
        })
    }
}

impl<T: Send + 'static> Drop for RemoteResolver<T> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            // A dropped reactor has dropped the resolver already.
            let _ = self
                .remote
                .call_from_thread_for(self.made, move |reactor| drop(take(reactor, key)));
        }
    }
}

impl<T: Send + 'static> fmt::Debug for RemoteResolver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteResolver").finish_non_exhaustive()
    }
}

/// Removes a stored resolver, so that no borrow is held when it fires.
fn take(reactor: &Reactor, key: usize) -> Option<Box<dyn Any>> {
    reactor
        .core()
        .remote_resolvers()
        .borrow_mut()
        .try_remove(key)
}
