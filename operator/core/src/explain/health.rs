//! How a Function or Trigger is, in one word, and what somebody can do where it is not in order.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use rouse_crds::v1alpha1::{ConditionType, Function, Trigger};
use serde::Serialize;

/// Word for an object whose newest spec nobody has looked at.
const UNSEEN: &str = "Unseen";

/// How good that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Grade {
    /// It is in force as it was written.
    Good,
    /// It is on its way.
    Changing,
    /// Somebody must change something.
    Bad,
}

/// How an object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// How good that is.
    pub grade: Grade,
    /// One word, such as `Asleep`.
    pub word: String,
    /// The same in a sentence.
    pub message: String,
}

/// How `function` is.
pub fn of_function(function: &Function) -> Health {
    let status = function.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let seen = status.and_then(|status| status.observed_generation);
    of(conditions, seen, function.metadata.generation)
}

/// How `trigger` is.
pub fn of_trigger(trigger: &Trigger) -> Health {
    let status = trigger.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let seen = status.and_then(|status| status.observed_generation);
    of(conditions, seen, trigger.metadata.generation)
}

fn of(conditions: &[Condition], seen: Option<i64>, newest: Option<i64>) -> Health {
    let find = |kind: ConditionType| conditions.iter().find(|one| one.type_ == kind.as_str());
    let is_true = |kind| find(kind).is_some_and(|one| one.status == "True");
    let ready = find(ConditionType::Ready).filter(|_| seen >= newest);
    let Some(ready) = ready else {
        return Health {
            grade: Grade::Changing,
            word: UNSEEN.to_owned(),
            message: "the controller has not looked at the newest spec yet".to_owned(),
        };
    };
    let grade = if ready.status != "True" && is_true(ConditionType::Stalled) {
        Grade::Bad
    } else if ready.status != "True" || is_true(ConditionType::Reconciling) {
        Grade::Changing
    } else {
        Grade::Good
    };
    Health { grade, word: ready.reason.clone(), message: ready.message.clone() }
}

/// What somebody can do about a Function that is as `health` says; nothing while it is in order.
pub fn advice(function: &Function, health: &Health) -> Vec<String> {
    if health.grade == Grade::Good {
        return Vec::new();
    }
    let name = function.metadata.name.as_deref().unwrap_or_default();
    let namespace = function.metadata.namespace.as_deref().unwrap_or_default();
    let mut advice = vec![about(&health.word, name, namespace)];
    let status = function.status.as_ref();
    let serving = status.and_then(|status| status.latest_ready.as_deref());
    let newest = status.and_then(|status| status.latest_created.as_deref());
    if let Some(serving) = serving.filter(|_| health.grade == Grade::Bad && serving != newest) {
        advice.push(format!(
            "revision {serving} goes on to serve; `rouse rollback {name} -n {namespace}` makes it the \
             one that is meant"
        ));
    }
    advice
}

/// What somebody can do about a Trigger; none unless somebody has to change something.
pub fn advice_on_trigger(trigger: &Trigger) -> Option<String> {
    let health = of_trigger(trigger);
    let name = trigger.metadata.name.as_deref().unwrap_or_default();
    let namespace = trigger.metadata.namespace.as_deref().unwrap_or_default();
    (health.grade == Grade::Bad).then(|| {
        format!(
            "mend the Trigger {name} by what its message says ({}): `kubectl edit trigger {name} -n \
             {namespace}`; `kubectl explain trigger.spec` is the manual",
            health.word
        )
    })
}

/// What can be done about a reason of the condition `Ready`.
fn about(reason: &str, name: &str, namespace: &str) -> String {
    match reason {
        "ImagePullFailed" => {
            "see whether the image is there and nodes may pull it: a private registry \
             needs imagePullSecrets in spec.template"
                .to_owned()
        }
        "ContainerCreateFailed" => "see whether the program of spec.command is in the image, and \
             whether the Secrets and ConfigMaps are there that spec.env and spec.envFrom name"
            .to_owned(),
        "ContainerCrashed" | "InitFailed" => {
            format!(
                "see what it printed: `rouse logs {name} -n {namespace}`; then deploy it mended"
            )
        }
        "CodeUnavailable" => {
            "see whether pods reach spec.source.archive.url without a signature".to_owned()
        }
        "CodeRefused" => {
            "deploy the folder again: `rouse deploy DIR` packs it as pods take it".to_owned()
        }
        "Unschedulable" => format!(
            "ask for less (spec.resources.requests) or add nodes: `kubectl describe pods -n {namespace} \
             -l rouse.dev/function={name}` says what nodes lack"
        ),
        "QuotaExceeded" => {
            format!("see what is used up: `kubectl describe resourcequota -n {namespace}`")
        }
        "NamespaceFull" => "let other Functions of the namespace sleep, or have the administrator \
             raise functions.podCaps of Rouse's chart"
            .to_owned(),
        "PodRefused" | "ScaleRefused" => {
            "mend what the message names: a policy of the cluster refuses the pod".to_owned()
        }
        "NameTaken" => format!(
            "give the Function another name, or delete the Service if nobody needs it: `kubectl get \
             service {name} -n {namespace}`"
        ),
        "RuntimeUnknown" | "CommandMissing" | "HandlerMissing" | "TemplateRefused" | "Invalid"
        | "RecordRefused" | "ServiceRefused" | "Refused" => {
            "mend the spec: `kubectl explain function.spec` is the manual".to_owned()
        }
        "NoActivator" | UNSEEN => "it goes by itself once Rouse runs: see `kubectl get pods -A -l \
             app.kubernetes.io/part-of=rouse`"
            .to_owned(),
        _ => format!("it may go by itself; watch it: `rouse status {name} -n {namespace}`"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn function(generation: i64, conditions: &Value) -> Function {
        serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Function",
            "metadata": {"name": "f", "namespace": "shop", "generation": generation},
            "spec": {"image": "x:1"},
            "status": {"observedGeneration": 1, "conditions": conditions,
                       "latestReady": "aaa", "latestCreated": "bbb"},
        }))
        .unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": "so it is",
               "lastTransitionTime": "2026-11-23T12:00:00Z"})
    }

    #[test]
    fn a_function_that_sleeps_is_good_and_needs_no_advice() {
        let asleep = function(1, &json!([condition("Ready", "True", "Asleep")]));
        let health = of_function(&asleep);
        assert_eq!((health.grade, health.word.as_str()), (Grade::Good, "Asleep"));
        assert!(advice(&asleep, &health).is_empty());
    }

    #[test]
    fn what_has_not_been_seen_is_not_judged() {
        let changed = function(2, &json!([condition("Ready", "True", "Asleep")]));
        let health = of_function(&changed);
        assert_eq!((health.grade, health.word.as_str()), (Grade::Changing, UNSEEN));
        assert!(advice(&changed, &health)[0].contains("once Rouse runs"));
    }

    #[test]
    fn what_stalls_is_bad_and_the_revision_that_serves_is_named() {
        let stalled = function(
            1,
            &json!([
                condition("Ready", "False", "InitFailed"),
                condition("Stalled", "True", "InitFailed")
            ]),
        );
        let health = of_function(&stalled);
        assert_eq!(health.grade, Grade::Bad);
        let advice = advice(&stalled, &health);
        assert!(advice[0].contains("`rouse logs f -n shop`"), "{advice:?}");
        assert!(advice[1].contains("revision aaa") && advice[1].contains("rouse rollback f"));
    }

    #[test]
    fn a_trigger_that_stalls_is_named_with_where_it_is_mended() {
        let trigger = |status: &str| -> Trigger {
            let conditions = [
                condition("Ready", "False", "HostNotAllowed"),
                condition("Stalled", status, "HostNotAllowed"),
            ];
            serde_json::from_value(json!({
                "apiVersion": "rouse.dev/v1alpha1", "kind": "Trigger",
                "metadata": {"name": "t", "namespace": "shop", "generation": 1},
                "spec": {"function": "f", "schedule": {"cron": "@daily"}},
                "status": {"observedGeneration": 1, "conditions": conditions},
            }))
            .unwrap()
        };
        let advice = advice_on_trigger(&trigger("True")).unwrap();
        assert!(advice.contains("HostNotAllowed") && advice.contains("edit trigger t -n shop"));
        assert_eq!(advice_on_trigger(&trigger("False")), None);
    }

    #[test]
    fn what_changes_is_neither() {
        let ready = condition("Ready", "True", "Serving");
        let changing =
            function(1, &json!([ready, condition("Reconciling", "True", "RevisionStarting")]));
        assert_eq!(of_function(&changing).grade, Grade::Changing);
    }
}
