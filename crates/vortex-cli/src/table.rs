//! Columns for people.

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use crate::escape::escaped;

pub(crate) const PLAIN: Style = Style::new();
pub(crate) const HEAD: Style = Style::new().bold();
pub(crate) const FAINT: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

/// Text in a style; the stream takes the style out again where nobody would see it.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// What stands in one place of a table: escaped text, and a style.
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>, style: Style) -> Self {
        let text = escaped(text.as_ref());
        Self { text, style }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, PLAIN)
    }
}

/// Rows of cells, each column as wide as its widest cell.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table whose first row says what the columns are.
    pub(crate) fn with_head(head: &[&str]) -> Self {
        let head = head.iter().map(|text| Cell::new(text, HEAD)).collect();
        Self { rows: vec![head] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    /// A row of two cells, the first of which says what the second is.
    pub(crate) fn field(&mut self, name: &str, value: impl Into<Cell>) {
        self.row([Cell::new(name, FAINT), value.into()]);
    }

    /// The rows as lines, without spaces at their ends.
    pub(crate) fn lines(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut lines = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| !cell.text.is_empty());
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if last.is_none_or(|last| at > last) {
                    break;
                }
                lines.push_str(&styled(cell.style, &cell.text));
                if last.is_some_and(|last| at < last) {
                    let padding = width - cell.text.width() + 2;
                    lines.extend(std::iter::repeat_n(' ', padding));
                }
            }
            lines.push('\n');
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let mut table = Table::with_head(&["NAME", "N"]);
        table.row(["日本".into(), "1".into()]);
        table.row([Cell::new("a\x1b", BAD), "".into()]);
        let lines = anstream::adapter::strip_str(&table.lines()).to_string();
        assert_eq!(lines, "NAME     N\n日本     1\na\\u{1b}\n");
    }
}
