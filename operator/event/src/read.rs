//! Reads CloudEvents as they come over HTTP: binary, structured, and in batches. What is read here
//! can be sent on.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::cloudevents::{attributes, is_json};
use super::{CONTENT_TYPE_JSON, CloudEvent, Data, Invalid, Message};

const STRUCTURED: &str = "application/cloudevents";
const BATCH: &str = "application/cloudevents-batch";
/// Type of data that has none.
const BYTES: &str = "application/octet-stream";
/// Events that a batch may have.
const MOST: usize = 1000;

/// Why a request has no event that can be taken. Told to its sender.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// There is no event.
    #[error(
        "there is no event: send headers ce-id, ce-source, ce-type and ce-specversion, or a body of \
         application/cloudevents+json or application/cloudevents-batch+json"
    )]
    None,
    /// A format other than JSON.
    #[error("{0} is not a format that is understood: send JSON")]
    Format(String),
    /// A version of the specification that is not known.
    #[error("specversion {0:?} is not understood: it must be 1.0")]
    Version(String),
    /// An attribute is there twice.
    #[error("the attribute {0} is there twice")]
    Twice(String),
    /// An attribute has a value that it can't have.
    #[error("the attribute {0} has a value that it can't have: {1:?}")]
    Value(String, String),
    /// It is no JSON, or not what was said.
    #[error("the body is not {0}")]
    Body(&'static str),
    /// Too many events at once.
    #[error("{0} events are too many at once: send 1000 at most")]
    Many(usize),
    /// The event breaks a rule.
    #[error(transparent)]
    Event(#[from] Invalid),
    /// One of a batch is at fault.
    #[error("event {at} of the batch, counted from 0: {cause}")]
    Member {
        /// Which.
        at: usize,
        /// Why.
        cause: Box<Unreadable>,
    },
}

/// The events of a request whose headers' names are in lower case. An event without a time came to
/// be `now`.
pub fn read_events(message: &Message, now: Timestamp) -> Result<Vec<CloudEvent>, Unreadable> {
    let content_type = message.header("content-type").unwrap_or_default();
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !media.starts_with(STRUCTURED) {
        return Ok(vec![binary(message, content_type, now)?]);
    }
    if !media.ends_with("+json") {
        return Err(Unreadable::Format(media));
    }
    if !media.starts_with(BATCH) {
        let document = serde_json::from_slice(&message.body);
        let document = document.map_err(|_| Unreadable::Body("a JSON object"))?;
        return Ok(vec![structured(document, now)?]);
    }
    let documents: Vec<Value> =
        serde_json::from_slice(&message.body).map_err(|_| Unreadable::Body("a JSON array"))?;
    if documents.len() > MOST {
        return Err(Unreadable::Many(documents.len()));
    }
    let member = |(at, document)| {
        structured(document, now).map_err(|cause| Unreadable::Member { at, cause: Box::new(cause) })
    };
    documents.into_iter().enumerate().map(member).collect()
}

fn binary(message: &Message, content_type: &str, now: Timestamp) -> Result<CloudEvent, Unreadable> {
    let mut found = BTreeMap::new();
    let named =
        message.headers.iter().filter_map(|(name, value)| Some((name.strip_prefix("ce-")?, value)));
    for (name, value) in named {
        let text = decoded(value).ok_or_else(|| Unreadable::Value(name.into(), value.clone()))?;
        if found.insert(name.to_owned(), text).is_some() {
            return Err(Unreadable::Twice(name.into()));
        }
    }
    if found.is_empty() {
        return Err(Unreadable::None);
    }
    let content_type = if content_type.is_empty() { BYTES } else { content_type };
    let data = Data::Bytes { content_type: content_type.into(), bytes: message.body.clone() };
    assemble(found, data, now)
}

fn structured(document: Value, now: Timestamp) -> Result<CloudEvent, Unreadable> {
    let Value::Object(mut document) = document else {
        return Err(Unreadable::Body("a JSON object"));
    };
    let data = take_data(&mut document)?;
    let mut found = BTreeMap::new();
    for (name, value) in document {
        let text = match value {
            // An attribute that is null is one that is not there.
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(truth) => truth.to_string(),
            Value::Number(number) if number.is_i64() => number.to_string(),
            other => return Err(Unreadable::Value(name, other.to_string())),
        };
        found.insert(name, text);
    }
    assemble(found, data, now)
}

fn take_data(document: &mut Map<String, Value>) -> Result<Data, Unreadable> {
    let content_type = match document.remove("datacontenttype") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => return Err(Unreadable::Value("datacontenttype".into(), other.to_string())),
    };
    let (data, encoded) = (document.remove("data"), document.remove("data_base64"));
    let bytes = match (data, encoded) {
        (Some(_), Some(_)) => return Err(Unreadable::Twice("data".into())),
        (Some(value), None) => match (content_type.as_deref(), value) {
            (None | Some(CONTENT_TYPE_JSON), value) => return Ok(Data::Json(value)),
            (Some(kind), Value::String(text)) if !is_json(kind) => text.into_bytes(),
            (_, value) => serde_json::to_vec(&value).map_err(Invalid::Json)?,
        },
        (None, Some(Value::String(text))) => {
            let bytes = STANDARD.decode(&text);
            bytes.map_err(|_| Unreadable::Value("data_base64".into(), shortened(&text)))?
        }
        (None, Some(other)) => {
            return Err(Unreadable::Value("data_base64".into(), shortened(&other.to_string())));
        }
        (None, None) => Vec::new(),
    };
    Ok(Data::Bytes { content_type: content_type.unwrap_or_else(|| BYTES.into()), bytes })
}

fn assemble(
    mut found: BTreeMap<String, String>,
    data: Data,
    now: Timestamp,
) -> Result<CloudEvent, Unreadable> {
    let version = found.remove("specversion").ok_or(Invalid::Missing("specversion"))?;
    if version != "1.0" {
        return Err(Unreadable::Version(version));
    }
    let time = match found.remove("time") {
        Some(text) => text.parse().map_err(|_| Unreadable::Value("time".into(), text))?,
        None => now,
    };
    let mut required = |name| found.remove(name).ok_or(Invalid::Missing(name));
    let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
    let subject = found.remove("subject");
    let event = CloudEvent { id, source, kind, time, subject, extensions: found, data };
    attributes(&event)?;
    Ok(event)
}

/// A header's value without its percents and quotes; none if it is no UTF-8.
fn decoded(value: &str) -> Option<String> {
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = |_| rest.next().and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'%' => {
                let both = digit(0)? * 16 + digit(1)?;
                bytes.push(u8::try_from(both).ok()?);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{to_batch, to_binary, to_structured};
    use super::*;

    fn message(headers: &[(&str, &str)], body: &[u8]) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Message { headers: headers.collect(), body: body.to_vec() }
    }

    fn event() -> CloudEvent {
        CloudEvent {
            id: "1 \u{fc}%".into(),
            source: "/a".into(),
            kind: "b".into(),
            time: "2026-03-29T01:00:00.5Z".parse().unwrap(),
            subject: Some("a \"b\" c".into()),
            extensions: [("dataschema".into(), "https://a/b".into()), ("n".into(), "1".into())]
                .into(),
            data: Data::Bytes { content_type: "text/plain".into(), bytes: b"hi".to_vec() },
        }
    }

    fn read(message: &Message) -> Result<Vec<CloudEvent>, String> {
        read_events(message, Timestamp::UNIX_EPOCH).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let (event, kinds) = (event(), ["application/json", "application/a+json", "image/png"]);
        for (kind, bytes) in kinds.into_iter().zip([&b"[1]"[..], b"{}", &[0xff, 0]]) {
            let bytes = Data::Bytes { content_type: kind.into(), bytes: bytes.to_vec() };
            let event = CloudEvent { data: bytes, ..event.clone() };
            assert_eq!(read(&to_binary(&event).unwrap()).unwrap(), vec![event], "{kind}");
        }
        let json = CloudEvent { data: Data::Json(json!({"a": [1]})), ..event.clone() };
        let raw = Data::Bytes { content_type: "image/png".into(), bytes: vec![0xff, 0] };
        let raw = CloudEvent { data: raw, ..event.clone() };
        for event in [&event, &json, &raw] {
            assert_eq!(read(&to_structured(event).unwrap()).unwrap()[0], *event);
        }
        let all = [&event, &json, &raw];
        assert_eq!(read(&to_batch(&all).unwrap()).unwrap(), all.map(Clone::clone));
    }

    #[test]
    fn a_sender_is_told_what_is_wrong() {
        let needed =
            [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/a"), ("ce-type", "b")];
        let refused =
            |more: &[(&str, &str)]| read(&message(&[&needed[..], more].concat(), b"")).unwrap_err();
        assert!(read(&message(&needed, b"")).is_ok());
        assert!(read(&message(&[], b"{}")).unwrap_err().starts_with("there is no event"));
        assert_eq!(read(&message(&needed[1..], b"")).unwrap_err(), "the event has no specversion");
        assert_eq!(read(&message(&needed[..3], b"")).unwrap_err(), "the event has no type");
        assert_eq!(refused(&[("ce-id", "2")]), "the attribute id is there twice");
        assert!(refused(&[("ce-time", "noon")]).contains("time has a value"));
        assert!(refused(&[("ce-subject", "%f")]).contains("subject has a value"));
        assert!(refused(&[("ce-subject", "a%0Db")]).contains("control characters"));
        assert!(refused(&[("ce-not-plain", "1")]).contains("can't have an attribute"));
        let body =
            |kind: &str, body: &str| read(&message(&[("content-type", kind)], body.as_bytes()));
        let (one, batch) =
            ("application/cloudevents+json", "Application/CloudEvents-Batch+JSON; a=b");
        assert_eq!(body(one, "[]").unwrap_err(), "the body is not a JSON object");
        assert_eq!(body(batch, "{}").unwrap_err(), "the body is not a JSON array");
        assert_eq!(body(batch, "[]").unwrap(), []);
        assert!(body("application/cloudevents+xml", "").unwrap_err().contains("send JSON"));
        let last = r#"[{"specversion": "1.0", "id": "1", "source": "/a", "type": "b"}, {"specversion": "0.3"}]"#;
        let told = body(batch, last).unwrap_err();
        assert!(told.starts_with("event 1 of the batch") && told.contains("0.3"), "{told}");
    }
}
