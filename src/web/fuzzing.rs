//! What must hold for any bytes in targets, routes and fields, for tests with random inputs and for fuzz
//! targets. No part of the API.
//!
//! Each function takes bytes, and panics if something does not hold.

#![allow(
    clippy::missing_panics_doc,
    reason = "panics are what these functions are for"
)]

use std::time::{Duration, SystemTime};

use http::{HeaderName, Method, StatusCode};

pub use super::klein::fuzzing::route_patterns;

use super::conditional::evaluate::{Conditions, HttpDate, Representation, Verdict, evaluate};
use super::etag::{Comparison, EntityTag, ReceivedTag, TagList};
use super::ranges::{Multipart, Wanted, read, total_length};
use super::request_head::decoded_segments;
use super::{Rendered, Request, Resource, Response, Site};
use crate::http1::{HeadLimits, Progress, RequestHead, RequestReader};
use crate::testing::{MemoryReactor, SendRequests};

/// A `Range` field, behind a byte that says how long the body is, names parts that are in the body.
pub fn ranges(data: &[u8]) {
    let Some((length, field)) = data.split_first() else {
        return;
    };
    let length = match u64::from(*length) {
        255 => u64::MAX,
        length => length,
    };
    let wanted = read(field, length);
    match &wanted {
        Wanted::Whole => {}
        Wanted::Nothing => assert!(length > 0),
        Wanted::Parts(parts) => {
            assert!((1..=16).contains(&parts.len()));
            assert!(
                parts
                    .iter()
                    .all(|part| part.start < part.end && part.end <= length)
            );
            for (number, part) in parts.iter().enumerate() {
                let others = &parts[number + 1..];
                assert!(
                    others
                        .iter()
                        .all(|other| part.end <= other.start || other.end <= part.start)
                );
            }
            let sum: u64 = parts.iter().map(|part| part.end - part.start).sum();
            assert!(sum <= length);
            let multipart = Multipart::new(parts.clone(), length, "text/plain");
            assert!(
                (sum..sum.saturating_add(16 * 256))
                    .contains(&total_length(&multipart.into_pieces()))
                    || length == u64::MAX
            );
        }
    }
    // Blanks and empty elements at the end change nothing, nor does the case of the unit.
    if field
        .get(..6)
        .is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes="))
    {
        let mut same = field.to_vec();
        same[..6].copy_from_slice(b"bYtEs=");
        same.extend_from_slice(b" ,\t");
        assert_eq!(read(&same, length), wanted);
    } else {
        assert_eq!(wanted, Wanted::Whole);
    }
}

/// A tag of any text, the first line, is read as itself; the other lines, an `If-None-Match` field, mean
/// the same as one line.
pub fn entity_tags(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let text = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let (strong, weak) = (EntityTag::strong(text.clone()), EntityTag::weak(text));
    for tag in [&strong, &weak] {
        let sent = tag.to_string();
        assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()), "{sent:?}");
        let received = ReceivedTag::read(sent.as_bytes()).expect("our own tags are valid");
        assert!(received.equals(tag, Comparison::Weak));
        assert_eq!(received.equals(tag, Comparison::Strong), !tag.is_weak());
    }
    let lines: Vec<&[u8]> = lines.collect();
    let list = list_of(&lines);
    let names = list.names(Some(&strong), Comparison::Weak);
    assert_eq!(names, list.names(Some(&weak), Comparison::Weak));
    assert!(names || !list.names(Some(&strong), Comparison::Strong));
    assert!(lines == [b"*"] || !list.names(Some(&weak), Comparison::Strong));
    if lines != [b"*"] {
        // Several lines are one (RFC 9110, 5.3).
        let joined = lines.join(&b", "[..]);
        assert_eq!(
            list_of(&[&joined]).names(Some(&strong), Comparison::Weak),
            names
        );
        // With our own in front it is named, if the others are tags.
        let own = [strong.to_string().as_bytes(), b",", &joined].concat();
        assert!(list_of(&[&own]).names(Some(&strong), Comparison::Strong) || !names);
    }
}

fn list_of<'r>(lines: &[&'r [u8]]) -> TagList<'r> {
    let mut list = TagList::default();
    for line in lines {
        list.add_line(line);
    }
    list
}

/// Conditions, in lines of a request's head, are answered to each method as they may be.
pub fn conditions(data: &[u8]) {
    let fields: Vec<_> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = std::str::from_utf8(&line[..colon]).ok()?;
            Some((name, line[colon + 1..].trim_ascii()))
        })
        .collect();
    let etag = EntityTag::strong("a");
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let current = Representation {
        etag: Some(&etag),
        last_modified: HttpDate::from_system_time(now - Duration::from_secs(60)),
        length: Some(10),
    };
    let ask = |method| {
        evaluate(
            &Conditions::of(&method, fields.iter().copied()),
            &current,
            now,
        )
    };
    let (get, head, put) = (ask(Method::GET), ask(Method::HEAD), ask(Method::PUT));
    // HEAD as GET, but for ranges; others are never told that they have a copy.
    match (&get, &head) {
        (Verdict::Ranges(_) | Verdict::NotSatisfiable, Verdict::Full) => {}
        (get, head) => assert_eq!(get, head),
    }
    assert!(matches!(put, Verdict::Full | Verdict::PreconditionFailed));
    assert!(put == Verdict::PreconditionFailed || get != Verdict::PreconditionFailed);
}

/// A response of this status, with a field in each line, has these fields for a client, and no others.
pub fn response_fields(data: &[u8]) {
    struct Answers(Response);
    impl Resource for Answers {
        fn render(&self, _: Request) -> Rendered {
            self.0.clone().into()
        }
        fn is_leaf(&self) -> bool {
            true
        }
    }
    let mut lines = data.split(|byte| *byte == b'\n');
    let status = lines
        .next()
        .and_then(|line| StatusCode::from_bytes(line).ok());
    let mut response = Response::new("body").with_status(status.unwrap_or_default());
    let mut names = Vec::new();
    for line in lines.take(20) {
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(line.len());
        let Ok(name) = HeaderName::from_bytes(&line[..colon]) else {
            continue;
        };
        let value = String::from_utf8_lossy(line.get(colon + 1..).unwrap_or_default());
        if !names.contains(&name) {
            names.push(name.clone());
        }
        response = response.with_header(name, value);
    }
    let memory = MemoryReactor::new();
    let site = Site::new(Answers(response));
    memory
        .listen_tcp("127.0.0.1:80", site)
        .expect("a free port");
    let reply = memory.get("/").send();
    assert!(reply.is_complete());
    for (name, _) in reply.headers() {
        let is_ours = ["date", "content-length", "content-type", "connection"]
            .iter()
            .any(|ours| name.eq_ignore_ascii_case(ours));
        let is_set = names
            .iter()
            .any(|set| name.eq_ignore_ascii_case(set.as_str()));
        assert!(is_ours || is_set, "{name:?} came from nowhere");
    }
    let has_body = !matches!(reply.status().as_u16(), 204 | 205 | 304 | 500);
    assert!(!has_body || reply.text() == "body");
}

/// A target, of GET unless `CO ` or `OP ` is in front of it, is refused or stays what it is, and its path
/// has the same segments however it is walked.
pub fn request_targets(data: &[u8]) {
    let (method, target) = match data {
        [b'C', b'O', b' ', target @ ..] => ("CONNECT", target),
        [b'O', b'P', b' ', target @ ..] => ("OPTIONS", target),
        target => ("GET", target),
    };
    let line = [
        method.as_bytes(),
        b" ",
        target,
        b" HTTP/1.1\r\nHost: h\r\n\r\n",
    ]
    .concat();
    let limits = HeadLimits {
        bytes: usize::MAX,
        line_bytes: usize::MAX,
        fields: 10,
    };
    let mut head = RequestHead::default();
    let read = RequestReader::default().read(&mut head, &line, &limits);
    if read != Ok((line.len(), Progress::Complete)) || head.fields().iter().count() != 1 {
        return;
    }
    assert_eq!(head.target().as_bytes(), target);
    assert!(target.iter().all(u8::is_ascii_graphic));
    if head.target() == "*" || method == "CONNECT" {
        return;
    }
    let path = head.path();
    assert!(
        path.starts_with('/') && !path.contains(['?', '#']),
        "{path:?}"
    );
    // No segment is lost or made up by decoding.
    let segments = decoded_segments(path);
    assert_eq!(segments.count(), path.matches('/').count());
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    proptest! {
        #[test]
        fn anything(bytes in vec(any::<u8>(), 0..100)) {
            for holds in [
                conditions, entity_tags, ranges, request_targets, response_fields, route_patterns,
            ] {
                holds(&bytes);
            }
        }

        #[test]
        fn fields(pieces in vec(select(vec![
            "200", "304", "\n", "If-Match:", "If-None-Match:", "Range:", "If-Range:", "bytes=", "0-1", ",", "-5",
            "If-Modified-Since:", "Sun, 06 Nov 1994 08:49:37 GMT", "\"a\"", "W/", "*", " ", "Content-Length:",
            "Transfer-Encoding:", "chunked", "\r", "X:",
        ]), 0..12)) {
            let bytes = pieces.concat().into_bytes();
            conditions(&bytes);
            entity_tags(&bytes);
            response_fields(&bytes);
            ranges(&[b"\x0abytes=".as_slice(), &bytes].concat());
        }

        #[test]
        fn routes(pieces in vec(select(vec![
            "/", "\n/", "a", "<x>", "<int:n>", "<float:f>", "<path:p>", "<string:s>", "7", ".5", "<any(a,b):y>",
        ]), 0..24)) {
            route_patterns(pieces.concat().as_bytes());
        }
    }
}
