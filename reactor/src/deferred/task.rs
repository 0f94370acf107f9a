//! How async blocks are polled.
//!
//! A [`Task`] is an async block that was spawned. Like the root behind a resolver, it is the root
//! of a chain: its result is that of the block. What wakes the task decides when it is polled:
//! ```text
//! a Deferred fires ──▶ its chain runs ──▶ call_waker ──▶ WOKEN ──▶ poll_next   before the fire returns
//! any other wake   ──▶ RemoteReactor ──▶ the next turn ──▶ poll_all            on the reactor's thread
//! ```
//!
//! The first case makes a task as fast as a callback. Other wakers cannot poll directly: some are
//! called with a lock held that the task needs (`futures::lock::Mutex`), and two tasks that wake
//! each other would starve the loop. So they go through the [`RemoteReactor`], with one call for
//! any number of wakes. A task that was spawned without a reactor is polled where it is woken.
//!
//! `poll_next` is called by one loop on the stack and not inside another `poll`, except when a task
//! itself fires a Deferred. So a long row of waiting tasks takes constant stack.
//!
//! The tasks of a thread are in a table, because a waker must be `Send` and can only hold a number.
//! All wakers of a task share a [`TaskWaker`]. When that is dropped, the task can never be woken,
//! so it is dropped too and its Deferred fails with [`AbandonedError`](crate::AbandonedError).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use slab::Slab;

use super::chain::{
    self, AWAITED, Chain, ChainRoot, Flow, Lane, Line, Moved, Root, Source, Tail, Why,
};
use super::{AbandonedError, CancelledError, Deferred, Failure, pending};
use crate::guard::{catch, log_panic};
use crate::health::{self, Callback, CallbackKind};
use crate::threads::RemoteReactor;

/// Polls `future` at once, and again when it is woken; the Deferred fires with its output.
pub(crate) fn start<T: 'static>(
    future: impl Future<Output = Result<T, Failure>> + Unpin + 'static,
    remote: Option<RemoteReactor>,
    made: Line,
) -> Deferred<T> {
    let Some(number) = reserve() else {
        // The thread is ending. The future was never polled.
        drop(future);
        return Deferred::fired_at(Err(abandoned(made)), made);
    };
    let task = Rc::new(Task {
        root: Root::new(made, None),
        number,
        future: Cell::new(Some(future)),
        status: Cell::new(Status::Asleep),
        cancelled: Cell::new(None),
        also_awaited: RefCell::new(Vec::new()),
    });
    pending::made(&task.root, made);
    enter(number, task.clone());
    let task_waker = Arc::new(TaskWaker {
        number,
        home: here(),
        remote,
        is_called: AtomicBool::new(false),
    });
    let deferred = Deferred::waiting(task.clone(), task.clone(), made);
    chain::pass_along(task.poll(task_waker));
    poll_all();
    match deferred.try_result() {
        Ok(result) => Deferred::fired_at(result, made),
        Err(pending) => pending,
    }
}

/// An async block, and the chain that begins with its output.
struct Task<F, T: 'static> {
    root: Root<T>,
    /// Its place in the table, which it also writes into the chains that it awaits.
    number: u32,
    /// Taken out while it is polled; `None` once it has ended.
    future: Cell<Option<F>>,
    status: Cell<Status>,
    /// The source line that cancelled it while it was being polled.
    cancelled: Cell<Option<(Line, Why)>>,
    /// Chains that it awaits beside the one that its own chain waits for: with `join` and `select`.
    also_awaited: RefCell<Vec<Weak<dyn ChainRoot>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Asleep,
    Polled,
    /// Woken while it was being polled: polled again afterwards.
    PolledAgain,
}

/// A task, whatever its type.
trait Polled {
    fn poll(self: Rc<Self>, task_waker: Arc<TaskWaker>) -> Moved;

    /// The task can never be woken any more.
    fn abandon(self: Rc<Self>) -> Moved;

    /// The task was polled and waits for this chain.
    fn waits_for(&self, root: &Rc<dyn ChainRoot>);

    /// Drops the future without polling it.
    fn discard(&self);

    fn has_ended(&self) -> bool;
}

impl<F, T> Polled for Task<F, T>
where
    F: Future<Output = Result<T, Failure>> + Unpin + 'static,
    T: 'static,
{
    fn poll(self: Rc<Self>, task_waker: Arc<TaskWaker>) -> Moved {
        if self.status.get() != Status::Asleep {
            self.status.set(Status::PolledAgain);
            return Moved::Rested;
        }
        // Counted also while the waker is dropped, so that our caller abandons a task that cannot
        // be woken, and not the drop.
        let _polling = Count::up(&POLLING);
        let waker = Waker::from(task_waker);
        loop {
            let Some(mut future) = self.future.take() else {
                return Moved::Rested; // it has ended
            };
            self.status.set(Status::Polled);
            let outer = swap_current(Some(self.clone()));
            let polled = health::watch(
                || Callback::at(CallbackKind::Block, self.made()),
                || catch(|| Pin::new(&mut future).poll(&mut Context::from_waker(&waker))),
            );
            swap_current(outer);
            let result = match polled {
                Ok(Poll::Ready(result)) => result,
                Err(payload) => Err(Failure::from_panic_at(payload, self.made())),
                Ok(Poll::Pending) => {
                    self.future.set(Some(future));
                    if self.status.replace(Status::Asleep) == Status::PolledAgain {
                        continue;
                    }
                    if let Some((at, why)) = self.cancelled.take() {
                        chain::cancel(self, at, why);
                    }
                    return Moved::Rested;
                }
            };
            self.drop_future(future);
            let made = self.made();
            return self.end(result, made);
        }
    }

    fn abandon(self: Rc<Self>) -> Moved {
        match self.future.take() {
            Some(future) => self.drop_future(future),
            None => return Moved::Rested,
        }
        let made = self.made();
        self.end(Err(abandoned(made)), made)
    }

    fn waits_for(&self, root: &Rc<dyn ChainRoot>) {
        let sign = &root.chain().awaited_by;
        if sign.replace(self.number) == self.number {
            return; // polled once more
        }
        let chain = self.chain();
        match chain.waits_on() {
            Some(first) if self.awaits(&first) => {
                let mut also = self.also_awaited.borrow_mut();
                if also.len() == also.capacity() {
                    also.retain(|root| root.upgrade().is_some_and(|root| self.awaits(&root)));
                }
                also.push(Rc::downgrade(root));
            }
            _ => chain.wait_on(Some(Rc::downgrade(root))),
        }
    }

    fn discard(&self) {
        if let Some(future) = self.future.take() {
            self.drop_future(future);
        }
    }

    fn has_ended(&self) -> bool {
        !self.root.is_pending()
    }
}

impl<F: 'static, T: 'static> Task<F, T> {
    fn made(&self) -> Line {
        self.chain().made()
    }

    fn chain(&self) -> &Chain {
        self.root.chain()
    }

    /// Whether the task still waits for a chain that was noted.
    fn awaits(&self, root: &Rc<dyn ChainRoot>) -> bool {
        root.chain().awaited_by.get() == self.number
    }

    /// Continues the chain with the result.
    fn end(self: Rc<Self>, result: Result<T, Failure>, at: Line) -> Moved {
        self.status.set(Status::Asleep);
        if self.root.settle(result, at) {
            Moved::Into(self.clone(), self)
        } else {
            Moved::Rested
        }
    }

    /// Dropping the captured values may panic, which must not lose the result.
    fn drop_future(&self, future: F) {
        if let Err(payload) = catch(|| drop(future)) {
            let made = self.made();
            let what =
                format_args!("dropping the captured values of the async block made at {made}");
            log_panic("deferred", what, payload);
        }
    }
}

impl<F: 'static, T: 'static> Flow for Task<F, T> {
    fn pass_on(self: Rc<Self>, lane: Lane<'_>) -> Moved {
        self.root.tail().pass_on(lane)
    }
}

impl<F: 'static, T: 'static> Source<T> for Task<F, T> {
    fn tail(&self) -> &Tail<T> {
        self.root.tail()
    }
}

impl<F: 'static, T: 'static> ChainRoot for Task<F, T> {
    fn chain(&self) -> &Chain {
        self.root.chain()
    }

    fn waits_on(&self, others: &mut Vec<Rc<dyn ChainRoot>>) -> Option<Rc<dyn ChainRoot>> {
        let mut first = self.chain().waits_on().filter(|root| self.awaits(root));
        for root in self.also_awaited.take() {
            if let Some(root) = root.upgrade().filter(|root| self.awaits(root)) {
                // Removed from the list, so the mark is removed as well: polled again, the chain is
                // noted anew.
                root.chain().awaited_by.set(AWAITED);
                match first {
                    None => first = Some(root),
                    Some(_) => others.push(root),
                }
            }
        }
        first
    }

    /// Called if the task awaits no Deferred that could be cancelled instead.
    fn cancel_root(self: Rc<Self>, at: Line, why: Why) {
        if self.status.get() != Status::Asleep {
            self.cancelled.set(Some((at, why)));
            return;
        }
        if let Some(future) = self.future.take() {
            self.drop_future(future);
            let cancelled = Failure::cloneable_at(CancelledError, at);
            chain::continue_with(self.end(Err(cancelled), at));
        }
    }
}

fn abandoned(made: Line) -> Failure {
    Failure::cloneable_at(AbandonedError { made }, made)
}

/// State shared by all wakers of one task.
struct TaskWaker {
    /// The number of the task; not reused while the waker exists.
    number: u32,
    home: ThreadId,
    remote: Option<RemoteReactor>,
    /// Whether the reactor was asked to poll the task and has not started to.
    is_called: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let is_home = self.home == here();
        if is_home && CALLING_WAKERS.get() > 0 {
            put_off(Woken::Poll(self));
        } else if let Some(remote) = &self.remote {
            if self.is_called.swap(true, Ordering::AcqRel) {
                return;
            }
            let task_waker = self.clone();
            // After the reactor is dropped, the task is not polled any more.
            let _ = remote.call_from_thread(move |_| {
                task_waker.is_called.store(false, Ordering::Release);
                put_off(Woken::Poll(task_waker));
                poll_all();
            });
        } else if is_home {
            put_off(Woken::Poll(self));
            poll_all_unless_polling();
        } else {
            crate::logging::error!(
                target: "deferred",
                "an async block that was spawned without a reactor was woken from another thread, \
                 where it cannot be polled: spawn it with Reactor::spawn"
            );
        }
    }
}

impl Drop for TaskWaker {
    /// The last waker was dropped: a task that has not ended can never be woken.
    fn drop(&mut self) {
        let number = self.number;
        let is_home = self.home == here();
        if is_home && leave_if_ended(number) {
            return;
        }
        // As for a wake: callbacks must not run inside the `drop` of another value.
        if !(is_home && is_busy())
            && let Some(remote) = &self.remote
        {
            let call = remote.call_from_thread(move |_| {
                put_off(Woken::Abandon(number));
                poll_all();
            });
            if call.is_ok() {
                return;
            }
        }
        // On another thread, without a reactor, the task stays in the table until its thread ends.
        if is_home {
            put_off(Woken::Abandon(number));
            poll_all_unless_polling();
        }
    }
}

/// An action on a task, taken when no other task is running.
enum Woken {
    Poll(Arc<TaskWaker>),
    Abandon(u32),
}

/// The tasks of a thread that have not ended, or whose waker still exists.
///
/// A number is the index of a slot plus one; 0 means no task.
struct Table(Slab<Option<Rc<dyn Polled>>>);

impl Drop for Table {
    /// Dropped one after another: a task owns the Deferreds of the tasks it waits for, and a long
    /// row of them would be dropped recursively.
    fn drop(&mut self) {
        let tasks: Vec<_> = self.0.drain().flatten().collect();
        for task in &tasks {
            task.discard();
        }
    }
}

// A thread-local, because blocks belong to a thread and need no reactor. `try_with` where a
// destructor runs: a Deferred may fire while its thread ends.
thread_local! {
    static HERE: ThreadId = thread::current().id();
    static TASKS: RefCell<Table> = const { RefCell::new(Table(Slab::new())) };
    static WOKEN: RefCell<VecDeque<Woken>> = const { RefCell::new(VecDeque::new()) };
    /// The task that is being polled.
    static CURRENT: Cell<Option<Rc<dyn Polled>>> = const { Cell::new(None) };
    /// Number of polls on the stack. The outermost one polls tasks that are woken meanwhile.
    static POLLING: Cell<u32> = const { Cell::new(0) };
    /// Number of wakers being called by Deferreds that have fired.
    static CALLING_WAKERS: Cell<u32> = const { Cell::new(0) };
    /// Number of guards that postpone polling.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Calls the waker that a future has stored in a chain.
pub(crate) fn call_waker(waker: Waker) {
    let _calling = Count::up(&CALLING_WAKERS);
    if let Err(payload) = catch(|| waker.wake()) {
        log_panic(
            "deferred",
            "the waker of a future that awaits a Deferred",
            payload,
        );
    }
}

/// Notes that the task being polled, if any, waits for this chain.
pub(crate) fn waits_for(root: &Rc<dyn ChainRoot>) {
    let task = swap_current(None);
    if let Some(task) = &task {
        task.waits_for(root);
    }
    swap_current(task);
}

/// Polls the next woken task. Returns what to continue with, or `None` if there is no such task.
fn poll_next() -> Option<Moved> {
    loop {
        if HELD.get() > 0 {
            return None;
        }
        let woken = WOKEN.try_with(|woken| woken.borrow_mut().pop_front());
        match woken.ok().flatten()? {
            Woken::Poll(task_waker) => {
                if let Some(task) = find(task_waker.number) {
                    return Some(task.poll(task_waker));
                }
            }
            Woken::Abandon(number) => {
                if let Some(task) = leave(number) {
                    return Some(task.abandon());
                }
            }
        }
    }
}

/// Polls the woken tasks, and continues their chains.
pub(crate) fn poll_all() {
    /// Polls the remaining tasks, also if dropping a result panics.
    struct Others;
    impl Drop for Others {
        fn drop(&mut self) {
            while thread::panicking() && !is_busy() {
                let Err(payload) = catch(poll_each) else {
                    return;
                };
                log_panic("deferred", "dropping the result of an async block", payload);
            }
        }
    }
    let _others = Others;
    poll_each();
}

fn poll_each() {
    while let Some(moved) = poll_next() {
        chain::pass_along(moved);
    }
}

fn poll_all_unless_polling() {
    if !is_busy() {
        poll_all();
    }
}

/// Whether a caller further up the stack polls postponed tasks.
fn is_busy() -> bool {
    POLLING.get() > 0 || CALLING_WAKERS.get() > 0
}

fn put_off(woken: Woken) {
    let _ = WOKEN.try_with(|queue| queue.borrow_mut().push_back(woken));
}

/// Postpones polling until the returned guard is dropped, which polls the woken tasks.
#[must_use]
pub(crate) fn hold() -> impl Drop {
    struct Held(Option<Count>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0 = None;
            poll_all();
        }
    }
    Held(Some(Count::up(&HELD)))
}

/// Counts up a thread-local counter while it lives.
struct Count(&'static thread::LocalKey<Cell<u32>>);

impl Count {
    fn up(counter: &'static thread::LocalKey<Cell<u32>>) -> Self {
        counter.set(counter.get() + 1);
        Self(counter)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn here() -> ThreadId {
    HERE.with(|id| *id)
}

fn swap_current(task: Option<Rc<dyn Polled>>) -> Option<Rc<dyn Polled>> {
    CURRENT
        .try_with(|current| current.replace(task))
        .ok()
        .flatten()
}

/// Reserves a number for a task; `None` if the thread is ending.
fn reserve() -> Option<u32> {
    let index = TASKS.try_with(|tasks| tasks.borrow_mut().0.insert(None));
    u32::try_from(index.ok()? + 1).ok()
}

fn with_slot<R>(number: u32, with: impl FnOnce(&mut Table, usize) -> Option<R>) -> Option<R> {
    let index = (number as usize).checked_sub(1)?;
    let found = TASKS.try_with(|tasks| with(&mut tasks.borrow_mut(), index));
    found.ok().flatten()
}

fn enter(number: u32, task: Rc<dyn Polled>) {
    with_slot(number, |tasks, index| {
        tasks.0.get_mut(index).map(|slot| *slot = Some(task))
    });
}

fn find(number: u32) -> Option<Rc<dyn Polled>> {
    with_slot(number, |tasks, index| tasks.0.get(index)?.clone())
}

/// Removes a task from the table. Its number is not used afterwards.
fn leave(number: u32) -> Option<Rc<dyn Polled>> {
    with_slot(number, |tasks, index| tasks.0.try_remove(index)?)
}

fn leave_if_ended(number: u32) -> bool {
    let has_ended = find(number).is_none_or(|task| task.has_ended());
    if has_ended {
        drop(leave(number)); // not under the borrow: its result may be dropped here
    }
    has_ended
}
