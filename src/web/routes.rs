//! Which entry answers a path and a method.
//!
//! A [`RouteTable`] maps patterns to entries of any type. A [`Pattern`] has one part for each
//! segment of a path, and a part says what it takes there:
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
//! A pattern has at most one path. What the path takes is what the other parts leave over, so
//! where each part lies is a matter of counting: a lookup never searches or goes back. It costs at
//! most one pass over the path for each route, whatever the path.
//!
//! The table sees a path after it was split at `/` and percent-decoded, so a segment may contain a
//! `/` that was sent as `%2F`. `"/"` is `[""]`, `"/a/b"` is `["a", "b"]`, `"/a/"` is `["a", ""]`.
//! Fixed text is written decoded too: `/café`.
//!
//! ```text
//! table.insert(Pattern::parse("/u/<int:id>")?, Some(vec![Method::GET]), "user");
//!
//! table.lookup(&["u", "7"], &Method::GET)  // Found { entry: "user", params: id = 7, consumed: 2 }
//! table.lookup(&["u", "7"], &Method::PUT)  // MethodNotAllowed { allow: [GET, HEAD] }
//! table.lookup(&["u", "x"], &Method::GET)  // NotFound
//! ```

// Later: a branch (K-09) is a last part that takes zero or more segments, ranks behind no part at
// all, and is left out of `consumed`. The redirect to the form with a final slash (K-08) is one
// more route, for the pattern without its last, empty part, that stays behind all its equals.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use http::Method;

/// Patterns with their methods and entries.
#[derive(Debug)]
pub(crate) struct RouteTable<T> {
    /// Routes without a parameter, by their text: found by halving, without allocating.
    fixed: Vec<Route<T>>,
    /// Routes with parameters, the most specific first.
    // Later: a tree, when a program has hundreds of these. A lookup tries each in turn.
    capturing: Vec<Route<T>>,
}

impl<T> RouteTable<T> {
    pub(crate) fn new() -> Self {
        Self {
            fixed: Vec::new(),
            capturing: Vec::new(),
        }
    }

    /// Adds a route.
    ///
    /// `None` takes any method, and a list with GET takes HEAD as well. A route with an empty list
    /// takes no method: it is never found, and adds nothing to what is allowed.
    pub(crate) fn insert(&mut self, pattern: Pattern, methods: Option<Vec<Method>>, entry: T) {
        let methods = methods.map(|mut methods| {
            if methods.contains(&Method::GET) {
                methods.push(Method::HEAD);
            }
            methods
        });
        let (routes, compare): (_, fn(&Pattern, &Pattern) -> Ordering) = if pattern.is_fixed() {
            (&mut self.fixed, |a, b| a.texts().cmp(b.texts()))
        } else {
            (&mut self.capturing, |a, b| a.ranks().cmp(b.ranks()))
        };
        // Behind its equals, so that of these the first inserted is tried first.
        let index = routes.partition_point(|route| compare(&route.pattern, &pattern).is_le());
        let route = Route {
            pattern,
            methods,
            entry,
        };
        routes.insert(index, route);
    }

    /// Finds the most specific route that takes both the path and the method.
    ///
    /// Of routes that are equally specific, the first inserted is found. A route that takes the
    /// path but not the method stands in nobody's way: with `/me` for PUT and `/<name>` for GET,
    /// `GET /me` is found under `/<name>`. That is what werkzeug does, and it makes adding a method
    /// to one route harmless to the others.
    pub(crate) fn lookup<S: AsRef<str>>(&self, segments: &[S], method: &Method) -> Lookup<'_, T> {
        let mut allow = Vec::new();
        for route in self.fixed_at(segments).chain(&self.capturing) {
            let Some(params) = route.pattern.capture(segments) else {
                continue;
            };
            match &route.methods {
                Some(methods) if !methods.contains(method) => allow.extend_from_slice(methods),
                _ => {
                    let (entry, consumed) = (&route.entry, segments.len());
                    return Lookup::Found {
                        entry,
                        params,
                        consumed,
                    };
                }
            }
        }
        if allow.is_empty() {
            return Lookup::NotFound;
        }
        allow.sort_unstable();
        allow.dedup();
        Lookup::MethodNotAllowed { allow }
    }

    /// Routes whose text is this path. They are more specific than all that have a parameter.
    fn fixed_at<S: AsRef<str>>(&self, segments: &[S]) -> impl Iterator<Item = &Route<T>> {
        let compare = |route: &Route<T>| {
            let path = segments.iter().map(AsRef::as_ref);
            route.pattern.texts().cmp(path)
        };
        let first = self.fixed.partition_point(|route| compare(route).is_lt());
        self.fixed[first..]
            .iter()
            .take_while(move |route| compare(route).is_eq())
    }
}

#[derive(Debug)]
struct Route<T> {
    pattern: Pattern,
    /// `None` takes any. Invariant: has HEAD if it has GET.
    methods: Option<Vec<Method>>,
    entry: T,
}

/// What a [`RouteTable`] knows about a path and a method.
#[derive(Debug, PartialEq)]
pub(crate) enum Lookup<'t, T> {
    /// A route takes both.
    Found {
        /// What was inserted.
        entry: &'t T,
        /// What the pattern captured.
        params: Params,
        /// How many segments belong to the route and thus to prepath. The others are the postpath
        /// of a Resource that the handler returns; there are none, as routes match whole paths.
        consumed: usize,
    },
    /// There are routes for the path, but none for the method.
    MethodNotAllowed {
        /// The methods of these routes: sorted, each once, HEAD along with GET.
        allow: Vec<Method>,
    },
    /// There is no route for the path.
    NotFound,
}

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

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn push(&mut self, name: &Arc<str>, value: ParamValue) {
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
    fn capture<S: AsRef<str>>(&self, segments: &[S]) -> Option<Params> {
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

    fn is_fixed(&self) -> bool {
        self.texts().count() == self.parts.len()
    }

    /// The text of the parts that are nothing but text.
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Fixed(text) => Some(&**text),
            _ => None,
        })
    }

    /// What decides between two patterns that match the same path: the smaller goes first.
    fn ranks(&self) -> impl Iterator<Item = Rank> {
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
enum Rank {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::ParamValue::{Float, Int, Text};
    use super::*;

    /// K-01.
    #[test]
    fn fixed_text_takes_the_same_path_and_no_other() {
        for (pattern, path, want) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/", "//", false),
            ("/metrics", "/metrics", true),
            ("/metrics", "/", false),
            ("/metrics", "/metricsx", false),
            ("/metrics", "/Metrics", false),
            ("/metrics", "/metrics/", false), // K-08: only a pattern with the slash takes it
            ("/metrics/", "/metrics/", true),
            ("/metrics/", "/metrics", false),
            ("/a/b", "/a/b", true),
            ("/a/b", "/a%2Fb", false), // one segment
            ("/a/b", "/a/b/c", false),
            ("/a/b", "/a//b", false),
            ("/a//b", "/a//b", true),
            ("/café", "/caf%C3%A9", true),
        ] {
            assert_eq!(captures(pattern, path).is_some(), want, "{pattern} {path}");
        }
        let table = table(&["/", "/<path:p>"]);
        let found = table.lookup::<&str>(&[], &Method::GET);
        assert_eq!(found, Lookup::NotFound, "no segment, not even an empty one");
    }

    /// K-02.
    #[test]
    fn a_string_is_one_segment_of_the_wanted_length() {
        for (pattern, path, want) in [
            ("/<x>", "/a", Some("a")),
            ("/<string:x>", "/a", Some("a")),
            ("/<x>", "/caf%C3%A9", Some("café")),
            ("/<x>", "/7", Some("7")),
            ("/<x>", "/%20", Some(" ")),
            ("/<x>", "/", None),
            ("/<x>", "/a%2Fb", None),
            ("/<x>", "/%2F", None),
            ("/<x>", "/a/b", None),
            ("/<x>", "/a/", None),
            ("/<x>/", "/a/", Some("a")),
            ("/u/<x>", "/u", None),
            ("/u/<x>/y", "/u/a/y", Some("a")),
            ("/u/<x>/y", "/u//y", None),
            ("/<string(length=2):x>", "/d", None),
            ("/<string(length=2):x>", "/de", Some("de")),
            ("/<string(length=2):x>", "/n%C3%A9", Some("né")), // characters
            ("/<string(length=2):x>", "/deu", None),
            ("/<string(minlength=2):x>", "/a", None),
            ("/<string(minlength=2):x>", "/abcdefghi", Some("abcdefghi")),
            ("/<string(maxlength=2):x>", "/", None),
            ("/<string(maxlength=2):x>", "/a", Some("a")),
            ("/<string(maxlength=2):x>", "/abc", None),
            ("/<string(minlength=2, maxlength=3):x>", "/a", None),
            ("/<string(minlength=2, maxlength=3):x>", "/abc", Some("abc")),
            ("/<string(maxlength=3, minlength=2):x>", "/abcd", None),
        ] {
            let want = want.map(|text| Text(text.to_owned()));
            assert_eq!(x(pattern, path), want, "{pattern} {path}");
        }
    }

    /// K-03.
    #[test]
    fn a_number_is_plain_digits_that_convert() {
        let many = "9".repeat(400);
        for (pattern, path, want) in [
            ("/<int:x>", "/0", Some(Int(0))),
            ("/<int:x>", "/007", Some(Int(7))),
            ("/<int:x>", "/18446744073709551615", Some(Int(u64::MAX))),
            ("/<int:x>", "/18446744073709551616", None),
            ("/<int:x>", "/-1", None),
            ("/<int:x>", "/+1", None),
            ("/<int:x>", "/1.0", None),
            ("/<int:x>", "/%201", None),
            ("/<int:x>", "/%D9%A1", None), // a digit, but an Arabic one
            ("/<int:x>", "/", None),
            ("/<int:x>", "/1/", None),
            ("/<float:x>", "/0.5", Some(Float(0.5))),
            ("/<float:x>", "/10.25", Some(Float(10.25))),
            ("/<float:x>", "/10", None),
            ("/<float:x>", "/10.", None),
            ("/<float:x>", "/.5", None),
            ("/<float:x>", "/1.2.3", None),
            ("/<float:x>", "/-1.5", None),
            ("/<float:x>", "/+1.5", None),
            ("/<float:x>", "/1.5e3", None),
            ("/<float:x>", "/inf", None),
            ("/<float:x>", &format!("/{many}.0"), None), // too large for any finite number
        ] {
            assert_eq!(x(pattern, path), want, "{pattern} {path}");
        }
    }

    /// K-04.
    #[test]
    fn a_path_is_all_segments_that_the_other_parts_leave() {
        for (pattern, path, want) in [
            ("/f/<path:x>", "/f/a", Some("a")),
            ("/f/<path:x>", "/f/a/b.txt", Some("a/b.txt")),
            ("/f/<path:x>", "/f/a%2Fb/c", Some("a/b/c")),
            ("/f/<path:x>", "/f/a/", Some("a/")),
            ("/f/<path:x>", "/f/a//b", Some("a//b")),
            ("/f/<path:x>", "/f", None),
            ("/f/<path:x>", "/f/", None),
            ("/f/<path:x>", "/f//etc/passwd", None),
            ("/f/<path:x>", "/f/%2Fetc/passwd", None),
            ("/f/<path:x>", "/g/a", None),
            ("/<path:x>", "/", None),
            ("/<path:x>", "/a/b", Some("a/b")),
            ("/f/<path:x>/raw", "/f/a/raw", Some("a")),
            ("/f/<path:x>/raw", "/f/a/b/c/raw", Some("a/b/c")),
            ("/f/<path:x>/raw", "/f/raw/raw/raw", Some("raw/raw")),
            ("/f/<path:x>/raw", "/f/raw", None),
            ("/f/<path:x>/raw", "/f/a/b", None),
            ("/f/<path:x>/raw", "/f/a/raw/b", None),
            ("/f/<path:x>/", "/f/a/b/", Some("a/b")),
            ("/f/<path:x>/", "/f/a/b", None),
            ("/<path:x>/a/b", "/1/2/a/b", Some("1/2")),
        ] {
            let want = want.map(|text| Text(text.to_owned()));
            assert_eq!(x(pattern, path), want, "{pattern} {path}");
        }

        let found = captures("/<int:a>/<path:b>/v<int:c>", "/1/x/y/v2").unwrap();
        let values: Vec<_> = found.iter().collect();
        assert_eq!(
            values,
            [
                ("a", &Int(1)),
                ("b", &Text("x/y".to_owned())),
                ("c", &Int(2)),
            ]
        );
    }

    /// K-02, K-03.
    #[test]
    fn a_parameter_may_have_text_beside_it() {
        for (pattern, path, want) in [
            ("/v<int:x>", "/v12", Some(Int(12))),
            ("/v<int:x>", "/12", None),
            ("/v<int:x>", "/v", None),
            ("/v<int:x>.json", "/v12.json", Some(Int(12))),
            ("/v<int:x>.json", "/v12.xml", None),
            ("/v<int:x>.json", "/v12", None),
            ("/<x>.json", "/.json.json", Some(Text(".json".to_owned()))),
            ("/<x>.json", "/.json", None),
            ("/<x>.json", "/a%2Fb.json", None),
            ("/aa<x>aa", "/aaa", None), // the texts do not overlap
        ] {
            assert_eq!(x(pattern, path), want, "{pattern} {path}");
        }
    }

    /// K-05.
    #[test]
    fn the_most_specific_route_wins_in_any_order_of_insertion() {
        for (path, most_specific_first) in [
            (
                "/12",
                &[
                    "/12",
                    "/1<int:x>",
                    "/<name>2",
                    "/<int:x>",
                    "/<string(length=2):x>",
                    "/<string(minlength=2,maxlength=3):x>",
                    "/<string(maxlength=3):x>",
                    "/<string(minlength=2):x>",
                    "/<x>",
                    "/<path:x>",
                ][..],
            ),
            ("/1.5", &["/1.5", "/<float:x>", "/<x>", "/<path:x>"]),
            (
                "/a/2/1.5",
                &["/<path:x>/<int:y>/<z>", "/<path:x>/<float:y>"],
            ),
            (
                "/v1.json",
                &["/v1.json", "/v<int:x>.json", "/<x>.json", "/v<x>"],
            ),
            (
                "/a/1/raw",
                &[
                    "/a/1/raw",
                    "/a/1/<x>",
                    "/a/<int:x>/raw",
                    "/a/<int:x>/<y>",
                    "/a/<x>/raw",
                    "/a/<path:x>/raw",
                    "/a/<path:x>/<y>",
                    "/a/<path:x>",
                    "/<x>/1/raw",
                    "/<x>/<path:y>",
                    "/<path:x>/1/raw",
                    "/<path:x>/raw",
                    "/<path:x>/<y>",
                    "/<path:x>",
                ],
            ),
        ] {
            for (i, want) in most_specific_first.iter().enumerate() {
                let mut rest = most_specific_first[i..].to_vec();
                assert_eq!(found(&table(&rest), path), Some(*want), "{path} in order");
                rest.reverse();
                assert_eq!(found(&table(&rest), path), Some(*want), "{path} reversed");
                let middle = rest.len() / 2;
                rest.rotate_left(middle);
                assert_eq!(found(&table(&rest), path), Some(*want), "{path} rotated");
            }
        }
    }

    /// K-03, K-05.
    #[test]
    fn a_segment_that_does_not_convert_leaves_the_path_to_the_next_route() {
        let table = table(&["/<int:n>", "/<float:x>", "/<name>"]);
        for (path, want) in [
            ("/7", Some("/<int:n>")),
            ("/18446744073709551616", Some("/<name>")),
            ("/7.5", Some("/<float:x>")),
            ("/7.", Some("/<name>")),
            ("/7%2F", None),
        ] {
            assert_eq!(found(&table, path), want, "{path}");
        }
    }

    /// K-06.
    #[test]
    fn of_equal_patterns_the_first_that_takes_the_method_runs() {
        for pattern in ["/a", "/<int:n>"] {
            let mut table = RouteTable::new();
            for (methods, entry) in [
                (Some(vec![Method::POST]), "post"),
                (Some(vec![Method::GET]), "get"),
                (Some(vec![Method::GET, Method::PUT]), "get again, and put"),
                (None, "any"),
                (None, "any again"),
            ] {
                table.insert(Pattern::parse(pattern).unwrap(), methods, entry);
            }
            for (method, want) in [
                (Method::GET, "get"),
                (Method::HEAD, "get"),
                (Method::POST, "post"),
                (Method::PUT, "get again, and put"),
                (Method::DELETE, "any"),
            ] {
                let path = split(&pattern.replace("<int:n>", "1"));
                let Lookup::Found { entry, .. } = table.lookup(&path, &method) else {
                    panic!("{method} {pattern} was not found");
                };
                assert_eq!(*entry, want, "{method} {pattern}");
            }
        }
    }

    /// K-06.
    #[test]
    fn a_route_without_the_method_leaves_the_path_to_a_less_specific_one() {
        let mut table = RouteTable::new();
        for (pattern, methods) in [
            ("/me", Some(vec![Method::PUT])),
            ("/<name>", Some(vec![Method::GET])),
            ("/<path:p>", None),
        ] {
            table.insert(Pattern::parse(pattern).unwrap(), methods, pattern);
        }
        for (method, want) in [
            (Method::PUT, "/me"),
            (Method::GET, "/<name>"),
            (Method::POST, "/<path:p>"),
        ] {
            let Lookup::Found { entry, .. } = table.lookup(&["me"], &method) else {
                panic!("{method} was not found");
            };
            assert_eq!(*entry, want, "{method}");
        }
    }

    /// K-07.
    #[test]
    fn another_method_learns_those_of_all_routes_that_match() {
        let mut table = RouteTable::new();
        for (pattern, methods) in [
            ("/a", vec![Method::PUT, Method::POST, Method::PUT]),
            ("/<x>", vec![Method::POST, Method::GET]),
            ("/<int:x>", vec![Method::DELETE]),
            ("/nobody", vec![]),
            ("/nobody/<x>", vec![]),
        ] {
            table.insert(Pattern::parse(pattern).unwrap(), Some(methods), pattern);
        }
        for (path, want) in [
            ("/a", "GET HEAD POST PUT"),
            ("/b", "GET HEAD POST"),
            ("/1", "DELETE GET HEAD POST"),
            ("/nobody", "GET HEAD POST"),
            ("/nobody/x", "404"),
            ("/a/b", "404"),
        ] {
            let got = match table.lookup(&split(path), &Method::PATCH) {
                Lookup::Found { .. } => "found".to_owned(),
                Lookup::MethodNotAllowed { allow } => names(&allow),
                Lookup::NotFound => "404".to_owned(),
            };
            assert_eq!(got, want, "{path}");
        }
    }

    /// K-07.
    #[test]
    fn head_is_answered_where_get_is_and_only_there() {
        for (methods, want) in [
            (Some(vec![Method::GET]), true),
            (Some(vec![Method::POST]), false),
            (Some(vec![Method::HEAD]), true),
            (None, true),
        ] {
            let mut table = RouteTable::new();
            table.insert(Pattern::parse("/").unwrap(), methods.clone(), ());
            let found = table.lookup(&[""], &Method::HEAD);
            assert_eq!(matches!(found, Lookup::Found { .. }), want, "{methods:?}");
        }
    }

    /// K-13: nothing is left for a Resource that the handler returns.
    #[test]
    fn a_route_consumes_the_whole_path() {
        let table = table(&["/a/b", "/f/<path:p>"]);
        for (path, want) in [("/a/b", 2), ("/f/1/2/3", 4)] {
            let Lookup::Found { consumed, .. } = table.lookup(&split(path), &Method::GET) else {
                panic!("{path} was not found");
            };
            assert_eq!(consumed, want, "{path}");
        }
    }

    #[test]
    fn finding_a_fixed_path_does_not_allocate() {
        let table = table(&["/", "/a", "/a/b", "/<x>/b", "/<path:x>"]);
        for path in [&[""][..], &["a"], &["a", "b"]] {
            let mut is_found = false;
            let allocations = allocation_counter::measure(|| {
                let lookup = table.lookup(path, &Method::GET);
                is_found = matches!(lookup, Lookup::Found { .. });
            });
            assert!(is_found, "{path:?}");
            assert_eq!(allocations.count_total, 0, "{path:?}");
        }
    }

    /// K-03.
    #[test]
    fn a_parameter_is_there_as_the_types_that_can_hold_it() {
        let params = captures("/<int:n>/<float:f>/<name>/<path:p>", "/300/0.5/7/a/b").unwrap();
        assert_eq!(params.get::<u64>("n"), Some(300));
        assert_eq!(params.get::<u32>("n"), Some(300));
        assert_eq!(params.get::<i64>("n"), Some(300));
        assert_eq!(params.get::<usize>("n"), Some(300));
        assert_eq!(params.get::<u8>("n"), None, "too large");
        assert_eq!(params.get::<f64>("n"), None, "an integer");
        assert_eq!(params.get::<String>("n"), None, "an integer");
        assert_eq!(params.get::<f64>("f"), Some(0.5));
        assert_eq!(params.get::<u64>("f"), None, "a float");
        assert_eq!(params.get::<&str>("name"), Some("7"));
        assert_eq!(params.get::<u64>("name"), None, "text");
        assert_eq!(params.get::<f64>("name"), None, "text");
        assert_eq!(params.get::<String>("p"), Some("a/b".to_owned()));
        assert_eq!(params.get::<&str>("other"), None, "no such name");

        let largest = captures("/<int:n>", "/18446744073709551615").unwrap();
        assert_eq!(largest.get::<i64>("n"), None, "too large");
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused() {
        for (why, patterns) in [
            ("start with", " a a/b <x>"),
            ("partner", "/<a /a> /<a>> /<<a> /><a> /<a/b>"),
            ("two parameters in one segment", "/<a>-<b> /<a><path:b>"),
            ("not a name", "/<> /<int:> /<path:> /<2nd> /<a-b> /<é>"),
            ("name of two", "/<a>/<a> /<int:a>/b/<path:a>"),
            ("not a converter", "/<uuid:x> /<any(a,b):x> /<INT:x> /<:x>"),
            ("text beside", "/a<path:x> /<path:x>.html"),
            ("two paths", "/<path:x>/a/<path:y>"),
            (
                "arguments",
                "/<int():x> /<float(min=1):x> /<path(length=1):x>",
            ),
            (
                "arguments",
                "/<string():x> /<string(:x> /<string(length=2:x>",
            ),
            ("arguments", "/<string(length=2)s:x> /<string(2):x>"),
            ("arguments", "/<string(size=2):x> /<string(length=two):x>"),
            ("arguments", "/<string(length=2,):x> /<string(length=-2):x>"),
            ("arguments", "/<string(length=2,length=2):x>"),
            ("arguments", "/<string(length=2,minlength=1):x>"),
            // Would take nothing, or the empty segment.
            ("arguments", "/<string(minlength=3,maxlength=2):x>"),
            (
                "arguments",
                "/<string(length=0):x> /<string(minlength=0):x>",
            ),
        ] {
            for pattern in patterns.split(' ') {
                let error = Pattern::parse(pattern).unwrap_err().to_string();
                assert!(error.contains(why), "{pattern}: {error}");
            }
        }
    }

    #[test]
    fn a_refusal_shows_what_it_is_about() {
        let error = Pattern::parse("/a/<b>/<uuid:c>").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#""uuid" is not a converter: there are int, float, string and path"#
        );
        let converter = "uuid".to_owned();
        assert_eq!(error, PatternError::Converter { converter });
    }

    /// A part for random patterns: its text, how far behind it ranks, and what it takes.
    type Piece = (&'static str, u8, fn(&str) -> bool);
    const PIECES: [Piece; 11] = [
        ("a", 0, |s| s == "a"),
        ("b", 0, |s| s == "b"),
        ("", 0, |s| s.is_empty()),
        ("a<NAME>.b", 1, |s| {
            is_text(s) && s.len() > 3 && s.starts_with('a') && s.ends_with(".b")
        }),
        ("a<int:NAME>", 2, |s| ["a7", "a0"].contains(&s)),
        ("a<NAME>", 3, |s| {
            s.len() > 1 && s.starts_with('a') && is_text(s)
        }),
        ("<NAME>b", 3, |s| {
            s.len() > 1 && s.ends_with('b') && is_text(s)
        }),
        ("<int:NAME>", 4, |s| ["7", "0"].contains(&s)),
        ("<string(length=2):NAME>", 5, |s| {
            is_text(s) && s.chars().count() == 2
        }),
        ("<NAME>", 6, |s| is_text(s)),
        ("<path:path>", 7, |s| !s.is_empty() && !s.starts_with('/')),
    ];
    const SEGMENTS: [&str; 11] = [
        "", "a", "b", "7", "ab", "a7", "é7", "a7.b", "éb", "a/b", "/",
    ];

    fn is_text(segment: &str) -> bool {
        !segment.is_empty() && !segment.contains('/')
    }

    fn is_path(piece: &Piece) -> bool {
        piece.0 == "<path:path>"
    }

    /// Whether the pieces take the segments, and what the path among them gets, found by trying.
    fn try_all(pieces: &[Piece], segments: &[&str]) -> Option<String> {
        let Some((piece, pieces)) = pieces.split_first() else {
            return segments.is_empty().then(String::new);
        };
        (1..=segments.len()).find_map(|width| {
            let (taken, rest) = segments.split_at(width);
            let taken = taken.join("/");
            let path = try_all(pieces, rest)?;
            match is_path(piece) {
                _ if !piece.2(&taken) => None,
                true => Some(taken),
                false => (width == 1).then_some(path),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2000,
            failure_persistence: None,
            ..Default::default()
        })]

        /// K-02 to K-07, against trying each route and sorting those that match.
        #[test]
        fn a_lookup_finds_what_trying_every_route_finds(
            routes in prop::collection::vec(
                (
                    prop::collection::vec(prop::sample::select(&PIECES[..]), 1..4)
                        .prop_filter("two paths", |pieces| {
                            pieces.iter().filter(|piece| is_path(piece)).count() < 2
                        }),
                    prop::sample::select(&[None, Some(""), Some("GET"), Some("PUT GET")][..]),
                ),
                1..8,
            ),
            path in prop::collection::vec(prop::sample::select(&SEGMENTS[..]), 1..5),
            method in prop::sample::select(vec![Method::GET, Method::HEAD, Method::PUT]),
        ) {
            let mut table = RouteTable::new();
            let mut matching = Vec::new();
            for (entry, (pieces, methods)) in routes.iter().enumerate() {
                let mut pattern = String::new();
                for (i, (part, ..)) in pieces.iter().enumerate() {
                    pattern = pattern + "/" + &part.replace("NAME", &format!("p{i}"));
                }
                let methods: Option<Vec<Method>> = methods.map(|names| {
                    names.split_whitespace().map(|name| name.parse().unwrap()).collect()
                });
                table.insert(Pattern::parse(&pattern).unwrap(), methods.clone(), entry);

                if let Some(taken) = try_all(pieces, &path) {
                    let ranks: Vec<u8> = pieces.iter().map(|piece| piece.1).chain([99]).collect();
                    matching.push((ranks, entry, methods, taken));
                }
            }
            matching.sort_by_key(|(ranks, entry, ..)| (ranks.clone(), *entry));

            let asked = if method == Method::HEAD { &Method::GET } else { &method };
            let want = matching
                .iter()
                .find(|(.., methods, _)| methods.as_ref().is_none_or(|all| all.contains(asked)))
                .map(|(_, entry, _, taken)| (*entry, taken.as_str()))
                .ok_or_else(|| {
                    let all = matching.iter().flat_map(|(.., methods, _)| methods.iter().flatten());
                    let mut all: BTreeSet<&str> = all.map(Method::as_str).collect();
                    if all.contains("GET") {
                        all.insert("HEAD");
                    }
                    Vec::from_iter(all).join(" ")
                });
            let lookup = table.lookup(&path, &method);
            let got = match &lookup {
                Lookup::Found { entry, params, .. } => {
                    Ok((**entry, params.get("path").unwrap_or_default()))
                }
                Lookup::MethodNotAllowed { allow } => Err(names(allow)),
                Lookup::NotFound => Err(String::new()),
            };
            prop_assert_eq!(got, want);
        }
    }

    /// The segments of a path as a request brings them.
    fn split(path: &str) -> Vec<String> {
        let segments = path.strip_prefix('/').unwrap().split('/');
        segments
            .map(|segment| {
                percent_decode_str(segment)
                    .decode_utf8()
                    .unwrap()
                    .into_owned()
            })
            .collect()
    }

    /// Routes for any method, each with its pattern as its entry.
    fn table<'a>(patterns: &[&'a str]) -> RouteTable<&'a str> {
        let mut table = RouteTable::new();
        for pattern in patterns {
            table.insert(Pattern::parse(pattern).unwrap(), None, *pattern);
        }
        table
    }

    fn found<'a>(table: &RouteTable<&'a str>, path: &str) -> Option<&'a str> {
        match table.lookup(&split(path), &Method::GET) {
            Lookup::Found { entry, .. } => Some(*entry),
            _ => None,
        }
    }

    fn names(methods: &[Method]) -> String {
        let names: Vec<_> = methods.iter().map(Method::as_str).collect();
        names.join(" ")
    }

    /// What one route captures from a path.
    fn captures(pattern: &str, path: &str) -> Option<Params> {
        match table(&[pattern]).lookup(&split(path), &Method::GET) {
            Lookup::Found { params, .. } => Some(params),
            _ => None,
        }
    }

    /// The parameter `x` of one route.
    fn x(pattern: &str, path: &str) -> Option<ParamValue> {
        let params = captures(pattern, path)?;
        let (_, value) = params.iter().find(|(name, _)| *name == "x")?;
        Some(value.clone())
    }
}
