//! The `Date` field of responses.

use std::cell::RefCell;
use std::time::{Duration, Instant, UNIX_EPOCH};

use deferred_reactor::time::system_time;

/// The line of the current second (RFC 9110, 6.6.1), shared by all responses of it.
#[derive(Debug, Default)]
pub(in crate::web) struct DateLine(RefCell<Line>);

#[derive(Debug, Default)]
struct Line {
    /// When the next second begins.
    valid_until: Option<Instant>,
    text: String,
}

impl DateLine {
    /// Appends the field. The clock is read once a second, or so: `now` tells when.
    #[inline]
    pub(in crate::web) fn write(&self, out: &mut Vec<u8>, now: Instant) {
        let mut line = self.0.borrow_mut();
        if line.valid_until.is_none_or(|end| now >= end) {
            let time = system_time();
            let age = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = Duration::from_secs(1) - Duration::from_nanos(age.subsec_nanos().into());
            line.valid_until = now.checked_add(left);
            line.text = format!("Date: {}\r\n", httpdate::fmt_http_date(time));
        }
        out.extend_from_slice(line.text.as_bytes());
    }
}
