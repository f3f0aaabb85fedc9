//! From ten pods to one while requests of half a minute run: none may be cut off.

use std::time::Duration;

use futures::future::join_all;
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use serde_json::json;
use tokio::time::sleep;

use crate::report::{Bar, Report};

const PODS: u32 = 10;
const LONG: Duration = Duration::from_secs(30);
/// One request ends so long after the other, so that pods go while others serve.
const APART: Duration = Duration::from_secs(3);
const NAME: &str = "shrinking";

/// Runs the measurement.
pub async fn run(scope: &Scope, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("from {PODS} pods to 1");
    let spec = json!({
        "concurrency": {"limit": 1},
        "scaling": {"max": PODS, "idle": {"after": "5s"}, "stableWindow": "1s"},
    });
    scope.apply_function(NAME, hello(&spec)).await?;
    scope.asleep(NAME, PATIENCE).await?;
    let (host, path) = (scope.host(NAME), format!("/?sleep={}", LONG.as_millis()));
    // The last comes when half of the others are done, and goes on alone.
    let calls = (0..=PODS).map(|call| {
        let (host, path) = (&host, &path);
        async move {
            let last = call == PODS;
            sleep(if last { LONG + APART * (PODS / 2) } else { APART * call }).await;
            let answer = Caller::new(scope.cluster.activator).get(host, path).await;
            answer.is_ok_and(|answer| answer.status == 200)
        }
    });
    let reached = scope.deployments(NAME, LONG * 4, |all| {
        let told = all.iter().filter_map(|one| one.spec.replicas).max();
        told.is_some_and(|pods| pods >= 8)
    });
    let (answered, most) = tokio::join!(join_all(calls), reached);
    most?;
    let cut = answered.iter().filter(|good| !**good).count();
    scope
        .deployments(NAME, PATIENCE, |all| {
            all.iter().filter_map(|one| one.spec.replicas).max() == Some(0)
        })
        .await?;
    report.say(&format!(
        "cluster: from {PODS} pods to none under requests of {LONG:?}: {cut} cut off"
    ));
    report.runs.push(json!({"case": "shrinking", "requests": answered.len(), "cut": cut}));
    let cut = u32::try_from(cut).unwrap_or(u32::MAX);
    report.bars.push(Bar::at_most("scale-down: requests cut off", f64::from(cut), 0.0, ""));
    Ok(())
}
