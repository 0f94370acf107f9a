//! The yardstick: the smallest honest HTTP/1.1 server. A raw epoll loop with httparse, three
//! routes, a Date field and a registry; no limits, no deadlines, no isolation of handlers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use bench::serve::{Args, COUNTED, HELLO, METRICS_TYPE, Metrics, announce};
use bench::sys::{EPOLLIN, EPOLLOUT, Epoll, Event};

const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// The beginning of a request.
    input: Vec<u8>,
    /// What the socket did not take.
    output: Vec<u8>,
    closes: bool,
}

struct Server {
    metrics: Metrics,
    date: String,
    date_until: Instant,
}

impl Server {
    /// Once a second.
    fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.date_until {
            self.date = httpdate::fmt_http_date(SystemTime::now());
            self.date_until = now + Duration::from_secs(1);
        }
    }

    /// Answers the requests in `data`; how much of it they took, and whether to close then.
    fn answer(&self, data: &[u8], output: &mut Vec<u8>) -> (usize, bool) {
        let mut taken = 0;
        while taken < data.len() {
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut fields);
            match request.parse(&data[taken..]) {
                Ok(httparse::Status::Complete(length)) => taken += length,
                Ok(httparse::Status::Partial) => break,
                Err(_) => {
                    self.respond("400 Bad Request", "text/plain", b"bad request\n", output);
                    return (data.len(), true);
                }
            }
            match (request.method, request.path) {
                (Some("GET"), Some("/plaintext")) => {
                    self.respond("200 OK", "text/plain", HELLO.as_bytes(), output);
                }
                (Some("GET"), Some("/inc")) => {
                    self.metrics.count("GET", "/inc", Instant::now());
                    self.respond("200 OK", "text/plain", COUNTED.as_bytes(), output);
                }
                (Some("GET"), Some("/metrics")) => {
                    let body = self.metrics.encode();
                    self.respond("200 OK", METRICS_TYPE, body.as_bytes(), output);
                }
                _ => self.respond("404 Not Found", "text/plain", b"not found\n", output),
            }
            let closes = request.headers.iter().any(|field| {
                field.name.eq_ignore_ascii_case("connection")
                    && field.value.eq_ignore_ascii_case(b"close")
            });
            if closes {
                return (data.len(), true);
            }
        }
        (taken, false)
    }

    fn respond(&self, status: &str, content_type: &str, body: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(b"HTTP/1.1 ");
        output.extend_from_slice(status.as_bytes());
        output.extend_from_slice(b"\r\nContent-Type: ");
        output.extend_from_slice(content_type.as_bytes());
        output.extend_from_slice(b"\r\nDate: ");
        output.extend_from_slice(self.date.as_bytes());
        output.extend_from_slice(b"\r\nContent-Length: ");
        write!(output, "{}", body.len()).expect("a Vec takes everything");
        output.extend_from_slice(b"\r\n\r\n");
        output.extend_from_slice(body);
    }

    /// Reads, answers and writes. `false` if the connection is over.
    fn serve(
        &self,
        connection: &mut Connection,
        buffer: &mut [u8],
        output: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let count = match connection.stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        };
        output.clear();
        let (taken, closes) = if connection.input.is_empty() {
            let (taken, closes) = self.answer(&buffer[..count], output);
            connection.input.extend_from_slice(&buffer[taken..count]);
            (0, closes)
        } else {
            connection.input.extend_from_slice(&buffer[..count]);
            self.answer(&connection.input, output)
        };
        if taken > 0 {
            connection.input.drain(..taken);
        }
        if connection.input.is_empty() {
            connection.input = Vec::new();
        }
        connection.closes = closes;
        let sent = write_some(&connection.stream, output)?;
        connection.output.extend_from_slice(&output[sent..]);
        Ok(!closes || !connection.output.is_empty())
    }

    /// Goes on writing. `false` if the connection is over.
    fn flush(&self, connection: &mut Connection) -> io::Result<bool> {
        let sent = write_some(&connection.stream, &connection.output)?;
        connection.output.drain(..sent);
        if connection.output.is_empty() {
            connection.output = Vec::new();
        }
        Ok(!connection.closes || !connection.output.is_empty())
    }
}

fn write_some(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn main() -> io::Result<()> {
    let args = Args::from_env();
    let mut server = Server {
        metrics: Metrics::new(args.series),
        date: String::new(),
        date_until: Instant::now(),
    };
    let listener = TcpListener::bind(args.address)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, EPOLLIN)?;
    announce(listener.local_addr()?);

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut vacant = Vec::new();
    let mut events = [Event { events: 0, u64: 0 }; 256];
    let mut buffer = vec![0; 64 * 1024];
    let mut output = Vec::new();
    loop {
        let events = epoll.wait(&mut events, None)?;
        server.tick();
        for event in events {
            if event.u64 == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let slot = vacant.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    epoll.add(&stream, slot as u64, EPOLLIN)?;
                    connections[slot] = Some(Connection {
                        stream,
                        input: Vec::new(),
                        output: Vec::new(),
                        closes: false,
                    });
                }
                continue;
            }
            let slot = event.u64 as usize;
            let Some(connection) = &mut connections[slot] else {
                continue;
            };
            let was_blocked = !connection.output.is_empty();
            let stays = if was_blocked {
                server.flush(connection)
            } else {
                server.serve(connection, &mut buffer, &mut output)
            };
            if !stays.unwrap_or(false) {
                connections[slot] = None;
                vacant.push(slot);
                continue;
            }
            // While a client does not read, nothing more is read from it.
            let is_blocked = !connection.output.is_empty();
            if is_blocked != was_blocked {
                let flags = if is_blocked { EPOLLOUT } else { EPOLLIN };
                epoll.modify(&connection.stream, slot as u64, flags)?;
            }
        }
    }
}
