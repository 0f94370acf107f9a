//! The types that can be measured, and how they end.

use std::any::Any;
use std::error::Error;

use deferred_reactor::{Deferred, Failure};

/// A type that a measured function may return.
///
/// A [`Deferred`] is measured until it fires, and other types until they are returned; an `Err`
/// counts as an error. All other types are plain values. The trait is implemented here for types of
/// the standard library, and for your types with one line:
///
/// ```
/// use prometheus_deferred::instrument::Ending;
///
/// struct Row(u32);
/// impl Ending for Row {}
/// ```
///
/// A Deferred inside another value is not measured: a `Result<Deferred<T>, E>` ends when it is
/// returned. End such a function in `.unwrap_or_else(Deferred::fail)`, which makes it a
/// `Deferred<T>`.
pub trait Ending: Sized {
    /// Calls `end` when this value ends, with how it ended.
    ///
    /// `end` is called once, or dropped without a call if the value can never end.
    #[doc(hidden)]
    fn when_ended(self, end: impl FnOnce(End<'_>) + 'static) -> Self {
        end(End::Success);
        self
    }
}

/// How a measured value or function ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum End<'a> {
    /// With a value.
    Success,
    /// With an error: a [`Failure`], or the error type of the function.
    Error(&'a dyn Any),
    /// The function panicked.
    Panic,
}

impl End<'_> {
    /// Returns `true` if it ended with an error of this type. A panic counts as a
    /// [`PanicError`](deferred_reactor::PanicError).
    pub fn is<E: Error + 'static>(&self) -> bool {
        match self {
            Self::Success => false,
            Self::Panic => {
                std::any::TypeId::of::<E>()
                    == std::any::TypeId::of::<deferred_reactor::PanicError>()
            }
            Self::Error(error) => {
                if let Some(failure) = error.downcast_ref::<Failure>() {
                    failure.is::<E>()
                } else if let Some(boxed) = error.downcast_ref::<Box<dyn Error>>() {
                    boxed.is::<E>()
                } else if let Some(boxed) = error.downcast_ref::<Box<dyn Error + Send>>() {
                    boxed.is::<E>()
                } else if let Some(boxed) = error.downcast_ref::<Box<dyn Error + Send + Sync>>() {
                    boxed.is::<E>()
                } else {
                    error.is::<E>()
                }
            }
        }
    }

    /// Returns `true` if it ended without a value.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Success)
    }
}

impl<T: 'static> Ending for Deferred<T> {
    #[track_caller]
    fn when_ended(self, end: impl FnOnce(End<'_>) + 'static) -> Self {
        self.add_both(move |result| {
            match &result {
                Ok(_) => end(End::Success),
                Err(failure) => end(End::Error(failure)),
            }
            result
        })
    }
}

impl<T, E: 'static> Ending for Result<T, E> {
    fn when_ended(self, end: impl FnOnce(End<'_>) + 'static) -> Self {
        match &self {
            Ok(_) => end(End::Success),
            Err(error) => end(End::Error(error)),
        }
        self
    }
}

/// Plain values: their type parameters in brackets, then the type.
macro_rules! plain {
    ($([$($generic:ident),*] $plain:ty;)*) => {$(
        impl <$($generic),*> Ending for $plain {}
    )*};
}

plain! {
    [] (); [] bool; [] char;
    [] u8; [] u16; [] u32; [] u64; [] u128; [] usize;
    [] i8; [] i16; [] i32; [] i64; [] i128; [] isize;
    [] f32; [] f64;
    [] String; [] &'static str; [] std::path::PathBuf;
    [] std::time::Duration; [] std::time::Instant;
    [] bytes::Bytes;
    [T] Option<T>; [T] Vec<T>; [T] Box<T>; [T] std::rc::Rc<T>; [T] std::sync::Arc<T>;
    [T] std::collections::VecDeque<T>;
    [T, S] std::collections::HashSet<T, S>; [T] std::collections::BTreeSet<T>;
    [K, V, S] std::collections::HashMap<K, V, S>; [K, V] std::collections::BTreeMap<K, V>;
    [A, B] (A, B); [A, B, C] (A, B, C);
}
