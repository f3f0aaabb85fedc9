//! Walks objects along a structural schema: what is unknown, what is missing, what is wrong. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use regex::Regex;
use serde_json::{Map, Number, Value, json};

use super::Broken;
use crate::api::answer::{Fault, FieldError};

/// What every object has, whatever its schema says.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Reads all patterns, each once.
pub(super) fn collect_patterns(
    schema: &Value,
    patterns: &mut HashMap<String, Regex>,
) -> Result<(), Broken> {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !patterns.contains_key(pattern)
    {
        let read = Regex::new(pattern).map_err(|_| Broken::Pattern(pattern.to_owned()))?;
        patterns.insert(pattern.to_owned(), read);
    }
    parts(schema).try_for_each(|(_, part)| collect_patterns(part, patterns))
}

/// Takes out what is for people, which is half of it: here nobody reads it.
pub(super) fn drop_words(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            // A field of that name has a schema, and no text.
            members.retain(|name, member| name != "description" || !member.is_string());
            members.values_mut().for_each(drop_words);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_words),
        _ => {}
    }
}

/// The schemas below a schema.
fn parts(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let fields = fields.map(|(name, field)| (name.as_str(), field));
    let others = ["items", "additionalProperties"];
    let others = others.into_iter().filter_map(|name| Some((name, schema.get(name)?)));
    fields.chain(others.filter(|(_, part)| part.is_object()))
}

fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("properties")?.get(name)
}

fn keeps_unknown(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

/// The steps of a path such as `spec.env[1].name`.
pub(super) fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Takes out what the schema does not know of an object as a whole.
pub(super) fn prune_object(schema: &Value, object: &mut Value, unknown: &mut Vec<String>) {
    let Value::Object(members) = object else { return };
    let mut own = Map::new();
    for name in OF_EVERY_OBJECT {
        own.extend(members.remove_entry(name));
    }
    prune(schema, object, "", unknown);
    if let Value::Object(members) = object {
        members.extend(own);
    }
}

fn prune(schema: &Value, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let others = schema.get("additionalProperties").filter(|it| it.is_object());
            let keeps = keeps_unknown(schema) || others.is_some();
            members.retain(|name, _| {
                let known = keeps || property(schema, name).is_some();
                if !known {
                    unknown.push(join(path, name));
                }
                known
            });
            for (name, member) in members {
                if let Some(below) = property(schema, name).or(others) {
                    prune(below, member, &join(path, name), unknown);
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = schema.get("items") else { return };
            for (at, item) in items.iter_mut().enumerate() {
                prune(below, item, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}

/// Fills in defaults. A null that may not be one counts as missing where there is a default. Whole
/// numbers become such.
pub(super) fn set_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            let fields = schema.get("properties").and_then(Value::as_object);
            for (name, field) in fields.into_iter().flatten() {
                let Some(default) = field.get("default") else { continue };
                let nullable = field.get("nullable") == Some(&Value::Bool(true));
                let missing = |found: &Value| found.is_null() && !nullable;
                if members.get(name).is_none_or(missing) {
                    members.insert(name.clone(), default.clone());
                }
            }
            let others = schema.get("additionalProperties").filter(|it| it.is_object());
            for (name, member) in members {
                if let Some(below) = property(schema, name).or(others) {
                    set_defaults(below, member);
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = schema.get("items") {
                for item in items {
                    set_defaults(below, item);
                }
            }
        }
        Value::Number(number) if schema.get("type").and_then(Value::as_str) == Some("integer") => {
            // `5.0` is a whole number, and readers take it as `5` alone.
            if let Some(whole) = whole(number) {
                *number = whole.into();
            }
        }
        _ => {}
    }
}

/// The whole number that is written with a fraction of nothing.
fn whole(number: &Number) -> Option<i64> {
    // Beyond that not every whole number is one of these.
    const MOST: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|_| number.is_f64())?;
    #[allow(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
    (float.fract() == 0.0 && float.abs() <= MOST).then_some(float as i64)
}

/// Finds faults.
pub(super) struct Checker<'a> {
    patterns: &'a HashMap<String, Regex>,
    pub errors: Vec<FieldError>,
}

impl<'a> Checker<'a> {
    pub(super) const fn new(patterns: &'a HashMap<String, Regex>) -> Self {
        Self { patterns, errors: Vec::new() }
    }

    fn add(&mut self, path: &str, fault: Fault, value: &Value, why: &str) {
        self.errors.push(FieldError::of_value(path, fault, value, why));
    }

    /// A fault that the API server tells with the place of the value.
    fn in_body(&mut self, path: &str, value: &Value, why: &str) {
        self.add(path, Fault::Invalid, value, &format!("{path} in body {why}"));
    }

    /// Checks `value` and all below.
    pub(super) fn check(&mut self, schema: &Value, value: &Value, path: &str) {
        if !self.check_type(schema, value, path) {
            return;
        }
        self.check_enum(schema, value, path);
        match value {
            Value::String(text) => self.check_text(schema, text, value, path),
            Value::Number(_) => self.check_number(schema, value, path),
            Value::Array(items) => self.check_items(schema, items, path),
            Value::Object(members) => self.check_members(schema, members, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn check_type(&mut self, schema: &Value, value: &Value, path: &str) -> bool {
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return false;
        }
        let found = type_of(value);
        let fits = match schema.get("type").and_then(Value::as_str) {
            None if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) => {
                matches!(found, "integer" | "string")
            }
            None => true,
            Some("number") => matches!(found, "integer" | "number"),
            Some(wanted) => wanted == found,
        };
        if fits {
            return true;
        }
        let wanted = schema.get("type").and_then(Value::as_str).unwrap_or("integer,string");
        let why = format!("{path} in body must be of type {wanted}: {found:?}");
        self.add(path, Fault::Type, &json!(found), &why);
        false
    }

    fn check_enum(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(allowed) = schema.get("enum").and_then(Value::as_array) else { return };
        if allowed.contains(value) {
            return;
        }
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        let why = format!("supported values: {}", allowed.join(", "));
        self.add(path, Fault::NotSupported, value, &why);
    }

    fn check_text(&mut self, schema: &Value, text: &str, value: &Value, path: &str) {
        let length = text.chars().count() as u64;
        // The API server tells the first of these.
        if let Some(most) = bound(schema, "maxLength").filter(|most| length > *most) {
            let unit = if most == 1 { "byte" } else { "bytes" };
            let why = format!("may not be more than {most} {unit}");
            self.errors.push(FieldError::new(path, Fault::TooLong, why));
        } else if let Some(least) = bound(schema, "minLength").filter(|least| length < *least) {
            self.in_body(path, value, &format!("should be at least {least} chars long"));
        } else if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !self.patterns.get(pattern).is_some_and(|pattern| pattern.is_match(text))
        {
            self.in_body(path, value, &format!("should match '{pattern}'"));
        }
        if schema.get("format").and_then(Value::as_str) == Some("date-time")
            && text.parse::<Timestamp>().is_err()
        {
            self.in_body(path, value, &format!("must be of type date-time: {text:?}"));
        }
    }

    fn check_number(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(number) = value.as_f64() else { return };
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            self.in_body(path, value, &format!("should be greater than or equal to {least}"));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            self.in_body(path, value, &format!("should be less than or equal to {most}"));
        }
    }

    fn check_items(&mut self, schema: &Value, items: &[Value], path: &str) {
        let count = items.len() as u64;
        self.check_most(schema, "maxItems", count, path);
        if let Some(least) = bound(schema, "minItems").filter(|least| count < *least) {
            self.in_body(path, &json!(count), &format!("should have at least {least} items"));
        }
        self.check_doubles(schema, items, path);
        let Some(below) = schema.get("items") else { return };
        for (at, item) in items.iter().enumerate() {
            self.check(below, item, &format!("{path}[{at}]"));
        }
    }

    fn check_most(&mut self, schema: &Value, name: &str, count: u64, path: &str) {
        if let Some(most) = bound(schema, name).filter(|most| count > *most) {
            let unit = if most == 1 { "item" } else { "items" };
            let why = format!("must have at most {most} {unit}");
            self.add(path, Fault::TooMany, &json!(count), &why);
        }
    }

    /// Sets have no member twice, and maps no key.
    fn check_doubles(&mut self, schema: &Value, items: &[Value], path: &str) {
        let keys: Option<Vec<&str>> =
            match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("set") => None,
                Some("map") => schema
                    .get("x-kubernetes-list-map-keys")
                    .and_then(Value::as_array)
                    .map(|keys| keys.iter().filter_map(Value::as_str).collect()),
                _ => return,
            };
        let mut seen = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let key = match &keys {
                None => item.clone(),
                Some(keys) => {
                    let key = keys
                        .iter()
                        .filter_map(|key| Some(((*key).to_owned(), item.get(key)?.clone())));
                    Value::Object(key.collect())
                }
            };
            if seen.contains(&key) {
                let error =
                    FieldError::new(&format!("{path}[{at}]"), Fault::Duplicate, key.to_string());
                self.errors.push(error);
            } else {
                seen.push(key);
            }
        }
    }

    fn check_members(&mut self, schema: &Value, members: &Map<String, Value>, path: &str) {
        let count = members.len() as u64;
        self.check_most(schema, "maxProperties", count, path);
        if let Some(least) = bound(schema, "minProperties").filter(|least| count < *least) {
            self.in_body(path, &json!(count), &format!("should have at least {least} properties"));
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !members.contains_key(name) {
                self.errors.push(FieldError::new(&join(path, name), Fault::Required, ""));
            }
        }
        let others = schema.get("additionalProperties").filter(|it| it.is_object());
        for (name, member) in members {
            if let Some(below) = property(schema, name).or(others) {
                self.check(below, member, &join(path, name));
            }
        }
    }
}

fn bound(schema: &Value, name: &str) -> Option<u64> {
    let bound = schema.get(name)?;
    bound.as_u64()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => {
            if number.as_f64().is_some_and(|it| it.fract() == 0.0) { "integer" } else { "number" }
        }
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
