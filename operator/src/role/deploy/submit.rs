//! Applies a Function and waits until it is ready. Writes what `rouse deploy` is told and nothing
//! else.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::{StreamExt, pin_mut};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use rouse_crds::v1alpha1::{ConditionType, Function, Trigger};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::say;
use crate::role::inspect::refused;

/// Owner of the fields that are written.
const MANAGER: &str = "rouse-deploy";
/// Label with the name of the Function whose app a Trigger is of.
const LABEL_APP: &str = "rouse.dev/app";

/// What has come of a Function.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is ready, at an address.
    Ready(String),
    /// It isn't yet, and why.
    Waits(String),
    /// It never will be unless somebody changes something.
    Failed(String),
}

/// Where Functions are, read without their types: a newer cluster may know more.
pub fn functions(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<Function>(&()))
}

/// Where Triggers are.
fn triggers(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<Trigger>(&()))
}

/// Applies the Triggers of the app that is `function` in `namespace`, and removes those that an earlier
/// deployment of it had and this one has not. They go with the Function.
pub async fn apply_triggers(
    client: Client,
    function: &DynamicObject,
    wanted: &[Value],
    force: bool,
) -> anyhow::Result<()> {
    let namespace = function.namespace().unwrap_or_default();
    let (api, app) = (triggers(client, &namespace), function.name_any());
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
        apply(&api, ("Trigger", &namespace, &name), &trigger, force).await?;
        say(&format!("Trigger {name} is applied"));
    }
    let selector = ListParams::default().labels(&format!("{LABEL_APP}={app}"));
    let place = format!("namespace {namespace}");
    let there = api.list(&selector).await;
    for trigger in there.map_err(|error| refused(error, "list triggers", &place))? {
        let name = trigger.name_any();
        if wanted.iter().any(|trigger| name_of(trigger) == name) {
            continue;
        }
        let gone = api.delete(&name, &DeleteParams::default()).await;
        gone.map_err(|error| refused(error, "delete triggers", &place))?;
        say(&format!("Trigger {name} is removed: the app has no such function any more"));
    }
    Ok(())
}

/// Applies an object of a kind; gives what it is then.
pub async fn apply(
    api: &Api<DynamicObject>,
    (kind, namespace, name): (&str, &str, &str),
    object: &Value,
    force: bool,
) -> anyhow::Result<DynamicObject> {
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let mut params = PatchParams::apply(MANAGER);
    params.force = force;
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    applied.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 403 => anyhow!(
            "you may not patch {plural} in namespace {namespace}: ask for the role `edit` there"
        ),
        kube::Error::Api(status) if status.code == 409 => anyhow!(
            "others wrote fields of the {kind} {name} that would be changed; take them with \
             --force, or deploy under another --name. The API server says: {}",
            status.message
        ),
        kube::Error::Api(status) if status.code == 422 => {
            anyhow!("the API server does not take the {kind} {name}: {}", status.message)
        }
        _ => refused(error, &format!("patch {plural}"), &format!("namespace {namespace}")),
    })
}

/// Waits until that generation is ready, and gives where it is called.
pub async fn wait(
    api: &Api<DynamicObject>,
    name: &str,
    generation: i64,
    patience: Duration,
) -> anyhow::Result<String> {
    let mut last = "its status says nothing yet: is the controller of Rouse up?".to_owned();
    let watched = watch_object(api.clone(), name).default_backoff();
    pin_mut!(watched);
    let until = async {
        while let Some(function) = watched.next().await {
            // What breaks off is begun again.
            let Ok(function) = function else { continue };
            let function = function.with_context(|| format!("the Function {name} was deleted"))?;
            match judge(&function.data, generation) {
                Verdict::Ready(url) => return Ok(url),
                Verdict::Failed(why) => bail!("the Function {name} can't become ready: {why}"),
                Verdict::Waits(why) if why != last => {
                    say(&why);
                    last = why;
                }
                Verdict::Waits(_) => {}
            }
        }
        bail!("the watch of the Function {name} ended")
    };
    match timeout(patience, until).await {
        Ok(outcome) => outcome,
        Err(_) => bail!(
            "the Function {name} is not ready after {patience:?}: {last} (--timeout waits longer; \
             `kubectl rouse why {name}` says more)"
        ),
    }
}

fn judge(object: &Value, generation: i64) -> Verdict {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let condition = |kind: ConditionType| {
        let mut all = conditions.into_iter().flatten();
        all.find(|condition| {
            condition["type"] == kind.as_str()
                && condition["observedGeneration"].as_i64() >= Some(generation)
        })
    };
    let text = |condition: &Value| {
        let part = |name| condition[name].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", part("reason"), part("message"))
    };
    if let Some(stalled) = condition(ConditionType::Stalled).filter(|it| it["status"] == "True") {
        return Verdict::Failed(text(stalled));
    }
    match condition(ConditionType::Ready) {
        Some(ready) if ready["status"] == "True" => {
            let url = object.pointer("/status/url").and_then(Value::as_str).unwrap_or_default();
            Verdict::Ready(url.to_owned())
        }
        Some(ready) => Verdict::Waits(text(ready)),
        None => Verdict::Waits("the controller has not seen the change yet".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_conditions_of_this_generation_count() {
        let object = |kind: &str, status: &str, generation: i64| {
            json!({"status": {"url": "http://hello.shop", "conditions": [{
                "type": kind, "status": status, "observedGeneration": generation,
                "reason": "CodeRefused", "message": "it is no zip",
            }]}})
        };
        let ready = judge(&object("Ready", "True", 2), 2);
        assert_eq!(ready, Verdict::Ready("http://hello.shop".into()));
        let old = judge(&object("Ready", "True", 1), 2);
        assert!(matches!(old, Verdict::Waits(_)), "{old:?}");
        let waits = judge(&object("Ready", "False", 2), 2);
        assert_eq!(waits, Verdict::Waits("CodeRefused: it is no zip".into()));
        assert!(matches!(judge(&object("Stalled", "True", 2), 2), Verdict::Failed(_)));
        assert!(matches!(judge(&json!({}), 1), Verdict::Waits(_)));
    }
}
