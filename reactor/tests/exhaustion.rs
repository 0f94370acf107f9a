//! When the system has no descriptors left.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{OnceCell, RefCell};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use deferred_reactor::Reactor;
use deferred_reactor::net::{Port, PortStats};

use peers::{Process, Script, Scripts, connect, listen, listen_to_parent, read_exactly, run, say};

const EMFILE: i32 = 24;

/// Serves peers until the parent is gone, and does what the bytes of a peer say: `e` uses up all
/// descriptors, `b` does so only until accepting rests, `r` gives them back, and `?` reports.
#[test]
#[ignore = "the child of other tests"]
fn child_has_few_descriptors() {
    let reactor = Reactor::new().unwrap();
    let here = reactor.clone();
    let held = Rc::new(RefCell::new(Vec::new()));
    let own_port = Rc::new(OnceCell::<Port>::new());
    let port = own_port.clone();
    let factory = Scripts::new(move || {
        let (here, held, port) = (here.clone(), held.clone(), port.clone());
        Script::new().data(move |transport, data| {
            for byte in data {
                let stats = port.get().unwrap().stats();
                match byte {
                    b'e' => use_up(&mut held.borrow_mut()),
                    b'b' => {
                        use_up(&mut held.borrow_mut());
                        give_back_when_it_rests(&here, &port, held.clone(), stats.rests);
                    }
                    b'r' => held.borrow_mut().clear(),
                    b'?' => {
                        let refused = stats.refused.get(&EMFILE).copied().unwrap_or_default();
                        assert_eq!(stats.total_refused(), refused);
                        say(&format!("accepted {}", stats.accepted));
                        say(&format!("refused {refused}"));
                        say(&format!("rests {}", stats.rests));
                        say(&format!("timers {}", here.delayed_calls().len()));
                    }
                    _ => {}
                }
            }
            transport.write(data);
            Ok(())
        })
    });
    let (port, address) = listen(&reactor, factory);
    own_port.set(port).unwrap();
    say(&address.to_string());
    let remote = reactor.remote();
    std::thread::spawn(move || {
        while !listen_to_parent().is_empty() {}
        remote
            .call_from_thread(|reactor| reactor.stop().unwrap())
            .unwrap();
    });
    run(&reactor);
    let warnings = peers::times_logged("cannot accept");
    say(&format!("warned {warnings}"));
}

fn use_up(held: &mut Vec<File>) {
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
}

/// Looks at each turn, so that it comes before the end of the rest, however slow the machine is.
fn give_back_when_it_rests(
    reactor: &Reactor,
    port: &Rc<OnceCell<Port>>,
    held: Rc<RefCell<Vec<File>>>,
    rests: u64,
) {
    if port.get().unwrap().stats().rests > rests {
        return held.borrow_mut().clear();
    }
    let (again, port) = (reactor.clone(), port.clone());
    reactor.call_later(Duration::ZERO, move || {
        give_back_when_it_rests(&again, &port, held, rests);
    });
}

/// What the child tells about its port.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    accepted: usize,
    refused: usize,
    rests: usize,
    timers: usize,
}

struct Server {
    child: Process,
    address: SocketAddr,
    /// A connection that was there before.
    first: TcpStream,
}

impl Server {
    fn start(limit: u32) -> Self {
        let command = format!("ulimit -n {limit}");
        let mut child = Process::start_after("child_has_few_descriptors", &command);
        let address = child.hears().unwrap().parse().unwrap();
        let mut first = connect(address);
        ask(&mut first, b'x');
        Self {
            child,
            address,
            first,
        }
    }

    fn report(&mut self) -> Report {
        ask(&mut self.first, b'?');
        let mut number = |name: &str| -> usize {
            let said = self.child.hears().unwrap();
            let number = said.strip_prefix(name).unwrap_or_else(|| panic!("{said}"));
            number.trim().parse().unwrap()
        };
        Report {
            accepted: number("accepted"),
            refused: number("refused"),
            rests: number("rests"),
            timers: number("timers"),
        }
    }

    /// Ends it; how often it has warned.
    fn ends(mut self) -> String {
        self.child.tell("");
        let (mut said, status) = self.child.ends();
        assert!(status.success());
        assert_eq!(said.len(), 1, "{said:?}");
        said.pop().unwrap()
    }
}

fn ask(peer: &mut TcpStream, question: u8) {
    peer.write_all(&[question]).unwrap();
    assert_eq!(read_exactly(peer, 1), [question]);
}

/// Whether a peer was served, or else has been closed. That it waits for ever is an error.
fn is_served(peer: &mut TcpStream) -> bool {
    let _ = peer.write_all(b"y");
    match peer.read(&mut [0]) {
        Ok(count) => count == 1,
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            false
        }
    }
}

/// B-11.
#[test]
fn without_descriptors_old_connections_live_on_and_new_ones_are_closed_and_counted() {
    const PEERS: usize = 5;
    let begin = Instant::now();
    let mut server = Server::start(60);
    ask(&mut server.first, b'e');
    let mut others: Vec<_> = (0..PEERS).map(|_| connect(server.address)).collect();
    for peer in &mut others {
        assert!(!is_served(peer));
    }
    let report = server.report();
    assert_eq!((report.accepted, report.refused), (1, PEERS));
    assert_eq!(report.timers, 0, "nobody waits, so nothing goes on");
    // One rest for all of them, or one for each that came too late for the one before.
    assert!((1..=PEERS).contains(&report.rests), "{report:?}");
    // Nobody has to do anything to make it accept again.
    ask(&mut server.first, b'r');
    ask(&mut connect(server.address), b'y');
    // And once more.
    ask(&mut server.first, b'e');
    assert!(!is_served(&mut connect(server.address)));
    ask(&mut server.first, b'r');
    ask(&mut connect(server.address), b'y');
    let report = server.report();
    assert_eq!((report.accepted, report.refused), (3, PEERS + 1));
    let limit = begin.elapsed().as_secs() / 10 + 1;
    let warned = server.ends();
    let warned = warned.strip_prefix("warned ").unwrap().parse::<u64>();
    assert!((1..=limit).contains(&warned.unwrap()));
}

/// B-11: those who came a moment too early are served, not refused.
#[test]
fn a_shortage_that_is_over_soon_refuses_nobody() {
    const PEERS: usize = 5;
    let mut server = Server::start(60);
    for round in 1..=3 {
        ask(&mut server.first, b'b');
        let mut others: Vec<_> = (0..PEERS).map(|_| connect(server.address)).collect();
        for peer in &mut others {
            ask(peer, b'y');
        }
        let want = Report {
            accepted: 1 + round * PEERS,
            refused: 0,
            rests: round,
            timers: 0,
        };
        assert_eq!(server.report(), want);
    }
    server.ends();
}

/// B-11: here the connections themselves are what uses them up.
#[test]
fn as_many_are_served_as_there_is_room_for() {
    let mut server = Server::start(40);
    for _ in 0..3 {
        let before = server.report();
        let mut others: Vec<_> = (0..80).map(|_| connect(server.address)).collect();
        let served = others
            .iter_mut()
            .filter_map(|peer| is_served(peer).then_some(()));
        let served = served.count();
        assert!((10..40).contains(&served), "{served}");
        let after = server.report();
        assert_eq!(after.accepted - before.accepted, served);
        assert_eq!(after.refused - before.refused, 80 - served);
        assert!(after.rests > before.rests);
        // Those that are served go, and make room for the next.
        drop(others);
        while !is_served(&mut connect(server.address)) {}
    }
    server.ends();
}

#[test]
#[ignore = "the child of another test"]
fn child_closes_ports() {
    const PORTS: usize = 20;
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let reactor = Reactor::new().unwrap();
    let before = open();
    let ports: Vec<_> = (0..PORTS)
        .map(|_| listen(&reactor, Scripts::new(Script::new)).0)
        .collect();
    // The socket, and one spare.
    assert_eq!(open(), before + 2 * PORTS);
    for port in &ports {
        assert!(port.stop_listening().is_fired());
        assert_eq!(port.stats(), PortStats::default());
    }
    assert_eq!(open(), before);
    say("done");
}

/// B-11.
#[test]
fn a_port_that_was_closed_holds_no_descriptor() {
    let (said, status) = Process::start("child_closes_ports").ends();
    assert_eq!(said, ["done"]);
    assert!(status.success());
}

#[test]
#[ignore = "the child of another test"]
fn child_has_no_spare() {
    let reactor = Reactor::new().unwrap();
    let mut held = Vec::new();
    use_up(&mut held);
    held.pop();
    let (port, address) = listen(&reactor, Scripts::new(Script::echo));
    say(&address.to_string());
    fn wait(reactor: &Reactor, port: Port, held: Vec<File>, begin: Instant) {
        let rests = port.stats().rests;
        if rests == 3 {
            // Two of them have ended, and none was cut short.
            let spins = begin.elapsed() < Duration::from_millis(200);
            drop(held); // here is room
            return say(&format!("spins {spins}"));
        }
        let again = reactor.clone();
        reactor.call_later(Duration::from_millis(1), move || {
            wait(&again, port, held, begin);
        });
    }
    wait(&reactor, port.clone(), held, Instant::now());
    let remote = reactor.remote();
    std::thread::spawn(move || {
        while !listen_to_parent().is_empty() {}
        remote
            .call_from_thread(|reactor| reactor.stop().unwrap())
            .unwrap();
    });
    run(&reactor);
    assert_eq!(port.stats().total_refused(), 0);
}

/// B-11: where nobody can be refused either, they wait, and the loop does not spin.
#[test]
fn a_port_that_has_nothing_to_give_up_rests_until_there_is_room() {
    let mut child = Process::start_after("child_has_no_spare", "ulimit -n 40");
    let address = child.hears().unwrap().parse().unwrap();
    let mut others: Vec<_> = (0..5).map(|_| connect(address)).collect();
    assert_eq!(child.hears().as_deref(), Some("spins false"));
    for peer in &mut others {
        ask(peer, b'y');
    }
    child.tell("");
    assert!(child.ends().1.success());
}

#[test]
#[ignore = "the child of another test"]
fn child_cannot_make_a_reactor() {
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    say(&format!(
        "{:?}",
        Reactor::new().err().and_then(|e| e.raw_os_error())
    ));
    held.truncate(held.len() - 3);
    let reactor = Reactor::new().unwrap();
    say(&format!("{:?}", listen_error(&reactor)));
    say(&format!("with signals: {}", reactor.run().is_ok()));
    // This needs no more descriptors than the reactor has.
    let stop = reactor.clone();
    reactor.call_later(Duration::ZERO, move || stop.stop().unwrap());
    say(&format!(
        "without: {}",
        reactor.run_without_signals().is_ok()
    ));
}

fn listen_error(reactor: &Reactor) -> Option<i32> {
    let outcome = reactor.listen_tcp("127.0.0.1:0", Scripts::new(Script::new));
    outcome.err().and_then(|error| error.cause.raw_os_error())
}

/// What cannot be had is an error, and nothing is half made.
#[test]
fn a_reactor_that_cannot_be_made_or_run_is_an_error() {
    const EMFILE: &str = "Some(24)";
    let child = Process::start_after("child_cannot_make_a_reactor", "ulimit -n 40");
    let (said, status) = child.ends();
    let want = [EMFILE, EMFILE, "with signals: false", "without: true"];
    assert_eq!(said, want);
    assert!(status.success());
}
