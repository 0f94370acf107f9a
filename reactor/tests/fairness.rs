//! Many peers at once: none of them starves the others, and none leaves anything behind.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use deferred_reactor::Reactor;
use deferred_reactor::net::Transport;

use peers::{
    Process, Script, Scripts, connect, listen, read_all, read_exactly, run_with_peer, say,
};

/// Floods the server from another thread until told to end.
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Flood {
    fn start(mut peer: TcpStream) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = thread::spawn(move || {
            let data = vec![b'x'; 1 << 20];
            while !over.load(Ordering::SeqCst) && peer.write(&data).is_ok() {}
        });
        Self { is_over, thread }
    }

    fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

/// A peer that never stops sending is always readable; others are served all the same.
#[test]
fn a_peer_that_floods_does_not_starve_another() {
    let reactor = Reactor::new().unwrap();
    let slow = Scripts::new(|| {
        // By the time that this is done there is more.
        Script::new().data(|_, _| {
            let until = Instant::now() + Duration::from_micros(100);
            while Instant::now() < until {
                thread::yield_now();
            }
            Ok(())
        })
    });
    let (_, sink) = listen(&reactor, slow);
    let (_, echo) = listen(&reactor, Scripts::new(Script::echo));
    run_with_peer(&reactor, move || {
        let floods: Vec<_> = (0..2).map(|_| Flood::start(connect(sink))).collect();
        for _ in 0..30 {
            // Also those who only come now.
            let mut peer = connect(echo);
            peer.write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&mut peer, 4), b"ping");
        }
        floods.into_iter().for_each(Flood::end);
    });
}

/// A peer that takes all it is given is always writable.
#[test]
fn a_protocol_that_never_stops_writing_does_not_starve_another() {
    fn fill(reactor: Reactor, transport: Transport) {
        if transport.is_connected() {
            if transport.buffered() < 1 << 20 {
                transport.write_bytes(vec![0; 1 << 20].into());
            }
            let again = reactor.clone();
            reactor.call_later(Duration::ZERO, move || fill(again, transport));
        }
    }
    let reactor = Reactor::new().unwrap();
    let here = reactor.clone();
    let factory = Scripts::new(move || {
        let here = here.clone();
        Script::new().made(move |transport| {
            fill(here.clone(), transport.clone());
            Ok(())
        })
    });
    let (_, source) = listen(&reactor, factory);
    let (_, echo) = listen(&reactor, Scripts::new(Script::echo));
    run_with_peer(&reactor, move || {
        let mut greedy = connect(source);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let reader = thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while !over.load(Ordering::SeqCst) {
                greedy.read_exact(&mut bytes).unwrap();
            }
        });
        let mut peer = connect(echo);
        for _ in 0..50 {
            peer.write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&mut peer, 4), b"ping");
        }
        is_over.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
}

/// A call that schedules itself again for now makes each turn a short one, and no more than that.
#[test]
fn calls_without_delay_that_repeat_do_not_starve_connections() {
    let reactor = Reactor::new().unwrap();
    fn again(reactor: Reactor) {
        let next = reactor.clone();
        reactor.call_later(Duration::ZERO, move || again(next));
    }
    again(reactor.clone());
    fn from_thread(reactor: &Reactor) {
        reactor.remote().call_from_thread(from_thread).unwrap();
    }
    from_thread(&reactor);
    let (_, echo) = listen(&reactor, Scripts::new(Script::echo));
    run_with_peer(&reactor, move || {
        let mut peer = connect(echo);
        for _ in 0..50 {
            peer.write_all(b"ping").unwrap();
            assert_eq!(read_exactly(&mut peer, 4), b"ping");
        }
    });
}

/// Nor do connections starve calls.
#[test]
fn a_flood_of_data_does_not_hold_up_calls() {
    let reactor = Reactor::new().unwrap();
    let (_, sink) = listen(&reactor, Scripts::new(Script::new));
    let ticks = Rc::new(Cell::new(0));
    fn tick(reactor: Reactor, ticks: Rc<Cell<u32>>, finish: Box<dyn FnOnce()>) {
        ticks.set(ticks.get() + 1);
        if ticks.get() == 20 {
            return finish();
        }
        let next = reactor.clone();
        reactor.call_later(Duration::from_micros(300), move || {
            tick(next, ticks, finish)
        });
    }
    let (tell, told) = std::sync::mpsc::channel();
    tick(
        reactor.clone(),
        ticks.clone(),
        Box::new(move || tell.send(()).unwrap()),
    );
    run_with_peer(&reactor, move || {
        let flood = Flood::start(connect(sink));
        told.recv_timeout(peers::LIMIT).unwrap();
        flood.end();
    });
    assert_eq!(ticks.get(), 20);
}

/// An event that is on its way when a connection ends must not reach the one that has its place.
#[test]
fn a_new_connection_gets_nothing_that_was_meant_for_the_one_before() {
    let reactor = Reactor::new().unwrap();
    // Both victims are readable in the same turn; the first that is told closes the other.
    let pair = Rc::new(RefCell::new(Vec::<Transport>::new()));
    let log = peers::journal();
    let (transports, seen) = (pair.clone(), log.clone());
    let factory = Scripts::new(move || {
        let (made, data) = (transports.clone(), transports.clone());
        let (seen, lost) = (seen.clone(), seen.clone());
        Script::new()
            .made(move |transport| {
                made.borrow_mut().push(transport.clone());
                transport.write(b"?");
                Ok(())
            })
            .data(move |_, bytes| {
                peers::note(&seen, String::from_utf8_lossy(bytes));
                for transport in data.borrow().iter() {
                    transport.abort_connection();
                }
                Ok(())
            })
            .lost(move |reason| peers::note(&lost, peers::kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        for _ in 0..200 {
            let mut two = [connect(address), connect(address)];
            for peer in &mut two {
                read_exactly(peer, 1);
            }
            for peer in &mut two {
                // The other may be gone already.
                let _ = peer.write_all(b"close");
            }
            for peer in &mut two {
                let _ = peer.read_to_end(&mut Vec::new());
            }
        }
    });
    let lost = log
        .borrow()
        .iter()
        .filter(|entry| *entry != "close")
        .count();
    assert_eq!(lost, 400, "each connection ends once");
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

#[test]
#[ignore = "the child of another test"]
fn child_serves_thousands() {
    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    let reactor = Reactor::new().unwrap();
    let open = Rc::new(Cell::new(0));
    let count = open.clone();
    let number = Cell::new(0);
    let factory = Scripts::for_peer(move |_| {
        // Every way to end: not wanted at all, closed here, aborted here, closed there, reset there.
        number.set(number.get() + 1);
        let way = number.get() % 4;
        let (made, lost) = (count.clone(), count.clone());
        (way != 0).then(|| {
            Script::echo()
                .made(move |transport| {
                    made.set(made.get() + 1);
                    match way {
                        1 => transport.lose_connection(),
                        2 => transport.abort_connection(),
                        _ => transport.write(b"?"),
                    }
                    Ok(())
                })
                .lost(move |_| lost.set(lost.get() - 1))
        })
    });
    let (_, address) = listen(&reactor, factory);
    let (tell, told) = std::sync::mpsc::channel();
    let report = peers::lend(&reactor, move || tell.send(descriptors()).unwrap());
    let before = descriptors();
    let after = run_with_peer(&reactor, move || {
        for number in 0..3000 {
            let mut peer = connect(address);
            let _ = peer.write_all(b"x");
            if number % 3 == 0 {
                let _ = peer.shutdown(Shutdown::Write);
                let _ = peer.read_to_end(&mut Vec::new());
            }
        }
        // One more, served after the others have gone.
        while !matches!(connect(address).read(&mut [0]), Ok(1)) {}
        report();
        told.recv_timeout(peers::LIMIT).unwrap()
    });
    // The last few may be on their way still.
    say(&format!(
        "{} more while running",
        after.saturating_sub(before) / 10 * 10
    ));
    say(&format!("{} protocols left", open.get()));
    drop(reactor);
    say(&format!("closed its own: {}", descriptors() < before));
}

/// Thousands of connections come and go, and their descriptors with them.
#[test]
fn connections_leave_no_descriptors_behind() {
    let (said, status) = Process::start("child_serves_thousands").ends();
    let want = [
        "0 more while running",
        "0 protocols left",
        "closed its own: true",
    ];
    assert_eq!(said, want);
    assert!(status.success());
}

/// More peers than are accepted in one turn, or come with one poll.
#[test]
fn hundreds_of_peers_are_served_at_once() {
    let reactor = Reactor::new().unwrap();
    let (_, address) = listen(&reactor, Scripts::new(Script::echo));
    run_with_peer(&reactor, move || {
        let mut peers: Vec<_> = (0..300).map(|_| connect(address)).collect();
        for round in 0..3u8 {
            for peer in &mut peers {
                peer.write_all(&[round]).unwrap();
            }
            for peer in &mut peers {
                assert_eq!(read_exactly(peer, 1), [round]);
            }
        }
        for peer in &mut peers {
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(read_all(peer), b"");
        }
    });
}
