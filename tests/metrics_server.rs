//! Servers for metrics and nothing else: `start_http_server`, and `MetricsServer` in its thread.

mod scrape;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry};
use prometheus_deferred::exposition::start_http_server_with_registry;
use prometheus_deferred::net::CannotListenError;
use prometheus_deferred::{
    Deferred, Failure, MetricsServer, Reactor, defer_to_thread, start_http_server, track_inprogress,
};
use scrape::{connect, get, own_address};

/// P-16.
#[test]
fn start_http_server_tells_its_address_and_serves_until_it_is_closed() -> Result<(), Failure> {
    let registry = answer_registry();
    let reactor = Reactor::new()?;
    let asked = own_address(1);
    let server = start_http_server_with_registry(&reactor, asked, registry).result()?;
    let address = server.address();
    assert_eq!(address.ip(), asked.ip());
    assert_ne!(address.port(), 0);
    assert_eq!(server.url(), format!("http://{address}/"));

    let (stop, later) = (reactor.clone(), reactor.clone());
    let visit = defer_to_thread(&reactor, move || {
        assert_pages(address);
        Ok(())
    });
    let ended = visit
        .add_callback(move |()| server.close())
        .add_callback(move |()| {
            defer_to_thread(&later, move || {
                assert_refused(address);
                Ok(())
            })
        })
        .add_both(move |result| {
            stop.stop()?;
            result
        });
    reactor.run_without_signals()?;
    ended.result()
}

/// P-16.
#[test]
fn start_http_server_fails_where_the_port_is_taken() -> Result<(), Failure> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let reactor = Reactor::new()?;
    let failure = start_http_server(&reactor, address).result().unwrap_err();
    assert_names(&failure, address);
    Ok(())
}

/// P-16, P-17.
#[test]
fn an_ipv6_address_stands_in_brackets() -> Result<(), Failure> {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        eprintln!("skipped, as there is no ::1 here: {error}");
        return Ok(());
    }
    let server = MetricsServer::spawn_with_registry("[::1]:0", answer_registry())?;
    let port = server.address().port();
    assert_eq!(server.url(), format!("http://[::1]:{port}/"));
    assert_pages(server.address());

    let reactor = Reactor::new()?;
    let server = start_http_server(&reactor, "[::1]:0").result()?;
    let port = server.address().port();
    assert_eq!(server.url(), format!("http://[::1]:{port}/"));
    Ok(())
}

/// P-17. In one line, from a program that knows no reactor.
#[test]
fn a_spawned_server_answers_when_spawn_returns_and_not_after_stop() -> Result<(), Failure> {
    let server = MetricsServer::spawn_with_registry(own_address(2), answer_registry())?;
    let address = server.address();
    assert_eq!(server.url(), format!("http://{address}/"));
    assert_pages(address);
    server.stop();
    assert_refused(address);
    Ok(())
}

/// P-17.
#[test]
fn a_dropped_server_is_a_stopped_server() -> Result<(), Failure> {
    let server = MetricsServer::spawn_with_registry(own_address(3), answer_registry())?;
    let address = server.address();
    drop(server);
    assert_refused(address);
    drop(TcpListener::bind(address)?);
    Ok(())
}

/// P-17.
#[test]
fn a_spawned_server_has_the_default_registry() -> Result<(), Failure> {
    let spawned = prometheus::register_int_counter!("spawned_total", "Spawned.")?;
    spawned.inc();
    let server = MetricsServer::spawn(("127.0.0.1", 0))?;
    let reply = get(server.address(), "/metrics");
    assert!(reply.text().contains("spawned_total 1\n"));
    Ok(())
}

/// P-17. Neither a client that says nothing nor one in the middle of a request holds it up.
#[test]
fn stop_does_not_wait_for_clients() -> Result<(), Failure> {
    let server = MetricsServer::spawn_with_registry("127.0.0.1:0", answer_registry())?;
    let silent = connect(server.address());
    let mut slow = connect(server.address());
    slow.write_all(b"GET /metrics HT").unwrap();
    let mut kept = connect(server.address());
    kept.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;
    kept.read_exact(&mut [0; 64])?; // it is answered, and stays open
    let (stops, stopped) = mpsc::channel();
    thread::spawn(move || {
        server.stop();
        stops.send(())
    });
    // A site would wait for the request in the middle for ten seconds.
    stopped
        .recv_timeout(Duration::from_secs(9))
        .expect("stop does not wait for clients");
    for mut client in [silent, slow, kept] {
        match client.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    Ok(())
}

/// P-17. There is no joining there, and no panic either.
#[test]
fn a_server_may_be_dropped_in_its_own_thread() -> Result<(), Failure> {
    struct Owner {
        scrapes: IntCounter,
        server: Arc<Mutex<Option<MetricsServer>>>,
        is_dropped: mpsc::Sender<()>,
    }
    impl Collector for Owner {
        fn desc(&self) -> Vec<&Desc> {
            self.scrapes.desc()
        }
        fn collect(&self) -> Vec<MetricFamily> {
            drop(self.server.lock().unwrap().take());
            self.is_dropped.send(()).unwrap();
            self.scrapes.collect()
        }
    }

    let registry = Registry::new();
    let slot = Arc::new(Mutex::new(None));
    let (is_dropped, dropped) = mpsc::channel();
    registry.register(Box::new(Owner {
        scrapes: IntCounter::new("scrapes_total", "Scrapes.")?,
        server: slot.clone(),
        is_dropped,
    }))?;
    let server = MetricsServer::spawn_with_registry("127.0.0.1:0", registry)?;
    let mut client = connect(server.address());
    *slot.lock().unwrap() = Some(server);
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")?;
    dropped.recv_timeout(scrape::PATIENCE).unwrap();
    let _ = client.read_to_end(&mut Vec::new()); // it ends, with the reactor or before
    Ok(())
}

/// P-17.
#[test]
fn spawn_fails_where_the_port_is_taken() -> Result<(), Failure> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let failure = MetricsServer::spawn(address).unwrap_err();
    assert_names(&failure, address);
    let failure = MetricsServer::spawn(address.to_string()).unwrap_err();
    assert_names(&failure, address);
    Ok(())
}

/// P-17.
#[test]
fn spawn_fails_where_the_address_is_none() {
    let failure = MetricsServer::spawn("127.0.0.1").unwrap_err();
    let error = failure.check::<CannotListenError>().unwrap();
    assert_eq!(error.address, "127.0.0.1");
    assert_eq!(error.cause.kind(), ErrorKind::InvalidInput);
}

/// B-08. Blocked until the scrapes are in, however long that takes.
#[test]
fn scrapes_show_what_blocks_the_main_reactor_while_it_does() -> Result<(), Failure> {
    let registry = Registry::new();
    let running = IntGauge::new("requests_in_progress", "On their way.")?;
    registry.register(Box::new(running.clone()))?;
    let metrics = MetricsServer::spawn_with_registry("127.0.0.1:0", registry)?;
    let address = metrics.address();

    let (is_blocked, blocked) = mpsc::channel();
    let (scraped, has_scraped) = mpsc::channel();
    let scraper = thread::spawn(move || {
        blocked.recv_timeout(scrape::PATIENCE).unwrap();
        let bodies: Vec<_> = (0..20).map(|_| get(address, "/metrics").body).collect();
        scraped.send(()).unwrap();
        bodies
    });

    let reactor = Reactor::new()?;
    let stop = reactor.clone();
    let gauge = running.clone();
    reactor.call_when_running(move || {
        let request = track_inprogress(&gauge, || {
            is_blocked.send(()).unwrap();
            let _ = has_scraped.recv_timeout(scrape::PATIENCE); // an error if the scraper panicked
            Deferred::succeed(())
        });
        drop(request.map(move |()| stop.stop().unwrap()));
    });
    reactor.run_without_signals()?;

    for body in scraper.join().unwrap() {
        let text = String::from_utf8(body).unwrap();
        assert!(text.ends_with("\nrequests_in_progress 1\n"), "{text}");
    }
    let after = get(address, "/metrics");
    assert!(after.text().ends_with("\nrequests_in_progress 0\n"));
    Ok(())
}

/// The small page, and the metrics that it leads to.
fn assert_pages(address: SocketAddr) {
    let index = get(address, "/");
    assert_eq!(index.status, 200);
    assert!(index.text().contains("href=\"/metrics\""));
    let metrics = get(address, "/metrics");
    assert_eq!(metrics.status, 200);
    let want = "# HELP answer_total The answer.\n# TYPE answer_total counter\nanswer_total 42\n";
    assert_eq!(metrics.text(), want);
    assert_eq!(get(address, "/other").status, 404);
}

fn assert_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

fn assert_names(failure: &Failure, address: SocketAddr) {
    let error = failure.check::<CannotListenError>().expect("that error");
    assert_eq!(error.address, address.to_string());
    assert_eq!(error.cause.kind(), ErrorKind::AddrInUse);
    let sentence = format!("{failure:?}");
    assert!(sentence.contains(&address.to_string()), "{sentence}");
    assert!(sentence.contains(&error.cause.to_string()), "{sentence}");
}

fn answer_registry() -> Registry {
    let registry = Registry::new();
    let answer = IntCounter::new("answer_total", "The answer.").expect("a good name");
    answer.inc_by(42);
    registry.register(Box::new(answer)).expect("new");
    registry
}
