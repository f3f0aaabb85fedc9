//! How well Rouse scales: the policy in the model plant beside policies that decide on a tick, and
//! on a cluster a burst, many Functions woken at once, and pods that go while requests run.

mod burst;
mod model;
mod shrinking;
mod together;

use clap::Args;
use rouse_e2e::scope::Scope;

use crate::report::Report;

/// Arguments of `bench scaling`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Run the model alone; needs no cluster.
    #[arg(long)]
    model: bool,
    /// Leave the model out.
    #[arg(long, conflicts_with = "model")]
    cluster: bool,
    /// Seeds of the model.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Functions that are woken at once, one measurement for each.
    #[arg(long, value_delimiter = ',', default_values_t = [25, 100])]
    together: Vec<usize>,
    /// How often each measurement on a cluster is repeated.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut report = Report::new("scaling");
    if !arguments.cluster {
        model::run(arguments.seeds, &mut report);
    }
    if !arguments.model {
        let scope = Scope::new("bench-scaling").await?;
        let measured = measure(&scope, arguments, &mut report).await;
        scope.delete().await?;
        measured?;
    }
    Ok(report)
}

async fn measure(scope: &Scope, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    burst::run(scope, arguments.rounds, report).await?;
    for count in &arguments.together {
        together::run(scope, *count, arguments.rounds, report).await?;
    }
    shrinking::run(scope, report).await
}
