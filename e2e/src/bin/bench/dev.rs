//! `rouse dev` over the Python sample: how soon it answers after its start, what it adds to a cold start
//! beside the program's own, in turns, and what it holds of memory when nobody calls.

use std::ffi::{OsStr, OsString};
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use rouse_e2e::hollow::process::Figures;
use rouse_e2e::http::Caller;
use rouse_e2e::process::free_port;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::report::{Bar, Report, Row, distributions, mebibytes, quantile};

/// From the start of the program to its first answer, in milliseconds.
const FIRST: f64 = 1000.0;
/// What a cold start may take beyond the program's own, in milliseconds.
const ADDED: f64 = 10.0;
/// What it may hold when nobody calls, in MiB.
const MEMORY: f64 = 25.0;

const SAMPLE: &str = include_str!("../../../../manifests/samples/hello-python.yaml");
const HOST: &str = "hello-python.default.localhost";
/// How often somebody who waits asks again.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long without a call its memory is that of a process that rests.
const REST: Duration = Duration::from_secs(5);

/// Arguments of `bench dev`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Starts of the program
    #[arg(long, default_value_t = 7)]
    starts: usize,
    /// Wakings, and starts of the program of the Function by itself
    #[arg(long, default_value_t = 20)]
    wakings: usize,
}

/// Runs the benchmark.
pub async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let folder = std::env::temp_dir().join(format!("rouse-bench-dev-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = measure(arguments, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn measure(arguments: &Arguments, folder: &Path) -> anyhow::Result<Report> {
    let rouse = std::env::var_os("ROUSE_BENCH_ROUSE").map(PathBuf::from);
    let rouse =
        rouse.context("ROUSE_BENCH_ROUSE must name a program; `cargo xtask bench` sets it")?;
    // It sleeps sooner than the sample, or the benchmark would wait for minutes.
    let sample = SAMPLE.replace("after: 10s", "after: 1s").replace("Window: 10s", "Window: 1s");
    std::fs::write(folder.join("hello.yaml"), &sample)?;
    let app = code_of(&sample)?;
    std::fs::write(folder.join("app.txt"), app)?;
    let path = &path_of_python().await?;
    let mut report = Report::new("dev");
    let mut first = Row { name: "start of `rouse dev` to its first answer".into(), millis: vec![] };
    for _ in 0..arguments.starts {
        let (dev, took) = Dev::start(&rouse, folder, path).await?;
        first.millis.push(took.as_secs_f64() * 1000.0);
        dev.end().await?;
    }
    let (dev, _) = Dev::start(&rouse, folder, path).await?;
    let mut own = Row { name: "the program by itself".into(), millis: vec![] };
    let mut woken = Row { name: "a request that wakes it".into(), millis: vec![] };
    for _ in 0..arguments.wakings {
        dev.asleep().await?;
        own.millis.push(start_alone(folder, path).await?.as_secs_f64() * 1000.0);
        let began = Instant::now();
        dev.ask().await?;
        woken.millis.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    dev.asleep().await?;
    sleep(REST).await;
    let memory = dev.memory()?;
    dev.end().await?;
    let at = |row: &Row| quantile(&row.millis, 0.5);
    let bars = [
        ("first answer after the start", at(&first), FIRST, "ms"),
        ("added to a cold start", at(&woken) - at(&own), ADDED, "ms"),
        ("memory when nobody calls", memory, MEMORY, "MiB"),
    ];
    for (name, value, limit, unit) in bars {
        report.bars.push(Bar::at_most(name, value, limit, unit));
    }
    for row in [&first, &own, &woken] {
        report.runs.push(json!({"what": row.name, "millis": row.millis}));
    }
    report.say(&distributions(&[first, own, woken]));
    Ok(report)
}

/// The program that stands in the sample.
fn code_of(sample: &str) -> anyhow::Result<String> {
    let function: Value = serde_saphyr::from_str(sample)?;
    let code = function.pointer("/spec/source/files/app.py").and_then(Value::as_str);
    Ok(code.context("the sample has an app.py")?.to_owned())
}

/// Where programs are found, with Python before all. What is found by that name may be a script that
/// looks for it, takes five times as long as it, and now this long, now that.
async fn path_of_python() -> anyhow::Result<OsString> {
    let mut python = Command::new("python3");
    python.args(["-c", "import os, sys; print(os.path.dirname(sys.executable))"]);
    let told = python.output().await.context("starting python3")?;
    ensure!(told.status.success(), "python3 does not say where it is");
    let folder = PathBuf::from(String::from_utf8(told.stdout)?.trim_end());
    let before = std::env::var_os("PATH").unwrap_or_default();
    let all = iter::once(folder).chain(std::env::split_paths(&before));
    Ok(std::env::join_paths(all)?)
}

/// Starts the program of the Function by itself; how long it took to answer.
async fn start_alone(folder: &Path, path: &OsStr) -> anyhow::Result<Duration> {
    let port = free_port(Ipv4Addr::LOCALHOST)?;
    let began = Instant::now();
    let mut child = Command::new("python3")
        .arg("app.txt")
        .current_dir(folder)
        .env("PORT", port.to_string())
        .env("PATH", path)
        .kill_on_drop(true)
        .spawn()
        .context("starting python3")?;
    answer(port, HOST).await?;
    let took = began.elapsed();
    child.kill().await?;
    Ok(took)
}

/// Waits until somebody answers well at `port`.
async fn answer(port: u16, host: &str) -> anyhow::Result<()> {
    let caller = Caller::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let asking = async {
        while !matches!(caller.get(host, "/").await, Ok(answer) if answer.status == 200) {
            sleep(ASK_EVERY).await;
        }
    };
    timeout(PATIENCE, asking).await.context("nobody answers")
}

/// A running `rouse dev`.
struct Dev {
    child: Child,
    id: u32,
    port: u16,
}

impl Dev {
    /// Starts it; how long it took to its first answer.
    async fn start(rouse: &Path, folder: &Path, path: &OsStr) -> anyhow::Result<(Self, Duration)> {
        let port = free_port(Ipv4Addr::LOCALHOST)?;
        let began = Instant::now();
        let child = Command::new(rouse)
            .arg("dev")
            .arg(folder)
            .args(["--port", &port.to_string()])
            .env("PATH", path)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting `rouse dev`")?;
        let id = child.id().context("it ended at once")?;
        let dev = Self { child, id, port };
        answer(port, HOST).await?;
        Ok((dev, began.elapsed()))
    }

    async fn ask(&self) -> anyhow::Result<()> {
        let caller = Caller::new(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        let answer = caller.get(HOST, "/").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    /// Waits until it has no child.
    async fn asleep(&self) -> anyhow::Result<()> {
        let asleep = async {
            while !children_of(self.id).is_empty() {
                sleep(ASK_EVERY * 20).await;
            }
        };
        timeout(PATIENCE, asleep).await.context("it does not fall asleep")
    }

    /// What it holds, in MiB.
    fn memory(&self) -> anyhow::Result<f64> {
        Ok(mebibytes(Figures::of(i32::try_from(self.id)?)?.resident))
    }

    async fn end(mut self) -> anyhow::Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.id)?).context("a process has a number")?;
        kill_process(pid, Signal::INT)?;
        let ended = timeout(PATIENCE, self.child.wait()).await.context("it does not end")??;
        ensure!(ended.success(), "it ended badly: {ended}");
        Ok(())
    }
}

fn children_of(id: u32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let children = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let all = children.filter_map(Result::ok);
    all.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}
