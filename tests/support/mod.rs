//! A site on a thread of its own, and a client that sends exact bytes.
//!
//! Whatever waits here gives up after [`PATIENCE`], so that a server that hangs fails its test. What
//! runs on the server's thread tells the test about it with [`note`]; requests that it should keep
//! for later go to [`keep`], and the test says what becomes of them.
//!
//! [`InMemory`] is the same without a thread, a socket and a clock: for what is about time.

#![allow(dead_code, reason = "every test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Condvar, Mutex, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_deferred::testing::{MemoryConnection, MemoryReactor};
use prometheus_deferred::web::{NOT_DONE_YET, Rendered, Request, Resource, Site};
use prometheus_deferred::{Reactor, RemoteReactor};

/// Much longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// Of the server's thread.
    static NOTES: RefCell<Option<Sender<String>>> = const { RefCell::new(None) };
    static KEPT: RefCell<Vec<Request>> = const { RefCell::new(Vec::new()) };
}

/// Tells the test whose server this runs in; see [`Server::next_note`].
pub(crate) fn note(text: impl Into<String>) {
    NOTES.with_borrow(|notes| {
        if let Some(notes) = notes {
            let _ = notes.send(text.into());
        }
    });
}

/// Keeps the request unfinished, and notes its target.
pub(crate) fn keep(request: Request) -> Rendered {
    let target = request.target().to_owned();
    KEPT.with_borrow_mut(|kept| kept.push(request));
    note(target);
    NOT_DONE_YET
}

/// Takes a request that was kept, on the server's thread.
pub(crate) fn with_kept<T>(target: &str, call: impl FnOnce(Request) -> T) -> T {
    let request = KEPT.with_borrow_mut(|kept| {
        let found = kept.iter().position(|request| request.target() == target);
        kept.remove(found.expect("a request is kept before it is used"))
    });
    call(request)
}

/// A site that listens on a port of its own until this is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    remote: RemoteReactor,
    notes: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves one resource.
    pub(crate) fn new<R: Resource>(root: impl FnOnce() -> R + Send + 'static) -> Self {
        Self::with_site(|_| Site::new(root()))
    }

    /// Serves one function, whatever the path and the method.
    pub(crate) fn of<R: Into<Rendered>>(render: impl Fn(Request) -> R + Send + 'static) -> Self {
        Self::new(|| leaf(render))
    }

    pub(crate) fn with_site(site: impl FnOnce(&Reactor) -> Site + Send + 'static) -> Self {
        collect_log();
        let (notes_in, notes) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            NOTES.set(Some(notes_in));
            let reactor = Reactor::new().unwrap();
            // Tests keep requests, which nobody is going to finish.
            let site = site(&reactor).drain_on_shutdown(Duration::ZERO);
            let port = reactor.listen_tcp("127.0.0.1:0", site).unwrap();
            let address = port.address().socket_addr().unwrap();
            started.send((address, reactor.remote())).unwrap();
            reactor.run_without_signals().unwrap();
            // Kept requests belong to this thread's reactor.
            drop(KEPT.take());
        });
        let (address, remote) = start.recv_timeout(PATIENCE).expect("the server starts");
        Self {
            address,
            remote,
            notes,
            thread: Some(thread),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            unread: Vec::new(),
        }
    }

    /// The answer to GET on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask("GET", target)
    }

    /// The answer to a request without body on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Reply {
        let mut client = self.connect();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        match method {
            "HEAD" => client.head_reply(),
            _ => client.reply(),
        }
    }

    /// Waits for the next [`note`].
    pub(crate) fn next_note(&self) -> String {
        self.notes
            .recv_timeout(PATIENCE)
            .expect("the server has something to tell")
    }

    /// Waits until the server has told all of these, in any order.
    pub(crate) fn notes(&self, count: usize) -> Vec<String> {
        let mut notes: Vec<String> = (0..count).map(|_| self.next_note()).collect();
        notes.sort();
        notes
    }

    /// What was told and not yet looked at.
    pub(crate) fn left_notes(&self) -> Vec<String> {
        // Whatever the reactor was about to do has been done once it answers.
        self.run(|_| ());
        self.notes.try_iter().collect()
    }

    /// Runs something on the server's thread, and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Reactor) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = mpsc::channel();
        self.remote
            .call_from_thread(move |reactor| answer.send(call(reactor)).unwrap())
            .unwrap();
        answered
            .recv_timeout(PATIENCE)
            .expect("the server is alive")
    }

    /// Takes a request that was kept, and does something with it on the server's thread.
    pub(crate) fn with_kept<T: Send + 'static>(
        &self,
        target: &'static str,
        call: impl FnOnce(Request) -> T + Send + 'static,
    ) -> T {
        self.run(move |_| with_kept(target, call))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.remote.call_from_thread(|reactor| {
            let _ = reactor.stop();
        });
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().expect("the server does not panic");
        }
    }
}

/// A site on a reactor in memory.
pub(crate) struct InMemory {
    pub(crate) reactor: MemoryReactor,
    notes: Receiver<String>,
}

impl InMemory {
    /// Serves one resource.
    pub(crate) fn new<R: Resource>(root: impl FnOnce() -> R) -> Self {
        Self::with_site(|_| Site::new(root()))
    }

    /// Serves one function, whatever the path and the method.
    pub(crate) fn of<R: Into<Rendered>>(render: impl Fn(Request) -> R + 'static) -> Self {
        Self::with_site(|_| Site::new(leaf(render)))
    }

    pub(crate) fn with_site(site: impl FnOnce(&Reactor) -> Site) -> Self {
        Self::on(MemoryReactor::new(), site)
    }

    pub(crate) fn on(reactor: MemoryReactor, site: impl FnOnce(&Reactor) -> Site) -> Self {
        collect_log();
        let (notes_in, notes) = mpsc::channel();
        NOTES.set(Some(notes_in));
        KEPT.take();
        reactor
            .listen_tcp("127.0.0.1:80", site(reactor.reactor()))
            .unwrap();
        Self { reactor, notes }
    }

    pub(crate) fn connect(&self) -> Client<MemoryConnection> {
        Client {
            stream: self.reactor.connect_to("127.0.0.1:80").unwrap(),
            unread: Vec::new(),
        }
    }

    /// What was [`note`]d since this was last asked.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.reactor.pump();
        self.notes.try_iter().collect()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.reactor.advance(time);
    }
}

/// Requests are made as to any reactor in memory.
impl Deref for InMemory {
    type Target = MemoryReactor;

    fn deref(&self) -> &MemoryReactor {
        &self.reactor
    }
}

/// A resource made of a function: it renders any method and every path below it.
pub(crate) fn leaf<R: Into<Rendered>>(
    render: impl Fn(Request) -> R + 'static,
) -> impl Resource + Clone {
    struct Leaf<F>(Rc<F>);
    impl<F> Clone for Leaf<F> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }
    impl<R: Into<Rendered>, F: Fn(Request) -> R + 'static> Resource for Leaf<F> {
        fn render(&self, request: Request) -> Rendered {
            (self.0)(request).into()
        }
        fn is_leaf(&self) -> bool {
            true
        }
    }
    Leaf(Rc::new(render))
}

/// One connection, seen from the client.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

impl Client {
    /// Sends until everything is sent, or the server takes no more for a while; how much it took.
    pub(crate) fn send_until_stalled(&mut self, bytes: &[u8]) -> usize {
        let patience = Duration::from_millis(300);
        self.stream.set_write_timeout(Some(patience)).unwrap();
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        sent
    }

    /// A second handle, to send from another thread.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    pub(crate) fn close_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn get(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }

    /// Reads one response.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut reply = self.head_reply();
        if reply.status == 204 || reply.status == 304 || reply.status < 200 {
            return reply;
        }
        if let Some(length) = reply.header("Content-Length") {
            let length = length.parse().unwrap();
            reply.body = self.take(length);
        } else if reply.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let line = self.take_until(b"\r\n");
                let size = std::str::from_utf8(&line[..line.len() - 2]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                let chunk = self.take(size + 2);
                assert!(chunk.ends_with(b"\r\n"), "a chunk ends in CR LF");
                if size == 0 {
                    break;
                }
                reply.body.extend_from_slice(&chunk[..size]);
            }
        } else {
            reply.body = self.rest();
        }
        reply
    }

    /// Reads a response that has no body, whatever its fields say.
    pub(crate) fn head_reply(&mut self) -> Reply {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")).unwrap();
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {head:?}"));
        Reply {
            status,
            head,
            body: Vec::new(),
        }
    }

    /// Reads to the end, which is to be a clean one.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        self.stream
            .read_to_end(&mut self.unread)
            .expect("the server closes cleanly");
        std::mem::take(&mut self.unread)
    }

    /// Reads to the end, which may be a reset.
    pub(crate) fn rest_or_reset(&mut self) -> Vec<u8> {
        match self.stream.read_to_end(&mut self.unread) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        std::mem::take(&mut self.unread)
    }

    /// Whether the connection can carry one more request, for `/`.
    pub(crate) fn is_open(&mut self) -> bool {
        self.get("/");
        !self.take_some(1).is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        assert_eq!(self.take_some(length).len(), length, "the server closed");
        self.unread.drain(..length).collect()
    }

    /// At most so many bytes, fewer only at the end; they stay unread.
    fn take_some(&mut self, length: usize) -> &[u8] {
        while self.unread.len() < length && self.read_more() {}
        &self.unread[..length.min(self.unread.len())]
    }

    fn take_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|part| part == end) {
                return self.unread.drain(..at + end.len()).collect();
            }
            let is_more = self.read_more();
            assert!(
                is_more,
                "closed after {:?}",
                self.unread.escape_ascii().to_string()
            );
        }
    }

    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!(
                "{error}, after {:?}",
                self.unread.escape_ascii().to_string()
            ),
        }
    }
}

/// A response as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The status line and the fields.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LOG_GROWS: Condvar = Condvar::new();

/// Waits for a line of the log with this text, which should be the test's own.
pub(crate) fn logged(text: &str) -> String {
    let find = |log: &Vec<String>| log.iter().find(|line| line.contains(text)).cloned();
    let log = LOG.lock().unwrap();
    let (log, _) = LOG_GROWS
        .wait_timeout_while(log, PATIENCE, |log| find(log).is_none())
        .unwrap();
    find(&log).unwrap_or_else(|| panic!("nothing was logged about {text:?}"))
}

/// Lines of the log so far with this text.
pub(crate) fn times_logged(text: &str) -> usize {
    let log = LOG.lock().unwrap();
    log.iter().filter(|line| line.contains(text)).count()
}

fn collect_log() {
    struct Collect;
    impl log::Log for Collect {
        fn enabled(&self, _: &log::Metadata) -> bool {
            true
        }
        fn log(&self, record: &log::Record) {
            LOG.lock().unwrap().push(record.args().to_string());
            LOG_GROWS.notify_all();
        }
        fn flush(&self) {}
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collect).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
}
