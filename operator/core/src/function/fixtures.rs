//! Functions and children for the tests of this folder.

use std::collections::BTreeMap;

use rouse_crds::v1alpha1::Function;
use serde_json::{Value, json};

use super::plan::{
    ChildKind, Plan, SeenChild, SeenDeployment, SeenRecord, SeenRevision, SeenService, Site, Verb,
    Write,
};
use super::runtime::Runtimes;
use super::{ValidatedFunction, validate};
use crate::report::{FunctionReport, RevisionReport};

pub const HOST: &str = "rouse-activator.rouse-system.svc.cluster.local";
pub const UID: &str = "11111111-2222-3333-4444-555555555555";

/// The Function `shop/hello` with the members of `spec` over an image.
pub fn function(spec: Value) -> ValidatedFunction {
    let mut all = json!({"image": "registry.example/hello:1"});
    if let (Value::Object(all), Value::Object(spec)) = (&mut all, spec) {
        all.extend(spec);
    }
    let function: Function = serde_json::from_value(json!({
        "apiVersion": "rouse.dev/v1alpha1",
        "kind": "Function",
        "metadata": {"name": "hello", "namespace": "shop", "uid": UID, "generation": 1},
        "spec": all,
    }))
    .unwrap();
    validate(&function).unwrap()
}

/// The Function `shop/hello` with the members of `spec` over some code.
pub fn source(mut spec: Value, source: Value) -> ValidatedFunction {
    let mut all = json!({"runtime": "python3.11", "handler": "app.handler", "contract": "Lambda"});
    if let (Value::Object(all), Value::Object(source)) = (&mut all, source) {
        all.extend(source);
    }
    spec["source"] = all;
    spec["image"] = Value::Null;
    function(spec)
}

/// What the administrator says of runtimes.
pub fn runtimes() -> Runtimes {
    Runtimes::parse(
        &json!({
            "python3.11": {
                "image": "rouse.dev/runtime-python3.11:v1",
                "command": ["python3", "$(ROUSE_HANDLER)"],
                "commands": {
                    "Lambda": ["python3", "-m", "awslambdaric", "$(ROUSE_HANDLER)"],
                    "FunctionsFramework": [],
                },
            },
            "provided": {"image": "rouse.dev/runtime-provided:v1", "command": ["./bootstrap"]},
        })
        .to_string(),
    )
    .unwrap()
}

/// The cluster that Functions run in.
pub fn site(runtimes: &Runtimes) -> Site<'_> {
    Site { activator_host: HOST, runtimes }
}

/// What is in the cluster after `plan` was carried out.
pub fn carry_out(
    plan: &Plan,
    service: &mut SeenService,
    revisions: &mut BTreeMap<String, SeenRevision>,
) {
    for write in plan.service.iter().chain(
        plan.revisions.iter().flat_map(|step| step.deployment.iter().chain(step.record.iter())),
    ) {
        carry_out_write(write, service, revisions);
    }
    for deletion in &plan.deletions {
        for seen in revisions.values_mut() {
            if seen.deployment.as_ref().is_some_and(|d| d.child.uid == deletion.uid) {
                seen.deployment = None;
            }
            if seen.record.as_ref().is_some_and(|r| r.child.uid == deletion.uid) {
                seen.record = None;
            }
        }
    }
}

fn carry_out_write(
    write: &Write,
    service: &mut SeenService,
    revisions: &mut BTreeMap<String, SeenRevision>,
) {
    assert_eq!(write.verb, Verb::Create, "nothing drifts here: {write:?}");
    let child = SeenChild {
        uid: format!("uid-of-{}-{}", write.kind.as_str(), write.name),
        resource_version: "1".into(),
        leaving: false,
        body: write.body.clone(),
    };
    let label = write.body.pointer("/metadata/labels/rouse.dev~1revision");
    let revision = label.and_then(Value::as_str).unwrap_or_default().to_owned();
    match write.kind {
        ChildKind::Service => *service = SeenService::Ours(child),
        ChildKind::Deployment => {
            let deployment = SeenDeployment { child, at_zero: true };
            revisions.entry(revision).or_default().deployment = Some(deployment);
        }
        ChildKind::ControllerRevision => {
            let record = SeenRecord {
                number: write.body["revision"].as_i64().unwrap(),
                template: write.body["data"]["template"].clone(),
                child,
            };
            revisions.entry(revision).or_default().record = Some(record);
        }
        ChildKind::ServiceAccount | ChildKind::RoleBinding => panic!("no Function's: {write:?}"),
    }
}

/// A report under membership 1.
pub fn report(serving: Option<&str>, pods: &[(&str, u32, u32, u32)]) -> FunctionReport {
    FunctionReport {
        key: super::FunctionKey::new("shop", "hello"),
        uid: UID.into(),
        membership: 1,
        serving: serving.map(str::to_owned),
        revisions: pods
            .iter()
            .map(|&(revision, desired, ready, in_flight)| {
                (revision.to_owned(), RevisionReport { desired, ready, in_flight })
            })
            .collect(),
        last_activation: None,
        last_error: None,
        learned: None,
        history: crate::history::History::default(),
    }
}
