//! How a chain of callbacks is stored, and how a result runs through it.
//!
//! A chain begins with a [`Root`], which `Deferred::pending` allocates and the resolver fires, and
//! each callback added to it is one [`Link`], allocated once, closure and output included:
//!
//! ```text
//! Resolver ──▶ Root<A> ──callback──▶ Link<A, B, f> ──callback──▶ Link<B, C, g> ◀── Deferred<C>
//!               tail: A                tail: B                     tail: C           │
//!                 ▲──────────────────────────── root ─────────────────────────────────┘
//! ```
//!
//! Each node ends in a [`Tail`], which holds its result and what follows. A result passes through a
//! few links by direct calls, which keeps it in registers, and is then stored in a tail. The loop
//! in [`run`] continues from there, so the stack does not grow with the chain.
//!
//! A callback that returns a pending Deferred suspends its link: the inner chain's last tail gets
//! `End::Adopt(link)`, and its result continues in the outer chain. If the suspended link was
//! itself adopted by another (a loop whose callback returns the next round), the adoption is passed
//! on and the link is dropped. This is the tail call that lets such a loop run without end in
//! constant memory. A chain that can still be cancelled or paused stays in its place, so that these
//! calls still work.
//!
//! An async block that awaits a chain stores `End::Wake` in its tail. The result waits there, and
//! [`run`] polls the block once the chain is done ([`task`](super::task)). The result of the block
//! continues in the same loop, because the block is the root of a chain itself.
//!
//! Ownership points forward only, from the resolver to the last link; a handle owns the last link
//! and the root. The chain that a chain waits for is stored as a weak pointer, for cancelling. So
//! there are no cycles, and everything is dropped as soon as it is no longer used.

use std::any::Any;
use std::cell::Cell;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::task::Waker;

use super::failure::Failure;
use super::task;
use super::{AlreadyCalledError, CancelledError, Deferred, Resolver, Step};
use super::{pending, unhandled};
use crate::deferred::errors::History;
use crate::guard::{catch, log_panic};
use crate::health;

pub(crate) type Line = &'static Location<'static>;

/// Stores the output of a node, and what follows it.
pub(crate) struct Tail<T> {
    result: Cell<Option<Result<T, Failure>>>,
    /// The next callback of the same chain. Stored separately from `end`, because it fits two
    /// registers: adding a callback costs a third more if it is moved in memory with the rest.
    callback: Cell<Option<Rc<dyn Input<T>>>>,
    /// What follows if there is no callback.
    end: Cell<End<T>>,
}

/// What follows the last node of a chain.
pub(crate) enum End<T> {
    /// A handle exists and may add a callback: the result waits.
    Held,
    /// The handle was dropped: the result is final.
    Dropped,
    /// The link of another chain that waits for this result, and the root of that chain.
    Adopt(Rc<dyn Source<T>>, Rc<dyn ChainRoot>),
    /// A future that owns the handle waits for this result, which is stored until the future is
    /// polled.
    Wake(Waker),
}

impl<T> Tail<T> {
    fn new() -> Self {
        Self {
            result: Cell::new(None),
            callback: Cell::new(None),
            end: Cell::new(End::Held),
        }
    }

    pub(crate) fn take_result(&self) -> Option<Result<T, Failure>> {
        self.result.take()
    }

    #[inline]
    pub(crate) fn lead_to(&self, callback: Rc<dyn Input<T>>) {
        self.callback.set(Some(callback));
    }

    pub(crate) fn put_result(&self, result: Result<T, Failure>) {
        self.result.set(Some(result));
    }

    /// Calls `look` with the result, if it is stored here.
    pub(crate) fn peek<R>(&self, look: impl FnOnce(Option<&Result<T, Failure>>) -> R) -> R {
        /// Puts the result back, also if `look` panics.
        struct Lent<'a, T>(&'a Cell<Option<T>>, Option<T>);
        impl<T> Drop for Lent<'_, T> {
            fn drop(&mut self) {
                self.0.set(self.1.take());
            }
        }
        let lent = Lent(&self.result, self.result.take());
        look(lent.1.as_ref())
    }

    fn has_result(&self) -> bool {
        self.peek(|result| result.is_some())
    }

    /// Moves the result to the next node.
    pub(crate) fn pass_on(&self, lane: Lane<'_>) -> Moved {
        if let Some(callback) = self.callback.take() {
            return match self.result.take() {
                Some(result) => callback.run(result, lane, 0),
                None => Moved::Rested,
            };
        }
        match self.end.replace(End::Held) {
            End::Held => Moved::Rested,
            End::Adopt(outer, outer_root) => {
                outer.tail().result.set(self.result.take());
                outer_root.chain().waits_on.set(None);
                Moved::Into(outer, outer_root)
            }
            End::Wake(waker) => {
                lane.chain.awaited_by.set(AWAITED);
                task::call_waker(waker);
                Moved::Woken
            }
            End::Dropped => {
                self.end.set(End::Dropped);
                if let Some(Err(failure)) = self.result.take() {
                    let chain = lane.chain;
                    unhandled::report(unhandled::Unhandled {
                        failure,
                        made: chain.made,
                        dropped: chain.dropped.get(),
                        fired: chain.fired_line(),
                    });
                }
                Moved::Rested
            }
        }
    }
}

/// A node, as the loop that runs a chain sees it.
pub(crate) trait Flow {
    fn pass_on(self: Rc<Self>, lane: Lane<'_>) -> Moved;
}

/// A node, as the receivers of its output see it.
pub(crate) trait Source<T>: Flow {
    fn tail(&self) -> &Tail<T>;
}

/// A node, as the node before it sees it. `depth` counts direct calls.
pub(crate) trait Input<T> {
    fn run(self: Rc<Self>, input: Result<T, Failure>, lane: Lane<'_>, depth: u32) -> Moved;
}

/// The chain that is running.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    root: &'a Rc<dyn ChainRoot>,
    chain: &'a Chain,
}

impl<'a> Lane<'a> {
    fn of(root: &'a Rc<dyn ChainRoot>) -> Self {
        let chain = root.chain();
        Self { root, chain }
    }
}

/// Where a result went.
pub(crate) enum Moved {
    /// To the tail of this node, which passes it on.
    On(Rc<dyn Flow>),
    /// To a node of another chain that had waited for it.
    Into(Rc<dyn Flow>, Rc<dyn ChainRoot>),
    /// Nowhere: the result is stored, or another Deferred has to fire first.
    Rested,
    /// The result is stored for a future, and async blocks are to be polled now.
    Woken,
}

/// Runs a chain from `node`, and the chains that follow from it, in constant stack.
pub(crate) fn run(node: Rc<dyn Flow>, root: Rc<dyn ChainRoot>) {
    go_on(Moved::On(node), root);
}

/// Continues with the result of polling a block, when the caller polls the next block.
pub(crate) fn pass_along(moved: Moved) {
    if let Moved::Into(node, root) = moved {
        rest(Moved::On(node), root);
    }
}

/// Continues with the result of a block that was not polled.
pub(crate) fn continue_with(moved: Moved) {
    if let Moved::Into(node, root) = moved {
        run(node, root);
    }
}

fn go_on(moved: Moved, root: Rc<dyn ChainRoot>) {
    if rest(moved, root) {
        task::poll_all();
    }
}

/// Runs until the result is stored. Returns `true` if async blocks are to be polled.
fn rest(moved: Moved, root: Rc<dyn ChainRoot>) -> bool {
    let (mut moved, mut root) = (moved, root);
    loop {
        moved = match moved {
            Moved::Rested => return false,
            Moved::Woken => return true,
            Moved::Into(node, next_root) => {
                root = next_root;
                Moved::On(node)
            }
            Moved::On(node) => {
                let lane = Lane::of(&root);
                if lane.chain.is_paused() {
                    lane.chain.stalled.set(Some(node));
                    return false;
                }
                node.pass_on(lane)
            }
        };
    }
}

/// Number of links that call one another directly before the loop takes over.
const DIRECT_CALLS: u32 = 24;

/// Passes a result to a node, and runs the next one in the simple cases: another callback, or none
/// yet.
#[inline]
fn forward<T: 'static>(
    node: Rc<impl Source<T> + 'static>,
    result: Result<T, Failure>,
    lane: Lane<'_>,
    depth: u32,
) -> Moved {
    let tail = node.tail();
    if depth < DIRECT_CALLS && !lane.chain.is_paused() {
        if let Some(callback) = tail.callback.take() {
            drop(node); // nothing of it is needed any more
            return callback.run(result, lane, depth + 1);
        }
        let end = tail.end.replace(End::Held);
        if matches!(end, End::Held) {
            tail.result.set(Some(result));
            return Moved::Rested;
        }
        tail.end.set(end);
    }
    tail.result.set(Some(result));
    Moved::On(node)
}

/// One callback: a closure that takes the result of the previous node, and its own output.
pub(crate) struct Link<T, U, F> {
    tail: Tail<U>,
    handler: Cell<Option<F>>,
    /// The source line that added the callback.
    added: Line,
    input: std::marker::PhantomData<fn(T)>,
}

impl<T, U, F> Link<T, U, F> {
    pub(crate) fn new(handler: F, added: Line) -> Self {
        Self {
            tail: Tail::new(),
            handler: Cell::new(Some(handler)),
            added,
            input: std::marker::PhantomData,
        }
    }
}

impl<T: 'static, U: 'static, F: 'static> Flow for Link<T, U, F> {
    fn pass_on(self: Rc<Self>, lane: Lane<'_>) -> Moved {
        self.tail.pass_on(lane)
    }
}

impl<T: 'static, U: 'static, F: 'static> Source<U> for Link<T, U, F> {
    fn tail(&self) -> &Tail<U> {
        &self.tail
    }
}

impl<T, U, F> Input<T> for Link<T, U, F>
where
    T: 'static,
    U: 'static,
    F: FnOnce(Result<T, Failure>) -> Step<U> + 'static,
{
    fn run(self: Rc<Self>, input: Result<T, Failure>, lane: Lane<'_>, depth: u32) -> Moved {
        let Some(handler) = self.handler.take() else {
            return Moved::Rested; // a result comes once
        };
        match call(handler, input, self.added) {
            Step::Now(result) => forward(self, result, lane, depth),
            Step::Wait { node, root } => {
                if is_same(&root, lane.root) {
                    // No other code can own the handle of this chain now.
                    drop(Deferred::waiting(node, root, self.added));
                    let failure = "a callback returned the Deferred it was added to".into();
                    let failure = Failure::at(failure, self.added);
                    return forward(self, Err(failure), lane, depth);
                }
                self.wait_for(node, root, lane);
                Moved::Rested
            }
        }
    }
}

impl<T: 'static, U: 'static, F: 'static> Link<T, U, F> {
    /// Continues with the result of another chain, once it has one.
    fn wait_for(
        self: Rc<Self>,
        node: Rc<dyn Source<U>>,
        inner_root: Rc<dyn ChainRoot>,
        lane: Lane<'_>,
    ) {
        let waits_on = Some(Rc::downgrade(&inner_root));
        let adopt = match self.tail.end.replace(End::Held) {
            End::Adopt(outer, outer_root) if is_out_of_reach(lane.root) => {
                // The tail call: see the head of this file.
                outer_root.chain().waits_on.set(waits_on);
                End::Adopt(outer, outer_root)
            }
            end => {
                self.tail.end.set(end);
                lane.chain.waits_on.set(waits_on);
                End::Adopt(self, lane.root.clone())
            }
        };
        let is_resting = node.tail().has_result();
        inner_root.chain().awaited_by.set(0);
        node.tail().end.set(adopt);
        if is_resting {
            wake(&node, &inner_root);
        }
        release(&inner_root);
    }
}

/// Calls a handler; a panic in it becomes a Failure.
#[inline]
pub(crate) fn call<A, U: 'static>(
    handler: impl FnOnce(A) -> Step<U>,
    input: A,
    added: Line,
) -> Step<U> {
    health::callback_begins();
    match catch(|| handler(input)) {
        Ok(step) => {
            health::callback_ends(added);
            step
        }
        Err(payload) => {
            health::callback_ends(added);
            Step::Now(Err(Failure::from_panic_at(payload, added)))
        }
    }
}

/// The state shared by the whole chain.
pub(crate) struct Chain {
    progress: Cell<Progress>,
    made: Line,
    /// The source line that fired it first; `made` until then.
    fired: Cell<Line>,
    /// The last source line that used the handle, once the handle is dropped.
    dropped: Cell<Line>,
    /// The chain that this one is suspended on.
    waits_on: Cell<Option<Weak<dyn ChainRoot>>>,
    paused: Cell<u32>,
    /// The node to continue from when the last pause ends.
    stalled: Cell<Option<Rc<dyn Flow>>>,
    /// Number of handles that can end a pause: the Deferred, and each [`Pauser`](super::Pauser).
    holders: Cell<u32>,
    /// The number of the async block that has seen this chain pending, [`AWAITED`], or 0 for none.
    pub(super) awaited_by: Cell<u32>,
}

/// Awaited, but not by a block that has the chain on its list.
pub(super) const AWAITED: u32 = u32::MAX;

/// The progress of firing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Pending,
    /// The canceller is running; it may still fire the Deferred.
    Cancelling,
    /// The same at the end of a time limit: a Deferred that stands for others ends now, even if
    /// they do not.
    TimingOut,
    /// Cancelled without a canceller: one late firing is ignored.
    CancelledEarly,
    Fired,
}

impl Chain {
    pub(crate) fn made(&self) -> Line {
        self.made
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get() > 0
    }

    /// Whether a Pauser exists.
    pub(crate) fn has_pausers(&self) -> bool {
        self.holders.get() > 1
    }

    /// Whether a future owns the handle and has looked for the result.
    #[inline]
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited_by.get() != 0
    }

    /// Whether no handle is left that can end a pause. An awaited Deferred does not count.
    fn nobody_unpauses(&self) -> bool {
        self.holders.get() == u32::from(self.awaited_by.get() != 0)
    }

    fn fired_line(&self) -> Option<Line> {
        unhandled::is_debugging().then(|| self.fired.get())
    }

    /// The chain that this one waits for, if it still exists.
    pub(crate) fn waits_on(&self) -> Option<Rc<dyn ChainRoot>> {
        let inner = self.waits_on.take();
        let found = inner.as_ref().and_then(Weak::upgrade);
        self.waits_on.set(inner);
        found
    }

    /// Stores the chain that this one waits for, for cancelling.
    pub(crate) fn wait_on(&self, inner: Option<Weak<dyn ChainRoot>>) {
        self.waits_on.set(inner);
    }

    fn already_called(&self) -> AlreadyCalledError {
        AlreadyCalledError {
            history: self.fired_line().map(|fired| History {
                made: self.made,
                fired,
            }),
        }
    }
}

/// The reason for which a chain is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// `cancel` was called.
    Asked,
    /// A time limit is over, and the result is to be a TimeoutError.
    TimeIsUp,
}

/// The root of a chain, whatever its type.
pub(crate) trait ChainRoot {
    fn chain(&self) -> &Chain;

    /// The chain it waits for, if it still exists; if there are several, the others are added to
    /// `_others`.
    fn waits_on(&self, _others: &mut Vec<Rc<dyn ChainRoot>>) -> Option<Rc<dyn ChainRoot>> {
        self.chain().waits_on()
    }

    /// Cancels the root itself, if it has not fired.
    fn cancel_root(self: Rc<Self>, at: Line, why: Why);
}

/// The first node of a chain, which the resolver fires.
pub(crate) struct Root<T: 'static> {
    chain: Chain,
    tail: Tail<T>,
    canceller: Cell<Option<CancelFn<T>>>,
}

pub(crate) type CancelFn<T> = Box<dyn FnOnce(Resolver<T>)>;

impl<T: 'static> Root<T> {
    pub(crate) fn new(made: Line, canceller: Option<CancelFn<T>>) -> Self {
        Self {
            chain: Chain {
                progress: Cell::new(Progress::Pending),
                made,
                fired: Cell::new(made),
                dropped: Cell::new(made),
                waits_on: Cell::new(None),
                paused: Cell::new(0),
                stalled: Cell::new(None),
                holders: Cell::new(1),
                awaited_by: Cell::new(0),
            },
            tail: Tail::new(),
            canceller: Cell::new(canceller),
        }
    }

    /// A root that has its result already, for a fired Deferred that is paused.
    pub(crate) fn fired(made: Line, result: Result<T, Failure>) -> Self {
        let root = Self::new(made, None);
        root.chain.progress.set(Progress::Fired);
        root.tail.result.set(Some(result));
        root
    }

    /// Whether a resolver that fires now decides the result.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(
            self.chain.progress.get(),
            Progress::Pending | Progress::Cancelling
        )
    }

    /// Whether the handle was dropped without a callback, so that nothing gets the result.
    pub(crate) fn is_unheard(&self) -> bool {
        let end = self.tail.end.replace(End::Held);
        let is_unheard = matches!(end, End::Dropped);
        self.tail.end.set(end);
        is_unheard
    }

    /// Called while the canceller runs: the chain continues to wait, and `canceller` is called at
    /// the next cancel.
    pub(crate) fn wait_on(&self, canceller: CancelFn<T>) {
        if self.chain.progress.get() == Progress::Cancelling {
            self.canceller.set(Some(canceller));
        }
    }

    /// Whether the canceller runs because a time limit is over.
    pub(crate) fn is_timing_out(&self) -> bool {
        self.chain.progress.get() == Progress::TimingOut
    }

    /// Drops a canceller that will not be called. A panic in its drop must not lose the result.
    fn drop_canceller(&self) {
        if let Some(canceller) = self.canceller.take()
            && let Err(payload) = catch(|| drop(canceller))
        {
            self.log_canceller(payload);
        }
    }

    fn log_canceller(&self, payload: Box<dyn Any + Send>) {
        let made = self.chain.made;
        let what = format_args!("the canceller of the Deferred made at {made}");
        log_panic("deferred", what, payload);
    }

    /// Fires with `result`, unless the result is decided already.
    pub(crate) fn fire(
        self: Rc<Self>,
        result: Result<T, Failure>,
        at: Line,
    ) -> Result<(), AlreadyCalledError> {
        match self.chain.progress.get() {
            Progress::Pending | Progress::Cancelling | Progress::TimingOut => {
                pending::ended(&*self);
                self.chain.progress.set(Progress::Fired);
                self.chain.fired.set(at);
                self.drop_canceller();
                let root: Rc<dyn ChainRoot> = self.clone();
                match forward(self, result, Lane::of(&root), 0) {
                    Moved::Rested => {}
                    moved => go_on(moved, root),
                }
                Ok(())
            }
            Progress::CancelledEarly => {
                self.chain.progress.set(Progress::Fired);
                Ok(())
            }
            Progress::Fired => Err(self.chain.already_called()),
        }
    }

    /// Decides the result of a root without a resolver; the caller passes it on. Returns `false` if
    /// it was decided before.
    pub(crate) fn settle(&self, result: Result<T, Failure>, at: Line) -> bool {
        if self.chain.progress.get() != Progress::Pending {
            return false;
        }
        pending::ended(self);
        self.chain.progress.set(Progress::Fired);
        self.chain.fired.set(at);
        self.chain.waits_on.set(None);
        self.tail.result.set(Some(result));
        true
    }

    /// The resolver was dropped. Does nothing if no handle or callback gets the result.
    pub(crate) fn abandon(self: Rc<Self>) {
        if self.chain.progress.get() != Progress::Pending {
            return;
        }
        if self.is_unheard() {
            pending::ended(&*self);
            self.chain.progress.set(Progress::Fired);
            self.drop_canceller();
            return;
        }
        let made = self.chain.made;
        let failure = Failure::cloneable_at(super::AbandonedError { made }, made);
        let _ = self.fire(Err(failure), made);
    }
}

impl<T: 'static> Flow for Root<T> {
    fn pass_on(self: Rc<Self>, lane: Lane<'_>) -> Moved {
        self.tail.pass_on(lane)
    }
}

impl<T: 'static> Source<T> for Root<T> {
    fn tail(&self) -> &Tail<T> {
        &self.tail
    }
}

impl<T: 'static> ChainRoot for Root<T> {
    fn chain(&self) -> &Chain {
        &self.chain
    }

    fn cancel_root(self: Rc<Self>, at: Line, why: Why) {
        if self.chain.progress.get() != Progress::Pending {
            return;
        }
        let after = match self.canceller.take() {
            None => Progress::CancelledEarly,
            Some(canceller) => {
                self.chain.progress.set(match why {
                    Why::Asked => Progress::Cancelling,
                    Why::TimeIsUp => Progress::TimingOut,
                });
                let resolver = Resolver::for_canceller(self.clone());
                if let Err(payload) = catch(|| canceller(resolver)) {
                    self.log_canceller(payload);
                }
                if self.chain.progress.get() == Progress::Fired {
                    return;
                }
                let next = self.canceller.take();
                if next.is_some() {
                    // The Deferred stands for others, and not all of these have ended.
                    self.canceller.set(next);
                    self.chain.progress.set(Progress::Pending);
                    return;
                }
                Progress::Fired
            }
        };
        pending::ended(&*self);
        self.chain.progress.set(after);
        self.chain.fired.set(at);
        let failure = Failure::cloneable_at(CancelledError, at);
        self.tail.result.set(Some(Err(failure)));
        run(self.clone(), self);
    }
}

/// Marks that a callback follows `node`, the last of its chain so far: no future waits for the
/// result any more, and a stored result continues.
pub(crate) fn follow<T: 'static>(
    node: &Rc<dyn Source<T>>,
    root: &Rc<dyn ChainRoot>,
    is_resting: bool,
) {
    root.chain().awaited_by.set(0);
    node.tail().end.set(End::Held);
    if is_resting {
        wake(node, root);
    }
}

/// Passes on the result stored in `node`, now that something follows it; if the chain is paused, at
/// the end of the pause.
pub(crate) fn wake<T: 'static>(node: &Rc<dyn Source<T>>, root: &Rc<dyn ChainRoot>) {
    root.chain().stalled.set(Some(node.clone()));
    resume(root);
}

/// Cancels the operation that the chain waits for: its own root, or the innermost chain that
/// suspends it.
pub(crate) fn cancel(root: Rc<dyn ChainRoot>, at: Line, why: Why) {
    let mut others = Vec::new();
    let first = innermost(root, &mut others);
    // An async block may await several Deferreds. It continues when all of them are cancelled: the
    // first CancelledError may make it drop the others.
    let _held = (!others.is_empty()).then(task::hold);
    if let Some(first) = first {
        first.cancel_root(at, why);
    }
    let mut next = 0;
    while let Some(root) = others.get(next).cloned() {
        if let Some(innermost) = innermost(root, &mut others) {
            innermost.cancel_root(at, why);
        }
        next += 1;
    }
}

/// The chain that must fire for this one to continue. If there are several, returns the first and
/// adds the rest to `others`.
fn innermost(
    root: Rc<dyn ChainRoot>,
    others: &mut Vec<Rc<dyn ChainRoot>>,
) -> Option<Rc<dyn ChainRoot>> {
    let mut innermost = root.clone();
    while let Some(inner) = innermost.waits_on(others) {
        if is_same(&inner, &root) {
            return None; // a ring of Deferreds that wait for each other: nothing in it can end
        }
        innermost = inner;
    }
    Some(innermost)
}

/// Stores a waker for the result of a chain whose handle belongs to a future.
pub(crate) fn wake_later<T: 'static>(
    node: &Rc<dyn Source<T>>,
    root: &Rc<dyn ChainRoot>,
    waker: &Waker,
) {
    let chain = root.chain();
    let tail = node.tail();
    match tail.end.replace(End::Held) {
        End::Wake(before) if before.will_wake(waker) => tail.end.set(End::Wake(before)),
        _ => tail.end.set(End::Wake(waker.clone())),
    }
    if tail.has_result() {
        // The chain is paused, and continues here at the end of the pause.
        chain.stalled.set(Some(node.clone()));
    }
    task::waits_for(root);
}

/// A future awaits the handle: from now on only a pauser can end a pause.
pub(crate) fn give_away(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    if chain.awaited_by.get() == 0 {
        chain.awaited_by.set(AWAITED);
    }
    end_forgotten_pauses(root);
}

/// Ends all pauses if no handle is left that can.
fn end_forgotten_pauses(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    if chain.paused.get() > 0 && chain.nobody_unpauses() {
        chain.paused.set(1);
        unpause(root);
    }
}

/// A callback returned the handle, so its former owner can no longer end a pause.
#[inline]
pub(crate) fn end_pauses_of_handle(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    if chain.paused.get() > 0 && !chain.has_pausers() {
        chain.paused.set(1);
        unpause(root);
    }
}

pub(crate) fn is_same(one: &Rc<dyn ChainRoot>, other: &Rc<dyn ChainRoot>) -> bool {
    std::ptr::addr_eq(Rc::as_ptr(one), Rc::as_ptr(other))
}

/// Whether only the chain that waits for this one can cancel or pause it.
fn is_out_of_reach(root: &Rc<dyn ChainRoot>) -> bool {
    root.chain().holders.get() == 0 && Rc::weak_count(root) <= 1
}

/// Counts one more pause.
pub(crate) fn pause(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    chain.paused.set(chain.paused.get() + 1);
}

/// Ends one pause; after the last one the chain continues before this returns.
pub(crate) fn unpause(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    match chain.paused.get() {
        0 => {}
        1 => {
            chain.paused.set(0);
            resume(root);
        }
        more => chain.paused.set(more - 1),
    }
}

/// Passes on a result stored in the chain, unless the chain is paused.
pub(crate) fn resume(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    if chain.paused.get() == 0
        && let Some(node) = chain.stalled.take()
    {
        run(node, root.clone());
    }
}

/// Counts one more handle that can end a pause.
pub(crate) fn hold(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    chain.holders.set(chain.holders.get() + 1);
}

/// Counts one handle less that can end a pause. A chain that could no longer be unpaused continues.
pub(crate) fn release(root: &Rc<dyn ChainRoot>) {
    let chain = root.chain();
    chain.holders.set(chain.holders.get() - 1);
    end_forgotten_pauses(root);
}

fn is_cancelled<T>(result: Option<&Result<T, Failure>>) -> bool {
    matches!(result, Some(Err(failure)) if failure.is::<CancelledError>())
}

/// Handles the drop of a handle without a callback.
pub(crate) fn drop_handle<T: 'static>(
    node: &Rc<dyn Source<T>>,
    root: &Rc<dyn ChainRoot>,
    at: Line,
) {
    root.chain().dropped.set(at);
    // A Deferred that was awaited and dropped, as by `select`, was given up: its CancelledError is
    // no unhandled failure.
    if root.chain().awaited_by.replace(0) != 0 && node.tail().peek(is_cancelled) {
        node.tail().take_result();
    }
    node.tail().end.set(End::Dropped);
    if node.tail().has_result() {
        if root.chain().is_paused() {
            wake(node, root);
        } else {
            node.tail().pass_on(Lane::of(root));
        }
    }
    release(root);
}
