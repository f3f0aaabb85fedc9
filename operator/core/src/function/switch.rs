//! Which revision of a Function takes the traffic, and how many pods each revision gets while one
//! takes over from another. Pure: the owner's task carries the plan out.
//!
//! The serving revision goes on until the candidate, the newest one, has answered with as many pods
//! as the load needs. What the candidate lacks after that, pods of the one that leaves still cover,
//! so that a full cluster can't hold a switch up and no switch leaves the load without a pod.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Hash of a revision.
pub type Revision = Arc<str>;

/// What is there of a revision that has a Deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionSeen {
    /// Pods that have answered and are not on their way out.
    pub answering: u32,
    /// A pod of it fails for a reason of its own: its image, its code.
    pub failing: bool,
    /// A pod of it finds no room: no node, no quota.
    pub crowded: bool,
}

/// What is known of a Function's revisions.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The newest revision that ever answered, as the status says it; it may lag.
    pub latest_ready: Option<&'a Revision>,
    /// The newest revision.
    pub latest_created: Option<&'a Revision>,
    /// All revisions that have a Deployment.
    pub revisions: &'a BTreeMap<Revision, RevisionSeen>,
    /// Pods that the load asks for.
    pub desired: u32,
}

/// What an owner remembers of the switches that it saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    serving: Option<Revision>,
    /// The serving revision has answered, under this owner or by the status.
    proven: bool,
    /// Revisions that no longer serve, and the pods that they may still lend; these only fall.
    leaving: BTreeMap<Revision, u32>,
}

/// How many pods each revision gets, and which of them get requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The revision that takes the traffic; none while none has a Deployment.
    pub serving: Option<Revision>,
    /// Whether `serving` has ever answered.
    pub proven: bool,
    /// The revision that shall take over. Its pods get no requests yet.
    pub candidate: Option<Revision>,
    /// Pods by revision; all others get none.
    pub pods: BTreeMap<Revision, u32>,
}

impl Plan {
    /// Pods that `revision` shall have.
    pub fn pods_of(&self, revision: &str) -> u32 {
        self.pods.get(revision).copied().unwrap_or_default()
    }

    /// Whether the pods of `revision` that it shall have get requests.
    pub fn routes_to(&self, revision: &str) -> bool {
        self.candidate.as_deref() != Some(revision) && self.pods.contains_key(revision)
    }
}

/// Decides from what is `seen`. `state` is what the last call left; an owner that takes over starts
/// with the default.
pub fn decide(seen: Seen<'_>, state: &mut State) -> Plan {
    choose_serving(seen, state);
    let Some(serving) = state.serving.clone() else { return Plan::default() };
    let candidate = seen.latest_created.filter(|r| exists(seen, r) && **r != serving).cloned();
    let (serving, candidate) = match candidate {
        Some(candidate) if may_take_over(seen, state, &serving, &candidate) => {
            take_over(seen, state, candidate.clone());
            (candidate, None)
        }
        other => (serving, other),
    };
    let mut pods = BTreeMap::from([(serving.clone(), seen.desired)]);
    lend(seen, state, &serving, candidate.as_ref(), &mut pods);
    if let Some(candidate) = &candidate {
        pods.insert(candidate.clone(), candidate_pods(seen, candidate));
    }
    Plan { serving: Some(serving), proven: state.proven, candidate, pods }
}

fn exists(seen: Seen<'_>, revision: &Revision) -> bool {
    seen.revisions.contains_key(revision)
}

fn answering(seen: Seen<'_>, revision: &Revision) -> u32 {
    seen.revisions.get(revision).map_or(0, |revision| revision.answering)
}

/// Chooses a serving revision where there is none, or where its Deployment is gone.
fn choose_serving(seen: Seen<'_>, state: &mut State) {
    let first = state.serving.is_none();
    if !state.serving.as_ref().is_some_and(|serving| exists(seen, serving)) {
        let known = [seen.latest_ready, seen.latest_created];
        let Some(chosen) = known.into_iter().flatten().find(|r| exists(seen, r)) else { return };
        state.serving = Some(chosen.clone());
        state.proven = false;
        if first {
            // What a former owner left running helps out until the chosen one has its pods.
            let others = seen.revisions.keys().filter(|r| *r != chosen);
            state.leaving = others.map(|r| (r.clone(), u32::MAX)).collect();
        }
        state.leaving.remove(chosen);
    }
    if let Some(serving) = &state.serving {
        state.proven |= Some(serving) == seen.latest_ready || answering(seen, serving) > 0;
    }
}

/// A revision that never answered has nothing to lose. Another goes when the candidate has the pods
/// that the load needs, or all that the cluster has room for.
fn may_take_over(seen: Seen<'_>, state: &State, serving: &Revision, candidate: &Revision) -> bool {
    if !state.proven {
        return true;
    }
    let needed = seen.desired.min(answering(seen, serving)).max(1);
    let there = answering(seen, candidate);
    let crowded = seen.revisions.get(candidate).is_some_and(|revision| revision.crowded);
    there >= needed || (there > 0 && crowded)
}

fn take_over(seen: Seen<'_>, state: &mut State, candidate: Revision) {
    state.leaving.remove(&candidate);
    state.proven = answering(seen, &candidate) > 0;
    if let Some(former) = state.serving.replace(candidate) {
        state.leaving.insert(former, u32::MAX);
    }
}

/// Lets those that leave cover what the serving revision lacks.
fn lend(
    seen: Seen<'_>,
    state: &mut State,
    serving: &Revision,
    candidate: Option<&Revision>,
    pods: &mut BTreeMap<Revision, u32>,
) {
    let mut lacking = seen.desired.saturating_sub(answering(seen, serving));
    state.leaving.retain(|revision, most| {
        if Some(revision) == candidate {
            return false;
        }
        *most = (*most).min(lacking).min(answering(seen, revision));
        lacking -= *most;
        if *most > 0 {
            pods.insert(revision.clone(), *most);
        }
        *most > 0
    });
}

/// One pod while it is not known to work, then as many as the load needs.
fn candidate_pods(seen: Seen<'_>, candidate: &Revision) -> u32 {
    match seen.revisions.get(candidate) {
        Some(RevisionSeen { answering: 0, failing, crowded }) if *failing || *crowded => 1,
        _ => seen.desired.max(1),
    }
}

#[cfg(test)]
mod tests;
