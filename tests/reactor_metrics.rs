//! How a reactor is doing, as metrics of a registry.

mod programs;
mod scrape;

use std::io::Write;
use std::net::SocketAddr;
use std::panic::Location;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use prometheus::{IntCounterVec, Opts, Registry};
use prometheus_deferred::deferred::track_pending;
use prometheus_deferred::exposition::ReactorMetricsError;
use prometheus_deferred::exposition::text;
use prometheus_deferred::web::{Klein, Rendered, Request, Resource, Site};
use prometheus_deferred::{
    Deferred, Failure, MetricsServer, NoLostFailures, Reactor, ReactorMetrics, Resolver,
    instrument_reactor,
};
use scrape::get;

const HOUR: Duration = Duration::from_secs(3600);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn hold(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {}
}

#[track_caller]
fn here() -> u32 {
    Location::caller().line()
}

fn page(registry: &Registry) -> String {
    let mut out = Vec::new();
    text::encode(&registry.gather(), &mut out);
    String::from_utf8(out).unwrap()
}

/// The value of one sample, by its name and labels as they stand on the page.
#[track_caller]
fn value(page: &str, sample: &str) -> f64 {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {sample} in {page}"));
    line.parse().unwrap()
}

/// `sample{reactor="main"}`.
#[track_caller]
fn of_main(page: &str, sample: &str) -> f64 {
    value(page, &format!("{sample}{{reactor=\"main\"}}"))
}

fn stop_later(reactor: &Reactor, delay: Duration) {
    let stop = reactor.clone();
    reactor.call_later(delay, move || stop.stop().unwrap());
}

/// B-06, B-07: with the names and types of the documentation.
#[test]
fn a_reactor_shows_all_its_metrics() {
    let registry = Registry::new();
    let reactor = Reactor::new().unwrap();
    ReactorMetrics::register(&reactor, &registry).unwrap();
    let lost = NoLostFailures::new();
    track_pending(true);
    reactor.set_slow_callback_limit(ms(2));
    let waiting: Vec<(Deferred<()>, Resolver<()>)> = (0..2).map(|_| Deferred::pending()).collect();
    let waiting_line = here() - 1;
    reactor.call_later(ms(1), || {
        hold(ms(5));
        drop(Deferred::<()>::fail(Failure::message("lost")));
    });
    let slow_line = here() - 4;
    reactor.call_later(HOUR, || {});
    reactor.remote().call_from_thread(|_| {}).unwrap();
    stop_later(&reactor, ms(10));

    let before = page(&registry);
    assert_eq!(of_main(&before, "reactor_pending_calls"), 1.0);
    assert_eq!(of_main(&before, "reactor_turn_seconds_count"), 0.0);
    let scraped = registry.clone();
    let inside = Rc::new(std::cell::RefCell::new(String::new()));
    let copy = inside.clone();
    reactor.call_later(ms(9), move || *copy.borrow_mut() = page(&scraped));
    reactor.run_without_signals().unwrap();

    // As seen from inside, while it runs and has something to wait for.
    let inside = inside.take();
    assert!(of_main(&inside, "reactor_turn_running_seconds") > 0.0);
    // As of the turn before, in which the first call may have been late.
    assert!([3.0, 4.0].contains(&of_main(&inside, "reactor_pending_timers")));

    let page = page(&registry);
    let types: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let want = [
        "deferreds_oldest_pending_seconds gauge",
        "deferreds_pending gauge",
        "deferreds_unhandled_failures_total counter",
        "reactor_busy_ratio gauge",
        "reactor_busy_seconds_total counter",
        "reactor_events_total counter",
        "reactor_lag_seconds histogram",
        "reactor_pending_calls gauge",
        "reactor_pending_timers gauge",
        "reactor_slow_callbacks_total counter",
        "reactor_turn_running_seconds gauge",
        "reactor_turn_seconds histogram",
    ];
    assert_eq!(types, want);

    let at = |name: &str, line: u32| {
        let location = format!("{}:{line}", file!());
        value(
            &page,
            &format!("{name}{{location=\"{location}\",reactor=\"main\"}}"),
        )
    };
    assert_eq!(at("reactor_slow_callbacks_total", slow_line), 1.0);
    assert_eq!(at("deferreds_pending", waiting_line), 2.0);
    assert!(at("deferreds_oldest_pending_seconds", waiting_line) >= 0.005);
    assert_eq!(of_main(&page, "deferreds_unhandled_failures_total"), 1.0);
    assert_eq!(of_main(&page, "reactor_pending_calls"), 0.0);
    assert_eq!(of_main(&page, "reactor_pending_timers"), 0.0);
    assert_eq!(of_main(&page, "reactor_turn_running_seconds"), 0.0);
    let kind = |kind| format!("reactor_events_total{{kind=\"{kind}\",reactor=\"main\"}}");
    assert_eq!(value(&page, &kind("timer")), 3.0);
    assert_eq!(value(&page, &kind("thread")), 1.0);
    assert_eq!(value(&page, &kind("socket")), 0.0);
    // What the loop fed is what it counts itself.
    let stats = reactor.stats();
    assert_eq!(
        of_main(&page, "reactor_turn_seconds_count"),
        stats.turns as f64
    );
    let busy = of_main(&page, "reactor_busy_seconds_total");
    assert!((busy - of_main(&page, "reactor_turn_seconds_sum")).abs() < 1e-6);
    assert!(busy >= 0.005);
    let ratio = of_main(&page, "reactor_busy_ratio");
    assert!(0.0 < ratio && ratio < 1.0, "{ratio}");
    let lags = of_main(&page, "reactor_lag_seconds_count");
    assert!((1.0..=3.0).contains(&lags), "{lags}");

    // What is waited for no more is told with 0.
    drop(waiting);
    let after = self::page(&registry);
    let location = format!("{}:{waiting_line}", file!());
    let label = format!("{{location=\"{location}\",reactor=\"main\"}}");
    assert_eq!(value(&after, &format!("deferreds_pending{label}")), 0.0);
    assert_eq!(
        value(&after, &format!("deferreds_oldest_pending_seconds{label}")),
        0.0
    );
    promtool_accepts(&page);
    lost.flush();
}

fn promtool_accepts(page: &str) {
    if !programs::has_program("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}\n{page}");
    assert!(output.stdout.is_empty(), "{output:?}\n{page}");
}

fn scraped(address: SocketAddr) -> String {
    get(address, "/metrics").text().to_owned()
}

/// B-06, B-08: a turn that does not end is in every scrape while it lasts, and in the histogram
/// once it is over.
#[test]
fn scrapes_show_that_the_loop_is_stuck_while_it_is() {
    let registry = Registry::new();
    let server = MetricsServer::spawn_with_registry("127.0.0.1:0", registry.clone()).unwrap();
    let address = server.address();
    let reactor = Reactor::new().unwrap();
    ReactorMetrics::register(&reactor, &registry).unwrap();
    assert_eq!(
        of_main(&scraped(address), "reactor_turn_running_seconds"),
        0.0
    );

    let (is_stuck, stuck) = mpsc::channel();
    let (has_seen, seen) = mpsc::channel();
    let scraper = thread::spawn(move || {
        stuck.recv_timeout(scrape::PATIENCE).unwrap();
        let first = scraped(address);
        let stuck_for = of_main(&first, "reactor_turn_running_seconds");
        let until = Instant::now() + scrape::PATIENCE;
        let later = loop {
            let later = scraped(address);
            if of_main(&later, "reactor_turn_running_seconds") >= stuck_for + 0.011 {
                break later;
            }
            assert!(Instant::now() < until, "{later}");
        };
        has_seen.send(()).unwrap();
        (first, later)
    });
    let stop = reactor.clone();
    reactor.call_later(ms(1), move || {
        is_stuck.send(()).unwrap();
        let _ = seen.recv_timeout(scrape::PATIENCE); // an error if the scraper panicked
        stop.stop().unwrap();
    });
    reactor.run_without_signals().unwrap();
    let (first, later) = scraper.join().unwrap();
    let busy = |page: &str| of_main(page, "reactor_busy_seconds_total");
    assert!(busy(&later) >= busy(&first) + 0.01);
    assert!(of_main(&later, "reactor_busy_ratio") > of_main(&first, "reactor_busy_ratio"));

    let after = scraped(address);
    assert_eq!(of_main(&after, "reactor_turn_running_seconds"), 0.0);
    let quick = "reactor_turn_seconds_bucket{reactor=\"main\",le=\"0.01\"}";
    let slow = of_main(&after, "reactor_turn_seconds_count") - value(&after, quick);
    assert!(slow >= 1.0, "{after}");
}

/// B-06: delayed calls that had to wait are in the histogram of lag.
#[test]
fn what_was_late_is_in_the_histogram_of_lag() {
    let registry = Registry::new();
    let reactor = Reactor::new().unwrap();
    ReactorMetrics::register(&reactor, &registry).unwrap();
    let due = reactor.call_later(ms(3), || {}).time().unwrap();
    reactor.call_later(ms(1), move || while Instant::now() < due + ms(30) {});
    stop_later(&reactor, ms(40));
    reactor.run_without_signals().unwrap();
    let page = page(&registry);
    let in_time = "reactor_lag_seconds_bucket{reactor=\"main\",le=\"0.025\"}";
    let late = of_main(&page, "reactor_lag_seconds_count") - value(&page, in_time);
    assert!(late >= 1.0, "{page}");
    assert!(of_main(&page, "reactor_lag_seconds_sum") >= 0.03);
}

/// B-06: a counter that went down would look like a restart.
#[test]
fn counters_never_go_down() {
    let registry = Registry::new();
    let reactor = Reactor::new().unwrap();
    ReactorMetrics::register(&reactor, &registry).unwrap();
    let (tell, told) = mpsc::channel();
    let scraped = registry.clone();
    let scraper = thread::spawn(move || {
        let mut before = Vec::new();
        let names = ["reactor_busy_seconds_total", "reactor_turn_seconds_count"];
        while told.try_recv().is_err() {
            let page = page(&scraped);
            let now: Vec<f64> = names.iter().map(|name| of_main(&page, name)).collect();
            let ratio = of_main(&page, "reactor_busy_ratio");
            assert!((0.0..=1.0).contains(&ratio), "{ratio}");
            assert!(before.iter().zip(&now).all(|(then, now)| then <= now));
            before = now;
        }
    });
    for n in 0..400 {
        reactor.call_later(Duration::from_micros(n * 100), || {
            hold(Duration::from_micros(50))
        });
    }
    stop_later(&reactor, ms(45));
    reactor.run_without_signals().unwrap();
    let _ = tell.send(());
    scraper.join().unwrap();
}

/// B-06: two reactors are told apart by name, on one page.
#[test]
fn two_reactors_of_a_process_have_names() {
    let registry = Registry::new();
    let other = registry.clone();
    let join = thread::spawn(move || {
        let reactor = Reactor::new().unwrap();
        ReactorMetrics::register_named("admin", &reactor, &other).unwrap();
        track_pending(true);
        reactor.call_later(ms(1), || {});
        stop_later(&reactor, ms(2));
        let waiting: (Deferred<()>, _) = Deferred::pending();
        let line = here() - 1;
        reactor.run_without_signals().unwrap();
        let page = page(&other);
        drop(waiting);
        (page, line)
    });
    let reactor = Reactor::new().unwrap();
    ReactorMetrics::register(&reactor, &registry).unwrap();
    stop_later(&reactor, ms(1));
    reactor.run_without_signals().unwrap();
    let (page_there, line) = join.join().unwrap();
    let page_here = page(&registry);
    let timers = |name: &str| format!("reactor_events_total{{kind=\"timer\",reactor=\"{name}\"}}");
    assert_eq!(value(&page_here, &timers("main")), 1.0);
    assert_eq!(value(&page_here, &timers("admin")), 2.0);
    // Each of its own thread.
    let waiting = format!("deferreds_pending{{location=\"{}:{line}\"", file!());
    assert_eq!(
        value(&page_there, &format!("{waiting},reactor=\"admin\"}}")),
        1.0
    );
    assert!(!page_there.contains(&format!("{waiting},reactor=\"main\"")));
    promtool_accepts(&page_here);
}

/// B-18 in its spirit: a name that is taken is an error that says what to do, and nothing changes.
#[test]
fn a_name_that_is_taken_is_a_clear_error() {
    let registry = Registry::new();
    let (one, other) = (Reactor::new().unwrap(), Reactor::new().unwrap());
    let metrics = ReactorMetrics::register(&one, &registry).unwrap();
    for reactor in [&one, &other] {
        let error = ReactorMetrics::register(reactor, &registry).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("\"main\"") && text.contains("another name"),
            "{text}"
        );
        assert!(matches!(error, ReactorMetricsError::NameTaken { name } if name == "main"));
    }
    stop_later(&one, ms(1));
    one.run_without_signals().unwrap();
    // Fed once, by the one that is registered.
    let turns = of_main(&page(&registry), "reactor_turn_seconds_count");
    assert_eq!(turns, one.stats().turns as f64);
    metrics.unregister();
    assert!(!page(&registry).contains("reactor_"));
    let again = ReactorMetrics::register(&other, &registry).unwrap();
    assert_eq!(of_main(&page(&registry), "reactor_turn_seconds_count"), 0.0);
    drop(again); // which leaves the metrics
    assert!(page(&registry).contains("reactor_"));
}

/// B-18 in its spirit: metrics of the program's own that have such a name.
#[test]
fn a_registry_that_has_other_metrics_of_these_names_refuses() {
    let registry = Registry::new();
    let own = IntCounterVec::new(Opts::new("reactor_events_total", "My own."), &["mine"]).unwrap();
    registry.register(Box::new(own)).unwrap();
    let reactor = Reactor::new().unwrap();
    let error = ReactorMetrics::register(&reactor, &registry).unwrap_err();
    assert!(matches!(error, ReactorMetricsError::Registry(_)));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("reactor_events_total"), "{cause}");
}

/// B-06: once it has gone, its metrics say what they said last, and nothing of it is kept.
#[test]
fn the_metrics_of_a_reactor_that_has_gone_stand_still() {
    let registry = Registry::new();
    let reactor = Reactor::new().unwrap();
    drop(ReactorMetrics::register(&reactor, &registry).unwrap());
    stop_later(&reactor, ms(1));
    reactor.run_without_signals().unwrap();
    let remote = reactor.remote();
    drop(reactor);
    assert!(remote.call_from_thread(|_| {}).is_err());
    let busy = of_main(&page(&registry), "reactor_busy_seconds_total");
    assert!(busy > 0.0);
    assert_eq!(
        of_main(&page(&registry), "reactor_busy_seconds_total"),
        busy
    );
}

/// B-06: for the `register_*!` macros' registry, in one call.
#[test]
fn the_default_registry_takes_one_call() {
    let reactor = Reactor::new().unwrap();
    let metrics = instrument_reactor(&reactor).unwrap();
    let page = page(prometheus::default_registry());
    assert!(
        page.contains("reactor_busy_ratio{reactor=\"main\"} 0\n"),
        "{page}"
    );
    metrics.unregister();
}

/// A page that takes its time.
struct SlowPage;

impl Resource for SlowPage {
    fn render_get(&self, _: Request) -> Rendered {
        hold(ms(5));
        "done".into()
    }
}

/// B-06: a slow page is named by what its author wrote, and not as the HTTP of this library.
#[test]
fn slow_pages_are_named_by_their_type_and_routes_by_their_line() {
    let registry = Registry::new();
    let reactor = Reactor::new().unwrap();
    ReactorMetrics::register(&reactor, &registry).unwrap();
    reactor.set_slow_callback_limit(ms(2));
    let mut app = Klein::new();
    app.route("/route", |_| hold(ms(5)));
    let line = here() - 1;
    app.route("/page", |_| Rc::new(SlowPage));
    let port = reactor.listen_tcp("127.0.0.1:0", Site::new(app.resource()));
    let address = port.unwrap().address().socket_addr().unwrap();
    let remote = reactor.remote();
    let peer = thread::spawn(move || {
        let statuses = ["/route", "/page"].map(|path| get(address, path).status);
        remote.call_from_thread(|r| r.stop().unwrap()).unwrap();
        statuses
    });
    reactor.run_without_signals().unwrap();
    assert_eq!(peer.join().unwrap(), [200; 2]);
    let page = page(&registry);
    for location in [
        format!("{}:{line}", file!()),
        "reactor_metrics::SlowPage".to_owned(),
    ] {
        let labels = format!("{{location=\"{location}\",reactor=\"main\"}}");
        assert_eq!(
            value(&page, &format!("reactor_slow_callbacks_total{labels}")),
            1.0
        );
    }
}
