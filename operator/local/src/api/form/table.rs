//! Objects as rows, for `kubectl get`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::kinds::{Column, Kind};
use crate::api::meta;

/// Whether there is more to show of a kind than its names and ages, which clients do by themselves.
pub(super) fn has_columns(kind: &Kind) -> bool {
    !kind.columns.is_empty()
}

/// A table of `objects`. Without its head where that was told before.
pub(super) fn table(
    kind: &Kind,
    objects: &[&Value],
    (metadata, with_head): (&Value, bool),
    now: Timestamp,
) -> Value {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "priority": 0, "description": "",
    });
    let others = kind.columns.iter().map(|column| {
        json!({
            "name": column.name, "type": column.sort, "format": "", "description": "",
            "priority": column.priority,
        })
    });
    let head: Vec<Value> = std::iter::once(name).chain(others).collect();
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, now)).collect();
    let mut table = json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "rows": rows,
    });
    if !metadata.is_null() {
        meta::set(&mut table, &["metadata"], metadata.clone());
    }
    if with_head {
        meta::set(&mut table, &["columnDefinitions"], head);
    }
    table
}

fn row(kind: &Kind, object: &Value, now: Timestamp) -> Value {
    let mut cells = vec![json!(meta::name(object))];
    cells.extend(kind.columns.iter().map(|column| cell(column, object, now)));
    json!({"cells": cells, "object": super::metadata_of(object)})
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let Some(found) = find(object, &column.path) else { return Value::Null };
    match (column.sort.as_str(), found) {
        ("date", Value::String(at)) => match at.parse::<Timestamp>() {
            Ok(at) => json!(age(now.duration_since(at).as_secs())),
            Err(_) => Value::Null,
        },
        ("integer" | "number" | "boolean", found) => found.clone(),
        (_, Value::String(text)) => json!(text),
        (_, found) => json!(found.to_string()),
    }
}

/// What `path` leads to: fields, members by number, and members by the value of a field.
fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = object;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[?(@.") {
            let (test, after) = after.split_once(")]")?;
            let (field, wanted) = test.split_once("==")?;
            let wanted = wanted.trim().trim_matches(['\'', '"']);
            let is = |item: &&Value| item.get(field.trim()).and_then(Value::as_str) == Some(wanted);
            value = value.as_array()?.iter().find(is)?;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (at, after) = after.split_once(']')?;
            value = value.get(at.parse::<usize>().ok()?)?;
            rest = after;
        } else {
            let after = rest.strip_prefix('.').unwrap_or(rest);
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (field, after) = after.split_at_checked(end)?;
            value = value.get(field)?;
            rest = after;
        }
    }
    Some(value)
}

/// A time as people say it.
fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_fields_and_members() {
        let object = json!({"a": {"b": [{"type": "x", "v": 1}, {"type": "Ready", "v": 2}]}});
        let found = |path| find(&object, path).cloned();
        assert_eq!(found(".a.b[?(@.type=='Ready')].v"), Some(json!(2)));
        assert_eq!(found(".a.b[0].v"), Some(json!(1)));
        assert_eq!(found(".a.c.d"), None);
        assert_eq!(found(".a.b[?(@.type=='None')].v"), None);
        assert_eq!(age(119), "119s");
        assert_eq!(age(7199), "119m");
        assert_eq!(age(300_000), "3d");
    }
}
