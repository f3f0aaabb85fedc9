//! How far a pod can be trusted, by what became of the requests that were sent to it. Pure.
//!
//! A pod that fails is *suspect*: it gets one request at a time, after a pause. Where others can do
//! its work it is *ejected*: the pauses are long. A request that it answers ends both.

use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause of a suspect pod that is needed: short, since it may be starting anew,
/// and yet so long that it is not flooded with connections.
const NEEDED_PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));

/// First and longest pause of an ejected pod.
const EJECTIONS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// After as many answers in a row that broke off before they began a pod is suspect. A single one
/// may be the request's own fault.
const MOST_BROKEN: u32 = 3;

/// What went wrong with a request that was sent to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection could be made: the request was not sent.
    Unreached,
    /// The connection broke before the answer began.
    Broken,
}

/// What is known of a pod's health.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    /// Connections in a row that could not be made.
    unreached: u32,
    /// Answers in a row that broke off before they began.
    broken: u32,
    suspicion: Option<Suspicion>,
}

/// A pod under suspicion.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    since: Instant,
    /// How often in a row it was found failing.
    findings: u32,
    /// How often in a row it was ejected.
    ejections: u32,
    ejected: bool,
    again_at: Instant,
    /// A request is trying it.
    trying: bool,
}

/// What the task of the Function is told of a pod that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when, without an answer in between.
    pub since: Instant,
    /// How often in a row it was ejected.
    pub ejections: u32,
}

impl Health {
    /// Whether it gets as many requests as it may have.
    pub const fn is_sound(&self) -> bool {
        self.suspicion.is_none()
    }

    /// Whether connections to it can be made, as far as is known.
    pub const fn is_reachable(&self) -> bool {
        self.unreached == 0
    }

    /// Whether it is passed over for longer since others do its work.
    pub fn is_ejected(&self) -> bool {
        self.suspicion.is_some_and(|suspicion| suspicion.ejected)
    }

    /// What is to be told of it.
    pub fn failing(&self) -> Option<Failing> {
        let Suspicion { since, ejections, .. } = self.suspicion?;
        Some(Failing { since, ejections })
    }

    /// When a request may try it; none while one does, and where it is sound.
    pub fn again_at(&self) -> Option<Instant> {
        self.suspicion.filter(|suspicion| !suspicion.trying).map(|suspicion| suspicion.again_at)
    }

    /// Notes that a request is sent to it; answers whether that is a trial.
    pub const fn begin(&mut self) -> bool {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.trying = true;
        }
        self.suspicion.is_some()
    }

    /// Notes that a trial is over, whatever came of it.
    pub const fn end_trial(&mut self) {
        if let Some(suspicion) = &mut self.suspicion {
            suspicion.trying = false;
        }
    }

    /// Notes a fault. Answers whether it is, or stays, suspect for that, so that
    /// [`Health::suspect`] is due. What is left from before it was suspect tells nothing new.
    pub const fn note_fault(&mut self, fault: Fault, trial: bool) -> bool {
        if self.suspicion.is_some() && !trial {
            return false;
        }
        match fault {
            Fault::Unreached => self.unreached = self.unreached.saturating_add(1),
            Fault::Broken => self.broken = self.broken.saturating_add(1),
        }
        self.unreached > 0 || self.broken >= MOST_BROKEN
    }

    /// Begins a pause; a long one where others can do its work.
    pub fn suspect(&mut self, eject: bool, now: Instant) {
        let mut suspicion = self.suspicion.unwrap_or(Suspicion {
            since: now,
            findings: 0,
            ejections: 0,
            ejected: false,
            again_at: now,
            trying: false,
        });
        let pause = if eject {
            suspicion.ejections = suspicion.ejections.saturating_add(1);
            nth(EJECTIONS, suspicion.ejections)
        } else {
            suspicion.findings = suspicion.findings.saturating_add(1);
            nth(NEEDED_PAUSES, suspicion.findings)
        };
        suspicion.ejected = eject;
        suspicion.again_at = now + pause;
        suspicion.trying = false;
        self.suspicion = Some(suspicion);
    }

    /// Ends an ejection early: it is needed after all.
    pub fn need(&mut self, now: Instant) {
        if let Some(suspicion) = self.suspicion.as_mut().filter(|suspicion| suspicion.ejected) {
            suspicion.ejected = false;
            suspicion.again_at = suspicion.again_at.min(now + NEEDED_PAUSES.1);
        }
    }

    /// Notes that a connection was made. Answers whether it is sound again.
    pub fn note_reached(&mut self) -> bool {
        self.unreached = 0;
        self.broken < MOST_BROKEN && self.suspicion.take().is_some()
    }

    /// Notes an answer: all is well. Answers whether it was not.
    pub fn note_answered(&mut self) -> bool {
        let was_suspect = self.suspicion.is_some();
        *self = Self::default();
        was_suspect
    }

    /// Whether an answer would change anything.
    pub const fn awaits_answer(&self) -> bool {
        self.broken > 0 || self.suspicion.is_some()
    }
}

/// The pause of the `n`th time in a row: each is twice as long as the one before.
fn nth((first, longest): (Duration, Duration), n: u32) -> Duration {
    first.saturating_mul(1 << (n.saturating_sub(1)).min(20)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_that_fails_makes_a_pod_suspect_and_one_that_is_made_ends_it() {
        let now = Instant::now();
        let mut health = Health::default();
        assert!(health.is_sound() && health.again_at().is_none());
        assert!(health.note_fault(Fault::Unreached, false));
        health.suspect(false, now);
        assert_eq!(health.again_at(), Some(now + Duration::from_millis(2)));
        assert!(health.begin());
        assert_eq!(health.again_at(), None, "one tries it at a time");
        assert!(!health.note_fault(Fault::Unreached, false), "an echo of before");
        assert!(health.note_reached());
        assert!(health.is_sound());
    }

    #[test]
    fn answers_that_break_off_count_only_in_a_row() {
        let mut health = Health::default();
        assert!(!health.note_fault(Fault::Broken, false));
        assert!(!health.note_fault(Fault::Broken, false));
        assert!(!health.note_answered());
        assert!(!health.note_fault(Fault::Broken, false));
        assert!(!health.note_fault(Fault::Broken, false));
        assert!(health.note_fault(Fault::Broken, false));
        health.suspect(true, Instant::now());
        assert!(!health.note_reached(), "a connection alone proves nothing");
        assert!(health.note_answered());
        assert!(health.is_sound());
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let now = Instant::now();
        let mut health = Health::default();
        let mut pauses = |eject, times| -> Vec<u128> {
            (0..times)
                .map(|_| {
                    health.suspect(eject, now);
                    health.again_at().unwrap().duration_since(now).as_millis()
                })
                .collect()
        };
        assert_eq!(pauses(false, 9), [2, 4, 8, 16, 32, 64, 128, 250, 250]);
        assert_eq!(pauses(true, 8), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(health.failing(), Some(Failing { since: now, ejections: 8 }));
        health.need(now);
        assert!(!health.is_ejected());
        assert_eq!(health.again_at(), Some(now + Duration::from_millis(250)));
    }

    #[test]
    fn a_trial_that_tells_nothing_leaves_it_to_the_next() {
        let now = Instant::now();
        let mut health = Health::default();
        health.note_fault(Fault::Unreached, false);
        health.suspect(false, now);
        health.begin();
        health.end_trial();
        assert!(health.again_at().is_some());
    }
}
