//! Looks what a notification is about: what the list would say of the object, where the notification
//! does not, and what the ledger has of it. So both give it one id, and neither tells what the other
//! told.

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
    /// What the list says of it, where it was asked.
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
    if !told.is_removed && told.exact().is_none() {
        // Of all keys that begin so, it is the first itself.
        let page = store.server.list(&told.bucket, &told.key, None, 1).await?;
        let first = page.objects.into_iter().next();
        found = first.filter(|object| object.key == told.key).map(|object| object.version);
    }
    let version = found.clone().unwrap_or_else(|| told.version());
    let is_new = !told.is_removed
        && horizon.saturating_add(DIFFER).is_ok_and(|horizon| version.modified > horizon);
    let written = if is_new { None } else { store.find(&index, &told.key).await? };
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
        // Servers send each notification by itself, so one may overtake another. What comes too late
        // for its object's order is found by the list, if it still holds. Where a list was asked, its
        // times may be whole seconds.
        let is_exact = self.told.is_removed || self.told.exact().is_some();
        let is_overtaken = |at: Timestamp| {
            let rank =
                |at: Timestamp| if is_exact { at.as_nanosecond() } else { at.as_second().into() };
            known.is_some_and(|known| rank(known.modified) > rank(at))
        };
        if self.told.is_removed {
            // Of what was never known nobody needs to hear that it is gone.
            return known.filter(|_| !is_overtaken(self.told.at)).cloned().map(Change::Removed);
        }
        // One that is gone or written anew since is told of as it was.
        let found = self.found.clone().filter(|found| found.etag == self.told.etag);
        let version = found.unwrap_or_else(|| self.told.version());
        let is_news = known != Some(&version) && !is_overtaken(version.modified);
        is_news.then_some(Change::Created(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(etag: &str, second: i64) -> Version {
        let modified = Timestamp::from_second(1_764_403_200 + second).unwrap();
        Version { etag: etag.into(), size: 1, modified }
    }

    fn looked(is_removed: bool, version: &Version) -> Looked {
        let told = Told {
            bucket: "b".into(),
            key: "k".into(),
            is_removed,
            etag: version.etag.clone(),
            size: version.size,
            at: version.modified,
            version_id: None,
            sequencer: format!("{:X}", version.modified.as_nanosecond()),
        };
        Looked { told, token: "t".into(), found: None, written: None }
    }

    #[test]
    fn what_was_overtaken_is_no_news() {
        let (first, second, third) = (version("a", 1), version("b", 2), version("c", 3));
        let there = Known::There(&second);
        assert_eq!(looked(false, &first).change(&there), None);
        assert_eq!(looked(true, &first).change(&there), None);
        assert_eq!(looked(false, &second).change(&there), None);
        assert_eq!(looked(false, &third).change(&there), Some(Change::Created(third.clone())));
        assert_eq!(looked(true, &third).change(&there), Some(Change::Removed(second)));
        assert_eq!(looked(true, &third).change(&Known::Gone), None);
        assert_eq!(looked(false, &first).change(&Known::Unsaid), Some(Change::Created(first)));
    }

    #[test]
    fn of_two_in_a_second_neither_was_overtaken_where_a_list_tells_no_less() {
        let (listed, mut known) = (version("b", 1), version("a", 1));
        known.modified += SignedDuration::from_millis(900);
        let mut looked = looked(false, &listed);
        looked.told.sequencer = "0055AED6DCD90281E5".into();
        looked.found = Some(listed.clone());
        assert_eq!(looked.change(&Known::There(&known)), Some(Change::Created(listed)));
    }
}
