//! What a protocol of lines is called with.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use deferred_reactor::Failure;
use deferred_reactor::net::Transport;
use deferred_reactor::protocols::{LineProtocol, LineReceiver, LineTransport};
use deferred_reactor::testing::{MemoryConnection, MemoryReactor};
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Line(String),
    TooLong(String),
    Raw(String),
    Lost(String),
}

use Call::{Line, Lost, Raw, TooLong};

/// What is to be done when a line has come.
type OnLine = Rc<dyn Fn(&LineTransport, &str) -> Result<(), Failure>>;

/// Writes down its calls.
#[derive(Clone)]
struct Recorder {
    calls: Rc<RefCell<Vec<Call>>>,
    lines: Rc<RefCell<Option<LineTransport>>>,
    on_line: OnLine,
    /// What ends raw mode, at every place where it comes.
    raw_ends_with: u8,
    closes_when_too_long: bool,
}

impl Recorder {
    fn new() -> Self {
        Self::with(|_, _| Ok(()))
    }

    fn with(on_line: impl Fn(&LineTransport, &str) -> Result<(), Failure> + 'static) -> Self {
        Self {
            calls: Rc::default(),
            lines: Rc::default(),
            on_line: Rc::new(on_line),
            raw_ends_with: b'.',
            closes_when_too_long: false,
        }
    }

    fn record(&self, call: Call) {
        self.calls.borrow_mut().push(call);
    }

    fn take(&self) -> Vec<Call> {
        self.calls.take()
    }

    fn lines(&self) -> LineTransport {
        self.lines.borrow().clone().expect("it is connected")
    }
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn lines<const N: usize>(lines: [&str; N]) -> Vec<Call> {
    lines.map(|line| Line(line.to_owned())).to_vec()
}

impl LineProtocol for Recorder {
    fn connection_made(&mut self, lines: &LineTransport) -> Result<(), Failure> {
        self.lines.replace(Some(lines.clone()));
        Ok(())
    }

    fn line_received(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
        self.record(Line(text(line)));
        (self.on_line)(lines, &text(line))
    }

    fn raw_data_received(&mut self, lines: &LineTransport, data: &[u8]) -> Result<(), Failure> {
        assert!(!data.is_empty());
        match data.iter().position(|&byte| byte == self.raw_ends_with) {
            None => self.record(Raw(text(data))),
            Some(end) => {
                self.record(Raw(text(&data[..end])));
                lines.set_line_mode(&data[end + 1..]);
            }
        }
        Ok(())
    }

    fn line_length_exceeded(&mut self, lines: &LineTransport, line: &[u8]) -> Result<(), Failure> {
        self.record(TooLong(text(line)));
        if self.closes_when_too_long {
            lines.lose_connection();
        }
        Ok(())
    }

    fn connection_lost(&mut self, reason: &Failure) {
        self.record(Lost(reason.to_string()));
    }
}

fn connect(memory: &MemoryReactor, receiver: LineReceiver<Recorder>) -> MemoryConnection {
    let peer = memory.connect(receiver);
    memory.pump();
    peer
}

/// PR-01, PR-02: a line feed alone is part of a line, and so is half a delimiter.
#[test]
fn lines_are_the_same_wherever_the_bytes_are_cut() {
    let want = lines(["one", "", "t\rw\no", "\r", "three"]);
    for piece in 1..30 {
        let memory = MemoryReactor::new();
        let recorder = Recorder::new();
        let peer = connect(&memory, LineReceiver::new(recorder.clone()));
        peer.deliver_at_most(piece);
        peer.exchange("one\r\n\r\nt\rw\no\r\n\r\r\nthree\r\nfou");
        assert_eq!(recorder.take(), want, "in pieces of {piece}");
    }
}

/// PR-03.
#[test]
fn a_line_that_is_too_long_closes_the_connection() {
    /// Leaves it at what the trait does.
    struct Plain(Rc<Cell<u32>>);
    impl LineProtocol for Plain {
        fn line_received(&mut self, _: &LineTransport, _: &[u8]) -> Result<(), Failure> {
            self.0.set(self.0.get() + 1);
            Ok(())
        }
    }
    for (input, delivered) in [
        ("123456\r\n1\r\n", 0),
        ("1234567", 0),
        ("1\r\n123456\r\n", 1),
    ] {
        let memory = MemoryReactor::new();
        let count = Rc::new(Cell::new(0));
        let peer = memory.connect(LineReceiver::new(Plain(count.clone())).max_length(5));
        peer.exchange(input);
        assert!(peer.is_closed(), "{input:?}");
        assert_eq!(count.get(), delivered, "{input:?}");
    }
}

/// PR-04: and the peer is told of it once, as soon as it is certain.
#[test]
fn a_protocol_may_go_on_behind_a_line_that_is_too_long() {
    for piece in 1..20 {
        let memory = MemoryReactor::new();
        let recorder = Recorder::new();
        let peer = connect(&memory, LineReceiver::new(recorder.clone()).max_length(5));
        peer.deliver_at_most(piece);
        peer.exchange("12345\r\n123456789\r\n12\r\n1234567");
        let calls = recorder.take();
        assert_eq!(calls.len(), 4, "{calls:?}");
        assert_eq!(calls[0], Line("12345".into()));
        assert!(matches!(&calls[1], TooLong(part) if "123456789\r".starts_with(part)));
        assert_eq!(calls[2], Line("12".into()));
        assert!(
            matches!(&calls[3], TooLong(_)),
            "with no end of line in sight"
        );
        peer.exchange("89\r\n");
        peer.exchange("ok\r\n");
        assert_eq!(recorder.take(), lines(["ok"]));
    }
}

/// PR-05.
#[test]
fn maximum_lengths_hold_at_their_extremes() {
    for (limit, input, want) in [
        (0, "\r\n\r\n", lines(["", ""])),
        (
            0,
            "a\r\n\r\n",
            vec![TooLong("a".into()), Line(String::new())],
        ),
        (1, "a\r\n", lines(["a"])),
        (usize::MAX, "a\r\n", lines(["a"])),
    ] {
        let memory = MemoryReactor::new();
        let recorder = Recorder::new();
        let peer = connect(
            &memory,
            LineReceiver::new(recorder.clone()).max_length(limit),
        );
        peer.exchange(input);
        assert_eq!(recorder.take(), want, "at most {limit}");
    }
}

#[test]
#[should_panic(expected = "give it one byte or more")]
fn an_empty_delimiter_is_refused_with_a_sentence() {
    let _ = LineReceiver::new(Recorder::new()).delimiter("");
}

/// PR-06: any number of times, in one piece or in many.
#[test]
fn raw_data_begin_behind_the_line_and_end_where_the_protocol_says() {
    for piece in [1, 2, 3, 100] {
        let memory = MemoryReactor::new();
        let recorder = Recorder::with(|lines, line| {
            if line == "raw" {
                lines.set_raw_mode();
            }
            Ok(())
        });
        let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
        peer.deliver_at_most(piece);
        peer.exchange("raw\na\nb.c\nraw\n.raw\nde.f\n");
        let calls = recorder.take();
        let mut joined: Vec<Call> = Vec::new();
        for call in calls {
            match (joined.last_mut(), call) {
                (Some(Raw(before)), Raw(more)) => before.push_str(&more),
                (_, call) => joined.push(call),
            }
        }
        let want = [
            Line("raw".into()),
            Raw("a\nb".into()),
            Line("c".into()),
            Line("raw".into()),
            Raw(String::new()),
            Line("raw".into()),
            Raw("de".into()),
            Line("f".into()),
        ];
        assert_eq!(joined, want, "in pieces of {piece}");
    }
}

/// PR-07.
#[test]
fn bytes_that_are_given_back_later_come_before_all_others() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::with(|lines, line| {
        if line == "raw" {
            lines.transport().pause_producing();
            lines.set_raw_mode();
        }
        Ok(())
    });
    let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
    peer.exchange("raw\nd\n");
    recorder.take();
    let lines_of = recorder.lines();
    lines_of.set_line_mode(b"a\nb\n");
    lines_of.set_line_mode(b"c");
    memory.pump();
    assert_eq!(recorder.take(), [], "it is paused");
    lines_of.transport().resume_producing();
    memory.pump();
    assert_eq!(recorder.take(), lines(["a", "b", "cd"]));
}

/// PR-08: with a kept line, nothing more has to come for it.
#[test]
fn pausing_from_within_a_line_stops_delivery_at_once() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::with(|lines, _| {
        lines.transport().pause_producing();
        Ok(())
    });
    let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
    peer.exchange("1\n2\n3\npart");
    assert_eq!(recorder.take(), lines(["1"]));
    peer.exchange("ly\n");
    assert_eq!(peer.unread(), 3, "the peer has to wait");
    for want in ["2", "3", "partly"] {
        recorder.lines().transport().resume_producing();
        memory.pump();
        assert_eq!(recorder.take(), lines([want]));
    }
    assert_eq!(peer.unread(), 0);
}

/// PR-08: by a clone of the transport that knows nothing of lines, as that of a proxy.
#[test]
fn a_receiver_that_is_registered_as_a_producer_is_paused_by_the_other_side() {
    struct Sink;
    impl deferred_reactor::net::Protocol for Sink {
        fn data_received(&mut self, _: &Transport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }
    let memory = MemoryReactor::new();
    let sink = memory.connect(Sink);
    memory.pump();
    let to = sink.transport().unwrap();
    to.set_buffer_limit(3);
    let target = to.clone();
    let recorder = Recorder::with(move |_, line| {
        target.write(line.as_bytes());
        Ok(())
    });
    let source = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
    to.register_producer(source.transport().unwrap()).unwrap();
    sink.block_writes(0);
    source.exchange("ab\ncd\nef\n");
    assert_eq!(
        recorder.take(),
        lines(["ab", "cd"]),
        "4 bytes are more than 3"
    );
    sink.unblock_writes();
    memory.pump();
    assert_eq!(recorder.take(), lines(["ef"]));
    assert_eq!(sink.received(), b"abcdef");
}

/// PR-09.
#[test]
fn nothing_is_delivered_behind_the_line_that_closes() {
    type Close = fn(&Transport);
    let closings: [Close; 2] = [Transport::lose_connection, Transport::abort_connection];
    for close in closings {
        let memory = MemoryReactor::new();
        let recorder = Recorder::with(move |lines, _| {
            close(lines.transport());
            Ok(())
        });
        let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
        peer.exchange("quit\nrest\n");
        let calls = recorder.take();
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert!(matches!(calls[1], Lost(_)));
    }
}

/// PR-10.
#[test]
fn an_error_or_a_panic_ends_the_connection_with_its_reason() {
    for fails in [true, false] {
        let memory = MemoryReactor::new();
        let recorder = Recorder::with(move |_, line| match fails {
            true => Err(Failure::message(format!("no {line} here"))),
            false => panic!("no {line} here"),
        });
        let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
        peer.exchange("cake\nmore\n");
        let calls = recorder.take();
        assert_eq!(calls.len(), 2, "{calls:?}");
        assert!(matches!(&calls[1], Lost(reason) if reason.ends_with("no cake here")));
    }
}

/// PR-11.
#[test]
fn lines_are_sent_with_the_delimiter() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::new();
    let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("--"));
    recorder.lines().send_line("a");
    recorder.lines().send_line(b"");
    assert_eq!(peer.exchange(""), b"a----");
}

/// PR-12: however many pieces there are. That none is searched twice is proven beside the search.
#[test]
fn a_long_line_in_small_pieces_is_searched_once() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::new();
    let receiver = LineReceiver::new(recorder.clone()).max_length(usize::MAX);
    let peer = connect(&memory, receiver);
    let line = "x".repeat(1_000_000);
    peer.deliver_at_most(2);
    peer.exchange(format!("{line}\r\n"));
    assert_eq!(recorder.take(), [Line(line)]);
}

/// PR-12: pausing behind each line moves none of the others.
#[test]
fn many_lines_are_delivered_one_by_one() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::with(|lines, _| {
        lines.transport().pause_producing();
        Ok(())
    });
    let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
    const LINES: usize = 20_000;
    peer.exchange("ab\n".repeat(LINES));
    for _ in 1..LINES {
        recorder.lines().transport().resume_producing();
        memory.pump();
    }
    assert_eq!(recorder.take().len(), LINES);
}

/// PR-13.
#[test]
fn raw_mode_without_a_method_for_it_is_an_error_that_names_the_protocol() {
    struct Forgetful(Rc<RefCell<String>>);
    impl LineProtocol for Forgetful {
        fn line_received(&mut self, lines: &LineTransport, _: &[u8]) -> Result<(), Failure> {
            lines.set_raw_mode();
            Ok(())
        }
        fn connection_lost(&mut self, reason: &Failure) {
            self.0.replace(reason.to_string());
        }
    }
    let memory = MemoryReactor::new();
    let reason = Rc::new(RefCell::new(String::new()));
    let peer = memory.connect(LineReceiver::new(Forgetful(reason.clone())));
    peer.exchange("a\r\nb");
    assert!(
        reason.borrow().contains("Forgetful has set raw mode"),
        "{}",
        reason.borrow()
    );
}

/// PR-14.
#[test]
fn an_unfinished_line_at_the_end_is_dropped() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::new();
    let peer = connect(&memory, LineReceiver::new(recorder.clone()));
    peer.send("a\r\nb");
    peer.close_sending();
    memory.pump();
    let calls = recorder.take();
    assert_eq!(calls[0], Line("a".into()));
    assert!(matches!(&calls[1..], [Lost(_)]), "{calls:?}");
}

/// PR-08: the end of the input comes behind the lines that were kept.
#[test]
fn lines_that_are_kept_come_before_the_end_of_the_input() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::with(|lines, line| {
        if line == "1" {
            lines.transport().pause_producing();
        }
        Ok(())
    });
    let peer = connect(&memory, LineReceiver::new(recorder.clone()).delimiter("\n"));
    peer.send("1\n2\n");
    peer.close_sending();
    memory.pump();
    assert_eq!(recorder.take(), lines(["1"]));
    recorder.lines().transport().resume_producing();
    memory.pump();
    let calls = recorder.take();
    assert_eq!(calls[0], Line("2".into()));
    assert!(matches!(calls[1], Lost(_)));
}

/// The plain way: what `LineReceiver` does, for input that has come whole.
fn model(input: &[u8], delimiter: &[u8], limit: usize) -> Vec<Option<String>> {
    let mut calls = Vec::new();
    let mut rest = input;
    loop {
        let end = (0..rest.len()).find(|&at| rest[at..].starts_with(delimiter));
        let Some(end) = end else {
            if rest.len() >= limit + delimiter.len() {
                calls.push(None);
            }
            return calls;
        };
        calls.push((end <= limit).then(|| text(&rest[..end])));
        rest = &rest[end + delimiter.len()..];
    }
}

proptest! {
    /// PR-01 to PR-05, against the plain way.
    #[test]
    fn any_input_in_any_pieces_gives_the_same_lines(
        input in "[ab\r\n]{0,60}",
        pieces in prop::collection::vec(1..9_usize, 0..30),
        delimiter in prop::sample::select(vec!["\n", "\r\n", "\r\n\r\n", "aa"]),
        limit in 0..12_usize,
    ) {
        let memory = MemoryReactor::new();
        let recorder = Recorder::new();
        let receiver = LineReceiver::new(recorder.clone()).delimiter(delimiter).max_length(limit);
        let peer = connect(&memory, receiver);
        let mut rest = input.as_bytes();
        for piece in pieces {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            peer.exchange(now);
            rest = later;
        }
        peer.exchange(rest);
        let calls: Vec<_> = recorder.take().into_iter().map(|call| match call {
            Line(line) => Some(line),
            TooLong(_) => None,
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(calls, model(input.as_bytes(), delimiter.as_bytes(), limit));
    }
}
