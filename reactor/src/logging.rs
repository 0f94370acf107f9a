//! Log records, and where they go in a program without a logger.
//!
//! Every record goes through the [`log`] crate, so a program picks its logger and its levels. All
//! targets of this package and of `prometheus-deferred` are listed here:
//!
//! | target     | level   | records                                                                |
//! |------------|---------|------------------------------------------------------------------------|
//! | `deferred` | `error` | unhandled failures ([`on_unhandled`](crate::on_unhandled)); panics in cancellers, hooks and drops; async blocks woken from another thread without a reactor |
//! | `deferred` | `debug` | Deferreds abandoned because their reactor stopped before a delayed call |
//! | `reactor`  | `error` | failures and panics of delayed calls, calls from threads, triggers, factories, protocols (with the peer) and observers; connections that cannot be watched; a wake-up of the loop that failed; worker threads that the system refuses; a second signal during the shutdown; the failure of [`react`](crate::react) and of workers |
//! | `reactor`  | `warn`  | connections that could not be made, and reconnecting that gave up; ports that cannot accept (at most one record every 10 seconds); datagrams that cannot be received; slow callbacks (at most one every 10 seconds for each place); a shutdown that waits for jobs in threads; notifications that systemd did not get |
//! | `reactor`  | `info`  | the delay before a [`ReconnectingClientFactory`](crate::net::ReconnectingClientFactory) connects again |
//! | `web`      | `error`, `warn` | requests that failed or were cut off, with method, path and client; responses that do not match their `Content-Length`; files that cannot be removed |
//! | `web`      | `debug` | requests that were refused                                             |
//! | `metrics`  | `error` | metrics that could not be updated; a metrics server that failed        |
//!
//!
//! A program without a logger gets the records of the levels `error` and `warn` on standard error,
//! one line each, so that no failure is lost silently:
//!
//! ```text
//! ERROR deferred: unhandled failure: connection refused (made at src/feed.rs:20:9, ...)
//! ```
//!
//! As soon as a logger is set ([`log::set_logger`], which every logger calls), only the logger gets
//! the records, and its levels decide. Features of the `log` crate that remove records at compile
//! time, such as `max_level_off`, apply to standard error as well. [`set_stderr_fallback`] turns
//! the fallback off.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ::log::{Level, LevelFilter, STATIC_MAX_LEVEL};

/// For the macros, which are used by packages that do not depend on `log`.
#[doc(hidden)]
pub use ::log;

#[doc(hidden)]
pub use crate::{__log_error as error, __log_warn as warn};

static FALLBACK_IS_ON: AtomicBool = AtomicBool::new(true);

/// Turns the fallback to standard error on or off; it is on at the start.
///
/// Applies to the whole process, and only while no logger is set.
///
/// ```
/// deferred_reactor::logging::set_stderr_fallback(false); // from here on, silence
/// drop(deferred_reactor::Deferred::<()>::fail(deferred_reactor::Failure::message("nobody cares")));
/// ```
pub fn set_stderr_fallback(on: bool) {
    FALLBACK_IS_ON.store(on, Ordering::Relaxed);
}

/// Whether the program has set a logger.
///
/// The `log` crate has no call for this. Its default logger has no size, and leaves the maximum
/// level at `Off`; a logger of the program has a size or sets the level, or it would log nothing.
#[doc(hidden)]
pub fn has_logger() -> bool {
    ::log::max_level() != LevelFilter::Off || size_of_val(::log::logger()) != 0
}

/// Writes one record to standard error, as one line.
#[doc(hidden)]
#[cold]
pub fn write_to_stderr(level: Level, target: &str, message: fmt::Arguments<'_>) {
    if level > STATIC_MAX_LEVEL || !FALLBACK_IS_ON.load(Ordering::Relaxed) {
        return;
    }
    let line = one_line(level, target, &message.to_string());
    // In one call, so that lines of several threads do not mix. An error of standard error cannot
    // be reported.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Escapes control characters, so that a peer's text cannot look like another record.
fn one_line(level: Level, target: &str, message: &str) -> String {
    let mut line = format!("{level} {target}: ");
    for character in message.chars() {
        match character {
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
    line.push('\n');
    line
}

/// An `error` record: `error!(target: "reactor", "format {}", arguments)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    (target: $target:expr, $($arguments:tt)+) => {
        $crate::__log_record!($crate::logging::log::Level::Error, $target, $($arguments)+)
    };
}

/// A `warn` record: `warn!(target: "reactor", "format {}", arguments)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    (target: $target:expr, $($arguments:tt)+) => {
        $crate::__log_record!($crate::logging::log::Level::Warn, $target, $($arguments)+)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_record {
    ($level:expr, $target:expr, $($arguments:tt)+) => {
        if $crate::logging::has_logger() {
            $crate::logging::log::log!(target: $target, $level, $($arguments)+);
        } else {
            $crate::logging::write_to_stderr($level, $target, format_args!($($arguments)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let line = one_line(Level::Warn, "web", "GET /\r\nERROR: \x1b[31m\u{e4}");
        assert_eq!(line, "WARN web: GET /\\r\\nERROR: \\u{1b}[31m\u{e4}\n");
    }
}
