//! What a gate knows: slots, queue and counts. Every method is called under the gate's lock, so
//! none may wait, do IO or drop a permit.

use std::collections::BTreeMap;
use std::sync::Arc;

use rouse_core::handover::Claims;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ActivationMark, Bounds, Permit, PodLoad, Refusal, StartFailure};
use crate::pod::Pod;

#[derive(Debug)]
pub(super) struct State {
    pub(super) bounds: Bounds,
    pub(super) slots: Vec<Slot>,
    pub(super) waiting: BTreeMap<u64, Waiter>,
    pub(super) waiting_bytes: u64,
    pub(super) next_ticket: u64,
    pub(super) in_flight: u32,
    /// Requests of former owners that pods are still serving.
    pub(super) foreign: u32,
    /// Which pods requests may be sent to, where that is limited.
    pub(super) claims: Option<Claims>,
    pub(super) peak: u32,
    /// Load above which the task wants to know at once.
    pub(super) alarm: u32,
    /// Whether more pods are starting: until then a soft target holds requests back for them.
    pub(super) expecting: bool,
    /// Why nothing is let through while no pod is open.
    pub(super) failure: Option<Arc<StartFailure>>,
    /// Why nothing is let through ever again.
    pub(super) shut: Option<Refusal>,
    pub(super) activation: Option<ActivationMark>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) pod: Arc<Pod>,
    pub(super) in_flight: u32,
    /// Gets new requests.
    pub(super) open: bool,
    /// The pod is gone or going; the slot goes with its last request.
    pub(super) retired: bool,
    /// Whether the claims let requests through, and how many of a former owner are there.
    pub(super) claim: SlotClaim,
}

/// What the claims say of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotClaim {
    pub(super) held: bool,
    pub(super) foreign: u32,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) bytes: u64,
    pub(super) since: Instant,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What a waiter is told in the end.
pub(super) type Answer = Result<Permit, Refusal>;

/// Answers to waiters, given once the lock is free: a waiter that has left drops its permit, and
/// the permit's `Drop` takes the lock.
#[must_use]
#[derive(Default)]
pub(super) struct Answers(pub(super) Vec<(oneshot::Sender<Answer>, Answer)>);

impl Answers {
    pub(super) fn give(self) {
        for (sender, answer) in self.0 {
            // A waiter that has left needs no answer; dropping a permit frees its slot.
            drop(sender.send(answer));
        }
    }
}

impl State {
    /// No pods, nobody waiting.
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            slots: Vec::new(),
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            next_ticket: 0,
            in_flight: 0,
            foreign: 0,
            claims: None,
            peak: 0,
            alarm: 0,
            expecting: false,
            failure: None,
            shut: None,
            activation: None,
        }
    }

    pub(super) fn waiting_count(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn load(&self) -> u32 {
        self.in_flight.saturating_add(self.foreign).saturating_add(self.waiting_count())
    }

    /// Which slots may be used, after the claims changed.
    pub(super) fn follow_claims(&mut self) {
        let claims = self.claims.as_ref();
        let mut foreign = 0;
        for slot in &mut self.slots {
            slot.claim = SlotClaim::of(claims, &slot.pod.uid);
            foreign += slot.claim.foreign;
        }
        self.foreign = foreign;
    }

    /// Forgets a pod that is gone and idle.
    pub(super) fn forget(&mut self, uid: &str) {
        if let Some(claims) = &mut self.claims {
            claims.forget(uid);
        }
    }

    /// The open pod with the fewest requests that may take one more.
    pub(super) fn pick(&self) -> Option<usize> {
        let concurrency = &self.bounds.concurrency;
        let soft = self.expecting.then_some(concurrency.target);
        let most = concurrency.limit.or(soft).map_or(u32::MAX, std::num::NonZeroU32::get);
        let limited = concurrency.limit.is_some();
        let free = |slot: &Slot| slot.open && (slot.claim.held || !limited) && slot.load() < most;
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| free(slot))
            .min_by_key(|(_, slot)| slot.load())
            .map(|(index, _)| index)
    }

    pub(super) fn occupy(&mut self, index: usize) -> Arc<Pod> {
        let slot = &mut self.slots[index];
        slot.in_flight += 1;
        self.in_flight += 1;
        Arc::clone(&slot.pod)
    }

    /// Frees a slot of `pod`; answers whether that was the last request of a closed pod.
    pub(super) fn vacate(&mut self, pod: &Arc<Pod>) -> bool {
        self.in_flight -= 1;
        let Some(index) = self.slots.iter().position(|slot| Arc::ptr_eq(&slot.pod, pod)) else {
            return false;
        };
        let slot = &mut self.slots[index];
        slot.in_flight -= 1;
        let idle_and_closed = slot.in_flight == 0 && !slot.open;
        if slot.in_flight == 0 && slot.retired {
            self.slots.swap_remove(index);
            self.forget(&pod.uid);
        }
        idle_and_closed
    }

    pub(super) fn enqueue(
        &mut self,
        bytes: u64,
    ) -> Result<(u64, oneshot::Receiver<Answer>), Refusal> {
        let served = self.slots.iter().any(|slot| slot.open);
        if !served && let Some(failure) = &self.failure {
            return Err(Refusal::StartFailed(Arc::clone(failure)));
        }
        let buffer = self.bounds.buffer;
        if self.waiting_count() >= buffer.requests {
            return Err(Refusal::TooManyWaiting(buffer.requests));
        }
        if self.waiting_bytes.saturating_add(bytes) > buffer.bytes {
            return Err(Refusal::TooManyBytes(buffer.bytes));
        }
        let since = Instant::now();
        if !served && self.activation.is_none() {
            self.activation = Some(ActivationMark { arrived: since, first_byte: None });
        }
        let (answer, receiver) = oneshot::channel();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting_bytes += bytes;
        self.waiting.insert(ticket, Waiter { bytes, since, answer });
        Ok((ticket, receiver))
    }

    pub(super) fn refuse_waiters(&mut self, refusal: &Refusal) -> Answers {
        self.waiting_bytes = 0;
        let waiting = std::mem::take(&mut self.waiting);
        Answers(waiting.into_values().map(|w| (w.answer, Err(refusal.clone()))).collect())
    }
}

impl Slot {
    /// Requests in the pod, whoever sent them.
    const fn load(&self) -> u32 {
        self.in_flight.saturating_add(self.claim.foreign)
    }

    pub(super) fn pod_load(&self) -> PodLoad {
        PodLoad {
            uid: Arc::clone(&self.pod.uid),
            revision: Arc::clone(&self.pod.revision),
            in_flight: self.load(),
            open: self.open,
        }
    }
}

impl SlotClaim {
    /// Where nothing is claimed everything may be used.
    pub(super) fn of(claims: Option<&Claims>, pod: &str) -> Self {
        claims.map_or(Self { held: true, foreign: 0 }, |claims| Self {
            held: claims.holds(pod),
            foreign: claims.foreign(pod),
        })
    }
}
