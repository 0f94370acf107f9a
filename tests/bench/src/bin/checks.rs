//! What does not depend on the clock: system calls per request, memory per connection, allocations
//! per operation. Prints each figure, and fails if one is above its limit.

use std::error::Error;
use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use bench::load::{Plan, closed_loop, get, hold_idle};
use bench::peers::{Peer, STREAMERS};
use bench::streams::{Trickle, events, slow_readers, upload_memory};
use bench::sys;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge};
use prometheus_deferred::{Deferred, count_exceptions, time, track_inprogress};

/// What was measured, its value, and its limit.
type Figure = (&'static str, f64, f64);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    sys::raise_descriptor_limit()?;
    let mut failed = false;
    let mut check = |what: &str, figure: f64, limit: f64| {
        let is_good = figure <= limit;
        failed |= !is_good;
        let verdict = if is_good { "ok" } else { "FAILED" };
        println!("{verdict:6} {what}: {figure:.2}, at most {limit}");
    };

    let allocations = allocations();
    for (what, count, limit) in allocations {
        check(what, count as f64, limit as f64);
    }
    check(
        "bytes of resident memory per idle connection, of 10,000",
        idle_bytes()?,
        600.0,
    );
    for (what, figure, limit) in streams()? {
        check(what, figure, limit);
    }
    match system_calls()? {
        Ok(calls) => check("system calls per keep-alive request under load", calls, 2.1),
        Err(reason) => println!("SKIPPED system calls per request: {reason}"),
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What was counted, how often that allocated, and how often it may.
fn allocations() -> Vec<(&'static str, u64, u64)> {
    let mut results = Vec::new();
    let (deferred, resolver) = Deferred::pending();
    let mut deferred = Some(deferred);
    let mut add = |callback: fn(u64) -> u64| {
        let info = measure(|| deferred = deferred.take().map(|deferred| deferred.map(callback)));
        info.count_total
    };
    results.push((
        "allocations for a callback on a pending Deferred",
        add(|n| n + 1),
        1,
    ));
    let info = measure(|| resolver.callback(1).expect("it is pending"));
    results.push(("allocations for firing it", info.count_total, 0));
    let info = measure(|| {
        let fired = deferred.take().map(|deferred| deferred.map(|n| n + 1));
        assert!(fired.is_some_and(|fired| fired.result().is_ok()));
    });
    results.push((
        "allocations for a callback on a fired Deferred",
        info.count_total,
        0,
    ));

    let opts = HistogramOpts::new("seconds", "Seconds.");
    let seconds = Histogram::with_opts(opts).expect("it is valid");
    let failures = IntCounter::new("failures_total", "Failures.").expect("it is valid");
    let running = IntGauge::new("in_progress", "On their way.").expect("it is valid");
    let (deferred, resolver) = Deferred::pending();
    let info = measure(|| {
        let deferred = count_exceptions(&failures, track_inprogress(&running, deferred));
        let deferred = time(&seconds, deferred);
        resolver.callback(1_u64).expect("it is pending");
        assert!(deferred.result().is_ok());
    });
    let what = "allocations for three instruments on a pending Deferred, fired";
    results.push((what, info.count_total, 3));
    results
}

fn ours() -> Result<Peer, Box<dyn Error>> {
    Ok(Peer::by_name("ours").ok_or("`ours` is one of the peers")?)
}

fn idle_bytes() -> Result<f64, Box<dyn Error>> {
    let connections = 10_000;
    let server = ours()?.start(0, &[])?;
    let request = get("/plaintext", false);
    drop(hold_idle(server.address, &request, 10)?);
    std::thread::sleep(Duration::from_millis(100));
    let before = server.resident_bytes()?;
    let held = hold_idle(server.address, &request, connections)?;
    std::thread::sleep(Duration::from_millis(500));
    let after = server.resident_bytes()?;
    Ok(after.saturating_sub(before) as f64 / held.len() as f64)
}

/// What bodies that stream, and connections that never end, add to the memory of a server.
fn streams() -> Result<[Figure; 5], Box<dyn Error>> {
    let peer = STREAMERS.first().ok_or("`ours` is one of the streamers")?;
    let start = |args: &[&str]| peer.start(0, args);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let slow = slow_readers(&start(&["50"])?, 20)?;
    let upload = upload_memory(&start(&["50"])?, 100)?;
    let subscriber = events(&start(&["1"])?, 1_000, 5)?.bytes;

    let server = start(&["50", "--close"])?;
    let (before, connections) = (server.resident_bytes()?, 2_000);
    server.forget_peak()?;
    let mut trickle = Trickle::begin(server.address, connections)?;
    trickle.go_on();
    std::thread::sleep(Duration::from_millis(500));
    let each = server.peak_bytes()?.saturating_sub(before) as f64 / connections as f64;
    let left = trickle.left_at(Instant::now() + Duration::from_secs(20));
    Ok([
        (
            "MiB above idle for 50 MB to 20 slow readers",
            mib(slow),
            3.0,
        ),
        (
            "MiB above idle for 100 MB uploaded to disk",
            mib(upload),
            3.0,
        ),
        (
            "bytes of resident memory per subscriber of events",
            subscriber,
            3_000.0,
        ),
        // One in ten reads nothing of a large response: 64 KiB, a piece of 64 KiB, and its framing.
        // The others have sent a few bytes of a head or of a body.
        (
            "bytes of resident memory per connection that trickles",
            each,
            2_048.0 + 130.0 * 102.4,
        ),
        (
            "connections that trickle and are not cut off at their deadlines",
            left as f64,
            0.0,
        ),
    ])
}

/// Counted by strace, over exactly so many requests on 64 connections. `Err` if that is not
/// permitted here.
fn system_calls() -> Result<Result<f64, String>, Box<dyn Error>> {
    let server = ours()?.start(0, &[])?;
    let mut plan = Plan::new(server.address, "/plaintext", 64);
    // Starting and accepting are not under load: what they cost is in both runs.
    let mut counts = Vec::new();
    for requests in [2_000_u64, 22_000] {
        plan.at_most = requests;
        let mut strace = match Command::new("strace")
            .args(["-c", "-f", "-p", &server.pid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
        {
            Ok(strace) => strace,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err("strace is not installed".into()));
            }
            Err(error) => return Err(error.into()),
        };
        // It says "attached" when it is.
        std::thread::sleep(Duration::from_millis(500));
        if strace.try_wait()?.is_none() {
            closed_loop(&plan, || Ok(()))?;
            sys::signal(&strace, sys::SIGINT)?;
        }
        let said = strace.wait_with_output()?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        // % time, seconds, usecs/call, calls, errors (may be empty), "total".
        let total = said
            .lines()
            .find(|line| line.trim_end().ends_with(" total"));
        let calls = total.and_then(|line| line.split_whitespace().nth(3)?.parse::<f64>().ok());
        match calls {
            Some(calls) => counts.push(calls),
            None => {
                let reason = said
                    .lines()
                    .last()
                    .unwrap_or("strace said nothing")
                    .to_owned();
                return Ok(Err(reason));
            }
        }
    }
    Ok(Ok((counts[1] - counts[0]) / 20_000.0))
}
