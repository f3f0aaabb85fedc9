//! How an owner comes to the claims of a Function's pods: it claims those that nobody has, asks for
//! those that others have, and has those replaced that nobody gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ClaimId, Claims, Estate};

/// The pods of a Function as their owner works on their claims.
#[derive(Debug)]
pub struct Takeover {
    /// UID of this activator.
    me: Arc<str>,
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
    /// Somebody claimed it.
    Others(Asked),
    /// Nobody gave it.
    Lost,
    /// It is being deleted, and never sent to.
    Replacing,
}

/// Who is asked for a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    /// Those that are still to be asked.
    open: BTreeSet<Arc<str>>,
    /// Those that do not have it.
    done: BTreeSet<Arc<str>>,
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
    /// The work of the activator `me`, which owns a Function. Who may have owned it before, its claims
    /// know.
    pub const fn new(me: Arc<str>) -> Self {
        Self { me, pods: BTreeMap::new(), asking: BTreeMap::new() }
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

    /// Takes in what became of asking `member`, which `claims` have heard of.
    pub fn answered(&mut self, member: &Arc<str>, answer: &Answer, claims: &Claims) {
        let concerned = self.asking.remove(member).unwrap_or_default();
        let named: &[Arc<str>] = match answer {
            Answer::Refused => return,
            Answer::Gave(estate) => &estate.unheard,
            Answer::Silent => &[],
        };
        let others = named.iter().filter(|named| **named != self.me);
        for (pod, standing) in &mut self.pods {
            match standing {
                // What was about to be claimed by the one who gave: look what stands there now.
                Standing::Others(_) if claims.expects(pod) => *standing = Standing::Free,
                Standing::Others(asked) => {
                    if concerned.contains(pod) {
                        asked.open.remove(member);
                        asked.done.insert(Arc::clone(member));
                    }
                    let new = others.clone().filter(|named| !asked.done.contains(*named));
                    asked.open.extend(new.cloned());
                }
                _ => {}
            }
        }
    }

    /// Takes in that the membership has changed: others may have had the Function in between, and who
    /// had nothing then may have something now.
    pub fn renew(&mut self) {
        for standing in self.pods.values_mut() {
            if let Standing::Others(asked) = standing {
                asked.done.clear();
            }
        }
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
                Standing::Others(Asked { open, .. }) if !open.is_empty() => {
                    // Who was asked before, in an earlier time as the owner, answers that first.
                    for member in open.iter().filter(|member| !claims.is_being_asked(member)) {
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
        for member in asked.keys() {
            claims.ask(member);
        }
        actions.extend(asked.keys().cloned().map(Action::Ask));
        self.asking.append(&mut asked);
        actions
    }

    fn judge(&self, pod: &Arc<str>, standing: &ClaimId, claims: &mut Claims) -> Standing {
        if claims.settle(pod, standing) {
            return Standing::Held;
        }
        let candidates = claims.unheard().cloned().chain([standing.member().into()]);
        // What this activator claimed and does not hold it has given away.
        let open = candidates.filter(|member| *member != self.me).collect();
        Standing::Others(Asked { open, done: BTreeSet::new() })
    }
}
