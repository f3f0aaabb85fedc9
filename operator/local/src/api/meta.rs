//! Looks into objects and their metadata. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Metadata by which an object is named, once and for all.
pub(super) const NAMES: [&str; 3] = ["generateName", "name", "namespace"];
/// Metadata that the API alone writes.
pub(super) const OURS: [&str; 6] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
    "uid",
];
/// Metadata that is not kept.
pub(super) const NEVER: [&str; 2] = ["managedFields", "selfLink"];

/// A text below `path` of `object`; empty where there is none.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// A whole number below `path`.
pub(super) fn number(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path).and_then(Value::as_i64)
}

/// The members of a list below `path`.
pub(super) fn list<'a>(object: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// Sets what is at `path`; what is no object on the way becomes one.
pub(super) fn set(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    let Some((first, rest)) = path.split_first() else {
        *value = new.into();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    if let Value::Object(members) = value {
        set(members.entry(*first).or_insert(Value::Null), rest, new.into());
    }
}

/// Sets what is at `path` unless there is something.
pub(super) fn set_default(value: &mut Value, path: &[&str], new: impl Into<Value>) {
    let found = path.iter().try_fold(&*value, |at, step| at.get(step));
    if found.is_none_or(Value::is_null) {
        set(value, path, new);
    }
}

/// Takes away what is at `path`.
pub(super) fn unset(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, before) = path.split_last()?;
    let holder = before.iter().try_fold(value, |at, step| at.get_mut(step))?;
    holder.as_object_mut()?.remove(*last)
}

/// Moves what is at `path` of another object into this one, where nothing of it may differ.
pub(super) fn keep(value: &mut Value, path: &[&str], from: &Value) {
    match path.iter().try_fold(from, |at, step| at.get(step)) {
        Some(kept) => set(value, path, kept.clone()),
        None => drop(unset(value, path)),
    }
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// The namespace of an object; empty where it has none.
pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// The UID of an object.
pub(super) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// Whether it is being deleted.
pub(super) fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// The UIDs of its owners.
pub(super) fn owners(object: &Value) -> impl Iterator<Item = &str> {
    list(object, "/metadata/ownerReferences").map(|owner| text(owner, "/uid"))
}

/// The UID of the owner that controls it.
pub(super) fn controller(object: &Value) -> Option<&str> {
    let mut all = list(object, "/metadata/ownerReferences");
    all.find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
        .map(|owner| text(owner, "/uid"))
}

/// Whether it has a finalizer.
pub(super) fn has_finalizers(object: &Value) -> bool {
    list(object, "/metadata/finalizers").next().is_some()
}

/// A moment as objects tell it.
pub(super) fn moment(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
