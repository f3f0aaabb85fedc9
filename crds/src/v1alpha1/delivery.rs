//! How events reach a Function.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::nats::NatsDeadLetters;

/// How events are delivered: at least once, by a POST to `/`. An answer of 2xx says that the Function
/// is done with the event; 4xx that it will never take it, but for 404, 408, 409, 421, 425 and 429;
/// everything else that it failed. A 429 or 503 with `Retry-After` is asked again then, and counts
/// as no attempt.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// How often an event is sent before it is given up, from 1 to 1000. Default: 5.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// Shortest and longest wait before an event is sent again: it doubles with each failure, and up
    /// to half of it is left to chance. From 100ms to 24h. Default: `1s..5m`.
    #[serde(default = "default_backoff")]
    #[schemars(
        length(max = 66),
        regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}[.][.]([0-9]{1,9}(ms|s|m|h)){1,4}$")
    )]
    #[x_kube(validation = Rule::new("duration(self.split('..')[0]) >= duration('100ms') && duration(self.split('..')[0]) <= duration(self.split('..')[1]) && duration(self.split('..')[1]) <= duration('24h')")
        .message("delivery.backoff must be the shortest and the longest wait, such as 1s..5m, between 100ms and 24h"))]
    pub backoff: String,
    /// How long one attempt may take, at most 24h; after it the event is sent again, whether the
    /// Function is done with it or not. Default: 0s, as long as the Function's `timeouts` allow.
    #[serde(default = "default_off")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('24h')")
        .message("delivery.timeout must be at most 24h"))]
    pub timeout: String,
    /// Age at which an event is given up, at most 8784h. Default: 0s, it never grows too old.
    #[serde(default = "default_off")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]{1,9}(ms|s|m|h)){1,4}$"))]
    #[x_kube(validation = Rule::new("duration(self) <= duration('8784h')")
        .message("delivery.maxAge must be at most 8784h"))]
    pub max_age: String,
    /// Where events go that are given up. Default: nowhere, they are dropped, which a metric counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// What the Function gets: a `CloudEvents` event in HTTP's binary mode, the same as one document
    /// (`CloudEventsStructured`), or the event that a handler of AWS `Lambda` expects from a source
    /// of this kind. Default: `CloudEvents`.
    #[serde(default)]
    pub format: EventFormat,
    /// How many events one request may bring; not for `schedule`. Default: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<DeliveryBatch>,
}

/// How many events one request may bring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryBatch {
    /// Events in one request, from 1 to 1000. No event waits for others: a batch is what is there.
    /// A Function that takes a part of them names the others in its answer,
    /// `{"batchItemFailures": [{"itemIdentifier": "ID"}]}`. Default: 1.
    #[serde(default = "default_size")]
    #[schemars(range(min = 1, max = 1000))]
    pub size: u32,
}

const fn default_size() -> u32 {
    1
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            attempts: default_attempts(),
            backoff: default_backoff(),
            timeout: default_off(),
            max_age: default_off(),
            dead_letter: None,
            format: EventFormat::default(),
            batch: None,
        }
    }
}

const fn default_attempts() -> u32 {
    5
}

fn default_backoff() -> String {
    "1s..5m".into()
}

fn default_off() -> String {
    "0s".into()
}

/// Where events go that are given up: another Function, or a stream.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.__function__) != has(self.nats)")
    .message("delivery.deadLetter needs exactly one of function and nats"))]
pub struct DeadLetter {
    /// Name of another Function of the namespace. It gets the event as a `CloudEvents` event with the
    /// attributes `rousereason` (`attempts`, `age` or `rejected`) and `rouseattempts`, until it
    /// answers 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub function: Option<String>,
    /// A stream of NATS, which gets the same event as one JSON document; not for `schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsDeadLetters>,
}

/// What a Function gets of an event.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema,
)]
pub enum EventFormat {
    /// An event whose attributes are headers and whose data is the body.
    #[default]
    CloudEvents,
    /// An event as one JSON document.
    CloudEventsStructured,
    /// The event that AWS sends to a Lambda function from a source of this kind.
    Lambda,
}
