//! What callers see when activators are restarted: each in turn in good order, and one by SIGKILL.
//! Requests come at a rate that does not depend on the answers, over connections that are kept, to
//! the Service and to each activator's own address, for Functions that are warm, warm with a hard
//! limit, and asleep.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use rouse_e2e::activators;
use rouse_e2e::cluster::NAMESPACE;
use rouse_e2e::scope::{PATIENCE, Scope, condition, hello};
use rouse_e2e::steady::{Failed, Load, Outcome, Share, Way, kinds};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::report::{Bar, Report};

/// Requests a second.
const RATE: f64 = 500.0;
/// Connections, half of them for each of the warm Functions.
const CONNECTIONS: usize = 40;
/// Functions that sleep between two requests, each with a connection of its own.
const SLEEPERS: usize = 3;
/// Time between two requests for one of them; they sleep after one second.
const WAKE_EVERY: Duration = Duration::from_secs(8);
/// Requests that the graceful restarts must see.
const GRACEFUL_REQUESTS: u64 = 10_000;
/// Share of the requests of the minute after a SIGKILL that may fail, in percent.
const MOST_FAILED: f64 = 0.1;
/// Failures that are printed one by one.
const MOST_PRINTED: usize = 20;

/// Arguments of `bench restart`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Minutes that follow a SIGKILL, and so many of those.
    #[arg(long, default_value_t = 3)]
    kills: u32,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let scope = Scope::new("bench-restart").await?;
    let measured = measure(&scope, arguments).await;
    scope.delete().await?;
    measured
}

async fn measure(scope: &Scope, arguments: &Arguments) -> anyhow::Result<Report> {
    let shares = prepare(scope).await?;
    let mut report = Report::new("restart");
    gracefully(scope, &shares, &mut report).await?;
    let mut kills = Vec::new();
    for number in 0..arguments.kills {
        kills.push(kill(scope, &shares, number, &mut report).await?);
    }
    let sum = |of: fn(&Kill) -> usize| kills.iter().map(of).sum::<usize>();
    report.bars.push(Bar::at_most(
        "SIGKILL: failures on connections to the survivor",
        count(sum(|kill| kill.on_survivor)),
        0.0,
        "requests",
    ));
    let worst = kills.iter().map(|kill| kill.failed_percent).fold(0.0, f64::max);
    let name = "SIGKILL: requests of that minute that fail with one reconnect, worst of all";
    report.bars.push(Bar::at_most(name, worst, MOST_FAILED, "%"));
    Ok(report)
}

/// Makes the Functions, and says who calls them.
async fn prepare(scope: &Scope) -> anyhow::Result<Vec<Share>> {
    let warm = hello(&json!({"scaling": {"min": 1}}));
    let limited = hello(&json!({"scaling": {"min": 2, "max": 4}, "concurrency": {"limit": 5}}));
    scope.apply_function("warm", warm).await?;
    scope.apply_function("limited", limited).await?;
    let mut shares = Vec::new();
    for name in ["warm", "limited"] {
        let active = |f: &_| condition(f, "Active") == Some("True");
        scope.function(name, PATIENCE, active).await?;
        let (cluster, host) = (&scope.cluster, scope.host(name));
        shares.extend(activators::mixed_shares(cluster, &host, CONNECTIONS / 2, RATE / 2.0));
    }
    for number in 0..SLEEPERS {
        let name = format!("asleep-{number}");
        let spec = hello(&json!({"scaling": {"idle": {"after": "1s"}, "stableWindow": "1s"}}));
        scope.apply_function(&name, spec).await?;
        scope.asleep(&name, PATIENCE).await?;
        let way = Way::Service(scope.cluster.activator);
        shares.push(Share { way, host: scope.host(&name), every: WAKE_EVERY });
    }
    Ok(shares)
}

/// Deletes each activator's pod in turn, then has the Deployment replace all of them.
async fn gracefully(scope: &Scope, shares: &[Share], report: &mut Report) -> anyhow::Result<()> {
    let cluster = &scope.cluster;
    let before = activators::two(cluster).await?;
    let load = Load::start(activators::addresses(&before)?, shares, false);
    for pod in &before {
        activators::delete(cluster, pod).await?;
        let uid = pod.metadata.uid.as_deref();
        load.follow(cluster, |pods| activators::are_two(pods, uid)).await?;
        eprintln!("deleted one: {}", told(&load.outcome()));
    }
    roll(scope, &load).await?;
    eprintln!("rolled: {}", told(&load.outcome()));
    load.reached(GRACEFUL_REQUESTS).await;
    let outcome = load.stop().await;
    let text = "Graceful: each activator's pod deleted in turn, then a rolling restart";
    tell(report, text, "graceful", &outcome)?;
    let requests = count(usize::try_from(outcome.requests())?);
    let least = count(usize::try_from(GRACEFUL_REQUESTS)?);
    report.bars.push(Bar::at_least("graceful restarts: requests", requests, least, "requests"));
    let failed = count(outcome.failed.len());
    report.bars.push(Bar::at_most("graceful restarts: failed", failed, 0.0, "requests"));
    Ok(())
}

/// Does what `kubectl rollout restart` does.
async fn roll(scope: &Scope, load: &Load) -> anyhow::Result<()> {
    let cluster = &scope.cluster;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let mark = jiff::Timestamp::now().to_string();
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": mark});
    let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    let old = activators::uids(&activators::two(cluster).await?);
    let params = PatchParams::default();
    deployments.patch("rouse-activator", &params, &Patch::Strategic(patch)).await?;
    load.follow(cluster, |pods| {
        activators::are_two(pods, None) && activators::uids(pods).is_disjoint(&old)
    })
    .await
}

/// What one SIGKILL did.
struct Kill {
    on_survivor: usize,
    failed_percent: f64,
}

/// Kills one of two activators, by turns, and looks at the minute after it.
async fn kill(
    scope: &Scope,
    shares: &[Share],
    number: u32,
    report: &mut Report,
) -> anyhow::Result<Kill> {
    let cluster = &scope.cluster;
    let mut pods = activators::two(cluster).await?;
    pods.sort_by_key(|pod| pod.metadata.name.clone());
    pods.rotate_left((number % 2) as usize);
    let [victim, survivor] = pods.as_slice() else { anyhow::bail!("there are two activators") };
    let load = Load::start(activators::addresses(&pods)?, shares, true);
    // Everybody is connected, and those who sleep have slept.
    sleep_until(Instant::now() + WAKE_EVERY).await;
    let before = load.outcome();
    let killed = activators::kill(victim)?;
    sleep_until(killed + Duration::from_mins(1)).await;
    let mut outcome = load.stop().await;
    let requests = outcome.requests() - before.requests();
    anyhow::ensure!(before.failed.is_empty(), "failed before the kill: {:?}", before.failed);
    outcome.mended.retain(|failed| failed.at >= killed);
    let survivor = activators::address(survivor)?;
    let on_survivor = outcome.failed.iter().chain(&outcome.mended).filter(|failed| {
        failed.address == survivor && failed.since.is_some_and(|since| since < killed)
    });
    let on_survivor = on_survivor.count();
    let failed_percent = 100.0 * count(outcome.failed.len()) / count(usize::try_from(requests)?);
    let text = format!(
        "SIGKILL of one of two: {requests} requests in the minute after it, {} failed \
         ({failed_percent:.3} %)",
        outcome.failed.len(),
    );
    let after = refusals(&outcome, killed);
    tell(report, &text, "sigkill", &outcome)?;
    report.say(&after);
    eprintln!("{text}\n{after}");
    activators::two(cluster).await?;
    Ok(Kill { on_survivor, failed_percent })
}

/// The refused connections, and what bounds them.
fn refusals(outcome: &Outcome, killed: Instant) -> String {
    let at = |failed: &Failed| failed.at.saturating_duration_since(killed).as_secs_f64();
    let span = |direct: bool| {
        let refused =
            outcome.refused().filter(|failed| matches!(failed.way, Way::Direct(_)) == direct);
        let times: Vec<f64> = refused.map(at).collect();
        let last = times.iter().copied().fold(0.0, f64::max);
        format!("{} (the last after {last:.1} s)", times.len())
    };
    format!(
        "  refused connects: {} at the Service, {} at the activator's own address. The Service \
         leads there until the kubelet has seen that the container ended and the node has the new \
         endpoints; the address refuses until the container was started again.",
        span(false),
        span(true)
    )
}

fn told(outcome: &Outcome) -> String {
    format!("{} requests, {} failed", outcome.requests(), outcome.failed.len())
}

fn tell(report: &mut Report, text: &str, kind: &str, outcome: &Outcome) -> anyhow::Result<()> {
    report.say(text);
    let mut lines = String::new();
    writeln!(lines, "  {}", told(outcome))?;
    let longest: BTreeMap<_, _> =
        outcome.longest.iter().map(|(host, took)| (host.clone(), took.as_secs_f64())).collect();
    for (host, good) in &outcome.good {
        let longest = longest.get(host).copied().unwrap_or_default();
        writeln!(lines, "  {host}: {good} good, the longest {longest:.2} s from its moment")?;
    }
    for (what, failed) in [("failed", &outcome.failed), ("made again", &outcome.mended)] {
        for (kind, count) in kinds(failed) {
            writeln!(lines, "  {what}: {count} x {kind}")?;
        }
    }
    for failed in outcome.failed.iter().take(MOST_PRINTED) {
        let Failed { what, host, way, address, .. } = failed;
        writeln!(lines, "  failed: {host} at {address} ({way:?}): {what}")?;
    }
    report.text.push_str(&lines);
    report.runs.push(json!({
        "kind": kind, "requests": outcome.requests(), "good": outcome.good,
        "failed": kinds(&outcome.failed), "madeAgain": kinds(&outcome.mended),
        "longestSeconds": longest,
    }));
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn count(count: usize) -> f64 {
    count as f64
}
