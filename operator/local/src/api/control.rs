//! The controllers that a cluster would have: of Deployments, `ReplicaSet`s, what lost its owner, and
//! namespaces that go. They run within the write that concerns them, until nothing is left to do, so
//! there is no task, no delay and nothing to poll. Pure.

mod deployments;
mod events;
mod garbage;
mod replica_sets;

use jiff::Timestamp;
use serde_json::Value;

use super::admit;
use super::kinds::Kinds;
use super::meta::{self, set};
use super::store::{Change, Object, Store};

/// Does what follows of the changes that were made.
pub(super) fn settle(store: &mut Store, kinds: &Kinds, now: Timestamp) {
    while let Some(change) = store.next_dirty() {
        let control = Control { store: &mut *store, kinds, now };
        control.follow(&change);
    }
}

/// What controllers may use.
struct Control<'a> {
    store: &'a mut Store,
    kinds: &'a Kinds,
    now: Timestamp,
}

impl Control<'_> {
    fn follow(mut self, change: &Change) {
        garbage::follow(&mut self, change);
        events::follow(&mut self, change);
        let kinds = self.kinds;
        if change.kind == kinds.deployment.id {
            deployments::reconcile(&mut self, meta::uid(&change.after.value));
        } else if change.kind == kinds.replica_set.id {
            if !change.is_gone {
                replica_sets::reconcile(&mut self, meta::uid(&change.after.value));
            }
            if let Some(owner) = meta::controller(&change.after.value) {
                deployments::reconcile(&mut self, owner);
            }
        } else if change.kind == kinds.pod.id
            && let Some(owner) = meta::controller(&change.after.value)
        {
            replica_sets::reconcile(&mut self, owner);
        }
    }

    /// Writes an object that a controller changed, if it did.
    fn put(&mut self, before: &Object, after: Value) {
        if after == before.value {
            return;
        }
        let mut after = after;
        if admit::counts_generations(&before.kind) && admit::changes_spec(&before.value, &after) {
            let generation =
                meta::number(&before.value, "/metadata/generation").unwrap_or_default();
            set(&mut after, &["metadata", "generation"], generation + 1);
        }
        self.store.put(&before.kind, after, before.owned.clone());
    }
}

/// Writes what only the API writes of a new object.
fn stamp(control: &mut Control<'_>, object: &mut Value) {
    set(object, &["metadata", "uid"], super::verbs::new_uid(control.store));
    set(object, &["metadata", "creationTimestamp"], meta::moment(control.now));
}

/// Sets a condition; since when it holds changes only with its status.
fn set_condition(status: &mut Value, condition: Value) {
    let kind = meta::text(&condition, "/type").to_owned();
    if let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        let there = conditions.iter_mut().find(|it| meta::text(it, "/type") == kind);
        match there {
            Some(there) if there.get("status") == condition.get("status") => {
                let (since, updated) = (
                    there.get("lastTransitionTime").cloned(),
                    there.get("lastUpdateTime").cloned(),
                );
                let same = there.get("reason") == condition.get("reason");
                *there = condition;
                for (field, value) in
                    [("lastTransitionTime", since), ("lastUpdateTime", updated.filter(|_| same))]
                {
                    if let Some(value) = value {
                        set(there, &[field], value);
                    }
                }
            }
            Some(there) => *there = condition,
            None => conditions.push(condition),
        }
        return;
    }
    set(status, &["conditions"], serde_json::json!([condition]));
}

#[cfg(test)]
mod tests;
