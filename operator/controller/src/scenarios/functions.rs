//! Stories of one Function.

use super::fake_api::status;
use super::*;

pub const CREATED: [&str; 2] = ["Ready=True/Asleep", "Active=False/Asleep"];

/// A Function that has been woken once, and sleeps again.
async fn proven() -> (Rig, String) {
    let mut rig = Rig::new().await;
    let revision = rig.create_function(&json!({}));
    rig.settle().await;
    rig.report(report(Some(&revision), &[(&revision, [0, 0, 0])])).await;
    rig.settle().await;
    assert_eq!(rig.status()["latestReady"], json!(revision));
    rig.api.take_events();
    rig.api.take_calls();
    (rig, revision)
}

#[tokio::test(start_paused = true)]
async fn a_new_function_costs_four_writes_and_then_none() {
    let mut rig = Rig::new().await;
    let r = rig.create_function(&json!({"exposure": "Public"}));
    let calls = rig.settled_calls().await;
    let lines: Vec<_> = calls.iter().map(Call::line).collect();
    assert_eq!(
        lines,
        [
            format!("POST deployments/hello-{r} by rouse-activator"),
            format!("POST controllerrevisions/hello-{r} by rouse-controller"),
            "POST services/hello by rouse-controller".to_owned(),
            "PATCH functions/hello/status by rouse-controller".to_owned(),
        ]
    );
    assert_eq!(calls[0].body["spec"]["replicas"], json!(0));
    assert_eq!(calls[0].query["fieldValidation"], "Strict");
    assert_eq!(rig.conditions(), CREATED);
    let status = rig.status();
    assert_eq!(status["latestCreated"], json!(r));
    assert_eq!(status["latestReady"], Value::Null);
    assert_eq!(status["url"], "http://hello.shop");
    assert_eq!(status["publicUrl"], "http://hello.shop.fn.example.org");
    assert_eq!(status["observedGeneration"], json!(1));

    rig.report(report(None, &[(&r, [0, 0, 0])])).await;
    assert_eq!(rig.settled_lines().await, [""; 0], "a report that says nothing new");
    rig.restart().await;
    assert_eq!(rig.settled_lines().await, [""; 0], "a restart at rest");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_twice_though_watches_lag() {
    let mut rig = Rig::new().await;
    rig.api.lag(Duration::from_millis(700));
    let r = rig.create_function(&json!({}));
    sleep(Duration::from_millis(800)).await;
    for ready in 0..2 {
        rig.report(report(Some(&r), &[(&r, [2, ready, 0])])).await;
        sleep(Duration::from_millis(100)).await;
    }
    let lines = rig.settled_lines().await;
    assert_eq!(lines.len(), 4 + 2, "{lines:#?}");
    assert_eq!(rig.status()["replicas"], json!(1));
}

#[tokio::test(start_paused = true)]
async fn how_it_runs_may_lag_and_nothing_else() {
    let (mut rig, r) = proven().await;
    for ready in 1..=20 {
        rig.report(report(Some(&r), &[(&r, [20, ready, 0])])).await;
        sleep(Duration::from_millis(10)).await;
    }
    let lines = rig.settled_lines().await;
    assert_eq!(lines.len(), 1, "one for all: {lines:#?}");
    assert_eq!(rig.status()["replicas"], json!(20));
    rig.report(report(Some(&r), &[(&r, [21, 20, 0])])).await;
    sleep(Duration::from_millis(10)).await;
    let short = failing(report(Some(&r), &[(&r, [22, 20, 0])]), &r, "QuotaExceeded");
    rig.report(short).await;
    sleep(Duration::from_millis(10)).await;
    assert_eq!(rig.status()["lastError"]["reason"], "QuotaExceeded", "an error does not wait");
}

#[tokio::test(start_paused = true)]
async fn waking_and_sleeping_is_told() {
    let (mut rig, r) = proven().await;
    rig.report(report(Some(&r), &[(&r, [1, 0, 0])])).await;
    assert_eq!(rig.settled_lines().await, ["PATCH functions/hello/status by rouse-controller"]);
    assert_eq!(rig.conditions(), ["Ready=True/Waking", "Active=False/Waking"]);
    rig.scale(&r, 2);
    rig.report(report(Some(&r), &[(&r, [2, 2, 9])])).await;
    rig.settle().await;
    assert_eq!(rig.conditions(), ["Ready=True/Serving", "Active=True/Serving"]);
    assert_eq!(rig.status()["replicas"], json!(2));
    assert_eq!(rig.api.take_events(), ["Serving"]);
    rig.restart().await;
    rig.api.take_calls();
    assert_eq!(rig.settled_lines().await, [""; 0], "what it said stands until a report comes");
    rig.report(report(Some(&r), &[(&r, [0, 0, 0])])).await;
    rig.scale(&r, 0);
    rig.settle().await;
    assert_eq!(rig.conditions(), CREATED);
    assert_eq!(rig.api.take_events(), [""; 0], "sleeping is no news");
}

#[tokio::test(start_paused = true)]
async fn a_change_moves_the_traffic_when_the_new_revision_answers() {
    let (mut rig, old) = proven().await;
    rig.scale(&old, 1);
    let new = rig.change_function(&json!({"image": "registry.example/hello:2"}));
    assert_eq!(
        rig.settled_lines().await,
        [
            format!("POST deployments/hello-{new} by rouse-activator"),
            format!("POST controllerrevisions/hello-{new} by rouse-controller"),
            "PATCH functions/hello/status by rouse-controller".to_owned(),
        ]
    );
    assert_eq!(rig.conditions()[2], "Reconciling=True/RevisionStarting");
    assert_eq!(rig.status()["latestCreated"], json!(new));
    assert_eq!(rig.status()["latestReady"], json!(old));

    rig.report(report(Some(&new), &[(&old, [0, 1, 1]), (&new, [1, 1, 0])])).await;
    assert_eq!(rig.settled_lines().await, ["PATCH functions/hello/status by rouse-controller"]);
    assert_eq!(rig.conditions(), ["Ready=True/Serving", "Active=True/Serving"]);
    assert_eq!(rig.status()["latestReady"], json!(new));
    rig.scale(&old, 0);
    assert_eq!(rig.settled_lines().await, [""; 0], "its last request is not answered yet");
    rig.report(report(Some(&new), &[(&old, [0, 0, 0]), (&new, [1, 1, 0])])).await;
    let calls = rig.settled_calls().await;
    assert_eq!(calls[0].line(), format!("DELETE deployments/hello-{old}"));
    assert!(calls[0].body["preconditions"]["uid"].is_string());
    assert!(calls[0].body["preconditions"]["resourceVersion"].is_string());
    assert_eq!(rig.api.names("deployments"), [format!("hello-{new}")]);
    assert_eq!(rig.api.names("controllerrevisions").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_change_back_runs_what_ran_before() {
    let (mut rig, first) = proven().await;
    let name = format!("hello-{first}");
    rig.api.change("controllerrevisions", NAMESPACE, &name, |record| {
        record["data"]["template"]["spec"]["dnsPolicy"] = json!("of an older Rouse");
    });
    let second = rig.change_function(&json!({"image": "registry.example/hello:2"}));
    rig.settle().await;
    rig.report(report(Some(&second), &[])).await;
    rig.settle().await;
    assert_eq!(rig.api.names("deployments"), [format!("hello-{second}")]);
    rig.api.take_calls();
    rig.change_function(&json!({}));
    let calls = rig.settled_calls().await;
    let lines: Vec<_> = calls.iter().map(Call::line).collect();
    assert_eq!(
        lines,
        [
            format!("POST deployments/hello-{first} by rouse-activator"),
            "PATCH functions/hello/status by rouse-controller".to_owned(),
        ]
    );
    let dns = calls[0].body.pointer("/spec/template/spec/dnsPolicy");
    assert_eq!(dns, Some(&json!("of an older Rouse")));
}

#[tokio::test(start_paused = true)]
async fn a_failing_candidate_harms_nobody() {
    let (mut rig, old) = proven().await;
    let bad = rig.change_function(&json!({"image": "registry.example/missing"}));
    rig.settle().await;
    rig.api.take_calls();
    let bad_report = report(Some(&old), &[(&old, [1, 1, 0]), (&bad, [1, 0, 0])]);
    rig.report(failing(bad_report, &bad, "ImagePullFailed")).await;
    assert_eq!(rig.settled_lines().await, ["PATCH functions/hello/status by rouse-controller"]);
    assert_eq!(
        rig.conditions(),
        ["Ready=False/ImagePullFailed", "Active=True/Serving", "Stalled=True/ImagePullFailed"]
    );
    assert!(rig.message("Stalled").ends_with(&format!("revision {old} goes on to serve")));
    assert_eq!(rig.status()["lastError"]["revision"], json!(bad));
    assert_eq!(rig.api.take_events(), ["ImagePullFailed"]);

    let good = rig.change_function(&json!({"image": "registry.example/hello:3"}));
    rig.scale(&bad, 0);
    rig.report(report(Some(&old), &[(&old, [1, 1, 0])])).await;
    rig.settle().await;
    assert_eq!(rig.api.names("deployments").len(), 2, "the failed one is gone");
    assert!(rig.api.get("deployments", NAMESPACE, &format!("hello-{good}")).is_some());
    assert!(rig.api.get("deployments", NAMESPACE, &format!("hello-{old}")).is_some());
}

fn service(owner: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "hello", "namespace": NAMESPACE, "uid": "theirs",
            "ownerReferences": owner},
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [{"port": 80}]},
    })
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_there_is_never_touched() {
    let mut rig = Rig::new().await;
    rig.api.make("services", service(&json!(null)));
    let before = rig.api.get("services", NAMESPACE, "hello");
    rig.create_function(&json!({}));
    let lines = rig.settled_lines().await;
    assert!(!lines.iter().any(|line| line.contains("services")), "{lines:?}");
    assert_eq!(
        rig.conditions(),
        ["Ready=False/NameTaken", "Active=False/Asleep", "Stalled=True/NameTaken"]
    );
    assert_eq!(rig.status()["url"], Value::Null);
    assert_eq!(rig.api.get("services", NAMESPACE, "hello"), before);

    rig.api.remove("services", NAMESPACE, "hello");
    assert_eq!(
        rig.settled_lines().await,
        [
            "POST services/hello by rouse-controller",
            "PATCH functions/hello/status by rouse-controller"
        ]
    );
    assert_eq!(rig.conditions(), CREATED);
    assert_eq!(rig.status()["url"], "http://hello.shop");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_not_seen_yet_is_never_touched() {
    let rig = Rig::new().await;
    rig.api.make_unseen("services", service(&json!(null)));
    let before = rig.api.get("services", NAMESPACE, "hello");
    rig.create_function(&json!({}));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.conditions()[0], "Ready=False/NameTaken");
    assert_eq!(rig.api.get("services", NAMESPACE, "hello"), before);
    let lines = rig.api.lines();
    let writes: Vec<_> = lines.iter().filter(|line| line.contains("services")).collect();
    assert!(writes.iter().all(|line| line.starts_with("POST ")), "{writes:?}");
    assert!((2..=6).contains(&writes.len()), "with growing waits: {writes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_child_of_ours_that_was_not_seen_yet_is_kept() {
    let (mut rig, r) = proven().await;
    let name = format!("hello-{r}");
    let deployment = rig.api.get("deployments", NAMESPACE, &name).unwrap();
    rig.api.remove("deployments", NAMESPACE, &name);
    rig.api.make_unseen("deployments", deployment.clone());
    let lines = rig.settled_lines().await;
    assert_eq!(lines, [format!("POST deployments/{name} by rouse-activator")]);
    assert_eq!(rig.conditions(), CREATED);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_functions_children_are_waited_for() {
    let mut rig = Rig::new().await;
    let owner = json!([{
        "apiVersion": "rouse.dev/v1alpha1", "kind": "Function", "name": "hello",
        "uid": "uid-earlier", "controller": true,
    }]);
    rig.api.make("services", service(&owner));
    let revision = revision_of(&function(&json!({})));
    rig.api.make(
        "deployments",
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": format!("hello-{revision}"), "namespace": NAMESPACE,
                "labels": {"rouse.dev/function-uid": "uid-earlier"}, "ownerReferences": owner,
            },
            "spec": {},
        }),
    );
    rig.create_function(&json!({}));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        rig.conditions(),
        [
            "Ready=False/PredecessorLeaving",
            "Active=False/Asleep",
            "Reconciling=True/PredecessorLeaving"
        ]
    );
    rig.api.remove("deployments", NAMESPACE, &format!("hello-{revision}"));
    rig.api.remove("services", NAMESPACE, "hello");
    sleep(Duration::from_secs(30)).await;
    rig.settle().await;
    assert_eq!(rig.conditions(), CREATED);
    let deployment = rig.api.get("deployments", NAMESPACE, &format!("hello-{revision}")).unwrap();
    assert_eq!(deployment["metadata"]["labels"]["rouse.dev/function-uid"], HELLO_UID);
}

#[tokio::test(start_paused = true)]
async fn a_refused_template_is_told_and_tried_again_with_care() {
    let (rig, old) = proven().await;
    rig.api.refuse(|call| {
        (call.method == "POST" && call.target.plural == "deployments")
            .then(|| status(422, "Invalid", "spec.template.spec.nonsense: unknown field"))
    });
    let refused = rig.change_function(&json!({"template": {"spec": {"nonsense": 1}}}));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(
        rig.api.lines(),
        [
            format!("POST deployments/hello-{refused} by rouse-activator"),
            "PATCH functions/hello/status by rouse-controller".to_owned(),
        ],
        "no record of what can't run"
    );
    assert_eq!(
        rig.conditions(),
        ["Ready=False/TemplateRefused", "Active=False/Asleep", "Stalled=True/TemplateRefused"]
    );
    assert_eq!(
        rig.message("Ready"),
        format!("spec.template.spec.nonsense: unknown field; revision {old} goes on to serve")
    );
    assert_eq!(rig.status()["latestCreated"], json!(old));

    rig.report(report(Some(&old), &[(&old, [1, 1, 1])])).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(rig.api.lines(), [""; 0], "a report is no reason to try again");
    sleep(Duration::from_hours(1)).await;
    let tries = rig.api.lines().len();
    assert!((10..=30).contains(&tries), "with growing waits: {tries}");

    rig.api.refuse_nothing();
    let good = rig.change_function(&json!({"image": "registry.example/hello:2"}));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(
        rig.api.lines().first(),
        Some(&format!("POST deployments/hello-{good} by rouse-activator")),
        "another spec is tried at once"
    );
    assert_eq!(rig.conditions()[2], "Reconciling=True/RevisionStarting");
}

#[tokio::test(start_paused = true)]
async fn a_template_of_the_wrong_shape_never_reaches_the_api_server() {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({"template": {"spec": []}}));
    assert_eq!(
        rig.settled_lines().await,
        [
            "POST services/hello by rouse-controller",
            "PATCH functions/hello/status by rouse-controller"
        ]
    );
    assert_eq!(rig.conditions()[0], "Ready=False/TemplateRefused");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_spec_is_told() {
    let (mut rig, old) = proven().await;
    rig.api.change("functions", NAMESPACE, "hello", |function| {
        function["spec"]["timeouts"] = json!({"request": "soon"});
    });
    assert_eq!(rig.settled_lines().await, ["PATCH functions/hello/status by rouse-controller"]);
    assert_eq!(
        rig.conditions(),
        ["Ready=False/Invalid", "Active=False/Asleep", "Stalled=True/Invalid"]
    );
    assert_eq!(rig.status()["latestReady"], json!(old));
}

#[tokio::test(start_paused = true)]
async fn drift_is_put_right_without_replicas() {
    let (mut rig, r) = proven().await;
    rig.scale(&r, 3);
    let name = format!("hello-{r}");
    rig.api.change("deployments", NAMESPACE, &name, |deployment| {
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!("forged");
        deployment["metadata"]["labels"].as_object_mut().unwrap().remove("rouse.dev/revision");
    });
    rig.api.change("services", NAMESPACE, "hello", |service| {
        service["spec"]["externalName"] = json!("evil.example.com");
    });
    let calls = rig.settled_calls().await;
    let mut lines: Vec<_> = calls.iter().map(Call::line).collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            format!("PATCH deployments/{name} by rouse-controller"),
            "PATCH services/hello by rouse-controller".to_owned()
        ]
    );
    let patch = calls.iter().find(|call| call.target.plural == "deployments").unwrap();
    assert_eq!(patch.body["spec"]["replicas"], Value::Null);
    assert!(patch.body["metadata"]["uid"].is_string());
    assert_eq!(patch.query["force"], "true");
    let deployment = rig.api.get("deployments", NAMESPACE, &name).unwrap();
    assert_eq!(deployment["spec"]["replicas"], json!(3));
    let image = deployment.pointer("/spec/template/spec/containers/0/image");
    assert_eq!(image, Some(&json!("registry.example/hello:1")));
}

#[tokio::test(start_paused = true)]
async fn removed_children_come_back() {
    let (mut rig, r) = proven().await;
    for (plural, name) in [
        ("deployments", format!("hello-{r}")),
        ("controllerrevisions", format!("hello-{r}")),
        ("services", "hello".to_owned()),
    ] {
        rig.api.remove(plural, NAMESPACE, &name);
        let lines = rig.settled_lines().await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(&format!("POST {plural}/{name}")), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_webhook_changes_is_no_endless_fight() {
    let mut rig = Rig::new().await;
    rig.api.mutate(|plural, object| {
        if plural == "deployments" {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("mirror/hello:1");
        }
    });
    let r = rig.create_function(&json!({}));
    let lines = rig.settled_lines().await;
    let fought = lines.iter().filter(|line| line.starts_with("PATCH deployments")).count();
    assert!(fought <= 1, "{lines:?}");
    assert_eq!(rig.conditions(), CREATED);
    for ready in 0..10 {
        rig.report(report(None, &[(&r, [1, ready, 0])])).await;
        sleep(Duration::from_millis(10)).await;
    }
    let lines = rig.settled_lines().await;
    let fought = lines.iter().filter(|line| line.starts_with("PATCH deployments")).count();
    assert!(fought <= 1, "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_goes_takes_its_children_and_nothing_comes_back() {
    let (mut rig, r) = proven().await;
    rig.api.change("functions", NAMESPACE, "hello", |function| {
        function["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    rig.api.remove("deployments", NAMESPACE, &format!("hello-{r}"));
    assert_eq!(rig.settled_lines().await, [""; 0]);
    rig.api.remove("functions", NAMESPACE, "hello");
    assert_eq!(rig.settled_lines().await, [""; 0]);
    assert_eq!(rig.api.names("services"), [""; 0]);
    assert!(rig.context.reports.get(HELLO_UID).is_none(), "nothing of it is remembered");
}

#[tokio::test(start_paused = true)]
async fn a_status_that_somebody_changed_meanwhile_is_written_again() {
    let (mut rig, r) = proven().await;
    let left = std::sync::atomic::AtomicUsize::new(3);
    rig.api.refuse(move |call| {
        let first = left.load(std::sync::atomic::Ordering::SeqCst) > 0;
        (first && call.target.subresource == "status").then(|| {
            left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            status(409, "Conflict", "another resourceVersion")
        })
    });
    rig.report(report(Some(&r), &[(&r, [1, 1, 0])])).await;
    let lines = rig.settled_lines().await;
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(rig.conditions(), ["Ready=True/Serving", "Active=True/Serving"]);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_in_trouble_is_tried_again() {
    let mut rig = Rig::new().await;
    rig.api.refuse(|_| Some(status(503, "ServiceUnavailable", "not now")));
    rig.create_function(&json!({}));
    sleep(Duration::from_secs(10)).await;
    let tries = rig.api.take_calls().len();
    assert!((2..=8).contains(&tries), "with growing waits: {tries}");
    rig.api.refuse_nothing();
    sleep(Duration::from_secs(20)).await;
    rig.settle().await;
    assert_eq!(rig.conditions(), CREATED);
}

/// A Function that is made, served, changed and served again, step by step, with whatever happens
/// in between.
async fn tell_story(rig: &mut Rig, step: usize) -> bool {
    let old = revision_of(&function(&json!({})));
    let new = revision_of(&function(&json!({"image": "registry.example/hello:2"})));
    match step {
        0 => {
            rig.create_function(&json!({}));
        }
        1 => rig.report(report(Some(&old), &[(&old, [1, 1, 0])])).await,
        2 => {
            rig.change_function(&json!({"image": "registry.example/hello:2"}));
        }
        3 => rig.report(report(Some(&new), &[(&new, [1, 1, 0])])).await,
        _ => return false,
    }
    true
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_changes_nothing_in_the_end() {
    let mut undisturbed = Rig::new().await;
    let mut writes = 0;
    let mut step = 0;
    while tell_story(&mut undisturbed, step).await {
        undisturbed.settle().await;
        writes += undisturbed.api.take_calls().len();
        step += 1;
    }
    let expected = undisturbed.api.essence();
    assert!(writes >= 9, "the story has enough to crash in: {writes}");
    for crash in 1..=writes + 4 {
        let mut rig = Rig::new().await;
        rig.api.die_after(crash);
        let mut step = 0;
        while tell_story(&mut rig, step).await {
            rig.settle().await;
            if rig.api.is_dead() {
                rig.restart().await;
                rig.api.revive();
                rig.settle().await;
                // The activator tells the new leader all that it told the old one.
                if step % 2 == 1 {
                    tell_story(&mut rig, step).await;
                }
                rig.settle().await;
            }
            step += 1;
        }
        rig.settle().await;
        assert_eq!(rig.api.essence(), expected, "crash after write {crash}");
        rig.api.take_calls();
        rig.restart().await;
        assert_eq!(rig.settled_lines().await, [""; 0], "crash after write {crash}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_under_way_and_ends_the_rest() {
    let mut rig = Rig::new().await;
    rig.create_function(&json!({}));
    rig.settle().await;
    rig.stop.send_replace(true);
    let ended = rig.tasks.join_next().await.unwrap().unwrap();
    assert_eq!(ended, "functions");
}
