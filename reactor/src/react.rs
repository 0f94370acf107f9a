//! Running a reactor until a Deferred fires.
//!
//! [`react`] is a whole program: it makes a reactor, calls a function, runs until the Deferred that the function returned has fired, and returns the exit code. [`Reactor::run_until`] does the same with an existing Deferred and reactor, and returns the result.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use crate::deferred::{AbandonedError, Deferred, Failure, Outcome, call_for};
use crate::reactor::{Reactor, ReactorAlreadyRunningError};
use crate::triggers::{Phase, SystemEvent};

/// Runs a program to the end of its main Deferred (Twisted's `task.react`).
///
/// `main` is called before the reactor runs. It returns `Ok(())`, an error or a `Deferred<()>`,
/// often that of a [spawned](Reactor::spawn) block. When the Deferred has fired, the reactor is
/// stopped. The exit code is
///
/// - 0 if the Deferred succeeded;
/// - the code of an [`ExitRequest`], if it failed with one;
/// - 1 if it failed with anything else. The failure is logged; if the logger takes no records of
///   level `error`, it is written to standard error instead.
///
/// If the reactor is stopped by something else, such as SIGINT, and the Deferred has not fired by
/// the end of the shutdown, the exit code is 0. A program with an `async` main function is
/// `react(|reactor| reactor.spawn(main_task(reactor.clone())))`.
///
/// ```
/// use std::process::ExitCode;
/// use std::time::Duration;
/// use deferred_reactor::{Reactor, defer_later, react};
///
/// fn main() -> ExitCode {
///     react(|reactor| {
///         defer_later(&reactor, Duration::from_millis(5), || {
///             println!("hello, five milliseconds later");
///             Ok(())
///         })
///     })
/// }
/// ```
#[track_caller]
pub fn react<R: Outcome<Value = ()>>(main: impl FnOnce(Reactor) -> R) -> ExitCode {
    let line = Location::caller();
    let result = Reactor::new().map_err(Failure::from).and_then(|reactor| {
        let ended = call_for(line, || main(reactor.clone()));
        reactor.run_while_pending(ended)?.unwrap_or(Ok(()))
    });
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    if let Some(request) = failure.check::<ExitRequest>() {
        return ExitCode::from(request.code);
    }
    if log::log_enabled!(target: "reactor", log::Level::Error) {
        crate::logging::error!(target: "reactor", "the main function given to react failed: {failure:#?}");
    } else {
        eprintln!("Error: {failure:?}");
    }
    ExitCode::FAILURE
}

impl Reactor {
    /// Runs until `deferred` has fired, and returns its result.
    ///
    /// This is a whole [`run`](Self::run), with the startup triggers, the shutdown triggers and
    /// signals. Everything is closed when it returns, even if the Deferred had already fired before
    /// the call. To check a Deferred between the turns of a reactor that keeps running, see
    /// [`turn_once`](Self::turn_once).
    ///
    /// ```
    /// use std::time::Duration;
    /// use deferred_reactor::{Failure, Reactor, defer_to_thread, sleep};
    ///
    /// let reactor = Reactor::new()?;
    /// let sum = defer_to_thread(&reactor, || Ok((1..=10).sum::<i32>()));
    /// assert_eq!(reactor.run_until(sum)?, 55);
    ///
    /// reactor.run_until(sleep(&reactor, Duration::from_millis(5)))?; // and once more
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The failure of the Deferred; [`ReactorStoppedError`] if the reactor was stopped before the
    /// Deferred fired; and the errors of [`run`](Self::run).
    pub fn run_until<T: 'static>(&self, deferred: Deferred<T>) -> Result<T, Failure> {
        self.run_while_pending(deferred)?.unwrap_or_else(|| {
            let signal = self.exit_signal();
            Err(ReactorStoppedError { signal }.into())
        })
    }

    /// Returns the result of the Deferred, or `None` if something else stopped the reactor before.
    fn run_while_pending<T: 'static>(
        &self,
        deferred: Deferred<T>,
    ) -> Result<Option<Result<T, Failure>>, Failure> {
        if !self.is_idle() {
            return Err(ReactorAlreadyRunningError.into());
        }
        let wait = Rc::new(Wait {
            result: Cell::new(None),
            is_over: Cell::new(false),
            was_stopped: Cell::new(false),
        });
        let (waiting, core) = (wait.clone(), Rc::downgrade(self.core()));
        let ended = deferred.add_both(move |result| {
            if waiting.is_over.get() {
                // The run is over. A failure is still unhandled, except that an abandoned Deferred
                // is none.
                return match result {
                    Err(failure) if !failure.is::<AbandonedError>() => Err(failure),
                    _ => Ok(()),
                };
            }
            waiting.result.set(Some(result));
            if let Some(core) = core.upgrade() {
                let reactor = Self::from_core(core);
                // If the reactor has not started to run, it is stopped once it has.
                let is_stopped = reactor.stop().is_err() && !reactor.is_idle();
                waiting.was_stopped.set(is_stopped);
            }
            Ok(())
        });
        let stop = ended.is_fired().then(|| {
            let core = Rc::downgrade(self.core());
            self.add_system_event_trigger(Phase::After, SystemEvent::Startup, move || {
                if let Some(core) = core.upgrade() {
                    let _ = Self::from_core(core).stop();
                }
                Ok(())
            })
        });
        let outcome = self.run();
        wait.is_over.set(true);
        if let Some(stop) = stop {
            let _ = self.remove_system_event_trigger(stop); // it never came to run
        }
        outcome?;
        let result = wait.result.take();
        // The shutdown may have dropped what the Deferred waited for.
        let is_lost = |result: &Result<T, Failure>| {
            wait.was_stopped.get() && result.as_ref().is_err_and(Failure::is::<AbandonedError>)
        };
        Ok(result.filter(|result| !is_lost(result)))
    }

    /// Runs for `duration`, or until the reactor is stopped. This is a whole [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    #[track_caller]
    pub fn run_for(&self, duration: Duration) -> Result<(), Failure> {
        let core = Rc::downgrade(self.core());
        let stop = self.call_later(duration, move || {
            if let Some(core) = core.upgrade() {
                let _ = Self::from_core(core).stop();
            }
        });
        let outcome = self.run();
        let _ = stop.cancel(); // it is still there if the run was refused
        outcome
    }
}

/// State shared by a run and the Deferred that ends it.
struct Wait<T> {
    result: Cell<Option<Result<T, Failure>>>,
    /// The run has returned; the result is no longer looked at.
    is_over: Cell<bool>,
    /// Something else had stopped the reactor before the result came.
    was_stopped: Cell<bool>,
}

/// Ends a program that runs under [`react`] with this exit code; nothing is logged (Twisted's
/// `SystemExit`).
///
/// ```
/// # use std::process::ExitCode;
/// # use deferred_reactor::{ExitRequest, react};
/// let code = react(|_reactor| Err(ExitRequest::new(3).into()));
/// assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(3)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExitRequest {
    /// The exit code of the program.
    pub code: u8,
}

impl ExitRequest {
    /// Requests the exit code `code`.
    pub fn new(code: u8) -> Self {
        Self { code }
    }
}

impl fmt::Display for ExitRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program asks to exit with code {}", self.code)
    }
}

impl Error for ExitRequest {}

/// The reactor was stopped before the Deferred given to [`run_until`](Reactor::run_until) fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReactorStoppedError {
    /// The signal that stopped the reactor, if a signal did.
    pub signal: Option<i32>,
}

impl fmt::Display for ReactorStoppedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor was stopped ")?;
        if let Some(signal) = self.signal {
            write!(f, "by signal {signal} ")?;
        }
        f.write_str("before the Deferred given to run_until fired")
    }
}

impl Error for ReactorStoppedError {}
