//! How an owner comes to the claims of a Function's pods: it claims those that nobody has, asks for
//! those that others have, and has those replaced that nobody gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ClaimId, Claims, Estate, PodCount};

/// The pods of a Function as their owner works on their claims.
#[derive(Debug)]
pub struct Takeover {
    /// UID of this activator.
    me: Arc<str>,
    /// Who may have owned the Function before.
    predecessors: Vec<Arc<str>>,
    pods: BTreeMap<Arc<str>, Standing>,
    /// Who is being asked, and the pods whose claims were known to be others' when that began.
    asking: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody has claimed it, as far as was seen.
    Free,
    /// It is being claimed.
    Claiming,
    /// The claim is held here.
    Held,
    /// Somebody claimed it; these are still to be asked.
    Others(BTreeSet<Arc<str>>),
    /// Nobody gave it.
    Lost,
    /// It is being deleted, and never sent to.
    Replacing,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Claim the pod, unless somebody has.
    Claim(Arc<str>),
    /// Ask that activator to release the Function.
    Ask(Arc<str>),
    /// Delete the pod, if this activator still owns the Function.
    Replace(Arc<str>),
}

/// What became of claiming a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This claim stands on it now.
    Standing(ClaimId),
    /// The pod is gone.
    Gone,
    /// Nobody knows.
    Unknown,
}

/// What became of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It gave all that it had.
    Gave(Estate),
    /// It knows a newer membership; it is to be asked again if that does not come here too.
    Refused,
    /// It does not answer.
    Silent,
}

impl Takeover {
    /// The work of the activator `me`, which owns a Function that one of `predecessors` may have
    /// owned before.
    pub const fn new(me: Arc<str>, predecessors: Vec<Arc<str>>) -> Self {
        Self { me, predecessors, pods: BTreeMap::new(), asking: BTreeMap::new() }
    }

    /// Takes in which pods there are, and what stands on them.
    pub fn observe<'a>(
        &mut self,
        seen: impl IntoIterator<Item = (&'a Arc<str>, Option<&'a ClaimId>)>,
        claims: &mut Claims,
    ) {
        let mut there = BTreeMap::new();
        for (pod, standing) in seen {
            let known = self.pods.remove(pod);
            let standing = known.unwrap_or_else(|| match standing {
                None => Standing::Free,
                Some(standing) => self.judge(pod, standing, claims),
            });
            there.insert(Arc::clone(pod), standing);
        }
        self.pods = there;
    }

    /// Takes in what became of claiming a pod.
    pub fn claimed(&mut self, pod: &Arc<str>, found: &Found, claims: &mut Claims) {
        if self.pods.get(pod) != Some(&Standing::Claiming) {
            return;
        }
        let next = match found {
            Found::Standing(standing) => self.judge(pod, standing, claims),
            // It goes from here as soon as that is seen.
            Found::Gone => Standing::Replacing,
            Found::Unknown => Standing::Free,
        };
        self.pods.insert(Arc::clone(pod), next);
    }

    /// Takes in what became of asking `member`; answers which pods have requests of former owners.
    pub fn answered(
        &mut self,
        member: &str,
        answer: &Answer,
        claims: &mut Claims,
    ) -> Vec<PodCount> {
        let concerned = self.asking.remove(member).unwrap_or_default();
        if *answer == Answer::Refused {
            return Vec::new();
        }
        let counts = match answer {
            Answer::Gave(estate) => claims.inherit(estate),
            Answer::Refused | Answer::Silent => Vec::new(),
        };
        for (pod, standing) in &mut self.pods {
            match standing {
                // What was about to be claimed by the one who gave: look what stands there now.
                Standing::Others(_) if claims.expects(pod) => *standing = Standing::Free,
                Standing::Others(to_ask) if concerned.contains(pod) => {
                    to_ask.remove(member);
                }
                _ => {}
            }
        }
        counts
    }

    /// Takes in that a pod could not be deleted.
    pub fn replacing_failed(&mut self, pod: &str) {
        if let Some(standing) = self.pods.get_mut(pod)
            && *standing == Standing::Replacing
        {
            *standing = Standing::Lost;
        }
    }

    /// What to do next. Nothing of it is asked for twice while it is under way.
    pub fn step(&mut self, claims: &mut Claims) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut asked: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (pod, standing) in &mut self.pods {
            match standing {
                _ if claims.holds(pod) => *standing = Standing::Held,
                Standing::Free => {
                    claims.begin(pod);
                    *standing = Standing::Claiming;
                    actions.push(Action::Claim(Arc::clone(pod)));
                }
                Standing::Others(to_ask) if !to_ask.is_empty() => {
                    for member in to_ask.iter().filter(|m| !self.asking.contains_key(*m)) {
                        asked.entry(Arc::clone(member)).or_default().insert(Arc::clone(pod));
                    }
                }
                Standing::Held | Standing::Others(_) | Standing::Lost => {
                    *standing = Standing::Replacing;
                    actions.push(Action::Replace(Arc::clone(pod)));
                }
                Standing::Claiming | Standing::Replacing => {}
            }
        }
        actions.extend(asked.keys().cloned().map(Action::Ask));
        self.asking.append(&mut asked);
        actions
    }

    fn judge(&self, pod: &Arc<str>, standing: &ClaimId, claims: &mut Claims) -> Standing {
        if claims.settle(pod, standing) {
            return Standing::Held;
        }
        let candidates = self.predecessors.iter().cloned().chain([standing.member().into()]);
        // What this activator claimed and does not hold it has given away.
        Standing::Others(candidates.filter(|member| *member != self.me).collect())
    }
}
