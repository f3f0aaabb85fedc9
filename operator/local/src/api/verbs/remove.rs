//! Takes objects away: at once, when their grace is over, or when their finalizers are gone.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, Outcome};
use crate::api::answer::{Refusal, success};
use crate::api::meta::{self, set, text};
use crate::api::store::{Place, Store};

/// Finalizer of what waits for its dependents.
pub(in crate::api) const FOREGROUND: &str = "foregroundDeletion";
/// Seconds that a pod has if it does not say.
const GRACE: i64 = 30;

/// What becomes of the dependents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(in crate::api) enum Propagation {
    /// They go afterwards.
    #[default]
    Background,
    /// They go before.
    Foreground,
    /// They stay.
    Orphan,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// How to delete.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::api) struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    propagation_policy: Option<Propagation>,
    dry_run: Vec<String>,
}

impl DeleteOptions {
    /// As the body of a request, or its query, says.
    pub(in crate::api) fn read(call: &Call<'_>, body: &[u8]) -> Result<Self, Refusal> {
        let mut options: Self = if body.is_empty() {
            Self::default()
        } else {
            serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))?
        };
        if let Some(seconds) = call.query.number("gracePeriodSeconds") {
            options.grace_period_seconds = i64::try_from(seconds).ok();
        }
        match call.query.get("propagationPolicy") {
            "Foreground" => options.propagation_policy = Some(Propagation::Foreground),
            "Orphan" => options.propagation_policy = Some(Propagation::Orphan),
            _ => {}
        }
        if call.is_dry() {
            options.dry_run.push("All".to_owned());
        }
        Ok(options)
    }

    /// As what is deleted for want of an owner.
    pub(in crate::api) fn propagated(propagation: Propagation) -> Self {
        Self { propagation_policy: Some(propagation), ..Self::default() }
    }
}

/// Deletes the object that a request names.
pub(in crate::api) fn delete(
    store: &mut Store,
    call: &Call<'_>,
    options: &DeleteOptions,
) -> Result<Outcome, Refusal> {
    delete_at(store, &call.place(), options, call.now)?
        .ok_or_else(|| Refusal::not_found(call.kind(), &call.target.name))
}

/// Deletes the object at `place`; none if there is none.
pub(in crate::api) fn delete_at(
    store: &mut Store,
    place: &Place,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Option<Outcome>, Refusal> {
    let Some(live) = store.get(place).cloned() else { return Ok(None) };
    check_preconditions(options, &live.kind, &live.value)?;
    let mut new = live.value.clone();
    let grace = grace_of(options, &live.kind.name, &new);
    match options.propagation_policy.unwrap_or_default() {
        Propagation::Background => {}
        Propagation::Foreground => add_finalizer(&mut new),
        Propagation::Orphan => orphan(store, meta::uid(&new)),
    }
    let stays = grace > 0 || meta::has_finalizers(&new) || live.kind.is("", "Namespace");
    if options.dry_run.iter().any(|all| all == "All") {
        return Ok(Some(Outcome::other(new)));
    }
    if !stays {
        store.remove(place);
        let mut done = success();
        set(
            &mut done,
            &["details"],
            json!({
                "name": place.name, "group": live.kind.group, "kind": live.kind.plural,
                "uid": meta::uid(&live.value),
            }),
        );
        return Ok(Some(Outcome::other(done)));
    }
    mark(&mut new, grace, now);
    if live.kind.is("", "Namespace") {
        set(&mut new, &["status", "phase"], "Terminating");
    }
    if new == live.value {
        return Ok(Some(Outcome::kept(live)));
    }
    let kept = store.put(&live.kind, new, live.owned.clone());
    Ok(Some(Outcome::kept(kept)))
}

/// Says since when it goes. What goes already never gets more time.
fn mark(object: &mut Value, grace: i64, now: Timestamp) {
    let before = meta::number(object, "/metadata/deletionGracePeriodSeconds");
    if meta::is_going(object) && before.is_none_or(|before| before <= grace) {
        return;
    }
    let at = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
    set(object, &["metadata", "deletionTimestamp"], meta::moment(at));
    set(object, &["metadata", "deletionGracePeriodSeconds"], grace);
    if let Some(generation) = meta::number(object, "/metadata/generation") {
        set(object, &["metadata", "generation"], generation + 1);
    }
}

/// Only a pod that has a node takes time to go.
fn grace_of(options: &DeleteOptions, kind: &str, object: &Value) -> i64 {
    let runs = !text(object, "/spec/nodeName").is_empty()
        && !matches!(text(object, "/status/phase"), "Succeeded" | "Failed");
    if kind != "Pod" || !runs {
        return 0;
    }
    let own = meta::number(object, "/spec/terminationGracePeriodSeconds").unwrap_or(GRACE);
    let wanted = options.grace_period_seconds.unwrap_or(own).max(0);
    match meta::number(object, "/metadata/deletionGracePeriodSeconds") {
        // Asked again, nothing is decided anew but to hurry.
        Some(before) if options.grace_period_seconds.is_none() => before,
        _ => wanted,
    }
}

fn check_preconditions(
    options: &DeleteOptions,
    kind: &crate::api::kinds::Kind,
    object: &Value,
) -> Result<(), Refusal> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    for (what, wanted, found) in [
        ("UID", &wanted.uid, meta::uid(object)),
        ("ResourceVersion", &wanted.resource_version, text(object, "/metadata/resourceVersion")),
    ] {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: \
                 {found}"
            );
            return Err(Refusal::conflict(kind, meta::name(object), &why));
        }
    }
    Ok(())
}

fn add_finalizer(object: &mut Value) {
    if meta::list(object, "/metadata/finalizers").any(|it| it == FOREGROUND) {
        return;
    }
    match object.pointer_mut("/metadata/finalizers").and_then(Value::as_array_mut) {
        Some(all) => all.push(FOREGROUND.into()),
        None => set(object, &["metadata", "finalizers"], json!([FOREGROUND])),
    }
}

/// Takes an owner from all that it owns.
fn orphan(store: &mut Store, uid: &str) {
    for dependent in store.dependents(uid) {
        let mut new = dependent.value.clone();
        drop_owner(&mut new, uid);
        store.put(&dependent.kind, new, dependent.owned.clone());
    }
}

/// Takes an owner from an object.
pub(in crate::api) fn drop_owner(object: &mut Value, uid: &str) {
    if let Some(owners) =
        object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut)
    {
        owners.retain(|owner| text(owner, "/uid") != uid);
    }
}
