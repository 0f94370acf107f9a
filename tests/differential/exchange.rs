//! One conversation: bytes to a server, and what its answers say about how it understood them.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::vectors::{NEXT, Vector};

/// A server that is silent for so long waits for more. Most servers end the connection instead, so
/// the length of this costs little.
const SILENCE: Duration = Duration::from_secs(4);

/// The request of [`NEXT`], as servers report it.
const NEXT_SEEN: &str = "GET /next";

/// How a server understood some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub answers: Vec<Answer>,
    /// The server left the connection open.
    pub waits: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A request was served: its method, path and body.
    Served(String),
    /// A status from 400 on. Which one depends on taste, and so does not count.
    Refused,
    /// What the server wrote is no HTTP/1 response.
    Garbage,
}

impl Seen {
    /// Whether nothing of the bytes was served.
    pub fn is_refusal(&self) -> bool {
        !self.waits && matches!(self.answers.first(), None | Some(Answer::Refused))
    }

    /// Whether a proxy that understands the bytes as `self` and a server that understands them as
    /// `other` disagree on where a request begins or what it is, beyond refusing it.
    pub fn is_out_of_step(&self, other: &Self) -> bool {
        let mut pairs = self.answers.iter().zip(&other.answers).enumerate();
        for (at, pair) in pairs.by_ref() {
            match pair {
                (Answer::Served(one), Answer::Served(two)) if one == two => {}
                // The first request is refused by one of them. What follows is another question
                // only if that one goes on.
                (Answer::Refused, _) if self.answers.len() == at + 1 => return false,
                (_, Answer::Refused) if other.answers.len() == at + 1 => return at > 0,
                (Answer::Refused, Answer::Refused) => {}
                (Answer::Refused, Answer::Served(_)) | (Answer::Served(_), Answer::Refused)
                    if at == 0 => {}
                _ => return true,
            }
        }
        let (ours, theirs) = (self.answers.len(), other.answers.len());
        match self.answers.get(theirs) {
            Some(Answer::Refused) => false,
            // One that closes the connection has seen fewer requests, and is no danger.
            Some(_) => other.waits,
            None => theirs > ours && !self.is_refusal(),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for answer in &self.answers {
            parts.push(match answer {
                Answer::Served(request) if request == NEXT_SEEN => "next".into(),
                Answer::Served(request) => format!("`{request}`"),
                Answer::Refused => "refuses".into(),
                Answer::Garbage => "garbage".into(),
            });
        }
        let is_over = |answer: &Answer| match answer {
            Answer::Served(request) => request == NEXT_SEEN,
            Answer::Refused | Answer::Garbage => true,
        };
        if self.waits {
            parts.push("waits".into());
        } else if !self.answers.last().is_some_and(is_over) {
            parts.push("closes".into());
        }
        f.write_str(&parts.join(", "))
    }
}

/// Sends a vector to the server at `path`, and reads what it answers.
pub fn converse(path: &Path, vector: &Vector) -> io::Result<Seen> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let next = if vector.is_followed { NEXT } else { b"" };
    // A server that has closed the connection does not take the rest.
    let _ = stream.write_all(&[&vector.bytes, next].concat());
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let waits = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break false,
            Ok(length) => received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
            // The server closed the connection with some of our bytes unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break false,
            Err(error) => return Err(error),
        }
    };
    Ok(Seen {
        answers: answers(&received),
        waits,
    })
}

/// The responses in `received`, interim ones left out.
fn answers(received: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut rest = received;
    while !rest.is_empty() {
        let Some((answer, length)) = read_response(rest) else {
            answers.push(Answer::Garbage);
            break;
        };
        answers.extend(answer);
        rest = &rest[length..];
    }
    answers
}

/// The response that `bytes` begin with, and its length. Responses of the test's servers are
/// small, so they are complete or garbage.
fn read_response(bytes: &[u8]) -> Option<(Option<Answer>, usize)> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).ok()? else {
        return None;
    };
    let status = response.code?;
    let field = |name: &str| {
        let mut fields = response.headers.iter();
        let field = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(field.value)
    };
    if status < 200 {
        return Some((None, head));
    }
    let seen = field("x-seen").unwrap_or_default();
    let rest = &bytes[head..];
    let (body, length) = if seen.starts_with(b"HEAD ") {
        (Vec::new(), 0)
    } else if field("transfer-encoding").is_some() {
        read_chunks(rest)?
    } else if let Some(length) = field("content-length") {
        let length = std::str::from_utf8(length).ok()?.parse().ok()?;
        (rest.get(..length)?.to_vec(), length)
    } else {
        (rest.to_vec(), rest.len())
    };
    let answer = match status {
        400.. => Answer::Refused,
        _ => Answer::Served(describe(seen, &body)),
    };
    Some((Some(answer), head + length))
}

/// Undoes the chunks of a response; its content, and how many bytes they took.
fn read_chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(digits, 16).ok()?;
        at += line + 2;
        content.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (at <= bytes.len()).then_some((content, at));
        }
    }
}

/// A request as a server saw it: method, path without scheme and host, body.
fn describe(seen: &[u8], body: &[u8]) -> String {
    let seen = seen.escape_ascii().to_string();
    let (method, target) = seen.split_once(' ').unwrap_or((&seen, ""));
    let scheme = |scheme: &&str| {
        let start = target.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let path = match ["http://", "https://"].iter().find(|one| scheme(one)) {
        Some(scheme) => {
            let rest = &target[scheme.len()..];
            &rest[rest.find(['/', '?']).unwrap_or(rest.len())..]
        }
        None => target,
    };
    let slash = match path.starts_with(['/', '*']) {
        true => "",
        false => "/",
    };
    let body = body.escape_ascii().to_string();
    let body = match body.len() {
        0..=40 => body,
        length => format!("({length} bytes)"),
    };
    let request = format!("{method} {slash}{path} {body}");
    let request = match request.len() {
        0..=100 => request,
        _ => format!("{}...", &request[..40]),
    };
    request
        .trim_end()
        .replace('|', "\\x7c")
        .replace('`', "\\x60")
}
