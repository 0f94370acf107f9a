//! A reactor without a system: its network, its time, its life, and its order.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use deferred_reactor::net::Transport;
use deferred_reactor::testing::{MemoryConnection, MemoryReactor, NothingLeftError};
use deferred_reactor::time::{now, system_time};
use deferred_reactor::{
    Failure, Phase, ReactorAlreadyRunningError, SystemEvent, defer_later, defer_to_thread,
};

use peers::{Journal, Script, Scripts, journal, kind, note, pattern};

const SECOND: Duration = Duration::from_secs(1);

/// Notes everything that a protocol is told.
fn telltale(journal: &Journal) -> Script {
    let [made, data, ended, drained, lost] = [(); 5].map(|()| journal.clone());
    Script::new()
        .made(move |_| {
            note(&made, "made");
            Ok(())
        })
        .data(move |_, bytes| {
            note(&data, String::from_utf8_lossy(bytes));
            Ok(())
        })
        .read_lost(move |_| note(&ended, "end"))
        .drained(move |_| note(&drained, "drained"))
        .lost(move |reason| note(&lost, kind(reason)))
}

fn listen(memory: &MemoryReactor, script: impl Fn() -> Script + 'static) -> std::net::SocketAddr {
    peers::listen(memory.reactor(), Scripts::new(script)).1
}

/// A connection to a telltale, which has been told that it is made.
fn connected(memory: &MemoryReactor) -> (MemoryConnection, Journal) {
    peers::watch_log();
    let calls = journal();
    let peer = memory.connect(telltale(&calls));
    memory.pump();
    assert_eq!(calls.take(), ["made"]);
    (peer, calls)
}

/// B-15.
#[test]
fn a_factory_listens_and_peers_connect_to_it() {
    let memory = MemoryReactor::new();
    let address = listen(&memory, Script::echo);
    let peers: Vec<MemoryConnection> = (0..3)
        .map(|_| memory.connect_to(address).unwrap())
        .collect();
    for (number, peer) in peers.iter().enumerate() {
        peer.send(format!("{number}"));
    }
    memory.pump();
    for (number, peer) in peers.iter().enumerate() {
        assert_eq!(peer.received(), number.to_string().as_bytes());
        let transport = peer.transport().unwrap();
        assert_eq!(transport.peer(), Some(peer.address()));
        assert_eq!(transport.host().unwrap().socket_addr(), Some(address));
    }
    assert_ne!(peers[0].address(), peers[1].address());
}

/// B-15.
#[test]
fn ports_are_taken_and_freed_as_in_a_system() {
    let memory = MemoryReactor::new();
    let open = |address| memory.listen_tcp(address, Scripts::new(Script::echo));
    let (any, other) = (open("127.0.0.1:0").unwrap(), open("127.0.0.1:0").unwrap());
    assert_ne!(any.address(), other.address());
    let port = open("127.0.0.1:80").unwrap();
    for taken in ["127.0.0.1:80", "0.0.0.0:80"] {
        let error = open(taken).unwrap_err();
        assert_eq!(error.cause.kind(), ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
    }
    open("127.0.0.2:80").unwrap();
    let refused = memory.connect_to("127.0.0.1:81").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    let waiting = memory.connect_to("127.0.0.1:80").unwrap();
    assert!(!waiting.is_closed());
    drop(port.stop_listening());
    memory.pump();
    assert!(waiting.is_closed() && waiting.is_reset(), "not accepted");
    assert!(memory.connect_to("127.0.0.1:80").is_err());
    let everywhere = open("0.0.0.0:81").unwrap();
    let peer = memory.connect_to("127.0.0.1:81").unwrap();
    assert_eq!(peer.exchange("x"), b"x");
    drop(everywhere.stop_listening());
    assert_eq!(peer.exchange("y"), b"y", "accepted before");
}

/// B-15, R-30.
#[test]
fn a_factory_that_makes_no_protocol_closes_the_connection() {
    let memory = MemoryReactor::new();
    let factory = Scripts::for_peer(|_| None);
    memory.listen_tcp("127.0.0.1:80", factory).unwrap();
    let peer = memory.connect_to("127.0.0.1:80").unwrap();
    memory.pump();
    assert!(peer.is_closed() && peer.has_ended());
}

/// B-15.
#[test]
fn nothing_happens_before_the_turn() {
    let memory = MemoryReactor::new();
    let calls = journal();
    let peer = memory.connect(telltale(&calls));
    peer.send("x");
    assert_eq!(calls.take(), [""; 0]);
    memory.pump();
    assert_eq!(calls.take(), ["made", "x"]);
    assert!(!memory.turn(), "nothing is left");
}

/// F-45: what has arrived while the protocol had paused comes in pieces as well.
#[test]
fn a_protocol_that_pauses_is_given_no_more_at_once_than_was_said() {
    for seed in [None, Some(1), Some(2)] {
        let memory = seed.map_or_else(MemoryReactor::new, MemoryReactor::with_seed);
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let seen = sizes.clone();
        let peer = memory.connect(Script::new().data(move |transport, data| {
            seen.borrow_mut().push(data.len());
            if seen.borrow().len() == 1 {
                transport.pause_producing();
            }
            Ok(())
        }));
        memory.pump();
        peer.deliver_at_most(10);
        peer.send([b'x'; 35]);
        memory.pump();
        assert_eq!(sizes.borrow().len(), 1);
        peer.transport().unwrap().resume_producing();
        memory.pump();
        let sizes = sizes.borrow();
        assert_eq!(sizes.iter().sum::<usize>(), 35);
        assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
        if seed.is_none() {
            assert_eq!(*sizes, [10, 10, 10, 5]);
        }
        // Closing is not a reset because of what came in pieces.
        peer.transport().unwrap().pause_producing();
        peer.send([b'x'; 35]);
        memory.pump();
        peer.transport().unwrap().lose_connection();
        memory.pump();
        assert!(peer.has_ended() && !peer.is_reset());
    }
}

/// B-15.
#[test]
fn what_is_sent_arrives_whole_or_in_pieces() {
    let memory = MemoryReactor::new();
    let (peer, calls) = connected(&memory);
    peer.send("one ");
    peer.send("piece");
    memory.pump();
    assert_eq!(calls.take(), ["one piece"]);
    peer.deliver_at_most(3);
    peer.send("in three");
    assert!(memory.turn());
    assert_eq!(calls.take(), ["in "]);
    assert_eq!(peer.unread(), 5);
    memory.pump();
    assert_eq!(calls.take(), ["thr", "ee"]);
}

/// B-15, R-39.
#[test]
fn what_a_paused_protocol_does_not_read_stays_unread() {
    let memory = MemoryReactor::new();
    let (peer, calls) = connected(&memory);
    let transport = peer.transport().unwrap();
    transport.pause_producing();
    peer.send("later");
    peer.close_sending();
    memory.pump();
    assert_eq!((calls.take(), peer.unread()), (vec![], 5));
    transport.resume_producing();
    memory.pump();
    assert_eq!(calls.take(), ["later", "end"]);
    assert_eq!(peer.unread(), 0);
}

/// B-15.
#[test]
fn a_peer_may_read_as_much_as_it_likes() {
    let memory = MemoryReactor::new();
    let (peer, calls) = connected(&memory);
    let transport = peer.transport().unwrap();
    peer.block_writes(4);
    transport.write(b"too much");
    transport.write_bytes(pattern(100_000).into());
    memory.pump();
    assert_eq!(peer.received(), b"too ");
    assert_eq!(transport.buffered(), 100_004);
    peer.block_writes(2);
    memory.pump();
    assert_eq!(peer.received(), b"mu");
    assert_eq!(calls.take(), [""; 0]);
    peer.unblock_writes();
    memory.pump();
    assert_eq!(calls.take(), ["drained"]);
    let rest = peer.received();
    assert_eq!(&rest[..2], b"ch");
    assert!(rest[2..] == pattern(100_000));
}

/// B-15, R-31.
#[test]
fn each_ending_is_told_as_what_it_is() {
    type End = fn(&MemoryConnection);
    let ends: [(&str, End, &[&str]); 5] = [
        ("half", |peer| peer.close_sending(), &["last", "end"]),
        ("close", |peer| peer.close(), &["last", "end"]),
        ("reset", |peer| peer.reset(), &["lost"]),
        (
            "we close",
            |peer| peer.transport().unwrap().lose_connection(),
            &["done"],
        ),
        (
            "we abort",
            |peer| peer.transport().unwrap().abort_connection(),
            &["aborted"],
        ),
    ];
    for (name, end, want) in ends {
        let memory = MemoryReactor::new();
        let (peer, calls) = connected(&memory);
        if want.len() > 1 || name == "reset" {
            peer.send("last");
        }
        end(&peer);
        memory.pump();
        assert_eq!(*calls.borrow(), want, "{name}");
        assert_eq!(peer.is_reset(), name == "we abort", "{name}");
        assert_eq!(peer.has_ended(), name == "we close", "{name}");
        let is_lost = want.len() == 1;
        assert_eq!(peer.is_closed(), is_lost, "{name}");
        assert_eq!(peer.transport().is_none(), is_lost, "{name}");
        peer.send("too late");
        memory.pump();
    }
}

/// B-15: as in a system, which learns that the peer is gone from sending to it.
#[test]
fn who_writes_to_a_peer_that_has_closed_loses_the_connection() {
    let memory = MemoryReactor::new();
    let (peer, calls) = connected(&memory);
    let transport = peer.transport().unwrap();
    drop(peer);
    memory.pump();
    assert_eq!(calls.take(), ["end"]);
    transport.write(b"to nobody");
    memory.pump();
    assert_eq!(calls.take(), ["lost"]);
}

/// B-15: as in a system.
#[test]
fn closing_while_something_is_on_its_way_resets() {
    let memory = MemoryReactor::new();
    let (peer, calls) = connected(&memory);
    peer.send("on its way");
    peer.transport().unwrap().lose_connection();
    memory.pump();
    assert_eq!(calls.take(), ["done"]);
    assert!(peer.is_reset());
    assert_eq!(
        (&peer).read(&mut [0]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

/// B-15: blocking code works on it, and does not block.
#[test]
fn a_peer_can_be_read_and_written_like_a_socket() {
    let memory = MemoryReactor::new();
    let mut peer = memory.connect(Script::echo());
    peer.write_all(b"hello").unwrap();
    let mut bytes = [0; 5];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    assert_eq!(
        peer.read(&mut bytes).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    peer.write_all(b"bye").unwrap();
    peer.close_sending();
    let mut rest = String::new();
    peer.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye");
    assert_eq!(peer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// B-15.
#[test]
fn two_protocols_speak_with_one_another() {
    let memory = MemoryReactor::new();
    let (calls, total) = (journal(), Rc::new(Cell::new(0)));
    let (lost, sum) = (calls.clone(), total.clone());
    // More than the wire holds, so that it goes through in turns.
    let client = Script::new()
        .made(|transport| {
            transport.write_bytes(pattern(1_000_000).into());
            transport.lose_write_connection();
            Ok(())
        })
        .data(move |_, bytes| {
            sum.set(sum.get() + bytes.len());
            Ok(())
        })
        .lost(move |reason| note(&lost, format!("client {}", kind(reason))));
    let lost = calls.clone();
    let server = Script::echo().lost(move |reason| note(&lost, format!("server {}", kind(reason))));
    let pair = memory.connect_pair(client, server);
    assert_eq!(pair.client().peer(), pair.server().host());
    memory.turn();
    memory.turn();
    assert!(pair.client().buffered() >= 800_000, "64 KiB are on the way");
    memory.pump();
    assert_eq!(total.get(), 1_000_000);
    let mut calls = calls.take();
    calls.sort();
    assert_eq!(calls, ["client done", "server done"]);
}

/// B-15, R-39: a writer waits for a reader that is paused, and goes on with it.
#[test]
fn a_paused_end_of_a_pair_holds_up_the_other() {
    let memory = MemoryReactor::new();
    let total = Rc::new(Cell::new(0));
    let sum = total.clone();
    let reader = Script::new().data(move |_, bytes| {
        sum.set(sum.get() + bytes.len());
        Ok(())
    });
    let pair = memory.connect_pair(Script::new(), reader);
    memory.pump();
    pair.server().pause_producing();
    pair.client().write(&pattern(1_000_000));
    memory.pump();
    let buffered = pair.client().buffered();
    assert_eq!((total.get(), buffered), (0, 1_000_000 - 64 * 1024));
    assert!(!memory.turn(), "waiting takes no turns");
    pair.server().resume_producing();
    memory.pump();
    assert_eq!((total.get(), pair.client().buffered()), (1_000_000, 0));
}

/// B-15.
#[test]
fn a_pair_can_be_slowed_down_and_cut() {
    let memory = MemoryReactor::new();
    let calls = journal();
    let pair = memory.connect_pair(telltale(&calls), telltale(&calls));
    memory.pump();
    assert_eq!(calls.take(), ["made", "made"]);
    pair.deliver_at_most(2);
    pair.client().write(b"abcde");
    memory.pump();
    assert_eq!(calls.take(), ["ab", "cd", "e"]);
    pair.server().write(b"never arrives");
    memory.turn();
    pair.reset();
    memory.pump();
    assert_eq!(calls.take()[1..], ["lost", "lost"]);
}

/// B-15: each call sees its own time, and time goes to the end.
#[test]
fn time_passes_from_call_to_call() {
    let memory = MemoryReactor::new();
    let start = now();
    let seen = Rc::new(RefCell::new(Vec::new()));
    for (number, after) in [(2, 7), (1, 5), (3, 60)] {
        let seen = seen.clone();
        memory.call_later(after * SECOND, move || {
            seen.borrow_mut().push((number, now() - start));
        });
    }
    let (again, reactor) = (seen.clone(), memory.reactor().clone());
    memory.call_later(SECOND, move || {
        reactor.call_later(SECOND, move || again.borrow_mut().push((0, now() - start)));
    });
    memory.advance(10 * SECOND);
    let want = [(0, 2 * SECOND), (1, 5 * SECOND), (2, 7 * SECOND)];
    assert_eq!(*seen.borrow(), want);
    assert_eq!(memory.elapsed(), 10 * SECOND);
    assert_eq!(system_time(), std::time::UNIX_EPOCH + 10 * SECOND);
    memory.advance(49 * SECOND);
    assert_eq!(seen.borrow().len(), 3);
    memory.advance(SECOND);
    assert_eq!(seen.borrow()[3], (3, 60 * SECOND));
}

/// B-15: as with the system's clock, on which no two calls are at one moment.
#[test]
fn a_call_without_delay_is_made_in_the_next_turn() {
    let memory = MemoryReactor::new();
    let (peer, calls) = connected(&memory);
    let [first, second] = [(); 2].map(|()| calls.clone());
    let reactor = memory.reactor().clone();
    memory.call_later(Duration::ZERO, move || {
        note(&first, "first");
        reactor.call_later(Duration::ZERO, move || note(&second, "second"));
    });
    peer.send("data");
    memory.pump();
    assert_eq!(calls.take(), ["first", "data", "second"]);
}

/// B-15.
#[test]
fn the_time_of_the_thread_is_the_system_s_again_without_a_reactor() {
    let before = Instant::now();
    let memory = MemoryReactor::new();
    memory.advance(1000 * SECOND);
    assert!(now() >= before + 1000 * SECOND);
    drop(memory);
    assert!(now() < before + 1000 * SECOND);
    assert!(system_time() > std::time::UNIX_EPOCH + 1_000_000 * SECOND);
}

/// B-15: `run` does not wait.
#[test]
fn a_program_runs_until_it_is_stopped() {
    let memory = MemoryReactor::new();
    let stop = memory.reactor().clone();
    let day = 86_400 * SECOND;
    memory.call_later(day, move || stop.stop().unwrap());
    memory.run().unwrap();
    assert_eq!(memory.elapsed(), day);
    assert!(!memory.is_running());
    // And what would wait for ever is an error.
    let failure = memory.run().unwrap_err();
    assert!(failure.is::<NothingLeftError>());
    assert!(!memory.is_running());
}

/// B-15, R-09.
#[test]
fn it_starts_with_the_first_turn_and_ends_when_it_is_stopped() {
    let memory = MemoryReactor::new();
    let calls = journal();
    let trigger = |phase, event, name: &'static str| {
        let calls = calls.clone();
        memory
            .reactor()
            .add_system_event_trigger(phase, event, move || {
                note(&calls, name);
                Ok(())
            });
    };
    trigger(Phase::During, SystemEvent::Startup, "starts");
    trigger(Phase::After, SystemEvent::Shutdown, "has stopped");
    let clock = memory.clock().clone();
    memory
        .reactor()
        .add_system_event_trigger(Phase::Before, SystemEvent::Shutdown, move || {
            defer_later(&clock, SECOND, || Ok(()))
        });
    assert_eq!((calls.take(), memory.is_running()), (vec![], false));
    let peer = memory.connect(telltale(&calls));
    memory.pump();
    assert_eq!(calls.take(), ["starts", "made"]);
    assert!(memory.is_running());
    let refused: Result<(), ReactorAlreadyRunningError> = memory.start();
    assert!(refused.is_err());

    memory.call_later(2 * SECOND, || unreachable!("it has stopped"));
    memory.stop().unwrap();
    memory.pump();
    assert!(!peer.is_closed(), "the trigger holds it up");
    memory.advance(3 * SECOND);
    assert_eq!(calls.take(), ["lost", "has stopped"]);
    assert!(peer.is_closed());
    assert!(memory.delayed_calls().is_empty());

    // Not again by itself.
    memory.call_later(SECOND, || ());
    memory.advance(2 * SECOND);
    assert!(!memory.is_running());
    assert_eq!(memory.delayed_calls().len(), 1);
    memory.start().unwrap();
    memory.pump();
    assert!(memory.is_running());
    assert!(memory.delayed_calls().is_empty());
}

/// B-15: without threads, and in order.
#[test]
fn what_is_given_to_threads_is_done_in_the_next_turn() {
    let memory = MemoryReactor::new();
    let here = thread::current().id();
    let (calls, order) = (
        journal(),
        std::sync::Arc::new(std::sync::Mutex::new(Vec::new())),
    );
    for number in 0..20 {
        let (calls, order) = (calls.clone(), order.clone());
        let job = move || {
            order.lock().unwrap().push(number);
            Ok(thread::current().id())
        };
        drop(
            defer_to_thread(memory.reactor(), job).add_callback(move |id| {
                assert_eq!(id, here);
                note(&calls, number.to_string());
                Ok(())
            }),
        );
    }
    let failed = defer_to_thread(memory.reactor(), || -> Result<(), Failure> {
        panic!("in a job")
    });
    assert!(calls.borrow().is_empty());
    memory.pump();
    let numbers: Vec<u32> = (0..20).collect();
    assert_eq!(*order.lock().unwrap(), numbers);
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    assert_eq!(calls.take(), numbers);
    assert!(
        failed
            .result()
            .unwrap_err()
            .to_string()
            .contains("in a job")
    );

    memory.reactor().call_in_thread(|| ());
    memory.stop().unwrap();
    memory.pump();
    assert!(!memory.is_running());
}

/// B-15.
#[test]
fn calls_of_real_threads_are_made_in_the_next_turn() {
    let memory = MemoryReactor::new();
    let remote = memory.remote();
    let calling = thread::spawn(move || {
        let call = |reactor: &deferred_reactor::Reactor| {
            reactor.call_later(SECOND, || ());
        };
        remote.call_from_thread(call).unwrap();
    });
    calling.join().unwrap();
    assert!(memory.delayed_calls().is_empty());
    memory.pump();
    assert_eq!(memory.delayed_calls().len(), 1);
    memory.run().unwrap_err();
}

/// B-16.
#[test]
fn everything_may_be_called_from_inside_callbacks() {
    let memory = Rc::new(MemoryReactor::new());
    let address = listen(&memory, Script::echo);
    let (calls, inner) = (journal(), memory.clone());
    let held = Rc::new(RefCell::new(Vec::<MemoryConnection>::new()));
    let (kept, seen) = (held.clone(), calls.clone());
    let all = move || {
        assert!(!inner.turn());
        inner.pump();
        let before = inner.elapsed();
        inner.advance(SECOND);
        assert_eq!(inner.elapsed(), before);
        assert!(inner.start().is_err());
        assert!(inner.run().is_err());
        let other = inner.connect_to(address).unwrap();
        assert_eq!(other.exchange("x"), b"", "the answer comes later");
        kept.borrow_mut().push(other);
        drop(inner.connect(Script::echo()));
        inner.connect_pair(Script::echo(), Script::echo()).reset();
        kept.borrow_mut().rotate_left(1);
        note(&seen, "called");
    };
    let (made, in_data, lost, last) = (all.clone(), all.clone(), all.clone(), all.clone());
    let peer = memory.connect(
        Script::new()
            .made(move |_| {
                made();
                Ok(())
            })
            .data(move |_, _| {
                in_data();
                Ok(())
            })
            .lost(move |_| lost()),
    );
    memory.call_later(SECOND, all);
    drop(defer_later(&*memory, SECOND, move || {
        last();
        Ok(())
    }));
    peer.send("data");
    memory.advance(SECOND);
    drop(peer);
    memory.pump();
    assert_eq!(calls.take(), ["called"; 5]);
    for other in held.take() {
        assert_eq!(other.received(), b"x");
    }
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
}

/// B-16: handles may go at any time, also the reactor first.
#[test]
fn handles_may_be_dropped_in_any_order() {
    let memory = MemoryReactor::new();
    let address = listen(&memory, Script::echo);
    let peer = memory.connect_to(address).unwrap();
    let unmade = memory.connect(Script::echo());
    assert_eq!(peer.exchange("x"), b"x");
    let transport = peer.transport().unwrap();
    let waiting = memory.connect_to(address).unwrap();
    waiting.send("unseen");
    let pair = memory.connect_pair(Script::echo(), Script::echo());
    drop(memory);
    assert!(peer.is_closed() && unmade.is_closed());
    assert!(!transport.is_connected());
    assert_eq!(peer.exchange("y"), b"");
    assert!(peer.transport().is_none());
    pair.reset();
    drop((peer, waiting, pair));
}

/// a panic is that of one connection.
#[test]
fn a_protocol_that_panics_loses_its_connection_and_no_other() {
    peers::watch_log();
    let memory = MemoryReactor::new();
    let calls = journal();
    let seen = calls.clone();
    let address = listen(&memory, move || {
        let seen = seen.clone();
        Script::new()
            .data(|transport, bytes| {
                assert_ne!(bytes, b"panic", "as told");
                transport.write(bytes);
                Ok(())
            })
            .lost(move |reason| note(&seen, kind(reason)))
    });
    let [good, bad] = [(); 2].map(|()| memory.connect_to(address).unwrap());
    assert_eq!(bad.exchange("panic"), b"");
    assert!(bad.is_closed());
    assert_eq!(good.exchange("works"), b"works");
    assert_eq!(*calls.borrow(), ["panic"]);
}

/// B-15: what a hundred conversations look like from inside, in one line.
fn conversation(memory: &MemoryReactor) -> (Vec<String>, Vec<Vec<u8>>) {
    let calls = journal();
    let seen = calls.clone();
    let number = Cell::new(0);
    let address = listen(memory, move || {
        number.set(number.get() + 1);
        let name = number.get();
        let [data, ended, lost] = [(); 3].map(|()| seen.clone());
        Script::new()
            .data(move |transport, bytes| {
                note(&data, format!("{name}: {} bytes", bytes.len()));
                transport.write(bytes);
                Ok(())
            })
            .read_lost(move |transport: &Transport| {
                note(&ended, format!("{name}: end"));
                transport.lose_connection();
            })
            .lost(move |reason| note(&lost, format!("{name}: {}", kind(reason))))
    });
    let peers: Vec<MemoryConnection> = (0..10)
        .map(|_| memory.connect_to(address).unwrap())
        .collect();
    for (number, peer) in peers.iter().enumerate() {
        peer.send(pattern(1000 * number));
        peer.close_sending();
    }
    memory.pump();
    assert!(
        peers
            .iter()
            .all(|peer| peer.is_closed() && peer.has_ended())
    );
    let received = peers.iter().map(MemoryConnection::received).collect();
    (calls.take(), received)
}

/// B-15.
#[test]
fn the_same_seed_has_the_same_happen() {
    let want: Vec<Vec<u8>> = (0..10).map(|number| pattern(1000 * number)).collect();
    let mut orders = std::collections::HashSet::new();
    for seed in 0..50 {
        let (calls, received) = conversation(&MemoryReactor::with_seed(seed));
        assert!(received == want, "seed {seed}");
        let again = conversation(&MemoryReactor::with_seed(seed)).0;
        assert_eq!(calls, again, "seed {seed}");
        orders.insert(calls);
    }
    assert_eq!(orders.len(), 50, "each seed has an order of its own");
    let plain = conversation(&MemoryReactor::new()).0;
    assert_eq!(plain, conversation(&MemoryReactor::new()).0);
    assert_eq!(plain.len(), 9 + 10 + 10, "everything comes whole");
}

/// B-15, R-33: whatever a pair writes arrives, in any pieces, and then the end.
#[test]
fn pairs_with_any_seed_get_everything_in_order() {
    for seed in 0..200 {
        let memory = MemoryReactor::with_seed(seed);
        let sums = Rc::new(RefCell::new((Vec::new(), Vec::new())));
        let [from_server, from_client] = [(); 2].map(|()| sums.clone());
        let client = Script::new()
            .made(|transport| {
                transport.write(&pattern(70_000));
                transport.write_bytes(pattern(100_000).into());
                transport.lose_write_connection();
                Ok(())
            })
            .data(move |_, bytes| {
                from_server.borrow_mut().0.extend_from_slice(bytes);
                Ok(())
            });
        let server = Script::echo().data(move |transport, bytes| {
            from_client.borrow_mut().1.extend_from_slice(bytes);
            transport.write(bytes);
            Ok(())
        });
        let pair = memory.connect_pair(client, server);
        memory.pump();
        let want = [pattern(70_000), pattern(100_000)].concat();
        assert!(sums.borrow().1 == want, "seed {seed}");
        assert!(sums.borrow().0 == want, "seed {seed}");
        assert!(!pair.client().is_connected(), "seed {seed}");
    }
}

/// A test that would hang says so.
#[test]
fn turns_that_never_end_are_a_panic() {
    let memory = MemoryReactor::new();
    fn again(reactor: deferred_reactor::Reactor) {
        let next = reactor.clone();
        reactor.call_later(Duration::ZERO, move || again(next));
    }
    again(memory.reactor().clone());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| memory.pump()));
    let message = *caught.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("turns were made and work is still due"),
        "{message}"
    );
    assert!(memory.turn(), "it can be looked at");
}

/// B-15.
#[test]
fn nothing_that_is_sent_to_a_closed_connection_does_not_reset_it() {
    let memory = MemoryReactor::new();
    let peer = memory.connect(Quits);
    memory.pump();
    assert!(peer.is_closed());
    peer.send("");
    assert!(!peer.is_reset());
    peer.send("x");
    assert!(peer.is_reset());
}

struct Quits;

impl deferred_reactor::net::Protocol for Quits {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        transport.lose_connection();
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}
