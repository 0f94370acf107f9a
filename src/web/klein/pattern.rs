//! What a route says it takes.
//!
//! A [`Pattern`] has one part for each segment of a path, and a part says what it takes there:
//!
//! | part                            | takes                                       | captures |
//! |---------------------------------|---------------------------------------------|----------|
//! | `text`                          | this text                                   | -        |
//! | `<int:n>`                       | digits, up to `u64::MAX`                    | `Int`    |
//! | `<float:x>`                     | digits, a point, digits                     | `Float`  |
//! | `<name>`, `<string:name>`       | text without a `/`, not empty               | `Text`   |
//! | `<string(length=2):name>`       | the same, of 2 characters                   | `Text`   |
//! | `<string(minlength=2):name>`    | the same, of 2 or more; also `maxlength`    | `Text`   |
//! | `v<int:n>.json`                 | one of the above with text beside it        | the same |
//! | `<path:p>`                      | one or more segments, not starting with `/` | `Text`   |
//!
//! Where several patterns match, the most specific wins, whatever the order they were inserted in.
//! Their parts are compared from the left, and the first difference decides:
//!
//! 1. fixed text
//! 2. a parameter inside a segment: first the one with more text beside it, then int, float and
//!    string, and of two strings the one that admits fewer lengths
//! 3. path
//! 4. no part left, so `/<path:p>/raw` goes before `/<path:p>`
//!

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::params::{ParamValue, Params};

/// The paths that a route takes, one part for each segment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    /// Invariant: one or more, with at most one path, and no name twice.
    parts: Vec<Part>,
}

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(path) = text.strip_prefix('/') else {
            let pattern = text.to_owned();
            return Err(PatternError::NoSlash { pattern });
        };
        let parts: Vec<Part> = path.split('/').map(Part::parse).collect::<Result<_, _>>()?;

        let mut seen = HashSet::new();
        let mut names = parts.iter().filter_map(Part::name);
        if let Some(twice) = names.find(|name| !seen.insert(*name)) {
            let name = twice.to_owned();
            return Err(PatternError::SameName { name });
        }
        if parts.iter().filter(|part| part.is_path()).count() > 1 {
            let pattern = text.to_owned();
            return Err(PatternError::TwoPaths { pattern });
        }
        Ok(Self { parts })
    }

    /// The parameters in a path, or `None` where it does not match.
    pub(super) fn capture<S: AsRef<str>>(&self, segments: &[S]) -> Option<Params> {
        // Each part takes one segment, and the path all that are left over.
        let spare = segments.len().checked_sub(self.parts.len())?;
        if spare > 0 && !self.parts.iter().any(Part::is_path) {
            return None;
        }
        let mut params = Params::default();
        let mut rest = segments.iter().map(AsRef::as_ref);
        for part in &self.parts {
            let segment: &str = rest.next()?;
            match part {
                Part::Fixed(text) if **text == *segment => {}
                Part::Fixed(_) => return None,
                Part::Value {
                    prefix,
                    converter,
                    name,
                    suffix,
                } => {
                    let text = segment.strip_prefix(&**prefix)?.strip_suffix(&**suffix)?;
                    params.push(name, converter.convert(text)?);
                }
                // Joined to a directory, a path with a slash in front would replace it.
                Part::Path { .. } if segment.is_empty() || segment.starts_with('/') => return None,
                Part::Path { name } => {
                    let mut path = segment.to_owned();
                    for segment in rest.by_ref().take(spare) {
                        path.push('/');
                        path.push_str(segment);
                    }
                    params.push(name, ParamValue::Text(path));
                }
            }
        }
        Some(params)
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.texts().count() == self.parts.len()
    }

    /// The text of the parts that are nothing but text.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Fixed(text) => Some(&**text),
            _ => None,
        })
    }

    /// What decides between two patterns that match the same path: the smaller goes first.
    pub(super) fn ranks(&self) -> impl Iterator<Item = Rank> {
        self.parts.iter().map(Part::rank).chain([Rank::End])
    }
}

/// What a [`Pattern`] takes at one place.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// One segment, this one.
    Fixed(Box<str>),
    /// One segment: a value, with text before and behind it.
    Value {
        prefix: Box<str>,
        converter: Converter,
        name: Arc<str>,
        suffix: Box<str>,
    },
    /// One or more segments.
    Path { name: Arc<str> },
}

impl Part {
    fn parse(segment: &str) -> Result<Self, PatternError> {
        let owned = || segment.to_owned();
        let brackets = || PatternError::Brackets { segment: owned() };

        if !segment.contains(['<', '>']) {
            return Ok(Self::Fixed(segment.into()));
        }
        let (prefix, rest) = segment.split_once('<').ok_or_else(brackets)?;
        let (inside, suffix) = rest.split_once('>').ok_or_else(brackets)?;
        if suffix.contains('<') {
            return Err(PatternError::TwoParameters { segment: owned() });
        }
        if [prefix, inside, suffix].concat().contains(['<', '>']) {
            return Err(brackets());
        }

        let (converter, name) = inside.rsplit_once(':').unwrap_or(("string", inside));
        let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_word || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            let name = name.to_owned();
            return Err(PatternError::Name { name });
        }
        let name = Arc::from(name);
        match converter {
            "path" if prefix.is_empty() && suffix.is_empty() => Ok(Self::Path { name }),
            "path" => Err(PatternError::PathBesideText { segment: owned() }),
            _ => Ok(Self::Value {
                prefix: prefix.into(),
                converter: Converter::parse(converter)?,
                name,
                suffix: suffix.into(),
            }),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Fixed(_) => None,
            Self::Value { name, .. } | Self::Path { name } => Some(name),
        }
    }

    fn is_path(&self) -> bool {
        matches!(self, Self::Path { .. })
    }

    fn rank(&self) -> Rank {
        match self {
            Self::Fixed(_) => Rank::Fixed,
            Self::Value {
                prefix,
                converter,
                suffix,
                ..
            } => {
                let (kind, lengths) = converter.rank();
                Rank::Value(Reverse(prefix.len() + suffix.len()), kind, lengths)
            }
            Self::Path { .. } => Rank::Path,
        }
    }
}

/// How specific a [`Part`] is, the most specific first.
///
/// A part that takes a subset of what another takes never ranks behind it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Fixed,
    /// The length of the text beside the value, then [`Converter::rank`].
    Value(Reverse<usize>, u8, usize),
    Path,
    /// Behind the last part.
    End,
}

/// Turns the text of one segment into a value.
#[derive(Debug, Clone, PartialEq)]
enum Converter {
    Int,
    Float,
    /// Of so many characters; at least one.
    Text(RangeInclusive<usize>),
}

impl Converter {
    /// Parses `int`, `float` or `string`, the last with its arguments if it has any.
    fn parse(text: &str) -> Result<Self, PatternError> {
        let (converter, arguments) = match text.split_once('(') {
            Some((converter, arguments)) => (converter, Some(arguments)),
            None => (text, None),
        };
        let parsed = match (converter, arguments) {
            ("int", None) => Some(Self::Int),
            ("float", None) => Some(Self::Float),
            ("string", None) => Some(Self::Text(1..=usize::MAX)),
            ("string", Some(arguments)) => arguments
                .strip_suffix(')')
                .and_then(parse_lengths)
                .map(Self::Text),
            ("int" | "float" | "path", Some(_)) => None,
            _ => {
                let converter = converter.to_owned();
                return Err(PatternError::Converter { converter });
            }
        };
        let converter = text.to_owned();
        parsed.ok_or(PatternError::Arguments { converter })
    }

    fn convert(&self, text: &str) -> Option<ParamValue> {
        // Checked by hand, as `str::parse` also takes a sign, an exponent and `inf`.
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_decimal = |(whole, fraction)| is_digits(whole) && is_digits(fraction);
        match self {
            Self::Int if is_digits(text) => text.parse().ok().map(ParamValue::Int),
            Self::Float if text.split_once('.').is_some_and(is_decimal) => {
                let number = text.parse().ok();
                number.filter(|n| f64::is_finite(*n)).map(ParamValue::Float)
            }
            Self::Text(lengths)
                if !text.contains('/') && lengths.contains(&text.chars().count()) =>
            {
                Some(ParamValue::Text(text.to_owned()))
            }
            _ => None,
        }
    }

    /// Kind of value, then how many lengths it admits beyond the first.
    fn rank(&self) -> (u8, usize) {
        match self {
            Self::Int => (0, 0),
            Self::Float => (1, 0),
            Self::Text(lengths) => (2, lengths.end() - lengths.start()),
        }
    }
}

/// Parses `length=2`, or `minlength=1,maxlength=8` or one of these.
fn parse_lengths(arguments: &str) -> Option<RangeInclusive<usize>> {
    let (mut exact, mut min, mut max) = (None, None, None);
    for argument in arguments.split(',') {
        let (key, value) = argument.split_once('=')?;
        let slot = match key.trim() {
            "length" => &mut exact,
            "minlength" => &mut min,
            "maxlength" => &mut max,
            _ => return None,
        };
        if slot.replace(value.trim().parse().ok()?).is_some() {
            return None;
        }
    }
    let lengths = match (exact, min, max) {
        (Some(exact), None, None) => exact..=exact,
        (None, min, max) => min.unwrap_or(1)..=max.unwrap_or(usize::MAX),
        _ => return None,
    };
    (!lengths.is_empty() && *lengths.start() > 0).then_some(lengths)
}

/// Why a text is not the pattern of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// It does not start with `/`.
    NoSlash {
        /// The whole pattern.
        pattern: String,
    },
    /// A `<` has no `>` in the same segment, or the other way round, or `<` follows `<`.
    Brackets {
        /// Where they are.
        segment: String,
    },
    /// A segment has more than one parameter.
    TwoParameters {
        /// The whole segment.
        segment: String,
    },
    /// A parameter has no name, or one with other characters than `a-z`, `A-Z`, `_` and, after the
    /// first, `0-9`.
    Name {
        /// What stands for the name.
        name: String,
    },
    /// Two parameters have the same name.
    SameName {
        /// The name.
        name: String,
    },
    /// There is no such converter.
    Converter {
        /// What stands before the colon.
        converter: String,
    },
    /// A converter got arguments it does not take, or lengths that no text has.
    Arguments {
        /// The converter with its arguments.
        converter: String,
    },
    /// A path shares its segment with text, but it takes whole segments.
    PathBesideText {
        /// The whole segment.
        segment: String,
    },
    /// There are two paths, and nothing says where the first ends.
    TwoPaths {
        /// The whole pattern.
        pattern: String,
    },
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, complaint) = match self {
            Self::NoSlash { pattern } => (pattern, "does not start with '/'"),
            Self::Brackets { segment } => (segment, "has a '<' or '>' without its partner"),
            Self::TwoParameters { segment } => (segment, "has two parameters in one segment"),
            Self::Name { name } => (
                name,
                "is not a name for a parameter: ASCII letters, digits and '_', no digit in front",
            ),
            Self::SameName { name } => (name, "is the name of two parameters"),
            Self::Converter { converter } => (
                converter,
                "is not a converter: there are int, float, string and path",
            ),
            Self::Arguments { converter } => (
                converter,
                "does not take these arguments: string takes length=N, or minlength=N and \
                 maxlength=N, all of them from 1 on, and the others take none",
            ),
            Self::PathBesideText { segment } => (segment, "has text beside a path"),
            Self::TwoPaths { pattern } => (pattern, "has two paths"),
        };
        write!(f, "{text:?} {complaint}")
    }
}

impl std::error::Error for PatternError {}
