//! Whether events come through whatever is killed: the source, the server, the Function's pod and the
//! activator, one after the other, at moments that a seed decides.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use rouse_e2e::hollow::PATIENCE;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::stage::{CONSUMER, Stage, body};
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
const STREAM: &str = "S";
const FUNCTION: &str = "f";

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
}

/// What can be killed.
const VICTIMS: [&str; 4] = ["source", "server", "function", "activator"];

/// Runs the soak.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}");
    let mut stage = Stage::set(TAKES).await?;
    stage.warm(FUNCTION).await?;
    stage.lead(STREAM, FUNCTION).await?;
    stage.source.start()?;
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let sender = Publisher { context: stage.nats.connect().await? };
    let load = tokio::spawn(async move { sender.run(until).await });
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
    let all = timeout(PATIENCE, stage.seen.reaches(published)).await;
    if all.is_ok() {
        stage.acknowledged(STREAM, CONSUMER).await?;
    }
    Ok(judge(&stage, seed, published, &kills))
}

async fn kill(stage: &mut Stage, victim: &str, away: Duration) -> anyhow::Result<()> {
    match victim {
        "source" => {
            stage.source.check()?;
            stage.source.kill().await?;
            sleep(away).await;
            stage.source.start()
        }
        "server" => {
            stage.nats.kill().await?;
            sleep(away).await;
            stage.nats.restart().await
        }
        "function" => {
            for pod in stage.node.pods(FUNCTION) {
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

/// Publishes one event after the other, each until it is stored.
struct Publisher {
    context: async_nats::jetstream::Context,
}

impl Publisher {
    /// How many it published until then.
    async fn run(self, until: Instant) -> usize {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut published = 0;
        while Instant::now() < until {
            ticks.tick().await;
            super::stage::store(&self.context, STREAM, published).await;
            published += 1;
        }
        published
    }
}

fn judge(stage: &Stage, seed: u64, published: usize, kills: &BTreeMap<&str, u64>) -> Report {
    let (mut lost, mut again, mut changed) = (Vec::new(), 0, Vec::new());
    for number in 0..published {
        let arrivals = stage.seen.arrivals(&body(number)).0;
        match arrivals.first() {
            None => lost.push(number),
            Some((_, id)) if arrivals.iter().any(|(_, other)| other != id) => changed.push(number),
            Some(_) => {}
        }
        again += arrivals.len().saturating_sub(1);
    }
    let mut report = Report::new("soak-events");
    report.say(&format!("seed {seed}: {published} events published, {again} came again"));
    report.say(&format!("killed: {kills:?}"));
    if !lost.is_empty() || !changed.is_empty() {
        report.say(&format!("lost: {lost:?}; with another id: {changed:?}"));
    }
    report.runs.push(json!({
        "source": "nats", "seed": seed, "published": published, "again": again, "kills": kills,
        "lost": lost, "changed": changed,
    }));
    let count = |number: usize| u32::try_from(number).map_or(f64::INFINITY, f64::from);
    report.bars.push(Bar::at_most("nats: lost", count(lost.len()), 0.0, "events"));
    let name = "nats: came again under another id";
    report.bars.push(Bar::at_most(name, count(changed.len()), 0.0, "events"));
    let least = VICTIMS.iter().filter_map(|victim| kills.get(victim)).min().copied();
    let least = least.filter(|_| kills.len() == VICTIMS.len()).unwrap_or(0);
    let name = "nats: kills of each part";
    let least = u32::try_from(least).map_or(f64::INFINITY, f64::from);
    report.bars.push(Bar::at_least(name, least, 1.0, "kills"));
    report
}
