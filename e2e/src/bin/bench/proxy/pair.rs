//! Two activators: requests that come to the owner of their Function, those that come to the other
//! one and are passed on, and those that come to the other one and go straight to the pod.

use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rouse_core::function::names::{MEMBERSHIP_CONFIG_MAP, MEMBERSHIP_KEY};
use rouse_core::membership::Membership;
use rouse_e2e::cluster::NAMESPACE as ROUSE;
use rouse_e2e::hollow::activator::Activator;
use rouse_e2e::hollow::{NAMESPACE, PATIENCE};
use rouse_e2e::wait;
use serde_json::{Value, json};

use super::loads::{Effort, LOADS, Load, Sample, in_turn};
use super::stage::{Stage, answered, warm};
use super::wrk::Wrk;
use crate::report::{Report, quantile};

/// Functions of each sort: each activator owns some of them. Those with a hard limit have one sender at
/// a time, those without are spread.
const FUNCTIONS: usize = 16;

/// What is compared.
const WAYS: [&str; 3] = ["owner", "forwarded", "spread"];

/// The least part of the requests of the last way that must have gone straight. The first of each
/// Function are passed on.
const LEAST_STRAIGHT: f64 = 0.95;

/// Measures all ways in turn, round by round.
pub async fn measure(
    stage: &Stage,
    first: &Activator,
    effort: Effort,
    report: &mut Report,
) -> anyhow::Result<()> {
    let second = stage.hollow.start_activator().await?;
    let limited = warm(&json!({"concurrency": {"target": 10_000, "limit": 10_000}}));
    let limited = apply(stage, "l", &limited).await?;
    let unlimited = apply(stage, "s", &warm(&json!({}))).await?;
    let (own, forwarded) = hosts_by_owner(stage, first, &limited, 2).await?;
    let (_, spread) = hosts_by_owner(stage, first, &unlimited, 2).await?;
    let hosts = [own, forwarded, spread];
    anyhow::ensure!(hosts.iter().all(|hosts| !hosts.is_empty()), "one activator owns all");
    for hosts in &hosts {
        answered(first.http, hosts).await?;
    }
    report.text += "two activators, all requests to one of them; cpu is of both\n";
    for load in LOADS {
        let rounds = rounds(stage, (first, &second), &hosts, *load, effort).await?;
        report.text += &table(load, &rounds);
        for (round, [own, forwarded, spread]) in rounds.iter().enumerate() {
            report.runs.push(json!({
                "kind": "pair", "load": load.name, "round": round, "owner": own,
                "forwarded": forwarded, "spread": spread,
            }));
        }
    }
    second.retire().await
}

/// Makes Functions with this spec, and waits until they serve.
async fn apply(stage: &Stage, prefix: &str, spec: &Value) -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = (0..FUNCTIONS).map(|i| format!("{prefix}{i}")).collect();
    for name in &names {
        stage.hollow.apply_function(name, spec.clone()).await?;
    }
    for name in &names {
        stage.hollow.serving(name, 1).await?;
    }
    Ok(names)
}

async fn rounds(
    stage: &Stage,
    (first, second): (&Activator, &Activator),
    hosts: &[Vec<String>; WAYS.len()],
    load: Load,
    effort: Effort,
) -> anyhow::Result<Vec<[Sample; WAYS.len()]>> {
    let wrk = Wrk::new(&stage.hollow)?;
    let figures = || anyhow::Ok(first.figures()?.plus(second.figures()?));
    let mut all = Vec::new();
    for round in 0..effort.rounds {
        let mut samples = [None; WAYS.len()];
        for (slot, way) in in_turn(round, [0, 1, 2].map(|slot| (slot, WAYS[slot]))) {
            let hosts = &hosts[slot];
            let (before, straight) = (figures()?, straight(first).await?);
            let told =
                wrk.run(first.http, (load.request, hosts), load.connections, effort.run).await?;
            let (after, straight) = (figures()?, self::straight(first).await? - straight);
            check(way, straight, told.requests)?;
            anyhow::ensure!(told.failures() == 0, "two activators, {}: {told:?}", load.name);
            if let Some(sample) = samples.get_mut(slot) {
                *sample = Some(Sample::of(&told, before, after));
            }
        }
        if let [Some(own), Some(forwarded), Some(spread)] = samples {
            eprintln!(
                "two activators, {}, round {}: forwarded {:.2}, spread {:.2} x the owner's requests/s",
                load.name,
                round + 1,
                forwarded.per_second / own.per_second,
                spread.per_second / own.per_second
            );
            all.push([own, forwarded, spread]);
        }
    }
    Ok(all)
}

/// Requests that `activator` has sent straight to pods of the other's Functions.
async fn straight(activator: &Activator) -> anyhow::Result<f64> {
    Ok(activator.metrics().await?.sum("rouse_straight_requests_total", &[]))
}

/// Whether the requests went the way that is measured.
#[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
fn check(way: &str, straight: f64, requests: u64) -> anyhow::Result<()> {
    let part = straight / requests.max(1) as f64;
    let right = if way == "spread" { part >= LEAST_STRAIGHT } else { part <= 0.0 };
    anyhow::ensure!(right, "{way}: {part:.3} of the requests went straight");
    Ok(())
}

fn table(load: &Load, rounds: &[[Sample; WAYS.len()]]) -> String {
    let mut text = String::new();
    for (slot, name) in WAYS.into_iter().enumerate() {
        let median = |value: fn(&Sample) -> f64| {
            let values: Vec<f64> =
                rounds.iter().filter_map(|round| round.get(slot)).map(value).collect();
            quantile(&values, 0.5)
        };
        let _ = writeln!(
            text,
            "{:<28} {name:<9} {:>7.0} {:>8.2} {:>8.2} {:>8.1} {:>8.1}",
            load.name,
            median(|sample| sample.per_second),
            median(|sample| sample.p50),
            median(|sample| sample.p99),
            median(|sample| sample.cpu),
            median(|sample| sample.resident),
        );
    }
    text
}

/// Hosts of the Functions that `activator` owns, and of those that another does, once there are
/// `members` activators.
pub async fn hosts_by_owner(
    stage: &Stage,
    activator: &Activator,
    functions: &[String],
    members: usize,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let api: Api<ConfigMap> = Api::namespaced(stage.hollow.client.clone(), ROUSE);
    let seen = wait::object(&api, MEMBERSHIP_CONFIG_MAP, PATIENCE, |config_map| {
        read(config_map).is_some_and(|membership| membership.members.len() == members)
    });
    let membership = read(seen.await?.as_ref()).unwrap_or_default();
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for name in functions {
        let function = stage.hollow.functions().get(name).await?;
        let uid = function.metadata.uid.unwrap_or_default();
        let owner = membership.owner(&uid).map(|member| member.uid.as_str());
        let hosts = if owner == Some(activator.uid()) { &mut own } else { &mut others };
        hosts.push(format!("{name}.{NAMESPACE}"));
    }
    Ok((own, others))
}

fn read(config_map: Option<&ConfigMap>) -> Option<Membership> {
    serde_json::from_str(config_map?.data.as_ref()?.get(MEMBERSHIP_KEY)?).ok()
}
