//! Routes, through a site.

mod support;

use std::rc::Rc;
use std::time::Duration;

use prometheus_deferred::testing::{SendRequests, TestClient};
use prometheus_deferred::web::{
    Klein, Method, NOT_DONE_YET, Rendered, Request, Resource, Response, Site, StatusCode, Tree,
    pages,
};
use prometheus_deferred::{Deferred, Failure, sleep};
use support::{InMemory, keep, leaf, logged, with_kept};

/// An app that answers each pattern with the pattern and its parameter `x`, if it has one.
fn app(patterns: &'static [&'static str]) -> InMemory {
    InMemory::new(move || {
        let mut app = Klein::new();
        for pattern in patterns {
            app.route(pattern, move |request: Request| {
                let text = request.param("x").map(str::to_owned);
                let int = request.param("x").map(|x: u64| x.to_string());
                let float = request.param("x").map(|x: f64| format!("{x:?}"));
                let x = text.or(int).or(float).unwrap_or_default();
                format!("{pattern} {x}")
            });
        }
        app.resource()
    })
}

fn assert_answers(server: &InMemory, all: &[(&str, Option<&str>)]) {
    for (target, want) in all {
        let reply = server.get(target).send();
        match want {
            Some(text) => assert_eq!(reply.text(), *text, "{target}"),
            None => assert_eq!(reply.status(), 404, "{target}"),
        }
    }
}

/// K-01.
#[test]
fn a_fixed_path_has_its_handler() {
    let server = app(&["/", "/a", "/a/b/", "/caf\u{e9}"]);
    assert_answers(
        &server,
        &[
            ("/", Some("/ ")),
            ("/?x=1", Some("/ ")),
            ("/a", Some("/a ")),
            ("/%61", Some("/a ")),
            ("/a/b/", Some("/a/b/ ")),
            ("/caf%C3%A9", Some("/caf\u{e9} ")),
            ("/b", None),
            ("/a/", None),
            ("/a%2Fb/", None),
            ("/a/b", None),
        ],
    );
    let page = server.get("/unknown").send();
    assert_eq!(
        page.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(page.text().contains("404"), "{page:?}");
}

/// K-02.
#[test]
fn a_name_captures_one_segment() {
    let server = app(&[
        "/u/<x>",
        "/s/<string:x>/end",
        "/2/<string(length=2):x>",
        "/m/<string(minlength=2,maxlength=3):x>",
    ]);
    assert_answers(
        &server,
        &[
            ("/u/tom", Some("/u/<x> tom")),
            ("/u/a%20b", Some("/u/<x> a b")),
            ("/u/caf%C3%A9", Some("/u/<x> caf\u{e9}")),
            ("/u/", None),
            ("/u/a/b", None),
            ("/u/a%2Fb", None),
            ("/s/x/end", Some("/s/<string:x>/end x")),
            ("/2/ab", Some("/2/<string(length=2):x> ab")),
            (
                "/2/%C3%A9%C3%A9",
                Some("/2/<string(length=2):x> \u{e9}\u{e9}"),
            ),
            ("/2/abc", None),
            ("/m/a", None),
            ("/m/abc", Some("/m/<string(minlength=2,maxlength=3):x> abc")),
            ("/m/abcd", None),
        ],
    );
}

/// K-03.
#[test]
fn a_number_that_does_not_convert_does_not_match() {
    let server = app(&["/i/<int:x>", "/f/<float:x>"]);
    assert_answers(
        &server,
        &[
            ("/i/0042", Some("/i/<int:x> 42")),
            (
                "/i/18446744073709551615",
                Some("/i/<int:x> 18446744073709551615"),
            ),
            ("/i/18446744073709551616", None),
            ("/i/-1", None),
            ("/i/1.0", None),
            ("/i/x", None),
            ("/i/%D9%A1", None),
            ("/f/1.50", Some("/f/<float:x> 1.5")),
            ("/f/1", None),
            ("/f/1.", None),
            ("/f/-1.5", None),
            ("/f/1e3", None),
            ("/f/nan", None),
        ],
    );
}

/// K-04.
#[test]
fn a_path_captures_slashes() {
    let server = app(&["/f/<path:x>", "/f/<path:x>/raw"]);
    assert_answers(
        &server,
        &[
            ("/f/a", Some("/f/<path:x> a")),
            ("/f/a/b.txt", Some("/f/<path:x> a/b.txt")),
            ("/f/a/b/raw", Some("/f/<path:x>/raw a/b")),
            ("/f/raw", Some("/f/<path:x> raw")),
            ("/f/", None),
            ("/f", None),
        ],
    );
}

/// K-05.
#[test]
fn the_more_specific_route_wins_whatever_the_order() {
    const ROUTES: [&str; 5] = ["/<path:x>", "/<x>", "/<float:x>", "/<int:x>", "/7"];
    const REVERSED: [&str; 5] = ["/7", "/<int:x>", "/<float:x>", "/<x>", "/<path:x>"];
    for routes in [&ROUTES, &REVERSED] {
        assert_answers(
            &app(routes),
            &[
                ("/7", Some("/7 ")),
                ("/8", Some("/<int:x> 8")),
                ("/8.5", Some("/<float:x> 8.5")),
                ("/x", Some("/<x> x")),
                ("/x/y", Some("/<path:x> x/y")),
            ],
        );
    }
}

/// K-06, K-07.
#[test]
fn routes_for_one_path_are_told_apart_by_method() {
    let server = InMemory::new(|| {
        let mut app = Klein::new();
        app.route("/a", |_| "read").methods([Method::GET]);
        app.route("/a", |_| "write")
            .methods([Method::POST, Method::PUT]);
        app.route("/a", |_| "too late").methods([Method::POST]);
        app.route("/any", |request: Request| request.method().to_string());
        app.route("/put", |_| ()).methods([Method::PUT]);
        app.resource()
    });
    for (method, want) in [("GET", "read"), ("POST", "write"), ("PUT", "write")] {
        assert_eq!(server.request(method, "/a").send().text(), want);
    }
    for method in ["GET", "DELETE", "BREW"] {
        assert_eq!(server.request(method, "/any").send().text(), method);
    }
    for (target, allow) in [("/a", "GET, HEAD, POST, PUT"), ("/put", "PUT")] {
        for method in ["DELETE", "OPTIONS", "BREW"] {
            let page = server.request(method, target).send();
            assert_eq!(page.status(), 405);
            assert_eq!(page.header("Allow"), Some(allow), "{method} {target}");
        }
    }
    let client = TestClient::connect(&server);
    let head = client.head("/a").send();
    assert_eq!(head.status(), 200);
    assert_eq!(head.header("Content-Length"), Some("4"));
    assert_eq!(
        client.get("/a").send().text(),
        "read",
        "no body came with HEAD"
    );
}

/// K-12.
#[test]
fn handlers_return_bodies_now_or_later() {
    static LINE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let server = InMemory::with_site(|reactor| {
        let clock = reactor.clone();
        let mut app = Klein::new();
        app.route("/bytes", |_| vec![0, 159]);
        app.route("/text", |_| "\u{2603}");
        app.route("/nothing", |_| ());
        app.route("/response", |_| {
            Response::new("tea").with_status(StatusCode::IM_A_TEAPOT)
        });
        app.route("/result", |_| Ok::<_, Failure>("ok"));
        app.route("/deferred", move |_| {
            sleep(&clock, Duration::from_millis(5)).map(|()| "later")
        });
        app.route("/fired", |_| Deferred::succeed(()));
        app.route("/fails", |_| Err::<(), _>(Failure::message("klein failed")));
        LINE.set(line!() + 1).unwrap();
        app.route("/panics", |_| -> () { panic!("klein panicked") });
        app.route("/kept", keep);
        app.route("/finished", |mut request: Request| {
            request.write("by hand");
            request.finish();
            NOT_DONE_YET
        });
        Site::new(app.resource())
    });
    let client = TestClient::connect(&server);
    for (target, status, body) in [
        ("/bytes", 200, Some(&[0, 159][..])),
        ("/text", 200, Some("\u{2603}".as_bytes())),
        ("/nothing", 200, Some(b"")),
        ("/response", 418, Some(b"tea")),
        ("/result", 200, Some(b"ok")),
        ("/deferred", 200, Some(b"later")),
        ("/fired", 200, Some(b"")),
        ("/fails", 500, None),
        ("/panics", 500, None),
        ("/finished", 200, Some(b"by hand")),
    ] {
        let reply = client.get(target).send();
        server.pass(Duration::from_millis(5));
        assert_eq!(reply.status(), status, "{target}");
        if let Some(body) = body {
            assert_eq!(reply.body(), body, "{target}");
        }
    }
    logged("klein failed");
    // F-09: at the line of the route.
    let line = LINE.get().unwrap();
    logged(&format!("klein panicked (at {}:{line}:", file!()));
    let reply = client.get("/kept").send();
    assert_eq!(server.notes(), ["/kept"]);
    with_kept("/kept", |request| request.respond("kept").is_ok());
    assert_eq!(reply.text(), "kept");
}

/// K-13.
#[test]
fn handlers_return_resources() {
    struct Page;
    impl Resource for Page {
        fn render_get(&self, request: Request) -> Rendered {
            format!(
                "{:?} {:?} {:?}",
                request.prepath(),
                request.postpath(),
                request.param::<u32>("n")
            )
            .into()
        }
    }
    let server = InMemory::new(|| {
        let mut inner = Klein::new();
        inner.route("/", |request: Request| {
            format!("inner {:?}", request.prepath())
        });
        let inner = inner.resource();
        let mut app = Klein::new();
        app.route("/page/<int:n>", |_| Page);
        app.route("/leaf", |_| leaf(|_| "leaf"));
        app.route("/forbidden", |_| pages::forbidden());
        app.route("/later", |_| {
            Rendered::DeferredResource(Deferred::succeed(Rc::new(Page) as Rc<dyn Resource>))
        });
        app.route("/finishes", |_| leaf(keep));
        app.route("/inner", move |_| inner.clone());
        app.resource()
    });
    for (target, status, text) in [
        ("/page/5", 200, r#"["page", "5"] [] Some(5)"#),
        ("/leaf", 200, "leaf"),
        ("/later", 200, r#"["later"] [] None"#),
        ("/inner", 200, r#"inner ["inner"]"#),
    ] {
        let reply = server.get(target).send();
        assert_eq!(reply.status(), status, "{target}");
        assert_eq!(reply.text(), text, "{target}");
    }
    assert_eq!(server.get("/forbidden").send().status(), 403);
    assert_eq!(
        server.request("POST", "/page/5").send().header("Allow"),
        Some("GET, HEAD")
    );
    let client = TestClient::connect(&server);
    let reply = client.get("/finishes").send();
    assert_eq!(server.notes(), ["/finishes"]);
    with_kept("/finishes", |request| request.respond("finished").is_ok());
    assert_eq!(reply.text(), "finished");
}

/// K-14.
#[test]
fn a_mounted_app_matches_what_is_left_of_the_path() {
    let server = InMemory::new(|| {
        let mut app = Klein::new();
        app.route("/", |_| "index");
        app.route("/u/<x>", |request: Request| {
            format!("{:?} {:?}", request.prepath(), request.postpath())
        });
        let below = Tree::new();
        below.put_child("api", app.resource());
        let root = Tree::new();
        root.put_child("v1", below);
        root.put_child("api", app.resource());
        root
    });
    for (target, want) in [
        ("/v1/api/u/tom", Some(r#"["v1", "api", "u", "tom"] []"#)),
        ("/api/u/t%20m", Some(r#"["api", "u", "t m"] []"#)),
        ("/api/", Some("index")),
        ("/api", Some("index")),
        ("/u/tom", None),
        ("/api/v1", None),
        ("/v1/u/tom", None),
    ] {
        assert_answers(&server, &[(target, want)]);
    }
}
