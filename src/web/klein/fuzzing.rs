//! What is promised of any routes: the most specific one that takes a path is found.

use http::Method;

use super::pattern::Pattern;
use super::table::{Lookup, RouteTable};

/// A path, in the first line, finds the most specific of the patterns in the other lines.
pub fn route_patterns(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let mut patterns = Vec::new();
    for line in lines.take(8) {
        match Pattern::parse(line) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let mut table = RouteTable::new();
    for (number, pattern) in patterns.iter().enumerate() {
        table.insert(pattern.clone(), None, number);
    }
    // The slow way: all that take the path, fixed ones first, then the most specific, then the first.
    let taken = patterns.iter().enumerate().filter_map(|(number, pattern)| {
        let params = pattern.capture(&segments)?;
        let ranks: Vec<_> = pattern.ranks().collect();
        Some(((!pattern.is_fixed(), ranks, number), params))
    });
    let expected = taken.min_by(|(one, _), (other, _)| one.cmp(other));
    let expected = expected.map(|((_, _, number), params)| (number, params));
    match (table.lookup(&segments, &Method::GET), expected) {
        (Lookup::NotFound, None) => {}
        (Lookup::Found { entry, params, .. }, Some((number, expected))) => {
            assert_eq!(*entry, number);
            assert_eq!(params, expected);
        }
        (found, expected) => panic!("{found:?} in place of {expected:?}"),
    }
}
