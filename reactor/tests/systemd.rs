//! A process that systemd has started, as it sees it: sockets at descriptor 3 and above, variables in
//! the environment, and a datagram socket to be told at.
//!
//! The test is the service manager. Its child is this program again, started by a shell that puts the
//! sockets where they belong.
#![cfg(all(unix, feature = "systemd"))]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deferred_reactor::net::{Protocol, Transport, for_protocol};
use deferred_reactor::systemd::{ListenSockets, notify_manager};
use deferred_reactor::{Failure, Reactor};

/// How long the other process may take.
const LONG: Duration = Duration::from_secs(30);

/// Echoes, blocks at `b`, and stops at `q`.
struct Service;

impl Protocol for Service {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        transport.write(data);
        if data.contains(&b'b') {
            let manager = UnixDatagram::unbound()?;
            manager.connect(std::env::var("NOTIFY_SOCKET")?)?;
            manager.send(b"BLOCKED")?;
            std::thread::sleep(Duration::from_millis(200)); // as no callback should
            manager.send(b"GOES ON")?;
        }
        if data.contains(&b'q') {
            transport.reactor().expect("it is connected").stop()?;
        }
        Ok(())
    }
}

/// The child of the tests below.
#[test]
#[ignore = "run by the others, as a service"]
fn service() -> Result<(), Failure> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(()); // run by hand, with all that are ignored
    }
    let mut sockets = ListenSockets::from_env();
    assert!(
        std::env::var_os("LISTEN_FDS").is_none(),
        "not for children of its own"
    );
    let reactor = Reactor::new()?;
    let web = sockets.index_of("web").expect("its name");
    let web = sockets.listen(&reactor, web, for_protocol(|| Service))?;
    sockets.listen(&reactor, 1, for_protocol(|| Service))?;
    let error = sockets
        .listen(&reactor, 1, for_protocol(|| Service))
        .unwrap_err();
    assert_eq!(
        format!("{:?}", Failure::from(error)),
        "cannot listen on systemd:index=1: the socket is in use: listen was called for it before"
    );
    let error = sockets
        .listen(&reactor, 2, for_protocol(|| Service))
        .unwrap_err();
    assert_eq!(
        format!("{:?}", Failure::from(error)),
        "cannot listen on systemd:index=2: systemd has handed over 2 sockets"
    );
    assert_eq!((sockets.len(), sockets.index_of("")), (2, None));
    assert!(web.address().port().is_some());
    notify_manager(&reactor);
    reactor.run_without_signals()
}

/// What the service manager has for its service.
struct Manager {
    notices: UnixDatagram,
    folder: PathBuf,
    tcp: std::net::SocketAddr,
    child: Child,
}

impl Manager {
    fn start(name: &str, watchdog: Option<Duration>) -> Self {
        let folder = std::env::temp_dir().join(format!("systemd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let notices = UnixDatagram::bind(folder.join("notify")).unwrap();
        notices.set_read_timeout(Some(LONG)).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(folder.join("service")).unwrap();
        // The shell has them as its input and output; the service, as systemd counts.
        let script = r#"export LISTEN_PID=$$ WATCHDOG_PID=$$
            exec "$0" "$@" 3<&0 4<&1 0</dev/null 1>&2"#;
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "service", "--ignored", "--nocapture"])
            .env("LISTEN_FDS", "2")
            .env("LISTEN_FDNAMES", "web:local")
            .env("NOTIFY_SOCKET", folder.join("notify"))
            .env_remove("WATCHDOG_USEC");
        if let Some(limit) = watchdog {
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        Self {
            tcp: tcp.local_addr().unwrap(),
            child: command
                .stdin(Stdio::from(OwnedFd::from(tcp)))
                .stdout(Stdio::from(OwnedFd::from(unix)))
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
            notices,
            folder,
        }
    }

    fn notice(&self) -> String {
        let mut buffer = [0; 1024];
        let length = self
            .notices
            .recv(&mut buffer)
            .expect("the service says something");
        String::from_utf8_lossy(&buffer[..length])
            .trim_end()
            .to_owned()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Ends the service; everything it has said since.
    fn stop(mut self) -> Vec<String> {
        self.connect().write_all(b"q").unwrap();
        let mut errors = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        assert!(self.child.wait().unwrap().success(), "{errors}");
        self.notices.set_nonblocking(true).unwrap();
        let mut notices = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length) = self.notices.recv(&mut buffer) {
            notices.push(
                String::from_utf8_lossy(&buffer[..length])
                    .trim_end()
                    .to_owned(),
            );
        }
        notices
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// SD-01, SD-02, SD-03: and SD-05, no watchdog where none was asked for.
#[test]
fn a_service_listens_on_the_sockets_that_it_was_given() {
    let manager = Manager::start("sockets", None);
    // Before the service is ready: that is what the socket is for.
    let mut tcp = manager.connect();
    let mut unix = UnixStream::connect(manager.folder.join("service")).unwrap();
    unix.set_read_timeout(Some(LONG)).unwrap();
    tcp.write_all(b"over tcp").unwrap();
    unix.write_all(b"over unix").unwrap();
    let mut answer = [0; 8];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"over tcp");
    unix.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    unix.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "over unix");
    assert_eq!(manager.notice(), "READY=1");
    let socket = manager.folder.join("service");
    assert!(socket.exists());
    let folder = manager.folder.clone();
    assert_eq!(manager.stop(), ["STOPPING=1"]);
    assert!(!folder.exists());
}

/// SD-04: by the loop, and so not while it is stuck.
#[test]
fn the_loop_feeds_the_watchdog() {
    let manager = Manager::start("watchdog", Some(Duration::from_millis(20)));
    assert_eq!(manager.notice(), "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.notice(), "WATCHDOG=1");
    }
    manager.connect().write_all(b"b").unwrap();
    let mut notice = manager.notice();
    while notice == "WATCHDOG=1" {
        notice = manager.notice();
    }
    assert_eq!(notice, "BLOCKED");
    assert_eq!(manager.notice(), "GOES ON", "and no food meanwhile");
    assert_eq!(manager.notice(), "WATCHDOG=1");
    let rest = manager.stop();
    assert!(rest.contains(&"STOPPING=1".to_owned()), "{rest:?}");
}

/// SD-05.
#[test]
fn outside_of_systemd_there_are_no_sockets_and_nobody_is_told() -> Result<(), Failure> {
    let reactor = Reactor::new()?;
    let mut sockets = ListenSockets::from_env();
    assert!(sockets.is_empty() && sockets.index_of("web").is_none());
    assert!(
        sockets
            .listen(&reactor, 0, for_protocol(|| Service))
            .is_err()
    );
    notify_manager(&reactor);
    reactor.run_for(Duration::from_millis(1))
}
