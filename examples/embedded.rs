//! A plain synchronous program that exposes its metrics with one line.
//!
//! ```text
//! cargo run --release --example embedded             # or: ... --example embedded 127.0.0.1:0
//! listening on http://127.0.0.1:8000/
//! one line of standard input is one job; the end of it ends the program
//!
//! curl -s http://127.0.0.1:8000/metrics
//! # HELP jobs_total Jobs done.
//! # TYPE jobs_total counter
//! jobs_total 2
//! ```

use prometheus::register_int_counter;
use prometheus_deferred::{Failure, MetricsServer};

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let jobs = register_int_counter!("jobs_total", "Jobs done.")?;

    let server = MetricsServer::spawn(address)?; // the line

    println!("listening on {}", server.url());
    println!("one line of standard input is one job; the end of it ends the program");
    for line in std::io::stdin().lines() {
        let _the_job = line?;
        jobs.inc();
    }
    Ok(())
}
