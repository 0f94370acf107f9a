//! What goes around a protocol or a factory hides nothing from it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::Failure;
use deferred_reactor::net::{Address, Factory, Port, Protocol, Transport};
use deferred_reactor::policies::{LimitConnectionsFactory, ThrottlingFactory};
use deferred_reactor::protocols::{
    LineProtocol, LineReceiver, LineTransport, NetstringReceiver, StringProtocol, StringTransport,
    TimeoutProtocol,
};
use deferred_reactor::testing::MemoryReactor;

type Journal = Rc<RefCell<Vec<String>>>;

/// Notes all that it is told, and writes more than its peer takes.
struct Noting(Journal);

impl Noting {
    fn note(&self, what: &str) {
        self.0.borrow_mut().push(what.to_owned());
    }

    fn begin(&self, transport: &Transport) {
        self.note("made");
        transport.write(&[b'x'; 1000]);
    }

    fn read_end(&self, transport: &Transport) {
        self.note("read lost");
        transport.lose_write_connection();
    }
}

macro_rules! endings {
    ($handle:ty, $transport:expr) => {
        fn read_connection_lost(&mut self, handle: &$handle) {
            self.read_end($transport(handle));
        }
        fn peer_closed(&mut self, handle: &$handle) {
            self.note("peer closed");
            $transport(handle).resume_producing();
        }
        fn write_connection_lost(&mut self, _: &$handle) {
            self.note("write lost");
        }
        fn write_blocked(&mut self, _: &$handle) {
            self.note("blocked");
        }
        fn write_drained(&mut self, handle: &$handle) {
            self.note("drained");
            $transport(handle).pause_producing();
        }
        fn connection_lost(&mut self, reason: &Failure) {
            self.note(&format!("lost: {reason}"));
        }
    };
}

impl Protocol for Noting {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        self.begin(transport);
        Ok(())
    }
    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.note(&format!("got {}", String::from_utf8_lossy(data)));
        Ok(())
    }
    endings!(Transport, |transport| transport);
}

impl LineProtocol for Noting {
    fn connection_made(&mut self, lines: &LineTransport) -> Result<(), Failure> {
        self.begin(lines.transport());
        Ok(())
    }
    fn line_received(&mut self, _: &LineTransport, line: &[u8]) -> Result<(), Failure> {
        self.note(&format!("got {}", String::from_utf8_lossy(line)));
        Ok(())
    }
    endings!(LineTransport, LineTransport::transport);
}

impl StringProtocol for Noting {
    fn connection_made(&mut self, strings: &StringTransport) -> Result<(), Failure> {
        self.begin(strings.transport());
        Ok(())
    }
    fn string_received(&mut self, _: &StringTransport, string: &[u8]) -> Result<(), Failure> {
        self.note(&format!("got {}", String::from_utf8_lossy(string)));
        Ok(())
    }
    endings!(StringTransport, StringTransport::transport);
}

/// What a protocol is told in a life with everything in it, where it is sent `message`.
fn life<P: Protocol>(message: &str, protocol: impl FnOnce(Noting) -> P) -> Vec<String> {
    let journal: Journal = Rc::default();
    let memory = MemoryReactor::new();
    let peer = memory.connect(protocol(Noting(journal.clone())));
    peer.block_writes(10);
    peer.exchange(message);
    peer.unblock_writes();
    memory.pump(); // which pauses the protocol
    peer.exchange(message);
    peer.close_sending();
    memory.pump();
    journal.take()
}

/// PR-30.
#[test]
fn a_protocol_is_told_everything_whatever_goes_around_it() {
    let plain = life("hello", |noting| noting);
    let want = [
        "made",
        "blocked",
        "got hello",
        "drained",
        "peer closed",
        "got hello",
        "read lost",
        "write lost",
    ];
    assert_eq!(plain[..8], want);
    assert!(plain[8].starts_with("lost: "), "{plain:?}");
    assert_eq!(
        life("hello\n", |noting| LineReceiver::new(noting)
            .delimiter("\n")),
        plain
    );
    assert_eq!(life("5:hello,", NetstringReceiver::new), plain);
    let minute = Duration::from_secs(60);
    assert_eq!(
        life("hello", |noting| TimeoutProtocol::idle(minute, noting)),
        plain
    );
    let around = |factory: Box<dyn Fn(Noting) -> Box<dyn Protocol>>| {
        life("hello", move |noting| Boxed(factory(noting)))
    };
    assert_eq!(
        around(Box::new(|noting| build(&LimitConnectionsFactory::new(
            One::of(noting)
        )))),
        plain
    );
    let fast = |noting| {
        ThrottlingFactory::new(One::of(noting))
            .read_limit(u64::MAX)
            .write_limit(u64::MAX)
    };
    assert_eq!(around(Box::new(move |noting| build(&fast(noting)))), plain);
}

/// PR-30: and so is a factory.
#[test]
fn a_factory_is_told_everything_whatever_goes_around_it() -> Result<(), Failure> {
    let life = |around: fn(One) -> Box<dyn Factory>| -> Result<_, Failure> {
        let journal: Journal = Rc::default();
        let memory = MemoryReactor::new();
        let factory = around(One::of(Noting(journal.clone())));
        let port = memory.listen_tcp("127.0.0.1:7", Rc::<dyn Factory>::from(factory))?;
        drop(port.stop_listening());
        Ok(journal.take())
    };
    let plain = life(|one| Box::new(one))?;
    assert_eq!(plain, ["started", "port opened", "stopped"]);
    assert_eq!(
        life(|one| Box::new(LimitConnectionsFactory::new(one)))?,
        plain
    );
    assert_eq!(life(|one| Box::new(ThrottlingFactory::new(one)))?, plain);
    Ok(())
}

/// PR-30: a slow callback is named after the protocol inside.
#[test]
fn a_wrapped_protocol_keeps_its_name() {
    let noting = || Noting(Journal::default());
    let minute = Duration::from_secs(60);
    let wrapped: [Box<dyn Protocol>; 5] = [
        Box::new(LineReceiver::new(noting())),
        Box::new(NetstringReceiver::new(noting())),
        Box::new(TimeoutProtocol::idle(minute, noting())),
        build(&LimitConnectionsFactory::new(One::of(noting()))),
        build(&ThrottlingFactory::new(One::of(noting()))),
    ];
    for protocol in wrapped {
        assert_eq!(protocol.type_name(), std::any::type_name::<Noting>());
    }
}

/// PR-30: methods that the traits get later. A default method that a wrapper does not forward compiles,
/// and hides from the protocol inside what has happened.
#[test]
fn wrappers_forward_every_method() {
    let traits = concat!(
        include_str!("../src/net/protocol.rs"),
        include_str!("../src/net/client_factory.rs")
    );
    let wrappers = [
        include_str!("../src/net/protocol.rs"),
        include_str!("../src/net/client_factory.rs"),
        include_str!("../src/net/reconnecting.rs"),
        include_str!("../src/policies/wrapper.rs"),
        include_str!("../src/policies/limit_connections.rs"),
        include_str!("../src/policies/throttling.rs"),
        include_str!("../src/protocols/timeout.rs"),
        include_str!("../src/protocols/line.rs"),
        include_str!("../src/protocols/strings.rs"),
    ];
    let mut seen = 0;
    for (name, types) in [
        (
            "Protocol",
            &[
                "ProtocolWrapper",
                "TimeoutProtocol",
                "LineReceiver",
                "StringReceiver",
            ][..],
        ),
        (
            "Factory",
            &[
                "Rc",
                "ReconnectingClientFactory",
                "LimitConnectionsFactory",
                "ThrottlingFactory",
            ],
        ),
        (
            "ClientFactory",
            &["Rc", "ReconnectingClientFactory", "ThrottlingFactory"],
        ),
    ] {
        let methods = methods_of(traits, &format!("pub trait {name}: "));
        assert!(methods.len() > 2, "{methods:?}");
        for one in types {
            let head = format!("> {name} for {one}<");
            let source = wrappers.iter().find(|source| source.contains(&head));
            let source = source.unwrap_or_else(|| panic!("no file has \"{head}\""));
            // The protocol inside a receiver gets messages and never the bytes as they came, so it
            // cannot ask for pieces that it may keep.
            let is_receiver = one.ends_with("Receiver");
            let mut methods = methods.clone();
            methods.retain(|name| !(is_receiver && *name == "bytes_received"));
            assert_eq!(methods_of(source, &head), methods, "{head}");
            seen += 1;
        }
    }
    assert_eq!(seen, 11);
}

/// The names of the functions in the block whose first line contains `head`, sorted.
fn methods_of<'a>(source: &'a str, head: &str) -> Vec<&'a str> {
    let lines = source.lines().skip_while(|line| !line.contains(head));
    let block = lines.take_while(|line| *line != "}");
    let mut names: Vec<&str> = block
        .filter_map(|line| line.strip_prefix("    fn ")?.split('(').next())
        .collect();
    names.sort_unstable();
    names
}

/// Makes one protocol.
struct One(RefCell<Option<Noting>>, Journal);

impl One {
    fn of(noting: Noting) -> Self {
        let journal = noting.0.clone();
        Self(RefCell::new(Some(noting)), journal)
    }
}

impl Factory for One {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(self.0.take()?))
    }
    fn port_opened(&self, _: &Port) {
        self.1.borrow_mut().push("port opened".to_owned());
    }
    fn start_factory(&self) {
        self.1.borrow_mut().push("started".to_owned());
    }
    fn stop_factory(&self) {
        self.1.borrow_mut().push("stopped".to_owned());
    }
}

fn build(factory: &impl Factory) -> Box<dyn Protocol> {
    let peer = Address::Tcp(([127, 0, 0, 1], 7).into());
    factory.build_protocol(&peer).expect("the first")
}

/// A protocol that a factory has made, as one that a test connects.
struct Boxed(Box<dyn Protocol>);

impl Protocol for Boxed {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        self.0.connection_made(transport)
    }
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.0.data_received(transport, data)
    }
    fn read_connection_lost(&mut self, transport: &Transport) {
        self.0.read_connection_lost(transport);
    }
    fn peer_closed(&mut self, transport: &Transport) {
        self.0.peer_closed(transport);
    }
    fn write_connection_lost(&mut self, transport: &Transport) {
        self.0.write_connection_lost(transport);
    }
    fn write_blocked(&mut self, transport: &Transport) {
        self.0.write_blocked(transport);
    }
    fn write_drained(&mut self, transport: &Transport) {
        self.0.write_drained(transport);
    }
    fn connection_lost(&mut self, reason: &Failure) {
        self.0.connection_lost(reason);
    }
}
