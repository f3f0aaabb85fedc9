//! One process of an activator, as far as one Function is concerned: what it has seen, and its
//! tenures. What it knows of the world may be as old as can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::handover::{Action, ClaimId, Claims, Takeover};

pub type Pod = Arc<str>;

/// A pod as the API server tells of it.
#[derive(Clone, Debug)]
pub struct Told {
    pub claim: Option<ClaimId>,
    pub going: bool,
}

#[derive(Debug)]
pub struct Tenure {
    pub claims: Claims,
    /// Requests that it admitted and whose end it has not seen.
    pub own: BTreeMap<Pod, u32>,
    /// There while the Function is owned.
    pub takeover: Option<Takeover>,
    /// Everything was given away.
    pub over: bool,
}

#[derive(Debug)]
pub struct Process {
    pub member: Arc<str>,
    pub number: u64,
    pub alive: bool,
    pub frozen: bool,
    /// The newest membership that it has seen.
    pub version: usize,
    /// Somebody said that it owns the Function under this version.
    pub fence: usize,
    /// The membership by which it did what is to be done last.
    pub followed: usize,
    /// Who owns the Function, as far as it knows.
    pub believed: Arc<str>,
    /// Who asked for it last and got what there was.
    pub gave_to: Option<Arc<str>>,
    /// How far its watch of pods is.
    pub seen: usize,
    pub pods: BTreeMap<Pod, Told>,
    pub tenures: Vec<Tenure>,
}

impl Process {
    pub fn new(member: &Arc<str>, number: u64, version: usize) -> Self {
        Self {
            member: Arc::clone(member),
            number,
            alive: true,
            frozen: false,
            version,
            fence: 0,
            followed: version,
            believed: Arc::clone(member),
            gave_to: None,
            seen: 0,
            pods: BTreeMap::new(),
            tenures: Vec::new(),
        }
    }

    pub fn runs(&self) -> bool {
        self.alive && !self.frozen
    }

    /// The tenure that has not been released, if there is one.
    pub fn current(&mut self) -> Option<(usize, &mut Tenure)> {
        self.tenures.iter_mut().enumerate().next_back().filter(|(_, tenure)| !tenure.over)
    }

    /// Takes the Function, or leaves it, as the membership says.
    pub fn follow(&mut self, owner: &Arc<str>, predecessor: &Arc<str>) {
        let owns = *owner == self.member && self.fence <= self.version;
        let before = [Some(Arc::clone(&self.believed)), self.gave_to.clone()];
        if self.fence <= self.version {
            self.believed = Arc::clone(owner);
        }
        if !owns {
            return self.leave();
        }
        if self.current().is_none() {
            let id = ClaimId::new(&self.member, self.number, self.tenures.len() as u64);
            let (claims, own) = (Claims::new(id), BTreeMap::new());
            self.tenures.push(Tenure { claims, own, takeover: None, over: false });
        }
        let me = Arc::clone(&self.member);
        let changed = std::mem::replace(&mut self.followed, self.version) != self.version;
        let Some((_, tenure)) = self.current() else { return };
        if let Some(takeover) = &mut tenure.takeover {
            if changed {
                takeover.renew();
            }
        } else {
            let before = before.into_iter().flatten().chain([Arc::clone(predecessor)]);
            for member in before.filter(|member| *member != me) {
                tenure.claims.suspect(&member);
            }
            tenure.takeover = Some(Takeover::new(me));
        }
    }

    /// Does nothing more for the Function; what it has stays until somebody asks.
    pub fn leave(&mut self) {
        if let Some((_, tenure)) = self.current() {
            tenure.takeover = None;
        }
    }

    /// What the owner does now, and in which tenure.
    pub fn act(&mut self) -> (usize, Vec<Action>) {
        let pods = std::mem::take(&mut self.pods);
        let mut acts = (0, Vec::new());
        if let Some((index, tenure)) = self.current() {
            for pod in tenure.own.keys().filter(|pod| !pods.contains_key(*pod)) {
                if tenure.own[pod] == 0 {
                    tenure.claims.forget(pod);
                }
            }
            if let Some(takeover) = &mut tenure.takeover {
                let there = pods.iter().filter(|(_, told)| !told.going);
                let there = there.map(|(pod, told)| (pod, told.claim.as_ref()));
                takeover.observe(there, &mut tenure.claims);
                acts = (index, takeover.step(&mut tenure.claims));
            }
        }
        self.pods = pods;
        acts
    }

    /// Admits a request to one of the pods that may take one, if there is any; `pick` chooses.
    pub fn admit(&mut self, limit: u32, pick: impl FnOnce(usize) -> usize) -> Option<(usize, Pod)> {
        let pods = std::mem::take(&mut self.pods);
        let admitted = self.current().filter(|(_, tenure)| tenure.takeover.is_some()).and_then(
            |(index, tenure)| {
                let free = |pod: &Pod| {
                    let own = tenure.own.get(pod).copied().unwrap_or_default();
                    tenure.claims.holds(pod) && own + tenure.claims.foreign(pod) < limit
                };
                let open = pods.iter().filter(|(pod, told)| !told.going && free(pod));
                let open: Vec<&Pod> = open.map(|(pod, _)| pod).collect();
                let pod = (!open.is_empty()).then(|| Arc::clone(open[pick(open.len())]))?;
                *tenure.own.entry(Arc::clone(&pod)).or_default() += 1;
                Some((index, pod))
            },
        );
        self.pods = pods;
        admitted
    }
}
