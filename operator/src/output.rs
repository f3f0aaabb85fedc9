//! What commands for people print: a sheet of rows as a table, as CSV, as JSON or as YAML. The only
//! place that writes to standard output for them.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// For spreadsheets.
    Csv,
}

/// Rows under a head.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// Names of the columns.
    pub head: Vec<&'static str>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
    /// What is said below a table, for people alone.
    pub notes: Vec<String>,
}

impl Sheet {
    /// The sheet in `form`; where that is for programs, `value` is told instead of the rows.
    pub fn render(&self, form: Form, value: &impl Serialize) -> anyhow::Result<String> {
        match form {
            Form::Table => Ok(self.table()),
            Form::Csv => Ok(self.csv()),
            Form::Json => Ok(serde_json::to_string_pretty(value)
                .context("writing the answer as JSON")?
                + "\n"),
            Form::Yaml => serde_saphyr::to_string(value).context("writing the answer as YAML"),
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        if !self.rows.is_empty() {
            let width = |column: usize| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let cells = cells.map(|cell| cell.chars().count());
                let head = self.head.get(column).map_or(0, |head| head.len());
                cells.chain([head]).max().unwrap_or_default()
            };
            let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
            let head: Vec<String> = self.head.iter().map(|name| (*name).to_owned()).collect();
            for row in [&head].into_iter().chain(&self.rows) {
                let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
                // Writing to a string can't fail.
                let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    fn csv(&self) -> String {
        let mut text = self.head.join(",") + "\n";
        for row in &self.rows {
            text += &row.iter().map(|cell| quote(cell)).collect::<Vec<_>>().join(",");
            text.push('\n');
        }
        text
    }
}

/// A cell of CSV, by RFC 4180.
fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// Prints `text`. Whoever reads no further, such as `head`, is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("printing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        Sheet {
            head: vec!["A", "LONG"],
            rows: vec![vec!["wide cell".into(), "1".into()], vec!["x".into(), "a, \"b\"".into()]],
            notes: vec!["That is all.".into()],
        }
    }

    #[test]
    fn a_table_lines_up_and_a_csv_quotes() {
        let table = "A          LONG\nwide cell  1\nx          a, \"b\"\nThat is all.\n";
        assert_eq!(sheet().render(Form::Table, &()).unwrap(), table);
        let csv = "A,LONG\nwide cell,1\nx,\"a, \"\"b\"\"\"\n";
        assert_eq!(sheet().render(Form::Csv, &()).unwrap(), csv);
    }

    #[test]
    fn programs_get_values() {
        let value = std::collections::BTreeMap::from([("a", 1)]);
        assert_eq!(sheet().render(Form::Json, &value).unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(sheet().render(Form::Yaml, &value).unwrap().trim_end(), "a: 1");
    }
}
