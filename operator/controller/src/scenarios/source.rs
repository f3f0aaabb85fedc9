//! Stories of a Function that is given as source.

use rouse_core::function::code::Code;

use super::functions::CREATED;
use super::keepers::KEEPER;
use super::*;

fn files(text: &str) -> Value {
    json!({"image": null, "source": {"runtime": "shell", "files": {"app.sh": text}}})
}

fn kept(rig: &Rig, revision: &str) -> Option<Code> {
    let name = format!("hello-{revision}");
    Code::of_record(&rig.api.get("controllerrevisions", NAMESPACE, &name)?["data"])
}

#[tokio::test(start_paused = true)]
async fn code_is_kept_with_its_revision_and_in_no_store() {
    let mut rig = Rig::new().await;
    let first = rig.create_function(&files("#!/bin/sh\necho 1"));
    let lines = rig.settled_lines().await;
    let own: Vec<_> = lines.iter().filter(|line| !line.contains(KEEPER)).collect();
    assert_eq!(own.len(), 4, "{lines:#?}");
    assert_eq!(rig.conditions(), CREATED);
    let code = kept(&rig, &first).unwrap();
    assert_eq!(code.bytes, br##"{"app.sh":"#!/bin/sh\necho 1"}"##);
    let name = format!("hello-{first}");
    let deployment = rig.api.get("deployments", NAMESPACE, &name).unwrap();
    let container = deployment.pointer("/spec/template/spec/containers/0").unwrap();
    assert_eq!(container["image"], "runtime-shell:1");
    assert_eq!(container["args"], json!(["sh", "app.sh"]));
    let digest = json!({"name": "ROUSE_CODE_DIGEST", "value": code.digest});
    assert!(container["env"].as_array().unwrap().contains(&digest));

    for function in rig.context.functions.state() {
        assert!(function.spec.source.as_ref().unwrap().files.is_empty());
    }
    for record in rig.context.children.records.all() {
        assert_eq!(record.data.value().get("code"), None);
        assert!(record.data.value().get("template").is_some());
    }
    rig.restart().await;
    assert_eq!(rig.settled_lines().await, [""; 0], "a restart at rest");

    let second = rig.change_function(&files("#!/bin/sh\necho 2"));
    rig.settle().await;
    assert_ne!(kept(&rig, &second), kept(&rig, &first));
    assert!(kept(&rig, &first).is_some(), "an old revision keeps its own");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_leaves_a_record_with_its_code() {
    // Four of its own, and three of what keeps its lines.
    for writes in 1..=7 {
        let mut rig = Rig::new().await;
        rig.api.die_after(writes);
        let revision = rig.create_function(&files("echo"));
        rig.settle().await;
        rig.restart().await;
        rig.api.revive();
        rig.settle().await;
        assert!(kept(&rig, &revision).is_some(), "after {writes}");
        assert_eq!(rig.conditions(), CREATED, "after {writes}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_run_says_why_and_makes_nothing() {
    for (source, reason, said) in [
        (json!({"runtime": "cobol", "files": {"a": "b"}}), "RuntimeUnknown", "only shell"),
        (json!({"runtime": "shell", "archive": {"inline": "%"}}), "Invalid", "base64 -w0"),
        (
            json!({"runtime": "shell", "archive": {"inline": "YWJj", "sha256": "0".repeat(64)}}),
            "Invalid",
            "archive.sha256 says",
        ),
    ] {
        let mut rig = Rig::new().await;
        let spec = json!({"image": null, "source": source});
        rig.api.make("functions", function(&spec));
        rig.settle().await;
        let conditions = rig.conditions();
        assert!(conditions.contains(&format!("Ready=False/{reason}")), "{conditions:?}");
        assert!(conditions.contains(&format!("Stalled=True/{reason}")), "{conditions:?}");
        let message = rig.message("Ready");
        assert!(message.contains(said), "{message}");
        let lines = rig.api.lines();
        let makes = |line: &String| line.contains("deployments") && !line.contains(KEEPER);
        assert!(!lines.iter().any(makes), "{lines:?}");
    }
}
