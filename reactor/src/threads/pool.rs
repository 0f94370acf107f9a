//! A pool of threads for blocking work.
//!
//! A thread is started when there is a job and no idle thread, up to the limit. Threads end when
//! the reactor stops, after all jobs are done. Jobs wait in one queue, in the order of submission,
//! and can be removed from it until a thread has started them.
//!
//! The system may refuse a thread. The pool then tries again after [`RETRY`], because a job without
//! a thread causes no event that could lead to another try. If there is no thread at all when the
//! reactor stops, the remaining jobs are done on the reactor's thread.

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

/// Identifies one job, for the life of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId(u64);

/// Twisted's default for its pool.
const DEFAULT_SIZE: usize = 10;

/// Time until the next try after the system has refused a thread.
const RETRY: Duration = Duration::from_millis(100);

/// The threads of one reactor.
pub(crate) struct Pool {
    shared: Arc<WorkQueue>,
    threads: Rc<PoolThreads>,
}

/// The reactor's side of the worker threads.
struct PoolThreads {
    time: TimeSource,
    /// Running threads, and some that may be ending.
    workers: RefCell<Vec<JoinHandle<()>>>,
    /// The next try after the system has refused a thread.
    retry: RefCell<Option<DelayedCall>>,
    /// The system refuses threads, and this was logged.
    is_refused: Cell<bool>,
    /// Number of further starts to refuse, for tests.
    #[cfg(test)]
    refusals: Cell<usize>,
}

/// State shared by the reactor's thread and the workers.
struct WorkQueue {
    state: Mutex<State>,
    /// Notified for each job, and for all workers when they may have to end.
    wakeup: Condvar,
}

struct State {
    /// Jobs that no thread has started, and since when they wait; later jobs have higher ids.
    queue: BTreeMap<JobId, (Job, Instant)>,
    next_id: u64,
    /// Number of workers. A worker that decides to end counts itself out under the lock, so the
    /// number is always that of workers that can take a job.
    present: usize,
    /// Maximum number of workers.
    size: usize,
    /// Number of running jobs.
    active: usize,
    /// Whether threads are started for queued jobs.
    is_running: bool,
    /// Workers end when the queue is empty.
    is_leaving: bool,
    done: u64,
    cancelled: u64,
    waited: Duration,
    longest_wait: Duration,
}

impl Pool {
    /// `time` is the reactor's, for the calls that try to start threads again.
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

    /// Assigns an id for the next job.
    pub(crate) fn next_id(&self) -> JobId {
        let mut state = self.shared.state.lock();
        let id = JobId(state.next_id);
        state.next_id += 1;
        id
    }

    /// Queues a job. Jobs queued before the reactor runs wait for the run.
    pub(crate) fn submit(&self, id: JobId, job: Job) {
        let mut state = self.shared.state.lock();
        state.queue.insert(id, (job, Instant::now()));
        drop(state);
        self.shared.wakeup.notify_one();
        self.threads.hire(&self.shared);
    }

    /// Removes a job from the queue and drops it, unless a thread has started it.
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

    /// Sets the maximum number of concurrent jobs, at least 1.
    pub(crate) fn resize(&self, size: usize) {
        self.shared.state.lock().size = size.max(1);
        // Busy workers check the limit themselves before the next job.
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
        // If no worker could be started, the jobs are still queued.
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

    /// Does all queued jobs on the calling thread, for a pool that was not started. Returns `false`
    /// if there were none.
    pub(crate) fn work_here(&self) -> bool {
        let mut state = self.shared.state.lock();
        let queued = state.queue.len();
        for _ in 0..queued {
            do_next(&mut state);
        }
        queued > 0
    }

    /// Whether [`work_here`](Self::work_here) has jobs to do.
    pub(crate) fn has_queued(&self) -> bool {
        !self.shared.state.lock().queue.is_empty()
    }
}

impl PoolThreads {
    /// Starts threads until there is one for each job, up to the limit.
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

    /// Handles a thread refused by the system: tries again after [`RETRY`].
    #[cold]
    fn is_refused(self: &Rc<Self>, shared: &Arc<WorkQueue>, present: usize, error: &io::Error) {
        if !self.is_refused.replace(true) {
            crate::logging::error!(
                target: "reactor",
                "the thread pool cannot start a worker thread, and tries again every {RETRY:?}; \
                 {present} worker threads are running: {error}"
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
        // Outside the lock: dropping jobs fails the Deferreds that wait for them.
        let left = mem::take(&mut self.shared.state.lock().queue);
        drop(left);
    }
}

impl State {
    /// Number of workers for the present jobs.
    fn wanted(&self) -> usize {
        (self.queue.len() + self.active).min(self.size)
    }
}

impl WorkQueue {
    /// The main function of a worker.
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

/// Does the first job of the queue, with the lock released meanwhile. Returns `false` if there is
/// none.
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

/// Measurements of a reactor's thread pool; from
/// [`Reactor::thread_pool_stats`](crate::Reactor::thread_pool_stats).
///
/// A queue that stays long, or waits that grow, mean that the pool is too small for its jobs, or
/// that jobs hang.
/// given, or that jobs hang.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadPoolStats {
    /// Maximum number of threads.
    pub size: usize,
    /// Number of threads: they are started when there are jobs.
    pub threads: usize,
    /// Number of jobs that no thread has started.
    pub queued: usize,
    /// Number of running jobs.
    pub active: usize,
    /// Number of jobs that have ended, in any way, since the reactor was made.
    pub done: u64,
    /// Number of jobs that were cancelled before a thread started them.
    pub cancelled: u64,
    /// Total time that started jobs have waited for a thread.
    pub waited: Duration,
    /// The longest of these waits.
    pub longest_wait: Duration,
    /// How long the next job has been waiting; zero if there is none.
    pub oldest_queued: Duration,
}

/// Runs `function` in a thread of the pool; the Deferred fires with its result, on the reactor's
/// thread (Twisted's `deferToThread`).
///
/// A panic in `function` becomes a failure. Jobs submitted before the reactor runs wait for its
/// start. If the system refuses a thread, the pool tries again ten times a second and logs one
/// record; jobs still queued when the reactor stops are then done on the reactor's thread.
///
/// Cancelling the Deferred removes a job that no thread has started: it never runs, and its
/// captured values are dropped before `cancel` returns. A running job cannot be interrupted; its
/// result is dropped. In both cases the Deferred fails at once with
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
            // If the reactor was dropped, the Deferred has failed already.
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
