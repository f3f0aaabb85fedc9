//! One waking of a Function, phase by phase. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rouse_crds::v1alpha1::Activation;
use tokio::time::Instant;

use crate::admission::ActivationMark;
use crate::pod::Start;

/// What one moment is on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The monotonic one.
    pub instant: Instant,
    /// That of the wall.
    pub wall: Timestamp,
}

impl Clocks {
    /// Both clocks now.
    pub fn now() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }

    /// The wall's time of a moment in the past.
    pub fn wall_of(&self, past: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(self.instant.saturating_duration_since(past));
        ago.ok().and_then(|ago| self.wall.checked_sub(ago).ok()).unwrap_or(self.wall)
    }
}

/// The waking that `mark` ended, by the pod of `revision` that came up as `start`. None while no
/// answer went back, and where the pod was up before the request came: it was then only opened
/// again.
pub fn build_activation(
    mark: &ActivationMark,
    revision: &str,
    start: &Start,
    clocks: &Clocks,
) -> Option<Activation> {
    let first_byte = mark.first_byte?;
    start.listening.filter(|listening| *listening >= mark.arrived)?;
    let millis =
        |at: Option<Instant>| at.map(|at| to_millis(at.saturating_duration_since(mark.arrived)));
    Some(Activation {
        requested_at: Time(clocks.wall_of(mark.arrived)),
        revision: revision.to_owned(),
        scaled_millis: millis(start.scaled),
        created_millis: millis(start.created),
        scheduled_millis: millis(start.scheduled),
        addressed_millis: millis(start.addressed),
        listening_millis: millis(start.listening),
        first_byte_millis: millis(Some(first_byte)),
    })
}

fn to_millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn phases_count_from_the_request() {
        let arrived = Instant::now();
        let after = |millis| arrived + Duration::from_millis(millis);
        let start = Start {
            scaled: Some(after(7)),
            created: Some(after(12)),
            scheduled: None,
            addressed: Some(after(290)),
            listening: Some(after(301)),
        };
        let clocks = Clocks { instant: after(1000), wall: Timestamp::from_second(100).unwrap() };
        let mark = ActivationMark { arrived, first_byte: Some(after(303)), caller: None };
        let activation = build_activation(&mark, "r", &start, &clocks).unwrap();
        assert_eq!(activation.requested_at.0, Timestamp::from_second(99).unwrap());
        assert_eq!(activation.scaled_millis, Some(7));
        assert_eq!(activation.scheduled_millis, None);
        assert_eq!(activation.first_byte_millis, Some(303));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_was_up_before_was_not_woken() {
        let up = Instant::now();
        let arrived = up + Duration::from_secs(9);
        let start = Start { listening: Some(up), ..Start::default() };
        let clocks = Clocks { instant: arrived, wall: Timestamp::UNIX_EPOCH };
        let mark = ActivationMark { arrived, first_byte: Some(arrived), caller: None };
        assert_eq!(build_activation(&mark, "r", &start, &clocks), None);
        let waiting = ActivationMark { arrived: up, first_byte: None, caller: None };
        assert_eq!(build_activation(&waiting, "r", &start, &clocks), None);
    }
}
