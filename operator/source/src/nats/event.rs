//! Makes events of messages. A message that is an event already, by headers `ce-*`, keeps what it
//! says of itself; any other gets what NATS knows of it. Pure.

use std::collections::BTreeMap;

use async_nats::{HeaderMap, HeaderValue, Message};
use jiff::Timestamp;
use rouse_core::event::{CloudEvent, Data};
use serde::de::IgnoredAny;

/// Longest name of an attribute.
const LONGEST_NAME: usize = 20;
/// Attributes that are fields of an event, or not passed on.
const OWN: [&str; 8] =
    ["id", "source", "type", "time", "subject", "specversion", "datacontenttype", "dataschema"];

/// What is known of a message but by itself.
pub(super) struct Origin {
    /// The same whenever the message is handed out.
    pub id: String,
    pub source: String,
    pub time: Timestamp,
}

/// The event of `message`.
pub(super) fn event_of(message: &Message, origin: Origin) -> CloudEvent {
    let headers = message.headers.as_ref();
    let said = headers.map(attributes).unwrap_or_default();
    let is_event = ["id", "source", "type"].iter().all(|name| said.contains_key(*name));
    let content_type = content_type(headers, &message.payload);
    let data = Data::Bytes { content_type, bytes: message.payload.to_vec() };
    let subject = Some(message.subject.to_string());
    let Origin { id, source, time } = origin;
    if !is_event {
        let msg_id = headers.and_then(|headers| headers.get("Nats-Msg-Id"));
        let extensions = msg_id
            .map(|id| ("natsmsgid".to_owned(), id.as_str().to_owned()))
            .filter(|(_, id)| !id.chars().any(char::is_control));
        return CloudEvent {
            id,
            source,
            kind: "dev.rouse.nats.message".into(),
            time,
            subject,
            extensions: extensions.into_iter().collect(),
            data,
        };
    }
    let own = |name: &str| said.get(name).cloned();
    CloudEvent {
        id: own("id").unwrap_or(id),
        source: own("source").unwrap_or(source),
        kind: own("type").unwrap_or_default(),
        time: own("time").and_then(|text| text.parse().ok()).unwrap_or(time),
        subject: own("subject").or(subject),
        extensions: said
            .iter()
            .filter(|(name, _)| !OWN.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        data,
    }
}

/// The attributes of an event in binary form that may be passed on.
fn attributes(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    for (name, values) in headers.iter() {
        let name = AsRef::<str>::as_ref(name).to_ascii_lowercase();
        let Some(name) = name.strip_prefix("ce-") else { continue };
        let Some(value) = values.first().map(HeaderValue::as_str) else { continue };
        let fits = (1..=LONGEST_NAME).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if fits && !value.is_empty() && !value.chars().any(char::is_control) {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    attributes
}

/// What the publisher says, or else what the bytes look like: few say anything.
fn content_type(headers: Option<&HeaderMap>, payload: &[u8]) -> String {
    let said = headers.and_then(|headers| {
        let name = |name: &str| name.eq_ignore_ascii_case("content-type");
        let (_, values) = headers.iter().find(|(key, _)| name(AsRef::<str>::as_ref(*key)))?;
        values.first().map(|value| value.as_str().to_owned())
    });
    let is_one = |text: &String| text.contains('/') && text.chars().all(|c| matches!(c, ' '..='~'));
    said.filter(is_one).unwrap_or_else(|| {
        let is_json = serde_json::from_slice::<IgnoredAny>(payload).is_ok();
        match std::str::from_utf8(payload) {
            _ if is_json => "application/json",
            Ok(_) => "text/plain; charset=utf-8",
            Err(_) => "application/octet-stream",
        }
        .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;

    use super::*;

    fn message(payload: &[u8], headers: &[(&str, &str)]) -> CloudEvent {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let message = Message {
            subject: Subject::from("orders.paid"),
            reply: None,
            payload: payload.to_vec().into(),
            headers: Some(map),
            status: None,
            description: None,
            length: 0,
        };
        let time = Timestamp::UNIX_EPOCH;
        event_of(&message, Origin { id: "S:7".into(), source: "/nats/S".into(), time })
    }

    fn content(event: &CloudEvent) -> &str {
        match &event.data {
            Data::Bytes { content_type, .. } => content_type,
            Data::Json(_) => "",
        }
    }

    #[test]
    fn a_message_becomes_an_event() {
        let event = message(br#"{"a":1}"#, &[("Nats-Msg-Id", "m-1"), ("ce-id", "alone")]);
        assert_eq!((event.id.as_str(), event.source.as_str()), ("S:7", "/nats/S"));
        assert_eq!(event.subject.as_deref(), Some("orders.paid"));
        assert_eq!(event.extensions["natsmsgid"], "m-1");
        assert_eq!(content(&event), "application/json");
        assert_eq!(content(&message(b"hello", &[])), "text/plain; charset=utf-8");
        assert_eq!(content(&message(b"\xff", &[])), "application/octet-stream");
        assert_eq!(content(&message(b"1", &[("Content-Type", "image/png")])), "image/png");
        assert_eq!(content(&message(b"1", &[("Content-Type", "nonsense")])), "application/json");
    }

    #[test]
    fn an_event_keeps_what_it_says_of_itself() {
        let event = message(
            b"x",
            &[
                ("ce-specversion", "1.0"),
                ("ce-id", "7"),
                ("CE-Source", "/shop"),
                ("ce-type", "order.paid"),
                ("ce-time", "2026-11-01T00:00:00Z"),
                ("ce-tenant", "a"),
                ("ce-no_name", "b"),
                ("content-type", "text/x"),
            ],
        );
        assert_eq!((event.id.as_str(), event.source.as_str()), ("7", "/shop"));
        assert_eq!(event.kind, "order.paid");
        assert_eq!(event.time, "2026-11-01T00:00:00Z".parse().unwrap());
        assert_eq!(event.extensions, [("tenant".to_owned(), "a".to_owned())].into());
        rouse_core::event::to_binary(&event).unwrap();
    }
}
