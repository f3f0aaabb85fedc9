//! Dead letters that a stream keeps, as a source pod tells of them to those who look after them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::CloudEvent;

/// Port of a source pod, on its loopback address, at which it is asked for dead letters.
pub const LETTERS_PORT: u16 = 8084;
/// Letters that one answer tells of at most.
pub const MOST_LETTERS: usize = 1000;
/// Attributes that an event gets when it becomes a dead letter.
const OWN: [&str; 2] = [REASON, ATTEMPTS];
const REASON: &str = "rousereason";
const ATTEMPTS: &str = "rouseattempts";

/// What there is to know of a dead letter without its data.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    /// Its number in the stream, by which it is named.
    pub number: u64,
    /// The Trigger whose it is.
    pub trigger: String,
    /// When it was stored.
    pub stored: Timestamp,
    /// Why the event was given up: `attempts`, `age` or `rejected`.
    pub reason: String,
    /// How often it was sent.
    pub attempts: String,
    /// The event's id.
    pub id: String,
    /// The event's source.
    pub source: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The event's time.
    pub time: String,
    /// Bytes that it takes.
    pub bytes: u64,
}

impl Letter {
    /// What the `document` of a letter says. What it does not say, for it is none, is empty.
    pub fn of(number: u64, trigger: &str, stored: Timestamp, document: &[u8]) -> Self {
        let event: Value = serde_json::from_slice(document).unwrap_or_default();
        let say = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        Self {
            number,
            trigger: trigger.to_owned(),
            stored,
            reason: say(REASON),
            attempts: say(ATTEMPTS),
            id: say("id"),
            source: say("source"),
            kind: say("type"),
            time: say("time"),
            bytes: u64::try_from(document.len()).unwrap_or(u64::MAX),
        }
    }
}

/// A part of the letters of a Trigger, oldest first.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Letters {
    /// They.
    pub letters: Vec<Letter>,
    /// The number from which on there may be more; none where there are not.
    pub next: Option<u64>,
}

/// `event` as a dead letter: why it was given up, and how often it was sent.
pub fn letter_of(mut event: CloudEvent, reason: &str, attempts: u32) -> CloudEvent {
    event.extensions.insert(REASON.into(), reason.into());
    event.extensions.insert(ATTEMPTS.into(), attempts.to_string());
    event
}

/// The event that a dead letter was, as its Function gets it.
pub fn revive(mut letter: CloudEvent) -> CloudEvent {
    letter.extensions.retain(|name, _| !OWN.contains(&name.as_str()));
    letter
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Message, read_events, to_structured};

    const DOCUMENT: &str = r#"{"specversion":"1.0","id":"S:1","source":"/nats/S","type":"t",
        "time":"2026-11-01T00:00:00Z","rousereason":"age","rouseattempts":"3","tenant":"a",
        "datacontenttype":"text/plain","data":"hello"}"#;

    #[test]
    fn a_letter_tells_what_it_is() {
        let stored = "2026-11-02T00:00:00Z".parse().unwrap();
        let letter = Letter::of(7, "orders", stored, DOCUMENT.as_bytes());
        let told = serde_json::to_value(&letter).unwrap();
        let wanted = json!({"number": 7, "trigger": "orders", "stored": "2026-11-02T00:00:00Z",
            "reason": "age", "attempts": "3", "id": "S:1", "source": "/nats/S", "type": "t",
            "time": "2026-11-01T00:00:00Z", "bytes": DOCUMENT.len()});
        assert_eq!(told, wanted);
        assert_eq!(Letter::of(8, "orders", stored, b"nonsense").id, "");
    }

    #[test]
    fn a_letter_is_revived_as_the_event_that_it_was() {
        let headers = vec![("content-type".into(), "application/cloudevents+json".into())];
        let message = Message { headers, body: DOCUMENT.as_bytes().to_vec() };
        let letter = read_events(&message, Timestamp::UNIX_EPOCH).unwrap().remove(0);
        let event = revive(letter);
        assert_eq!(event.extensions, [("tenant".to_owned(), "a".to_owned())].into());
        let again = to_structured(&event).unwrap();
        let again: Value = serde_json::from_slice(&again.body).unwrap();
        assert_eq!((&again["id"], &again["data"]), (&json!("S:1"), &json!("hello")));
    }
}
