//! What users hand over is dropped at many places, and a `Drop` that panics there stops nothing:
//! neither the loop, nor what others wait for.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod peers;

use std::io::Write;
use std::time::Duration;

use deferred_reactor::net::{
    Address, ClientFactory, Connector, Factory, Protocol, PushProducer, Transport,
};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor};
use peers::{Journal, journal, note};

/// Panics when it is dropped, and notes that it was.
struct Bomb(Journal, &'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        note(&self.0, self.1);
        if !std::thread::panicking() {
            panic!("dropping a {}", self.1);
        }
    }
}

struct Bombs(Journal, #[allow(dead_code)] Bomb);

impl Bombs {
    fn new(journal: &Journal) -> Self {
        Self(journal.clone(), Bomb(journal.clone(), "factory"))
    }
}

impl Factory for Bombs {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        let bomb = Bomb(self.0.clone(), "protocol");
        Some(Box::new(BombProtocol(self.0.clone(), bomb)))
    }
}

impl ClientFactory for Bombs {
    fn client_connection_lost(&self, _: &Connector, _: &Failure) {
        note(&self.0, "client_connection_lost");
    }
    fn client_connection_failed(&self, _: &Connector, _: &Failure) {
        note(&self.0, "client_connection_failed");
    }
}

struct BombProtocol(Journal, #[allow(dead_code)] Bomb);

impl Protocol for BombProtocol {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        transport.register_producer(BombProducer(Bomb(self.0.clone(), "producer")))?;
        transport.write(b"hello");
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
    fn connection_lost(&mut self, _: &Failure) {
        note(&self.0, "connection_lost");
    }
}

struct BombProducer(#[allow(dead_code)] Bomb);

impl PushProducer for BombProducer {
    fn pause_producing(&self) {}
    fn resume_producing(&self) {}
    fn stop_producing(&self) {}
}

fn count(journal: &Journal, what: &str) -> usize {
    journal
        .borrow()
        .iter()
        .filter(|entry| *entry == what)
        .count()
}

/// R-15, B-16: whatever panics when it is dropped by the loop or by its end.
#[test]
fn a_run_goes_on_and_ends_whatever_panics_when_it_is_dropped() {
    for _ in 0..2 {
        let (reactor, notes) = (Reactor::new().unwrap(), journal());
        let port = reactor
            .listen_tcp("127.0.0.1:0", Bombs::new(&notes))
            .unwrap();
        let address = peers::address_of(&port);
        let nobody = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        drop(reactor.connect_tcp(address, Bombs::new(&notes)));
        drop(reactor.connect_tcp(nobody, Bombs::new(&notes)));
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let bomb = Bomb(notes.clone(), "delayed call");
                reactor.call_later(Duration::from_secs(99), move || drop(bomb))
            })
            .collect();
        let (stop, seen) = (reactor.clone(), notes.clone());
        fn look(reactor: Reactor, seen: Journal) {
            if count(&seen, "client_connection_failed") == 1 && count(&seen, "factory") >= 1 {
                return reactor.stop().unwrap();
            }
            let again = reactor.clone();
            reactor.call_later(Duration::from_millis(1), move || look(again, seen));
        }
        reactor.call_when_running(move || look(stop, seen));
        reactor.run_without_signals().unwrap();
        assert_eq!(count(&notes, "connection_lost"), 2, "{notes:?}");
        assert_eq!(count(&notes, "client_connection_lost"), 1);
        assert_eq!(count(&notes, "protocol"), 2);
        assert_eq!(count(&notes, "producer"), 2);
        assert_eq!(count(&notes, "factory"), 3);
        assert_eq!(count(&notes, "delayed call"), 3);
        assert!(calls.iter().all(|call| !call.is_active()));
        // It runs again.
        reactor.run_for(Duration::from_millis(1)).unwrap();
    }
}

/// B-15, B-16: in memory as well.
#[test]
fn a_turn_in_memory_goes_on_whatever_panics_when_it_is_dropped() {
    let (memory, notes) = (MemoryReactor::new(), journal());
    let port = memory
        .listen_tcp("127.0.0.1:80", Bombs::new(&notes))
        .unwrap();
    drop(memory.connect_tcp("127.0.0.1:80", Bombs::new(&notes)));
    drop(memory.connect_tcp("127.0.0.1:81", Bombs::new(&notes)));
    memory.pump();
    assert_eq!(count(&notes, "client_connection_failed"), 1);
    drop(port);
    memory.stop().unwrap();
    memory.pump();
    assert_eq!(count(&notes, "connection_lost"), 2, "{notes:?}");
    assert_eq!(count(&notes, "factory"), 3);
    assert_eq!(count(&notes, "producer"), 2);
}

/// A protocol that panics twice: in `connection_lost`, and when it is dropped after that.
struct Twice(#[allow(dead_code)] Always);

struct Always;

impl Drop for Always {
    fn drop(&mut self) {
        panic!("dropping it as well");
    }
}

impl Protocol for Twice {
    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        panic!("no data, please");
    }
    fn connection_lost(&mut self, _: &Failure) {
        panic!("nor an end");
    }
}

/// two panics in a row are two panics, and not the end of the process.
#[test]
fn a_protocol_that_panics_at_its_end_may_panic_in_its_drop_too() {
    let memory = MemoryReactor::new();
    let mut peer = memory.connect(Twice(Always));
    memory.pump();
    peer.write_all(b"x").unwrap();
    memory.pump();
    assert!(peer.is_closed());
}

/// D-65, R-15: a block whose result panics when it is dropped does not keep those from going on that
/// were woken together with it.
#[test]
fn blocks_go_on_whatever_the_result_of_another_does_when_it_is_dropped() {
    use deferred_reactor::Deferred;
    use deferred_reactor::deferred::spawn;
    use futures_channel::oneshot;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    for awaits in ["a Deferred", "a channel"] {
        let notes = journal();
        let mut senders = Vec::new();
        let others: Vec<_> = (0..3)
            .map(|_| {
                let (sender, receiver) = oneshot::channel::<()>();
                senders.push(sender);
                spawn(async move {
                    let _ = receiver.await;
                    Ok(())
                })
            })
            .collect();
        let bomb = Bomb(notes.clone(), "result");
        let (wait, fire) = Deferred::pending();
        let (knock, knocked) = oneshot::channel::<()>();
        drop(spawn(async move {
            match awaits {
                "a Deferred" => wait.await?,
                _ => knocked.await.unwrap(),
            }
            senders
                .into_iter()
                .for_each(|sender| sender.send(()).unwrap());
            Ok(bomb)
        }));
        let outcome = catch_unwind(AssertUnwindSafe(|| match awaits {
            "a Deferred" => fire.callback(()).unwrap(),
            _ => knock.send(()).unwrap(),
        }));
        assert!(outcome.is_err());
        assert_eq!(count(&notes, "result"), 1);
        assert!(others.iter().all(Deferred::is_fired), "{awaits}");
    }
}
