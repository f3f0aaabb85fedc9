//! Stories of Triggers whose events come from servers, and of what runs them.

use super::fake_api::status;
use super::triggers::trigger_conditions;
use super::*;

const SOURCE: &str = "rouse-source";

fn trigger(name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "rouse.dev/v1alpha1",
        "kind": "Trigger",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"function": "hello", "nats": {
            "servers": ["nats://nats:4222"], "subject": {"name": "orders"},
            "credentials": {"token": {"name": secret, "key": "token"}},
        }},
    })
}

/// A cluster at rest with a Trigger whose source is connected.
async fn connected() -> Rig {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({}));
    rig.api.make("triggers", trigger("t", "s"));
    rig.settle().await;
    start_pod(&rig);
    tell(&rig, &json!({"observedGeneration": 1, "connected": true}));
    rig.settle().await;
    rig.api.take_calls();
    rig
}

fn set_available(rig: &Rig, pods: u32) {
    rig.api.change("deployments", NAMESPACE, SOURCE, |deployment| {
        deployment["status"]["availableReplicas"] = json!(pods);
    });
}

fn start_pod(rig: &Rig) {
    set_available(rig, 1);
}

/// Tells how the source of `t` goes, as its pod does.
fn tell(rig: &Rig, source: &Value) {
    rig.api.change("triggers", NAMESPACE, "t", |trigger| {
        trigger["status"]["source"] = source.clone();
    });
}

fn failed(reason: &str) -> Value {
    let error = json!({"reason": reason, "message": "m", "time": "2026-01-01T00:00:00Z"});
    json!({"observedGeneration": 1, "connected": false, "lastError": error})
}

fn secrets(rig: &Rig) -> Vec<String> {
    let deployment = rig.api.get("deployments", NAMESPACE, SOURCE).unwrap();
    let sources = deployment.pointer("/spec/template/spec/volumes/0/projected/sources").unwrap();
    let name = |source: &Value| source["secret"]["name"].as_str().unwrap().to_owned();
    sources.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(start_paused = true)]
async fn what_runs_sources_comes_with_the_first_trigger_and_goes_with_the_last() {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({}));
    rig.settle().await;
    rig.api.take_calls();
    rig.api.make("triggers", trigger("t", "s"));
    let lines = rig.settled_lines().await;
    let made: Vec<&String> = lines.iter().filter(|line| line.contains("POST")).collect();
    assert_eq!(
        made,
        [
            "POST serviceaccounts/rouse-source by rouse-controller",
            "POST rolebindings/rouse-source by rouse-controller",
            "POST deployments/rouse-source by rouse-controller",
        ]
    );
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/SourceStarting", "Reconciling=True/SourceStarting"]
    );
    sleep(Duration::from_secs(15)).await;
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/SourceAway", "Reconciling=True/SourceAway"]
    );
    start_pod(&rig);
    tell(&rig, &json!({"observedGeneration": 1, "connected": true}));
    rig.settle().await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Connected"]);
    rig.api.take_calls();
    rig.restart().await;
    assert_eq!(rig.settled_lines().await, [""; 0], "a restart at rest");
    tell(&rig, &json!({"observedGeneration": 1, "connected": true, "lag": 7, "delivered": 9}));
    assert_eq!(rig.settled_lines().await, [""; 0], "nothing changed that matters here");
    rig.api.remove("triggers", NAMESPACE, "t");
    let lines = rig.settled_lines().await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    for plural in ["deployments", "rolebindings", "serviceaccounts"] {
        assert!(!rig.api.names(plural).contains(&SOURCE.to_owned()), "{plural}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_start_anew_when_the_secrets_are_others_and_not_for_an_edit() {
    let mut rig = connected().await;
    rig.api.change("triggers", NAMESPACE, "t", |trigger| {
        trigger["spec"]["nats"]["subject"]["name"] = json!("others");
    });
    let lines = rig.settled_lines().await;
    assert!(lines.iter().all(|line| line.contains("/status")), "{lines:?}");
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/SourceStarting", "Reconciling=True/SourceStarting"]
    );
    rig.api.make("triggers", trigger("u", "another"));
    let lines = rig.settled_lines().await;
    let writes = lines.iter().filter(|line| line.contains("deployments/rouse-source"));
    assert_eq!(writes.count(), 1, "{lines:?}");
    assert_eq!(secrets(&rig), ["another", "s"]);
}

#[tokio::test(start_paused = true)]
async fn what_keeps_a_source_from_its_work_is_told() {
    let mut rig = connected().await;
    tell(&rig, &failed("ServerAway"));
    rig.settle().await;
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/ServerAway", "Reconciling=True/ServerAway"]
    );
    tell(&rig, &failed("AccessDenied"));
    rig.settle().await;
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/AccessDenied", "Stalled=True/AccessDenied"]
    );
    tell(&rig, &json!({"observedGeneration": 1, "connected": true}));
    rig.settle().await;
    set_available(&rig, 0);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Connected"], "not at once");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/SourceAway", "Reconciling=True/SourceAway"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_is_left_and_what_is_refused_is_told() {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({}));
    let stranger = json!({"metadata": {"name": SOURCE, "namespace": NAMESPACE}});
    rig.api.make("serviceaccounts", stranger.clone());
    rig.api.make("triggers", trigger("t", "s"));
    rig.settle().await;
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/NameTaken", "Stalled=True/NameTaken"]
    );
    assert!(rig.api.get("deployments", NAMESPACE, SOURCE).is_none());
    rig.api.remove("serviceaccounts", NAMESPACE, SOURCE);
    rig.api.refuse(|call| {
        let is_theirs = call.target.plural == "deployments";
        is_theirs.then(|| status(403, "Forbidden", "a policy is against it"))
    });
    sleep(Duration::from_mins(6)).await;
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/SourceRefused", "Stalled=True/SourceRefused"]
    );
    rig.api.refuse_nothing();
    sleep(Duration::from_mins(6)).await;
    start_pod(&rig);
    tell(&rig, &json!({"observedGeneration": 1, "connected": true}));
    rig.settle().await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Connected"]);
}

#[tokio::test(start_paused = true)]
async fn drift_is_put_right() {
    let mut rig = connected().await;
    rig.api.change("deployments", NAMESPACE, SOURCE, |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
    });
    rig.api.change("rolebindings", NAMESPACE, SOURCE, |binding| {
        binding["subjects"][0]["name"] = json!("default");
    });
    assert_eq!(rig.settled_lines().await.len(), 2);
    let deployment = rig.api.get("deployments", NAMESPACE, SOURCE).unwrap();
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "i");
}
