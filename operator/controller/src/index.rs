//! A store of watched objects that also finds those of an owner, tells what a new listing no
//! longer has, and knows what this process wrote before the watch brings it back.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::runtime::watcher::Event;
use rouse_crds::v1alpha1::GROUP;
use tokio::sync::watch;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(meta: &ObjectMeta) -> Self {
        let text = |part: &Option<String>| part.as_deref().unwrap_or_default().into();
        Self { namespace: text(&meta.namespace), name: text(&meta.name) }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The owner reference of the Function that controls an object.
pub(crate) fn controlling_function(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| {
        let group = owner.api_version.split('/').next();
        owner.controller == Some(true) && owner.kind == "Function" && group == Some(GROUP)
    })
}

/// The store.
#[derive(Debug)]
pub(crate) struct Index<K> {
    objects: RwLock<Objects<K>>,
    ready: watch::Sender<bool>,
}

#[derive(Debug)]
struct Objects<K> {
    by_key: HashMap<ObjectKey, Arc<K>>,
    by_owner: HashMap<Arc<str>, BTreeSet<ObjectKey>>,
    /// What a listing that is not complete yet has brought.
    listing: HashMap<ObjectKey, Arc<K>>,
    /// The newest version that was seen, also of objects that are gone.
    newest: u64,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        let objects = Objects {
            by_key: HashMap::new(),
            by_owner: HashMap::new(),
            listing: HashMap::new(),
            newest: 0,
        };
        Self { objects: RwLock::new(objects), ready: watch::Sender::new(false) }
    }
}

impl<K: Resource> Index<K> {
    /// Takes an event of a watch in; the objects, before and after, that it touched.
    pub fn take(&self, event: Event<K>) -> Vec<Arc<K>> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if let Event::Apply(object) | Event::Delete(object) | Event::InitApply(object) = &event {
            objects.newest = objects.newest.max(version(object.meta()).unwrap_or_default());
        }
        match event {
            Event::Apply(object) => {
                let object = Arc::new(object);
                let before = objects.insert(object.clone());
                before.into_iter().chain([object]).collect()
            }
            Event::Delete(object) => {
                let before = objects.remove(&ObjectKey::of(object.meta()));
                before.into_iter().chain([Arc::new(object)]).collect()
            }
            Event::Init => {
                objects.listing.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                objects.listing.insert(ObjectKey::of(object.meta()), Arc::new(object));
                Vec::new()
            }
            Event::InitDone => {
                let listing = std::mem::take(&mut objects.listing);
                objects.by_owner.clear();
                let mut touched: Vec<Arc<K>> = objects.by_key.drain().map(|(_, old)| old).collect();
                for object in listing.into_values() {
                    objects.insert(object.clone());
                    touched.push(object);
                }
                self.ready.send_replace(true);
                touched
            }
        }
    }

    /// Waits until the first listing is complete.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives as long as the index.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().by_key.get(key).cloned()
    }

    /// All objects that the Function with this UID controls.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let keys = objects.by_owner.get(uid).into_iter().flatten();
        keys.filter_map(|key| objects.by_key.get(key).cloned()).collect()
    }

    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().by_key.values().cloned().collect()
    }

    /// The newest version that a watch brought, be it of an object's end.
    pub fn newest(&self) -> u64 {
        self.read().newest
    }

    /// Takes in what a write answered, unless the watch has brought something newer already.
    pub fn assume(&self, object: K) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        let key = ObjectKey::of(object.meta());
        let known = objects.by_key.get(&key).and_then(|known| version(known.meta()));
        if known.is_none_or(|known| version(object.meta()).is_some_and(|new| new > known)) {
            objects.insert(Arc::new(object));
        }
    }

    /// Takes out what a write deleted.
    pub fn assume_gone(&self, key: &ObjectKey, uid: &str) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        if objects.by_key.get(key).is_some_and(|known| known.meta().uid.as_deref() == Some(uid)) {
            objects.remove(key);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions of one resource grow; Kubernetes promises that they can be compared as numbers.
pub(crate) fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

impl<K: Resource> Objects<K> {
    fn insert(&mut self, object: Arc<K>) -> Option<Arc<K>> {
        let key = ObjectKey::of(object.meta());
        let before = self.remove(&key);
        if let Some(owner) = controlling_function(object.meta()) {
            self.by_owner.entry(owner.uid.as_str().into()).or_default().insert(key.clone());
        }
        self.by_key.insert(key, object);
        before
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let before = self.by_key.remove(key)?;
        if let Some(owner) = controlling_function(before.meta())
            && let Some(keys) = self.by_owner.get_mut(owner.uid.as_str())
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(owner.uid.as_str());
            }
        }
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, owner: &str, version: u64) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("a".into()),
                name: Some(name.into()),
                uid: Some(format!("uid-{name}")),
                resource_version: Some(version.to_string()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "rouse.dev/v1alpha1".into(),
                    kind: "Function".into(),
                    name: "f".into(),
                    uid: owner.into(),
                    controller: Some(true),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn listed(index: &Index<ConfigMap>, objects: &[ConfigMap]) -> Vec<String> {
        index.take(Event::Init);
        for object in objects {
            index.take(Event::InitApply(object.clone()));
        }
        names(&index.take(Event::InitDone))
    }

    fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
        let mut names: Vec<_> =
            objects.iter().map(|o| o.metadata.name.clone().unwrap_or_default()).collect();
        names.sort();
        names
    }

    #[test]
    fn children_are_found_by_their_owner() {
        let index = Index::default();
        listed(&index, &[object("x", "1", 1), object("y", "2", 1), object("z", "1", 1)]);
        assert_eq!(names(&index.owned_by("1")), ["x", "z"]);
        index.take(Event::Apply(object("x", "2", 2)));
        assert_eq!(names(&index.owned_by("1")), ["z"]);
        index.take(Event::Delete(object("z", "1", 3)));
        assert_eq!(names(&index.owned_by("1")), [""; 0]);
        assert_eq!(index.newest(), 3);
        assert_eq!(names(&index.all()), ["x", "y"]);
    }

    #[test]
    fn what_a_new_listing_lacks_is_touched() {
        let index = Index::default();
        listed(&index, &[object("x", "1", 1), object("y", "1", 1)]);
        let touched = listed(&index, &[object("y", "1", 2)]);
        assert_eq!(touched, ["x", "y", "y"]);
        assert_eq!(names(&index.owned_by("1")), ["y"]);
    }

    #[test]
    fn a_written_object_is_known_before_the_watch_brings_it() {
        let index = Index::default();
        listed(&index, &[object("x", "1", 5)]);
        index.assume(object("x", "2", 4));
        assert_eq!(names(&index.owned_by("1")), ["x"], "older than what is known");
        index.assume(object("x", "2", 6));
        assert_eq!(names(&index.owned_by("2")), ["x"]);
        index.assume_gone(&ObjectKey::new("a", "x"), "another uid");
        assert_eq!(names(&index.all()), ["x"]);
        index.assume_gone(&ObjectKey::new("a", "x"), "uid-x");
        assert_eq!(names(&index.all()), [""; 0]);
    }
}
