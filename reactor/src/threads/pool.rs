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
use parking_lot::Mutex;
use slab::Slab;

use crate::deferred::{Deferred, Failure};
use crate::reactor::Reactor;

type Job = Box<dyn FnOnce() + Send>;

/// What is sent to the workers.
enum Order {
    Do(Job),
    /// There are too many workers now: look whether you should go.
    Look,
    Leave,
}

/// How many workers there are, and how many there may be.
///
/// A worker counts itself out under the lock when it decides to go, so whoever asks knows how many
/// are left to take a job.
struct Staff {
    present: usize,
    size: usize,
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
    staff: Arc<Mutex<Staff>>,
    /// Those present, and some that may not have ended yet.
    workers: RefCell<Vec<JoinHandle<()>>>,
    is_running: Cell<bool>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let (orders, inbox) = crossbeam_channel::unbounded();
        Self {
            orders,
            inbox,
            unfinished: Arc::new(AtomicUsize::new(0)),
            staff: Arc::new(Mutex::new(Staff {
                present: 0,
                size: DEFAULT_SIZE,
            })),
            workers: RefCell::new(Vec::new()),
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
        let mut staff = self.staff.lock();
        staff.size = size.max(1);
        let surplus = staff.present.saturating_sub(staff.size);
        drop(staff);
        // Those who are at work go when they are done with it, before the next job; this is for
        // those who wait for one.
        for _ in 0..surplus {
            let _ = self.orders.send(Order::Look);
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
        self.staff.lock().present = 0;
        // Orders for workers who had gone by themselves, and jobs that nobody could be hired for.
        let left: Vec<Order> = self.inbox.try_iter().collect();
        for order in left {
            if matches!(order, Order::Do(_)) {
                let _ = self.orders.send(order);
            }
        }
    }

    /// Does what is queued by now in the thread that calls this. For a pool that was not started.
    /// `false` if there was nothing.
    pub(crate) fn work_here(&self) -> bool {
        let queued = self.inbox.len();
        for order in self.inbox.try_iter().take(queued) {
            if let Order::Do(job) = order {
                do_job(job, &self.unfinished);
            }
        }
        queued > 0
    }

    /// Whether there is something for [`work_here`](Self::work_here).
    pub(crate) fn has_queued(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Starts threads until there is one for each job, or as many as there may be.
    fn hire(&self) {
        if !self.is_running.get() {
            return;
        }
        let mut workers = self.workers.borrow_mut();
        workers.retain(|worker| !worker.is_finished());
        let mut staff = self.staff.lock();
        let wanted = self.unfinished.load(Ordering::Acquire).min(staff.size);
        while staff.present < wanted {
            let inbox = self.inbox.clone();
            let unfinished = self.unfinished.clone();
            let shared = self.staff.clone();
            let name = format!("reactor-worker-{}", staff.present);
            let worker = thread::Builder::new().name(name);
            match worker.spawn(move || work(&inbox, &unfinished, &shared)) {
                Ok(worker) => {
                    staff.present += 1;
                    workers.push(worker);
                }
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
fn work(inbox: &Receiver<Order>, unfinished: &AtomicUsize, staff: &Mutex<Staff>) {
    loop {
        let mut staff = staff.lock();
        if staff.present > staff.size {
            staff.present -= 1;
            return;
        }
        drop(staff);
        match inbox.recv() {
            Ok(Order::Do(job)) => do_job(job, unfinished),
            Ok(Order::Look) => {}
            Ok(Order::Leave) | Err(_) => return,
        }
    }
}

fn do_job(job: Job, unfinished: &AtomicUsize) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
        let failure = Failure::from_panic(payload);
        log::error!(target: "reactor", "a job in a worker thread {failure}");
    }
    unfinished.fetch_sub(1, Ordering::AcqRel);
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
