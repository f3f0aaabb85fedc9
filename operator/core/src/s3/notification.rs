//! Reads what servers of the kind of MinIO send when an object comes or goes: the shape of AWS.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Version, digest, key};

/// When an object may have been written, for a number to be taken for that: from 2010 to 2100, in
/// nanoseconds.
const PLAUSIBLE: std::ops::Range<i64> = 1_262_304_000_000_000_000..4_102_444_800_000_000_000;

/// By how much an object may be older than the event that tells of it, for its time to be taken for
/// that.
const NEAR: SignedDuration = SignedDuration::from_mins(1);

/// Why a notification can't be taken. Told to its sender.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is no document, or lacks what matters.
    #[error("it is no notification of a bucket: {0}")]
    Shape(#[from] serde_json::Error),
    /// The key of an object is not written as it should be.
    #[error("the key {0:?} is no text in percent")]
    Key(String),
}

/// What a server told of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// Whether the object was removed, not written.
    pub is_removed: bool,
    /// Its entity tag, where it was written.
    pub etag: String,
    /// Its bytes, where it was written.
    pub size: u64,
    /// When that was, as far as the notification says.
    pub at: Timestamp,
    /// The id of its version, where it has one.
    pub version_id: Option<String>,
    /// What tells this notification from others of the object.
    pub sequencer: String,
}

impl Told {
    /// The same whenever the notification comes again.
    pub fn id(&self) -> String {
        let Self { bucket, key, is_removed, etag, version_id, sequencer, .. } = self;
        let word = if *is_removed { "removed" } else { "created" };
        let version = version_id.as_deref().unwrap_or_default();
        let at = self.at.to_string();
        digest(&["told", word, bucket, key, etag, version, sequencer, &at])
    }

    /// What a list would have said of the object when it was written: for one that is gone since.
    pub fn version(&self) -> Version {
        self.version_of(self.written().unwrap_or(self.at))
    }

    /// What a list says of the object, where the notification tells that itself: nobody needs to ask.
    /// A number that only looks like a time would hardly be that of the event.
    pub fn exact(&self) -> Option<Version> {
        let written = self.written().filter(|_| !self.is_removed)?;
        let is_near = self.at.duration_since(written).abs() <= NEAR;
        is_near.then(|| self.version_of(written))
    }

    /// When the object was written: servers of the kind of MinIO count from then.
    fn written(&self) -> Option<Timestamp> {
        let nanos = i64::from_str_radix(&self.sequencer, 16).ok();
        let nanos = nanos.filter(|nanos| PLAUSIBLE.contains(nanos));
        nanos.and_then(|n| Timestamp::from_nanosecond(n.into()).ok())
    }

    /// Lists tell milliseconds.
    fn version_of(&self, written: Timestamp) -> Version {
        let modified = Timestamp::from_millisecond(written.as_millisecond()).unwrap_or(written);
        Version { etag: self.etag.clone(), size: self.size, modified }
    }
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Records", default)]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    event_name: String,
    event_time: Timestamp,
    s3: Entity,
}

#[derive(Deserialize)]
struct Entity {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    key: String,
    #[serde(default)]
    size: u64,
    #[serde(default, rename = "eTag")]
    etag: String,
    version_id: Option<String>,
    #[serde(default)]
    sequencer: String,
}

/// What a notification tells of objects that came or went. What else it tells is left out, and one
/// that only tries the door tells nothing.
pub fn read_notifications(body: &[u8]) -> Result<Vec<Told>, Unreadable> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let document: Document = serde_json::from_slice(body)?;
    let mut told = Vec::new();
    for Record { event_name, event_time, s3: Entity { bucket, object } } in document.records {
        let name = event_name.strip_prefix("s3:").unwrap_or(&event_name);
        let is_removed = name.starts_with("ObjectRemoved:");
        if !is_removed && !name.starts_with("ObjectCreated:") {
            continue;
        }
        let Object { key, size, etag, version_id, sequencer } = object;
        let Some(decoded) = key::decode(&key) else { return Err(Unreadable::Key(key)) };
        told.push(Told {
            bucket: bucket.name,
            key: decoded,
            is_removed,
            etag: etag.trim_matches('"').to_owned(),
            size,
            at: event_time,
            version_id: version_id.filter(|id| !id.is_empty() && id != "null"),
            sequencer,
        });
    }
    Ok(told)
}
