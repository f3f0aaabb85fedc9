//! Metadata of Rouse's own kinds, which no schema describes and every reader has a type for: what is
//! unknown, and what is of another type. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::api::answer::{Fault, FieldError};
use crate::api::meta::{NAMES, NEVER, OURS};

/// Metadata that whoever likes may write, beside names.
const OTHERS: [&str; 4] = ["annotations", "finalizers", "labels", "ownerReferences"];
/// Letters of a label's value, as of the name in its key.
const LONGEST_NAME: usize = 63;

/// Takes out what no object has, and gives its paths.
pub(super) fn prune(object: &mut Value) -> Vec<String> {
    let Some(Value::Object(members)) = object.get_mut("metadata") else { return Vec::new() };
    let known = [&OTHERS[..], &NAMES, &OURS, &NEVER].concat();
    let mut unknown = Vec::new();
    members.retain(|name, _| {
        let is_known = known.contains(&name.as_str());
        if !is_known {
            unknown.push(format!("metadata.{name}"));
        }
        is_known
    });
    unknown
}

/// What is wrong with it. Whoever reads such an object would fail at all of its kind.
pub(super) fn check(object: &Value) -> Vec<FieldError> {
    let Some(metadata) = object.get("metadata") else { return Vec::new() };
    let mut errors = Vec::new();
    for field in ["labels", "annotations"] {
        let members = metadata.get(field).and_then(Value::as_object).into_iter().flatten();
        for (name, value) in members {
            let path = format!("metadata.{field}.{name}");
            match value.as_str() {
                None => errors.push(no_text(&path, value)),
                Some(text) if field == "labels" && !is_label(text) => {
                    errors.push(FieldError::of_value(&path, Fault::Invalid, value, LABEL));
                }
                Some(_) => {}
            }
        }
    }
    if errors.is_empty()
        && let Err(error) = serde_json::from_value::<ObjectMeta>(metadata.clone())
    {
        errors.push(FieldError::new("metadata", Fault::Type, error.to_string()));
    }
    errors
}

/// The API server's words, letter for letter.
const LABEL: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', \
    '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  \
    or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_label(text: &str) -> bool {
    let is_end = |letter: Option<char>| letter.is_none_or(|it| it.is_ascii_alphanumeric());
    let inner = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    text.len() <= LONGEST_NAME
        && text.chars().all(inner)
        && is_end(text.chars().next())
        && is_end(text.chars().next_back())
}

fn no_text(path: &str, value: &Value) -> FieldError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let why = format!("{path} must be of type string, so write it in quotes: {found:?}");
    FieldError::of_value(path, Fault::Type, &json!(found), why)
}
