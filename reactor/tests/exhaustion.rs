//! When the system has no descriptors left.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::io::Write;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use deferred_reactor::Reactor;

use peers::{Process, Script, Scripts, connect, listen, listen_to_parent, read_exactly, run, say};

/// Serves peers until the parent is gone, and reports on itself when it is asked.
#[test]
#[ignore = "the child of another test"]
fn child_has_few_descriptors() {
    let reactor = Reactor::new().unwrap();
    let (timers, begin) = (reactor.clone(), Rc::new(Instant::now()));
    let factory = Scripts::new(move || {
        let (timers, begin) = (timers.clone(), begin.clone());
        Script::new().data(move |transport, data| {
            if data == b"?" {
                let refused = peers::times_logged("cannot accept") as u128;
                let rests = begin.elapsed().as_millis() / 50 + 1;
                say(&format!("waits {}", timers.delayed_calls().len()));
                say(&format!("refused {}", refused > 0));
                say(&format!("spins {}", refused > rests));
            }
            transport.write(data);
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    say(&address.to_string());
    let remote = reactor.remote();
    std::thread::spawn(move || {
        while !listen_to_parent().is_empty() {}
        remote
            .call_from_thread(|reactor| reactor.stop().unwrap())
            .unwrap();
    });
    run(&reactor);
    say("stopped");
}

fn ask(peer: &mut TcpStream, question: &[u8; 1]) {
    peer.write_all(question).unwrap();
    assert_eq!(read_exactly(peer, 1), question);
}

/// B-11, in part: it neither spins nor gives up, however many come meanwhile.
#[test]
fn accepting_rests_when_there_is_no_room_and_goes_on_when_there_is() {
    let mut child = Process::start_after("child_has_few_descriptors", "ulimit -n 40");
    let address = child.hears().unwrap().parse().unwrap();
    let mut first = connect(address);
    ask(&mut first, b"x");
    // More than there is room for; those who are not accepted wait in the system.
    let mut others: Vec<_> = (0..80).map(|_| connect(address)).collect();
    for peer in &mut others {
        peer.write_all(b"y").unwrap();
    }
    // Wait until it has refused one, then see how it does.
    loop {
        ask(&mut first, b"?");
        let waits = child.hears().unwrap();
        let refused = child.hears().unwrap();
        let spins = child.hears().unwrap();
        if refused == "refused true" {
            assert_eq!((waits.as_str(), spins.as_str()), ("waits 1", "spins false"));
            break;
        }
    }
    // One after the other leaves, and makes room for the next.
    for mut peer in others {
        assert_eq!(read_exactly(&mut peer, 1), b"y");
    }
    ask(&mut first, b"x");
    child.tell("");
    let (said, status) = child.ends();
    assert_eq!(said, ["stopped"]);
    assert!(status.success());
}

#[test]
#[ignore = "the child of another test"]
fn child_cannot_make_a_reactor() {
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
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
