//! The examples, tried with the programs that people will really use them with.
//!
//! Each test runs where its program is installed and says so where it is not; with
//! `REQUIRE_PEERS` set, a missing program is a failure.

mod programs;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use programs::{Example, get, has_program};

/// A Prometheus server that scrapes some addresses every second; ended and wiped when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Prometheus {
    fn scraping(targets: &[SocketAddr]) -> Self {
        let address = free_address();
        let folder = std::env::temp_dir().join(format!("prometheus-{}", address.port()));
        std::fs::create_dir_all(&folder).unwrap();
        let targets: Vec<String> = targets.iter().map(|target| format!("{target:?}")).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
             - job_name: examples\n  static_configs: [{{targets: {targets:?}}}]\n"
        );
        std::fs::write(folder.join("config.yml"), config).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}/config.yml", folder.display()))
            .arg(format!("--storage.tsdb.path={}/data", folder.display()))
            .arg(format!("--web.listen-address={address}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            folder,
        }
    }

    /// Asks until the first value of the answer is good. Prometheus tells nobody that it has
    /// scraped, and each question takes a process, so this asks some ten times a second.
    fn ask_until(&self, query: &str, is_good: impl Fn(f64) -> bool) -> f64 {
        let until = Instant::now() + Duration::from_secs(60);
        let server = format!("http://{}", self.address);
        loop {
            let output = Command::new("promtool")
                .args(["query", "instant", &server, query])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // {labels} => VALUE @[TIME]
            let value = text
                .split_once("=> ")
                .and_then(|(_, rest)| rest.split_once(" @"))
                .and_then(|(value, _)| value.parse().ok());
            match value {
                Some(value) if is_good(value) => return value,
                _ if Instant::now() > until => panic!("{query}: {output:?}"),
                _ => {}
            }
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_address() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn a_prometheus_server_scrapes_the_examples() {
    if !has_program("prometheus") || !has_program("promtool") {
        return;
    }
    let (metrics, klein) = (Example::start("metrics"), Example::start("klein"));
    let prometheus = Prometheus::scraping(&[metrics.address, klein.address]);
    for example in [&metrics, &klein] {
        let up = format!("up{{instance=\"{}\"}}", example.address);
        prometheus.ask_until(&up, |value| value == 1.0);
    }
    // What klein counts are the scrapes themselves; metrics counts seconds.
    prometheus.ask_until(
        "inbound_requests_total{endpoint=\"/metrics\",method=\"GET\"}",
        |value| value >= 2.0,
    );
    prometheus.ask_until("uptime_ticks_total", |value| value >= 1.0);
    // It kept its connections open between scrapes, or there would be errors by now.
    prometheus.ask_until("min_over_time(up[10s])", |value| value == 1.0);
}

#[test]
fn promtool_accepts_every_page() {
    if !has_program("promtool") {
        return;
    }
    for name in ["metrics", "klein", "delayed", "embedded"] {
        let example = Example::start(name);
        if name == "klein" {
            example.get("/metrics");
        }
        let answer = example.get("/metrics");
        let (_, page) = answer.split_once("\r\n\r\n").unwrap();
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = promtool.stdin.take().unwrap();
        stdin.write_all(page.as_bytes()).unwrap();
        drop(stdin);
        let output = promtool.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}: {output:?}\n{page}");
    }
}

#[test]
fn curl_gets_what_the_readme_says() {
    if !has_program("curl") {
        return;
    }
    let example = Example::start("metrics");
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "30"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let url = example.url("/metrics");
    assert!(curl(&[&url]).contains("\nuptime_ticks_total "));
    assert!(curl(&["--compressed", &url]).contains("\nuptime_ticks_total "));
    let head = curl(&["--head", &url]).to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    let refused = curl(&["--include", "--data", "x=y", &url]);
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    assert!(refused.contains("Allow: GET, HEAD, OPTIONS"), "{refused}");
    // Two requests on one connection, and one that would wait for leave to send its body, which is
    // answered before (F-26).
    let twice = curl(&["--verbose", &url, &url]);
    assert_eq!(twice.matches("\nuptime_ticks_total ").count(), 2);
    let expecting = curl(&["--include", "-H", "Expect: 100-continue", "-d", "x", &url]);
    assert!(expecting.starts_with("HTTP/1.1 405"), "{expecting}");
}

#[test]
fn wrk_finds_no_errors() {
    if !has_program("wrk") {
        return;
    }
    let example = Example::start("metrics");
    let output = Command::new("wrk")
        .args(["-t1", "-c64", "-d2s", &example.url("/metrics")])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{report}");
    assert!(report.contains("Requests/sec"), "{report}");
    assert!(!report.contains("Socket errors"), "{report}");
    assert!(!report.contains("Non-2xx"), "{report}");
    assert!(get(example.address, "/metrics").starts_with("HTTP/1.1 200"));
}
