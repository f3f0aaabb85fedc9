//! Warm Functions without a hard limit are sent to straight, also by the activator that does not own
//! them; what was sent so keeps them awake, and nothing else does.

use k8s_openapi::api::core::v1::Pod;
use rouse_e2e::activators;
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use serde_json::json;

/// Requests that come to each activator. The first of them are passed on while the other begins to
/// follow.
const REQUESTS: u32 = 400;
const MOST_PASSED_ON: f64 = 40.0;

/// Requests for the Function that came to the activator in that way.
async fn came(pod: &Pod, scope: &Scope, listener: &str) -> anyhow::Result<f64> {
    let labels = [("namespace", &*scope.namespace), ("function", "hello"), ("listener", listener)];
    Ok(activators::metrics(pod).await?.sum("rouse_requests_total", &labels))
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_warm_function_is_sent_to_without_its_owner_and_sleeps_when_nobody_calls() {
    Scope::run("spread", async |scope| {
        scope.apply_function("hello", hello(&json!({}))).await?;
        scope.asleep("hello", PATIENCE).await?;
        let pods = activators::two(&scope.cluster).await?;
        for pod in &pods {
            let caller = Caller::new(activators::address(pod)?);
            for _ in 0..REQUESTS {
                let answer = caller.get(&scope.host("hello"), "/").await?;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }
        let mut passed_on = Vec::new();
        for pod in &pods {
            assert!((came(pod, &scope, "cluster").await? - f64::from(REQUESTS)).abs() < 0.5);
            passed_on.push(came(pod, &scope, "peer").await?);
        }
        // One of the two owns it: to that one the other passed on what came before it followed.
        passed_on.sort_by(f64::total_cmp);
        let [none, few] = passed_on[..] else { unreachable!("there are two") };
        assert!(none < 0.5 && few > 0.5, "{passed_on:?}");
        assert!(few <= MOST_PASSED_ON, "{few} of {REQUESTS} requests were passed on");
        scope.asleep("hello", PATIENCE).await
    })
    .await;
}
