//! How many events a second come through, beside a plain consumer, by turns in one run.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use rouse_e2e::hollow::PATIENCE;
use serde::Serialize;
use tokio::time::{Instant, interval, timeout};

use super::origin::Origin;
use super::stage::{Stage, Way};
use crate::report::mebibytes;

/// How often the source's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What one run gave.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Events a second, from a tenth of them on; of those that are stored meanwhile, from when that began.
    pub per_second: f64,
    /// The most memory that the source held, in MiB; 0 where it did not run.
    pub resident_mib: f64,
}

/// Lets `events` through, which wait where they can, and counts from when a tenth of them is there,
/// so that starting is not measured. Where they are stored meanwhile all has started before, and what
/// storing them takes is a part of the measure, the same for all.
pub async fn measure<O: Origin>(
    stage: &mut Stage<O>,
    way: &Way,
    place: &str,
    events: usize,
) -> anyhow::Result<Sample> {
    let mut numbers = stage.next(events);
    if O::WAIT {
        stage.origin.fill(place, numbers.clone()).await?;
    }
    let began = Timestamp::now();
    let plain = stage.begin(way, place, numbers.start)?;
    if !O::WAIT {
        stage.passable(place).await?;
        if matches!(way, Way::Rouse) {
            stage.gone_through(place, began).await?;
        }
        numbers = stage.next(events);
    }
    let storing = Instant::now();
    let most = pass(stage, way, (place, numbers)).await?;
    let firsts = stage.seen.firsts();
    stage.end(place, plain).await?;
    // A server that is slow to tell while much is stored, and tells the rest in a rush, is not faster.
    let (from, counted) = if O::WAIT {
        (firsts.get(events / 10).copied(), events - events / 10)
    } else {
        (Some(storing), events)
    };
    let took = firsts.last().zip(from).map_or(Duration::ZERO, |(until, from)| *until - from);
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let sample =
        Sample { per_second: counted as f64 / took.as_secs_f64(), resident_mib: mebibytes(most) };
    Ok(sample)
}

/// Waits until these events have come, which are stored meanwhile where they don't wait; gives the most
/// bytes that the source held.
async fn pass<O: Origin>(
    stage: &mut Stage<O>,
    way: &Way,
    (place, numbers): (&str, Range<usize>),
) -> anyhow::Result<u64> {
    let Stage { source, origin, seen, .. } = stage;
    let events = numbers.len();
    let all = async {
        if !O::WAIT {
            origin.fill(place, numbers).await?;
        }
        let all = timeout(PATIENCE, seen.reaches(events)).await;
        all.map_err(|_| anyhow::anyhow!("{way:?}: {} of {events} came", seen.count()))
    };
    tokio::pin!(all);
    let (mut most, mut looks) = (0, interval(LOOK));
    loop {
        tokio::select! {
            all = &mut all => return all.map(|()| most),
            _ = looks.tick(), if matches!(way, Way::Rouse) => {
                source.check()?;
                most = most.max(source.figures()?.resident);
            }
        }
    }
}
