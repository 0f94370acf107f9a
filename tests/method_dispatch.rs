//! Which handler answers which method, and what is said where there is none.

mod support;

use prometheus_deferred::testing::{SendRequests, TestClient};
use prometheus_deferred::web::{
    Method, RefusalReason, Rendered, Request, Resource, Response, Site, StatusCode, Tree, header,
};
use support::{InMemory, leaf, note};

/// Has a handler for each method that has one.
struct All;

impl Resource for All {
    fn render_get(&self, _: Request) -> Rendered {
        "get".into()
    }
    fn render_post(&self, _: Request) -> Rendered {
        "post".into()
    }
    fn render_put(&self, _: Request) -> Rendered {
        "put".into()
    }
    fn render_delete(&self, _: Request) -> Rendered {
        "delete".into()
    }
    fn render_patch(&self, _: Request) -> Rendered {
        "patch".into()
    }
    fn render_options(&self, _: Request) -> Rendered {
        "options".into()
    }
    fn is_leaf(&self) -> bool {
        true
    }
}

/// Takes GET, and nothing else.
struct OnlyGet;

impl Resource for OnlyGet {
    fn render_get(&self, mut request: Request) -> Rendered {
        note("get");
        request.set_header(header::ETAG, "\"7\"");
        "seven".into()
    }
    fn is_leaf(&self) -> bool {
        true
    }
}

/// Takes POST and PUT and says so.
struct Inbox;

impl Resource for Inbox {
    fn render_post(&self, _: Request) -> Rendered {
        ().into()
    }
    fn render_put(&self, _: Request) -> Rendered {
        ().into()
    }
    fn allowed_methods(&self) -> Vec<Method> {
        vec![Method::PUT, Method::POST]
    }
    fn is_leaf(&self) -> bool {
        true
    }
}

/// W-09.
#[test]
fn each_method_has_its_handler() {
    let server = InMemory::new(|| All);
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply = server.request(method, "/").send();
        assert_eq!(reply.status(), 200);
        assert_eq!(reply.text(), method.to_lowercase());
    }
}

/// W-09.
#[test]
fn a_resource_that_overrides_render_takes_methods_nobody_has_heard_of() {
    let server = InMemory::of(|request| request.method().to_string());
    for method in [
        "GET",
        "BREW",
        "get",
        "TRACE",
        "!#$%&'*+-.^_`|~x1",
        "PROPFIND",
    ] {
        assert_eq!(server.request(method, "/").send().text(), method);
    }
}

/// W-10.
#[test]
fn head_runs_the_get_handler_and_sends_no_body() {
    let server = InMemory::new(|| OnlyGet);
    let client = TestClient::connect(&server);
    let head = client.head("/").send();
    let get = client.get("/").send();
    assert_eq!(get.text(), "seven");
    assert!(
        head.headers().eq(get.headers()),
        "the same fields, and nothing follows them"
    );
    assert_eq!(head.header("Content-Length"), Some("5"));
    assert_eq!(head.header("ETag"), Some("\"7\""));
    assert_eq!(server.notes(), ["get", "get"]);
}

/// W-10. However the body of the GET is framed, HEAD gives its fields, and the next response is
/// where the client looks for it.
#[test]
fn head_has_no_body_in_any_framing() {
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("whole", leaf(|_| "1234"));
        root.put_child("empty", leaf(|_| ()));
        root.put_child(
            "parts",
            leaf(|mut request: Request| {
                request.write("12");
                request.write("34");
                request.finish();
                prometheus_deferred::web::NOT_DONE_YET
            }),
        );
        root.put_child(
            "declared",
            leaf(|mut request: Request| {
                request.set_header(header::CONTENT_LENGTH, "4");
                request.write("12");
                request.write("34");
            }),
        );
        root.put_child(
            "unwritten",
            leaf(|_| Response::new("").with_header(header::CONTENT_LENGTH, "4000000000000")),
        );
        root.put_child("missing", leaf(|_| StatusCode::NOT_FOUND));
        root.put_child("broken", leaf(|_| -> () { panic!("no page") }));
        root
    });
    let client = TestClient::connect(&server);
    for (target, status, length, coding) in [
        ("/whole", 200, Some("4"), None),
        ("/empty", 200, Some("0"), None),
        ("/parts", 200, None, Some("chunked")),
        ("/declared", 200, Some("4"), None),
        ("/unwritten", 200, Some("4000000000000"), None),
        ("/missing", 404, Some("0"), None),
        ("/nothing", 404, None, None),
        ("/broken", 500, None, None),
    ] {
        let reply = client.head(target).send();
        assert_eq!(reply.status(), status, "{target}");
        if status == 200 {
            assert_eq!(reply.header("Content-Length"), length, "{target}");
        }
        assert_eq!(reply.header("Transfer-Encoding"), coding, "{target}");
        assert_eq!(
            client.get("/whole").send().text(),
            "1234",
            "after HEAD {target}"
        );
    }
    let old = TestClient::connect(&server);
    old.send_bytes("HEAD /parts HTTP/1.0\r\n\r\n");
    let reply = old.next_response("HEAD");
    assert_eq!(reply.header("Transfer-Encoding"), None);
    assert_eq!(old.bytes(), b"");
    assert!(old.connection().has_ended());
}

/// W-11, W-12.
#[test]
fn a_known_method_without_handler_is_not_allowed() {
    let server = InMemory::new(|| OnlyGet);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        let page = server.request(method, "/a&b'c").send();
        assert_eq!(page.status(), 405, "{method}");
        assert_eq!(page.header("Allow"), Some("GET, HEAD"), "{method}");
        assert!(
            page.text().contains("/a&b'c; allowed: GET, HEAD."),
            "{page:?}"
        );
    }
    assert!(server.notes().is_empty());
}

/// W-12.
#[test]
fn an_unknown_method_is_not_implemented() {
    let site = Site::new(OnlyGet);
    let handle = site.handle();
    let server = InMemory::with_site(|_| site);
    for method in ["BREW", "get", "Get", "PROPFIND", "M&M'S", "X"] {
        let page = server.request(method, "/").send();
        assert_eq!(page.status(), 501, "{method}");
        assert_eq!(page.header("Allow"), None, "{method}");
        assert!(page.text().contains(method), "{page:?}");
    }
    assert_eq!(handle.refused(RefusalReason::MethodUnknown), 6);
}

/// W-13.
#[test]
fn declared_methods_are_what_allow_lists() {
    let server = InMemory::new(|| Inbox);
    for method in ["GET", "HEAD", "DELETE"] {
        let page = server.request(method, "/").send();
        assert_eq!(page.status(), 405);
        assert_eq!(page.header("Allow"), Some("POST, PUT"), "{method}");
    }
    assert_eq!(server.request("PUT", "/").send().status(), 200);
}

/// W-14.
#[test]
fn options_of_the_server_asks_no_resource() {
    let server = InMemory::of(|_| note("asked"));
    let client = TestClient::connect(&server);
    let reply = client.request("OPTIONS", "*").send();
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.text(), "");
    for (method, target) in [
        ("GET", "*"),
        ("HEAD", "*"),
        ("POST", "*"),
        ("BREW", "*"),
        ("CONNECT", "example.com:443"),
    ] {
        let reply = client.request(method, target).send();
        assert_eq!(reply.status(), 405, "{method} {target}");
        assert_eq!(reply.header("Allow"), Some("OPTIONS"), "{method} {target}");
    }
    assert!(server.notes().is_empty());
    assert_eq!(server.request("OPTIONS", "/*").send().status(), 200);
    assert_eq!(server.notes(), ["asked"]);
}

/// W-11. Said as it is, where a resource declares nothing that it takes.
#[test]
fn a_resource_that_declares_no_other_method_says_no_more_than_that() {
    struct Upload;
    impl Resource for Upload {
        fn render_post(&self, _: Request) -> Rendered {
            "thanks".into()
        }
    }
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("upload", Upload);
        root
    });
    assert_eq!(server.request("POST", "/upload").send().text(), "thanks");
    let refused = server.get("/upload").send();
    assert_eq!(refused.status(), 405);
    assert!(
        refused
            .text()
            .contains("GET is not allowed for /upload; allowed: nothing is.")
    );
}
