//! Producers, which write to a connection at the speed of its peer; [the module](super#producers)
//! has the model.

use std::error::Error;
use std::fmt;
use std::rc::Rc;

use super::Transport;

/// Writes whenever it has something (Twisted's `IPushProducer`, with `streaming=True`).
///
/// The methods take `&self`, because one may be called inside another: a producer that writes too
/// much in [`resume_producing`](Self::resume_producing) is paused inside its write. Keep changing
/// state in cells. A panic in a method aborts the connection.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
/// use deferred_reactor::{Failure, net::{PushProducer, Transport}};
/// use deferred_reactor::testing::MemoryReactor;
/// # use deferred_reactor::net::Protocol;
/// # struct Quiet;
/// # impl Protocol for Quiet {
/// #     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> { Ok(()) }
/// # }
///
/// /// Writes a million lines, and waits where the peer does.
/// struct Lines { to: Transport, written: Cell<u32>, is_paused: Cell<bool> }
///
/// impl PushProducer for Lines {
///     fn resume_producing(&self) {
///         self.is_paused.set(false);
///         while !self.is_paused.get() && self.written.get() < 1_000_000 {
///             self.written.set(self.written.get() + 1);
///             self.to.write(b"a line\n");
///         }
///         if self.written.get() == 1_000_000 {
///             self.to.unregister_producer();
///             self.to.lose_connection();
///         }
///     }
///     fn pause_producing(&self) {
///         self.is_paused.set(true);
///     }
///     fn stop_producing(&self) {
///         self.is_paused.set(true); // the peer has gone
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// let peer = memory.connect(Quiet);
/// # memory.pump();
/// # let transport = peer.transport().unwrap();
/// peer.block_writes(0);
/// let lines = Rc::new(Lines {
///     to: transport.clone(),
///     written: Cell::new(0),
///     is_paused: Cell::new(false),
/// });
/// transport.register_producer(lines.clone())?;
/// lines.resume_producing();
/// assert!(lines.is_paused.get());
/// assert_eq!(transport.buffered(), 65_541); // the first line beyond 64 KiB
/// peer.unblock_writes();
/// memory.pump();
/// assert_eq!(peer.received().len(), 7_000_000);
/// # Ok::<(), Failure>(())
/// ```
pub trait PushProducer: 'static {
    /// Stops writing until [`resume_producing`](Self::resume_producing).
    fn pause_producing(&self);

    /// Continues to write: everything queued is sent.
    fn resume_producing(&self);

    /// Stops for good: the connection is lost.
    fn stop_producing(&self);

    /// Returns whether closing the connection waits until this producer is unregistered.
    ///
    /// The default is `true`. A transport returns `false`: the other connection of a proxy may stay
    /// open without end.
    fn holds_open(&self) -> bool {
        true
    }
}

/// Writes one piece when it is asked to (Twisted's `IPullProducer`, with `streaming=False`).
///
/// ```
/// use std::cell::RefCell;
/// use std::io::Read;
/// use deferred_reactor::net::{PullProducer, Transport};
///
/// /// Sends a file, 64 KiB at a time, and closes the connection.
/// struct FileSender { to: Transport, file: RefCell<std::fs::File> }
///
/// impl PullProducer for FileSender {
///     fn resume_producing(&self) {
///         let mut piece = vec![0; 64 * 1024];
///         match self.file.borrow_mut().read(&mut piece) {
///             Ok(0) => {
///                 self.to.unregister_producer();
///                 self.to.lose_connection();
///             }
///             Ok(length) => self.to.write(&piece[..length]),
///             Err(_) => self.to.abort_connection(), // the peer must not take this for all
///         }
///     }
///     fn stop_producing(&self) {}
/// }
/// ```
pub trait PullProducer: 'static {
    /// Writes the next piece, now or later. Called again once everything is sent.
    fn resume_producing(&self);

    /// Stops for good: the connection is lost.
    fn stop_producing(&self);
}

impl<P: PushProducer + ?Sized> PushProducer for Rc<P> {
    fn pause_producing(&self) {
        (**self).pause_producing();
    }

    fn resume_producing(&self) {
        (**self).resume_producing();
    }

    fn stop_producing(&self) {
        (**self).stop_producing();
    }

    fn holds_open(&self) -> bool {
        (**self).holds_open()
    }
}

impl<P: PullProducer + ?Sized> PullProducer for Rc<P> {
    fn resume_producing(&self) {
        (**self).resume_producing();
    }

    fn stop_producing(&self) {
        (**self).stop_producing();
    }
}

/// Produces the bytes that its peer sends: pausing stops reading, and stopping closes the
/// connection. It does not delay the closing of the other connection.
impl PushProducer for Transport {
    fn pause_producing(&self) {
        Self::pause_producing(self);
    }

    fn resume_producing(&self) {
        Self::resume_producing(self);
    }

    fn stop_producing(&self) {
        self.lose_connection();
    }

    fn holds_open(&self) -> bool {
        false
    }
}

/// The producer of a connection.
#[derive(Clone)]
pub(crate) enum Producer {
    Push(Rc<dyn PushProducer>),
    Pull(Rc<dyn PullProducer>),
}

impl Producer {
    pub(crate) fn resume(&self) {
        match self {
            Self::Push(producer) => producer.resume_producing(),
            Self::Pull(producer) => producer.resume_producing(),
        }
    }

    pub(crate) fn stop(&self) {
        match self {
            Self::Push(producer) => producer.stop_producing(),
            Self::Pull(producer) => producer.stop_producing(),
        }
    }

    pub(crate) fn holds_open(&self) -> bool {
        match self {
            Self::Push(producer) => producer.holds_open(),
            Self::Pull(_) => true,
        }
    }
}

/// The connection already has a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerRegisteredError;

impl fmt::Display for ProducerRegisteredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection has a producer already: call unregister_producer first")
    }
}

impl Error for ProducerRegisteredError {}
