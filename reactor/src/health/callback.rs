//! What callbacks are called when one of them is slow.

use std::fmt;
use std::panic::Location;

/// A callback that the loop makes, by what it is and where it comes from.
///
/// ```
/// use std::panic::Location;
/// use deferred_reactor::health::{Callback, CallbackKind, Place};
///
/// let line = Location::caller();
/// let callback = Callback::new(CallbackKind::DelayedCall, Place::Line(line));
/// assert_eq!(callback.to_string(), format!("the delayed call made at {line}"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Callback {
    /// What it is.
    pub kind: CallbackKind,
    /// Where it comes from.
    pub place: Place,
}

impl Callback {
    /// A callback of this kind, from there.
    pub const fn new(kind: CallbackKind, place: Place) -> Self {
        Self { kind, place }
    }

    pub(crate) const fn at(kind: CallbackKind, line: &'static Location<'static>) -> Self {
        Self::new(kind, Place::Line(line))
    }
}

impl fmt::Display for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {}", self.kind)?;
        match &self.place {
            Place::Line(line) => write!(f, " made at {line}"),
            Place::Type(name) => write!(f, " {name}"),
        }
    }
}

/// What kind of callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallbackKind {
    /// A delayed call; its line is that of `call_later`.
    DelayedCall,
    /// A call from another thread; its line is that of `call_from_thread`.
    ThreadCall,
    /// A callback of a Deferred; its line is where it was added.
    Deferred,
    /// An async block, each time that it is polled; its line is where it was given to `spawn`.
    Block,
    /// A looping call; its line is where it was started.
    LoopingCall,
    /// A trigger; its line is that of `add_system_event_trigger` or `call_when_running`.
    Trigger,
    /// The methods of a protocol, on an event of its connection; known by its type.
    Protocol,
    /// New connections of a port: `build_protocol` and `connection_made`. Its line is that of
    /// `listen_tcp`.
    Port,
    /// Something else, which a library names: see [`watch`](super::watch).
    Other(&'static str),
}

impl fmt::Display for CallbackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DelayedCall => "delayed call",
            Self::ThreadCall => "call from a thread",
            Self::Deferred => "callback of a Deferred",
            Self::Block => "async block",
            Self::LoopingCall => "looping call",
            Self::Trigger => "trigger",
            Self::Protocol => "protocol",
            Self::Port => "port",
            Self::Other(name) => name,
        })
    }
}

/// Where in a program's source a callback is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// A line.
    Line(&'static Location<'static>),
    /// A type, as [`std::any::type_name`] tells it.
    Type(&'static str),
}

impl Place {
    /// The place without the column, such as `src/main.rs:20`: for the label of a metric.
    pub fn label(&self) -> String {
        match self {
            Self::Line(line) => format!("{}:{}", line.file(), line.line()),
            Self::Type(name) => (*name).to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => line.fmt(f),
            Self::Type(name) => f.write_str(name),
        }
    }
}
