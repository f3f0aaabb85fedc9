//! What the activator holds: connections that stand idle, and requests that wait with their bodies.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use rouse_e2e::hollow::activator::Activator;
use rouse_e2e::hollow::process::Figures;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use super::stage::Stage;
use super::upstream::read_small;
use crate::report::{Bar, Report};

/// Idle connections.
const IDLE: usize = 10_000;
/// Memory that each may take, in KiB.
const IDLE_LIMIT: f64 = 13.0;
/// Connections that are opened at once.
const AT_ONCE: usize = 64;
/// Waiting requests, and the bytes of each one's body.
const WAITING: u32 = 1000;
const BODY: usize = 1 << 20;
/// Memory that they may take together, in MiB.
const WAITING_LIMIT: f64 = 32.0;
/// A Function whose pods the node keeps from starting.
const HELD: &str = "held-bodies";
/// How long each step may take.
const PATIENCE: Duration = Duration::from_mins(3);
/// Until memory that is no longer used is given back, and tasks have come to rest.
const REST: Duration = Duration::from_secs(2);

/// Measures idle connections of an activator that nobody has called, and of nginx.
pub async fn measure_idle(
    stage: &Stage,
    activator: &Activator,
    report: &mut Report,
) -> anyhow::Result<()> {
    // Two ports: each takes a part of what the process may have open.
    let rouse = idle(stage, &[activator.http, activator.public], || activator.figures()).await?;
    let nginx = idle(stage, &[stage.nginx.address], || stage.nginx.figures()).await?;
    report.say(&format!(
        "{IDLE} idle keep-alive connections: rouse {rouse:.1} KiB each, nginx {nginx:.1} KiB each"
    ));
    report.runs.push(json!({
        "kind": "idle", "connections": IDLE, "rouseKib": rouse, "nginxKib": nginx,
    }));
    let name = format!("{IDLE} idle keep-alive connections: memory of each");
    report.bars.push(Bar::at_most(name, rouse, IDLE_LIMIT, "KiB"));
    Ok(())
}

/// Memory of each connection, in KiB.
#[allow(clippy::cast_precision_loss, reason = "bytes of memory are below 2^52")]
async fn idle(
    stage: &Stage,
    targets: &[SocketAddr],
    figures: impl Fn() -> anyhow::Result<Figures>,
) -> anyhow::Result<f64> {
    // What is made once, such as the connections to the pods, is no connection's.
    drop(open_all(stage, targets, AT_ONCE * 2).await?);
    sleep(REST).await;
    let before = figures()?.resident;
    let opened = timeout(PATIENCE, open_all(stage, targets, IDLE)).await;
    let mut connections = opened.context("opening the idle connections")??;
    sleep(REST).await;
    let after = figures()?.resident;
    // All of them must still be there.
    for connection in &mut connections {
        let mut byte = [0];
        match connection.try_read(&mut byte) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            read => anyhow::bail!("a connection did not stay open: {read:?}"),
        }
    }
    Ok(after.saturating_sub(before) as f64 / 1024.0 / connections.len() as f64)
}

/// Opens connections, each with one request answered on it.
async fn open_all(
    stage: &Stage,
    targets: &[SocketAddr],
    count: usize,
) -> anyhow::Result<Vec<TcpStream>> {
    stream::iter(0..count)
        .map(|i| {
            let host = &stage.called[i % stage.called.len()];
            let target = targets[i % targets.len()];
            async move {
                let mut stream = TcpStream::connect(target).await?;
                let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
                stream.write_all(request.as_bytes()).await?;
                read_small(&mut stream, &mut Vec::new()).await?;
                anyhow::Ok(stream)
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Measures requests with large bodies that wait for a pod, and sees that all are answered.
#[allow(clippy::cast_precision_loss, reason = "bytes of memory are below 2^52")]
pub async fn measure_waiting(
    stage: &Stage,
    activator: &Activator,
    report: &mut Report,
) -> anyhow::Result<()> {
    let spec = json!({
        "image": "hollow", "concurrency": {"target": 10_000}, "scaling": {"max": 1},
        "timeouts": {"activation": "10m"}, "buffer": {"requests": 2 * WAITING},
    });
    stage.hollow.apply_function(HELD, spec).await?;
    stage.hollow.known(HELD).await?;
    sleep(REST).await;
    let before = activator.figures()?.resident;
    let host = format!("{HELD}.{}", rouse_e2e::hollow::NAMESPACE);
    let mut callers = JoinSet::new();
    for _ in 0..WAITING {
        callers.spawn(post(activator.http, host.clone()));
    }
    queued(activator, &mut callers).await?;
    sleep(REST).await;
    let after = activator.figures()?.resident;
    stage.node.release();
    let answering = async {
        while let Some(answered) = callers.join_next().await {
            answered??;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, answering).await.context("waiting requests stay without an answer")??;
    let grown = after.saturating_sub(before) as f64 / f64::from(1 << 20);
    report.say(&format!(
        "{WAITING} waiting requests with bodies of 1 MiB: {grown:.1} MiB, all answered after"
    ));
    report.runs.push(json!({"kind": "waiting", "requests": WAITING, "body": BODY, "mib": grown}));
    let name = format!("{WAITING} waiting requests with bodies of 1 MiB: growth of memory");
    report.bars.push(Bar::at_most(name, grown, WAITING_LIMIT, "MiB"));
    Ok(())
}

async fn post(target: SocketAddr, host: String) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(target).await?;
    let head = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {BODY}\r\n\r\n");
    let (mut read, mut write) = stream.split();
    let sending = async {
        write.write_all(head.as_bytes()).await?;
        let piece = [b'x'; 8192];
        for _ in 0..BODY / piece.len() {
            write.write_all(&piece).await?;
        }
        anyhow::Ok(())
    };
    let mut answer = Vec::new();
    tokio::try_join!(sending, read_small(&mut read, &mut answer))?;
    Ok(())
}

/// Waits until all of them wait in the activator.
async fn queued(
    activator: &Activator,
    callers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut pauses = interval(Duration::from_millis(100));
    let queueing = async {
        while activator.metrics().await?.sum("rouse_requests_queued", &[]) < f64::from(WAITING) {
            if let Some(ended) = callers.try_join_next() {
                anyhow::bail!("a request did not wait: {ended:?}");
            }
            pauses.tick().await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, queueing).await.context("the requests do not all wait")?
}
