//! Many Functions woken in the same moment, against a bare script that scales as many Deployments
//! of the same pods, in turn.

use std::time::Duration;

use anyhow::Context;
use futures::TryStreamExt;
use futures::future::{join_all, try_join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use rouse_e2e::http::Caller;
use rouse_e2e::scope::{Scope, hello};
use rouse_e2e::{activators, wait};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bare::{self, ask_until_it_answers, listening_at, wall_clock};
use crate::report::{Bar, Report, Row, distributions, quantile};

/// A hundred pods of one node take a while to come and go.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often a pod is asked, and how many times at most.
const ASK_EVERY: Duration = Duration::from_millis(20);
const MOST_ASKED: u32 = 1500;
/// Before each measurement the controllers of Deployments rest for so long: they may ask the API
/// server 20 times a second, and 30 times at once only after a rest. Whoever came while they are
/// still busy with what was before would wait for that.
const REST: Duration = Duration::from_secs(5);
const MOST: f64 = 1.25;
const SHARE: f64 = 0.95;

/// Wakes `count` at once, and scales as many by hand, `rounds` times in turn.
pub async fn run(
    scope: &Scope,
    count: usize,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let functions: Vec<String> = (0..count).map(|n| format!("woken-{count}-{n}")).collect();
    let bare: Vec<String> = (0..count).map(|n| format!("bare-{count}-{n}")).collect();
    // Nobody goes to sleep while others wake: those of the script stay up as well.
    let spec = hello(&json!({"scaling": {"idle": {"after": "60s"}}}));
    try_join_all(functions.iter().map(|name| scope.apply_function(name, spec.clone()))).await?;
    try_join_all(functions.iter().map(|name| scope.asleep(name, PATIENCE))).await?;
    let labels = json!({"bench-group": group_name(count)});
    let made = functions.iter().zip(&bare);
    try_join_all(made.map(|(of, name)| bare::make(scope, of, name, labels.clone()))).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut failed, mut writes) = (0, 0.0);
    for round in 0..rounds {
        eprintln!("{count} at once, round {} of {rounds}", round + 1);
        if round % 2 == 1 {
            theirs.push(scale_bare(scope, &bare).await?);
        }
        let woken = wake(scope, &functions).await?;
        ours.push(woken.times);
        failed += woken.failed;
        writes += woken.writes;
        if round % 2 == 0 {
            theirs.push(scale_bare(scope, &bare).await?);
        }
    }
    let p95 = |runs: &[Vec<f64>]| runs.iter().map(|run| quantile(run, SHARE)).collect::<Vec<_>>();
    let (ours_p95, theirs_p95) = (quantile(&p95(&ours), 0.5), quantile(&p95(&theirs), 0.5));
    let row = |name: &str, runs: &[Vec<f64>]| Row {
        name: format!("{count} at once, {name}"),
        millis: runs.concat(),
    };
    report.text += &distributions(&[
        row("rouse: sent -> answered", &ours),
        row("bare: scaled -> listening and address visible", &theirs),
    ]);
    report.runs.push(json!({
        "case": "together", "count": count, "rouse": ours, "bare": theirs, "failed": failed,
    }));
    let name = format!("{count} at once: p95 {ours_p95:.0} ms beside {theirs_p95:.0} ms");
    report.bars.push(Bar::at_most(name, ours_p95 / theirs_p95, MOST, "x"));
    let name = format!("{count} at once: requests that failed");
    report.bars.push(Bar::at_most(name, f64::from(failed), 0.0, ""));
    #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
    let each = writes / (count * rounds) as f64;
    let name = format!("{count} at once: scale writes for each, tried or done");
    report.bars.push(Bar::at_most(name, each, 1.0, ""));
    // Their pods must not be in the way of what comes next.
    try_join_all(functions.iter().map(|name| scope.asleep(name, PATIENCE))).await?;
    Ok(())
}

/// Writes of scales that the activators began so far, whatever became of them.
async fn scale_writes(scope: &Scope) -> anyhow::Result<f64> {
    let pods = activators::two(&scope.cluster).await?;
    let all = pods.iter().map(async |pod| {
        anyhow::Ok(activators::metrics(pod).await?.sum("rouse_scale_writes_total", &[]))
    });
    Ok(try_join_all(all).await?.into_iter().sum())
}

/// What came of one request to each.
struct Woken {
    /// How long each took, in milliseconds.
    times: Vec<f64>,
    /// How many failed.
    failed: u32,
    /// Writes of scales meanwhile.
    writes: f64,
}

/// One request to each at once.
async fn wake(scope: &Scope, functions: &[String]) -> anyhow::Result<Woken> {
    try_join_all(functions.iter().map(|name| scope.asleep(name, PATIENCE))).await?;
    rest(scope).await?;
    let calls: Vec<(Caller, String)> = functions
        .iter()
        .map(|name| (Caller::new(scope.cluster.activator), scope.host(name)))
        .collect();
    try_join_all(calls.iter().map(|(caller, _)| caller.get("warm-up.invalid", "/"))).await?;
    let before = scale_writes(scope).await?;
    let answers = join_all(calls.iter().map(|(caller, host)| caller.get(host, "/"))).await;
    let mut failed = 0;
    let mut times = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) if answer.status == 200 => times.push(answer.took.as_secs_f64() * 1000.0),
            other => {
                eprintln!("failed: {other:?}");
                failed += 1;
            }
        }
    }
    let writes = scale_writes(scope).await? - before;
    Ok(Woken { times, failed, writes })
}

/// Scales all of them to one, and to zero again: how long each took until its process listened and
/// its address was visible, in milliseconds.
async fn scale_bare(scope: &Scope, names: &[String]) -> anyhow::Result<Vec<f64>> {
    let group = format!("bench-group={}", group_name(names.len()));
    let deployments = scope.api::<Deployment>();
    let (params, zero) = (PatchParams::default(), Patch::Merge(json!({"spec": {"replicas": 0}})));
    let one = Patch::Merge(json!({"spec": {"replicas": 1}}));
    wait::list(&scope.api::<Pod>(), &group, PATIENCE, <[Pod]>::is_empty).await?;
    rest(scope).await?;
    let watch = WatchParams::default().labels(&group);
    let mut changes = Box::pin(scope.api::<Pod>().watch(&watch, "0").await?);
    let begun = wall_clock();
    let scaling =
        try_join_all(names.iter().map(|name| deployments.patch_scale(name, &params, &one)));
    let watching = async {
        let mut asked = JoinSet::new();
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < names.len() {
            let change = changes.try_next().await?.context("the watch ended")?;
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = change else { continue };
            let Some(ip) = pod.status.and_then(|status| status.pod_ip) else { continue };
            if seen.insert(ip.clone()) {
                let visible = wall_clock();
                asked.spawn(async move {
                    let listening =
                        listening_at(&ask_until_it_answers(&ip, ASK_EVERY, MOST_ASKED).await?)?;
                    anyhow::Ok(visible.max(listening) - begun)
                });
            }
        }
        anyhow::Ok(asked.join_all().await)
    };
    let both = async { tokio::try_join!(async { Ok(scaling.await?) }, watching) };
    let (_, times) = tokio::time::timeout(PATIENCE, both).await.context("scaling by hand")??;
    try_join_all(names.iter().map(|name| deployments.patch_scale(name, &params, &zero))).await?;
    wait::list(&scope.api::<Pod>(), &group, PATIENCE, <[Pod]>::is_empty).await?;
    times.into_iter().collect()
}

/// Waits until all that was asked of the controllers of Deployments is done, and a while longer.
async fn rest(scope: &Scope) -> anyhow::Result<()> {
    let is_done = |deployment: &Deployment| {
        let (meta, spec, status) = (&deployment.metadata, &deployment.spec, &deployment.status);
        status.as_ref().is_some_and(|status| {
            status.observed_generation == meta.generation
                && status.replicas.unwrap_or_default() == spec.replicas.unwrap_or_default()
                && status.unavailable_replicas.unwrap_or_default() == 0
        })
    };
    let all_done = |all: &[Deployment]| all.iter().all(is_done);
    wait::list(&scope.api::<Deployment>(), "", PATIENCE, all_done).await?;
    sleep(REST).await;
    Ok(())
}

fn group_name(count: usize) -> String {
    format!("g{count}")
}
