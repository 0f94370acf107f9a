//! Server-sent events: what one posts, every open page is told. Pages come and go, and some are slow.
//!
//! ```text
//! cargo run --release --example events               # or: ... --example events 127.0.0.1:0
//! listening on http://127.0.0.1:8000/
//!
//! curl -N http://127.0.0.1:8000/events               # and open the page in a browser
//! curl -d hello http://127.0.0.1:8000/               # in another terminal
//! told 2 clients
//! ```

use std::{cell::RefCell, rc::Rc};

use prometheus_deferred::web::{Html, Klein, Method, NOT_DONE_YET, Request, Site, header};
use prometheus_deferred::{Failure, Reactor};

/// A client that has more than this waiting for it is not told the next events, only their number.
const ENOUGH_BYTES: usize = 64 * 1024;

/// A client that has missed so many may come back when it has the time.
const MOST_MISSED: u64 = 1000;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Events</title>
<form id="form"><input id="text" placeholder="say something" autofocus></form>
<pre id="told"></pre>
<script>
const events = new EventSource("/events");
events.onmessage = event => told.append(event.data + "\n");
events.addEventListener("missed", event => told.append(event.data + " events were missed\n"));
form.onsubmit = () => { fetch("/", {method: "POST", body: text.value}); form.reset(); return false; };
</script>
"#;

struct Client {
    request: Request,
    missed: u64,
}

#[derive(Default)]
struct Clients(RefCell<Vec<Client>>);

impl Clients {
    /// Adds a client, which gets an event stream from now on.
    fn add(self: &Rc<Self>, mut request: Request) {
        request.set_header(header::CONTENT_TYPE, "text/event-stream");
        request.set_header(header::CACHE_CONTROL, "no-store");
        request.write(": welcome\n\n");
        // At the end of the program, so that it does not wait for pages that are open.
        let clients = self.clone();
        let drain = request.notify_drain().map(move |()| {
            for client in clients.0.take() {
                client.request.finish();
            }
        });
        drain.add_errback(|_gone| Ok(()));
        self.0.borrow_mut().push(Client { request, missed: 0 });
    }

    /// Tells everybody who is still there, and how many that are.
    fn tell(&self, text: &str) -> usize {
        let lines = text.lines().map(|line| format!("data: {line}\n"));
        let event = lines.collect::<String>() + "\n";
        let mut clients = self.0.borrow_mut();
        for mut client in std::mem::take(&mut *clients) {
            if !client.request.is_connected() || client.missed > MOST_MISSED {
                client.request.finish();
                continue;
            }
            if client.request.buffered() > ENOUGH_BYTES {
                client.missed += 1;
            } else {
                if client.missed > 0 {
                    let missed = std::mem::take(&mut client.missed);
                    let event = format!("event: missed\ndata: {missed}\n\n");
                    client.request.write(event);
                }
                client.request.write(&event);
            }
            clients.push(client);
        }
        clients.len()
    }
}

fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8000".into());
    let (reactor, clients, mut app) = (Reactor::new()?, Rc::<Clients>::default(), Klein::new());
    let new = clients.clone();
    app.route("/events", move |request| {
        new.add(request);
        NOT_DONE_YET
    })
    .methods([Method::GET]);
    app.route("/", |_| Html(PAGE)).methods([Method::GET]);
    app.route("/", move |request| {
        let told = clients.tell(&String::from_utf8_lossy(request.body()));
        format!("told {told} clients\n")
    })
    .methods([Method::POST]);
    let port = reactor.listen_tcp(address, Site::new(app.resource()))?;
    println!("listening on http://{}/", port.address());
    reactor.run()
}
