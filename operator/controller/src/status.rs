//! Writes the status of Functions and Triggers: the only writer, and only of what changed.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use rouse_core::explain::why::sentence;
use rouse_core::function::names::MANAGER_CONTROLLER;
use rouse_crds::v1alpha1::{ConditionType, Function, FunctionStatus, Trigger, TriggerStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::context::Context;
use crate::error::Error;
use crate::usage::Settled;
use crate::watch::slim_function;

/// Writes the status of `function` if it differs from `status`. Where it differs only in how the
/// Function runs, it waits for its turn and says when that is: while Functions wake, scale and
/// sleep that changes many times a second, and nobody acts on it.
pub(crate) async fn write_function_status(
    context: &Context,
    function: &Function,
    status: &FunctionStatus,
) -> Result<Option<Instant>, Error> {
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    if is_same(function.status.as_ref(), status)? {
        context.memory.forgo_turn(uid);
        return Ok(None);
    }
    if let Some(before) = &function.status
        && is_same(Some(&running_as(before, status)), before)?
    {
        let turn = context.memory.turn(uid);
        if Instant::now() < turn {
            return Ok(Some(turn));
        }
    }
    let mut written = write(context, function, status).await?;
    slim_function(&mut written);
    context.memory.wrote(uid, written);
    if function.status.as_ref().map(|before| &before.usage) != Some(&status.usage) {
        context.reports.books.wrote(uid, |pod| is_activator(context, pod));
    }
    announce_scale(context, function, status).await;
    let before = function.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let woken = status.last_activation.as_ref().and_then(|activation| activation.listening_millis);
    let note = woken.map(|millis| format!("woken in {millis} ms"));
    context.announcer.announce(function.object_ref(&()), (before, &status.conditions), note).await;
    Ok(None)
}

/// `status`, but with what `before` says of how the Function runs: its pods, its last wakings and
/// why, and, as long as it is ready, whether it is asleep.
fn running_as(before: &FunctionStatus, status: &FunctionStatus) -> FunctionStatus {
    let as_before = |condition: &Condition| {
        let before = before.conditions.iter().find(|before| before.type_ == condition.type_);
        let is_active = condition.type_ == ConditionType::Active.as_str();
        let told = |before: &&Condition| is_active || stays_ready(before, condition);
        before.filter(told).unwrap_or(condition).clone()
    };
    let conditions = status.conditions.iter().map(as_before);
    FunctionStatus {
        conditions: conditions.collect(),
        replicas: before.replicas,
        desired_replicas: before.desired_replicas,
        last_activation: before.last_activation.clone(),
        activations: before.activations.clone(),
        decisions: before.decisions.clone(),
        ..status.clone()
    }
}

/// Whether both say that the same generation is ready, if for different reasons.
fn stays_ready(before: &Condition, after: &Condition) -> bool {
    let ready = |c: &Condition| c.type_ == ConditionType::Ready.as_str() && c.status == "True";
    ready(before) && ready(after) && before.observed_generation == after.observed_generation
}

/// What the status of `function` shall say of usage.
pub(crate) fn settle_usage(context: &Context, function: &Function) -> Settled {
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    let before = function.status.as_ref().and_then(|status| status.usage.as_ref());
    let is_there = |pod: &str| is_activator(context, pod);
    context.reports.books.settle(uid, before, is_there, Timestamp::now())
}

/// Whether an activator has a pod with this UID.
fn is_activator(context: &Context, uid: &str) -> bool {
    let of = |pod: &Arc<Pod>| pod.metadata.uid.as_deref() == Some(uid);
    context.pods.all().iter().any(of)
}

/// Publishes how many pods there are since this status, and why; not more often than bearable.
async fn announce_scale(context: &Context, function: &Function, status: &FunctionStatus) {
    let known = function.status.as_ref().and_then(|before| before.decisions.last());
    let Some(last) = status.decisions.last().filter(|last| known != Some(last)) else { return };
    let uid = function.metadata.uid.as_deref().unwrap_or_default();
    if context.memory.may_announce_scale(uid) {
        let why = sentence(last, &function.spec);
        context.announcer.announce_scale(function.object_ref(&()), last, &why).await;
    }
}

/// What of a Trigger's status is written here: the progress of a schedule or a source has a writer of
/// its own, and changes all the time.
pub(crate) fn own_trigger_status(trigger: &Trigger) -> Option<TriggerStatus> {
    let status = trigger.status.clone()?;
    Some(TriggerStatus { schedule: None, source: None, ..status })
}

/// Writes the own part of the status of `trigger` if it differs from `status`; whether it did.
pub(crate) async fn write_trigger_status(
    context: &Context,
    trigger: &Trigger,
    status: &TriggerStatus,
) -> Result<bool, Error> {
    let before = own_trigger_status(trigger);
    if is_same(before.as_ref(), status)? {
        return Ok(false);
    }
    let written = write(context, trigger, status).await?;
    context.triggers.assume(written);
    let before = trigger.status.as_ref().map_or(&[][..], |status| &status.conditions);
    context.announcer.announce(trigger.object_ref(&()), (before, &status.conditions), None).await;
    Ok(true)
}

fn is_same<S: Serialize>(before: Option<&S>, after: &S) -> Result<bool, Error> {
    let Some(before) = before else { return Ok(false) };
    Ok(serde_json::to_value(before)? == serde_json::to_value(after)?)
}

/// Server-side apply to the very object and version that the status was computed from.
async fn write<K>(context: &Context, object: &K, status: &impl Serialize) -> Result<K, Error>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let meta = object.meta();
    let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
    let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
    let body: Value = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "status": serde_json::to_value(status)?,
    });
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams::apply(MANAGER_CONTROLLER).force();
    let written = api.patch_status(name, &params, &Patch::Apply(&body)).await;
    let written = written.map_err(Error::Status)?;
    context.metrics.wrote("Status", "apply");
    Ok(written)
}
