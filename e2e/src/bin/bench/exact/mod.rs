//! Whether a hard limit of one is exact: three activators, two hundred callers, and pods and
//! activators that come, go, are killed and are frozen meanwhile. The pods count.

mod callers;
mod chaos;
pub mod dice;

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use rouse_e2e::hollow::Hollow;
use rouse_e2e::hollow::counting::{self, Ledger, Service};
use rouse_e2e::hollow::node::Node;
use rouse_e2e::hollow::programs::Programs;
use serde_json::json;
use tokio::time::{Instant, interval, timeout};

use self::callers::{Callers, Outcome};
use self::chaos::{Chaos, Disturbance};
use self::dice::Dice;
use crate::report::{Bar, Report};

/// Functions: so many that each activator owns some as a rule.
const FUNCTIONS: usize = 4;
/// Activators.
const ACTIVATORS: usize = 3;
/// How long a request runs in its pod, at least and at most.
const SERVICE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long all of it may take.
const LONGEST: Duration = Duration::from_mins(15);

/// Arguments of `bench exact`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Requests that pods must have answered.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Disturbances that there must have been, at least.
    #[arg(long, default_value_t = 40)]
    disturbances: u64,
    /// Callers, each with one request after the other.
    #[arg(long, default_value_t = 200)]
    callers: usize,
    /// Pods of each Function at most.
    #[arg(long, default_value_t = 6)]
    pods: usize,
    /// Where chance begins: the same gives the same disturbances, though not the same moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Disturb nothing, whatever the number of disturbances.
    #[arg(long, conflicts_with = "only")]
    calm: bool,
    /// Disturb by these alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Disturbance>,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let hollow = Arc::new(Hollow::start(Programs::from_environment()?).await?);
    eprintln!("the control plane is up; its logs are in {}", hollow.folder().display());
    let ledger = Arc::new(Ledger::default());
    let node = Node::start(&hollow, counting::workload(&ledger, &service(arguments.seed)));
    let controller = hollow.start_controller().await?;
    let mut activators = Vec::new();
    for _ in 0..ACTIVATORS {
        activators.push(hollow.start_activator().await?);
    }
    let spec = json!({
        "image": "hollow",
        "concurrency": {"target": 1, "limit": 1},
        "scaling": {"max": arguments.pods, "idle": {"after": "10s"}, "stableWindow": "2s"},
        "timeouts": {"activation": "60s", "request": "10s"},
        "buffer": {"requests": 10_000},
    });
    for number in 0..FUNCTIONS {
        hollow.apply_function(&function(number), spec.clone()).await?;
    }
    for number in 0..FUNCTIONS {
        hollow.known(&function(number)).await?;
    }
    let begun = Instant::now();
    let addresses = activators.iter().map(|activator| activator.http).collect();
    let callers = Callers::start(addresses, arguments.callers, arguments.seed);
    let mut chaos = Chaos::new(Arc::clone(&hollow), node, controller, activators, &callers);
    let may = if arguments.only.is_empty() { chaos::ALL } else { &arguments.only };
    chaos.throw(Dice::new(arguments.seed), may);
    let happened = chaos.happened();
    let enough = || {
        let least = if arguments.calm { 0 } else { arguments.disturbances };
        ledger.answered() >= arguments.requests && happened.load(Ordering::Relaxed) >= least
    };
    let watching = timeout(LONGEST, watch(&ledger, &callers, enough));
    let broke = tokio::select! {
        watched = watching => watched.err().map(|_| anyhow::anyhow!("it takes too long")),
        error = chaos.run(), if !arguments.calm => Some(error.context("disturbing failed")),
    };
    let took = begun.elapsed();
    let outcome = callers.stop().await;
    let mut report = build_report(arguments, &ledger, &chaos, &outcome, took)?;
    tell_replaced(arguments, hollow.folder(), &mut report)?;
    match broke {
        Some(error) => Err(error.context(report.table())),
        None => Ok(report),
    }
}

fn build_report(
    arguments: &Arguments,
    ledger: &Ledger,
    chaos: &Chaos,
    outcome: &Outcome,
    took: Duration,
) -> anyhow::Result<Report> {
    let mut report = Report::new("exact");
    let text = &mut report.text;
    let (begun, answered, seconds) = (ledger.begun(), ledger.answered(), took.as_secs_f64());
    writeln!(text, "{begun} requests came to pods in {seconds:.0} s, {answered} were answered")?;
    writeln!(text, "callers saw {} good answers and", outcome.good)?;
    for (what, count) in &outcome.bad {
        writeln!(text, "  {count} x {what}")?;
    }
    for (kind, detail) in &outcome.problems {
        writeln!(text, "  {kind}, the first: {detail}")?;
    }
    writeln!(text, "disturbances: {}", chaos.told())?;
    for case in ledger.cases() {
        writeln!(text, "more than one at once: {case}")?;
    }
    report.runs.push(json!({
        "kind": "exact", "seconds": seconds, "begun": begun, "answered": answered,
        "good": outcome.good, "bad": outcome.bad, "problems": outcome.problems, "disturbances": chaos.counts(),
        "cases": ledger.cases(),
    }));
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = |count: u64| count as f64;
    let name = "requests at once in a pod with a limit of one";
    report.bars.push(Bar::at_most(name, count(ledger.most()), 1.0, "requests"));
    let wanted = count(arguments.requests);
    let name = "requests that pods answered";
    report.bars.push(Bar::at_least(name, count(answered), wanted, "requests"));
    Ok(report)
}

/// Tells how many pods the activators replaced since nobody told what ran in them. Where activators
/// only come and go, and nobody fails, there is no reason for it.
fn tell_replaced(arguments: &Arguments, folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    const SAID: &str = "replaced: nobody tells what runs in it";
    let mut count = 0_u32;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
            count += u32::try_from(log.matches(SAID).count())?;
        }
    }
    report.say(&format!("{count} pods were replaced since nobody told what ran in them"));
    report.runs.push(json!({"kind": "replaced", "pods": count}));
    if arguments.only == [Disturbance::Replace] {
        let name = "pods replaced although nobody failed";
        report.bars.push(Bar::at_most(name, f64::from(count), 0.0, "pods"));
    }
    Ok(())
}

/// Name of a Function.
fn function(number: usize) -> String {
    format!("exact-{number}")
}

/// Returns once it was `enough`; tells how it goes meanwhile.
async fn watch(ledger: &Ledger, callers: &Callers, enough: impl Fn() -> bool) {
    let mut looks = interval(Duration::from_millis(100));
    let mut tells = interval(TELL_EVERY);
    while !enough() {
        tokio::select! {
            _ = looks.tick() => {}
            _ = tells.tick() => {
                eprintln!(
                    "{} answered by pods, at most {} at once; callers: {}",
                    ledger.answered(),
                    ledger.most(),
                    callers.told()
                );
            }
        }
    }
}

fn service(seed: u64) -> Service {
    let dice = std::sync::Mutex::new(Dice::new(seed ^ 0x5eed));
    Arc::new(move || {
        let mut dice = dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        dice.between(SERVICE.0, SERVICE.1)
    })
}
