//! What a client gets that has a copy already, or wants a part.

use std::time::{Duration, SystemTime};

use prometheus_deferred::testing::{
    MemoryReactor, SendRequests, TestClient, TestRequest, TestResponse,
};
use prometheus_deferred::web::{
    EntityTag, NOT_DONE_YET, Rendered, Request, Resource, Response, Site, StatusCode, header,
};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BODY: &str = "0123456789";

fn modified() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// A resource made of a function, for every method.
struct Leaf<F>(F);

impl<R: Into<Rendered>, F: Fn(Request) -> R + 'static> Resource for Leaf<F> {
    fn render(&self, request: Request) -> Rendered {
        self.0(request).into()
    }

    fn is_leaf(&self) -> bool {
        true
    }
}

/// A site that answers everything with a function.
fn site<R: Into<Rendered> + 'static>(render: impl Fn(Request) -> R + 'static) -> MemoryReactor {
    let memory = MemoryReactor::new();
    let site = Site::new(Leaf(render));
    memory
        .listen_tcp("127.0.0.1:80", site)
        .expect("the port is free");
    memory
}

/// Ten bytes with everything that can be said of them.
fn document() -> Response {
    Response::new(BODY)
        .with_content_type("text/plain")
        .with_header(header::CACHE_CONTROL, "max-age=60")
        .with_header(header::CONTENT_LANGUAGE, "en")
        .with_header(header::CONTENT_LOCATION, "/digits.txt")
        .with_header(header::EXPIRES, MODIFIED)
        .with_header(header::VARY, "Accept")
        .with_header(header::SET_COOKIE, "a=b")
        .with_etag(EntityTag::strong("v1"))
        .with_last_modified(modified())
        .accept_ranges()
}

fn ask(memory: &MemoryReactor, method: &str, fields: &[(&str, &str)]) -> TestResponse {
    let request = memory.request(method, "/");
    let add = |request: TestRequest, (name, value): &(&str, &str)| request.header(name, value);
    fields.iter().fold(request, add).send()
}

#[test]
fn without_conditions_the_whole_is_sent_with_its_validators() {
    let memory = site(|_| document());
    for method in ["GET", "HEAD"] {
        let response = ask(&memory, method, &[]);
        assert_eq!(response.status(), 200);
        assert_eq!(response.header("ETag"), Some("\"v1\""));
        assert_eq!(response.header("Last-Modified"), Some(MODIFIED));
        assert_eq!(response.header("Accept-Ranges"), Some("bytes"));
        assert_eq!(response.header("Content-Length"), Some("10"));
        assert_eq!(response.text(), if method == "GET" { BODY } else { "" });
    }
}

/// W-35, W-37: what describes the client's copy is sent, what describes the body is not.
#[test]
fn a_copy_that_is_current_is_answered_with_304() {
    let memory = site(|_| document());
    for fields in [
        [("If-None-Match", "\"v0\", W/\"v1\"")],
        [("If-None-Match", "*")],
        [("If-Modified-Since", MODIFIED)],
    ] {
        for method in ["GET", "HEAD"] {
            let response = ask(&memory, method, &fields);
            assert_eq!(response.status(), 304, "{fields:?}");
            let names: Vec<_> = response.headers().map(|(name, _)| name).collect();
            let mut sorted = names.clone();
            sorted.sort_unstable();
            assert_eq!(
                sorted,
                [
                    "Cache-Control",
                    "Content-Location",
                    "Date",
                    "ETag",
                    "Expires",
                    "Set-Cookie",
                    "Vary"
                ],
            );
            assert_eq!(response.text(), "");
        }
    }
    // The connection goes on.
    let client = TestClient::connect(&memory);
    let first = client.get("/").header("If-None-Match", "*").send();
    let second = client.get("/").send();
    assert_eq!(
        (first.status().as_u16(), second.text().as_str()),
        (304, BODY)
    );
}

#[test]
fn without_a_tag_304_tells_the_date() {
    let memory = site(|_| Response::new(BODY).with_last_modified(modified()));
    let response = ask(&memory, "GET", &[("If-Modified-Since", MODIFIED)]);
    assert_eq!(response.status(), 304);
    assert_eq!(response.header("Last-Modified"), Some(MODIFIED));
    // Not asked for.
    assert_eq!(ask(&memory, "GET", &[("Range", "bytes=0-0")]).status(), 200);
    assert_eq!(response.header("Accept-Ranges"), None);
}

/// RFC 9110, 13.1.1.
#[test]
fn a_condition_that_fails_is_answered_with_412() {
    let memory = site(|_| document());
    for fields in [
        [("If-Match", "\"v0\"")],
        [("If-Match", "W/\"v1\"")],
        [("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:36 GMT")],
    ] {
        let response = ask(&memory, "GET", &fields);
        assert_eq!(response.status(), 412, "{fields:?}");
        assert_eq!(response.header("ETag"), Some("\"v1\""));
        assert_eq!(response.header("Cache-Control"), None);
        assert_eq!(
            response.header("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(!response.text().contains(BODY));
    }
}

#[test]
fn other_answers_are_sent_as_they_are() {
    let memory = site(|request| {
        let status = match request.path() {
            "/missing" => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        };
        document().with_status(status)
    });
    let missing = memory
        .get("/missing")
        .header("If-None-Match", "*")
        .header("Range", "bytes=0-0");
    let missing = missing.send();
    assert_eq!(
        (missing.status().as_u16(), missing.text().as_str()),
        (404, BODY)
    );
    assert_eq!(missing.header("ETag"), Some("\"v1\""));
    // What it asks for is done by now.
    for field in [
        ("If-Match", "\"v0\""),
        ("If-None-Match", "*"),
        ("Range", "bytes=0-0"),
    ] {
        let response = ask(&memory, "PUT", &[field]);
        assert_eq!(
            (response.status().as_u16(), response.text().as_str()),
            (200, BODY)
        );
        assert_eq!(response.header("ETag"), Some("\"v1\""));
    }
}

/// W-59.
#[test]
fn one_part_is_sent_as_it_is() {
    let memory = site(|_| document());
    for (range, content_range, part) in [
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-1", "bytes 9-9/10", "9"),
        ("bytes=0-99", "bytes 0-9/10", BODY),
        ("bytes=20-,3-3", "bytes 3-3/10", "3"),
    ] {
        let response = ask(&memory, "GET", &[("Range", range)]);
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(response.header("Content-Range"), Some(content_range));
        assert_eq!(response.header("Content-Type"), Some("text/plain"));
        assert_eq!(response.header("ETag"), Some("\"v1\""));
        assert_eq!(response.header("Vary"), Some("Accept"));
        let length = part.len().to_string();
        assert_eq!(response.header("Content-Length"), Some(length.as_str()));
        assert_eq!(response.text(), part);
    }
}

/// W-59.
#[test]
fn several_parts_are_sent_as_multipart() {
    let memory = site(|_| document());
    let response = ask(&memory, "GET", &[("Range", "bytes=-2, 0-1")]);
    assert_eq!(response.status(), 206);
    assert_eq!(response.header("Content-Range"), None);
    let types: Vec<_> = response
        .headers()
        .filter(|(name, _)| *name == "Content-Type")
        .map(|(_, value)| value)
        .collect();
    let [content_type] = types[..] else {
        panic!("{types:?}");
    };
    let boundary = content_type
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let head = "Content-Type: text/plain\r\nContent-Range: bytes";
    assert_eq!(
        response.text(),
        format!(
            "--{boundary}\r\n{head} 8-9/10\r\n\r\n89\r\n\
             --{boundary}\r\n{head} 0-1/10\r\n\r\n01\r\n--{boundary}--\r\n"
        )
    );
    let other = ask(&memory, "GET", &[("Range", "bytes=-2, 0-1")]);
    assert_ne!(other.header("Content-Type"), Some(content_type));
}

/// W-59.
#[test]
fn what_is_beyond_the_end_is_answered_with_416() {
    let memory = site(|_| document());
    for range in ["bytes=10-", "bytes=-0", "bytes=10-11,99-"] {
        let response = ask(&memory, "GET", &[("Range", range)]);
        assert_eq!(response.status(), 416, "{range}");
        assert_eq!(response.header("Content-Range"), Some("bytes */10"));
        assert_eq!(response.header("Content-Language"), None);
        assert!(!response.text().contains(BODY));
    }
}

/// W-59: the whole, for what is no range or asks for too much.
#[test]
fn other_ranges_get_the_whole() {
    let memory = site(|_| document());
    let seventeen = format!("bytes={}", vec!["0-0"; 17].join(","));
    for range in [
        "bytes=5-2",
        "bytes=a-b",
        "items=0-1",
        "bytes=0-4,4-5",
        &seventeen,
    ] {
        let response = ask(&memory, "GET", &[("Range", range)]);
        assert_eq!(
            (response.status().as_u16(), response.text().as_str()),
            (200, BODY),
            "{range}"
        );
    }
    for (if_range, status) in [("\"v1\"", 206), ("\"v0\"", 200), ("W/\"v1\"", 200)] {
        let response = ask(
            &memory,
            "GET",
            &[("Range", "bytes=0-0"), ("If-Range", if_range)],
        );
        assert_eq!(response.status(), status, "{if_range}");
    }
    assert_eq!(
        ask(&memory, "HEAD", &[("Range", "bytes=99-")]).status(),
        200
    );
}

/// W-35: told when it is set, so that the body need not be made.
#[test]
fn a_program_learns_that_the_copy_is_current() {
    let memory = site(|mut request| {
        let decided = match request.path() {
            "/date" => request.set_last_modified(modified() - Duration::from_millis(300)),
            _ => request.set_etag(EntityTag::strong("v1")),
        };
        match decided {
            Some(status) => Rendered::from(status),
            None => "made".into(),
        }
    });
    let ask = |method, path, name, value| memory.request(method, path).header(name, value).send();
    for (method, path, name, value, status) in [
        ("GET", "/date", "If-Modified-Since", MODIFIED, 304),
        ("HEAD", "/date", "If-Modified-Since", MODIFIED, 304),
        (
            "GET",
            "/date",
            "If-Modified-Since",
            "Sun, 06 Nov 1994 08:49:36 GMT",
            200,
        ),
        (
            "GET",
            "/date",
            "If-Modified-Since",
            "Thu, 01 Jan 1969 00:00:00 GMT",
            200,
        ),
        ("GET", "/date", "If-Modified-Since", "soon", 200),
        ("POST", "/date", "If-Modified-Since", MODIFIED, 200),
        ("GET", "/tag", "If-None-Match", "\"v1\"", 304),
        ("GET", "/tag", "If-None-Match", "\"v0\"", 200),
        ("HEAD", "/tag", "If-None-Match", "*", 304),
        ("POST", "/tag", "If-None-Match", "\"v1\"", 412),
        ("PUT", "/tag", "If-None-Match", "*", 412),
        ("PUT", "/tag", "If-Match", "\"v1\"", 200),
        ("PUT", "/tag", "If-Match", "\"v0\"", 412),
        ("DELETE", "/tag", "If-Match", "\"v0\"", 412),
    ] {
        let response = ask(method, path, name, value);
        assert_eq!(response.status(), status, "{method} {path} {name}: {value}");
        let is_made = status == 200 && method != "HEAD";
        assert_eq!(response.text(), if is_made { "made" } else { "" });
        let (name, value) = match path {
            "/date" => ("Last-Modified", MODIFIED),
            _ => ("ETag", "\"v1\""),
        };
        // After a change, it is not that any more.
        let has_validator = matches!(method, "GET" | "HEAD") || status == 412;
        assert_eq!(
            response.header(name),
            has_validator.then_some(value),
            "{method} {path}"
        );
    }
}

/// W-35, W-37: whatever is written then.
#[test]
fn what_is_written_for_a_current_copy_is_not_sent() {
    let memory = site(|mut request| {
        let _ = request.set_etag(EntityTag::weak("v1"));
        request.write("not ");
        request.write("sent");
        request.finish();
        NOT_DONE_YET
    });
    let client = TestClient::connect(&memory);
    let current = client.get("/").header("If-None-Match", "\"v1\"").send();
    let other = client.get("/").send();
    assert_eq!(
        (current.status().as_u16(), current.text().as_str()),
        (304, "")
    );
    assert_eq!(current.header("ETag"), Some("W/\"v1\""));
    assert_eq!(
        (other.status().as_u16(), other.text().as_str()),
        (200, "not sent")
    );
}

/// RFC 9110, 13.2.2: dates wait for the tag.
#[test]
fn a_tag_that_differs_beats_a_date_that_does_not() {
    let memory = site(|mut request| -> Rendered {
        let by_date = request.set_last_modified(modified());
        let by_tag = request.set_etag(EntityTag::strong("v1"));
        by_date.or(by_tag).map_or("made".into(), Rendered::from)
    });
    let both = |tag| [("If-None-Match", tag), ("If-Modified-Since", MODIFIED)];
    assert_eq!(ask(&memory, "GET", &both("\"v0\"")).status(), 200);
    assert_eq!(ask(&memory, "GET", &both("\"v1\"")).status(), 304);
    assert_eq!(ask(&memory, "GET", &both("\"v1\"")[1..]).status(), 304);
    // A tag that is not set yet is no reason to refuse.
    assert_eq!(ask(&memory, "GET", &[("If-Match", "\"v1\"")]).status(), 200);
}

/// W-36.
#[test]
fn the_latest_of_several_dates_is_sent_unless_one_was_set_by_hand() {
    let memory = site(|mut request| {
        let second = Duration::from_secs(1);
        let by_hand = "Mon, 07 Nov 1994 08:49:37 GMT";
        if request.path() == "/before" {
            request.set_header(header::LAST_MODIFIED, by_hand);
        }
        for time in [modified() - second, modified(), modified() - 2 * second] {
            assert_eq!(request.set_last_modified(time), None);
        }
        assert_eq!(
            request.set_last_modified(SystemTime::UNIX_EPOCH - second),
            None
        );
        if request.path() == "/between" {
            request.set_header(header::LAST_MODIFIED, by_hand);
            let _ = request.set_last_modified(modified() + second);
        }
        ""
    });
    let by_hand = Some("Mon, 07 Nov 1994 08:49:37 GMT");
    assert_eq!(
        memory.get("/").send().header("Last-Modified"),
        Some(MODIFIED)
    );
    assert_eq!(
        memory.get("/before").send().header("Last-Modified"),
        by_hand
    );
    assert_eq!(
        memory.get("/between").send().header("Last-Modified"),
        by_hand
    );
}

#[test]
fn a_tag_set_by_hand_stays() {
    let memory = site(|mut request| {
        request.set_header(header::ETAG, "\"by hand\"");
        let _ = request.set_etag(EntityTag::strong("v1"));
        ""
    });
    assert_eq!(memory.get("/").send().header("ETag"), Some("\"by hand\""));
}

/// What is set on the request holds for the response that is given back.
#[test]
fn validators_of_request_and_response_add_up() {
    let memory = site(|mut request| {
        let _ = request.set_etag(EntityTag::strong("old"));
        let _ = request.set_last_modified(modified());
        Response::new(BODY)
            .with_etag(EntityTag::strong("new"))
            .accept_ranges()
    });
    let response = ask(&memory, "GET", &[]);
    assert_eq!(response.header("ETag"), Some("\"new\""));
    assert_eq!(response.header("Last-Modified"), Some(MODIFIED));
    assert_eq!(
        ask(&memory, "GET", &[("If-None-Match", "\"new\"")]).status(),
        304
    );
    assert_eq!(
        ask(&memory, "GET", &[("If-Modified-Since", MODIFIED)]).status(),
        304
    );
    assert_eq!(ask(&memory, "GET", &[("Range", "bytes=0-0")]).status(), 206);
}
