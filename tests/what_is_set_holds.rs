//! What a program sets on a request is what its client gets, and what it does wrong is in the log.

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::{StatusCode, header};
use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestResponse};
use prometheus_deferred::web::{
    Html, Klein, Method, NOT_DONE_YET, Rendered, Request, Resource, Response, Site, Tree,
};
use prometheus_deferred::{Deferred, Failure, Reactor, sleep};
use support::{InMemory, logged, times_logged};

/// Its line is where a panic below it is looked for.
struct Panics;

impl Resource for Panics {
    fn render_get(&self, _: Request) -> Rendered {
        panic!("in render_get")
    }
}

/// Answers GET, and has not thought about HEAD.
struct GetAlone;

impl Resource for GetAlone {
    fn is_leaf(&self) -> bool {
        true
    }

    fn render(&self, mut request: Request) -> Rendered {
        match *request.method() {
            Method::GET => {
                request.set_header(header::ETAG, "\"e\"");
                "got".into()
            }
            _ => Rendered::NotAllowed,
        }
    }
}

fn server(set: impl FnOnce(&mut Klein, &Reactor)) -> InMemory {
    InMemory::on(MemoryReactor::new(), |reactor| {
        let mut app = Klein::new();
        set(&mut app, reactor);
        let root = Tree::new();
        root.put_child("app", app.resource());
        root.put_child("panics", Panics);
        root.put_child("alone", GetAlone);
        Site::new(root)
    })
}

fn answer<R: Into<Rendered>>(handler: impl Fn(Request) -> R + 'static) -> TestResponse {
    let server = server(|app, _| {
        app.route("/", handler);
    });
    let answer = server.get("/app/").send();
    answer.status();
    answer
}

/// F-07.
#[test]
fn a_status_that_was_set_holds_unless_the_answer_has_its_own() {
    fn teapot(mut request: Request) -> Request {
        request.set_response_code(StatusCode::IM_A_TEAPOT);
        request
    }
    type Answer = fn(Request) -> Rendered;
    let set: [(Answer, u16); 9] = [
        (
            |request| {
                teapot(request);
                "text".into()
            },
            418,
        ),
        (
            |request| {
                teapot(request);
                Html("page").into()
            },
            418,
        ),
        (
            |request| {
                teapot(request);
                ().into()
            },
            418,
        ),
        (
            |request| {
                teapot(request);
                Response::new("whole").into()
            },
            418,
        ),
        (
            |request| {
                teapot(request);
                Response::stream(["s"].into_iter()).into()
            },
            418,
        ),
        (
            |request| {
                teapot(request);
                Deferred::succeed("later").into()
            },
            418,
        ),
        (
            |request| {
                teapot(request).respond("by hand");
                NOT_DONE_YET
            },
            418,
        ),
        (
            |request| {
                teapot(request);
                Response::new("own").with_status(StatusCode::CREATED).into()
            },
            201,
        ),
        (
            |request| {
                teapot(request);
                StatusCode::GONE.into()
            },
            410,
        ),
    ];
    for (number, (handler, want)) in set.into_iter().enumerate() {
        assert_eq!(answer(handler).status(), want, "number {number}");
    }
    // A failure is none of what was set before it.
    let failed = answer(|request| {
        teapot(request);
        Err::<(), _>(Failure::message("a failing teapot"))
    });
    assert_eq!(failed.status(), 500);
}

/// F-32: other fields are replaced, cookies add up.
#[test]
fn cookies_stand_beside_one_another() {
    let cookies = |response: &TestResponse| -> Vec<String> {
        let all = response.headers().filter(|(name, _)| *name == "Set-Cookie");
        all.map(|(_, value)| value.to_owned()).collect()
    };
    let two = answer(|_| {
        Response::new("x")
            .with_header(header::SET_COOKIE, "a=1")
            .with_header(header::SET_COOKIE, "b=2")
            .with_header(header::SERVER, "first")
            .with_header(header::SERVER, "second")
    });
    assert_eq!(cookies(&two), ["a=1", "b=2"]);
    assert_eq!(
        two.headers().filter(|(name, _)| *name == "Server").count(),
        1
    );
    let both = answer(|mut request: Request| {
        request.set_header(header::SET_COOKIE, "a=1");
        request.set_header(header::SERVER, "the request's");
        request.set_header(header::VARY, "Accept");
        Response::new("x")
            .with_header(header::SET_COOKIE, "b=2")
            .with_header(header::SERVER, "the response's")
    });
    assert_eq!(cookies(&both), ["a=1", "b=2"]);
    assert_eq!(both.header("Server"), Some("the response's"));
    assert_eq!(both.header("Vary"), Some("Accept"));
    let body = answer(|mut request: Request| {
        request.set_header(header::SET_COOKIE, "a=1");
        request.set_header(header::CONTENT_TYPE, "text/csv");
        "x,y"
    });
    assert_eq!(cookies(&body), ["a=1"]);
    assert_eq!(body.header("Content-Type"), Some("text/csv"));
}

/// F-31.
#[test]
fn head_is_answered_by_way_of_get() {
    let server = server(|_, _| {});
    let (get, head) = (server.get("/alone").send(), server.head("/alone").send());
    assert_eq!(
        (get.status(), head.status()),
        (StatusCode::OK, StatusCode::OK)
    );
    assert_eq!((get.text(), head.text()), ("got".into(), String::new()));
    for name in ["Content-Length", "Content-Type", "ETag"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let delete = server.delete("/alone").send();
    assert_eq!(delete.status(), 405);
    assert_eq!(delete.header("Allow"), Some("GET, HEAD"));
}

/// F-34.
#[test]
fn a_body_that_is_returned_behind_finish_is_in_the_log() {
    let server = server(|app, reactor| {
        app.route("/text", |mut request: Request| {
            request.write("written ");
            request.finish();
            "thirteen byte"
        });
        app.route("/nothing", |request: Request| {
            request.respond("all");
        });
        app.route("/deferred", |request: Request| {
            request.respond("all");
            Deferred::succeed("fifteen   bytes")
        });
        let clock = reactor.clone();
        app.route("/later", move |request: Request| {
            request.respond("all");
            sleep(&clock, Duration::from_secs(1)).map(|()| "seventeen   bytes")
        });
        app.route("/fails", |request: Request| {
            request.respond("all");
            Err::<(), _>(Failure::message("after its finish"))
        });
    });
    let count = |bytes| times_logged(&format!("then returned a body of {bytes} bytes"));
    assert_eq!(server.get("/app/text").send().text(), "written ");
    let answers = ["nothing", "deferred", "later", "fails"]
        .map(|path| server.get(format!("/app/{path}")).send());
    for answer in &answers {
        assert_eq!(answer.text(), "all");
    }
    server.pass(Duration::from_secs(1));
    assert_eq!((count(13), count(15), count(17), count(0)), (1, 1, 1, 0));
    assert_eq!(times_logged("after its finish"), 1);
}

/// W-33: a request that is over is told so, and nothing else happens.
#[test]
fn what_is_written_for_a_client_that_has_gone_is_ignored() {
    let kept = Rc::new(RefCell::new(None));
    let keep = kept.clone();
    let server = server(move |app, _| {
        app.route("/", move |request: Request| {
            keep.replace(Some(request));
            NOT_DONE_YET
        });
    });
    for goes in [
        |one: &TestResponse| one.connection().reset(),
        |one: &TestResponse| one.connection().close(),
    ] {
        let gone = server.get("/app/").send();
        server.pump();
        goes(&gone);
        server.pass(Duration::from_secs(2));
        let mut request = kept.take().unwrap();
        assert!(!request.is_connected());
        request.write("nobody");
        request.set_response_code(StatusCode::GONE);
        assert_eq!(request.buffered(), 0);
        assert!(request.notify_finish().try_result().unwrap().is_err());
        let finished = request.finish();
        assert!(finished.is_err() && finished.into_result().is_err());
    }
}

/// F-09, F-36: of the request its method and path; of the panic, the line that is the user's.
#[test]
fn a_panic_names_its_request_and_its_line() {
    let server = server(|app, _| {
        app.route("/panics/<int:id>", |_| -> &'static str {
            panic!("in a route")
        });
        app.route("/fails/<int:id>", |_| {
            let source = "x".parse::<u8>().unwrap_err();
            Err::<(), _>(Failure::from(source))
        });
    });
    assert_eq!(server.get("/app/panics/7?secret=1").send().status(), 500);
    let line = logged("GET /app/panics/7 (route /app/panics/<int:id>) from 127.0.0.1:");
    assert!(
        line.contains("in a route") && line.contains(file!()),
        "{line}"
    );
    assert!(!line.contains("secret"), "{line}");

    assert_eq!(server.post("/app/fails/7", "body").send().status(), 500);
    let line = logged("POST /app/fails/7 (route /app/fails/<int:id>) from 127.0.0.1:");
    assert!(
        line.contains("invalid digit") && line.contains(file!()),
        "{line}"
    );

    assert_eq!(server.get("/panics").send().status(), 500);
    let line = logged("GET /panics from 127.0.0.1:");
    assert!(line.contains("in render_get"), "{line}");
    assert!(line.contains("Panics"), "{line}");
    for inside in ["ops/function.rs", "src/web/", "rustc"] {
        assert!(!line.contains(inside), "{line}");
    }
}
