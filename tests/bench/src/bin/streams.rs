//! Measures bodies that stream, in both directions, and connections that never end. Prints tables.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use bench::load::{Pace, get, paced};
use bench::peers::{Peer, STREAMERS};
use bench::streams::{Trickle, drain, events, slow_readers, upload, upload_memory};
use bench::sys;

const ROUNDS: usize = 5;

/// Milliseconds of each round: a gigabyte out, and one in.
type Times = (Vec<f64>, Vec<f64>);

fn main() -> Result<(), Box<dyn Error>> {
    sys::raise_descriptor_limit()?;
    sys::pin_to_core(1)?;
    let peers: Vec<Peer> = STREAMERS.iter().copied().filter(Peer::is_there).collect();
    memory(&peers);
    gigabytes(&peers)?;
    subscribers(&peers)?;
    trickle(&peers);
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn cell(result: io::Result<f64>) -> String {
    result.map_or_else(|error| error.to_string(), |figure| format!("{figure:.2}"))
}

fn memory(peers: &[Peer]) {
    println!("### streams: memory above idle, MiB\n");
    println!("|  | 50 MB to 20 slow readers | 100 MB uploaded to disk |");
    println!("|---|---:|---:|");
    for peer in peers {
        let slow = peer
            .start(0, &["50"])
            .and_then(|server| slow_readers(&server, 20));
        let saved = match peer.name {
            // It would be written as for hyper.
            "axum" => Err(io::Error::other("-")),
            _ => peer
                .start(0, &["50"])
                .and_then(|server| upload_memory(&server, 100)),
        };
        let (slow, saved) = (cell(slow.map(mib)), cell(saved.map(mib)));
        println!("| {} | {slow} | {saved} |", peer.name);
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Interleaved: each round asks every server once.
fn gigabytes(peers: &[Peer]) -> Result<(), Box<dyn Error>> {
    let servers: Vec<_> = peers
        .iter()
        .map(|peer| peer.start(0, &["1024"]))
        .collect::<io::Result<_>>()?;
    println!("\n### streams: processor time of a gigabyte, ms, median of {ROUNDS} rounds\n");
    println!("|  | out | in | out / hyper | in / hyper |");
    println!("|---|---:|---:|---:|---:|");
    let mut times = vec![(Vec::new(), Vec::new()); peers.len()];
    for round in 0..ROUNDS {
        for index in 0..servers.len() {
            let index = (round + index) % servers.len();
            let server = &servers[index];
            let start = server.cpu()?;
            drain(server, 1)?;
            let middle = server.cpu()?;
            upload(server, "/sink", 1024)?;
            let end = server.cpu()?;
            times[index].0.push((middle - start).nanos as f64 / 1e6);
            times[index].1.push((end - middle).nanos as f64 / 1e6);
        }
    }
    let hyper = peers.iter().position(|peer| peer.name == "hyper");
    for (index, peer) in peers.iter().enumerate() {
        let ratio = |of: fn(&Times) -> &Vec<f64>| {
            hyper.map_or(f64::NAN, |hyper| {
                let pairs = of(&times[index]).iter().zip(of(&times[hyper]));
                median(pairs.map(|(one, other)| one / other).collect())
            })
        };
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} |",
            peer.name,
            median(times[index].0.clone()),
            median(times[index].1.clone()),
            ratio(|times| &times.0),
            ratio(|times| &times.1),
        );
    }
    Ok(())
}

fn subscribers(peers: &[Peer]) -> Result<(), Box<dyn Error>> {
    println!("\n### events: 1,000 subscribers, 200 messages to each\n");
    println!("|  | ns a message and subscriber | bytes a subscriber |");
    println!("|---|---:|---:|");
    for peer in peers.iter().filter(|peer| peer.name != "hyper") {
        let mut rounds = Vec::new();
        for _ in 0..3 {
            rounds.push(events(&peer.start(0, &["1"])?, 1_000, 200)?);
        }
        let of = |figure: fn(&bench::streams::Events) -> f64| {
            median(rounds.iter().map(figure).collect())
        };
        let (nanos, bytes) = (of(|events| events.nanos), of(|events| events.bytes));
        println!("| {} | {nanos:.0} | {bytes:.0} |", peer.name);
    }
    Ok(())
}

fn trickle(peers: &[Peer]) {
    println!("\n### trickle: 9,900 connections that never end, deadlines of 4 s\n");
    println!("|  | kB each | p99 ms before | p99 ms meanwhile | left after 20 s |");
    println!("|---|---:|---:|---:|---:|");
    // The others have no deadlines for most of it.
    for peer in peers.iter().filter(|peer| peer.name == "ours") {
        match trickle_of(peer) {
            Ok(cells) => println!("| {} | {cells} |", peer.name),
            Err(error) => println!("| {} | {error} |", peer.name),
        }
    }
}

fn trickle_of(peer: &Peer) -> io::Result<String> {
    let connections = 9_900;
    let server = peer.start(0, &["50", "--close"])?;
    let pace = Pace {
        address: server.address,
        request: get("/plaintext", false),
        per_second: 500,
        connections: 16,
        scrape: None,
        scrape_interval: Duration::ZERO,
        warm_up: Duration::from_millis(200),
        time: Duration::from_secs(2),
    };
    let p99 = || {
        let result = paced(&pace, || Ok(()))?;
        io::Result::Ok(result.probes.latencies.quantile(0.99).as_secs_f64() * 1e3)
    };
    let before = p99()?;
    let idle = server.resident_bytes()?;
    server.forget_peak()?;
    let mut trickle = Trickle::begin(server.address, connections)?;
    trickle.go_on();
    let meanwhile = p99()?;
    let each = server.peak_bytes()?.saturating_sub(idle) as f64 / connections as f64 / 1e3;
    let left = trickle.left_at(Instant::now() + Duration::from_secs(20));
    Ok(format!("{each:.1} | {before:.2} | {meanwhile:.2} | {left}"))
}
