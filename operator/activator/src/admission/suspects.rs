//! What a gate does about pods that fail. Part of its state: under its lock, without waiting.

use std::sync::Arc;

use tokio::time::Instant;

use super::health::Fault;
use super::state::{Slot, State};
use crate::pod::Pod;

impl State {
    /// Takes in what went wrong at `pod`; answers whether it is ejected for that. Never are more
    /// than half of the pods, and when no pod is sound none is: what is left is used.
    pub(super) fn note_fault(&mut self, pod: &Arc<Pod>, fault: Fault, trial: bool) -> bool {
        let Some(index) = self.slot_of(pod) else { return false };
        if !self.slots[index].health.note_fault(fault, trial) {
            return false;
        }
        let open = self.slots.iter().filter(|slot| slot.open).count();
        let others = || self.slots.iter().filter(|slot| slot.open && !Arc::ptr_eq(&slot.pod, pod));
        let ejected = others().filter(|slot| slot.health.is_ejected()).count();
        let eject = others().any(|slot| slot.health.is_sound()) && (ejected + 1) * 2 <= open;
        self.slots[index].health.suspect(eject, Instant::now());
        self.review();
        eject
    }

    /// Looks at the health of all pods again, after it or the set of open pods has changed, and tells
    /// whoever sends to them.
    pub(super) fn review(&mut self) {
        let suspects = self.slots.iter().filter(|slot| slot.open && !slot.health.is_sound());
        self.suspects = u32::try_from(suspects.count()).unwrap_or(u32::MAX);
        if self.suspects > 0 && !self.has_sound() {
            let now = Instant::now();
            for slot in &mut self.slots {
                slot.health.need(now);
            }
        }
        self.publish();
    }

    /// When somebody who waits may try a suspect pod that may not be tried yet. One that may be, and
    /// is not, has no free slot: who frees it looks again.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        if self.suspects == 0 || self.waiting.is_empty() {
            return None;
        }
        let now = Instant::now();
        let open = self.slots.iter().filter(|slot| slot.open);
        open.filter_map(|slot| slot.health.again_at()).filter(|at| *at > now).min()
    }

    /// The suspect pod that the next request goes to, if there is one among those that are `free`:
    /// one that it is time to try; or, where no pod is sound, any that can be reached: somebody has
    /// to answer, and a single request at a time would be no service.
    pub(super) fn pick_suspect(&self, free: impl Fn(&Slot) -> bool) -> Option<usize> {
        let now = Instant::now();
        let due = |slot: &Slot| slot.health.again_at().is_some_and(|at| at <= now);
        let tried = self.slots.iter().position(|slot| free(slot) && due(slot));
        if tried.is_some() || self.has_sound() {
            return tried;
        }
        let reachable = |slot: &Slot| free(slot) && slot.health.is_reachable();
        let candidates = self.slots.iter().enumerate().filter(|(_, slot)| reachable(slot));
        candidates.min_by_key(|(_, slot)| slot.in_flight).map(|(index, _)| index)
    }

    fn has_sound(&self) -> bool {
        self.slots.iter().any(|slot| slot.open && slot.health.is_sound())
    }
}
