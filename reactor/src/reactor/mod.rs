//! The reactor, as its users see it.
//!
//! [`run_loop`] is what it does, and [`core`] what it shares with the sockets that it drives.

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

/// Runs callbacks when their time comes, when sockets are ready, and when other threads ask.
///
/// A value, and cheap to clone: all clones are one reactor. It stays on the thread that made it;
/// other threads reach it through [`remote`](Self::remote). There may be several in a program, one
/// on each thread, and none is global. What it calls, and in which order, is told on
/// [the front page](crate#what-runs-when).
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
/// When the last handle is dropped, ports are closed and their factories told, delayed calls and
/// jobs that wait for a run are dropped, and what waits for other threads is abandoned: nothing of
/// a reactor outlives it.
///
/// A handle that something has captured is a handle too. [`run`](Self::run) drops the delayed calls
/// and closes the ports in the end, and their handles with them. But a reactor that is dropped
/// without having run keeps itself alive while a handle is held by something it was given: a delayed
/// call, a trigger, a factory, or a callback of a Deferred that it is to fire. That is a circle like
/// any other of `Rc`s, and it is never freed; the same goes for triggers that are left after a run.
/// In a program that ends then, this is no harm. One that goes on takes back what it had asked for:
/// it cancels the [`delayed_calls`](Self::delayed_calls), the jobs and what else is pending, stops
/// listening, and removes the triggers.
#[derive(Clone)]
pub struct Reactor(Rc<Core>);

impl Reactor {
    /// A reactor for this thread.
    ///
    /// # Errors
    ///
    /// When the system has no descriptors left for a selector and a waker.
    pub fn new() -> io::Result<Self> {
        let core = Core::new(TimeSource::system(), Some(System::new()?), None);
        Ok(Self(Rc::new(core)))
    }

    /// A reactor that stands on nothing: see [`MemoryReactor`](crate::testing::MemoryReactor).
    pub(crate) fn in_memory(time: TimeSource, network: Rc<Network>) -> Self {
        Self(Rc::new(Core::new(time, None, Some(network))))
    }

    /// Runs until [`stop`](Self::stop) is called, or SIGINT or SIGTERM comes.
    ///
    /// When it returns, the shutdown triggers have run, every connection and port is closed, worker
    /// threads have ended, and delayed calls that were still waiting have been dropped. It may then
    /// be run again, as a fresh one would. What that means for a Deferred that still waited is told
    /// [on the front page](crate#what-the-end-of-a-run-drops).
    ///
    /// It returns no sooner than that: jobs that threads were given are done first, all of them, and
    /// the Deferreds of triggers *before* the shutdown are waited for. A second signal does not wait:
    /// it ends the program at once, with a record in the log, unless the program had a handler of its
    /// own for it. Of what connections have left to send, as much is sent as the system takes at once.
    ///
    /// Signal handlers are installed here and not before; [`run_without_signals`] installs none. A
    /// signal that is ignored when the first reactor runs stays ignored, where the system tells:
    /// shells start background jobs with SIGINT ignored.
    /// A reactor [in memory](Self::is_in_memory) does not wait: it moves its clock to the next
    /// delayed call instead.
    ///
    /// [`run_without_signals`]: Self::run_without_signals
    ///
    /// # Errors
    ///
    /// [`ReactorAlreadyRunningError`] when called from inside itself; an `io::Error` when the
    /// selector fails; [`NothingLeftError`](crate::testing::NothingLeftError) for a reactor in memory
    /// that would wait for ever.
    pub fn run(&self) -> Result<(), Failure> {
        self.run_until_stopped(true)
    }

    /// Like [`run`](Self::run), and leaves signals alone: for a second reactor in a program, or for
    /// one that handles signals in its own way.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn run_without_signals(&self) -> Result<(), Failure> {
        self.run_until_stopped(false)
    }

    /// Does one turn, for a program that has a loop of its own: waits for something to happen, for
    /// `timeout` at most, and does what there is to do. `false` when the reactor has stopped.
    ///
    /// The first turn starts the reactor, and from then on it counts as running, also between the
    /// turns: all is kept open, worker threads work, and [`run`](Self::run) is refused. After
    /// [`stop`](Self::stop) the turns go on until shutdown is done, and the last returns `false`;
    /// one more would start it again. A reactor that is dropped without having been stopped closes
    /// what it owns, without its shutdown triggers.
    ///
    /// What becomes due while it waits is done in the same turn. Duration zero does not wait, and
    /// `Duration::MAX` waits for as long as it takes, up to a day; systems count in milliseconds,
    /// and round up. Signals are left alone.
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
    /// [`ReactorAlreadyRunningError`] when called from inside itself or from inside `run`; an
    /// `io::Error` when the selector fails, after which the reactor has stopped.
    pub fn turn_once(&self, timeout: Duration) -> Result<bool, Failure> {
        self.turn_outside(timeout)
    }

    /// Ends [`run`](Self::run), once the turn at hand is over.
    ///
    /// Shutdown triggers run then, not in here.
    ///
    /// # Errors
    ///
    /// [`ReactorNotRunningError`] if it does not run, or was asked to stop before.
    pub fn stop(&self) -> Result<(), ReactorNotRunningError> {
        match self.0.state.get() {
            LifeState::Starting | LifeState::Running => {
                self.0.state.set(LifeState::Stopping);
                Ok(())
            }
            _ => Err(ReactorNotRunningError),
        }
    }

    /// Whether it runs: from the *during* phase of startup until that of shutdown.
    pub fn is_running(&self) -> bool {
        self.0.is_running.get()
    }

    /// Whether it stands on no system, but on a [`MemoryReactor`](crate::testing::MemoryReactor). For
    /// code that would start a thread of its own otherwise, and should not in a test.
    pub fn is_in_memory(&self) -> bool {
        self.0.network.is_some()
    }

    /// The signal that ended the last [`run`](Self::run), if it was one.
    pub fn exit_signal(&self) -> Option<i32> {
        self.0.exit_signal.get()
    }

    /// Calls `function` when the reactor runs: at once if it does, else after startup, in the order
    /// of the calls.
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

    /// Runs `function` when `event` comes, in `phase`.
    ///
    /// It returns `Ok(())`, an error, which is logged, or a Deferred, which in
    /// [`Phase::Before`] is waited for, while the loop goes on. All triggers of *before* are called
    /// first, then, when their Deferreds have fired, those of *during*, then those of *after*; within
    /// a phase in the order in which they were added. Connections and ports are closed between
    /// *before* and *during* of the shutdown. A trigger runs once and is gone then.
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

    /// Takes a trigger away before it has run.
    ///
    /// # Errors
    ///
    /// [`UnknownTriggerError`] if it has run or was removed before.
    pub fn remove_system_event_trigger(&self, id: TriggerId) -> Result<(), UnknownTriggerError> {
        self.0.triggers.remove(id)
    }

    /// Fires an event of the program's own; the Deferred fires when all its triggers have run.
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

    /// How the loop is doing: what it has done, how busy it is, how late ([`health`]).
    ///
    /// [`health`]: crate::health
    pub fn stats(&self) -> Stats {
        Stats {
            pending_timers: self.0.time.len(),
            ..self.monitor().stats()
        }
    }

    /// What tells other threads how the loop is doing, also while it is stuck.
    pub fn monitor(&self) -> Monitor {
        self.0.meter.monitor(self.0.inbox.queue())
    }

    /// Tells `observer` of every turn from now on, and of slow callbacks.
    #[track_caller]
    pub fn add_observer(&self, observer: impl ReactorObserver) -> ObserverId {
        self.0.meter.add_observer(Rc::new(observer))
    }

    /// Tells an observer no more.
    ///
    /// # Errors
    ///
    /// [`UnknownObserverError`] if it was removed before.
    pub fn remove_observer(&self, id: ObserverId) -> Result<(), UnknownObserverError> {
        self.0.meter.remove_observer(id)
    }

    /// Names callbacks that take longer than `limit`, from the next turn on; `None` ends that.
    ///
    /// Each is one `warn` record with the line that scheduled or added it, but no more than one in
    /// ten seconds for the same line; it is counted by line in [`Monitor::slow_callbacks`], and
    /// told to [observers](Self::add_observer). A callback of a Deferred is told apart from what
    /// fired it. While this is on, each event costs one clock read, and each callback of a Deferred
    /// that an event runs, two.
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

    /// The present moment; see [`ReactorTime::now`].
    pub fn now(&self) -> Instant {
        self.0.time.now()
    }

    /// Makes a call once `delay` has passed; see [`ReactorTime::call_later`]. For a result, see
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

    /// The calls that are waiting, in the order in which they are due.
    pub fn delayed_calls(&self) -> Vec<DelayedCall> {
        self.0.time.delayed_calls()
    }

    /// What other threads reach this reactor through.
    pub fn remote(&self) -> RemoteReactor {
        self.0.inbox.remote()
    }

    /// Runs a future, usually an `async` block, and fires with what it ends with.
    ///
    /// It is polled here and now; then inside the call that fires the Deferred which it awaits; and
    /// when something else wakes it, on whatever thread, in the next turn of this reactor. See
    /// [`deferred::awaiting`](crate::deferred::awaiting) for what holds.
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

    /// Runs `function` in a thread of the pool, for its effect; a panic in it is logged. For its
    /// result, see [`defer_to_thread`](crate::defer_to_thread).
    ///
    /// Given before the reactor runs, it waits for that. A run ends when all that were given are done.
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

    /// Sets how many threads the pool may have (10 unless set, and at least 1).
    pub fn suggest_thread_pool_size(&self, size: usize) {
        self.0.pool.resize(size);
    }

    /// How the pool is doing: its threads, its queue, and how long jobs have waited.
    pub fn thread_pool_stats(&self) -> ThreadPoolStats {
        self.0.pool.stats()
    }

    pub(crate) fn from_core(core: Rc<Core>) -> Self {
        Self(core)
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.0
    }

    /// Whether it neither runs nor stands between two turns of [`turn_once`](Self::turn_once).
    pub(crate) fn is_idle(&self) -> bool {
        self.0.state.get() == LifeState::Idle
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        // While there still is a reactor, so that whoever is told of the end may ask it anything.
        // One that has run has nothing to close.
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

/// `stop` was called on a reactor that does not run, or stops already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorNotRunningError;

impl fmt::Display for ReactorNotRunningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor does not run, or was asked to stop before")
    }
}

impl Error for ReactorNotRunningError {}

/// A reactor that runs was to be run, or one that is in a turn to be turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorAlreadyRunningError;

impl fmt::Display for ReactorAlreadyRunningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor is running already")
    }
}

impl Error for ReactorAlreadyRunningError {}
