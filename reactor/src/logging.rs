//! Log records, and where they go in a program without a logger.
//!
//! Every record goes through the [`log`] crate, so a program picks its logger and its levels. The
//! targets are:
//!
//! | target     | of                                                                    |
//! |------------|-----------------------------------------------------------------------|
//! | `deferred` | unhandled failures, and what panicked around a Deferred               |
//! | `reactor`  | the loop, delayed calls, triggers, threads, ports and connections     |
//! | `web`      | requests that failed, in the package `prometheus-deferred`            |
//! | `metrics`  | metrics and their servers, in the package `prometheus-deferred`       |
//!
//! A program that has set no logger sees the records of the levels `error` and `warn` on standard
//! error, one line each, so that no failure is lost in silence:
//!
//! ```text
//! ERROR deferred: unhandled failure: connection refused (made at src/feed.rs:20:9, ...)
//! ```
//!
//! As soon as a logger is set ([`log::set_logger`], which every logger calls), only the logger gets
//! them, and its levels decide. Features of the `log` crate that leave records out at compile time,
//! such as `max_level_off`, leave them out here as well. [`set_stderr_fallback`] turns the fallback
//! off.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ::log::{Level, LevelFilter, STATIC_MAX_LEVEL};

/// For the macros, which are used by packages that need not depend on it.
#[doc(hidden)]
pub use ::log;

#[doc(hidden)]
pub use crate::{__log_error as error, __log_warn as warn};

static FALLBACK_IS_ON: AtomicBool = AtomicBool::new(true);

/// Turns the fallback to standard error on or off; it is on at the start.
///
/// It concerns the whole process, and only as long as no logger is set.
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
/// The `log` crate does not tell. Its own stand-in has no size and leaves the maximum level at
/// `Off`; a logger of the program's has one or sets the other, or it would log nothing.
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
    // In one call, so that lines of several threads do not mix. Nobody could be told of an error.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// What comes from a peer must not look like another record.
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
