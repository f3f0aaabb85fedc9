//! What is known of objects in memory: what is with the Function, what was done and is not in the
//! ledger yet, and what a list found. Does no IO.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use rouse_core::s3::{Change, Place, Version};
use rouse_crds::v1alpha1::S3Event;

use super::pass::Part;
use super::settings::Settings;
use super::store::News;
use crate::source::Brought;

/// A change of an object that the Function is not done with.
#[derive(Debug)]
struct Open {
    key: Arc<str>,
    change: Change,
    /// Notifications whose senders wait.
    waiting: Vec<Arc<str>>,
}

/// What becomes of a change that was found.
pub(super) enum Fate {
    /// The Function is to be told.
    Brought(Box<Brought<Arc<str>>>),
    /// It is being told already.
    Joined,
    /// Nobody wants to know.
    Noted,
}

/// What is known of an object apart from the ledger.
pub(super) enum Known<'a> {
    /// What the ledger has.
    Unsaid,
    /// That it is gone.
    Gone,
    /// That this version is there.
    There(&'a Version),
}

/// What is known of objects. What is in it survives connections, not the process.
#[derive(Debug, Default)]
pub(super) struct Book {
    open: HashMap<Arc<str>, Open>,
    /// The changes of each object that are open, in their order.
    of_key: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// What is to be written.
    pub done: News,
    /// What is being written.
    writing: Arc<News>,
    /// What a list found and there was no room for yet.
    pub found: VecDeque<(String, Change)>,
    /// Objects of which more is known than the list that is being made, or was made last.
    touched: HashSet<String>,
    /// Whether one is being made.
    is_listing: bool,
}

impl Book {
    /// Changes that the Function is not done with.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// What is known of an object, apart from the ledger.
    pub fn known(&self, key: &str) -> Known<'_> {
        let open = self.of_key.get(key).and_then(|ids| self.open.get(ids.last()?));
        let open = open.map(|open| open.change.after());
        let done = || self.done.get(key).map(Option::as_ref);
        let writing = || self.writing.get(key).map(Option::as_ref);
        match open.or_else(done).or_else(writing) {
            None => Known::Unsaid,
            Some(None) => Known::Gone,
            Some(Some(version)) => Known::There(version),
        }
    }

    /// Objects of which more is known than the ledger has.
    pub fn unwritten(&self) -> impl Iterator<Item = &String> {
        self.done.keys().chain(self.writing.keys())
    }

    /// From now on more may be known of objects than a list that is being made says.
    pub fn watch(&mut self) {
        self.touched.clear();
        self.is_listing = true;
    }

    /// The list is made.
    pub const fn listed(&mut self) {
        self.is_listing = false;
    }

    /// Takes in what a list says of a range of keys; `since` as in the ledger.
    pub fn take(&mut self, part: Part, since: Option<Timestamp>, settings: &Settings) {
        let Part { after, until, mut segment, listed } = part;
        let range = (
            after.as_deref().map_or(Bound::Unbounded, Bound::Excluded),
            until.as_deref().map_or(Bound::Unbounded, Bound::Included),
        );
        for news in [&*self.writing, &self.done] {
            for (key, version) in news.range::<str, _>(range) {
                segment.set(key, version.as_ref());
            }
        }
        for (key, change) in segment.changes(&listed) {
            let is_older = since.is_some_and(|since| change.version().modified < since);
            if self.touched.contains(&key) {
                continue;
            }
            if is_older || !wants(&settings.events, &change) {
                self.done.insert(key, change.after().cloned());
            } else {
                self.found.push_back((key, change));
            }
        }
    }

    /// What the list found next, unless more is known since.
    pub fn next_found(&mut self) -> Option<(String, Change)> {
        while let Some((key, change)) = self.found.pop_front() {
            if !self.touched.contains(&key) {
                return Some((key, change));
            }
        }
        None
    }

    /// Notes a change, and what is to become of it.
    pub fn note(&mut self, key: &str, change: Change, news: &Found<'_>) -> Fate {
        let settings = news.settings;
        let bucket = &settings.scope.bucket;
        let id: Arc<str> = change.id(bucket, key).into();
        self.touch(key);
        if let Some(open) = self.open.get_mut(&id) {
            open.waiting.extend(news.waiting.clone());
            return Fate::Joined;
        }
        if !wants(&settings.events, &change) {
            self.done.insert(key.to_owned(), change.after().cloned());
            return Fate::Noted;
        }
        let region = &settings.server.region;
        let place = Place { bucket, region, key, version_id: news.version_id };
        let event = change.event(&place, news.now);
        let key: Arc<str> = key.into();
        let open =
            Open { key: key.clone(), change, waiting: news.waiting.clone().into_iter().collect() };
        self.open.insert(id.clone(), open);
        self.of_key.entry(key.clone()).or_default().push(id.clone());
        Fate::Brought(Box::new(Brought { key: Some(key), event, token: id }))
    }

    /// The Function is done with a change, or it was given up; whose senders wait for it.
    pub fn settle(&mut self, id: &Arc<str>) -> Vec<Arc<str>> {
        let Some(Open { key, change, waiting }) = self.close(id) else { return Vec::new() };
        self.touch(&key);
        self.done.insert(key.as_ref().to_owned(), change.after().cloned());
        waiting
    }

    /// Nobody sees to a change any more; whose senders wait for it.
    pub fn release(&mut self, id: &Arc<str>) -> Vec<Arc<str>> {
        self.close(id).map(|open| open.waiting).unwrap_or_default()
    }

    fn close(&mut self, id: &Arc<str>) -> Option<Open> {
        let open = self.open.remove(id)?;
        if let Some(ids) = self.of_key.get_mut(&open.key) {
            ids.retain(|other| other != id);
            if ids.is_empty() {
                self.of_key.remove(&open.key);
            }
        }
        Some(open)
    }

    /// Gives what is to be written, and holds it until it is.
    pub fn write(&mut self) -> Arc<News> {
        self.writing = Arc::new(std::mem::take(&mut self.done));
        self.writing.clone()
    }

    /// It is written.
    pub fn written(&mut self) {
        self.writing = Arc::default();
    }

    /// It may not be written: it is again to be.
    pub fn unwrite(&mut self) {
        for (key, version) in &*std::mem::take(&mut self.writing) {
            self.done.entry(key.clone()).or_insert_with(|| version.clone());
        }
    }

    fn touch(&mut self, key: &str) {
        if self.is_listing || !self.found.is_empty() {
            self.touched.insert(key.to_owned());
        }
    }
}

/// How a change was found.
pub(super) struct Found<'a> {
    pub settings: &'a Settings,
    /// The id of the version, where the server told it.
    pub version_id: Option<&'a str>,
    /// A notification whose sender waits.
    pub waiting: Option<Arc<str>>,
    pub now: Timestamp,
}

fn wants(events: &BTreeSet<S3Event>, change: &Change) -> bool {
    events.contains(match change {
        Change::Created(_) => &S3Event::Created,
        Change::Removed(_) => &S3Event::Removed,
    })
}
