//! Sockets that somebody else has opened.

mod peers;

use std::cell::Cell;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use deferred_reactor::net::{Protocol, Transport, for_protocol};
use deferred_reactor::testing::MemoryReactor;
use deferred_reactor::{Failure, Reactor};
use peers::Watchdog;

/// Says hello and good bye.
struct Greets(Rc<Cell<u32>>);

impl Protocol for Greets {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        self.0.set(self.0.get() + 1);
        transport.write(b"hello");
        transport.lose_connection();
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

/// SD-06: and whoever has connected before is greeted.
#[test]
fn a_tcp_socket_that_listens_can_be_adopted() -> Result<(), Failure> {
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new()?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    let mut waits_already = TcpStream::connect(address)?;
    let greeted = Rc::new(Cell::new(0));
    let count = greeted.clone();
    let port = reactor.adopt_tcp_listener(socket, for_protocol(move || Greets(count.clone())))?;
    assert_eq!(port.address().socket_addr(), Some(address));
    while greeted.get() == 0 {
        reactor.turn_once(Duration::MAX)?;
    }
    let mut greeting = String::new();
    waits_already.read_to_string(&mut greeting)?;
    assert_eq!(greeting, "hello");
    drop(port.stop_listening());
    TcpListener::bind(address)?; // the socket is closed with the port
    Ok(())
}

/// SD-06: the file is not ours.
#[cfg(unix)]
#[test]
fn a_unix_socket_that_listens_can_be_adopted() -> Result<(), Failure> {
    use std::os::unix::net::{UnixListener, UnixStream};
    let path = std::env::temp_dir().join(format!("adopted-{}.sock", std::process::id()));
    let socket = UnixListener::bind(&path)?;
    let mut waits_already = UnixStream::connect(&path)?;
    let _watchdog = Watchdog::new();
    let reactor = Reactor::new()?;
    let greeted = Rc::new(Cell::new(0));
    let count = greeted.clone();
    let port = reactor.adopt_unix_listener(socket, for_protocol(move || Greets(count.clone())))?;
    assert_eq!(port.address().path(), Some(path.as_path()));
    while greeted.get() == 0 {
        reactor.turn_once(Duration::MAX)?;
    }
    let mut greeting = String::new();
    waits_already.read_to_string(&mut greeting)?;
    assert_eq!(greeting, "hello");
    drop(port.stop_listening());
    assert!(path.exists());
    std::fs::remove_file(&path)?;
    Ok(())
}

#[test]
fn a_reactor_in_memory_adopts_no_sockets() -> Result<(), Failure> {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let want = format!(
        "cannot listen on {}: a reactor in memory",
        socket.local_addr()?
    );
    let memory = MemoryReactor::new();
    let factory = for_protocol(|| Greets(Rc::default()));
    let error = memory
        .reactor()
        .adopt_tcp_listener(socket, factory)
        .unwrap_err();
    let text = format!("{:?}", Failure::from(error));
    assert!(text.starts_with(&want), "{text}");
    Ok(())
}
