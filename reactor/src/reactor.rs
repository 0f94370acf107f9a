//! The loop itself.
//!
//! A *turn* does, in this order: the delayed calls that are due, the calls that other threads have
//! made, what connections want done (sending what was written, closing, going on with what was cut
//! short in the turn before), and then, asleep until something happens, the events of sockets.
//! Each of these takes only what was there when it began, so that nothing that keeps producing
//! work can keep the others from theirs.
//!
//! Whatever is called from here is called with nothing borrowed, so it may call anything; and with
//! its panics caught, so it can stop nothing but itself.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::{Event, Source};
use mio::{Events, Poll, Registry, Token, Waker};
use slab::Slab;

use crate::deferred::{Deferred, Failure, Outcome, block};
use crate::guard::{guard, guard_each};
use crate::health::{
    Callback, CallbackKind, Meter, Monitor, ObserverId, Place, ReactorObserver, Stats,
    UnknownObserverError,
};
use crate::net::memory::{Network, NothingLeftError};
use crate::net::{
    Address, CannotListenError, Clients, DatagramProtocol, Factory, Port, Spares, Transport,
    UdpPort,
};
use crate::threads::{Door, Pool, RemoteReactor, ThreadPoolStats, Waiting};
use crate::time::{DelayedCall, ReactorTime, TimeSource};
use crate::triggers::{Phase, SystemEvent, TriggerId, Triggers, UnknownTriggerError};

#[cfg(unix)]
use crate::signals::Signals;

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

/// What the reactor and the things it drives share.
pub(crate) struct Core {
    time: TimeSource,
    /// Borrowed only while asleep. `None` where there is a network in its place.
    poll: Option<RefCell<Poll>>,
    registry: Option<Registry>,
    /// What a reactor in memory has for a system.
    network: Option<Rc<Network>>,
    /// Taken out while its events are handled.
    events: Cell<Option<Events>>,
    slots: RefCell<Slab<Slot>>,
    next_generation: Cell<u32>,
    /// Those who want to be seen to before the next sleep.
    attention: RefCell<Vec<Rc<dyn Descriptor>>>,
    /// One for all connections; taken out while it is in use.
    read_buffer: Cell<Vec<u8>>,
    spares: RefCell<Spares>,
    /// Before the pool: its threads are joined when it is dropped, and none may wait here then.
    door: Door,
    pool: Pool,
    waiting: Waiting,
    clients: Clients,
    triggers: Rc<Triggers>,
    meter: Rc<Meter>,
    state: Cell<LifeState>,
    /// How often it was started.
    runs: Cell<u64>,
    /// Whether `run` or `turn_once` is on the stack.
    is_turning: Cell<bool>,
    /// From the *during* phase of startup until that of shutdown.
    is_running: Cell<bool>,
    /// How many ports and connectors use each shared factory.
    factories: RefCell<HashMap<usize, usize>>,
    exit_signal: Cell<Option<i32>>,
    #[cfg(unix)]
    signals: RefCell<Option<Signals>>,
}

/// What a reactor outside of tests stands on.
struct System {
    poll: Poll,
    registry: Registry,
    waker: Waker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LifeState {
    Idle,
    Starting,
    Running,
    /// Asked to stop; the shutdown triggers run when the turn is over.
    Stopping,
    /// The *before* triggers of shutdown are running, or their Deferreds are waited for.
    ShuttingDown,
    /// Those are done; the rest of the shutdown comes when the turn is over.
    Closing,
}

/// A registered socket.
struct Slot {
    /// Tells this socket from those that had the same slot before.
    generation: u32,
    /// `None` between registering and occupying.
    descriptor: Option<Rc<dyn Descriptor>>,
}

/// Names one registered socket. Never names another one, however often its slot is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SlotId {
    index: u32,
    generation: u32,
}

/// What a socket is watched for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interest {
    Read,
    Both,
}

/// What an event says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readiness {
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// The peer sends no more.
    pub(crate) has_hung_up: bool,
    /// Nothing can be sent any more: the connection broke, or both sides have closed it.
    pub(crate) cannot_send: bool,
    /// The system has an error to tell.
    pub(crate) has_failed: bool,
}

/// Something that the reactor drives (Twisted's `FileDescriptor`).
pub(crate) trait Descriptor {
    /// An event has come.
    fn ready(self: Rc<Self>, core: &Rc<Core>, readiness: Readiness);

    /// It had asked for attention.
    fn attend(self: Rc<Self>, core: &Rc<Core>);

    /// The reactor stops.
    fn shut_down(self: Rc<Self>, core: &Rc<Core>);

    /// What a protocol says to it, if it has one.
    fn transport(self: Rc<Self>) -> Option<Transport> {
        None
    }

    /// What it is called when it is slow.
    fn callback(&self) -> Callback {
        let kind = CallbackKind::Other("descriptor");
        Callback::new(kind, Place::Type(std::any::type_name::<Self>()))
    }

    /// The other end, for the record of a slow one.
    fn peer(&self) -> Option<Address> {
        None
    }
}

const WAKER: Token = Token(usize::MAX);
const SIGNAL: Token = Token(usize::MAX - 1);

/// A slot is named by half of a token, and its generation by the other half.
const HALF: u32 = usize::BITS / 2;

/// Events taken from the system at once.
const EVENTS_PER_TURN: usize = 1024;

/// The read buffer of a reactor.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// The longest sleep asked of the system; some take no more than 24 days.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 60 * 60);

impl Reactor {
    /// A reactor for this thread.
    ///
    /// # Errors
    ///
    /// When the system has no descriptors left for a selector and a waker.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        let system = System {
            poll,
            registry,
            waker,
        };
        Ok(Self::with(TimeSource::system(), Some(system), None))
    }

    /// A reactor that stands on nothing: see [`MemoryReactor`](crate::testing::MemoryReactor).
    pub(crate) fn in_memory(time: TimeSource, network: Rc<Network>) -> Self {
        Self::with(time, None, Some(network))
    }

    fn with(time: TimeSource, system: Option<System>, network: Option<Rc<Network>>) -> Self {
        let events = system
            .is_some()
            .then(|| Events::with_capacity(EVENTS_PER_TURN));
        let (poll, registry, waker) = match system {
            Some(system) => (
                Some(RefCell::new(system.poll)),
                Some(system.registry),
                Some(system.waker),
            ),
            None => (None, None, None),
        };
        let meter = Rc::new(Meter::new(time.now()));
        Self(Rc::new(Core {
            time,
            poll,
            registry,
            network,
            events: Cell::new(events),
            slots: RefCell::new(Slab::new()),
            next_generation: Cell::new(0),
            attention: RefCell::new(Vec::new()),
            read_buffer: Cell::new(Vec::new()),
            spares: RefCell::new(Spares::default()),
            door: Door::new(waker),
            pool: Pool::new(),
            waiting: RefCell::new(Slab::new()),
            clients: Clients::default(),
            triggers: Rc::new(Triggers::default()),
            meter,
            state: Cell::new(LifeState::Idle),
            runs: Cell::new(0),
            is_turning: Cell::new(false),
            is_running: Cell::new(false),
            factories: RefCell::new(HashMap::new()),
            exit_signal: Cell::new(None),
            #[cfg(unix)]
            signals: RefCell::new(None),
        }))
    }

    /// Runs until [`stop`](Self::stop) is called, or SIGINT or SIGTERM comes.
    ///
    /// When it returns, the shutdown triggers have run, every connection and port is closed, worker
    /// threads have ended, and delayed calls that were still waiting have been dropped. It may then
    /// be run again, as a fresh one would. What that means for a Deferred that still waited is told
    /// [on the front page](crate#what-the-end-of-a-run-drops).
    ///
    /// It returns no sooner than that: jobs that threads were given are done first, all of them, and
    /// the Deferreds of triggers *before* the shutdown are waited for. A second signal does not cut
    /// this short. Of what connections have left to send, as much is sent as the system takes at
    /// once.
    ///
    /// Signal handlers are installed here and not before; [`run_without_signals`] installs none.
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
        let core = &self.0;
        if core.is_turning.replace(true) {
            return Err(ReactorAlreadyRunningError.into());
        }
        if self.is_idle() {
            core.state.set(LifeState::Starting);
            core.exit_signal.set(None);
            self.start_up();
        }
        let outcome = self.turn_within(timeout);
        if !matches!(outcome, Ok(true)) {
            self.end_run();
        }
        core.is_turning.set(false);
        Ok(outcome?)
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
    pub fn call_when_running(&self, function: impl FnOnce() + 'static) {
        if self.is_running() {
            guard("a function given to call_when_running", function);
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
        self.0.meter.monitor(self.0.door.queue())
    }

    /// Tells `observer` of every turn from now on, and of slow callbacks.
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
        self.0.door.remote()
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
        block::start(Box::pin(future), Some(self.remote()), Location::caller())
    }

    /// Runs `function` in a thread of the pool, for its effect; a panic in it is logged. For its
    /// result, see [`defer_to_thread`](crate::defer_to_thread).
    ///
    /// Given before the reactor runs, it waits for that. A run ends when all that were given are done.
    pub fn call_in_thread(&self, function: impl FnOnce() + Send + 'static) {
        let pool = &self.0.pool;
        pool.submit(pool.next_ticket(), Box::new(function));
    }

    /// Sets how many threads the pool may have (10 unless set, and at least 1).
    pub fn suggest_thread_pool_size(&self, size: usize) {
        self.0.pool.resize(size);
    }

    /// How the pool is doing: its threads, its queue, and how long jobs have waited.
    pub fn thread_pool_stats(&self) -> ThreadPoolStats {
        self.0.pool.stats()
    }

    /// Opens a TCP port and makes a protocol for each connection to it.
    ///
    /// The address is `"127.0.0.1:8000"`, `("::1", 8000)`, a `SocketAddr` and so on. Port 0 takes a
    /// free one, which [`Port::address`] tells. A name is looked up here and now, which may block;
    /// where it has several addresses, the first that can be bound is taken. The port accepts when
    /// the reactor runs, and stays open until it stops; the [`Port`] need not be kept.
    ///
    /// [`for_protocol`](crate::net::for_protocol) makes a factory out of a function, and has an
    /// example.
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] with the address and the cause; the factory is not started then.
    #[track_caller]
    pub fn listen_tcp(
        &self,
        address: impl ToSocketAddrs + fmt::Debug,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        let line = Location::caller();
        crate::net::listen_tcp(&self.0, &address, Rc::new(factory), line)
            .map_err(|cause| CannotListenError::new(address, cause))
    }

    /// Opens a UDP port, and hands the datagrams that come to `protocol`.
    ///
    /// Port 0 takes a free one, which [`UdpPort::address`] tells. A name is looked up here and now,
    /// which may block; where it has several addresses, the first that can be bound is taken.
    /// Datagrams can be sent at once, and are received when the reactor runs.
    /// [`DatagramProtocol`] has an example.
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] with the address and the cause; the protocol is not started then. A
    /// reactor [in memory](Self::is_in_memory) has no datagrams, and says so.
    pub fn listen_udp(
        &self,
        address: impl ToSocketAddrs + fmt::Debug,
        protocol: impl DatagramProtocol,
    ) -> Result<UdpPort, CannotListenError> {
        crate::net::listen_udp(&self.0, &address, Box::new(protocol))
            .map_err(|cause| CannotListenError::new(address, cause))
    }

    pub(crate) fn from_core(core: Rc<Core>) -> Self {
        Self(core)
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.0
    }

    fn run_until_stopped(&self, with_signals: bool) -> Result<(), Failure> {
        let core = &self.0;
        if core.state.get() != LifeState::Idle {
            return Err(ReactorAlreadyRunningError.into());
        }
        core.state.set(LifeState::Starting);
        core.is_turning.set(true);
        core.exit_signal.set(None);
        core.meter.wakes(core.time.now(), &core.time);
        let outcome = self.live(with_signals);
        self.end_run();
        core.is_turning.set(false);
        outcome
    }

    /// Comes also after an error of the selector: what the loop drove must not outlive it half-open.
    fn end_run(&self) {
        let core = &self.0;
        core.close_all();
        core.stop_threads();
        core.remove_signals();
        core.is_running.set(false);
        core.state.set(LifeState::Idle);
        core.meter.sleeps(core.time.now(), &core.time);
    }

    /// Whether it neither runs nor stands between two turns of [`turn_once`](Self::turn_once).
    pub(crate) fn is_idle(&self) -> bool {
        self.0.state.get() == LifeState::Idle
    }

    /// From startup to the end of shutdown.
    fn live(&self, with_signals: bool) -> Result<(), Failure> {
        let core = &self.0;
        let _inside = core.network.as_ref().map(|network| network.enter());
        if with_signals {
            core.install_signals()?;
        }
        self.start_up();
        while self.step()? {
            if core.network.is_some() {
                core.pass_idle_time()?;
            }
        }
        Ok(())
    }

    fn start_up(&self) {
        let core = &self.0;
        core.door.let_wait();
        let run = core.runs.get() + 1;
        core.runs.set(run);
        let starting = Rc::downgrade(core);
        let begun = core.triggers.begin(SystemEvent::Startup);
        drop(begun.add_callback(move |()| {
            // What a trigger waited for may come when the run it was for is over.
            if let Some(core) = starting.upgrade()
                && core.runs.get() == run
                && core.state.get() != LifeState::Idle
            {
                // It may have been asked to stop in the meantime.
                if core.state.get() == LifeState::Starting {
                    core.state.set(LifeState::Running);
                    core.is_running.set(true);
                    if core.network.is_none() {
                        core.pool.start();
                    }
                }
                core.triggers.finish(SystemEvent::Startup);
            }
            Ok(())
        }));
    }

    /// Begins or finishes the shutdown, if it is time for that. `true` when it is over.
    #[inline]
    fn wind_up(&self) -> bool {
        let core = &self.0;
        if core.state.get() == LifeState::Stopping {
            self.begin_shutdown();
        }
        if core.state.get() == LifeState::Closing {
            self.finish_shutdown();
            return true;
        }
        false
    }

    /// A turn, or what comes between turns. `false` once it has shut down.
    #[inline]
    fn step(&self) -> io::Result<bool> {
        if self.wind_up() {
            return Ok(false);
        }
        self.turn()?;
        Ok(true)
    }

    /// Begins to run in memory, where turns are made by [`turn_in_memory`](Self::turn_in_memory).
    pub(crate) fn start_in_memory(&self) -> Result<(), ReactorAlreadyRunningError> {
        if !self.is_idle() {
            return Err(ReactorAlreadyRunningError);
        }
        self.0.state.set(LifeState::Starting);
        self.0.exit_signal.set(None);
        self.start_up();
        Ok(())
    }

    /// Makes one turn, if it runs, and is not called from inside one. Whether there is more to do at
    /// this moment.
    pub(crate) fn turn_in_memory(&self) -> bool {
        if self.is_idle() || self.0.is_turning.replace(true) {
            return false;
        }
        // Without a system, nothing in it fails.
        let goes_on = matches!(self.step(), Ok(true));
        if !goes_on {
            self.end_run();
        }
        self.0.is_turning.set(false);
        goes_on && self.0.has_work()
    }

    fn begin_shutdown(&self) {
        let core = &self.0;
        core.state.set(LifeState::ShuttingDown);
        let (waiting, run) = (Rc::downgrade(core), core.runs.get());
        let begun = core.triggers.begin(SystemEvent::Shutdown);
        drop(begun.add_callback(move |()| {
            // The last of them may be fired from anywhere, also from inside a protocol, which
            // cannot be told there that it is disconnected. So the loop does the rest.
            if let Some(core) = waiting.upgrade()
                && core.runs.get() == run
                && core.state.get() == LifeState::ShuttingDown
            {
                core.state.set(LifeState::Closing);
            }
            Ok(())
        }));
    }

    fn finish_shutdown(&self) {
        let core = &self.0;
        core.is_running.set(false);
        core.close_all();
        // Without threads, what they were given is done here.
        while core.network.is_some() && core.pool.work_here() {}
        core.stop_threads();
        // What the last jobs handed back still fires.
        self.make_thread_calls();
        core.triggers.finish(SystemEvent::Shutdown);
    }

    /// One turn of the loop.
    fn turn(&self) -> io::Result<()> {
        let _watch = self.0.meter.watch_turn();
        let looked = self.work();
        // A turn that ended the run must not go to sleep.
        if matches!(self.0.state.get(), LifeState::Stopping | LifeState::Closing) {
            return Ok(());
        }
        self.sleep(None, looked)
    }

    /// One turn, the other way round: what the sleep brings is done before it returns. `false` when
    /// the shutdown is over.
    fn turn_within(&self, timeout: Duration) -> io::Result<bool> {
        if self.wind_up() {
            return Ok(false);
        }
        let _watch = self.0.meter.watch_turn();
        self.sleep(Some(timeout.min(LONGEST_SLEEP)), None)?;
        self.work();
        let goes_on = !self.wind_up();
        // What comes until the next turn is not the loop's.
        self.0.meter.sleeps(self.0.time.now(), &self.0.time);
        Ok(goes_on)
    }

    /// The time, if it was looked at and nothing was called since.
    fn work(&self) -> Option<Instant> {
        let core = &self.0;
        if !core.meter.is_awake() {
            core.meter.wakes(core.time.now(), &core.time);
        }
        let looked = self.make_delayed_calls();
        let has_called = self.make_thread_calls();
        let has_attended = core.attend();
        looked.filter(|_| !has_called && !has_attended)
    }

    /// Sleeps until something happens, for `limit` at most, and handles the events. In memory it
    /// does not wait. Where the time is known it need not be read again.
    fn sleep(&self, limit: Option<Duration>, looked: Option<Instant>) -> io::Result<()> {
        let core = &self.0;
        // None inside of a turn, which nothing asks for.
        let (Some(poll), Some(mut events)) = (&core.poll, core.events.take()) else {
            core.deliver_in_memory();
            return Ok(());
        };
        let timeout = core.time_to_sleep(looked).into_iter().chain(limit).min();
        let polled = poll.borrow_mut().poll(&mut events, timeout);
        core.meter.wakes(core.time.begin_turn(), &core.time);
        let outcome = match polled {
            Ok(()) => {
                guard_each("a socket's event", events.iter(), |event| {
                    self.dispatch(event)
                });
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        };
        core.events.set(Some(events));
        outcome
    }

    /// The time, if it was looked at and nothing was called since.
    fn make_delayed_calls(&self) -> Option<Instant> {
        let (time, meter) = (&self.0.time, &self.0.meter);
        if time.is_empty() {
            return None;
        }
        // A call that schedules another is given a later moment than this.
        let now = time.begin_turn();
        let (mut count, mut lag) = (0, Duration::ZERO);
        while let Some(due) = time.next_of_turn(now) {
            // Those before it may have taken a while. It costs a clock read to know, so that is
            // for those who are told; else the first, which waited longest, stands for them all.
            if count == 0 {
                lag = now.saturating_duration_since(due.deadline());
            } else if meter.is_observed() {
                lag = lag.max(time.now().saturating_duration_since(due.deadline()));
            }
            count += 1;
            let frame = meter.begin();
            guard("a delayed call", || due.call());
            meter.end(frame, Callback::at(CallbackKind::DelayedCall, due.line()));
        }
        if count == 0 {
            return Some(now);
        }
        meter.count_delayed_calls(count, lag);
        None
    }

    /// Whether there were any.
    fn make_thread_calls(&self) -> bool {
        let (door, meter) = (&self.0.door, &self.0.meter);
        door.open();
        let mut count = 0;
        while let Some((line, call)) = door.next() {
            count += 1;
            let frame = meter.begin();
            guard("a call from another thread", || call(self));
            meter.end(frame, Callback::at(CallbackKind::ThreadCall, line));
        }
        meter.count_thread_calls(count);
        count > 0
    }

    fn dispatch(&self, event: &Event) {
        let core = &self.0;
        match event.token() {
            WAKER => {}
            SIGNAL => {
                if let Some(signal) = core.taken_signal() {
                    core.exit_signal.set(Some(signal));
                    // If it stops already, it goes on doing so.
                    let _ = self.stop();
                }
            }
            token => {
                if let Some(descriptor) = core.find(token) {
                    let readiness = Readiness {
                        is_readable: event.is_readable() || event.is_read_closed(),
                        is_writable: event.is_writable(),
                        has_hung_up: event.is_read_closed(),
                        cannot_send: event.is_write_closed(),
                        has_failed: event.is_error(),
                    };
                    core.hand_on(descriptor, readiness);
                }
            }
        }
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

impl Core {
    pub(crate) fn time(&self) -> &TimeSource {
        &self.time
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn spares(&self) -> RefMut<'_, Spares> {
        self.spares.borrow_mut()
    }

    pub(crate) fn take_read_buffer(&self) -> Vec<u8> {
        let mut buffer = self.read_buffer.take();
        if buffer.is_empty() {
            buffer.resize(READ_BUFFER_BYTES, 0);
        }
        buffer
    }

    pub(crate) fn put_read_buffer(&self, buffer: Vec<u8>) {
        self.read_buffer.set(buffer);
    }

    /// Puts a descriptor on the list of those that are seen to before the next sleep.
    pub(crate) fn want_attention(&self, descriptor: Rc<dyn Descriptor>) {
        self.attention.borrow_mut().push(descriptor);
    }

    /// The network of a reactor in memory.
    pub(crate) fn network(&self) -> Option<&Rc<Network>> {
        self.network.as_ref()
    }

    /// What a turn does where there is no system to ask.
    #[cold]
    fn deliver_in_memory(self: &Rc<Self>) {
        if let Some(network) = &self.network {
            self.pool.work_here();
            network.deliver(|slot, readiness| {
                if let Some(descriptor) = self.descriptor(slot) {
                    self.hand_on(descriptor, readiness);
                }
            });
            self.meter.sleeps(self.time.now(), &self.time);
        }
    }

    /// Whether there is something to do that nothing needs to happen for. Of a reactor in memory.
    pub(crate) fn has_work(&self) -> bool {
        matches!(self.state.get(), LifeState::Stopping | LifeState::Closing)
            || !self.attention.borrow().is_empty()
            || self.door.has_calls()
            || self.pool.has_queued()
            || self
                .network
                .as_ref()
                .is_some_and(|network| network.has_work())
            || self
                .time
                .next_deadline()
                .is_some_and(|deadline| deadline <= self.time.now())
    }

    /// Moves the clock to the next delayed call if there is nothing to do before that. Of a reactor
    /// in memory.
    fn pass_idle_time(&self) -> Result<(), NothingLeftError> {
        if self.has_work() {
            return Ok(());
        }
        let deadline = self.time.next_deadline().ok_or(NothingLeftError)?;
        self.time.set_now(deadline);
        Ok(())
    }

    /// What watches sockets; asked before one is opened that a reactor in memory does not have.
    pub(crate) fn system(&self) -> io::Result<&Registry> {
        self.registry.as_ref().ok_or_else(|| {
            let message = "a reactor in memory has TCP connections and no other sockets";
            io::Error::new(io::ErrorKind::Unsupported, message)
        })
    }

    /// Watches a socket, whose descriptor [`occupy`](Self::occupy)s the slot next.
    pub(crate) fn register(
        &self,
        socket: &mut impl Source,
        interest: Interest,
    ) -> io::Result<SlotId> {
        let registry = self.system()?;
        let id = self.add_slot();
        let interest = match interest {
            Interest::Read => mio::Interest::READABLE,
            Interest::Both => mio::Interest::READABLE | mio::Interest::WRITABLE,
        };
        if let Err(error) = registry.register(socket, id.token(), interest) {
            self.release(id);
            return Err(error);
        }
        Ok(id)
    }

    /// A slot for something that is told of events by other means than the selector.
    pub(crate) fn add_slot(&self) -> SlotId {
        let generation = self.next_generation.get();
        self.next_generation.set(generation.wrapping_add(1));
        let index = self.slots.borrow_mut().insert(Slot {
            generation,
            descriptor: None,
        });
        // There are fewer descriptors than that.
        SlotId {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation,
        }
    }

    pub(crate) fn occupy(&self, id: SlotId, descriptor: Rc<dyn Descriptor>) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(id.index as usize) {
            slot.descriptor = Some(descriptor);
        }
    }

    /// Frees the slot. Closing the socket ends the watch.
    pub(crate) fn release(&self, id: SlotId) {
        let mut slots = self.slots.borrow_mut();
        let is_same = |slot: &&mut Slot| slot.generation == id.generation;
        if slots.get_mut(id.index as usize).filter(is_same).is_some() {
            let released = slots.remove(id.index as usize);
            drop(slots); // the descriptor may be dropped here, with whatever it owns
            drop(released);
        }
    }

    /// The descriptor that an event is for, unless its slot has been given to another since.
    fn find(&self, token: Token) -> Option<Rc<dyn Descriptor>> {
        let id = SlotId::of(token);
        let slots = self.slots.borrow();
        let slot = slots.get(id.index as usize)?;
        (slot.generation & generation_mask() == id.generation)
            .then(|| slot.descriptor.clone())
            .flatten()
    }

    /// Who has this slot, unless it was given to another since.
    pub(crate) fn descriptor(&self, id: SlotId) -> Option<Rc<dyn Descriptor>> {
        self.find(id.token())
    }

    pub(crate) fn factory_opens(&self, factory: &dyn Factory) {
        let is_first = match factory.shared_identity() {
            None => true,
            Some(identity) => {
                let mut factories = self.factories.borrow_mut();
                let ports = factories.entry(identity).or_default();
                *ports += 1;
                *ports == 1
            }
        };
        if is_first {
            guard("start_factory", || factory.start_factory());
        }
    }

    pub(crate) fn factory_closed(&self, factory: &dyn Factory) {
        let is_last = match factory.shared_identity() {
            None => true,
            Some(identity) => {
                let mut factories = self.factories.borrow_mut();
                let ports = factories.entry(identity).or_default();
                *ports = ports.saturating_sub(1);
                let is_last = *ports == 0;
                if is_last {
                    factories.remove(&identity);
                }
                is_last
            }
        };
        if is_last {
            guard("stop_factory", || factory.stop_factory());
        }
    }

    /// Tells a descriptor what happened to it.
    pub(crate) fn hand_on(self: &Rc<Self>, descriptor: Rc<dyn Descriptor>, readiness: Readiness) {
        self.meter.count_event();
        self.watched(descriptor, |descriptor| descriptor.ready(self, readiness));
    }

    /// Calls a descriptor, timed if the turn is watched.
    fn watched(&self, descriptor: Rc<dyn Descriptor>, call: impl FnOnce(Rc<dyn Descriptor>)) {
        let Some(frame) = self.meter.begin() else {
            return call(descriptor);
        };
        let callback = descriptor.callback(); // which it may not know any more when it is lost
        call(descriptor.clone());
        self.meter.end_frame(frame, callback, || descriptor.peer());
    }

    /// Sees to those who have asked for it up to now. Whether there were any.
    fn attend(self: &Rc<Self>) -> bool {
        if self.attention.borrow().is_empty() {
            return false;
        }
        let mut asking = self.attention.take();
        guard_each("what a socket wanted", asking.drain(..), |descriptor| {
            self.watched(descriptor, |descriptor| descriptor.attend(self));
        });
        // Keeps the capacity, unless somebody has asked meanwhile.
        let mut attention = self.attention.borrow_mut();
        if attention.is_empty() {
            *attention = asking;
        }
        true
    }

    /// How long the selector may wait. `now` is the time where that is known.
    fn time_to_sleep(&self, now: Option<Instant>) -> Option<Duration> {
        if !self.attention.borrow().is_empty() {
            return Some(Duration::ZERO); // the turn ends with the next look at the clock
        }
        let mut now = now.unwrap_or_else(|| self.time.now());
        if self.meter.sleeps(now, &self.time) {
            // Those who were told may have done anything.
            now = self.time.now();
            let has_ended = matches!(self.state.get(), LifeState::Stopping | LifeState::Closing);
            if has_ended || !self.attention.borrow().is_empty() {
                return Some(Duration::ZERO);
            }
        }
        let deadline = self.time.next_deadline()?;
        Some(deadline.saturating_duration_since(now).min(LONGEST_SLEEP))
    }

    /// Closes every port and connection, and drops what waits for a time that will not come.
    fn close_all(self: &Rc<Self>) {
        // What is told of the end may open something new, but not for ever.
        for _ in 0..3 {
            self.clients.shut_down(self);
            let open: Vec<Rc<dyn Descriptor>> = self
                .slots
                .borrow()
                .iter()
                .filter_map(|(_, slot)| slot.descriptor.clone())
                .collect();
            guard_each("the end of a socket", open.into_iter(), |descriptor| {
                descriptor.shut_down(self);
            });
            guard_each(
                "the end of a socket",
                self.attention.take().into_iter(),
                drop,
            );
            self.time.clear();
        }
        self.clients.give_up(self);
    }

    /// Waits until the threads of the pool have ended, none of which may then wait for the loop.
    fn stop_threads(&self) {
        self.door.send_home();
        self.pool.stop();
    }

    #[cfg(unix)]
    fn install_signals(&self) -> io::Result<()> {
        let Some(registry) = &self.registry else {
            return Ok(());
        };
        let mut signals = Signals::install()?;
        registry.register(&mut signals.socket, SIGNAL, mio::Interest::READABLE)?;
        self.signals.replace(Some(signals));
        Ok(())
    }

    #[cfg(unix)]
    fn remove_signals(&self) {
        if let (Some(mut signals), Some(registry)) = (self.signals.take(), &self.registry) {
            let _ = registry.deregister(&mut signals.socket);
        }
    }

    #[cfg(unix)]
    fn taken_signal(&self) -> Option<i32> {
        self.signals.borrow().as_ref()?.take()
    }

    // Later: SetConsoleCtrlHandler through the same door, once somebody runs this on Windows.
    #[cfg(not(unix))]
    fn install_signals(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(unix))]
    fn remove_signals(&self) {}

    #[cfg(not(unix))]
    fn taken_signal(&self) -> Option<i32> {
        None
    }
}

fn generation_mask() -> u32 {
    u32::try_from(usize::MAX >> HALF).unwrap_or(u32::MAX)
}

impl SlotId {
    fn token(self) -> Token {
        Token(self.index as usize | ((self.generation & generation_mask()) as usize) << HALF)
    }

    fn of(token: Token) -> Self {
        Self {
            index: (token.0 & (usize::MAX >> HALF)) as u32,
            generation: (token.0 >> HALF) as u32,
        }
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
