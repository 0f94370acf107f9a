//! The public [`Reactor`].
//!
//! [`run_loop`] has the loop, and [`core`] the state that it shares with its sockets.

mod core;
mod run_loop;

use std::error::Error;
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use self::core::System;
pub(crate) use self::core::{Core, Descriptor, Interest, Readiness, SlotId};
use self::run_loop::LifeState;
use crate::deferred::{Deferred, Failure, Outcome, task};
use crate::guard::guard;
use crate::health::{
    Callback, CallbackKind, Monitor, ObserverId, ReactorObserver, Stats, UnknownObserverError,
    watch,
};
use crate::net::memory::Network;
use crate::threads::{RemoteReactor, ThreadPoolStats};
use crate::time::{DelayedCall, ReactorTime, TimeSource};
use crate::triggers::{Phase, SystemEvent, TriggerId, UnknownTriggerError};

/// An event loop: runs callbacks when their time comes, when sockets are ready, and when other
/// threads ask for it.
///
/// Cheap to clone: all clones are handles of one reactor. A reactor stays on the thread that made
/// it; other threads reach it through [`remote`](Self::remote). A program may have several
/// reactors, one on each thread, and none is global. Which callbacks a [turn](crate#turns) calls,
/// and in which order, is described on [the front page](crate#what-runs-when).
///
/// | state    | left by                | then                                                |
/// |----------|------------------------|-----------------------------------------------------|
/// | idle     | [`run`](Self::run), [`turn_once`](Self::turn_once) | starting: startup triggers                          |
/// | starting | the last *before*      | running                                             |
/// | running  | [`stop`](Self::stop), a signal | stopping: shutdown triggers, the loop goes on |
/// | stopping | the last trigger       | idle: everything is closed, and `run` returns       |
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::{Failure, Reactor};
///
/// let reactor = Reactor::new()?;
/// let stop = reactor.clone();
/// reactor.call_later(Duration::from_millis(5), move || {
///     stop.stop().expect("it is running");
/// });
/// reactor.run()?;
/// # Ok::<(), Failure>(())
/// ```
///
/// # Dropping it
///
/// When the last handle is dropped, ports are closed and their factories notified, delayed calls
/// and jobs that wait for a run are dropped, and calls from other threads are abandoned. Nothing of
/// a reactor outlives it.
///
/// A handle captured by a closure counts, too. [`run`](Self::run) drops the delayed calls and
/// closes the ports at its end, and their handles with them. A reactor that never ran keeps itself
/// alive while something that was given to it holds a handle: a delayed call, a trigger, a factory,
/// or a callback of a Deferred that the reactor is to fire. This is a cycle of `Rc`s, which is
/// never freed. The same is true of triggers that are left after a run. A program that ends then
/// loses nothing. A program that continues breaks the cycle: it cancels the
/// [`delayed_calls`](Self::delayed_calls) and pending Deferreds, stops listening, and removes the
/// triggers.
#[derive(Clone)]
pub struct Reactor(Rc<Core>);

impl Reactor {
    /// Makes a reactor for this thread.
    ///
    /// # Errors
    ///
    /// An `io::Error` when the system has no descriptors left for a selector and a waker.
    pub fn new() -> io::Result<Self> {
        let core = Core::new(TimeSource::system(), Some(System::new()?), None);
        Ok(Self(Rc::new(core)))
    }

    /// Makes a reactor without a system: see [`MemoryReactor`](crate::testing::MemoryReactor).
    pub(crate) fn in_memory(time: TimeSource, network: Rc<Network>) -> Self {
        Self(Rc::new(Core::new(time, None, Some(network))))
    }

    /// Runs until [`stop`](Self::stop) is called, or SIGINT or SIGTERM arrives.
    ///
    /// When `run` returns, the shutdown triggers have run, every connection and port is closed,
    /// worker threads have ended, and waiting delayed calls have been dropped. The reactor may then
    /// be run again. The front page says what this means for [Deferreds that still
    /// waited](crate#what-the-end-of-a-run-drops).
    ///
    /// Before it returns, `run` waits for the Deferreds of shutdown triggers in [`Phase::Before`],
    /// and for all jobs that were given to threads. A second signal does not wait: it ends the
    /// program at once, with a record in the log, unless the program had its own handler for it.
    /// Connections send as much of their queued output as the system accepts without waiting.
    ///
    /// Signal handlers are installed when `run` begins; [`run_without_signals`] installs none. A
    /// signal that is ignored when the first reactor runs stays ignored, on systems that report it:
    /// shells start background jobs with SIGINT ignored.
    ///
    /// A reactor [in memory](Self::is_in_memory) does not sleep: it moves its clock to the next
    /// delayed call instead.
    ///
    /// [`run_without_signals`]: Self::run_without_signals
    ///
    /// # Errors
    ///
    /// [`ReactorAlreadyRunningError`] when called inside a run; an `io::Error` when the selector fails; [`NothingLeftError`](crate::testing::NothingLeftError) for a reactor in memory that has nothing left to wait for.
    pub fn run(&self) -> Result<(), Failure> {
        self.run_until_stopped(true)
    }

    /// Like [`run`](Self::run), without signal handlers: for a second reactor in a program, or for
    /// a program that handles signals itself.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn run_without_signals(&self) -> Result<(), Failure> {
        self.run_until_stopped(false)
    }

    /// Runs one [turn](crate#turns), for a program that has its own loop: waits at most `timeout`
    /// for an event, then does the work that is due. Returns `false` when the reactor has stopped.
    ///
    /// The first turn starts the reactor. From then on it counts as running, also between turns:
    /// connections stay open, worker threads work, and [`run`](Self::run) is refused. After
    /// [`stop`](Self::stop), call `turn_once` until it returns `false`, which it does when the
    /// shutdown is complete; one more call starts the reactor again. A reactor that is dropped
    /// without [`stop`](Self::stop) closes everything it owns, and its shutdown triggers do not
    /// run.
    ///
    /// Work that becomes due during the wait is done in the same turn. `Duration::ZERO` does not
    /// wait. `Duration::MAX` waits up to a day. Systems count the timeout in milliseconds, rounded
    /// up. Signals are left alone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferred_reactor::{Failure, Reactor, sleep};
    ///
    /// let reactor = Reactor::new()?;
    /// let nap = sleep(&reactor, Duration::from_millis(5));
    /// let mut frames = 0;
    /// while !nap.is_fired() {
    ///     frames += 1; // the program's own work
    ///     reactor.turn_once(Duration::from_millis(1))?;
    /// }
    /// reactor.stop()?;
    /// while reactor.turn_once(Duration::MAX)? {}
    /// assert!(frames > 0);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReactorAlreadyRunningError`] when called inside a turn or inside `run`; an `io::Error` when the selector fails, after which the reactor has stopped.
    pub fn turn_once(&self, timeout: Duration) -> Result<bool, Failure> {
        self.turn_outside(timeout)
    }

    /// Ends [`run`](Self::run) after the current [turn](crate#turns).
    ///
    /// The shutdown triggers run then, not inside this call.
    ///
    /// # Errors
    ///
    /// [`ReactorNotRunningError`] if the reactor is not running, or is stopping already.
    pub fn stop(&self) -> Result<(), ReactorNotRunningError> {
        match self.0.state.get() {
            LifeState::Starting | LifeState::Running => {
                self.0.state.set(LifeState::Stopping);
                Ok(())
            }
            _ => Err(ReactorNotRunningError),
        }
    }

    /// Returns `true` while the reactor runs: from [`Phase::During`] of the startup to
    /// [`Phase::During`] of the shutdown.
    pub fn is_running(&self) -> bool {
        self.0.is_running.get()
    }

    /// Returns `true` for the reactor of a [`MemoryReactor`](crate::testing::MemoryReactor). Code
    /// that starts threads of its own can check this, and not start them in a test.
    pub fn is_in_memory(&self) -> bool {
        self.0.network.is_some()
    }

    /// The signal that ended the last [`run`](Self::run), if a signal did.
    pub fn exit_signal(&self) -> Option<i32> {
        self.0.exit_signal.get()
    }

    /// Calls `function` once the reactor runs: at once if it is running, otherwise after the
    /// startup, in the order of registration.
    ///
    /// ```
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// let reactor = Reactor::new()?;
    /// let stop = reactor.clone();
    /// reactor.call_when_running(move || {
    ///     println!("up and running");
    ///     stop.stop().expect("it runs");
    /// });
    /// reactor.run()?;
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn call_when_running(&self, function: impl FnOnce() + 'static) {
        if self.is_running() {
            let line = Location::caller();
            let callback = Callback::at(CallbackKind::Trigger, line);
            watch(|| callback, || guard(callback, function));
        } else {
            self.add_system_event_trigger(Phase::After, SystemEvent::Startup, move || {
                function();
                Ok(())
            });
        }
    }

    /// Registers `function` to run in `phase` of `event`.
    ///
    /// `function` returns `Ok(())`, an error, which is logged, or a Deferred. All triggers of
    /// [`Phase::Before`] run first, and the reactor waits for their Deferreds while the loop
    /// continues. Then the triggers of [`Phase::During`] run, then those of [`Phase::After`]; their
    /// Deferreds are not waited for. Within a phase, triggers run in the order of registration. At
    /// the shutdown, connections and ports are closed between `Before` and `During`. A trigger runs
    /// once and is then removed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferred_reactor::{Failure, Phase, Reactor, SystemEvent, sleep};
    ///
    /// let reactor = Reactor::new()?;
    /// let clock = reactor.clone();
    /// reactor.add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move || {
    ///     println!("finishing what is begun");
    ///     sleep(&clock, Duration::from_millis(5)) // the loop goes on until then
    /// });
    /// reactor.run_for(Duration::from_millis(5))?;
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn add_system_event_trigger<R: Outcome<Value = ()>>(
        &self,
        phase: Phase,
        event: SystemEvent,
        function: impl FnOnce() -> R + 'static,
    ) -> TriggerId {
        self.0.triggers.add(phase, event, function)
    }

    /// Removes a trigger that has not run yet.
    ///
    /// # Errors
    ///
    /// [`UnknownTriggerError`] if it has run or was removed before.
    pub fn remove_system_event_trigger(&self, id: TriggerId) -> Result<(), UnknownTriggerError> {
        self.0.triggers.remove(id)
    }

    /// Fires an event of the program's own. The Deferred fires when all triggers of the event have
    /// run.
    ///
    /// ```
    /// # use deferred_reactor::{Failure, Phase, Reactor, SystemEvent};
    /// let reactor = Reactor::new()?;
    /// let reload = SystemEvent::Named("reload");
    /// reactor.add_system_event_trigger(Phase::During, reload, || {
    ///     println!("reading the configuration again");
    ///     Ok(())
    /// });
    /// assert!(reactor.fire_system_event("reload").is_fired());
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn fire_system_event(&self, name: &'static str) -> Deferred<()> {
        self.0.triggers.fire(SystemEvent::Named(name))
    }

    /// Measurements of the loop so far: turns, load and lateness ([`health`]).
    ///
    /// [`health`]: crate::health
    pub fn stats(&self) -> Stats {
        Stats {
            pending_timers: self.0.time.len(),
            ..self.monitor().stats()
        }
    }

    /// A handle with which other threads read the loop's measurements, also while the loop is
    /// stuck.
    pub fn monitor(&self) -> Monitor {
        self.0.meter.monitor(self.0.inbox.queue())
    }

    /// Registers an observer, which is notified of every [turn](crate#turns) from now on, and of
    /// slow callbacks.
    #[track_caller]
    pub fn add_observer(&self, observer: impl ReactorObserver) -> ObserverId {
        self.0.meter.add_observer(Rc::new(observer))
    }

    /// Removes an observer.
    ///
    /// # Errors
    ///
    /// [`UnknownObserverError`] if it was removed before.
    pub fn remove_observer(&self, id: ObserverId) -> Result<(), UnknownObserverError> {
        self.0.meter.remove_observer(id)
    }

    /// Reports callbacks that take longer than `limit`, from the next [turn](crate#turns) on;
    /// `None` turns the reports off.
    ///
    /// Each slow callback is logged at level `warn`, with the source line that scheduled or added
    /// it, at most once every ten seconds for each line. All of them are counted by line in
    /// [`Monitor::slow_callbacks`], and [observers](Self::add_observer) are notified. A callback of
    /// a Deferred is reported separately from the callback that fired it. While the reports are on,
    /// each event costs one more clock read, and each callback of a Deferred two.
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferred_reactor::{Failure, Reactor};
    ///
    /// let reactor = Reactor::new()?;
    /// reactor.set_slow_callback_limit(Duration::from_millis(5));
    /// let stop = reactor.clone();
    /// reactor.call_later(Duration::ZERO, move || {
    ///     std::thread::sleep(Duration::from_millis(10)); // as no callback should
    ///     stop.stop().expect("it runs");
    /// });
    /// reactor.run()?;
    /// assert_eq!(reactor.monitor().slow_callbacks()[0].count, 1);
    /// # Ok::<(), Failure>(())
    /// ```
    pub fn set_slow_callback_limit(&self, limit: impl Into<Option<Duration>>) {
        self.0.meter.set_limit(limit.into());
    }

    /// The current time; see [`ReactorTime::now`].
    pub fn now(&self) -> Instant {
        self.0.time.now()
    }

    /// Calls `call` after `delay`; see [`ReactorTime::call_later`]. For a result, see
    /// [`defer_later`](crate::defer_later).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use deferred_reactor::{Failure, Reactor};
    /// let reactor = Reactor::new()?;
    /// let stop = reactor.clone();
    /// let call = reactor.call_later(Duration::from_secs(60), move || {
    ///     stop.stop().expect("it runs");
    /// });
    /// call.reset(Duration::from_millis(5))?; // sooner
    /// reactor.run()?;
    /// assert!(!call.is_active());
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn call_later(&self, delay: Duration, call: impl FnOnce() + 'static) -> DelayedCall {
        self.0.time.call_later(delay, call)
    }

    /// The waiting delayed calls, in the order in which they are due.
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.0.time.delayed_calls()
    }

    /// A handle through which other threads reach this reactor.
    pub fn remote(&self) -> RemoteReactor {
        self.0.inbox.remote()
    }

    /// Runs a future, usually an `async` block. The Deferred fires with the result of the future.
    ///
    /// The future is polled at once, then inside each call that fires a Deferred it awaits. When
    /// something else wakes it, on any thread, it is polled in the next [turn](crate#turns) of this
    /// reactor. See [`deferred::awaiting`](crate::deferred::awaiting) for the details.
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferred_reactor::{Failure, Reactor, sleep};
    ///
    /// let reactor = Reactor::new()?;
    /// let clock = reactor.clone();
    /// let answer = reactor.spawn(async move {
    ///     for _ in 0..3 {
    ///         sleep(&clock, Duration::from_millis(1)).await?;
    ///     }
    ///     clock.stop()?;
    ///     Ok(42)
    /// });
    /// reactor.run()?;
    /// assert_eq!(answer.result()?, 42);
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn spawn<T: 'static>(
        &self,
        future: impl Future<Output = Result<T, Failure>> + 'static,
    ) -> Deferred<T> {
        task::start(Box::pin(future), Some(self.remote()), Location::caller())
    }

    /// Runs `function` in a thread of the pool, and drops its result; a panic in it is logged. For
    /// a result, see [`defer_to_thread`](crate::defer_to_thread).
    ///
    /// A function that is given before the reactor runs waits for the run. A run ends when all
    /// functions given to threads are done.
    #[track_caller]
    pub fn call_in_thread(&self, function: impl FnOnce() + Send + 'static) {
        let (pool, line) = (&self.0.pool, Location::caller());
        let job = move || {
            guard(
                format_args!("the job given to call_in_thread at {line}"),
                function,
            );
        };
        pool.submit(pool.next_id(), Box::new(job));
    }

    /// Sets the maximum number of threads in the pool (10 unless set, and at least 1).
    pub fn suggest_thread_pool_size(&self, size: usize) {
        self.0.pool.resize(size);
    }

    /// Measurements of the thread pool: its threads, its queue, and how long jobs waited.
    pub fn thread_pool_stats(&self) -> ThreadPoolStats {
        self.0.pool.stats()
    }

    pub(crate) fn from_core(core: Rc<Core>) -> Self {
        Self(core)
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.0
    }

    /// Whether the reactor is neither running nor between two calls of
    /// [`turn_once`](Self::turn_once).
    pub(crate) fn is_idle(&self) -> bool {
        self.0.state.get() == LifeState::Idle
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // Done while the reactor still exists, so that factories and protocols may use it. A
        // reactor that has run has nothing left to close.
        if Rc::strong_count(&self.0) == 1 {
            self.0.close_all();
        }
    }
}

impl ReactorTime for Reactor {
    fn time_source(&self) -> &TimeSource {
        &self.0.time
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("state", &self.0.state.get())
            .field("sockets", &self.0.slots.borrow().len())
            .field("time", &self.0.time)
            .finish_non_exhaustive()
    }
}

/// `stop` was called on a reactor that is not running, or is stopping already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorNotRunningError;

impl fmt::Display for ReactorNotRunningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor is not running, or is stopping already")
    }
}

impl Error for ReactorNotRunningError {}

/// `run` was called while the reactor was running, or `turn_once` inside a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorAlreadyRunningError;

impl fmt::Display for ReactorAlreadyRunningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor is running already and cannot be run inside itself")
    }
}

impl Error for ReactorAlreadyRunningError {}
