//! Watches: what changed since a version, told as it happens. A watch keeps nothing but how far it
//! told; it is woken by changes of its kind alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use futures::stream::unfold;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::answer::Refusal;
use super::form::Form;
use super::kinds::Kind;
use super::route::Query;
use super::select::Selector;
use super::store::{Change, Store};

/// How long a watch lasts if nobody says.
const LIFE: Duration = Duration::from_mins(30);

/// A watch.
pub(super) struct Watch {
    shared: Arc<Shared>,
    kind: Arc<Kind>,
    selector: Selector,
    form: Form,
    /// The version up to which was told.
    told_to: u64,
    changed: watch::Receiver<u64>,
    until: Instant,
    bookmarks: bool,
    /// What there was in the beginning.
    initial: Option<Bytes>,
    /// Whether a line was told.
    has_begun: bool,
    is_over: bool,
}

impl Watch {
    /// The watch that a request asks for.
    pub(super) fn start(
        shared: &Arc<Shared>,
        kind: &Arc<Kind>,
        (selector, form): (Selector, Form),
        query: &Query,
    ) -> Result<Self, Refusal> {
        let state = shared.lock();
        let store = &state.store;
        let changed = store.subscribe(kind.id).ok_or_else(Refusal::no_such_path)?;
        let life = query.number("timeoutSeconds").map_or(LIFE, Duration::from_secs);
        let mut watch = Self {
            shared: Arc::clone(shared),
            kind: Arc::clone(kind),
            selector,
            form,
            told_to: store.version(),
            changed,
            until: Instant::now() + life,
            bookmarks: query.is_set("allowWatchBookmarks"),
            initial: None,
            has_begun: false,
            is_over: false,
        };
        let wants_all = query.is_set("sendInitialEvents");
        match query.get("resourceVersion") {
            "" | "0" => watch.tell_all(store, wants_all),
            _ if wants_all => watch.tell_all(store, true),
            version => watch.told_to = version.parse().unwrap_or(u64::MAX),
        }
        Ok(watch)
    }

    /// Tells of all that there is, and, where that is asked for, that this was all.
    fn tell_all(&mut self, store: &Store, with_end: bool) {
        let now = Timestamp::now();
        let mut lines = BytesMut::new();
        for object in store.list(self.kind.id, None) {
            if self.selector.selects(&object.value) {
                let line = self.form.show_event("ADDED", object, now, !self.has_begun);
                lines.extend_from_slice(&line);
                self.has_begun = true;
            }
        }
        if with_end {
            lines.extend_from_slice(&self.bookmark(&json!({"k8s.io/initial-events-end": "true"})));
        }
        self.initial = Some(lines.freeze()).filter(|lines| !lines.is_empty());
    }

    fn bookmark(&self, annotations: &Value) -> Bytes {
        let object = json!({
            "kind": self.kind.name, "apiVersion": self.kind.api_version(),
            "metadata": {
                "resourceVersion": self.told_to.to_string(), "annotations": annotations,
            },
        });
        format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
    }

    /// The lines of the watch, until its time is over or the API is gone.
    pub(super) fn lines(self) -> impl Stream<Item = Bytes> + Send {
        unfold(self, |mut watch| async move {
            let line = watch.next().await?;
            Some((line, watch))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if let Some(initial) = self.initial.take() {
            return Some(initial);
        }
        loop {
            self.changed.borrow_and_update();
            if let Some(lines) = self.read() {
                return Some(lines);
            }
            tokio::select! {
                changed = self.changed.changed() => changed.ok()?,
                () = sleep_until(self.until) => {
                    self.is_over = true;
                    // Who comes again begins where nothing is forgotten yet.
                    return self.bookmarks.then(|| self.bookmark(&json!({})));
                }
            }
        }
    }

    /// What has changed that was not told yet.
    fn read(&mut self) -> Option<Bytes> {
        let shared = Arc::clone(&self.shared);
        let state = shared.lock();
        let version = state.store.version();
        let since = state.store.changes_since(self.kind.id, self.told_to);
        let since = since.filter(|_| self.told_to <= version);
        let Some(since) = since else {
            self.is_over = true;
            let status = Refusal::expired().status();
            return Some(format!("{}\n", json!({"type": "ERROR", "object": status})).into());
        };
        let now = Timestamp::now();
        let mut lines = BytesMut::new();
        for change in since {
            if let Some(what) = told_as(&self.selector, &change) {
                let line = self.form.show_event(what, &change.after, now, !self.has_begun);
                lines.extend_from_slice(&line);
                self.has_begun = true;
            }
        }
        self.told_to = version;
        (!lines.is_empty()).then(|| lines.freeze())
    }
}

/// What a change is for who sees only what is selected.
fn told_as(selector: &Selector, change: &Change) -> Option<&'static str> {
    let before = change.before.as_ref().is_some_and(|it| selector.selects(&it.value));
    let after = !change.is_gone && selector.selects(&change.after.value);
    match (before, after) {
        (false, true) => Some("ADDED"),
        (true, true) => Some("MODIFIED"),
        (true, false) => Some("DELETED"),
        (false, false) => None,
    }
}
