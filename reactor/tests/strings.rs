//! What a protocol of strings with their lengths is called with.

use std::cell::RefCell;
use std::rc::Rc;

use deferred_reactor::Failure;
use deferred_reactor::protocols::{
    Int8StringReceiver, Int16StringReceiver, Int32StringReceiver, NetstringParseError,
    NetstringReceiver, StringFormat, StringProtocol, StringReceiver, StringTooLongError,
    StringTransport,
};
use deferred_reactor::testing::{MemoryConnection, MemoryReactor};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Got(Vec<u8>),
    TooLong(u64),
    Malformed(NetstringParseError),
}

use Call::{Got, Malformed, TooLong};

/// Writes down its calls.
#[derive(Clone, Default)]
struct Recorder {
    calls: Rc<RefCell<Vec<Call>>>,
    strings: Rc<RefCell<Option<StringTransport>>>,
    pauses: bool,
    stays_open: bool,
}

impl Recorder {
    fn take(&self) -> Vec<Call> {
        self.calls.take()
    }

    fn strings(&self) -> StringTransport {
        self.strings.borrow().clone().expect("it is connected")
    }
}

impl StringProtocol for Recorder {
    fn connection_made(&mut self, strings: &StringTransport) -> Result<(), Failure> {
        self.strings.replace(Some(strings.clone()));
        Ok(())
    }

    fn string_received(&mut self, strings: &StringTransport, string: &[u8]) -> Result<(), Failure> {
        self.calls.borrow_mut().push(Got(string.to_vec()));
        if self.pauses {
            strings.transport().pause_producing();
        }
        Ok(())
    }

    fn length_limit_exceeded(
        &mut self,
        strings: &StringTransport,
        length: u64,
    ) -> Result<(), Failure> {
        self.calls.borrow_mut().push(TooLong(length));
        if !self.stays_open {
            strings.lose_connection();
        }
        Ok(())
    }

    fn handle_parse_error(
        &mut self,
        strings: &StringTransport,
        error: NetstringParseError,
    ) -> Result<(), Failure> {
        self.calls.borrow_mut().push(Malformed(error));
        if !self.stays_open {
            strings.lose_connection();
        }
        Ok(())
    }
}

fn connect<F: StringFormat>(
    memory: &MemoryReactor,
    receiver: StringReceiver<Recorder, F>,
) -> MemoryConnection {
    let peer = memory.connect(receiver);
    memory.pump();
    peer
}

fn got<const N: usize>(strings: [&str; N]) -> Vec<Call> {
    strings.map(|string| Got(string.into())).to_vec()
}

fn arrives<F: StringFormat>(
    make: fn(Recorder) -> StringReceiver<Recorder, F>,
    input: &[u8],
    want: &[Call],
) {
    for piece in 1..=input.len() {
        let memory = MemoryReactor::new();
        let recorder = Recorder {
            stays_open: true,
            ..Recorder::default()
        };
        let peer = connect(&memory, make(recorder.clone()).max_length(5));
        peer.deliver_at_most(piece);
        peer.exchange(input);
        assert_eq!(
            recorder.take(),
            want,
            "{} in pieces of {piece}",
            input.escape_ascii()
        );
    }
}

/// PR-15, PR-17: a string that is too long is skipped where the protocol stays.
#[test]
fn strings_are_the_same_wherever_the_bytes_are_cut() {
    let mut want = got(["abc", "", "abcde"]);
    want.push(TooLong(6));
    want.extend(got(["z"]));
    arrives(
        Int8StringReceiver::new,
        b"\x03abc\x00\x05abcde\x06abcdef\x01z\x02y",
        &want,
    );
    arrives(
        Int16StringReceiver::new,
        b"\0\x03abc\0\x00\0\x05abcde\0\x06abcdef\0\x01z\0\x02y",
        &want,
    );
    arrives(
        Int32StringReceiver::new,
        b"\0\0\0\x03abc\0\0\0\x00\0\0\0\x05abcde\0\0\0\x06abcdef\0\0\0\x01z\0\0\0\x02y",
        &want,
    );
    arrives(
        NetstringReceiver::new,
        b"3:abc,0:,5:abcde,6:abcdef,1:z,2:y",
        &want,
    );
}

/// PR-16: nothing is kept for what is only announced.
#[test]
fn a_string_that_is_too_long_closes_the_connection_when_its_length_has_come() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::default();
    let peer = connect(&memory, Int32StringReceiver::new(recorder.clone()));
    peer.exchange(b"\0\x01\x86\xa0"); // 100 000
    assert_eq!(recorder.take(), [TooLong(100_000)]);
    assert!(peer.is_closed());

    let recorder = Recorder::default();
    let peer = connect(&memory, NetstringReceiver::new(recorder.clone()));
    peer.exchange("18446744073709551615:");
    assert_eq!(recorder.take(), [TooLong(u64::MAX)]);
    assert!(peer.is_closed());
}

/// PR-16: what the trait does by itself.
#[test]
fn a_protocol_that_does_not_care_loses_the_connection() {
    struct Plain;
    impl StringProtocol for Plain {
        fn string_received(&mut self, _: &StringTransport, _: &[u8]) -> Result<(), Failure> {
            Ok(())
        }
    }
    let memory = MemoryReactor::new();
    for input in ["100000:", "x"] {
        let peer = memory.connect(NetstringReceiver::new(Plain));
        peer.exchange(input);
        assert!(peer.is_closed(), "{input}");
    }
}

/// PR-05 of strings.
#[test]
fn maximum_lengths_hold_at_their_extremes() {
    for (limit, want) in [
        (0, vec![Got(vec![]), TooLong(1)]),
        (1, got(["", "a"])),
        (u64::MAX, got(["", "a"])),
    ] {
        let memory = MemoryReactor::new();
        let recorder = Recorder::default();
        let receiver = Int8StringReceiver::new(recorder.clone()).max_length(limit);
        connect(&memory, receiver).exchange(b"\0\x01a");
        assert_eq!(recorder.take(), want, "at most {limit}");
    }
}

/// PR-19: whatever the protocol does about it, nothing is delivered behind it.
#[test]
fn what_is_no_netstring_is_the_end() {
    for (input, error) in [
        ("1:a,x:,1:b,", NetstringParseError::Length { byte: b'x' }),
        ("1:a,2:xyz,1:b,", NetstringParseError::Comma { byte: b'z' }),
        ("1:a,01:x,1:b,", NetstringParseError::LeadingZero),
        (
            "1:a,99999999999999999999:",
            NetstringParseError::LengthTooLarge,
        ),
    ] {
        for stays_open in [false, true] {
            let memory = MemoryReactor::new();
            let recorder = Recorder {
                stays_open,
                ..Recorder::default()
            };
            let peer = connect(&memory, NetstringReceiver::new(recorder.clone()));
            peer.exchange(input);
            peer.exchange("1:c,");
            assert_eq!(
                recorder.take(),
                [Got(b"a".to_vec()), Malformed(error)],
                "{input}"
            );
            assert_eq!(peer.is_closed(), !stays_open);
        }
    }
}

/// PR-20.
#[test]
fn pausing_from_within_a_string_stops_delivery_at_once() {
    let memory = MemoryReactor::new();
    let recorder = Recorder {
        pauses: true,
        ..Recorder::default()
    };
    let peer = connect(&memory, NetstringReceiver::new(recorder.clone()));
    peer.exchange("1:a,1:b,1:");
    assert_eq!(recorder.take(), got(["a"]));
    peer.exchange("c,");
    assert_eq!(peer.unread(), 2);
    for want in ["b", "c"] {
        recorder.strings().transport().resume_producing();
        memory.pump();
        assert_eq!(recorder.take(), got([want]));
    }
}

/// PR-21.
#[test]
fn a_string_whose_length_does_not_fit_is_not_sent() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::default();
    let peer = connect(&memory, Int8StringReceiver::new(recorder.clone()));
    let error: StringTooLongError = recorder.strings().send_string([0; 256]).unwrap_err();
    assert_eq!((error.length, error.longest), (256, 255));
    recorder.strings().send_string([7; 255]).unwrap();
    let sent = peer.exchange("");
    assert_eq!((sent.len(), sent[0], sent[1]), (256, 255, 7));

    let peer = connect(&memory, NetstringReceiver::new(recorder.clone()));
    recorder.strings().send_string("hello").unwrap();
    assert_eq!(peer.exchange(""), b"5:hello,");
}

/// PR-12 of strings: each piece costs its own bytes.
#[test]
fn a_long_string_in_small_pieces_is_put_together_once() {
    let memory = MemoryReactor::new();
    let recorder = Recorder::default();
    let peer = connect(
        &memory,
        Int32StringReceiver::new(recorder.clone()).max_length(1 << 20),
    );
    peer.deliver_at_most(2);
    let string = vec![b'x'; 1 << 20];
    peer.send((1_u32 << 20).to_be_bytes());
    peer.exchange(&string);
    assert_eq!(recorder.take(), [Got(string)]);
}
