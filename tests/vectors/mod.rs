//! A site in memory that is sent the same bytes however the network may cut them.

#![allow(dead_code, reason = "not every test binary uses all of this")]

use std::cell::RefCell;
use std::rc::Rc;

use prometheus_deferred::testing::MemoryReactor;
use prometheus_deferred::web::{Rendered, Request, Resource, Site};

/// Answers with what it understood, and notes it.
pub(crate) struct Echo(pub(crate) Rc<RefCell<Vec<String>>>);

impl Resource for Echo {
    fn is_leaf(&self) -> bool {
        true
    }

    fn render(&self, request: Request) -> Rendered {
        let body = request.body().escape_ascii().to_string();
        let note = format!("{} {} {body}", request.method(), request.target());
        self.0.borrow_mut().push(note.trim_end().to_owned());
        "".into()
    }
}

/// A site in memory, and the requests that it has answered.
pub(crate) struct Vectors {
    pub(crate) memory: MemoryReactor,
    notes: Rc<RefCell<Vec<String>>>,
}

/// What a client saw, and what the site answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) statuses: Vec<u16>,
    pub(crate) answered: Vec<String>,
    pub(crate) has_ended: bool,
}

impl Vectors {
    pub(crate) fn new() -> Self {
        Self::of(|_, notes| Echo(notes))
    }

    /// A site whose root notes itself what it answers.
    pub(crate) fn of<R: Resource + 'static>(
        root: impl FnOnce(&MemoryReactor, Rc<RefCell<Vec<String>>>) -> R,
    ) -> Self {
        let memory = MemoryReactor::new();
        let notes = Rc::default();
        let site = Site::new(root(&memory, Rc::clone(&notes)));
        memory.listen_tcp("127.0.0.1:80", site).unwrap();
        Self { memory, notes }
    }

    pub(crate) fn send<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
        let client = self.memory.connect_to("127.0.0.1:80").unwrap();
        let mut received = Vec::new();
        for piece in pieces {
            received.extend(client.exchange(piece));
        }
        let seen = Seen {
            statuses: statuses(&received),
            answered: self.notes.take(),
            has_ended: client.has_ended(),
        };
        client.close();
        self.memory.pump();
        seen
    }

    /// Sends `bytes` in every fragmentation, which must not matter.
    pub(crate) fn see(&self, bytes: &[u8]) -> Seen {
        let shown = bytes.escape_ascii().to_string();
        let whole = self.send([bytes]);
        assert_eq!(self.send(bytes.chunks(1)), whole, "byte by byte: {shown}");
        for cut in 1..bytes.len() {
            let (start, rest) = bytes.split_at(cut);
            assert_eq!(self.send([start, rest]), whole, "cut at {cut}: {shown}");
        }
        whole
    }

    /// Refused with this status, and what follows is not looked at.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, bytes: impl AsRef<[u8]>) {
        let bytes = [bytes.as_ref(), b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        let want = Seen {
            statuses: vec![status],
            answered: Vec::new(),
            has_ended: true,
        };
        assert_eq!(self.see(&bytes), want, "{}", bytes.escape_ascii());
    }

    /// Answered, as what `note` says, and so is what follows.
    #[track_caller]
    pub(crate) fn takes(&self, note: &str, bytes: impl AsRef<[u8]>) {
        let bytes = [bytes.as_ref(), b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        let want = Seen {
            statuses: vec![200, 200],
            answered: vec![note.into(), "GET /next".into()],
            has_ended: false,
        };
        assert_eq!(self.see(&bytes), want, "{}", bytes.escape_ascii());
    }
}

/// The statuses of responses, one after the other.
pub(crate) fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    let status = |rest: &str| rest.get(..3)?.parse().ok();
    text.split("HTTP/1.1 ").filter_map(status).collect()
}
