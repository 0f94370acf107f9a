//! Work that blocks goes to threads: count the lines of some files.
//!
//! ```text
//! cargo run --release --example threads README.md Cargo.toml
//! Cargo.toml: 87 lines
//! README.md: 216 lines
//! 2 jobs done, none of which waited longer than 85.1µs for a thread
//! ```

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::rc::Rc;
use std::time::Duration;

use prometheus_deferred::{
    Failure, Reactor, RemoteReactor, blocking_call_from_thread, defer_later, defer_to_thread,
};

/// Runs in a thread of the pool, and may take its time.
fn count_lines(path: &str, remote: &RemoteReactor) -> Result<usize, Failure> {
    let mut lines = 0;
    for line in BufReader::new(File::open(path)?).lines() {
        line?;
        lines += 1;
    }
    // A thread cannot touch what belongs to the reactor, but it can ask there, and wait.
    blocking_call_from_thread(remote, move |reactor| {
        defer_later(reactor, Duration::from_millis(1), move || Ok(lines))
    })
}

fn main() -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        paths = vec!["README.md".into(), "Cargo.toml".into()];
    }
    let left = Rc::new(Cell::new(paths.len()));
    for path in paths {
        let (stop, left) = (reactor.clone(), left.clone());
        let (remote, file) = (reactor.remote(), path.clone());
        defer_to_thread(&reactor, move || count_lines(&file, &remote)).add_both(move |counted| {
            match counted {
                Ok(lines) => println!("{path}: {lines} lines"),
                Err(failure) => println!("{path}: {failure}"),
            }
            left.set(left.get() - 1);
            if left.get() == 0 {
                stop.stop()?;
            }
            Ok(())
        });
    }
    reactor.run()?;
    let stats = reactor.thread_pool_stats();
    println!(
        "{} jobs done, none of which waited longer than {:?} for a thread",
        stats.done, stats.longest_wait
    );
    Ok(())
}
