//! Two activators: requests that come to the owner of their Function, and those that come to the
//! other one and are passed on.

use std::fmt::Write;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use rouse_core::function::names::{MEMBERSHIP_CONFIG_MAP, MEMBERSHIP_KEY};
use rouse_core::membership::Membership;
use rouse_e2e::cluster::NAMESPACE as ROUSE;
use rouse_e2e::hollow::activator::Activator;
use rouse_e2e::hollow::{NAMESPACE, PATIENCE};
use rouse_e2e::wait;
use serde_json::json;

use super::loads::{Effort, LOADS, Load, Sample, in_turn};
use super::stage::{Stage, answered, warm};
use super::wrk::Wrk;
use crate::report::{Report, quantile};

/// Functions with a hard limit, which have one sender at a time: each activator owns some of them.
const FUNCTIONS: usize = 16;

/// Measures both kinds in turn, round by round.
pub async fn measure(
    stage: &Stage,
    first: &Activator,
    effort: Effort,
    report: &mut Report,
) -> anyhow::Result<()> {
    let second = stage.hollow.start_activator().await?;
    let names: Vec<String> = (0..FUNCTIONS).map(|i| format!("l{i}")).collect();
    let limited = warm(&json!({"concurrency": {"target": 10_000, "limit": 10_000}}));
    for name in &names {
        stage.hollow.apply_function(name, limited.clone()).await?;
    }
    for name in &names {
        stage.hollow.serving(name, 1).await?;
    }
    let (own, forwarded) = hosts_by_owner(stage, first, &names, 2).await?;
    anyhow::ensure!(!own.is_empty() && !forwarded.is_empty(), "one activator owns all");
    for hosts in [&own, &forwarded] {
        answered(first.http, hosts).await?;
    }
    report.text += "two activators, all requests to one of them; cpu is of both\n";
    for load in LOADS {
        let rounds = rounds(stage, (first, &second), (&own, &forwarded), *load, effort).await?;
        report.text += &table(load, &rounds);
        for (round, [own, forwarded]) in rounds.iter().enumerate() {
            report.runs.push(json!({
                "kind": "pair", "load": load.name, "round": round, "owner": own,
                "forwarded": forwarded,
            }));
        }
    }
    second.retire().await
}

async fn rounds(
    stage: &Stage,
    (first, second): (&Activator, &Activator),
    (own, forwarded): (&[String], &[String]),
    load: Load,
    effort: Effort,
) -> anyhow::Result<Vec<[Sample; 2]>> {
    let wrk = Wrk::new(&stage.hollow)?;
    let figures = || anyhow::Ok(first.figures()?.plus(second.figures()?));
    let mut all = Vec::new();
    for round in 0..effort.rounds {
        let mut samples = [None; 2];
        for (slot, hosts) in in_turn(round, [(0, own), (1, forwarded)]) {
            let before = figures()?;
            let told =
                wrk.run(first.http, (load.request, hosts), load.connections, effort.run).await?;
            let after = figures()?;
            anyhow::ensure!(told.failures() == 0, "two activators, {}: {told:?}", load.name);
            if let Some(sample) = samples.get_mut(slot) {
                *sample = Some(Sample::of(&told, before, after));
            }
        }
        if let [Some(own), Some(forwarded)] = samples {
            eprintln!(
                "two activators, {}, round {}: forwarded {:.2} x the owner's requests/s",
                load.name,
                round + 1,
                forwarded.per_second / own.per_second
            );
            all.push([own, forwarded]);
        }
    }
    Ok(all)
}

fn table(load: &Load, rounds: &[[Sample; 2]]) -> String {
    let mut text = String::new();
    for (slot, name) in ["owner", "forwarded"].into_iter().enumerate() {
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
