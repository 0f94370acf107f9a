//! Time limits for Deferreds.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::{CancelledError, Canceller, Deferred, Failure, Outcome, TimeoutError};
use crate::time::ReactorTime;

impl<T> Deferred<T> {
    /// Cancels this Deferred if it has not fired after `timeout`; callbacks added so far are
    /// included (Twisted's `addTimeout`).
    ///
    /// The Deferred then fails with [`TimeoutError`], unless a canceller or an errback added before
    /// has replaced the [`CancelledError`]. Callbacks added later, and Deferreds that these return,
    /// have no time limit.
    ///
    /// A [list](crate::deferred_list) or a [race](crate::race) that is too slow fails with
    /// [`TimeoutError`] at once. Its inputs are cancelled, and their results are dropped.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use deferred_reactor::{Clock, Deferred, TimeoutError};
    /// let clock = Clock::new();
    /// let (deferred, _resolver) = Deferred::<()>::pending();
    /// let deferred = deferred.add_timeout(Duration::from_secs(10), &clock);
    /// clock.advance(Duration::from_secs(10));
    /// assert!(deferred.result().unwrap_err().is::<TimeoutError>());
    /// ```
    #[track_caller]
    pub fn add_timeout(self, timeout: Duration, clock: &impl ReactorTime) -> Self {
        let line = Location::caller();
        let end = move |canceller: &Canceller| canceller.time_is_up(line);
        self.limit(timeout, clock, end, move |result, timeout| match result {
            Err(failure) if failure.is::<CancelledError>() => {
                Err(Failure::cloneable_at(TimeoutError::new(timeout), line))
            }
            result => result,
        })
    }

    /// Like [`add_timeout`](Self::add_timeout), with a function that decides the result.
    ///
    /// After the time limit, once the Deferred has been cancelled, the function gets its result,
    /// usually a [`CancelledError`], and `timeout`; it returns the new result. A list that was
    /// cancelled ends by its rule, so the function may use the results that came in time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use deferred_reactor::{Clock, Deferred, Failure};
    /// let clock = Clock::new();
    /// let (page, _resolver) = Deferred::pending();
    /// let page = page.add_timeout_with(Duration::from_secs(1), &clock, |_, _| Ok("a stale copy"));
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(page.result()?, "a stale copy");
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn add_timeout_with<R: Outcome<Value = T>>(
        self,
        timeout: Duration,
        clock: &impl ReactorTime,
        on_timeout: impl FnOnce(Result<T, Failure>, Duration) -> R + 'static,
    ) -> Self {
        self.limit(timeout, clock, Canceller::cancel, on_timeout)
    }

    #[track_caller]
    fn limit<R: Outcome<Value = T>>(
        self,
        timeout: Duration,
        clock: &impl ReactorTime,
        end: impl FnOnce(&Canceller) + 'static,
        on_timeout: impl FnOnce(Result<T, Failure>, Duration) -> R + 'static,
    ) -> Self {
        if self.is_fired() {
            return self;
        }
        let is_up = Rc::new(Cell::new(false));
        let canceller = self.canceller();
        let flag = is_up.clone();
        let call = clock.call_later(timeout, move || {
            flag.set(true);
            end(&canceller);
        });
        self.add_both(move |result| {
            if is_up.get() {
                return on_timeout(result, timeout).into_deferred();
            }
            // Fired in time; the call is waiting, or its clock was dropped.
            let _ = call.cancel();
            Deferred::from_result(result)
        })
    }
}
