//! All cores: the same program on several threads, each with a reactor of its own.
//!
//! The workers share nothing but their port numbers, over which the system spreads the
//! connections: each connection belongs to one worker from its beginning to its end. So there is
//! nothing to lock, and what runs on one reactor runs on several as it is. What they are to have
//! in common is what threads can have in common: an `Arc`, a `static`, the metrics.

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

/// More than any machine has use for. A count that was meant for something else must not take all
/// threads of the system.
const MOST_WORKERS: usize = 4096;

/// Runs `count` reactors on as many threads, until all have stopped.
///
/// `start` is called on each thread, before its reactor runs, and sets it up. Ports are opened
/// through the [`Worker`] it is given, so that all of them can have the same number. A count of
/// zero is one, and more than 4,096 are refused.
///
/// The workers share nothing but their ports: each connection belongs to one of them from its
/// beginning to its end. What they are to have in common is what threads can have in common: an
/// `Arc`, a `static`, the metrics.
///
/// They end together: on SIGINT or SIGTERM, when one of them is stopped, and when one fails. One
/// fails when its `start` returns an error or panics, or its reactor cannot be made or run. (A
/// panic in a callback is a failure or a log record there, as in every reactor, and ends nobody.)
/// The threads are named `worker-0`, `worker-1` and so on, in messages of panics as well.
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
/// [`WorkerError`] with the number of the worker that failed first and the cause. If others fail
/// as well, the log tells.
#[track_caller]
pub fn run_workers<F>(count: usize, start: F) -> Result<(), WorkerError>
where
    F: Fn(&Reactor, &Worker) -> Result<(), Failure> + Sync,
{
    if count > MOST_WORKERS {
        let text = format!("{count} workers are too many: {MOST_WORKERS} at most");
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

/// One of several workers, as it is told to the function that sets it up.
///
/// Cheap to clone, and stays on its thread.
#[derive(Clone)]
pub struct Worker(Rc<Inner>);

struct Inner {
    index: usize,
    reactor: Reactor,
    group: Arc<WorkerGroup>,
    /// How many free ports this worker has asked for, by the address it gave.
    free: RefCell<HashMap<SocketAddr, usize>>,
    /// Those opened here, some of them closed by now.
    ports: RefCell<Vec<Port>>,
}

/// What all workers share.
struct WorkerGroup {
    /// Where `run_workers` was called.
    line: &'static Location<'static>,
    count: usize,
    ports: Mutex<Ports>,
    life: Mutex<Life>,
}

#[derive(Default)]
struct Ports {
    /// What we have bound.
    ours: HashSet<SocketAddr>,
    /// What was bound for the nth request for a free port at an address.
    free: HashMap<(SocketAddr, usize), SocketAddr>,
}

#[derive(Default)]
struct Life {
    /// Those to be stopped.
    reactors: Vec<RemoteReactor>,
    is_ending: bool,
    /// The first that did.
    failed: Option<WorkerError>,
}

impl Worker {
    /// Which one it is, from 0 on.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.group.count
    }

    /// Opens a TCP port for this worker, on the same number as the others, and makes a protocol for
    /// each connection that comes to this one; otherwise as
    /// [`Reactor::listen_tcp`](crate::Reactor::listen_tcp).
    ///
    /// Port 0 takes a free one, the same for all: the first worker that asks finds it. A worker that
    /// asks for several gets several, and the nth is the same for all. Only workers of one
    /// [`run_workers`] share a number: if anybody else listens on it, that is an error.
    ///
    /// The system chooses by the addresses and ports of both ends, so a few connections may come to
    /// some workers only, and many are spread evenly. When a worker ends, those who wait to be
    /// accepted by it are reset.
    ///
    /// # Errors
    ///
    /// As for [`Reactor::listen_tcp`](crate::Reactor::listen_tcp); and `Unsupported` on a system that
    /// cannot spread connections in this way, if there is more than one worker. Linux, FreeBSD and
    /// DragonFly can.
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
        // Nobody else may look whether a number is free between our looking and our binding.
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

    /// Whether this worker listens there already, which the system would allow as well.
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
    /// The life of one worker.
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
        // Each of them installs handlers, so none has to wait for another to be told.
        reactor.run()
    }

    /// One has ended, so all do.
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
            // One that does not run yet is stopped as soon as it does; some have stopped, or gone.
            let _ = reactor.call_from_thread(|reactor| {
                let _ = reactor.stop();
            });
        }
        if let Some(error) = failed {
            crate::logging::error!(target: "reactor", "{error}: {:#?}", error.cause);
        }
    }
}

/// One of several workers failed, and so all have ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct WorkerError {
    /// Which one: the [`Worker::index`].
    pub worker: usize,
    /// What its `start` returned, or holding a [`PanicError`](crate::PanicError), or why its thread
    /// or reactor could not be had.
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
