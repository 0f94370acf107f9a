//! A server in a thread, and requests to it over real sockets.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus_deferred::web::{Resource, Site};
use prometheus_deferred::{Reactor, RemoteReactor};

/// Far more than any test needs, so that a hang is a failure and slowness is none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An address with a free port, for a test that looks whether the port is free again.
///
/// Where the whole of 127/8 is the local host, it is one that is nobody else's: a port of
/// 127.0.0.1 may be given to some other program's connection at any time.
pub(crate) fn own_address(last: u8) -> SocketAddr {
    if cfg!(target_os = "linux") {
        SocketAddr::from(([127, 71, 9, last], 0))
    } else {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }
}

/// A site, served by a reactor in a thread of its own until this is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    remote: RemoteReactor,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves the resource that `root` makes, there where it is to live.
    pub(crate) fn start<R: Resource>(root: impl FnOnce() -> R + Send + 'static) -> Self {
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let reactor = Reactor::new().expect("a selector");
            let port = reactor.listen_tcp("127.0.0.1:0", Site::new(root()));
            let address = port.expect("a free port").address().socket_addr();
            let told = (address.expect("TCP has one"), reactor.remote());
            tell.send(told).expect("the test waits");
            reactor.run_without_signals().expect("a clean end");
        });
        let (address, remote) = told.recv().expect("the thread says it");
        Self {
            address,
            remote,
            thread: Some(thread),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        get(self.address, path)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
        ask(self.address, method, path, fields)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.remote.call_from_thread(|reactor| {
            let _ = reactor.stop();
        });
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the server panicked");
        }
    }
}

/// A response, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of the only field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self
            .fields
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "{name} came twice");
        Some(value)
    }

    /// The names and values of all fields but the date.
    pub(crate) fn undated_fields(&self) -> Vec<&(String, String)> {
        let fields = self.fields.iter();
        fields.filter(|(name, _)| name != "Date").collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    ask(address, "GET", path, &[])
}

/// Sends one request on a connection of its own, and reads until the server closes that.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut stream = connect(address);
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in fields {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).expect("it is open");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it is answered");
    parse(&bytes)
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn parse(bytes: &[u8]) -> Reply {
    let head_len = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let head_len = head_len.unwrap_or_else(|| panic!("no head: {:?}", bytes.escape_ascii()));
    let head = std::str::from_utf8(&bytes[..head_len]).expect("ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    Reply {
        status: status
            .and_then(|code| code.parse().ok())
            .expect("a status line"),
        fields: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: bytes[head_len + 4..].to_vec(),
    }
}
