//! The reactor's end of a connection.

use std::rc::Rc;

use bytes::Bytes;
use deferred_reactor::Failure;
use deferred_reactor::net::{Protocol, Transport};

use super::Connection;
use crate::web::site::SiteCore;

/// Hands everything to the [`Connection`].
pub(in crate::web) struct HttpProtocol(Rc<Connection>);

impl HttpProtocol {
    pub(in crate::web) fn new(site: Rc<SiteCore>) -> Self {
        Self(Connection::new(site))
    }
}

impl Protocol for HttpProtocol {
    fn connection_made(&mut self, transport: &Transport) -> Result<(), Failure> {
        self.0.made(transport);
        Ok(())
    }

    fn data_received(&mut self, _: &Transport, data: &[u8]) -> Result<(), Failure> {
        self.0.receive(data);
        Ok(())
    }

    fn bytes_received(&mut self, _: &Transport, data: Bytes) -> Result<(), Failure> {
        self.0.receive_piece(&data);
        Ok(())
    }

    fn peer_closed(&mut self, _: &Transport) {
        self.0.input_will_end();
    }

    fn read_connection_lost(&mut self, _: &Transport) {
        self.0.input_ended();
    }

    fn write_blocked(&mut self, _: &Transport) {
        self.0.blocked();
    }

    fn write_drained(&mut self, _: &Transport) {
        self.0.drained();
    }

    fn write_connection_lost(&mut self, _: &Transport) {
        self.0.drained();
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.0.lost(reason);
    }
}
