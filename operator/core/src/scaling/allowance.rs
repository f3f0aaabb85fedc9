//! How the Functions of a namespace share the pods that the administrator lets it have. Pure.
//!
//! Nobody hands pods out: each owner of a Function counts what all Functions of the namespace are
//! told to have, as it sees it, and keeps to what is left. Two owners that do not see each other's
//! writes yet may take too much together; then both see the same sum, and the Functions with the
//! most pods give them back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::idle::Verdict;
use super::{Moment, Policy, State};
use crate::trigger::ANY_NAMESPACE;
/// Below this share of free pods those without requests go sooner.
const ROOMY: f64 = 0.25;
/// The shortest that the time of a pod without requests becomes, as a share of it.
const LEAST_PATIENCE: u16 = 100;
const THOUSAND: u16 = 1000;
/// Patience is told in steps, so that not every pod of a namespace changes it for all.
const STEP: u16 = 100;

/// The most pods that the Functions of a namespace may have, by namespace. [`ANY_NAMESPACE`] is a key
/// too, for those without one of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodCaps(pub BTreeMap<String, u32>);

impl PodCaps {
    /// The cap of `namespace`; none where nobody set one.
    pub fn of(&self, namespace: &str) -> Option<u32> {
        self.0.get(namespace).or_else(|| self.0.get(ANY_NAMESPACE)).copied()
    }
}

/// What a Function may have of its namespace's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Pods.
    pub pods: u32,
    /// How long pods may stay that are not needed now, in thousandths of the usual.
    patience: u16,
}

impl Allowance {
    /// So many pods, in a namespace where nobody has to make room.
    #[cfg(test)]
    pub(super) const fn of(pods: u32) -> Self {
        Self { pods, patience: THOUSAND }
    }

    /// How long pods may stay that are not needed now, as a share of the usual.
    pub fn patience(self) -> f64 {
        f64::from(self.patience) / f64::from(THOUSAND)
    }

    /// Whether pods have to make room for those of other Functions.
    pub const fn is_scarce(self) -> bool {
        self.patience < THOUSAND
    }
}

/// Pods of one Function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pods {
    /// That it is told to have, as seen.
    seen: u32,
    /// That its owner, if it is here, decided on.
    decided: u32,
}

impl Pods {
    fn count(self) -> u32 {
        self.seen.max(self.decided)
    }
}

/// The pods of a namespace's Functions, as one owner of some of them knows them.
#[derive(Clone, Debug)]
pub struct Ledger {
    cap: u32,
    functions: BTreeMap<Arc<str>, Pods>,
    sum: u32,
    asleep: u32,
}

impl Ledger {
    /// One for a namespace that may have `cap` pods.
    pub const fn new(cap: u32) -> Self {
        Self { cap, functions: BTreeMap::new(), sum: 0, asleep: 0 }
    }

    /// The cap.
    pub const fn cap(&self) -> u32 {
        self.cap
    }

    /// Pods of all Functions.
    pub const fn sum(&self) -> u32 {
        self.sum
    }

    /// A Function is told to have so many pods, as seen. Answers whether others have to look again.
    pub fn see(&mut self, uid: &Arc<str>, pods: u32) -> bool {
        self.change(uid, |entry| entry.seen = pods)
    }

    /// Its owner decided on so many. Answers whether others have to look again.
    pub fn decide(&mut self, uid: &Arc<str>, pods: u32) -> bool {
        self.change(uid, |entry| entry.decided = pods)
    }

    /// Nobody here decides on the Function any more.
    pub fn leave(&mut self, uid: &Arc<str>) -> bool {
        match self.functions.get(uid) {
            // It may be gone. If it is only asleep, it is seen again when it changes.
            Some(Pods { seen: 0, .. }) | None => self.forget(uid),
            Some(_) => self.decide(uid, 0),
        }
    }

    /// A Function is gone.
    pub fn forget(&mut self, uid: &str) -> bool {
        let before = self.state();
        if let Some(gone) = self.functions.remove(uid) {
            self.discount(gone);
        }
        self.calls_for_a_look(before)
    }

    /// What the Function may have.
    pub fn allowance(&self, uid: &str) -> Allowance {
        let own = self.functions.get(uid).map_or(0, |pods| pods.count());
        let left = self.cap.saturating_sub(self.sum - own);
        let pods = if self.sum > self.cap { left.max(self.share(uid, own)) } else { left };
        Allowance { pods, patience: self.patience() }
    }

    fn change(&mut self, uid: &Arc<str>, change: impl FnOnce(&mut Pods)) -> bool {
        let before = self.state();
        let former = self.functions.get(uid).copied();
        if let Some(former) = former {
            self.discount(former);
        }
        let mut pods = former.unwrap_or_default();
        change(&mut pods);
        self.sum = self.sum.saturating_add(pods.count());
        self.asleep += u32::from(pods.count() == 0);
        self.functions.insert(Arc::clone(uid), pods);
        self.calls_for_a_look(before)
    }

    fn discount(&mut self, gone: Pods) {
        self.sum = self.sum.saturating_sub(gone.count());
        self.asleep -= u32::from(gone.count() == 0);
    }

    /// How many pods are too many or free, and what follows for those that are not needed.
    fn state(&self) -> (u32, u16) {
        (self.sum, self.patience())
    }

    /// Whether somebody may have more than `before`, has too much, or has to be more patient or less.
    fn calls_for_a_look(&self, (sum, patience): (u32, u16)) -> bool {
        let room = sum >= self.cap && self.sum < sum;
        let excess = self.sum > self.cap && self.sum != sum;
        room || excess || patience != self.patience()
    }

    /// Who sleeps may want a pod: while few are free, those that only wait for requests go sooner.
    fn patience(&self) -> u16 {
        let roomy = f64::from(self.cap) * ROOMY;
        let free = f64::from(self.cap.saturating_sub(self.sum));
        if self.asleep == 0 || free >= roomy {
            return THOUSAND;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
        let share = (free / roomy * f64::from(THOUSAND / STEP)).floor() as u16 * STEP;
        share.max(LEAST_PATIENCE)
    }

    /// What is left of `own` pods of a Function when too many are there: none has more than a level
    /// at which they fit, and what the level leaves goes to the first by name that had more.
    fn share(&self, uid: &str, own: u32) -> u32 {
        let mut counts: Vec<u32> = self.functions.values().map(|pods| pods.count()).collect();
        counts.sort_unstable();
        let mut left = self.cap;
        let mut above = u32::try_from(counts.len()).unwrap_or(u32::MAX);
        for count in counts {
            if u64::from(count) * u64::from(above) > u64::from(left) {
                break;
            }
            left -= count;
            above -= 1;
        }
        let (level, rest) = (left / above.max(1), left % above.max(1));
        if own <= level {
            return own;
        }
        let larger = self.functions.iter().filter(|(_, pods)| pods.count() > level);
        let before = larger.take_while(|(other, _)| &***other < uid).count();
        level + u32::from(u32::try_from(before).is_ok_and(|before| before < rest))
    }
}

/// Lets a pod that waits for requests go sooner where the namespace has few left; answers whether it
/// went for that. One that has is not brought back before its next request: that there is room again
/// is its own doing.
pub(super) fn hurry(
    verdict: Verdict,
    policy: &Policy,
    (allowance, state): (Option<Allowance>, &State),
    now: Moment,
) -> (Verdict, bool) {
    let Some((allowance, busy)) = allowance.zip(state.last_busy) else { return (verdict, false) };
    if !verdict.warm || verdict.scheduled {
        return (verdict, false);
    }
    if state.made_room && !verdict.woken {
        return (Verdict { warm: false, ..verdict }, true);
    }
    if !allowance.is_scarce() {
        return (verdict, false);
    }
    let ends = busy + policy.usual_idle().mul_f64(allowance.patience());
    if now >= ends {
        return (Verdict { warm: false, ..verdict }, true);
    }
    let until = Some(verdict.until.map_or(ends, |until| until.min(ends)));
    (Verdict { until, ..verdict }, false)
}

#[cfg(test)]
mod tests;
