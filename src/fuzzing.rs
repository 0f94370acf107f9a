//! What must hold for any bytes that come from a peer, for tests with random inputs and for fuzz
//! targets. No part of the API.
//!
//! Each function takes bytes, and panics if something does not hold.

#![allow(
    clippy::missing_panics_doc,
    reason = "panics are what these functions are for"
)]

use http::Method;

use crate::http1::{
    BodyFraming, ChunkLimits, Decoder, HeadLimits, LengthField, Progress, Refusal, ReplyFraming,
    RequestHead, RequestReader, ResponseHead, ResponseReader, Version, encode,
};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 2000,
    line_bytes: 1000,
    fields: 20,
};

/// How much content a chunked body may have.
const CONTENT_BYTES: usize = 5000;

/// What came of reading: how much was used of a complete head, or why there is none.
type Outcome = Result<Option<usize>, Refusal>;

/// A request head is read alike whole and in pieces, and is written so that it is read as it was.
pub fn request_heads(data: &[u8]) {
    let (head, outcome) = read_request(data, data.len().max(1));
    for piece in [1, 7] {
        assert_eq!(read_request(data, piece).1, outcome, "in pieces of {piece}");
    }
    if !matches!(outcome, Ok(Some(_))) {
        return;
    }
    let mut out = Vec::new();
    let fields = || head.fields().iter();
    // Only HTTP/1.0 has targets without a host.
    let is_rooted = head.target().starts_with('/');
    let host = head.host().unwrap_or(if is_rooted { "h" } else { "" });
    let written = encode::request_head(
        &mut out,
        &encode::RequestLine {
            method: &head.method,
            target: head.target(),
            host,
        },
        fields(),
        head.framing,
        head.persists,
    );
    written.expect("what was read can be written");
    let limits = HeadLimits {
        bytes: usize::MAX,
        line_bytes: usize::MAX,
        fields: usize::MAX,
    };
    let mut again = RequestHead::default();
    let read = RequestReader::default().read(&mut again, &out, &limits);
    assert_eq!(read, Ok((out.len(), Progress::Complete)));
    assert_eq!(again.method, head.method);
    assert_eq!(again.target(), head.target());
    assert_eq!(again.path(), head.path());
    assert_eq!(again.host().unwrap_or_default(), host);
    assert_eq!(again.framing, head.framing);
    assert_eq!(again.persists, head.persists);
    let is_kept = |(name, _): &(&str, &[u8])| !encode::is_message_field(name);
    let lower = |(name, value): (&str, &[u8])| (name.to_ascii_lowercase(), value.to_vec());
    let before: Vec<_> = fields().filter(is_kept).map(lower).collect();
    let after: Vec<_> = again.fields().iter().filter(is_kept).map(lower).collect();
    assert_eq!(after, before);
}

fn read_request(data: &[u8], piece: usize) -> (RequestHead, Outcome) {
    let mut head = RequestHead::default();
    let mut reader = RequestReader::default();
    let outcome = read_in_pieces(data, piece, |data| reader.read(&mut head, data, &LIMITS));
    (head, outcome)
}

/// A response head is read alike whole and in pieces, and is written so that it is read as it was.
pub fn response_heads(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let method = match first % 4 {
        0 => Method::HEAD,
        1 => Method::CONNECT,
        _ => Method::GET,
    };
    let (head, outcome) = read_response(data, data.len().max(1), &method);
    for piece in [1, 7] {
        let pieces = read_response(data, piece, &method).1;
        assert_eq!(pieces, outcome, "in pieces of {piece}");
    }
    if !matches!(outcome, Ok(Some(_))) {
        return;
    }
    let mut out = Vec::new();
    encode::status_line(&mut out, head.status);
    for (name, value) in head.fields().iter() {
        if !encode::is_message_field(name) {
            encode::field(&mut out, &name.to_ascii_lowercase(), value);
        }
    }
    let framing = ReplyFraming {
        body: head.body,
        field: match head.body {
            BodyFraming::Length(length) => LengthField::ContentLength(length),
            BodyFraming::Chunked => LengthField::Chunked,
            BodyFraming::NoBody | BodyFraming::UntilClose => LengthField::None,
        },
        closes: !head.persists,
        says_keep_alive: false,
    };
    encode::framing(&mut out, &framing);
    out.extend_from_slice(encode::LINE_END);
    let mut again = ResponseHead::default();
    let limits = HeadLimits {
        bytes: usize::MAX,
        line_bytes: usize::MAX,
        fields: usize::MAX,
    };
    let read = ResponseReader::default().read(&mut again, &out, &limits, &method);
    assert_eq!(read, Ok((out.len(), Progress::Complete)));
    assert_eq!(again.version, Version::Http11);
    assert_eq!((again.status, again.body), (head.status, head.body));
    assert_eq!(again.persists, head.persists);
    let is_kept = |(name, _): &(&str, &[u8])| !encode::is_message_field(name);
    let lower = |(name, value): (&str, &[u8])| (name.to_ascii_lowercase(), value.to_vec());
    let before: Vec<_> = head.fields().iter().filter(is_kept).map(lower).collect();
    let after: Vec<_> = again.fields().iter().filter(is_kept).map(lower).collect();
    assert_eq!(after, before);
}

fn read_response(data: &[u8], piece: usize, method: &Method) -> (ResponseHead, Outcome) {
    let mut head = ResponseHead::default();
    let mut reader = ResponseReader::default();
    let outcome = read_in_pieces(data, piece, |data| {
        reader.read(&mut head, data, &LIMITS, method)
    });
    (head, outcome)
}

/// Shows data that grows by `piece` bytes, without what was used, until a head is complete.
fn read_in_pieces(
    data: &[u8],
    piece: usize,
    mut read: impl FnMut(&[u8]) -> Result<(usize, Progress), Refusal>,
) -> Outcome {
    let mut start = 0;
    let mut end = 0;
    while end < data.len() {
        end = data.len().min(end + piece);
        let (used, progress) = read(&data[start..end])?;
        start += used;
        assert!(start <= end, "more was used than there is");
        if progress == Progress::Complete {
            return Ok(Some(start));
        }
    }
    Ok(None)
}

/// A chunked body is decoded alike whole and in pieces, and decodes to the same once it is encoded
/// anew.
pub fn chunks(data: &[u8]) {
    let whole = decode(data, data.len().max(1));
    for piece in [1, 7] {
        assert_eq!(decode(data, piece), whole, "in pieces of {piece}");
    }
    let Ok(Some(body)) = whole else {
        return;
    };
    for piece in [1, 100, CONTENT_BYTES] {
        let mut out = Vec::new();
        for piece in body.content.chunks(piece) {
            encode::chunk(&mut out, piece);
        }
        let trailers = body.trailers.iter();
        encode::last_chunk(
            &mut out,
            trailers.map(|(name, value)| (name.as_str(), value.as_slice())),
        );
        let want = Body {
            used: out.len(),
            ..body.clone()
        };
        // It may be longer than it was: lines of trailers get a blank.
        let within = ChunkLimits::default();
        assert_eq!(decode_within(within, &out, out.len()), Ok(Some(want)));
    }
}

/// A chunked body, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Body {
    content: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    used: usize,
}

fn decode(data: &[u8], piece: usize) -> Result<Option<Body>, Refusal> {
    let narrow = ChunkLimits {
        line_bytes: 60,
        overhead_bytes: 300,
        trailer_bytes: 100,
        trailer_fields: 4,
    };
    decode_within(narrow, data, piece)
}

fn decode_within(limits: ChunkLimits, data: &[u8], piece: usize) -> Result<Option<Body>, Refusal> {
    let mut decoder = Decoder::new(limits);
    let mut content = Vec::new();
    let mut at = 0;
    for input in data.chunks(piece) {
        let mut used = 0;
        while used < input.len() && !decoder.is_done() {
            let room = (CONTENT_BYTES - content.len()) as u64;
            let decoded = decoder.decode(&input[used..], room)?;
            assert!(decoded.used > 0, "the decoder stands still");
            assert!(decoded.data.end <= decoded.used, "data that was not used");
            content.extend_from_slice(&input[used..][decoded.data]);
            used += decoded.used;
        }
        at += used;
        if decoder.is_done() {
            let trailers = decoder.trailers().iter();
            return Ok(Some(Body {
                content,
                trailers: trailers
                    .map(|(name, value)| (name.to_owned(), value.to_vec()))
                    .collect(),
                used: at,
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const HEADS: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /a?b=%20c HTTP/1.0\r\n",
        "X http://h:80/%41 HTTP/1.3\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT [::1]:443 HTTP/1.1\r\n",
        "GET / HTTP/2.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404\r\n",
        "HTTP/1.1 101 x\r\n",
        "HTTP/1.1 204 \r\n",
        "Host: h\r\n",
        "Host:\r\n",
        "host: a b\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive, upgrade\r\n",
        "Upgrade: x\r\n",
        "Expect: 100-continue\r\n",
        "A: b\r\n",
        "Etag:\t\"x\"  \r\n",
        "B:\u{e9}\r\n",
        " folded\r\n",
        "A",
        ":",
        " ",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "\0",
        "%",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ];

    fn heads(starts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let start = select(starts);
        let noise = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
        (
            start,
            vec(select(HEADS), 0..10),
            prop::bool::weighted(0.8),
            noise,
        )
            .prop_map(|(start, rest, ends, noise)| {
                let end = if ends { "\r\n" } else { "" };
                let mut bytes = format!("{start}{}{end}", rest.concat()).into_bytes();
                if let Some((at, byte)) = noise
                    && !bytes.is_empty()
                {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            })
    }

    proptest! {
        #[test]
        fn requests(bytes in heads(&["", "GET / HTTP/1.1\r\nHost: h\r\n", "\r\nPUT /x HTTP/1.1\r\nHost: h\r\n"])) {
            request_heads(&bytes);
        }

        #[test]
        fn responses(
            method in any::<u8>(),
            bytes in heads(&["", "HTTP/1.1 200 OK\r\n", "HTTP/1.0 500 x\r\nA: b\r\n"]),
        ) {
            response_heads(&[&[method], bytes.as_slice()].concat());
        }

        #[test]
        fn bodies(
            pieces in vec(select(vec![
                "3\r\nabc\r\n", "1;x=\"y\"\r\n\n\r\n", "0\r\n", "\r\n", "A: b\r\n", "Host: h\r\n", "5", "\r",
                "\n", "0", "ffffffffffffffff\r\n", "1000\r\n", ";", "a", " ", "\"", "X:\r\n",
                "00000000000001;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nx\r\n",
            ]), 0..14),
            ends in prop::bool::weighted(0.7),
        ) {
            let end = if ends { "0\r\nB: c\r\n\r\nrest" } else { "" };
            chunks(format!("{}{end}", pieces.concat()).as_bytes());
        }

        /// Whatever is encoded decodes to itself.
        #[test]
        fn content(pieces in vec(vec(any::<u8>(), 0..200), 0..20), cut in 1usize..50) {
            let mut wire = Vec::new();
            for piece in &pieces {
                encode::chunk(&mut wire, piece);
            }
            encode::last_chunk(&mut wire, [("a", b"b".as_slice()), ("Host", b"h"), ("c", b"\r\nd")]);
            let body = decode(&wire, cut).unwrap().expect("a whole body");
            prop_assert_eq!(body.content, pieces.concat());
            let trailers = [("a".to_owned(), b"b".to_vec()), ("c".to_owned(), b"d".to_vec())];
            prop_assert_eq!(body.trailers, trailers);
        }

        #[test]
        fn anything(bytes in vec(any::<u8>(), 0..200)) {
            request_heads(&bytes);
            response_heads(&bytes);
            chunks(&bytes);
        }
    }
}
