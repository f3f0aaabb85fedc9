//! Waits until a Function that was changed is ready, and what it was changed to serves.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, pin_mut};
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use rouse_crds::v1alpha1::ConditionType;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::cluster::{Cluster, code_of, name_of_function};
use crate::exit::Failure;
use crate::output::{self, Form, Sheet};
use crate::progress::Progress;

/// What has come of a Function.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is ready.
    Settled(Settled),
    /// It isn't yet, and why.
    Waits(String),
    /// It never will be unless somebody changes something.
    Failed(String),
}

/// A Function that is as it was meant to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where callers in the cluster reach it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// What serves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
}

impl Settled {
    /// What is told of a Function for which nobody waits.
    pub fn unseen(function: &DynamicObject) -> Self {
        let text = |name: &str| function.data["status"][name].as_str().unwrap_or_default();
        Self {
            namespace: function.metadata.namespace.clone().unwrap_or_default(),
            name: function.metadata.name.clone().unwrap_or_default(),
            url: text("url").to_owned(),
            revision: text("latestReady").to_owned(),
        }
    }

    /// Tells that it `is` so.
    pub fn print(&self, form: Form, is: &str) -> anyhow::Result<()> {
        let Self { namespace, name, url, revision } = self;
        if form == Form::Table {
            return output::print(&format!("{name} {is} at {url}\n"));
        }
        let sheet = Sheet {
            head: vec!["NAMESPACE", "NAME", "REVISION", "URL"],
            rows: vec![[namespace, name, revision, url].map(String::clone).to_vec()],
            names: vec![name_of_function(name)],
            ..Sheet::default()
        };
        sheet.print(form, self)
    }
}

/// Waits until that generation of the Function `name` is ready and nothing else serves any more; with a
/// `revision` until that serves.
pub async fn wait(
    cluster: &Cluster,
    (name, generation): (&str, i64),
    revision: Option<&str>,
    patience: Duration,
) -> anyhow::Result<Settled> {
    let mut progress = Progress::begin();
    let mut broke = String::new();
    let watched = watch_object(cluster.objects(), name).default_backoff();
    pin_mut!(watched);
    let until = async {
        loop {
            let seen = progress.during(watched.next()).await;
            let Some(seen) = seen else { bail!("the watch of the Function {name} ended") };
            let function = match seen {
                Ok(function) => function,
                Err(error) => match refusal(error) {
                    Ok(refusal) => return Err(cluster.refused(refusal, "watch functions")),
                    // What breaks off is begun again.
                    Err(error) => {
                        broke = format!("; the watch broke off: {error}");
                        continue;
                    }
                },
            };
            broke.clear();
            let function = function.with_context(|| format!("the Function {name} was deleted"))?;
            match judge(&function, generation, revision) {
                Verdict::Settled(settled) => return Ok(settled),
                Verdict::Failed(why) => {
                    let why = format!("the Function {name} can't become ready: {why}");
                    return Err(Failure::NotInOrder(why).into());
                }
                Verdict::Waits(why) => progress.now(&why),
            }
        }
    };
    let outcome = timeout(patience, until).await;
    outcome.unwrap_or_else(|_| {
        let last = match progress.last() {
            "" => "its status says nothing yet: is the controller of Rouse up?",
            last => last,
        };
        let why = format!(
            "the Function {name} is not ready after {patience:?}: {last}{broke} (--timeout waits longer; \
             `rouse status {name} -n {}` says more)",
            cluster.namespace
        );
        Err(Failure::TooLate(why).into())
    })
}

/// What the API server refuses for good, or else the error.
fn refusal(error: watcher::Error) -> Result<kube::Error, watcher::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error)
            if matches!(code_of(&error), Some(401 | 403)) =>
        {
            Ok(error)
        }
        watcher::Error::WatchError(status) if matches!(status.code, 401 | 403) => {
            Ok(kube::Error::Api(status))
        }
        other => Err(other),
    }
}

fn judge(function: &DynamicObject, generation: i64, revision: Option<&str>) -> Verdict {
    let status = &function.data["status"];
    let conditions = status["conditions"].as_array();
    let condition = |kind: ConditionType| {
        let mut all = conditions.into_iter().flatten();
        all.find(|condition| {
            condition["type"] == kind.as_str()
                && condition["observedGeneration"].as_i64() >= Some(generation)
        })
    };
    let is_true = |kind| condition(kind).filter(|condition| condition["status"] == "True");
    let part = |condition: &Value, name| condition[name].as_str().unwrap_or_default().to_owned();
    let text = |condition: &Value| {
        format!("{}: {}", part(condition, "reason"), part(condition, "message"))
    };
    if let Some(stalled) = is_true(ConditionType::Stalled) {
        return Verdict::Failed(text(stalled));
    }
    match condition(ConditionType::Ready) {
        None => return Verdict::Waits("the controller has not seen the change yet".to_owned()),
        Some(ready) if ready["status"] != "True" => return Verdict::Waits(text(ready)),
        Some(_) => {}
    }
    if let Some(changing) = is_true(ConditionType::Reconciling) {
        return Verdict::Waits(text(changing));
    }
    let text = |name: &str| status[name].as_str().map(ToOwned::to_owned);
    // What was never called has no revision that is proven.
    let serving = text("latestReady").or_else(|| text("latestCreated")).unwrap_or_default();
    match revision.filter(|revision| *revision != serving) {
        Some(revision) => Verdict::Waits(format!("revision {revision} does not serve yet")),
        None => Verdict::Settled(Settled {
            namespace: function.metadata.namespace.clone().unwrap_or_default(),
            name: function.metadata.name.clone().unwrap_or_default(),
            url: text("url").unwrap_or_default(),
            revision: serving,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(conditions: &[(&str, &str, i64)]) -> DynamicObject {
        let condition = |(kind, status, generation): &(&str, &str, i64)| {
            json!({"type": kind, "status": status, "observedGeneration": generation,
                   "reason": "CodeRefused", "message": "it is no zip"})
        };
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "hello", "namespace": "shop"},
            "status": {"url": "http://hello.shop", "latestReady": "bbb", "conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn only_conditions_of_this_generation_count() {
        let ready = judge(&object(&[("Ready", "True", 2)]), 2, None);
        assert!(
            matches!(&ready, Verdict::Settled(it) if it.url == "http://hello.shop"),
            "{ready:?}"
        );
        let old = judge(&object(&[("Ready", "True", 1)]), 2, None);
        assert!(matches!(old, Verdict::Waits(_)), "{old:?}");
        let waits = judge(&object(&[("Ready", "False", 2)]), 2, None);
        assert_eq!(waits, Verdict::Waits("CodeRefused: it is no zip".into()));
        let stalled = object(&[("Ready", "False", 2), ("Stalled", "True", 2)]);
        assert!(matches!(judge(&stalled, 2, None), Verdict::Failed(_)));
        assert!(matches!(judge(&object(&[]), 1, None), Verdict::Waits(_)));
    }

    #[test]
    fn only_what_is_refused_ends_a_watch() {
        let error = |code| {
            let status = kube::core::Status { code, ..kube::core::Status::default() };
            watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(status)))
        };
        assert!(refusal(error(403)).is_ok() && refusal(error(401)).is_ok());
        assert!(refusal(error(500)).is_err());
        assert!(refusal(watcher::Error::NoResourceVersion).is_err());
    }

    #[test]
    fn who_serves_must_be_who_is_meant() {
        let changing = object(&[("Ready", "True", 2), ("Reconciling", "True", 2)]);
        assert!(matches!(judge(&changing, 2, None), Verdict::Waits(_)), "the former one serves");
        let ready = object(&[("Ready", "True", 2)]);
        assert!(matches!(judge(&ready, 2, Some("aaa")), Verdict::Waits(_)));
        assert!(matches!(judge(&ready, 2, Some("bbb")), Verdict::Settled(_)));
    }
}
