//! Admission to one Function: the slots of its pods and the queue before them.
//!
//! A [`Gate`] is shared by the requests, which ask it for a [`Permit`], and by the Function's own
//! task, which tells it of pods and is told of load. All of its state is behind one lock that is
//! never held across an await, and nothing here does IO.

mod claims;
mod drain_rate;
mod followers;
mod health;
mod line;
mod load;
mod permit;
mod retry_budget;
mod state;
mod stays;
mod straight;
mod suspects;
mod trials;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rouse_core::function::{BufferBounds, Concurrency};
use rouse_core::usage::Used;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::followers::Following;
pub use self::health::{Failing, Fault};
pub use self::load::{ActivationMark, Load, PodLoad};
pub use self::permit::{Permit, Place, Waiting};
pub(crate) use self::straight::Pursuit;

use self::state::{Answers, Ended, Slot, State};
use self::trials::Trials;
use crate::exemplar::Caller;
use crate::pod::Pod;

/// What a gate lets through and lets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests per pod.
    pub concurrency: Concurrency,
    /// Requests and bytes that may wait.
    pub buffer: BufferBounds,
}

/// Why a start can't succeed, in words for callers and for the Function's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    /// One word, such as `ImagePullFailed`.
    pub reason: &'static str,
    /// What happened and what can be done.
    pub message: String,
}

/// What there is no more room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The queue has as many requests as `buffer.requests` permits.
    #[error("{0} requests are waiting already, as many as may")]
    Requests(u32),
    /// The queue holds as many bytes as `buffer.bytes` permits.
    #[error("the waiting requests hold {0} bytes already, as many as they may")]
    Bytes(u64),
}

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue has no more room.
    #[error("{full}")]
    Full {
        /// Of what there is too much.
        full: Full,
        /// When to come back, by how fast the queue drains.
        retry_after: Duration,
    },
    /// No pod serves and the ones that start can't.
    #[error("{}", .0.message)]
    StartFailed(Arc<StartFailure>),
    /// Another activator owns the Function now: ask again where the membership says.
    #[error("the function is owned by another activator now")]
    Moved,
    /// The Function was deleted.
    #[error("the function was deleted")]
    Gone,
}

/// The answer to a request that asks for admission.
#[derive(Debug)]
pub enum Admission {
    /// It has a slot.
    Granted(Permit),
    /// It waits for one.
    Queued(Waiting),
    /// It is turned away.
    Refused(Refusal),
}

/// Admission to one Function.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Notify,
    /// Told of each request that ends once the gate is shut.
    falls: Notify,
}

impl Gate {
    /// A gate without pods.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(bounds)),
            changed: Notify::new(),
            falls: Notify::new(),
        })
    }

    /// Asks for a slot for a request that takes `bytes` of memory while it waits.
    pub fn admit(self: &Arc<Self>, bytes: u64) -> Admission {
        let mut state = self.lock();
        if let Some(refusal) = &state.shut {
            return Admission::Refused(refusal.clone());
        }
        let ticket = state.draw_ticket();
        if state.waiting.is_empty()
            && let Some(slot) = state.pick()
        {
            let taken = state.occupy(slot);
            self.finish(state, Answers::default());
            return Admission::Granted(Permit::new(self, Place { ticket, since: None }, taken));
        }
        self.wait(state, Place { ticket, since: None }, bytes)
    }

    /// Asks for another slot for a request that had one and could not be sent: in its former
    /// place, before all who came after it.
    pub fn admit_again(self: &Arc<Self>, place: Place, bytes: u64) -> Admission {
        let state = self.lock();
        match &state.shut {
            Some(refusal) => Admission::Refused(refusal.clone()),
            None => self.wait(state, place, bytes),
        }
    }

    fn wait(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        Place { ticket, since }: Place,
        bytes: u64,
    ) -> Admission {
        let place = state.enqueue(ticket, since, bytes);
        let answers = self.pump(&mut state);
        self.finish(state, answers);
        match place {
            Ok(answer) => Admission::Queued(Waiting::new(self, ticket, answer)),
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    /// Whether a request that a pod refused may be tried again.
    pub fn may_retry(&self) -> bool {
        let mut state = self.lock();
        let requests = state.next_ticket;
        state.retry_budget.take(requests, Instant::now())
    }

    /// When somebody should come back who is refused for another reason than this queue.
    pub fn retry_after(&self) -> Duration {
        self.lock().retry_after(Instant::now())
    }

    /// Puts other bounds in force.
    pub fn configure(self: &Arc<Self>, bounds: Bounds) {
        self.update(|state| {
            state.bounds = bounds;
            if bounds.concurrency.limit.is_some() {
                state.publish();
            }
        });
    }

    /// Lets requests through to `pod`; opens it again if it was closed.
    pub fn open(self: &Arc<Self>, pod: &Arc<Pod>) {
        self.update(|state| {
            state.failure = None;
            match state.slots.iter_mut().find(|slot| slot.pod.uid == pod.uid) {
                Some(slot) => slot.reopen(),
                None => state.slots.push(Slot::new(pod, state.claims.as_ref())),
            }
            state.follow_claims();
            state.follow_others();
        });
    }

    /// Lets no new requests through to the pod; those that it serves go on.
    pub fn close(self: &Arc<Self>, uid: &str) {
        self.update(|state| {
            for slot in state.slots.iter_mut().filter(|slot| &*slot.pod.uid == uid) {
                slot.open = false;
            }
            state.review();
        });
    }

    /// Forgets the pod as soon as its last request is done; it can't be opened again.
    pub fn retire(self: &Arc<Self>, uid: &str) {
        self.update(|state| {
            for slot in state.slots.iter_mut().filter(|slot| &*slot.pod.uid == uid) {
                slot.open = false;
                slot.retired = true;
                slot.pod.connections.close();
            }
            state.drop_retired();
            if !state.slots.iter().any(|slot| &*slot.pod.uid == uid) {
                state.forget(uid);
            }
            state.follow_claims();
        });
    }

    /// Says whether more pods are on their way. While they are, a pod with a soft target takes no
    /// more than its target, so that the first pod of a burst does not get all of it.
    pub fn expect_pods(self: &Arc<Self>, expecting: bool) {
        self.update(|state| state.expecting = expecting);
    }

    /// Turns away everyone who waits, and everyone who comes while no pod is open, until a pod
    /// opens or [`Gate::hope`] is called.
    pub fn fail(self: &Arc<Self>, failure: Arc<StartFailure>) {
        let mut state = self.lock();
        if state.slots.iter().any(|slot| slot.open) {
            return;
        }
        state.failure = Some(Arc::clone(&failure));
        let answers = state.refuse_waiters(&Refusal::StartFailed(failure));
        self.finish(state, answers);
    }

    /// Lets requests wait again after [`Gate::fail`].
    pub fn hope(&self) {
        self.lock().failure = None;
    }

    /// Says what keeps pods from opening, for those whose wait is in vain.
    pub fn set_delay(&self, delay: Option<Arc<StartFailure>>) {
        self.lock().delay = delay;
    }

    /// What keeps pods from opening, as far as it is known.
    pub fn delay(&self) -> Option<Arc<StartFailure>> {
        self.lock().delay.clone()
    }

    /// Turns away everyone, now and later. What pods serve already goes on.
    pub fn shut(self: &Arc<Self>, refusal: Refusal) {
        let mut state = self.lock();
        let answers = state.refuse_waiters(&refusal);
        state.shut = Some(refusal);
        state.part();
        self.finish(state, answers);
    }

    /// Sets the load above which the task is woken at once.
    pub fn set_alarm(&self, load: u32) {
        let mut state = self.lock();
        state.alarm = load;
        self.finish(state, Answers::default());
    }

    /// What is going on; starts a new peak.
    pub fn take_load(&self) -> Load {
        let mut state = self.lock();
        let load = state.load();
        state.begin_peak();
        load
    }

    /// What is going on; the peak goes on.
    pub fn load(&self) -> Load {
        self.lock().load()
    }

    /// What requests used of pods, by revision, since this was last asked.
    pub fn take_used(&self) -> BTreeMap<Arc<str>, Used> {
        self.lock().take_used()
    }

    /// Whether requests are in flight that were sent from here.
    pub fn is_serving(&self) -> bool {
        self.lock().in_flight > 0
    }

    /// Forgets the request that woke the Function: the next that finds no pod wakes it anew.
    pub fn end_activation(&self) {
        self.lock().activation = None;
    }

    /// Returns when the load rose above the alarm, a closed pod has served its last request, a pod
    /// was ejected, a woken Function answered, or another activator that sends to the pods said
    /// something that matters. One that happened before the call counts.
    ///
    /// That the last request left is not told: it happens with every request of a caller that
    /// makes one at a time. [`Load::idle_since`] says when it was.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then lets through whoever can go.
    fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let answers = self.pump(&mut state);
        self.finish(state, answers);
        changed
    }

    /// Ends a change: what others are told, they are told once the lock is free.
    fn finish(&self, mut state: MutexGuard<'_, State>, answers: Answers) {
        state.note_peak();
        let alarmed = state.total() > state.alarm;
        drop(state);
        if alarmed {
            self.changed.notify_one();
        }
        answers.give();
    }

    fn pump(self: &Arc<Self>, state: &mut State) -> Answers {
        let mut answers = Answers::default();
        while !state.waiting.is_empty()
            && let Some(slot) = state.pick()
            && let Some((ticket, waiter)) = state.next_waiter()
        {
            let place = Place { ticket, since: Some(waiter.since) };
            let taken = state.occupy(slot);
            answers.0.push((waiter.answer, Ok(Permit::new(self, place, taken))));
        }
        if !answers.0.is_empty() {
            let served = u32::try_from(answers.0.len()).unwrap_or(u32::MAX);
            let others_wait = !state.waiting.is_empty();
            state.drain_rate.note_served(served, others_wait, Instant::now());
        }
        if let Some(at) = state.next_trial() {
            Trials::arm(&mut state.trials, self, at);
        }
        answers
    }

    fn release(self: &Arc<Self>, pod: &Arc<Pod>, ended: Ended) {
        let (idle_and_closed, shut) =
            self.update(|state| (state.vacate(pod, ended), state.is_given_away()));
        if idle_and_closed {
            self.changed.notify_one();
        }
        if shut {
            self.falls.notify_one();
        }
    }

    fn leave(&self, ticket: u64) {
        self.lock().leave(ticket);
    }

    /// Lets whoever waits try the pods that it is time to try.
    fn try_suspects(self: &Arc<Self>) {
        self.update(|state| state.trials = None);
    }

    fn note_fault(self: &Arc<Self>, pod: &Arc<Pod>, fault: Fault, trial: bool) -> bool {
        let ejected = self.update(|state| state.note_fault(pod, fault, trial));
        if ejected {
            self.changed.notify_one();
        }
        ejected
    }

    fn note_reached(self: &Arc<Self>, pod: &Arc<Pod>) {
        self.update(|state| {
            if let Some(index) = state.slot_of(pod)
                && state.slots[index].health.note_reached()
            {
                state.review();
            }
        });
    }

    fn note_answered(self: &Arc<Self>, pod: &Arc<Pod>) {
        self.update(|state| {
            if let Some(index) = state.slot_of(pod)
                && state.slots[index].health.note_answered()
            {
                state.review();
            }
        });
    }

    fn note_first_byte(&self, caller: Option<Caller>) {
        let mut state = self.lock();
        if let Some(mark) = &mut state.activation
            && mark.first_byte.is_none()
        {
            mark.first_byte = Some(Instant::now());
            mark.caller = caller;
            drop(state);
            self.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
