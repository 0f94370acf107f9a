//! Clients of bodies that stream: slow readers, uploads, event streams, and those who trickle.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::load::get;
use crate::peers::Server;
use crate::sys::{self, EPOLLIN, Epoll, Event};

/// What every server sends a download in.
pub const PIECE_BYTES: usize = 64 * 1024;

/// How many pieces so many MiB are.
pub fn pieces(mebibytes: usize) -> usize {
    mebibytes * (1024 * 1024 / PIECE_BYTES)
}

/// Nothing came for so long: the server is stuck.
const STALLED: Duration = Duration::from_secs(20);

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(STALLED))?;
    stream.set_write_timeout(Some(STALLED))?;
    stream.set_nodelay(true)?;
    sys::reset_on_close(&stream)?;
    Ok(stream)
}

/// Resident memory that `load` adds to a server at its peak.
fn added_at_peak<R>(server: &Server, load: impl FnOnce() -> io::Result<R>) -> io::Result<(u64, R)> {
    let before = server.resident_bytes()?;
    server.forget_peak()?;
    let result = load()?;
    Ok((server.peak_bytes()?.saturating_sub(before), result))
}

/// Has `readers` clients ask for a large response and read a little of it now and then.
/// What that adds to the server's memory, in all.
pub fn slow_readers(server: &Server, readers: usize) -> io::Result<u64> {
    drain(server, 1)?;
    let (added, _) = added_at_peak(server, || {
        let mut streams = Vec::new();
        for _ in 0..readers {
            let mut stream = connect(server.address)?;
            stream.write_all(&get("/down", true))?;
            streams.push(stream);
        }
        let mut buffer = [0; 8 * 1024];
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(100));
            for stream in &mut streams {
                stream.read_exact(&mut buffer)?;
            }
        }
        Ok(streams)
    })?;
    Ok(added)
}

/// Reads whole downloads, so many; how many bytes came.
pub fn drain(server: &Server, downloads: usize) -> io::Result<u64> {
    let mut bytes = 0;
    let mut buffer = vec![0; 1024 * 1024];
    for _ in 0..downloads {
        let mut stream = connect(server.address)?;
        stream.write_all(&get("/down", true))?;
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                count => bytes += count as u64,
            }
        }
    }
    Ok(bytes)
}

/// Sends a body of so many MiB to `path`; the answer has to be its length.
pub fn upload(server: &Server, path: &str, mebibytes: usize) -> io::Result<()> {
    let mut stream = connect(server.address)?;
    let length = mebibytes * 1024 * 1024;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..mebibytes {
        stream.write_all(&piece)?;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.contains(&format!("{length}\n")) {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "the upload was answered {answer:?}"
        ))),
    }
}

/// What an upload to disk adds to the server's memory.
pub fn upload_memory(server: &Server, mebibytes: usize) -> io::Result<u64> {
    upload(server, "/upload", 1)?;
    let (added, ()) = added_at_peak(server, || upload(server, "/upload", mebibytes))?;
    let name = format!("bench-upload-{}", server.pid());
    std::fs::remove_file(std::env::temp_dir().join(name))?;
    Ok(added)
}

/// What event streams cost.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    /// Processor time of the server for one message to one subscriber.
    pub nanos: f64,
    /// Memory of one subscriber.
    pub bytes: f64,
}

/// Has so many clients subscribe to `/events`, and publishes messages to them, one after another.
pub fn events(server: &Server, subscribers: usize, messages: usize) -> io::Result<Events> {
    let epoll = Epoll::new()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut seen = vec![0_usize; subscribers];
    let mut streams = Vec::new();
    let before = server.resident_bytes()?;
    for token in 0..subscribers {
        let mut stream = connect(server.address)?;
        stream.write_all(&get("/events", false))?;
        let mut head = Vec::new();
        while !head.windows(7).any(|bytes| bytes == b"welcome") {
            match stream.read(&mut buffer)? {
                0 => return Err(io::Error::other("the server closed an event stream")),
                count => head.extend_from_slice(&buffer[..count]),
            }
        }
        stream.set_nonblocking(true)?;
        epoll.add(&stream, token as u64, EPOLLIN)?;
        streams.push(stream);
    }
    std::thread::sleep(Duration::from_millis(200));
    let bytes = server.resident_bytes()?.saturating_sub(before) as f64 / subscribers as f64;
    let mut publisher = connect(server.address)?;
    let cpu = server.cpu()?;
    let mut events = [Event { events: 0, u64: 0 }; 256];
    for message in 1..=messages {
        publisher.write_all(&get("/publish", false))?;
        let mut left = subscribers;
        while left > 0 {
            let ready = epoll.wait(&mut events, Some(STALLED))?;
            if ready.is_empty() {
                return Err(io::Error::new(ErrorKind::TimedOut, "no event in 20 s"));
            }
            for event in ready {
                let token = event.u64 as usize;
                let count = streams[token].read(&mut buffer)?;
                let ends = buffer[..count]
                    .windows(8)
                    .filter(|bytes| *bytes == b"happened");
                for _ in ends {
                    seen[token] += 1;
                    left -= usize::from(seen[token] == message);
                }
            }
        }
        // The answer, so that requests do not overlap.
        let _ = publisher.read(&mut buffer)?;
    }
    let nanos = (server.cpu()? - cpu).nanos as f64 / (messages * subscribers) as f64;
    Ok(Events { nanos, bytes })
}

/// Connections that never come to their end.
#[derive(Debug)]
pub struct Trickle(Vec<(TcpStream, &'static [u8])>);

impl Trickle {
    /// So many: three in ten trickle a head, a body, or the chunks of one; the rest ask for a large
    /// response and read nothing.
    pub fn begin(address: SocketAddr, connections: usize) -> io::Result<Self> {
        let mut all = Vec::new();
        for number in 0..connections {
            let mut stream = connect(address)?;
            let (first, next): (&[u8], &[u8]) = match number % 10 {
                0..=2 => (b"GET /plaintext HTTP/1.1\r\nX-Slow: ", b"x"),
                3..=5 => (
                    b"POST /sink HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n",
                    b"x",
                ),
                6..=8 => (
                    b"POST /sink HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"1\r\nx\r\n",
                ),
                _ => (b"GET /down HTTP/1.1\r\nHost: h\r\n\r\n", b""),
            };
            stream.write_all(first)?;
            stream.set_nonblocking(true)?;
            all.push((stream, next));
        }
        Ok(Self(all))
    }

    /// Sends the next byte on each.
    pub fn go_on(&mut self) {
        for (stream, next) in &mut self.0 {
            // Those that were cut off fail.
            let _ = stream.write(next);
        }
    }

    /// How many of them the server has not ended, though it had until `deadline`.
    pub fn left_at(&mut self, deadline: Instant) -> usize {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            self.0.retain_mut(|(stream, next)| {
                if next.is_empty() {
                    // To read would be to let it go on: an error on it tells.
                    return !matches!(stream.take_error(), Ok(Some(_)))
                        && !matches!(stream.write(b"x"), Err(error) if error.kind() != ErrorKind::WouldBlock);
                }
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => return false,
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                        Err(_) => return false,
                    }
                }
            });
            if self.0.is_empty() || Instant::now() > deadline {
                return self.0.len();
            }
            std::thread::sleep(Duration::from_millis(500));
            self.go_on();
        }
    }
}
