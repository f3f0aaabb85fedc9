//! wrk as the load: a fixed number of connections, each with one request after the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rouse_e2e::hollow::Hollow;
use rouse_e2e::hollow::process::bound_command;
use serde::Deserialize;
use tokio::time::timeout;

const SCRIPT: &str = include_str!("../../../../bench/wrk.lua");
/// How long it may take beyond its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Method.
    pub method: &'static str,
    /// Path.
    pub path: &'static str,
    /// Bytes of the body.
    pub body: usize,
}

/// What wrk tells in the end. Times are in microseconds.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// Answers that were read.
    pub requests: u64,
    /// How long it ran.
    pub micros: u64,
    /// Median.
    pub p50: u64,
    /// 99th of a hundred.
    pub p99: u64,
    connect: u64,
    read: u64,
    write: u64,
    status: u64,
    timeout: u64,
}

impl Told {
    /// Requests that failed, in any way.
    pub const fn failures(&self) -> u64 {
        self.connect + self.read + self.write + self.status + self.timeout
    }
}

/// The program and its script.
#[derive(Clone, Debug)]
pub struct Wrk {
    program: PathBuf,
    script: PathBuf,
}

impl Wrk {
    /// Writes the script into the run's folder.
    pub fn new(hollow: &Hollow) -> anyhow::Result<Self> {
        let script = hollow.folder().join("wrk.lua");
        std::fs::write(&script, SCRIPT)?;
        Ok(Self { program: hollow.programs().get("wrk")?, script })
    }

    /// Loads `target` for `duration` and waits for the end.
    pub async fn run(
        &self,
        target: SocketAddr,
        (request, hosts): (Request, &[String]),
        connections: usize,
        duration: Duration,
    ) -> anyhow::Result<Told> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        let mut command = bound_command(&self.program);
        command
            .arg(format!("--threads={threads}"))
            .arg(format!("--connections={connections}"))
            .arg(format!("--duration={}s", duration.as_secs().max(1)))
            .arg("--timeout=10s")
            .arg("--script")
            .arg(&self.script)
            .arg(format!("http://{target}/"))
            .args(["--", request.method, request.path, &request.body.to_string()])
            .args(hosts)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = timeout(duration + PATIENCE, command.output())
            .await
            .context("wrk does not end")?
            .context("starting wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = || {
            let error = String::from_utf8_lossy(&output.stderr);
            format!("wrk against {target} ({}): {text}{error}", output.status)
        };
        let line = text.lines().rev().find(|line| line.starts_with('{')).with_context(said)?;
        serde_json::from_str(line).with_context(said)
    }
}
