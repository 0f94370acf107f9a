//! The committed table of differences: a row for each vector on which some server disagrees with
//! ours, and why.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

/// The names of the servers, ours first; the order of the columns.
pub const COLUMNS: [&str; 4] = ["ours", "hyper", "Go", "nginx"];

/// What each server made of one vector, in the order of [`COLUMNS`]; empty if it was not there.
pub type Cells = [String; 4];

pub struct Table {
    path: PathBuf,
    /// What stands before the rows.
    text: String,
    rows: BTreeMap<String, (Cells, String)>,
}

impl Table {
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        let mut rows = BTreeMap::new();
        for line in std::fs::read_to_string(path)?.lines() {
            let Some(row) = line.strip_prefix("| `") else {
                text.push_str(line);
                text.push('\n');
                continue;
            };
            let bad = || io::Error::other(format!("{}: {line}", path.display()));
            let (name, row) = row.split_once("` | ").ok_or_else(bad)?;
            let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").collect();
            let [ours, hyper, go, nginx, why] = cells[..] else {
                return Err(bad());
            };
            let cells = [ours, hyper, go, nginx].map(str::to_owned);
            rows.insert(name.to_owned(), (cells, why.trim().to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            text,
            rows,
        })
    }

    /// What is wrong with the table if these are the differences of today.
    pub fn compare(&self, found: &[(String, Cells)], names: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, cells) in found {
            let shown = show(cells);
            match self.rows.get(name) {
                None => faults.push(format!("`{name}` is not listed: {shown}")),
                Some((listed, _)) if !agree(listed, cells) => {
                    faults.push(format!("`{name}`: {shown}\n    listed as {}", show(listed)));
                }
                Some((_, why)) if why.is_empty() => {
                    faults.push(format!("`{name}` is listed without a reason"));
                }
                Some(_) => {}
            }
        }
        for (name, (listed, _)) in &self.rows {
            if !names.contains(name) {
                faults.push(format!("`{name}` is listed, and there is no such vector"));
            } else if !found.iter().any(|(found, _)| found == name) && !is_absent(listed, found) {
                faults.push(format!("`{name}` is listed, and nobody differs now"));
            }
        }
        faults
    }

    /// Writes these differences, with the reasons that were there, in the order of the vectors.
    pub fn write(&self, found: &[(String, Cells)]) -> io::Result<()> {
        let mut text = self.text.clone();
        for (name, cells) in found {
            let why = self.rows.get(name).map_or("", |(_, why)| why);
            let row = cells.join(" | ");
            let _ = writeln!(text, "| `{name}` | {row} | {why} |");
        }
        std::fs::write(&self.path, text)
    }
}

/// Whether two rows are alike in the columns that both have.
fn agree(one: &Cells, two: &Cells) -> bool {
    let mut pairs = one.iter().zip(two);
    pairs.all(|(one, two)| one == two || one.is_empty() || two.is_empty())
}

/// Whether a listed row differs only in columns whose servers are not there today.
fn is_absent(listed: &Cells, found: &[(String, Cells)]) -> bool {
    let is_there = |column: usize| found.iter().any(|(_, cells)| !cells[column].is_empty());
    (1..COLUMNS.len()).all(|column| listed[column] == listed[0] || !is_there(column))
}

fn show(cells: &Cells) -> String {
    let cells = COLUMNS.iter().zip(cells);
    let cells = cells.filter(|(_, cell)| !cell.is_empty());
    let cells: Vec<_> = cells
        .map(|(name, cell)| format!("{name}: {cell}"))
        .collect();
    cells.join("; ")
}
