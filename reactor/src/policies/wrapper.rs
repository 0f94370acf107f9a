//! Protocols that wrap another protocol.

use bytes::Bytes;

use crate::deferred::Failure;
use crate::net::{Protocol, Transport};

/// The actions of a policy around a protocol. Dropped when the connection ends, or is never made.
pub(super) trait Around: 'static {
    /// The connection was established; `connection_made` of the protocol follows.
    fn connection_made(&mut self, transport: &Transport) {
        let _ = transport;
    }
}

/// A protocol and the policy around it (Twisted's `ProtocolWrapper`).
pub(super) struct ProtocolWrapper<A> {
    protocol: Box<dyn Protocol>,
    around: A,
}

impl<A: Around> ProtocolWrapper<A> {
    pub(super) fn boxed(protocol: Box<dyn Protocol>, around: A) -> Box<dyn Protocol> {
        Box::new(Self { protocol, around })
    }
}

impl<A: Around> Protocol for ProtocolWrapper<A> {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        self.around.connection_made(transport);
        self.protocol.connection_made(transport)
    }

    fn data_received(&mut self, transport: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.protocol.data_received(transport, data)
    }

    fn bytes_received(&mut self, transport: &Transport, data: Bytes) -> Result<(), Failure> {
        self.protocol.bytes_received(transport, data)
    }

    fn read_connection_lost(&mut self, transport: &Transport) {
        self.protocol.read_connection_lost(transport);
    }

    fn peer_closed(&mut self, transport: &Transport) {
        self.protocol.peer_closed(transport);
    }

    fn write_connection_lost(&mut self, transport: &Transport) {
        self.protocol.write_connection_lost(transport);
    }

    fn write_blocked(&mut self, transport: &Transport) {
        self.protocol.write_blocked(transport);
    }

    fn write_drained(&mut self, transport: &Transport) {
        self.protocol.write_drained(transport);
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.protocol.connection_lost(reason);
    }

    fn type_name(&self) -> &'static str {
        self.protocol.type_name()
    }
}
