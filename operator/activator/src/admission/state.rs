//! What a gate knows: slots, queue and counts. Every method is called under the gate's lock, so
//! none may wait, do IO or drop a permit.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rouse_core::handover::Claims;
use rouse_core::scaling::Traffic;
use rouse_core::usage::Used;
use rouse_core::usage::share::PodMeter;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::drain_rate::DrainRate;
use super::followers::Followers;
use super::health::Health;
use super::retry_budget::RetryBudget;
use super::stays::Stays;
use super::straight::Straight;
use super::{ActivationMark, Bounds, Full, Load, Permit, PodLoad, Refusal, StartFailure, Trials};
use crate::pod::Pod;

#[derive(Debug)]
pub(super) struct State {
    pub(super) bounds: Bounds,
    pub(super) slots: Vec<Slot>,
    /// Open pods that are suspect; while there are none, nobody's health is looked at.
    pub(super) suspects: u32,
    /// By ticket: the order in which they came.
    pub(super) waiting: BTreeMap<u64, Waiter>,
    pub(super) waiting_bytes: u64,
    pub(super) next_ticket: u64,
    pub(super) drain_rate: DrainRate,
    pub(super) retry_budget: RetryBudget,
    pub(super) in_flight: u32,
    /// How long requests were and are in pods.
    pub(super) stays: Stays,
    /// Requests of former owners that pods are still serving.
    pub(super) foreign: u32,
    /// Which pods requests may be sent to, where that is limited.
    pub(super) claims: Option<Claims>,
    /// Other activators that send requests of this Function straight to its pods.
    pub(super) followers: Option<Box<Followers>>,
    /// What each pod is counted for, while they are to keep to their shares of it.
    pub(super) spread_target: Option<NonZeroU32>,
    /// Requests that they have there.
    pub(super) elsewhere: u32,
    /// The right to send straight, where another activator owns the Function.
    pub(super) straight: Option<Straight>,
    /// Tells the tasks that follow an owner from one another.
    pub(super) pursuits: u64,
    pub(super) peak: u32,
    /// Who had a ticket below this one when the peak was reached was part of it.
    peak_ticket: u64,
    /// When the last request left.
    pub(super) idle_since: Option<Instant>,
    /// The longest time without a request that ended since the peak began.
    rest: Option<(Instant, Instant)>,
    /// Load above which the task wants to know at once.
    pub(super) alarm: u32,
    /// Whether more pods are starting: until then a soft target holds requests back for them.
    pub(super) expecting: bool,
    /// Why nothing is let through while no pod is open.
    pub(super) failure: Option<Arc<StartFailure>>,
    /// What keeps pods from opening, as far as it is known.
    pub(super) delay: Option<Arc<StartFailure>>,
    /// Why nothing is let through ever again.
    pub(super) shut: Option<Refusal>,
    pub(super) activation: Option<ActivationMark>,
    /// What requests used of pods that are gone, by revision, since it was last asked.
    pub(super) used: BTreeMap<Arc<str>, Used>,
    /// Wakes the gate when a suspect pod may be tried by somebody who waits.
    pub(super) trials: Option<Trials>,
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
    /// What others do with it.
    pub(super) others: SlotOthers,
    pub(super) health: Health,
    /// What requests use of the pod, counted up to the moment beside it.
    pub(super) meter: PodMeter,
    pub(super) metered_at: Instant,
}

/// What the claims say of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotClaim {
    pub(super) held: bool,
    pub(super) foreign: u32,
}

/// What other activators do with a pod, as far as its owner knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotOthers {
    /// Requests that they have in it.
    pub(super) in_flight: u32,
    /// They may be sending to it.
    pub(super) may_send: bool,
}

/// A slot that was given to a request.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) pod: Arc<Pod>,
    /// It tries a suspect pod, and nothing came of that yet. Here, where there is room for it.
    pub(super) trying: AtomicBool,
    /// It did not reach the pod.
    pub(super) unsent: AtomicBool,
    /// Since when.
    pub(super) begun: Instant,
    /// The pod takes so many requests at once and never more.
    pub(super) limited: bool,
    /// An answer would tell something new of the pod.
    pub(super) proves: bool,
}

/// What a request says of itself as it gives its slot back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// It tried a suspect pod, and nothing came of that yet.
    pub(super) trial: bool,
    /// It had the slot since then.
    pub(super) since: Instant,
    /// It went to the pod, as far as is known.
    pub(super) sent: bool,
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
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            slots: Vec::new(),
            suspects: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            next_ticket: 0,
            drain_rate: DrainRate::default(),
            retry_budget: RetryBudget::default(),
            in_flight: 0,
            stays: Stays::new(),
            foreign: 0,
            claims: None,
            followers: None,
            spread_target: None,
            elsewhere: 0,
            straight: None,
            pursuits: 0,
            peak: 0,
            peak_ticket: 0,
            idle_since: None,
            rest: None,
            alarm: 0,
            expecting: false,
            failure: None,
            delay: None,
            shut: None,
            activation: None,
            used: BTreeMap::new(),
            trials: None,
        }
    }

    pub(super) fn waiting_count(&self) -> u32 {
        u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn total(&self) -> u32 {
        let elsewhere = self.foreign.saturating_add(self.elsewhere);
        self.in_flight.saturating_add(elsewhere).saturating_add(self.waiting_count())
    }

    /// Which slots may be used, after the claims changed.
    pub(super) fn follow_claims(&mut self) {
        let claims = self.claims.as_ref();
        let mut foreign = 0;
        for slot in &mut self.slots {
            let claim = SlotClaim::of(claims, &slot.pod.uid);
            if claim.foreign != slot.claim.foreign {
                slot.advance(Instant::now());
            }
            slot.claim = claim;
            foreign += slot.claim.foreign;
        }
        let falls = foreign < self.foreign;
        self.foreign = foreign;
        if falls {
            self.note_idle(Instant::now());
        }
        self.review();
    }

    /// Forgets a pod that is gone and idle.
    pub(super) fn forget(&mut self, uid: &str) {
        if let Some(claims) = &mut self.claims {
            claims.forget(uid);
        }
    }

    pub(super) fn load(&self) -> Load {
        Load {
            in_flight: self.total() - self.waiting_count(),
            waiting: self.waiting_count(),
            peak: self.peak,
            idle_since: self.idle_since.filter(|_| self.total() == 0),
            rest: self.rest,
            pods: self.slots.iter().map(Slot::pod_load).collect(),
            activation: self.activation,
            traffic: self.traffic(),
        }
    }

    /// What went through here.
    pub(super) fn own_traffic(&self) -> Traffic {
        self.stays.traffic(self.next_ticket, self.in_flight)
    }

    /// The next ticket.
    pub(super) const fn draw_ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// The pod that the next request goes to: a suspect one that it is time to try, else the one
    /// with the fewest requests that may take one more.
    pub(super) fn pick(&self) -> Option<usize> {
        let concurrency = &self.bounds.concurrency;
        let soft = self.expecting.then_some(concurrency.target);
        let limited = concurrency.limit.is_some();
        let usable = |slot: &Slot| slot.claim.held && !slot.others.may_send;
        self.pick_among(concurrency.limit.or(soft), |slot| !limited || usable(slot))
    }

    /// The pod with the fewest requests of those that are `usable` and have less than `most`.
    pub(super) fn pick_among(
        &self,
        most: Option<NonZeroU32>,
        usable: impl Fn(&Slot) -> bool,
    ) -> Option<usize> {
        let most = most.map_or(u32::MAX, NonZeroU32::get);
        let free = |slot: &Slot| slot.open && usable(slot) && slot.load() < most;
        if self.suspects > 0
            && let Some(index) = self.pick_suspect(free)
        {
            return Some(index);
        }
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| free(slot) && slot.health.is_sound())
            .min_by_key(|(_, slot)| slot.load())
            .map(|(index, _)| index)
    }

    pub(super) fn occupy(&mut self, index: usize) -> Taken {
        self.in_flight += 1;
        let now = Instant::now();
        self.stays.begin(now);
        let slot = &mut self.slots[index];
        slot.advance(now);
        slot.in_flight += 1;
        let (proves, trial) = (slot.health.awaits_answer(), slot.health.begin());
        Taken {
            pod: Arc::clone(&slot.pod),
            begun: now,
            limited: self.bounds.concurrency.limit.is_some(),
            proves,
            trying: AtomicBool::new(trial),
            unsent: AtomicBool::new(false),
        }
    }

    /// Frees a slot of `pod`; answers whether that was the last request of a closed pod.
    pub(super) fn vacate(&mut self, pod: &Arc<Pod>, ended: Ended) -> bool {
        let now = Instant::now();
        self.in_flight -= 1;
        self.stays.end(ended.since, now);
        self.note_idle(now);
        let Some(index) = self.slot_of(pod) else { return false };
        let slot = &mut self.slots[index];
        slot.advance(now);
        if ended.sent {
            slot.meter.end(nanos(now, ended.since), slot.load());
        }
        slot.in_flight -= 1;
        if ended.trial {
            slot.health.end_trial();
        }
        let idle_and_closed = slot.in_flight == 0 && !slot.open;
        if slot.in_flight == 0 && slot.retired {
            let mut gone = self.slots.swap_remove(index);
            self.note_used(&mut gone, now);
            self.forget(&pod.uid);
        }
        idle_and_closed
    }

    pub(super) fn slot_of(&self, pod: &Arc<Pod>) -> Option<usize> {
        self.slots.iter().position(|slot| Arc::ptr_eq(&slot.pod, pod))
    }

    /// Gives a request its place in the queue, or says why it can't have one.
    pub(super) fn enqueue(
        &mut self,
        ticket: u64,
        since: Option<Instant>,
        bytes: u64,
    ) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let served = self.slots.iter().any(|slot| slot.open);
        if !served && let Some(failure) = &self.failure {
            return Err(Refusal::StartFailed(Arc::clone(failure)));
        }
        let now = Instant::now();
        let buffer = self.bounds.buffer;
        if self.waiting_count() >= buffer.requests {
            return Err(self.refuse(Full::Requests(buffer.requests), now));
        }
        if self.waiting_bytes.saturating_add(bytes) > buffer.bytes {
            return Err(self.refuse(Full::Bytes(buffer.bytes), now));
        }
        if !served && self.activation.is_none() {
            self.activation = Some(ActivationMark { arrived: now, first_byte: None, caller: None });
        }
        let (answer, receiver) = oneshot::channel();
        self.drain_rate.begin(now);
        self.waiting_bytes += bytes;
        self.waiting.insert(ticket, Waiter { bytes, since: since.unwrap_or(now), answer });
        Ok(receiver)
    }

    fn refuse(&mut self, full: Full, now: Instant) -> Refusal {
        Refusal::Full { full, retry_after: self.retry_after(now) }
    }

    /// When somebody who is refused now should come back.
    pub(super) fn retry_after(&mut self, now: Instant) -> Duration {
        let oldest = self.waiting.values().next().map(|waiter| waiter.since);
        self.drain_rate.retry_after(self.waiting_count(), oldest, now)
    }

    /// The next who may have the slot that [`State::pick`] finds.
    pub(super) fn next_waiter(&mut self) -> Option<(u64, Waiter)> {
        let (ticket, waiter) = self.waiting.pop_first()?;
        self.waiting_bytes -= waiter.bytes;
        Some((ticket, waiter))
    }

    /// Takes out of the queue who left it.
    pub(super) fn leave(&mut self, ticket: u64) {
        let Some(waiter) = self.waiting.remove(&ticket) else { return };
        self.waiting_bytes -= waiter.bytes;
        // Who left the queue was no load: a flood of requests that are taken back starts no pods.
        if ticket < self.peak_ticket {
            self.peak = self.peak.saturating_sub(1).max(self.total());
        }
        if self.waiting.is_empty() {
            self.drain_rate.end(Instant::now());
        }
        self.note_idle(Instant::now());
    }

    /// Takes the load as the peak if it is one.
    pub(super) fn note_peak(&mut self) {
        self.note_peak_of(self.total());
    }

    /// Takes `load` as the peak if it is one.
    pub(super) fn note_peak_of(&mut self, load: u32) {
        if load > self.peak {
            self.peak = load;
            self.peak_ticket = self.next_ticket;
        }
        if load > 0
            && let Some(since) = self.idle_since.take()
        {
            self.end_rest(since);
        }
    }

    /// Notes that a time without a request has ended. Looking now and then would not see it.
    fn end_rest(&mut self, since: Instant) {
        let until = Instant::now();
        if self.rest.is_none_or(|(from, to)| to - from < until - since) {
            self.rest = Some((since, until));
        }
    }

    /// Starts a new peak.
    pub(super) fn begin_peak(&mut self) {
        self.rest = None;
        self.peak = self.total();
        self.peak_ticket = self.next_ticket;
    }

    pub(super) fn refuse_waiters(&mut self, refusal: &Refusal) -> Answers {
        let waiting = std::mem::take(&mut self.waiting);
        if !waiting.is_empty() {
            self.waiting_bytes = 0;
            self.drain_rate.end(Instant::now());
            self.note_idle(Instant::now());
        }
        Answers(waiting.into_values().map(|w| (w.answer, Err(refusal.clone()))).collect())
    }

    /// Forgets the slots of pods that are gone and serve nothing.
    pub(super) fn drop_retired(&mut self) {
        self.drop_slots(|slot| slot.retired && slot.in_flight == 0);
    }

    /// Forgets those slots, but not what was used of them.
    pub(super) fn drop_slots(&mut self, gone: impl FnMut(&Slot) -> bool) {
        let now = Instant::now();
        let (gone, stay): (Vec<Slot>, Vec<Slot>) =
            std::mem::take(&mut self.slots).into_iter().partition(gone);
        self.slots = stay;
        for mut slot in gone {
            self.note_used(&mut slot, now);
        }
    }

    fn note_used(&mut self, slot: &mut Slot, now: Instant) {
        let used = slot.take_used(now);
        if used != Used::default() {
            self.used.entry(Arc::clone(&slot.pod.revision)).or_default().add(&used);
        }
    }

    /// What requests used, by revision, since this was last asked; those in flight up to now.
    pub(super) fn take_used(&mut self) -> BTreeMap<Arc<str>, Used> {
        let now = Instant::now();
        let mut slots = std::mem::take(&mut self.slots);
        for slot in &mut slots {
            self.note_used(slot, now);
        }
        self.slots = slots;
        std::mem::take(&mut self.used)
    }

    pub(super) fn note_idle(&mut self, now: Instant) {
        if self.total() == 0 {
            self.idle_since = Some(now);
        }
    }
}

impl Slot {
    pub(super) fn new(pod: &Arc<Pod>, claims: Option<&Claims>) -> Self {
        Self {
            pod: Arc::clone(pod),
            in_flight: 0,
            open: true,
            retired: false,
            claim: SlotClaim::of(claims, &pod.uid),
            others: SlotOthers::default(),
            health: Health::default(),
            meter: PodMeter::default(),
            metered_at: Instant::now(),
        }
    }

    /// Counts what requests used up to `now`, before anything changes of how many there are.
    pub(super) fn advance(&mut self, now: Instant) {
        let passed = nanos(now, self.metered_at);
        self.meter.advance(passed, self.in_flight, self.load() - self.in_flight);
        self.metered_at = now;
    }

    /// Takes in what others do with it from now on.
    pub(super) fn follow_others(&mut self, others: SlotOthers) {
        if self.in_flight > 0 {
            self.advance(Instant::now());
        }
        self.others = others;
    }

    fn take_used(&mut self, now: Instant) -> Used {
        self.advance(now);
        self.meter.take(self.pod.memory)
    }

    /// Lets it have requests again, unless it is on its way out. It has answered anew.
    pub(super) fn reopen(&mut self) {
        if !self.open && !self.retired {
            self.open = true;
            self.health = Health::default();
        }
    }

    /// Requests in the pod, whoever sent them.
    const fn load(&self) -> u32 {
        self.in_flight.saturating_add(self.claim.foreign).saturating_add(self.others.in_flight)
    }

    fn pod_load(&self) -> PodLoad {
        PodLoad {
            uid: Arc::clone(&self.pod.uid),
            revision: Arc::clone(&self.pod.revision),
            in_flight: self.load(),
            open: self.open,
            awaited: self.others.may_send,
            failing: self.health.failing(),
        }
    }
}

fn nanos(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX)
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
