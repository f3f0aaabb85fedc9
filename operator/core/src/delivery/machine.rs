//! The machine: events in, actions out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Acks, Action, Event, Farewell, GivenUp, Outcome, Policy, Reason, Step};
use crate::scaling::Moment;
use crate::simulation::chance::Chance;

/// The deliveries of one source to one Function. Events are known by a number that grows in the
/// order in which they came.
#[derive(Debug)]
pub struct Machine<B> {
    policy: Policy,
    chance: Chance,
    /// Deliveries that may be under way.
    bound: usize,
    /// The last number that was given, to an event or a delivery.
    last: u64,
    events: BTreeMap<u64, Held<B>>,
    numbers: HashMap<Arc<str>, u64>,
    /// Events of each key with which the Function is not done.
    keys: HashMap<Arc<str>, BTreeSet<u64>>,
    /// Events that may be sent now.
    ready: BTreeSet<u64>,
    waiting: BTreeSet<(Moment, u64)>,
    deliveries: HashMap<u64, Vec<u64>>,
    /// When the source was last asked for patience.
    extended: Moment,
    /// What follows from what came in since the last step.
    actions: Vec<Action<B>>,
}

/// An event that is not acknowledged.
#[derive(Debug)]
struct Held<B> {
    event: Arc<Event<B>>,
    state: State,
    /// Failures that count.
    attempts: u32,
    /// Failures in a row, for the wait.
    failures: u32,
    /// Events that it may be sent with, itself among them: fewer after each split.
    share: usize,
    /// Why it is given up.
    given_up: Option<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent, once it is the first of its key.
    Ready,
    /// For its time.
    Waiting,
    /// With the Function, or on its way into the store of dead letters.
    Away,
    /// To be acknowledged, once all before it may be.
    Done,
}

impl<B> Machine<B> {
    /// A machine without events. `seed` decides how waits are spread.
    pub fn new(policy: Policy, seed: u64) -> Self {
        Self {
            policy,
            chance: Chance::new(seed, 0),
            bound: 1,
            last: 0,
            events: BTreeMap::new(),
            numbers: HashMap::new(),
            keys: HashMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            deliveries: HashMap::new(),
            extended: Moment::ZERO,
            actions: Vec::new(),
        }
    }

    /// Says how many deliveries may be under way: as many as the Function may run. What is under
    /// way already is not called back.
    pub const fn set_bound(&mut self, deliveries: usize) {
        self.bound = deliveries;
    }

    /// Events that the source may be asked for. Nothing is read ahead: what waits here could be
    /// with the Function.
    pub fn room(&self) -> usize {
        self.bound.saturating_mul(self.policy.batch.get()).saturating_sub(self.events.len())
    }

    /// Events that are not acknowledged.
    pub fn held(&self) -> usize {
        self.events.len()
    }

    /// Deliveries that are under way.
    pub fn in_flight(&self) -> usize {
        self.deliveries.len()
    }

    /// Events with which nobody is done, in the order in which they came.
    pub fn open(&self) -> impl Iterator<Item = &Arc<Event<B>>> {
        let open = self.events.values().filter(|held| held.state != State::Done);
        open.map(|held| &held.event)
    }

    /// Takes in what the source brought. What is here already is not taken twice.
    pub fn take(&mut self, events: impl IntoIterator<Item = Event<B>>) {
        for event in events {
            if self.numbers.contains_key(&event.id) {
                continue;
            }
            self.last += 1;
            let number = self.last;
            self.numbers.insert(event.id.clone(), number);
            if let Some(key) = &event.key {
                self.keys.entry(key.clone()).or_default().insert(number);
            }
            let held = Held {
                event: Arc::new(event),
                state: State::Ready,
                attempts: 0,
                failures: 0,
                share: self.policy.batch.get(),
                given_up: None,
            };
            self.events.insert(number, held);
            self.offer(number);
        }
    }

    /// Takes in what became of a delivery.
    pub fn outcome(&mut self, delivery: u64, outcome: &Outcome, now: Moment) {
        let Some(numbers) = self.deliveries.remove(&delivery) else { return };
        match outcome {
            Outcome::Done => numbers.into_iter().for_each(|number| self.settle(number)),
            Outcome::Partly(failed) => self.part(&numbers, failed, now),
            Outcome::Busy(after) => {
                for number in numbers {
                    self.retry(number, *after, now);
                }
            }
            Outcome::Failed | Outcome::Rejected if numbers.len() > 1 => self.split(&numbers, now),
            Outcome::Failed => numbers.into_iter().for_each(|number| self.fail(number, now)),
            Outcome::Rejected => {
                for number in numbers {
                    self.count(number);
                    self.give_up(number, Reason::Rejected, now);
                }
            }
        }
    }

    /// Takes in whether the dead letter of the event with this id is stored.
    pub fn stored(&mut self, id: &str, stored: bool, now: Moment) {
        let number = self.numbers.get(id).copied();
        let held = number.and_then(|number| Some((number, self.events.get(&number)?)));
        match held {
            Some((number, held)) if held.given_up.is_some() && held.state == State::Away => {
                if stored {
                    self.settle(number);
                } else {
                    self.wait(number, Duration::ZERO, now);
                }
            }
            _ => {}
        }
    }

    /// Takes in that whoever made the event with this id wants it no more; what became of its
    /// delivery means nothing then. It is acknowledged.
    pub fn withdraw(&mut self, id: &str) {
        let Some(number) = self.numbers.get(id).copied() else { return };
        self.deliveries.retain(|_, numbers| {
            numbers.retain(|other| *other != number);
            !numbers.is_empty()
        });
        self.ready.remove(&number);
        self.waiting.retain(|(_, other)| *other != number);
        self.settle(number);
    }

    /// What to do at `now`.
    pub fn step(&mut self, now: Moment) -> Step<B> {
        while let Some(&(due, number)) = self.waiting.first()
            && due <= now
        {
            self.waiting.pop_first();
            match self.events.get(&number).and_then(|held| held.given_up) {
                Some(reason) => self.store(number, reason),
                None => self.offer(number),
            }
        }
        while self.deliveries.len() < self.bound
            && let Some(first) = self.next_ready(now)
        {
            self.deliver(first);
        }
        let extend_at = self.extend(now);
        let due = self.waiting.first().map(|&(due, _)| due);
        Step {
            actions: std::mem::take(&mut self.actions),
            again_at: due.into_iter().chain(extend_at).min(),
        }
    }

    /// The first event that may be sent and is not too old.
    fn next_ready(&mut self, now: Moment) -> Option<u64> {
        loop {
            let number = *self.ready.first()?;
            if !self.expires(number, now) {
                return Some(number);
            }
            self.ready.pop_first();
            self.give_up(number, Reason::Age, now);
        }
    }

    /// Whether the event will be too old at `then`, and old age matters.
    fn expires(&self, number: u64, then: Moment) -> bool {
        let since = self.events.get(&number).map(|held| held.event.since);
        let ends = self.policy.max_age.and_then(|age| since?.checked_add(age));
        self.policy.given_up != GivenUp::Never && ends.is_some_and(|ends| ends < then)
    }

    /// Sends the event `first` with as many as may go along: those of equal share, so that what
    /// was split stays apart, and of each key in order.
    fn deliver(&mut self, first: u64) {
        let share = self.events.get(&first).map_or(1, |held| held.share);
        let fits = |number: &u64| {
            let held = self.events.get(number);
            held.is_some_and(|held| held.state == State::Ready && held.share == share)
        };
        let mut numbers = Vec::new();
        for number in self.ready.iter().filter(|number| fits(number)) {
            let queue = self.key_of(*number).and_then(|key| self.keys.get(key));
            let followers = queue.into_iter().flat_map(|queue| queue.range(number + 1..));
            numbers.push(*number);
            numbers.extend(followers.take_while(|number| fits(number)));
            if numbers.len() >= share {
                break;
            }
        }
        numbers.truncate(share);
        numbers.sort_unstable();
        let mut events = Vec::with_capacity(numbers.len());
        for number in &numbers {
            self.ready.remove(number);
            if let Some(held) = self.events.get_mut(number) {
                held.state = State::Away;
                events.push(held.event.clone());
            }
        }
        self.last += 1;
        let attempt = self.events.get(&first).map_or(1, |held| held.attempts + 1);
        self.actions.push(Action::Deliver { delivery: self.last, events, attempt });
        self.deliveries.insert(self.last, numbers);
    }

    /// Asks for patience when a third of it is used up; when that will be.
    fn extend(&mut self, now: Moment) -> Option<Moment> {
        let every = self.policy.patience? / 3;
        if now >= self.extended + every {
            self.extended = now;
            let open: Vec<_> = self.open().cloned().collect();
            if !open.is_empty() {
                self.actions.push(Action::Extend(open));
            }
        }
        (!self.events.is_empty()).then_some(self.extended + every)
    }

    /// Makes an event ready to be sent, if it is the first of its key.
    fn offer(&mut self, number: u64) {
        let Some(held) = self.events.get_mut(&number) else { return };
        held.state = State::Ready;
        let key = held.event.key.as_ref().and_then(|key| self.keys.get(key));
        if key.is_none_or(|queue| queue.first() == Some(&number)) {
            self.ready.insert(number);
        }
    }

    /// The Function is done with the event, or its dead letter is stored.
    fn settle(&mut self, number: u64) {
        let Some(held) = self.events.get_mut(&number) else { return };
        held.state = State::Done;
        let event = held.event.clone();
        if let Some(key) = &event.key
            && let Some(queue) = self.keys.get_mut(key)
        {
            queue.remove(&number);
            match queue.first().copied() {
                None => {
                    self.keys.remove(key);
                }
                Some(next) => {
                    if self.events.get(&next).is_some_and(|held| held.state == State::Ready) {
                        self.ready.insert(next);
                    }
                }
            }
        }
        match self.policy.acks {
            Acks::Each => self.acknowledge(number),
            Acks::UpTo => {
                while let Some((&first, held)) = self.events.first_key_value()
                    && held.state == State::Done
                {
                    self.acknowledge(first);
                }
            }
        }
    }

    /// Acknowledges an event, together with those before it that nothing was done since.
    fn acknowledge(&mut self, number: u64) {
        let Some(held) = self.events.remove(&number) else { return };
        self.numbers.remove(&held.event.id);
        if let Some(Action::Acknowledge(events)) = self.actions.last_mut() {
            events.push(held.event);
        } else {
            self.actions.push(Action::Acknowledge(vec![held.event]));
        }
    }

    /// The Function named those with which it failed. What follows one of them within its key was
    /// too early. A name that was not sent tells that the Function does not know what it says.
    fn part(&mut self, numbers: &[u64], failed: &BTreeSet<Arc<str>>, now: Moment) {
        let named = |number: &u64| {
            self.events.get(number).is_some_and(|held| failed.contains(&held.event.id))
        };
        if numbers.iter().filter(|number| named(number)).count() < failed.len() {
            match numbers {
                [number] => self.fail(*number, now),
                _ => self.split(numbers, now),
            }
            return;
        }
        let mut broken = BTreeSet::new();
        for number in numbers {
            let Some(held) = self.events.get(number) else { continue };
            let key = held.event.key.clone();
            if failed.contains(&held.event.id) {
                broken.extend(key);
                self.fail(*number, now);
            } else if key.is_some_and(|key| broken.contains(&key)) {
                self.retry(*number, Duration::ZERO, now);
            } else {
                self.settle(*number);
            }
        }
    }

    /// Lets the events of a delivery that failed be sent in halves.
    fn split(&mut self, numbers: &[u64], now: Moment) {
        let half = numbers.len().div_ceil(2);
        for number in numbers {
            if let Some(held) = self.events.get_mut(number) {
                held.share = half;
                held.failures = 0;
            }
            self.retry(*number, Duration::ZERO, now);
        }
    }

    fn fail(&mut self, number: u64, now: Moment) {
        if self.count(number) < self.policy.attempts.get() {
            self.retry(number, Duration::ZERO, now);
        } else {
            self.give_up(number, Reason::Attempts, now);
        }
    }

    /// Counts an attempt; how many there were.
    fn count(&mut self, number: u64) -> u32 {
        let Some(held) = self.events.get_mut(&number) else { return 0 };
        held.attempts = held.attempts.saturating_add(1);
        held.attempts
    }

    /// Sends an event again later, unless it will be too old by then.
    fn retry(&mut self, number: u64, at_least: Duration, now: Moment) {
        let due = self.wait(number, at_least, now);
        if self.expires(number, due) {
            self.waiting.remove(&(due, number));
            self.give_up(number, Reason::Age, now);
        }
    }

    /// Lets an event wait; until when.
    fn wait(&mut self, number: u64, at_least: Duration, now: Moment) -> Moment {
        let Some(held) = self.events.get_mut(&number) else { return now };
        held.state = State::Waiting;
        held.failures = held.failures.saturating_add(1);
        let delay = self.policy.backoff.delay(held.failures, &mut self.chance);
        let due = now.saturating_add(delay.max(at_least.min(self.policy.backoff.max)));
        self.waiting.insert((due, number));
        due
    }

    fn give_up(&mut self, number: u64, reason: Reason, now: Moment) {
        match self.policy.given_up {
            GivenUp::Never => {
                self.wait(number, Duration::ZERO, now);
            }
            GivenUp::Stored => self.store(number, reason),
            GivenUp::Dropped => {
                let farewell = self.farewell(number, reason);
                self.actions.extend(farewell.map(Action::Drop));
                self.settle(number);
            }
        }
    }

    fn store(&mut self, number: u64, reason: Reason) {
        if let Some(held) = self.events.get_mut(&number) {
            held.state = State::Away;
            held.given_up = Some(reason);
        }
        let farewell = self.farewell(number, reason);
        self.actions.extend(farewell.map(Action::Store));
    }

    fn farewell(&self, number: u64, reason: Reason) -> Option<Farewell<B>> {
        let held = self.events.get(&number)?;
        Some(Farewell { event: held.event.clone(), reason, attempts: held.attempts })
    }

    fn key_of(&self, number: u64) -> Option<&Arc<str>> {
        self.events.get(&number)?.event.key.as_ref()
    }
}
