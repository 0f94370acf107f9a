//! Request heads as bytes, and what becomes of them however the network cuts them.
//!
//! Each vector is sent whole, byte by byte, and in each two pieces. Where two readers could take
//! the same bytes for different requests, one of them may be a proxy in front of us: so a refused
//! request ends its connection, and nothing behind it is looked at.

mod vectors;

use std::rc::Rc;

use prometheus_deferred::testing::MemoryReactor;
use prometheus_deferred::web::{Request, Site};
use vectors::{Echo, Seen, Vectors};

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
