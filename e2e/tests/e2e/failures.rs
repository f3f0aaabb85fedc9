//! What callers and status say when a Function can't run.

use std::time::Duration;

use futures::future::join_all;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope, condition, find_condition, hello};
use serde_json::{Value, json};

/// Within which a caller must know why its request can't be served.
const PROMPT: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn an_image_that_can_not_be_pulled_is_told_to_caller_and_status() {
    Scope::run("image", async |scope| {
        let spec = hello(&json!({"image": "localhost:1/nobody/nothing:v1"}));
        failing_start(&scope, spec, "ImagePullFailed").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_command_that_crashes_is_told_to_caller_and_status() {
    Scope::run("crash", async |scope| {
        let spec = hello(&json!({"env": [{"name": "HELLO_EXIT_CODE", "value": "3"}]}));
        failing_start(&scope, spec, "ContainerCrashed").await
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_quota_that_is_used_up_is_told_to_the_caller() {
    Scope::run("quota", async |scope| {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}},
        });
        scope
            .api::<k8s_openapi::api::core::v1::ResourceQuota>()
            .create(&kube::api::PostParams::default(), &serde_json::from_value(quota)?)
            .await?;
        failing_start(&scope, hello(&json!({})), "QuotaExceeded").await
    })
    .await;
}

async fn failing_start(scope: &Scope, spec: Value, reason: &str) -> anyhow::Result<()> {
    scope.apply_function("broken", spec).await?;
    scope.asleep("broken", PATIENCE).await?;
    let answer = Caller::new(scope.cluster.activator).get(&scope.host("broken"), "/").await?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.took < PROMPT, "the caller waited {:?}", answer.took);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let detail = answer.problem()?["detail"].as_str().unwrap_or_default().to_owned();
    assert!(!detail.is_empty(), "{answer:?}");
    let failed = scope
        .function("broken", PATIENCE, |f| {
            find_condition(f, "Ready").is_some_and(|c| c.status == "False" && c.reason == reason)
        })
        .await?;
    let ready = find_condition(&failed, "Ready").map(|c| c.message.clone()).unwrap_or_default();
    assert!(!ready.is_empty());
    let last_error = failed.status.and_then(|status| status.last_error);
    assert_eq!(last_error.map(|error| error.reason).as_deref(), Some(reason));
    Ok(())
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_container_that_never_listens_is_named_as_the_cause() {
    Scope::run("silent", async |scope| {
        let spec = hello(&json!({
            "env": [{"name": "HELLO_DELAY_MILLIS", "value": "600000"}],
            "timeouts": {"activation": "6s"},
        }));
        scope.apply_function("silent", spec).await?;
        scope.asleep("silent", PATIENCE).await?;
        let answer = Caller::new(scope.cluster.activator).get(&scope.host("silent"), "/").await?;
        assert_eq!(answer.status, 504, "{answer:?}");
        let problem = answer.problem()?;
        assert_eq!(problem["reason"], "NotListening", "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("nothing listens on port 8080"), "{problem}");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_full_queue_turns_the_rest_away_at_once_and_harms_nobody_else() {
    Scope::run("queue", async |scope| {
        let spec = hello(&json!({
            "concurrency": {"limit": 1}, "scaling": {"max": 1}, "buffer": {"requests": 5},
        }));
        scope.apply_function("hello", spec).await?;
        scope.apply_function("other", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        scope.asleep("other", PATIENCE).await?;

        let caller = Caller::new(scope.cluster.activator);
        let (host, other) = (scope.host("hello"), scope.host("other"));
        let (answers, beside) = tokio::join!(
            join_all((0..20).map(|_| caller.get(&host, "/?sleep=500"))),
            caller.get(&other, "/"),
        );
        let answers = answers.into_iter().collect::<anyhow::Result<Vec<Answer>>>()?;
        let (good, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 200);
        assert_eq!(good.len(), 5, "as many as may wait: {answers:?}");
        for answer in refused {
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            assert!(answer.took < Duration::from_secs(1), "at once, not in {:?}", answer.took);
        }
        assert_eq!(beside?.status, 200);
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_template_that_the_api_server_refuses_is_told_in_the_status() {
    Scope::run("template", async |scope| {
        let template = json!({"spec": {"volumes": [{"name": "NOT A NAME"}]}});
        scope.apply_function("refused", hello(&json!({"template": template}))).await?;
        scope.apply_function("beside", hello(&json!({}))).await?;
        let refused = scope
            .function("refused", PATIENCE, |f| condition(f, "Stalled") == Some("True"))
            .await?;
        let ready = find_condition(&refused, "Ready").expect("Ready is always there");
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "TemplateRefused"));
        assert!(ready.message.contains("volumes"), "the API server's words: {}", ready.message);
        scope.asleep("beside", PATIENCE).await?;
        let answer = Caller::new(scope.cluster.activator).get(&scope.host("beside"), "/").await?;
        assert_eq!(answer.status, 200, "{answer:?}");

        scope.apply_function("refused", hello(&json!({}))).await?;
        let mended =
            scope.function("refused", PATIENCE, |f| condition(f, "Ready") == Some("True")).await?;
        assert_eq!(condition(&mended, "Stalled"), None);
        Ok(())
    })
    .await;
}
