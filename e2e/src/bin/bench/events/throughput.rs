//! How many events a second come through, beside a plain consumer, by turns in one run.

use std::time::Duration;

use rouse_e2e::hollow::PATIENCE;
use serde::Serialize;
use tokio::time::{interval, timeout};

use super::consumer::{self, Consumer, Target};
use super::stage::{AT_ONCE, CONSUMER, Stage};

/// Who brings the events.
#[derive(Clone, Debug)]
pub enum Way {
    /// `rouse source`.
    Rouse,
    /// A plain consumer, which posts there.
    Plain(Target),
}

/// What one run gave.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Events a second, from a tenth of them on.
    pub per_second: f64,
    /// The most memory that the source held, in MiB; 0 where it did not run.
    pub resident_mib: f64,
}

/// Lets `events` through that wait in the stream, and counts from when a tenth of them is there, so
/// that starting is not measured.
pub async fn measure(
    stage: &mut Stage,
    way: &Way,
    stream: &str,
    events: usize,
) -> anyhow::Result<Sample> {
    stage.seen.clear();
    stage.fill(stream, 0..events).await?;
    let seen = stage.seen.clone();
    let all = timeout(PATIENCE, seen.reaches(events));
    let (mut most, mut plain, mut looks) = (0, None, interval(Duration::from_millis(100)));
    match way {
        Way::Rouse => stage.source.start()?,
        Way::Plain(target) => {
            let context = stage.context.clone();
            plain = Some(Consumer::start(context, stream, target.clone(), AT_ONCE));
        }
    }
    tokio::pin!(all);
    loop {
        tokio::select! {
            all = &mut all => {
                all.map_err(|_| anyhow::anyhow!("{way:?}: {} of {events} came", seen.count()))?;
                break;
            }
            _ = looks.tick() => {
                if matches!(way, Way::Rouse) {
                    stage.source.check()?;
                    most = most.max(stage.source.figures()?.resident);
                }
            }
        }
    }
    let consumer = if plain.is_some() { consumer::NAME } else { CONSUMER };
    stage.acknowledged(stream, consumer).await?;
    stage.source.kill().await?;
    drop(plain);
    let firsts = seen.firsts();
    let (from, until) = (firsts.get(events / 10), firsts.last());
    let took = until.zip(from).map_or(Duration::ZERO, |(until, from)| *until - *from);
    #[allow(clippy::cast_precision_loss, reason = "a few thousand, and bytes of a process")]
    let sample = Sample {
        per_second: (events - events / 10) as f64 / took.as_secs_f64(),
        resident_mib: most as f64 / f64::from(1 << 20),
    };
    Ok(sample)
}
