//! The generator: one thread that keeps connections busy and looks at the clock.
//!
//! - [`closed_loop`]: each connection sends its next requests once the last are answered.
//! - [`hold_idle`]: many connections that have been used once and then do nothing.
//! - [`paced`]: requests that are due at a fixed rate, whether or not the server keeps up, while
//!   another connection asks for something large.
//!
//! Every response is read to its end and must have status 200.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::sys::{self, EPOLLIN, EPOLLRDHUP, Epoll, Event};

/// Nothing came for so long: the server is stuck, or does not do what it was asked for.
const STALLED: Duration = Duration::from_secs(10);

const EVENTS: usize = 256;
const BUFFER_BYTES: usize = 256 * 1024;

/// A GET request as a load generator sends it.
pub fn get(path: &str, closes: bool) -> Vec<u8> {
    let close = if closes { "Connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{close}\r\n").into_bytes()
}

/// What [`closed_loop`] sends.
#[derive(Debug, Clone)]
pub struct Plan {
    pub address: SocketAddr,
    pub request: Vec<u8>,
    pub connections: usize,
    /// How many requests a connection sends at once.
    pub pipeline: usize,
    /// A new connection for each request, which the server is to close.
    pub reconnects: bool,
    /// What is sent before anything is measured.
    pub warm_up: Duration,
    pub time: Duration,
    /// It takes longer if there are fewer than these in `time`, but no more than five times as long.
    pub at_least: u64,
    /// Stops after exactly so many requests, for who counts instructions.
    pub at_most: u64,
}

impl Plan {
    pub fn new(address: SocketAddr, path: &str, connections: usize) -> Self {
        Self {
            address,
            request: get(path, false),
            connections,
            pipeline: 1,
            reconnects: false,
            warm_up: Duration::from_millis(200),
            time: Duration::from_secs(1),
            at_least: 8,
            at_most: u64::MAX,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Load {
    pub latencies: Histogram,
    pub elapsed: Duration,
}

impl Load {
    pub fn requests(&self) -> u64 {
        self.latencies.count()
    }

    pub fn per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs a plan. `mark` is called when the warm-up is over, and once more at the end.
pub fn closed_loop(plan: &Plan, mut mark: impl FnMut() -> io::Result<()>) -> io::Result<Load> {
    let epoll = Epoll::new()?;
    let batch = plan.request.repeat(plan.pipeline);
    let mut clients = Vec::new();
    let mut sent = 0;
    for token in 0..plan.connections {
        clients.push(Client::connect(plan.address, &epoll, token)?);
        clients[token].send(&batch, plan.pipeline)?;
        sent += plan.pipeline as u64;
    }

    let mut load = Load::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut known = KnownHead::default();
    let mut events = [Event { events: 0, u64: 0 }; EVENTS];
    let mut start = Instant::now();
    let mut warms_up = plan.at_most == u64::MAX;
    if !warms_up {
        mark()?;
    }
    loop {
        let events = epoll.wait(&mut events, Some(STALLED))?;
        if events.is_empty() {
            return Err(io::Error::new(ErrorKind::TimedOut, "no response in 10 s"));
        }
        for event in events {
            let token = event.u64 as usize;
            let client = &mut clients[token];
            let state = client.receive(&mut buffer, &mut known, |latency| {
                load.latencies.record(latency);
            })?;
            if sent >= plan.at_most {
                if load.requests() >= sent {
                    mark()?;
                    load.elapsed = start.elapsed();
                    return Ok(load);
                }
                continue;
            }
            match state {
                State::Closed if plan.reconnects => {
                    *client = Client::connect(plan.address, &epoll, token)?;
                    client.send(&batch, plan.pipeline)?;
                    sent += 1;
                }
                State::Closed => return Err(io::Error::other("the server closed a connection")),
                State::Answered if !plan.reconnects => {
                    client.send(&batch, plan.pipeline)?;
                    sent += plan.pipeline as u64;
                }
                State::Answered | State::Waiting => {}
            }
        }

        let elapsed = start.elapsed();
        if warms_up {
            if elapsed >= plan.warm_up {
                warms_up = false;
                mark()?;
                load.latencies.clear();
                start = Instant::now();
            }
        } else if elapsed >= plan.time
            && (load.requests() >= plan.at_least || elapsed >= plan.time * 5)
            && plan.at_most == u64::MAX
        {
            mark()?;
            load.elapsed = start.elapsed();
            return Ok(load);
        }
    }
}

/// Opens so many connections, uses each once, and keeps them. None may be closed meanwhile.
pub fn hold_idle(
    address: SocketAddr,
    request: &[u8],
    connections: usize,
) -> io::Result<Vec<TcpStream>> {
    let epoll = Epoll::new()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut known = KnownHead::default();
    let mut events = [Event { events: 0, u64: 0 }; 1];
    let mut held = Vec::new();
    for token in 0..connections {
        let mut client = Client::connect(address, &epoll, token)?;
        client.send(request, 1)?;
        loop {
            if epoll.wait(&mut events, Some(STALLED))?.is_empty() {
                return Err(io::Error::new(ErrorKind::TimedOut, "no response in 10 s"));
            }
            if events[0].u64 as usize != token {
                return Err(io::Error::other("the server closed an idle connection"));
            }
            match client.receive(&mut buffer, &mut known, |_| ())? {
                State::Waiting => {}
                State::Answered => break,
                State::Closed => return Err(io::Error::other("the server closed a connection")),
            }
        }
        held.push(client.stream);
    }
    Ok(held)
}

/// What [`paced`] sends.
#[derive(Debug, Clone)]
pub struct Pace {
    pub address: SocketAddr,
    /// The probe, so many times a second.
    pub request: Vec<u8>,
    pub per_second: u32,
    /// Over so many connections, each with one probe at a time; more wait here, and the time counts.
    pub connections: usize,
    /// The large one, on a connection of its own.
    pub scrape: Option<Vec<u8>>,
    /// From the start of one scrape to that of the next; zero is without pause.
    pub scrape_interval: Duration,
    pub warm_up: Duration,
    pub time: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Paced {
    /// From the moment each was due.
    pub probes: Load,
    pub scrapes: Load,
}

/// Runs a pace. `mark` is called when the warm-up is over, and once more at the end.
pub fn paced(pace: &Pace, mut mark: impl FnMut() -> io::Result<()>) -> io::Result<Paced> {
    // A timer of this thread may be late by 50 us unless it says otherwise.
    std::fs::write("/proc/self/timerslack_ns", "1")?;
    let epoll = Epoll::new()?;
    let mut clients = Vec::new();
    // One more: the last is the one that scrapes.
    for token in 0..=pace.connections {
        clients.push(Client::connect(pace.address, &epoll, token)?);
    }
    // In turn: a server may close a connection that never sends anything.
    let mut free: VecDeque<usize> = (0..pace.connections).collect();
    let mut due = VecDeque::new();
    let mut result = Paced::default();
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut known, mut known_scrape) = (KnownHead::default(), KnownHead::default());
    let mut events = [Event { events: 0, u64: 0 }; EVENTS];

    let interval = Duration::from_secs(1) / pace.per_second;
    let mut now = Instant::now();
    let mut start = now;
    let mut next_probe = now;
    let mut next_scrape = pace.scrape.as_ref().map(|_| now);
    let mut warms_up = true;
    loop {
        while next_probe <= now {
            due.push_back(next_probe);
            next_probe += interval;
        }
        while !due.is_empty() && !free.is_empty() {
            let (token, due) = (free.pop_front().expect("not empty"), due.pop_front());
            clients[token].send(&pace.request, 1)?;
            clients[token].sent_at = due.expect("not empty");
        }
        if let Some(scrape) = &pace.scrape
            && next_scrape.is_some_and(|time| time <= now)
        {
            clients[pace.connections].send(scrape, 1)?;
            // The next one is set when this one is answered.
            next_scrape = None;
        }

        let wakes = next_scrape.map_or(next_probe, |scrape| scrape.min(next_probe));
        let wait = wakes.saturating_duration_since(Instant::now());
        for event in epoll.wait(&mut events, Some(wait))? {
            let token = event.u64 as usize;
            let is_scrape = token == pace.connections;
            let (known, load) = if is_scrape {
                (&mut known_scrape, &mut result.scrapes)
            } else {
                (&mut known, &mut result.probes)
            };
            let client = &mut clients[token];
            let sent_at = client.sent_at;
            match client.receive(&mut buffer, known, |latency| {
                load.latencies.record(latency);
            })? {
                State::Waiting => {}
                State::Closed => return Err(io::Error::other("the server closed a connection")),
                State::Answered if is_scrape => {
                    next_scrape = Some(sent_at + pace.scrape_interval);
                }
                State::Answered => free.push_back(token),
            }
        }

        now = Instant::now();
        let elapsed = now - start;
        if warms_up && elapsed >= pace.warm_up {
            warms_up = false;
            mark()?;
            result.probes.latencies.clear();
            result.scrapes.latencies.clear();
            start = Instant::now();
        } else if !warms_up && elapsed >= pace.time {
            mark()?;
            // What is still owed counts with what it has waited so far; leaving it out would
            // flatter a server that stands still.
            let probes = &clients[..pace.connections];
            for client in probes.iter().filter(|client| client.unanswered > 0) {
                result.probes.latencies.record(now - client.sent_at);
            }
            for due in due {
                result.probes.latencies.record(now - due);
            }
            result.probes.elapsed = elapsed;
            result.scrapes.elapsed = elapsed;
            return Ok(result);
        }
    }
}

/// One connection.
struct Client {
    stream: TcpStream,
    reader: Reader,
    unanswered: usize,
    sent_at: Instant,
}

/// How a connection stands after reading.
enum State {
    Waiting,
    /// Nothing is owed any more.
    Answered,
    /// By the server, after all that it owed.
    Closed,
}

impl Client {
    fn connect(address: SocketAddr, epoll: &Epoll, token: usize) -> io::Result<Self> {
        let sent_at = Instant::now();
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        sys::reset_on_close(&stream)?;
        epoll.add(&stream, token as u64, EPOLLIN | EPOLLRDHUP)?;
        Ok(Self {
            stream,
            reader: Reader::Head(Vec::new()),
            unanswered: 0,
            sent_at,
        })
    }

    /// Sends `requests` requests. On a fresh connection, the time to connect counts as theirs.
    fn send(&mut self, bytes: &[u8], requests: usize) -> io::Result<()> {
        if self.unanswered == 0 {
            self.sent_at = Instant::now();
        }
        self.unanswered += requests;
        // A server that reads them keeps the socket's buffer empty, so this never blocks.
        self.stream.write_all(bytes)
    }

    /// Reads once, and tells the latency of each response that is complete now.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        known: &mut KnownHead,
        mut answered: impl FnMut(Duration),
    ) -> io::Result<State> {
        let count = match self.stream.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(State::Waiting),
            Err(error) if error.kind() == ErrorKind::ConnectionReset && self.unanswered == 0 => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            return match self.unanswered {
                0 => Ok(State::Closed),
                _ => Err(io::Error::other(
                    "the server closed before its last response",
                )),
            };
        }
        let complete = self.reader.feed(&buffer[..count], known)?;
        if complete > 0 {
            let latency = self.sent_at.elapsed();
            (0..complete).for_each(|_| answered(latency));
        }
        self.unanswered = self
            .unanswered
            .checked_sub(complete)
            .ok_or_else(|| io::Error::other("more responses than requests"))?;
        Ok(match self.unanswered {
            0 => State::Answered,
            _ => State::Waiting,
        })
    }
}

/// The head that came last, and how many bytes of body it announced: nearly always, the next one is
/// the same.
#[derive(Debug, Default)]
struct KnownHead {
    bytes: Vec<u8>,
    body: u64,
}

/// Where in a response a connection is.
enum Reader {
    /// What has come of a head that is not complete.
    Head(Vec<u8>),
    /// So many bytes of the body are to come.
    Body(u64),
    /// In a chunked body, with what has come of a line that is not complete.
    ChunkLine(Vec<u8>),
    /// So many bytes of a chunk are to come, its line end included.
    Chunk(u64),
    /// In the last lines of a chunked body.
    Trailer(Vec<u8>),
}

impl Reader {
    /// Takes in what came; how many responses are complete now.
    fn feed(&mut self, mut data: &[u8], known: &mut KnownHead) -> io::Result<usize> {
        let mut complete = 0;
        while !data.is_empty() {
            match self {
                Self::Head(partial) => {
                    if partial.is_empty()
                        && !known.bytes.is_empty()
                        && let Some(rest) = data.strip_prefix(&known.bytes[..])
                    {
                        data = rest;
                        *self = Self::Body(known.body);
                    } else {
                        let had = partial.len();
                        partial.extend_from_slice(data);
                        let Some(length) = find(partial, b"\r\n\r\n") else {
                            break;
                        };
                        let length = length + 4;
                        data = &data[length - had..];
                        partial.truncate(length);
                        *self = match framing(partial)? {
                            Some(body) => {
                                known.bytes.clone_from(partial);
                                known.body = body;
                                Self::Body(body)
                            }
                            None => Self::ChunkLine(Vec::new()),
                        };
                    }
                    if matches!(self, Self::Body(0)) {
                        complete += 1;
                        *self = Self::Head(Vec::new());
                    }
                }
                Self::Body(left) | Self::Chunk(left) => {
                    let taken = (*left).min(data.len() as u64);
                    data = &data[taken as usize..];
                    *left -= taken;
                    if *left == 0 {
                        let is_chunk = matches!(self, Self::Chunk(_));
                        *self = if is_chunk {
                            Self::ChunkLine(Vec::new())
                        } else {
                            complete += 1;
                            Self::Head(Vec::new())
                        };
                    }
                }
                Self::ChunkLine(line) => {
                    line.push(data[0]);
                    data = &data[1..];
                    if let Some(digits) = line.strip_suffix(b"\r\n") {
                        let length = std::str::from_utf8(digits)
                            .ok()
                            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                            .ok_or_else(|| io::Error::other("a chunk without its length"))?;
                        *self = match length {
                            0 => Self::Trailer(Vec::new()),
                            length => Self::Chunk(length + 2),
                        };
                    }
                }
                Self::Trailer(line) => {
                    line.push(data[0]);
                    data = &data[1..];
                    if line == b"\r\n" {
                        complete += 1;
                        *self = Self::Head(Vec::new());
                    } else if line.ends_with(b"\r\n") {
                        line.clear();
                    }
                }
            }
        }
        Ok(complete)
    }
}

/// How long the body behind a head is; `None` is chunked.
fn framing(head: &[u8]) -> io::Result<Option<u64>> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200 ") {
        let line = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("the server answered {line:?}")));
    }
    for line in head.lines() {
        if let Some(value) = line.strip_prefix("content-length:") {
            return value.trim().parse().map(Some).map_err(io::Error::other);
        }
        if line.starts_with("transfer-encoding:") && line.ends_with("chunked") {
            return Ok(None);
        }
    }
    Err(io::Error::other("a response without a length"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_counted_however_they_are_cut() {
        let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n\
            HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n\
            HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n";
        for size in 1..=stream.len() {
            let mut known = KnownHead::default();
            let mut reader = Reader::Head(Vec::new());
            let pieces = stream.chunks(size);
            let complete: usize = pieces
                .map(|piece| reader.feed(piece, &mut known).unwrap())
                .sum();
            assert_eq!(complete, 4, "in pieces of {size} bytes");
        }
    }
}
