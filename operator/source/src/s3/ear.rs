//! Hears what a server tells of objects through a broker of messages: lets it in where the door of
//! others does too, and answers for a message when all that it tells is done, or was no news. What
//! keeps it from hearing keeps nobody from listing.

use std::collections::HashMap;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use rouse_core::delivery::Event;
use rouse_core::event::{CloudEvent, Data};
use rouse_core::scaling::Moment;
use rouse_core::trigger::TriggerKey;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::link::{Allowance, Batch, Body, Far, Held, Order, count, linked, size};
use crate::runner::{Keeper, Kept, Outlook};
use crate::source::{Brought, Source};
use crate::webhook::{Answer, Fate, Intake, events_of};

/// Messages that are held at once: enough to look at many while a Function works. What is not held
/// stays where it is kept.
const HELD: usize = 256;
/// Bytes of them.
const HELD_BYTES: usize = 4 << 20;

/// For whom an ear hears.
pub struct Hearer {
    /// The Trigger.
    pub key: TriggerKey,
    /// Its UID.
    pub uid: Arc<str>,
    /// The source of the events that only the Trigger's own source reads.
    pub source: String,
}

/// An ear, which is gone with this.
pub(super) struct Ear {
    /// Whether it hears, and what keeps it from that.
    pub outlook: watch::Receiver<Outlook>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Ear {
    /// Hears what `source` brings.
    pub fn spawn<S: Source>(source: S, hearer: Hearer, intake: Arc<Intake>) -> Self {
        let (told, outlook) = watch::channel(Outlook::default());
        let (stop, stopped) = watch::channel(false);
        let (link, far) = linked();
        let keeper = Keeper::new(hearer.key.clone(), &hearer.uid, told);
        let patience = source.terms().patience;
        let kept = Kept::spawn(source, link, keeper, far.progress.clone(), |_| {});
        let listener = Listener {
            hearer,
            intake,
            far,
            taken: Allowance::default(),
            held: HashMap::new(),
            held_bytes: 0,
            open: FuturesUnordered::new(),
            is_odd: false,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            listener.listen(patience, stopped).await;
            kept.ended().await;
        });
        Self { outlook, stop, tasks }
    }

    /// Ends it when all is answered, whose intake is closed before.
    pub async fn end(&mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// A message, by its number, and whether all that it told is done.
type Answered = (u64, bool);

struct Listener<T> {
    hearer: Hearer,
    intake: Arc<Intake>,
    far: Far<T>,
    /// What was brought since the beginning.
    taken: Allowance,
    /// By number, the messages that are not answered.
    held: HashMap<u64, Held<T>>,
    held_bytes: usize,
    open: FuturesUnordered<BoxFuture<'static, Answered>>,
    /// Whether the last message was no notification.
    is_odd: bool,
}

impl<T: Send + Sync + 'static> Listener<T> {
    async fn listen(mut self, patience: Option<Duration>, mut stop: watch::Receiver<bool>) {
        let mut extensions = patience.map(|patience| every(patience / 3));
        let mut is_stopping = false;
        while !(is_stopping && self.open.is_empty() && self.far.events.is_empty()) {
            self.allow(is_stopping);
            tokio::select! {
                biased;
                _ = stop.changed(), if !is_stopping => is_stopping = true,
                Some((number, is_done)) = self.open.next(), if !self.open.is_empty() => {
                    self.answer(number, is_done).await;
                }
                () = tick(&mut extensions) => self.extend(),
                brought = self.far.events.recv() => match brought {
                    Some(brought) => brought.into_iter().for_each(|one| self.take(one)),
                    // Its task failed.
                    None => return,
                },
            }
        }
    }

    /// Says how much may be brought.
    fn allow(&self, is_stopping: bool) {
        let left = |most: usize, held: usize| {
            if is_stopping { 0 } else { count(most.saturating_sub(held)) }
        };
        let allowance = Allowance {
            events: self.taken.events + left(HELD, self.held.len()),
            bytes: self.taken.bytes + left(HELD_BYTES, self.held_bytes),
        };
        let set = |before: &mut Allowance| std::mem::replace(before, allowance) != allowance;
        self.far.allowance.send_if_modified(set);
    }

    /// Takes in a message.
    fn take(&mut self, Brought { event, token, .. }: Brought<T>) {
        let (bytes, number) = (size(&event), self.taken.events);
        self.taken.events += 1;
        self.taken.bytes += count(bytes);
        let answered = self.offer(number, &event);
        self.open.push(answered);
        let id = event.id.as_str().into();
        let body = Body { event, token, bytes, is_dropped: AtomicBool::new(false) };
        let held = Event { id, key: None, since: Moment::ZERO, body };
        self.held.insert(number, Arc::new(held));
        self.held_bytes += bytes;
    }

    /// Offers what a message tells; what becomes of all of it.
    fn offer(&mut self, number: u64, message: &CloudEvent) -> BoxFuture<'static, Answered> {
        let known = |is_done| ready((number, is_done)).boxed();
        let Data::Bytes { bytes, .. } = &message.data else { return known(true) };
        let events = events_of(bytes, &self.hearer.source);
        self.note(&message.id, events.as_ref().err());
        let Some(place) = self.intake.place(bytes.len()).map(Arc::new) else { return known(false) };
        let mut fates = Vec::new();
        for event in events.unwrap_or_default() {
            match self.intake.offer(event, place.clone()) {
                Answer::Done => {}
                Answer::UnderWay(fate) => fates.push(fate),
                // What was taken before it goes on, and is joined when it comes again.
                Answer::Busy => return known(false),
            }
        }
        async move {
            let mut is_done = true;
            for mut fate in fates {
                let fate = fate.wait_for(Option::is_some).await.ok().and_then(|fate| *fate);
                is_done &= matches!(fate, Some(Fate::Done | Fate::GivenUp));
            }
            (number, is_done)
        }
        .boxed()
    }

    /// Who publishes something else there does so often: the first is told of.
    fn note(&mut self, id: &str, error: Option<&String>) {
        let was_odd = std::mem::replace(&mut self.is_odd, error.is_some());
        if let (Some(error), false) = (error, was_odd) {
            let trigger = &self.hearer.key;
            tracing::warn!(%trigger, id, error, "a message is passed over");
        }
    }

    /// Answers for a message.
    async fn answer(&mut self, number: u64, is_done: bool) {
        let Some(held) = self.held.remove(&number) else { return };
        self.held_bytes = self.held_bytes.saturating_sub(held.body.bytes);
        let batch = Batch(vec![held]);
        let order = if is_done { Order::Acknowledge(batch) } else { Order::Release(batch) };
        // There is room for an order for each message that is held. It fails when nobody is there.
        let _ = self.far.orders.send(order).await;
    }

    /// Asks for patience with all that is held. Nobody hears that who is away, and waiting for him
    /// would take the place of answers.
    fn extend(&self) {
        if !self.held.is_empty() && self.far.progress.borrow().connected {
            let all = self.held.values().cloned().collect();
            // What waits for its turn would come too late.
            let _ = self.far.orders.try_send(Order::Extend(Batch(all)));
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
