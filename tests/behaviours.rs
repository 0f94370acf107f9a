//! BEHAVIOURS.md and the tests agree: each id that a test names has a row, and each row a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What ids begin with; BEHAVIOURS.md has a section for each.
const KINDS: [&str; 11] = ["B", "D", "F", "K", "P", "PO", "PR", "R", "SD", "T", "W"];

#[test]
fn every_id_has_a_row_and_every_row_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cited = BTreeSet::new();
    for folder in ["src", "tests", "examples", "reactor/src", "reactor/tests"] {
        collect(&root.join(folder), &mut cited);
    }
    let page = fs::read_to_string(root.join("tests/BEHAVIOURS.md")).unwrap();
    let mut rows = BTreeSet::new();
    for line in page.lines() {
        let id = line
            .strip_prefix("| ")
            .and_then(|row| row.split(" |").next());
        if let Some(id) = id.filter(|id| ids_of(id).len() == 1) {
            assert!(rows.insert(id.to_owned()), "{id} has two rows");
        }
    }
    let without_row: Vec<_> = cited.difference(&rows).collect();
    let without_test: Vec<_> = rows.difference(&cited).collect();
    assert!(
        without_row.is_empty() && without_test.is_empty(),
        "tests/BEHAVIOURS.md needs a row for each of {without_row:?}, which tests name; and each of \
         {without_test:?} needs a test that names it, or its row goes"
    );
}

/// Adds the ids in all Rust files of a folder but this one.
fn collect(folder: &Path, cited: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, cited);
            }
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path.ends_with("behaviours.rs")
        {
            cited.extend(ids_of(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The ids in a text, with those between the ends of a range: `R-26 to R-28`.
fn ids_of(text: &str) -> Vec<String> {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .filter(|word| !word.is_empty())
        .collect();
    let mut ids = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let Some((kind, number)) = id(word) else {
            continue;
        };
        let is_end = index >= 2 && words[index - 1] == "to";
        let begin = is_end.then(|| id(words[index - 2])).flatten();
        let first = begin
            .filter(|begin| begin.0 == kind)
            .map_or(number, |begin| begin.1);
        ids.extend((first..=number).map(|number| format!("{kind}-{number:02}")));
    }
    ids
}

fn id(word: &str) -> Option<(&str, u32)> {
    let (kind, digits) = word.split_once('-')?;
    let is_id = KINDS.contains(&kind) && matches!(digits.len(), 2 | 3);
    Some((kind, digits.parse().ok().filter(|_| is_id)?))
}

#[test]
fn ids_are_found_alone_and_in_ranges() {
    for (text, want) in [
        ("/// R-26 to R-28, for the Deferred.", "R-26 R-26 R-27 R-28"),
        ("/// F-11, R-42: whatever", "F-11 R-42"),
        ("UTF-16 and X-26, D-5, B-1234, to PO-07", "PO-07"),
        ("| B-100 | a row |", "B-100"),
    ] {
        assert_eq!(ids_of(text).join(" "), want, "{text:?}");
    }
}
