//! What the parameters of a route captured.

use std::sync::Arc;

/// What captured segments turned into, by name.
///
/// The pattern decides the type: `<int:id>` captures an integer, so that `id` is there for
/// [`get`](Self::get) as any integer type that can hold it, and is not there as text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(Vec<(Arc<str>, ParamValue)>);

impl Params {
    /// Returns a parameter as `T`.
    ///
    /// `None` if the pattern has no such name, or if its value is not a `T`: of another type, or
    /// too large for it. Text is borrowed as `&str`, or copied as `String`.
    pub fn get<'p, T: FromParam<'p>>(&'p self, name: &str) -> Option<T> {
        let (_, value) = self.iter().find(|(known, _)| *known == name)?;
        T::from_param(value)
    }

    /// The names and values, in the order of the pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParamValue)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    pub(in crate::web) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn push(&mut self, name: &Arc<str>, value: ParamValue) {
        self.0.push((Arc::clone(name), value));
    }
}

/// What one parameter of a route captured.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ParamValue {
    /// By `<int:name>`.
    Int(u64),
    /// By `<float:name>`; finite and not negative.
    Float(f64),
    /// By `<name>`, `<string:name>` or `<path:name>`.
    Text(String),
}

/// A type that [`Params::get`] can return.
///
/// # Examples
///
/// ```
/// use prometheus_deferred::web::{FromParam, ParamValue};
///
/// struct UserId(u64);
///
/// impl FromParam<'_> for UserId {
///     fn from_param(value: &ParamValue) -> Option<Self> {
///         u64::from_param(value).map(UserId)
///     }
/// }
///
/// assert_eq!(UserId::from_param(&ParamValue::Int(7)).map(|id| id.0), Some(7));
/// ```
pub trait FromParam<'p>: Sized {
    /// Reads the value, or returns `None` if it is not one of this type.
    fn from_param(value: &'p ParamValue) -> Option<Self>;
}

impl<'p> FromParam<'p> for &'p str {
    fn from_param(value: &'p ParamValue) -> Option<Self> {
        match value {
            ParamValue::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl FromParam<'_> for String {
    fn from_param(value: &ParamValue) -> Option<Self> {
        <&str>::from_param(value).map(str::to_owned)
    }
}

impl FromParam<'_> for f64 {
    fn from_param(value: &ParamValue) -> Option<Self> {
        match value {
            ParamValue::Float(number) => Some(*number),
            _ => None,
        }
    }
}

macro_rules! integer_from_param {
    ($($integer:ty)*) => {$(
        impl FromParam<'_> for $integer {
            fn from_param(value: &ParamValue) -> Option<Self> {
                match value {
                    ParamValue::Int(number) => <$integer>::try_from(*number).ok(),
                    _ => None,
                }
            }
        }
    )*};
}
integer_from_param!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
