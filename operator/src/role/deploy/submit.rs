//! Applies a Function, and the Triggers of an app. Writes what `rouse deploy` is told and nothing else.

use anyhow::anyhow;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::Status;
use kube::{Api, ResourceExt};
use rouse_crds::v1alpha1::Trigger;
use serde_json::{Value, json};

use crate::cluster::{Cluster, code_of};
use crate::progress::say;
use crate::role::rollback;

/// Owner of the fields that are written.
pub const MANAGER: &str = "rouse-deploy";
/// Label with the name of the Function whose app a Trigger is of.
const LABEL_APP: &str = "rouse.dev/app";
/// The right to change Functions.
const EDIT: &str = "the role `edit` there";

/// Applies the Triggers of the app that is `function` in `namespace`, and removes those that an earlier
/// deployment of it had and this one has not. They go with the Function.
pub async fn apply_triggers(
    cluster: &Cluster,
    function: &DynamicObject,
    wanted: &[Value],
    force: bool,
) -> anyhow::Result<()> {
    let resource = ApiResource::erase::<Trigger>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let app = function.name_any();
    let owner = json!([{
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
        "name": app, "uid": function.uid(),
    }]);
    let name_of =
        |trigger: &Value| trigger["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    for trigger in wanted {
        let mut trigger = trigger.clone();
        trigger["metadata"]["ownerReferences"] = owner.clone();
        trigger["metadata"]["labels"] = json!({LABEL_APP: app});
        let name = name_of(&trigger);
        apply(cluster, (api.clone(), "Trigger", &name), &trigger, force).await?;
        say(&format!("Trigger {name} is applied"));
    }
    let selector = ListParams::default().labels(&format!("{LABEL_APP}={app}"));
    let there = api.list(&selector).await;
    for trigger in there.map_err(|error| cluster.refused(error, "list triggers"))? {
        let name = trigger.name_any();
        if wanted.iter().any(|trigger| name_of(trigger) == name) {
            continue;
        }
        let gone = api.delete(&name, &DeleteParams::default()).await;
        gone.map_err(|error| refused(cluster, error, "delete triggers"))?;
        say(&format!("Trigger {name} is removed: the app has no such function any more"));
    }
    Ok(())
}

/// Applies the object `name` of a kind; gives what it is then.
pub async fn apply(
    cluster: &Cluster,
    (api, kind, name): (Api<DynamicObject>, &str, &str),
    object: &Value,
    force: bool,
) -> anyhow::Result<DynamicObject> {
    let mut params = PatchParams::apply(MANAGER);
    params.force = force;
    let mut applied = api.patch(name, &params, &Patch::Apply(object)).await;
    if let Err(kube::Error::Api(status)) = &applied
        && is_of_rollback(status)
    {
        say("what `rouse rollback` wrote is written anew");
        params.force = true;
        applied = api.patch(name, &params, &Patch::Apply(object)).await;
    }
    applied.map_err(|error| match (&error, code_of(&error)) {
        (kube::Error::Api(status), Some(409)) => anyhow!(
            "others wrote fields of the {kind} {name} that would be changed; take them with \
             --force, or deploy under another --name. The API server says: {}",
            status.message
        ),
        (kube::Error::Api(status), Some(422)) => {
            anyhow!("the API server does not take the {kind} {name}: {}", status.message)
        }
        _ => refused(cluster, error, &format!("patch {}s", kind.to_ascii_lowercase())),
    })
}

fn refused(cluster: &Cluster, error: kube::Error, doing: &str) -> anyhow::Error {
    cluster.refused_in(error, doing, &cluster.place(false), EDIT)
}

/// Whether all that others wrote is what a rollback wrote: who deploys after it has mended what it was
/// for.
fn is_of_rollback(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    let causes = causes.unwrap_or_default();
    let by = format!("conflict with \"{}\"", rollback::MANAGER);
    status.code == 409
        && !causes.is_empty()
        && causes.iter().all(|cause| cause.message.starts_with(&by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rollback_wrote_may_be_taken_and_what_others_wrote_may_not() {
        let status = |code: u16, managers: &[&str]| -> Status {
            let cause = |manager: &&str| {
                json!({"reason": "FieldManagerConflict", "field": ".spec.source.handler",
                       "message": format!("conflict with {manager:?} using rouse.dev/v1alpha1")})
            };
            let causes: Vec<Value> = managers.iter().map(cause).collect();
            serde_json::from_value(json!({"code": code, "details": {"causes": causes}})).unwrap()
        };
        assert!(is_of_rollback(&status(409, &["rouse-rollback", "rouse-rollback"])));
        assert!(!is_of_rollback(&status(409, &["rouse-rollback", "kubectl"])));
        assert!(!is_of_rollback(&status(409, &[])));
        assert!(!is_of_rollback(&status(422, &["rouse-rollback"])));
    }
}
