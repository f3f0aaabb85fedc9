//! The claims of a Function's pods, as its task comes to them. Only Functions with a hard limit have
//! any. It changes the gate; what must be asked or written it answers with.

use std::sync::Arc;

use rouse_core::handover::{self, Answer, Found, Takeover};

use super::actions::Action;
use crate::admission::Gate;
use crate::instances::PodRef;
use crate::observe::index::{Observed, PodView};

/// Who works on the claims, and after whom.
#[derive(Clone, Debug)]
pub struct Heir {
    /// UID of this activator's pod.
    pub me: Arc<str>,
    /// UIDs of the activators that may have owned the Function before.
    pub predecessors: Vec<Arc<str>>,
}

/// The work on the claims of one Function; nothing while none are needed.
#[derive(Debug)]
pub struct Claiming {
    heir: Heir,
    takeover: Option<Box<Takeover>>,
    /// Version of the membership under which it was worked on last.
    membership: u64,
}

impl Claiming {
    /// Nothing yet.
    pub const fn new(heir: Heir) -> Self {
        Self { heir, takeover: None, membership: 0 }
    }

    /// Does what can be done now.
    pub fn step(&mut self, gate: &Arc<Gate>, observed: &Observed) -> Vec<Action> {
        if observed.function.settings.bounds.concurrency.limit.is_none() {
            self.takeover = None;
            return Vec::new();
        }
        let Heir { me, predecessors } = &self.heir;
        if self.takeover.is_none() {
            gate.with_claims(|claims| {
                for before in predecessors {
                    claims.suspect(before);
                }
            });
        }
        let takeover = self.takeover.get_or_insert_with(|| Box::new(Takeover::new(Arc::clone(me))));
        if std::mem::replace(&mut self.membership, observed.membership) != observed.membership {
            takeover.renew();
        }
        let there = || observed.pods.iter().filter(|pod| !pod.seen.going);
        let worked = gate.with_claims(|claims| {
            let seen = there().map(|pod| (&pod.seen.uid, pod.seen.claim.as_ref()));
            takeover.observe(seen, claims);
            (takeover.step(claims), claims.id().clone())
        });
        let Some((actions, claim)) = worked else { return Vec::new() };
        let find = |uid: &Arc<str>| there().find(|pod| pod.seen.uid == *uid).map(|pod| of(pod));
        let build = |action| match action {
            handover::Action::Claim(uid) => {
                find(&uid).map(|pod| Action::Claim { uid, pod, claim: claim.clone() })
            }
            handover::Action::Ask(member) => Some(Action::AskFor { member }),
            handover::Action::Replace(uid) => find(&uid).map(|pod| Action::Replace { uid, pod }),
        };
        actions.into_iter().filter_map(build).collect()
    }

    /// Takes in what became of claiming a pod.
    pub fn claimed(&mut self, gate: &Arc<Gate>, uid: &Arc<str>, found: &Found) {
        if let Some(takeover) = &mut self.takeover {
            gate.with_claims(|claims| takeover.claimed(uid, found, claims));
        }
    }

    /// Takes in what another activator said.
    pub fn asked(&mut self, gate: &Arc<Gate>, member: &Arc<str>, answer: &Answer) {
        if let Some(takeover) = &mut self.takeover {
            gate.with_claims(|claims| takeover.answered(member, answer, claims));
        }
    }

    /// Takes in that a pod could not be deleted.
    pub fn not_replaced(&mut self, uid: &str) {
        if let Some(takeover) = &mut self.takeover {
            takeover.replacing_failed(uid);
        }
    }
}

fn of(pod: &PodView) -> PodRef {
    PodRef { namespace: Arc::clone(&pod.seen.namespace), name: Arc::clone(&pod.seen.name) }
}
