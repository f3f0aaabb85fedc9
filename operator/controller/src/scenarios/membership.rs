//! Stories of the activators' membership.

use super::fake_api::status;
use super::*;

fn published(rig: &Rig) -> Membership {
    let stored = rig.api.get("configmaps", SYSTEM, "rouse-membership").unwrap();
    serde_json::from_str(stored["data"]["membership.json"].as_str().unwrap()).unwrap()
}

fn names(membership: &Membership) -> Vec<&str> {
    membership.members.iter().map(|member| member.name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn activators_come_and_go_and_the_version_grows() {
    let api = FakeApi::default();
    let mut rig = Rig::on(api);
    assert_eq!(rig.settled_lines().await, [""; 0], "no activator, nothing to publish");
    rig.api.make("pods", activator("activator-0", "10.0.0.1"));
    assert_eq!(rig.settled_lines().await, ["POST configmaps/rouse-membership by rouse-controller"]);
    assert_eq!(published(&rig).version, 1);
    assert_eq!(published(&rig).members[0].peer, "10.0.0.1:8082");

    rig.api.make("pods", activator("activator-1", "10.0.0.2"));
    let calls = rig.settled_calls().await;
    assert_eq!(calls[0].line(), "PATCH configmaps/rouse-membership by rouse-controller");
    assert!(calls[0].body["metadata"]["resourceVersion"].is_string());
    assert_eq!(published(&rig).version, 2);
    rig.restart().await;
    assert_eq!(rig.settled_lines().await, [""; 0], "a restart at rest");

    rig.api.change("pods", SYSTEM, "activator-0", |pod| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    sleep(Duration::from_millis(10)).await;
    assert_eq!(names(&published(&rig)), ["activator-1"], "who is told to go is out at once");
    assert_eq!(published(&rig).version, 3);
}

#[tokio::test(start_paused = true)]
async fn who_comes_just_after_another_left_waits_until_that_is_settled() {
    let mut rig = Rig::new().await;
    rig.api.make("pods", activator("activator-1", "10.0.0.2"));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(names(&published(&rig)), ["activator-0", "activator-1"], "nobody left");
    let terminate = |pod: &mut Value| {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    };
    rig.api.change("pods", SYSTEM, "activator-0", terminate);
    sleep(Duration::from_millis(200)).await;
    rig.api.make("pods", activator("activator-2", "10.0.0.3"));
    sleep(Duration::from_millis(1_700)).await;
    assert_eq!(names(&published(&rig)), ["activator-1"]);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(names(&published(&rig)), ["activator-1", "activator-2"]);

    rig.api.make("pods", activator("activator-3", "10.0.0.4"));
    rig.api.change("pods", SYSTEM, "activator-1", terminate);
    rig.api.change("pods", SYSTEM, "activator-2", terminate);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(names(&published(&rig)), ["activator-3"], "somebody must own the Functions");
    rig.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_activator_that_is_unready_for_a_moment_stays() {
    let mut rig = Rig::new().await;
    let ready = |truth: &'static str| {
        move |pod: &mut Value| pod["status"]["conditions"][0]["status"] = json!(truth)
    };
    rig.api.change("pods", SYSTEM, "activator-0", ready("False"));
    sleep(Duration::from_secs(5)).await;
    rig.api.change("pods", SYSTEM, "activator-0", ready("True"));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(rig.settled_lines().await, [""; 0]);
    rig.api.change("pods", SYSTEM, "activator-0", ready("False"));
    sleep(Duration::from_secs(11)).await;
    assert_eq!(names(&published(&rig)), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_membership_that_could_not_be_written_is_tried_again() {
    let mut rig = Rig::new().await;
    rig.api.refuse(|_| Some(status(409, "Conflict", "another resourceVersion")));
    rig.api.make("pods", activator("activator-1", "10.0.0.2"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(published(&rig).version, 1);
    rig.api.refuse_nothing();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(names(&published(&rig)).len(), 2);
    rig.settle().await;
}
