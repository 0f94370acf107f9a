//! Servers for metrics and nothing else.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use deferred_reactor::net::{CannotListenError, ListenAddress, Port};
use deferred_reactor::{Deferred, Failure, Reactor, RemoteReactor};
use prometheus::Registry;

use super::MetricsResource;
use crate::web::{Rendered, Request, Resource, Site, Tree, pages};

/// Serves metrics from a thread of its own.
///
/// For programs without a reactor, and for programs whose reactor may be busy when a scrape comes:
/// this server answers anyway, and its `/metrics` shows what the program's reactor is busy with.
///
/// ```
/// use prometheus_deferred::MetricsServer;
///
/// let server = MetricsServer::spawn("127.0.0.1:0")?;
/// println!("metrics at {}metrics", server.url());
/// server.stop(); // or leave it running: it stops when dropped
/// # Ok::<(), prometheus_deferred::Failure>(())
/// ```
///
/// `/metrics` has the metrics, and `/` a page that links to it.
pub struct MetricsServer {
    address: SocketAddr,
    remote: RemoteReactor,
    /// `None` once joined.
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Serves the default registry, which the `register_*!` macros use.
    ///
    /// Port 0 takes a free one. When this returns, the port is open and scrapes are answered.
    ///
    /// # Errors
    ///
    /// [`CannotListenError`] if the port cannot be opened; an `io::Error` if the system has no
    /// thread or descriptors left.
    pub fn spawn(address: impl Into<ListenAddress>) -> Result<Self, Failure> {
        Self::spawn_with_registry(address, prometheus::default_registry().clone())
    }

    /// Serves a registry of your own.
    ///
    /// # Errors
    ///
    /// As for [`spawn`](Self::spawn).
    pub fn spawn_with_registry(
        address: impl Into<ListenAddress>,
        registry: Registry,
    ) -> Result<Self, Failure> {
        let address = address.into();
        // Names are looked up here, so that the thread needs nothing of the caller's.
        let addresses: Vec<SocketAddr> = match address.to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(cause) => return Err(CannotListenError::new(&address, cause).into()),
        };
        let (tell, told) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("metrics-server".to_owned())
            .spawn(move || {
                let opened = open(&addresses, registry);
                let (reactor, outcome) = match opened {
                    Ok((reactor, address)) => {
                        let remote = reactor.remote();
                        (Some(reactor), Ok((address, remote)))
                    }
                    Err(failure) => (None, Err(failure)),
                };
                let _ = tell.send(outcome);
                if let Some(Err(failure)) = reactor.map(|reactor| reactor.run_without_signals()) {
                    deferred_reactor::logging::error!(target: "metrics", "the metrics server failed: {failure:#?}");
                }
            })?;
        match told.recv() {
            Ok(Ok((address, remote))) => Ok(Self {
                address,
                remote,
                thread: Some(thread),
            }),
            // Named as the caller did, and not as a list of what was looked up.
            Ok(Err(failure)) => Err(match failure.trap::<CannotListenError>() {
                Ok(error) => CannotListenError::new(&address, error.cause).into(),
                Err(failure) => failure,
            }),
            Err(_) => Err(Failure::message(
                "the thread of the metrics server died at once",
            )),
        }
    }

    /// The address that is bound, with the real port number.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the server, such as `http://127.0.0.1:9100/`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Closes the port and all connections, and waits for the thread to end. A scrape that is being
    /// answered is cut off.
    pub fn stop(mut self) {
        self.stop_and_join();
    }

    fn stop_and_join(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        // If the reactor is gone, the server has stopped already.
        let _ = self.remote.call_from_thread(|reactor| {
            let _ = reactor.stop();
        });
        // Dropped by a collector, say: a thread cannot wait for itself, and this one ends soon.
        if thread.thread().id() == thread::current().id() {
            return;
        }
        // A panic has been logged, and must not follow us into a drop.
        let _ = thread.join();
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.stop_and_join();
    }
}

impl fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsServer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Makes the reactor of a [`MetricsServer`], on its thread.
fn open(addresses: &[SocketAddr], registry: Registry) -> Result<(Reactor, SocketAddr), Failure> {
    let reactor = Reactor::new()?;
    let metrics = MetricsResource::with_registry(registry).in_place();
    // `stop` waits for this thread, and not for clients.
    let site = site(metrics).drain_on_shutdown(Duration::ZERO);
    let port = reactor.listen_tcp(addresses, site)?;
    let address = socket_addr(&port)?;
    Ok((reactor, address))
}

/// Serves the metrics of the default registry from a reactor that exists already.
///
/// The Deferred fires once the port is open, with a handle that returns the address and closes the
/// port. It fails with [`CannotListenError`] if the port cannot be opened.
///
/// ```
/// use prometheus_deferred::{Failure, Reactor, start_http_server};
///
/// let reactor = Reactor::new()?;
/// let stop = reactor.clone();
/// start_http_server(&reactor, "127.0.0.1:0").add_callback(move |server| {
///     println!("metrics at {}metrics", server.url());
///     stop.call_when_running({
///         let stop = stop.clone();
///         move || stop.stop().expect("it runs")
///     });
///     Ok(())
/// });
/// reactor.run()?;
/// # Ok::<(), Failure>(())
/// ```
#[track_caller]
pub fn start_http_server(
    reactor: &Reactor,
    address: impl Into<ListenAddress>,
) -> Deferred<MetricsHttpServer> {
    start_http_server_with_registry(reactor, address, prometheus::default_registry().clone())
}

/// [`start_http_server`] for a registry of your own.
#[track_caller]
pub fn start_http_server_with_registry(
    reactor: &Reactor,
    address: impl Into<ListenAddress>,
    registry: Registry,
) -> Deferred<MetricsHttpServer> {
    Deferred::from_result(
        reactor
            .listen_tcp(address, site(MetricsResource::with_registry(registry)))
            .map_err(Failure::from)
            .and_then(|port| {
                let address = socket_addr(&port)?;
                Ok(MetricsHttpServer { port, address })
            }),
    )
}

/// A port that serves metrics, opened by [`start_http_server`].
#[derive(Debug, Clone)]
pub struct MetricsHttpServer {
    port: Port,
    address: SocketAddr,
}

impl MetricsHttpServer {
    /// The address that is bound, with the real port number.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the server, such as `http://127.0.0.1:9100/`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Stops listening; the Deferred fires when the port is closed.
    #[track_caller]
    pub fn close(&self) -> Deferred<()> {
        self.port.stop_listening()
    }
}

fn socket_addr(port: &Port) -> Result<SocketAddr, Failure> {
    port.address()
        .socket_addr()
        .ok_or_else(|| Failure::message("a TCP port has an address that is not TCP's"))
}

/// `/` and `/metrics`.
fn site(metrics: MetricsResource) -> Site {
    let root = Tree::new();
    root.put_child("", Index);
    root.put_child("metrics", metrics);
    Site::new(root)
}

/// A page for people who open the server in a browser.
struct Index;

impl Resource for Index {
    fn render_get(&self, _: Request) -> Rendered {
        pages::html(
            "Metrics",
            "Metrics",
            "<p><a href=\"/metrics\">Metrics</a></p>",
        )
        .into()
    }
}
