//! The loop itself.
//!
//! The order of a [turn](crate#turns), counted from its wake-up, is: events of sockets, delayed
//! calls that are due, calls from other threads, requested service of connections.
//! [`Reactor::turn`] starts after the events and ends with the sleep that brings the next ones.
//! Each step takes only the work that existed when the step began, so that work which creates more
//! work cannot starve the rest.
//!
//! Callbacks run with no internal borrow held, so they may call any API; and with their panics
//! caught, so a panic ends only the callback itself.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Event;

use super::core::{Core, Descriptor, Readiness, SIGNAL, WAKER};
use super::{Reactor, ReactorAlreadyRunningError};
use crate::deferred::Failure;
use crate::guard::{guard, guard_each};
use crate::health::{Callback, CallbackKind};
use crate::net::memory::NothingLeftError;
#[cfg(unix)]
use crate::signals::Signals;
use crate::triggers::SystemEvent;

/// Where a reactor is between starting and having stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LifeState {
    Idle,
    Starting,
    Running,
    /// Asked to stop; the shutdown triggers run when the turn is over.
    Stopping,
    /// The *before* triggers of the shutdown are running, or their Deferreds are pending.
    ShuttingDown,
    /// The *before* triggers are done; the shutdown is finished after the turn.
    Closing,
}

/// The longest sleep asked of the system; some take no more than 24 days.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 60 * 60);

impl Reactor {
    pub(super) fn run_until_stopped(&self, with_signals: bool) -> Result<(), Failure> {
        let core = &self.0;
        if core.state.get() != LifeState::Idle {
            return Err(ReactorAlreadyRunningError.into());
        }
        core.state.set(LifeState::Starting);
        core.is_turning.set(true);
        core.exit_signal.set(None);
        core.meter.wakes(core.time.begin_turn(), &core.time);
        let outcome = self.live(with_signals);
        self.end_run();
        core.is_turning.set(false);
        outcome
    }

    /// One turn for the program's own loop; the first one starts the reactor.
    pub(super) fn turn_outside(&self, timeout: Duration) -> Result<bool, Failure> {
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

    /// Called also after an error of the selector: connections and ports must not stay half-open.
    fn end_run(&self) {
        let core = &self.0;
        core.close_all();
        core.stop_threads();
        core.remove_signals();
        core.is_running.set(false);
        core.state.set(LifeState::Idle);
        core.meter.sleeps(core.time.now(), &core.time);
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
        core.inbox.allow_waiting();
        let run = core.runs.get() + 1;
        core.runs.set(run);
        let starting = Rc::downgrade(core);
        let begun = core.triggers.begin(SystemEvent::Startup);
        drop(begun.add_callback(move |()| {
            // The Deferred of a trigger may fire after the run that it belongs to.
            if let Some(core) = starting.upgrade()
                && core.runs.get() == run
                && core.state.get() != LifeState::Idle
            {
                // `stop` may have been called in the meantime.
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

    /// Begins or finishes the shutdown, if it is due. Returns `true` when the shutdown is over.
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

    /// Makes one turn, or one step of the shutdown. Returns `false` once the reactor has shut down.
    #[inline]
    fn step(&self) -> io::Result<bool> {
        if self.wind_up() {
            return Ok(false);
        }
        self.turn()?;
        Ok(true)
    }

    /// Starts a reactor in memory, whose turns are made by
    /// [`turn_in_memory`](Self::turn_in_memory).
    pub(crate) fn start_in_memory(&self) -> Result<(), ReactorAlreadyRunningError> {
        if !self.is_idle() {
            return Err(ReactorAlreadyRunningError);
        }
        self.0.state.set(LifeState::Starting);
        self.0.exit_signal.set(None);
        self.start_up();
        Ok(())
    }

    /// Makes one turn, if the reactor is running and not inside a turn. Returns whether more work
    /// is due now.
    pub(crate) fn turn_in_memory(&self) -> bool {
        if self.is_idle() || self.0.is_turning.replace(true) {
            return false;
        }
        // No system call is made, so nothing can fail.
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
            // The last Deferred may be fired inside a protocol, which cannot be notified there of
            // the end of its connection. So the loop finishes the shutdown.
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
        // A reactor in memory has no threads; their jobs are done here.
        while core.network.is_some() && core.pool.work_here() {}
        core.stop_threads();
        // Fires the Deferreds of the last jobs.
        self.make_thread_calls();
        core.triggers.finish(SystemEvent::Shutdown);
    }

    /// One turn of the loop.
    fn turn(&self) -> io::Result<()> {
        let _watch = self.0.meter.watch_turn();
        let looked = self.work();
        // After a turn that ended the run, the loop must not sleep.
        if matches!(self.0.state.get(), LifeState::Stopping | LifeState::Closing) {
            return Ok(());
        }
        self.sleep(None, looked)
    }

    /// Makes one turn that begins with the sleep, so that the events of the sleep are handled
    /// before it returns. Returns `false` when the shutdown is over.
    fn turn_within(&self, timeout: Duration) -> io::Result<bool> {
        if self.wind_up() {
            return Ok(false);
        }
        let _watch = self.0.meter.watch_turn();
        self.sleep(Some(timeout.min(LONGEST_SLEEP)), None)?;
        self.work();
        let goes_on = !self.wind_up();
        // Time between two turns belongs to the program, not to the loop.
        self.0.meter.sleeps(self.0.time.now(), &self.0.time);
        Ok(goes_on)
    }

    /// Returns the time, if the clock was read and no callback ran since.
    fn work(&self) -> Option<Instant> {
        let core = &self.0;
        if !core.meter.is_awake() {
            core.meter.wakes(core.time.now(), &core.time);
        }
        let looked = self.make_delayed_calls();
        let has_called = self.make_thread_calls();
        let has_serviced = core.service_all();
        looked.filter(|_| !has_called && !has_serviced)
    }

    /// Sleeps until something happens, at most for `limit`, and handles the events. A reactor in
    /// memory does not sleep. `looked` is the time, if it is known; it saves a clock read.
    fn sleep(&self, limit: Option<Duration>, looked: Option<Instant>) -> io::Result<()> {
        let core = &self.0;
        // `events` is taken only inside a turn, where nothing calls this.
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

    /// Returns the time, if the clock was read and no callback ran since.
    fn make_delayed_calls(&self) -> Option<Instant> {
        let (time, meter) = (&self.0.time, &self.0.meter);
        if time.is_empty() {
            return None;
        }
        // A call scheduled by another call gets a later time than `looked`.
        let (now, looked) = time.begin_calls();
        let (mut count, mut lag) = (0, Duration::ZERO);
        while let Some(due) = time.next_of_turn(looked) {
            // Earlier calls may have taken a while. Knowing costs a clock read, made only for
            // observers; otherwise the first call, which waited longest, stands for all.
            if count == 0 {
                lag = now.saturating_duration_since(due.deadline());
            } else if meter.is_observed() {
                lag = lag.max(time.now().saturating_duration_since(due.deadline()));
            }
            count += 1;
            let frame = meter.begin();
            let callback = Callback::at(CallbackKind::DelayedCall, due.line());
            guard(callback, || due.call());
            meter.end(frame, callback);
        }
        if count == 0 {
            return Some(now);
        }
        meter.count_delayed_calls(count, lag);
        None
    }

    /// Returns whether there were any calls.
    fn make_thread_calls(&self) -> bool {
        let (inbox, meter) = (&self.0.inbox, &self.0.meter);
        inbox.begin_turn();
        let mut count = 0;
        while let Some((line, call)) = inbox.next() {
            count += 1;
            let frame = meter.begin();
            let callback = Callback::at(CallbackKind::ThreadCall, line);
            guard(callback, || call(self));
            meter.end(frame, callback);
        }
        meter.count_thread_calls(count);
        count > 0
    }

    /// The first signal of a run stops the reactor; the second ends the program.
    fn signalled(&self, signal: i32) {
        let core = &self.0;
        #[cfg(unix)]
        if let Some(first) = core.exit_signal.get()
            && crate::signals::ends_the_program(signal)
        {
            crate::logging::error!(
                target: "reactor",
                "signal {signal} arrived while the reactor was stopping because of signal {first}: \
                 the program ends at once"
            );
            log::logger().flush();
            crate::signals::end_the_program(signal);
        }
        if core.exit_signal.get().is_none() {
            core.exit_signal.set(Some(signal));
        }
        // A reactor that is stopping already continues to stop.
        let _ = self.stop();
    }

    fn dispatch(&self, event: &Event) {
        let core = &self.0;
        match event.token() {
            WAKER => {}
            SIGNAL => {
                if let Some(signal) = core.taken_signal() {
                    self.signalled(signal);
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

impl Core {
    /// Takes the place of the selector in a reactor in memory.
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

    /// Whether a reactor in memory has work that is due now.
    fn has_work(&self) -> bool {
        matches!(self.state.get(), LifeState::Stopping | LifeState::Closing)
            || !self.service_requests.borrow().is_empty()
            || self.inbox.has_calls()
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

    /// Moves the clock of a reactor in memory to the next delayed call, if no other work is due
    /// before.
    fn pass_idle_time(&self) -> Result<(), NothingLeftError> {
        if self.has_work() {
            return Ok(());
        }
        let deadline = self.time.next_deadline().ok_or(NothingLeftError)?;
        self.time.set_now(deadline);
        Ok(())
    }

    /// Services the descriptors that have requested it so far. Returns whether there were any.
    fn service_all(self: &Rc<Self>) -> bool {
        if self.service_requests.borrow().is_empty() {
            return false;
        }
        let mut asking = self.service_requests.take();
        guard_each("the service of a socket", asking.drain(..), |descriptor| {
            self.watched(descriptor, |descriptor| descriptor.service(self));
        });
        // Keeps the capacity of the vector, unless new requests have come in.
        let mut requests = self.service_requests.borrow_mut();
        if requests.is_empty() {
            *requests = asking;
        }
        true
    }

    /// How long the selector may wait. `now` is the time, if it is known.
    fn time_to_sleep(&self, now: Option<Instant>) -> Option<Duration> {
        if !self.service_requests.borrow().is_empty() {
            return Some(Duration::ZERO); // the turn ends with the next look at the clock
        }
        let mut now = now.unwrap_or_else(|| self.time.now());
        if self.meter.sleeps(now, &self.time) {
            // Observers may have done anything.
            now = self.time.now();
            let has_ended = matches!(self.state.get(), LifeState::Stopping | LifeState::Closing);
            if has_ended || !self.service_requests.borrow().is_empty() {
                return Some(Duration::ZERO);
            }
        }
        let deadline = self.time.next_deadline()?;
        Some(deadline.saturating_duration_since(now).min(LONGEST_SLEEP))
    }

    /// Closes every port and connection, and drops the delayed calls.
    pub(super) fn close_all(self: &Rc<Self>) {
        // Code that is notified of the end may open new connections, so this is done more than
        // once, but not endlessly.
        for _ in 0..3 {
            self.clients.shut_down(self);
            let open: Vec<Rc<dyn Descriptor>> = self
                .slots
                .borrow()
                .iter()
                .filter_map(|(_, slot)| slot.descriptor.clone())
                .collect();
            guard_each("the closing of a socket", open.into_iter(), |descriptor| {
                descriptor.shut_down(self);
            });
            guard_each(
                "the closing of a socket",
                self.service_requests.take().into_iter(),
                drop,
            );
            self.time.clear();
        }
        self.clients.give_up(self);
    }

    /// Waits until the threads of the pool have ended. Threads that wait for the loop are released
    /// first.
    fn stop_threads(&self) {
        self.inbox.end_waiting();
        #[cfg(unix)]
        let _ends = self.give_a_way_out();
        self.pool.stop();
    }

    /// The loop does not handle signals while it waits for jobs in threads, so a signal ends the
    /// program meanwhile.
    #[cfg(unix)]
    fn give_a_way_out(&self) -> Option<impl Drop + use<>> {
        let signals = self.signals.borrow();
        let (signals, stats) = (signals.as_ref()?, self.pool.stats());
        let jobs = stats.active + stats.queued;
        if jobs == 0 {
            return None;
        }
        let signal = self.exit_signal.get();
        let way_out = signals.let_them_end_the_program(signal.is_none());
        // In this order: a reader of the record may send another signal at once.
        if let Some(signal) = signal {
            crate::logging::warn!(
                target: "reactor",
                "signal {signal} stops the reactor once the jobs in its threads are done ({jobs} left); \
                 another signal ends the program at once"
            );
        }
        way_out
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

    // Later: SetConsoleCtrlHandler through the same path, once somebody runs this on Windows.
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
