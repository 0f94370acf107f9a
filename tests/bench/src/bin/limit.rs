//! The limit: what the kernel costs. Counts `\r\n\r\n` and sends fixed bytes for each.
//!
//! Not HTTP: it looks at nothing else. With `--close` it closes after the first.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use bench::serve::{Args, announce};
use bench::sys::{EPOLLIN, Epoll, Event};

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Type: text/plain\r\n\
    Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n\r\nHello, World!";
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// How much of `\r\n\r\n` came last.
    matched: usize,
}

fn main() -> std::io::Result<()> {
    let args = Args::from_env();
    let listener = TcpListener::bind(args.address)?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, EPOLLIN)?;
    announce(listener.local_addr()?);

    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut vacant = Vec::new();
    let mut events = [Event { events: 0, u64: 0 }; 256];
    let mut buffer = vec![0; 64 * 1024];
    let mut responses = Vec::new();
    loop {
        for event in epoll.wait(&mut events, None)? {
            if event.u64 == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let slot = vacant.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    epoll.add(&stream, slot as u64, EPOLLIN)?;
                    connections[slot] = Some(Connection { stream, matched: 0 });
                }
                continue;
            }
            let slot = event.u64 as usize;
            let Some(connection) = &mut connections[slot] else {
                continue;
            };
            let stays = match connection.stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(count) => {
                    let requests = heads(&buffer[..count], &mut connection.matched);
                    while responses.len() < requests * RESPONSE.len() {
                        responses.extend_from_slice(RESPONSE);
                    }
                    let bytes = &responses[..requests * RESPONSE.len()];
                    // The generator reads what it asked for, so the socket takes all of it.
                    connection.stream.write_all(bytes).is_ok() && !(args.closes && requests > 0)
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            if !stays {
                connections[slot] = None;
                vacant.push(slot);
            }
        }
    }
}

/// How many heads end in `data`.
fn heads(data: &[u8], matched: &mut usize) -> usize {
    let mut count = 0;
    for &byte in data {
        *matched = match (*matched, byte) {
            (0 | 2, b'\r') => *matched + 1,
            (1, b'\n') => 2,
            (3, b'\n') => {
                count += 1;
                0
            }
            (_, b'\r') => 1,
            _ => 0,
        };
    }
    count
}
