//! What the Triggers of the namespace ask for, and what of it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::watcher::Event;
use rouse_core::source::ValidatedSource;
use rouse_crds::v1alpha1::Trigger;

/// What a Trigger asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub source: ValidatedSource,
    /// The generation of its spec.
    pub generation: i64,
}

impl Wanted {
    /// What `trigger` asks for; none where it brings no events to this process, leaves, or can't be
    /// run as it is written, which the controller tells.
    fn of(trigger: &Trigger) -> Option<Self> {
        let source = ValidatedSource::of(trigger)?.ok()?;
        let leaves = trigger.metadata.deletion_timestamp.is_some();
        (!leaves).then(|| Self { source, generation: trigger.metadata.generation.unwrap_or(0) })
    }

    /// Whether `other` is the same Trigger with the same spec.
    fn is(&self, other: &Self) -> bool {
        self.source.uid == other.source.uid && self.generation == other.generation
    }
}

/// By the name of a Trigger, what it asks for now; none where nothing shall run for it any more.
pub(super) type Change = (String, Option<Arc<Wanted>>);

/// What all Triggers ask for.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    wanted: BTreeMap<String, Arc<Wanted>>,
    /// The names that a listing which is not complete yet has brought.
    listing: BTreeSet<String>,
    are_listed: bool,
}

impl Triggers {
    /// Whether all that there are have been seen once.
    pub const fn are_listed(&self) -> bool {
        self.are_listed
    }

    /// Takes in what happened; what changes by it.
    pub fn take(&mut self, event: Event<Trigger>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.listing.clear();
                Vec::new()
            }
            Event::InitApply(trigger) => {
                self.listing.insert(trigger.name_any());
                self.put(&trigger)
            }
            Event::Apply(trigger) => self.put(&trigger),
            Event::Delete(trigger) => self.remove(trigger.name_any()),
            Event::InitDone => {
                self.are_listed = true;
                let listed = std::mem::take(&mut self.listing);
                let gone = self.wanted.keys().filter(|name| !listed.contains(*name));
                let gone: Vec<String> = gone.cloned().collect();
                gone.into_iter().flat_map(|name| self.remove(name)).collect()
            }
        }
    }

    fn put(&mut self, trigger: &Trigger) -> Vec<Change> {
        let name = trigger.name_any();
        let Some(wanted) = Wanted::of(trigger) else { return self.remove(name) };
        if self.wanted.get(&name).is_some_and(|before| before.is(&wanted)) {
            return Vec::new();
        }
        let wanted = Arc::new(wanted);
        self.wanted.insert(name.clone(), wanted.clone());
        vec![(name, Some(wanted))]
    }

    fn remove(&mut self, name: String) -> Vec<Change> {
        self.wanted.remove(&name).map(|_| (name, None)).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn trigger(name: &str, generation: i64, more: &Value) -> Trigger {
        let mut object = json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
            "metadata": {
                "namespace": "shop", "name": name, "uid": "u", "generation": generation,
            },
            "spec": {"function": "f", "nats": {
                "servers": ["nats://nats:4222"], "subject": {"name": "orders"},
            }},
        });
        for (name, value) in more.as_object().unwrap() {
            object[name] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    /// What changes, each with the generation that shall run.
    fn take(triggers: &mut Triggers, event: Event<Trigger>) -> Vec<(String, Option<i64>)> {
        let changes = triggers.take(event).into_iter();
        changes.map(|(name, wanted)| (name, wanted.map(|wanted| wanted.generation))).collect()
    }

    #[test]
    fn only_what_a_trigger_asks_for_is_a_change() {
        let mut triggers = Triggers::default();
        let mut put = |generation, more: Value| {
            take(&mut triggers, Event::Apply(trigger("t", generation, &more)))
        };
        assert_eq!(put(1, json!({})), [("t".to_owned(), Some(1))]);
        assert_eq!(put(1, json!({"status": {"source": {"connected": true}}})), []);
        assert_eq!(put(2, json!({})), [("t".to_owned(), Some(2))]);
        let other = json!({"spec": {"function": "f", "schedule": {"cron": "@daily"}}});
        assert_eq!(put(3, other), [("t".to_owned(), None)], "it is no source any more");
    }

    #[test]
    fn what_a_new_listing_lacks_ends() {
        let mut triggers = Triggers::default();
        for name in ["a", "b"] {
            take(&mut triggers, Event::Apply(trigger(name, 1, &json!({}))));
        }
        assert_eq!(take(&mut triggers, Event::Init), []);
        assert!(!triggers.are_listed());
        assert_eq!(take(&mut triggers, Event::InitApply(trigger("b", 1, &json!({})))), []);
        assert_eq!(take(&mut triggers, Event::InitDone), [("a".to_owned(), None)]);
        assert!(triggers.are_listed());
    }
}
