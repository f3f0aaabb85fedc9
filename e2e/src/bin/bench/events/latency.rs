//! How long it takes from publishing an event until its Function has it: warm, beside a plain
//! consumer, and from zero, beside a call.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rouse_e2e::hollow::PATIENCE;
use rouse_e2e::http::Caller;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::stage::{AT_ONCE, Stage, body};
use super::throughput::Way;

/// Time between two events of a warm Function.
const EVERY: Duration = Duration::from_millis(5);

/// Milliseconds that each of `events` took to a warm Function.
pub async fn warm(
    stage: &mut Stage,
    way: &Way,
    stream: &str,
    events: usize,
) -> anyhow::Result<Vec<f64>> {
    stage.seen.clear();
    let plain = way.start(stage, stream)?;
    // The first ones find all connected.
    stage.fill(stream, 0..AT_ONCE).await?;
    timeout(PATIENCE, stage.seen.reaches(AT_ONCE)).await?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = Vec::new();
    for number in AT_ONCE..AT_ONCE + events {
        ticks.tick().await;
        sent.push((number, Instant::now()));
        drop(stage.context.publish(format!("{stream}.a"), body(number).into()).await?);
    }
    timeout(PATIENCE, stage.seen.reaches(AT_ONCE + events)).await?;
    way.end(stage, stream, plain).await?;
    Ok(sent.into_iter().filter_map(|(number, sent)| took(stage, number, sent)).collect())
}

/// Milliseconds that a call, and an event, take to a Function that sleeps, by turns.
pub async fn from_zero(
    stage: &mut Stage,
    (stream, function): (&str, &str),
    starts: usize,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    stage.seen.clear();
    stage.source.start()?;
    let (mut calls, mut events) = (Vec::new(), Vec::new());
    for number in 0..2 * starts {
        stage.asleep(function).await?;
        let sent = Instant::now();
        let of = if number % 2 == 0 {
            call(stage, function, number).await?;
            &mut calls
        } else {
            drop(stage.context.publish(format!("{stream}.a"), body(number).into()).await?);
            &mut events
        };
        timeout(PATIENCE, stage.seen.reaches(number + 1)).await?;
        of.extend(took(stage, number, sent));
    }
    stage.source.kill().await?;
    Ok((calls, events))
}

async fn call(stage: &Stage, function: &str, number: usize) -> anyhow::Result<()> {
    let target = stage.target(function);
    let request = Request::post(format!("http://{}/", target.address))
        .header("host", target.host)
        .header("ce-id", number)
        .body(Full::new(Bytes::from(body(number))))?;
    let answer = Caller::new(target.address).send(request).await?;
    anyhow::ensure!(answer.status.is_success(), "{answer:?}");
    Ok(())
}

fn took(stage: &Stage, number: usize, sent: Instant) -> Option<f64> {
    let arrivals = stage.seen.arrivals(&body(number));
    let (first, _) = arrivals.0.first()?;
    Some((*first - sent).as_secs_f64() * 1000.0)
}
