//! What the Triggers of the namespace ask for, and what of it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::watcher::Event;
use rouse_core::source::ValidatedSource;
use rouse_core::trigger::{ANY_NAMESPACE, HostPolicy, HttpClaim, decide_claims};
use rouse_crds::v1alpha1::Trigger;

/// What a Trigger asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub source: Arc<ValidatedSource>,
    /// The generation of its spec.
    pub generation: i64,
    /// Whether its host and path, where it has any, are its own.
    pub has_door: bool,
}

impl Wanted {
    /// Whether `other` is the same Trigger with the same spec and door.
    fn is(&self, other: &Self) -> bool {
        self.source.uid == other.source.uid
            && self.generation == other.generation
            && self.has_door == other.has_door
    }
}

/// By the name of a Trigger, what it asks for now; none where nothing shall run for it any more.
pub(super) type Change = (String, Option<Arc<Wanted>>);

/// A Trigger as it was seen last.
#[derive(Debug)]
struct Seen {
    uid: Option<String>,
    generation: i64,
    /// None where it brings no events to this process, leaves, or can't be run as it is written,
    /// which the controller tells.
    source: Option<Arc<ValidatedSource>>,
    /// The hosts and paths that it asks for, be it for events or for requests.
    claim: Option<HttpClaim>,
}

impl Seen {
    fn of(trigger: &Trigger) -> Self {
        let stays = trigger.metadata.deletion_timestamp.is_none();
        let source = ValidatedSource::of(trigger).and_then(Result::ok);
        Self {
            uid: trigger.uid(),
            generation: trigger.metadata.generation.unwrap_or_default(),
            source: source.filter(|_| stays).map(Arc::new),
            claim: HttpClaim::of(trigger),
        }
    }

    /// Whether `trigger` asks for nothing else than before.
    fn is(&self, trigger: &Trigger) -> bool {
        self.uid == trigger.uid()
            && Some(self.generation) == trigger.metadata.generation
            && trigger.metadata.deletion_timestamp.is_none()
    }
}

/// What all Triggers ask for.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    seen: BTreeMap<String, Seen>,
    /// What a listing that is not complete yet has brought.
    listing: BTreeMap<String, Seen>,
    wanted: BTreeMap<String, Arc<Wanted>>,
    are_listed: bool,
}

impl Triggers {
    /// Whether all that there are have been seen once.
    pub const fn are_listed(&self) -> bool {
        self.are_listed
    }

    /// Takes in what happened; what changes by it. Before all Triggers are known that is nothing: who
    /// holds a host and path depends on all.
    pub fn take(&mut self, event: Event<Trigger>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.listing.clear();
                return Vec::new();
            }
            Event::InitApply(trigger) => {
                self.listing.insert(trigger.name_any(), Seen::of(&trigger));
                return Vec::new();
            }
            Event::InitDone => {
                self.seen = std::mem::take(&mut self.listing);
                self.are_listed = true;
            }
            Event::Apply(trigger) => {
                let name = trigger.name_any();
                // Most often it is how its source goes that changed.
                if self.seen.get(&name).is_some_and(|before| before.is(&trigger)) {
                    return Vec::new();
                }
                self.seen.insert(name, Seen::of(&trigger));
            }
            Event::Delete(trigger) => drop(self.seen.remove(&trigger.name_any())),
        }
        self.settle()
    }

    fn settle(&mut self) -> Vec<Change> {
        let doors = self.doors();
        let mut before = std::mem::take(&mut self.wanted);
        let mut changes = Vec::new();
        for (name, seen) in &self.seen {
            let Some(source) = seen.source.clone() else { continue };
            let has_door = doors.contains(name);
            let wanted = Wanted { source, generation: seen.generation, has_door };
            let wanted = match before.remove(name) {
                Some(same) if same.is(&wanted) => same,
                _ => {
                    let wanted = Arc::new(wanted);
                    changes.push((name.clone(), Some(wanted.clone())));
                    wanted
                }
            };
            self.wanted.insert(name.clone(), wanted);
        }
        changes.extend(before.into_keys().map(|name| (name, None)));
        changes
    }

    /// The names of the Triggers that hold the host and path at which they take events. Those of other
    /// namespaces don't come here, and which hosts there may be is the administrator's business.
    fn doors(&self) -> BTreeSet<String> {
        let claims: Vec<HttpClaim> =
            self.seen.values().filter_map(|seen| seen.claim.clone()).collect();
        let hosts = claims.iter().flat_map(|claim| claim.hosts.clone()).collect();
        let suffixes = BTreeMap::from([(ANY_NAMESPACE.to_owned(), hosts)]);
        let policy = HostPolicy { suffixes, ..HostPolicy::default() };
        let functions = claims.iter().map(|claim| claim.function.clone()).collect();
        let verdicts = decide_claims(&claims, &functions, &policy);
        verdicts.doors.into_iter().map(|door| door.trigger.name).collect()
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
        take(&mut triggers, Event::InitDone);
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

    #[test]
    fn a_host_and_path_is_the_oldest_triggers() {
        let mut triggers = Triggers::default();
        take(&mut triggers, Event::InitDone);
        let hook = |name: &str, day: u32| {
            let more = json!({
                "metadata": {
                    "namespace": "shop", "name": name, "uid": name, "generation": 1,
                    "creationTimestamp": format!("2026-01-0{day}T00:00:00Z"),
                },
                "spec": {"function": "f", "webhook": {
                    "host": "a.example.com", "path": "/", "sender": "GitHub",
                    "secret": {"name": "s", "key": "k"},
                }},
            });
            trigger(name, 1, &more)
        };
        let doors = |changes: Vec<Change>| {
            let changes = changes.into_iter();
            let door = |(name, wanted): Change| (name, wanted.map(|wanted| wanted.has_door));
            changes.map(door).collect::<Vec<_>>()
        };
        let named = |name: &str, door| (name.to_owned(), door);
        let young = doors(triggers.take(Event::Apply(hook("a", 2))));
        assert_eq!(young, [named("a", Some(true))]);
        let old = doors(triggers.take(Event::Apply(hook("b", 1))));
        assert_eq!(old, [named("a", Some(false)), named("b", Some(true))]);
        let gone = doors(triggers.take(Event::Delete(hook("b", 1))));
        assert_eq!(gone, [named("a", Some(true)), named("b", None)]);
    }
}
