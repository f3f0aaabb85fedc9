//! Events in the shapes that AWS gives to handlers of Lambda.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

use super::cloudevents::attributes;
use super::{CONTENT_TYPE_JSON, CloudEvent, Data, EVENT_HEADER, Invalid, Message};

/// What stands for the account and the region, which there are none of.
const ACCOUNT: &str = "000000000000";
const REGION: &str = "local";

/// The event that a rule of `EventBridge` sends for a tick of its schedule; its one resource is
/// named after the Trigger `namespace/name`.
pub fn to_event_bridge(event: &CloudEvent, trigger: &str) -> Result<Message, Invalid> {
    let document = json!({
        "version": "0",
        "id": as_uuid(&event.id),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": ACCOUNT,
        "time": event.time.to_string(),
        "region": REGION,
        "resources": [format!("arn:aws:events:{REGION}:{ACCOUNT}:rule/{trigger}")],
        "detail": {},
    });
    lambda_message(&document)
}

/// Events as a bus of `EventBridge` delivers those of somebody's own: one is an object, several are
/// a list of such objects, as its pipes send them. Data that is no JSON is a text in
/// `detail.data`, or else base64 in `detail.data_base64`.
pub fn to_event_bus(events: &[&CloudEvent]) -> Result<Message, Invalid> {
    let mut documents =
        events.iter().map(|event| bus_event(event)).collect::<Result<Vec<_>, _>>()?;
    match (documents.len(), documents.pop()) {
        (1, Some(only)) => lambda_message(&only),
        (_, last) => {
            documents.extend(last);
            lambda_message(&Value::Array(documents))
        }
    }
}

fn bus_event(event: &CloudEvent) -> Result<Value, Invalid> {
    attributes(event)?;
    let detail = match &event.data {
        Data::Json(value) => value.clone(),
        Data::Bytes { content_type, bytes } => {
            let document = super::is_json(content_type).then(|| serde_json::from_slice(bytes).ok());
            document.flatten().unwrap_or_else(|| match std::str::from_utf8(bytes) {
                Ok(text) => json!({ "data": text }),
                Err(_) => json!({ "data_base64": STANDARD.encode(bytes) }),
            })
        }
    };
    Ok(json!({
        "version": "0",
        "id": as_uuid(&event.id),
        "detail-type": event.kind,
        "source": event.source,
        "account": ACCOUNT,
        "time": event.time.to_string(),
        "region": REGION,
        "resources": event.subject.iter().collect::<Vec<_>>(),
        "detail": detail,
    }))
}

/// Messages of a queue as SQS delivers them. The queue is named by the subject of an event, or its
/// source where it has none; bytes that are no text are in base64. `messageId` is the event's id, so
/// that handlers may name it in `batchItemFailures`.
pub fn to_sqs(events: &[&CloudEvent]) -> Result<Message, Invalid> {
    let records = events.iter().map(|event| record(event)).collect::<Result<Vec<_>, _>>()?;
    lambda_message(&json!({ "Records": records }))
}

fn record(event: &CloudEvent) -> Result<Value, Invalid> {
    attributes(event)?;
    let body = match &event.data {
        Data::Json(value) => serde_json::to_string(value)?,
        Data::Bytes { bytes, .. } => {
            std::str::from_utf8(bytes).map_or_else(|_| STANDARD.encode(bytes), ToOwned::to_owned)
        }
    };
    let mut digest = String::with_capacity(32);
    for byte in Md5::digest(body.as_bytes()) {
        // Writing to a string can't fail.
        let _ = write!(digest, "{byte:02x}");
    }
    let sent = event.time.as_millisecond().to_string();
    let attributes: Map<String, Value> = event
        .extensions
        .iter()
        .map(|(name, value)| {
            let value = json!({
                "stringValue": value,
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": "String",
            });
            (name.clone(), value)
        })
        .collect();
    let queue = event.subject.as_deref().unwrap_or(&event.source);
    Ok(json!({
        "messageId": event.id,
        "receiptHandle": event.id,
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": sent,
            "SenderId": event.source,
            "ApproximateFirstReceiveTimestamp": sent,
        },
        "messageAttributes": attributes,
        "md5OfBody": digest,
        "eventSource": "aws:sqs",
        "eventSourceARN": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"),
        "awsRegion": REGION,
    }))
}

/// An event as it is: pods with source must not take it for a request to make an event of.
pub fn lambda_message(document: &Value) -> Result<Message, Invalid> {
    let body = serde_json::to_vec(document)?;
    let headers = [("content-type", CONTENT_TYPE_JSON), (EVENT_HEADER, "lambda")];
    let headers = headers.map(|(name, value)| (name.into(), value.into())).into();
    Ok(Message { headers, body })
}

/// An id of 32 hex digits as handlers expect it; any other stays as it is.
fn as_uuid(id: &str) -> String {
    let mut text = id.to_owned();
    if id.len() == 32 && id.is_ascii() {
        for at in [20, 16, 12, 8] {
            text.insert(at, '-');
        }
    }
    text
}
