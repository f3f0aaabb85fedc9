//! Events of buckets in the shape that AWS gives to handlers of Lambda.

use serde_json::{Value, json};

use super::key;
use crate::event::{CloudEvent, Data, Invalid, Message, lambda_message, to_event_bus};

/// What stands for whom and where nobody told.
const NOBODY: &str = "unknown";
const NOWHERE: &str = "0.0.0.0";

/// Events of this source as S3 sends them: `Records`, keys in percent. How an object was written
/// follows from its entity tag; who wrote it, and from where, nobody told.
pub fn to_s3(events: &[&CloudEvent]) -> Result<Message, Invalid> {
    let records: Option<Vec<Value>> = events.iter().map(|event| record(event)).collect();
    let Some(records) = records else {
        // Nothing of this source comes here.
        return to_event_bus(events);
    };
    lambda_message(&json!({ "Records": records }))
}

fn record(event: &CloudEvent) -> Option<Value> {
    let Data::Json(data) = &event.data else { return None };
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    let (bucket, name, etag) = (text("bucket")?, text("key")?, text("eTag")?);
    let modified: jiff::Timestamp = text("lastModified")?.parse().ok()?;
    let is_created = event.kind.ends_with(".created");
    let event_name = match (is_created, etag.contains('-')) {
        (true, false) => "ObjectCreated:Put",
        (true, true) => "ObjectCreated:CompleteMultipartUpload",
        (false, _) => "ObjectRemoved:Delete",
    };
    // Digits of one length, so that they compare as AWS says.
    let sequencer = if is_created { modified } else { event.time };
    let mut object = json!({
        "key": key::encode(name).replace("%20", "+"),
        "sequencer": format!("{:016X}", sequencer.as_nanosecond()),
    });
    if is_created && let Some(object) = object.as_object_mut() {
        object.insert("size".into(), data.get("size")?.clone());
        object.insert("eTag".into(), etag.into());
    }
    if let (Some(object), Some(id)) = (object.as_object_mut(), text("versionId")) {
        object.insert("versionId".into(), id.into());
    }
    Some(json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": text("region")?,
        "eventTime": format!("{:.3}", event.time),
        "eventName": event_name,
        "userIdentity": { "principalId": NOBODY },
        "requestParameters": { "sourceIPAddress": NOWHERE },
        "responseElements": { "x-amz-request-id": event.id, "x-amz-id-2": event.id },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "rouse",
            "bucket": {
                "name": bucket,
                "ownerIdentity": { "principalId": NOBODY },
                "arn": format!("arn:aws:s3:::{bucket}"),
            },
            "object": object,
        },
    }))
}
