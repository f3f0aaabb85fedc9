//! Looks what a notification is about: what the list would say of the object, and what the ledger has
//! of it. So both give it one id, and neither tells what the other told.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rouse_core::s3::{Change, Index, Told, Version};

use super::book::Known;
use super::store::Store;
use crate::failure::Failure;

/// By how much the clocks of a server's machines may differ.
const DIFFER: SignedDuration = SignedDuration::from_secs(2);

/// What there is to know of an object that was told of.
pub(super) struct Looked {
    pub told: Told,
    /// The notification.
    pub token: Arc<str>,
    /// What the list says of it, where it was written.
    found: Option<Version>,
    /// What the ledger has of it.
    written: Option<Version>,
}

/// Looks. What was written after `horizon` the ledger has not.
pub(super) async fn look(
    store: Store,
    index: Arc<Index>,
    horizon: Timestamp,
    told: Told,
    token: Arc<str>,
) -> Result<Looked, Failure> {
    let mut found = None;
    if !told.is_removed {
        // Of all keys that begin so, it is the first itself.
        let page = store.server.list(&told.bucket, &told.key, None, 1).await?;
        let first = page.objects.into_iter().next();
        found = first.filter(|object| object.key == told.key).map(|object| object.version);
    }
    let version = found.clone().unwrap_or_else(|| told.version());
    let is_new = !told.is_removed
        && horizon.saturating_add(DIFFER).is_ok_and(|horizon| version.modified > horizon);
    let written = if is_new {
        None
    } else {
        let segment = store.segment(&index, index.find(&told.key)).await?;
        segment.entries.get(&told.key).cloned()
    };
    Ok(Looked { told, token, found, written })
}

impl Looked {
    /// What is to be told; nothing where it was told already. `known` is what is known of the object
    /// apart from the ledger.
    pub fn change(&self, known: &Known<'_>) -> Option<Change> {
        let known = match known {
            Known::Unsaid => self.written.as_ref(),
            Known::Gone => None,
            Known::There(version) => Some(*version),
        };
        if self.told.is_removed {
            // Of what was never known nobody needs to hear that it is gone.
            return known.cloned().map(Change::Removed);
        }
        // One that is gone or written anew since is told of as it was.
        let found = self.found.clone().filter(|found| found.etag == self.told.etag);
        let version = found.unwrap_or_else(|| self.told.version());
        (known != Some(&version)).then_some(Change::Created(version))
    }
}
