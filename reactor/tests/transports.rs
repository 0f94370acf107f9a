//! What a protocol says to its connection: writing, closing either side, giving up.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;

use bytes::Bytes;
use deferred_reactor::net::{ConnectionAborted, Protocol, Transport};
use deferred_reactor::{Failure, Reactor};

use peers::{
    HUGE, Script, Scripts, connect, journal, kind, listen, note, pattern, read_all, read_exactly,
    run_with_peer,
};

/// More than is sent in one turn.
const LARGE: usize = 10 << 20;

/// Serves connections by `made` alone, and runs until the peer is done.
fn with_server<T: Send + 'static>(
    made: impl Fn(&Transport) -> Result<(), Failure> + Clone + 'static,
    peer: impl FnOnce(std::net::SocketAddr) -> T + Send + 'static,
) -> T {
    let reactor = Reactor::new().unwrap();
    let factory = Scripts::new(move || Script::new().made(made.clone()));
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || peer(address))
}

///
#[test]
fn all_that_was_written_arrives_before_the_end() {
    let received = with_server(
        |transport| {
            let data = pattern(LARGE);
            transport.write(&data[..1]);
            transport.write(&data[1..LARGE - 7]);
            transport.write(&data[LARGE - 7..]);
            transport.lose_connection();
            Ok(())
        },
        |address| read_all(&mut connect(address)),
    );
    assert!(received == pattern(LARGE));
}

///
#[test]
fn each_way_of_writing_keeps_the_order() {
    // Sizes around those at which writes are copied, shared, or sent in several calls.
    let sizes = [
        1,
        0,
        100,
        16 * 1024 - 1,
        16 * 1024,
        1,
        70_000,
        3,
        3 << 20,
        9,
        300_000,
    ];
    let pieces = move || {
        let all = Bytes::from(pattern(2 * LARGE));
        let mut at = 0;
        let pieces = sizes.iter().cycle().take(33).map(move |size| {
            at += size;
            all.slice(at - size..at)
        });
        pieces.collect::<Vec<_>>()
    };
    let received = with_server(
        move |transport| {
            for (n, piece) in pieces().into_iter().enumerate() {
                match n % 3 {
                    0 => transport.write_bytes(piece),
                    1 => transport.write(&piece),
                    _ => transport.write_with(|buffer| buffer.extend_from_slice(&piece)),
                }
            }
            transport.lose_connection();
            Ok(())
        },
        |address| read_all(&mut connect(address)),
    );
    assert!(received == pieces().concat());
}

/// the system takes most of these in parts, and more is written in between.
#[test]
fn writing_more_while_the_rest_is_being_sent_keeps_the_order() {
    const PIECE: usize = 300_000;
    fn more(timers: Reactor, transport: Transport, left: usize) {
        let mut written = 0;
        while transport.buffered() < 3 << 20 && written < left {
            match (left - written) % 2 {
                0 => transport.write(&pattern(PIECE)),
                _ => transport.write_bytes(Bytes::from(pattern(PIECE))),
            }
            written += 1;
        }
        if written == left {
            return transport.lose_connection();
        }
        let again = timers.clone();
        timers.call_later(std::time::Duration::ZERO, move || {
            more(again, transport, left - written);
        });
    }
    let reactor = Reactor::new().unwrap();
    let timers = reactor.clone();
    let factory = Scripts::new(move || {
        let timers = timers.clone();
        Script::new().made(move |transport| {
            more(timers.clone(), transport.clone(), 50);
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || read_all(&mut connect(address)));
    assert_eq!(received.len(), 50 * PIECE);
    let piece = pattern(PIECE);
    assert!(received.chunks(PIECE).all(|chunk| chunk == piece));
}

/// Who writes much waits for this.
#[test]
fn write_drained_comes_when_the_backlog_is_sent() {
    let reactor = Reactor::new().unwrap();
    let (go, may_read) = std::sync::mpsc::channel();
    let factory = Scripts::new(move || {
        let go = go.clone();
        Script::new()
            .made(|transport| {
                transport.write_bytes(vec![0; HUGE].into());
                Ok(())
            })
            .data(move |transport, _| {
                assert!(transport.buffered() > 0);
                Ok(go.send(())?)
            })
            .drained(|transport| {
                assert_eq!(transport.buffered(), 0);
                transport.write(b"drained");
                transport.lose_connection();
            })
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"x").unwrap();
        may_read.recv_timeout(peers::LIMIT).unwrap();
        read_all(&mut peer)
    });
    assert_eq!(received.len(), HUGE + 7);
    assert!(received.ends_with(b"drained"));
}

/// a peer that takes its time costs no turn of the loop while it does, and loses nothing.
#[test]
fn a_slow_reader_gets_everything() {
    let received = with_server(
        |transport| {
            transport.write_bytes(Bytes::from(pattern(LARGE)));
            transport.write(b"end");
            transport.lose_connection();
            Ok(())
        },
        |address| {
            let mut peer = connect(address);
            let mut received = Vec::new();
            let mut bytes = [0; 10_007];
            loop {
                match peer.read(&mut bytes).unwrap() {
                    0 => break received,
                    count => received.extend_from_slice(&bytes[..count]),
                }
                // Here others would have their turn.
                std::thread::yield_now();
            }
        },
    );
    assert!(received[..LARGE] == pattern(LARGE));
    assert_eq!(&received[LARGE..], b"end");
}

/// writes from outside of the protocol's methods wake the connection up.
#[test]
fn writes_from_a_timer_are_sent() {
    let reactor = Reactor::new().unwrap();
    let timers = reactor.clone();
    let factory = Scripts::new(move || {
        let timers = timers.clone();
        Script::new().made(move |transport| {
            let transport = transport.clone();
            timers.call_later(std::time::Duration::from_millis(1), move || {
                transport.write(b"later");
                transport.lose_connection();
            });
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || read_all(&mut connect(address)));
    assert_eq!(received, b"later");
}

///
#[test]
fn writes_after_lose_connection_in_the_same_event_are_still_sent() {
    let received = with_server(
        |transport| {
            transport.write(b"one ");
            transport.lose_connection();
            transport.write(b"two");
            Ok(())
        },
        |address| read_all(&mut connect(address)),
    );
    assert_eq!(received, b"one two");
}

#[test]
fn buffered_tells_what_the_system_has_not_taken() {
    let received = with_server(
        |transport| {
            assert_eq!(transport.buffered(), 0);
            transport.write(b"abc");
            transport.write_with(|buffer| buffer.push(b'd'));
            transport.write_bytes(Bytes::from_static(b"e"));
            assert_eq!(transport.buffered(), 5);
            transport.write_bytes(Bytes::from(vec![b'x'; 100_000]));
            assert_eq!(transport.buffered(), 100_005);
            transport.lose_connection();
            Ok(())
        },
        |address| read_all(&mut connect(address)),
    );
    assert_eq!(received.len(), 100_005);
}

/// Also where the system takes everything at once: nobody knows that while writing, so whoever has
/// written much waits for this.
#[test]
fn write_drained_comes_when_much_was_queued() {
    const ROUNDS: usize = 50;
    const ROUND: usize = 64 * 1024 + 1;
    let reactor = Reactor::new().unwrap();
    let factory = Scripts::new(|| {
        let left = Cell::new(ROUNDS);
        let more = Rc::new(move |transport: &Transport| {
            if left.get() == 0 {
                return transport.lose_connection();
            }
            left.set(left.get() - 1);
            transport.write(&pattern(ROUND));
        });
        let first = more.clone();
        Script::new()
            .made(move |transport| {
                first(transport);
                Ok(())
            })
            .drained(move |transport| more(transport))
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || read_all(&mut connect(address)));
    assert_eq!(received.len(), ROUNDS * ROUND);
}

/// Who is told of every write would write for ever.
#[test]
fn write_drained_does_not_come_for_what_was_sent_at_once() {
    let (reactor, drained) = (Reactor::new().unwrap(), Rc::new(Cell::new(0)));
    let count = drained.clone();
    let factory = Scripts::new(move || {
        let count = count.clone();
        Script::echo().drained(move |_| count.set(count.get() + 1))
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        for _ in 0..20 {
            peer.write_all(b"small").unwrap();
            read_exactly(&mut peer, 5);
        }
    });
    assert_eq!(drained.get(), 0);
}

/// B-16: what is written inside comes after what was written before, and nothing is lost.
#[test]
fn a_function_given_to_write_with_may_use_the_transport() {
    let received = with_server(
        |transport| {
            transport.write(b"1");
            transport.write_with(|buffer| {
                assert_eq!(transport.buffered(), 1);
                transport.write(b"3");
                transport.write_with(|inner| {
                    transport.write(b"5");
                    inner.extend_from_slice(b"4");
                });
                transport.write_bytes(Bytes::from(vec![b'6'; 20_000]));
                transport.write(b"7");
                assert_eq!(transport.buffered(), 1 + 4 + 20_000);
                buffer.extend_from_slice(b"2");
            });
            transport.write(b"8");
            assert_eq!(transport.buffered(), 20_007);
            transport.lose_connection();
            Ok(())
        },
        |address| read_all(&mut connect(address)),
    );
    let mut want = b"12345".to_vec();
    want.resize(20_005, b'6');
    want.extend_from_slice(b"78");
    assert!(received == want);
}

/// B-16: also where the system has taken a part of that buffer.
#[test]
fn a_function_given_to_write_with_may_ask_what_is_buffered() {
    let reactor = Reactor::new().unwrap();
    let (go, may_read) = std::sync::mpsc::channel();
    let timers = reactor.clone();
    let factory = Scripts::new(move || {
        let (timers, go) = (timers.clone(), go.clone());
        Script::new().made(move |transport| {
            transport.write(&pattern(HUGE));
            let (transport, go) = (transport.clone(), go.clone());
            timers.call_later(std::time::Duration::ZERO, move || {
                let before = transport.buffered();
                assert!(
                    0 < before && before < HUGE,
                    "a part of it was sent: {before}"
                );
                transport.write_with(|buffer| {
                    assert_eq!(transport.buffered(), before);
                    transport.write(b"after");
                    buffer.extend_from_slice(b"before");
                });
                assert_eq!(transport.buffered(), before + 11);
                transport.lose_connection();
                go.send(()).unwrap();
            });
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        may_read.recv_timeout(peers::LIMIT).unwrap();
        read_all(&mut peer)
    });
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
    assert!(received[..HUGE] == pattern(HUGE));
    assert_eq!(&received[HUGE..], b"beforeafter");
}

/// B-16: what had been queued is not lost with it.
#[test]
fn a_panic_inside_write_with_leaves_the_queue_whole() {
    let received = with_server(
        |transport| {
            transport.write(b"before ");
            let panicking = transport.clone();
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                panicking.write_with(|buffer| {
                    buffer.extend_from_slice(b"partly ");
                    panic!("in write_with");
                });
            }));
            assert!(caught.is_err());
            transport.write(b"after");
            transport.lose_connection();
            Ok(())
        },
        |address| read_all(&mut connect(address)),
    );
    assert_eq!(received, b"before partly after");
}

///
#[test]
fn aborting_drops_what_is_unsent_and_tells_the_protocol_once_and_later() {
    type Abort = fn(&Transport);
    let ways: [(&str, Abort); 4] = [
        ("once", |transport| transport.abort_connection()),
        ("twice", |transport| {
            transport.abort_connection();
            transport.abort_connection();
        }),
        ("then lose_connection", |transport| {
            transport.abort_connection();
            transport.lose_connection();
        }),
        ("after lose_connection", |transport| {
            transport.lose_connection();
            transport.abort_connection();
        }),
    ];
    for (name, abort) in ways {
        let (reactor, calls) = (Reactor::new().unwrap(), journal());
        let seen = calls.clone();
        let factory = Scripts::new(move || {
            let (data, lost) = (seen.clone(), seen.clone());
            Script::new()
                .data(move |transport, _| {
                    transport.write(&vec![0; LARGE]);
                    abort(transport);
                    note(&data, "data_received returns");
                    Ok(())
                })
                .lost(move |reason| {
                    assert!(reason.is::<ConnectionAborted>());
                    note(&lost, "lost");
                })
        });
        let (_, address) = listen(&reactor, factory);
        let received = run_with_peer(&reactor, move || {
            let mut peer = connect(address);
            peer.write_all(b"x").unwrap();
            let mut received = Vec::new();
            let _ = peer.read_to_end(&mut received);
            received.len()
        });
        assert_eq!(received, 0, "{name}");
        assert_eq!(*calls.borrow(), ["data_received returns", "lost"], "{name}");
    }
}

/// nor is that sent which could have been.
#[test]
fn aborting_from_a_timer_drops_what_was_just_written() {
    let reactor = Reactor::new().unwrap();
    let timers = reactor.clone();
    let factory = Scripts::new(move || {
        let timers = timers.clone();
        Script::new().made(move |transport| {
            let transport = transport.clone();
            timers.call_later(std::time::Duration::ZERO, move || {
                transport.write(b"unsent");
                transport.abort_connection();
            });
            Ok(())
        })
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || {
        let mut received = Vec::new();
        let _ = connect(address).read_to_end(&mut received);
        received
    });
    assert_eq!(received, b"");
}

/// the peer reads nothing, so only the abort can end this.
#[test]
fn a_connection_with_a_backlog_can_be_aborted() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let (seen, timers) = (calls.clone(), reactor.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let factory = Scripts::new(move || {
        let (lost, timers, tell) = (seen.clone(), timers.clone(), tell.clone());
        Script::new()
            .made(move |transport| {
                transport.write_bytes(vec![0; HUGE].into());
                transport.lose_connection();
                let transport = transport.clone();
                timers.call_later(std::time::Duration::ZERO, move || {
                    assert!(transport.buffered() > 0);
                    transport.abort_connection();
                    assert!(transport.is_connected(), "it is told later");
                });
                Ok(())
            })
            .lost(move |reason| {
                note(&lost, kind(reason));
                tell.send(()).unwrap();
            })
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        told.recv_timeout(peers::LIMIT).unwrap();
        let mut received = Vec::new();
        let _ = peer.read_to_end(&mut received);
        assert!(received.len() < HUGE);
    });
    assert_eq!(*calls.borrow(), ["aborted"]);
}

///
#[test]
fn everything_is_ignored_on_a_connection_that_is_lost() {
    let (reactor, kept) = (
        Reactor::new().unwrap(),
        Rc::new(RefCell::new(None::<Transport>)),
    );
    let use_all = |transport: &Transport| {
        assert!(!transport.is_connected());
        transport.write(b"x");
        transport.write_bytes(Bytes::from(vec![0; 100_000]));
        transport.write_with(|_| unreachable!("there is no buffer"));
        transport.pause_producing();
        transport.resume_producing();
        transport.lose_write_connection();
        transport.lose_connection();
        transport.abort_connection();
        transport.set_tcp_no_delay(true);
        assert_eq!(transport.buffered(), 0);
        assert_eq!(transport.peer(), None);
        assert_eq!(transport.host(), None);
        assert!(transport.time_source().is_none());
    };
    let (made, lost, times) = (kept.clone(), kept.clone(), Rc::new(Cell::new(0)));
    let count = times.clone();
    let factory = Scripts::new(move || {
        let (made, lost, count) = (made.clone(), lost.clone(), count.clone());
        Script::new()
            .made(move |transport| {
                *made.borrow_mut() = Some(transport.clone());
                transport.lose_connection();
                Ok(())
            })
            .lost(move |_| {
                count.set(count.get() + 1);
                use_all(lost.borrow().as_ref().unwrap());
            })
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || read_all(&mut connect(address)));
    assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
    assert_eq!(times.get(), 1);
    use_all(kept.borrow().as_ref().unwrap());
    drop(reactor);
    use_all(kept.borrow().as_ref().unwrap());
}

/// R-40, in part: what is said of a half-closed connection.
#[test]
fn the_sending_side_can_be_closed_alone() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let seen = calls.clone();
    let factory = Scripts::new(move || {
        let (data, lost) = (seen.clone(), seen.clone());
        Script::new()
            .made(|transport| {
                transport.write(&pattern(LARGE));
                transport.lose_write_connection();
                Ok(())
            })
            .data(move |transport, bytes| {
                note(&data, String::from_utf8_lossy(bytes));
                transport.write(b"ignored: that side is closed");
                Ok(())
            })
            .lost(move |reason| note(&lost, kind(reason)))
    });
    let (_, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        assert!(read_all(&mut peer) == pattern(LARGE));
        peer.write_all(b"still reading?").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
    });
    assert_eq!(calls.borrow()[0], "still reading?");
    assert_eq!(calls.borrow().len(), 2);
}

/// R-40, in part.
#[test]
fn a_peer_that_has_closed_its_sending_side_still_gets_an_answer() {
    let reactor = Reactor::new().unwrap();
    let factory = Scripts::new(|| {
        Script::new().read_lost(|transport| {
            transport.write(&pattern(LARGE));
            transport.lose_connection();
        })
    });
    let (_, address) = listen(&reactor, factory);
    let received = run_with_peer(&reactor, move || {
        let mut peer = connect(address);
        peer.write_all(b"question").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        read_all(&mut peer)
    });
    assert!(received == pattern(LARGE));
}

/// R-40, in part: when neither side sends any more, nothing will happen on it, so it is over. It
/// does not matter which side was first, and whether the protocol closes it or leaves it.
#[test]
fn a_connection_whose_sides_are_both_closed_has_ended() {
    for peer_is_first in [true, false] {
        let (reactor, calls) = (Reactor::new().unwrap(), journal());
        let (seen, stop) = (calls.clone(), reactor.clone());
        let factory = Scripts::new(move || {
            let (read_lost, lost, stop) = (seen.clone(), seen.clone(), stop.clone());
            Script::new()
                .made(move |transport| {
                    if !peer_is_first {
                        transport.lose_write_connection();
                    }
                    Ok(())
                })
                .read_lost(move |transport| {
                    note(&read_lost, "read side closed");
                    if peer_is_first {
                        transport.lose_write_connection();
                    }
                })
                .lost(move |reason| {
                    note(&lost, kind(reason));
                    stop.stop().unwrap();
                })
        });
        let (_, address) = listen(&reactor, factory);
        let peer = std::thread::spawn(move || {
            let mut peer = connect(address);
            if !peer_is_first {
                read_all(&mut peer);
            }
            peer.shutdown(Shutdown::Write).unwrap();
            read_all(&mut peer)
        });
        peers::run(&reactor);
        peer.join().unwrap();
        assert_eq!(*calls.borrow(), ["read side closed", "done"]);
    }
}

/// what a peer has sent before its end waits with it.
#[test]
fn a_paused_connection_keeps_what_was_sent_when_both_sides_close() {
    let (reactor, calls) = (Reactor::new().unwrap(), journal());
    let (seen, kept) = (calls.clone(), Rc::new(RefCell::new(None::<Transport>)));
    let (transport, stop) = (kept.clone(), reactor.clone());
    let factory = Scripts::new(move || {
        let (data, lost) = (seen.clone(), seen.clone());
        let (kept, stop) = (kept.clone(), stop.clone());
        Script::new()
            .made(move |transport| {
                transport.pause_producing();
                transport.lose_write_connection();
                *kept.borrow_mut() = Some(transport.clone());
                Ok(())
            })
            .data(move |_, bytes| {
                note(&data, String::from_utf8_lossy(bytes));
                Ok(())
            })
            .lost(move |reason| {
                note(&lost, kind(reason));
                stop.stop().unwrap();
            })
    });
    let (_, address) = listen(&reactor, factory);
    let resume = peers::lend(&reactor, move || {
        transport.take().unwrap().resume_producing();
    });
    let peer = std::thread::spawn(move || {
        let mut peer = connect(address);
        read_all(&mut peer);
        peer.write_all(b"last words").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        resume();
        peer
    });
    peers::run(&reactor);
    peer.join().unwrap();
    assert_eq!(*calls.borrow(), ["last words", "done"]);
}

/// The transport does not keep the connection, nor the connection its protocol.
#[test]
fn a_protocol_is_dropped_with_its_connection() {
    let (reactor, alive) = (Reactor::new().unwrap(), Rc::new(()));
    let (held, kept) = (alive.clone(), Rc::new(RefCell::new(Vec::new())));
    let transports = kept.clone();
    let factory = Scripts::new(move || {
        let (held, transports) = (held.clone(), transports.clone());
        Script::new().made(move |transport| {
            let _ = &held;
            transports.borrow_mut().push(transport.clone());
            transport.lose_connection();
            Ok(())
        })
    });
    let (port, address) = listen(&reactor, factory);
    run_with_peer(&reactor, move || read_all(&mut connect(address)));
    assert_eq!(kept.borrow().len(), 1);
    drop(port);
    assert_eq!(Rc::strong_count(&alive), 1);
}

/// A protocol that writes much is told when the system takes no more, once, and when it has taken
/// all; and one that asks is told that a few bytes have left.
#[test]
fn a_protocol_is_told_when_the_system_takes_no_more_and_when_all_has_left() {
    use deferred_reactor::testing::MemoryReactor;

    struct Writer(Rc<RefCell<Vec<String>>>);
    impl Protocol for Writer {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
            match data {
                b"much" => transport.write(&[b'x'; 10_000]),
                _ => transport.write(b"few"),
            }
            if data == b"tell" {
                transport.notify_drained();
            }
            Ok(())
        }
        fn write_blocked(&mut self, transport: &Transport) {
            self.0
                .borrow_mut()
                .push(format!("blocked at {}", transport.sent()));
        }
        fn write_drained(&mut self, transport: &Transport) {
            self.0
                .borrow_mut()
                .push(format!("drained at {}", transport.sent()));
        }
    }

    let memory = MemoryReactor::new();
    let told = Rc::new(RefCell::new(Vec::new()));
    let peer = memory.connect(Writer(told.clone()));
    peer.exchange("few");
    assert!(told.borrow().is_empty());
    peer.exchange("tell");
    assert_eq!(told.take(), ["drained at 6"]);
    peer.block_writes(100);
    peer.exchange("much");
    assert_eq!(told.take(), ["blocked at 106"]);
    peer.exchange("few");
    assert!(told.borrow().is_empty());
    peer.unblock_writes();
    memory.pump();
    assert_eq!(told.take(), ["drained at 10009"]);
}
