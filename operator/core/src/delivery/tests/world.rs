//! What deliveries live in: a source that brings again what was not acknowledged, a Function that
//! fails, dislikes some events and answers into the void, a store of dead letters that refuses, and
//! a process that dies between any two steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{
    Acks, Action, Backoff, Event, Farewell, GivenUp, Machine, Outcome, Policy, Reason,
};
use crate::scaling::Moment;
use crate::simulation::chance::Chance;

/// What a source or its process gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Events are acknowledged when they are sent.
    SentIsDone,
    /// A dead letter that was not stored is taken to be.
    StoreTrusted,
    /// An answer that was lost is taken for a good one.
    SilenceTrusted,
    /// The order of the source is not told.
    KeysForgotten,
    /// A position is acknowledged as if it were an event.
    PositionsMixed,
}

/// Events of a run.
const EVENTS: usize = 60;
const KEYS: usize = 4;

type Body = usize;

pub struct World {
    chance: Chance,
    flaw: Option<Flaw>,
    /// One of so many chances is a fault; none where it is 0.
    faults: usize,
    policy: Policy,
    bound: usize,
    now: Moment,
    keyed: bool,
    /// Events that no Function can take.
    poison: BTreeSet<Body>,
    /// What the source has to bring, in its order.
    pending: VecDeque<Body>,
    /// What it brought and was not told to be done with.
    unacknowledged: BTreeSet<Body>,
    machine: Machine<Body>,
    /// What the machine asked for and its process has not done yet.
    todo: VecDeque<Action<Body>>,
    /// What runs in the Function; by number of the machine's life, since answers may come late.
    running: Vec<(usize, u64, Vec<Body>)>,
    life: usize,
    done: BTreeSet<Body>,
    dead: BTreeSet<Body>,
    /// How often each failed alone or by name, in one life of the machine.
    blamed: BTreeMap<(usize, Body), u32>,
}

impl World {
    pub fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut chance = Chance::new(seed, 1);
        let up_to = seed.is_multiple_of(3) || flaw == Some(Flaw::PositionsMixed);
        let mixed = flaw == Some(Flaw::PositionsMixed);
        let policy = Policy {
            attempts: NonZeroU32::new(3).unwrap(),
            backoff: Backoff { min: Duration::from_secs(1), max: Duration::from_secs(20) },
            max_age: None,
            batch: NonZeroUsize::new([1, 2, 7, 16][chance.below(4)]).unwrap(),
            patience: (seed.is_multiple_of(2)).then_some(Duration::from_secs(30)),
            acks: if up_to && !mixed { Acks::UpTo } else { Acks::Each },
            given_up: if seed.is_multiple_of(5) { GivenUp::Never } else { GivenUp::Stored },
        };
        let few = |chance: &mut Chance| (0..EVENTS).filter(|_| chance.below(12) == 0).collect();
        let poison =
            if policy.given_up == GivenUp::Never { BTreeSet::new() } else { few(&mut chance) };
        Self {
            machine: Machine::new(policy.clone(), seed),
            bound: 1 + chance.below(5),
            faults: [0, 4, 8, 20][usize::try_from(seed % 4).unwrap()],
            keyed: seed % 7 < 4 || flaw == Some(Flaw::KeysForgotten),
            chance,
            flaw,
            policy,
            now: Moment::ZERO,
            poison,
            pending: (0..EVENTS).collect(),
            unacknowledged: BTreeSet::new(),
            todo: VecDeque::new(),
            running: Vec::new(),
            life: 0,
            done: BTreeSet::new(),
            dead: BTreeSet::new(),
            blamed: BTreeMap::new(),
        }
    }

    fn fault(&mut self) -> bool {
        self.faults > 0 && self.chance.below(self.faults) == 0
    }

    pub fn step(&mut self) -> Result<(), String> {
        match self.chance.below(8) {
            0 | 1 => self.bring(),
            2 | 3 => self.act()?,
            4 | 5 => self.answer(),
            6 => self.pass_time(),
            _ if self.faults > 0 && self.chance.below(self.faults * 4) == 0 => self.crash(),
            _ => self.bring_again(),
        }
        self.look()
    }

    /// From now on all goes well, but for what no Function can take; everything must end.
    pub fn heal(&mut self) -> Result<(), String> {
        self.faults = 0;
        for _ in 0..20_000 {
            let brought = self.pending.is_empty() && self.unacknowledged.is_empty();
            if brought && self.machine.held() == 0 {
                return self.end();
            }
            self.bring();
            self.look()?;
            while !self.todo.is_empty() {
                self.act()?;
            }
            if self.running.is_empty() {
                self.pass_time();
            }
            while !self.running.is_empty() {
                self.answer();
            }
            self.look()?;
        }
        Err(format!("{:?} are left, {} are held", self.unacknowledged, self.machine.held()))
    }

    fn end(&self) -> Result<(), String> {
        let lost: Vec<_> = (0..EVENTS)
            .filter(|event| !self.done.contains(event) && !self.dead.contains(event))
            .collect();
        if lost.is_empty() { Ok(()) } else { Err(format!("{lost:?} are lost")) }
    }

    fn event(&self, body: Body) -> Event<Body> {
        let keyed = self.keyed && self.flaw != Some(Flaw::KeysForgotten);
        Event {
            id: id(body),
            key: keyed.then(|| format!("k{}", body % KEYS).into()),
            since: self.now,
            body,
        }
    }

    /// The source gives as much as the machine has room for.
    fn bring(&mut self) {
        self.machine.set_bound(self.bound);
        let count = self.machine.room().min(self.pending.len());
        let bodies: Vec<Body> = self.pending.drain(..count).collect();
        self.unacknowledged.extend(&bodies);
        let events: Vec<_> = bodies.into_iter().map(|body| self.event(body)).collect();
        self.machine.take(events);
    }

    /// The source lost patience with one.
    fn bring_again(&mut self) {
        let at = self.chance.below(self.unacknowledged.len());
        if let Some(body) = self.unacknowledged.iter().nth(at).copied() {
            let event = self.event(body);
            self.machine.take([event]);
        }
    }

    fn pass_time(&mut self) {
        let step = Duration::from_millis(u64::try_from(self.chance.below(8000)).unwrap());
        self.now += step;
    }

    fn crash(&mut self) {
        self.life += 1;
        self.machine = Machine::new(self.policy.clone(), self.chance.number());
        self.todo.clear();
        let again = std::mem::take(&mut self.unacknowledged);
        // A position goes back: what came after it comes again, done or not.
        let all: BTreeSet<Body> = again.into_iter().chain(self.pending.drain(..)).collect();
        self.pending = all.into_iter().collect();
    }

    fn look(&mut self) -> Result<(), String> {
        let step = self.machine.step(self.now);
        if step.again_at.is_some_and(|at| at <= self.now) {
            return Err(format!("to be asked again at {:?}, which is over", step.again_at));
        }
        if self.machine.in_flight() > self.bound {
            return Err(format!("{} are in flight", self.machine.in_flight()));
        }
        self.todo.extend(step.actions);
        Ok(())
    }

    /// The process does the next thing that it was asked for.
    fn act(&mut self) -> Result<(), String> {
        match self.todo.pop_front() {
            None | Some(Action::Extend(_)) => Ok(()),
            Some(Action::Deliver { delivery, events, .. }) => {
                let bodies: Vec<Body> = events.iter().map(|event| event.body).collect();
                if self.flaw == Some(Flaw::SentIsDone) {
                    for body in &bodies {
                        self.acknowledge(*body)?;
                    }
                }
                self.check_order(&bodies)?;
                self.running.push((self.life, delivery, bodies));
                Ok(())
            }
            Some(Action::Acknowledge(events)) => {
                let lost = self.flaw != Some(Flaw::PositionsMixed) && self.fault();
                if !lost || self.policy.acks == Acks::UpTo {
                    for event in events {
                        self.acknowledge(event.body)?;
                    }
                    return Ok(());
                }
                // It did not arrive: the source brings them again.
                for event in events.iter().rev() {
                    self.unacknowledged.remove(&event.body);
                    self.pending.push_front(event.body);
                }
                self.pending.make_contiguous().sort_unstable();
                Ok(())
            }
            Some(Action::Store(farewell)) => self.store(&farewell),
            Some(Action::Drop(farewell)) => Err(format!("{} is dropped", farewell.event.id)),
        }
    }

    fn store(&mut self, farewell: &Farewell<Body>) -> Result<(), String> {
        let body = farewell.event.body;
        let blamed = self.blamed.get(&(self.life, body)).copied().unwrap_or(0);
        if farewell.reason != Reason::Attempts || blamed < self.policy.attempts.get() {
            return Err(format!("{body} is given up after {blamed} failures of its own"));
        }
        let trusted = self.flaw == Some(Flaw::StoreTrusted);
        let stored = !self.fault();
        if stored {
            self.dead.insert(body);
        }
        let told = trusted || stored && !self.fault();
        self.machine.stored(&id(body), told, self.now);
        Ok(())
    }

    fn acknowledge(&mut self, body: Body) -> Result<(), String> {
        let mut covered = vec![body];
        if self.flaw == Some(Flaw::PositionsMixed) || self.policy.acks == Acks::UpTo {
            covered.extend(self.unacknowledged.range(..body).copied());
        }
        for body in covered {
            if !self.done.contains(&body) && !self.dead.contains(&body) {
                return Err(format!("{body} is acknowledged and nobody has it"));
            }
            self.unacknowledged.remove(&body);
        }
        Ok(())
    }

    /// Within a key, whatever came before is done with, or comes before in this delivery.
    fn check_order(&self, bodies: &[Body]) -> Result<(), String> {
        if !self.keyed {
            return Ok(());
        }
        for (at, body) in bodies.iter().enumerate() {
            let earlier = (0..*body).filter(|earlier| earlier % KEYS == body % KEYS);
            for earlier in earlier {
                let over = self.done.contains(&earlier) || self.dead.contains(&earlier);
                if !over && !bodies[..at].contains(&earlier) {
                    return Err(format!("{body} is sent before {earlier}"));
                }
            }
        }
        Ok(())
    }

    /// One of the deliveries that run comes to its end.
    fn answer(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let at = self.chance.below(self.running.len());
        let (life, delivery, bodies) = self.running.swap_remove(at);
        let outcome = self.run(&bodies);
        let lost = self.fault();
        if life != self.life {
            return;
        }
        let told = match (lost, self.flaw) {
            (false, _) => outcome,
            (true, Some(Flaw::SilenceTrusted)) => Outcome::Done,
            (true, _) => Outcome::Failed,
        };
        if let (Outcome::Failed, [body]) = (&told, &bodies[..]) {
            *self.blamed.entry((life, *body)).or_default() += 1;
        }
        if let Outcome::Partly(names) = &told {
            for body in bodies.iter().filter(|body| names.contains(&id(**body))) {
                *self.blamed.entry((life, *body)).or_default() += 1;
            }
        }
        self.machine.outcome(delivery, &told, self.now);
    }

    /// What the Function does. It takes events one by one and stops a key at its first failure.
    fn run(&mut self, bodies: &[Body]) -> Outcome {
        if self.fault() {
            return if self.chance.below(2) == 0 {
                Outcome::Failed
            } else {
                Outcome::Busy(Duration::from_secs(2))
            };
        }
        let names_them = self.chance.below(2) == 0;
        let bad: BTreeSet<Body> =
            bodies.iter().copied().filter(|body| self.poison.contains(body)).collect();
        if !bad.is_empty() && !names_them {
            return Outcome::Failed;
        }
        let mut stopped = BTreeSet::new();
        for body in bodies {
            if bad.contains(body) {
                stopped.insert(body % KEYS);
            } else if !self.keyed || !stopped.contains(&(body % KEYS)) {
                self.done.insert(*body);
            }
        }
        if bad.is_empty() {
            return Outcome::Done;
        }
        Outcome::Partly(bad.into_iter().map(id).collect())
    }

    /// Where nothing else fails, what is given up is what no Function can take.
    pub fn gives_up_only_what_is_bad(&self) -> bool {
        self.dead == self.poison
    }
}

fn id(body: Body) -> Arc<str> {
    format!("e{body}").into()
}
