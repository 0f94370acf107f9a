//! A body on its way in.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::http1::{Decoder, Refusal};
use crate::web::body::Pipe;
use crate::web::request::Exchange;
use crate::web::{Resource, site::MinRate};

/// A body that is being received.
pub(super) struct Incoming {
    /// Of the request that it belongs to.
    pub(super) id: u64,
    pub(super) left: Left,
    pub(super) sink: Sink,
    /// The client waits to be told to go on.
    pub(super) is_awaited: bool,
    /// What the input is part of, if it can be kept.
    pub(super) source: Bytes,
    /// Bytes of content so far.
    pub(super) received: u64,
    /// The most content that is taken.
    pub(super) max_bytes: u64,
    /// When all of it has to be there.
    pub(super) deadline: Option<Instant>,
    pub(super) pace: Pace,
}

/// How much of a body is still to come.
pub(super) enum Left {
    Length(u64),
    Chunked(Box<Decoder>),
}

/// Where a body goes.
pub(super) enum Sink {
    /// Into memory, for the resource that renders then.
    Collect {
        body: Vec<u8>,
        exchange: Box<Exchange>,
        resource: Rc<dyn Resource>,
    },
    /// To the program, as it comes.
    Stream(Rc<Pipe>),
    /// Nowhere. So much of it is still thrown away.
    Discard(u64),
}

/// What a step of receiving gave.
pub(super) struct Step {
    /// How much of the input was used.
    pub(super) used: usize,
    pub(super) content: Bytes,
}

impl Incoming {
    /// Takes content out of `input`, as much as there is.
    pub(super) fn decode(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let room = match self.sink {
            // Has a limit of its own.
            Sink::Discard(_) => u64::MAX,
            _ => self.max_bytes.saturating_sub(self.received),
        };
        match &mut self.left {
            Left::Length(left) => {
                let used = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= used as u64;
                self.received += used as u64;
                Ok(Step {
                    used,
                    content: self.sink.take(&input[..used], &self.source),
                })
            }
            Left::Chunked(decoder) => {
                let first = decoder.decode(input, room)?;
                let mut used = first.used;
                let mut length = first.data.len() as u64;
                let mut content = self.sink.take(&input[first.data], &self.source);
                // What came at once is one piece, however small the chunks are that it came in.
                let mut joined = Vec::new();
                while used < input.len() && !decoder.is_done() {
                    let next = decoder.decode(&input[used..], room - length)?;
                    let data = &input[used..][next.data];
                    used += next.used;
                    length += data.len() as u64;
                    if let Sink::Stream(_) = self.sink {
                        if joined.is_empty() {
                            joined.extend_from_slice(&content);
                        }
                        joined.extend_from_slice(data);
                    } else {
                        self.sink.take(data, &self.source);
                    }
                }
                if !joined.is_empty() {
                    content = joined.into();
                }
                self.received += length;
                Ok(Step { used, content })
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        match &self.left {
            Left::Length(left) => *left == 0,
            Left::Chunked(decoder) => decoder.is_done(),
        }
    }

    /// How much is still to come, where that is known.
    pub(super) fn missing(&self) -> Option<u64> {
        match &self.left {
            Left::Length(left) => Some(*left),
            Left::Chunked(_) => None,
        }
    }

    /// What the client had announced.
    pub(super) fn length(&self) -> Option<u64> {
        self.missing().map(|missing| missing + self.received)
    }

    pub(super) fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        match &self.left {
            Left::Length(_) => Vec::new(),
            Left::Chunked(decoder) => {
                let trailers = decoder.trailers().iter();
                trailers
                    .map(|(name, value)| (name.to_owned(), value.to_vec()))
                    .collect()
            }
        }
    }

    /// Whether more of it can be used now.
    pub(super) fn has_room(&self) -> bool {
        match &self.sink {
            Sink::Collect { .. } => true,
            Sink::Stream(pipe) => pipe.has_room(),
            Sink::Discard(left) => *left > 0,
        }
    }
}

impl Incoming {
    /// Whether it is the client's turn: it does not wait to be told to go on, and what it sends
    /// would be read.
    pub(super) fn is_expected(&self) -> bool {
        !self.is_awaited && self.has_room()
    }

    /// How fast the body comes, from `now` on.
    pub(super) fn keep_pace(&mut self, now: Instant) {
        let is_expected = self.is_expected();
        self.pace.run(is_expected, now);
    }
}

impl Sink {
    /// Takes content; what is to be handed on is given back.
    fn take(&mut self, data: &[u8], source: &Bytes) -> Bytes {
        match self {
            Self::Collect { body, .. } => body.extend_from_slice(data),
            Self::Stream(_) => return part_of(source, data),
            Self::Discard(left) => *left = left.saturating_sub(data.len() as u64),
        }
        Bytes::new()
    }
}

/// `data` as bytes of its own: a part of `source` where it is most of that, and a copy otherwise, so
/// that little content does not keep a large buffer.
fn part_of(source: &Bytes, data: &[u8]) -> Bytes {
    let start = (data.as_ptr() as usize).checked_sub(source.as_ptr() as usize);
    match start {
        Some(start) if start + data.len() <= source.len() && data.len() * 2 > source.len() => {
            source.slice(start..start + data.len())
        }
        _ => Bytes::copy_from_slice(data),
    }
}

/// How fast a body comes, while the client could send it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long the client had.
    counted: Duration,
    /// Since when it has been able to send; `None` while the program does not read.
    running_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            counted: Duration::ZERO,
            running_since: Some(now),
        }
    }

    /// The client can send, or cannot.
    pub(super) fn run(&mut self, runs: bool, now: Instant) {
        match (self.running_since, runs) {
            (None, true) => self.running_since = Some(now),
            (Some(since), false) => {
                self.counted += now.saturating_duration_since(since);
                self.running_since = None;
            }
            _ => {}
        }
    }

    /// How long it is until the client could be too slow; zero if it is.
    pub(super) fn time_left(
        &self,
        received: u64,
        rate: &MinRate,
        now: Instant,
    ) -> Option<Duration> {
        if rate.bytes_per_second == 0 {
            return None;
        }
        let running = self
            .running_since
            .map(|since| now.saturating_duration_since(since));
        let counted = self.counted.saturating_add(running.unwrap_or_default());
        let earned = received as f64 / f64::from(rate.bytes_per_second);
        let earned = Duration::try_from_secs_f64(earned).unwrap_or(Duration::MAX);
        Some(earned.max(rate.grace).saturating_sub(counted))
    }
}
