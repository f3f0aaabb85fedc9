//! Fairness: how long the requests of one Function take while another is flooded, beside how long
//! they take without. The flood is more than the other Function can serve and its queue can hold,
//! so that most of it is refused.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rouse_e2e::hollow::NAMESPACE;
use rouse_e2e::hollow::activator::Activator;
use rouse_e2e::wire;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::loads::{Effort, in_turn};
use super::open_loop::{Pace, Sample, call};
use super::stage::{Stage, answered, warm};
use super::upstream::LATER;
use crate::report::{Bar, quantile, spread};

/// The Function that is called: its pod serves so many requests at once, each for five
/// milliseconds, and it is called for two thirds of what that makes.
const CALM: &str = "calm";
const AT_ONCE: u32 = 4;
const PACE: Pace = Pace { path: LATER, rate: 500 };

/// The Function that is flooded: one request at a time, and so many that wait.
const FLOODED: &str = "flooded";
const WAITING: u32 = 100;
/// Connections of the flood, and the least time between two requests on one.
const CONNECTIONS: u32 = 240;
const FLOOD_EVERY: Duration = Duration::from_millis(100);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the flood may do to the other Function's p99.
const MOST: f64 = 1.1;

/// With the flood or without.
const WAYS: [&str; 2] = ["alone", "beside the flood"];

/// All rounds: alone, and beside the flood.
pub struct Fair {
    rounds: Vec<[Sample; 2]>,
    served: u64,
    refused: u64,
}

/// Calls the Function in turn with and without the flood, round by round.
pub async fn measure(stage: &Stage, activator: &Activator, effort: Effort) -> anyhow::Result<Fair> {
    let limit = |limit: u32| json!({"target": limit, "limit": limit});
    let calm = warm(&json!({"concurrency": limit(AT_ONCE)}));
    let flooded = json!({"concurrency": limit(1), "buffer": {"requests": WAITING}});
    for (name, spec) in [(CALM, calm), (FLOODED, warm(&flooded))] {
        stage.hollow.apply_function(name, spec).await?;
        stage.hollow.serving(name, 1).await?;
    }
    let host = |name: &str| format!("{name}.{NAMESPACE}");
    answered(activator.http, &[host(CALM), host(FLOODED)]).await?;
    let hosts = [host(CALM)];
    let (mut rounds, mut served, mut refused) = (Vec::new(), 0, 0);
    for round in 0..effort.rounds {
        let mut samples = [Sample::default(); 2];
        for slot in in_turn(round, [0, 1]) {
            let flood = match slot {
                0 => None,
                _ => Some(Flood::begin(activator, &host(FLOODED)).await?),
            };
            let times = call(activator.http, &hosts, PACE, effort.run).await?;
            if let Some(flood) = flood {
                let (good, full) = flood.end().await?;
                served += good;
                refused += full;
            }
            if let Some(sample) = samples.get_mut(slot) {
                *sample = Sample::of(&times);
            }
        }
        let [alone, beside] = samples;
        eprintln!(
            "fair, round {} of {}: p99 {:.2} ms beside the flood, {:.2} ms alone",
            round + 1,
            effort.rounds,
            beside.p99,
            alone.p99
        );
        rounds.push(samples);
    }
    anyhow::ensure!(refused > served, "it was no flood: {served} served, {refused} refused");
    Ok(Fair { rounds, served, refused })
}

/// Callers of the Function that is flooded, until they are told to stop.
struct Flood {
    callers: JoinSet<anyhow::Result<()>>,
    counts: Arc<[AtomicU64; 2]>,
}

impl Flood {
    /// Begins, and waits until the queue is full.
    async fn begin(activator: &Activator, host: &str) -> anyhow::Result<Self> {
        let counts = Arc::<[AtomicU64; 2]>::default();
        let mut callers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let stream = wire::connect(activator.http, PATIENCE).await;
            let stream = stream.map_err(|broken| anyhow::anyhow!("{broken}"))?;
            callers.spawn(flood(stream, activator.http, host.to_owned(), Arc::clone(&counts)));
        }
        let mut pauses = interval(FLOOD_EVERY);
        let full = async {
            while counts[1].load(Ordering::Relaxed) < u64::from(CONNECTIONS) {
                pauses.tick().await;
            }
        };
        timeout(PATIENCE, full).await.context("the queue does not fill")?;
        Ok(Self { callers, counts })
    }

    /// Ends; answers how many requests were served and how many refused.
    async fn end(mut self) -> anyhow::Result<(u64, u64)> {
        while let Some(ended) = self.callers.try_join_next() {
            ended.context("a caller of the flood")??;
        }
        self.callers.shutdown().await;
        let [served, refused] = &*self.counts;
        Ok((served.load(Ordering::Relaxed), refused.load(Ordering::Relaxed)))
    }
}

async fn flood(
    mut stream: TcpStream,
    address: SocketAddr,
    host: String,
    counts: Arc<[AtomicU64; 2]>,
) -> anyhow::Result<()> {
    let mut moments = interval(FLOOD_EVERY);
    moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        moments.tick().await;
        let answer = wire::get_path(&mut stream, (&host, LATER), PATIENCE).await;
        let answer = answer.map_err(|broken| anyhow::anyhow!("calling {address}: {broken}"))?;
        let count = match answer.status {
            200 => 0,
            503 => 1,
            status => anyhow::bail!("{status} {:?}", answer.problem),
        };
        counts[count].fetch_add(1, Ordering::Relaxed);
    }
}

impl Fair {
    /// Beside the flood to alone, in the same round.
    fn ratios(&self, value: fn(&Sample) -> f64) -> Vec<f64> {
        self.rounds.iter().map(|[alone, beside]| value(beside) / value(alone)).collect()
    }

    /// The bar.
    pub fn bars(&self) -> Vec<Bar> {
        let name = "p99 of a Function while another is flooded, to alone, median of rounds";
        vec![Bar::at_most(name, quantile(&self.ratios(|s| s.p99), 0.5), MOST, "x")]
    }

    /// The raw figures.
    pub fn raw(&self) -> Vec<Value> {
        let rounds = self.rounds.iter().enumerate();
        let told = |(round, [alone, beside]): (usize, &[Sample; 2])| json!({"kind": "fair", "round": round, "alone": alone, "flooded": beside});
        rounds.map(told).collect()
    }

    /// The rows of the table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} requests/s for a Function; a flood of another: {} served, {} refused; p50 and p99 \
             in ms, medians of rounds\n",
            PACE.rate, self.served, self.refused
        );
        for (slot, way) in WAYS.into_iter().enumerate() {
            let median = |value: fn(&Sample) -> f64| {
                let values: Vec<f64> =
                    self.rounds.iter().filter_map(|round| round.get(slot)).map(value).collect();
                quantile(&values, 0.5)
            };
            let (p50, p99) = (median(|s| s.p50), median(|s| s.p99));
            let _ = writeln!(text, "  {way:<17} {p50:>8.3} {p99:>8.3}");
        }
        let ratio = |value| spread(&self.ratios(value));
        let _ = writeln!(
            text,
            "  beside the flood to alone [least-most]: p50 {}, p99 {}",
            ratio(|s| s.p50),
            ratio(|s| s.p99)
        );
        text
    }
}
