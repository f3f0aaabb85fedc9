//! Admission to one Function: the slots of its pods and the queue before them.
//!
//! A [`Gate`] is shared by the requests, which ask it for a [`Permit`], and by the Function's own
//! task, which tells it of pods and is told of load. All of its state is behind one lock that is
//! never held across an await, and nothing here does IO.

mod claims;
mod line;
mod state;

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rouse_core::function::{BufferBounds, Concurrency};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::line::UsedLine;
use self::state::{Answer, Answers, Slot, SlotClaim, State};
use crate::pod::Pod;
use crate::upstream::Line;

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

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The queue has as many requests as `buffer.requests` permits.
    #[error("{0} requests are waiting already, as many as may")]
    TooManyWaiting(u32),
    /// The queue holds as many bytes as `buffer.bytes` permits.
    #[error("the waiting requests hold {0} bytes already, as many as they may")]
    TooManyBytes(u64),
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

/// What a gate tells the Function's task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that pods are serving, those of former owners too.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Most of both together since the gate was last asked.
    pub peak: u32,
    /// Requests by pod, closed pods too.
    pub pods: Vec<PodLoad>,
    /// The request that is waking the Function or woke it last.
    pub activation: Option<ActivationMark>,
}

/// Requests that one pod is serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLoad {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Hash of its revision.
    pub revision: Arc<str>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Whether it gets new requests.
    pub open: bool,
}

/// The request that wakes a Function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationMark {
    /// When it came.
    pub arrived: Instant,
    /// When the first byte of the first answer to a request that waited went back.
    pub first_byte: Option<Instant>,
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

    /// Asks for a slot for a request whose head takes `bytes` of memory while it waits.
    pub fn admit(self: &Arc<Self>, bytes: u64) -> Admission {
        let mut state = self.lock();
        if let Some(refusal) = &state.shut {
            return Admission::Refused(refusal.clone());
        }
        if state.waiting.is_empty()
            && let Some(slot) = state.pick()
        {
            let pod = state.occupy(slot);
            let permit = self.permit(&state, pod, None);
            self.note_load(&mut state);
            drop(state);
            return Admission::Granted(permit);
        }
        match state.enqueue(bytes) {
            Ok((ticket, answer)) => {
                self.note_load(&mut state);
                drop(state);
                Admission::Queued(Waiting { gate: Arc::clone(self), ticket, answer })
            }
            Err(refusal) => Admission::Refused(refusal),
        }
    }

    /// Puts other bounds in force.
    pub fn configure(self: &Arc<Self>, bounds: Bounds) {
        self.update(|state| state.bounds = bounds);
    }

    /// Lets requests through to `pod`; opens it again if it was closed.
    pub fn open(self: &Arc<Self>, pod: &Arc<Pod>) {
        self.update(|state| {
            state.failure = None;
            match state.slots.iter_mut().find(|slot| slot.pod.uid == pod.uid) {
                Some(slot) => slot.open = !slot.retired,
                None => state.slots.push(Slot {
                    pod: Arc::clone(pod),
                    in_flight: 0,
                    open: true,
                    retired: false,
                    claim: SlotClaim::of(state.claims.as_ref(), &pod.uid),
                }),
            }
            state.follow_claims();
        });
    }

    /// Lets no new requests through to the pod; those that it serves go on.
    pub fn close(self: &Arc<Self>, uid: &str) {
        self.update(|state| {
            for slot in state.slots.iter_mut().filter(|slot| &*slot.pod.uid == uid) {
                slot.open = false;
            }
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
            state.slots.retain(|slot| !slot.retired || slot.in_flight > 0);
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

    /// Turns away everyone, now and later. What pods serve already goes on.
    pub fn shut(self: &Arc<Self>, refusal: Refusal) {
        let mut state = self.lock();
        let answers = state.refuse_waiters(&refusal);
        state.shut = Some(refusal);
        self.finish(state, answers);
    }

    /// Sets the load above which the task is woken at once.
    pub fn set_alarm(&self, load: u32) {
        let mut state = self.lock();
        state.alarm = load;
        self.note_load(&mut state);
    }

    /// What is going on; starts a new peak.
    pub fn take_load(&self) -> Load {
        let mut state = self.lock();
        let load = Load {
            in_flight: state.in_flight.saturating_add(state.foreign),
            waiting: state.waiting_count(),
            peak: state.peak,
            pods: state.slots.iter().map(Slot::pod_load).collect(),
            activation: state.activation,
        };
        state.peak = state.load();
        load
    }

    /// Forgets the request that woke the Function: the next that finds no pod wakes it anew.
    pub fn end_activation(&self) {
        self.lock().activation = None;
    }

    /// Returns when the load rose above the alarm, the last request left, a closed pod has served
    /// its last request, or a woken Function answered. One that happened before the call counts.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then lets through whoever can go.
    fn update(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let answers = self.pump(&mut state);
        self.finish(state, answers);
    }

    fn finish(&self, mut state: MutexGuard<'_, State>, answers: Answers) {
        self.note_load(&mut state);
        drop(state);
        answers.give();
    }

    fn note_load(&self, state: &mut State) {
        let load = state.load();
        state.peak = state.peak.max(load);
        if load > state.alarm {
            self.changed.notify_one();
        }
    }

    fn pump(self: &Arc<Self>, state: &mut State) -> Answers {
        let mut answers = Answers::default();
        while !state.waiting.is_empty()
            && let Some(slot) = state.pick()
            && let Some((_, waiter)) = state.waiting.pop_first()
        {
            state.waiting_bytes -= waiter.bytes;
            let pod = state.occupy(slot);
            let permit = self.permit(state, pod, Some(waiter.since));
            answers.0.push((waiter.answer, Ok(permit)));
        }
        answers
    }

    fn permit(
        self: &Arc<Self>,
        state: &State,
        pod: Arc<Pod>,
        waited_since: Option<Instant>,
    ) -> Permit {
        let limited = state.bounds.concurrency.limit.is_some();
        Permit { gate: Arc::clone(self), pod, waited_since, limited, line: UsedLine::default() }
    }

    fn release(self: &Arc<Self>, pod: &Arc<Pod>) {
        let mut state = self.lock();
        let idle_and_closed = state.vacate(pod);
        let answers = self.pump(&mut state);
        if idle_and_closed || state.load() == 0 {
            self.changed.notify_one();
        }
        if state.shut.is_some() {
            self.falls.notify_one();
        }
        self.finish(state, answers);
    }

    fn leave(&self, ticket: u64) {
        let mut state = self.lock();
        if let Some(waiter) = state.waiting.remove(&ticket) {
            state.waiting_bytes -= waiter.bytes;
            if state.load() == 0 {
                self.changed.notify_one();
            }
        }
    }

    fn note_first_byte(&self) {
        let mut state = self.lock();
        if let Some(mark) = &mut state.activation
            && mark.first_byte.is_none()
        {
            mark.first_byte = Some(Instant::now());
            self.changed.notify_one();
        }
    }
}

/// The right to send one request to one pod. Its slot is free again when this is dropped, so it
/// belongs with the body of the answer.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Gate>,
    pod: Arc<Pod>,
    waited_since: Option<Instant>,
    limited: bool,
    line: UsedLine,
}

impl Permit {
    /// The pod.
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Whether the pod serves a number of requests at once and never more.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// Says on which connection the request goes out: the slot is free once the pod is done there.
    pub(crate) fn use_line(&self, line: &Arc<Line>) {
        self.line.set(line);
    }

    /// When the request began to wait; none where it had a slot at once.
    pub fn waited_since(&self) -> Option<Instant> {
        self.waited_since
    }

    /// Says that the first byte of the answer is on its way to the caller.
    pub fn note_first_byte(&self) {
        if self.waited_since.is_some() {
            self.gate.note_first_byte();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.line.take() {
            None => self.gate.release(&self.pod),
            Some(line) => {
                let (gate, pod) = (Arc::clone(&self.gate), Arc::clone(&self.pod));
                line.free(Box::new(move |done| {
                    if !done {
                        gate.give_up(&pod.uid);
                    }
                    gate.release(&pod);
                }));
            }
        }
    }
}

/// A place in the queue. Dropping it gives the place back.
#[derive(Debug)]
pub struct Waiting {
    gate: Arc<Gate>,
    ticket: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Future for Waiting {
    type Output = Result<Permit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A gate answers every waiter before it forgets it; a lost answer means it was shut.
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.unwrap_or(Err(Refusal::Gone)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gate.leave(self.ticket);
    }
}

#[cfg(test)]
mod tests;
