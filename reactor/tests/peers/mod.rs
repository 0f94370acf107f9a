//! What the tests of the reactor share: peers on real sockets, protocols made of closures, a log
//! that can be asked, child processes, and a watchdog that turns a hang into a failure.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file takes this in as a module, and uses a part of it"
)]

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, Once};
use std::thread::{self, ThreadId};
use std::time::Duration;

use deferred_reactor::net::{
    Address, ConnectionAborted, ConnectionDone, ConnectionLost, Factory, Port, Protocol, Transport,
};
use deferred_reactor::{Failure, PanicError, Reactor};

/// Far more than anything here takes, on a machine that is busy with other things.
pub const LIMIT: Duration = Duration::from_secs(25);

/// Runs the reactor until it is stopped. A test that hangs ends the test program.
pub fn run(reactor: &Reactor) {
    let _watchdog = Watchdog::new();
    watch_log();
    reactor.run_without_signals().unwrap();
}

/// Runs the reactor until the peer, on a thread of its own, is done; returns what it brings back.
pub fn run_with_peer<T: Send + 'static>(
    reactor: &Reactor,
    peer: impl FnOnce() -> T + Send + 'static,
) -> T {
    let remote = reactor.remote();
    let peer = thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(peer));
        // Not running any more is fine: some protocols stop it by themselves.
        let _ = remote.call_from_thread(|reactor| {
            let _ = reactor.stop();
        });
        outcome
    });
    run(reactor);
    match peer.join().unwrap() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

type Later = Box<dyn FnOnce()>;

thread_local!(static LATER: RefCell<Vec<Option<Later>>> = const { RefCell::new(Vec::new()) });

/// Lets another thread have this called on the thread of the reactor.
///
/// When it is called, the reactor has seen to all that the sockets had to say before.
pub fn lend(reactor: &Reactor, function: impl FnOnce() + 'static) -> Box<dyn FnOnce() + Send> {
    let index = LATER.with_borrow_mut(|all| {
        all.push(Some(Box::new(function)));
        all.len() - 1
    });
    let remote = reactor.remote();
    Box::new(move || {
        let call = move |_: &Reactor| {
            let function = LATER.with_borrow_mut(|all| all[index].take());
            function.unwrap()();
        };
        remote.call_from_thread(call).unwrap();
    })
}

/// Ends the program when it is not dropped in time.
pub struct Watchdog(mpsc::Sender<()>);

impl Watchdog {
    pub fn new() -> Self {
        let test = thread::current().name().unwrap_or("?").to_owned();
        let (alive, watched) = mpsc::channel();
        thread::spawn(move || {
            if watched.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                // Not `eprintln`, which the test harness would keep to itself.
                let _ = writeln!(std::io::stderr(), "{test} hangs");
                std::process::exit(101);
            }
        });
        Self(alive)
    }
}

/// Connects to a port of this machine. Reading and writing give up rather than hang.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

pub fn address_of(port: &Port) -> SocketAddr {
    port.address().socket_addr().unwrap()
}

/// Opens a free port on this machine.
pub fn listen(reactor: &Reactor, factory: impl Factory) -> (Port, SocketAddr) {
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = address_of(&port);
    (port, address)
}

/// Whether nobody listens there any more. The address must be one that no other test uses, since
/// a free port may be given to anybody.
pub fn is_free(address: SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_ok()
}

/// Reads exactly so many bytes.
pub fn read_exactly(peer: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads until the other side closes.
pub fn read_all(peer: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads until the other side closes, or resets the connection.
pub fn read_all_or_reset(peer: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = peer.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    bytes
}

/// Closes a connection in a way that the other side sees as a reset: with something unread.
///
/// The other side must have sent something that this one has not read.
pub fn reset(peer: TcpStream) {
    peer.peek(&mut [0]).unwrap();
    drop(peer);
}

/// What a protocol was told, in order.
pub type Journal = Rc<RefCell<Vec<String>>>;

pub fn journal() -> Journal {
    Journal::default()
}

pub fn note(journal: &Journal, entry: impl Into<String>) {
    journal.borrow_mut().push(entry.into());
}

/// The reason of a loss in one word.
pub fn kind(reason: &Failure) -> &'static str {
    if reason.is::<ConnectionDone>() {
        "done"
    } else if reason.is::<ConnectionLost>() {
        "lost"
    } else if reason.is::<ConnectionAborted>() {
        "aborted"
    } else if reason.is::<PanicError>() {
        "panic"
    } else {
        "error"
    }
}

type OnTransport = Box<dyn FnMut(&Transport) -> Result<(), Failure>>;
type OnData = Box<dyn FnMut(&Transport, &[u8]) -> Result<(), Failure>>;
type OnEnd = Box<dyn FnMut(&Failure)>;

/// A protocol made of closures; what has none does what protocols do by themselves.
#[derive(Default)]
pub struct Script {
    made: Option<OnTransport>,
    data: Option<OnData>,
    read_lost: Option<OnTransport>,
    drained: Option<OnTransport>,
    lost: Option<OnEnd>,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn made(mut self, f: impl FnMut(&Transport) -> Result<(), Failure> + 'static) -> Self {
        self.made = Some(Box::new(f));
        self
    }

    pub fn data(
        mut self,
        f: impl FnMut(&Transport, &[u8]) -> Result<(), Failure> + 'static,
    ) -> Self {
        self.data = Some(Box::new(f));
        self
    }

    pub fn read_lost(mut self, mut f: impl FnMut(&Transport) + 'static) -> Self {
        self.read_lost = Some(Box::new(move |transport| {
            f(transport);
            Ok(())
        }));
        self
    }

    pub fn drained(mut self, mut f: impl FnMut(&Transport) + 'static) -> Self {
        self.drained = Some(Box::new(move |transport| {
            f(transport);
            Ok(())
        }));
        self
    }

    pub fn lost(mut self, f: impl FnMut(&Failure) + 'static) -> Self {
        self.lost = Some(Box::new(f));
        self
    }

    /// A script that sends everything back.
    pub fn echo() -> Self {
        Self::new().data(|transport, data| {
            transport.write(data);
            Ok(())
        })
    }
}

impl Protocol for Script {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        self.made.as_mut().map_or(Ok(()), |made| made(transport))
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.data.as_mut().map_or(Ok(()), |f| f(transport, data))
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        match &mut self.read_lost {
            Some(read_lost) => read_lost(transport).unwrap(),
            None => transport.lose_connection(),
        }
    }

    fn write_drained(&mut self, transport: &Transport) {
        if let Some(drained) = &mut self.drained {
            drained(transport).unwrap();
        }
    }

    fn connection_lost(&mut self, reason: &Failure) {
        if let Some(lost) = &mut self.lost {
            lost(reason);
        }
    }
}

type Build = dyn Fn(&Address) -> Option<Box<dyn Protocol>>;

/// A factory made of closures.
pub struct Scripts {
    build: Box<Build>,
    start: Box<dyn Fn()>,
    stop: Box<dyn Fn()>,
}

impl Scripts {
    /// A script for each connection.
    pub fn new(build: impl Fn() -> Script + 'static) -> Self {
        Self::for_peer(move |_| Some(build()))
    }

    pub fn for_peer(build: impl Fn(&Address) -> Option<Script> + 'static) -> Self {
        Self {
            build: Box::new(move |peer| Some(Box::new(build(peer)?))),
            start: Box::new(|| {}),
            stop: Box::new(|| {}),
        }
    }

    pub fn start(mut self, f: impl Fn() + 'static) -> Self {
        self.start = Box::new(f);
        self
    }

    pub fn stop(mut self, f: impl Fn() + 'static) -> Self {
        self.stop = Box::new(f);
        self
    }
}

impl Factory for Scripts {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        (self.build)(peer)
    }

    fn start_factory(&self) {
        (self.start)();
    }

    fn stop_factory(&self) {
        (self.stop)();
    }
}

/// More than the buffers of two sockets take, however large the system lets them grow.
pub const HUGE: usize = 64 << 20;

/// Bytes that show where they were cut, doubled or swapped.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    for n in 0..=(length / 8) as u64 {
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

static RECORDS: Mutex<Vec<(ThreadId, log::Level, String)>> = Mutex::new(Vec::new());

struct Records;

impl log::Log for Records {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        let mut records = RECORDS.lock().unwrap();
        records.push((thread::current().id(), record.level(), text));
    }

    fn flush(&self) {}
}

/// Keeps what is logged from now on, for the two functions below. `run` begins with this.
pub fn watch_log() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        log::set_logger(&Records).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// How many records, of any thread, hold this text.
pub fn times_logged(text: &str) -> usize {
    let records = RECORDS.lock().unwrap();
    records.iter().filter(|(.., r)| r.contains(text)).count()
}

/// The errors that this thread has logged.
pub fn errors_logged_here() -> Vec<String> {
    let here = thread::current().id();
    let records = RECORDS.lock().unwrap();
    let errors = records
        .iter()
        .filter(|(thread, level, _)| *thread == here && *level == log::Level::Error);
    errors.map(|(.., text)| text.clone()).collect()
}

/// This test program once more, running one of its ignored tests as a process of its own.
///
/// They speak in lines that begin with `> `, since the test harness prints as well.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _watchdog: Watchdog,
}

impl Process {
    pub fn start(test: &str) -> Self {
        Self::start_after(test, "")
    }

    /// Starts it after a shell command, which may set limits.
    pub fn start_after(test: &str, command: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{command}\nexec \"$0\" \"$@\""))
            .arg(program)
            .args(["--ignored", "--exact", test, "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            _watchdog: Watchdog::new(),
        }
    }

    /// What it says next; `None` once it has ended.
    pub fn hears(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The harness may have begun the line.
            if let Some((_, said)) = line.split_once("> ") {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says from now on, and how it ends.
    pub fn ends(mut self) -> (Vec<String>, ExitStatus) {
        let said = std::iter::from_fn(|| self.hears()).collect();
        (said, self.child.wait().unwrap())
    }
}

/// In a child: says something to the parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "> {line}").unwrap();
    out.flush().unwrap();
}

/// In a child: waits for a line of the parent; empty if the parent is gone.
pub fn listen_to_parent() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
