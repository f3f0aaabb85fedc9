//! Throughput: direct, nginx and Rouse in turn, under each load, round by round.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use rouse_e2e::hollow::activator::Activator;
use rouse_e2e::hollow::process::Figures;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use super::stage::Stage;
use super::wrk::{Request, Told, Wrk};
use crate::report::{Bar, quantile, spread};

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its name.
    pub name: &'static str,
    /// What is asked for.
    pub request: Request,
    /// Connections at once.
    pub connections: usize,
    /// Whether there are bars for it.
    barred: bool,
}

impl Load {
    /// Whether neither requests nor answers have bodies to speak of.
    pub fn is_small(&self) -> bool {
        self.barred
    }
}

const SMALL: Request = Request { method: "GET", path: "/", body: 0 };

/// The loads.
pub const LOADS: &[Load] = &[
    Load { name: "GET small, 64 connections", request: SMALL, connections: 64, barred: true },
    Load { name: "GET small, 512 connections", request: SMALL, connections: 512, barred: true },
    Load {
        name: "GET 64 KiB, 64 connections",
        request: Request { method: "GET", path: "/large", body: 0 },
        connections: 64,
        barred: false,
    },
    Load {
        name: "POST 16 KiB, 64 connections",
        request: Request { method: "POST", path: "/", body: 16 * 1024 },
        connections: 64,
        barred: false,
    },
];

/// Who is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The pod itself.
    Direct,
    /// nginx before the pods.
    Nginx,
    /// The activator before the pods.
    Rouse,
}

impl Target {
    /// Where it is called.
    pub const fn address(self, stage: &Stage, activator: &Activator) -> SocketAddr {
        match self {
            Self::Direct => stage.direct,
            Self::Nginx => stage.nginx.address,
            Self::Rouse => activator.http,
        }
    }
}

/// The order in which they come in a round: it changes from round to round, so that nobody always
/// comes after the same.
pub fn in_turn<T, const N: usize>(round: usize, mut all: [T; N]) -> [T; N] {
    if round % 2 == 1 {
        all.reverse();
    }
    all
}

/// All of them.
pub const TARGETS: [Target; 3] = [Target::Direct, Target::Nginx, Target::Rouse];

/// What one run showed.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Requests a second.
    pub per_second: f64,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Microseconds of processor time for a request, of all the proxy's processes.
    pub cpu: f64,
    /// Memory of all the proxy's processes after it, in MiB.
    pub resident: f64,
}

impl Sample {
    /// From what wrk told and what the kernel counted before and after.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn of(told: &Told, before: Figures, after: Figures) -> Self {
        let requests = told.requests.max(1) as f64;
        let cpu = after.cpu.saturating_sub(before.cpu);
        Self {
            per_second: told.requests as f64 / (told.micros.max(1) as f64 / 1e6),
            p50: told.p50 as f64 / 1e3,
            p99: told.p99 as f64 / 1e3,
            cpu: cpu.as_secs_f64() * 1e6 / requests,
            resident: after.resident as f64 / f64::from(1 << 20),
        }
    }
}

/// The samples of one load: a row for each round.
pub struct Rounds {
    load: Load,
    rounds: Vec<[Sample; 3]>,
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds for each load.
    pub rounds: usize,
    /// Time of each run.
    pub run: Duration,
}

/// Runs `load` against all targets in turn.
pub async fn measure(
    stage: &Stage,
    activator: &Activator,
    load: Load,
    effort: Effort,
) -> anyhow::Result<Rounds> {
    let wrk = Wrk::new(&stage.hollow)?;
    let mut rounds = Vec::new();
    for round in 0..effort.rounds {
        let mut samples = [None; 3];
        for target in in_turn(round, TARGETS) {
            let sample = run(stage, activator, &wrk, (target, load), effort.run).await?;
            if let Some(slot) = samples.get_mut(target as usize) {
                *slot = Some(sample);
            }
        }
        let [Some(direct), Some(nginx), Some(rouse)] = samples else {
            anyhow::bail!("a target was left out")
        };
        eprintln!(
            "{}, round {} of {}: {:.2} x nginx's requests/s, {:.1} us against {:.1} us",
            load.name,
            round + 1,
            effort.rounds,
            rouse.per_second / nginx.per_second,
            rouse.cpu,
            nginx.cpu
        );
        rounds.push([direct, nginx, rouse]);
    }
    Ok(Rounds { load, rounds })
}

async fn run(
    stage: &Stage,
    activator: &Activator,
    wrk: &Wrk,
    (target, load): (Target, Load),
    duration: Duration,
) -> anyhow::Result<Sample> {
    let figures = || match target {
        Target::Direct => Ok(Figures::default()),
        Target::Nginx => stage.nginx.figures(),
        Target::Rouse => activator.figures(),
    };
    let counts = Counts::read(stage, activator).await?;
    let before = figures()?;
    let request = (load.request, stage.called.as_slice());
    let address = target.address(stage, activator);
    let told = wrk.run(address, request, load.connections, duration).await?;
    let after = figures()?;
    anyhow::ensure!(told.failures() == 0, "{target:?}, {}: failures: {told:?}", load.name);
    let reached = stage.upstream.answered() - counts.answered;
    anyhow::ensure!(
        reached >= told.requests,
        "{target:?}, {}: {} answers, but only {reached} from pods",
        load.name,
        told.requests
    );
    if target == Target::Rouse {
        counts.compare(stage, activator, told.requests, load.connections as u64).await?;
    }
    Ok(Sample::of(&told, before, after))
}

/// What was counted before a load.
pub struct Counts {
    good: u64,
    gone: u64,
    bad: u64,
    answered: u64,
}

const REQUESTS: &str = "rouse_requests_total";
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// How long the pods must have answered nobody to be at rest.
const QUIET: Duration = Duration::from_millis(100);

impl Counts {
    /// Reads the activator's counters and the upstream's, once requests that were on their way are
    /// over.
    pub async fn read(stage: &Stage, activator: &Activator) -> anyhow::Result<Self> {
        timeout(SETTLED_WITHIN, settle(stage, activator)).await.context("requests stay")??;
        let metrics = activator.metrics().await?;
        let sum = |class: &str| whole(metrics.sum(REQUESTS, &[("code_class", class)]));
        Ok(Self {
            good: sum("2xx"),
            gone: sum("gone"),
            bad: ["1xx", "3xx", "4xx", "5xx"].into_iter().map(sum).sum(),
            answered: stage.upstream.answered(),
        })
    }

    /// Fails unless the activator counted as many answers as the client did. Requests that were on
    /// their way when a client stopped, at most one on each of its `connections`, may be counted
    /// beside.
    pub async fn compare(
        &self,
        stage: &Stage,
        activator: &Activator,
        requests: u64,
        connections: u64,
    ) -> anyhow::Result<()> {
        let after = Self::read(stage, activator).await?;
        let good = after.good - self.good;
        let gone = after.gone - self.gone;
        let answered = after.answered - self.answered;
        let told = format!(
            "the client counted {requests} answers on {connections} connections, the activator \
             {good} and {gone} that nobody waited for, the pods {answered}"
        );
        let most = requests + connections;
        anyhow::ensure!(after.bad == self.bad, "the activator refused requests: {told}");
        anyhow::ensure!(good >= requests && good + gone <= most, "counters differ: {told}");
        anyhow::ensure!((good..=good + gone).contains(&answered), "counters differ: {told}");
        Ok(())
    }
}

/// Waits until the activator holds no request and the pods answer nobody.
async fn settle(stage: &Stage, activator: &Activator) -> anyhow::Result<()> {
    let mut pauses = interval(QUIET);
    pauses.tick().await;
    let mut answered = None;
    loop {
        let idle = activator.metrics().await?.sum("rouse_requests_in_flight", &[]) <= 0.0;
        let now = Some(stage.upstream.answered());
        if idle && answered == now {
            return Ok(());
        }
        answered = now;
        pauses.tick().await;
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole")]
fn whole(value: f64) -> u64 {
    value as u64
}

impl Rounds {
    fn of(&self, target: Target, value: fn(&Sample) -> f64) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.get(target as usize)).map(value).collect()
    }

    /// Rouse's to nginx's in the same round.
    fn ratios(&self, value: fn(&Sample) -> f64) -> Vec<f64> {
        self.rounds.iter().map(|[_, nginx, rouse]| value(rouse) / value(nginx)).collect()
    }

    /// The bars that go with the load.
    pub fn bars(&self) -> Vec<Bar> {
        if !self.load.barred {
            return Vec::new();
        }
        let name = self.load.name;
        let median = |value: fn(&Sample) -> f64| quantile(&self.ratios(value), 0.5);
        let bar = |what: &str| format!("{name}: {what}, to nginx's, median of rounds");
        vec![
            Bar::at_least(bar("requests/s"), median(|sample| sample.per_second), 1.0, "x"),
            Bar::at_most(bar("processor time of a request"), median(|sample| sample.cpu), 1.0, "x"),
            Bar::at_most(bar("p99"), median(|sample| sample.p99), 1.25, "x"),
        ]
    }

    /// The raw figures.
    pub fn raw(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for (round, samples) in self.rounds.iter().enumerate() {
            for (target, sample) in TARGETS.iter().zip(samples) {
                all.push(json!({
                    "kind": "load", "load": self.load.name, "round": round, "target": target,
                    "sample": sample,
                }));
            }
        }
        all
    }

    /// The rows of the table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for target in TARGETS {
            let median = |value| quantile(&self.of(target, value), 0.5);
            let _ = writeln!(
                text,
                "{:<28} {:<7} {:>9.0} {:>8.2} {:>8.2} {:>8.1} {:>8.1}",
                self.load.name,
                format!("{target:?}").to_lowercase(),
                median(|sample| sample.per_second),
                median(|sample| sample.p50),
                median(|sample| sample.p99),
                median(|sample| sample.cpu),
                median(|sample| sample.resident),
            );
        }
        let ratio = |value| spread(&self.ratios(value));
        let _ = writeln!(
            text,
            "  to nginx's, median of {} rounds [least-most]: requests/s {}, p50 {}, p99 {}, cpu {}",
            self.rounds.len(),
            ratio(|sample| sample.per_second),
            ratio(|sample| sample.p50),
            ratio(|sample| sample.p99),
            ratio(|sample| sample.cpu),
        );
        text
    }
}

/// The head of the table.
pub fn table_head() -> String {
    format!(
        "{:<28} {:<7} {:>9} {:>8} {:>8} {:>8} {:>8}\n",
        "medians of rounds", "", "req/s", "p50 ms", "p99 ms", "us cpu", "MiB rss"
    )
}
