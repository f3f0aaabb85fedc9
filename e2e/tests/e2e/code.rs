//! Functions that are given as source. What is in the code's folder the sample program tells.

use std::fmt::Write;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use rouse_e2e::http::{Answer, Caller};
use rouse_e2e::scope::{PATIENCE, Scope, condition, find_condition, hello_code as code};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Within which a caller must know why its request can't be served.
const PROMPT: Duration = Duration::from_secs(10);

async fn get(scope: &Scope, name: &str, path: &str) -> anyhow::Result<Answer> {
    Caller::new(scope.cluster.activator).get(&scope.host(name), path).await
}

async fn text(scope: &Scope, name: &str, path: &str) -> anyhow::Result<String> {
    let answer = get(scope, name, path).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(String::from_utf8(answer.body.to_vec())?)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn code_in_the_object_runs_changes_and_comes_back() {
    Scope::run("code", async |scope| {
        let files = |text: &str| code(&json!({"files": {"app.txt": text}}), &json!({}));
        scope.apply_function("app", files("first")).await?;
        scope.asleep("app", PATIENCE).await?;
        assert_eq!(text(&scope, "app", "/file/app.txt").await?, "first");
        let pods = scope.pods("app", PATIENCE, |pods| !pods.is_empty()).await?;
        let spec = pods[0].spec.clone().unwrap_or_default();
        assert!(spec.volumes.unwrap_or_default().is_empty(), "volumes are slow");

        scope.apply_function("app", files("second")).await?;
        let proven = |f: &rouse_crds::v1alpha1::Function| {
            f.status.as_ref().is_some_and(|status| status.latest_ready == status.latest_created)
        };
        scope.function("app", PATIENCE, proven).await?;
        assert_eq!(text(&scope, "app", "/file/app.txt").await?, "second");
        // Asleep, so that the code has to come once more; the former revision keeps its own.
        scope.asleep("app", PATIENCE).await?;
        assert_eq!(text(&scope, "app", "/file/app.txt").await?, "second");
        scope.apply_function("app", files("first")).await?;
        scope.function("app", PATIENCE, proven).await?;
        assert_eq!(text(&scope, "app", "/file/app.txt").await?, "first");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn code_at_a_url_is_fetched_by_the_pod_and_checked() {
    Scope::run("fetched", async |scope| {
        // An object of names and texts is code, too, and a Function gives it.
        let archive = r#"{"app.txt":"fetched"}"#;
        let store = code(&json!({"files": {"archive": archive}}), &json!({}));
        scope.apply_function("store", store).await?;
        scope.asleep("store", PATIENCE).await?;
        let url = format!("http://store.{}/file/archive", scope.namespace);
        let digest = Sha256::digest(archive).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        let by =
            |digest: &str| code(&json!({"archive": {"url": &url, "sha256": digest}}), &json!({}));
        scope.apply_function("app", by(&digest)).await?;
        scope.asleep("app", PATIENCE).await?;
        assert_eq!(text(&scope, "app", "/file/app.txt").await?, "fetched");

        scope.apply_function("other", by(&"0".repeat(64))).await?;
        scope.asleep("other", PATIENCE).await?;
        refused(&scope, "other", "CodeRefused", &digest).await
    })
    .await;
}

/// A caller and the status hear the reason and these words, and no container ends.
async fn refused(scope: &Scope, name: &str, reason: &str, words: &str) -> anyhow::Result<()> {
    let answer = get(scope, name, "/").await?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.took < PROMPT, "the caller waited {:?}", answer.took);
    let problem = answer.problem()?;
    assert_eq!(problem["reason"], reason, "{problem}");
    assert!(problem["detail"].as_str().unwrap_or_default().contains(words), "{problem}");
    let failed = scope
        .function(name, PATIENCE, |f| {
            find_condition(f, "Ready").is_some_and(|c| c.status == "False" && c.reason == reason)
        })
        .await?;
    let message = find_condition(&failed, "Ready").map(|c| c.message.clone()).unwrap_or_default();
    assert!(message.contains(words), "{message}");
    let pods = scope.pods(name, PATIENCE, |_| true).await?;
    assert!(pods.iter().all(|pod| restarts(pod) == 0), "no crash loop: {pods:?}");
    scope.pods(name, PATIENCE, <[Pod]>::is_empty).await.map(drop)
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    status.container_statuses.unwrap_or_default().iter().map(|c| c.restart_count).sum()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn code_that_is_no_good_is_told_to_caller_and_status_and_takes_no_traffic() {
    Scope::run("bad-code", async |scope| {
        let archive = |inline: &str| code(&json!({"archive": {"inline": inline}}), &json!({}));
        // "not an archive", and a tar.gz with an entry "../x".
        scope.apply_function("kind", archive("bm90IGFuIGFyY2hpdmU=")).await?;
        scope.asleep("kind", PATIENCE).await?;
        refused(&scope, "kind", "CodeRefused", "no zip, no tar in gzip").await?;
        scope.apply_function("climbs", archive(&climbing())).await?;
        scope.asleep("climbs", PATIENCE).await?;
        refused(&scope, "climbs", "CodeRefused", "../x").await?;

        let files = json!({"files": {"app.txt": "x"}});
        let exits = json!({"env": [{"name": "HELLO_EXIT_CODE", "value": "3"}]});
        scope.apply_function("exits", code(&files, &exits)).await?;
        scope.asleep("exits", PATIENCE).await?;
        refused(&scope, "exits", "InitFailed", "as HELLO_EXIT_CODE says").await?;

        scope.apply_function("app", code(&files, &json!({}))).await?;
        scope.asleep("app", PATIENCE).await?;
        assert_eq!(text(&scope, "app", "/file/app.txt").await?, "x");
        scope.apply_function("app", code(&files, &exits)).await?;
        let failed =
            scope.function("app", PATIENCE, |f| condition(f, "Ready") == Some("False")).await?;
        let ready = find_condition(&failed, "Ready").expect("Ready is always there");
        assert_eq!(ready.reason, "InitFailed");
        assert_eq!(text(&scope, "app", "/file/app.txt").await?, "x", "the old revision serves");
        scope.apply_function("app", code(&files, &json!({}))).await?;
        scope.function("app", PATIENCE, |f| condition(f, "Ready") == Some("True")).await?;
        Ok(())
    })
    .await;
}

/// A tar.gz whose one entry leads out of its folder, in base64: `tar` writes none such.
fn climbing() -> String {
    "H4sIAAAAAAACA9PT069goDEwAAIzExMwDQToNBAYIrFB4mbGJoYMCgYMdAClxSWJRUArGUYmqGAYBaNg\
     FIyCUTASAQD+NCe2AAgAAA=="
        .into()
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_runtime_that_is_not_there_is_told_and_the_chart_brings_some() {
    Scope::run("runtime", async |scope| {
        let source = json!({"runtime": "cobol", "files": {"a": "b"}});
        scope.apply_function("cobol", json!({"source": source})).await?;
        let stalled =
            scope.function("cobol", PATIENCE, |f| condition(f, "Stalled") == Some("True")).await?;
        let ready = find_condition(&stalled, "Ready").expect("Ready is always there");
        assert_eq!(ready.reason, "RuntimeUnknown");
        for known in ["python3.11", "node18", "provided", "shell", "java17", "hello"] {
            assert!(ready.message.contains(known), "{}", ready.message);
        }
        Ok(())
    })
    .await;
}
