//! Conditions and ranges of responses whose bodies are made, or read, while they are sent.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use prometheus_deferred::testing::{MemoryReactor, SendRequests, TestClient, TestResponse};
use prometheus_deferred::web::{Body, EntityTag, Klein, Rendered, Request, Response, Site};
use prometheus_deferred::{Deferred, Failure};

/// A file that is removed at the end of its test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(content: &[u8]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("parts-of-files-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).expect("the folder for temporary files can be written");
        Self(path)
    }

    /// As long as that, and nothing but zeros that take no space.
    fn sparse(length: u64) -> Self {
        let file = Self::new(b"");
        let options = OpenOptions::new().write(true).open(file.path()).unwrap();
        options.set_len(length).unwrap();
        file
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A site that answers GET and PUT of `/` with a function.
fn site<R: Into<Rendered> + 'static>(render: impl Fn(Request) -> R + 'static) -> MemoryReactor {
    let memory = MemoryReactor::new();
    let mut app = Klein::new();
    app.route("/", move |request: Request| -> Rendered {
        render(request).into()
    });
    memory
        .listen_tcp("127.0.0.1:80", Site::new(app.resource()))
        .expect("the port is free");
    memory
}

/// What a handler returns for a file.
fn respond(file: File) -> Result<Response, Failure> {
    let response = Response::file(file)?;
    Ok(response
        .with_content_type("application/octet-stream")
        .with_etag(EntityTag::strong("v1"))
        .accept_ranges())
}

fn files(path: &Path) -> MemoryReactor {
    let path = path.to_owned();
    site(move |_| File::open(&path).map_err(Failure::from).and_then(respond))
}

fn ask(memory: &MemoryReactor, fields: &[(&str, &str)]) -> TestResponse {
    let add = |request: prometheus_deferred::testing::TestRequest, (name, value): &(&str, &str)| {
        request.header(name, value)
    };
    fields.iter().fold(memory.get("/"), add).send()
}

/// 200,000 bytes, so four pieces, each byte telling where it stands.
fn content() -> Vec<u8> {
    (0..200_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// W-59.
#[test]
fn one_part_of_a_file_is_sent_as_it_is() {
    let content = content();
    let file = Temporary::new(&content);
    let memory = files(file.path());
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=2-4", 2, 4),
        ("bytes=65535-65536", 65_535, 65_536),
        ("bytes=100-", 100, 199_999),
        ("bytes=-70000", 130_000, 199_999),
        ("bytes=0-999999", 0, 199_999),
    ] {
        let response = ask(&memory, &[("Range", range)]);
        assert_eq!(response.status(), 206, "{range}");
        let content_range = format!("bytes {first}-{last}/200000");
        assert_eq!(
            response.header("Content-Range"),
            Some(content_range.as_str())
        );
        let length = (last - first + 1).to_string();
        assert_eq!(response.header("Content-Length"), Some(length.as_str()));
        assert_eq!(response.header("Accept-Ranges"), Some("bytes"));
        assert_eq!(response.header("ETag"), Some("\"v1\""));
        assert!(
            response.body() == content[first..=last],
            "{range} gave other bytes"
        );
    }
    let whole = ask(&memory, &[]);
    assert_eq!(
        (whole.status().as_u16(), whole.header("Accept-Ranges")),
        (200, Some("bytes"))
    );
    assert!(whole.body() == content);
}

/// W-59.
#[test]
fn several_parts_of_a_file_are_sent_as_multipart() {
    let content = content();
    let file = Temporary::new(&content);
    let memory = files(file.path());
    let response = ask(&memory, &[("Range", "bytes=-2,10-100009")]);
    assert_eq!(response.status(), 206);
    assert_eq!(response.header("Content-Range"), None);
    let boundary = response
        .header("Content-Type")
        .and_then(|value| value.strip_prefix("multipart/byteranges; boundary="))
        .expect("a multipart body");
    let head = "Content-Type: application/octet-stream\r\nContent-Range: bytes";
    let mut want = format!("--{boundary}\r\n{head} 199998-199999/200000\r\n\r\n").into_bytes();
    want.extend_from_slice(&content[199_998..]);
    want.extend_from_slice(
        format!("\r\n--{boundary}\r\n{head} 10-100009/200000\r\n\r\n").as_bytes(),
    );
    want.extend_from_slice(&content[10..=100_009]);
    want.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let length = want.len().to_string();
    assert_eq!(response.header("Content-Length"), Some(length.as_str()));
    assert!(response.body() == want);
}

/// W-59: the connection goes on behind each of them.
#[test]
fn other_ranges_of_a_file_get_the_whole_or_416() {
    let content = content();
    let file = Temporary::new(&content);
    let memory = files(file.path());
    let client = TestClient::connect(&memory);
    let ask = |fields: [(&str, &str); 2]| {
        let [(first, value), (second, other)] = fields;
        client
            .get("/")
            .header(first, value)
            .header(second, other)
            .send()
    };
    for range in ["bytes=200000-", "bytes=-0"] {
        let response = ask([("Range", range), ("X-None", "")]);
        assert_eq!(response.status(), 416, "{range}");
        assert_eq!(response.header("Content-Range"), Some("bytes */200000"));
        assert!(response.body().len() < 200);
    }
    for fields in [
        [("Range", "bytes=5-2"), ("X-None", "")],
        [("Range", "items=0-1"), ("X-None", "")],
        [("Range", "bytes=0-4,4-5"), ("X-None", "")],
        [("Range", "bytes=0-1"), ("If-Range", "\"v0\"")],
    ] {
        let response = ask(fields);
        assert_eq!(response.status(), 200, "{fields:?}");
        assert!(response.body() == content);
    }
    let response = ask([("Range", "bytes=0-1"), ("If-Range", "\"v1\"")]);
    assert_eq!(response.status(), 206);
    let head = client.head("/").header("Range", "bytes=0-1").send();
    assert_eq!(
        (head.status().as_u16(), head.header("Content-Length")),
        (200, Some("200000"))
    );
}

/// W-59: what is not asked for is not read, however much it is.
#[test]
fn a_part_at_the_end_of_a_large_file_is_found_at_once() {
    let length = 1 << 36;
    let file = Temporary::sparse(length);
    let mut end = OpenOptions::new().write(true).open(file.path()).unwrap();
    end.seek(SeekFrom::Start(length - 3)).unwrap();
    end.write_all(b"end").unwrap();
    let memory = files(file.path());
    let response = ask(&memory, &[("Range", "bytes=-3")]);
    assert_eq!(
        response.header("Content-Range"),
        Some("bytes 68719476733-68719476735/68719476736")
    );
    assert_eq!(response.text(), "end");
}

/// Law 7: parts are put together as the client reads.
#[test]
fn several_large_parts_are_not_held_in_memory() {
    let file = Temporary::sparse(1 << 36);
    let memory = files(file.path());
    let client = TestClient::connect(&memory);
    client.connection().block_writes(1000);
    let range = "bytes=0-30000000000,30000000002-";
    let response = client.get("/").header("Range", range).send();
    assert_eq!(response.status(), 206);
    assert_eq!(response.header("Content-Range"), None);
    let transport = client.connection().transport().unwrap();
    assert!(
        (1..=3 * 64 * 1024).contains(&transport.buffered()),
        "{} bytes wait",
        transport.buffered()
    );
}

/// A file that was read up to some place is sent from there, and its parts are counted from there.
#[test]
fn a_file_is_sent_from_where_it_stands() {
    let file = Temporary::new(b"head0123456789");
    let path = file.path().to_owned();
    let memory = site(move |_| -> Result<Response, Failure> {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(4))?;
        respond(file)
    });
    assert_eq!(ask(&memory, &[]).text(), "0123456789");
    let part = ask(&memory, &[("Range", "bytes=1-2")]);
    assert_eq!(part.header("Content-Range"), Some("bytes 1-2/10"));
    assert_eq!(part.text(), "12");
}

/// Handles that were cloned from one another share a position; responses do not depend on it.
#[test]
fn responses_from_one_open_file_do_not_disturb_each_other() {
    let content = content();
    let file = Temporary::new(&content);
    let opened = File::open(file.path()).unwrap();
    let memory = site(move |_| opened.try_clone().map_err(Failure::from).and_then(respond));
    memory.start().unwrap();
    let responses: Vec<_> = (0..3).map(|_| memory.get("/").send()).collect();
    for response in &responses {
        assert!(response.body() == content);
    }
    let clients: Vec<_> = (0..3).map(|_| TestClient::connect(&memory)).collect();
    for client in &clients {
        client.connection().block_writes(1000);
    }
    let responses: Vec<_> = clients.iter().map(|one| one.get("/").send()).collect();
    for client in &clients {
        client.connection().unblock_writes();
    }
    memory.pump();
    for response in &responses {
        assert!(response.body() == content);
    }
}

/// A client must not take a part for the whole.
#[test]
fn a_file_that_becomes_shorter_breaks_the_connection() {
    let file = Temporary::new(&content());
    let path = file.path().to_owned();
    let memory = site(move |_| -> Result<Response, Failure> {
        let response = respond(File::open(&path)?)?;
        let shorter = OpenOptions::new().write(true).open(&path)?;
        shorter.set_len(100_000)?;
        Ok(response)
    });
    let response = ask(&memory, &[]);
    assert!(response.is_cut_off());
    assert!(response.body_so_far().len() <= 100_000);
}

/// It opens like a file and cannot be read.
#[cfg(unix)]
#[test]
fn a_folder_is_no_file() {
    let memory = files(&std::env::temp_dir());
    assert_eq!(ask(&memory, &[]).status(), 500);
}

/// A source that says how often it was asked, and whether it is still there.
fn counted() -> (
    Rc<Cell<usize>>,
    impl FnMut() -> Deferred<Option<&'static str>>,
) {
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    let source = move || {
        count.set(count.get() + 1);
        Deferred::succeed((count.get() == 1).then_some("0123456789"))
    };
    (asked, source)
}

/// W-37: the source goes, and nothing was made of it.
#[test]
fn a_source_that_is_not_needed_is_dropped_unread() {
    let (asked, source) = counted();
    let source = Cell::new(Some(source));
    let memory = site(move |_| {
        let source = source.take().expect("asked once");
        Response::stream(source).with_etag(EntityTag::strong("v1"))
    });
    let response = ask(&memory, &[("If-None-Match", "\"v1\"")]);
    assert_eq!(response.status(), 304);
    assert_eq!((asked.get(), Rc::strong_count(&asked)), (0, 1));

    let (asked, source) = counted();
    let source = Cell::new(Some(source));
    let memory = site(move |_| {
        let source = source.take().expect("asked once");
        Response::stream(source).with_etag(EntityTag::strong("v1"))
    });
    let response = ask(&memory, &[("If-Match", "\"v0\"")]);
    assert_eq!(response.status(), 412);
    assert_eq!((asked.get(), Rc::strong_count(&asked)), (0, 1));
}

/// W-59: of other sources no part can be made without the rest, so none is promised.
#[test]
fn ranges_of_other_sources_are_ignored() {
    let memory = site(|request| {
        let response = match request.query() {
            Some("body") => Response::stream(Body::from("0123456789")),
            Some("iterator") => Response::stream(["01234", "56789"].into_iter()),
            _ => Response::stream(counted().1),
        };
        response.with_etag(EntityTag::strong("v1")).accept_ranges()
    });
    for target in ["/?body", "/?iterator", "/?function"] {
        for range in ["bytes=0-1", "bytes=20-"] {
            let response = memory.get(target).header("Range", range).send();
            assert_eq!(response.status(), 200, "{target} {range}");
            assert_eq!(response.header("Accept-Ranges"), None);
            assert_eq!(response.text(), "0123456789");
        }
    }
}

/// A clone of a response from a file may be kept, but the file is sent once.
#[test]
fn a_file_of_which_a_part_was_sent_is_gone() {
    let file = Temporary::new(b"0123456789");
    let response = respond(File::open(file.path()).unwrap()).unwrap();
    let memory = site(move |_| response.clone());
    let part = ask(&memory, &[("Range", "bytes=0-1")]);
    assert_eq!((part.status().as_u16(), part.body()), (206, b"01".to_vec()));
    assert_eq!(ask(&memory, &[("Range", "bytes=0-1")]).status(), 500);
}

#[test]
fn an_empty_file_is_an_empty_body() {
    let file = Temporary::new(b"");
    let memory = files(file.path());
    let response = ask(&memory, &[("Range", "bytes=0-")]);
    assert_eq!(response.status(), 200);
    assert_eq!(response.header("Content-Length"), Some("0"));
    assert_eq!(response.body(), Bytes::new());
}
