//! Whether events come through whatever is killed: the source, the server, the Function's pod and the
//! activator, one after the other, at moments that a seed decides.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use rouse_e2e::hollow::PATIENCE;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Kind;
use super::function::Arrivals;
use super::nats::Nats;
use super::origin::{Origin, Rows, Sender};
use super::postgres::Postgres;
use super::s3::Told;
use super::stage::Stage;
use crate::exact::dice::Dice;
use crate::report::{Bar, Report};

/// Time between two events.
const EVERY: Duration = Duration::from_millis(3);
/// How long each takes in the Function.
const TAKES: Duration = Duration::from_millis(5);
/// Pause between two kills.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(1500));
/// How long what was killed is away.
const AWAY: (Duration, Duration) = (Duration::ZERO, Duration::from_millis(500));
/// How often it is looked whether all has come.
const LOOK: Duration = Duration::from_millis(100);
/// Pause before an event that was not stored is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// Events that are looked at when all of them may have come: more than any soak publishes.
const MOST: usize = 10_000_000;
const PLACE: &str = "soak";

/// Arguments of `soak events`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How long events are published.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Where chance begins: the same gives the same kills, though not the same moments. Default: the
    /// number of the process.
    #[arg(long)]
    seed: Option<u64>,
    /// Of which source; again for each more [default: all, one after the other]
    #[arg(long, value_enum)]
    source: Vec<Kind>,
}

/// What can be killed.
const VICTIMS: [&str; 4] = ["source", "server", "function", "activator"];

/// Runs the soak.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}");
    let mut report = Report::new("soak-events");
    for kind in Kind::chosen(&arguments.source) {
        let lasts = Duration::from_secs(arguments.seconds);
        match kind {
            Kind::Nats => soak::<Nats>(lasts, seed, &mut report).await?,
            Kind::Postgres => soak::<Postgres>(lasts, seed, &mut report).await?,
            Kind::S3 => soak::<Told>(lasts, seed, &mut report).await?,
        }
    }
    Ok(report)
}

async fn soak<O: Origin>(lasts: Duration, seed: u64, report: &mut Report) -> anyhow::Result<()> {
    let mut stage = Stage::<O>::set(Rows::Shared, TAKES).await?;
    stage.warm(PLACE).await?;
    stage.lead(PLACE).await?;
    stage.next(MOST);
    stage.source.start()?;
    let until = Instant::now() + lasts;
    let load = tokio::spawn(publish(stage.origin.sender().await?, until));
    let mut dice = Dice::new(seed);
    let mut kills = BTreeMap::new();
    while Instant::now() < until {
        sleep(dice.between(PAUSE.0, PAUSE.1)).await;
        // Each comes once before any comes by chance.
        let victim = VICTIMS.iter().find(|victim| !kills.contains_key(**victim));
        let victim = victim.copied().unwrap_or_else(|| VICTIMS[dice.below(VICTIMS.len())]);
        kill(&mut stage, victim, dice.between(AWAY.0, AWAY.1)).await?;
        *kills.entry(victim).or_insert(0_u64) += 1;
    }
    let published = load.await?;
    let mut looks = interval(LOOK);
    let coming = async {
        while !Verdict::of(&stage, published).lost.is_empty() {
            looks.tick().await;
        }
    };
    if timeout(PATIENCE, coming).await.is_ok() {
        stage.origin.acknowledged(PLACE).await?;
    }
    let verdict = Verdict::of(&stage, published);
    tell::<O>(&verdict, seed, &kills, report);
    Ok(())
}

async fn kill<O: Origin>(stage: &mut Stage<O>, victim: &str, away: Duration) -> anyhow::Result<()> {
    match victim {
        "source" => {
            stage.source.check()?;
            stage.source.kill().await?;
            sleep(away).await;
            stage.source.start()
        }
        "server" => {
            stage.origin.kill().await?;
            sleep(away).await;
            stage.origin.restart().await
        }
        "function" => {
            for pod in stage.node.pods(PLACE) {
                stage.node.crash(&pod);
            }
            Ok(())
        }
        _ => {
            stage.activator.kill().await?;
            sleep(away).await;
            stage.activator.restart().await?;
            stage.activator.ready().await
        }
    }
}

/// Publishes one event after the other, each until it is stored; gives how many.
async fn publish(mut sender: impl Sender, until: Instant) -> usize {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    while Instant::now() < until {
        ticks.tick().await;
        while sender.store(PLACE, published).await.is_err() {
            sleep(AGAIN).await;
        }
        published += 1;
    }
    published
}

/// What came of the events that were published.
#[derive(Default, Serialize)]
struct Verdict {
    published: usize,
    /// How often one came again.
    again: usize,
    /// Those that never came.
    lost: Vec<usize>,
    /// How many never came, and need not.
    superseded: usize,
    /// Those that came again under another id.
    changed: Vec<usize>,
    /// Those that came first when a later one of their row had come already.
    late: Vec<usize>,
}

impl Verdict {
    fn of<O: Origin>(stage: &Stage<O>, published: usize) -> Self {
        let mut verdict = Self { published, ..Self::default() };
        // From the last one on: what came of the ones behind it in its row.
        let mut rows: BTreeMap<usize, Instant> = BTreeMap::new();
        for number in (0..published).rev() {
            let Arrivals(arrivals) = stage.seen.arrivals(number);
            let row = stage.origin.row(number);
            let behind = row.and_then(|row| rows.get(&row).copied());
            let Some((first, id)) = arrivals.first() else {
                if O::SUPERSEDES && behind.is_some() {
                    verdict.superseded += 1;
                } else {
                    verdict.lost.push(number);
                }
                continue;
            };
            verdict.again += arrivals.len() - 1;
            if arrivals.iter().any(|(_, other)| other != id) {
                verdict.changed.push(number);
            }
            if behind.is_some_and(|behind| behind < *first) {
                verdict.late.push(number);
            }
            if let Some(row) = row {
                rows.insert(row, behind.map_or(*first, |behind| behind.min(*first)));
            }
        }
        verdict
    }
}

fn tell<O: Origin>(verdict: &Verdict, seed: u64, kills: &BTreeMap<&str, u64>, report: &mut Report) {
    let Verdict { published, again, lost, superseded, changed, late } = verdict;
    let name = O::NAME;
    report.say(&format!("{name}: seed {seed}: {published} published, {again} came again"));
    if O::SUPERSEDES {
        report.say(&format!("{name}: {superseded} never came, as what came after them did"));
    }
    report.say(&format!("{name}: killed: {kills:?}"));
    for (what, numbers) in [("lost", lost), ("other id", changed), ("out of order", late)] {
        if !numbers.is_empty() {
            report.say(&format!("{name}: {what}: {numbers:?}"));
        }
    }
    report.runs.push(json!({"source": name, "seed": seed, "verdict": verdict, "kills": kills}));
    let count = |number: usize| u32::try_from(number).map_or(f64::INFINITY, f64::from);
    for (what, numbers) in [
        ("lost", lost),
        ("came again under another id", changed),
        ("came first out of the order of their row", late),
    ] {
        let bar = Bar::at_most(format!("{name}: {what}"), count(numbers.len()), 0.0, "events");
        report.bars.push(bar);
    }
    let least = VICTIMS.iter().filter_map(|victim| kills.get(victim)).min().copied();
    let least = least.filter(|_| kills.len() == VICTIMS.len()).unwrap_or(0);
    let least = u32::try_from(least).map_or(f64::INFINITY, f64::from);
    report.bars.push(Bar::at_least(format!("{name}: kills of each part"), least, 1.0, "kills"));
}
