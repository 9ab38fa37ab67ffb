//! Rows under headings, for people.

use super::one_line;

/// Rows of cells in columns as wide as they need to be.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which line up on the right.
    right: &'static [usize],
    /// Characters of a line; the last column is cut there.
    width: Option<usize>,
}

impl Table {
    /// Under these headings. `right` are the columns that line up on the right; `width` is the terminal's, if it is one.
    pub(crate) fn new(headings: &[&str], right: &'static [usize], width: Option<usize>) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()], right, width }
    }

    /// Adds a row, with a cell for each heading.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell)).collect());
    }

    /// The table as lines.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = |text: &str| text.chars().count();
        let cell = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| length(cell));
        let widths: Vec<_> =
            (0..columns).map(|column| self.rows.iter().map(|row| cell(row, column)).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(length(cell)));
                if self.right.contains(&column) {
                    line += &pad;
                    line += cell;
                } else {
                    line += cell;
                    line += &pad;
                }
                line += "  ";
            }
            text += &cut(line.trim_end(), self.width);
            text.push('\n');
        }
        text
    }
}

fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_last_is_cut() {
        let mut table = Table::new(&["NAME", "SIZE", "WHAT"], &[1], Some(20));
        table.row(["a".to_owned(), "5 B".to_owned(), "fits".to_owned()]);
        table.row(["longer".to_owned(), "10.0 MB".to_owned(), "does\nnot".to_owned()]);
        table.row(["none".to_owned(), String::new(), String::new()]);
        let expect = "\
NAME       SIZE  WHAT
a           5 B  fits
longer  10.0 MB  do…
none
";
        assert_eq!(table.text(), expect.replace("WHAT", "WH…").replace("fits", "fi…"));
    }
}
