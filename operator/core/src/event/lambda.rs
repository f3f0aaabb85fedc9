//! Events in the shapes that AWS gives to handlers of Lambda.

use serde_json::json;

use super::{CONTENT_TYPE_JSON, CloudEvent, Invalid, Message};

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
    let body = serde_json::to_vec(&document)?;
    Ok(Message { headers: vec![("content-type".into(), CONTENT_TYPE_JSON.into())], body })
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
