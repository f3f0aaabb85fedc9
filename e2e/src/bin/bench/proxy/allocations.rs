//! Allocations of a request that is passed on, by an activator that counts them: the same program,
//! built with the feature `count-allocations`.

use anyhow::Context;
use rouse_e2e::hollow::activator::Activator;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::pair::hosts_by_owner;
use super::stage::{Stage, answered};
use super::upstream::read_small;
use crate::report::{Bar, Report};

/// Requests of each kind.
const REQUESTS: u32 = 5000;
/// How often they are counted.
const REPEATS: u32 = 5;
/// Program that counts.
const COUNTING: &str = "rouse-counting";
/// What a request may take: what it took when this was written, and a little.
const BUDGETS: &[(&str, usize, f64)] = &[("GET small", 0, 22.0), ("POST 16 KiB", 16 * 1024, 24.0)];

/// Measures with an activator of its own, on Functions that it owns.
pub async fn measure(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let program = stage.hollow.programs().get(COUNTING)?;
    let activator = stage.hollow.start_activator_of(&program).await?;
    let (own, _) = hosts_by_owner(stage, &activator, &stage.functions, 2).await?;
    let host = own.first().context("the activator that counts owns nothing")?;
    answered(activator.http, std::slice::from_ref(host)).await?;
    for &(name, body, budget) in BUDGETS {
        let mut connection = TcpStream::connect(activator.http).await?;
        // What comes only once is not a request's.
        send(&mut connection, host, body, REQUESTS / 10).await?;
        // The rest of the process allocates too, now and then: the least is nearest to the truth.
        let mut each = f64::INFINITY;
        for _ in 0..REPEATS {
            let before = count(&activator).await?;
            send(&mut connection, host, body, REQUESTS).await?;
            let after = count(&activator).await?;
            each = each.min((after - before) / f64::from(REQUESTS));
        }
        report.say(&format!("{name}: {each:.1} allocations for each request"));
        report.runs.push(json!({"kind": "allocations", "load": name, "each": each}));
        let name = format!("{name}: allocations of a proxied request");
        report.bars.push(Bar::at_most(name, each, budget, "allocations"));
    }
    activator.retire().await
}

async fn count(activator: &Activator) -> anyhow::Result<f64> {
    Ok(activator.metrics().await?.sum("rouse_allocations_total", &[]))
}

async fn send(
    connection: &mut TcpStream,
    host: &str,
    body: usize,
    requests: u32,
) -> anyhow::Result<()> {
    let method = if body > 0 { "POST" } else { "GET" };
    let mut request =
        format!("{method} / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {body}\r\n\r\n");
    if body == 0 {
        request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    }
    let request = [request.into_bytes(), vec![b'x'; body]].concat();
    let mut answer = Vec::new();
    for _ in 0..requests {
        connection.write_all(&request).await?;
        read_small(connection, &mut answer).await?;
    }
    Ok(())
}
