//! The activator as a reverse proxy, beside nginx and beside no proxy at all: on loopback, the
//! release binary with ten thousand routes, several Functions and its metrics on.

mod loads;
mod nginx;
mod stage;
mod upstream;
mod wrk;

use std::time::Duration;

use clap::{Args, ValueEnum};
use rouse_e2e::hollow::programs::Programs;

use self::loads::Effort;
use self::stage::Stage;
use crate::report::Report;

/// Arguments of `bench proxy`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Fewer and shorter rounds, for work in progress: the figures are rough
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of each load [default: 7, or 3 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput with small answers at 64 and 512 connections
    Small,
    /// Throughput with large answers and with bodies
    Large,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 7 });
    let run = Duration::from_secs(if arguments.quick { 2 } else { 5 });
    let effort = Effort { rounds, run };
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let (stage, activator) = Stage::set(Programs::from_environment()?).await?;
    let mut report = Report::new("proxy");
    report.text += &loads::table_head();
    for load in loads::LOADS {
        if wants(if load.request.path == "/" && load.request.body == 0 {
            Part::Small
        } else {
            Part::Large
        }) {
            let rounds = loads::measure(&stage, &activator, *load, effort).await?;
            report.text += &rounds.table();
            report.bars.extend(rounds.bars());
            report.runs.extend(rounds.raw());
        }
    }
    drop(activator);
    drop(stage);
    Ok(report)
}
