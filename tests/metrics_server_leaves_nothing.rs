//! A metrics server that has stopped has left nothing behind. Alone in its process, as it counts
//! what that holds.

mod scrape;

use std::net::SocketAddr;

use prometheus::Registry;
use prometheus_deferred::{Failure, MetricsServer};

/// P-17. Each one listens where the one before did, whose connections are still remembered there.
#[test]
fn a_thousand_servers_on_one_port_leave_no_thread_and_no_descriptor() -> Result<(), Failure> {
    let start = |address: SocketAddr| MetricsServer::spawn_with_registry(address, Registry::new());
    let before = held();
    let first = start(scrape::own_address(4))?;
    let address = first.address();
    first.stop();
    for round in 0..1000 {
        let server = start(address)?;
        if round % 10 == 0 {
            assert_eq!(scrape::get(address, "/metrics").status, 200);
        }
        if round % 20 == 0 {
            assert!(start(address).is_err()); // and one that has failed leaves as little
        }
        server.stop();
    }
    // The system takes a moment to forget a thread that has ended.
    let start = std::time::Instant::now();
    while held() != before && start.elapsed() < scrape::PATIENCE {
        std::thread::yield_now();
    }
    assert_eq!(held(), before);
    Ok(())
}

/// How many threads and descriptors the process has; none where the system does not tell.
fn held() -> [usize; 2] {
    ["/proc/self/task", "/proc/self/fd"]
        .map(|path| std::fs::read_dir(path).map_or(0, Iterator::count))
}
