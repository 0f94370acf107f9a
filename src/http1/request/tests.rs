use std::fmt;

use super::*;
use crate::http1::Reason;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 400,
    line_bytes: 100,
    fields: 40,
};

fn read(bytes: &[u8]) -> Result<RequestHead, Refusal> {
    let mut head = RequestHead::default();
    let end = Scan::default()
        .find_end(bytes, &LIMITS)?
        .expect("a complete head");
    head.read(&bytes[..end], &LIMITS)?;
    Ok(head)
}

fn line(line: &str) -> Result<RequestHead, Refusal> {
    read(format!("{line}\r\nHost: h\r\n\r\n").as_bytes())
}

fn field(field: &str) -> Result<RequestHead, Refusal> {
    read(format!("POST / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n").as_bytes())
}

/// W-42.
#[test]
fn malformed_request_lines_are_refused() {
    for (bad, want) in [
        ("GET  / HTTP/1.1", Reason::MalformedRequestLine),
        ("GET /  HTTP/1.1", Reason::MalformedRequestLine),
        (" GET / HTTP/1.1", Reason::MalformedRequestLine),
        ("GET / HTTP/1.1 ", Reason::MalformedRequestLine),
        ("GET /", Reason::MalformedRequestLine),
        ("GET", Reason::MalformedRequestLine),
        ("GET HTTP/1.1", Reason::MalformedRequestLine),
        ("G\u{1}T / HTTP/1.1", Reason::MalformedRequestLine),
        ("GET /\0 HTTP/1.1", Reason::MalformedRequestLine),
        ("GET / HTTP/1.32", Reason::MalformedVersion),
        ("GET / HTTP/2.0", Reason::UnsupportedVersion),
        ("GET / HTTP/0.9", Reason::UnsupportedVersion),
        ("GET / http/1.1", Reason::MalformedVersion),
        ("GET /a#b HTTP/1.1", Reason::BadTarget),
        ("GET /%zz HTTP/1.1", Reason::BadTarget),
        ("GET /%4 HTTP/1.1", Reason::BadTarget),
        ("GET /\u{fc} HTTP/1.1", Reason::BadTarget),
        ("GET relative HTTP/1.1", Reason::BadTarget),
        ("GET ftp://h/ HTTP/1.1", Reason::BadTarget),
    ] {
        let error = line(bad).unwrap_err().reason();
        assert_eq!(error, want, "{bad:?}");
    }
}

#[test]
fn targets_have_a_path_and_a_query() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/a/b?c=d", "/a/b", Some("c=d")),
        ("/a??", "/a", Some("?")),
        ("//evil/x", "//evil/x", None),
        ("http://h/a?b", "/a", Some("b")),
        ("HTTP://h", "/", None),
        ("https://h?b", "/", Some("b")),
        ("*", "*", None),
    ] {
        let head = line(&format!("GET {target} HTTP/1.1")).unwrap();
        assert_eq!((head.path(), head.query()), (path, query), "{target:?}");
    }
}

/// W-43.
#[test]
fn malformed_fields_are_refused() {
    for bad in [
        "No colon",
        "Name : x",
        "N\u{e4}me: x",
        "N(me: x",
        "A: b\0c",
        ": x",
        " A: b",
    ] {
        assert_eq!(
            field(bad).unwrap_err().reason(),
            Reason::MalformedField,
            "{bad:?}"
        );
    }
    assert_eq!(
        read(b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n")
            .unwrap_err()
            .reason(),
        Reason::MalformedField
    );
}

#[test]
fn lines_end_in_carriage_return_and_line_feed() {
    for bad in [
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\n",
    ] {
        let found = Scan::default().find_end(bad.as_bytes(), &LIMITS);
        assert_eq!(found.unwrap_err().reason(), Reason::BareLineFeed, "{bad:?}");
    }
}

/// W-44.
#[test]
fn ambiguous_framing_is_refused() {
    for bad in [
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
    ] {
        assert_eq!(
            field(bad).unwrap_err().reason(),
            Reason::AmbiguousLength,
            "{bad:?}"
        );
    }
    for bad in ["gzip", "gzip, chunked", "identity", "xchunked", "a, b"] {
        let error = field(&format!("Transfer-Encoding: {bad}")).unwrap_err();
        assert_eq!(error.reason(), Reason::UnknownTransferCoding, "{bad:?}");
    }
    for bad in [
        "",
        ",",
        ",chunked",
        "chunked,",
        "chunked;x=y",
        "chunked, gzip",
        "chunked, chunked",
        "\"chunked\"",
        "\u{a0}chunked",
        "chunked\u{85}",
        "chun ked",
        "chunked;",
    ] {
        let error = field(&format!("Transfer-Encoding: {bad}")).unwrap_err();
        assert_eq!(error.reason(), Reason::MalformedTransferCoding, "{bad:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(old).unwrap_err().reason(), Reason::OldTransferCoding);
}

#[test]
fn a_request_has_one_host() {
    assert_eq!(
        read(b"GET / HTTP/1.1\r\n\r\n").unwrap_err().reason(),
        Reason::MissingHost
    );
    assert_eq!(
        field("Host: other").unwrap_err().reason(),
        Reason::RepeatedHost
    );
    assert!(read(b"GET / HTTP/1.0\r\n\r\n").is_ok());
}

/// F-22. RFC 9112, 3.2.2: the authority of an absolute target replaces the Host field.
#[test]
fn the_host_is_that_of_the_target_or_of_the_field() {
    for (lines, host) in [
        ("GET / HTTP/1.1\r\nHost: h:80", Some("h:80")),
        ("GET http://a/b HTTP/1.1\r\nX: y\r\nHost: other", Some("a")),
        ("POST https://[::1]:8/ HTTP/1.1\r\nHost:", Some("[::1]:8")),
        ("GET http://a HTTP/1.0\r\nX: y", Some("a")),
        ("GET / HTTP/1.0", None),
        ("GET / HTTP/1.0\r\nHost:", None),
        ("OPTIONS * HTTP/1.1\r\nHost:", None),
    ] {
        let head = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(head.host(), host, "{lines}");
    }
}

/// RFC 9110, 7.8: HTTP/1.0 has no Upgrade, and elsewhere Connection names it.
#[test]
fn an_upgrade_is_wanted_where_both_fields_say_so() {
    for (lines, wants) in [
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Upgrade\r\nUpgrade: websocket",
            true,
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket", false),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade", false),
        (
            "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket",
            false,
        ),
    ] {
        let head = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(head.wants_upgrade, wants, "{lines}");
    }
}

#[test]
fn connection_options_are_understood() {
    for (lines, closes) in [
        ("GET / HTTP/1.1\r\nHost: h", false),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: Close", true),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: te, close", true),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: closed", false),
        ("GET / HTTP/1.0", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, close", true),
    ] {
        let head = read(format!("{lines}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(!head.persists, closes, "{lines:?}");
    }
}

/// W-46. A head just within the limits is read, and of two limits the smaller one counts, whether
/// the head comes whole or byte by byte.
#[test]
fn what_a_limit_refuses_does_not_depend_on_pieces() {
    let good = "GET /12345678 HTTP/1.1\r\nHost: h\r\n\r\n";
    let (line, bytes) = (good.find('\n').unwrap(), good.len());
    let endless = "GET /1234567890123456789012345678901234567890";
    let bare = "GET /1234567890123456789012345678901234567890\n";
    for (text, line_bytes, bytes, want) in [
        (good, line, bytes, None),
        (good, line - 1, bytes, Some(Reason::RequestLineTooLong)),
        (good, line, bytes - 1, Some(Reason::HeadTooLarge)),
        (good, 10, 20, Some(Reason::RequestLineTooLong)),
        (good, 20, 10, Some(Reason::HeadTooLarge)),
        (endless, 10, 20, Some(Reason::RequestLineTooLong)),
        (endless, 20, 10, Some(Reason::HeadTooLarge)),
        (bare, 10, 20, Some(Reason::RequestLineTooLong)),
        (bare, 20, 10, Some(Reason::HeadTooLarge)),
        (good, usize::MAX, usize::MAX, None),
    ] {
        let limits = HeadLimits {
            bytes,
            line_bytes,
            fields: usize::MAX,
        };
        let found = |step: usize| {
            let mut head = RequestHead::default();
            let mut reader = RequestReader::default();
            let mut ends = (1..=text.len()).filter(|end| end % step == 0 || *end == text.len());
            ends.find_map(|end| {
                let outcome = reader.read(&mut head, &text.as_bytes()[..end], &limits);
                outcome.err().map(|refusal| refusal.reason())
            })
        };
        for step in [1, 7, text.len()] {
            assert_eq!(found(step), want, "{text:?} {limits:?} by {step}");
        }
    }
}

/// W-46.
#[test]
fn heads_beyond_the_limits_are_refused_before_they_end() {
    let scan = |text: &str| Scan::default().find_end(text.as_bytes(), &LIMITS);
    let long_line = format!("GET /{}", "x".repeat(100));
    assert_eq!(
        scan(&long_line).unwrap_err().reason(),
        Reason::RequestLineTooLong
    );
    let too_long = Reason::HeadTooLarge;
    let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(400));
    assert_eq!(scan(&long).unwrap_err().reason(), too_long);
    assert_eq!(
        scan(&format!("{long}\r\n\r\n")).unwrap_err().reason(),
        too_long
    );
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A:b\r\n".repeat(40));
    assert_eq!(
        read(many.as_bytes()).unwrap_err().reason(),
        Reason::TooManyFields
    );
    let enough = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A:b\r\n".repeat(39));
    assert_eq!(read(enough.as_bytes()).unwrap().fields().iter().count(), 40);
}

/// W-42, W-43. Some parsers take a line feed alone for the end of a line. Wherever one stands, the
/// head is not read at once, and refused by the scan.
#[test]
fn no_line_that_ends_in_a_line_feed_alone_is_read_at_once() {
    let lines = ["GET / HTTP/1.1", "Host: h", "A: b", ""];
    let head = |bare: Option<usize>| -> String {
        let end = |at| if bare == Some(at) { "\n" } else { "\r\n" };
        let lines = lines.iter().enumerate();
        lines
            .map(|(at, line)| format!("{line}{}", end(at)))
            .collect()
    };
    let read = |text: &str| RequestHead::default().read_at_once(text.as_bytes(), &LIMITS);
    let good = head(None);
    assert_eq!(read(&good), Some(good.len()));
    for bare in 0..lines.len() {
        let bad = head(Some(bare));
        assert_eq!(read(&bad), None, "{bad:?}");
        let refused = Scan::default().find_end(bad.as_bytes(), &LIMITS);
        assert_eq!(
            refused.unwrap_err().reason(),
            Reason::BareLineFeed,
            "{bad:?}"
        );
    }
}

fn meaning(head: &RequestHead) -> impl PartialEq + fmt::Debug {
    let fields: Vec<_> = head
        .fields()
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect();
    let target = (head.target().to_owned(), head.path().to_owned());
    let method = (head.method.clone(), head.version);
    let body = (
        head.framing,
        head.persists,
        head.wants_upgrade,
        head.expects_continue,
    );
    (method, target, fields, body, head.has_escapes())
}

proptest::proptest! {
    /// What is read at once is what two steps would have read, and what is left to them is
    /// refused, or incomplete, or has many fields.
    #[test]
    fn one_step_reads_what_two_steps_read(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "GET / HTTP/1.1\r\n", "POST /a?b%20 HTTP/1.0\r\n", "GET  /#", "Host: h\r\n", "A:b\r\n",
            "Content-Length: 3\r\n", "Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n", "X: 1\n", "\r\n", "\n", "\r", " ", "x", "GET", ":",
            "E:\r\n", "E: \t \r\n", " folded\r\n", "\t", "\0", "\u{e9}", "Expect: 100-continue\r\n",
            "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
            "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ]), 0..14),
        is_started in proptest::bool::weighted(0.8),
        fields in proptest::sample::select(vec![2, 40]),
    ) {
        let limits = HeadLimits { fields, ..LIMITS };
        let start = if is_started { "GET /s HTTP/1.1\r\nHost: h\r\n" } else { "" };
        let bytes = format!("{start}{}", pieces.concat()).into_bytes();
        let mut at_once = RequestHead::default();
        let length = at_once.read_at_once(&bytes, &limits);
        let end = Scan::default().find_end(&bytes, &limits);
        let mut head = RequestHead::default();
        let read = match end {
            Ok(Some(end)) if head.read(&bytes[..end], &limits).is_ok() => Some(end),
            _ => None,
        };
        // An empty line comes first: that is counted elsewhere.
        if bytes.starts_with(b"\r") {
            assert_eq!(length, None);
        } else {
            assert_eq!(length, read);
        }
        if length.is_some() {
            assert_eq!(meaning(&at_once), meaning(&head));
        }
    }

    /// W-47. The end is found in the same place wherever the bytes are cut, and no input
    /// makes the reader panic.
    #[test]
    fn pieces_do_not_matter(
        bytes in proptest::collection::vec(
            proptest::sample::select(b"\r\r\n\nGET /x:HTTP1.1 Host".to_vec()), 0..120),
        cut in 0usize..120,
    ) {
        let whole = Scan::default().find_end(&bytes, &LIMITS);
        let mut scan = Scan::default();
        let pieces = match scan.find_end(&bytes[..cut.min(bytes.len())], &LIMITS) {
            Ok(None) => scan.find_end(&bytes, &LIMITS),
            found => found,
        };
        assert_eq!(&pieces, &whole);
        if let Ok(Some(end)) = whole {
            let _ = RequestHead::default().read(&bytes[..end], &LIMITS);
        }
    }
}
