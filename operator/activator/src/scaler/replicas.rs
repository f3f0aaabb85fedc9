//! The number of pods that one Deployment is told to have: what is known of it, and whether it may
//! be written now. One write at a time; pauses after failures and between corrections of what
//! others wrote. Pure: the task carries the writes out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rouse_core::function::start_failure::{Cause, StartFailure};
use tokio::time::Instant;

use crate::instances::{DeploymentRef, ScaleError, Scaled};
use crate::observe::objects::{CodeWay, DeploymentSeen};

/// First and longest pause after a write that failed.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(5));
/// First and longest pause after a write that was refused: somebody must mend something.
const REFUSED_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a Deployment that was not found is left alone, if nothing is heard of it before.
const MISSING_PAUSE: Duration = Duration::from_secs(1);
/// First and longest pause between corrections, so that two who disagree do not fight in a loop.
const CORRECTION_PAUSES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(5));

/// The replicas of one Deployment.
#[derive(Debug)]
pub struct Replicas {
    uid: Arc<str>,
    target: DeploymentRef,
    /// Whether its pods are pushed their code.
    takes_code: bool,
    /// What it is told, by the newest word: seen or acknowledged.
    known: u32,
    version: u64,
    /// What we wrote last.
    written: Option<u32>,
    in_flight: Option<u32>,
    retry: Pause,
    refused_retry: Pause,
    correction: Pause,
    refused: Option<StartFailure>,
    failure: Option<StartFailure>,
    raises: VecDeque<Raise>,
}

/// Raises that are remembered: pods come up within seconds, and so do the steps of a ramp.
const MOST_RAISES: usize = 8;

/// A write that asked for more pods.
#[derive(Clone, Copy, Debug)]
pub struct Raise {
    /// When it was sent.
    pub sent: Instant,
    /// When it was acknowledged.
    pub acknowledged: Option<Instant>,
}

/// Pauses that double.
#[derive(Debug)]
struct Pause {
    bounds: (Duration, Duration),
    next: Duration,
    until: Option<Instant>,
}

impl Pause {
    const fn new(bounds: (Duration, Duration)) -> Self {
        Self { bounds, next: bounds.0, until: None }
    }

    fn begin(&mut self, now: Instant, least: Option<Duration>) {
        self.until = Some(now + self.next.max(least.unwrap_or_default()));
        self.next = (self.next * 2).min(self.bounds.1);
    }

    const fn end(&mut self) {
        self.next = self.bounds.0;
        self.until = None;
    }

    fn over_at(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

impl Replicas {
    /// Those of a Deployment that was just seen. `spread`, around 1, keeps many Functions that fail
    /// in the same moment from trying again in the same moment.
    pub fn new(seen: &DeploymentSeen, spread: f64) -> Self {
        let spread =
            |(first, last): (Duration, Duration)| (first.mul_f64(spread), last.mul_f64(spread));
        Self {
            uid: Arc::clone(&seen.uid),
            target: DeploymentRef {
                namespace: Arc::clone(&seen.namespace),
                name: Arc::clone(&seen.name),
            },
            takes_code: seen.code == Some(CodeWay::Pushed),
            known: seen.replicas,
            version: seen.version,
            written: None,
            in_flight: None,
            retry: Pause::new(spread(RETRY_PAUSES)),
            refused_retry: Pause::new(spread(REFUSED_PAUSES)),
            correction: Pause::new(CORRECTION_PAUSES),
            refused: None,
            failure: seen.failure.clone(),
            raises: VecDeque::new(),
        }
    }

    /// Whether this is about the Deployment that is `seen`, not about a namesake that was before.
    pub fn is_of(&self, seen: &DeploymentSeen) -> bool {
        self.uid == seen.uid
    }

    /// Takes in how the Deployment was seen. What is older than our own last write is no news.
    pub fn observe(&mut self, seen: &DeploymentSeen) {
        self.failure.clone_from(&seen.failure);
        if seen.version < self.version {
            return;
        }
        if seen.version > self.version && self.refused.is_none() {
            self.retry.until = None;
        }
        self.known = seen.replicas;
        self.version = seen.version;
    }

    /// The Deployment.
    pub const fn target(&self) -> &DeploymentRef {
        &self.target
    }

    /// Whether its pods are pushed their code.
    pub const fn takes_code(&self) -> bool {
        self.takes_code
    }

    /// Pods that it is told to have.
    pub const fn known(&self) -> u32 {
        self.known
    }

    /// Whether a write is on its way.
    pub const fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The write that asked for a pod that was there from `created` on.
    pub fn raise_of(&self, created: Instant) -> Option<Raise> {
        self.raises.iter().rev().find(|raise| raise.sent <= created).copied()
    }

    /// When more pods were last asked for.
    pub fn raised_at(&self) -> Option<Instant> {
        self.raises.back().map(|raise| raise.sent)
    }

    /// Why no pod comes of it, if that is known.
    pub fn failure(&self) -> Option<&StartFailure> {
        self.refused.as_ref().or(self.failure.as_ref())
    }

    /// Whether the last write was refused.
    pub const fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether `value` shall be written now. The caller must send it if so.
    pub fn begin_write(&mut self, value: u32, now: Instant) -> bool {
        if self.in_flight.is_none() && value == self.known {
            // What was refused is no longer wished: the next wish deserves a new try.
            self.refused = None;
            self.refused_retry.end();
            return false;
        }
        if self.in_flight.is_some() || self.may_write_at(value, now) > now {
            return false;
        }
        if self.written == Some(value) {
            self.correction.begin(now, None);
        }
        if value > self.known {
            self.raises.push_back(Raise { sent: now, acknowledged: None });
            if self.raises.len() > MOST_RAISES {
                self.raises.pop_front();
            }
        }
        self.in_flight = Some(value);
        true
    }

    /// When `value` may be written, if it must wait for that; none while it stands or is on its way.
    pub fn wake_at(&self, value: u32, now: Instant) -> Option<Instant> {
        if self.in_flight.is_some() || value == self.known {
            return None;
        }
        Some(self.may_write_at(value, now)).filter(|at| *at > now)
    }

    /// Takes in what became of the write on its way.
    pub fn end_write(&mut self, result: Result<Scaled, ScaleError>, now: Instant) {
        let Some(value) = self.in_flight.take() else { return };
        match result {
            Ok(scaled) => self.acknowledge(value, scaled, now),
            Err(ScaleError::Missing) => self.retry.begin(now, Some(MISSING_PAUSE)),
            Err(ScaleError::Refused(message)) => {
                self.refused = Some(StartFailure::new(Cause::ScaleRefused, &message));
                self.refused_retry.begin(now, None);
            }
            Err(ScaleError::Unavailable { retry_after, .. }) => self.retry.begin(now, retry_after),
        }
    }

    fn acknowledge(&mut self, value: u32, scaled: Scaled, now: Instant) {
        self.written = Some(value);
        self.refused = None;
        self.retry.end();
        self.refused_retry.end();
        if scaled.version >= self.version {
            self.known = value;
            self.version = scaled.version;
        }
        if let Some(raise) = self.raises.back_mut().filter(|raise| raise.acknowledged.is_none()) {
            raise.acknowledged = Some(now);
        }
    }

    fn may_write_at(&self, value: u32, now: Instant) -> Instant {
        let correction = (self.written == Some(value)).then(|| self.correction.over_at(now));
        [self.retry.over_at(now), self.refused_retry.over_at(now), correction.flatten()]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(replicas: u32, version: u64) -> DeploymentSeen {
        DeploymentSeen {
            uid: "d".into(),
            namespace: "shop".into(),
            name: "f-r".into(),
            function_uid: "f".into(),
            revision: "r".into(),
            replicas,
            version,
            memory: 1 << 27,
            code: None,
            failure: None,
        }
    }

    fn after(seconds: f64) -> Instant {
        // The clock is paused: this is the same origin for the whole test.
        Instant::now() + Duration::from_secs_f64(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn one_write_at_a_time_and_none_that_changes_nothing() {
        let mut replicas = Replicas::new(&seen(0, 1), 1.0);
        assert!(!replicas.begin_write(0, after(0.0)));
        assert!(replicas.begin_write(1, after(0.0)));
        assert!(!replicas.begin_write(5, after(0.0)));
        replicas.end_write(Ok(Scaled { version: 2 }), after(0.1));
        assert_eq!(replicas.known(), 1);
        assert!(!replicas.begin_write(1, after(0.1)));
        assert!(replicas.begin_write(5, after(0.1)));
        assert_eq!(replicas.raised_at(), Some(after(0.1)));
        let first = replicas.raise_of(after(0.05)).unwrap();
        assert_eq!((first.sent, first.acknowledged), (after(0.0), Some(after(0.1))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seen_late_does_not_undo_what_was_written() {
        let mut replicas = Replicas::new(&seen(0, 1), 1.0);
        replicas.begin_write(3, after(0.0));
        replicas.end_write(Ok(Scaled { version: 7 }), after(0.0));
        replicas.observe(&seen(0, 4));
        assert_eq!(replicas.known(), 3);
        replicas.observe(&seen(9, 8));
        assert_eq!(replicas.known(), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_make_pauses_that_grow_and_an_answer_ends_them() {
        let unavailable =
            |retry_after| Err(ScaleError::Unavailable { message: "no".into(), retry_after });
        let mut replicas = Replicas::new(&seen(0, 1), 1.0);
        replicas.begin_write(1, after(0.0));
        replicas.end_write(unavailable(None), after(0.0));
        assert!(!replicas.begin_write(1, after(0.024)));
        assert_eq!(replicas.wake_at(1, after(0.0)), Some(after(0.025)));
        assert!(replicas.begin_write(1, after(0.025)));
        replicas.end_write(unavailable(None), after(0.025));
        assert_eq!(replicas.wake_at(1, after(0.025)), Some(after(0.075)));
        assert!(replicas.begin_write(1, after(0.075)));
        replicas.end_write(unavailable(Some(Duration::from_secs(9))), after(0.1));
        assert_eq!(replicas.wake_at(1, after(0.1)), Some(after(9.1)));
        assert!(replicas.begin_write(1, after(9.1)));
        replicas.end_write(Ok(Scaled { version: 2 }), after(9.1));
        assert!(replicas.begin_write(2, after(9.1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_deployment_is_tried_again_when_it_is_heard_of() {
        let mut replicas = Replicas::new(&seen(0, 1), 1.0);
        replicas.begin_write(1, after(0.0));
        replicas.end_write(Err(ScaleError::Missing), after(0.0));
        assert!(!replicas.begin_write(1, after(0.5)));
        replicas.observe(&seen(0, 2));
        assert!(replicas.begin_write(1, after(0.5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_a_failure_until_a_write_goes_through() {
        let mut replicas = Replicas::new(&seen(0, 1), 1.0);
        replicas.begin_write(1, after(0.0));
        replicas.end_write(Err(ScaleError::Refused("not yours".into())), after(0.0));
        assert_eq!(replicas.failure().unwrap().cause, Cause::ScaleRefused);
        assert!(!replicas.begin_write(1, after(0.9)));
        assert!(replicas.begin_write(1, after(1.0)));
        replicas.end_write(Ok(Scaled { version: 2 }), after(1.0));
        assert!(replicas.failure().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_write_is_put_right_once_and_then_with_patience() {
        let mut replicas = Replicas::new(&seen(0, 1), 1.0);
        replicas.begin_write(2, after(0.0));
        replicas.end_write(Ok(Scaled { version: 2 }), after(0.0));
        replicas.observe(&seen(7, 3));
        assert!(replicas.begin_write(2, after(1.0)), "the first time at once");
        replicas.end_write(Ok(Scaled { version: 4 }), after(1.0));
        replicas.observe(&seen(7, 5));
        assert!(!replicas.begin_write(2, after(2.0)));
        assert_eq!(replicas.wake_at(2, after(2.0)), Some(after(11.0)));
        assert!(replicas.begin_write(4, after(2.0)), "another wish need not wait");
    }
}
