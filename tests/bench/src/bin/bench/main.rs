//! The driver: servers on one core, the generator on another, peers interleaved round by round.
//!
//! ```text
//! bench [--quick] [--only WORKLOAD] [--peers ours,hyper]
//! ```
//!
//! Prints Markdown. RESULTS.md says how to read it; `./run` builds everything and calls this.

mod report;
mod workloads;

use std::error::Error;
use std::time::{Duration, Instant};

use bench::peers::{PEERS, Peer};
use bench::sys;

/// What was asked for.
#[derive(Debug, Clone)]
struct Options {
    is_quick: bool,
    only: Option<String>,
    peers: Vec<Peer>,
    server_core: usize,
    /// Nothing of ours runs for longer.
    deadline: Instant,
}

const USAGE: &str = "usage: bench [--quick] [--only WORKLOAD] [--peers NAME,NAME]";

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut options = Options {
        is_quick: false,
        only: None,
        peers: PEERS.iter().copied().filter(Peer::is_there).collect(),
        server_core: 0,
        deadline: start,
    };
    let mut names_peers = false;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => options.is_quick = true,
            "--only" => options.only = Some(args.next().ok_or(USAGE)?),
            "--peers" => {
                names_peers = true;
                let names = args.next().ok_or(USAGE)?;
                let peers = names.split(',').map(|name| {
                    let peer = Peer::by_name(name).ok_or_else(|| format!("no peer {name:?}"))?;
                    peer.is_there()
                        .then_some(peer)
                        .ok_or_else(|| format!("{name} is not built"))
                });
                options.peers = peers.collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("{USAGE}; got {arg:?}").into()),
        }
    }
    if options.is_quick && !names_peers {
        options.peers.retain(|peer| peer.is_default);
    }
    let known = workloads::all();
    if let Some(only) = &options.only
        && !known
            .iter()
            .any(|workload| workload.name.starts_with(only.as_str()))
    {
        let names: Vec<_> = known.iter().map(|workload| workload.name).collect();
        return Err(format!("no workload {only:?}; there are {}", names.join(", ")).into());
    }
    let minutes = if options.is_quick { 3 } else { 17 };
    options.deadline = start + Duration::from_secs(minutes * 60);

    let cores = std::thread::available_parallelism()?.get();
    let core = if cores > 1 { 1 } else { 0 };
    if cores == 1 {
        println!("There is one core only: the server and the generator share it.\n");
    }
    sys::pin_to_core(core)?;
    sys::raise_descriptor_limit()?;
    // The servers die with this process (see `peers`), so this stops everything.
    let limit = options.deadline + Duration::from_secs(5);
    std::thread::spawn(move || {
        std::thread::sleep(limit.saturating_duration_since(Instant::now()));
        eprintln!("out of time");
        std::process::exit(1);
    });

    for workload in known {
        let name = options.only.as_deref().unwrap_or_default();
        if workload.name.starts_with(name) {
            println!("## {}: {}\n", workload.name, workload.title);
            (workload.run)(&workload, &options)?;
            println!();
        }
    }
    println!("{:.0} s in all.", start.elapsed().as_secs_f64());
    Ok(())
}
