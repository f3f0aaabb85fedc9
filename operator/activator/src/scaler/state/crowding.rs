//! A Function among others: the pods that its namespace has left for it, and what they teach it.
//! Part of the state; no IO.

use rouse_core::function::start_failure::{Cause, StartFailure};
use rouse_core::scaling::idle::{Idle, Outlook};
use rouse_core::scaling::{self, Decision, Reason, Seen};
use tokio::time::Instant;

use super::Scaler;
use crate::scaler::pods::Silence;

/// What keeps pods from opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    /// A container runs, and does not answer.
    Silent(Silence),
    /// The namespace has no more pods.
    Namespace,
}

impl Scaler {
    /// Whether what others of the namespace do may change what is decided here.
    pub fn shares_pods(&self) -> bool {
        self.seat.is_some() && (self.desired > 0 || self.crowded_out.is_some())
    }

    /// Decides on what was seen, by what others leave and by what they have taught.
    pub(super) fn decide_among_others(&mut self, seen: Seen<'static>, now: Instant) -> Decision {
        let observed = &self.observed;
        let policy = observed.function.settings.policy;
        let memory = observed.deployments.iter().map(|seen| seen.memory).max();
        let policy = self.community.weigh(policy, memory);
        let learns = matches!(policy.idle, Idle::Learned(_));
        let prior = learns.then(|| self.community.prior(now));
        let outlook = Outlook { prior: prior.as_deref(), ..seen.outlook };
        let moment = now.saturating_duration_since(self.origin);
        let state = &mut self.scaling;
        let mut decide = |allowance| {
            scaling::decide(&policy, Seen { allowance, outlook, ..seen }, state, moment)
        };
        let decision = match &self.seat {
            None => decide(None),
            Some(seat) => {
                let (decision, full) = seat.take(|allowance| {
                    let decision = decide(Some(allowance));
                    (decision.desired, (decision, allowance.pods == 0))
                });
                let refused = decision.reason == Reason::NamespaceMax && decision.desired == 0;
                let waited = refused && decision.inputs.waiting > 0;
                self.crowded_out = self.crowded_out.take().filter(|_| full);
                if waited && self.crowded_out.is_none() {
                    let message = seat.describe_full();
                    let failure = StartFailure::new(Cause::NamespaceFull, &message);
                    self.crowded_out = Some(Box::new(failure));
                }
                decision
            }
        };
        if let Some(lesson) = self.scaling.take_lesson() {
            self.community.learn(lesson);
        }
        decision
    }
}
