//! Requests as bytes, and what becomes of them however the network cuts them.
//!
//! Each vector is sent whole, byte by byte, and in each two pieces. Where two readers could take
//! the same bytes for different requests, one of them may be a proxy in front of us: so a refused
//! request ends its connection, and nothing behind it is looked at.

use std::cell::RefCell;
use std::rc::Rc;

use prometheus_deferred::testing::MemoryReactor;
use prometheus_deferred::web::{Rendered, Request, Resource, Site};

/// Answers with what it understood, and notes it.
struct Echo(Rc<RefCell<Vec<String>>>);

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
struct Vectors {
    memory: MemoryReactor,
    notes: Rc<RefCell<Vec<String>>>,
}

/// What a client saw, and what the site answered.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    statuses: Vec<u16>,
    answered: Vec<String>,
    has_ended: bool,
}

impl Vectors {
    fn new() -> Self {
        let memory = MemoryReactor::new();
        let notes = Rc::default();
        let site = Site::new(Echo(Rc::clone(&notes)));
        memory.listen_tcp("127.0.0.1:80", site).unwrap();
        Self { memory, notes }
    }

    fn send<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
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
    fn see(&self, bytes: &[u8]) -> Seen {
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
    fn refuses(&self, status: u16, bytes: impl AsRef<[u8]>) {
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
    fn takes(&self, note: &str, bytes: impl AsRef<[u8]>) {
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
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    let status = |rest: &str| rest.get(..3)?.parse().ok();
    text.split("HTTP/1.1 ").filter_map(status).collect()
}

fn with_host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn with_line(line: &str) -> String {
    format!("{line}\r\nHost: h\r\n\r\n")
}

/// F-22. RFC 9112, 3.2: a server MUST refuse an invalid Host field value.
#[test]
fn hosts_are_checked() {
    let vectors = Vectors::new();
    for host in [
        "example.org",
        "example.org:8080",
        "EXAMPLE.org.",
        "h:",
        "127.0.0.1:80",
        "[::1]",
        "[2001:db8::1]:8080",
        "[::ffff:1.2.3.4]",
        "a_b-c.d~e",
        "a%20b",
        "h!$&'()*+;=",
    ] {
        vectors.takes("GET /", with_host(host));
    }
    for host in [
        "",
        ":80",
        "h h",
        "h\th",
        "h:80a",
        "h:+80",
        "h:-1",
        "h:65536",
        "h:80:80",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[h]",
        "[::1%25eth0]",
        "[::1]80",
        "[::1]:x",
        "[v1.a]",
        "a[b]",
        "user@h",
        "user:word@h",
        "h/path",
        "h?query",
        "h#fragment",
        "http://h",
        "h,other",
        "h, other",
        "h%",
        "h%4",
        "h%zz",
        "h<script>",
        "h\"",
        "h\\",
        "h\u{e4}",
        "h^",
        "h|",
    ] {
        vectors.refuses(400, with_host(host));
    }
    vectors.refuses(400, b"GET / HTTP/1.1\r\nHost: h\xff\r\n\r\n");
    vectors.refuses(400, b"GET / HTTP/1.1\r\n\r\n");
    vectors.refuses(400, b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n");
    vectors.refuses(400, b"GET / HTTP/1.1\r\nHost: h\r\nhOST:\r\n\r\n");
    vectors.refuses(400, b"GET / HTTP/1.0\r\nHost: h h\r\n\r\n");
}

/// F-22. RFC 9112, 3.2.2 and RFC 9110, 4.2: the authority of an absolute target is a host, stands
/// for the Host field, and is never empty.
#[test]
fn absolute_targets_name_a_host() {
    let vectors = Vectors::new();
    for (target, host) in [
        ("http://h/a?b", "h"),
        ("HTTP://H:80", "H:80"),
        ("https://[::1]/", "other"),
        ("http://h/", ""),
        ("http://h?q", "h"),
    ] {
        let note = format!("GET {target}");
        vectors.takes(
            &note,
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        );
    }
    for target in [
        "http://",
        "http:///a",
        "http://?q",
        "http://:80/",
        "http://user@h/",
        "http://a,b/",
        "http://h:x/",
        "http:/h/",
        "http:h",
        "ftp://h/",
        "h/a",
        "h:80",
        "",
    ] {
        vectors.refuses(400, with_line(&format!("GET {target} HTTP/1.1")));
    }
    // The Host field is replaced, but it is looked at.
    vectors.refuses(400, "GET http://h/ HTTP/1.1\r\nHost: h h\r\n\r\n");
    vectors.refuses(400, "GET http://h/ HTTP/1.1\r\n\r\n");
}

/// F-24. RFC 9112, 2.3 and RFC 9110, 15.6.6. The last of 505 is the preface of HTTP/2.
#[test]
fn versions_are_told_apart() {
    let vectors = Vectors::new();
    for minor in 1..10 {
        vectors.takes("GET /", with_line(&format!("GET / HTTP/1.{minor}")));
    }
    for line in [
        "GET / HTTP/0.9",
        "GET / HTTP/2.0",
        "GET / HTTP/3.0",
        "GET / HTTP/9.9",
    ] {
        vectors.refuses(505, with_line(line));
    }
    vectors.refuses(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    for version in [
        "HTTP/1.32",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/4294967297.1",
        "HTTP/1.",
        "HTTP/1",
        "HTTP/.1",
        "HTTP/2",
        "HTTP/1,1",
        "HTTP/+1.1",
        "HTTP/-1.1",
        "HTTP/1.1x",
        "HTTP/\r1.1",
        "http/1.1",
        "HTTPS/1.1",
        "HTTP 1.1",
        "1.1",
    ] {
        vectors.refuses(400, with_line(&format!("GET / {version}")));
    }
}

/// W-42. RFC 9112, 3.
#[test]
fn request_lines_have_one_form() {
    let vectors = Vectors::new();
    for (line, note) in [
        ("get / HTTP/1.1", "get /"),
        ("GET //host/path HTTP/1.1", "GET //host/path"),
        ("GET /%00 HTTP/1.1", "GET /%00"),
        ("GET /%0d%0a HTTP/1.1", "GET /%0d%0a"),
        ("GET /?a\\b|c HTTP/1.1", "GET /?a\\b|c"),
        ("M-SEARCH / HTTP/1.1", "M-SEARCH /"),
    ] {
        vectors.takes(note, with_line(line));
    }
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1\t",
        " GET / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /",
        "GET",
        "\"GET\" / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /a\\b HTTP/1.1",
        "GET /\u{fc} HTTP/1.1",
        "GET /%C0%AF HTTP/1.1",
        "GET /%ff HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{b} HTTP/1.1",
        "GET / HTTP/1.1\rX: y",
    ] {
        vectors.refuses(400, with_line(line));
    }
    vectors.refuses(400, b"GET /\xc0\xaf HTTP/1.1\r\nHost: h\r\n\r\n");
    vectors.refuses(400, "GET /\n HTTP/1.1\r\nHost: h\r\n\r\n");
}

/// F-30. A bad escape matters where the path is walked, and nowhere else.
#[test]
fn percent_signs_are_escapes_in_paths_alone() {
    let vectors = Vectors::new();
    for target in ["/?q=100%", "/?%zz=%4&%", "/%20?%"] {
        vectors.takes(
            &format!("GET {target}"),
            with_line(&format!("GET {target} HTTP/1.1")),
        );
    }
    for target in ["/%", "/%4", "/%zz", "/%4?a", "/%-1", "http://h/%"] {
        vectors.refuses(400, with_line(&format!("GET {target} HTTP/1.1")));
    }
}

/// F-30. The decoder of the query shows a percent sign that is no escape as it is.
#[test]
fn a_percent_sign_in_a_query_is_itself() {
    let memory = MemoryReactor::new();
    let mut app = prometheus_deferred::web::Klein::new();
    app.route("/", |request: Request| {
        let values: Vec<_> = request
            .args()
            .map(|(_, value)| value.into_owned())
            .collect();
        values.join("|")
    });
    memory
        .listen_tcp("127.0.0.1:80", Site::new(app.resource()))
        .unwrap();
    let client = memory.connect_to("127.0.0.1:80").unwrap();
    let answer = client.exchange("GET /?q=100%&r=%zz&s=%41%4 HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n100%|%zz|A%4"), "{answer}");
}

/// W-43. RFC 9112, 5.
#[test]
fn fields_have_one_form() {
    let vectors = Vectors::new();
    let with = |field: &[u8]| {
        [
            b"GET / HTTP/1.1\r\nHost: h\r\n".as_slice(),
            field,
            b"\r\n\r\n",
        ]
        .concat()
    };
    for field in [
        b"A:".as_slice(),
        b"A: \t b \t ",
        b"A: \x80\xff",
        b"!#$%&'*+-.^_`|~: x",
        b"Content_Length: 3",
        b"Transfer_Encoding: chunked",
    ] {
        vectors.takes("GET /", with(field));
    }
    for field in [
        b"A".as_slice(),
        b":",
        b": x",
        b"A : x",
        b"A\t: x",
        b" A: x",
        b"\tA: x",
        b"A: x\r\n folded",
        b"A: x\r\n\tfolded",
        b"A\x80: x",
        b"\xff: x",
        b"A(: x",
        b"A/: x",
        b"A: x\0",
        b"A: x\ry",
        b"A: x\x0b",
        b"A: x\x7f",
        b"A: x\n",
        b"\rX",
        b"A: x\r\r",
    ] {
        vectors.refuses(400, with(field));
    }
    // A folded line behind the request line could be taken for a part of it.
    vectors.refuses(400, "GET / HTTP/1.1\r\n Host: h\r\n\r\n");
}

/// F-25, W-44. RFC 9112, 6.1 and 6.3.
#[test]
fn transfer_codings_are_chunked_or_refused() {
    let vectors = Vectors::new();
    let post = |version: &str, value: &[u8]| {
        let head = format!("POST / {version}\r\nHost: h\r\nTransfer-Encoding:");
        [head.as_bytes(), value, b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"].concat()
    };
    for value in [" chunked", "chunked", "\tchunked\t ", " cHuNkEd"] {
        vectors.takes("POST / abc", post("HTTP/1.1", value.as_bytes()));
    }
    for value in [
        " gzip",
        " identity",
        " xchunked",
        " gzip, chunked",
        " chunked1",
        " br,gzip",
    ] {
        vectors.refuses(501, post("HTTP/1.1", value.as_bytes()));
    }
    for value in [
        b"".as_slice(),
        b" ,",
        b" ,chunked",
        b" chunked,",
        b" chunked, chunked",
        b" chunked, gzip",
        b" chunked;x=y",
        b" \"chunked\"",
        b" chunked\xa0",
        b" \x85chunked",
        b" \xffchunked",
        b" \x0bchunked",
        b" chunked\x0c",
        b" chunked\0",
        b" chun ked",
        b"\r\n chunked",
        b" chunked\r\nTransfer-Encoding: chunked",
        b" chunked\r\nTransfer-Encoding: gzip",
        b" chunked\r\nContent-Length: 3",
        b" chunked\r\nContent-Length: 0",
    ] {
        vectors.refuses(400, post("HTTP/1.1", value));
    }
    vectors.refuses(400, post("HTTP/1.0", b" chunked"));
    vectors.refuses(400, post("HTTP/1.0", b" gzip"));
}

/// W-44. RFC 9112, 6.3.
#[test]
fn lengths_are_decimal_numbers() {
    let vectors = Vectors::new();
    let post = |value: &[u8]| {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:".as_slice();
        [head, value, b"\r\n\r\n0123456789"].concat()
    };
    for value in ["10", " 10 ", "\t10", " 010", " 00000000000000000000010"] {
        vectors.takes("POST / 0123456789", post(value.as_bytes()));
    }
    for value in [
        b"".as_slice(),
        b" +10",
        b" -0",
        b" -10",
        b" 0x5",
        b" 1_0",
        b" 1 0",
        b" 10,10",
        b" 10, 11",
        b" 10,",
        b" 10.0",
        b" 1e1",
        b" 18446744073709551616",
        b" 99999999999999999999999",
        b" 10\xa0",
        b" \xd9\xa1\xd9\xa0",
        b" 10\x0b",
        b" 10\r\nContent-Length: 10",
        b" 10\r\nContent-Length: 11",
        b" 10\r\nTransfer-Encoding: chunked",
    ] {
        vectors.refuses(400, post(value));
    }
}

/// F-29, W-45. RFC 9112, 7.1.
#[test]
fn chunks_have_one_form() {
    let vectors = Vectors::new();
    let post = |chunks: &[u8]| {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
        [head, chunks].concat()
    };
    for chunks in [
        "5\r\nhello\r\n0\r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n000\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0;b\r\n\r\n",
        "5 ;\ta = b ; c=\"d \\\" ;e\"\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\nHost: a b\r\n\r\n",
        "5\r\nhello\r\n0\r\nAuthorization: x\r\nContent-Type: y\r\nX:\r\n\r\n",
    ] {
        vectors.takes("POST / hello", post(chunks.as_bytes()));
    }
    for size in [
        b"".as_slice(),
        b"0_5",
        b"+5",
        b"-1",
        b"0x5",
        b" 5",
        b"5 ",
        b"5\t",
        b"5 a",
        b"5a;;",
        b"5;",
        b"5; ",
        b"5;=x",
        b"5;a=",
        b"5;a b",
        b"5;a=\"b",
        b"5;a=\"b\"c",
        b"5;a=\"\\",
        b"5;a\0",
        b"5;a\rb",
        b"5;a\x7f",
        b"5;(",
        b"5;a=\xff",
        b"5 a=b",
        b"5,a",
        b"5.0",
        b"g",
        b"00000000000000005",
        b"10000000000000000",
        b"fffffffffffffffff",
        b"\xd9\xa5",
    ] {
        vectors.refuses(400, post(&[size, b"\r\nhello\r\n0\r\n\r\n"].concat()));
    }
    for chunks in [
        b"5\nhello\r\n0\r\n\r\n".as_slice(),
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\rhello\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello\rX0\r\n\r\n",
        b"5\r\nhello\n\r0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n0\r\nX\r\n\r\n",
        b"5\r\nhello\r\n0\r\n: x\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\n\r\n",
        b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n folded\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\rX",
    ] {
        vectors.refuses(400, post(chunks));
    }
}

/// F-29. What is not content is worth less than what is: the work for a byte of it is bounded.
#[test]
fn chunk_framing_is_bounded_by_the_content() {
    let vectors = Vectors::new();
    let post = |chunk: &str, count: usize| {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", chunk.repeat(count))
    };
    let statuses = |bytes: String| vectors.send([bytes.as_bytes()]).statuses;
    // A megabyte of content in the smallest chunks is served.
    assert_eq!(statuses(post("1\r\nx\r\n", 1 << 20)), [200]);
    let extension = format!("1;{}\r\nx\r\n", "x".repeat(500));
    assert_eq!(statuses(post(&extension, 30)), [200]);
    assert_eq!(statuses(post(&extension, 40)), [400]);
    assert_eq!(statuses(post("0000000000000001\r\nx\r\n", 10_000)), [400]);
    let long = format!("1;{}\r\nx\r\n", "x".repeat(64 * 1024));
    assert_eq!(statuses(post(&long, 1)), [400]);
}

/// W-50. A refused request does not undo what came before it.
#[test]
fn a_good_request_before_a_bad_one_is_answered() {
    let vectors = Vectors::new();
    let seen =
        vectors.see(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h h\r\n\r\n");
    let want = Seen {
        statuses: vec![200, 400],
        answered: vec!["GET /a".into()],
        has_ended: true,
    };
    assert_eq!(seen, want);
    let seen = vectors
        .see(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
    assert_eq!(seen.statuses, [200]);
    assert_eq!(seen.answered, ["GET /a"]);
}

/// F-23. HTTP/1.0 clients that ask for it keep their connection, and are told so.
#[test]
fn http_10_persists_on_request() {
    let memory = MemoryReactor::new();
    let site = Site::new(Echo(Rc::default()));
    memory.listen_tcp("127.0.0.1:80", site).unwrap();
    for (fields, connection, stays) in [
        ("Connection: keep-alive\r\n", Some("keep-alive"), true),
        ("Connection: x, Keep-Alive\r\n", Some("keep-alive"), true),
        ("Connection: keep-alive, close\r\n", Some("close"), false),
        ("", Some("close"), false),
    ] {
        let client = memory.connect_to("127.0.0.1:80").unwrap();
        for _ in 0..2 {
            let answer = client.exchange(format!("GET / HTTP/1.0\r\n{fields}\r\n"));
            let answer = String::from_utf8(answer).unwrap();
            let found = answer
                .lines()
                .find_map(|line| line.strip_prefix("Connection: "));
            assert_eq!(found, connection, "{fields}");
            assert_eq!(!client.has_ended(), stays, "{fields}");
            if !stays {
                break;
            }
        }
    }
}

/// W-49. RFC 9110, 10.1.1.
#[test]
fn expectations_are_met_or_refused() {
    let vectors = Vectors::new();
    let post = |line: &str, value: &str| {
        format!("POST / {line}\r\nHost: h\r\nExpect: {value}\r\nContent-Length: 3\r\n\r\nabc")
    };
    let seen = vectors.send([post("HTTP/1.1", "100-Continue").as_bytes()]);
    assert_eq!(seen.statuses, [100, 200]);
    let seen = vectors.send([post("HTTP/1.0", "100-continue").as_bytes()]);
    assert_eq!(seen.statuses, [200]);
    for value in ["", "100", "200-ok", "100-continue, x", "\"100-continue\""] {
        vectors.refuses(417, post("HTTP/1.1", value));
    }
}

/// Bodies are framed alike whatever the method (RFC 9112, 6).
#[test]
fn any_method_may_have_a_body() {
    let vectors = Vectors::new();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "X"] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
        vectors.takes(&format!("{method} / abc"), bytes);
    }
}

/// `Upgrade` is ignored, and what follows is the next request.
#[test]
fn upgrades_are_ignored() {
    let vectors = Vectors::new();
    for fields in [
        "Connection: upgrade\r\nUpgrade: websocket",
        "Upgrade: h2c",
        "Connection: upgrade",
    ] {
        vectors.takes(
            "GET /",
            format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"),
        );
    }
}
