//! Stories of Triggers.

use super::fake_api::status;
use super::*;

pub fn trigger(namespace: &str, name: &str, created: &str, host: &str) -> Value {
    json!({
        "apiVersion": "rouse.dev/v1alpha1",
        "kind": "Trigger",
        "metadata": {
            "name": name, "namespace": namespace,
            "creationTimestamp": format!("2026-01-01T00:00:{created}Z"),
        },
        "spec": {"function": "hello", "http": {"hosts": [host]}},
    })
}

pub fn trigger_conditions(rig: &Rig, namespace: &str, name: &str) -> Vec<String> {
    conditions(&rig.api.get("triggers", namespace, name).unwrap()["status"])
}

#[tokio::test(start_paused = true)]
async fn objects_may_be_applied_in_any_order() {
    let mut rig = Rig::new().await;
    rig.api.make("triggers", trigger(NAMESPACE, "t", "01", "a.example.com"));
    assert_eq!(rig.settled_lines().await, ["PATCH triggers/t/status by rouse-controller"]);
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "t"),
        ["Ready=False/FunctionMissing", "Reconciling=True/FunctionMissing"]
    );
    rig.create_function(&json!({}));
    let lines = rig.settled_lines().await;
    assert_eq!(lines.iter().filter(|line| line.contains("triggers")).count(), 1, "{lines:?}");
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Admitted"]);
    rig.restart().await;
    assert_eq!(rig.settled_lines().await, [""; 0], "a restart at rest");
    rig.api.remove("functions", NAMESPACE, "hello");
    rig.settle().await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t")[0], "Ready=False/FunctionMissing");
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_whatever_comes_last() {
    for slow in [
        "functions",
        "triggers",
        "deployments",
        "controllerrevisions",
        "services",
        "pods",
        "rolebindings",
    ] {
        let api = FakeApi::default();
        api.make("pods", activator("activator-0", "10.0.0.1"));
        api.make("triggers", trigger(NAMESPACE, "t", "01", "a.example.com"));
        api.make("functions", function(&json!({})));
        api.slow(slow);
        let mut rig = Rig::on(api);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Admitted"], "{slow}");
        assert_eq!(rig.conditions(), ["Ready=True/Asleep", "Active=False/Asleep"], "{slow}");
        rig.api.take_calls();
        rig.restart().await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(rig.api.lines(), [""; 0], "{slow}: nothing is taken for missing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_goes_to_the_next_when_its_holder_goes() {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({}));
    rig.api.make("triggers", trigger(NAMESPACE, "old", "01", "a.example.com"));
    rig.api.make("triggers", trigger(NAMESPACE, "new", "02", "a.example.com"));
    rig.api.make("triggers", trigger(NAMESPACE, "bad", "03", "a.example.net"));
    rig.settle().await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "old"), ["Ready=True/Admitted"]);
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "new"),
        ["Ready=False/HostTaken", "Stalled=True/HostTaken"]
    );
    assert_eq!(
        trigger_conditions(&rig, NAMESPACE, "bad"),
        ["Ready=False/HostNotPermitted", "Stalled=True/HostNotPermitted"]
    );
    rig.api.take_calls();
    rig.api.remove("triggers", NAMESPACE, "old");
    assert_eq!(rig.settled_lines().await, ["PATCH triggers/new/status by rouse-controller"]);
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "new"), ["Ready=True/Admitted"]);
}

#[tokio::test(start_paused = true)]
async fn an_activation_is_no_reason_to_look_at_triggers() {
    let mut rig = Rig::new().await;
    let r = rig.create_function(&json!({}));
    rig.api.make("triggers", trigger(NAMESPACE, "t", "01", "a.example.com"));
    rig.settle().await;
    let looks = rig.context.claims.subscribe();
    rig.report(report(Some(&r), &[(&r, [1, 1, 0])])).await;
    rig.settle().await;
    assert!(!looks.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_could_not_be_written_is_tried_again_and_holds_nobody_up() {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({}));
    rig.settle().await;
    rig.api
        .refuse(|call| (call.target.name == "a").then(|| status(500, "InternalError", "not now")));
    rig.api.make("triggers", trigger(NAMESPACE, "a", "01", "a.example.com"));
    rig.api.make("triggers", trigger(NAMESPACE, "b", "02", "b.example.com"));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "b"), ["Ready=True/Admitted"]);
    rig.api.refuse_nothing();
    sleep(Duration::from_secs(20)).await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "a"), ["Ready=True/Admitted"]);
}
