//! Medians, and tables in Markdown.

/// The middle value; `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// Three digits that matter; a dash for what is not known.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// A table whose columns are as wide as they need to be.
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn new(titles: &[&str]) -> Self {
        Self(vec![titles.iter().map(|title| (*title).into()).collect()])
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    pub fn print(&self) {
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for (index, row) in self.0.iter().enumerate() {
            let mut line = String::from("|");
            for column in 0..self.0[0].len() {
                let cell = row.get(column).map_or("", String::as_str);
                let width = width(column);
                line += &match column {
                    0 => format!(" {cell:<width$} |"),
                    _ => format!(" {cell:>width$} |"),
                };
            }
            println!("{line}");
            if index == 0 {
                let columns = (0..row.len()).map(|column| match column {
                    0 => "-".repeat(width(column) + 2),
                    _ => "-".repeat(width(column) + 1) + ":",
                });
                println!("|{}|", columns.collect::<Vec<_>>().join("|"));
            }
        }
    }
}
