//! Sends the same bytes to our server, hyper, Go's net/http and nginx, and compares how each of
//! them understood these bytes. See `expected.md` for what is compared, and `run` for how.

mod exchange;
mod peers;
mod table;
mod vectors;

use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use exchange::Seen;
use peers::{Folder, Peer};
use table::{COLUMNS, Cells, Table};
use vectors::Vector;

/// Conversations at once. Most of their time is spent waiting for silence.
const THREADS: usize = 32;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let writes = match arguments[..] {
        [] => false,
        ["--write"] => true,
        _ => return Err("the only argument is --write, which rewrites expected.md".into()),
    };
    let start = Instant::now();
    let folder = Folder::new()?;
    let peers = peers::start(&folder)?;
    for column in COLUMNS {
        if !peers.iter().any(|peer| peer.name == column) {
            if writes || std::env::var_os("REQUIRE_PEERS").is_some() {
                return Err(format!("{column} is not installed").into());
            }
            println!("{column} is not installed; it is not compared");
        }
    }
    let vectors = vectors::all();
    let names: Vec<String> = vectors.iter().map(|vector| vector.name.clone()).collect();
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            return Err(format!("two vectors are named {name}").into());
        }
    }
    let seen = converse_with_all(&peers, &vectors)?;

    let mut faults = Vec::new();
    let mut found = Vec::new();
    for (name, seen) in names.iter().zip(&seen) {
        faults.extend(broken_rules(&peers, seen).map(|rule| format!("`{name}`: {rule}")));
        if seen
            .iter()
            .any(|one| one.to_string() != seen[0].to_string())
        {
            found.push((name.clone(), cells(&peers, seen)));
        }
    }
    let table = Table::read(&peers::sources().join("expected.md"))?;
    if writes {
        table.write(&found)?;
    } else {
        faults.extend(table.compare(&found, &names));
    }

    let versions = peers.iter().map(|peer| peer.version.as_str());
    let versions: Vec<_> = versions.filter(|version| !version.is_empty()).collect();
    println!(
        "{} vectors, {} with a difference; ours, hyper, {}; {:.1} s",
        vectors.len(),
        found.len(),
        versions.join(", "),
        start.elapsed().as_secs_f64()
    );
    for fault in &faults {
        println!("FAILED {fault}");
    }
    if faults.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} differences are not as tests/differential/expected.md has them. If they are right, run \
         tests/differential/run --write, and give a reason for each new row.",
        faults.len()
    );
    Ok(ExitCode::FAILURE)
}

/// What each peer made of each vector.
fn converse_with_all(peers: &[Peer], vectors: &[Vector]) -> Result<Vec<Vec<Seen>>, Box<dyn Error>> {
    let count = peers.len();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    let Some(vector) = vectors.get(job / count) else {
                        break;
                    };
                    let peer = &peers[job % count];
                    let seen = exchange::converse(&peer.socket, vector)
                        .map_err(|error| format!("{}, `{}`: {error}", peer.name, vector.name));
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((job, seen));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(job, _)| *job);
    let seen: Result<Vec<_>, String> = results.into_iter().map(|(_, seen)| seen).collect();
    Ok(seen?.chunks(count).map(<[Seen]>::to_vec).collect())
}

/// What may never be, listed or not. `seen` is in the order of `peers`, ours first.
fn broken_rules(peers: &[Peer], seen: &[Seen]) -> impl Iterator<Item = String> {
    let (ours, others) = (&seen[0], &seen[1..]);
    let all_refuse = others.iter().all(Seen::is_refusal);
    let alone = (all_refuse && !ours.is_refusal())
        .then(|| format!("all others refuse it, and ours does not: {ours}"));
    let others = peers[1..].iter().zip(others);
    let out_of_step = others.filter(|(_, seen)| ours.is_out_of_step(seen));
    alone
        .into_iter()
        .chain(out_of_step.map(move |(peer, seen)| {
            format!(
                "ours sees other requests than {}: {ours}; {seen}",
                peer.name
            )
        }))
}

fn cells(peers: &[Peer], seen: &[Seen]) -> Cells {
    COLUMNS.map(|column| {
        let at = peers.iter().position(|peer| peer.name == column);
        at.map(|at| seen[at].to_string()).unwrap_or_default()
    })
}
