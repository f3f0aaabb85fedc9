//! Two hundred short requests at a Function that sleeps: how long they take beside a single one,
//! and how many pods are started for them.

use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use rouse_core::simulation::cases::{Case, fewest_pods};
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{PATIENCE, Scope, hello};
use serde_json::json;

use crate::report::{Bar, Report, Row, distributions, quantile};

const REQUESTS: u32 = 200;
const SERVICE: Duration = Duration::from_millis(100);
const LIMIT: u32 = 10;
const MOST_PODS: u32 = 40;
/// What the slowest may take longer than a single request.
const GRACE: Duration = Duration::from_millis(1500);
/// Single requests at zero.
const SINGLES: usize = 5;

/// Bursts at a Function that was called before, and at new ones.
pub async fn run(scope: &Scope, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    make(scope, "burst").await?;
    let mut floors = Vec::new();
    for single in 0..SINGLES {
        eprintln!("burst: single request {} of {SINGLES}", single + 1);
        floors.extend(burst(scope, "burst", 1).await?.0);
    }
    let floor = quantile(&floors, 0.5);
    report.say(&format!("cluster: a single request of {SERVICE:?} at zero takes {floor:.0} ms"));
    for round in 0..rounds {
        let new = format!("burst-new-{round}");
        make(scope, &new).await?;
        for (name, what) in [("burst", "called before"), (&*new, "never called")] {
            eprintln!("burst: {what}, round {} of {rounds}", round + 1);
            let (times, pods) = burst(scope, name, REQUESTS).await?;
            tell(report, what, floor, &times, pods);
        }
    }
    Ok(())
}

async fn make(scope: &Scope, name: &str) -> anyhow::Result<()> {
    // Pods stay long enough to be counted when all is answered.
    let spec = json!({
        "concurrency": {"limit": LIMIT},
        "scaling": {"max": MOST_PODS, "idle": {"after": "3s"}, "stableWindow": "10s"},
    });
    scope.apply_function(name, hello(&spec)).await?;
    scope.asleep(name, PATIENCE).await
}

/// How long each of the requests took, in milliseconds, and how many pods there were.
async fn burst(scope: &Scope, name: &str, requests: u32) -> anyhow::Result<(Vec<f64>, i32)> {
    scope.pods(name, PATIENCE, <[_]>::is_empty).await?;
    scope.asleep(name, PATIENCE).await?;
    let callers: Vec<Caller> =
        (0..requests).map(|_| Caller::new(scope.cluster.activator)).collect();
    // Connections are opened before the clock runs, as callers would have them.
    try_join_all(callers.iter().map(|caller| caller.get("warm-up.invalid", "/"))).await?;
    let (host, path) = (scope.host(name), format!("/?sleep={}", SERVICE.as_millis()));
    let answers = try_join_all(callers.iter().map(|caller| caller.get(&host, &path))).await?;
    let bad = answers.iter().filter(|answer| answer.status != 200).count();
    anyhow::ensure!(bad == 0, "{bad} of {requests} requests were not answered with 200");
    let all = scope.deployments(name, PATIENCE, |all| all.len() == 1).await?;
    let spec = all.into_iter().next().map(|deployment| deployment.spec);
    let pods = spec.and_then(|spec| spec.replicas).context("the Deployment has replicas")?;
    Ok((answers.iter().map(|answer| answer.took.as_secs_f64() * 1000.0).collect(), pods))
}

fn tell(report: &mut Report, what: &str, floor: f64, times: &[f64], pods: i32) {
    let p99 = quantile(times, 0.99);
    let within = floor + GRACE.as_secs_f64() * 1000.0;
    let start = Duration::from_secs_f64(floor / 1000.0).saturating_sub(SERVICE);
    let case = Case { start, service: SERVICE, limit: LIMIT, bounds: (0, MOST_PODS) };
    let time = Duration::from_secs_f64(within / 1000.0);
    let fewest = fewest_pods(&case, REQUESTS, time, 1).unwrap_or(u32::MAX);
    let name = format!("burst of {REQUESTS}, {what}: request");
    report.text += &distributions(&[Row { name, millis: times.to_vec() }]);
    report.say(&format!("cluster: {pods} pods; the model needs {fewest} at least"));
    report.runs.push(json!({
        "case": "burst", "what": what, "floor": floor, "p99": p99, "pods": pods, "fewest": fewest,
    }));
    report.bars.push(Bar::at_most(format!("burst, {what}: p99"), p99, within, "ms"));
    let most = f64::from(fewest) * 1.5;
    report.bars.push(Bar::at_most(format!("burst, {what}: pods"), pods.into(), most, "pods"));
}
