//! Which entry answers a path and a method.
//!
//! A [`RouteTable`] maps [patterns](super::pattern) to entries of any type.
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

use std::cmp::Ordering;

use http::Method;

use super::params::Params;
use super::pattern::Pattern;

/// Patterns with their methods and entries.
#[derive(Debug)]
pub(crate) struct RouteTable<T> {
    /// Routes without a parameter, by their text: found by halving, without allocating.
    fixed: Vec<Row<T>>,
    /// Routes with parameters, the most specific first.
    // Later: a tree, when a program has hundreds of these. A lookup tries each in turn.
    capturing: Vec<Row<T>>,
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
        let (rows, compare): (_, fn(&Pattern, &Pattern) -> Ordering) = if pattern.is_fixed() {
            (&mut self.fixed, |a, b| a.texts().cmp(b.texts()))
        } else {
            (&mut self.capturing, |a, b| a.ranks().cmp(b.ranks()))
        };
        // Behind its equals, so that of these the first inserted is tried first.
        let index = rows.partition_point(|row| compare(&row.pattern, &pattern).is_le());
        let row = Row {
            pattern,
            methods,
            entry,
        };
        rows.insert(index, row);
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
    fn fixed_at<S: AsRef<str>>(&self, segments: &[S]) -> impl Iterator<Item = &Row<T>> {
        let compare = |route: &Row<T>| {
            let path = segments.iter().map(AsRef::as_ref);
            route.pattern.texts().cmp(path)
        };
        let first = self.fixed.partition_point(|route| compare(route).is_lt());
        self.fixed[first..]
            .iter()
            .take_while(move |route| compare(route).is_eq())
    }
}

/// One route.
#[derive(Debug)]
struct Row<T> {
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

#[cfg(test)]
mod tests;
