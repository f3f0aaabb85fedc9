//! Claims within a gate: under the lock that admits requests, so that a claim that was given away
//! admits nobody from that instant on.

use std::sync::Arc;

use rouse_core::handover::{ClaimId, Claims, Estate};

use super::{Gate, Refusal};

impl Gate {
    /// Requires claims of pods from here on, if it did not.
    pub fn require_claims(self: &Arc<Self>, id: impl FnOnce() -> ClaimId) {
        self.update(|state| {
            if state.claims.is_none() {
                state.claims = Some(Claims::new(id()));
                state.follow_claims();
            }
        });
    }

    /// Works on the claims; none where none are required.
    pub fn with_claims<R>(self: &Arc<Self>, work: impl FnOnce(&mut Claims) -> R) -> Option<R> {
        let mut result = None;
        self.update(|state| {
            result = state.claims.as_mut().map(work);
            state.follow_claims();
        });
        result
    }

    /// Works on the claims from outside of the Function's task, which is told.
    pub fn change_claims(self: &Arc<Self>, work: impl FnOnce(&mut Claims)) {
        self.with_claims(work);
        self.changed.notify_one();
        self.falls.notify_one();
    }

    /// Returns when there are fewer requests in flight, after the gate was shut, or the claims have
    /// changed. What happened before the call counts.
    pub async fn fell(&self) {
        self.falls.notified().await;
    }

    /// Whether there is anything that another could ask for.
    pub fn has_claims(&self) -> bool {
        self.lock().claims.as_ref().is_some_and(|claims| !claims.is_empty())
    }

    /// Whether somebody is being asked for claims.
    pub fn is_asking(&self) -> bool {
        self.lock().claims.as_ref().is_some_and(Claims::is_asking)
    }

    /// UIDs of activators that may have claims of this Function's pods and have not said so.
    pub fn unheard(&self) -> Vec<Arc<str>> {
        let state = self.lock();
        state.claims.iter().flat_map(Claims::unheard).cloned().collect()
    }

    /// Whether requests may be sent to the pod, as far as claims go.
    pub fn may_send_to(&self, pod: &str) -> bool {
        let state = self.lock();
        state.bounds.concurrency.limit.is_none()
            || state.claims.as_ref().is_none_or(|claims| claims.holds(pod))
    }

    /// Gives all claims away and turns everyone away, as one step. What pods serve goes on.
    pub fn hand_over(self: &Arc<Self>) -> Estate {
        let mut state = self.lock();
        let answers = state.refuse_waiters(&Refusal::Moved);
        state.shut = Some(Refusal::Moved);
        state.part();
        let slots = std::mem::take(&mut state.slots);
        let own = |pod: &str| {
            let slots = slots.iter().filter(|slot| &*slot.pod.uid == pod);
            slots.map(|slot| slot.in_flight).sum()
        };
        let estate = state.claims.as_mut().map(|claims| claims.hand_over(own));
        state.slots = slots;
        state.slots.iter_mut().for_each(|slot| slot.open = false);
        state.follow_claims();
        self.finish(state, answers);
        estate.unwrap_or_default()
    }

    /// Requests that are left in a pod that was given away; none where nobody can tell any more.
    pub fn remaining(&self, pod: &str) -> Option<u32> {
        let state = self.lock();
        let slots = state.slots.iter().filter(|slot| &*slot.pod.uid == pod);
        let own = slots.map(|slot| slot.in_flight).sum();
        state.claims.as_ref().map_or(Some(own), |claims| claims.remaining(pod, own))
    }

    /// Lets requests in again after [`Gate::shut`]: to no pod, until one is opened. Those that are
    /// in flight stay counted.
    pub fn reopen(self: &Arc<Self>) {
        self.update(|state| {
            state.shut = None;
            state.failure = None;
            state.end_pursuit();
            if state.claims.is_none() {
                state.drop_slots(|slot| slot.in_flight == 0);
            }
        });
    }
}
