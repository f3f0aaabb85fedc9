//! The activator as a reverse proxy, beside nginx and beside no proxy at all: on loopback, the
//! release binary with ten thousand routes, several Functions and its metrics on.

mod allocations;
mod fair;
mod held;
mod loads;
mod nginx;
mod open_loop;
mod pair;
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
    /// Idle connections and waiting bodies
    Held,
    /// Throughput with small answers at 64 and 512 connections
    Small,
    /// Throughput with large answers and with bodies
    Large,
    /// Latency at a fixed rate
    OpenLoop,
    /// Allocations of a request
    Allocations,
    /// One Function beside another that is flooded
    Fair,
    /// Two activators: owner, forwarded and spread
    Pair,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 7 });
    let run = Duration::from_secs(if arguments.quick { 2 } else { 5 });
    let effort = Effort { rounds, run };
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let (stage, mut activator) = Stage::set(Programs::from_environment()?).await?;
    let mut report = Report::new("proxy");
    if wants(Part::Held) {
        held::measure_waiting(&stage, &activator, &mut report).await?;
        // A process keeps memory that it no longer needs: what comes next would hide in it.
        stage.renew(&mut activator).await?;
        held::measure_idle(&stage, &activator, &mut report).await?;
        stage.renew(&mut activator).await?;
    }
    report.text += &loads::table_head();
    for load in loads::LOADS {
        if wants(if load.is_small() { Part::Small } else { Part::Large }) {
            let rounds = loads::measure(&stage, &activator, *load, effort).await?;
            report.text += &rounds.table();
            report.bars.extend(rounds.bars());
            report.runs.extend(rounds.raw());
        }
    }
    if wants(Part::OpenLoop) {
        let rounds = open_loop::measure(&stage, &activator, rounds, run).await?;
        report.text += &rounds.table();
        report.bars.extend(rounds.bars());
        report.runs.extend(rounds.raw());
    }
    if wants(Part::Allocations) {
        allocations::measure(&stage, &mut report).await?;
    }
    if wants(Part::Fair) {
        let rounds = fair::measure(&stage, &activator, effort).await?;
        report.text += &rounds.table();
        report.bars.extend(rounds.bars());
        report.runs.extend(rounds.raw());
    }
    if wants(Part::Pair) {
        pair::measure(&stage, &activator, effort, &mut report).await?;
    }
    Ok(report)
}
