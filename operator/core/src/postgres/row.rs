//! Rows as JSON.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::wire::{Cell, Column, Malformed, Relation};

/// A row, and the columns of which it does not tell the value.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Row {
    pub values: Map<String, Value>,
    pub unchanged: Vec<String>,
}

impl Row {
    /// A row of which only the `wanted` columns matter. A value that PostgreSQL left out because it
    /// did not change is taken from the row `before`, where that is whole.
    pub fn of(
        relation: &Relation,
        cells: &[Cell<'_>],
        wanted: impl Fn(&Column) -> bool,
        before: Option<&[Cell<'_>]>,
    ) -> Result<Self, Malformed> {
        check(relation, cells)?;
        let mut row = Self::default();
        for (place, (column, cell)) in relation.columns.iter().zip(cells).enumerate() {
            if !wanted(column) {
                continue;
            }
            let earlier = before.and_then(|cells| cells.get(place)).unwrap_or(cell);
            let cell = if *cell == Cell::Unchanged { earlier } else { cell };
            match to_json(column.kind, *cell) {
                Some(value) => {
                    row.values.insert(column.name.clone(), value);
                }
                None => row.unchanged.push(column.name.clone()),
            }
        }
        Ok(row)
    }
}

/// What identifies a row within its table: the values of its key, none where it has none or where
/// all columns are the key, which is no more the same after a change. A large part of it that did
/// not change is taken from the row `before`.
pub(super) fn key(
    relation: &Relation,
    cells: &[Cell<'_>],
    before: Option<&[Cell<'_>]>,
) -> Result<Option<String>, Malformed> {
    check(relation, cells)?;
    if relation.full {
        return Ok(None);
    }
    let columns = relation.columns.iter().zip(cells).enumerate();
    let parts =
        columns.filter(|(_, (column, _))| column.key).map(|(place, (_, cell))| match cell {
            Cell::Unchanged => before.and_then(|cells| cells.get(place)).unwrap_or(cell),
            Cell::Null | Cell::Text(_) => cell,
        });
    let values = parts.map(|cell| match cell {
        Cell::Text(text) => escape(text),
        Cell::Null | Cell::Unchanged => String::new(),
    });
    let values: Vec<_> = values.collect();
    Ok((!values.is_empty()).then(|| values.join(",")))
}

/// So that keys of several columns are told apart, as `,` divides them, and that the key may be an
/// attribute of an event, which holds no control characters.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '%' || c == ',' || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a string can't fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn check(relation: &Relation, cells: &[Cell<'_>]) -> Result<(), Malformed> {
    let (row, table) = (cells.len(), relation.columns.len());
    if row == table { Ok(()) } else { Err(Malformed::Columns { row, table }) }
}

/// Numbers of types in PostgreSQL's catalogue, which never change.
mod kind {
    pub const BOOL: u32 = 16;
    pub const INT8: u32 = 20;
    pub const INT2: u32 = 21;
    pub const INT4: u32 = 23;
    pub const JSON: u32 = 114;
    pub const FLOAT4: u32 = 700;
    pub const FLOAT8: u32 = 701;
    pub const JSONB: u32 = 3802;
}

/// A value: booleans, integers, floats and JSON as themselves, all else, and what JSON can't say, as
/// the text that PostgreSQL shows. `numeric` is a text too, as a JSON number would lose digits.
fn to_json(kind: u32, cell: Cell<'_>) -> Option<Value> {
    let text = match cell {
        Cell::Null => return Some(Value::Null),
        Cell::Unchanged => return None,
        Cell::Text(text) => text,
    };
    let value = match kind {
        kind::BOOL => Some(Value::Bool(text == "t")),
        kind::INT2 | kind::INT4 | kind::INT8 => text.parse::<i64>().ok().map(Value::from),
        kind::FLOAT4 | kind::FLOAT8 => {
            let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number.map(Value::Number)
        }
        kind::JSON | kind::JSONB => serde_json::from_str(text).ok(),
        _ => None,
    };
    Some(value.unwrap_or_else(|| Value::String(text.to_owned())))
}
