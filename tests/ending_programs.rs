//! B-12, F-19, F-37: how programs that serve end when they get signals. Each is a process of its own.

#![cfg(unix)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use prometheus_deferred::web::{Klein, NOT_DONE_YET, Request, Site};
use prometheus_deferred::{Reactor, defer_later};

/// Much longer than anything takes that works, and shorter than the drains that are not waited for.
const PATIENCE: Duration = Duration::from_secs(20);

fn serve(set: impl FnOnce(Site) -> Site) {
    let reactor = Reactor::new().unwrap();
    let mut app = Klein::new();
    app.route("/now", |_| "now");
    app.route("/events", |mut request: Request| {
        request.write("data: hello\n\n");
        drop(request.notify_drain().map(move |()| {
            request.finish();
        }));
        NOT_DONE_YET
    });
    app.route("/never", |mut request: Request| {
        request.write("a part");
        std::mem::forget(request);
        NOT_DONE_YET
    });
    // The rest comes when the program is ending.
    let clock = reactor.clone();
    app.route("/rest", move |mut request: Request| {
        request.write("a part");
        let clock = clock.clone();
        drop(request.notify_drain().map(move |()| {
            let rest = defer_later(&clock, Duration::from_millis(50), move || {
                request.write(" and the rest");
                request.finish();
                Ok(())
            });
            drop(rest);
        }));
        NOT_DONE_YET
    });
    let site = set(Site::new(app.resource()));
    let port = reactor.listen_tcp("127.0.0.1:0", site).unwrap();
    reactor.call_when_running(move || println!("listening on {}", port.address()));
    reactor.run().unwrap();
    println!("ended in good order");
}

#[test]
#[ignore = "the child of another test"]
fn child_with_much_time() {
    serve(|site| site.drain_on_shutdown(Duration::from_secs(3600)));
}

#[test]
#[ignore = "the child of another test"]
fn child_with_little_time() {
    serve(|site| site.drain_on_shutdown(Duration::from_millis(200)));
}

#[test]
#[ignore = "the child of another test"]
fn child_with_the_usual_time() {
    serve(|site| site);
}

/// A program that serves; killed when dropped.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Program {
    fn start(child: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", child, "--nocapture"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it has ended");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.trim().parse().unwrap();
            }
        };
        Self {
            child,
            stdout,
            address,
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Asks for a page, and reads until `begin` of its body is there.
    fn ask(&self, path: &str, version: &str, begin: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/{version}\r\nHost: h\r\n\r\n").unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(begin) {
            let mut byte = [0];
            assert_eq!(
                stream.read(&mut byte).unwrap(),
                1,
                "it ends behind {seen:?}"
            );
            seen.extend(byte);
        }
        stream
    }

    /// Waits until it has ended: its exit code, and what it had to say.
    fn wait(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is left of a response, and whether it ends cleanly.
fn rest(mut stream: TcpStream) -> (String, bool) {
    let mut bytes = Vec::new();
    let is_clean = match stream.read_to_end(&mut bytes) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => panic!("{error}, after {:?}", bytes.escape_ascii().to_string()),
    };
    (String::from_utf8(bytes).unwrap(), is_clean)
}

/// B-12: Ctrl-C is quick though a browser's tab is open, and idle connections hold nothing up.
#[test]
fn an_event_stream_and_idle_connections_do_not_hold_up_the_end() {
    for signal in ["-INT", "-TERM"] {
        let program = Program::start("child_with_much_time");
        let idle = program.ask("/now", "1.1", "\r\n\r\nnow");
        let fresh = TcpStream::connect(program.address).unwrap();
        fresh.set_read_timeout(Some(PATIENCE)).unwrap();
        let events = program.ask("/events", "1.1", "data: hello\n\n");
        program.signal(signal);
        assert_eq!(rest(events), ("\r\n0\r\n\r\n".into(), true));
        assert_eq!(rest(idle), (String::new(), true));
        assert_eq!(rest(fresh), (String::new(), true));
        let (code, out, err) = program.wait();
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("ended in good order"), "{out}");
        assert!(!err.contains("cut off"), "{err}");
    }
}

/// F-37: what ends with the connection ends whole, or with a reset.
#[test]
fn a_partial_response_to_http_1_0_never_ends_cleanly() {
    let program = Program::start("child_with_much_time");
    let whole = program.ask("/rest", "1.0", "a part");
    program.signal("-TERM");
    assert_eq!(rest(whole), (" and the rest".into(), true));
    assert_eq!(program.wait().0, Some(0));

    for signal in ["-INT", "-TERM"] {
        let program = Program::start("child_with_little_time");
        let partial = program.ask("/never", "1.0", "a part");
        let chunked = program.ask("/never", "1.1", "a part");
        program.signal(signal);
        let (text, is_clean) = rest(partial);
        assert!(!is_clean, "{signal}: a clean end behind {text:?}");
        rest(chunked);
        let (code, _, err) = program.wait();
        assert_eq!(code, Some(0), "{err}");
        // Law 3, and F-08: this program has no logger.
        assert!(err.contains("WARN web: requests were cut off by the end of the program: GET /never from 127.0.0.1:"), "{err}");
    }
}

/// B-12: after Ctrl-C it is two seconds, unless set.
#[test]
fn an_interrupt_is_patient_for_two_seconds() {
    let program = Program::start("child_with_the_usual_time");
    let partial = program.ask("/never", "1.0", "a part");
    let whole = program.ask("/rest", "1.0", "a part");
    program.signal("-INT");
    assert_eq!(rest(whole), (" and the rest".into(), true));
    assert!(!rest(partial).1);
    assert_eq!(program.wait().0, Some(0));
}

/// F-19: whoever does not want to wait says so once more.
#[test]
fn a_second_signal_ends_a_drain_at_once_with_a_sentence() {
    for (first, second) in [("-INT", "-INT"), ("-TERM", "-INT")] {
        let program = Program::start("child_with_much_time");
        let partial = program.ask("/never", "1.1", "a part");
        let idle = program.ask("/now", "1.1", "\r\n\r\nnow");
        program.signal(first);
        // The drain has begun.
        assert_eq!(rest(idle), (String::new(), true));
        assert!(TcpStream::connect(program.address).is_err());
        program.signal(second);
        rest(partial);
        let (code, out, err) = program.wait();
        assert_ne!(code, Some(0), "{out}");
        assert!(!out.contains("ended in good order"), "{out}");
        let lines = err.lines().filter(|line| line.contains("signal")).count();
        assert_eq!(lines, 1, "{err}");
    }
}
