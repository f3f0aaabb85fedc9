//! Drives the deliveries of one Trigger: takes from its source what the Function may run, sends it,
//! and tells the source what is done. All that it knows may be lost at any moment.

mod keeper;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use rouse_core::delivery::{
    Acks, Action, Event, Farewell, Machine, Outcome, Settings, Target, seed_of,
};
use rouse_core::event::{CloudEvent, Invalid, Message, to_batch, to_binary, to_structured};
use rouse_core::filter::{Filter, Verdict};
use rouse_core::function::FunctionKey;
use rouse_core::letter::letter_of;
use rouse_core::scaling::Moment;
use rouse_core::trigger::TriggerKey;
use rouse_crds::v1alpha1::EventFormat;
use rouse_peer::{Call, chain};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::link::{Allowance, Batch, Body, Far, Held, Order, Progress, count, linked, size};
use crate::metrics::TriggerMetrics;
use crate::source::{Brought, Source};
pub use keeper::Trouble;
pub(crate) use keeper::{Keeper, Kept};

/// Data that the events of one Trigger may hold: what waits here takes memory, and what the server
/// keeps takes none.
const HELD_BYTES: usize = 8 << 20;
/// Batches of events that are taken at once.
const TAKEN: usize = 256;
/// How long nothing may happen before the runner looks around.
const LOOK: Duration = Duration::from_secs(15);
/// What moments are counted from lies so long ago, so that the oldest event has one.
const BEGINNING: Duration = Duration::from_hours(100 * 8784);
/// How long what is under way may take once the runner shall stop. What takes longer is sent again
/// by whoever comes next.
const DRAIN: Duration = Duration::from_secs(20);
/// How long a source may take to see its last orders off.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is delivered, and how.
#[derive(Clone, Debug)]
pub struct Work {
    /// The Trigger.
    pub key: TriggerKey,
    /// Its UID, from which chance follows.
    pub uid: Arc<str>,
    /// The Function.
    pub function: FunctionKey,
    /// Which events it gets; none where it gets all.
    pub filter: Option<Filter>,
    /// What holds for deliveries. What the source says about acknowledging goes before.
    pub settings: Settings,
}

/// What a runner reaches.
pub struct Wires {
    /// Calls Functions.
    pub caller: Arc<dyn Call>,
    /// What the Function allows, as long as there is one.
    pub target: watch::Receiver<Option<Target>>,
    /// Stores dead letters, where there is a place for them.
    pub bury: Option<Arc<dyn Bury>>,
    /// Where to tell how it goes.
    pub outlook: watch::Sender<Outlook>,
    /// Where to count.
    pub metrics: TriggerMetrics,
    /// The clock on the wall.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Stores dead letters.
pub trait Bury: Send + Sync {
    /// Stores `letter`, an event with `rousereason` and `rouseattempts` among its attributes; whether
    /// it is stored for certain. Storing one twice must be harmless.
    fn bury(&self, letter: CloudEvent) -> BoxFuture<'static, bool>;
}

/// How a Trigger goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// How the source is doing.
    pub progress: Progress,
    /// What keeps it from its work.
    pub trouble: Option<Trouble>,
}

/// Delivers the events of `source` until `stop` turns true and what is under way has ended.
pub async fn run<S: Source>(source: S, work: Work, wires: Wires, stop: watch::Receiver<bool>) {
    let terms = source.terms();
    let (link, Far { allowance, events, orders, progress }) = linked();
    let keeper = Keeper::new(work.key.clone(), &work.uid, wires.outlook.clone());
    let metrics = wires.metrics.clone();
    let note = move |now: &Progress| {
        metrics.connected.set(i64::from(now.connected));
        metrics.lag.set(now.lag.and_then(|lag| lag.try_into().ok()).unwrap_or(0));
    };
    let kept = Kept::spawn(source, link, keeper, progress, note);
    let mut policy = work.settings.policy.clone();
    (policy.acks, policy.patience) = (terms.acks, terms.patience);
    let runner = Runner::<S> {
        machine: Machine::new(policy, seed_of(&work.uid)),
        acks: terms.acks,
        work,
        wires,
        events,
        allowance,
        orders: Some(orders),
        outbox: VecDeque::new(),
        taken: Allowance::default(),
        held_bytes: 0,
        started: Instant::now(),
        calls: JoinSet::new(),
        stopping: None,
    };
    runner.run(kept, stop).await;
}

/// Something that was under way is over.
enum Ended {
    Call { delivery: u64, events: usize, outcome: Outcome },
    Letter { id: Arc<str>, stored: bool },
}

struct Runner<S: Source> {
    machine: Machine<Body<S::Token>>,
    acks: Acks,
    work: Work,
    wires: Wires,
    events: mpsc::UnboundedReceiver<Vec<Brought<S::Token>>>,
    allowance: watch::Sender<Allowance>,
    /// None once nothing more is ordered.
    orders: Option<mpsc::Sender<Order<S::Token>>>,
    /// Orders for which there was no place yet.
    outbox: VecDeque<Order<S::Token>>,
    /// What the source brought since the beginning.
    taken: Allowance,
    held_bytes: usize,
    started: Instant,
    calls: JoinSet<Ended>,
    /// Until when what is under way may end.
    stopping: Option<Instant>,
}

impl<S: Source> Runner<S> {
    async fn run(mut self, kept: Kept, mut stop: watch::Receiver<bool>) {
        let mut brought = Vec::new();
        loop {
            let again = self.advance();
            let is_over = self.stopping.is_some_and(|until| {
                self.machine.in_flight() == 0 && self.calls.is_empty() || until <= Instant::now()
            });
            if is_over {
                break;
            }
            let orders = self.orders.clone();
            tokio::select! {
                taken = self.events.recv_many(&mut brought, TAKEN) => {
                    if taken == 0 {
                        // The source's task failed: whoever runs this starts it anew.
                        return;
                    }
                    self.take(brought.drain(..).flatten());
                }
                Some(ended) = self.calls.join_next(), if !self.calls.is_empty() => {
                    self.note(ended);
                    while let Some(ended) = self.calls.try_join_next() {
                        self.note(ended);
                    }
                }
                () = has_place(orders.as_ref()), if !self.outbox.is_empty() => {}
                changed = self.wires.target.changed(), if self.stopping.is_none() => {
                    if changed.is_err() {
                        self.stop();
                    }
                }
                _ = stop.wait_for(|stop| *stop), if self.stopping.is_none() => self.stop(),
                () = sleep_until(again) => {}
            }
        }
        self.leave(kept).await;
    }

    /// Takes no more events; those that wait are somebody else's soon.
    fn stop(&mut self) {
        self.stopping = Some(Instant::now() + DRAIN);
        self.machine.set_bound(0);
    }

    /// Gives back what is not done, and lets the source see its last orders off.
    async fn leave(mut self, kept: Kept) {
        let open: Vec<_> = self.machine.open().cloned().collect();
        if !open.is_empty() {
            self.outbox.push_back(Order::Release(Batch(open)));
        }
        let seen_off = async {
            if let Some(orders) = self.orders.take() {
                for order in self.outbox.drain(..) {
                    // It fails when the source is gone: there is nobody to tell.
                    let _ = orders.send(order).await;
                }
            }
            kept.ended().await;
        };
        let _ = timeout(FAREWELL, seen_off).await;
    }

    /// Does what follows from what came in; when to look again.
    fn advance(&mut self) -> Instant {
        if self.stopping.is_none() {
            let target = *self.wires.target.borrow_and_update();
            self.machine.set_bound(target.unwrap_or(Target::NONE).in_flight);
        }
        let now = self.moment();
        let step = self.machine.step(now);
        for action in step.actions {
            self.act(action);
        }
        self.send_orders();
        self.allow();
        let in_flight = i64::try_from(self.machine.in_flight()).unwrap_or(i64::MAX);
        self.wires.metrics.in_flight.set(in_flight);
        let wait = step.again_at.map_or(LOOK, |at| at.saturating_sub(now)).min(LOOK);
        let again = Instant::now() + wait;
        self.stopping.map_or(again, |until| again.min(until))
    }

    fn take(&mut self, brought: impl Iterator<Item = Brought<S::Token>>) {
        let (now, moment) = ((self.wires.clock)(), self.moment());
        for Brought { key, event, token } in brought {
            let (bytes, before) = (size(&event), self.machine.held());
            self.taken.events += 1;
            self.taken.bytes += count(bytes);
            if self.stopping.is_some() {
                continue;
            }
            let id: Arc<str> = event.id.as_str().into();
            let is_wanted = self.is_wanted(&event);
            let age = now.duration_since(event.time);
            let age = Duration::try_from(age).unwrap_or_default();
            self.machine.take([Event {
                id: id.clone(),
                key,
                since: moment.saturating_sub(age),
                body: Body { event, token, bytes, is_dropped: AtomicBool::new(false) },
            }]);
            if self.machine.held() > before {
                self.held_bytes += bytes;
            }
            if !is_wanted {
                // It is acknowledged in its turn, without being sent.
                self.machine.withdraw(&id);
            }
        }
    }

    /// Whether the Function gets an event, by the Trigger's filter.
    fn is_wanted(&self, event: &CloudEvent) -> bool {
        let Some(filter) = &self.work.filter else { return true };
        let verdict = filter.judge(event);
        match verdict {
            Verdict::Matches => {}
            Verdict::Differs => {
                self.wires.metrics.differing.inc();
            }
            Verdict::Unclear => {
                self.wires.metrics.unclear.inc();
            }
            Verdict::TooLarge => {
                self.wires.metrics.too_large.inc();
            }
        }
        verdict.delivers()
    }

    /// Says how much the source may bring.
    fn allow(&mut self) {
        let unsent: usize = self.outbox.iter().map(Order::len).sum();
        let room = self.machine.room().saturating_sub(unsent);
        let room = if self.stopping.is_some() { 0 } else { room };
        let allowance = Allowance {
            events: self.taken.events + count(room),
            bytes: self.taken.bytes + count(HELD_BYTES.saturating_sub(self.held_bytes)),
        };
        self.allowance.send_if_modified(|before| std::mem::replace(before, allowance) != allowance);
    }

    fn act(&mut self, action: Action<Body<S::Token>>) {
        match action {
            Action::Deliver { delivery, events, attempt } => {
                self.deliver(delivery, &events, attempt);
            }
            Action::Extend(events) => {
                // What waits for its turn would come too late.
                if self.outbox.is_empty() {
                    self.outbox.push_back(Order::Extend(Batch(events)));
                }
            }
            Action::Acknowledge(events) => self.acknowledge(events),
            Action::Store(farewell) => self.store(&farewell),
            Action::Drop(Farewell { event, reason, attempts }) => {
                let (trigger, id, reason) = (&self.work.key, &event.id, reason.as_str());
                tracing::warn!(%trigger, id = %id, reason, attempts, "an event was given up");
                // Its acknowledgement follows, by a channel.
                event.body.is_dropped.store(true, Ordering::Relaxed);
                self.wires.metrics.dropped.inc();
            }
        }
    }

    fn acknowledge(&mut self, events: Vec<Held<S::Token>>) {
        let bytes: usize = events.iter().map(|event| event.body.bytes).sum();
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        self.wires.metrics.acknowledged_at.set((self.wires.clock)().as_second());
        match (self.outbox.back_mut(), self.acks) {
            // A position says it all: only the last one matters.
            (Some(Order::Acknowledge(Batch(waiting))), Acks::UpTo) => *waiting = events,
            (Some(Order::Acknowledge(Batch(waiting))), Acks::Each) => waiting.extend(events),
            _ => self.outbox.push_back(Order::Acknowledge(Batch(events))),
        }
    }

    fn send_orders(&mut self) {
        let Some(orders) = &self.orders else { return };
        while !self.outbox.is_empty() {
            let Ok(place) = orders.try_reserve() else { return };
            if let Some(order) = self.outbox.pop_front() {
                place.send(order);
            }
        }
    }

    fn deliver(&mut self, delivery: u64, events: &[Held<S::Token>], attempt: u32) {
        let sent: Vec<&CloudEvent> = events.iter().map(|event| &event.body.event).collect();
        let limit = self.limit();
        let outcome = match to_message::<S>(self.work.settings.format, &sent) {
            Ok(message) => self.wires.caller.call(&self.work.function, message, limit),
            Err(error) => {
                let (trigger, error) = (&self.work.key, chain(&error));
                tracing::warn!(%trigger, error, "events can't be sent");
                Box::pin(std::future::ready(Outcome::Rejected))
            }
        };
        let events = events.len();
        if attempt > 1 {
            self.wires.metrics.retried.inc_by(count(events));
        }
        self.calls.spawn(async move { Ended::Call { delivery, events, outcome: outcome.await } });
    }

    fn limit(&self) -> Duration {
        let own = self.wires.target.borrow().unwrap_or(Target::NONE).limit;
        self.work.settings.timeout.unwrap_or(own)
    }

    fn store(&mut self, farewell: &Farewell<Body<S::Token>>) {
        let id = farewell.event.id.clone();
        let event = farewell.event.body.event.clone();
        let letter = letter_of(event, farewell.reason.as_str(), farewell.attempts);
        let buried = self.wires.bury.as_ref().map(|bury| bury.bury(letter));
        self.calls.spawn(async move {
            let stored = match buried {
                Some(buried) => buried.await,
                None => false,
            };
            Ended::Letter { id, stored }
        });
    }

    fn note(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let now = self.moment();
        // Nothing here panics, and what is stopped is not awaited.
        let Ok(ended) = ended else { return };
        match ended {
            Ended::Call { delivery, events, outcome } => {
                let failed = match &outcome {
                    Outcome::Done => 0,
                    Outcome::Partly(names) => names.len(),
                    Outcome::Failed | Outcome::Rejected | Outcome::Busy(_) => events,
                };
                self.wires.metrics.delivered.inc_by(count(events.saturating_sub(failed)));
                self.machine.outcome(delivery, &outcome, now);
            }
            Ended::Letter { id, stored } => {
                self.wires.metrics.dead_lettered.inc_by(u64::from(stored));
                self.machine.stored(&id, stored, now);
            }
        }
    }

    fn moment(&self) -> Moment {
        BEGINNING + self.started.elapsed()
    }
}

async fn has_place<T>(orders: Option<&mpsc::Sender<T>>) {
    match orders {
        // It fails when the source is gone, and then its end is seen elsewhere.
        Some(orders) => drop(orders.reserve().await),
        None => pending().await,
    }
}

/// What a Function is sent for `events` of a source.
pub(crate) fn to_message<S: Source>(
    format: EventFormat,
    events: &[&CloudEvent],
) -> Result<Message, Invalid> {
    match (format, events) {
        (EventFormat::CloudEvents, [event]) => to_binary(event),
        (EventFormat::CloudEventsStructured, [event]) => to_structured(event),
        (EventFormat::Lambda, events) => S::to_lambda(events),
        (_, events) => to_batch(events),
    }
}

#[cfg(test)]
mod tests;
