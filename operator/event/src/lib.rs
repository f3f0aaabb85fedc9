//! Events as they go over HTTP: CloudEvents 1.0, and the shapes that AWS gives to Lambda. Pure.
//!
//! An event is checked before it is sent: frameworks are known to take a malformed one for an empty
//! one, and to say that they are done with it.

mod cloudevents;
mod lambda;
mod read;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

pub use cloudevents::is_json;
pub use cloudevents::{to_batch, to_binary, to_structured};
pub use lambda::{lambda_message, to_event_bridge, to_event_bus, to_sqs};
pub use read::{Unreadable, read_events};

/// Content type of events as JSON.
pub const CONTENT_TYPE_JSON: &str = "application/json";

/// Header by which a source says that the body is the event itself, for a handler of Lambda as it is.
/// Nobody outside may say so.
pub const EVENT_HEADER: &str = "rouse-event";

/// Type of the events of Triggers with a schedule.
pub const TICK: &str = "dev.rouse.schedule.tick";

/// An event with its attributes and data.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudEvent {
    /// Identifies the event among those of its source.
    pub id: String,
    /// Where it comes from, a URI or the path of one.
    pub source: String,
    /// What happened: the attribute `type`.
    pub kind: String,
    /// When.
    pub time: Timestamp,
    /// To what; none where the source is all there is.
    pub subject: Option<String>,
    /// Other attributes.
    pub extensions: BTreeMap<String, String>,
    /// What there is to know.
    pub data: Data,
}

/// The data of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// A JSON document.
    Json(Value),
    /// Bytes of a content type.
    Bytes {
        /// Their type.
        content_type: String,
        /// They.
        bytes: Vec<u8>,
    },
}

/// What is sent: headers, and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    /// The first value of a header whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Why an event can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// A required attribute is empty.
    #[error("the event has no {0}")]
    Missing(&'static str),
    /// The source is no URI reference.
    #[error("the source {0:?} of the event is not a URI or the path of one")]
    Source(String),
    /// The name of an attribute is not of small letters and digits, or is too long or taken.
    #[error(
        "the event can't have an attribute {0:?}: names are of 1 to 20 small letters and digits"
    )]
    Name(String),
    /// A value has characters that no attribute may have.
    #[error("the attribute {0} of the event has control characters")]
    Value(String),
    /// The content type of the data is none.
    #[error("{0:?} is not a content type")]
    ContentType(String),
    /// It does not become JSON.
    #[error("writing the event")]
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests;
