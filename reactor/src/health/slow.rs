//! Detection of slow callbacks.
//!
//! While a reactor has a limit, each callback of its loop is a *frame* between two clock reads. So
//! is each callback of a Deferred inside it, and each function that a library [names](watch). A
//! frame that took longer than the limit is reported, innermost first, and its time is subtracted
//! from the frames around it. So the report names the slow callback and not its callers; and a loop
//! over a thousand fast callbacks is reported itself.
//!
//! The loop makes its callbacks one after another, so the end of one is the start of the next, and
//! each costs one clock read.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Callback, CallbackKind, Meter, Place};
use crate::net::Address;
use crate::time::now;

thread_local! {
    /// Whether the current turn, of a reactor of this thread, is watched.
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    /// Time in the current frame that was already reported.
    static TOLD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// The reactor that watches.
    static WATCHER: RefCell<Option<Rc<Meter>>> = const { RefCell::new(None) };
    /// Running callbacks of Deferreds, innermost last.
    static CALLBACKS: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// A reactor's settings for slow callbacks.
#[derive(Default)]
pub(crate) struct Settings {
    limit: Cell<Option<Duration>>,
    /// The limit in the current turn, if the turn is watched.
    of_turn: Cell<Option<Duration>>,
    before: Cell<Option<Before>>,
    /// The last clock read; `None` if unwatched code may have run since.
    pub(super) moment: Cell<Option<Instant>>,
}

/// A callback that is being measured.
#[derive(Debug)]
pub(crate) struct Frame {
    begun: Instant,
    /// Time already reported in the surrounding frame.
    told_outside: Duration,
}

/// Begins a callback of a Deferred.
///
/// Its frame is stored here, because the hot path of the caller has no room for it: the caller only
/// checks a flag twice, half a nanosecond in total.
#[inline]
pub(crate) fn callback_begins() {
    if IS_ON.get() {
        push_callback();
    }
}

/// Ends a callback of a Deferred, also after a panic. The flag has the same value as at the
/// beginning: code that changes it restores it before it returns.
#[inline]
pub(crate) fn callback_ends(added: &'static Location<'static>) {
    if IS_ON.get() {
        pop_callback(added);
    }
}

#[cold]
fn push_callback() {
    let frame = Frame::begin_at(now());
    CALLBACKS.with_borrow_mut(|frames| frames.push(frame));
}

#[cold]
fn pop_callback(added: &'static Location<'static>) {
    if let Some(frame) = CALLBACKS.with_borrow_mut(Vec::pop) {
        frame.end(Callback::at(CallbackKind::Deferred, added));
    }
}

/// Calls `function`, and reports it under its own name if it is slow.
///
/// For libraries that call functions of their users, so that reports name these and not the
/// library. Unless [`set_slow_callback_limit`](crate::Reactor::set_slow_callback_limit) is on and
/// the loop of that reactor is the caller, this only calls `function`.
///
/// ```
/// use std::panic::Location;
/// use deferred_reactor::health::{Callback, CallbackKind, Place, watch};
///
/// struct Route { handler: fn() -> u32, line: &'static Location<'static> }
///
/// fn answer(route: &Route) -> u32 {
///     let kind = CallbackKind::Other("route");
///     watch(|| Callback::new(kind, Place::Line(route.line)), route.handler)
/// }
///
/// assert_eq!(answer(&Route { handler: || 42, line: Location::caller() }), 42);
/// ```
#[inline]
pub fn watch<R>(name: impl FnOnce() -> Callback, function: impl FnOnce() -> R) -> R {
    /// Ends the frame also if the function panics.
    struct Ends<N: FnOnce() -> Callback>(Option<(Frame, N)>);
    impl<N: FnOnce() -> Callback> Drop for Ends<N> {
        fn drop(&mut self) {
            if let Some((frame, name)) = self.0.take() {
                frame.end(name());
            }
        }
    }
    let frame = IS_ON.get().then(|| Frame::begin_at(now()));
    let _ends = Ends(frame.map(|frame| (frame, name)));
    function()
}

impl Frame {
    #[cold]
    fn begin_at(begun: Instant) -> Self {
        Self {
            begun,
            told_outside: TOLD.replace(Duration::ZERO),
        }
    }

    #[cold]
    fn end(self, callback: Callback) {
        let watcher = WATCHER.with_borrow(Clone::clone);
        if let Some(meter) = watcher {
            self.end_at(now(), &meter, |slow| {
                meter.report(callback, slow, None);
            });
        }
    }

    /// Calls `report` if the frame was slow.
    fn end_at(self, ended: Instant, meter: &Meter, report: impl FnOnce(Slow)) {
        let elapsed = ended.saturating_duration_since(self.begun);
        let told_inside = TOLD.replace(self.told_outside);
        let time = elapsed.saturating_sub(told_inside);
        let slow = meter.slow.of_turn.get().filter(|limit| time > *limit);
        let told = match slow {
            Some(_) => elapsed,
            None => told_inside,
        };
        TOLD.set(self.told_outside + told);
        if let Some(limit) = slow {
            report(Slow { time, limit, ended });
            // The time of reporting counts for no frame.
            TOLD.set(TOLD.get() + now().saturating_duration_since(ended));
        }
    }
}

struct Slow {
    time: Duration,
    limit: Duration,
    ended: Instant,
}

/// Watches one turn, until dropped.
pub(crate) struct Watch(Rc<Meter>);

/// The state before the turn was watched, perhaps by another reactor.
struct Before {
    is_on: bool,
    told: Duration,
    watcher: Option<Rc<Meter>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.slow.of_turn.set(None);
        if let Some(before) = self.0.slow.before.take() {
            IS_ON.set(before.is_on);
            TOLD.set(before.told);
            WATCHER.set(before.watcher);
        }
    }
}

impl Meter {
    pub(crate) fn set_limit(&self, limit: Option<Duration>) {
        self.slow.limit.set(limit);
    }

    /// Starts to watch a turn, if there is a limit.
    #[inline]
    pub(crate) fn watch_turn(self: &Rc<Self>) -> Option<Watch> {
        self.begin_watch(self.slow.limit.get()?)
    }

    #[cold]
    fn begin_watch(self: &Rc<Self>, limit: Duration) -> Option<Watch> {
        if self.is_watching() {
            return None; // it is watched by a turn around this one
        }
        self.slow.of_turn.set(Some(limit));
        self.slow.moment.set(None);
        self.slow.before.set(Some(Before {
            is_on: IS_ON.replace(true),
            told: TOLD.replace(Duration::ZERO),
            watcher: WATCHER.replace(Some(self.clone())),
        }));
        Some(Watch(self.clone()))
    }

    /// Whether the current turn is watched.
    #[inline]
    pub(crate) fn is_watching(&self) -> bool {
        self.slow.of_turn.get().is_some()
    }

    /// Begins a frame of the loop, where the last one ended.
    #[inline]
    pub(crate) fn begin(&self) -> Option<Frame> {
        self.is_watching().then(|| {
            let moment = self.slow.moment.take();
            Frame::begin_at(moment.unwrap_or_else(now))
        })
    }

    #[inline]
    pub(crate) fn end(&self, frame: Option<Frame>, callback: Callback) {
        if let Some(frame) = frame {
            self.end_frame(frame, callback, || None);
        }
    }

    #[cold]
    pub(crate) fn end_frame(
        &self,
        frame: Frame,
        callback: Callback,
        peer: impl FnOnce() -> Option<Address>,
    ) {
        let ended = now();
        self.slow.moment.set(Some(ended));
        frame.end_at(ended, self, |slow| {
            self.report(callback, slow, peer());
            // The observers took some time.
            self.slow.moment.set(None);
        });
    }

    fn report(&self, callback: Callback, slow: Slow, peer: Option<Address>) {
        /// Code called from here is not watched.
        struct Off(bool);
        impl Drop for Off {
            fn drop(&mut self) {
                IS_ON.set(self.0);
            }
        }
        let _off = Off(IS_ON.replace(false));
        let Slow { time, limit, ended } = slow;
        let shared = self.shared();
        let count = shared.slow_callbacks.load(Relaxed);
        shared.slow_callbacks.store(count + 1, Relaxed);
        let report = SlowCallback {
            callback,
            time,
            limit,
            peer,
        };
        if let Some(unlogged) = shared.lines.count(callback, time, ended) {
            report.log(unlogged);
        }
        self.tell(|observer| observer.slow_callback(&report));
    }
}

/// A callback that was slow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowCallback {
    /// The callback.
    pub callback: Callback,
    /// How long it held the loop, without the time of slow callbacks inside it, which are reported
    /// separately.
    pub time: Duration,
    /// The limit that it exceeded.
    pub limit: Duration,
    /// The peer of the connection, if the callback is a protocol's.
    pub peer: Option<Address>,
}

impl SlowCallback {
    fn log(&self, unlogged: u64) {
        let Self {
            callback,
            time,
            limit,
            ..
        } = self;
        let peer = match &self.peer {
            Some(peer) => format!(" of the connection with {peer}"),
            None => String::new(),
        };
        let more = match unlogged {
            0 => String::new(),
            more => format!("; it was slow {more} more times since the last such record"),
        };
        crate::logging::warn!(
            target: "reactor",
            "slow callback: {callback}{peer} held the loop for {time:?} (limit {limit:?}){more}"
        );
    }
}

/// Slow callbacks of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowCallbacks {
    /// The callback.
    pub callback: Callback,
    /// Number of slow calls.
    pub count: u64,
    /// Total time of the slow calls.
    pub total: Duration,
    /// Time of the slowest call.
    pub longest: Duration,
}

/// Slow callbacks by place.
#[derive(Default)]
pub(crate) struct SlowPlaces(Mutex<HashMap<Callback, SlowPlace>>);

struct SlowPlace {
    slow: SlowCallbacks,
    logged: Instant,
    unlogged: u64,
}

/// Minimum interval between two records of one place; further calls are only counted.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of places: generated code may have very many lines.
const MOST_LINES: usize = 1000;

/// Counts the slow callbacks of further places.
const OTHERS: Callback = Callback::new(CallbackKind::Other("callbacks"), Place::Type("other"));

impl SlowPlaces {
    /// Counts a slow callback. If it is to be logged, returns the number of unlogged ones since the
    /// last record.
    fn count(&self, callback: Callback, time: Duration, now: Instant) -> Option<u64> {
        let mut lines = self.0.lock();
        let has_room = lines.len() < MOST_LINES || lines.contains_key(&callback);
        let callback = if has_room { callback } else { OTHERS };
        let mut is_new = false;
        let line = lines.entry(callback).or_insert_with(|| {
            is_new = true;
            SlowPlace {
                slow: SlowCallbacks {
                    callback,
                    count: 0,
                    total: Duration::ZERO,
                    longest: Duration::ZERO,
                },
                logged: now,
                unlogged: 0,
            }
        });
        line.slow.count += 1;
        line.slow.total += time;
        line.slow.longest = line.slow.longest.max(time);
        if is_new || now.saturating_duration_since(line.logged) >= LOG_INTERVAL {
            line.logged = now;
            return Some(std::mem::take(&mut line.unlogged));
        }
        line.unlogged += 1;
        None
    }

    pub(super) fn list(&self) -> Vec<SlowCallbacks> {
        let mut list: Vec<_> = self.0.lock().values().map(|line| line.slow).collect();
        list.sort_by_key(|slow| std::cmp::Reverse(slow.count));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: CallbackKind = CallbackKind::Protocol;

    fn named(name: &'static str) -> Callback {
        Callback::new(TYPE, Place::Type(name))
    }

    /// B-06.
    #[test]
    fn a_place_is_logged_once_in_an_interval_and_the_others_are_counted() {
        let (lines, start) = (SlowPlaces::default(), Instant::now());
        let ms = Duration::from_millis;
        let times = [
            (0, Some(0)),
            (1, None),
            (9_999, None),
            (10_000, Some(2)),
            (10_001, None),
            (60_000, Some(1)),
            (70_000, Some(0)),
        ];
        for (at, want) in times {
            assert_eq!(
                lines.count(named("a"), ms(at), start + ms(at)),
                want,
                "{at}"
            );
        }
        assert_eq!(lines.count(named("b"), ms(1), start + ms(1)), Some(0));
        let list = lines.list();
        assert_eq!(list[0].callback, named("a"));
        assert_eq!((list[0].count, list[0].longest), (7, ms(70_000)));
        assert_eq!((list[1].count, list[1].total), (1, ms(1)));
    }

    /// B-06: labels are a closed set, whatever a program does.
    #[test]
    fn places_beyond_a_thousand_are_counted_together() {
        let (lines, now) = (SlowPlaces::default(), Instant::now());
        for n in 0..MOST_LINES + 50 {
            let name = Box::leak(n.to_string().into_boxed_str());
            for _ in 0..2 {
                lines.count(named(name), Duration::from_secs(1), now);
            }
        }
        let list = lines.list();
        assert_eq!(list.len(), MOST_LINES + 1);
        assert_eq!((list[0].callback, list[0].count), (OTHERS, 100));
        assert!(list[1..].iter().all(|slow| slow.count == 2));
    }
}
