//! Limits the bytes per second of the connections of a factory.

use std::fmt;
use std::rc::Rc;

use super::{Around, ProtocolWrapper};
use crate::deferred::Failure;
use crate::net::{
    Address, Bucket, ClientFactory, Connector, Factory, FactoryIdentity, Port, Protocol, Transport,
};

/// Limits how many bytes per second connections receive and send (Twisted's `ThrottlingFactory`).
///
/// All connections of the factory share each limit evenly. With
/// [`per_connection`](Self::per_connection), each connection has its own limits. After a pause, the
/// bytes of a quarter of a second may pass at once.
///
/// At the read limit, nothing is read, and the peer has to wait. At the write limit, bytes stay in the
/// transport, as they do when a peer reads slowly: producers are paused, and
/// [`write_blocked`](Protocol::write_blocked) and [`write_drained`](Protocol::write_drained) are called.
/// [`lose_connection`](Transport::lose_connection) sends everything first, at this speed. (Twisted's
/// `ThrottlingFactory` pauses producers, and sends what is written at full speed.)
///
/// ```
/// use std::time::Duration;
/// use deferred_reactor::net::{Protocol, Transport, for_protocol};
/// use deferred_reactor::policies::ThrottlingFactory;
/// use deferred_reactor::{Failure, testing::MemoryReactor};
///
/// struct Generous;
///
/// impl Protocol for Generous {
///     fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
///         transport.write(&[b'x'; 1000]);
///         Ok(())
///     }
///     fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
///         Ok(())
///     }
/// }
///
/// let memory = MemoryReactor::new();
/// let factory = ThrottlingFactory::new(for_protocol(|| Generous)).write_limit(400);
/// memory.listen_tcp("127.0.0.1:7", factory)?;
/// let client = memory.connect_to("127.0.0.1:7")?;
/// memory.pump();
/// assert_eq!(client.received().len(), 100);
/// memory.advance(Duration::from_secs(1));
/// assert_eq!(client.received().len(), 400);
/// # Ok::<(), Failure>(())
/// ```
pub struct ThrottlingFactory<F> {
    factory: F,
    read: Option<Rc<Bucket>>,
    write: Option<Rc<Bucket>>,
    is_per_connection: bool,
}

impl<F: Factory> ThrottlingFactory<F> {
    /// Wraps `factory`, without limits so far. All connections share the limits.
    pub fn new(factory: F) -> Self {
        Self {
            factory,
            read: None,
            write: None,
            is_per_connection: false,
        }
    }

    /// Wraps `factory`, without limits so far. Each connection has its own limits.
    pub fn per_connection(factory: F) -> Self {
        Self {
            is_per_connection: true,
            ..Self::new(factory)
        }
    }

    /// Sets the maximum number of bytes read per second (no limit unless set).
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn read_limit(mut self, bytes_per_second: u64) -> Self {
        self.read = Some(bucket("read_limit", bytes_per_second));
        self
    }

    /// Sets the maximum number of bytes sent per second (no limit unless set).
    ///
    /// # Panics
    ///
    /// If it is 0.
    #[must_use]
    pub fn write_limit(mut self, bytes_per_second: u64) -> Self {
        self.write = Some(bucket("write_limit", bytes_per_second));
        self
    }

    /// Returns how many bytes have passed, and how often a connection had to wait. Only a direction
    /// with a limit is counted. With [`per_connection`](Self::per_connection), all counts stay at
    /// 0.
    pub fn counts(&self) -> ThrottlingCounts {
        let count = |bucket: &Option<Rc<Bucket>>, look: fn(&Bucket) -> u64| {
            bucket.as_deref().map_or(0, look)
        };
        ThrottlingCounts {
            bytes_read: count(&self.read, Bucket::passed),
            bytes_written: count(&self.write, Bucket::passed),
            read_waits: count(&self.read, Bucket::waits),
            write_waits: count(&self.write, Bucket::waits),
        }
    }

    /// The bucket of a new connection.
    fn bucket_of(&self, bucket: &Option<Rc<Bucket>>) -> Option<Rc<Bucket>> {
        let bucket = bucket.as_ref()?;
        match self.is_per_connection {
            true => Some(Bucket::new(bucket.rate())),
            false => Some(bucket.clone()),
        }
    }
}

fn bucket(setting: &str, bytes_per_second: u64) -> Rc<Bucket> {
    assert!(
        bytes_per_second > 0,
        "{setting} of a ThrottlingFactory takes 1 byte a second or more, got 0; \
         leave it out for no limit"
    );
    Bucket::new(bytes_per_second)
}

impl<F: Factory> Factory for ThrottlingFactory<F> {
    fn build_protocol(&self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.factory.build_protocol(peer)?;
        let throttle = Throttle {
            read: self.bucket_of(&self.read),
            write: self.bucket_of(&self.write),
        };
        Some(ProtocolWrapper::boxed(protocol, throttle))
    }

    fn port_opened(&self, port: &Port) {
        self.factory.port_opened(port);
    }

    fn start_factory(&self) {
        self.factory.start_factory();
    }

    fn stop_factory(&self) {
        self.factory.stop_factory();
    }

    fn shared_identity(&self) -> Option<FactoryIdentity> {
        self.factory.shared_identity()
    }
}

impl<F: ClientFactory> ClientFactory for ThrottlingFactory<F> {
    fn started_connecting(&self, connector: &Connector) {
        self.factory.started_connecting(connector);
    }

    fn client_connection_failed(&self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_failed(connector, reason);
    }

    fn client_connection_lost(&self, connector: &Connector, reason: &Failure) {
        self.factory.client_connection_lost(connector, reason);
    }
}

impl<F> fmt::Debug for ThrottlingFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |bucket: &Option<Rc<Bucket>>| bucket.as_ref().map(|bucket| bucket.rate());
        f.debug_struct("ThrottlingFactory")
            .field("read_limit", &rate(&self.read))
            .field("write_limit", &rate(&self.write))
            .field("is_per_connection", &self.is_per_connection)
            .finish_non_exhaustive()
    }
}

/// The limits of one connection.
struct Throttle {
    read: Option<Rc<Bucket>>,
    write: Option<Rc<Bucket>>,
}

impl Around for Throttle {
    fn connection_made(&mut self, transport: &Transport) {
        if self.read.is_some() || self.write.is_some() {
            transport.throttle(self.read.as_ref(), self.write.as_ref());
        }
    }
}

/// Numbers of bytes and waits of a [`ThrottlingFactory`]; from
/// [`counts`](ThrottlingFactory::counts).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThrottlingCounts {
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that were sent.
    pub bytes_written: u64,
    /// How often a connection had to wait before it was read.
    pub read_waits: u64,
    /// How often a connection had to wait before it could send.
    pub write_waits: u64,
}
