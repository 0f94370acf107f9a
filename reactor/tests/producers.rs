//! Those who write by themselves are paused and resumed as the peer reads.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::rc::Rc;

use deferred_reactor::net::{
    ProducerRegisteredError, Protocol, PullProducer, PushProducer, Transport,
};
use deferred_reactor::testing::{MemoryConnection, MemoryReactor};
use deferred_reactor::{Failure, Reactor};

use peers::{Journal, Script, Scripts, journal, kind, note, pattern};

const LIMIT: usize = 64 * 1024;

type Act = Box<dyn Fn()>;

/// A producer of either kind that notes what it is told, and does as it was taught.
#[derive(Clone, Default)]
struct Told {
    calls: Journal,
    on_pause: Rc<RefCell<Option<Act>>>,
    on_resume: Rc<RefCell<Option<Act>>>,
    on_stop: Rc<RefCell<Option<Act>>>,
    lets_close: Rc<Cell<bool>>,
}

impl Told {
    fn new(calls: &Journal) -> Self {
        Self {
            calls: calls.clone(),
            ..Self::default()
        }
    }

    fn on_pause(self, act: impl Fn() + 'static) -> Self {
        self.on_pause.replace(Some(Box::new(act)));
        self
    }

    fn on_resume(self, act: impl Fn() + 'static) -> Self {
        self.on_resume.replace(Some(Box::new(act)));
        self
    }

    fn on_stop(self, act: impl Fn() + 'static) -> Self {
        self.on_stop.replace(Some(Box::new(act)));
        self
    }

    fn told(&self, what: &str, act: &RefCell<Option<Act>>) {
        note(&self.calls, what);
        if let Some(act) = &*act.borrow() {
            act();
        }
    }
}

impl PushProducer for Told {
    fn pause_producing(&self) {
        self.told("pause", &self.on_pause);
    }

    fn resume_producing(&self) {
        self.told("resume", &self.on_resume);
    }

    fn stop_producing(&self) {
        self.told("stop", &self.on_stop);
    }

    fn holds_open(&self) -> bool {
        !self.lets_close.get()
    }
}

impl PullProducer for Told {
    fn resume_producing(&self) {
        self.told("ask", &self.on_resume);
    }

    fn stop_producing(&self) {
        self.told("stop", &self.on_stop);
    }
}

/// A protocol that notes its end, and its peer.
fn connected(memory: &MemoryReactor, calls: &Journal) -> (MemoryConnection, Transport) {
    peers::watch_log();
    let lost = calls.clone();
    let peer = memory.connect(Script::new().lost(move |reason| note(&lost, kind(reason))));
    memory.pump();
    let transport = peer.transport().unwrap();
    (peer, transport)
}

///
#[test]
fn a_push_producer_is_paused_beyond_the_limit_and_resumed_when_all_is_sent() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (peer, transport) = connected(&memory, &calls);
    peer.block_writes(0);
    transport.register_producer(Told::new(&calls)).unwrap();
    transport.write(&vec![1; LIMIT]);
    memory.pump();
    assert_eq!(calls.take(), [""; 0], "the limit itself is not too much");
    transport.write(b"x");
    assert_eq!(calls.take(), ["pause"], "inside the write");
    transport.write(b"y");
    transport.write_bytes(vec![2; LIMIT].into());
    transport.write_with(|buffer| buffer.push(3));
    assert_eq!(calls.take(), [""; 0], "it knows");

    peer.block_writes(2 * LIMIT + 2);
    memory.pump();
    assert_eq!(transport.buffered(), 1);
    assert_eq!(calls.take(), [""; 0], "one byte is left");
    peer.unblock_writes();
    memory.pump();
    assert_eq!(calls.take(), ["resume"]);
    transport.write(b"little");
    memory.pump();
    assert_eq!(calls.take(), [""; 0], "it was not paused");
    transport.write(&vec![4; LIMIT + 1]);
    memory.pump();
    assert_eq!(calls.take(), ["pause", "resume"]);
}

/// each way of writing.
#[test]
fn any_write_beyond_the_limit_pauses() {
    let writes: [fn(&Transport); 3] = [
        |transport| transport.write(&vec![0; LIMIT + 1]),
        |transport| transport.write_bytes(vec![0; LIMIT + 1].into()),
        |transport| transport.write_with(|buffer| buffer.resize(LIMIT + 1, 0)),
    ];
    for write in writes {
        let (memory, calls) = (MemoryReactor::new(), journal());
        let (_peer, transport) = connected(&memory, &calls);
        transport.register_producer(Told::new(&calls)).unwrap();
        write(&transport);
        assert_eq!(calls.take(), ["pause"]);
        memory.pump();
        assert_eq!(calls.take(), ["resume"]);
    }
}

/// the pattern of Twisted's producers: write in `resume_producing` until told to pause.
#[test]
fn a_push_producer_may_write_in_a_loop_until_it_is_paused() {
    for seed in 0..20 {
        let (memory, calls) = (MemoryReactor::with_seed(seed), journal());
        let (peer, transport) = connected(&memory, &calls);
        let (left, paused) = (Rc::new(Cell::new(1000)), Rc::new(Cell::new(true)));
        let (to, may_write) = (transport.clone(), paused.clone());
        let producer = Told::new(&journal())
            .on_pause({
                let paused = paused.clone();
                move || paused.set(true)
            })
            .on_resume(move || {
                may_write.set(false);
                while !may_write.get() {
                    if left.get() == 0 {
                        to.unregister_producer();
                        return to.lose_connection();
                    }
                    left.set(left.get() - 1);
                    to.write(&pattern(1000));
                    assert!(to.buffered() <= LIMIT + 1000);
                }
            });
        transport.register_producer(producer.clone()).unwrap();
        PushProducer::resume_producing(&producer);
        memory.pump();
        assert!(peer.received() == pattern(1000).repeat(1000), "seed {seed}");
        assert_eq!(calls.take(), ["done"]);
        assert_eq!(peers::errors_logged_here(), Vec::<String>::new());
    }
}

///
#[test]
fn a_pull_producer_is_asked_at_registration_and_whenever_all_is_sent() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (peer, transport) = connected(&memory, &calls);
    let to = transport.clone();
    let producer = Told::new(&calls).on_resume(move || to.write(&vec![0; 3 * LIMIT]));
    peer.block_writes(0);
    transport.register_pull_producer(producer).unwrap();
    assert_eq!(calls.take(), ["ask"], "inside the registration");
    memory.pump();
    transport.write(b"and more");
    memory.pump();
    assert_eq!(
        calls.take(),
        [""; 0],
        "never paused, nor asked before all is sent"
    );
    peer.block_writes(3 * LIMIT + 7);
    memory.pump();
    assert_eq!(calls.take(), [""; 0]);
    peer.block_writes(1);
    memory.pump();
    assert_eq!(calls.take(), ["ask"]);
    assert_eq!(transport.buffered(), 3 * LIMIT);
    assert_eq!(peer.received().len(), 3 * LIMIT + 8);
}

/// one that has nothing at the moment writes when it has.
#[test]
fn a_pull_producer_that_writes_nothing_is_not_asked_again_until_something_was_sent() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (peer, transport) = connected(&memory, &calls);
    let producer = Told::new(&calls);
    transport.register_pull_producer(producer).unwrap();
    memory.pump();
    assert_eq!(calls.take(), ["ask"]);
    transport.write(b"late");
    memory.pump();
    assert_eq!(calls.take(), ["ask"]);
    assert_eq!(peer.received(), b"late");
}

/// such as one that sends a file.
#[test]
fn a_pull_producer_sends_everything_and_closes() {
    for seed in 0..20 {
        let (memory, calls) = (MemoryReactor::with_seed(seed), journal());
        let (peer, transport) = connected(&memory, &calls);
        let (to, at) = (transport.clone(), Cell::new(0));
        let all = pattern(1_000_000);
        let producer = Told::new(&journal()).on_resume(move || {
            if at.get() == all.len() {
                to.unregister_producer();
                return to.lose_connection();
            }
            to.write(&all[at.get()..at.get() + 10_000]);
            at.set(at.get() + 10_000);
        });
        transport.register_pull_producer(producer).unwrap();
        memory.pump();
        assert!(peer.received() == pattern(1_000_000), "seed {seed}");
        assert_eq!(calls.take(), ["done"]);
    }
}

/// a producer that never ends must not starve the others.
#[test]
fn a_pull_producer_that_is_always_ready_leaves_others_their_turn() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (peer, transport) = connected(&memory, &calls);
    let to = transport.clone();
    let producer = Told::new(&journal()).on_resume(move || to.write(&vec![0; 1000]));
    transport.register_pull_producer(producer).unwrap();
    let other = memory.connect(Script::echo());
    other.send("x");
    for _ in 0..5 {
        assert!(memory.turn());
    }
    assert_eq!(other.received(), b"x");
    assert!(peer.received().len() >= 5000);
    transport.abort_connection();
    memory.pump();
    assert_eq!(calls.take(), ["aborted"]);
}

/// `bufferSize`.
#[test]
fn the_limit_can_be_set() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (peer, transport) = connected(&memory, &calls);
    transport.set_buffer_limit(10);
    transport.register_producer(Told::new(&calls)).unwrap();
    transport.write(b"0123456789");
    assert_eq!(calls.take(), [""; 0]);
    transport.write(b"!");
    assert_eq!(calls.take(), ["pause"]);
    memory.pump();
    assert_eq!(calls.take(), ["resume"]);
    // It is that of the connection, whoever writes, and however often all is sent; and of no other.
    transport.unregister_producer();
    memory.pump();
    let (_other_peer, other) = connected(&memory, &calls);
    other.register_producer(Told::new(&calls)).unwrap();
    other.write(b"0123456789!");
    memory.pump();
    assert_eq!(calls.take(), [""; 0]);
    transport.register_producer(Told::new(&calls)).unwrap();
    transport.write(b"0123456789!");
    assert_eq!(calls.take(), ["pause"]);
    transport.set_buffer_limit(1 << 20);
    memory.pump();
    assert_eq!(calls.take(), ["resume"]);
    transport.write(&vec![0; 1 << 20]);
    assert_eq!(calls.take(), [""; 0]);
    transport.write(b"!");
    assert_eq!(calls.take(), ["pause"]);
    drop(peer);
}

/// what is there already counts.
#[test]
fn a_push_producer_registered_behind_a_backlog_is_paused_at_once() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (peer, transport) = connected(&memory, &calls);
    peer.block_writes(0);
    transport.write(&vec![0; LIMIT + 1]);
    transport.register_producer(Told::new(&calls)).unwrap();
    assert_eq!(calls.take(), ["pause"]);
    peer.unblock_writes();
    memory.pump();
    assert_eq!(calls.take(), ["resume"]);
}

/// The protocol is told first, and what it writes comes first.
#[test]
fn write_drained_comes_before_the_producer_goes_on() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let drained = calls.clone();
    let peer = memory.connect(Script::new().drained(move |transport| {
        note(&drained, "drained");
        if drained.borrow().len() == 1 {
            transport.write(&vec![0; LIMIT + 1]);
        }
    }));
    memory.pump();
    let transport = peer.transport().unwrap();
    transport
        .register_producer(Told::new(&calls).on_pause(|| ()))
        .unwrap();
    let producer_calls = calls.clone();
    transport.write(&vec![0; LIMIT + 1]);
    assert_eq!(producer_calls.take(), ["pause"]);
    memory.pump();
    assert_eq!(calls.take(), ["drained", "drained", "resume"]);
}

///
#[test]
fn a_second_producer_is_an_error_until_the_first_is_unregistered() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (_peer, transport) = connected(&memory, &calls);
    let other = journal();
    transport.register_producer(Told::new(&calls)).unwrap();
    let refused: ProducerRegisteredError =
        transport.register_producer(Told::new(&other)).unwrap_err();
    assert!(refused.to_string().contains("unregister"));
    assert!(transport.register_pull_producer(Told::new(&other)).is_err());
    transport.write(&vec![0; LIMIT + 1]);
    memory.pump();
    assert_eq!(calls.take(), ["pause", "resume"]);
    assert_eq!(other.take(), [""; 0], "it was never told anything");

    transport.unregister_producer();
    transport.unregister_producer();
    transport.register_pull_producer(Told::new(&other)).unwrap();
    assert!(transport.register_producer(Told::new(&calls)).is_err());
    transport.write(&vec![0; LIMIT + 1]);
    memory.pump();
    assert_eq!(calls.take(), [""; 0]);
    assert_eq!(other.take(), ["ask", "ask"]);
}

///
#[test]
fn a_producer_registered_on_a_lost_connection_is_told_to_stop() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (_peer, transport) = connected(&memory, &calls);
    transport.lose_connection();
    memory.pump();
    assert_eq!(calls.take(), ["done"]);
    transport.register_producer(Told::new(&calls)).unwrap();
    assert_eq!(calls.take(), ["stop"]);
    transport.register_pull_producer(Told::new(&calls)).unwrap();
    assert_eq!(calls.take(), ["stop"], "and not asked");
    transport.unregister_producer();
    transport.set_buffer_limit(1);
}

/// nothing that is written would be sent.
#[test]
fn a_producer_registered_on_a_closed_sending_side_is_told_to_stop() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (_peer, transport) = connected(&memory, &calls);
    transport.lose_write_connection();
    memory.pump();
    transport.register_producer(Told::new(&calls)).unwrap();
    assert_eq!(calls.take(), ["stop"]);
}

///
#[test]
fn a_producer_is_told_to_stop_when_the_connection_is_lost_and_before_the_protocol() {
    type Lose = fn(&MemoryReactor, &MemoryConnection, &Transport);
    let ways: [(&str, Lose); 3] = [
        ("lost", |_, peer, _| peer.reset()),
        ("aborted", |_, _, transport| transport.abort_connection()),
        ("lost", |memory, _, _| memory.stop().unwrap()),
    ];
    for (reason, lose) in ways {
        for pulls in [false, true] {
            let (memory, calls) = (MemoryReactor::new(), journal());
            let (peer, transport) = connected(&memory, &calls);
            let (at_stop, again) = (transport.clone(), Told::new(&calls));
            let producer = Told::new(&calls).on_stop(move || {
                assert!(!at_stop.is_connected());
                at_stop.write(b"too late");
                at_stop.unregister_producer();
                // Told to stop as well.
                at_stop.register_producer(again.clone()).unwrap();
            });
            match pulls {
                false => transport.register_producer(producer).unwrap(),
                true => transport.register_pull_producer(producer).unwrap(),
            }
            calls.take();
            lose(&memory, &peer, &transport);
            memory.pump();
            assert_eq!(calls.take(), ["stop", "stop", reason]);
        }
    }
}

/// one that was unregistered hears no more.
#[test]
fn an_unregistered_producer_is_told_nothing() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (peer, transport) = connected(&memory, &calls);
    let held = Rc::new(());
    let (producer, kept) = (Told::new(&calls), held.clone());
    transport
        .register_producer(producer.on_pause(move || {
            let _ = &kept;
        }))
        .unwrap();
    transport.write(&vec![0; LIMIT + 1]);
    assert_eq!(calls.take(), ["pause"]);
    transport.unregister_producer();
    assert_eq!(Rc::strong_count(&held), 1, "nor is it kept");
    memory.pump();
    peer.reset();
    memory.pump();
    assert_eq!(calls.take(), ["lost"]);
}

///
#[test]
fn a_connection_with_a_producer_closes_when_that_is_unregistered_and_not_before() {
    for pulls in [false, true] {
        for half in [false, true] {
            let (memory, calls) = (MemoryReactor::new(), journal());
            let (peer, transport) = connected(&memory, &calls);
            let producer = Told::new(&journal());
            match pulls {
                false => transport.register_producer(producer).unwrap(),
                true => transport.register_pull_producer(producer).unwrap(),
            }
            match half {
                false => transport.lose_connection(),
                true => transport.lose_write_connection(),
            }
            memory.pump();
            assert!(!peer.has_ended());
            transport.write(b"what it still has");
            memory.pump();
            transport.write(&vec![0; 3 * LIMIT]);
            memory.pump();
            assert!(!peer.has_ended());
            assert!(transport.is_connected());
            transport.unregister_producer();
            transport.write(b"last");
            memory.pump();
            assert!(peer.has_ended());
            assert_eq!(transport.is_connected(), half);
            assert!(peer.received().ends_with(b"last"));
            assert_eq!(calls.take().is_empty(), half);
        }
    }
}

/// and waiting costs nothing.
#[test]
fn a_connection_that_waits_for_its_producer_makes_no_turns() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (_peer, transport) = connected(&memory, &calls);
    transport.register_producer(Told::new(&calls)).unwrap();
    transport.lose_connection();
    memory.pump();
    assert!(!memory.turn());
    transport.unregister_producer();
    memory.pump();
    assert_eq!(calls.take(), ["done"]);
}

/// one may say that it need not be waited for.
#[test]
fn a_producer_may_let_the_connection_close() {
    let (memory, calls) = (MemoryReactor::new(), journal());
    let (_peer, transport) = connected(&memory, &calls);
    let producer = Told::new(&calls);
    producer.lets_close.set(true);
    transport.register_producer(producer).unwrap();
    transport.lose_connection();
    memory.pump();
    assert_eq!(calls.take(), ["stop", "done"]);
}

/// B-16, R-36: whatever it does in there.
#[test]
fn a_producer_may_call_anything_from_inside() {
    type Act = (&'static str, fn(&Transport, &Told));
    let acts: [Act; 8] = [
        ("unregister", |transport, _| transport.unregister_producer()),
        ("register again", |transport, told| {
            let again = transport.register_producer(told.clone());
            assert_eq!(again.is_err(), transport.is_connected());
            transport.unregister_producer();
            transport.register_producer(told.clone()).unwrap();
        }),
        ("write", |transport, _| transport.write(b"more")),
        ("write with", |transport, _| {
            transport.write_with(|buffer| {
                transport.write(b"a");
                buffer.push(b'b');
            });
        }),
        ("close", |transport, _| transport.lose_connection()),
        ("half-close", |transport, _| {
            transport.lose_write_connection()
        }),
        ("abort", |transport, _| transport.abort_connection()),
        ("limit", |transport, _| transport.set_buffer_limit(1)),
    ];
    for (name, act) in acts {
        for inside in ["pause", "resume", "ask", "stop"] {
            let (memory, calls) = (MemoryReactor::new(), journal());
            let (peer, transport) = connected(&memory, &journal());
            let (once, to, other) = (Cell::new(true), transport.clone(), Told::new(&calls));
            let act = move || {
                if once.replace(false) {
                    act(&to, &other);
                }
            };
            let told = Told::new(&calls);
            let told = match inside {
                "pause" => told.on_pause(act),
                "stop" => told.on_stop(act),
                _ => told.on_resume(act),
            };
            match inside {
                "ask" => transport.register_pull_producer(told).unwrap(),
                _ => transport.register_producer(told).unwrap(),
            }
            transport.write(&vec![0; LIMIT + 1]);
            memory.pump();
            peer.reset();
            memory.pump();
            assert!(!transport.is_connected());
            let errors = peers::errors_logged_here();
            assert_eq!(errors, Vec::<String>::new(), "{name} inside {inside}");
            assert!(calls.borrow().iter().any(|call| call == inside), "{name}");
        }
    }
}

/// Law 4: the peer must not take what has come for all, nor wait for the rest.
#[test]
fn a_producer_that_panics_aborts_its_connection() {
    for inside in ["pause", "resume", "ask"] {
        let (memory, calls) = (MemoryReactor::new(), journal());
        let (peer, transport) = connected(&memory, &calls);
        let told = Told::new(&journal());
        let act = || panic!("in a producer");
        let told = match inside {
            "pause" => told.on_pause(act),
            _ => told.on_resume(act),
        };
        match inside {
            "ask" => transport.register_pull_producer(told).unwrap(),
            _ => transport.register_producer(told).unwrap(),
        }
        assert!(transport.is_connected(), "it is told later");
        transport.write(&vec![0; LIMIT + 1]);
        memory.pump();
        assert_eq!(calls.take(), ["aborted"], "{inside}");
        assert!(peer.is_reset());
    }
    let errors = peers::errors_logged_here();
    assert_eq!(errors.len(), 3);
    assert!(errors[0].contains("in a producer"), "{errors:?}");
}

/// One side of a proxy: what comes goes to the other, once there is one.
struct Side {
    other: Rc<RefCell<Option<Transport>>>,
}

impl Protocol for Side {
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
        if let Some(other) = &*self.other.borrow() {
            other.write(data);
        }
        Ok(())
    }

    fn connection_lost(&mut self, _: &Failure) {
        if let Some(other) = self.other.take() {
            other.lose_connection();
        }
    }
}

/// Two connections that are written through to each other.
struct Proxy {
    client: MemoryConnection,
    server: MemoryConnection,
    ends: [Transport; 2],
}

fn proxy(memory: &MemoryReactor) -> Proxy {
    let sides: [Rc<RefCell<Option<Transport>>>; 2] = Default::default();
    let [client, server] = sides.clone().map(|other| memory.connect(Side { other }));
    memory.pump();
    let ends = [&client, &server].map(|peer| peer.transport().unwrap());
    sides[0].replace(Some(ends[1].clone()));
    sides[1].replace(Some(ends[0].clone()));
    ends[0].register_producer(ends[1].clone()).unwrap();
    ends[1].register_producer(ends[0].clone()).unwrap();
    Proxy {
        client,
        server,
        ends,
    }
}

/// a transport is a producer.
#[test]
fn of_two_joined_transports_neither_is_read_faster_than_the_other_takes() {
    let memory = MemoryReactor::new();
    let proxy = proxy(&memory);
    proxy.server.block_writes(1000);
    for _ in 0..100 {
        proxy.client.send(pattern(10_000));
        memory.pump();
    }
    let buffered = proxy.ends[1].buffered();
    assert!((LIMIT..LIMIT + 20_000).contains(&buffered), "{buffered}");
    assert_eq!(proxy.client.unread() + buffered + 1000, 1_000_000);
    assert_eq!(proxy.server.received().len(), 1000);
    // The other direction goes on.
    proxy.server.send("back");
    memory.pump();
    assert_eq!(proxy.client.received(), b"back");

    proxy.server.unblock_writes();
    memory.pump();
    assert_eq!(proxy.client.unread(), 0);
    let mut want = pattern(10_000).repeat(100);
    assert!(proxy.server.received() == want.split_off(1000));
}

/// when one is gone, so is the other, once it has sent what it was given.
#[test]
fn of_two_joined_transports_both_are_closed_with_either() {
    for is_reset in [false, true] {
        let memory = MemoryReactor::new();
        let proxy = proxy(&memory);
        proxy.server.block_writes(10);
        proxy.client.send(pattern(200_000));
        memory.pump();
        match is_reset {
            false => proxy.client.close(),
            true => proxy.client.reset(),
        }
        memory.pump();
        assert_eq!(
            proxy.ends[0].is_connected(),
            !is_reset,
            "there is more to read"
        );
        assert!(!proxy.server.has_ended());
        proxy.server.unblock_writes();
        memory.pump();
        assert!(proxy.client.is_closed() && proxy.server.is_closed());
        assert!(proxy.server.has_ended() && !proxy.server.is_reset());
        let received = proxy.server.received();
        assert!(received == pattern(200_000)[..received.len()]);
        assert!(is_reset || received.len() == 200_000);
    }
}

/// R-36, with real sockets: the first two that connect are joined.
#[test]
fn a_proxy_passes_everything_on_at_the_speed_of_the_slower_side() {
    const LENGTH: usize = 8 << 20;
    let reactor = Reactor::new().unwrap();
    let waiting = Rc::new(RefCell::new(None::<Transport>));
    let largest = Rc::new(Cell::new(0));
    let (first, seen) = (waiting, largest.clone());
    let factory = Scripts::new(move || {
        let (first, seen) = (first.clone(), seen.clone());
        let other = Rc::new(RefCell::new(None::<Transport>));
        let to = other.clone();
        Script::new()
            .made(move |transport| {
                match first.take() {
                    None => {
                        first.replace(Some(transport.clone()));
                    }
                    Some(first) => {
                        first.register_producer(transport.clone())?;
                        other.replace(Some(first));
                    }
                }
                Ok(())
            })
            .data(move |_, data| {
                if let Some(to) = &*to.borrow() {
                    to.write(data);
                    seen.set(seen.get().max(to.buffered()));
                }
                Ok(())
            })
    });
    let (_, address) = peers::listen(&reactor, factory);
    let received = peers::run_with_peer(&reactor, move || {
        // Accepted in this order.
        let mut reading = peers::connect(address);
        let mut writing = peers::connect(address);
        let sending = std::thread::spawn(move || {
            writing.write_all(&pattern(LENGTH)).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = vec![0; LENGTH];
        reading.read_exact(&mut received).unwrap();
        sending.join().unwrap();
        received
    });
    assert!(received == pattern(LENGTH));
    let largest = largest.get();
    assert!(largest <= 2 * LIMIT, "{largest} bytes waited");
}
