//! Keeps the `ReplicaSet`s of a Deployment: one for each template, the newest with the pods. A changed
//! template rolls within the bounds that the Deployment says.

use std::sync::Arc;

use serde_json::{Value, json};

use super::replica_sets::owner;
use super::{Control, set_condition};
use crate::api::apply::Owned;
use crate::api::meta::{self, number, set, text, unset};
use crate::api::store::Object;
use crate::api::verbs::{DeleteOptions, Propagation, delete_at};

/// Label that tells the templates of a Deployment apart.
const HASH: &str = "pod-template-hash";

/// Pods of a `ReplicaSet`: asked for, there, and fit to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub wanted: i64,
    pub there: i64,
    pub available: i64,
}

/// What a Deployment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    pub replicas: i64,
    pub surge: i64,
    pub unavailable: i64,
    /// Old pods go before new ones come.
    pub recreates: bool,
}

/// How many pods the new and the old `ReplicaSet`s shall have next.
pub(super) fn roll(goal: Goal, new: Count, old: &[Count]) -> (i64, Vec<i64>) {
    let old_there: i64 = old.iter().map(|count| count.wanted.max(count.there)).sum();
    if goal.recreates {
        let next = if old_there == 0 { goal.replicas } else { new.wanted.min(goal.replicas) };
        return (next, vec![0; old.len()]);
    }
    let old_wanted: i64 = old.iter().map(|count| count.wanted).sum();
    let room = (goal.replicas + goal.surge - old_wanted - new.wanted).max(0);
    let next = match new.wanted.cmp(&goal.replicas) {
        std::cmp::Ordering::Less => (new.wanted + room).min(goal.replicas),
        _ => goal.replicas,
    };
    // What can go: all that does not keep the Deployment from serving.
    let least = (goal.replicas - goal.unavailable).max(0);
    let new_unfit = (next - new.available).max(0);
    let mut spare = (old_wanted + next - least - new_unfit).max(0);
    let mut left: Vec<i64> = old.iter().map(|count| count.wanted).collect();
    // Those that are not fit go first, for they serve nobody.
    for unfit_only in [true, false] {
        for (left, count) in left.iter_mut().zip(old) {
            let may = if unfit_only { (*left - count.available).max(0) } else { *left };
            let goes = may.min(spare);
            *left -= goes;
            spare -= goes;
        }
    }
    (next, left)
}

/// Reconciles the Deployment with this UID.
pub(super) fn reconcile(control: &mut Control<'_>, uid: &str) {
    let Some(deployment) = control.store.by_uid(uid).cloned() else { return };
    if deployment.kind.id != control.kinds.deployment.id {
        return;
    }
    if !meta::is_going(&deployment.value) {
        let hash = hash_of(&deployment.value);
        let (new, old) = sets_of(control, &deployment, &hash);
        let goal = goal_of(&deployment.value);
        let paused = deployment.value.pointer("/spec/paused") == Some(&Value::Bool(true));
        let counts: Vec<Count> = old.iter().map(|it| count_of(&it.value)).collect();
        match &new {
            _ if paused => {}
            None => {
                let (next, left) = roll(goal, Count::default(), &counts);
                make_set(control, &deployment, (&hash, next));
                resize_all(control, &old, &left);
            }
            Some(new) => {
                let (next, left) = roll(goal, count_of(&new.value), &counts);
                resize(control, new, next);
                resize_all(control, &old, &left);
            }
        }
        clean_up(control, &deployment, &old);
    }
    tell(control, uid);
}

fn goal_of(deployment: &Value) -> Goal {
    let replicas = number(deployment, "/spec/replicas").unwrap_or(1);
    let bound = |field: &str, up: bool| {
        let path = format!("/spec/strategy/rollingUpdate/{field}");
        match deployment.pointer(&path) {
            Some(Value::Number(number)) => number.as_i64().unwrap_or_default(),
            Some(Value::String(percent)) => {
                let percent: i64 = percent.trim_end_matches('%').parse().unwrap_or_default();
                let product = replicas * percent;
                if up { (product + 99) / 100 } else { product / 100 }
            }
            _ => 0,
        }
    };
    let (surge, unavailable) = (bound("maxSurge", true), bound("maxUnavailable", false));
    // Without either nothing could ever move.
    let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
    let recreates = text(deployment, "/spec/strategy/type") == "Recreate";
    Goal { replicas, surge, unavailable, recreates }
}

fn count_of(replica_set: &Value) -> Count {
    Count {
        wanted: number(replica_set, "/spec/replicas").unwrap_or(1),
        there: number(replica_set, "/status/replicas").unwrap_or_default(),
        available: number(replica_set, "/status/availableReplicas").unwrap_or_default(),
    }
}

/// The `ReplicaSet` of the template of now, and the others, the oldest first.
fn sets_of(
    control: &Control<'_>,
    deployment: &Object,
    hash: &str,
) -> (Option<Arc<Object>>, Vec<Arc<Object>>) {
    let all = control.store.dependents(meta::uid(&deployment.value));
    let sets = all
        .into_iter()
        .filter(|it| it.kind.id == control.kinds.replica_set.id && !meta::is_going(&it.value));
    let is_new = |it: &Arc<Object>| text(&it.value, "/metadata/labels/pod-template-hash") == hash;
    let (new, mut old): (Vec<_>, Vec<_>) = sets.partition(is_new);
    old.sort_by_key(|it| text(&it.value, "/metadata/creationTimestamp").to_owned());
    (new.into_iter().next(), old)
}

/// Names a template: ten letters of a hash of it.
fn hash_of(deployment: &Value) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let template = deployment.pointer("/spec/template").map(Value::to_string).unwrap_or_default();
    // FNV-1a: it need only tell apart what one Deployment had.
    let mut hash = template.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut name = String::with_capacity(10);
    for _ in 0..10 {
        let at = usize::try_from(hash % LETTERS.len() as u64).unwrap_or_default();
        name.push(LETTERS.get(at).copied().map_or('x', char::from));
        hash /= LETTERS.len() as u64;
    }
    name
}

fn make_set(control: &mut Control<'_>, deployment: &Object, (hash, replicas): (&str, i64)) {
    let value = &deployment.value;
    let mut made = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", meta::name(value)),
            "namespace": meta::namespace(value),
            "ownerReferences": [owner(deployment)],
        },
        "spec": {
            "replicas": replicas,
            "selector": value.pointer("/spec/selector"),
            "template": value.pointer("/spec/template"),
        },
        "status": {"replicas": 0},
    });
    let labels = value.pointer("/spec/template/metadata/labels").cloned();
    set(&mut made, &["metadata", "labels"], labels.unwrap_or_else(|| json!({})));
    for path in [
        &["metadata", "labels", HASH][..],
        &["spec", "selector", "matchLabels", HASH],
        &["spec", "template", "metadata", "labels", HASH],
    ] {
        set(&mut made, path, hash);
    }
    super::stamp(control, &mut made);
    set(&mut made, &["metadata", "generation"], 1);
    let kind = Arc::clone(&control.kinds.replica_set);
    control.store.put(&kind, made, Owned::default());
}

fn resize(control: &mut Control<'_>, replica_set: &Object, replicas: i64) {
    let mut after = replica_set.value.clone();
    set(&mut after, &["spec", "replicas"], replicas);
    control.put(replica_set, after);
}

fn resize_all(control: &mut Control<'_>, sets: &[Arc<Object>], replicas: &[i64]) {
    for (replica_set, replicas) in sets.iter().zip(replicas) {
        resize(control, replica_set, *replicas);
    }
}

/// Old ones without pods go, but for as many as shall be kept.
fn clean_up(control: &mut Control<'_>, deployment: &Object, old: &[Arc<Object>]) {
    let kept = number(&deployment.value, "/spec/revisionHistoryLimit").unwrap_or(10);
    let kept = usize::try_from(kept).unwrap_or_default();
    let over = old.len().saturating_sub(kept);
    let is_empty = |it: &&Arc<Object>| {
        let count = count_of(&it.value);
        count.wanted == 0 && count.there == 0
    };
    for replica_set in old.iter().filter(is_empty).take(over) {
        let options = DeleteOptions::propagated(Propagation::Background);
        drop(delete_at(control.store, &replica_set.place(), &options, control.now));
    }
}

/// Says how it goes.
fn tell(control: &mut Control<'_>, uid: &str) {
    let Some(deployment) = control.store.by_uid(uid).cloned() else { return };
    let (new, old) = sets_of(control, &deployment, &hash_of(&deployment.value));
    let updated = new.as_ref().map(|it| count_of(&it.value)).unwrap_or_default();
    let ready = |replica_set: &Arc<Object>| {
        number(&replica_set.value, "/status/readyReplicas").unwrap_or_default()
    };
    let (mut there, mut available) = (updated.there, updated.available);
    let mut readies = new.as_ref().map(ready).unwrap_or_default();
    for replica_set in &old {
        let count = count_of(&replica_set.value);
        there += count.there;
        available += count.available;
        readies += ready(replica_set);
    }
    let goal = goal_of(&deployment.value);
    let mut after = deployment.value.clone();
    let mut status = unset(&mut after, &["status"]).unwrap_or_else(|| json!({}));
    for (field, count) in [
        ("replicas", there),
        ("updatedReplicas", updated.there),
        ("readyReplicas", readies),
        ("availableReplicas", available),
        ("unavailableReplicas", (goal.replicas.max(there) - available).max(0)),
    ] {
        if count > 0 {
            set(&mut status, &[field], count);
        } else {
            unset(&mut status, &[field]);
        }
    }
    if let Some(generation) = number(&deployment.value, "/metadata/generation") {
        set(&mut status, &["observedGeneration"], generation);
    }
    let is_available = available >= goal.replicas - goal.unavailable;
    let is_done =
        updated.there >= goal.replicas && available >= goal.replicas && there == updated.there;
    conditions(&mut status, (is_available, is_done), &meta::moment(control.now));
    set(&mut after, &["status"], status);
    control.put(&deployment, after);
}

fn conditions(status: &mut Value, (is_available, is_done): (bool, bool), now: &str) {
    let (available, reason, message) = if is_available {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set_condition(
        status,
        json!({
            "type": "Available", "status": available, "reason": reason, "message": message,
            "lastTransitionTime": now, "lastUpdateTime": now,
        }),
    );
    let (reason, message) = if is_done {
        ("NewReplicaSetAvailable", "the newest ReplicaSet has all its pods")
    } else {
        ("ReplicaSetUpdated", "the newest ReplicaSet is on its way")
    };
    set_condition(
        status,
        json!({
            "type": "Progressing", "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": now, "lastUpdateTime": now,
        }),
    );
}
