//! Objects of a bucket: what a Function learns when they come or go, and what of that was told
//! already. Pure: listing, and keeping the ledger, are the source's.
//!
//! An object is told of by what a list says of it, whichever way it was found: so a notification and
//! a list give it the same id, and what a [`Ledger`](Index) has is never told twice.

mod key;
mod lambda;
mod ledger;
mod notification;
mod scope;
mod segment;

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::event::{CloudEvent, Data};

pub use lambda::to_s3;
pub use ledger::{Index, Slice, Unusable, Writes};
pub use notification::{Told, Unreadable, read_notifications};
pub use scope::{OWN, Scope};
pub use segment::{Entries, Segment, Spoilt, split_after};

/// What a list says of an object, by which one version of it is told from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written.
    Created(Version),
    /// This version of it was removed.
    Removed(Version),
}

impl Change {
    /// The version that came, or went.
    pub const fn version(&self) -> &Version {
        match self {
            Self::Created(version) | Self::Removed(version) => version,
        }
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Removed(_) => "removed",
        }
    }

    /// What is known of the object afterwards.
    pub fn after(&self) -> Option<&Version> {
        match self {
            Self::Created(version) => Some(version),
            Self::Removed(_) => None,
        }
    }

    /// The id of this change of an object: the same whoever tells of it, and when.
    pub fn id(&self, bucket: &str, key: &str) -> String {
        let Version { etag, size, modified } = self.version();
        let (word, modified) = (self.word(), modified.as_millisecond());
        digest(&[word, bucket, key, etag, &size.to_string(), &modified.to_string()])
    }

    /// The event that tells of it. When an object was removed nobody says: `now` stands for it.
    pub fn event(&self, at: &Place<'_>, now: Timestamp) -> CloudEvent {
        let Version { etag, size, modified } = self.version();
        let Place { bucket, region, key, version_id } = *at;
        let mut data = json!({
            "bucket": bucket,
            "region": region,
            "key": key,
            "size": size,
            "eTag": etag,
            "lastModified": modified.to_string(),
        });
        if let (Some(data), Some(id)) = (data.as_object_mut(), version_id) {
            data.insert("versionId".into(), id.into());
        }
        CloudEvent {
            id: self.id(bucket, key),
            source: format!("/s3/{bucket}"),
            kind: format!("dev.rouse.s3.{}", self.word()),
            time: match self {
                Self::Created(_) => *modified,
                Self::Removed(_) => now,
            },
            // No attribute may have what a key may.
            subject: (!key.chars().any(char::is_control)).then(|| key.to_owned()),
            extensions: [].into(),
            data: Data::Json(data),
        }
    }
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its bucket.
    pub bucket: &'a str,
    /// The region of that.
    pub region: &'a str,
    /// Its key.
    pub key: &'a str,
    /// The id of its version, where the server told it.
    pub version_id: Option<&'a str>,
}

/// 32 digits that stand for `parts`.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let mut digits = String::with_capacity(32);
    for byte in hash.finalize().iter().take(16) {
        // Writing to a string can't fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

#[cfg(test)]
mod tests;
