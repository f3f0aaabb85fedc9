//! The claims that one tenure has on the pods of its Function, and the requests of former owners
//! that are still in flight there. It changes under the same lock as the admission of requests: a
//! claim that was given away admits nobody from that instant on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Answer, ClaimId, Estate, Pending, PodCount};

/// The claims of one tenure.
#[derive(Clone, Debug)]
pub struct Claims {
    id: ClaimId,
    pods: BTreeMap<Arc<str>, Claim>,
    /// Who may have owned the Function before and has not said what it has.
    unheard: BTreeSet<Arc<str>>,
    /// Who is being asked.
    asking: BTreeSet<Arc<str>>,
    /// All was given away.
    over: bool,
}

#[derive(Clone, Debug, Default)]
struct Claim {
    held: bool,
    /// Claims that count as this tenure's, should one of them stand on the pod.
    inherited: Vec<ClaimId>,
    /// Requests of former owners.
    foreign: u32,
    /// Nobody will tell any more how many there are.
    lost: bool,
}

impl Claims {
    /// No claims yet.
    pub const fn new(id: ClaimId) -> Self {
        Self {
            id,
            pods: BTreeMap::new(),
            unheard: BTreeSet::new(),
            asking: BTreeSet::new(),
            over: false,
        }
    }

    /// What this tenure writes on pods.
    pub const fn id(&self) -> &ClaimId {
        &self.id
    }

    /// Whether this tenure may send to the pod.
    pub fn holds(&self, pod: &str) -> bool {
        !self.over && self.pods.get(pod).is_some_and(|claim| claim.held && !claim.lost)
    }

    /// Whether a claim that stands on the pod is this tenure's.
    pub fn is_own(&self, pod: &str, standing: &ClaimId) -> bool {
        let inherited = || self.pods.get(pod).is_some_and(|c| c.inherited.contains(standing));
        !self.over && (*standing == self.id || inherited())
    }

    /// Requests of former owners in the pod.
    pub fn foreign(&self, pod: &str) -> u32 {
        self.pods.get(pod).map_or(0, |claim| claim.foreign)
    }

    /// Notes that the pod is about to be claimed: from here on the claim may come to stand.
    pub fn begin(&mut self, pod: &Arc<str>) {
        if !self.over {
            self.pods.entry(Arc::clone(pod)).or_default();
        }
    }

    /// Takes in what stands on the pod, which is for good; answers whether the tenure holds it.
    pub fn settle(&mut self, pod: &Arc<str>, standing: &ClaimId) -> bool {
        if self.is_own(pod, standing) {
            self.pods.entry(Arc::clone(pod)).or_default().held = true;
        } else if self.pods.get(pod).is_some_and(|claim| !claim.held) {
            self.pods.remove(pod);
        }
        self.holds(pod)
    }

    /// Whether the pod may turn out to have a claim that was inherited.
    pub fn expects(&self, pod: &str) -> bool {
        self.pods.get(pod).is_some_and(|claim| !claim.held && !claim.inherited.is_empty())
    }

    /// Notes that `member` may have something.
    pub fn suspect(&mut self, member: &Arc<str>) {
        if !self.over {
            self.unheard.insert(Arc::clone(member));
        }
    }

    /// Notes that `member` is being asked for what it has.
    pub fn ask(&mut self, member: &Arc<str>) {
        self.suspect(member);
        self.asking.insert(Arc::clone(member));
    }

    /// Whether somebody is being asked: what it gives may be on its way.
    pub fn is_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Whether `member` is being asked.
    pub fn is_being_asked(&self, member: &str) -> bool {
        self.asking.contains(member)
    }

    /// Takes in what `member` said, whoever owns the Function by now: it said so once and for all.
    /// Answers which pods have requests of former owners in flight.
    pub fn hear(&mut self, member: &str, answer: &Answer) -> Vec<PodCount> {
        self.asking.remove(member);
        match answer {
            // It may have something, and will say so to who owns the Function.
            Answer::Refused => Vec::new(),
            Answer::Silent => {
                self.unheard.remove(member);
                Vec::new()
            }
            Answer::Gave(estate) => {
                self.unheard.remove(member);
                self.inherit(estate)
            }
        }
    }

    /// Takes over what another gave; answers which pods have requests of former owners in flight.
    pub fn inherit(&mut self, estate: &Estate) -> Vec<PodCount> {
        if self.over {
            return Vec::new();
        }
        self.unheard.extend(estate.unheard.iter().cloned());
        for PodCount { pod, in_flight } in &estate.pods {
            let claim = self.pods.entry(Arc::clone(pod)).or_default();
            claim.held = true;
            claim.foreign = *in_flight;
        }
        for Pending { pod, claims } in &estate.pending {
            let claim = self.pods.entry(Arc::clone(pod)).or_default();
            claim.inherited.extend(claims.iter().cloned());
        }
        estate.pods.iter().filter(|count| count.in_flight > 0).cloned().collect()
    }

    /// Takes in that fewer requests of former owners are in flight in the pod.
    pub fn count_down(&mut self, pod: &str, in_flight: u32) {
        if let Some(claim) = self.pods.get_mut(pod) {
            claim.foreign = claim.foreign.min(in_flight);
        }
    }

    /// Gives the pod up: nobody will tell how many requests of former owners are left in it.
    pub fn lose(&mut self, pod: &str) {
        if let Some(claim) = self.pods.get_mut(pod) {
            claim.lost = true;
        }
    }

    /// Forgets a pod that is gone and has no request of this tenure.
    pub fn forget(&mut self, pod: &str) {
        if !self.over {
            self.pods.remove(pod);
        }
    }

    /// Whether there is nothing to give away, and nothing on its way.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.asking.is_empty()
    }

    /// Who may have owned the Function before and has not said what it has.
    pub fn unheard(&self) -> impl Iterator<Item = &Arc<str>> {
        self.unheard.iter()
    }

    /// Gives all away. `own` tells how many requests this tenure has in flight in a pod; it may
    /// admit no more.
    pub fn hand_over(&mut self, own: impl Fn(&str) -> u32) -> Estate {
        let mut estate = Estate::default();
        for (pod, claim) in self.pods.iter().filter(|(_, claim)| !claim.lost && !self.over) {
            let pod = Arc::clone(pod);
            if claim.held {
                estate.pods.push(PodCount { in_flight: claim.foreign + own(&pod), pod });
            } else {
                let mut claims = claim.inherited.clone();
                claims.push(self.id.clone());
                estate.pending.push(Pending { pod, claims });
            }
        }
        estate.unheard.extend(std::mem::take(&mut self.unheard));
        self.over = true;
        estate
    }

    /// Requests that are left in a pod that was given away, of which this tenure has `own`; none
    /// where nobody can tell any more.
    pub fn remaining(&self, pod: &str, own: u32) -> Option<u32> {
        match self.pods.get(pod) {
            Some(claim) if claim.lost => None,
            Some(claim) => Some(claim.foreign + own),
            None => Some(own),
        }
    }
}
