//! What becomes of what a resource returns.

mod support;

use std::time::Duration;

use bytes::Bytes;
use prometheus_deferred::web::{
    Html, NOT_DONE_YET, Rendered, Request, Response, Site, StatusCode, Tree, header,
};
use prometheus_deferred::{Deferred, Failure, sleep};
use support::{Server, keep, leaf, logged, note, times_logged};

/// W-15.
#[test]
fn a_body_is_sent_with_its_length_and_the_connection_goes_on() {
    let server = Server::new(|| {
        let root = Tree::new();
        root.put_child("text", leaf(|_| "caf\u{e9}"));
        root.put_child("owned", leaf(|_| String::from("owned")));
        root.put_child("bytes", leaf(|_| vec![0, 255, 13, 10]));
        root.put_child("shared", leaf(|_| Bytes::from_static(b"shared")));
        root.put_child("nothing", leaf(|_| ()));
        root.put_child("large", leaf(|_| vec![b'x'; 300_000]));
        root.put_child("status", leaf(|_| StatusCode::ACCEPTED));
        root.put_child("result", leaf(|_| Ok::<_, Failure>("fine")));
        root.put_child("deferred", leaf(|_| Deferred::succeed("now")));
        root
    });
    let mut client = server.connect();
    for (target, status, body) in [
        ("/text", 200, "caf\u{e9}".as_bytes()),
        ("/owned", 200, b"owned"),
        ("/bytes", 200, &[0, 255, 13, 10]),
        ("/shared", 200, b"shared"),
        ("/nothing", 200, b""),
        ("/large", 200, &[b'x'; 300_000]),
        ("/status", 202, b""),
        ("/result", 200, b"fine"),
        ("/deferred", 200, b"now"),
    ] {
        client.get(target);
        let reply = client.reply();
        assert_eq!(reply.status, status, "{target}");
        assert_eq!(
            reply.header("Content-Length"),
            Some(&*body.len().to_string()),
            "{target}"
        );
        assert!(reply.header("Date").is_some(), "{target}");
        assert!(reply.body == body, "{target}");
    }
}

/// W-16.
#[test]
fn an_unfinished_request_holds_back_the_next_on_its_connection_and_no_other() {
    let server = Server::of(|request| {
        if request.path() == "/wait" {
            keep(request)
        } else {
            note("dispatched");
            "quick".into()
        }
    });
    let mut client = server.connect();
    // One behind it comes with it, another later.
    client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(server.next_note(), "/wait");
    client.get("/2");
    assert_eq!(server.get("/other").text(), "quick");
    assert_eq!(server.left_notes(), ["dispatched"], "only the other's");

    server.with_kept("/wait", |mut request| {
        request.write("slow ");
        request.write("reply");
        request.finish();
        note("finished");
    });
    assert_eq!(client.reply().text(), "slow reply");
    assert_eq!(client.reply().text(), "quick");
    assert_eq!(client.reply().text(), "quick");
    // Whoever finishes a request is not called back from inside that.
    assert_eq!(
        server.left_notes(),
        ["finished", "dispatched", "dispatched"]
    );
}

/// W-16. A response that is delayed by the reactor itself.
#[test]
fn a_deferred_answers_when_it_fires() {
    let server = Server::with_site(|reactor| {
        let clock = reactor.clone();
        Site::new(leaf(move |request: Request| {
            sleep(&clock, Duration::from_millis(10)).map(move |()| request.path().to_owned())
        }))
    });
    let mut client = server.connect();
    client.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n".repeat(20));
    for _ in 0..20 {
        assert_eq!(client.reply().text(), "/a");
    }
}

/// W-17.
#[test]
fn a_failure_before_the_first_byte_is_a_page_without_the_reason() {
    let server = Server::new(|| {
        let root = Tree::new();
        root.put_child("panics", leaf(|_| -> () { panic!("secret 1") }));
        root.put_child(
            "fails",
            leaf(|_| Err::<(), _>(Failure::message("secret 2"))),
        );
        root.put_child(
            "later",
            leaf(|_| Deferred::<()>::fail(Failure::message("secret 3"))),
        );
        root.put_child(
            "in-callback",
            leaf(|_| Deferred::succeed(()).map(|()| -> &str { panic!("secret 4") })),
        );
        root.put_child(
            "with-fields",
            leaf(|mut request: Request| -> Rendered {
                request.set_response_code(StatusCode::CREATED);
                request.set_header(header::SET_COOKIE, "stale");
                Failure::message("secret 5").into()
            }),
        );
        root
    });
    let mut client = server.connect();
    let targets = [
        "/panics",
        "/fails",
        "/later",
        "/in-callback",
        "/with-fields",
    ];
    for (target, number) in targets.iter().zip(1..) {
        client.get(target);
        let page = client.reply();
        assert_eq!(page.status, 500, "{target}");
        assert_eq!(
            page.header("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(!page.text().contains("secret"), "{page:?}");
        assert_eq!(page.header("Set-Cookie"), None);
        logged(&format!("secret {number}"));
    }
}

/// W-17. Too late for a page: the client must not take the part that it got for the whole.
#[test]
fn a_failure_after_the_first_byte_breaks_the_connection() {
    let server = Server::of(|mut request| -> Rendered {
        request.write("half of ");
        match request.path() {
            "/panics" => panic!("broke at half"),
            _ => Failure::message("broke at half").into(),
        }
    });
    for target in ["/panics", "/fails"] {
        let mut client = server.connect();
        // In one go: a second write could meet the reset that the first request causes.
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        let got = client.rest_or_reset();
        let got = String::from_utf8(got).unwrap();
        assert!(
            !got.contains("0\r\n\r\n") && !got.contains("500"),
            "{got:?}"
        );
    }
    logged("broke at half");
}

/// W-18.
#[test]
fn a_site_may_show_what_went_wrong() {
    let server = Server::with_site(|_| {
        let root = leaf(|_| -> () { panic!("<b>caf\u{e9}</b>") });
        Site::new(root).display_tracebacks(true)
    });
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n");
    let page = client.reply();
    assert_eq!(page.status, 500);
    assert!(
        page.text().contains("&lt;b&gt;caf\u{e9}&lt;/b&gt;"),
        "{page:?}"
    );
    assert!(!page.text().contains("<b>"), "{page:?}");
}

/// W-19.
#[test]
fn no_content_and_not_modified_have_no_body() {
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
        let server = Server::of(move |mut request| -> Rendered {
            request.set_response_code(status);
            match request.path() {
                "/returned" => Response::new("a body").with_status(status).into(),
                "/written" => {
                    request.write("a body");
                    request.write("and more");
                    request.finish();
                    NOT_DONE_YET
                }
                "/declared" => {
                    request.set_header(header::CONTENT_LENGTH, "6");
                    request.write("a body");
                    request.finish();
                    NOT_DONE_YET
                }
                _ => status.into(),
            }
        });
        let mut client = server.connect();
        for target in ["/returned", "/written", "/declared", "/empty"] {
            client.get(target);
            let reply = client.reply();
            assert_eq!(reply.status, status.as_u16(), "{target}");
            for name in ["Content-Type", "Transfer-Encoding", "Content-Length"] {
                assert_eq!(reply.header(name), None, "{target} {name}");
            }
        }
        client.send("GET /returned HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        client.reply();
        assert_eq!(client.rest(), b"");
    }
}

/// W-20, F-33. A text that a client has sent must not come back as script.
#[test]
fn bytes_that_do_not_say_are_html_and_text_is_plain() {
    let server = Server::of(|mut request| -> Rendered {
        match request.path() {
            "/plain" => Response::new("text").with_content_type("text/plain").into(),
            "/set" => {
                request.set_header(header::CONTENT_TYPE, "image/png");
                "picture".into()
            }
            "/written" => {
                request.write("page");
                request.finish();
                NOT_DONE_YET
            }
            "/empty" => "".into(),
            "/bytes" => Bytes::from_static(b"page").into(),
            "/html" => Html(format!("hello {}", request.path())).into(),
            "/string" => format!("hello {}", request.path()).into(),
            "/response" => Response::new(format!("hello {}", request.path())).into(),
            _ => "text".into(),
        }
    });
    for (target, want) in [
        ("/", Some("text/plain; charset=utf-8")),
        ("/string", Some("text/plain; charset=utf-8")),
        ("/response", Some("text/plain; charset=utf-8")),
        ("/bytes", Some("text/html; charset=utf-8")),
        ("/html", Some("text/html; charset=utf-8")),
        ("/written", Some("text/html; charset=utf-8")),
        ("/plain", Some("text/plain")),
        ("/set", Some("image/png")),
        ("/empty", None),
    ] {
        assert_eq!(server.get(target).header("Content-Type"), want, "{target}");
    }
}

/// What comes back from `render` after the response is complete changes nothing, and a failure is
/// not lost.
#[test]
fn a_request_finished_inside_render_is_answered_once() {
    let server = Server::of(|mut request| -> Rendered {
        let target = request.path().to_owned();
        request.write("once");
        request.finish();
        match &*target {
            "/not-done" => NOT_DONE_YET,
            "/body" => "twice".into(),
            "/fails" => Failure::message("failed after finishing").into(),
            "/panics" => panic!("panicked after finishing"),
            "/deferred" => Deferred::succeed("twice").into(),
            "/resource" => Rendered::Resource(std::rc::Rc::new(leaf(|_| "twice"))),
            _ => Rendered::NotAllowed,
        }
    });
    let mut client = server.connect();
    for target in [
        "/not-done",
        "/body",
        "/fails",
        "/panics",
        "/deferred",
        "/resource",
        "/405",
    ] {
        client.get(target);
        assert_eq!(client.reply().text(), "once", "{target}");
    }
    client.send("GET /body HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(client.reply().text(), "once");
    assert_eq!(client.rest(), b"");
    logged("failed after finishing");
    logged("panicked after finishing");
}

/// What is said on the request and what is said in the response go together.
#[test]
fn fields_of_the_request_and_of_the_response_are_merged() {
    let server = Server::of(|mut request| {
        request.set_header(header::SERVER, "mine");
        request.set_header(header::ETAG, "\"old\"");
        request.add_header(header::SET_COOKIE, "a=1");
        request.add_header(header::SET_COOKIE, "b=2");
        Response::new("x").with_header(header::ETAG, "\"new\"")
    });
    let reply = server.get("/");
    assert_eq!(reply.header("Server"), Some("mine"));
    assert_eq!(reply.header("ETag"), Some("\"new\""));
    assert_eq!(reply.head.matches("ETag").count(), 1);
    assert!(
        reply
            .head
            .contains("Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n")
    );
}

/// Law 7: nothing that comes from a client gets out of the line it is put in.
#[test]
fn a_field_value_cannot_start_another_line() {
    let server = Server::of(|mut request| {
        let wanted = request.args().next().unwrap().1.into_owned();
        request.set_header(header::LOCATION, &wanted);
        request.add_header(header::LINK, wanted);
    });
    for evil in [
        "/a%0D%0ASet-Cookie:%20b",
        "/a%0ASet-Cookie:%20b",
        "/a%0DSet-Cookie:b%00",
    ] {
        let reply = server.get(&format!("/?to={evil}"));
        assert_eq!(reply.header("Set-Cookie"), None, "{evil}");
        assert!(
            reply.header("Location").unwrap().starts_with("/a "),
            "{evil}"
        );
        assert!(
            !reply.head.replace("\r\n", "").contains(['\r', '\n', '\0']),
            "{evil}"
        );
    }
}

/// Fields that frame the message are the server's.
#[test]
fn a_resource_does_not_frame_the_message() {
    let server = Server::of(|_| {
        Response::new("body")
            .with_header(header::CONTENT_LENGTH, "99")
            .with_header(header::TRANSFER_ENCODING, "gzip")
    });
    let mut client = server.connect();
    for _ in 0..2 {
        client.get("/");
        let reply = client.reply();
        assert_eq!(reply.text(), "body");
        assert_eq!(reply.header("Transfer-Encoding"), None);
    }
}

/// A resource that gives the request away and names another resource has nothing to give to it;
/// least of all what some other client had sent.
#[test]
fn a_resource_cannot_pass_on_a_request_that_it_gave_away() {
    let server = Server::of(|request| -> Rendered {
        if request.path() == "/gives-away" {
            keep(request);
            return Rendered::Resource(std::rc::Rc::new(leaf(|request: Request| {
                format!("{} {:?}", request.target(), request.header("cookie"))
            })));
        }
        "fine".into()
    });
    let mut other = server.connect();
    other.send("GET /private HTTP/1.1\r\nHost: h\r\nCookie: secret\r\n\r\n");
    assert_eq!(other.reply().text(), "fine");
    let reply = server.get("/gives-away");
    assert_eq!(reply.status, 500, "{reply:?}");
    assert_eq!(times_logged("named another"), 1);
}

/// A client would wait on for the response that a 1xx status announces (RFC 9110, 15.2).
#[test]
fn an_informational_status_is_no_answer() {
    let server = Server::of(|request| match request.path() {
        "/102" => StatusCode::from_u16(102).unwrap(),
        _ => StatusCode::IM_A_TEAPOT,
    });
    let mut client = server.connect();
    client.get("/102");
    client.get("/418");
    assert_eq!(client.reply().status, 500);
    assert_eq!(client.reply().status, 418);
    assert_eq!(times_logged("102 Processing, which is no answer"), 1);
}

/// RFC 9110, 15.3.6.
#[test]
fn a_reset_content_response_has_an_empty_body_whatever_is_written() {
    let server = Server::of(|mut request| {
        request.set_response_code(StatusCode::RESET_CONTENT);
        if request.path() == "/written" {
            request.write("in parts");
            request.finish();
            return NOT_DONE_YET;
        }
        Response::new("at once")
            .with_status(StatusCode::RESET_CONTENT)
            .into()
    });
    let mut client = server.connect();
    for target in ["/whole", "/written", "/whole"] {
        client.get(target);
        let reply = client.reply();
        assert_eq!(reply.status, 205, "{target}");
        assert_eq!(reply.header("Content-Length"), Some("0"), "{target}");
        assert_eq!(reply.body, b"", "{target}");
    }
}
