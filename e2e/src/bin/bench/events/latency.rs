//! How long it takes from publishing an event until its Function has it: warm, beside a plain
//! consumer, and from zero, beside a call.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use rouse_e2e::hollow::PATIENCE;
use rouse_e2e::http::Caller;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::function::{Arrivals, Seen};
use super::origin::{Origin, Sender as _, name};
use super::stage::{AT_ONCE, Stage, Way};

/// Time between two events of a warm Function.
const EVERY: Duration = Duration::from_millis(5);

/// Milliseconds that each of `events` took to a warm Function.
pub async fn warm<O: Origin>(
    stage: &mut Stage<O>,
    way: &Way,
    place: &str,
    events: usize,
) -> anyhow::Result<Vec<f64>> {
    let first = stage.next(0).start;
    let plain = stage.begin(way, place, first)?;
    stage.passable(place).await?;
    // Later ones find all connected.
    let numbers = stage.next(AT_ONCE);
    stage.origin.fill(place, numbers).await?;
    timeout(PATIENCE, stage.seen.reaches(AT_ONCE)).await?;
    let mut sender = stage.origin.sender().await?;
    let numbers = stage.next(events);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = Vec::new();
    for number in numbers {
        ticks.tick().await;
        sent.push((number, Instant::now()));
        sender.store(place, number).await?;
    }
    timeout(PATIENCE, stage.seen.reaches(events)).await?;
    stage.end(place, plain).await?;
    Ok(sent.into_iter().filter_map(|(number, sent)| took(&stage.seen, number, sent)).collect())
}

/// Milliseconds that a call, and an event, take to a Function that sleeps, by turns.
pub async fn from_zero<O: Origin>(
    stage: &mut Stage<O>,
    place: &str,
    starts: usize,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    stage.source.start()?;
    stage.passable(place).await?;
    let mut sender = stage.origin.sender().await?;
    let (mut calls, mut events) = (Vec::new(), Vec::new());
    for round in 0..2 * starts {
        stage.hollow.asleep(place).await?;
        let number = stage.next(1).start;
        let sent = Instant::now();
        let of = if round % 2 == 0 {
            call(stage, place, number).await?;
            &mut calls
        } else {
            sender.store(place, number).await?;
            &mut events
        };
        timeout(PATIENCE, stage.seen.reaches(1)).await?;
        of.extend(took(&stage.seen, number, sent));
    }
    stage.end(place, None).await?;
    Ok((calls, events))
}

async fn call<O: Origin>(stage: &Stage<O>, function: &str, number: usize) -> anyhow::Result<()> {
    let target = stage.target(function);
    // As the source would say it, of whichever origin.
    let data = format!("{{\"event\":\"{}\",\"size\":1}}", name(number));
    let request = Request::post(format!("http://{}/", target.address))
        .header("host", target.host)
        .body(Full::new(Bytes::from(data)))?;
    let answer = Caller::new(target.address).send(request).await?;
    anyhow::ensure!(answer.status.is_success(), "{answer:?}");
    Ok(())
}

fn took(seen: &Seen, number: usize, sent: Instant) -> Option<f64> {
    let Arrivals(arrivals) = seen.arrivals(number);
    let (first, _) = arrivals.first()?;
    Some((*first - sent).as_secs_f64() * 1000.0)
}
