//! Latency at a rate that does not depend on the answers: each request has its moment, and its time
//! counts from that moment also when it could be sent only later.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use rouse_e2e::hollow::activator::Activator;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::loads::{Counts, TARGETS, Target, in_turn};
use super::stage::Stage;
use crate::report::{Bar, quantile};

/// Requests a second.
const RATE: u32 = 1000;
/// Connections, each with a thread that sleeps until its next request's moment: a runtime's timers
/// are a millisecond coarse.
const CONNECTIONS: u32 = 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const BUFFER: usize = 4096;
/// What the bars permit, in milliseconds over direct.
const ADDED_P50: f64 = 0.3;
const ADDED_P99: f64 = 2.0;

/// Median and 99th of a hundred of one round, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Median.
    pub p50: f64,
    /// 99th of a hundred.
    pub p99: f64,
}

impl Sample {
    /// Of requests that took so many milliseconds.
    pub fn of(times: &[f64]) -> Self {
        Self { p50: quantile(times, 0.5), p99: quantile(times, 0.99) }
    }
}

/// All rounds: direct, nginx, Rouse.
pub struct OpenLoop {
    rounds: Vec<[Sample; 3]>,
}

/// Calls each target in turn, round by round.
pub async fn measure(
    stage: &Stage,
    activator: &Activator,
    rounds: usize,
    run: Duration,
) -> anyhow::Result<OpenLoop> {
    let mut all = Vec::new();
    for round in 0..rounds {
        let mut samples = [Sample::default(); 3];
        for target in in_turn(round, TARGETS) {
            let address = target.address(stage, activator);
            let counts = Counts::read(stage, activator).await?;
            let times = call(address, &stage.called, Pace { path: "/", rate: RATE }, run).await?;
            if target == Target::Rouse {
                counts.compare(stage, activator, times.len() as u64, 0).await?;
            }
            let sample = Sample::of(&times);
            if let Some(slot) = samples.get_mut(target as usize) {
                *slot = sample;
            }
        }
        let [direct, _, rouse] = samples;
        eprintln!(
            "{RATE} requests/s, round {} of {rounds}: p50 {:.2} ms over direct, p99 {:.2} ms",
            round + 1,
            rouse.p50 - direct.p50,
            rouse.p99 - direct.p99
        );
        all.push(samples);
    }
    Ok(OpenLoop { rounds: all })
}

/// What is called, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Path of all requests.
    pub path: &'static str,
    /// Requests a second.
    pub rate: u32,
}

/// Calls `hosts` at `address` for `run`; answers with the milliseconds that each request took.
pub async fn call(
    address: SocketAddr,
    hosts: &[String],
    pace: Pace,
    run: Duration,
) -> anyhow::Result<Vec<f64>> {
    let start = Instant::now() + Duration::from_millis(50);
    let pause = Duration::from_secs(1) / pace.rate;
    let mut callers = Vec::new();
    for connection in 0..CONNECTIONS {
        let host = &hosts[connection as usize % hosts.len()];
        let request = format!("GET {} HTTP/1.1\r\nhost: {host}\r\n\r\n", pace.path);
        let schedule = Schedule {
            first: start + pause * connection,
            every: pause * CONNECTIONS,
            until: start + run,
        };
        callers.push(tokio::task::spawn_blocking(move || call_on_one(address, &request, schedule)));
    }
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await??);
    }
    Ok(times)
}

#[derive(Clone, Copy)]
struct Schedule {
    first: Instant,
    every: Duration,
    until: Instant,
}

fn call_on_one(address: SocketAddr, request: &str, schedule: Schedule) -> anyhow::Result<Vec<f64>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; BUFFER];
    let mut times = Vec::new();
    let mut at = schedule.first;
    while at < schedule.until {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes())?;
        read_answer(&mut stream, &mut buffer).with_context(|| format!("calling {address}"))?;
        times.push(at.elapsed().as_secs_f64() * 1e3);
        at += schedule.every;
    }
    Ok(times)
}

/// Reads one answer, which fits into the buffer and must be good.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> anyhow::Result<()> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default())?;
        anyhow::ensure!(read > 0, "the connection was closed");
        filled += read;
        let bytes = buffer.get(..filled).unwrap_or_default();
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = head.parse(bytes)? else { continue };
        anyhow::ensure!(head.code == Some(200), "{:?}", String::from_utf8_lossy(bytes));
        let body = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
        let body = body.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
        let body: usize = body.context("an answer without a length")?;
        if filled >= length + body {
            return Ok(());
        }
    }
}

impl OpenLoop {
    fn of(&self, target: Target, value: fn(&Sample) -> f64) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.get(target as usize)).map(value).collect()
    }

    /// Rouse's over direct, in the same round.
    fn added(&self, value: fn(&Sample) -> f64) -> Vec<f64> {
        self.rounds.iter().map(|[direct, _, rouse]| value(rouse) - value(direct)).collect()
    }

    /// The bars.
    pub fn bars(&self) -> Vec<Bar> {
        let bar = |what: &str, value, limit| {
            let name =
                format!("{RATE} requests/s, open loop: {what} over direct, median of rounds");
            Bar::at_most(name, quantile(&self.added(value), 0.5), limit, "ms")
        };
        vec![bar("p50", |s| s.p50, ADDED_P50), bar("p99", |s| s.p99, ADDED_P99)]
    }

    /// The raw figures.
    pub fn raw(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for (round, samples) in self.rounds.iter().enumerate() {
            for (target, sample) in TARGETS.iter().zip(samples) {
                all.push(json!({
                    "kind": "openLoop", "rate": RATE, "round": round, "target": target,
                    "p50": sample.p50, "p99": sample.p99,
                }));
            }
        }
        all
    }

    /// The rows of the table.
    pub fn table(&self) -> String {
        let mut text =
            format!("{RATE} requests/s, open loop: p50 and p99 in ms, medians of rounds\n");
        for target in TARGETS {
            let median = |value| quantile(&self.of(target, value), 0.5);
            let name = format!("{target:?}").to_lowercase();
            let _ =
                writeln!(text, "  {name:<7} {:>8.3} {:>8.3}", median(|s| s.p50), median(|s| s.p99));
        }
        let added = |value| {
            let added = self.added(value);
            let at = |share| quantile(&added, share);
            format!("{:.3} [{:.3}-{:.3}]", at(0.5), at(0.0), at(1.0))
        };
        let _ = writeln!(text, "  over direct: p50 {}, p99 {}", added(|s| s.p50), added(|s| s.p99));
        text
    }
}
