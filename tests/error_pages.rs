//! F-35: what the pages of errors look like, and who decides that.

mod support;

use std::time::Duration;

use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient};
use prometheus_deferred::web::{ErrorDetails, Klein, Method, Response, Site, StatusCode, pages};
use support::{InMemory, logged};

fn site() -> Site {
    let mut app = Klein::new();
    app.route("/post", |_| "posted")
        .methods([Method::POST])
        .max_body_bytes(3);
    app.route("/panics", |_| -> &'static str { panic!("on purpose") });
    app.route("/gone", |_| {
        pages::ErrorPage::new(StatusCode::GONE, "Moved <away>.")
    });
    app.route("/own", |_| {
        Response::new("our own words").with_status(StatusCode::NOT_FOUND)
    });
    Site::new(app.resource())
}

fn server(set: impl FnOnce(Site) -> Site) -> InMemory {
    InMemory::on(MemoryReactor::new(), |_| set(site()))
}

/// Method, target, body, status.
const ERRORS: [(&str, &str, &str, u16); 6] = [
    ("GET", "/nothing<script>", "", 404),
    ("DELETE", "/post", "", 405),
    ("POST", "/post", "long", 413),
    ("GET", "/panics", "", 500),
    ("GET", "/gone", "", 410),
    ("PUT", "*", "", 405),
];

/// F-35: HTML for those who ask for it, JSON for those who ask for that.
#[test]
fn an_error_has_the_form_that_the_client_asks_for() {
    const FORMS: [(&str, &str); 12] = [
        ("", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("text/plain, text/html;q=0.5", "text/plain; charset=utf-8"),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html; charset=utf-8",
        ),
        ("text/html;q=0, */*", "text/plain; charset=utf-8"),
        ("image/png", "text/plain; charset=utf-8"),
        ("application/json", "application/problem+json"),
        (
            "Application/JSON ; q=0.9 , text/html;q=0.8",
            "application/problem+json",
        ),
        (
            "application/problem+json, application/json",
            "application/problem+json",
        ),
        ("text/html;q=nonsense", "text/html; charset=utf-8"),
        (",,;;q=,", "text/plain; charset=utf-8"),
        (
            "text/html;q=NaN, application/json;q=0.1",
            "application/problem+json",
        ),
    ];
    let server = server(|site| site);
    for (method, target, body, status) in ERRORS {
        for (accept, form) in FORMS {
            let client = TestClient::connect(&server);
            let mut request = client.request(method, target);
            if !accept.is_empty() {
                request = request.header("Accept", accept);
            }
            if !body.is_empty() {
                request = request.body(body);
            }
            let answer = request.send();
            let name = format!("{method} {target} for {accept:?}");
            assert_eq!(answer.status(), status, "{name}");
            assert_eq!(answer.header("Content-Type"), Some(form), "{name}");
            assert_eq!(
                answer.header("X-Content-Type-Options"),
                Some("nosniff"),
                "{name}"
            );
            let text = answer.text();
            match form {
                "application/problem+json" => {
                    assert!(
                        text.contains(&format!("\"status\":{status},")),
                        "{name}: {text}"
                    );
                }
                "text/html; charset=utf-8" => {
                    assert!(
                        text.contains(&format!("<title>{status} - ")),
                        "{name}: {text}"
                    );
                    assert!(
                        !text.contains("<script>") && !text.contains("<away>"),
                        "{name}: {text}"
                    );
                }
                _ => assert!(text.starts_with(&format!("{status} ")), "{name}: {text}"),
            }
            if status == 405 {
                assert!(answer.header("Allow").is_some(), "{name}");
            }
        }
    }
    assert_eq!(server.get("/own").send().text(), "our own words");
}

/// F-35: of refusals as well, whose requests nobody could read.
#[test]
fn a_site_makes_its_own_pages() {
    fn page(error: &ErrorDetails<'_>) -> Response {
        let path = error.head().map_or("unknown", |head| head.path());
        Response::new(format!(
            "{} {path}: {}",
            error.status().as_u16(),
            error.message()
        ))
        .with_header(http::header::RETRY_AFTER, "7")
        // The status is the error's, whatever the page says.
        .with_status(StatusCode::OK)
    }
    let server = server(|site| {
        site.error_pages(page)
            .header_timeout(Duration::from_secs(1))
    });
    for (method, target, body, status) in ERRORS {
        let client = TestClient::connect(&server);
        let mut request = client.request(method, target);
        if !body.is_empty() {
            request = request.body(body);
        }
        let answer = request.header("Accept", "text/html").send();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.header("Retry-After"), Some("7"));
        let path = target.split('?').next().unwrap();
        assert!(
            answer.text().starts_with(&format!("{status} {path}: ")),
            "{}",
            answer.text()
        );
        if status == 405 {
            assert!(answer.header("Allow").is_some(), "{target}");
        }
    }
    let head = server.head("/nothing").send();
    assert_eq!((head.status().as_u16(), head.text()), (404, String::new()));
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: wonders\r\n\r\n", 417),
        ("GET / HTTP/1.1\r\nHo", 408),
    ] {
        let client = TestClient::connect(&server);
        client.send_bytes(bytes);
        server.pass(Duration::from_secs(1));
        let answer = client.next_response("GET");
        assert_eq!(answer.status(), status, "{bytes:?}");
        assert_eq!(answer.header("Retry-After"), Some("7"), "{bytes:?}");
        assert_eq!(answer.header("Connection"), Some("close"), "{bytes:?}");
        let want = format!("{status} unknown: ");
        assert!(
            answer.text().starts_with(&want),
            "{bytes:?}: {}",
            answer.text()
        );
    }
}

/// F-35: a page that cannot be made is no reason to say nothing.
#[test]
fn a_page_that_fails_gives_way_to_the_usual_one() {
    let panics = server(|site| site.error_pages(|_| panic!("no page today")));
    let streams =
        server(|site| site.error_pages(|_| Response::stream(["a ", "stream"].into_iter())));
    for (server, found) in [(&panics, "404 Not Found"), (&streams, "a stream")] {
        let client = TestClient::connect(server);
        for _ in 0..2 {
            let answer = client.get("/nothing").send();
            assert_eq!(answer.status(), 404);
            assert!(answer.text().starts_with(found), "{}", answer.text());
        }
        client.send_bytes("GET / HTTP/1.1\r\n\r\n");
        let refused = client.next_response("GET");
        assert_eq!(refused.status(), 400);
        assert!(
            refused.text().starts_with("400 Bad Request"),
            "{}",
            refused.text()
        );
        assert!(refused.connection().has_ended());
    }
    logged("the function given to Site::error_pages panicked for 404 Not Found");
    logged("the page of Site::error_pages for 400 Bad Request streams");
}

/// RFC 9110, 9.3.7, and RFC 9112, 3.2: the server as a whole, and a target with its host.
#[test]
fn the_server_itself_and_absolute_targets_are_answered() {
    let server = server(|site| site);
    let client = TestClient::connect(&server);
    let options = client.request("OPTIONS", "*").send();
    assert_eq!(
        (options.status().as_u16(), options.text()),
        (200, String::new())
    );
    let posted = client.post("http://elsewhere:99/post?x=y", "abc").send();
    assert_eq!(posted.text(), "posted");
    client.send_bytes("OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcPOST /post HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.next_response("OPTIONS").status(), 200);
    assert_eq!(client.next_response("POST").text(), "posted");
}

/// F-23, W-48.
#[test]
fn http_1_0_persists_where_it_is_asked_to() {
    let server = server(|site| site);
    for (fields, persists) in [
        ("Connection: keep-alive\r\n", true),
        ("Connection: Keep-Alive, x\r\n", true),
        ("Connection: keep-alive, close\r\n", false),
        ("Connection: close\r\n", false),
        ("", false),
    ] {
        let client = server.connect_to("127.0.0.1:80").unwrap();
        let request = format!("GET /own HTTP/1.0\r\n{fields}\r\n");
        let answer = String::from_utf8(client.exchange(request.clone() + &request)).unwrap();
        let count = answer.matches("our own words").count();
        assert_eq!(count, if persists { 2 } else { 1 }, "{fields:?}: {answer}");
        assert_eq!(
            answer.matches("Connection: keep-alive\r\n").count(),
            if persists { 2 } else { 0 },
            "{answer}"
        );
        assert_eq!(client.has_ended(), !persists, "{fields:?}");
    }
    // W-48: bytes behind the last request are ignored.
    let client = TestClient::connect(&server);
    client.send_bytes("GET /own HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /own HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.next_response("GET").text(), "our own words");
    assert_eq!(client.bytes(), b"");
    assert!(client.connection().has_ended());
}
