//! The decision: what a request asks for, against what is known of the body.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;

use crate::web::etag::{Comparison, EntityTag, ReceivedTag, TagList};
use crate::web::ranges::{self, Wanted};

/// A point in time as HTTP tells it: in whole seconds (RFC 9110, 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::web) struct HttpDate {
    seconds_since_1970: u64,
}

impl HttpDate {
    /// The last second of the year 9999, which is the last one that the format can tell.
    const LATEST: u64 = 253_402_300_799;

    /// Rounds up to a second: what changed within it is newer than copies from its beginning.
    /// `None` outside of the years 1970 to 9999.
    pub(in crate::web) fn from_system_time(time: SystemTime) -> Option<Self> {
        let age = time.duration_since(UNIX_EPOCH).ok()?;
        let seconds_since_1970 = age.as_secs() + u64::from(age.subsec_nanos() > 0);
        (seconds_since_1970 <= Self::LATEST).then_some(Self { seconds_since_1970 })
    }

    /// Reads any of the three formats; `None` for what is none, or outside of these years.
    pub(in crate::web) fn read(value: &[u8]) -> Option<Self> {
        let time = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
        Self::from_system_time(time)
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.seconds_since_1970);
        f.write_str(&httpdate::fmt_http_date(time))
    }
}

/// A field that is to come once.
#[derive(Debug, Clone, Copy, Default)]
enum Once<'r> {
    #[default]
    Absent,
    Value(&'r [u8]),
    /// It came in several lines, which is not allowed.
    Repeated,
}

impl<'r> Once<'r> {
    fn add_line(&mut self, value: &'r [u8]) {
        *self = match self {
            Self::Absent => Self::Value(value),
            Self::Value(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn date(self) -> Option<HttpDate> {
        match self {
            Self::Value(value) => HttpDate::read(value),
            Self::Absent | Self::Repeated => None,
        }
    }
}

/// What a request makes its answer depend on.
#[derive(Debug, Clone, Default)]
pub(in crate::web) struct Conditions<'r> {
    is_get: bool,
    is_head: bool,
    if_match: TagList<'r>,
    if_unmodified_since: Once<'r>,
    if_none_match: TagList<'r>,
    if_modified_since: Once<'r>,
    if_range: Once<'r>,
    range: Once<'r>,
}

impl<'r> Conditions<'r> {
    /// Picks the fields that matter from those of a request.
    pub(in crate::web) fn of(
        method: &Method,
        fields: impl Iterator<Item = (&'r str, &'r [u8])>,
    ) -> Self {
        let mut conditions = Self {
            is_get: *method == Method::GET,
            is_head: *method == Method::HEAD,
            ..Self::default()
        };
        for (name, value) in fields {
            // Told apart by length first: most fields are none of these.
            match name.len() {
                5 if name.eq_ignore_ascii_case("range") => conditions.range.add_line(value),
                8 if name.eq_ignore_ascii_case("if-match") => conditions.if_match.add_line(value),
                8 if name.eq_ignore_ascii_case("if-range") => conditions.if_range.add_line(value),
                13 if name.eq_ignore_ascii_case("if-none-match") => {
                    conditions.if_none_match.add_line(value);
                }
                17 if name.eq_ignore_ascii_case("if-modified-since") => {
                    conditions.if_modified_since.add_line(value);
                }
                19 if name.eq_ignore_ascii_case("if-unmodified-since") => {
                    conditions.if_unmodified_since.add_line(value);
                }
                _ => {}
            }
        }
        conditions
    }

    pub(super) fn reads(&self) -> bool {
        self.is_get || self.is_head
    }

    /// Whether anything in it can only be answered with the entity tag.
    pub(super) fn asks_for_tag(&self) -> bool {
        !(self.if_match.is_absent() && self.if_none_match.is_absent())
    }
}

/// The validators and the length of the body that a request would get.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::web) struct Representation<'v> {
    pub(in crate::web) etag: Option<&'v EntityTag>,
    pub(in crate::web) last_modified: Option<HttpDate>,
    /// The length in bytes, if parts of it can be sent.
    pub(in crate::web) length: Option<u64>,
}

/// What to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) enum Verdict {
    /// As without conditions.
    Full,
    /// 304: the client's copy is current.
    NotModified,
    /// 412: nothing may be done.
    PreconditionFailed,
    /// 206 with these parts, in this order; at least one, none empty, no two overlapping.
    Ranges(Vec<Range<u64>>),
    /// 416: nothing that is asked for is there.
    NotSatisfiable,
}

/// Decides what a request gets (RFC 9110, 13.2.2), where it would get status 200 without
/// conditions. `now` is the time of the server.
///
/// A date that is none, lies after `now`, or came twice, is ignored.
pub(in crate::web) fn evaluate(
    request: &Conditions<'_>,
    current: &Representation<'_>,
    now: SystemTime,
) -> Verdict {
    if !request.if_match.is_absent() {
        if !request.if_match.names(current.etag, Comparison::Strong) {
            return Verdict::PreconditionFailed;
        }
    } else if let Some(date) = request.if_unmodified_since.date()
        && let Some(modified) = current.last_modified
        && modified > date
    {
        return Verdict::PreconditionFailed;
    }
    if !request.if_none_match.is_absent() {
        if request.if_none_match.names(current.etag, Comparison::Weak) {
            return match request.reads() {
                true => Verdict::NotModified,
                false => Verdict::PreconditionFailed,
            };
        }
    } else if request.reads()
        && let Some(date) = request.if_modified_since.date()
        && let Some(modified) = current.last_modified
        && modified <= date
        && !is_future(date, modified, now)
    {
        return Verdict::NotModified;
    }
    match (request.range, current.length) {
        (Once::Value(range), Some(length))
            if request.is_get && is_range_current(request.if_range, current, now) =>
        {
            match ranges::read(range, length) {
                Wanted::Whole => Verdict::Full,
                Wanted::Parts(parts) => Verdict::Ranges(parts),
                Wanted::Nothing => Verdict::NotSatisfiable,
            }
        }
        _ => Verdict::Full,
    }
}

/// Whether a client made a date up. Where the body itself is from the future, it is our clock that
/// is wrong, and not the client's date.
fn is_future(date: HttpDate, modified: HttpDate, now: SystemTime) -> bool {
    HttpDate::from_system_time(now).is_some_and(|now| date > now && modified <= now)
}

/// Whether the client has the other parts of what we would send a part of (RFC 9110, 13.1.5).
fn is_range_current(if_range: Once<'_>, current: &Representation<'_>, now: SystemTime) -> bool {
    let value = match if_range {
        Once::Absent => return true,
        Once::Repeated => return false,
        Once::Value(value) => value,
    };
    if let Some(tag) = ReceivedTag::read(value) {
        return current
            .etag
            .is_some_and(|current| tag.equals(current, Comparison::Strong));
    }
    let Some(modified) = current.last_modified else {
        return false;
    };
    // A body may change twice within a second, so a date is as good as a tag only once that second
    // is over (RFC 9110, 8.8.2.2).
    HttpDate::read(value) == Some(modified)
        && HttpDate::from_system_time(now).is_some_and(|now| modified < now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In 1994, ten seconds apart, and the time at which the tests take place: a minute later.
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:27 GMT";
    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:47 GMT";
    const NOW: &str = "Sun, 06 Nov 1994 08:50:37 GMT";
    const FUTURE: &str = "Sun, 06 Nov 1994 08:50:38 GMT";

    fn time(text: &str) -> SystemTime {
        httpdate::parse_http_date(text).unwrap()
    }

    fn ask(method: Method, fields: &[(&str, &str)], current: &Representation<'_>) -> Verdict {
        let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        evaluate(&Conditions::of(&method, fields), current, time(NOW))
    }

    fn strong() -> EntityTag {
        EntityTag::strong("a")
    }

    /// Ten bytes with a strong tag and a date.
    fn current(etag: &EntityTag) -> Representation<'_> {
        Representation {
            etag: Some(etag),
            last_modified: HttpDate::read(MODIFIED.as_bytes()),
            length: Some(10),
        }
    }

    /// W-35, W-37, and RFC 9110, 13.2.2. Rows: fields, what GET and HEAD get, what others get.
    #[test]
    fn conditions_are_asked_in_the_order_of_the_rfc() {
        use Verdict::{Full, NotModified, PreconditionFailed as Failed};
        let (im, inm) = ("If-Match", "If-None-Match");
        let (ims, ius) = ("If-Modified-Since", "If-Unmodified-Since");
        type Row<'f> = (&'f [(&'f str, &'f str)], Verdict, Verdict);
        let rows: &[Row<'_>] = &[
            (&[], Full, Full),
            // Each alone.
            (&[(im, "\"a\"")], Full, Full),
            (&[(im, "\"b\"")], Failed, Failed),
            (&[(im, "\"b\", \"a\"")], Full, Full),
            (&[(im, "\"b\""), (im, "\"a\"")], Full, Full),
            (&[(im, "*")], Full, Full),
            (&[(im, "W/\"a\"")], Failed, Failed),
            (&[(im, "a")], Failed, Failed),
            (&[(ius, MODIFIED)], Full, Full),
            (&[(ius, AFTER)], Full, Full),
            (&[(ius, BEFORE)], Failed, Failed),
            (&[(ius, "yesterday")], Full, Full),
            (&[(ius, BEFORE), (ius, BEFORE)], Full, Full),
            (&[(inm, "\"a\"")], NotModified, Failed),
            (&[(inm, "W/\"a\"")], NotModified, Failed),
            (&[(inm, "*")], NotModified, Failed),
            (&[(inm, "\"b\"")], Full, Full),
            (&[(inm, "\"x,\"a\"")], Full, Full),
            (&[(inm, "\"x,y\", \"a\"")], NotModified, Failed),
            (&[(inm, "a")], Full, Full),
            (&[(ims, MODIFIED)], NotModified, Full),
            (&[(ims, AFTER)], NotModified, Full),
            (&[(ims, NOW)], NotModified, Full),
            (&[(ims, BEFORE)], Full, Full),
            (&[(ims, FUTURE)], Full, Full),
            (
                &[(ims, "Sunday, 06-Nov-94 08:49:37 GMT")],
                NotModified,
                Full,
            ),
            (&[(ims, "Sun Nov  6 08:49:37 1994")], NotModified, Full),
            (
                &[(ims, "Sun, 06 Nov 1994 08:49:37 GMT; length=3")],
                Full,
                Full,
            ),
            (&[(ims, "Thu, 01 Jan 1969 00:00:00 GMT")], Full, Full),
            (&[(ims, "Sun, 06 Nov 1994")], Full, Full),
            (&[(ims, "784111777")], Full, Full),
            (&[(ims, "")], Full, Full),
            (&[(ims, MODIFIED), (ims, MODIFIED)], Full, Full),
            // Tags before dates.
            (&[(im, "\"a\""), (ius, BEFORE)], Full, Full),
            (&[(im, "\"b\""), (ius, AFTER)], Failed, Failed),
            (&[(inm, "\"b\""), (ims, AFTER)], Full, Full),
            (&[(inm, "\"a\""), (ims, BEFORE)], NotModified, Failed),
            (&[(inm, "a"), (ims, AFTER)], Full, Full),
            // What must be so, before what must not.
            (&[(im, "\"a\""), (inm, "\"a\"")], NotModified, Failed),
            (&[(im, "\"b\""), (inm, "\"a\"")], Failed, Failed),
            (&[(ius, BEFORE), (inm, "\"a\"")], Failed, Failed),
            (&[(ius, AFTER), (ims, AFTER)], NotModified, Full),
            (&[(ius, BEFORE), (ims, AFTER)], Failed, Failed),
            (&[(im, "*"), (ims, AFTER)], NotModified, Full),
            // Both before ranges.
            (
                &[(inm, "\"a\""), ("Range", "bytes=0-1")],
                NotModified,
                Failed,
            ),
            (&[(im, "\"b\""), ("Range", "bytes=0-1")], Failed, Failed),
            (&[(im, "\"b\""), ("Range", "bytes=10-")], Failed, Failed),
            // Of any case.
            (&[("IF-NONE-MATCH", "\"a\"")], NotModified, Failed),
        ];
        let etag = strong();
        for (fields, reading, changing) in rows {
            for (method, want) in [
                (Method::GET, reading),
                (Method::HEAD, reading),
                (Method::PUT, changing),
                (Method::DELETE, changing),
            ] {
                let got = ask(method.clone(), fields, &current(&etag));
                assert_eq!(got, *want, "{method} {fields:?}");
            }
        }
    }

    #[test]
    fn what_is_not_known_of_a_body_is_not_compared() {
        let nothing = Representation::default();
        for (field, value, want) in [
            ("If-Match", "*", Verdict::Full),
            ("If-Match", "\"a\"", Verdict::PreconditionFailed),
            ("If-None-Match", "\"a\"", Verdict::Full),
            ("If-None-Match", "*", Verdict::NotModified),
            ("If-Unmodified-Since", BEFORE, Verdict::Full),
            ("If-Modified-Since", AFTER, Verdict::Full),
            ("Range", "bytes=0-0", Verdict::Full),
        ] {
            assert_eq!(
                ask(Method::GET, &[(field, value)], &nothing),
                want,
                "{field}"
            );
        }
    }

    /// W-59. Rows: `If-Range`, and whether the part is sent.
    #[test]
    fn parts_are_sent_if_the_client_has_the_others() {
        let etag = strong();
        let part = || Verdict::Ranges(std::iter::once(2..5).collect());
        for (if_range, is_part) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("a", false),
            ("*", false),
            ("\"b\", \"a\"", false),
            (MODIFIED, true),
            (BEFORE, false),
            (AFTER, false), // the very same date, and no later one
            ("yesterday", false),
        ] {
            let fields = [("Range", "bytes=2-4"), ("If-Range", if_range)];
            let want = if is_part { part() } else { Verdict::Full };
            let got = ask(Method::GET, &fields, &current(&etag));
            assert_eq!(got, want, "{if_range}");
            // Beyond the end, of another version: the whole, and no error.
            let fields = [("Range", "bytes=10-"), ("If-Range", if_range)];
            let want = if is_part {
                Verdict::NotSatisfiable
            } else {
                Verdict::Full
            };
            let got = ask(Method::GET, &fields, &current(&etag));
            assert_eq!(got, want, "{if_range}");
        }
        let twice = [
            ("Range", "bytes=2-4"),
            ("If-Range", "\"a\""),
            ("If-Range", "\"a\""),
        ];
        assert_eq!(ask(Method::GET, &twice, &current(&etag)), Verdict::Full);
        let twice = [("Range", "bytes=2-4"), ("Range", "bytes=2-4")];
        assert_eq!(ask(Method::GET, &twice, &current(&etag)), Verdict::Full);
        let weak = EntityTag::weak("a");
        let fields = [("Range", "bytes=2-4"), ("If-Range", "W/\"a\"")];
        assert_eq!(ask(Method::GET, &fields, &current(&weak)), Verdict::Full);
        // A condition on a range that nobody asks for.
        assert_eq!(
            ask(Method::GET, &[("If-Range", "\"b\"")], &current(&etag)),
            Verdict::Full
        );
    }

    #[test]
    fn a_date_from_this_second_is_too_weak_for_parts() {
        let etag = strong();
        let just_now = Representation {
            last_modified: HttpDate::read(NOW.as_bytes()),
            ..current(&etag)
        };
        let fields = [("Range", "bytes=2-4"), ("If-Range", NOW)];
        assert_eq!(ask(Method::GET, &fields, &just_now), Verdict::Full);
    }

    /// W-59.
    #[test]
    fn only_get_asks_for_parts() {
        let etag = strong();
        for method in [Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
            for range in ["bytes=2-4", "bytes=10-"] {
                let got = ask(method.clone(), &[("Range", range)], &current(&etag));
                assert_eq!(got, Verdict::Full, "{method} {range}");
            }
        }
        let got = ask(Method::GET, &[("Range", "bytes=2-4")], &current(&etag));
        assert_eq!(got, Verdict::Ranges(std::iter::once(2..5).collect()));
    }

    /// Where the clock is wrong, or a test has its own.
    #[test]
    fn a_copy_of_what_is_from_the_future_is_current() {
        let etag = strong();
        let current = Representation {
            last_modified: HttpDate::read(b"Sat, 06 Nov 2094 08:49:37 GMT"),
            ..current(&etag)
        };
        for (date, want) in [
            ("Sat, 06 Nov 2094 08:49:36 GMT", Verdict::Full),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Verdict::NotModified),
            (FUTURE, Verdict::Full),
        ] {
            let got = ask(Method::GET, &[("If-Modified-Since", date)], &current);
            assert_eq!(got, want, "{date}");
        }
    }

    /// W-35, law 11.
    #[test]
    fn dates_are_rounded_up_and_have_ends() {
        let date = |time| HttpDate::from_system_time(time).map(|date| date.to_string());
        let modified = time(MODIFIED);
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(date(modified).as_deref(), Some(MODIFIED));
        let next = "Sun, 06 Nov 1994 08:49:38 GMT";
        assert_eq!(date(modified + nanosecond).as_deref(), Some(next));
        assert_eq!(
            date(UNIX_EPOCH).as_deref(),
            Some("Thu, 01 Jan 1970 00:00:00 GMT")
        );
        assert_eq!(date(UNIX_EPOCH - nanosecond), None);
        let latest = UNIX_EPOCH + Duration::from_secs(HttpDate::LATEST);
        assert_eq!(
            date(latest).as_deref(),
            Some("Fri, 31 Dec 9999 23:59:59 GMT")
        );
        assert_eq!(date(latest + nanosecond), None);
    }
}
