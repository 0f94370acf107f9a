//! What the table finds, whatever was inserted and in whichever order.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use proptest::prelude::*;

use super::*;
use crate::web::klein::params::ParamValue::{self, Float, Int, Text};
use crate::web::klein::pattern::PatternError;

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
