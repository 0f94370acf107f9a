//! Starting a server on a core of its own, and stopping it, whatever happens.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::Cpu;
use crate::sys;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub name: &'static str,
    /// The binary beside this one; `python:` and a script in `peers/` is started by the
    /// interpreter that has Twisted.
    program: &'static str,
    /// Whether it has `/inc` and `/metrics`.
    pub has_metrics: bool,
    /// Whether it closes a connection when it is asked to.
    pub closes: bool,
    /// Whether it is built without any feature.
    pub is_default: bool,
    /// Whether it differs from another only in how it serves `/metrics`.
    pub only_metrics: bool,
    /// What it is started with, beside the address.
    argument: Option<&'static str>,
}

const fn peer(name: &'static str, program: &'static str) -> Peer {
    Peer {
        name,
        program,
        has_metrics: true,
        closes: true,
        is_default: true,
        only_metrics: false,
        argument: None,
    }
}

const fn optional(name: &'static str, program: &'static str) -> Peer {
    Peer {
        is_default: false,
        ..peer(name, program)
    }
}

/// All of them, in the order of the tables. `ours` and `ours again` are one program, started twice:
/// how far they differ is the noise.
pub const PEERS: &[Peer] = &[
    peer("ours", "ours"),
    peer("ours again", "ours"),
    peer("hyper", "hyper"),
    Peer {
        has_metrics: false,
        ..peer("limit", "limit")
    },
    peer("epoll_http", "epoll_http"),
    Peer {
        closes: false,
        ..optional("may_minihttp", "may_minihttp")
    },
    optional("actix", "actix"),
    optional("ntex", "ntex"),
    optional("axum", "axum"),
    Peer {
        only_metrics: true,
        argument: Some("--thread"),
        ..optional("axum in a thread", "axum")
    },
    optional("Twisted", "python:twisted_server.py"),
];

/// Those that stream, in the order of the tables.
pub const STREAMERS: &[Peer] = &[
    peer("ours", "streams_ours"),
    peer("hyper", "streams_hyper"),
    optional("axum", "streams_axum"),
    optional("Go", "streams_go"),
];

impl Peer {
    pub fn by_name(name: &str) -> Option<Self> {
        PEERS.iter().copied().find(|peer| peer.name == name)
    }

    /// What starts it, if it is there.
    fn command(&self) -> Option<Vec<PathBuf>> {
        let here = std::env::current_exe().ok()?.parent()?.to_owned();
        let (program, script) = match self.program.strip_prefix("python:") {
            None => (here.join(self.program), None),
            Some(script) => {
                let python = std::env::var_os("BENCH_PYTHON")?;
                let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
                (PathBuf::from(python), Some(scripts.join(script)))
            }
        };
        program
            .is_file()
            .then(|| [program].into_iter().chain(script).collect())
    }

    /// Whether its feature was built, or its interpreter named.
    pub fn is_there(&self) -> bool {
        self.command().is_some()
    }

    /// Starts it on `core`, under `wrapper` (a profiler, say), and waits until it listens.
    pub fn start_under(&self, wrapper: &[&str], core: usize, args: &[&str]) -> io::Result<Server> {
        let command = self
            .command()
            .ok_or_else(|| io::Error::other(format!("{} is not built", self.name)))?;
        // `setpriv` ends the server with us, even if we are killed; both run their argument in
        // their own place, so the child's number is the server's.
        let child = Command::new("taskset")
            .args(["--cpu-list", &core.to_string()])
            .args(["setpriv", "--pdeathsig", "KILL"])
            .args(wrapper)
            .args(command)
            .arg("127.0.0.1:0")
            .args(args)
            .args(self.argument)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(if wrapper.is_empty() {
                Stdio::inherit()
            } else {
                Stdio::piped()
            })
            .spawn()?;
        let mut server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let stdout = server.child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .strip_prefix("listening on http://")
            .and_then(|rest| rest.trim_end().strip_suffix('/'))
            .and_then(|address| address.parse().ok());
        server.address = address.ok_or_else(|| {
            io::Error::other(format!("{} said {line:?} and no address", self.name))
        })?;
        Ok(server)
    }

    /// Starts it on `core` and waits until it listens.
    pub fn start(&self, core: usize, args: &[&str]) -> io::Result<Server> {
        self.start_under(&[], core, args)
    }
}

/// A server that runs until this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cpu(&self) -> io::Result<Cpu> {
        Cpu::of(Some(self.pid()))
    }

    pub fn resident_bytes(&self) -> io::Result<u64> {
        crate::process::resident_bytes(self.pid())
    }

    /// Has the system begin anew to note the most memory that was resident.
    pub fn forget_peak(&self) -> io::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")
    }

    /// The most memory that was resident since.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| io::Error::other("status has no VmHWM"))? * 1024)
    }

    /// Asks it to end, and returns what it wrote to stderr, if that was piped.
    pub fn stop(mut self) -> io::Result<String> {
        sys::signal(&self.child, sys::SIGTERM)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            io::Read::read_to_string(&mut stderr, &mut said)?;
        }
        Ok(said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
