//! Patches other than applies: merge, JSON and strategic merge. Pure.

use serde_json::{Map, Value};

use super::answer::Refusal;
use super::fields::{Lists, Node, key_of};

/// What strategic merges say instead of values.
const DIRECTIVE: &str = "$patch";
const ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const RETAIN: &str = "$retainKeys";

/// RFC 7386.
pub(super) fn merge(into: &mut Value, patch: &Value) {
    json_patch::merge(into, patch);
}

/// RFC 6902.
pub(super) fn json(into: &mut Value, patch: &[u8]) -> Result<(), Refusal> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|error| Refusal::bad(error.to_string()))?;
    json_patch::patch(into, &patch).map_err(|error| Refusal::bad(error.to_string()))
}

/// A merge that knows the members of lists.
pub(super) fn strategic(node: Node<'_>, into: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => {
            if patch.get(DIRECTIVE).and_then(Value::as_str) == Some("replace") {
                *into = without_directives(patch);
                return;
            }
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            if let Value::Object(into) = into {
                strategic_members(node, into, patch);
            }
        }
        other => into.clone_from(other),
    }
}

fn without_directives(patch: &Map<String, Value>) -> Value {
    let own = patch.iter().filter(|(name, _)| !name.starts_with('$'));
    Value::Object(own.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn strategic_members(node: Node<'_>, into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(Value::Array(retained)) = patch.get(RETAIN) {
        into.retain(|name, _| retained.iter().any(|it| it.as_str() == Some(name)));
    }
    for (name, value) in patch {
        if name == RETAIN || name == DIRECTIVE || name.starts_with(ORDER) {
            continue;
        }
        if let Some(name) = name.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (into.get_mut(name), value) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        let below = node.field(name);
        match (value, into.get_mut(name)) {
            (Value::Null, _) => drop(into.remove(name)),
            (Value::Array(patch), Some(Value::Array(items))) => {
                *items = strategic_items(below, items, patch);
            }
            (Value::Array(patch), None) => {
                into.insert(name.clone(), Value::Array(strategic_items(below, &[], patch)));
            }
            (value, Some(there)) => strategic(below, there, value),
            (value, None) => {
                let mut made = Value::Null;
                strategic(below, &mut made, value);
                into.insert(name.clone(), made);
            }
        }
    }
}

fn strategic_items(node: Node<'_>, there: &[Value], patch: &[Value]) -> Vec<Value> {
    let lists = match node.lists() {
        // Ports are known by their number alone here.
        Lists::Map(keys) => Lists::Map(keys.into_iter().take(1).collect()),
        other => other,
    };
    let directive = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str).map(str::to_owned);
    let replaces = patch.iter().any(|item| directive(item).as_deref() == Some("replace"));
    match lists {
        Lists::Set if !replaces => {
            let mut all = there.to_vec();
            all.extend(patch.iter().filter(|item| !there.contains(item)).cloned());
            all
        }
        Lists::Map(_) if !replaces => {
            let mut all = there.to_vec();
            for item in patch {
                let key = key_of(&lists, item);
                let is = |other: &Value| key.is_some() && key_of(&lists, other) == key;
                match (directive(item).as_deref(), all.iter_mut().find(|other| is(other))) {
                    (Some("delete"), _) => all.retain(|other| !is(other)),
                    (_, Some(there)) => strategic(node.item(), there, item),
                    (_, None) => all.push(item.clone()),
                }
            }
            all
        }
        _ => patch.iter().filter(|item| directive(item).is_none()).cloned().collect(),
    }
}
