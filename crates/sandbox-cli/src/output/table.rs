//! Tables: a header and aligned columns without a frame.

use std::fmt;

use comfy_table::presets::NOTHING;

/// A table of text cells.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// Creates an empty table with these column headers.
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING);
        table.set_header(header.iter().map(|head| head.to_uppercase()));
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().collect::<Vec<_>>());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let lines: Vec<&str> = text.lines().map(|line| line.trim()).collect();
        formatter.write_str(&lines.join("\n"))
    }
}
