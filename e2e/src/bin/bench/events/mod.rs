//! Events on their way from a server through `rouse source` and an activator to a Function, on
//! loopback: how many, how soon, in how much memory, beside a consumer as somebody would write it
//! with the same client library; and whether all come through what is killed meanwhile.

mod consumer;
mod function;
mod latency;
pub mod soak;
mod stage;
mod throughput;

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use self::consumer::Target;
use self::stage::Stage;
use self::throughput::{Sample, Way};
use crate::report::{Bar, Report, Row, distributions, quantile};

/// What the throughput may be of the plain consumer's, at least.
const LEAST_PART: f64 = 0.8;
/// Or so many events a second.
const LEAST_RATE: f64 = 5000.0;
/// Memory of the source, in MiB.
const MOST_MEMORY: f64 = 64.0;
/// What an event may take longer than by the plain consumer, at the median, in milliseconds.
const MOST_LATER: f64 = 5.0;
/// What it may take longer than a call, from zero.
const MOST_LATER_FROM_ZERO: f64 = 20.0;
/// The streams, and the Functions that their messages lead to.
const WARM: (&str, &str) = ("A", "warm");
const ASLEEP: (&str, &str) = ("Z", "asleep");
/// The stream of the plain consumers.
const PLAIN: &str = "P";

/// Arguments of `bench events`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Fewer events and rounds, for work in progress: the figures are rough
    #[arg(long)]
    quick: bool,
    /// Rounds of each load [default: 5, or 2 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 2 } else { 5 });
    let events = if arguments.quick { 5_000 } else { 30_000 };
    let mut stage = Stage::set(std::time::Duration::ZERO).await?;
    stage.warm(WARM.1).await?;
    stage.sleeper(ASLEEP.1).await?;
    stage.lead(WARM.0, WARM.1).await?;
    stage.lead(ASLEEP.0, ASLEEP.1).await?;
    stage.nats.stream(&stage.context, PLAIN).await?;
    let address = (stage.hollow.pod_ip(WARM.1).await?, 8080).into();
    let direct = Target { address, host: stage.target(WARM.1).host };
    let plain = Way::Plain(stage.target(WARM.1));
    let ways = [(WARM.0, Way::Rouse), (PLAIN, plain), (PLAIN, Way::Plain(direct))];
    let mut report = Report::new("events");
    let mut runs = Vec::new();
    for round in 0..rounds {
        let mut samples = Vec::new();
        for (stream, way) in &ways {
            samples.push(throughput::measure(&mut stage, way, stream, events).await?);
        }
        eprintln!("throughput, round {}: {samples:?}", round + 1);
        report.runs.push(json!({
            "kind": "throughput", "source": "nats", "round": round, "samples": samples,
        }));
        runs.push(samples);
    }
    tell_throughput(&runs, &mut report);
    let (mut by_rouse, mut by_plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (millis, (stream, way)) in [&mut by_rouse, &mut by_plain].into_iter().zip(&ways) {
            millis.extend(latency::warm(&mut stage, way, stream, events / 50).await?);
        }
    }
    let starts = if arguments.quick { 3 } else { 10 };
    let (calls, woken) = latency::from_zero(&mut stage, ASLEEP, starts).await?;
    tell_latency([by_rouse, by_plain, woken, calls], &mut report);
    Ok(report)
}

fn tell_throughput(runs: &[Vec<Sample>], report: &mut Report) {
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
    let _ = writeln!(text, "{:<58} {:>9} {:>9}", "NATS JetStream, 256 B", "events/s", "MiB");
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
    report.bars.push(if part >= LEAST_PART {
        Bar::at_least("nats: events/s beside a plain consumer", part, LEAST_PART, "x")
    } else {
        let name = "nats: events a second, being less than 0.8 x a plain consumer's";
        Bar::at_least(name, rate, LEAST_RATE, "events/s")
    });
    report.bars.push(Bar::at_most("nats: memory of the source", most, MOST_MEMORY, "MiB"));
}

fn tell_latency([rouse, plain, woken, calls]: [Vec<f64>; 4], report: &mut Report) {
    let later = |one: &[f64], other: &[f64]| quantile(one, 0.5) - quantile(other, 0.5);
    let (warm, zero) = (later(&rouse, &plain), later(&woken, &calls));
    report.runs.push(json!({
        "kind": "latency", "source": "nats", "rouse": rouse, "plain": plain, "woken": woken,
        "calls": calls,
    }));
    let row = |name: &str, millis| Row { name: name.to_owned(), millis };
    report.text += &distributions(&[
        row("publish -> Function, warm, rouse source", rouse),
        row("publish -> Function, warm, plain consumer", plain),
        row("publish -> Function, from zero, rouse source", woken),
        row("call -> Function, from zero", calls),
    ]);
    let name = "nats: warm, later than by a plain consumer, at the median";
    report.bars.push(Bar::at_most(name, warm, MOST_LATER, "ms"));
    let name = "nats: from zero, later than a call, at the median";
    report.bars.push(Bar::at_most(name, zero, MOST_LATER_FROM_ZERO, "ms"));
}
