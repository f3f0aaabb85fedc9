//! The policy in the model plant, with the same code that decides in the activator.

use std::time::Duration;

use rouse_core::simulation::cases::{Case, Figures, Whose, burst, fewest_pods, load_step, median};
use serde_json::json;

use crate::report::{Bar, Report};

/// How long a slim pod takes to listen on an idle node, and one with an image that does more.
const STARTS: [Duration; 2] = [Duration::from_millis(300), Duration::from_secs(1)];
/// Hard limits: from one request per pod to as many as the whole load has in flight on average.
const LIMITS: [u32; 3] = [1, 5, 10];
const RATE: f64 = 500.0;
const SOONER: f64 = 3.0;

/// Runs the cases with so many seeds and adds what came out.
pub fn run(seeds: u64, report: &mut Report) {
    report.say("model: from 1 to 500 requests/s of 20 ms, medians over the seeds");
    report.say(&format!(
        "{:<8} {:>5} {:<22} {:>11} {:>7} {:>9} {:>8} {:>9} {:>6} {:>8}",
        "start",
        "limit",
        "policy",
        "recovered s",
        "late %",
        "p99 ms",
        "started",
        "overshoot",
        "turns",
        "pod-s"
    ));
    for start in STARTS {
        for limit in LIMITS {
            step(seeds, start, limit, report);
        }
    }
    bursts(seeds, report);
}

fn step(seeds: u64, start: Duration, limit: u32, report: &mut Report) {
    let service = Duration::from_millis(20);
    let case = Case { start, service, limit, bounds: (1, 100) };
    let all =
        Whose::ALL.map(|whose| {
            let runs: Vec<Figures> =
                (1..=seeds).map(|seed| load_step(&case, RATE, whose, seed)).collect();
            let figures = median(&runs);
            let Figures {
                recovered,
                late_percent,
                p99_millis,
                started,
                overshoot,
                turns,
                pod_seconds,
            } = figures;
            report.say(&format!(
                "{:<8} {limit:>5} {:<22} {recovered:>11.2} {late_percent:>7.2} {p99_millis:>9.1} \
             {started:>8} {overshoot:>8.2}x {turns:>6} {pod_seconds:>8.0}",
                format!("{start:?}"),
                whose.name()
            ));
            report.runs.push(json!({
                "case": "step", "startMillis": start.as_millis(), "limit": limit,
                "policy": whose.name(), "figures": figures,
            }));
            figures.recovered
        });
    let [ours, tick, _] = all;
    // Within the grid on which recovery is looked for.
    let sooner = tick / ours.max(0.02);
    let name = format!("step, start {start:?}, limit {limit}: sooner than the tick policy");
    report.bars.push(Bar::at_least(name, sooner, SOONER, "x"));
}

fn bursts(seeds: u64, report: &mut Report) {
    let (start, service) = (Duration::from_millis(400), Duration::from_millis(100));
    let case = Case { start, service, limit: 10, bounds: (0, 40) };
    let time = start + service + Duration::from_millis(1500);
    let fewest = fewest_pods(&case, 200, time, 1).unwrap_or(u32::MAX);
    for (knows, what) in [(true, "seen before"), (false, "never seen")] {
        let runs: Vec<Figures> = (1..=seeds).map(|seed| burst(&case, 200, knows, seed)).collect();
        let figures = median(&runs);
        report.say(&format!(
            "model: 200 requests of 100 ms at zero, limit 10, {what}: {} pods, p99 {:.0} ms; the \
             fewest for {} ms are {fewest}",
            figures.started,
            figures.p99_millis,
            time.as_millis()
        ));
        report.runs.push(json!({"case": "burst", "seenBefore": knows, "figures": figures}));
        let most = f64::from(fewest) * 1.5;
        let name = format!("burst, {what}: pods");
        report.bars.push(Bar::at_most(name, figures.started.into(), most, "pods"));
    }
}
