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
use prometheus_deferred::protocols::{LineProtocol, LineReceiver, LineTransport};
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
struct Lines;

impl LineProtocol for Lines {
    fn connection_made(&mut self, lines: &LineTransport) -> Result<(), Failure> {
        for line in ["a line", "another one", "good bye"] {
            lines.send_line(line);
        }
        Ok(())
    }

    fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
        println!("the server said: {}", std::str::from_utf8(line)?);
        if line == b"good bye" {
            lines.lose_connection();
        }
        Ok(())
    }
}

/// Makes the client's end, and stops the reactor once there is none any more.
struct LinesFactory;

impl Factory for LinesFactory {
    fn build_protocol(&self, _: &Address) -> Option<Box<dyn Protocol>> {
        Some(Box::new(LineReceiver::new(Lines)))
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
