//! The workloads, and how each is measured.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use bench::histogram::Histogram;
use bench::load::{Load, Pace, Paced, Plan, closed_loop, get, hold_idle, paced};
use bench::peers::{Peer, Server};
use bench::process::Cpu;

use super::Options;
use super::report::{Table, median, number};

/// One kind of load, and a table.
#[derive(Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub title: &'static str,
    shape: Shape,
    pub run: Run,
}

/// Measures, and prints the table.
type Run = fn(&Workload, &Options) -> Result<(), Box<dyn Error>>;

/// What the generator does.
#[derive(Clone, Copy)]
struct Shape {
    path: &'static str,
    connections: usize,
    pipeline: usize,
    reconnects: bool,
    series: usize,
}

const PLAINTEXT: Shape = Shape {
    path: "/plaintext",
    connections: 64,
    pipeline: 1,
    reconnects: false,
    series: 0,
};

const INC: Shape = Shape {
    path: "/inc",
    ..PLAINTEXT
};

const fn scrape(series: usize, connections: usize) -> Shape {
    Shape {
        path: "/metrics",
        connections,
        series,
        ..PLAINTEXT
    }
}

pub fn all() -> Vec<Workload> {
    let rate = |name, title, shape| Workload {
        name,
        title,
        shape,
        run: run_rounds,
    };
    vec![
        rate("plaintext", "64 keep-alive connections", PLAINTEXT),
        rate(
            "pipelined",
            "the same with 16 requests in a pipeline",
            Shape {
                pipeline: 16,
                ..PLAINTEXT
            },
        ),
        rate(
            "inc",
            "a counter and a histogram by labels, 64 keep-alive connections",
            INC,
        ),
        rate(
            "close",
            "a connection per request, 16 at a time",
            Shape {
                connections: 16,
                reconnects: true,
                ..PLAINTEXT
            },
        ),
        rate("metrics-100-1", "100 series, 1 connection", scrape(100, 1)),
        rate("metrics-100-4", "100 series, 4 connections", scrape(100, 4)),
        rate(
            "metrics-1000-1",
            "1,000 series, 1 connection",
            scrape(1_000, 1),
        ),
        rate(
            "metrics-1000-4",
            "1,000 series, 4 connections",
            scrape(1_000, 4),
        ),
        rate(
            "metrics-10000-1",
            "10,000 series, 1 connection",
            scrape(10_000, 1),
        ),
        rate(
            "metrics-10000-4",
            "10,000 series, 4 connections",
            scrape(10_000, 4),
        ),
        Workload {
            name: "memory",
            title: "resident memory of idle keep-alive connections",
            shape: PLAINTEXT,
            run: run_memory,
        },
        Workload {
            name: "probe",
            title: "/plaintext at 1,000/s while another client scrapes 100,000 series",
            shape: scrape(100_000, 1),
            run: run_probe,
        },
        Workload {
            name: "instructions",
            title: "instructions of the server's own per request, counted by callgrind",
            shape: PLAINTEXT,
            run: run_instructions,
        },
    ]
}

impl Shape {
    fn suits(&self, peer: Peer) -> bool {
        let is_scrape = self.path == "/metrics";
        (peer.has_metrics || self.path == "/plaintext")
            && (peer.closes || !self.reconnects)
            && (is_scrape || !peer.only_metrics)
    }

    fn server_args(&self) -> Vec<String> {
        let mut args = vec![self.series.to_string()];
        if self.reconnects {
            args.push("--close".into());
        }
        args
    }

    fn start(&self, peer: Peer, options: &Options) -> io::Result<Server> {
        let args = self.server_args();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        peer.start(options.server_core, &args)
    }

    fn plan(&self, server: &Server) -> Plan {
        Plan {
            request: get(self.path, self.reconnects),
            pipeline: self.pipeline,
            reconnects: self.reconnects,
            ..Plan::new(server.address, self.path, self.connections)
        }
    }
}

/// What one peer did in one round.
struct Round {
    load: Load,
    server: Cpu,
    generator: Cpu,
}

impl Round {
    /// Server CPU per request in microseconds, which is seconds per million.
    fn cpu(&self) -> f64 {
        self.server.nanos as f64 / 1e3 / self.load.requests() as f64
    }
}

/// Calls `load` with a `mark` that reads what both sides have cost, and returns the differences.
fn costs<L>(
    server: &Server,
    load: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<L>,
) -> io::Result<(L, Cpu, Cpu)> {
    let mut marks = Vec::new();
    let load = load(&mut || {
        marks.push((server.cpu()?, Cpu::of(None)?));
        Ok(())
    })?;
    let [(server_from, self_from), (server_to, self_to)] = marks[..] else {
        return Err(io::Error::other("a load marks its beginning and its end"));
    };
    Ok((load, server_to - server_from, self_to - self_from))
}

/// A peer, its server, what it did, and why it stopped taking part.
struct Entrant {
    peer: Peer,
    server: Server,
    rounds: Vec<Round>,
    gave_up: Option<String>,
}

fn run_rounds(workload: &Workload, options: &Options) -> Result<(), Box<dyn Error>> {
    let shape = workload.shape;
    let is_scrape = shape.path == "/metrics";
    let (rounds, time) = match (options.is_quick, is_scrape) {
        (true, false) => (4, Duration::from_millis(320)),
        (true, true) => (3, Duration::from_millis(300)),
        (false, false) => (11, Duration::from_millis(600)),
        (false, true) => (5, Duration::from_millis(600)),
    };
    let mut entrants = Vec::new();
    for &peer in options.peers.iter().filter(|peer| shape.suits(**peer)) {
        entrants.push(Entrant {
            peer,
            server: shape.start(peer, options)?,
            rounds: Vec::new(),
            gave_up: None,
        });
    }
    for round in 0..rounds {
        let first = round % entrants.len();
        for index in 0..entrants.len() {
            // Each follows and precedes others than in the round before.
            let index = (first + index) % entrants.len();
            let entrant = &mut entrants[index];
            if entrant.gave_up.is_some() {
                continue;
            }
            let plan = Plan {
                time,
                warm_up: time / 4,
                ..shape.plan(&entrant.server)
            };
            match costs(&entrant.server, |mark| closed_loop(&plan, mark)) {
                Ok((load, server, generator)) => entrant.rounds.push(Round {
                    load,
                    server,
                    generator,
                }),
                Err(error) => entrant.gave_up = Some(error.to_string()),
            }
        }
    }

    let of = |name: &str| entrants.iter().find(|entrant| entrant.peer.name == name);
    let yardsticks = [of("hyper"), of("epoll_http")];
    let mut table = Table::new(&[
        "",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU s per million",
        "user",
        "system",
        "CPU / hyper",
        "CPU / epoll_http",
        "user / hyper",
        "req/s / hyper",
        "saturated",
    ]);
    for entrant in &entrants {
        if let Some(reason) = &entrant.gave_up {
            table.row(vec![entrant.peer.name.into(), reason.clone()]);
            continue;
        }
        let rounds = &entrant.rounds;
        let each = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
        // Of the same round.
        let ratio = |other: Option<&Entrant>, value: fn(&Round) -> f64| {
            let other = &other?.rounds;
            median(
                rounds
                    .iter()
                    .zip(other)
                    .map(|(one, other)| value(one) / value(other)),
            )
        };
        let mut latencies = Histogram::default();
        rounds
            .iter()
            .for_each(|round| latencies.merge(&round.load.latencies));
        let cpu = each(Round::cpu);
        let user = user_share(rounds);
        let times = |share: Option<f64>| Some(cpu? * share?);
        let user_over_hyper = yardsticks[0].and_then(|hyper| {
            let of_hyper = user_share(&hyper.rounds)?;
            Some(ratio(Some(hyper), Round::cpu)? * user? / of_hyper)
        });
        table.row(vec![
            entrant.peer.name.into(),
            number(each(|round| round.load.per_second())),
            number(Some(ms(latencies.quantile(0.5)))),
            number(Some(ms(latencies.quantile(0.99)))),
            number(cpu),
            number(times(user)),
            number(times(user.map(|user| 1.0 - user))),
            number(ratio(yardsticks[0], Round::cpu)),
            number(ratio(yardsticks[1], Round::cpu)),
            number(user_over_hyper),
            number(ratio(yardsticks[0], |round| round.load.per_second())),
            saturated(rounds),
        ]);
    }
    table.print();
    Ok(())
}

/// What share of the CPU time is the server's own and not the kernel's, over all rounds: it is
/// sampled, so one round alone says little.
fn user_share(rounds: &[Round]) -> Option<f64> {
    let sum = |ticks: fn(&Cpu) -> u64| rounds.iter().map(|round| ticks(&round.server)).sum::<u64>();
    let (user, system) = (sum(|cpu| cpu.user_ticks), sum(|cpu| cpu.system_ticks));
    (user + system > 0).then(|| user as f64 / (user + system) as f64)
}

/// Which side had no time left, and how much of its time others took.
fn saturated(rounds: &[Round]) -> String {
    let side = |name: &str, cpu: fn(&Round) -> Cpu| {
        let share = |nanos: fn(&Cpu) -> u64| {
            let shares = rounds.iter().map(|round| {
                nanos(&cpu(round)) as f64 / round.load.elapsed.as_nanos() as f64 * 100.0
            });
            median(shares).unwrap_or(0.0)
        };
        let (busy, waiting) = (share(|cpu| cpu.nanos), share(|cpu| cpu.waiting_nanos));
        (
            busy + waiting,
            format!("{name} {busy:.0}% + {waiting:.0}% waiting"),
        )
    };
    let (server, server_text) = side("server", |round| round.server);
    let (generator, generator_text) = side("generator", |round| round.generator);
    let verdict = match (server >= 90.0, generator >= 90.0) {
        (true, true) => "both",
        (true, false) => "server",
        (false, true) => "generator",
        (false, false) => "neither",
    };
    format!("{verdict} ({server_text}, {generator_text})")
}

fn run_memory(workload: &Workload, options: &Options) -> Result<(), Box<dyn Error>> {
    let connections = 10_000;
    let mut table = Table::new(&["", "connections", "bytes each", "before MiB", "after MiB"]);
    let peers = options
        .peers
        .iter()
        .filter(|peer| workload.shape.suits(**peer));
    for &peer in peers {
        let server = workload.shape.start(peer, options)?;
        let request = get(workload.shape.path, false);
        let measured = (|| {
            // What the first connections cost once is not what each costs.
            drop(hold_idle(server.address, &request, 10)?);
            std::thread::sleep(Duration::from_millis(100));
            let before = server.resident_bytes()?;
            let held = hold_idle(server.address, &request, connections)?;
            std::thread::sleep(Duration::from_millis(500));
            Ok::<_, io::Error>((before, server.resident_bytes()?, held.len()))
        })();
        let mib = |bytes: u64| number(Some(bytes as f64 / f64::from(1 << 20)));
        table.row(match measured {
            Ok((before, after, held)) => {
                let each = after.saturating_sub(before) as f64 / held as f64;
                let name = peer.name.to_owned();
                vec![
                    name,
                    held.to_string(),
                    format!("{each:.0}"),
                    mib(before),
                    mib(after),
                ]
            }
            Err(error) => vec![peer.name.into(), error.to_string()],
        });
    }
    table.print();
    Ok(())
}

/// What came of one round, and what it cost the server.
type Probed = (Paced, Cpu);

fn run_probe(workload: &Workload, options: &Options) -> Result<(), Box<dyn Error>> {
    let (rounds, time) = if options.is_quick {
        (1, Duration::from_secs(2))
    } else {
        (2, Duration::from_secs(3))
    };
    let kinds = [
        ("nobody scrapes", None, Duration::ZERO),
        ("once a second", Some(()), Duration::from_secs(1)),
        ("without pause", Some(()), Duration::ZERO),
    ];
    let mut table = Table::new(&[
        "",
        "scrapes",
        "probe p50 ms",
        "p99 ms",
        "max ms",
        "probes/s",
        "scrapes/s",
        "scrape p50 ms",
        "server CPU %",
        "waiting %",
    ]);
    let shape = workload.shape;
    let mut entrants = Vec::new();
    for &peer in options.peers.iter().filter(|peer| shape.suits(**peer)) {
        entrants.push((peer, shape.start(peer, options)?));
    }
    for (title, scrape, scrape_interval) in kinds {
        let mut results: Vec<Vec<Probed>> = entrants.iter().map(|_| Vec::new()).collect();
        let mut gave_up = vec![None; entrants.len()];
        for _ in 0..rounds {
            for (index, (_, server)) in entrants.iter().enumerate() {
                let pace = Pace {
                    address: server.address,
                    request: get("/plaintext", false),
                    per_second: 1_000,
                    // Enough for what comes while a server stands still for half a second.
                    connections: 512,
                    scrape: scrape.map(|()| get("/metrics", false)),
                    scrape_interval,
                    warm_up: time / 8,
                    time,
                };
                match costs(server, |mark| paced(&pace, mark)) {
                    Ok((result, cpu, _)) => results[index].push((result, cpu)),
                    Err(error) => gave_up[index] = Some(error.to_string()),
                }
            }
        }
        for (index, (peer, _)) in entrants.iter().enumerate() {
            if let Some(reason) = gave_up[index].take() {
                table.row(vec![peer.name.into(), title.into(), reason]);
                continue;
            }
            let rounds = &results[index];
            let each = |value: fn(&Probed) -> f64| number(median(rounds.iter().map(value)));
            let share = |nanos: u64, paced: &Paced| {
                nanos as f64 / paced.probes.elapsed.as_nanos() as f64 * 100.0
            };
            let shares = |nanos: fn(&Cpu) -> u64| {
                let shares = rounds.iter().map(|(paced, cpu)| share(nanos(cpu), paced));
                format!("{:.0}", median(shares).unwrap_or(0.0))
            };
            table.row(vec![
                peer.name.into(),
                title.into(),
                each(|(paced, _)| ms(paced.probes.latencies.quantile(0.5))),
                each(|(paced, _)| ms(paced.probes.latencies.quantile(0.99))),
                each(|(paced, _)| ms(paced.probes.latencies.max())),
                each(|(paced, _)| paced.probes.per_second()),
                each(|(paced, _)| paced.scrapes.per_second()),
                each(|(paced, _)| ms(paced.scrapes.latencies.quantile(0.5))),
                shares(|cpu| cpu.nanos),
                shares(|cpu| cpu.waiting_nanos),
            ]);
        }
    }
    table.print();
    Ok(())
}

/// A time in milliseconds.
fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn run_instructions(_: &Workload, options: &Options) -> Result<(), Box<dyn Error>> {
    if std::process::Command::new("valgrind")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("SKIPPED: valgrind is not installed.");
        return Ok(());
    }
    let shapes = all();
    let shapes = shapes
        .iter()
        .filter(|workload| !workload.shape.path.contains("metrics"));
    let shapes: Vec<_> = shapes.take(4).collect();
    let mut titles = vec![""];
    titles.extend(shapes.iter().map(|workload| workload.name));
    let mut table = Table::new(&titles);
    for &peer in &options.peers {
        if peer.only_metrics {
            continue;
        }
        // An interpreter would take minutes, and green threads are not followed.
        if ["ours again", "Twisted", "may_minihttp"].contains(&peer.name) {
            continue;
        }
        let mut row = vec![peer.name.to_owned()];
        for workload in &shapes {
            let shape = workload.shape;
            if options.deadline < Instant::now() + Duration::from_secs(20) {
                row.push("out of time".into());
                continue;
            }
            row.push(match shape.suits(peer) {
                false => "-".into(),
                true => instructions(peer, &shape, options)
                    .map_or_else(|error| error.to_string(), |count| format!("{count:.0}")),
            });
        }
        table.row(row);
    }
    table.print();
    Ok(())
}

/// The difference between two runs of the server, so that its start does not count.
fn instructions(peer: Peer, shape: &Shape, options: &Options) -> io::Result<f64> {
    let after = |requests: u64| {
        let wrapper = [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
        ];
        let args = shape.server_args();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let server = peer.start_under(&wrapper, options.server_core, &args)?;
        let plan = Plan {
            at_most: requests,
            ..shape.plan(&server)
        };
        closed_loop(&plan, || Ok(()))?;
        let said = server.stop()?;
        let collected = said
            .lines()
            .rev()
            .find_map(|line| line.split_once("Collected : "));
        collected
            .and_then(|(_, count)| count.trim().parse::<f64>().ok())
            .ok_or_else(|| io::Error::other("callgrind gave no count"))
    };
    // A multiple of the pipeline, and more than there are connections.
    let (few, many) = (64 * 16, 5 * 64 * 16);
    Ok((after(many)? - after(few)?) / (many - few) as f64)
}
