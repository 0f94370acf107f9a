//! The types that a callback may return.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;

use self::sealed::IntoStep;
use super::chain::{ChainRoot, Source};
use super::{Deferred, Failure, State, task};
use crate::guard::catch;

/// What a callback returns: a `Result<U, Failure>`, or a `Deferred<U>` to wait for.
///
/// `Box::pin(async { ... })` works too, and is [spawned](super::spawn). Only these types implement
/// `Outcome`, which lets a closure end in `Ok(x)` without naming the error type. (Futures of other
/// types cannot implement it: the compiler would have to know that `Result` is not a future.) The
/// trait is sealed: other crates use it in bounds and cannot implement it.
///
/// | in Twisted, a callback      | here                                                       |
/// |-----------------------------|------------------------------------------------------------|
/// | returns a value             | `Ok(value)`; or `map` in place of `add_callback`           |
/// | returns nothing             | `Ok(())`                                                   |
/// | raises                      | `Err(failure)`, or `?` on any error                        |
/// | returns a Deferred          | the Deferred                                               |
/// | is `async`                  | `spawn(async { ... })`, or `Box::pin(async { ... })`       |
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a callback may return",
    note = "a callback returns `Result<U, Failure>` or `Deferred<U>`: a value goes into `Ok(...)`, \
            nothing is `Ok(())`, another error becomes a `Failure` with `?`, and an async block a \
            Deferred with `spawn(...)`"
)]
pub trait Outcome: IntoStep<<Self as Outcome>::Value> {
    /// The type of the value that the chain continues with.
    type Value: 'static;

    /// Converts into a Deferred; a `Result` becomes a fired one, without an allocation.
    fn into_deferred(self) -> Deferred<Self::Value>;
}

mod sealed {
    use super::Step;

    /// Methods that only this module implements.
    pub trait IntoStep<U: 'static>: Sized {
        fn into_step(self) -> Step<U>;
    }
}

impl<U: 'static> IntoStep<U> for Result<U, Failure> {
    #[inline]
    fn into_step(self) -> Step<U> {
        Step::Now(self)
    }
}

impl<U: 'static> IntoStep<U> for Deferred<U> {
    fn into_step(self) -> Step<U> {
        self.into()
    }
}

impl<F, U> IntoStep<U> for Pin<Box<F>>
where
    F: Future<Output = Result<U, Failure>> + ?Sized + 'static,
    U: 'static,
{
    fn into_step(self) -> Step<U> {
        self.into_deferred().into()
    }
}

impl<U: 'static> Outcome for Result<U, Failure> {
    type Value = U;

    #[track_caller]
    fn into_deferred(self) -> Deferred<U> {
        Deferred::from_result(self)
    }
}

impl<U: 'static> Outcome for Deferred<U> {
    type Value = U;

    fn into_deferred(self) -> Deferred<U> {
        self
    }
}

impl<F, U> Outcome for Pin<Box<F>>
where
    F: Future<Output = Result<U, Failure>> + ?Sized + 'static,
    U: 'static,
{
    type Value = U;

    #[track_caller]
    fn into_deferred(self) -> Deferred<U> {
        task::start(self, None, Location::caller())
    }
}

/// Calls a function that may return its result now or later, and always returns a Deferred
/// (Twisted's `maybeDeferred`).
///
/// A value or an error becomes a fired Deferred, a panic a Deferred that failed with
/// [`PanicError`](crate::PanicError), and a Deferred is returned as it is. For an async function,
/// write `maybe_deferred(|| spawn(function()))`, or `spawn(function())`, which does not panic
/// either; a boxed future is spawned here.
///
/// ```
/// # use deferred_reactor::{Deferred, Failure, maybe_deferred};
/// fn cached(key: &str) -> Result<u32, Failure> {
///     Ok(key.parse()?)
/// }
/// assert_eq!(maybe_deferred(|| cached("12")).result()?, 12);
/// assert!(maybe_deferred(|| cached("?")).result().is_err());
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn maybe_deferred<R: Outcome>(function: impl FnOnce() -> R) -> Deferred<R::Value> {
    call_for(Location::caller(), function)
}

/// [`maybe_deferred`] for a function passed at `line`, which a panic is attributed to.
#[track_caller]
pub(crate) fn call_for<R: Outcome>(
    line: &'static Location<'static>,
    function: impl FnOnce() -> R,
) -> Deferred<R::Value> {
    match catch(function) {
        Ok(outcome) => outcome.into_deferred(),
        Err(payload) => Deferred::fired_at(Err(Failure::from_panic_at(payload, line)), line),
    }
}

/// What a callback returned.
///
/// Smaller than a [`Deferred`], and without its `Drop`, for the hot path.
#[allow(
    private_interfaces,
    reason = "public only to be named in a sealed trait"
)]
pub enum Step<T: 'static> {
    /// The chain continues at once.
    Now(Result<T, Failure>),
    /// The chain waits for another.
    Wait {
        node: Rc<dyn Source<T>>,
        root: Rc<dyn ChainRoot>,
    },
}

impl<T> fmt::Debug for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Wait { .. } => "Wait",
        })
    }
}

impl<T> From<Deferred<T>> for Step<T> {
    fn from(deferred: Deferred<T>) -> Self {
        match deferred.into_state() {
            State::Fired { result, .. } => Self::Now(result),
            State::Pending { node, root } => Self::Wait { node, root },
        }
    }
}
