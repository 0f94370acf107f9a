//! Finding the addresses of a name.
//!
//! The system's lookup blocks, so it runs in the reactor's thread pool. A program with another
//! resolver [installs](Reactor::install_name_resolver) it.

use std::cell::RefCell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::Location;
use std::rc::Rc;

use crate::deferred::{Deferred, call_for};
use crate::reactor::Reactor;
use crate::threads::defer_to_thread;

type Look = dyn Fn(&str, u16) -> Deferred<Vec<SocketAddr>>;

/// The resolver of names; the system's, unless another was installed.
#[derive(Default)]
pub(super) struct Lookup(RefCell<Option<Installed>>);

#[derive(Clone)]
struct Installed {
    look: Rc<Look>,
    line: &'static Location<'static>,
}

impl Lookup {
    pub(super) fn find(
        &self,
        reactor: &Reactor,
        name: &str,
        port: u16,
    ) -> Deferred<Vec<SocketAddr>> {
        let installed = self.0.borrow().clone();
        match installed {
            Some(Installed { look, line }) => call_for(line, || look(name, port)),
            None => {
                let name = name.to_owned();
                defer_to_thread(reactor, move || {
                    Ok((name, port).to_socket_addrs()?.collect())
                })
            }
        }
    }
}

impl Reactor {
    /// Installs `resolve` to look up names from now on; it gets the name and the port (Twisted's
    /// `installNameResolver`).
    ///
    /// The addresses are tried in the order of RFC 8305, beginning with the first. When connecting
    /// is stopped or reaches its time limit, the Deferred is cancelled. Without a resolver, the
    /// system's is used (`getaddrinfo`), in a thread of the [pool](Self::suggest_thread_pool_size).
    ///
    /// ```
    /// use deferred_reactor::{Deferred, Failure, Reactor};
    ///
    /// let reactor = Reactor::new()?;
    /// reactor.install_name_resolver(|name, port| match name {
    ///     "backend" => Deferred::succeed(vec![([127, 0, 0, 1], port).into()]),
    ///     _ => Deferred::fail(Failure::message("no such service")),
    /// });
    /// # Ok::<(), Failure>(())
    /// ```
    #[track_caller]
    pub fn install_name_resolver(
        &self,
        resolve: impl Fn(&str, u16) -> Deferred<Vec<SocketAddr>> + 'static,
    ) {
        let old = self.core().clients().lookup.0.replace(Some(Installed {
            look: Rc::new(resolve),
            line: Location::caller(),
        }));
        drop(old); // with nothing borrowed: it may own anything
    }
}
