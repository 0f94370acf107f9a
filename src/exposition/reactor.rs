//! The measurements of a reactor, as metrics.
//!
//! ```text
//! Reactor ──turn by turn──▶ ReactorObserver ──▶ two histograms ─┐
//!    └────── atomics ─────▶ Monitor ── read by each scrape ─────┴──▶ Registry
//! ```
//!
//! The loop updates the histograms at the end of each turn, which takes some 75 ns. All other
//! values are read during a scrape. A scrape on another thread, such as that of a
//! [`MetricsServer`](super::MetricsServer), therefore shows a stuck loop while it is stuck.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deferred_reactor::Reactor;
use deferred_reactor::deferred::{PendingDeferreds, pending_deferreds};
use deferred_reactor::health::{Monitor, ObserverId, Place, ReactorObserver, Stats, Turn};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// The measurements of one reactor, in a registry.
///
/// One call when the reactor is made, on its thread:
///
/// ```
/// use prometheus::Registry;
/// use prometheus_deferred::{Failure, MetricsServer, Reactor};
/// use prometheus_deferred::exposition::ReactorMetrics;
///
/// let reactor = Reactor::new()?;
/// let registry = Registry::new();
/// ReactorMetrics::register(&reactor, &registry)?;
/// let server = MetricsServer::spawn_with_registry("127.0.0.1:0", registry)?;
/// # let stop = reactor.clone();
/// # reactor.call_when_running(move || stop.stop().expect("it runs"));
/// reactor.run()?;
/// # Ok::<(), Failure>(())
/// ```
///
/// Every sample has a label `reactor`, which is `main` unless
/// [`register_named`](Self::register_named) says otherwise.
///
/// | metric                                | type      | says                                       |
/// |---------------------------------------|-----------|--------------------------------------------|
/// | `reactor_turn_seconds`                | histogram | how long the loop was awake at a time      |
/// | `reactor_turn_running_seconds`        | gauge     | how long the turn at hand has taken; 0 while the loop sleeps |
/// | `reactor_lag_seconds`                 | histogram | how late the latest delayed call was, for each turn with any |
/// | `reactor_busy_ratio`                  | gauge     | how much of the time since the last scrape the loop was awake, 0 to 1 |
/// | `reactor_busy_seconds_total`          | counter   | how long the loop was awake                |
/// | `reactor_events_total`                | counter   | what it called, by `kind`: `socket`, `timer`, `thread` |
/// | `reactor_pending_timers`              | gauge     | delayed calls that wait, as of the last turn |
/// | `reactor_pending_calls`               | gauge     | calls from other threads that wait         |
/// | `reactor_slow_callbacks_total`        | counter   | callbacks slower than the limit, by `location` |
/// | `deferreds_pending`                   | gauge     | Deferreds that have not fired, by the `location` that made them |
/// | `deferreds_oldest_pending_seconds`    | gauge     | how old the oldest of these is             |
/// | `deferreds_unhandled_failures_total`  | counter   | failures that nobody handled, on the thread of the reactor |
///
/// Slow callbacks are there once [`Reactor::set_slow_callback_limit`] is called, and pending
/// Deferreds once [`track_pending`](deferred_reactor::deferred::track_pending) is on. A location is
/// a line of the program's source, or the name of a type; there are at most 1000 of each, and what
/// comes from further ones has the location `other`.
///
/// `reactor_busy_ratio` covers the time since the previous scrape; if that was less than a second
/// ago, the time since the scrape before. It does not distinguish scrapers. For several scrapers,
/// use `rate(reactor_busy_seconds_total[1m])`, which is the same for all.
///
/// Dropping this leaves the metrics registered; [`unregister`](Self::unregister) removes them. It
/// keeps the reactor alive, but the metrics do not.
#[derive(Debug)]
pub struct ReactorMetrics {
    reactor: Reactor,
    observer: ObserverId,
    registry: Registry,
    families: Families,
}

impl ReactorMetrics {
    /// Registers the metrics of a reactor under the name `main`.
    ///
    /// # Errors
    ///
    /// [`ReactorMetricsError::NameTaken`] if the registry has a reactor of this name, [`ReactorMetricsError::Registry`] if the registry has metrics of these names and another kind.
    pub fn register(reactor: &Reactor, registry: &Registry) -> Result<Self, ReactorMetricsError> {
        Self::register_named("main", reactor, registry)
    }

    /// Registers the metrics of one of several reactors, each on a thread of its own.
    ///
    /// ```
    /// use prometheus::Registry;
    /// use prometheus_deferred::exposition::{ReactorMetrics, ReactorMetricsError};
    /// use prometheus_deferred::{Failure, Reactor};
    ///
    /// let registry = Registry::new();
    /// let (one, other) = (Reactor::new()?, Reactor::new()?);
    /// ReactorMetrics::register_named("requests", &one, &registry)?;
    /// ReactorMetrics::register_named("admin", &other, &registry)?;
    ///
    /// let again = ReactorMetrics::register_named("admin", &other, &registry);
    /// assert!(matches!(again, Err(ReactorMetricsError::NameTaken { .. })));
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`register`](Self::register).
    pub fn register_named(
        name: &str,
        reactor: &Reactor,
        registry: &Registry,
    ) -> Result<Self, ReactorMetricsError> {
        let families = Families::new(name, reactor).map_err(ReactorMetricsError::Registry)?;
        match registry.register(Box::new(families.clone())) {
            Ok(()) => {}
            Err(prometheus::Error::AlreadyReg) => {
                let name = name.to_owned();
                return Err(ReactorMetricsError::NameTaken { name });
            }
            Err(error) => return Err(ReactorMetricsError::Registry(error)),
        }
        Ok(Self {
            observer: reactor.add_observer(families.feeder()),
            reactor: reactor.clone(),
            registry: registry.clone(),
            families,
        })
    }

    /// Removes the metrics from their registry, so that their name is free again.
    pub fn unregister(self) {
        // Both exist, unless other code has removed them.
        let _ = self.reactor.remove_observer(self.observer);
        let _ = self.registry.unregister(Box::new(self.families));
    }
}

/// Registers the metrics of a reactor with the default registry, which the `register_*!` macros use.
///
/// ```
/// use prometheus_deferred::exposition::instrument_reactor;
/// use prometheus_deferred::{Failure, Reactor};
///
/// let reactor = Reactor::new()?;
/// instrument_reactor(&reactor)?;
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
///
/// As for [`ReactorMetrics::register`].
pub fn instrument_reactor(reactor: &Reactor) -> Result<ReactorMetrics, ReactorMetricsError> {
    ReactorMetrics::register(reactor, prometheus::default_registry())
}

/// Why the metrics of a reactor were not registered.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReactorMetricsError {
    /// The registry already has the metrics of a reactor of this name.
    NameTaken {
        /// The name.
        name: String,
    },
    /// The registry refused them.
    Registry(prometheus::Error),
}

impl fmt::Display for ReactorMetricsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { name } => write!(
                f,
                "the registry has the metrics of a reactor called {name:?} already; register this \
                 one under another name"
            ),
            Self::Registry(_) => f.write_str("the registry refused the metrics of a reactor"),
        }
    }
}

impl Error for ReactorMetricsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NameTaken { .. } => None,
            Self::Registry(error) => Some(error),
        }
    }
}

/// From 10 microseconds, which is a turn with a few events, up to a stuck loop.
const TURN_BUCKETS: [f64; 14] = [
    0.000_01, 0.000_1, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// The system measures sleep in milliseconds, so smaller buckets would show nothing.
const LAG_BUCKETS: [f64; 11] = [
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0,
];

/// A scrape soon after another one covers more than the time since that one.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);

/// Maximum number of locations: generated code may have very many lines.
const MOST_LOCATIONS: usize = 1000;

/// The metrics, and the sources of their values.
#[derive(Clone)]
struct Families(Arc<Inner>);

struct Inner {
    monitor: Monitor,
    pending: PendingDeferreds,
    turn: Histogram,
    lag: Histogram,
    turn_running: Gauge,
    busy_ratio: Gauge,
    busy: Counter,
    events: IntCounterVec,
    pending_timers: IntGauge,
    pending_calls: IntGauge,
    slow: IntCounterVec,
    deferreds: IntGaugeVec,
    oldest: GaugeVec,
    unhandled: IntCounter,
    /// Scrapes may run at the same time; they wait for one another here.
    scrapes: Mutex<Scrapes>,
}

/// The state kept from earlier scrapes.
struct Scrapes {
    last: Moment,
    /// A moment at least the shortest window before the last scrape.
    before: Moment,
    /// Reported locations of pending Deferreds.
    locations: BTreeMap<String, usize>,
}

#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    stats: Stats,
}

impl Families {
    fn new(name: &str, reactor: &Reactor) -> prometheus::Result<Self> {
        let labels = HashMap::from([("reactor".to_owned(), name.to_owned())]);
        let opts = |name: &str, help: &str| Opts::new(name, help).const_labels(labels.clone());
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
            Histogram::with_opts(opts)
        };
        let events = IntCounterVec::new(
            opts(
                "reactor_events_total",
                "What the loop called: events of sockets, delayed calls, calls from threads.",
            ),
            &["kind"],
        )?;
        for kind in ["socket", "timer", "thread"] {
            events.with_label_values(&[kind]);
        }
        let monitor = reactor.monitor();
        let now = Moment {
            at: deferred_reactor::time::now(),
            stats: monitor.stats(),
        };
        Ok(Self(Arc::new(Inner {
            monitor,
            pending: pending_deferreds(),
            turn: histogram(
                "reactor_turn_seconds",
                "How long the loop was awake at a time.",
                &TURN_BUCKETS,
            )?,
            lag: histogram(
                "reactor_lag_seconds",
                "How late the latest delayed call was, for each turn of the loop with any.",
                &LAG_BUCKETS,
            )?,
            turn_running: Gauge::with_opts(opts(
                "reactor_turn_running_seconds",
                "How long the loop has been awake by now; 0 while it sleeps.",
            ))?,
            busy_ratio: Gauge::with_opts(opts(
                "reactor_busy_ratio",
                "How much of the time since the last scrape the loop was awake.",
            ))?,
            busy: Counter::with_opts(opts(
                "reactor_busy_seconds_total",
                "How long the loop was awake.",
            ))?,
            events,
            pending_timers: IntGauge::with_opts(opts(
                "reactor_pending_timers",
                "Delayed calls that wait for their time, as of the last turn.",
            ))?,
            pending_calls: IntGauge::with_opts(opts(
                "reactor_pending_calls",
                "Calls from other threads that wait to be made.",
            ))?,
            slow: IntCounterVec::new(
                opts(
                    "reactor_slow_callbacks_total",
                    "Callbacks that took longer than the limit, by where they come from.",
                ),
                &["location"],
            )?,
            deferreds: IntGaugeVec::new(
                opts(
                    "deferreds_pending",
                    "Deferreds that have not fired, by where they were made.",
                ),
                &["location"],
            )?,
            oldest: GaugeVec::new(
                opts(
                    "deferreds_oldest_pending_seconds",
                    "How old the oldest Deferred is that has not fired, by where it was made.",
                ),
                &["location"],
            )?,
            unhandled: IntCounter::with_opts(opts(
                "deferreds_unhandled_failures_total",
                "Failures that nobody handled, on the thread of the reactor.",
            ))?,
            scrapes: Mutex::new(Scrapes {
                last: now,
                before: now,
                locations: BTreeMap::new(),
            }),
        })))
    }

    fn feeder(&self) -> Feeder {
        Feeder {
            turn: self.0.turn.clone(),
            lag: self.0.lag.clone(),
        }
    }
}

/// The metrics that the loop updates.
struct Feeder {
    turn: Histogram,
    lag: Histogram,
}

impl ReactorObserver for Feeder {
    fn turn(&self, turn: &Turn) {
        self.turn.observe(turn.time.as_secs_f64());
        if let Some(lag) = turn.lag {
            self.lag.observe(lag.as_secs_f64());
        }
    }
}

impl Inner {
    fn all(&self) -> [&dyn Collector; 12] {
        [
            &self.turn,
            &self.turn_running,
            &self.lag,
            &self.busy_ratio,
            &self.busy,
            &self.events,
            &self.pending_timers,
            &self.pending_calls,
            &self.slow,
            &self.deferreds,
            &self.oldest,
            &self.unhandled,
        ]
    }

    fn refresh(&self, scrapes: &mut Scrapes) {
        let stats = self.monitor.stats();
        let running = stats.turn_running.unwrap_or_default();
        self.turn_running.set(running.as_secs_f64());
        self.busy_ratio.set(scrapes.busy_ratio(stats));
        let busy = stats.busy.as_secs_f64();
        // Read on another thread, the value may be some nanoseconds below the previous one.
        self.busy.inc_by((busy - self.busy.get()).max(0.0));
        for (kind, count) in [
            ("socket", stats.events),
            ("timer", stats.delayed_calls),
            ("thread", stats.thread_calls),
        ] {
            catch_up(&self.events.with_label_values(&[kind]), count);
        }
        self.pending_timers.set(signed(stats.pending_timers));
        self.pending_calls.set(signed(stats.pending_calls));
        catch_up(&self.unhandled, stats.unhandled_failures);
        self.refresh_slow();
        self.refresh_pending(scrapes);
    }

    /// The monitor limits the number of places.
    fn refresh_slow(&self) {
        let mut counts = HashMap::<String, u64>::new();
        for slow in self.monitor.slow_callbacks() {
            *counts.entry(slow.callback.place.label()).or_default() += slow.count;
        }
        for (location, count) in counts {
            catch_up(&self.slow.with_label_values(&[location]), count);
        }
    }

    /// Locations that have no pending Deferreds any more are reported as 0.
    fn refresh_pending(&self, scrapes: &mut Scrapes) {
        let locations = &mut scrapes.locations;
        locations.values_mut().for_each(|count| *count = 0);
        let mut ages = HashMap::<String, Duration>::new();
        for line in self.pending.lines() {
            let mut location = Place::Line(line.made).label();
            if locations.len() >= MOST_LOCATIONS && !locations.contains_key(&location) {
                location = "other".to_owned();
            }
            let age = ages.entry(location.clone()).or_default();
            *age = line.oldest.max(*age);
            *locations.entry(location).or_default() += line.count;
        }
        for (location, count) in locations {
            let labels = [location.as_str()];
            self.deferreds
                .with_label_values(&labels)
                .set(signed(*count));
            let age = ages.get(location).copied().unwrap_or_default();
            self.oldest
                .with_label_values(&labels)
                .set(age.as_secs_f64());
        }
    }
}

impl Scrapes {
    fn busy_ratio(&mut self, stats: Stats) -> f64 {
        let now = Moment {
            at: deferred_reactor::time::now(),
            stats,
        };
        if now.at.saturating_duration_since(self.last.at) >= SHORTEST_WINDOW {
            self.before = self.last;
            self.last = now;
        }
        stats.busy_ratio_since(&self.before.stats)
    }
}

/// Raises a counter to the loop's count.
fn catch_up(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.0.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // If another scrape panicked, this one sets the values anyway.
        let scrapes = self.0.scrapes.lock();
        let mut scrapes = scrapes.unwrap_or_else(PoisonError::into_inner);
        self.0.refresh(&mut scrapes);
        self.0
            .all()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Families").field(&self.0.monitor).finish()
    }
}
