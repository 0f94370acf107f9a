//! Several reactors on several threads, behind one port.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use deferred_reactor::net::{CannotListenError, Port};
use deferred_reactor::{
    Failure, PanicError, Phase, Reactor, SystemEvent, Worker, WorkerError, run_workers,
};

use peers::{Script, Scripts, Watchdog, connect, read_all, watch_log};

/// Runs them, with the watchdog and the log of the other tests.
fn run(
    count: usize,
    start: impl Fn(&Reactor, &Worker) -> Result<(), Failure> + Sync,
) -> Result<(), WorkerError> {
    let _watchdog = Watchdog::new();
    watch_log();
    run_workers(count, start)
}

/// Tells each peer which worker it has met.
fn tells_its_number(worker: &Worker) -> Scripts {
    let answer = [u8::try_from(worker.index()).unwrap()];
    Scripts::new(move || {
        Script::new().made(move |transport| {
            transport.write(&answer);
            transport.lose_connection();
            Ok(())
        })
    })
}

fn address_of(port: &Port) -> SocketAddr {
    peers::address_of(port)
}

fn stop_when_running(reactor: &Reactor) {
    let stop = reactor.clone();
    reactor.call_when_running(move || stop.stop().unwrap());
}

/// Connects until every worker has answered.
fn meet_all(address: SocketAddr, count: usize) {
    let mut met = BTreeSet::new();
    while met.len() < count {
        let answer = read_all(&mut connect(address));
        met.insert(answer[0]);
    }
    assert_eq!(met.last().copied(), u8::try_from(count - 1).ok());
}

/// B-14.
#[test]
fn all_workers_accept_on_one_port_each_on_its_own_thread() {
    const COUNT: usize = 3;
    let (ready, addresses) = (Barrier::new(COUNT), Mutex::new(Vec::new()));
    let threads = Mutex::new(BTreeSet::new());
    run(COUNT, |reactor, worker| {
        assert_eq!(worker.count(), COUNT);
        let name = thread::current().name().unwrap().to_owned();
        assert_eq!(name, format!("worker-{}", worker.index()));
        assert!(threads.lock().unwrap().insert(name));
        let port = worker.listen_tcp("127.0.0.1:0", tells_its_number(worker))?;
        addresses.lock().unwrap().push(address_of(&port));
        ready.wait();
        if worker.index() == 1 {
            let (remote, address) = (reactor.remote(), address_of(&port));
            thread::spawn(move || {
                meet_all(address, COUNT);
                remote.call_from_thread(|r| r.stop().unwrap()).unwrap();
            });
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(threads.lock().unwrap().len(), COUNT);
    let addresses = addresses.into_inner().unwrap();
    assert_eq!(addresses.len(), COUNT);
    assert!(addresses.iter().all(|address| *address == addresses[0]));
}

/// B-14: the nth port that was free is the same for all, and no other.
#[test]
fn workers_agree_on_every_free_port_they_ask_for() {
    let ports = Mutex::new(Vec::new());
    run(4, |reactor, worker| {
        let port = |address| -> Result<SocketAddr, Failure> {
            let port = worker.listen_tcp(address, tells_its_number(worker))?;
            Ok(address_of(&port))
        };
        let mine = [
            port("127.0.0.1:0")?,
            port("127.0.0.1:0")?,
            port("127.15.0.9:0")?,
        ];
        // One that only one of them asks for is no trouble to the others.
        if worker.index() == 2 {
            port("127.15.0.8:0")?;
        }
        ports.lock().unwrap().push(mine);
        stop_when_running(reactor);
        Ok(())
    })
    .unwrap();
    let ports = ports.into_inner().unwrap();
    assert!(!ports.is_empty());
    for mine in &ports {
        assert_eq!(*mine, ports[0]);
        assert_ne!(mine[0], mine[1]);
    }
}

/// A port of this address that nobody has at the moment. No other test uses the address.
fn free_port(address: &str) -> SocketAddr {
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// B-14.
#[test]
fn workers_share_a_given_port_and_leave_it_free() {
    const COUNT: usize = 3;
    let address = free_port("127.15.1.1");
    for _ in 0..3 {
        let ready = Barrier::new(COUNT);
        run(COUNT, |reactor, worker| {
            worker.listen_tcp(address, tells_its_number(worker))?;
            ready.wait();
            if worker.index() == 0 {
                let remote = reactor.remote();
                thread::spawn(move || {
                    meet_all(address, COUNT);
                    remote.call_from_thread(|r| r.stop().unwrap()).unwrap();
                });
            }
            Ok(())
        })
        .unwrap();
        assert!(peers::is_free(address));
    }
}

fn is_in_use(error: &CannotListenError) -> bool {
    error.cause.kind() == std::io::ErrorKind::AddrInUse
}

/// B-14: the system would let a second program take half of the connections.
#[test]
fn a_port_that_others_listen_on_is_refused_also_if_they_would_share_it() {
    let ordinary = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = ordinary.local_addr().unwrap();
    let error = run(2, |_, worker| {
        worker.listen_tcp(taken, tells_its_number(worker))?;
        Ok(())
    });
    let error = error.unwrap_err();
    let cause = error.cause.check::<CannotListenError>().unwrap();
    assert!(is_in_use(cause), "{cause:?}");
    let sentence = format!("{:?}", Failure::new(error));
    let want = format!("failed: cannot listen on {taken}: ");
    assert!(
        sentence.starts_with("worker-") && sentence.contains(&want),
        "{sentence}"
    );

    let seen = AtomicUsize::new(0);
    run(2, |reactor, worker| {
        let port = worker.listen_tcp("127.0.0.1:0", tells_its_number(worker))?;
        let taken = address_of(&port);
        let others = run_workers(2, |_, worker| {
            let refused = worker.listen_tcp(taken, tells_its_number(worker));
            assert!(is_in_use(&refused.unwrap_err()));
            seen.fetch_add(1, Ordering::SeqCst);
            Err(Failure::message("enough"))
        });
        assert_eq!(others.unwrap_err().cause.to_string(), "enough");
        stop_when_running(reactor);
        Ok(())
    })
    .unwrap();
    assert!(seen.load(Ordering::SeqCst) >= 1);
}

/// B-14.
#[test]
fn a_worker_cannot_listen_twice_on_a_port_and_can_close_and_open_it() {
    let address = free_port("127.15.1.2");
    let ready = Barrier::new(2);
    run(2, |reactor, worker| {
        let mut port = worker.listen_tcp(address, tells_its_number(worker))?;
        ready.wait();
        for _ in 0..3 {
            let twice = worker.listen_tcp(address, tells_its_number(worker));
            assert!(is_in_use(&twice.unwrap_err()));
            assert!(port.stop_listening().is_fired());
            port = worker.listen_tcp(address, tells_its_number(worker))?;
        }
        ready.wait();
        stop_when_running(reactor);
        Ok(())
    })
    .unwrap();
}

/// B-14: also one whose reactor is only about to run.
#[test]
fn when_one_is_stopped_all_end() {
    for stops in 0..3 {
        let ended = AtomicUsize::new(0);
        let ended: &'static AtomicUsize = Box::leak(Box::new(ended));
        let ready = Barrier::new(3);
        run(3, |reactor, worker| {
            ready.wait();
            let (index, stop) = (worker.index(), reactor.clone());
            reactor.add_system_event_trigger(Phase::After, SystemEvent::Shutdown, move || {
                ended.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            if index == stops {
                reactor.call_later(Duration::from_millis(2), move || stop.stop().unwrap());
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(ended.load(Ordering::SeqCst), 3);
    }
}

/// B-14.
#[test]
fn when_one_fails_all_end_and_the_error_names_it() {
    for fails in 0..3 {
        let ready = Barrier::new(3);
        let error = run(3, |_, worker| {
            ready.wait();
            if worker.index() == fails {
                return Err(Failure::message("no more ink"));
            }
            Ok(())
        })
        .unwrap_err();
        assert_eq!(error.worker, fails);
        assert_eq!(error.cause.to_string(), "no more ink");
        let sentence = format!("{:?}", Failure::new(error));
        assert_eq!(sentence, format!("worker-{fails} failed: no more ink"));
    }
}

/// B-14.
#[test]
fn a_panic_in_one_ends_all_and_is_reported_by_name() {
    let ready = Barrier::new(3);
    let error = run(3, |_, worker| {
        ready.wait();
        assert!(worker.index() != 1, "this worker is broken");
        Ok(())
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "worker-1 failed");
    let panic = error.cause.check::<PanicError>().unwrap();
    assert_eq!(panic.message, "this worker is broken");
}

/// B-14.
#[test]
fn when_several_fail_one_is_returned_and_the_log_has_the_others() {
    let ready = Barrier::new(3);
    let error = run(3, |_, worker| {
        ready.wait();
        Err(Failure::message(format!(
            "number {} is tired",
            worker.index()
        )))
    })
    .unwrap_err();
    let named = error.worker;
    assert_eq!(error.cause.to_string(), format!("number {named} is tired"));
    for index in 0..3 {
        let times = peers::times_logged(&format!(
            "worker-{index} failed: number {index} is tired (at "
        ));
        assert_eq!(times, usize::from(index != named), "{index}");
    }
}

/// Law 4: it is a failure like any other.
#[test]
fn a_panic_in_a_callback_ends_nobody() {
    run(2, |reactor, worker| {
        if worker.index() == 0 {
            reactor.call_later(Duration::ZERO, || panic!("in a callback"));
            let stop = reactor.clone();
            reactor.call_later(Duration::from_millis(1), move || stop.stop().unwrap());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(peers::times_logged("in a callback"), 1);
}

#[test]
fn a_count_of_zero_is_one() {
    let started = AtomicUsize::new(0);
    run(0, |reactor, worker| {
        assert_eq!((worker.index(), worker.count()), (0, 1));
        let port = worker.listen_tcp("127.0.0.1:0", tells_its_number(worker))?;
        assert_ne!(address_of(&port).port(), 0);
        started.fetch_add(1, Ordering::SeqCst);
        stop_when_running(reactor);
        Ok(())
    })
    .unwrap();
    assert_eq!(started.load(Ordering::SeqCst), 1);
}

/// It needs nothing that outlives the call, and ends with all threads ended.
#[test]
fn workers_can_borrow_from_whoever_runs_them() {
    let names = ["one".to_owned(), "two".to_owned()];
    let (tell, told) = mpsc::channel();
    run(2, |reactor, worker| {
        tell.send(&names[worker.index()]).unwrap();
        stop_when_running(reactor);
        Ok(())
    })
    .unwrap();
    drop(tell);
    assert!(told.iter().all(|name| names.contains(name)));
}

/// B-16: a worker may be kept, and opens ports while its reactor runs.
#[test]
fn a_worker_can_be_kept_and_used_later() {
    let ports = Mutex::new(Vec::new());
    let ports: &'static Mutex<Vec<SocketAddr>> = Box::leak(Box::new(ports));
    run(2, |reactor, worker| {
        let (worker, reactor) = (worker.clone(), reactor.clone());
        reactor.clone().call_when_running(move || {
            let factory = tells_its_number(&worker);
            let port = worker.listen_tcp("127.0.0.1:0", factory).unwrap();
            let mut ports = ports.lock().unwrap();
            ports.push(address_of(&port));
            if ports.len() == 2 {
                reactor.stop().unwrap();
            }
        });
        Ok(())
    })
    .unwrap();
    let ports = ports.lock().unwrap();
    assert_eq!(ports[0], ports[1]);
}

/// What is left in a connection's way when it came to a worker that ends is a reset, not silence.
#[test]
fn a_peer_that_was_not_accepted_when_the_workers_end_is_told() {
    let (tell, told) = mpsc::channel();
    run(2, |_, worker| {
        let port = worker.listen_tcp("127.0.0.1:0", tells_its_number(worker))?;
        if worker.index() == 0 {
            // It is connected, as far as it knows, and nobody accepts before the end.
            tell.send(connect(address_of(&port))).unwrap();
            return Err(Failure::message("not today"));
        }
        // This one runs until the other has failed.
        Ok(())
    })
    .unwrap_err();
    let mut peer = told.recv().unwrap();
    let _ = peer.write_all(b"anybody?");
    let mut answer = Vec::new();
    // An answer of the other worker, or a reset; in no case does it wait for ever.
    if let Err(error) = std::io::Read::read_to_end(&mut peer, &mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
