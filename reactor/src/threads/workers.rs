//! Using all cores: the same program on several threads, each with its own reactor.
//!
//! Workers share only port numbers, over which the system spreads the connections; each connection
//! stays with one worker. So nothing needs locks, and code written for one reactor runs on several.
//! Data to be shared must be shareable between threads: an `Arc`, a `static`, the metrics.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use mio::net::TcpListener;
use parking_lot::Mutex;

use super::RemoteReactor;
use crate::deferred::Failure;
use crate::guard::catch;
use crate::net::{self, CannotListenError, Factory, ListenAddress, Port};
use crate::reactor::Reactor;

/// More workers than any machine needs. A count given by mistake must not use up the threads of the
/// system.
const MOST_WORKERS: usize = 4096;

/// Runs `count` reactors on as many threads, until all have stopped.
///
/// `start` is called on each thread before its reactor runs, to set it up. It opens ports through
/// its [`Worker`], so that all workers use the same port numbers. A `count` of 0 means 1; more than
/// 4,096 are refused.
///
/// Workers share only their ports: each connection stays with one worker. Data to be shared must be
/// shareable between threads: an `Arc`, a `static`, the metrics.
///
/// All workers end together: on SIGINT or SIGTERM, when one of them is stopped, and when one fails.
/// A worker fails when its `start` returns an error or panics, or its reactor cannot be made or
/// run. (A panic in a callback becomes a failure or a log record, as in every reactor, and ends no
/// worker.) The threads are named `worker-0`, `worker-1` and so on; messages of panics show the
/// names.
///
/// ```
/// use deferred_reactor::net::{Protocol, Transport, for_protocol};
/// use deferred_reactor::{Failure, run_workers};
///
/// /// Sends everything back.
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
///         transport.write(data);
///         Ok(())
///     }
/// }
///
/// # if cfg!(target_os = "linux") {
/// run_workers(2, |reactor, worker| {
///     let port = worker.listen_tcp("127.0.0.1:0", for_protocol(|| Echo))?;
///     println!("worker {} listens on {}", worker.index(), port.address());
/// #   let stop = reactor.clone();
/// #   reactor.call_when_running(move || stop.stop().expect("it runs"));
///     Ok(())
/// })?;
/// # }
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
///
/// [`WorkerError`] with the index and the cause of the first worker that failed. Failures of other workers are logged.
#[track_caller]
pub fn run_workers<F>(count: usize, start: F) -> Result<(), WorkerError>
where
    F: Fn(&Reactor, &Worker) -> Result<(), Failure> + Sync,
{
    if count > MOST_WORKERS {
        let text = format!("run_workers takes {MOST_WORKERS} workers at most, got {count}");
        return Err(WorkerError {
            worker: MOST_WORKERS,
            cause: Failure::message(text),
        });
    }
    let group = Arc::new(WorkerGroup {
        line: Location::caller(),
        count: count.max(1),
        ports: Mutex::default(),
        life: Mutex::default(),
    });
    thread::scope(|scope| {
        for index in 0..group.count {
            let (start, member) = (&start, group.clone());
            let name = thread::Builder::new().name(format!("worker-{index}"));
            let thread = name.spawn_scoped(scope, move || member.live(index, start));
            if let Err(error) = thread {
                group.end(index, Err(error.into()));
                break;
            }
        }
    });
    match group.life.lock().failed.take() {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// One of several workers, passed to the function that sets it up.
///
/// Cheap to clone, and stays on its thread.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    index: usize,
    reactor: Reactor,
    group: Arc<WorkerGroup>,
    /// Number of free ports that this worker has asked for, by the address given.
    free: RefCell<HashMap<SocketAddr, usize>>,
    /// Ports opened by this worker, some of them closed by now.
    ports: RefCell<Vec<Port>>,
}

/// State shared by all workers.
struct WorkerGroup {
    /// The source line that called `run_workers`.
    line: &'static Location<'static>,
    count: usize,
    ports: Mutex<Ports>,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Ports {
    /// Addresses bound by the workers.
    ours: HashSet<SocketAddr>,
    /// The address bound for the nth request for a free port at an address.
    free: HashMap<(SocketAddr, usize), SocketAddr>,
}

#[derive(Default)]
struct Life {
    /// Reactors to be stopped.
    reactors: Vec<RemoteReactor>,
    is_ending: bool,
    /// The first failure.
    failed: Option<WorkerError>,
}

impl Worker {
    /// The index of this worker, from 0.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// The number of workers.
    pub fn count(&self) -> usize {
        self.0.group.count
    }

    /// Opens a TCP port for this worker, on the same port number as the other workers; otherwise as
    /// [`Reactor::listen_tcp`](crate::Reactor::listen_tcp).
    ///
    /// Port 0 takes a free port number, the same for all workers: the first worker that asks finds
    /// it. If a worker asks several times, its nth port has the same number as the nth of the
    /// others. Only workers of one [`run_workers`] share a number; a port used by another program
    /// is an error.
    ///
    /// The system chooses the worker by the addresses and ports of both ends. So a few connections
    /// may all go to some workers, and many are spread evenly. When a worker ends, connections that
    /// wait in its queue are reset.
    ///
    /// # Errors
    ///
    /// As for [`Reactor::listen_tcp`](crate::Reactor::listen_tcp); and `Unsupported`, for more than
    /// one worker, on a system that cannot spread connections. Linux, FreeBSD and DragonFly can.
    #[track_caller]
    pub fn listen_tcp(
        &self,
        address: impl Into<ListenAddress>,
        factory: impl Factory,
    ) -> Result<Port, CannotListenError> {
        if self.count() == 1 {
            return self.0.reactor.listen_tcp(address, factory);
        }
        let (line, address) = (Location::caller(), address.into());
        self.bind(&address)
            .and_then(|sockets| {
                net::open_tcp(self.0.reactor.core(), sockets, Rc::new(factory), line)
            })
            .inspect(|port| {
                let mut ports = self.0.ports.borrow_mut();
                ports.retain(Port::is_open);
                ports.push(port.clone());
            })
            .map_err(|cause| CannotListenError::new(address, cause))
    }

    fn bind(&self, address: &ListenAddress) -> io::Result<Vec<TcpListener>> {
        let addresses = address.to_socket_addrs()?;
        // The lock is held from the check that a number is free until it is bound.
        let mut ports = self.0.group.ports.lock();
        let mut free = self.0.free.borrow_mut();
        let sockets = net::bind_all(addresses, |asked| {
            let bound = match asked.port() {
                0 => {
                    let nth = free.get(&asked).copied().unwrap_or_default();
                    ports.free.get(&(asked, nth)).copied()
                }
                _ => ports.ours.get(&asked).copied(),
            };
            let socket = match bound {
                None => net::listen_first(asked)?,
                Some(bound) if self.is_open_here(bound) => {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                Some(bound) => net::listen_too(bound)?,
            };
            let bound = socket.local_addr()?;
            Ok(((socket, asked, bound), bound))
        })?;
        let opened = sockets.into_iter().map(|(socket, asked, bound)| {
            ports.ours.insert(bound);
            if asked.port() == 0 {
                let nth = free.entry(asked).or_default();
                ports.free.insert((asked, *nth), bound);
                *nth += 1;
            }
            socket
        });
        Ok(opened.collect())
    }

    /// Whether this worker listens at the address already, which the system would allow too.
    fn is_open_here(&self, address: SocketAddr) -> bool {
        let ports = self.0.ports.borrow();
        ports
            .iter()
            .filter(|port| port.is_open())
            .flat_map(Port::addresses)
            .any(|bound| bound.socket_addr() == Some(address))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index())
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl WorkerGroup {
    /// The main function of one worker.
    fn live<F>(self: Arc<Self>, index: usize, start: &F)
    where
        F: Fn(&Reactor, &Worker) -> Result<(), Failure>,
    {
        let work = || self.work(index, start);
        let outcome =
            catch(work).unwrap_or_else(|payload| Err(Failure::from_panic_at(payload, self.line)));
        self.end(index, outcome);
    }

    fn work<F>(self: &Arc<Self>, index: usize, start: &F) -> Result<(), Failure>
    where
        F: Fn(&Reactor, &Worker) -> Result<(), Failure>,
    {
        let reactor = Reactor::new()?;
        let mut life = self.life.lock();
        if life.is_ending {
            return Ok(());
        }
        life.reactors.push(reactor.remote());
        drop(life);
        let worker = Worker(Rc::new(Inner {
            index,
            reactor: reactor.clone(),
            group: self.clone(),
            free: RefCell::default(),
            ports: RefCell::default(),
        }));
        start(&reactor, &worker)?;
        drop(worker);
        // Each reactor installs signal handlers, so each is notified directly.
        reactor.run()
    }

    /// Stops all workers, after one has ended.
    fn end(&self, index: usize, outcome: Result<(), Failure>) {
        let mut failed = outcome.err().map(|cause| WorkerError {
            worker: index,
            cause,
        });
        let mut life = self.life.lock();
        life.is_ending = true;
        if life.failed.is_none() {
            life.failed = failed.take();
        }
        let reactors = std::mem::take(&mut life.reactors);
        drop(life);
        for reactor in reactors {
            // A reactor that is not running yet is stopped as soon as it runs; some have stopped
            // already.
            let _ = reactor.call_from_thread(|reactor| {
                let _ = reactor.stop();
            });
        }
        if let Some(error) = failed {
            crate::logging::error!(target: "reactor", "{error}: {:#?}", error.cause);
        }
    }
}

/// One of several workers failed, so all have ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct WorkerError {
    /// The [`Worker::index`] of the worker.
    pub worker: usize,
    /// The error that its `start` returned, a [`PanicError`](crate::PanicError), or why its thread
    /// or reactor could not be made.
    pub cause: Failure,
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker-{} failed", self.worker)
    }
}

impl Error for WorkerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.cause.error())
    }
}
