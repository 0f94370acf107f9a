//! What is understood as a request, and what is refused.
//!
//! Where two readers could take the same bytes for different requests, one of them may be the
//! proxy that guards us. So whatever is not plain is refused, and nothing after it is looked at.

mod support;

use prometheus_deferred::web::{Request, Site};
use support::{Reply, Server, keep, leaf, note};

/// Answers with the method, target and body, and notes that it ran.
fn echo(request: Request) -> String {
    note(request.target());
    let body = String::from_utf8_lossy(request.body()).into_owned();
    format!("{} {} {body}", request.method(), request.target())
}

/// Each of these is refused, the connection ends, and neither it nor what follows is dispatched.
fn assert_refused<'a>(server: &Server, status: u16, all: impl IntoIterator<Item = &'a [u8]>) {
    for bytes in all {
        let shown = bytes.escape_ascii().to_string();
        let mut client = server.connect();
        client.send(bytes);
        client.send("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
        let reply = client.reply();
        assert_eq!(reply.status, status, "{shown}");
        assert_eq!(reply.header("Connection"), Some("close"), "{shown}");
        assert_eq!(client.rest(), b"", "{shown}");
        assert_eq!(server.left_notes(), [""; 0], "{shown}");
    }
}

fn lines<const N: usize>(template: &str, all: [&str; N]) -> [Vec<u8>; N] {
    all.map(|line| template.replace("{}", line).into_bytes())
}

/// W-42.
#[test]
fn malformed_request_lines_are_refused() {
    let server = Server::of(echo);
    let bad = lines(
        "{}\r\nHost: h\r\n\r\n",
        [
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            " GET / HTTP/1.1",
            "GET / HTTP/1.1 ",
            "GET\t/ HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET  HTTP/1.1",
            "GET HTTP/1.1",
            "GET /",
            "GET",
            "/ HTTP/1.1",
            "G\u{1}T / HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET /\0 HTTP/1.1",
            "GET /\u{7f} HTTP/1.1",
            "GET /\u{fc} HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /%zz HTTP/1.1",
            "GET /%4 HTTP/1.1",
            "GET a HTTP/1.1",
            "GET ftp://h/ HTTP/1.1",
            "GET ** HTTP/1.1",
            "GET / HTTP/1.1.1",
            "GET / http/1.1",
            "GET / HTTP/11",
            "GET / XTTP/1.1",
            "\u{16}\u{3}\u{1}\u{2}",
        ],
    );
    assert_refused(&server, 400, bad.iter().map(Vec::as_slice));
    // The last one is the preface of HTTP/2.
    let versions = lines(
        "{}\r\nHost: h\r\n\r\n",
        ["GET / HTTP/0.9", "GET / HTTP/2.0", "PRI * HTTP/2.0"],
    );
    assert_refused(&server, 505, versions.iter().map(Vec::as_slice));
    let ends = lines(
        "{}",
        [
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\rHost: h\r\n\r\n",
        ],
    );
    assert_refused(&server, 400, ends.iter().map(Vec::as_slice));
}

/// W-42, K-19. A path that decodes to no text.
#[test]
fn a_path_that_is_not_utf_8_is_refused() {
    let server = Server::of(echo);
    let bad = lines(
        "GET {} HTTP/1.1\r\nHost: h\r\n\r\n",
        ["/%FF", "/a/%C3/b", "/%C3/%A9", "/%ED%A0%80"],
    );
    assert_refused(&server, 400, bad.iter().map(Vec::as_slice));
    assert_eq!(
        server.get("/a?b=%FF").status,
        200,
        "a query may be anything"
    );
}

/// W-43.
#[test]
fn malformed_fields_are_refused() {
    let server = Server::of(echo);
    let bad = lines(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n",
        [
            "No colon",
            "Name : x",
            "Name\t: x",
            ": x",
            " Name: x",
            "A: b\r\n folded: c",
            "A: b\r\n\tc",
            "N me: x",
            "N(me: x",
            "N\u{e4}me: x",
            "\u{b}Name: x",
            "A: b\0c",
            "A: b\rc",
            "A: b\u{7f}",
            "A: b\u{1b}[m",
            // Whom it is for must be clear.
            "Host: other",
            "Host:",
        ],
    );
    assert_refused(&server, 400, bad.iter().map(Vec::as_slice));
    assert_refused(&server, 400, [&b"GET / HTTP/1.1\r\n\r\n"[..]]);
}

/// W-44.
#[test]
fn ambiguous_framing_is_refused() {
    let server = Server::of(echo);
    let bad = lines(
        "POST / HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n0\r\n\r\n",
        [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\ncontent-length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 5 5",
            "Content-Length: 0x5",
            "Content-Length: 5;",
            "Content-Length: five",
            "Content-Length: ",
            "Content-Length: \u{665}",
            "Content-Length: 18446744073709551616",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding:",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding : chunked",
        ],
    );
    assert_refused(&server, 400, bad.iter().map(Vec::as_slice));
    let unknown = lines(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: {}\r\n\r\n0\r\n\r\n",
        ["identity", "gzip, chunked", "xchunked"],
    );
    assert_refused(&server, 501, unknown.iter().map(Vec::as_slice));
    let old = b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_refused(&server, 400, [&old[..]]);
}

/// W-44. And what is plain is understood.
#[test]
fn a_body_ends_where_its_framing_says() {
    let server = Server::of(echo);
    let mut client = server.connect();
    for (fields, body) in [
        ("Content-Length: 5", "hello"),
        ("content-LENGTH:\t 005 ", "hello"),
        ("Content-Length: 0", ""),
        ("X: y", ""),
        ("Transfer-Encoding: CHUNKED", "0\r\n\r\n"),
        ("transfer-encoding:chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        client.send(format!(
            "PUT /x HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n{body}"
        ));
        let want = if body.contains("hello") {
            "PUT /x hello"
        } else {
            "PUT /x "
        };
        assert_eq!(client.reply().text(), want, "{fields}");
    }
    client.send("GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbodyGET /y HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.reply().text(), "GET /x body");
    assert_eq!(client.reply().text(), "GET /y ");
}

/// W-45.
#[test]
fn malformed_chunks_are_refused() {
    let server = Server::of(echo);
    let long_line = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    let long_trailer = format!("0\r\nA: {}\r\n\r\n", "x".repeat(20_000));
    let many_trailers = format!("0\r\n{}\r\n", "A: b\r\n".repeat(4_000));
    let bad = lines(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        [
            "\r\n",
            "x\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "5_0\r\nhello\r\n0\r\n\r\n",
            "10000000000000000\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;a\0\r\nhello\r\n0\r\n\r\n",
            "5;a\u{7f}\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\n\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\nA : x\r\n\r\n",
            "0\r\nA: x\n\r\n",
            "0\r\nA: \0\r\n\r\n",
            "0\r\n folded: x\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            &long_line,
        ],
    );
    assert_refused(&server, 400, bad.iter().map(Vec::as_slice));
    let large = lines(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        [&long_trailer, &many_trailers],
    );
    assert_refused(&server, 431, large.iter().map(Vec::as_slice));
}

/// W-45.
#[test]
fn chunks_come_in_any_sizes_with_extensions_and_trailers() {
    let server = Server::of(echo);
    let mut client = server.connect();
    for chunks in [
        "5\r\nhello\r\n0\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n000\r\n\r\n",
        "0005\r\nhello\r\n0\r\n\r\n",
        "5;name=value;x=\"y z\"\r\nhello\r\n0;last\r\n\r\n",
        "5 ; name\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 3\r\nHost: evil\r\nX:\r\n\r\n",
    ] {
        client.send("POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(chunks);
        assert_eq!(client.reply().text(), "POST /c hello", "{chunks:?}");
    }
    assert_eq!(server.left_notes().len(), 7);
}

/// W-46.
#[test]
fn a_head_has_limits() {
    let server = Server::of(echo);
    let field = |bytes: usize| format!("A: {}\r\n", "x".repeat(bytes - 5));
    let fields = |count: usize| "A:b\r\n".repeat(count);
    let head = |path: usize, fields: &str| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: h\r\n{fields}\r\n",
            "x".repeat(path)
        )
    };
    // The request line and `Host` are 17 and 9 bytes.
    let just = [
        head(8_000, ""),
        head(0, &field(16_384 - 16 - 9 - 2)),
        head(0, &fields(499)),
    ];
    let mut client = server.connect();
    for head in just.iter().chain(&just) {
        client.send(head);
        assert_eq!(client.reply().status, 200, "{} bytes", head.len());
    }
    server.left_notes();

    assert_refused(&server, 414, [head(8_200, "").as_bytes()]);
    for fields in [field(16_384), fields(500)] {
        assert_refused(&server, 431, [head(0, &fields).as_bytes()]);
    }
    // It is not waited for the end.
    for (status, start) in [
        (414, "x".repeat(20_000)),
        (
            431,
            format!("GET / HTTP/1.1\r\n{}", "A:b\r\n".repeat(4_000)),
        ),
    ] {
        let mut client = server.connect();
        client.send(start);
        assert_eq!(client.reply().status, status);
    }
}

/// W-46.
#[test]
fn the_limits_of_a_head_can_be_set() {
    let server = Server::with_site(|_| {
        Site::new(leaf(echo))
            .max_request_line_bytes(40)
            .max_head_bytes(100)
            .max_header_fields(2)
    });
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nC: d\r\n", 431),
        (
            "GET /xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx HTTP/1.1\r\nHost: h\r\n",
            414,
        ),
    ] {
        let mut client = server.connect();
        client.send(format!("{head}\r\n"));
        assert_eq!(client.reply().status, status, "{head}");
    }
    let mut client = server.connect();
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
        "x".repeat(100)
    ));
    assert_eq!(client.reply().status, 431);
}

/// Law 7. The client is still sending when it is refused, and must be able to read why.
#[test]
fn a_body_that_is_too_large_is_answered_before_the_connection_ends() {
    let server = Server::with_site(|_| Site::new(leaf(echo)).max_body_bytes(1000));
    let too_much = vec![b'x'; 4 << 20];
    let chunk = format!("{:x}\r\n", too_much.len());
    let small_chunks = "64\r\n".to_owned() + &"x".repeat(100) + "\r\n";
    for (fields, body) in [
        ("Content-Length: 1001", &too_much[..1001]),
        ("Content-Length: 4194304", &too_much[..]),
        (
            "Transfer-Encoding: chunked",
            &[chunk.as_bytes(), &too_much].concat(),
        ),
        (
            "Transfer-Encoding: chunked",
            small_chunks.repeat(10_000).as_bytes(),
        ),
    ] {
        let mut client = server.connect();
        client.send(format!("PUT / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"));
        client.send(body);
        let reply = client.reply();
        assert_eq!(reply.status, 413, "{fields}");
        assert_eq!(client.rest(), b"", "{fields}");
    }
    assert_eq!(server.left_notes(), [""; 0]);

    let mut client = server.connect();
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    client.send(&too_much[..1000]);
    assert_eq!(client.reply().status, 200);
    client.send("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n");
    client.send(&too_much[..1000]);
    client.send("\r\n0\r\n\r\n");
    assert_eq!(client.reply().status, 200);
}

/// A few empty lines before a request are forgiven (RFC 9112, 2.2), however they come.
#[test]
fn empty_lines_before_a_request_are_skipped_up_to_a_few() {
    let server = Server::of(echo);
    let mut client = server.connect();
    for _ in 0..2 {
        for _ in 0..3 {
            client.send("\r\n");
        }
        client.get("/");
        assert_eq!(client.reply().status, 200);
    }
    for _ in 0..2 {
        client.send("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.reply().status, 200);
    }
    let refused = |reply: Reply| assert_eq!(reply.status, 400);
    let mut at_once = server.connect();
    at_once.send("\r\n".repeat(100));
    refused(at_once.reply());
    let mut one_by_one = server.connect();
    for byte in "\r\n".repeat(10).bytes() {
        one_by_one.send([byte]);
        server.run(|_| ());
    }
    refused(one_by_one.reply());
}

/// A refusal in a pipeline comes after the answers to what was good.
#[test]
fn what_came_before_a_malformed_request_is_answered_first() {
    let server = Server::of(|request| match request.path() {
        "/kept" => keep(request),
        _ => "good".into(),
    });
    let mut client = server.connect();
    let [good, kept] = ["/", "/kept"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    client.send(format!("{good}{good}{kept}GARBAGE\r\n\r\n{good}"));
    assert_eq!(server.next_note(), "/kept");
    for _ in 0..2 {
        assert_eq!(client.reply().text(), "good");
    }
    server.with_kept("/kept", |request| request.respond("late").is_ok());
    assert_eq!(client.reply().text(), "late");
    assert_eq!(client.reply().status, 400);
    assert_eq!(client.rest(), b"");
}
