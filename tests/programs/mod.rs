//! Programs as processes of their own: the examples, and what they are tried with.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

/// A running example; killed when dropped.
pub(crate) struct Example {
    child: Child,
    /// Kept open: a program that prints into a closed pipe dies of it.
    stdout: BufReader<ChildStdout>,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
}

impl Example {
    /// Starts an example on a free port and waits for the line that tells it.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn start_with(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(path(name))
            .arg("127.0.0.1:0")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("example {name} does not start: {error}"));
        let stdout = child.stdout.take().expect("it is piped");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .strip_prefix("listening on ")
            .map(|rest| {
                rest.trim_start_matches("http://")
                    .trim_end_matches(['/', '\n'])
            })
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("the first line of {name} was {line:?}"));
        Self {
            stdin: child.stdin.take(),
            child,
            stdout,
            address,
        }
    }

    /// Runs an example that is expected to end by itself.
    pub(crate) fn run(name: &str, arguments: &[&str]) -> Output {
        Command::new(path(name)).args(arguments).output().unwrap()
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The whole answer to a GET, head and body.
    pub(crate) fn get(&self, path: &str) -> String {
        get(self.address, path)
    }

    /// Waits until it has ended; its exit code, if it was not killed.
    pub(crate) fn wait(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole answer to a GET, head and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Examples lie beside the directory of the test programs: `target/PROFILE/examples/NAME`.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    profile.join("examples").join(name)
}

/// Whether a foreign program is here. Where it is not, the test says that it was skipped, and
/// fails if `REQUIRE_PEERS` is set, as it is in CI.
pub(crate) fn has_program(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    if !found {
        assert!(
            std::env::var_os("REQUIRE_PEERS").is_none(),
            "{name} is not installed, and REQUIRE_PEERS is set"
        );
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}
