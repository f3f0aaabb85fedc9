//! What commands for people print: a sheet of rows as a table, as names, as CSV, as JSON or as YAML. The
//! only place that writes to standard output for them.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anyhow::Context;
use clap::ValueEnum;
use jiff::Timestamp;
use rouse_core::explain::health::Grade;
use serde::Serialize;

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Table,
    /// For people with room: with more columns.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// For other commands: only which objects they are.
    Name,
    /// For spreadsheets.
    Csv,
}

impl Form {
    /// Whether people read it.
    pub const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
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
    /// How many of the columns a table has that is not wide; none for all.
    pub narrow: Option<usize>,
    /// Which objects they are, such as `function.rouse.dev/hello`.
    pub names: Vec<String>,
    /// How good each row is, and in which column that is seen; none where that means nothing.
    pub grades: Option<(usize, Vec<Grade>)>,
}

impl Sheet {
    /// Puts a column before the others.
    pub fn lead(&mut self, head: &'static str, cells: impl Iterator<Item = String>) {
        self.head.insert(0, head);
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.insert(0, cell);
        }
        self.narrow = self.narrow.map(|columns| columns + 1);
        self.grades = self.grades.take().map(|(column, grades)| (column + 1, grades));
    }

    /// Prints the sheet in `form`, with colours where somebody sees them.
    pub fn print(&self, form: Form, value: &impl Serialize) -> anyhow::Result<()> {
        if form.is_for_people() && is_coloured() {
            return print(&self.table(form, true));
        }
        print(&self.render(form, value)?)
    }

    /// The sheet in `form`; where that is for programs, `value` is told instead of the rows.
    pub fn render(&self, form: Form, value: &impl Serialize) -> anyhow::Result<String> {
        match form {
            Form::Table | Form::Wide => Ok(self.table(form, false)),
            Form::Name => Ok(lines(&self.names)),
            Form::Csv => Ok(self.csv()),
            Form::Json => Ok(serde_json::to_string_pretty(value)
                .context("writing the answer as JSON")?
                + "\n"),
            Form::Yaml => serde_saphyr::to_string(value).context("writing the answer as YAML"),
        }
    }

    fn table(&self, form: Form, coloured: bool) -> String {
        let mut text = String::new();
        let columns = match form {
            Form::Table => self.narrow.unwrap_or(self.head.len()),
            _ => self.head.len(),
        };
        if !self.rows.is_empty() {
            let width = |column: usize| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let cells = cells.map(|cell| cell.chars().count());
                let head = self.head.get(column).map_or(0, |head| head.len());
                cells.chain([head]).max().unwrap_or_default()
            };
            let widths: Vec<usize> = (0..columns).map(width).collect();
            let head: Vec<String> = self.head.iter().map(|name| (*name).to_owned()).collect();
            let grades = self.grades.as_ref().filter(|_| coloured);
            let style = |row: usize, column: usize| {
                let (_, grades) = grades.filter(|(graded, _)| *graded == column)?;
                grades.get(row.checked_sub(1)?).map(|grade| style_of(*grade))
            };
            for (number, row) in [&head].into_iter().chain(&self.rows).enumerate() {
                let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                    let padded = format!("{cell:<width$}");
                    match style(number, column) {
                        Some(style) => format!("{style}{padded}{style:#}"),
                        None => padded,
                    }
                });
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

/// Each on a line of its own.
fn lines(texts: &[String]) -> String {
    texts.iter().flat_map(|text| [text.as_str(), "\n"]).collect()
}

/// A cell of CSV, by RFC 4180.
fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// How `grade` is shown to who sees colours.
pub const fn style_of(grade: Grade) -> Style {
    let colour = match grade {
        Grade::Good => AnsiColor::Green,
        Grade::Changing => AnsiColor::Yellow,
        Grade::Bad => AnsiColor::Red,
    };
    colour.on_default()
}

/// Whether standard output is a terminal whose user wants colours (`NO_COLOR` says that he doesn't).
pub fn is_coloured() -> bool {
    AutoStream::choice(&std::io::stdout()) != ColorChoice::Never
}

/// How long ago something was, as `kubectl` tells it.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Prints `text`. Whoever reads no further, such as `head`, is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes()).map(drop)
}

/// Prints what need not be text; gives whether somebody still reads.
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("printing"),
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
            names: vec!["kind/one".into(), "kind/two".into()],
            grades: Some((0, vec![Grade::Good, Grade::Bad])),
            ..Sheet::default()
        }
    }

    #[test]
    fn a_table_lines_up_and_a_csv_quotes() {
        let table = "A          LONG\nwide cell  1\nx          a, \"b\"\nThat is all.\n";
        assert_eq!(sheet().render(Form::Table, &()).unwrap(), table);
        let csv = "A,LONG\nwide cell,1\nx,\"a, \"\"b\"\"\"\n";
        assert_eq!(sheet().render(Form::Csv, &()).unwrap(), csv);
        assert_eq!(sheet().render(Form::Name, &()).unwrap(), "kind/one\nkind/two\n");
    }

    #[test]
    fn a_narrow_table_has_fewer_columns() {
        let sheet = Sheet { narrow: Some(1), ..sheet() };
        assert_eq!(sheet.render(Form::Table, &()).unwrap(), "A\nwide cell\nx\nThat is all.\n");
        assert!(sheet.render(Form::Wide, &()).unwrap().starts_with("A          LONG\n"));
    }

    #[test]
    fn colours_stand_around_cells_as_wide_as_they_are_without() {
        let coloured = sheet().table(Form::Table, true);
        let lines: Vec<&str> = coloured.lines().collect();
        assert_eq!(lines[0], "A          LONG");
        assert_eq!(lines[1], "\x1b[32mwide cell\x1b[0m  1");
        assert_eq!(lines[2], "\x1b[31mx        \x1b[0m  a, \"b\"");
    }

    #[test]
    fn programs_get_values() {
        let value = std::collections::BTreeMap::from([("a", 1)]);
        assert_eq!(sheet().render(Form::Json, &value).unwrap(), "{\n  \"a\": 1\n}\n");
        assert_eq!(sheet().render(Form::Yaml, &value).unwrap().trim_end(), "a: 1");
    }

    #[test]
    fn ages_are_short() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let of = |seconds: i64| age(Timestamp::from_second(1_000_000 - seconds).unwrap(), now);
        let all = [of(0), of(119), of(120), of(7200), of(200_000), of(-5)];
        assert_eq!(all, ["0s", "119s", "2m", "2h", "2d", "0s"]);
    }
}
