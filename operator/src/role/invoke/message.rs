//! What is sent to a Function: the user's bytes as they are, as a CloudEvent, or as an event for a
//! handler of Lambda.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use rouse_event::{
    CONTENT_TYPE_JSON, CloudEvent, Data, Message, lambda_message, read_events, to_binary,
    to_event_bus,
};
use serde_json::Value;

use super::args::BodyArgs;

/// Content type of a CloudEvent in its JSON form.
const STRUCTURED: &str = "application/cloudevents+json";
/// That of any text.
const TEXT: &str = "text/plain; charset=utf-8";
/// That of anything.
const BYTES: &str = "application/octet-stream";
/// The source of events that are made here.
const SOURCE: &str = "/rouse/invoke";

/// What `args` name; none where nothing is to be sent but the request.
pub fn message(args: &BodyArgs, now: Timestamp) -> anyhow::Result<Option<Message>> {
    if let Some(file) = &args.event {
        let event = event_of(read(file)?, now)
            .with_context(|| format!("{} holds no CloudEvent in its JSON form", file.display()))?;
        return send_event(&event, args.lambda).map(Some);
    }
    let bytes = match (&args.data, &args.file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(file)) => Some(read(file)?),
        (None, None) => None,
    };
    if let Some(kind) = &args.event_type {
        let event = make_event(kind, bytes.unwrap_or_default(), now);
        return send_event(&event, args.lambda).map(Some);
    }
    let Some(bytes) = bytes else { return Ok(None) };
    if args.lambda {
        let document: Value =
            serde_json::from_slice(&bytes).context("an event for a handler of Lambda is JSON")?;
        return Ok(Some(lambda_message(&document)?));
    }
    let kind = content_type(&bytes);
    Ok(Some(Message { headers: vec![("content-type".into(), kind.into())], body: bytes }))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("reading standard input")?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("reading {}", file.display()))
}

fn event_of(body: Vec<u8>, now: Timestamp) -> anyhow::Result<CloudEvent> {
    let headers = vec![("content-type".into(), STRUCTURED.into())];
    let mut events = read_events(&Message { headers, body }, now)?;
    ensure!(events.len() == 1, "there are {} events, and one is sent at a time", events.len());
    events.pop().context("an event")
}

/// An event of this type that nobody has sent before.
fn make_event(kind: &str, data: Vec<u8>, now: Timestamp) -> CloudEvent {
    let data = match serde_json::from_slice(&data) {
        Ok(document) => Data::Json(document),
        Err(_) if data.is_empty() => Data::Json(Value::Null),
        Err(_) => Data::Bytes { content_type: content_type(&data).to_owned(), bytes: data },
    };
    CloudEvent {
        id: format!("{}-{}", now.as_nanosecond(), std::process::id()),
        source: SOURCE.to_owned(),
        kind: kind.to_owned(),
        time: now,
        subject: None,
        extensions: std::collections::BTreeMap::new(),
        data,
    }
}

fn send_event(event: &CloudEvent, lambda: bool) -> anyhow::Result<Message> {
    let message = if lambda { to_event_bus(&[event]) } else { to_binary(event) };
    message.context("making what is sent of the event")
}

fn content_type(bytes: &[u8]) -> &'static str {
    if serde_json::from_slice::<Value>(bytes).is_ok() {
        CONTENT_TYPE_JSON
    } else if std::str::from_utf8(bytes).is_ok() {
        TEXT
    } else {
        BYTES
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(args: &BodyArgs) -> anyhow::Result<Option<Message>> {
        message(args, Timestamp::UNIX_EPOCH)
    }

    fn data(text: &str) -> BodyArgs {
        BodyArgs { data: Some(text.into()), ..BodyArgs::default() }
    }

    #[test]
    fn bytes_are_sent_as_they_are_with_what_they_look_like() {
        assert_eq!(of(&BodyArgs::default()).unwrap(), None);
        for (text, kind) in [("{\"a\": 1}", CONTENT_TYPE_JSON), ("a b", TEXT)] {
            let message = of(&data(text)).unwrap().unwrap();
            assert_eq!(message.header("content-type"), Some(kind));
            assert_eq!(message.body, text.as_bytes());
        }
        assert_eq!(content_type(&[0xff]), BYTES);
    }

    #[test]
    fn data_becomes_an_event_of_a_type() {
        let args = BodyArgs { event_type: Some("shop.ordered".into()), ..data("{\"total\": 7}") };
        let message = of(&args).unwrap().unwrap();
        assert_eq!(message.header("ce-type"), Some("shop.ordered"));
        assert_eq!(message.header("ce-source"), Some(SOURCE));
        assert_eq!(message.body, b"{\"total\":7}");
    }

    #[test]
    fn an_event_from_a_file_keeps_its_attributes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let event =
            json!({"specversion": "1.0", "id": "7", "source": "/s", "type": "t", "data": {"a": 1}});
        std::fs::write(file.path(), event.to_string()).unwrap();
        let args = BodyArgs { event: Some(file.path().into()), ..BodyArgs::default() };
        let message = of(&args).unwrap().unwrap();
        assert_eq!(
            (message.header("ce-id"), message.body.as_slice()),
            (Some("7"), &b"{\"a\":1}"[..])
        );
        std::fs::write(file.path(), "{}").unwrap();
        assert!(of(&args).unwrap_err().to_string().contains("no CloudEvent"));
    }

    #[test]
    fn a_handler_of_lambda_gets_its_event() {
        let args = BodyArgs { lambda: true, ..data("{\"key\": \"v\"}") };
        let message = of(&args).unwrap().unwrap();
        assert_eq!(message.header(rouse_event::EVENT_HEADER), Some("lambda"));
        assert!(of(&BodyArgs { lambda: true, ..data("no json") }).is_err());
    }
}
