//! Combining several Deferreds into one, which waits for all of them, or for the first that
//! succeeds or fails.

use std::error::Error;
use std::fmt;
use std::panic::Location;

use super::chain::Line;
use super::gather::{FirstValue, ListEntry, Rule, Slots, Terms, gather};
use super::{Deferred, Failure};

/// Combines several Deferreds into one (Twisted's `DeferredList`).
///
/// The method called on the returned [`DeferredList`] decides when the combined Deferred fires.
///
/// ```
/// # use deferred_reactor::{Deferred, Failure, deferred_list};
/// let list = deferred_list([Deferred::succeed(1), Deferred::succeed(2)]).fire_on_all();
/// let entries = list.result()?;
/// assert!(entries.iter().all(|entry| entry.as_result().is_ok()));
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn deferred_list<T>(inputs: impl IntoIterator<Item = Deferred<T>>) -> DeferredList<T> {
    DeferredList {
        inputs: inputs.into_iter().collect(),
        line: Location::caller(),
    }
}

/// Fires with the values of all inputs, in their order, or fails with the first failure (Twisted's
/// `gatherResults`).
///
/// The same as
/// `deferred_list(inputs)`[`.fire_on_one_errback()`](DeferredList::fire_on_one_errback). The other
/// inputs continue after one has failed. Their later failures are reported as unhandled, unless
/// [`consume_errors`](DeferredList::consume_errors) was called.
/// # Errors
///
/// [`FirstError`], as soon as one of them fails.
///
/// ```
/// # use deferred_reactor::{Deferred, Failure, FirstError, gather_results};
/// let both = gather_results([Deferred::succeed(1), Deferred::succeed(2)]);
/// assert_eq!(both.result()?, [1, 2]);
///
/// let second = Deferred::fail("x".parse::<i32>().unwrap_err());
/// let failure = gather_results([Deferred::succeed(1), second]).result().unwrap_err();
/// assert_eq!(failure.trap::<FirstError>()?.index, 1);
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn gather_results<T>(inputs: impl IntoIterator<Item = Deferred<T>>) -> Deferred<Vec<T>> {
    deferred_list(inputs).fire_on_one_errback()
}

/// Several Deferreds to be combined into one; the method called on it decides when that one fires.
///
/// Twisted's flags are methods here, and the first two decide on the type of the result:
///
/// | Twisted                       | here                                | gives                     |
/// |-------------------------------|-------------------------------------|---------------------------|
/// | `DeferredList(ds)`            | `deferred_list(ds).fire_on_all()`   | `Vec<ListEntry<T>>`       |
/// | ... `consumeErrors=True`      | `.consume_errors().fire_on_all()`   | `Vec<Result<T, Failure>>` |
/// | ... `fireOnOneErrback=True`   | `.fire_on_one_errback()`            | `Vec<T>`                  |
/// | ... `fireOnOneCallback=True`  | `.fire_on_one_callback()`           | `(T, usize)`              |
/// | ... both of these             | `.fire_on_one()`                    | `(T, usize)`              |
/// | `gatherResults(ds)`           | [`gather_results(ds)`](gather_results)           | `Vec<T>`                  |
/// | `race(ds)`                    | [`race(ds)`](crate::race)           | `(usize, T)`              |
///
/// Inputs that have fired already count at once, so the list may have fired when it is made.
/// Cancelling the list cancels every input, and the list then ends by its rule, with the results of
/// the inputs. After the list has fired, cancelling it does nothing to inputs that continue. At the
/// end of a [time limit](crate::Deferred::add_timeout) the inputs are cancelled, and the list fails
/// with [`TimeoutError`](crate::TimeoutError). To keep the results that came in time, add the limit
/// to each input, or use [`add_timeout_with`](crate::Deferred::add_timeout_with), with which the
/// list ends by its rule.
///
/// ```
/// use deferred_reactor::{Deferred, Failure, deferred_list};
///
/// let (slow, resolver) = Deferred::pending();
/// let list = deferred_list([slow, Deferred::fail(Failure::message("no answer"))])
///     .consume_errors()
///     .fire_on_all();
/// resolver.callback("hello")?;
///
/// let results = list.result()?;
/// assert_eq!(results[0].as_ref().unwrap(), &"hello");
/// assert_eq!(results[1].as_ref().unwrap_err().to_string(), "no answer");
/// # Ok::<(), Failure>(())
/// ```
///
/// # Owners of failures
///
/// A failure has one owner, and is reported as [unhandled](crate::on_unhandled) when the owner
/// drops it. The list owns the failures of its inputs:
///
/// - A failure that makes the list fail goes to the list's errbacks, inside [`FirstError`] or
///   [`FailureGroup`](crate::FailureGroup), and is theirs to handle.
/// - A failure in a [`ListEntry`] is unhandled, even after it was looked at. The entry reports it
///   when it is dropped, unless [`into_result`](ListEntry::into_result) took it out.
/// - A failure that came too early or too late to be part of the result is reported at that time.
/// - With [`consume_errors`](Self::consume_errors), only the first kind is reported.
///
/// The cancelling of inputs together with the list is never reported.
#[must_use = "it does nothing until it is told when to fire"]
pub struct DeferredList<T: 'static, const CONSUMES_ERRORS: bool = false> {
    inputs: Vec<Deferred<T>>,
    line: Line,
}

impl<T> DeferredList<T> {
    /// Counts the failures of all inputs as handled (Twisted's `consumeErrors`).
    pub fn consume_errors(self) -> DeferredList<T, true> {
        DeferredList {
            inputs: self.inputs,
            line: self.line,
        }
    }

    /// Fires when all inputs have ended, with one entry for each, in their order. Never fails.
    ///
    /// An entry that is dropped with a failure reports it as unhandled.
    pub fn fire_on_all(self) -> Deferred<Vec<ListEntry<T>>> {
        self.every(|entry| entry)
    }
}

impl<T> DeferredList<T, true> {
    /// Fires when all inputs have ended, with the result of each, in their order. Never fails.
    pub fn fire_on_all(self) -> Deferred<Vec<Result<T, Failure>>> {
        self.every(ListEntry::into_result)
    }
}

impl<T, const CONSUMES_ERRORS: bool> DeferredList<T, CONSUMES_ERRORS> {
    /// Fires when one input succeeds, with its value and its index (Twisted's
    /// `fireOnOneCallback`).
    ///
    /// Without inputs it never fires. The other inputs continue; [`race`](crate::race) cancels
    /// them.
    ///
    /// # Errors
    ///
    /// [`FailureGroup`](crate::FailureGroup) when all inputs have failed. (Twisted fires with the list of failures.)
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure, deferred_list};
    /// let inputs = [Deferred::fail(Failure::message("no")), Deferred::succeed("yes")];
    /// let first = deferred_list(inputs).consume_errors().fire_on_one_callback();
    /// assert_eq!(first.result()?, ("yes", 1));
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn fire_on_one_callback(self) -> Deferred<(T, usize)> {
        if self.inputs.is_empty() {
            return self.never();
        }
        let count = self.inputs.len();
        let line = self.line;
        self.gather(FirstValue::new(count, |index, value| (value, index), line))
    }

    /// Fires when all inputs have succeeded, with their values, or fails with the first that fails
    /// (Twisted's `fireOnOneErrback`).
    ///
    /// # Errors
    ///
    /// [`FirstError`], as soon as one input fails. The other inputs continue.
    pub fn fire_on_one_errback(self) -> Deferred<Vec<T>> {
        if self.inputs.is_empty() {
            return Deferred::fired_at(Ok(vec![]), self.line);
        }
        let values = Slots::new(self.inputs.len());
        self.gather(UntilOneFails { values })
    }

    /// Fires when one input ends: with its value and its index, or with its failure (both of
    /// Twisted's flags).
    ///
    /// Without inputs it never fires. The other inputs continue.
    ///
    /// # Errors
    ///
    /// [`FirstError`], if the first input to end has failed.
    pub fn fire_on_one(self) -> Deferred<(T, usize)> {
        if self.inputs.is_empty() {
            return self.never();
        }
        self.gather(FirstEnding)
    }

    fn every<E: 'static>(self, output: fn(ListEntry<T>) -> E) -> Deferred<Vec<E>> {
        if self.inputs.is_empty() {
            return Deferred::fired_at(Ok(vec![]), self.line);
        }
        let ended = Slots::new(self.inputs.len());
        self.gather(EveryEnding { ended, output })
    }

    /// A Deferred that fires only when it is cancelled.
    fn never<O>(self) -> Deferred<O> {
        let root = super::chain::Root::new(self.line, None);
        let (deferred, resolver) = Deferred::from_root(std::rc::Rc::new(root), self.line);
        resolver.never_fire();
        deferred
    }

    fn gather<R: Rule<T> + 'static>(self, rule: R) -> Deferred<R::Output> {
        let terms = Terms {
            consumes_errors: CONSUMES_ERRORS,
            cancels_the_rest: false,
            line: self.line,
        };
        gather(self.inputs, rule, terms)
    }
}

impl<T, const CONSUMES_ERRORS: bool> fmt::Debug for DeferredList<T, CONSUMES_ERRORS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeferredList")
            .field("inputs", &self.inputs.len())
            .field("consumes_errors", &CONSUMES_ERRORS)
            .finish_non_exhaustive()
    }
}

/// Fires with the result of each input.
struct EveryEnding<T, E> {
    ended: Slots<E>,
    output: fn(ListEntry<T>) -> E,
}

impl<T, E: 'static> Rule<T> for EveryEnding<T, E> {
    type Output = Vec<E>;

    fn ended(&mut self, index: usize, entry: ListEntry<T>) -> Option<Result<Vec<E>, Failure>> {
        self.ended.fill(index, (self.output)(entry)).map(Ok)
    }
}

/// Fires with all values, or fails with the first failure.
struct UntilOneFails<T> {
    values: Slots<T>,
}

impl<T: 'static> Rule<T> for UntilOneFails<T> {
    type Output = Vec<T>;

    fn ended(&mut self, index: usize, entry: ListEntry<T>) -> Option<Result<Vec<T>, Failure>> {
        match entry.into_result() {
            Ok(value) => self.values.fill(index, value).map(Ok),
            Err(failure) => Some(Err(first_error(index, failure))),
        }
    }
}

/// Ends with the first input that ends.
struct FirstEnding;

impl<T: 'static> Rule<T> for FirstEnding {
    type Output = (T, usize);

    fn ended(&mut self, index: usize, entry: ListEntry<T>) -> Option<Result<(T, usize), Failure>> {
        Some(match entry.into_result() {
            Ok(value) => Ok((value, index)),
            Err(failure) => Err(first_error(index, failure)),
        })
    }
}

fn first_error(index: usize, failure: Failure) -> Failure {
    let location = failure.location();
    Failure::at(Box::new(FirstError { index, failure }), location)
}

/// The first failure among several Deferreds, and which of them it was (Twisted's `FirstError`).
///
/// Two are equal if their indexes are equal and their errors have the same `Display`, `Debug` and
/// sources. Source lines are not compared.
///
/// ```
/// # use deferred_reactor::{Deferred, Failure, FirstError, gather_results};
/// # use std::num::ParseIntError;
/// let inputs = ["1", "x"].map(|text| Deferred::succeed(text).add_callback(|text| Ok(text.parse::<i32>()?)));
/// let sum = gather_results(inputs)
///     .map(|numbers| numbers.iter().sum())
///     .add_errback(|failure| {
///         let first = failure.trap::<FirstError>()?;
///         assert_eq!(first.to_string(), "input 1 failed: invalid digit found in string");
///         first.failure.trap::<ParseIntError>()?;
///         Ok(0)
///     });
/// assert_eq!(sum.result()?, 0);
/// # Ok::<(), Failure>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct FirstError {
    /// The index of the input that failed, from 0.
    pub index: usize,
    /// The failure of the input.
    pub failure: Failure,
}

impl FirstError {
    /// For tests, and for code that combines Deferreds in other ways.
    pub fn new(index: usize, failure: Failure) -> Self {
        Self { index, failure }
    }
}

impl fmt::Display for FirstError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input {} failed: {}", self.index, self.failure)
    }
}

impl Error for FirstError {
    // `Display` shows the error itself, so the source is the next one below.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failure.error().source()
    }
}

impl PartialEq for FirstError {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && says_the_same(self.failure.error(), other.failure.error())
    }
}

/// Compares two errors of unknown types by their texts.
fn says_the_same(one: &(dyn Error + 'static), other: &(dyn Error + 'static)) -> bool {
    let texts = |error: &dyn Error| (format!("{error:?}"), error.to_string());
    let (mut one, mut other) = (Some(one), Some(other));
    while let (Some(left), Some(right)) = (one, other) {
        if texts(left) != texts(right) {
            return false;
        }
        (one, other) = (left.source(), right.source());
    }
    one.is_none() && other.is_none()
}
