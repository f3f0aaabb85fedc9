//! Events on their way from a server through `rouse source` and an activator to a Function, on
//! loopback: how many, how soon, in how much memory, beside a consumer as somebody would write it
//! with the same client library; and whether all come through what is killed meanwhile.

mod consumer;
mod function;
mod latency;
mod nats;
mod origin;
mod postgres;
mod s3;
pub mod soak;
mod stage;
mod throughput;

use std::fmt::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::consumer::Target;
use self::nats::Nats;
use self::origin::{Origin, Rows};
use self::postgres::Postgres;
use self::s3::{Listed, Told};
use self::stage::{Stage, Way};
use self::throughput::Sample;
use crate::report::{Bar, Report, Row, distributions, quantile};

/// What the throughput may be of the plain consumer's, at least.
const LEAST_PART: f64 = 0.8;
/// Memory of the source, in MiB.
const MOST_MEMORY: f64 = 64.0;
/// What an event may take longer than by the plain consumer, at the median, in milliseconds.
const MOST_LATER: f64 = 5.0;
/// What it may take longer than a call, from zero.
const MOST_LATER_FROM_ZERO: f64 = 20.0;
/// The places whose events Rouse brings, named as the Functions that they lead to.
const WARM: &str = "warm";
const ASLEEP: &str = "asleep";
/// The place of the plain consumers.
const PLAIN: &str = "plain";

/// A kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Nats,
    Postgres,
    S3,
}

impl Kind {
    /// Those that were named, or all.
    fn chosen(named: &[Self]) -> &[Self] {
        if named.is_empty() { Self::value_variants() } else { named }
    }
}

/// Arguments of `bench events`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Fewer events and rounds, for work in progress: the figures are rough
    #[arg(long)]
    quick: bool,
    /// Rounds of each load [default: 5, or 2 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Of which source; again for each more [default: all, one after the other]
    #[arg(long, value_enum)]
    source: Vec<Kind>,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut report = Report::new("events");
    for kind in Kind::chosen(&arguments.source) {
        match kind {
            Kind::Nats => measure::<Nats>(arguments, &mut report).await?,
            Kind::Postgres => measure::<Postgres>(arguments, &mut report).await?,
            Kind::S3 => {
                measure::<Told>(arguments, &mut report).await?;
                measure::<Listed>(arguments, &mut report).await?;
            }
        }
    }
    Ok(report)
}

async fn measure<O: Origin>(arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 2 } else { 5 });
    let events = if arguments.quick { O::EVENTS / 5 } else { O::EVENTS };
    let mut stage = Stage::<O>::set(Rows::Own, Duration::ZERO).await?;
    stage.warm(WARM).await?;
    stage.sleeper(ASLEEP).await?;
    stage.lead(WARM).await?;
    stage.lead(ASLEEP).await?;
    stage.origin.make(PLAIN).await?;
    let address = (stage.hollow.pod_ip(WARM).await?, 8080).into();
    let direct = Target { address, host: stage.target(WARM).host };
    let plain = Way::Plain(stage.target(WARM));
    let ways = [(WARM, Way::Rouse), (PLAIN, plain), (PLAIN, Way::Plain(direct))];
    let mut runs = Vec::new();
    for round in 0..rounds {
        let mut samples = Vec::new();
        for (place, way) in &ways {
            samples.push(throughput::measure(&mut stage, way, place, events).await?);
        }
        eprintln!("{}: throughput, round {}: {samples:?}", O::NAME, round + 1);
        report.runs.push(json!({
            "kind": "throughput", "source": O::NAME, "round": round, "samples": samples,
        }));
        runs.push(samples);
    }
    tell_throughput::<O>(&runs, report);
    if !O::IS_PROMPT {
        return Ok(());
    }
    let (mut by_rouse, mut by_plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (millis, (place, way)) in [&mut by_rouse, &mut by_plain].into_iter().zip(&ways) {
            let once = if arguments.quick { 100 } else { 600 };
            millis.extend(latency::warm(&mut stage, way, place, once).await?);
        }
    }
    let starts = if arguments.quick { 3 } else { 10 };
    let (calls, woken) = latency::from_zero(&mut stage, ASLEEP, starts).await?;
    tell_latency::<O>([by_rouse, by_plain, woken, calls], report);
    Ok(())
}

fn tell_throughput<O: Origin>(runs: &[Vec<Sample>], report: &mut Report) {
    let median = |of: &dyn Fn(&[Sample]) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(|samples| of(samples)).collect();
        quantile(&values, 0.5)
    };
    let names = [
        "rouse source",
        "plain consumer that calls the Function as it does",
        "plain consumer that calls its pod, past the activator",
    ];
    let text = &mut report.text;
    let _ = writeln!(text, "{:<58} {:>9} {:>9}", O::TITLE, "events/s", "MiB");
    for (way, name) in names.into_iter().enumerate() {
        let rate = median(&|samples| Some(samples.get(way)?.per_second));
        let memory = median(&|samples| Some(samples.get(way)?.resident_mib));
        let memory = if way == 0 { format!("{memory:.1}") } else { "-".to_owned() };
        let _ = writeln!(text, "{name:<58} {rate:>9.0} {memory:>9}");
    }
    let part = median(&|samples| Some(samples.first()?.per_second / samples.get(1)?.per_second));
    let rate = median(&|samples| Some(samples.first()?.per_second));
    let most = runs.iter().filter_map(|samples| Some(samples.first()?.resident_mib));
    let most = most.fold(0.0, f64::max);
    let _ = writeln!(text, "rouse source: {part:.2} x the plain consumer, {rate:.0} events/s");
    // Either is enough.
    let source = O::NAME;
    report.bars.push(match O::ENOUGH {
        Some(enough) if part < LEAST_PART => {
            let name =
                format!("{source}: events a second, being less than 0.8 x a plain consumer's");
            Bar::at_least(name, rate, enough, "events/s")
        }
        _ => {
            let name = format!("{source}: events/s beside a plain consumer");
            Bar::at_least(name, part, LEAST_PART, "x")
        }
    });
    let name = format!("{source}: memory of the source");
    report.bars.push(Bar::at_most(name, most, MOST_MEMORY, "MiB"));
}

fn tell_latency<O: Origin>([rouse, plain, woken, calls]: [Vec<f64>; 4], report: &mut Report) {
    let later = |one: &[f64], other: &[f64]| quantile(one, 0.5) - quantile(other, 0.5);
    let (warm, zero) = (later(&rouse, &plain), later(&woken, &calls));
    report.runs.push(json!({
        "kind": "latency", "source": O::NAME, "rouse": rouse, "plain": plain, "woken": woken,
        "calls": calls,
    }));
    let row = |name: &str, millis| Row { name: name.to_owned(), millis };
    report.text += &distributions(&[
        row("publish -> Function, warm, rouse source", rouse),
        row("publish -> Function, warm, plain consumer", plain),
        row("publish -> Function, from zero, rouse source", woken),
        row("call -> Function, from zero", calls),
    ]);
    let name = format!("{}: warm, later than by a plain consumer, at the median", O::NAME);
    report.bars.push(Bar::at_most(name, warm, MOST_LATER, "ms"));
    let name = format!("{}: from zero, later than a call, at the median", O::NAME);
    report.bars.push(Bar::at_most(name, zero, MOST_LATER_FROM_ZERO, "ms"));
}
