//! One Deferred that stands for several: what lists and races have in common.
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
//! The result has no canceller of its own to speak of: cancelling it cancels the inputs, and it
//! then ends by its rule, at once or when the last input does so which had other plans. At the end of
//! a time limit it does not wait for them, and fails.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};

use super::chain::{self, CancelFn, Line, Root, Why};
use super::unhandled::{self, Unhandled};
use super::{CancelledError, Canceller, Deferred, Failure, FailureGroup, Resolver, Step, nested};

/// Decides what the result is.
pub(super) trait Rule<T> {
    type Output: 'static;

    /// One input has ended. The answer is the result, once there is one; no input is asked about
    /// after that.
    fn ended(&mut self, index: usize, entry: ListEntry<T>)
    -> Option<Result<Self::Output, Failure>>;
}

/// What happens beside the result.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// Whether failures that the result does not carry are dropped without a report.
    pub(super) consumes_errors: bool,
    /// Whether inputs that have not ended are cancelled once the result is decided.
    pub(super) cancels_the_rest: bool,
    /// The line that asked for all this.
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
    /// To cancel each input with; empty while that is being done, and once the result is decided.
    inputs: Cell<Vec<Canceller>>,
    is_cancelled: Cell<bool>,
    terms: Terms,
    takes: std::marker::PhantomData<fn(T)>,
}

impl<T: 'static, R: Rule<T>> Gathering<T, R> {
    fn ended(&self, index: usize, made: Line, result: Result<T, Failure>) {
        let is_reported = match &result {
            Ok(_) => false,
            // Who cancels a list need not be told that its inputs were cancelled.
            Err(failure) if self.is_cancelled.get() && failure.is::<CancelledError>() => false,
            Err(_) => !self.terms.consumes_errors,
        };
        let entry = ListEntry {
            result: Some(result),
            report: is_reported.then_some((made, self.terms.line)),
        };
        // Taken out and put back, so that no user's `Drop` or callback meets it borrowed.
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
                // It is pending: its canceller never lets it end otherwise.
                let _ = resolver.fire_at(decided, line);
            });
        }
        // With the rule goes what came before and is no part of the result.
    }

    /// Cancels every input, once, whatever comes of the result meanwhile.
    fn cancel_inputs(&self) {
        let inputs = self.inputs.take();
        for input in &inputs {
            if let Some(root) = input.root.as_ref().and_then(Weak::upgrade) {
                chain::cancel(root, self.terms.line, Why::Asked);
            }
        }
        let rule = self.rule.take();
        if rule.is_some() {
            // For the next time: an input may have recovered, and wait for something else.
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
            // When the time is up, the rule has no say: what cancelling makes of the inputs is no result.
            let given_up = resolver
                .is_timing_out()
                .then(|| (found.rule.take(), found.resolver.take()));
            found.cancel_inputs();
            drop(given_up);
            resolver.wait_on(cancel_inputs_of(gathering));
        }
    })
}

/// How one input of a [`deferred_list`](crate::deferred_list) ended.
///
/// The list shows the failure of an input, but does not count as handling it: an entry that is
/// dropped with its failure reports that as [unhandled](crate::on_unhandled), also when somebody
/// has looked at it. [`into_result`](Self::into_result) takes the failure over, to handle it, and
/// [`consume_errors`](crate::DeferredList::consume_errors) makes the list do so for all.
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
    /// `None` only while it is being taken.
    result: Option<Result<T, Failure>>,
    /// Where the input was made and where it was dropped, if its failure is to be reported.
    report: Option<(Line, Line)>,
}

impl<T> ListEntry<T> {
    /// The value or the failure, to be looked at.
    pub fn as_result(&self) -> &Result<T, Failure> {
        self.result
            .as_ref()
            .expect("only into_result takes it, and consumes the entry")
    }

    /// The value or the failure. A failure counts as handled by this.
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
    /// How many are empty.
    left: usize,
}

impl<E> Slots<E> {
    pub(super) fn new(count: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(count).collect(),
            left: count,
        }
    }

    /// Fills one; with the last one, hands out all of them.
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

/// Fires with the first value, or fails when no input is left that could give one.
pub(super) struct FirstValue<T, O> {
    failed: Slots<ListEntry<T>>,
    /// Makes the result out of the index and the value.
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
