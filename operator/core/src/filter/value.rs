//! Events as filters see them.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};
use serde_json::Value as Json;

use crate::event::{CloudEvent, Data, is_json};

/// Text of this length counts as one value.
const TEXT: usize = 64;

/// The attributes by their names; those that an event does not have are missing.
pub(super) fn of_attributes(event: &CloudEvent) -> Value {
    let CloudEvent { id, source, kind, time, subject, extensions, data } = event;
    let mut attributes = HashMap::new();
    let mut add = |name: &str, value: &str| {
        attributes.insert(key(name), Value::from(value));
    };
    for (name, value) in extensions {
        add(name, value);
    }
    if let Some(subject) = subject {
        add("subject", subject);
    }
    add("id", id);
    add("source", source);
    add("type", kind);
    add("time", &time.to_string());
    let content_type = match data {
        Data::Json(_) => crate::event::CONTENT_TYPE_JSON,
        Data::Bytes { content_type, .. } => content_type,
    };
    add("datacontenttype", content_type);
    Value::Map(Map { map: Arc::new(attributes) })
}

/// The data: a JSON document as it is, text, or bytes. None where a document is nested too deep to
/// be read.
pub(super) fn of_data(data: &Data) -> Option<Value> {
    match data {
        Data::Json(document) => Some(of_json(document)),
        Data::Bytes { content_type, bytes } if is_json(content_type) => {
            match serde_json::from_slice(bytes) {
                Ok(document) => Some(of_json(&document)),
                Err(error) if error.to_string().contains("recursion limit") => None,
                Err(_) => Some(of_bytes(bytes)),
            }
        }
        Data::Bytes { bytes, .. } => Some(of_bytes(bytes)),
    }
}

fn of_bytes(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| Value::from(bytes.to_vec()), Value::from)
}

fn of_json(document: &Json) -> Value {
    match document {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => of_number(number),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(of_json).collect())),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (key(name), of_json(value)));
            Value::Map(Map { map: Arc::new(fields.collect()) })
        }
    }
}

/// JSON knows one sort of numbers, the language three that are never equal: what is whole is an
/// `int`, as it is written in filters.
fn of_number(number: &serde_json::Number) -> Value {
    /// Whole numbers below this are exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Value::Int(whole),
        (None, Some(number)) if number.fract() == 0.0 && number.abs() < EXACT =>
        {
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
            Value::Int(number as i64)
        }
        (None, Some(number)) => Value::Float(number),
        (None, None) => Value::Null,
    }
}

fn key(name: &str) -> Key {
    Key::String(Arc::new(name.to_owned()))
}

/// How many values an event has, where long text counts for several.
pub(super) fn size(event: &CloudEvent) -> u64 {
    let attributes = event.extensions.len() + 8 + event.id.len() / TEXT;
    let data = match &event.data {
        Data::Json(document) => size_of(document),
        // Each value of a document takes a byte at least, and most take several.
        Data::Bytes { content_type, bytes } if is_json(content_type) => bytes.len() / 8,
        Data::Bytes { bytes, .. } => bytes.len() / TEXT,
    };
    u64::try_from(attributes.saturating_add(data)).unwrap_or(u64::MAX)
}

fn size_of(document: &Json) -> usize {
    1 + match document {
        Json::String(text) => text.len() / TEXT,
        Json::Array(items) => items.iter().map(size_of).sum(),
        Json::Object(fields) => {
            fields.iter().map(|(name, value)| name.len() / TEXT + size_of(value)).sum()
        }
        _ => 0,
    }
}
