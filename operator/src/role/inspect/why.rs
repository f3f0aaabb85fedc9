//! `rouse why`: the last decisions on a Function, in words.

use kube::ResourceExt;
use rouse_core::explain::why::{clock, now, sentence};
use rouse_crds::v1alpha1::{Function, FunctionStatus, ScaleDecision};
use serde::Serialize;

use crate::cluster::name_of_function;
use crate::output::{Form, Sheet};

/// The answer for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    replicas: u32,
    desired_replicas: u32,
    decisions: Vec<Explained<'a>>,
    now: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained<'a> {
    #[serde(flatten)]
    decision: &'a ScaleDecision,
    why: String,
}

/// Why `function` has as many pods as it has.
pub fn explain(function: &Function, form: Form) -> anyhow::Result<String> {
    let unknown = FunctionStatus::default();
    let status = function.status.as_ref().unwrap_or(&unknown);
    let explained = |decision| Explained { decision, why: sentence(decision, &function.spec) };
    let answer = Answer {
        replicas: status.replicas,
        desired_replicas: status.desired_replicas,
        decisions: status.decisions.iter().map(explained).collect(),
        now: now(status.decisions.last(), &function.spec),
    };
    let row = |Explained { decision, why }: &Explained<'_>| {
        let pods = format!("{} -> {}", decision.from, decision.to);
        vec![clock(decision.time.0), pods, decision.reason.clone(), why.clone()]
    };
    let mut notes = vec![format!(
        "Now: {} ready, {} wanted. {}",
        answer.replicas, answer.desired_replicas, answer.now
    )];
    let of_ready = |condition: &&_| {
        let condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition = condition;
        condition.type_ == "Ready" && condition.status != "True"
    };
    if let Some(trouble) = status.conditions.iter().find(of_ready) {
        notes.push(format!("It is not ready ({}): {}", trouble.reason, trouble.message));
    }
    let sheet = Sheet {
        head: vec!["TIME (UTC)", "PODS", "REASON", "WHY"],
        rows: answer.decisions.iter().map(row).collect(),
        notes,
        names: vec![name_of_function(&function.name_any())],
        ..Sheet::default()
    };
    sheet.render(form, &answer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn decisions_are_told_with_their_reasons() {
        let function: Function = serde_json::from_value(json!({
            "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "metadata": {"name": "f"},
            "spec": {"image": "x"},
            "status": {"replicas": 1, "desiredReplicas": 3, "decisions": [{
                "time": "2026-11-23T12:00:00Z", "from": 0, "to": 3, "reason": "Load", "peak": 25,
                "waiting": 25, "perPod": 10}],
                "conditions": [{"type": "Ready", "status": "False", "reason": "ImagePullFailed",
                    "message": "no", "lastTransitionTime": "2026-11-23T12:00:00Z"}]},
        }))
        .unwrap();
        let table = explain(&function, Form::Table).unwrap();
        assert!(table.contains("2026-11-23 12:00:00  0 -> 3  Load    25 requests"), "{table}");
        assert!(table.contains("Now: 1 ready, 3 wanted."), "{table}");
        assert!(table.contains("not ready (ImagePullFailed): no"), "{table}");
        let told: serde_json::Value =
            serde_json::from_str(&explain(&function, Form::Json).unwrap()).unwrap();
        assert_eq!(told["decisions"][0]["peak"], 25);
        assert!(told["decisions"][0]["why"].as_str().unwrap().starts_with("25 requests"));
    }

    #[test]
    fn a_function_of_which_nothing_is_known_is_told_so() {
        let function = Function::new("f", serde_json::from_value(json!({"image": "x"})).unwrap());
        let table = explain(&function, Form::Table).unwrap();
        assert!(table.starts_with("Now: 0 ready, 0 wanted. Nothing"), "{table}");
    }
}
