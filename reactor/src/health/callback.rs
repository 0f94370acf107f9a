//! The names of callbacks, for reports of slow ones.

use std::fmt;
use std::panic::Location;

/// A callback made by the loop: its kind and its origin.
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
    /// The kind of the callback.
    pub kind: CallbackKind,
    /// The origin of the callback.
    pub place: Place,
}

impl Callback {
    /// A callback of a kind, from a place.
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

/// The kind of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallbackKind {
    /// A delayed call; the place is the line of `call_later`.
    DelayedCall,
    /// A call from another thread; the place is the line of `call_from_thread`.
    ThreadCall,
    /// A callback of a Deferred; the place is the line that added it.
    Deferred,
    /// A poll of an async block; the place is the line of `spawn`.
    Block,
    /// A looping call; the place is the line that started it.
    LoopingCall,
    /// A trigger; the place is the line of `add_system_event_trigger` or `call_when_running`.
    Trigger,
    /// The methods of a protocol, for one event of its connection; the place is its type.
    Protocol,
    /// New connections of a port: `build_protocol` and `connection_made`. The place is the line of
    /// `listen_tcp`.
    Port,
    /// Other code, named by a library: see [`watch`](super::watch).
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

/// Where a callback comes from in a program's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// A source line.
    Line(&'static Location<'static>),
    /// A type, by its [`std::any::type_name`].
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
