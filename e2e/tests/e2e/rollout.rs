//! Changing a Function while it is called.

use std::time::Duration;

use rouse_e2e::load::Load;
use rouse_e2e::scope::{PATIENCE, Scope, condition, find_condition, hello};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

fn version(version: &str) -> Value {
    hello(&json!({"env": [{"name": "HELLO_VERSION", "value": version}]}))
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn changes_under_load_fail_no_request() {
    Scope::run("rollout", async |scope| {
        scope.apply_function("hello", version("0")).await?;
        scope.asleep("hello", PATIENCE).await?;
        let load = Load::start(
            scope.cluster.activator,
            &scope.host("hello"),
            4,
            Duration::from_millis(20),
        );
        let mut ticks = interval(Duration::from_secs(10));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        for change in 1..=6 {
            ticks.tick().await;
            scope.apply_function("hello", version(&change.to_string())).await?;
        }
        serves(&scope).await?;

        let mut broken = version("broken");
        broken["image"] = json!("localhost:1/nobody/nothing:v1");
        scope.apply_function("hello", broken).await?;
        let failed =
            scope.function("hello", PATIENCE, |f| condition(f, "Ready") == Some("False")).await?;
        let ready = find_condition(&failed, "Ready").expect("Ready is always there");
        assert_eq!(ready.reason, "ImagePullFailed");
        assert_eq!(condition(&failed, "Active"), Some("True"), "the old revision goes on");
        let outcome = load.stop().await?;
        assert!(outcome.bad.is_empty(), "{outcome:?}");
        assert!(outcome.good > 1000, "{outcome:?}");
        assert!(outcome.versions.contains_key("6"), "{outcome:?}");
        assert!(!outcome.versions.contains_key("broken"), "{outcome:?}");

        scope.apply_function("hello", version("6")).await?;
        serves(&scope).await?;
        scope.asleep("hello", PATIENCE).await?;
        let left = scope.deployments("hello", PATIENCE, |all| all.len() == 1).await?;
        assert_eq!(left.len(), 1, "revisions without traffic have no Deployment");
        Ok(())
    })
    .await;
}

/// Waits until the newest revision takes the traffic.
async fn serves(scope: &Scope) -> anyhow::Result<()> {
    scope
        .function("hello", PATIENCE, |function| {
            let status = function.status.as_ref();
            status.is_some_and(|s| s.latest_ready.is_some() && s.latest_ready == s.latest_created)
                && condition(function, "Ready") == Some("True")
        })
        .await
        .map(drop)
}
