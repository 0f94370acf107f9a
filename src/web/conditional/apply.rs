//! The consequence: validators on a response, and what becomes of it when it is sent.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use deferred_reactor::time::system_time;
use http::StatusCode;
use http::header::{self, HeaderName};

use super::evaluate::{Conditions, HttpDate, Representation, Verdict, evaluate};
use crate::http1::RequestHead;
use crate::web::body::Pieces;
use crate::web::etag::EntityTag;
use crate::web::ranges::{self, Multipart, Piece};
use crate::web::response::{Content, ResponseHead};

/// What a response says of its body, for [`apply`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::web) struct Validators {
    etag: Option<EntityTag>,
    last_modified: Option<HttpDate>,
    accepts_ranges: bool,
}

impl Validators {
    /// What these say of a body of this length.
    fn representation(&self, length: Option<u64>) -> Representation<'_> {
        Representation {
            etag: self.etag.as_ref(),
            last_modified: self.last_modified,
            length: length.filter(|_| self.accepts_ranges),
        }
    }

    /// Those of `newer`, where it has any.
    pub(in crate::web) fn merge(&mut self, newer: Self) {
        if newer.etag.is_some() {
            self.etag = newer.etag;
        }
        self.last_modified = newer.last_modified.or(self.last_modified);
        self.accepts_ranges |= newer.accepts_ranges;
    }
}

impl ResponseHead {
    /// Sets the tag, and the field unless that was set by hand.
    pub(in crate::web) fn set_etag(&mut self, etag: EntityTag) {
        let text = etag.to_string();
        let previous = self.validators_mut().etag.replace(etag);
        self.set_unless_by_hand(header::ETAG, previous.map(|etag| etag.to_string()), &text);
    }

    /// Sets the date if it is later than the one before, and the field unless it was set by hand.
    /// Does nothing outside of the years 1970 to 9999.
    pub(in crate::web) fn set_last_modified(&mut self, when: SystemTime) {
        let Some(date) = HttpDate::from_system_time(when) else {
            return;
        };
        let validators = self.validators_mut();
        let previous = validators.last_modified;
        let latest = previous.map_or(date, |previous| previous.max(date));
        validators.last_modified = Some(latest);
        let previous = previous.map(|date| date.to_string());
        self.set_unless_by_hand(header::LAST_MODIFIED, previous, &latest.to_string());
    }

    pub(in crate::web) fn accept_ranges(&mut self) {
        self.validators_mut().accepts_ranges = true;
    }

    /// Sets a field if it is not there, or still is what was set here before.
    fn set_unless_by_hand(&mut self, name: HeaderName, ours: Option<String>, value: &str) {
        if self.get(&name) == ours.as_deref() {
            self.set(name, value);
        }
    }

    /// Removes the fields, unless they were set by hand.
    fn remove_validators(&mut self) {
        let Some(validators) = self.validators.take() else {
            return;
        };
        let etag = validators.etag.as_ref().map(EntityTag::to_string);
        let date = validators.last_modified.map(|date| date.to_string());
        for (name, ours) in [(header::ETAG, etag), (header::LAST_MODIFIED, date)] {
            if ours.is_some() && self.get(&name) == ours.as_deref() {
                self.remove(&name);
            }
        }
    }

    fn validators_mut(&mut self) -> &mut Validators {
        self.validators.get_or_insert_default()
    }
}

/// Sets a validator, and the status if the request's conditions decide that, which is given back.
///
/// Leaves out conditions on a tag that is not known: it may be set next.
pub(in crate::web) fn set_and_decide(
    head: &RequestHead,
    response: &mut ResponseHead,
    set: impl FnOnce(&mut ResponseHead),
) -> Option<StatusCode> {
    set(response);
    let validators = response.validators.as_deref()?;
    let request = Conditions::of(&head.method, head.fields().iter());
    let verdict = match validators.etag {
        None if request.asks_for_tag() => Verdict::Full,
        _ => evaluate(&request, &validators.representation(None), system_time()),
    };
    let status = match verdict {
        Verdict::NotModified => StatusCode::NOT_MODIFIED,
        Verdict::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Verdict::Full | Verdict::Ranges(_) | Verdict::NotSatisfiable => {
            if !request.reads() {
                // They are those of what is going to be changed.
                response.remove_validators();
            }
            return None;
        }
    };
    response.status = Some(status);
    Some(status)
}

/// Makes of a response what the conditions of its request ask for: 304, 412, 206 or 416. A source that
/// is not needed then is dropped unread.
///
/// Leaves alone what was given no validators, has another status than 200, or answers another method
/// than GET and HEAD: what these did is done by now.
#[inline]
pub(in crate::web) fn apply(
    head: &RequestHead,
    response: &mut ResponseHead,
    content: &mut Content,
) {
    // Most have none.
    if let Some(validators) = response.validators.take() {
        apply_validators(&validators, head, response, content);
    }
}

fn apply_validators(
    validators: &Validators,
    head: &RequestHead,
    response: &mut ResponseHead,
    content: &mut Content,
) {
    let request = Conditions::of(&head.method, head.fields().iter());
    if response.status() != StatusCode::OK || !request.reads() {
        return;
    }
    let length = match content {
        Content::Whole(body) => Some(body.len() as u64),
        // It is none where a clone of the response was sent: there is nothing to cut then.
        Content::Pieces(pieces) => {
            let pieces = pieces.borrow();
            pieces.as_ref().and_then(Pieces::seekable_length)
        }
        Content::Page(_) => return,
    };
    let current = validators.representation(length);
    let verdict = evaluate(&request, &current, system_time());
    if current.length.is_some() && verdict != Verdict::NotModified {
        response.set(header::ACCEPT_RANGES, "bytes");
    }
    match verdict {
        Verdict::Full => {}
        Verdict::NotModified => {
            make_not_modified(response);
            *content = Content::default();
        }
        Verdict::PreconditionFailed => {
            let message = "The resource has changed: the If-Match or If-Unmodified-Since of the request does not hold.";
            *content = make_error(response, StatusCode::PRECONDITION_FAILED, message.into());
        }
        Verdict::NotSatisfiable => {
            let length = length.unwrap_or_default();
            let message = format!(
                "The resource has {length} bytes; the Range of the request lies beyond its end."
            );
            *content = make_error(response, StatusCode::RANGE_NOT_SATISFIABLE, message.into());
            response.set(header::CONTENT_RANGE, &ranges::unsatisfied_range(length));
        }
        Verdict::Ranges(parts) => {
            let pieces = make_partial(response, length.unwrap_or_default(), parts);
            content.cut(pieces);
        }
    }
}

/// Turns a head into that of 304: what describes the body goes, what describes the client's copy
/// stays (RFC 9110, 15.4.5).
fn make_not_modified(head: &mut ResponseHead) {
    head.status = Some(StatusCode::NOT_MODIFIED);
    remove_content_fields(head);
    if head.get(&header::ETAG).is_some() {
        head.remove(&header::LAST_MODIFIED);
    }
}

/// Turns a head into that of an error, and gives its page. The tag stays, so that the client learns
/// what is there.
fn make_error(head: &mut ResponseHead, status: StatusCode, message: Cow<'static, str>) -> Content {
    remove_content_fields(head);
    // These are about the body that is not sent.
    for name in [
        header::CACHE_CONTROL,
        header::EXPIRES,
        header::LAST_MODIFIED,
        header::CONTENT_LOCATION,
        header::CONTENT_DISPOSITION,
    ] {
        head.remove(&name);
    }
    head.status = Some(status);
    Content::Page(message)
}

fn remove_content_fields(head: &mut ResponseHead) {
    head.content_type = None;
    for name in [
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
    ] {
        head.remove(&name);
    }
}

/// Turns a head into that of 206, for parts of a body of `length` bytes, and gives what to send.
fn make_partial(head: &mut ResponseHead, length: u64, parts: Vec<Range<u64>>) -> Vec<Piece> {
    head.status = Some(StatusCode::PARTIAL_CONTENT);
    head.remove(&header::CONTENT_LENGTH);
    if let [part] = &*parts {
        head.set(header::CONTENT_RANGE, &ranges::content_range(part, length));
        return parts.into_iter().map(Piece::Content).collect();
    }
    let multipart = Multipart::new(parts, length, head.content_type());
    head.content_type = Some(multipart.content_type().into());
    multipart.into_pieces()
}

impl Content {
    /// Puts these pieces in the place of the whole: at once for bytes, and for a file while it is
    /// sent.
    fn cut(&mut self, pieces: Vec<Piece>) {
        match self {
            Self::Whole(body) => *body = cut_bytes(body, &pieces),
            // A clone shares the source and may be sent another way, so it loses it.
            Self::Pieces(source) => {
                let source = source.take();
                let cut = source.map(|mut source| {
                    let length = ranges::total_length(&pieces);
                    source.cut(pieces, length);
                    source
                });
                *self = Self::Pieces(Rc::new(RefCell::new(cut)));
            }
            Self::Page(_) => {}
        }
    }
}

/// Only what consists of several parts is copied.
fn cut_bytes(whole: &Bytes, pieces: &[Piece]) -> Bytes {
    if let [Piece::Content(part)] = pieces {
        return whole.slice(within(whole, part));
    }
    let length = ranges::total_length(pieces);
    let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    for piece in pieces {
        match piece {
            Piece::Framing(text) => body.extend_from_slice(text.as_bytes()),
            Piece::Content(part) => body.extend_from_slice(&whole[within(whole, part)]),
        }
    }
    body.into()
}

/// A part of what is in memory, where every place is a `usize`.
fn within(whole: &Bytes, part: &Range<u64>) -> Range<usize> {
    let place = |at| usize::try_from(at).map_or(whole.len(), |at| at.min(whole.len()));
    place(part.start)..place(part.end)
}
