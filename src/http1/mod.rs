//! The syntax of HTTP/1.1 messages (RFC 9112): bytes in, bytes out, no sockets and no resources.

pub(crate) mod chunked;
pub(crate) mod head;
