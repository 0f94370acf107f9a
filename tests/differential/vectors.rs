//! What is sent: requests on which HTTP/1 implementations disagree, or once did.

mod bodies;
mod dialogues;
mod heads;

/// The request that follows a vector. Its server closes the connection behind it, so an end of the
/// stream, and not a pause, tells that nothing more comes.
pub const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// Some bytes for a server.
pub struct Vector {
    /// What is special about it; unique, and printable.
    pub name: String,
    pub bytes: Vec<u8>,
    /// Whether [`NEXT`] follows.
    pub is_followed: bool,
}

/// All of them.
pub fn all() -> Vec<Vector> {
    let mut list = List(Vec::new());
    list.transfer_codings();
    list.lengths();
    list.chunks();
    list.trailers();
    list.request_lines();
    list.hosts();
    list.fields();
    list.dialogues();
    list.0
}

struct List(Vec<Vector>);

impl List {
    fn add(&mut self, name: &str, special: &[u8], bytes: Vec<u8>) {
        let special = special.escape_ascii().to_string();
        // The name becomes a cell of a table.
        let special = special.replace('|', "\\x7c").replace('`', "\\x60");
        let special = match special.char_indices().nth(60) {
            Some((cut, _)) => format!("{}...", &special[..cut]),
            None => special,
        };
        self.0.push(Vector {
            name: format!("{name}{special}"),
            bytes,
            is_followed: true,
        });
    }

    /// A request in HTTP/1.1, `special` put between its `Host` field and `end`.
    fn post(&mut self, name: &str, field: &str, special: &[u8], end: &[u8]) {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{field}");
        let bytes = [head.as_bytes(), special, end].concat();
        self.add(name, special, bytes);
    }
}
