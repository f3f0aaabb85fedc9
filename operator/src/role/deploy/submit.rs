//! Applies a Function and waits until it is ready. Writes what `rouse deploy` is told and nothing
//! else.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::{StreamExt, pin_mut};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use rouse_crds::v1alpha1::{ConditionType, Function};
use serde_json::Value;
use tokio::time::timeout;

use super::say;
use crate::role::inspect::refused;

/// Owner of the fields that are written.
const MANAGER: &str = "rouse-deploy";

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

/// Applies `function`; gives the generation that it has then.
pub async fn apply(
    api: &Api<DynamicObject>,
    (namespace, name): (&str, &str),
    function: &Value,
    force: bool,
) -> anyhow::Result<i64> {
    let mut params = PatchParams::apply(MANAGER);
    params.force = force;
    let applied = api.patch(name, &params, &Patch::Apply(function)).await;
    let applied = applied.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 403 => anyhow!(
            "you may not patch functions in namespace {namespace}: ask for the role `edit` there"
        ),
        kube::Error::Api(status) if status.code == 409 => anyhow!(
            "others wrote fields of the Function {name} that would be changed; take them with \
             --force, or deploy under another --name. The API server says: {}",
            status.message
        ),
        kube::Error::Api(status) if status.code == 422 => {
            anyhow!("the API server does not take the Function {name}: {}", status.message)
        }
        _ => refused(error, "patch functions", &format!("namespace {namespace}")),
    })?;
    Ok(applied.metadata.generation.unwrap_or_default())
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
