//! Nanoseconds, and allocations, of what happens inside one process.
//!
//! Every round runs each case once, so that all see the same disturbances; what is printed are
//! medians over the rounds. Prints Markdown.

use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bench::cases::{Case, deferreds, timers, wake_ups};

fn main() -> Result<(), Box<dyn Error>> {
    let is_quick = std::env::args().any(|arg| arg == "--quick");
    let rounds = if is_quick { 11 } else { 51 };
    let allocations = allocations().unwrap_or_else(|error| {
        println!("No allocations: {error}.\n");
        Vec::new()
    });
    println!("| | ns | fastest ns | allocations | bytes |");
    println!("|---|---:|---:|---:|---:|");
    // One group after the other: a million live timers do not stay in the caches for the rest.
    for (cases, rounds) in [
        (deferreds(), rounds),
        (timers(), rounds / 5),
        (wake_ups(), rounds),
    ] {
        for (name, median, least) in measure(cases, rounds) {
            let counted = allocations.iter().find(|(case, _)| *case == name);
            let counted = counted.map_or("- | -", |(_, counted)| counted);
            println!("| {name} | {median:.1} | {least:.1} | {counted} |");
        }
    }
    for (name, nanos) in others(is_quick) {
        match nanos {
            Ok(nanos) => println!("| {name} | {nanos:.1} | - | - | - |"),
            Err(error) => println!("| {name} | {error} | - | - | - |"),
        }
    }
    Ok(())
}

/// The median and the least of the nanoseconds an operation of each case took.
fn measure(mut cases: Vec<Case>, rounds: usize) -> Vec<(String, f64, f64)> {
    let enough = Duration::from_millis(1);
    let mut operations = Vec::new();
    for case in &mut cases {
        let mut count = case.fixed.unwrap_or(1);
        while case.fixed.is_none() && case.run(count) < enough {
            count *= 2;
        }
        operations.push(count);
    }
    let mut nanos = vec![Vec::new(); cases.len()];
    for _ in 0..rounds.max(3) {
        for (index, case) in cases.iter_mut().enumerate() {
            let took = case.run(operations[index]);
            nanos[index].push(took.as_nanos() as f64 / operations[index] as f64);
        }
    }
    let names = cases.into_iter().map(|case| case.name);
    names
        .zip(nanos)
        .map(|(name, mut nanos)| {
            nanos.sort_by(f64::total_cmp);
            (name, nanos[nanos.len() / 2], nanos[0])
        })
        .collect()
}

/// What `allocations` counts: the name of a case, and two cells of the table.
fn allocations() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let program = std::env::current_exe()?.with_file_name("allocations");
    let output = Command::new(program).output()?;
    let text = String::from_utf8(output.stdout)?;
    let cells = |line: &str| {
        let mut cells = line.split('\t').map(str::to_owned);
        Some((
            cells.next()?,
            format!("{} | {}", cells.next()?, cells.next()?),
        ))
    };
    Ok(text.lines().filter_map(cells).collect())
}

type Nanos = Result<f64, Box<dyn Error>>;

/// Other languages, where they are installed.
fn others(is_quick: bool) -> Vec<(&'static str, Nanos)> {
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
    let rounds = if is_quick { "5" } else { "21" };
    let run = |program: Option<std::ffi::OsString>, script: &str| {
        let program = program.ok_or("not installed")?;
        let output = Command::new(program)
            .arg(scripts.join(script))
            .arg(rounds)
            .output()?;
        if !output.status.success() {
            return Err("failed".into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    vec![
        (
            "Twisted's Deferred, 10 callbacks, fired",
            run(std::env::var_os("BENCH_PYTHON"), "twisted_deferred.py"),
        ),
        (
            "Node promise chain of 10",
            run(Some("node".into()), "node_promises.mjs"),
        ),
    ]
}
