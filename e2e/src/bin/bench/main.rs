//! Benchmarks of Rouse. `cargo xtask bench NAME` builds this, brings what it needs (a cluster, or
//! the programs of a control plane without nodes) and runs it; each prints a table and, with
//! `--json`, one object on its last line.

#![allow(clippy::print_stdout, reason = "the output is what this program is for")]

mod bare;
mod cold;
mod dev;
mod events;
mod exact;
mod proxy;
mod report;
mod restart;
mod scaling;
mod source;

use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// How long any benchmark may take.
const LONGEST: Duration = Duration::from_hours(1);

#[derive(Debug, Parser)]
struct Cli {
    /// Print the raw figures and the bars as one JSON object on the last line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// What Rouse adds to a cold start, against a bare Deployment scaled by hand.
    Cold {
        /// Starts of each kind.
        #[arg(long, default_value_t = 30)]
        starts: usize,
    },
    /// `rouse dev`: its start, what it adds to a cold start, its memory.
    Dev(dev::Arguments),
    /// The activator as a reverse proxy, beside nginx, on loopback.
    Proxy(proxy::Arguments),
    /// Events on their way to Functions, beside a consumer as somebody would write it.
    Events(events::Arguments),
    /// Whether events come through whatever is killed (`cargo xtask soak events`).
    SoakEvents(events::soak::Arguments),
    /// Whether a hard limit of one holds while activators and pods come, go, die and freeze.
    Exact(exact::Arguments),
    /// What callers see of activators that are restarted or killed.
    Restart(restart::Arguments),
    /// How well it scales: a model beside policies on a tick, a burst, many woken at once.
    Scaling(scaling::Arguments),
    /// What the shim of source Functions adds to a call, and how large it is.
    Source(source::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    raise_files()?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let running = async {
        match cli.bench {
            Bench::Cold { starts } => cold::run(starts).await,
            Bench::Dev(arguments) => dev::run(&arguments).await,
            Bench::Proxy(arguments) => proxy::run(&arguments).await,
            Bench::Events(arguments) => events::run(&arguments).await,
            Bench::SoakEvents(arguments) => events::soak::run(&arguments).await,
            Bench::Exact(arguments) => exact::run(&arguments).await,
            Bench::Restart(arguments) => restart::run(&arguments).await,
            Bench::Scaling(arguments) => scaling::run(&arguments).await,
            Bench::Source(arguments) => source::run(&arguments).await,
        }
    };
    // What a benchmark started ends when its future is dropped.
    let report = tokio::select! {
        report = timeout(LONGEST, running) => report.context("the benchmark takes too long")??,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("told to end"),
    };
    println!("{}", report.table());
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    anyhow::ensure!(report.holds(), "a bar does not hold");
    Ok(())
}

/// Permits as many open files as the machine does, here and in all that is started.
fn raise_files() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the number of open files")
}
