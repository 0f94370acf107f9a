//! What every server of this package does alike: its arguments, its metrics, the line it prints.
//!
//! ```text
//! hyper 127.0.0.1:0 10000          # 10,000 series at /metrics
//! listening on http://127.0.0.1:41231/
//! ```

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
};

/// What `/plaintext` answers.
pub const HELLO: &str = "Hello, World!";

/// What `/inc` answers.
pub const COUNTED: &str = "counted\n";

/// The arguments of a server: `ADDRESS [SERIES] [--close] [--thread]`.
#[derive(Debug, Clone)]
pub struct Args {
    pub address: SocketAddr,
    /// How many series there are beside those of `/inc`.
    pub series: usize,
    /// `limit` does not read requests, so it is told when to close the connection after each.
    pub closes: bool,
    /// `axum` gathers and encodes in a thread of its own.
    pub in_thread: bool,
}

impl Args {
    /// Those of this process. A wrong one ends it.
    pub fn from_env() -> Self {
        let mut args = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8000)),
            series: 0,
            closes: false,
            in_thread: false,
        };
        for arg in std::env::args().skip(1) {
            if let Ok(address) = arg.parse() {
                args.address = address;
            } else if let Ok(series) = arg.parse() {
                args.series = series;
            } else if arg == "--close" {
                args.closes = true;
            } else if arg == "--thread" {
                args.in_thread = true;
            } else {
                eprintln!("usage: ADDRESS [SERIES] [--close] [--thread]; got {arg:?}");
                std::process::exit(2);
            }
        }
        args
    }
}

/// Says that connections are welcome now.
pub fn announce(address: impl Display) {
    println!("listening on http://{address}/");
    std::io::stdout().flush().expect("the driver reads it");
}

/// The metrics of every server that is written in Rust.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    /// Those of `/inc`, and so many series more: counters and gauges with two labels, a hundred
    /// series to a family.
    pub fn new(series: usize) -> Self {
        let registry = Registry::new();
        let register = |collector: Box<dyn prometheus::core::Collector>| {
            registry.register(collector).expect("each name is new");
        };
        let requests = Opts::new("http_requests_total", "Requests that were answered.");
        let requests = IntCounterVec::new(requests, &["method", "endpoint"]).expect("it is valid");
        register(Box::new(requests.clone()));
        let seconds = HistogramOpts::new("http_request_duration_seconds", "How long they took.");
        let seconds = HistogramVec::new(seconds, &["endpoint"]).expect("it is valid");
        register(Box::new(seconds.clone()));

        for first in (0..series).step_by(100) {
            let number = first / 100;
            let name = format!("bench_family_{number}");
            let opts = Opts::new(name, "One of the many families of a large registry.");
            let labels = ["instance", "path"];
            let ends = (first + 100).min(series);
            if number % 2 == 0 {
                let family = IntCounterVec::new(opts, &labels).expect("it is valid");
                for one in first..ends {
                    let path = format!("/api/v1/things/{one}");
                    let child = family.with_label_values(&["a-host.example:9100", &path]);
                    child.inc_by(one as u64 * 1_009);
                }
                register(Box::new(family));
            } else {
                let family = GaugeVec::new(opts, &labels).expect("it is valid");
                for one in first..ends {
                    let path = format!("/api/v1/things/{one}");
                    let child = family.with_label_values(&["a-host.example:9100", &path]);
                    child.set(one as f64 * 0.37);
                }
                register(Box::new(family));
            }
        }
        Self {
            registry,
            requests,
            seconds,
        }
    }

    /// What `/inc` does: looks both metrics up by their labels, counts, and observes the time since
    /// `start`.
    pub fn count(&self, method: &str, endpoint: &str, start: Instant) {
        self.requests.with_label_values(&[method, endpoint]).inc();
        let seconds = start.elapsed().as_secs_f64();
        self.seconds.with_label_values(&[endpoint]).observe(seconds);
    }

    /// What `/metrics` of the peers answers, and how users of the crate do it.
    pub fn encode(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .expect("the names are valid")
    }
}

/// The content type of [`Metrics::encode`].
pub const METRICS_TYPE: &str = prometheus::TEXT_FORMAT;
