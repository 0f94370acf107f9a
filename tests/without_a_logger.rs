//! F-08: what a program without a logger sees on standard error. Each program is a process of its
//! own, since a logger is set once for all.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use prometheus_deferred::testing::{MemoryReactor, SendRequests};
use prometheus_deferred::web::{Klein, Rendered, Request, Resource, Site, Tree};
use prometheus_deferred::{
    Deferred, Failure, LoopingCall, Phase, Reactor, SystemEvent, logging, net, start_http_server,
};

struct Broken;

impl net::Protocol for Broken {
    fn data_received(&mut self, _: &net::Transport, _: &[u8]) -> Result<(), Failure> {
        Err(Failure::message("the protocol is broken"))
    }
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_protocol_that_fails() {
    let memory = MemoryReactor::new();
    let peer = memory.connect(Broken);
    peer.send("x");
    memory.pump();
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_failure_in_the_background() {
    drop(Deferred::<()>::fail(Failure::message("nobody waits")));
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_looping_call_that_fails() {
    let reactor = Reactor::new().unwrap();
    let looping = LoopingCall::new(&reactor, || -> Result<(), Failure> {
        Err(Failure::message("the loop is broken"))
    });
    drop(looping.start(Duration::from_secs(1)).unwrap());
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_trigger_that_fails() {
    let reactor = Reactor::new().unwrap();
    let event = SystemEvent::Named("reload");
    reactor.add_system_event_trigger(Phase::During, event, || -> Result<(), Failure> {
        Err(Failure::message("the trigger\nis broken"))
    });
    drop(reactor.fire_system_event("reload"));
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let reactor = Reactor::new().unwrap();
    drop(start_http_server(&reactor, taken.local_addr().unwrap()));
}

/// A page that fails.
struct Panics;

impl Resource for Panics {
    fn render_get(&self, _: Request) -> Rendered {
        panic!("the page is broken")
    }
}

fn ask(root: impl Resource, path: &str) {
    let memory = MemoryReactor::new();
    memory.listen_tcp("127.0.0.1:80", Site::new(root)).unwrap();
    // What a panic says by itself is not what is looked for.
    std::panic::set_hook(Box::new(|_| ()));
    assert_eq!(memory.get(path).send().status(), 500);
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_route_that_fails() {
    let mut app = Klein::new();
    app.route("/item/<int:id>", |_| {
        Err::<(), _>(Failure::message("the route is broken"))
    });
    ask(app.resource(), "/item/7");
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_route_that_panics() {
    let mut app = Klein::new();
    app.route("/item/<int:id>", |_| -> &'static str {
        panic!("the route is broken")
    });
    ask(app.resource(), "/item/7");
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_resource_that_panics() {
    let root = Tree::new();
    root.put_child("page", Panics);
    ask(root, "/page");
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_slow_callback() {
    let reactor = Reactor::new().unwrap();
    reactor.set_slow_callback_limit(Duration::ZERO);
    let stop = reactor.clone();
    reactor.call_later(Duration::ZERO, move || stop.stop().unwrap());
    reactor.run_without_signals().unwrap();
}

#[test]
#[ignore = "the child of another test"]
fn child_that_wants_silence() {
    logging::set_stderr_fallback(false);
    drop(Deferred::<()>::fail(Failure::message("nobody waits")));
}

/// Has no size, as loggers often have; sees errors alone.
struct Picky;

impl log::Log for Picky {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "ours"
    }
    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("logger: {}", record.args());
        }
    }
    fn flush(&self) {}
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_logger() {
    drop(Deferred::<()>::fail(Failure::message("before")));
    log::set_logger(&Picky).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    drop(Deferred::<()>::fail(Failure::message("after")));
    logging::error!(target: "ours", "in {}", "order");
}

/// Has a size, and wants nothing at all.
struct Off(#[allow(dead_code, reason = "for its size")] u8);

impl log::Log for Off {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        false
    }
    fn log(&self, _: &log::Record<'_>) {}
    fn flush(&self) {}
}

#[test]
#[ignore = "the child of another test"]
fn child_with_a_logger_that_is_off() {
    log::set_logger(&Off(0)).unwrap();
    drop(Deferred::<()>::fail(Failure::message("nobody waits")));
}

/// What such a program writes to standard error.
fn stderr_of(child: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--ignored", "--exact", child, "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{child}: {output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// F-08.
#[test]
fn a_program_without_a_logger_sees_one_line_for_each_failure() {
    let file = file!();
    for (child, begin, part) in [
        (
            "child_with_a_protocol_that_fails",
            "ERROR reactor: closing the connection with ",
            "the protocol is broken",
        ),
        (
            "child_with_a_failure_in_the_background",
            "ERROR deferred: unhandled failure: nobody waits",
            file,
        ),
        (
            "child_with_a_looping_call_that_fails",
            "ERROR deferred: unhandled failure: the loop is broken",
            file,
        ),
        (
            "child_with_a_trigger_that_fails",
            "ERROR reactor: ",
            "the trigger\\nis broken",
        ),
        (
            "child_with_a_port_that_is_taken",
            "ERROR deferred: unhandled failure: cannot listen on 127.0.0.1:",
            file,
        ),
        (
            "child_with_a_route_that_fails",
            "ERROR web: GET /item/7 (route /item/<int:id>) from 127.0.0.1:",
            "the route is broken",
        ),
        (
            "child_with_a_route_that_panics",
            "ERROR web: GET /item/7 (route /item/<int:id>) from 127.0.0.1:",
            file,
        ),
        (
            "child_with_a_resource_that_panics",
            "ERROR web: GET /page from 127.0.0.1:",
            "the page is broken",
        ),
        ("child_with_a_slow_callback", "WARN reactor: ", file),
    ] {
        let lines = stderr_of(child);
        let [line] = &lines[..] else {
            panic!("{child}: {lines:?}");
        };
        assert!(line.starts_with(begin), "{child}: {line}");
        assert!(line.contains(part), "{child}: {line}");
    }
}

/// F-08.
#[test]
fn the_fallback_can_be_turned_off() {
    assert!(stderr_of("child_that_wants_silence").is_empty());
}

/// F-08: also where the logger drops the record.
#[test]
fn the_fallback_gives_way_to_any_logger() {
    let lines = stderr_of("child_with_a_logger");
    let [before, logged] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert!(before.contains("unhandled failure: before"), "{before}");
    assert_eq!(logged, "logger: in order");
    assert!(stderr_of("child_with_a_logger_that_is_off").is_empty());
}
