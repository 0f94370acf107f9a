//! A few threads for work that blocks.
//!
//! Threads are started when there is work and no idle one to take it, up to the limit, and end
//! when the reactor stops, after the work that had been given to them.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use slab::Slab;

use crate::deferred::{Deferred, Failure};
use crate::reactor::Reactor;

type Job = Box<dyn FnOnce() + Send>;

/// What is sent to the workers.
enum Order {
    Do(Job),
    Leave,
}

/// Twisted's default for its pool.
const DEFAULT_SIZE: usize = 10;

/// The threads of one reactor.
pub(crate) struct Pool {
    orders: Sender<Order>,
    /// Cloned into each worker.
    inbox: Receiver<Order>,
    /// Jobs that are queued or being done.
    unfinished: Arc<AtomicUsize>,
    workers: RefCell<Vec<JoinHandle<()>>>,
    size: Cell<usize>,
    is_running: Cell<bool>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let (orders, inbox) = crossbeam_channel::unbounded();
        Self {
            orders,
            inbox,
            unfinished: Arc::new(AtomicUsize::new(0)),
            workers: RefCell::new(Vec::new()),
            size: Cell::new(DEFAULT_SIZE),
            is_running: Cell::new(false),
        }
    }

    /// Queues a job. Before the reactor runs, it waits for that.
    pub(crate) fn submit(&self, job: Job) {
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        // Both ends are ours, so the channel is open.
        let _ = self.orders.send(Order::Do(job));
        self.hire();
    }

    pub(crate) fn start(&self) {
        self.is_running.set(true);
        self.hire();
    }

    /// At most `size` jobs at once, from now on; at least one.
    pub(crate) fn resize(&self, size: usize) {
        let size = size.max(1);
        let before = self.size.replace(size);
        // Those who are at work leave when they are done with it.
        let present = self.workers.borrow().len().min(before);
        for _ in size..present {
            let _ = self.orders.send(Order::Leave);
        }
        self.hire();
    }

    /// Waits until all queued jobs are done and all threads have ended.
    pub(crate) fn stop(&self) {
        self.is_running.set(false);
        let workers = self.workers.take();
        for _ in &workers {
            let _ = self.orders.send(Order::Leave);
        }
        for worker in workers {
            // A worker catches the panics of its jobs.
            let _ = worker.join();
        }
        // Orders to leave that `resize` had given too many, and jobs that nobody could be hired for.
        let left: Vec<Order> = self.inbox.try_iter().collect();
        for order in left {
            if matches!(order, Order::Do(_)) {
                let _ = self.orders.send(order);
            }
        }
    }

    /// Starts threads until there is one for each job, or as many as there may be.
    fn hire(&self) {
        if !self.is_running.get() {
            return;
        }
        let mut workers = self.workers.borrow_mut();
        workers.retain(|worker| !worker.is_finished());
        let wanted = self.unfinished.load(Ordering::Acquire).min(self.size.get());
        while workers.len() < wanted {
            let inbox = self.inbox.clone();
            let unfinished = self.unfinished.clone();
            let name = format!("reactor-worker-{}", workers.len());
            let worker = thread::Builder::new().name(name);
            match worker.spawn(move || work(&inbox, &unfinished)) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    log::error!(target: "reactor", "cannot start a worker thread: {error}");
                    break;
                }
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The life of a worker.
fn work(inbox: &Receiver<Order>, unfinished: &AtomicUsize) {
    while let Ok(Order::Do(job)) = inbox.recv() {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
            let failure = Failure::from_panic(payload);
            log::error!(target: "reactor", "a job in a worker thread {failure}");
        }
        unfinished.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Deferreds that wait for a worker, and what fires them.
pub(crate) type Waiting = RefCell<Slab<Box<dyn FnOnce()>>>;

/// Runs `function` in a thread of the pool; the Deferred fires, on the reactor's thread, with what
/// it returns (Twisted's `deferToThread`).
///
/// A panic in it becomes a failure. Jobs given before the reactor runs wait for it to start.
///
/// ```
/// use deferred_reactor::{Failure, Reactor, defer_to_thread};
///
/// let reactor = Reactor::new()?;
/// let stop = reactor.clone();
/// defer_to_thread(&reactor, || Ok(std::fs::read_to_string("/proc/self/comm")?))
///     .add_both(move |result| {
///         assert!(result.is_ok());
///         Ok(stop.stop()?)
///     });
/// reactor.run()?;
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn defer_to_thread<T: Send + 'static>(
    reactor: &Reactor,
    function: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Deferred<T> {
    let (deferred, resolver) = Deferred::pending();
    let (hand_over, handed) = crossbeam_channel::bounded(1);
    let core = reactor.core();
    let key = core.waiting().borrow_mut().insert(Box::new(move || {
        // Nothing was handed over if the job was dropped; the resolver then says so.
        if let Ok(result) = handed.try_recv() {
            let _ = resolver.fire(result);
        }
    }));
    let remote = reactor.remote();
    core.pool().submit(Box::new(move || {
        let result = catch_unwind(AssertUnwindSafe(function))
            .unwrap_or_else(|payload| Err(Failure::from_panic(payload)));
        let _ = hand_over.send(result);
        // A reactor that is gone has dropped the resolver as well.
        let _ = remote.call_from_thread(move |reactor| {
            let fire = reactor.core().waiting().borrow_mut().try_remove(key);
            if let Some(fire) = fire {
                fire();
            }
        });
    }));
    deferred
}
