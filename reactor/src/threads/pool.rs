//! A few threads for work that blocks.
//!
//! Threads are started when there is work and no idle one to take it, up to the limit, and end
//! when the reactor stops, after the work that had been given to them. Jobs wait in one queue, in
//! the order in which they came, and can be taken out of it until a thread has begun them.
//!
//! The system may refuse a thread. Then it is asked again after a [`RETRY`], since a job that no
//! thread takes makes nothing happen which could lead to another try. Jobs that are still left when
//! the reactor stops, and for which there is no thread at all, are done by the reactor's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::deferred::{Deferred, Failure};
use crate::guard::{catch, log_panic};
use crate::reactor::Reactor;
use crate::time::{DelayedCall, TimeSource};

type Job = Box<dyn FnOnce() + Send>;

/// Names one job, for as long as the pool exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(u64);

/// Twisted's default for its pool.
const DEFAULT_SIZE: usize = 10;

/// After how long the system is asked again for a thread that it has refused.
const RETRY: Duration = Duration::from_millis(100);

/// The threads of one reactor.
pub(crate) struct Pool {
    shared: Arc<WorkQueue>,
    threads: Rc<PoolThreads>,
}

/// The reactor's side of the workers.
struct PoolThreads {
    time: TimeSource,
    /// Those present, and some that may not have ended yet.
    workers: RefCell<Vec<JoinHandle<()>>>,
    /// The next try, after the system had refused a thread.
    retry: RefCell<Option<DelayedCall>>,
    /// The system refuses threads, and the log was told.
    is_refused: Cell<bool>,
    /// How many of the next starts are refused.
    #[cfg(test)]
    refusals: Cell<usize>,
}

/// What the reactor's thread and the workers share.
struct WorkQueue {
    state: Mutex<State>,
    /// Notified for each job, and for all when they are to look whether they should go.
    wakeup: Condvar,
}

struct State {
    /// Jobs that nobody has begun, and since when they wait; a higher id came later.
    queue: BTreeMap<JobId, (Job, Instant)>,
    next_id: u64,
    /// Workers. One counts itself out under the lock when it decides to go, so whoever asks knows
    /// how many are left to take a job.
    present: usize,
    /// How many there may be.
    size: usize,
    /// Jobs that are being done.
    active: usize,
    /// Whether threads are started for what is queued.
    is_running: bool,
    /// Workers go when nothing is queued any more.
    is_leaving: bool,
    done: u64,
    cancelled: u64,
    waited: Duration,
    longest_wait: Duration,
}

impl Pool {
    /// `time` is that of the reactor, which keeps the calls that ask for threads again.
    pub(crate) fn new(time: &TimeSource) -> Self {
        let state = State {
            queue: BTreeMap::new(),
            next_id: 0,
            present: 0,
            size: DEFAULT_SIZE,
            active: 0,
            is_running: false,
            is_leaving: false,
            done: 0,
            cancelled: 0,
            waited: Duration::ZERO,
            longest_wait: Duration::ZERO,
        };
        Self {
            shared: Arc::new(WorkQueue {
                state: Mutex::new(state),
                wakeup: Condvar::new(),
            }),
            threads: Rc::new(PoolThreads {
                time: time.clone(),
                workers: RefCell::new(Vec::new()),
                retry: RefCell::new(None),
                is_refused: Cell::new(false),
                #[cfg(test)]
                refusals: Cell::new(0),
            }),
        }
    }

    /// A name for the next job.
    pub(crate) fn next_id(&self) -> JobId {
        let mut state = self.shared.state.lock();
        let id = JobId(state.next_id);
        state.next_id += 1;
        id
    }

    /// Queues a job. Before the reactor runs, it waits for that.
    pub(crate) fn submit(&self, id: JobId, job: Job) {
        let mut state = self.shared.state.lock();
        state.queue.insert(id, (job, Instant::now()));
        drop(state);
        self.shared.wakeup.notify_one();
        self.threads.hire(&self.shared);
    }

    /// Takes a job out of the queue and drops it, unless it was begun or done.
    pub(crate) fn cancel(&self, id: JobId) {
        let mut state = self.shared.state.lock();
        let removed = state.queue.remove(&id);
        if removed.is_some() {
            state.cancelled += 1;
        }
        drop(state); // what the job had captured may ask for anything when it is dropped
        drop(removed);
    }

    pub(crate) fn start(&self) {
        self.shared.state.lock().is_running = true;
        self.threads.hire(&self.shared);
    }

    /// At most `size` jobs at once, from now on; at least one.
    pub(crate) fn resize(&self, size: usize) {
        self.shared.state.lock().size = size.max(1);
        // Those who are at work look by themselves, before the next job.
        self.shared.wakeup.notify_all();
        self.threads.hire(&self.shared);
    }

    /// Waits until all queued jobs are done and all threads have ended.
    pub(crate) fn stop(&self) {
        let mut state = self.shared.state.lock();
        let was_running = mem::replace(&mut state.is_running, false);
        state.is_leaving = true;
        drop(state);
        self.shared.wakeup.notify_all();
        for worker in self.threads.workers.take() {
            // A worker catches the panics of its jobs.
            let _ = worker.join();
        }
        // None could be started, or the last would have done these.
        while was_running && self.work_here() {}
        self.shared.state.lock().is_leaving = false;
        self.threads.forget_refusal();
    }

    pub(crate) fn stats(&self) -> ThreadPoolStats {
        let state = self.shared.state.lock();
        ThreadPoolStats {
            size: state.size,
            threads: state.present,
            queued: state.queue.len(),
            active: state.active,
            done: state.done,
            cancelled: state.cancelled,
            waited: state.waited,
            longest_wait: state.longest_wait,
            oldest_queued: match state.queue.first_key_value() {
                Some((_, (_, since))) => since.elapsed(),
                None => Duration::ZERO,
            },
        }
    }

    /// Does what is queued by now in the thread that calls this. For a pool that was not started.
    /// `false` if there was nothing.
    pub(crate) fn work_here(&self) -> bool {
        let mut state = self.shared.state.lock();
        let queued = state.queue.len();
        for _ in 0..queued {
            do_next(&mut state);
        }
        queued > 0
    }

    /// Whether there is something for [`work_here`](Self::work_here).
    pub(crate) fn has_queued(&self) -> bool {
        !self.shared.state.lock().queue.is_empty()
    }
}

impl PoolThreads {
    /// Starts threads until there is one for each job, or as many as there may be.
    fn hire(self: &Rc<Self>, shared: &Arc<WorkQueue>) {
        let mut state = shared.state.lock();
        if !state.is_running || state.present >= state.wanted() {
            return;
        }
        let mut workers = self.workers.borrow_mut();
        workers.retain(|worker| !worker.is_finished());
        while state.present < state.wanted() {
            match self.start_worker(state.present, shared.clone()) {
                Ok(worker) => {
                    state.present += 1;
                    workers.push(worker);
                    self.is_refused.set(false);
                }
                Err(error) => {
                    let present = state.present;
                    drop((state, workers)); // the logger may do anything
                    return self.is_refused(shared, present, &error);
                }
            }
        }
    }

    fn start_worker(&self, number: usize, shared: Arc<WorkQueue>) -> io::Result<JoinHandle<()>> {
        #[cfg(test)]
        if let Some(left) = self.refusals.get().checked_sub(1) {
            self.refusals.set(left);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let name = format!("reactor-worker-{number}");
        let thread = thread::Builder::new().name(name);
        thread.spawn(move || shared.work())
    }

    /// The system has no thread for us: asks again in a while.
    #[cold]
    fn is_refused(self: &Rc<Self>, shared: &Arc<WorkQueue>, present: usize, error: &io::Error) {
        if !self.is_refused.replace(true) {
            crate::logging::error!(
                target: "reactor",
                "cannot start a worker thread, and tries again every {RETRY:?}; \
                 {present} of them run: {error}"
            );
        }
        let mut retry = self.retry.borrow_mut();
        if retry.as_ref().is_none_or(|call| !call.is_active()) {
            let (threads, shared) = (Rc::downgrade(self), Arc::downgrade(shared));
            *retry = Some(self.time.call_later(RETRY, move || {
                if let (Some(threads), Some(shared)) = (threads.upgrade(), shared.upgrade()) {
                    threads.hire(&shared);
                }
            }));
        }
    }

    fn forget_refusal(&self) {
        self.is_refused.set(false);
        if let Some(retry) = self.retry.take() {
            let _ = retry.cancel(); // it may have been made
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
        // Outside the lock: jobs tell those who wait for them that they will never be done.
        let left = mem::take(&mut self.shared.state.lock().queue);
        drop(left);
    }
}

impl State {
    /// How many workers the present jobs are worth.
    fn wanted(&self) -> usize {
        (self.queue.len() + self.active).min(self.size)
    }
}

impl WorkQueue {
    /// The life of a worker.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.present > state.size {
                break;
            }
            if do_next(&mut state) {
                continue;
            }
            if state.is_leaving {
                break;
            }
            self.wakeup.wait(&mut state);
        }
        state.present -= 1;
    }
}

/// Does the first job of the queue, unlocked meanwhile. `false` if there is none.
fn do_next(state: &mut MutexGuard<'_, State>) -> bool {
    let Some((_, (job, since))) = state.queue.pop_first() else {
        return false;
    };
    state.active += 1;
    let waited = since.elapsed();
    state.waited += waited;
    state.longest_wait = state.longest_wait.max(waited);
    MutexGuard::unlocked(state, || {
        if let Err(payload) = catch(job) {
            log_panic("reactor", "a job in a worker thread", payload);
        }
    });
    state.active -= 1;
    state.done += 1;
    true
}

/// How a reactor's thread pool is doing; from
/// [`Reactor::thread_pool_stats`](crate::Reactor::thread_pool_stats).
///
/// A queue that stays long, or a wait that grows, says that the pool is too small for what it is
/// given, or that jobs hang.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadPoolStats {
    /// How many threads there may be.
    pub size: usize,
    /// How many there are: they are started when there is work for them.
    pub threads: usize,
    /// Jobs that no thread has begun.
    pub queued: usize,
    /// Jobs that are being done.
    pub active: usize,
    /// Jobs that have ended, however they did, since the reactor was made.
    pub done: u64,
    /// Jobs that were cancelled before a thread had begun them.
    pub cancelled: u64,
    /// How long all jobs together have waited for a thread: those that were begun.
    pub waited: Duration,
    /// The longest of these waits.
    pub longest_wait: Duration,
    /// How long the job that is next has been waiting; zero if there is none.
    pub oldest_queued: Duration,
}

/// Runs `function` in a thread of the pool; the Deferred fires, on the reactor's thread, with what
/// it returns (Twisted's `deferToThread`).
///
/// A panic in it becomes a failure. Jobs given before the reactor runs wait for it to start. Where the
/// system refuses a thread, it is asked again ten times a second, and the log has one record; what is
/// left when the reactor stops is then done on the reactor's own thread.
///
/// Cancelling the Deferred takes a job that no thread has begun out of the queue: it never runs,
/// and what it had captured is dropped before `cancel` returns. A job that is being done cannot be
/// interrupted; its result is dropped when it comes. Either way the Deferred fails at once, with
/// [`CancelledError`](crate::CancelledError).
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
    let pool = reactor.core().pool();
    let (id, line) = (pool.next_id(), Location::caller());
    let core = Rc::downgrade(reactor.core());
    let (deferred, resolver) = Deferred::with_canceller(move |_| {
        if let Some(core) = core.upgrade() {
            core.pool().cancel(id);
        }
    });
    let resolver = resolver.into_remote(reactor);
    pool.submit(
        id,
        Box::new(move || {
            let result = catch(function)
                .unwrap_or_else(|payload| Err(Failure::from_panic_at(payload, line)));
            // A reactor that is gone has failed the Deferred as well.
            let _ = resolver.fire_for(line, result);
        }),
    );
    deferred
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::Clock;
    use crate::time::ReactorTime;

    fn running(refusals: usize) -> (Clock, Pool) {
        let clock = Clock::new();
        let pool = Pool::new(clock.time_source());
        pool.threads.refusals.set(refusals);
        pool.start();
        (clock, pool)
    }

    /// F-12.
    #[test]
    fn a_thread_that_was_refused_is_asked_for_again() {
        let (clock, pool) = running(3);
        let (tell, told) = mpsc::channel();
        for name in ["first", "second"] {
            let tell = tell.clone();
            pool.submit(
                pool.next_id(),
                Box::new(move || tell.send(name).expect("it is waited for")),
            );
        }
        assert_eq!(clock.delayed_calls().len(), 1);
        assert_eq!(pool.stats().threads, 0);
        clock.advance(RETRY);
        assert_eq!(pool.stats().threads, 0, "refused for the third time");
        clock.advance(RETRY);
        drop(tell);
        assert_eq!(told.iter().count(), 2);
        assert!(clock.delayed_calls().is_empty());
    }

    /// F-12.
    #[test]
    fn jobs_that_no_thread_could_take_are_done_before_the_pool_has_stopped() {
        let (clock, pool) = running(usize::MAX);
        let (tell, told) = mpsc::channel();
        let job = move || tell.send(thread::current().id()).expect("it is waited for");
        pool.submit(pool.next_id(), Box::new(job));
        pool.stop();
        assert_eq!(told.recv(), Ok(thread::current().id()));
        assert!(clock.delayed_calls().is_empty());
    }
}
