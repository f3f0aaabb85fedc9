//! What `rouse-shim` adds to a warm call: the same language process called directly and through it,
//! in turns, on one connection; how large the shim is, on disk and in memory; and what code adds to a
//! cold start.

mod caller;
mod cold;
mod runtime_api;
mod shim;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use rouse_e2e::process::free_port;
use serde_json::json;

use self::caller::Caller;
use self::runtime_api::RuntimeApi;
use self::shim::{Running, Shim};
use crate::report::{Bar, Report, Row, distributions, quantile};

/// What the shim may add to a call, in milliseconds.
const ADDED: f64 = 0.3;
/// What the shim may have, in bytes on disk and in KiB in memory.
const SIZE: f64 = 4_000_000.0;
const MEMORY: f64 = 4096.0;
/// Lines that are printed, all together ten times as much as the shim keeps of them.
const LINES: usize = 100_000;

/// Arguments of `bench source`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Rounds of each contract
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Calls in a round, of each kind
    #[arg(long, default_value_t = 2000)]
    calls: usize,
    /// Cold starts of each kind
    #[arg(long, default_value_t = 15)]
    wakings: usize,
}

/// The milliseconds of the calls of one contract, round by round.
#[derive(Default)]
struct Rounds {
    direct: Vec<Vec<f64>>,
    through: Vec<Vec<f64>>,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let folder = std::env::temp_dir().join(format!("rouse-bench-source-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = measure(arguments, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn measure(arguments: &Arguments, folder: &std::path::Path) -> anyhow::Result<Report> {
    let program = given("ROUSE_BENCH_SHIM")?;
    let mut report = Report::new("source");
    let size = program.metadata()?.len();
    #[allow(clippy::cast_precision_loss, reason = "a few million")]
    report.bars.push(Bar::at_most("size of rouse-shim", size as f64, SIZE, "bytes"));

    let hello = given("ROUSE_BENCH_HELLO")?;
    let port = free_port(Ipv4Addr::LOCALHOST)?;
    let _direct = Running::start(&hello, &[], &[("PORT", port.to_string())], folder)?;
    let through = Shim::start(&program, &hello, &[("ROUSE_CONTRACT", "http")], folder).await?;
    let mut direct = Caller::to(port, false).await?;
    let mut through_it = Caller::to(through.port, false).await?;
    let mut rounds = Rounds::default();
    for _ in 0..arguments.rounds {
        rounds.direct.push(direct.round(arguments.calls).await?);
        rounds.through.push(through_it.round(arguments.calls).await?);
    }
    rounds.tell("http", &mut report);
    remember(&through, "after its calls (http)", &mut report)?;
    through_it.print(LINES).await?;
    remember(&through, "after 10 MB were printed", &mut report)?;

    let lambda = given("ROUSE_BENCH_LAMBDA")?;
    let mut api = RuntimeApi::open().await?;
    let address = api.address.clone();
    let variables = [("AWS_LAMBDA_RUNTIME_API", address), ("_HANDLER", "bootstrap".into())];
    let _direct = Running::start(&lambda, &[], &variables, folder)?;
    let through = Shim::start(&program, &lambda, &[("ROUSE_CONTRACT", "lambda")], folder).await?;
    let mut through_it = Caller::to(through.port, true).await?;
    let mut rounds = Rounds::default();
    for _ in 0..arguments.rounds {
        rounds.direct.push(api.round(arguments.calls).await?);
        rounds.through.push(through_it.round(arguments.calls).await?);
    }
    rounds.tell("lambda", &mut report);
    remember(&through, "after its calls (lambda)", &mut report)?;
    cold::measure(arguments.wakings, &mut report).await?;
    Ok(report)
}

fn given(variable: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.with_context(|| format!("{variable} must name a program; `cargo xtask bench` sets it"))
}

/// Notes the memory of a shim that has served.
fn remember(shim: &Shim, when: &str, report: &mut Report) -> anyhow::Result<()> {
    let name = format!("memory of rouse-shim {when}");
    report.bars.push(Bar::at_most(name, shim.memory_kib()?, MEMORY, "KiB"));
    Ok(())
}

impl Rounds {
    /// Adds the table and the bar: the middle of what each round's medians differ by.
    fn tell(&self, contract: &str, report: &mut Report) {
        let added: Vec<f64> = self
            .direct
            .iter()
            .zip(&self.through)
            .map(|(direct, through)| quantile(through, 0.5) - quantile(direct, 0.5))
            .collect();
        let row = |name: &str, rounds: &[Vec<f64>]| Row {
            name: format!("{contract}: {name}, us"),
            millis: rounds.concat().into_iter().map(|millis| millis * 1000.0).collect(),
        };
        let rows = [row("called directly", &self.direct), row("through the shim", &self.through)];
        report.say(&distributions(&rows));
        report.runs.push(json!({"contract": contract, "addedMillisByRound": added}));
        let name = format!("added to a warm call ({contract})");
        report.bars.push(Bar::at_most(name, quantile(&added, 0.5), ADDED, "ms"));
    }
}
