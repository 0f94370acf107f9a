//! Combining Deferreds: the part that lists and races share.
//!
//! A [`Gathering`] watches its inputs and asks a [`Rule`] after each ending whether the result is
//! decided. Each input owns a share of it, through the callback added here, and it owns the
//! resolver of the result. The way back, for cancelling, is weak in both steps:
//!
//! ```text
//! inputs ──▶ Gathering ──resolver──▶ result ◀── the user's handle
//!   ▲ ╌╌╌╌╌╌╌╌╌┘   ▲ ╌╌╌╌╌canceller╌╌╌╌┘
//! ```
//!
//! Cancelling the result cancels the inputs. The result then ends by its rule: at once, or when the
//! last input ends that did not end when cancelled. At the end of a time limit it fails at once and
//! does not wait for the inputs.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};

use super::chain::{self, CancelFn, Line, Root, Why};
use super::unhandled::{self, Unhandled};
use super::{CancelledError, Canceller, Deferred, Failure, FailureGroup, Resolver, Step, nested};

/// Decides the result.
pub(super) trait Rule<T> {
    type Output: 'static;

    /// Called when an input has ended. Returns the result once it is decided; no later input is
    /// passed.
    fn ended(&mut self, index: usize, entry: ListEntry<T>)
    -> Option<Result<Self::Output, Failure>>;
}

/// Options that do not affect the result.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// Whether failures that the result does not carry are dropped without a report.
    pub(super) consumes_errors: bool,
    /// Whether inputs that have not ended are cancelled once the result is decided.
    pub(super) cancels_the_rest: bool,
    /// The source line that combined the inputs.
    pub(super) line: Line,
}

/// Watches `inputs`, which may have fired before.
pub(super) fn gather<T: 'static, R: Rule<T> + 'static>(
    inputs: Vec<Deferred<T>>,
    rule: R,
    terms: Terms,
) -> Deferred<R::Output> {
    let line = terms.line;
    let gathering = Rc::new(Gathering {
        rule: Cell::new(Some(rule)),
        resolver: Cell::new(None),
        inputs: Cell::new(inputs.iter().map(Deferred::canceller).collect()),
        is_cancelled: Cell::new(false),
        terms,
        takes: std::marker::PhantomData,
    });
    let canceller = cancel_inputs_of(Rc::downgrade(&gathering));
    let (result, resolver) = Deferred::from_root(Rc::new(Root::new(line, Some(canceller))), line);
    gathering.resolver.set(Some(resolver));

    for (index, input) in inputs.into_iter().enumerate() {
        let made = input.made();
        let gathering = gathering.clone();
        drop(input.then(line, move |result| {
            gathering.ended(index, made, result);
            Step::Now(Ok(()))
        }));
    }
    result
}

struct Gathering<T: 'static, R: Rule<T>> {
    /// `None` once the result is decided.
    rule: Cell<Option<R>>,
    resolver: Cell<Option<Resolver<R::Output>>>,
    /// Cancels the inputs; empty while that is being done, and once the result is decided.
    inputs: Cell<Vec<Canceller>>,
    is_cancelled: Cell<bool>,
    terms: Terms,
    takes: std::marker::PhantomData<fn(T)>,
}

impl<T: 'static, R: Rule<T>> Gathering<T, R> {
    fn ended(&self, index: usize, made: Line, result: Result<T, Failure>) {
        let is_reported = match &result {
            Ok(_) => false,
            // Cancelling a list cancels its inputs, so their CancelledErrors are expected.
            Err(failure) if self.is_cancelled.get() && failure.is::<CancelledError>() => false,
            Err(_) => !self.terms.consumes_errors,
        };
        let entry = ListEntry {
            result: Some(result),
            report: is_reported.then_some((made, self.terms.line)),
        };
        // Taken out and put back, so that no borrow is held during a user's `Drop` or callback.
        let Some(mut rule) = self.rule.take() else {
            return; // too late
        };
        let Some(decided) = rule.ended(index, entry) else {
            self.rule.set(Some(rule));
            return;
        };
        if self.terms.cancels_the_rest {
            self.cancel_inputs();
        } else {
            drop(self.inputs.take());
        }
        if let Some(resolver) = self.resolver.take() {
            let line = self.terms.line;
            nested::fire_nested(move || {
                // Not refused, because the result is pending: its canceller never fires it.
                let _ = resolver.fire_at(decided, line);
            });
        }
        // Dropping the rule drops results that are not part of the result.
    }

    /// Cancels every input once, even if the result is decided meanwhile.
    fn cancel_inputs(&self) {
        let inputs = self.inputs.take();
        for input in &inputs {
            if let Some(root) = input.root.as_ref().and_then(Weak::upgrade) {
                chain::cancel(root, self.terms.line, Why::Asked);
            }
        }
        let rule = self.rule.take();
        if rule.is_some() {
            // For the next cancel: an input may have recovered and wait for something else.
            self.inputs.set(inputs);
        }
        self.rule.set(rule);
    }
}

fn cancel_inputs_of<T: 'static, R: Rule<T> + 'static>(
    gathering: Weak<Gathering<T, R>>,
) -> CancelFn<R::Output> {
    Box::new(move |resolver| {
        if let Some(found) = gathering.upgrade() {
            found.is_cancelled.set(true);
            // At the end of a time limit the rule is not asked: results of cancelled inputs do not
            // count.
            let given_up = resolver
                .is_timing_out()
                .then(|| (found.rule.take(), found.resolver.take()));
            found.cancel_inputs();
            drop(given_up);
            resolver.wait_on(cancel_inputs_of(gathering));
        }
    })
}

/// The result of one input of a [`deferred_list`](crate::deferred_list).
///
/// Looking at a failure in an entry does not handle it: an entry that is dropped with its failure
/// reports it as [unhandled](crate::on_unhandled). [`into_result`](Self::into_result) takes the
/// failure out, to handle it; with [`consume_errors`](crate::DeferredList::consume_errors) no entry
/// reports its failure.
///
/// ```
/// # use deferred_reactor::{Deferred, Failure, deferred_list};
/// let inputs = [Deferred::succeed(1), Deferred::fail(Failure::message("no"))];
/// let mut handled = 0;
/// for entry in deferred_list(inputs).fire_on_all().result()? {
///     match entry.into_result() {
///         Ok(value) => assert_eq!(value, 1),
///         Err(_failure) => handled += 1,
///     }
/// }
/// assert_eq!(handled, 1);
/// # Ok::<(), Failure>(())
/// ```
pub struct ListEntry<T> {
    /// `None` only while it is being taken out.
    result: Option<Result<T, Failure>>,
    /// The source lines that made and dropped the input, if a failure is to be reported.
    report: Option<(Line, Line)>,
}

impl<T> ListEntry<T> {
    /// Borrows the value or the failure. Does not handle a failure.
    pub fn as_result(&self) -> &Result<T, Failure> {
        self.result
            .as_ref()
            .expect("only into_result takes it, and consumes the entry")
    }

    /// Takes the value or the failure. The failure counts as handled by this.
    pub fn into_result(mut self) -> Result<T, Failure> {
        self.result
            .take()
            .expect("only into_result takes it, and consumes the entry")
    }
}

impl<T> Drop for ListEntry<T> {
    fn drop(&mut self) {
        if let Some((made, dropped)) = self.report
            && let Some(Err(failure)) = self.result.take()
        {
            unhandled::report(Unhandled {
                failure,
                made,
                dropped,
                fired: None,
            });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ListEntry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListEntry").field(self.as_result()).finish()
    }
}

/// One place for each input, until all are filled.
pub(super) struct Slots<E> {
    slots: Vec<Option<E>>,
    /// Number of empty places.
    left: usize,
}

impl<E> Slots<E> {
    pub(super) fn new(count: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(count).collect(),
            left: count,
        }
    }

    /// Fills one place; returns all entries when it was the last.
    pub(super) fn fill(&mut self, index: usize, entry: E) -> Option<Vec<E>> {
        debug_assert!(self.slots[index].is_none(), "an input ends once");
        self.slots[index] = Some(entry);
        self.left -= 1;
        (self.left == 0).then(|| {
            std::mem::take(&mut self.slots)
                .into_iter()
                .flatten()
                .collect()
        })
    }
}

/// Fires with the first value, or fails when all inputs have failed.
pub(super) struct FirstValue<T, O> {
    failed: Slots<ListEntry<T>>,
    /// Makes the result from the index and the value.
    output: fn(usize, T) -> O,
    line: Line,
}

impl<T, O> FirstValue<T, O> {
    pub(super) fn new(count: usize, output: fn(usize, T) -> O, line: Line) -> Self {
        Self {
            failed: Slots::new(count),
            output,
            line,
        }
    }
}

impl<T, O: 'static> Rule<T> for FirstValue<T, O> {
    type Output = O;

    fn ended(&mut self, index: usize, entry: ListEntry<T>) -> Option<Result<O, Failure>> {
        if entry.as_result().is_ok() {
            return Some(entry.into_result().map(|value| (self.output)(index, value)));
        }
        let failed = self.failed.fill(index, entry)?;
        let failures = failed
            .into_iter()
            .filter_map(|entry| entry.into_result().err())
            .collect();
        let group = FailureGroup { failures };
        Some(Err(Failure::at(Box::new(group), self.line)))
    }
}
