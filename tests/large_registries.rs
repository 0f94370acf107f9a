//! A scrape of a large registry does not hold up the other requests of its reactor.

mod scrape;

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};
use prometheus_deferred::MetricsResource;
use prometheus_deferred::web::{Rendered, Request, Resource, Tree};
use scrape::Served;

/// Gathers many samples; says when it begins, and waits to be let go on.
struct Gate {
    samples: IntGaugeVec,
    begun: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Collector for Gate {
    fn desc(&self) -> Vec<&Desc> {
        self.samples.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _ = self.begun.send(());
        let _ = self.go_on.lock().unwrap().recv();
        self.samples.collect()
    }
}

/// Says how many scrapes have come since the first.
struct Count(Rc<Cell<i32>>);

impl Resource for Count {
    fn render_get(&self, _: Request) -> Rendered {
        (self.0.get() - 1).to_string().into()
    }
}

/// Counts the scrapes that come.
struct Counted(Rc<Cell<i32>>, MetricsResource);

impl Resource for Counted {
    fn render_get(&self, request: Request) -> Rendered {
        self.0.set(self.0.get() + 1);
        self.1.render_get(request)
    }
}

/// B-09, and B-10 in part. Proven without a clock: the other request is answered while the scrape cannot go on.
#[test]
fn others_are_answered_while_a_large_registry_is_gathered() {
    let registry = Registry::new();
    let samples = IntGaugeVec::new(Opts::new("room_celsius", "Rooms."), &["room"]).unwrap();
    for room in 0..10_000 {
        let room = format!("a room with a rather long name, number {room}");
        samples.with_label_values(&[&room]).set(20);
    }
    let (begun, has_begun) = channel();
    let (let_go, go_on) = channel();
    let gate = Gate {
        samples,
        begun,
        go_on: Arc::new(Mutex::new(go_on)),
    };
    registry.register(Box::new(gate)).unwrap();
    let server = Served::start(move || {
        let root = Tree::new();
        let scrapes = Rc::new(Cell::new(0));
        root.put_child("waiting", Count(scrapes.clone()));
        // The page goes through a resource that counts who has come.
        let metrics = MetricsResource::with_registry(registry);
        root.put_child("metrics", Counted(scrapes, metrics));
        root
    });

    // The first scrape tells the reactor how large this registry is.
    let_go.send(()).unwrap();
    let first = server.get("/metrics");
    has_begun.recv().unwrap();

    let address = server.address;
    let ask = move || std::thread::spawn(move || scrape::get(address, "/metrics"));
    let second = ask();
    has_begun.recv().unwrap();
    assert_eq!(server.get("/nowhere").status, 404);

    // Others who want the same wait for the same gathering: one word lets all of them go.
    let mut third = scrape::connect(address);
    write!(
        third,
        "GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    while server.get("/waiting").text() != "2" {}
    let_go.send(()).unwrap();
    let second = second.join().unwrap();
    assert_eq!(second.status, 200);
    assert_eq!(second.body, first.body);
    assert_eq!(second.text().matches("\nroom_celsius{").count(), 10_000);
    let mut answer = String::new();
    third.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(second.text()));
    assert!(
        has_begun.try_recv().is_err(),
        "it was gathered once for both"
    );
}
