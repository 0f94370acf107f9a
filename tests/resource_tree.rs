//! How a request finds its resource.

mod support;

use std::rc::Rc;
use std::time::Duration;

use prometheus_deferred::testing::{SendRequests, TestClient};
use prometheus_deferred::web::{
    DeferredResource, Rendered, Request, Resource, Site, StatusCode, Tree, pages,
};
use prometheus_deferred::{Deferred, Failure, on_unhandled, sleep};
use support::{InMemory, leaf, note};

/// Says where it was found.
struct Place;

impl Resource for Place {
    fn render_get(&self, request: Request) -> Rendered {
        where_it_is(request)
    }
}

fn where_it_is(request: Request) -> Rendered {
    format!("{:?} {:?}", request.prepath(), request.postpath()).into()
}

/// A resource that has children as well as a page.
struct Folder(Tree);

impl Resource for Folder {
    fn render_get(&self, request: Request) -> Rendered {
        where_it_is(request)
    }

    fn children(&self) -> Option<&Tree> {
        Some(&self.0)
    }

    fn get_child(&self, segment: &str, request: &Request) -> Option<Rc<dyn Resource>> {
        note(format!(
            "asked for {segment:?} with {:?} and {:?}",
            request.prepath(),
            request.postpath()
        ));
        (segment == "made").then(|| Rc::new(Place) as _)
    }
}

/// W-01.
#[test]
fn a_child_answers_under_its_name_in_any_spelling() {
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("foo", Place);
        root.put_child("caf\u{e9} au lait", Place);
        root
    });
    for (target, want) in [
        ("/foo", r#"["foo"] []"#),
        ("/%66o%6F", r#"["foo"] []"#),
        ("/foo?bar=/baz", r#"["foo"] []"#),
        ("/caf%C3%A9%20au%20lait", r#"["café au lait"] []"#),
        ("http://other/foo", r#"["foo"] []"#),
    ] {
        let client = TestClient::connect(&server);
        assert_eq!(client.get(target).send().text(), want, "{target}");
    }
    for target in [
        "/bar",
        "/Foo",
        "/foo/bar",
        "/foo/",
        "/foo%2F",
        "/x/../foo",
        "/./foo",
        "//foo",
    ] {
        assert_eq!(server.get(target).send().status(), 404, "{target}");
    }
}

/// W-02.
#[test]
fn the_root_path_is_the_child_with_the_empty_name() {
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("", Place);
        root
    });
    assert_eq!(server.get("/").send().text(), r#"[""] []"#);
    assert_eq!(
        TestClient::connect(&server).get("http://h").send().text(),
        r#"[""] []"#
    );

    let bare = InMemory::new(Tree::new);
    assert_eq!(bare.get("/").send().status(), 404);
}

/// W-03.
#[test]
fn a_final_slash_makes_a_difference() {
    let server = InMemory::new(|| {
        let children = Tree::new();
        children.put_child("", leaf(|_| "the child"));
        let root = Tree::new();
        root.put_child("foo", Folder(children));
        root
    });
    assert_eq!(server.get("/foo").send().text(), r#"["foo"] []"#);
    assert_eq!(server.get("/foo/").send().text(), "the child");
}

/// W-04.
#[test]
fn a_leaf_gets_the_rest_of_the_path_decoded() {
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("leaf", leaf(where_it_is));
        root
    });
    for (target, want) in [
        ("/leaf", r#"["leaf"] []"#),
        ("/leaf/", r#"["leaf"] [""]"#),
        ("/leaf/a%20b//c%2Fd/", r#"["leaf"] ["a b", "", "c/d", ""]"#),
        ("/leaf/../x", r#"["leaf"] ["..", "x"]"#),
    ] {
        assert_eq!(server.get(target).send().text(), want, "{target}");
    }
}

/// W-05, W-06.
#[test]
fn the_hook_is_asked_for_what_was_not_put_once_the_segment_has_moved() {
    let server = InMemory::new(|| {
        let children = Tree::new();
        children.put_child("put", leaf(|_| "put"));
        Folder(children)
    });
    assert_eq!(server.get("/put/x").send().text(), "put");
    assert!(server.notes().is_empty());

    assert_eq!(server.get("/made").send().text(), r#"["made"] []"#);
    assert_eq!(server.notes(), [r#"asked for "made" with ["made"] and []"#]);

    assert_eq!(server.get("/none/x%2Fy/").send().status(), 404);
    assert_eq!(
        server.notes(),
        [r#"asked for "none" with ["none"] and ["x/y", ""]"#]
    );
}

/// W-06.
#[test]
fn a_resource_that_overrides_the_lookup_sees_every_segment() {
    struct Sees(Tree);
    impl Resource for Sees {
        fn children(&self) -> Option<&Tree> {
            Some(&self.0)
        }
        fn get_child_with_default(&self, segment: &str, _: &Request) -> Option<Rc<dyn Resource>> {
            note(segment);
            self.0.child(segment)
        }
    }
    let server = InMemory::new(|| {
        let children = Tree::new();
        children.put_child("put", leaf(|_| "put"));
        Sees(children)
    });
    assert_eq!(server.get("/put").send().text(), "put");
    assert_eq!(server.get("/not").send().status(), 404);
    assert_eq!(server.notes(), ["put", "not"]);
}

/// W-06. A resource is the same whether it is shared or not.
#[test]
fn a_shared_resource_behaves_as_it_does_unshared() {
    struct Wraps(Rc<Folder>);
    impl Resource for Wraps {
        fn render_get(&self, request: Request) -> Rendered {
            self.0.render_get(request)
        }
        fn children(&self) -> Option<&Tree> {
            self.0.children()
        }
        fn get_child(&self, segment: &str, request: &Request) -> Option<Rc<dyn Resource>> {
            self.0.get_child(segment, request)
        }
    }
    let server = InMemory::new(|| {
        let children = Tree::new();
        children.put_child("put", leaf(|_| "put"));
        let root = Tree::new();
        root.put_child("a", Wraps(Rc::new(Folder(children))));
        root
    });
    assert_eq!(server.get("/a").send().text(), r#"["a"] []"#);
    assert_eq!(server.get("/a/put").send().text(), "put");
    assert_eq!(server.get("/a/made").send().text(), r#"["a", "made"] []"#);
}

#[test]
fn children_come_and_go_while_the_site_is_served() {
    let server = InMemory::new(|| {
        let root = Tree::new();
        let tree = root.clone();
        root.put_child(
            "open",
            leaf(move |_| tree.put_child("door", leaf(|_| "hello"))),
        );
        let tree = root.clone();
        root.put_child("shut", leaf(move |_| drop(tree.remove_child("door"))));
        root
    });
    assert_eq!(server.get("/door").send().status(), 404);
    server.get("/open").send();
    assert_eq!(server.get("/door").send().text(), "hello");
    server.get("/shut").send();
    assert_eq!(server.get("/door").send().status(), 404);
}

/// W-07.
#[test]
fn standard_pages_show_their_code_and_escape_their_message() {
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("404", pages::not_found());
        root.put_child("403", pages::forbidden());
        let message = "<b>\"Tom\" & 'Jerry'</b>";
        root.put_child("410", pages::ErrorPage::new(StatusCode::GONE, message));
        root
    });
    let get = |target: String, accept: &str| server.get(target).header("Accept", accept).send();
    let browsers = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for status in [404, 403, 410] {
        let page = get(format!("/{status}"), browsers);
        assert_eq!(page.status(), status);
        assert_eq!(
            page.header("Content-Type"),
            Some("text/html; charset=utf-8")
        );
        assert!(page.text().contains(&status.to_string()), "{page:?}");
        let below = get(format!("/{status}/a/b/"), browsers);
        assert_eq!(below.status(), page.status());
        assert_eq!(below.body(), page.body());
    }
    let gone = get("/410".to_owned(), browsers);
    assert!(
        gone.text()
            .contains("&lt;b&gt;&quot;Tom&quot; &amp; &#39;Jerry&#39;&lt;/b&gt;"),
        "{gone:?}"
    );
    // F-35. Text for who takes anything, and JSON for who asks for that.
    for (accept, content_type, text) in [
        (
            "*/*",
            "text/plain; charset=utf-8",
            "410 Gone\n\n<b>\"Tom\" & 'Jerry'</b>\n",
        ),
        (
            "text/html;q=0.1, text/plain",
            "text/plain; charset=utf-8",
            "410 Gone\n\n<b>\"Tom\" & 'Jerry'</b>\n",
        ),
        (
            "application/json",
            "application/problem+json",
            "{\"type\":\"about:blank\",\"title\":\"Gone\",\"status\":410,\
             \"detail\":\"<b>\\\"Tom\\\" & 'Jerry'</b>\"}\n",
        ),
    ] {
        let gone = get("/410".to_owned(), accept);
        assert_eq!(gone.status(), 410);
        assert_eq!(gone.header("Content-Type"), Some(content_type), "{accept}");
        assert_eq!(gone.text(), text, "{accept}");
        assert_eq!(gone.header("X-Content-Type-Options"), Some("nosniff"));
    }
}

/// W-08.
#[test]
fn a_deferred_resource_goes_on_with_what_arrives() {
    let server = InMemory::with_site(|reactor| {
        let arrives = |after, resource: fn() -> Rc<dyn Resource>| {
            DeferredResource::new(sleep(reactor, after).map(move |()| resource()))
        };
        let root = Tree::new();
        let tree = || {
            let tree = Tree::new();
            tree.put_child("a", leaf(where_it_is));
            Rc::new(tree) as Rc<dyn Resource>
        };
        root.put_child("later", arrives(Duration::from_millis(30), tree));
        root.put_child("now", DeferredResource::new(Deferred::succeed(tree())));
        Site::new(root)
    });
    let replies: Vec<_> = (0..3).map(|_| server.get("/later/a/b").send()).collect();
    assert!(replies.iter().all(|reply| !reply.has_begun()));
    server.pass(Duration::from_millis(30));
    for reply in replies {
        assert_eq!(reply.text(), r#"["later", "a"] ["b"]"#);
    }
    assert_eq!(
        server.get("/later/a/").send().text(),
        r#"["later", "a"] [""]"#
    );
    assert_eq!(server.get("/now/a").send().text(), r#"["now", "a"] []"#);
    assert_eq!(server.get("/now/x").send().status(), 404);
}

/// W-08.
#[test]
fn a_deferred_resource_that_fails_is_a_processing_failure_and_handled() {
    thread_local! {
        static RESOLVER: std::cell::RefCell<Option<prometheus_deferred::Resolver<Rc<dyn Resource>>>> =
            const { std::cell::RefCell::new(None) };
    }
    let server = InMemory::new(|| {
        on_unhandled(|report| note(format!("unhandled: {}", report.failure)));
        let (deferred, resolver) = Deferred::pending();
        RESOLVER.set(Some(resolver));
        let root = Tree::new();
        root.put_child("wiki", DeferredResource::new(deferred));
        root.put_child("asked", leaf(|_| ()));
        root
    });
    let replies = [server.get("/wiki/x").send(), server.get("/wiki/x").send()];
    // This one goes away and must not be in the way of the others.
    drop(server.get("/wiki/x").send());
    assert_eq!(server.get("/asked").send().status(), 200);
    let resolver = RESOLVER.take().unwrap();
    resolver
        .errback(Failure::message("the wiki has burnt down"))
        .unwrap();
    for page in replies {
        assert_eq!(page.status(), 500);
        assert!(!page.text().contains("burnt"));
    }
    assert_eq!(
        server.get("/wiki").send().status(),
        500,
        "afterwards as well"
    );
    support::logged("the wiki has burnt down");
    assert!(server.notes().is_empty());
}

/// Whatever a resource does while it is looked up, the server goes on.
#[test]
fn a_panic_on_the_way_down_is_a_processing_failure() {
    struct Bomb;
    impl Resource for Bomb {
        fn get_child(&self, segment: &str, _: &Request) -> Option<Rc<dyn Resource>> {
            panic!("no child {segment}")
        }
    }
    struct Unsure;
    impl Resource for Unsure {
        fn is_leaf(&self) -> bool {
            panic!("am I a leaf?")
        }
    }
    struct Choosy;
    impl Resource for Choosy {
        fn allowed_methods(&self) -> Vec<prometheus_deferred::web::Method> {
            panic!("which methods?")
        }
    }
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("bomb", Bomb);
        root.put_child("unsure", Unsure);
        root.put_child("choosy", Choosy);
        root.put_child("fine", leaf(|_| "fine"));
        root
    });
    let client = TestClient::connect(&server);
    for (target, text) in [
        ("/bomb/tick", "no child tick"),
        ("/unsure", "am I a leaf?"),
        ("/choosy", "which methods?"),
    ] {
        assert_eq!(client.get(target).send().status(), 500, "{target}");
        support::logged(text);
        assert_eq!(
            client.get("/fine").send().text(),
            "fine",
            "the same connection goes on"
        );
    }
}

/// Resources that name each other for ever are a failure of theirs, also when each takes its time.
#[test]
fn resources_that_name_each_other_in_a_circle_are_a_processing_failure() {
    struct At;
    impl Resource for At {
        fn render(&self, _: Request) -> Rendered {
            Rendered::Resource(Rc::new(At))
        }
    }
    struct Later;
    impl Resource for Later {
        fn render(&self, _: Request) -> Rendered {
            Rendered::DeferredResource(Deferred::succeed(Rc::new(Later) as Rc<dyn Resource>))
        }
    }
    let server = InMemory::new(|| {
        let root = Tree::new();
        root.put_child("at", At);
        root.put_child("later", Later);
        root
    });
    assert_eq!(server.get("/at").send().status(), 500);
    assert_eq!(server.get("/later").send().status(), 500);
}
