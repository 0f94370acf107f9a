//! How many bytes a second pass.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{Factory, Protocol, Transport, for_protocol};
use deferred_reactor::policies::ThrottlingFactory;
use deferred_reactor::testing::{MemoryConnection, MemoryReactor};
use deferred_reactor::{Failure, ReactorTime};

const SECOND: Duration = Duration::from_secs(1);

/// Counts what it reads, and answers `w` with a thousand bytes, `q` with an end.
struct Peer(Rc<RefCell<Seen>>);

#[derive(Default)]
struct Seen {
    received: usize,
    drained: usize,
    lost: usize,
}

impl Protocol for Peer {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.0.borrow_mut().received += data.len();
        for byte in data {
            match byte {
                b'w' => transport.write(&[b'x'; 1000]),
                b'q' => transport.lose_connection(),
                _ => {}
            }
        }
        Ok(())
    }

    fn write_drained(&mut self, _: &Transport) {
        self.0.borrow_mut().drained += 1;
    }

    fn connection_lost(&mut self, _: &Failure) {
        self.0.borrow_mut().lost += 1;
    }
}

struct Rig {
    memory: MemoryReactor,
    seen: Rc<RefCell<Seen>>,
}

impl Rig {
    fn new() -> Self {
        Self {
            memory: MemoryReactor::new(),
            seen: Rc::default(),
        }
    }

    fn factory(&self) -> impl Factory + use<> {
        let seen = self.seen.clone();
        for_protocol(move || Peer(seen.clone()))
    }

    fn listen(&self, factory: impl Factory) {
        self.memory
            .listen_tcp("127.0.0.1:7", factory)
            .expect("it is free");
    }

    fn client(&self) -> MemoryConnection {
        let client = self
            .memory
            .connect_to("127.0.0.1:7")
            .expect("somebody listens");
        self.memory.pump();
        client
    }

    fn received(&self) -> usize {
        self.seen.borrow().received
    }
}

/// PO-07: what is over the limit stays with the peer.
#[test]
fn bytes_are_read_at_the_limit() {
    let rig = Rig::new();
    let factory = Rc::new(ThrottlingFactory::new(rig.factory()).read_limit(1000));
    rig.listen(factory.clone());
    let client = rig.client();
    client.exchange([b'.'; 5000]);
    assert_eq!(rig.received(), 250, "a quarter of a second at once");
    assert_eq!(client.unread(), 4750);
    for seconds in 1..=4 {
        rig.memory.advance(SECOND);
        assert_eq!(rig.received(), 250 + 1000 * seconds);
    }
    rig.memory.advance(SECOND);
    assert_eq!((rig.received(), client.unread()), (5000, 0));
    assert_eq!(factory.counts().bytes_read, 5000);
    assert!(factory.counts().read_waits >= 40);
    assert_eq!(factory.counts().bytes_written, 0);
}

/// PO-08: and the protocol is told when all has gone, as for a peer that reads slowly.
#[test]
fn bytes_are_sent_at_the_limit() {
    let rig = Rig::new();
    let factory = Rc::new(ThrottlingFactory::new(rig.factory()).write_limit(1000));
    rig.listen(factory.clone());
    let client = rig.client();
    client.exchange("www");
    // What has been received was taken by `exchange`.
    let mut sent = 250;
    for _ in 0..2 {
        rig.memory.advance(SECOND);
        sent += client.received().len();
    }
    assert_eq!(sent, 2250);
    assert_eq!(rig.seen.borrow().drained, 0);
    rig.memory.advance(SECOND);
    sent += client.received().len();
    assert_eq!((sent, rig.seen.borrow().drained), (3000, 1));
    assert_eq!(factory.counts().bytes_written, 3000);
}

/// PO-09.
#[test]
fn connections_share_a_limit_evenly() {
    let rig = Rig::new();
    rig.listen(ThrottlingFactory::new(rig.factory()).write_limit(900));
    let clients = [rig.client(), rig.client(), rig.client()];
    for client in &clients {
        client.send("w".repeat(100));
    }
    rig.memory.advance(10 * SECOND);
    let shares: Vec<usize> = clients
        .iter()
        .map(|client| client.received().len())
        .collect();
    assert_eq!(shares.iter().sum::<usize>(), 225 + 9000);
    for share in &shares[1..] {
        assert!(share.abs_diff(3000) <= 30, "{shares:?}");
    }
}

/// PO-09: with fewer bytes than connections, everybody has one sooner or later.
#[test]
fn nobody_starves_at_a_limit_below_the_number_of_connections() {
    let rig = Rig::new();
    rig.listen(ThrottlingFactory::new(rig.factory()).write_limit(1));
    let clients: Vec<_> = (0..5).map(|_| rig.client()).collect();
    for client in &clients {
        client.send("w");
    }
    rig.memory.advance(20 * SECOND);
    for client in &clients {
        assert!(client.received().len() >= 4);
    }
}

/// PO-10.
#[test]
fn limits_for_each_connection_are_not_shared() {
    let rig = Rig::new();
    rig.listen(ThrottlingFactory::per_connection(rig.factory()).read_limit(1000));
    let clients = [rig.client(), rig.client()];
    for client in &clients {
        client.send([b'.'; 5000]);
    }
    rig.memory.advance(SECOND);
    assert_eq!(rig.received(), 2 * 1250);
}

/// PO-11.
#[test]
fn a_limit_that_is_not_reached_has_no_delayed_call() {
    let rig = Rig::new();
    let factory = ThrottlingFactory::new(rig.factory())
        .read_limit(1000)
        .write_limit(1000);
    rig.listen(factory);
    let client = rig.client();
    client.exchange([b'.'; 100]);
    assert!(rig.memory.time_source().delayed_calls().is_empty());
    client.exchange([b'.'; 400]);
    assert_eq!(rig.memory.time_source().delayed_calls().len(), 1);
    drop(client);
    rig.memory.advance(2 * SECOND);
    assert_eq!((rig.received(), rig.seen.borrow().lost), (500, 1));
    assert!(rig.memory.time_source().delayed_calls().is_empty());
}

/// PO-11: also where the one who waits is gone.
#[test]
fn a_connection_that_is_lost_while_it_waits_costs_nobody_anything() {
    let rig = Rig::new();
    rig.listen(ThrottlingFactory::new(rig.factory()).write_limit(1000));
    let (first, second) = (rig.client(), rig.client());
    first.exchange("wwwwwwwwww");
    second.exchange("w");
    first.reset();
    rig.memory.advance(SECOND);
    assert_eq!(second.received().len(), 1000, "all that there is");
}

/// PO-13.
#[test]
fn pausing_holds_under_a_limit() {
    let rig = Rig::new();
    rig.listen(ThrottlingFactory::new(rig.factory()).read_limit(1000));
    let client = rig.client();
    client.exchange([b'.'; 3000]);
    let transport = client.transport().expect("it is connected");
    transport.pause_producing();
    rig.memory.advance(10 * SECOND);
    assert_eq!(rig.received(), 250);
    transport.resume_producing();
    rig.memory.advance(SECOND);
    assert!(
        (1000..=1600).contains(&rig.received()),
        "{}",
        rig.received()
    );
    rig.memory.advance(2 * SECOND);
    assert_eq!(rig.received(), 3000);
}

/// PO-14.
#[test]
fn a_connection_that_is_closed_sends_everything_first() {
    let rig = Rig::new();
    rig.listen(ThrottlingFactory::new(rig.factory()).write_limit(1000));
    let client = rig.client();
    let first = client.exchange("wq and the rest").len();
    assert!(!client.has_ended());
    rig.memory.advance(SECOND);
    assert_eq!(first + client.received().len(), 1000);
    assert!(client.has_ended() && !client.is_reset());
}

/// PO-12: a rate of one byte a second passes one, and the largest passes all.
#[test]
fn limits_hold_at_their_extremes() {
    for (limit, want) in [(1, 1 + 10), (u64::MAX, 100_000)] {
        let rig = Rig::new();
        rig.listen(
            ThrottlingFactory::new(rig.factory())
                .read_limit(limit)
                .write_limit(limit),
        );
        let client = rig.client();
        client.send(vec![b'.'; 100_000]);
        rig.memory.advance(10 * SECOND);
        assert_eq!(rig.received(), want);
    }
}

#[test]
#[should_panic(expected = "write_limit of a ThrottlingFactory takes 1 byte a second or more")]
fn a_limit_of_nothing_is_refused_with_a_sentence() {
    let _ = ThrottlingFactory::new(Rig::new().factory()).write_limit(0);
}

/// PO-07, PO-08: over real sockets, in both directions, nothing is lost or made up.
#[test]
fn sockets_pass_everything_under_a_limit() -> Result<(), Failure> {
    struct Client(Rc<RefCell<Vec<u8>>>);
    impl Protocol for Client {
        fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
            let numbers: Vec<u8> = (0..200_000_u32)
                .map(|number| (number % 251) as u8)
                .collect();
            transport.write(&numbers);
            transport.lose_write_connection();
            Ok(())
        }
        fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
            self.0.borrow_mut().extend_from_slice(data);
            Ok(())
        }
        fn read_connection_lost(&mut self, transport: &Transport) {
            let stopped = transport.reactor().map(|reactor| reactor.stop());
            assert!(matches!(stopped, Some(Ok(()))));
        }
    }
    struct Echo;
    impl Protocol for Echo {
        fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
            transport.write(data);
            Ok(())
        }
    }
    let reactor = deferred_reactor::Reactor::new()?;
    let factory = ThrottlingFactory::new(for_protocol(|| Echo));
    let factory = factory.read_limit(500_000).write_limit(500_000);
    let port = reactor.listen_tcp("127.0.0.1:0", factory)?;
    let received: Rc<RefCell<Vec<u8>>> = Rc::default();
    drop(reactor.connect_protocol(
        port.address().socket_addr().unwrap(),
        Client(received.clone()),
    ));
    reactor.run()?;
    let received = received.borrow();
    assert_eq!(received.len(), 200_000);
    let is_right = |(index, byte): (usize, &u8)| *byte == (index % 251) as u8;
    assert!(received.iter().enumerate().all(is_right));
    Ok(())
}
