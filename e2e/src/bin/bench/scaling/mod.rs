//! How well Rouse scales: the policy in the model plant beside policies that decide on a tick; on a
//! control plane without nodes ten thousand Functions that sleep; and on a cluster a burst, many
//! Functions woken at once, and pods that go while requests run.

mod burst;
mod model;
mod shrinking;
mod sleeping;
mod together;

use clap::{Args, ValueEnum};
use rouse_e2e::scope::Scope;

use crate::report::Report;

/// Arguments of `bench scaling`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run the model; needs no cluster. Without any choice everything runs.
    #[arg(long)]
    model: bool,
    /// Run what needs a cluster with nodes.
    #[arg(long)]
    cluster: bool,
    /// Run what needs a control plane without nodes: Functions that sleep.
    #[arg(long)]
    sleeping: bool,
    /// Seeds of the model.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Functions that are woken at once, one measurement for each.
    #[arg(long, value_delimiter = ',', default_values_t = [25, 100])]
    together: Vec<usize>,
    /// How often each measurement on a cluster is repeated.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Functions that sleep.
    #[arg(long, default_value_t = 10_000)]
    functions: usize,
    /// Measurements on a cluster.
    #[arg(long, value_delimiter = ',', default_values = ["burst", "together", "shrinking"])]
    only: Vec<Part>,
}

/// A measurement on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Many short requests at zero.
    Burst,
    /// Many Functions woken at once.
    Together,
    /// Pods that go while requests run.
    Shrinking,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut report = Report::new("scaling");
    let all = !(arguments.model || arguments.cluster || arguments.sleeping);
    if all || arguments.model {
        model::run(arguments.seeds, &mut report);
    }
    if all || arguments.sleeping {
        sleeping::run(arguments.functions, &mut report).await?;
    }
    if all || arguments.cluster {
        let scope = Scope::new("bench-scaling").await?;
        let measured = measure(&scope, arguments, &mut report).await;
        scope.delete().await?;
        measured?;
    }
    Ok(report)
}

async fn measure(scope: &Scope, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    if arguments.only.contains(&Part::Burst) {
        burst::run(scope, arguments.rounds, report).await?;
    }
    let together = arguments.only.contains(&Part::Together);
    for count in arguments.together.iter().filter(|_| together) {
        together::run(scope, *count, arguments.rounds, report).await?;
    }
    if arguments.only.contains(&Part::Shrinking) {
        shrinking::run(scope, report).await?;
    }
    Ok(())
}
