//! Keeps the ledger of a Trigger in a bucket: below `.rouse/`, an object for its index and one for
//! each segment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rouse_core::s3::{Index, OWN, Scope, Segment, Version};
use rouse_crds::v1alpha1::S3Start;

use super::client::Objects;
use super::settings::Settings;
use crate::failure::Failure;

/// What is known of objects and not in the ledger yet.
pub(super) type News = BTreeMap<String, Option<Version>>;

/// Where a ledger is kept. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store {
    pub server: Arc<Objects>,
    scope: Scope,
    bucket: String,
    folder: String,
    /// The segment in which an object was looked for last, with its name and what stands for it.
    kept: Arc<Mutex<Option<(String, String, Segment)>>>,
}

impl Store {
    /// Where the ledger of a Trigger is kept.
    pub fn new(server: Arc<Objects>, settings: &Settings) -> Self {
        let (scope, bucket) = (settings.scope.clone(), settings.ledger_bucket.clone());
        let folder = format!("{OWN}{}/", settings.own);
        Self { server, scope, bucket, folder, kept: Arc::default() }
    }

    /// The index. One that is not there is made; `now` is the server's time.
    pub async fn load(&self, start: S3Start, now: Timestamp) -> Result<Index, Failure> {
        let since = match start {
            S3Start::Earliest => None,
            S3Start::Latest => Some(now),
        };
        let text = self.server.get(&self.bucket, &self.name("index")).await?;
        let index = match &text {
            None => Index::new(self.scope.clone(), since),
            Some(text) => Index::read(text, &self.scope, since)
                .map_err(|error| self.lost("index", &error.to_string()))?,
        };
        if text.is_none_or(|text| text != index.text()) {
            // When it began must be known before anything is told.
            self.write(&index).await?;
        }
        Ok(index)
    }

    /// A segment, with the objects that are in its range.
    pub async fn segment(&self, index: &Index, number: usize) -> Result<Segment, Failure> {
        let Some((after, slice)) = index.slice(number) else { return Ok(Segment::default()) };
        if slice.count == 0 {
            return Ok(Segment::default());
        }
        let bytes = self.server.get(&self.bucket, &self.name(&slice.name)).await?;
        let bytes = bytes.ok_or_else(|| self.lost(&slice.name, "it is not there"))?;
        let text = String::from_utf8_lossy(&bytes);
        let segment = Segment::read(&text);
        let mut segment = segment.map_err(|error| self.lost(&slice.name, &error.to_string()))?;
        segment.keep(after, slice.until.as_deref(), &self.scope);
        Ok(segment)
    }

    /// What the ledger has of an object. Objects that are told of one after the other are often
    /// neighbours, so their segment is read once.
    pub async fn find(&self, index: &Index, key: &str) -> Result<Option<Version>, Failure> {
        let number = index.find(key);
        let Some((_, slice)) = index.slice(number) else { return Ok(None) };
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, digest, segment)) = &*kept()
            && (name, digest) == (&slice.name, &slice.digest)
        {
            return Ok(segment.entries.get(key).cloned());
        }
        let segment = self.segment(index, number).await?;
        let found = segment.entries.get(key).cloned();
        *kept() = Some((slice.name.clone(), slice.digest.clone(), segment));
        Ok(found)
    }

    /// Writes news into the ledger. With `all` every object is known, and what is new from then on
    /// is told of whenever it was written.
    pub async fn flush(
        &self,
        mut index: Index,
        news: Arc<News>,
        all: bool,
    ) -> Result<Index, Failure> {
        let mut by_segment: BTreeMap<usize, Vec<(&String, &Option<Version>)>> = BTreeMap::new();
        for (key, version) in &*news {
            by_segment.entry(index.find(key)).or_default().push((key, version));
        }
        let mut gone = Vec::new();
        // From the last on, so that the numbers of those before stay.
        for (number, news) in by_segment.into_iter().rev() {
            let mut segment = self.segment(&index, number).await?;
            for (key, version) in news {
                segment.set(key, version.as_ref());
            }
            let writes = index.put(number, segment);
            for (name, segment) in writes.put {
                let text = segment.text().into_bytes();
                self.server.put(&self.bucket, &self.name(&name), text).await?;
            }
            gone.extend(writes.gone);
        }
        if all {
            index.since = None;
        }
        self.write(&index).await?;
        for name in gone {
            self.server.remove(&self.bucket, &self.name(&name)).await?;
        }
        Ok(index)
    }

    async fn write(&self, index: &Index) -> Result<(), Failure> {
        self.server.put(&self.bucket, &self.name("index"), index.text()).await
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    fn lost(&self, name: &str, why: &str) -> Failure {
        let Self { bucket, folder, .. } = self;
        Failure::Lost(format!(
            "{folder}{name} in the bucket {bucket} says which objects were told of, and can't be \
             used: {why}; put it back, or remove {folder}index to begin anew"
        ))
    }
}
