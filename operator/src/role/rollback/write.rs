//! Writes a Function as it was, in the name of whoever wrote it: who deploys afterwards then owns what came
//! back, and what his folder has no more goes again.

use anyhow::anyhow;
use kube::api::{DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::with_defaults;
use crate::cluster::{Cluster, code_of};
use crate::role::{MANAGER_DEV, deploy};

/// Owner of what is written in nobody else's name: who deploys afterwards may take it.
pub const MANAGER: &str = "rouse-rollback";
/// Those in whose name it may be written: they apply all that a Function shall be.
const APPLIERS: [&str; 2] = [deploy::MANAGER, MANAGER_DEV];
/// The right to change Functions.
const EDIT: &str = "the role `edit` there";

/// How often the status of a Function may be written between reading and writing it.
const TRIES: usize = 10;

/// Makes `object`, as it was read, what `after` says; gives what it is then.
pub async fn write(
    cluster: &Cluster,
    mut object: DynamicObject,
    after: &Value,
) -> anyhow::Result<DynamicObject> {
    let mut after = after.clone();
    let mut tries = 1;
    loop {
        let error = match write_once(cluster, object.clone(), &after).await {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        if code_of(&error) != Some(409) || tries == TRIES {
            return Err(refused(cluster, error));
        }
        tries += 1;
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let now = cluster.objects().get_metadata(name).await;
        let now = now.map_err(|error| refused(cluster, error))?.metadata;
        // Else only its status was written.
        if what_people_write(&now) != what_people_write(&object.metadata) {
            return Err(refused(cluster, error));
        }
        after["metadata"]["resourceVersion"] = json!(now.resource_version);
        object.metadata.resource_version = now.resource_version;
    }
}

/// What of an object's metadata changes when somebody changes the object.
fn what_people_write(metadata: &ObjectMeta) -> impl PartialEq {
    let ObjectMeta { uid, generation, labels, annotations, .. } = metadata.clone();
    (uid, generation, labels, annotations)
}

async fn write_once(
    cluster: &Cluster,
    mut object: DynamicObject,
    after: &Value,
) -> Result<DynamicObject, kube::Error> {
    let name = object.metadata.name.clone().unwrap_or_default();
    if let Some(manager) = applier(cluster, &name, after).await {
        let wanted = whole(after);
        let apply = async |params: PatchParams| {
            cluster.objects().patch(&name, &params, &Patch::Apply(&wanted)).await
        };
        let params = PatchParams::apply(manager);
        // What others wrote beside it would stay, and it would not be what it was.
        let tried = apply(params.clone().dry_run()).await;
        if tried.is_ok_and(|tried| is_so(&tried, after)) {
            return apply(params).await;
        }
    }
    object.data["spec"] = after.get("spec").cloned().unwrap_or_default();
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    cluster.objects().replace(&name, &params, &object).await
}

/// Who applies the Function, if it is one of those. Nobody asks for who owns which field where the API
/// does not tell it; but it says whom a change of what all of them write would be against.
async fn applier(cluster: &Cluster, name: &str, after: &Value) -> Option<&'static str> {
    let mut probe = whole(after);
    // Whether somebody wrote meanwhile is not the question here.
    probe.pointer_mut("/metadata").and_then(Value::as_object_mut)?.remove("resourceVersion");
    *probe.pointer_mut("/spec/source/runtime")? = json!("none");
    for manager in APPLIERS {
        let params = PatchParams::apply(manager).dry_run();
        let tried = cluster.objects().patch(name, &params, &Patch::Apply(&probe)).await;
        if !tried.is_err_and(|error| code_of(&error) == Some(409)) {
            return Some(manager);
        }
    }
    None
}

/// A Function with all that an applier may own of it. The version that was read stays, so that nothing
/// that somebody writes meanwhile is written over.
fn whole(function: &Value) -> Value {
    let mut whole = function.clone();
    if let Some(members) = whole.as_object_mut() {
        members.remove("status");
    }
    if let Some(metadata) = whole.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    whole
}

/// Whether an object has become what `after` says.
fn is_so(object: &DynamicObject, after: &Value) -> bool {
    let spec = |function: &Value| Some(with_defaults(function).ok()?.get("spec")?.clone());
    let object = serde_json::to_value(object).ok();
    object.is_some_and(|object| spec(&object).is_some_and(|is| Some(is) == spec(after)))
}

/// What the API server's answer means.
pub fn refused(cluster: &Cluster, error: kube::Error) -> anyhow::Error {
    match (&error, code_of(&error)) {
        (_, Some(409)) => {
            anyhow!("somebody changed the Function meanwhile: look at it and roll back again")
        }
        (kube::Error::Api(status), Some(422)) => anyhow!(
            "the API server does not take what the revision was made of: {}",
            status.message
        ),
        _ => cluster.refused_in(error, "update functions", &cluster.place(false), EDIT),
    }
}
