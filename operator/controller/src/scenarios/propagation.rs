//! Stories of activators that learn of Functions and Triggers late.

use super::functions::CREATED;
use super::triggers::{trigger, trigger_conditions};
use super::*;
use crate::propagation::QUIET;
use crate::reports::routes::UNHEARD_GRACE;

const A: &str = "uid-activator-0";
const B: &str = "uid-activator-1";

/// A controller with two activators, heard and without any route.
async fn two() -> Rig {
    let api = FakeApi::default();
    api.make("pods", activator("activator-0", "10.0.0.1"));
    api.make("pods", activator("activator-1", "10.0.0.2"));
    let mut rig = Rig::unrouted(api);
    for activator in [A, B] {
        rig.tell(activator, routed(0, 0)).await;
    }
    rig.settle().await;
    rig.api.take_calls();
    rig
}

fn routed(functions: u64, triggers: u64) -> ReportLine {
    ReportLine::Routed(Routed { functions, triggers })
}

fn version(rig: &Rig, plural: &str, name: &str) -> u64 {
    let object = rig.api.get(plural, NAMESPACE, name).unwrap();
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Longer than anything takes that waits for nobody, shorter than a wait that is told.
async fn a_moment() {
    sleep(QUIET / 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_function_is_ready_when_the_last_activator_knows_it() {
    let mut rig = two().await;
    rig.create_function(&json!({}));
    let version = version(&rig, "functions", "hello");
    a_moment().await;
    assert_eq!(rig.status(), Value::Null, "nothing is said of it while it may be a moment only");
    assert_eq!(rig.tell(A, routed(version, 0)).await, 0, "nothing follows from one alone");
    assert_eq!(rig.tell(B, routed(version - 1, 0)).await, 0);
    a_moment().await;
    assert_eq!(rig.status(), Value::Null);
    assert_eq!(rig.tell(B, routed(version, 0)).await, 1);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.conditions(), CREATED);
    let lines = rig.settled_lines().await;
    assert_eq!(lines.len(), 4, "three children, one status: {lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_lasts_is_told_and_a_written_status_does_not_lengthen_it() {
    let mut rig = two().await;
    rig.create_function(&json!({}));
    let first = version(&rig, "functions", "hello");
    rig.tell(A, routed(first, 0)).await;
    sleep(QUIET + Duration::from_millis(1)).await;
    assert_eq!(
        rig.conditions(),
        ["Ready=False/Propagating", "Active=False/Asleep", "Reconciling=True/Propagating"]
    );
    assert_eq!(
        rig.message("Ready"),
        "1 of 2 activators knows the Function as it is written; waiting for activator-1"
    );
    assert!(version(&rig, "functions", "hello") > first);
    rig.api.take_calls();
    sleep(Duration::from_mins(10)).await;
    assert_eq!(rig.api.lines(), [""; 0], "said once");
    assert_eq!(rig.tell(B, routed(first, 0)).await, 1, "what it was written in is enough");
    assert_eq!(rig.settled_lines().await, ["PATCH functions/hello/status by rouse-controller"]);
    assert_eq!(rig.conditions(), CREATED);
}

#[tokio::test(start_paused = true)]
async fn who_knew_a_generation_need_not_know_what_came_after() {
    let mut rig = two().await;
    let r = rig.create_function(&json!({}));
    let first = version(&rig, "functions", "hello");
    rig.report(failing(report(None, &[(&r, [1, 0, 0])]), &r, "ImagePullFailed")).await;
    for activator in [A, B] {
        rig.tell(activator, routed(first, 0)).await;
    }
    rig.settle().await;
    assert_eq!(rig.conditions()[0], "Ready=False/ImagePullFailed");
    rig.report(report(Some(&r), &[(&r, [1, 1, 0])])).await;
    a_moment().await;
    assert_eq!(rig.conditions()[0], "Ready=True/Serving");
}

#[tokio::test(start_paused = true)]
async fn a_ready_function_stays_ready_whatever_becomes_of_activators() {
    let mut rig = two().await;
    let r = rig.create_function(&json!({}));
    for activator in [A, B] {
        rig.tell(activator, routed(100, 0)).await;
    }
    rig.settle().await;
    assert_eq!(rig.conditions(), CREATED);
    rig.api.make("pods", activator("activator-2", "10.0.0.3"));
    rig.context.reports.end_stream(A, 1);
    rig.settle().await;
    rig.api.take_calls();
    rig.report(report(Some(&r), &[(&r, [1, 0, 0])])).await;
    rig.settle().await;
    assert_eq!(rig.conditions()[0], "Ready=True/Waking");
    rig.tasks.shutdown().await;
    let mut rig = Rig::unrouted(rig.api.clone());
    rig.api.take_calls();
    assert_eq!(rig.settled_lines().await, [""; 0], "a restart at rest");

    // A changed spec has to be known again, by the newcomer too.
    rig.change_function(&json!({"scaling": {"max": 7}}));
    for activator in [A, B] {
        rig.tell(activator, routed(100, 0)).await;
    }
    a_moment().await;
    assert_eq!(rig.status()["observedGeneration"], json!(1));
    rig.tell("uid-activator-2", routed(100, 0)).await;
    a_moment().await;
    assert_eq!(rig.status()["observedGeneration"], json!(2));
    assert_eq!(rig.conditions()[0], "Ready=True/Waking");
}

#[tokio::test(start_paused = true)]
async fn an_activator_that_is_not_heard_is_waited_for_a_few_seconds() {
    let rig = two().await;
    rig.tell(A, routed(100, 0)).await;
    rig.context.reports.end_stream(B, 1);
    rig.create_function(&json!({}));
    sleep(UNHEARD_GRACE.mul_f64(0.9)).await;
    assert_eq!(rig.conditions()[0], "Ready=False/Propagating");
    sleep(2 * UNHEARD_GRACE).await;
    assert_eq!(rig.conditions(), CREATED);
}

#[tokio::test(start_paused = true)]
async fn an_activator_that_goes_is_not_waited_for() {
    let rig = two().await;
    rig.tell(A, routed(100, 0)).await;
    rig.create_function(&json!({}));
    a_moment().await;
    assert_eq!(rig.status(), Value::Null);
    rig.api.remove("pods", SYSTEM, "activator-1");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.conditions(), CREATED);
}

#[tokio::test(start_paused = true)]
async fn without_activators_nothing_is_ready_and_says_so() {
    let mut rig = Rig::unrouted(FakeApi::default());
    rig.create_function(&json!({}));
    rig.api.make("triggers", trigger(NAMESPACE, "t", "01", "a.example.com"));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.conditions()[0], "Ready=False/NoActivator");
    let waits = ["Ready=False/NoActivator", "Reconciling=True/NoActivator"];
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), waits);
    rig.tasks.shutdown().await;
    let mut rig = Rig::unrouted(rig.api.clone());
    rig.api.take_calls();
    assert_eq!(rig.settled_lines().await, [""; 0], "a restart at rest");
    rig.tell(A, routed(100, 100)).await;
    rig.api.make("pods", activator("activator-0", "10.0.0.1"));
    a_moment().await;
    assert_eq!(rig.conditions(), CREATED);
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Admitted"]);
}

#[tokio::test(start_paused = true)]
async fn a_trigger_is_ready_when_all_activators_know_it_and_its_function() {
    let rig = two().await;
    rig.create_function(&json!({}));
    let function = version(&rig, "functions", "hello");
    rig.api.make("triggers", trigger(NAMESPACE, "t", "01", "a.example.com"));
    let version = version(&rig, "triggers", "t");
    let status = |rig: &Rig| rig.api.get("triggers", NAMESPACE, "t").unwrap()["status"].clone();
    for (functions, triggers) in [(0, 0), (function, 0), (function - 1, version)] {
        for activator in [A, B] {
            rig.tell(activator, routed(functions, triggers)).await;
        }
        sleep(QUIET / 5).await;
        assert_eq!(status(&rig), Value::Null, "{functions}/{triggers}");
    }
    rig.tell(A, routed(function, version)).await;
    sleep(2 * QUIET).await;
    let waits = ["Ready=False/Propagating", "Reconciling=True/Propagating"];
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), waits);
    rig.tell(B, routed(function, version)).await;
    sleep(QUIET / 5).await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Admitted"]);
    rig.context.reports.end_stream(B, 1);
    rig.api.make("triggers", trigger(NAMESPACE, "u", "02", "b.example.com"));
    sleep(2 * QUIET).await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "u"), waits);
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "t"), ["Ready=True/Admitted"], "it stays");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_free_again_is_had_when_all_activators_know_that_it_is() {
    let mut rig = two().await;
    rig.create_function(&json!({}));
    rig.api.make("triggers", trigger(NAMESPACE, "old", "01", "a.example.com"));
    rig.api.make("triggers", trigger(NAMESPACE, "new", "02", "a.example.com"));
    let made = version(&rig, "triggers", "new");
    for activator in [A, B] {
        rig.tell(activator, routed(100, made)).await;
    }
    rig.settle().await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "old"), ["Ready=True/Admitted"]);
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "new")[0], "Ready=False/HostTaken");
    rig.api.remove("triggers", NAMESPACE, "old");
    for activator in [A, B] {
        rig.tell(activator, routed(100, made)).await;
    }
    sleep(2 * QUIET).await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "new")[0], "Ready=False/Propagating");
    for activator in [A, B] {
        rig.tell(activator, routed(100, 100)).await;
    }
    sleep(QUIET / 5).await;
    assert_eq!(trigger_conditions(&rig, NAMESPACE, "new"), ["Ready=True/Admitted"]);
}
