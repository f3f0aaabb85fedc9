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

impl Way {
    /// Starts what brings the events of `stream`. A plain consumer lives as long as what this returns.
    pub fn start(&self, stage: &mut Stage, stream: &str) -> anyhow::Result<Option<Consumer>> {
        match self {
            Self::Rouse => stage.source.start().map(|()| None),
            Self::Plain(target) => {
                let context = stage.context.clone();
                Ok(Some(Consumer::start(context, stream, target.clone(), AT_ONCE)))
            }
        }
    }

    /// Waits until all of `stream` is acknowledged, and ends what was started.
    pub async fn end(
        &self,
        stage: &mut Stage,
        stream: &str,
        plain: Option<Consumer>,
    ) -> anyhow::Result<()> {
        let name = match self {
            Self::Rouse => CONSUMER,
            Self::Plain(_) => consumer::NAME,
        };
        stage.acknowledged(stream, name).await?;
        stage.source.kill().await?;
        drop(plain);
        Ok(())
    }
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
    let (mut most, mut looks) = (0, interval(Duration::from_millis(100)));
    let plain = way.start(stage, stream)?;
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
    way.end(stage, stream, plain).await?;
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
