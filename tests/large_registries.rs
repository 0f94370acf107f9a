//! A scrape of a large registry does not hold up the other requests of its reactor.

mod scrape;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};
use prometheus_deferred::MetricsResource;
use prometheus_deferred::web::Tree;
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

/// B-09. Proven without a clock: the other request is answered while the scrape cannot go on.
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
        root.put_child("metrics", MetricsResource::with_registry(registry));
        root.put_child("small", MetricsResource::with_registry(Registry::new()));
        root
    });

    // The first scrape tells the reactor how large this registry is.
    let_go.send(()).unwrap();
    let first = server.get("/metrics");
    has_begun.recv().unwrap();

    let address = server.address;
    let scrape = std::thread::spawn(move || scrape::get(address, "/metrics"));
    has_begun.recv().unwrap();
    assert_eq!(server.get("/nowhere").status, 404);
    let_go.send(()).unwrap();
    let second = scrape.join().unwrap();
    assert_eq!(second.status, 200);
    assert_eq!(second.body, first.body);
    assert_eq!(second.text().matches("\nroom_celsius{").count(), 10_000);
}
