//! The [`Deferred`]: the handle of a chain, to which callbacks are added.

use std::fmt;
use std::panic::Location;
use std::rc::Rc;

use super::chain::{self, ChainRoot, Line, Link, Root, Source, Why};
use super::unhandled::{self, Unhandled, is_debugging};
#[cfg(doc)]
use super::{CancelledError, on_unhandled};
use super::{Canceller, Failure, NotFiredError, Outcome, Resolver, Step, nested, pending};

/// A value that will exist later, and what to do with it then.
///
/// | state     | left by                        | then                                       |
/// |-----------|--------------------------------|--------------------------------------------|
/// | pending   | its [`Resolver`], or a cancel  | runs the chain on the caller's stack       |
/// | running   | the last callback              | fired                                      |
/// | waiting   | the Deferred it waits on       | running, from the callback after           |
/// | fired     | -                              | a callback added now runs at once          |
///
/// A Deferred stays on the thread that made it (it is not `Send`). To fire one from another thread,
/// make its resolver a [`RemoteResolver`](crate::RemoteResolver), with
/// [`into_remote`](Resolver::into_remote).
///
/// A function that has no result yet keeps the resolver, and returns the Deferred:
///
/// ```
/// use std::{cell::RefCell, collections::VecDeque};
/// use deferred_reactor::{Deferred, Failure, Resolver};
///
/// /// Questions on their way, oldest first.
/// #[derive(Default)]
/// struct Questions { waiting: RefCell<VecDeque<Resolver<String>>> }
///
/// impl Questions {
///     fn ask(&self) -> Deferred<String> {
///         let (answer, resolver) = Deferred::pending();
///         self.waiting.borrow_mut().push_back(resolver);
///         answer
///     }
///
///     fn answered(&self, text: &str) -> Result<(), Failure> {
///         // Taken out first: the callbacks run inside `callback`, and may ask again.
///         let oldest = self.waiting.borrow_mut().pop_front();
///         match oldest {
///             Some(resolver) => Ok(resolver.callback(text.to_owned())?),
///             None => Err(Failure::message("nobody has asked")),
///         }
///     }
/// }
///
/// let questions = Questions::default();
/// let length = questions.ask().map(|text| text.len());
/// questions.answered("yes")?;
/// assert_eq!(length.result()?, 3);
/// # Ok::<(), Failure>(())
/// ```
///
/// Dropping a Deferred does not cancel it: the callbacks added so far still run. A failure at the
/// end of the chain is reported as [unhandled](on_unhandled). The exception is a Deferred without
/// callbacks whose resolver was dropped.
pub struct Deferred<T: 'static> {
    /// `None` only while the handle is being consumed.
    pub(super) state: Option<State<T>>,
    /// The source line of the last call on the handle.
    touched: Line,
}

/// The place of the result.
pub(crate) enum State<T: 'static> {
    /// In the handle: callbacks run at once, without an allocation.
    Fired {
        result: Result<T, Failure>,
        made: Line,
    },
    /// At the end of a chain, now or later.
    Pending {
        node: Rc<dyn Source<T>>,
        root: Rc<dyn ChainRoot>,
    },
}

impl<T> Deferred<T> {
    /// A Deferred that has no result yet, and the [`Resolver`] that will fire it.
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let (deferred, resolver) = Deferred::pending();
    /// let doubled = deferred.map(|n: i32| n * 2);
    /// resolver.callback(21)?;
    /// assert_eq!(doubled.result()?, 42);
    /// # Ok::<(), Failure>(())
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn pending() -> (Self, Resolver<T>) {
        let made = Location::caller();
        Self::from_root(Rc::new(Root::new(made, None)), made)
    }

    /// Like [`pending`](Self::pending), with a function to call when the Deferred is cancelled.
    ///
    /// The canceller stops the work that would produce the result. It may fire the Deferred through
    /// the resolver that it gets; otherwise the result is [`CancelledError`]. It is called at most
    /// once, and not after the Deferred has fired. If it panics, the panic is logged and the result
    /// is [`CancelledError`].
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let (deferred, _resolver) = Deferred::with_canceller(|resolver| {
    ///     resolver.callback("what we have so far").ok();
    /// });
    /// deferred.cancel();
    /// assert_eq!(deferred.result()?, "what we have so far");
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn with_canceller(canceller: impl FnOnce(Resolver<T>) + 'static) -> (Self, Resolver<T>) {
        let made = Location::caller();
        Self::from_root(Rc::new(Root::new(made, Some(Box::new(canceller)))), made)
    }

    /// A Deferred that has fired with `value` (Twisted's `succeed`).
    #[track_caller]
    pub fn succeed(value: T) -> Self {
        Self::from_result(Ok(value))
    }

    /// A Deferred that has failed with `error` (Twisted's `fail`): any standard error, or a
    /// [`Failure`]. A text becomes one with [`Failure::message`].
    #[track_caller]
    pub fn fail(error: impl Into<Failure>) -> Self {
        Self::from_result(Err(error.into()))
    }

    /// A Deferred that has fired with `result`.
    #[track_caller]
    pub fn from_result(result: Result<T, Failure>) -> Self {
        Self::fired_at(result, Location::caller())
    }

    /// Adds a function that gets the value and may fail or wait.
    ///
    /// `callback` returns `Result<U, Failure>`, or a `Deferred<U>` for which the chain waits. It is
    /// skipped if the chain has failed before.
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let port = Deferred::succeed("8000").add_callback(|text| Ok(text.parse::<u16>()?));
    /// assert_eq!(port.result()?, 8000);
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn add_callback<R: Outcome>(
        self,
        callback: impl FnOnce(T) -> R + 'static,
    ) -> Deferred<R::Value> {
        self.then(Location::caller(), move |result| match result {
            Ok(value) => callback(value).into_step(),
            Err(failure) => Step::Now(Err(failure)),
        })
    }

    /// Adds a function that gets the failure, and may recover with a value of the same type.
    ///
    /// `errback` is skipped if the chain has not failed. To handle one kind of error and pass on
    /// the others, see [`Failure::trap`].
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let answer = Deferred::<i32>::fail(Failure::message("no answer"))
    ///     .add_errback(|_| Ok(42));
    /// assert_eq!(answer.result()?, 42);
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn add_errback<R: Outcome<Value = T>>(
        self,
        errback: impl FnOnce(Failure) -> R + 'static,
    ) -> Deferred<T> {
        self.then(Location::caller(), move |result| match result {
            Ok(value) => Step::Now(Ok(value)),
            Err(failure) => errback(failure).into_step(),
        })
    }

    /// Adds one function for both values and failures; the chain continues with the result of the
    /// function.
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let ended = Deferred::succeed(3).add_both(|result| Ok(result.is_ok()));
    /// assert!(ended.result()?);
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn add_both<R: Outcome>(
        self,
        function: impl FnOnce(Result<T, Failure>) -> R + 'static,
    ) -> Deferred<R::Value> {
        self.then(Location::caller(), move |result| {
            function(result).into_step()
        })
    }

    /// Adds a function for values and one for failures. The errback does not get a failure of the
    /// callback.
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let text = Deferred::succeed(3).add_callbacks(
    ///     |n| Ok(format!("{n} found")),
    ///     |failure| Ok(format!("nothing: {failure}")),
    /// );
    /// assert_eq!(text.result()?, "3 found");
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn add_callbacks<R, S>(
        self,
        callback: impl FnOnce(T) -> R + 'static,
        errback: impl FnOnce(Failure) -> S + 'static,
    ) -> Deferred<R::Value>
    where
        R: Outcome,
        S: Outcome<Value = R::Value>,
    {
        self.then(Location::caller(), move |result| match result {
            Ok(value) => callback(value).into_step(),
            Err(failure) => errback(failure).into_step(),
        })
    }

    /// Adds a function that maps the value to another, without failing or waiting.
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let length = Deferred::succeed("hello").map(|text| text.len());
    /// assert_eq!(length.result()?, 5);
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn map<U>(self, function: impl FnOnce(T) -> U + 'static) -> Deferred<U> {
        self.then(Location::caller(), move |result| {
            Step::Now(result.map(function))
        })
    }

    /// Fires `target` with the result of this Deferred, and continues with `()`.
    ///
    /// A failure then belongs to the target. If the target was fired or cancelled before, both the
    /// target and this Deferred keep their results (Twisted's `chainDeferred`).
    ///
    /// ```
    /// # use deferred_reactor::{Deferred, Failure};
    /// let (copy, target) = Deferred::pending();
    /// Deferred::succeed(7).chain_deferred(target);
    /// assert_eq!(copy.result()?, 7);
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn chain_deferred(self, target: Resolver<T>) -> Deferred<()> {
        let line = Location::caller();
        self.then(line, move |result| {
            nested::fire_nested(move || {
                if target.is_pending() {
                    // Not refused, because the target is pending.
                    let _ = target.fire_at(result, line);
                } else {
                    // Dropping it reports a failure, which no target has taken.
                    drop(Deferred::fired_at(result, line));
                }
            });
            Step::Now(Ok(()))
        })
    }

    /// Cancels the operation that this Deferred waits for, unless it has fired.
    ///
    /// If a callback returned another Deferred that this one waits for, that one is cancelled;
    /// otherwise the canceller of this one runs. The chain has run before this returns: by default
    /// with [`CancelledError`].
    ///
    /// ```
    /// # use deferred_reactor::{CancelledError, Deferred};
    /// let (deferred, _resolver) = Deferred::<()>::pending();
    /// deferred.cancel();
    /// assert!(deferred.result().unwrap_err().is::<CancelledError>());
    /// ```
    #[track_caller]
    pub fn cancel(&self) {
        if let Some(State::Pending { root, .. }) = &self.state {
            chain::cancel(root.clone(), Location::caller(), Why::Asked);
        }
    }

    /// A handle that can cancel this Deferred after it has been moved elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller::new(match &self.state {
            Some(State::Pending { root, .. }) => Some(Rc::downgrade(root)),
            _ => None,
        })
    }

    /// Returns `true` if the result is here, so that a callback added now runs at once.
    pub fn is_fired(&self) -> bool {
        match &self.state {
            Some(State::Pending { node, root }) => {
                !root.chain().is_paused() && node.tail().peek(|result| result.is_some())
            }
            _ => true,
        }
    }

    /// The result of a Deferred that has fired.
    ///
    /// # Errors
    ///
    /// The failure of the Deferred, or [`NotFiredError`] if there is no result yet; the Deferred is
    /// dropped then. [`try_result`](Self::try_result) returns it instead.
    #[inline]
    #[track_caller]
    pub fn result(self) -> Result<T, Failure> {
        match self.try_result() {
            Ok(result) => result,
            Err(pending) => Err(NotFiredError {
                made: pending.made(),
            }
            .into()),
        }
    }

    /// The result of a Deferred that has fired, or the Deferred itself.
    ///
    /// # Errors
    ///
    /// The unchanged Deferred if there is no result yet.
    #[inline]
    pub fn try_result(self) -> Result<Result<T, Failure>, Self> {
        let touched = self.touched;
        match self.into_state() {
            State::Fired { result, .. } => Ok(result),
            state => Err(Self {
                state: Some(state),
                touched,
            }),
        }
    }

    pub(super) fn fired_at(result: Result<T, Failure>, line: Line) -> Self {
        Self {
            state: Some(State::Fired { result, made: line }),
            touched: line,
        }
    }

    pub(super) fn made(&self) -> Line {
        match &self.state {
            Some(State::Fired { made, .. }) => made,
            Some(State::Pending { root, .. }) => root.chain().made(),
            None => self.touched,
        }
    }

    // Always inlined, as `pending` above: an out-of-line call costs 50 instructions more, and both
    // are just above the compiler's threshold.
    #[inline(always)]
    pub(super) fn from_root(root: Rc<Root<T>>, made: Line) -> (Self, Resolver<T>) {
        pending::made(&*root, made);
        let deferred = Self {
            state: Some(State::Pending {
                node: root.clone(),
                root: root.clone(),
            }),
            touched: made,
        };
        (deferred, Resolver::new(root))
    }

    /// The handle of a chain whose last node is `node`.
    #[inline]
    pub(super) fn waiting(node: Rc<dyn Source<T>>, root: Rc<dyn ChainRoot>, line: Line) -> Self {
        Self {
            state: Some(State::Pending { node, root }),
            touched: line,
        }
    }

    /// Takes the handle apart, with the result if it is at the end of the chain.
    #[inline]
    pub(crate) fn into_state(mut self) -> State<T> {
        let state = self.state.take().expect("a handle is consumed once");
        if let State::Pending { node, root } = &state
            && !root.chain().is_paused()
            && let Some(result) = node.tail().take_result()
        {
            return State::Fired {
                result,
                made: root.chain().made(),
            };
        }
        state
    }

    /// Adds a handler for values and failures; all `add_*` methods call this.
    #[inline]
    pub(super) fn then<U>(
        mut self,
        line: Line,
        handler: impl FnOnce(Result<T, Failure>) -> Step<U> + 'static,
    ) -> Deferred<U> {
        match self.state.take().expect("a handle is consumed once") {
            State::Fired { result, made } => run_now(handler, result, made, line),
            State::Pending { node, root } => extend(node, root, line, handler),
        }
    }
}

/// Runs a handler on a result that is in the handle.
#[inline]
fn run_now<T, U: 'static>(
    handler: impl FnOnce(Result<T, Failure>) -> Step<U>,
    result: Result<T, Failure>,
    made: Line,
    line: Line,
) -> Deferred<U> {
    match chain::call(handler, result, line) {
        // The result belongs to the same Deferred as before, because its chain has not waited.
        Step::Now(result) => Deferred {
            state: Some(State::Fired { result, made }),
            touched: line,
        },
        Step::Wait { node, root } => {
            // The handle that could have ended its pauses is gone, as when a chain adopts a
            // Deferred.
            chain::end_pauses_of_handle(&root);
            Deferred::waiting(node, root, line)
        }
    }
}

/// Adds a handler at the end of a chain.
///
/// Inlined, so that a handle stays in registers from one `add_callback` to the next: written to
/// memory piece by piece and read back as a whole, it costs a stall each time.
#[inline]
fn extend<T: 'static, U: 'static>(
    node: Rc<dyn Source<T>>,
    root: Rc<dyn ChainRoot>,
    line: Line,
    handler: impl FnOnce(Result<T, Failure>) -> Step<U> + 'static,
) -> Deferred<U> {
    let chain = root.chain();
    let resting = node.tail().take_result();
    let is_resting = resting.is_some();
    if let Some(result) = resting {
        // The result stays in its chain in two cases: a pauser also holds back callbacks added
        // later, and with debugging on, the chain knows where it was fired.
        if !chain.is_paused() && !chain.has_pausers() && !is_debugging() {
            return run_now(handler, result, chain.made(), line);
        }
        node.tail().put_result(result);
    }
    let link = Rc::new(Link::new(handler, line));
    node.tail().lead_to(link.clone());
    if is_resting || chain.is_awaited() {
        chain::follow(&node, &root, is_resting);
    }
    Deferred::waiting(link, root, line)
}

impl<T> Drop for Deferred<T> {
    // Most handles dropped here were consumed, which the compiler can see.
    #[inline]
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            let_go(state, self.touched);
        }
    }
}

/// Drops a handle that was not consumed.
fn let_go<T: 'static>(state: State<T>, touched: Line) {
    match state {
        State::Fired { result: Ok(_), .. } => {}
        State::Fired {
            result: Err(failure),
            made,
        } => unhandled::report(Unhandled {
            failure,
            made,
            dropped: touched,
            fired: is_debugging().then_some(made),
        }),
        State::Pending { node, root } => chain::drop_handle(&node, &root, touched),
    }
}

impl<T: fmt::Debug> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            None => f.write_str("Deferred(consumed)"),
            Some(State::Fired { result, .. }) => write!(f, "Deferred({result:?})"),
            Some(State::Pending { node, root }) => node.tail().peek(|result| match result {
                Some(result) => write!(f, "Deferred({result:?})"),
                None if root.chain().waits_on().is_some() => {
                    f.write_str("Deferred(waiting on another Deferred)")
                }
                None => f.write_str("Deferred(pending)"),
            }),
        }
    }
}
