//! A TCP server and its client in one program: what the client says comes back, and then all stops.
//!
//! ```text
//! cargo run --release --example echo                 # or: ... --example echo 127.0.0.1:0
//! listening on 127.0.0.1:8000
//! the server said: a line
//! the server said: another one
//! the server said: good bye
//! connection lost: the connection was closed cleanly
//! ```

use prometheus_deferred::net::{Address, ClientFactory, Connector, Factory};
use prometheus_deferred::net::{Protocol, Transport, for_protocol};
use prometheus_deferred::{Failure, Reactor};

/// The server's end of a connection: sends everything back.
struct Echo;

impl Protocol for Echo {
    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        transport.write(data);
        Ok(())
    }
}

/// The client's end: says its lines, and hangs up when the last one is back.
#[derive(Default)]
struct Lines {
    received: String,
}

impl Protocol for Lines {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        transport.write(b"a line\nanother one\ngood bye\n");
        Ok(())
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        // Bytes come in any number: a line may be cut anywhere.
        self.received += std::str::from_utf8(data)?;
        while let Some((line, rest)) = self.received.split_once('\n') {
            println!("the server said: {line}");
            if line == "good bye" {
                transport.lose_connection();
            }
            self.received = rest.to_owned();
        }
        Ok(())
    }
}

/// Makes the client's end, and stops the reactor once there is none any more.
struct LinesFactory;

impl Factory for LinesFactory {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(Lines::default()))
    }
}

impl ClientFactory for LinesFactory {
    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        println!("connection failed: {reason}");
        stop(connector);
    }

    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        println!("connection lost: {reason}");
        stop(connector);
    }
}

fn stop(connector: &Connector) {
    // It may be stopping already, and lose the connection because of that.
    let _ = connector.reactor().map(|reactor| reactor.stop());
}

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let reactor = Reactor::new()?;
    let port = reactor.listen_tcp(address, for_protocol(|| Echo))?;
    println!("listening on {}", port.address());
    reactor.connect_tcp(port.address().to_string(), LinesFactory);
    reactor.run()
}
