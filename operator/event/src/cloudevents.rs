//! CloudEvents over HTTP: binary (one event, its attributes in headers), structured (one document),
//! and batches of documents.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{CONTENT_TYPE_JSON, CloudEvent, Data, Invalid, Message};

const SPEC_VERSION: &str = "1.0";
/// Attributes that the specification knows, and names that JSON documents use: no extensions. Not so
/// `dataschema`, which is only ever passed on.
const TAKEN: [&str; 9] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "datacontenttype",
    "data",
    "database64",
];
/// Longest name of an attribute that everybody must be able to pass on.
const LONGEST_NAME: usize = 20;

/// One event whose attributes are headers and whose data is the body.
pub fn to_binary(event: &CloudEvent) -> Result<Message, Invalid> {
    let mut headers: Vec<(String, String)> = attributes(event)?
        .into_iter()
        .map(|(name, value)| (format!("ce-{name}"), header_value(value)))
        .collect();
    let (content_type, body) = match &event.data {
        Data::Json(value) => (CONTENT_TYPE_JSON, serde_json::to_vec(value)?),
        Data::Bytes { content_type, bytes } => (content_type.as_str(), bytes.clone()),
    };
    headers.push(("content-type".into(), content_type.into()));
    Ok(Message { headers, body })
}

/// One event as a JSON document.
pub fn to_structured(event: &CloudEvent) -> Result<Message, Invalid> {
    let body = serde_json::to_vec(&document(event)?)?;
    Ok(json_message("application/cloudevents+json; charset=utf-8", body))
}

/// Several events as a JSON array. To be used only where it was asked for: receivers may take a
/// batch for one event.
pub fn to_batch(events: &[&CloudEvent]) -> Result<Message, Invalid> {
    let documents = events.iter().map(|event| document(event)).collect::<Result<Vec<_>, _>>()?;
    let body = serde_json::to_vec(&documents)?;
    Ok(json_message("application/cloudevents-batch+json; charset=utf-8", body))
}

fn json_message(content_type: &str, body: Vec<u8>) -> Message {
    Message { headers: vec![("content-type".into(), content_type.into())], body }
}

fn document(event: &CloudEvent) -> Result<Value, Invalid> {
    let mut document: Map<String, Value> = attributes(event)?
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect();
    match &event.data {
        Data::Json(value) => {
            document.insert("datacontenttype".into(), json!(CONTENT_TYPE_JSON));
            document.insert("data".into(), value.clone());
        }
        Data::Bytes { content_type, bytes } => {
            document.insert("datacontenttype".into(), json!(content_type));
            let (name, value) = member(content_type, bytes);
            document.insert(name.into(), value);
        }
    }
    Ok(Value::Object(document))
}

/// The member of a document that holds `bytes`. Data of a JSON type must be JSON there, since readers
/// take a string for a document that is a string; what only claims to be JSON stays as it is.
fn member(content_type: &str, bytes: &[u8]) -> (&'static str, Value) {
    let text = if is_json(content_type) {
        serde_json::from_slice(bytes).ok()
    } else {
        std::str::from_utf8(bytes).ok().map(Value::from)
    };
    text.map_or_else(|| ("data_base64", json!(base64(bytes))), |value| ("data", value))
}

/// Whether a content type is `*/json` or `*/*+json`.
pub fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

/// The attributes of an event that is as the specification wants it, but for the type of its data.
pub(super) fn attributes(event: &CloudEvent) -> Result<Vec<(&str, String)>, Invalid> {
    let required = [("id", &event.id), ("source", &event.source), ("type", &event.kind)];
    if let Some((name, _)) = required.iter().find(|(_, value)| value.is_empty()) {
        return Err(Invalid::Missing(name));
    }
    let plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c);
    if !event.source.chars().all(plain) {
        return Err(Invalid::Source(event.source.clone()));
    }
    if let Data::Bytes { content_type, .. } = &event.data
        && !(content_type.contains('/') && content_type.chars().all(|c| matches!(c, ' '..='~')))
    {
        return Err(Invalid::ContentType(content_type.clone()));
    }
    let mut attributes: Vec<(&str, String)> = vec![("specversion", SPEC_VERSION.into())];
    attributes.extend(required.map(|(name, value)| (name, value.clone())));
    attributes.push(("time", event.time.to_string()));
    attributes.extend(event.subject.iter().map(|subject| ("subject", subject.clone())));
    for (name, value) in &event.extensions {
        let fits = (1..=LONGEST_NAME).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !fits || TAKEN.contains(&name.as_str()) {
            return Err(Invalid::Name(name.clone()));
        }
        attributes.push((name, value.clone()));
    }
    match attributes.iter().find(|(_, value)| value.chars().any(char::is_control)) {
        Some((name, _)) => Err(Invalid::Value((*name).to_owned())),
        None => Ok(attributes),
    }
}

/// A value as a header carries it: what is not plain ASCII, and what would be ambiguous, in percent.
fn header_value(value: String) -> String {
    if value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'%') {
        return value;
    }
    let mut encoded = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
