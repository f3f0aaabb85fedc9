//! The objects themselves, their versions, and what changed lately. Pure: no clock, no task.
//!
//! What changed is kept for watches up to a number and a size; a watch that fell behind that has to
//! begin anew, as with an API server.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::apply::Owned;
use super::kinds::{Kind, KindId};
use super::meta;

/// Changes that are kept: more than a burst of wakings makes.
const MOST_CHANGES: usize = 2048;
/// Bytes of the objects in them, as JSON: some hundred pods.
const MOST_BYTES: usize = 512 << 10;
/// What one of them counts for at most: an object with code in it must not drive out all others, nor
/// itself.
const MOST_OF_ONE: usize = MOST_BYTES / 32;
/// The newest of them, whose objects are held whole, which takes about twenty times their JSON: what a
/// watch that is awake has not read yet.
const WHOLE: usize = 16;
/// Objects that there may be, so that a loop in somebody's script does not eat the machine.
const MOST_OBJECTS: usize = 50_000;
/// Events that are kept, by each of their names; the oldest go first.
const MOST_EVENTS: usize = 200;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub kind: KindId,
    /// Empty where its kind has none.
    pub namespace: String,
    pub name: String,
}

/// An object as it was at some version.
pub(super) struct Object {
    pub kind: Arc<Kind>,
    pub value: Value,
    pub version: u64,
    /// Who wrote which fields.
    pub owned: Owned,
    text: OnceLock<Bytes>,
}

impl Object {
    /// Its JSON, written once for all who read it.
    pub(super) fn text(&self) -> Bytes {
        self.text.get_or_init(|| self.value.to_string().into()).clone()
    }

    pub(super) fn place(&self) -> Place {
        Place {
            kind: self.kind.id,
            namespace: meta::namespace(&self.value).to_owned(),
            name: meta::name(&self.value).to_owned(),
        }
    }
}

/// What happened to an object.
#[derive(Clone)]
pub(super) struct Change {
    pub kind: KindId,
    /// None where it came to be.
    pub before: Option<Arc<Object>>,
    /// As it is, or as it was when it went.
    pub after: Arc<Object>,
    pub is_gone: bool,
}

/// A change that is kept for watches.
struct Kept {
    version: u64,
    kind: KindId,
    before: Option<Past>,
    after: Past,
    is_gone: bool,
    size: usize,
}

impl Kept {
    fn change(&self) -> Change {
        Change {
            kind: self.kind,
            before: self.before.as_ref().map(Past::object),
            after: self.after.object(),
            is_gone: self.is_gone,
        }
    }

    fn shrink(&mut self) {
        if let Some(before) = &mut self.before {
            before.shrink();
        }
        self.after.shrink();
    }
}

/// An object in a change.
enum Past {
    Whole(Arc<Object>),
    /// Its kind, version and JSON.
    Written(Arc<Kind>, u64, Bytes),
}

impl Past {
    fn shrink(&mut self) {
        if let Self::Whole(object) = self {
            *self = Self::Written(Arc::clone(&object.kind), object.version, object.text());
        }
    }

    /// The object. Who owned which fields is forgotten: nobody changes what is past.
    fn object(&self) -> Arc<Object> {
        match self {
            Self::Whole(object) => Arc::clone(object),
            Self::Written(kind, version, text) => Arc::new(Object {
                kind: Arc::clone(kind),
                // It was written here, so it can be read.
                value: serde_json::from_slice(text).unwrap_or_default(),
                version: *version,
                owned: Owned::default(),
                text: text.clone().into(),
            }),
        }
    }
}

/// The objects of a kind.
struct Shelf {
    objects: BTreeMap<(String, String), Arc<Object>>,
    /// The version of the last change.
    told: watch::Sender<u64>,
    /// The version of the last change that is forgotten.
    forgotten: u64,
}

/// All objects.
pub(super) struct Store {
    shelves: HashMap<KindId, Shelf>,
    version: u64,
    changes: VecDeque<Kept>,
    bytes: usize,
    count: usize,
    /// Where the dependents of a UID are.
    dependents: HashMap<String, BTreeSet<Place>>,
    by_uid: HashMap<String, Place>,
    /// What the controllers have not looked at yet.
    dirty: VecDeque<Change>,
    pub rng: fastrand::Rng,
}

impl Store {
    /// Without any object. `seed` is what UIDs and names are made of.
    pub(super) fn new(kinds: impl IntoIterator<Item = KindId>, seed: u64) -> Self {
        let shelf = || {
            let (objects, told) = (BTreeMap::new(), watch::Sender::new(0));
            Shelf { objects, told, forgotten: 0 }
        };
        Self {
            shelves: kinds.into_iter().map(|kind| (kind, shelf())).collect(),
            version: 1,
            changes: VecDeque::new(),
            bytes: 0,
            count: 0,
            dependents: HashMap::new(),
            by_uid: HashMap::new(),
            dirty: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// The version of the last change.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Whether there is room for another object.
    pub(super) const fn is_full(&self) -> bool {
        self.count >= MOST_OBJECTS
    }

    /// The object at `place`.
    pub(super) fn get(&self, place: &Place) -> Option<&Arc<Object>> {
        let all = self.shelves.get(&place.kind)?;
        all.objects.get(&(place.namespace.clone(), place.name.clone()))
    }

    /// The object with a UID.
    pub(super) fn by_uid(&self, uid: &str) -> Option<&Arc<Object>> {
        self.get(self.by_uid.get(uid)?)
    }

    /// The objects of a kind behind `after`, in order.
    pub(super) fn list(
        &self,
        kind: KindId,
        after: Option<&(String, String)>,
    ) -> impl Iterator<Item = &Arc<Object>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let all = self.shelves.get(&kind);
        all.into_iter().flat_map(move |all| {
            all.objects.range::<(String, String), _>((from, Unbounded)).map(|(_, it)| it)
        })
    }

    /// Everything in a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Place> {
        let mut found = Vec::new();
        for (kind, shelf) in &self.shelves {
            let from = (namespace.to_owned(), String::new());
            let all = shelf.objects.range(from..);
            for ((of, name), _) in all.take_while(|((of, _), _)| of == namespace) {
                found.push(Place { kind: *kind, namespace: of.clone(), name: name.clone() });
            }
        }
        found.sort_unstable();
        found
    }

    /// The objects that name `uid` as an owner.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Arc<Object>> {
        let places = self.dependents.get(uid).into_iter().flatten();
        places.filter_map(|place| self.get(place).cloned()).collect()
    }

    /// Keeps `value` under its own name, with a new version.
    pub(super) fn put(&mut self, kind: &Arc<Kind>, mut value: Value, owned: Owned) -> Arc<Object> {
        self.version += 1;
        meta::set(&mut value, &["metadata", "resourceVersion"], self.version.to_string());
        let version = self.version;
        let object =
            Object { kind: Arc::clone(kind), value, version, owned, text: OnceLock::new() };
        let object = Arc::new(object);
        let place = object.place();
        let key = (place.namespace.clone(), place.name.clone());
        let Some(all) = self.shelves.get_mut(&kind.id) else { return object };
        let before = all.objects.insert(key, Arc::clone(&object));
        let is_new = before.is_none();
        match &before {
            None => self.count += 1,
            Some(before) => self.forget_owners(before),
        }
        self.note_owners(&object, &place);
        self.tell(before, &object, false);
        if is_new && kind.name == "Event" {
            self.drop_old_events(kind);
        }
        object
    }

    /// Takes an object away.
    pub(super) fn remove(&mut self, place: &Place) -> Option<Arc<Object>> {
        let all = self.shelves.get_mut(&place.kind)?;
        let key = (place.namespace.clone(), place.name.clone());
        let before = all.objects.remove(&key)?;
        self.count -= 1;
        self.version += 1;
        self.forget_owners(&before);
        let mut value = before.value.clone();
        meta::set(&mut value, &["metadata", "resourceVersion"], self.version.to_string());
        let kind = Arc::clone(&before.kind);
        let (version, owned) = (self.version, Owned::default());
        let gone = Arc::new(Object { kind, value, version, owned, text: OnceLock::new() });
        self.tell(Some(before), &gone, true);
        Some(gone)
    }

    fn note_owners(&mut self, object: &Object, place: &Place) {
        self.by_uid.insert(meta::uid(&object.value).to_owned(), place.clone());
        for owner in meta::owners(&object.value) {
            self.dependents.entry(owner.to_owned()).or_default().insert(place.clone());
        }
    }

    fn forget_owners(&mut self, object: &Object) {
        let place = object.place();
        self.by_uid.remove(meta::uid(&object.value));
        for owner in meta::owners(&object.value) {
            if let Some(all) = self.dependents.get_mut(owner) {
                all.remove(&place);
                if all.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }

    fn tell(&mut self, before: Option<Arc<Object>>, after: &Arc<Object>, is_gone: bool) {
        let kind = after.kind.id;
        let size = after.text().len().min(MOST_OF_ONE);
        let after = Arc::clone(after);
        let change = Change { kind, before, after, is_gone };
        self.bytes += size;
        self.changes.push_back(Kept {
            version: self.version,
            kind,
            before: change.before.clone().map(Past::Whole),
            after: Past::Whole(Arc::clone(&change.after)),
            is_gone,
            size,
        });
        self.dirty.push_back(change);
        if let Some(old) = self.changes.iter_mut().nth_back(WHOLE) {
            old.shrink();
        }
        while self.changes.len() > MOST_CHANGES || self.bytes > MOST_BYTES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.size;
            // Who watches another kind has missed nothing.
            if let Some(all) = self.shelves.get_mut(&oldest.kind) {
                all.forgotten = oldest.version;
            }
        }
        if let Some(all) = self.shelves.get(&kind) {
            all.told.send_replace(self.version);
        }
    }

    /// Events are told by many and deleted by nobody.
    fn drop_old_events(&mut self, kind: &Kind) {
        let Some(all) = self.shelves.get(&kind.id) else { return };
        if all.objects.len() <= MOST_EVENTS {
            return;
        }
        let oldest = all.objects.values().min_by_key(|event| event.version);
        if let Some(place) = oldest.map(|event| event.place()) {
            self.remove(&place);
        }
    }

    /// Told of each change of a kind.
    pub(super) fn subscribe(&self, kind: KindId) -> Option<watch::Receiver<u64>> {
        self.shelves.get(&kind).map(|all| all.told.subscribe())
    }

    /// What changed of a kind since `version`; none where that is forgotten.
    pub(super) fn changes_since(
        &self,
        kind: KindId,
        version: u64,
    ) -> Option<impl Iterator<Item = Change>> {
        if version < self.shelves.get(&kind)?.forgotten {
            return None;
        }
        let first = self.changes.partition_point(|change| change.version <= version);
        let since = self.changes.range(first..);
        Some(since.filter(move |change| change.kind == kind).map(Kept::change))
    }

    /// The next change that the controllers have not looked at.
    pub(super) fn next_dirty(&mut self) -> Option<Change> {
        self.dirty.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::kinds::Kinds;

    #[test]
    fn what_is_long_past_is_told_as_it_was() {
        let kinds = Kinds::new(&[]).unwrap();
        let kind = kinds.iter().find(|kind| kind.name == "ConfigMap").unwrap();
        let mut store = Store::new([kind.id], 1);
        let mut put = |number: usize| {
            let value = json!({
                "kind": "ConfigMap", "apiVersion": "v1", "data": {"number": number.to_string()},
                "metadata": {"name": "m", "namespace": "n", "uid": "u"},
            });
            store.put(kind, value, Owned::default()).value.clone()
        };
        let all: Vec<Value> = (0..3 * WHOLE).map(&mut put).collect();
        let told: Vec<Change> = store.changes_since(kind.id, 0).unwrap().collect();
        assert!(told.iter().map(|change| &change.after.value).eq(&all));
        assert!(told[0].before.is_none());
        let before = told[1..].iter().map(|change| &change.before.as_ref().unwrap().value);
        assert!(before.eq(&all[..all.len() - 1]));
        assert!(told.iter().all(|change| change.after.text() == change.after.value.to_string()));
        let whole = store.changes.iter().filter(|kept| matches!(kept.after, Past::Whole(_)));
        assert_eq!(whole.count(), WHOLE, "the rest is held as JSON");
    }
}
