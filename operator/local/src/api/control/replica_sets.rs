//! Keeps as many pods of a `ReplicaSet` as it asks for, and says how many there are.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Control;
use crate::api::admit;
use crate::api::apply::Owned;
use crate::api::meta::{self, list, number, set, text, unset};
use crate::api::store::Object;
use crate::api::verbs::{DeleteOptions, Propagation, delete_at, suffix};

/// What the loss of a pod costs.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Pods that one reconcile makes at most; the rest follows in the next, which its own pods ask for.
const BURST: usize = 500;

/// Reconciles the `ReplicaSet` with this UID.
pub(super) fn reconcile(control: &mut Control<'_>, uid: &str) {
    let Some(replica_set) = control.store.by_uid(uid).cloned() else { return };
    if replica_set.kind.id != control.kinds.replica_set.id {
        return;
    }
    let pods: Vec<Arc<Object>> = control.store.dependents(uid);
    let mut active: Vec<Arc<Object>> =
        pods.into_iter().filter(|pod| is_active(&pod.value)).collect();
    if !meta::is_going(&replica_set.value) {
        let wanted = number(&replica_set.value, "/spec/replicas").unwrap_or(1);
        let wanted = usize::try_from(wanted).unwrap_or_default();
        if active.len() < wanted {
            for _ in 0..(wanted - active.len()).min(BURST) {
                active.push(make_pod(control, &replica_set));
            }
        } else if active.len() > wanted {
            active.sort_by(|one, other| cheaper(&one.value, &other.value));
            for pod in active.drain(..active.len() - wanted) {
                let options = DeleteOptions::propagated(Propagation::Background);
                drop(delete_at(control.store, &pod.place(), &options, control.now));
            }
        }
    }
    tell(control, &replica_set, &active);
}

fn is_active(pod: &Value) -> bool {
    !meta::is_going(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Whether a pod's readiness holds.
fn is_ready(pod: &Value) -> bool {
    ready_since(pod).is_some()
}

fn ready_since(pod: &Value) -> Option<&str> {
    list(pod, "/status/conditions")
        .find(|it| text(it, "/type") == "Ready" && text(it, "/status") == "True")
        .map(|it| text(it, "/lastTransitionTime"))
}

/// Which of two pods goes first.
fn cheaper(one: &Value, other: &Value) -> Ordering {
    let assigned = |pod: &Value| !text(pod, "/spec/nodeName").is_empty();
    let phase = |pod: &Value| match text(pod, "/status/phase") {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = |pod: &Value| -> i64 {
        let annotations = pod.pointer("/metadata/annotations").and_then(|it| it.get(COST));
        annotations.and_then(Value::as_str).and_then(|cost| cost.parse().ok()).unwrap_or_default()
    };
    let restarts = |pod: &Value| {
        let all = list(pod, "/status/containerStatuses");
        all.filter_map(|status| number(status, "/restartCount")).max().unwrap_or_default()
    };
    let made = |pod: &Value| text(pod, "/metadata/creationTimestamp").to_owned();
    let ready = || match (ready_since(one), ready_since(other)) {
        // Who became ready later goes first.
        (Some(one), Some(other)) => other.cmp(one),
        _ => Ordering::Equal,
    };
    assigned(one)
        .cmp(&assigned(other))
        .then_with(|| phase(one).cmp(&phase(other)))
        .then_with(|| is_ready(one).cmp(&is_ready(other)))
        .then_with(|| cost(one).cmp(&cost(other)))
        .then_with(ready)
        .then_with(|| restarts(other).cmp(&restarts(one)))
        .then_with(|| made(other).cmp(&made(one)))
        .then_with(|| meta::uid(one).cmp(meta::uid(other)))
}

fn make_pod(control: &mut Control<'_>, replica_set: &Object) -> Arc<Object> {
    let template = replica_set.value.pointer("/spec/template");
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template.and_then(|it| it.get("metadata")).cloned().unwrap_or_else(|| json!({})),
        "spec": template.and_then(|it| it.get("spec")).cloned(),
        "status": {"phase": "Pending"},
    });
    let stem = format!("{}-", meta::name(&replica_set.value));
    let name = format!("{stem}{}", suffix(control.store));
    set(&mut pod, &["metadata", "generateName"], stem);
    set(&mut pod, &["metadata", "name"], name);
    set(&mut pod, &["metadata", "namespace"], meta::namespace(&replica_set.value));
    set(&mut pod, &["metadata", "ownerReferences"], json!([owner(replica_set)]));
    super::stamp(control, &mut pod);
    let kind = Arc::clone(&control.kinds.pod);
    if admit::counts_generations(&kind) {
        set(&mut pod, &["metadata", "generation"], 1);
    }
    control.store.put(&kind, pod, Owned::default())
}

/// How what `object` controls names it.
pub(super) fn owner(object: &Object) -> Value {
    json!({
        "apiVersion": object.kind.api_version(),
        "kind": object.kind.name,
        "name": meta::name(&object.value),
        "uid": meta::uid(&object.value),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn tell(control: &mut Control<'_>, replica_set: &Object, active: &[Arc<Object>]) {
    // It may be gone by now, or another version of it stand there.
    let Some(replica_set) = control.store.by_uid(meta::uid(&replica_set.value)).cloned() else {
        return;
    };
    let ready = active.iter().filter(|pod| is_ready(&pod.value)).count();
    let mut status = Map::new();
    for (field, count) in [
        ("replicas", active.len()),
        ("fullyLabeledReplicas", active.len()),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
    ] {
        // As the API writes it: what is none is not there, but for the first.
        if count > 0 || field == "replicas" {
            status.insert(field.to_owned(), count.into());
        }
    }
    if let Some(generation) = number(&replica_set.value, "/metadata/generation") {
        status.insert("observedGeneration".to_owned(), generation.into());
    }
    let mut after = replica_set.value.clone();
    unset(&mut after, &["status"]);
    set(&mut after, &["status"], Value::Object(status));
    control.put(&replica_set, after);
}
