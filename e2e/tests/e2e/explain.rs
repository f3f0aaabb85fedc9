//! What Rouse tells of a Function: why it scaled, what its cold start was made of, what it used.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::events::v1::Event;
use rouse_crds::v1alpha1::Function;
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use rouse_e2e::wait;
use serde_json::{Value, json};

/// How long it may take until the status tells of a use: a minute between two writes, and what it
/// takes an activator to gather it.
const METERED_WITHIN: Duration = Duration::from_secs(90);

fn requests(function: &Function) -> Option<u64> {
    Some(function.status.as_ref()?.usage.as_ref()?.total.requests)
}

fn changes(function: &Function) -> usize {
    function.status.as_ref().map_or(0, |status| status.decisions.len())
}

/// Waits until the API server has events of the Function with all of these reasons.
async fn announced(scope: &Scope, reasons: &[&str]) -> anyhow::Result<()> {
    let has = |events: &[Event], reason: &str| {
        events.iter().any(|event| event.reason.as_deref() == Some(reason))
    };
    let all = |events: &[Event]| reasons.iter().all(|reason| has(events, reason));
    wait::list(&scope.api::<Event>(), "", PATIENCE, all).await.map(drop)
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_cold_start_is_explained_and_metered() {
    Scope::run("explain", async |scope| {
        let spec = hello(&json!({"resources": {"requests": {"memory": "64Mi"}}}));
        scope.apply_function("hello", spec).await?;
        scope.asleep("hello", PATIENCE).await?;
        let caller = Caller::new(scope.cluster.activator);
        let answer = caller.get(&scope.host("hello"), "/?sleep=1000").await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let timing = answer.header("server-timing").expect("a wait is explained");
        assert!(timing.contains("rouse-first-byte;dur="), "{timing}");
        scope.asleep("hello", PATIENCE).await?;
        let told = |f: &Function| requests(f).is_some_and(|n| n >= 1) && changes(f) >= 2;
        let metered = scope.function("hello", METERED_WITHIN, told).await?;
        let usage = metered.status.and_then(|status| status.usage).expect("it was metered");
        assert_eq!((usage.total.requests, usage.gaps), (1, 0), "{usage:?}");

        announced(&scope, &["Serving", "ScaledUp"]).await?;
        let why = scope.ask(&["why", "hello"])?;
        let decisions = why["decisions"].as_array().context("decisions")?;
        let told: Vec<_> =
            decisions.iter().map(|one| (one["from"].as_u64(), one["to"].as_u64())).collect();
        assert_eq!(told, [(Some(0), Some(1)), (Some(1), Some(0))], "{why}");
        assert_eq!(
            (&decisions[0]["reason"], &decisions[0]["waiting"]),
            (&json!("Load"), &json!(1))
        );

        let cold = scope.ask(&["cold", "hello"])?;
        assert_eq!(cold["activations"].as_array().map(Vec::len), Some(1), "{cold}");
        let total = cold["summary"]["total"].as_u64().context("a median")?;
        let phases = cold["summary"]["medians"].as_array().context("phases")?;
        let sum: u64 = phases.iter().filter_map(Value::as_u64).sum();
        assert_eq!(sum, total, "the phases make up all of it: {cold}");
        assert!(cold["summary"]["longest"].is_string() && cold["advice"].is_string(), "{cold}");

        let used = scope.ask(&["usage", "hello"])?;
        let billed = used[0]["billedMillis"].as_u64().context("time")?;
        assert!((1000..5000).contains(&billed), "{used}");
        assert_eq!(used[0]["billedMibMillis"], json!(billed * 64), "alone in a pod of 64 MiB");
        Ok(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_question_about_nothing_says_what_to_do() {
    Scope::run("ask", async |scope| {
        let error = scope.ask(&["why", "nobody"]).unwrap_err().to_string();
        assert!(error.contains("there is no Function nobody"), "{error}");
        Ok(())
    })
    .await;
}
