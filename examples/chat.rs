//! A chat: what one says in a line, everybody reads. How many are in the room is a gauge.
//!
//! ```text
//! cargo run --release --example chat                 # or: ... --example chat 127.0.0.1:0 127.0.0.1:0
//! listening on 127.0.0.1:6667
//! metrics at http://127.0.0.1:8000/metrics
//! # and then, in two terminals or more:  nc 127.0.0.1 6667
//! ```

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::LazyLock, time::Duration};

use prometheus::{IntGauge, register_int_gauge};
use prometheus_deferred::net::for_protocol;
use prometheus_deferred::protocols::{ConnectionTimeout, TimeoutProtocol};
use prometheus_deferred::protocols::{LineProtocol, LineReceiver, LineTransport};
use prometheus_deferred::{Failure, MetricsServer, Reactor};

static GUESTS: LazyLock<IntGauge> =
    LazyLock::new(|| register_int_gauge!("chat_guests", "Guests in the room.").unwrap());

/// Everybody who has a nickname.
type Room = RefCell<BTreeMap<String, LineTransport>>;

fn tell(room: &Room, text: &str) {
    for guest in room.borrow().values() {
        guest.send_line(text);
        if guest.transport().buffered() > 64 * 1024 {
            guest.transport().abort_connection(); // who does not read gets no more memory
        }
    }
    GUESTS.set(room.borrow().len() as i64);
}

/// One of them, or somebody who has half a minute to give a name.
struct Guest {
    room: Rc<Room>,
    timeout: ConnectionTimeout,
    name: Option<String>,
}

impl LineProtocol for Guest {
    fn connection_made(&mut self, lines: &LineTransport) -> Result<(), Failure> {
        lines.send_line("your nickname?");
        Ok(())
    }

    fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
        let line = String::from_utf8_lossy(line).replace(char::is_control, "");
        if let Some(name) = &self.name {
            tell(&self.room, &format!("{name}: {line}"));
        } else if line.is_empty() || self.room.borrow().contains_key(&line) {
            lines.send_line("another one, please");
            return Ok(()); // within the same time
        } else {
            self.name = Some(line.clone());
            self.room.borrow_mut().insert(line.clone(), lines.clone());
            tell(&self.room, &format!("{line} has come"));
        }
        self.timeout.set_timeout(Duration::from_secs(600)); // to say something
        Ok(())
    }

    fn connection_lost(&mut self, _reason: &Failure) {
        if let Some(name) = self.name.take() {
            self.room.borrow_mut().remove(&name);
            tell(&self.room, &format!("{name} is gone"));
        }
    }
}

fn main() -> Result<(), Failure> {
    let address = |number, default: &str| std::env::args().nth(number).unwrap_or(default.into());
    let (reactor, room) = (Reactor::new()?, Rc::<Room>::default());
    let guests = for_protocol(move || {
        TimeoutProtocol::new(Duration::from_secs(30), |timeout| {
            LineReceiver::new(Guest {
                room: room.clone(),
                timeout,
                name: None,
            })
            .delimiter("\n")
        })
    });
    let port = reactor.listen_tcp(address(1, "127.0.0.1:6667"), guests)?;
    println!("listening on {}", port.address());
    let metrics = MetricsServer::spawn(address(2, "127.0.0.1:8000"))?;
    println!("metrics at {}metrics", metrics.url());
    reactor.run()
}
