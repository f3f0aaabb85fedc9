//! Server-side apply: who wrote which fields, what an apply changes, and who has to give way. Pure.
//!
//! It is as the API server does it but for this: who owns what is not told in `managedFields`, the
//! versions of an API are one, and defaults are nobody's. A manager owns what it applied last; what it
//! leaves out goes unless somebody else owns it; what others own with another value is a conflict
//! unless it is forced.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{Fields, Lists, Node, Step, key_of};
use super::meta::{NAMES, NEVER, OURS};

/// How a manager writes, and what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub name: String,
    pub applies: bool,
    /// Empty for the object itself.
    pub subresource: String,
}

/// Who owns which fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owned(BTreeMap<Manager, Fields>);

/// Fields that another manager owns, with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub manager: Manager,
    pub fields: Fields,
}

/// What of an object somebody can own.
fn ownable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Value::Object(members) = &mut object {
        members.remove("apiVersion");
        members.remove("kind");
        if let Some(Value::Object(metadata)) = members.get_mut("metadata") {
            let nobodys = [&NAMES[..], &OURS, &NEVER].concat();
            metadata.retain(|name, _| !nobodys.contains(&name.as_str()));
            if metadata.is_empty() {
                members.remove("metadata");
            }
        }
    }
    object
}

impl Owned {
    /// Notes that `manager` wrote `after` over `before`, without an apply.
    pub(super) fn note(
        &mut self,
        manager: Manager,
        node: Node<'_>,
        (before, after): (Option<&Value>, &Value),
    ) {
        let (before, after) = (before.map(ownable), ownable(after));
        let changed = super::fields::changed(node, before.as_ref(), &after);
        let there = Fields::of(node, &after);
        for (other, fields) in &mut self.0 {
            if *other != manager {
                fields.take(&changed);
            }
            fields.keep(&there);
        }
        if !changed.is_empty() {
            self.0.entry(manager).or_default().add(&changed);
        }
        self.0.retain(|_, fields| !fields.is_empty());
    }

    /// What `live` becomes when `manager` applies `applied`.
    pub(super) fn apply(
        &mut self,
        manager: Manager,
        node: Node<'_>,
        (live, applied): (&Value, &Value),
        force: bool,
    ) -> Result<Value, Vec<Conflict>> {
        let applied = ownable(applied);
        let wanted = Fields::of(node, &applied);
        let mut merged = merge(node, live, &applied);
        let changed = super::fields::changed(node, Some(&ownable(live)), &ownable(&merged));
        let mut conflicts = Vec::new();
        for (other, fields) in &mut self.0 {
            if *other == manager {
                continue;
            }
            let mut lost = fields.clone();
            lost.keep(&changed);
            lost.keep(&wanted);
            if lost.is_empty() {
                continue;
            }
            if force {
                fields.take(&lost);
            } else {
                conflicts.push(Conflict { manager: other.clone(), fields: lost });
            }
        }
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let mut given_up = self.0.insert(manager, wanted).unwrap_or_default();
        for fields in self.0.values() {
            given_up.take(fields);
        }
        let mut kept = Fields::default();
        self.0.values().for_each(|fields| kept.add(fields));
        drop_fields(node, &mut merged, (&given_up, Some(&kept)));
        self.0.retain(|_, fields| !fields.is_empty());
        Ok(merged)
    }
}

/// `live` with what `applied` says laid over it.
pub(super) fn merge(node: Node<'_>, live: &Value, applied: &Value) -> Value {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) if !node.is_whole() => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let below = match live.get(name) {
                    _ if value.is_null() => {
                        merged.remove(name);
                        continue;
                    }
                    Some(there) => merge(node.field(name), there, value),
                    None => value.clone(),
                };
                merged.insert(name.clone(), below);
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(applied)) if node.lists() != Lists::Atomic => {
            merge_lists(node, live, applied)
        }
        (_, applied) => applied.clone(),
    }
}

/// What is applied comes first, in its order; then what others put there.
fn merge_lists(node: Node<'_>, live: &[Value], applied: &[Value]) -> Value {
    let lists = node.lists();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let mut seen: Vec<Step> = Vec::with_capacity(applied.len());
    for item in applied {
        let Some(key) = key_of(&lists, item) else {
            merged.push(item.clone());
            continue;
        };
        let there = live.iter().find(|other| key_of(&lists, other).as_ref() == Some(&key));
        merged.push(there.map_or_else(|| item.clone(), |there| merge(node.item(), there, item)));
        seen.push(key);
    }
    let others =
        live.iter().filter(|item| key_of(&lists, item).is_none_or(|key| !seen.contains(&key)));
    merged.extend(others.cloned());
    Value::Array(merged)
}

/// Takes fields out of a value. What has nothing left goes too, unless somebody owns it.
fn drop_fields(node: Node<'_>, value: &mut Value, (gone, kept): (&Fields, Option<&Fields>)) {
    match value {
        Value::Object(members) => drop_members(node, members, (gone, kept)),
        Value::Array(items) => {
            let lists = node.lists();
            items.retain_mut(|item| {
                let Some(key) = key_of(&lists, item) else { return true };
                let Some(gone) = gone.below(&key) else { return true };
                let kept = kept.and_then(|kept| kept.below(&key));
                if gone.has_own() && kept.is_none() {
                    return false;
                }
                drop_fields(node.item(), item, (gone, kept));
                true
            });
        }
        _ => {}
    }
}

fn drop_members(
    node: Node<'_>,
    members: &mut Map<String, Value>,
    (gone, kept): (&Fields, Option<&Fields>),
) {
    for (step, gone) in gone.steps() {
        let Step::Field(name) = step else { continue };
        let Some(member) = members.get_mut(name) else { continue };
        let kept = kept.and_then(|kept| kept.below(step));
        let had = !is_bare(member);
        if !gone.has_own() {
            drop_fields(node.field(name), member, (gone, kept));
        }
        if kept.is_none() && (gone.has_own() || (had && is_bare(member))) {
            members.remove(name);
        }
    }
}

fn is_bare(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
