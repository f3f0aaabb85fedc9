//! Makes objects and changes them.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::apply::apply;
use super::{Answer, Call, Outcome, check_namespace};
use crate::api::admit::{self, Part};
use crate::api::answer::Refusal;
use crate::api::apply::Owned;
use crate::api::fields::Node;
use crate::api::meta::{self, set, text};
use crate::api::patch as patches;
use crate::api::store::{Object, Store};

/// Letters of names that are made up: none that make words.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// How a patch is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum PatchKind {
    Merge,
    Json,
    Strategic,
    Apply,
}

impl PatchKind {
    /// By the content type of a request.
    pub(in crate::api) fn parse(content_type: &str) -> Result<Self, Refusal> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/json-patch+json" => Ok(Self::Json),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                format!("patches can't be of type {other:?}"),
            )),
        }
    }
}

/// Makes an object.
pub(in crate::api) fn create(
    store: &mut Store,
    call: &Call<'_>,
    sent: Value,
) -> Result<Outcome, Refusal> {
    let owned = Owned::default();
    make(store, call, sent, owned)
}

/// Makes an object of which it is known who applied it, if anybody did.
pub(super) fn make(
    store: &mut Store,
    call: &Call<'_>,
    mut object: Value,
    mut owned: Owned,
) -> Result<Outcome, Refusal> {
    let kind = call.kind();
    let was_applied = owned != Owned::default();
    admit::read_type(kind, &mut object)?;
    name_it(store, call, &mut object)?;
    check_namespace(store, call)?;
    let warnings = admit::shape(kind, &mut object, call.unknown()?)?;
    admit::begin(kind, &mut object);
    let name = meta::name(&object).to_owned();
    if store.get(&crate::api::store::Place { name: name.clone(), ..call.place() }).is_some() {
        return Err(Refusal::already_exists(kind, &name));
    }
    admit::check_new(kind, &object)?;
    if store.is_full() {
        let message = "there are as many objects as there may be: delete some";
        return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "InternalError", message));
    }
    stamp(store, call, &mut object);
    if kind.is_tracked() && !was_applied {
        owned.note(call.manager(false), Node::root(kind), (None, &object));
    }
    let code = StatusCode::CREATED;
    if call.is_dry() {
        return Ok(Outcome { code, object: Answer::Other(object), warnings });
    }
    let object = Answer::Kept(store.put(kind, object, owned));
    Ok(Outcome { code, object, warnings })
}

/// Gives it the namespace of the request, and a name if it has none.
fn name_it(store: &mut Store, call: &Call<'_>, object: &mut Value) -> Result<(), Refusal> {
    if let Some(namespace) = &call.target.namespace {
        let said = meta::namespace(object);
        if !said.is_empty() && said != namespace {
            let message = "the namespace of the provided object does not match the namespace sent \
                           on the request";
            return Err(Refusal::bad(message));
        }
        set(object, &["metadata", "namespace"], namespace.as_str());
    } else {
        meta::unset(object, &["metadata", "namespace"]);
        if call.kind().namespaced {
            return Err(Refusal::bad("the request must name a namespace"));
        }
    }
    let wanted = &call.target.name;
    if !wanted.is_empty() {
        let said = meta::name(object);
        if !said.is_empty() && said != wanted {
            let message = format!(
                "the name of the object ({said}) does not match the name on the URL ({wanted})"
            );
            return Err(Refusal::bad(message));
        }
        set(object, &["metadata", "name"], wanted.as_str());
    }
    if meta::name(object).is_empty() {
        let stem = text(object, "/metadata/generateName").to_owned();
        if stem.is_empty() {
            return Err(Refusal::bad("name or generateName is required"));
        }
        set(object, &["metadata", "name"], format!("{stem}{}", suffix(store)));
    }
    Ok(())
}

/// A suffix that nobody has.
pub(in crate::api) fn suffix(store: &mut Store) -> String {
    let letters = std::iter::repeat_with(|| store.rng.choice(LETTERS).copied().unwrap_or(b'x'));
    letters.take(5).map(char::from).collect()
}

/// A UID, written as a random UUID is.
pub(in crate::api) fn new_uid(store: &mut Store) -> String {
    let (high, low) = (store.rng.u64(..), store.rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        ((low >> 48) & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// Writes what only the API writes of a new object.
fn stamp(store: &mut Store, call: &Call<'_>, object: &mut Value) {
    set(object, &["metadata", "uid"], new_uid(store));
    set(object, &["metadata", "creationTimestamp"], meta::moment(call.now));
    if admit::counts_generations(call.kind()) {
        set(object, &["metadata", "generation"], 1);
    }
}

/// Puts another in the place of an object.
pub(in crate::api) fn replace(
    store: &mut Store,
    call: &Call<'_>,
    mut sent: Value,
) -> Result<Outcome, Refusal> {
    let live = live(store, call)?;
    admit::read_type(call.kind(), &mut sent)?;
    let said = meta::name(&sent);
    if said != call.target.name {
        let wanted = &call.target.name;
        let message = format!(
            "the name of the object ({said}) does not match the name on the URL ({wanted})"
        );
        return Err(Refusal::bad(message));
    }
    admit::check_meant(call.kind(), &live.value, &sent)?;
    change(store, call, (&live, sent), None)
}

fn live(store: &Store, call: &Call<'_>) -> Result<Arc<Object>, Refusal> {
    let found = store.get(&call.place()).cloned();
    found.ok_or_else(|| Refusal::not_found(call.kind(), &call.target.name))
}

/// Changes an object by a patch; an apply may make it.
pub(in crate::api) fn patch(
    store: &mut Store,
    call: &Call<'_>,
    (how, body): (PatchKind, &[u8]),
) -> Result<Outcome, Refusal> {
    let read = || -> Result<Value, Refusal> {
        serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))
    };
    if how == PatchKind::Apply {
        return apply(store, call, read()?);
    }
    let live = live(store, call)?;
    let mut new = live.value.clone();
    match how {
        PatchKind::Merge => patches::merge(&mut new, &read()?),
        PatchKind::Json => patches::json(&mut new, body)?,
        PatchKind::Strategic => {
            patches::strategic(Node::root(call.kind()), &mut new, &read()?);
        }
        PatchKind::Apply => {}
    }
    admit::read_type(call.kind(), &mut new)?;
    admit::check_meant(call.kind(), &live.value, &new)?;
    change(store, call, (&live, new), None)
}

/// Puts `new` in the place of `live`, if that may be and changes anything. `owned` is who owns what by
/// an apply; else it is noted who writes.
pub(in crate::api) fn change(
    store: &mut Store,
    call: &Call<'_>,
    (live, mut new): (&Arc<Object>, Value),
    owned: Option<Owned>,
) -> Result<Outcome, Refusal> {
    let kind = call.kind();
    let part = if call.target.subresource == "status" { Part::Status } else { Part::Whole };
    admit::keep_the_rest(kind, (&live.value, &mut new), part);
    let warnings = admit::shape(kind, &mut new, call.unknown()?)?;
    let is_same_owner = owned.as_ref().is_none_or(|owned| *owned == live.owned);
    if new == live.value && is_same_owner {
        return Ok(Outcome { warnings, ..Outcome::kept(Arc::clone(live)) });
    }
    if new != live.value {
        admit::check_change(kind, (&live.value, &new), part)?;
        if part == Part::Whole
            && admit::counts_generations(kind)
            && admit::changes_spec(&live.value, &new)
        {
            let generation = meta::number(&live.value, "/metadata/generation").unwrap_or_default();
            set(&mut new, &["metadata", "generation"], generation + 1);
        }
    }
    if call.is_dry() {
        return Ok(Outcome { warnings, ..Outcome::other(new) });
    }
    let owned = owned.unwrap_or_else(|| {
        let mut owned = live.owned.clone();
        if kind.is_tracked() {
            let manager = call.manager(false);
            owned.note(manager, Node::root(kind), (Some(&live.value), &new));
        }
        owned
    });
    if meta::is_going(&new) && may_go(&new) {
        let gone = store.remove(&call.place());
        return Ok(Outcome { warnings, ..Outcome::other(gone.map_or(new, |it| it.value.clone())) });
    }
    Ok(Outcome { warnings, ..Outcome::kept(store.put(kind, new, owned)) })
}

/// Whether nothing holds an object any more that is being deleted.
fn may_go(object: &Value) -> bool {
    let waits =
        meta::number(object, "/metadata/deletionGracePeriodSeconds").unwrap_or_default() > 0;
    let is_namespace = text(object, "/kind") == "Namespace";
    !meta::has_finalizers(object) && !waits && !is_namespace
}

/// Says which node a pod is to run on.
pub(in crate::api) fn bind(
    store: &mut Store,
    call: &Call<'_>,
    binding: &Value,
) -> Result<Outcome, Refusal> {
    let live = live(store, call)?;
    let node = text(binding, "/target/name");
    if node.is_empty() {
        return Err(Refusal::bad("target.name is required"));
    }
    let there = text(&live.value, "/spec/nodeName");
    if !there.is_empty() || meta::is_going(&live.value) {
        let why = format!("pod is already assigned to node {there:?}, or being deleted");
        return Err(Refusal::conflict(call.kind(), &call.target.name, &why));
    }
    let mut new = live.value.clone();
    set(&mut new, &["spec", "nodeName"], node);
    let scheduled = json!({
        "type": "PodScheduled", "status": "True", "lastTransitionTime": meta::moment(call.now),
    });
    match new.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        Some(conditions) => conditions.push(scheduled),
        None => set(&mut new, &["status", "conditions"], json!([scheduled])),
    }
    store.put(call.kind(), new, live.owned.clone());
    let done = crate::api::answer::success();
    Ok(Outcome { code: StatusCode::CREATED, ..Outcome::other(done) })
}
