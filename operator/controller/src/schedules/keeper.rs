//! Keeps one schedule: starts its ticks when they are due, delivers them, notes how far it is.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use rouse_core::delivery::{Action, Event, Farewell, Heir, Machine, Outcome, Target, seed_of};
use rouse_core::event::Message;
use rouse_core::function::{FunctionKey, ValidatedFunction, validate};
use rouse_core::scaling::Moment;
use rouse_core::schedule::{Timetable, ValidatedSchedule};
use rouse_crds::v1alpha1::{Function, Trigger};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::Outside;
use super::progress::{Progress, write};
use crate::context::Shared;
use crate::error::chain;

/// How long the clock on the wall is not looked at: it may step at any time, and a Function that
/// was missing may be there.
const LOOK: Duration = Duration::from_secs(15);
/// Ticks that are under way at most, whatever the Function may run.
const MOST_IN_FLIGHT: u32 = 100;
/// What moments are counted from lies so long ago, so that the oldest tick has one.
const BEGINNING: Duration = Duration::from_hours(100 * 8784);

/// Keeps one schedule.
pub(crate) struct Keeper {
    context: Shared,
    outside: Outside,
    schedule: Arc<ValidatedSchedule>,
    timetable: Timetable,
    machine: Machine<Timestamp>,
    progress: Progress,
    started: Instant,
    work: JoinSet<Ended>,
    /// The deliveries that are under way, by the ids of their ticks.
    calls: HashMap<Arc<str>, AbortHandle>,
}

/// Something that was under way is over.
enum Ended {
    Call { delivery: u64, id: Arc<str>, tick: Timestamp, outcome: Outcome },
    Letter { id: Arc<str>, stored: bool },
    Write { settled: Timestamp, written: bool },
}

impl Keeper {
    /// Keeps the `schedule` of `trigger` from where it was left.
    pub fn new(
        context: Shared,
        outside: Outside,
        trigger: &Trigger,
        schedule: ValidatedSchedule,
    ) -> Self {
        let progress = Progress::of(trigger, &schedule, (outside.clock)());
        let timetable = Timetable::new(schedule.schedule.clone(), schedule.rules, progress.settled);
        let seed = seed_of(&schedule.uid);
        Self {
            machine: Machine::new(schedule.settings.policy.clone(), seed),
            schedule: Arc::new(schedule),
            context,
            outside,
            timetable,
            progress,
            started: Instant::now(),
            work: JoinSet::new(),
            calls: HashMap::new(),
        }
    }

    /// Never ends; `count` is the number of schedules.
    pub async fn run(mut self, count: Arc<AtomicUsize>) {
        loop {
            let again = self.advance();
            let write_at = self.write_when_due(count.load(Ordering::Relaxed));
            let again = write_at.map_or(again, |write_at| again.min(write_at));
            let ended = tokio::select! {
                ended = next(&mut self.work) => ended,
                () = sleep_until(again) => None,
            };
            if let Some(ended) = ended {
                self.note(ended);
            }
        }
    }

    /// Starts what is due and does what follows; when to look again.
    fn advance(&mut self) -> Instant {
        let now = (self.outside.clock)();
        let moment = self.moment();
        let function = self.find_function(&self.schedule.function);
        let mut next_tick = None;
        // Nobody is there to call until there is a Function: its ticks wait.
        if let Some(function) = &function {
            self.machine.set_bound(Target::of(function, MOST_IN_FLIGHT).in_flight);
            self.start(now, moment);
            next_tick = self.timetable.next_at();
        }
        let step = self.machine.step(moment);
        for action in step.actions {
            self.act(action, function.as_ref());
        }
        self.progress.settled = self.timetable.settled().max(self.progress.settled);
        let until_tick = next_tick
            .map_or(LOOK, |tick| Duration::try_from(tick.duration_since(now)).unwrap_or_default());
        let until_step = step.again_at.map_or(LOOK, |at| at.saturating_sub(moment));
        // A room that is full shows ticks that are due; what makes room wakes this task.
        let until_tick = if until_tick.is_zero() { LOOK } else { until_tick };
        Instant::now() + until_tick.min(until_step).min(LOOK)
    }

    fn start(&mut self, now: Timestamp, moment: Moment) {
        let due = self.timetable.take_due(now);
        self.context.metrics.ticks("skipped", due.skipped);
        for tick in due.replaced {
            let id = self.schedule.id(tick);
            if let Some(call) = self.calls.remove(id.as_str()) {
                call.abort();
            }
            self.machine.withdraw(&id);
            self.context.metrics.ticks("replaced", 1);
        }
        let events = due.start.into_iter().map(|tick| Event {
            id: self.schedule.id(tick).into(),
            key: None,
            since: moment.saturating_sub(now.duration_since(tick).unsigned_abs()),
            body: tick,
        });
        self.machine.take(events);
    }

    fn act(&mut self, action: Action<Timestamp>, function: Option<&ValidatedFunction>) {
        match action {
            Action::Deliver { delivery, events, attempt } => {
                // The batch of a schedule is one.
                for event in events {
                    self.deliver(delivery, &event, attempt, function);
                }
            }
            Action::Acknowledge(events) => {
                for event in events {
                    self.timetable.settle(event.body);
                }
            }
            Action::Store(farewell) => self.store(&farewell),
            Action::Drop(Farewell { event, reason, attempts }) => {
                let (trigger, tick, reason) = (&self.schedule.key, event.body, reason.as_str());
                tracing::warn!(%trigger, %tick, reason, attempts, "a tick was given up");
                self.context.metrics.ticks("dropped", 1);
            }
            // A schedule has all the patience.
            Action::Extend(_) => {}
        }
    }

    fn deliver(
        &mut self,
        delivery: u64,
        event: &Event<Timestamp>,
        attempt: u32,
        function: Option<&ValidatedFunction>,
    ) {
        let (id, tick) = (event.id.clone(), event.body);
        let outcome = match self.schedule.message(tick) {
            Ok(message) => self.call(&self.schedule.function, message, function),
            Err(error) => {
                let (trigger, error) = (&self.schedule.key, chain(&error));
                tracing::warn!(%trigger, error, "a tick can't be sent");
                Box::pin(std::future::ready(Outcome::Rejected))
            }
        };
        if attempt > 1 {
            self.context.metrics.ticks("retried", 1);
        }
        let ended = {
            let id = id.clone();
            async move { Ended::Call { delivery, id, tick, outcome: outcome.await } }
        };
        let call = self.work.spawn(ended);
        self.calls.insert(id, call);
    }

    fn store(&mut self, farewell: &Farewell<Timestamp>) {
        let Farewell { event, reason, attempts } = farewell;
        let id = event.id.clone();
        let letter = self.schedule.dead_letter(event.body, reason.as_str(), *attempts);
        let heir = self.schedule.settings.dead_letter.as_ref().and_then(Heir::function);
        let (Some(heir), Ok(letter)) = (heir, letter) else {
            self.work.spawn(async move { Ended::Letter { id, stored: false } });
            return;
        };
        let outcome = self.call(heir, letter, self.find_function(heir).as_ref());
        self.work
            .spawn(async move { Ended::Letter { id, stored: outcome.await == Outcome::Done } });
    }

    fn call(
        &self,
        key: &FunctionKey,
        message: Message,
        function: Option<&ValidatedFunction>,
    ) -> futures::future::BoxFuture<'static, Outcome> {
        let own = function.map_or(Target::NONE, |function| Target::of(function, MOST_IN_FLIGHT));
        let limit = self.schedule.settings.timeout.unwrap_or(own.limit);
        self.outside.caller.call(key, message, limit)
    }

    fn note(&mut self, ended: Ended) {
        let moment = self.moment();
        match ended {
            Ended::Call { delivery, id, tick, outcome } => {
                self.calls.remove(&id);
                if outcome == Outcome::Done {
                    self.context.metrics.ticks("delivered", 1);
                    self.progress.delivered = self.progress.delivered.max(Some(tick));
                }
                self.machine.outcome(delivery, &outcome, moment);
            }
            Ended::Letter { id, stored } => {
                self.context.metrics.ticks("dead_lettered", u64::from(stored));
                self.machine.stored(&id, stored, moment);
            }
            Ended::Write { settled, written } => self.progress.end(settled, written),
        }
    }

    /// Begins to write the progress if it is time; else when it will be.
    fn write_when_due(&mut self, count: usize) -> Option<Instant> {
        let due = self.progress.due(count)?;
        if due > Instant::now() {
            return Some(due);
        }
        self.progress.begin();
        let (context, schedule) = (self.context.clone(), self.schedule.clone());
        let progress = self.progress.clone();
        self.work.spawn(async move {
            let written = write(&context, &schedule, &progress).await;
            Ended::Write { settled: progress.settled, written }
        });
        None
    }

    fn moment(&self) -> Moment {
        BEGINNING + self.started.elapsed()
    }

    fn find_function(&self, key: &FunctionKey) -> Option<ValidatedFunction> {
        let reference = ObjectRef::<Function>::new(&key.name).within(&key.namespace);
        validate(&*self.context.functions.get(&reference)?).ok()
    }
}

/// The next that is over, but for what was stopped; waits for ever while nothing is under way.
async fn next(work: &mut JoinSet<Ended>) -> Option<Ended> {
    match work.join_next().await {
        Some(ended) => ended.ok(),
        None => pending().await,
    }
}
