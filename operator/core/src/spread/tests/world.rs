//! An owner, three followers and the streams between them, in which anything takes any time: lines
//! are late, streams break, processes freeze. What pods really have is known here alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::{Counts, LEASE, Ledger, Moment, StreamId, Subscription, VALID, Word};
use crate::scaling::Traffic;
use crate::simulation::chance::Chance;

const FOLLOWERS: usize = 3;
const MOST_PODS: usize = 4;

/// A step that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A table that was told counts as acknowledged.
    ToldIsAcknowledged,
    /// The owner does not look at counts.
    CountsIgnored,
    /// A follower whose stream broke is forgotten at once.
    BrokenIsGone,
    /// A follower counts the time from when it hears, not from when it spoke.
    ValidFromHearing,
    /// A follower acknowledges a table before it keeps to it.
    AcknowledgedBeforeKept,
}

/// What is on its way on one stream, both ways, with the moments at which it may arrive.
#[derive(Debug)]
struct Stream {
    id: Option<StreamId>,
    up: VecDeque<Counts>,
    down: VecDeque<Word>,
    /// What the owner told last.
    told: u64,
    /// The owner's end is there.
    open_above: bool,
}

#[derive(Debug)]
struct Process {
    name: Arc<str>,
    stream: Option<(Subscription, Stream)>,
    /// The table that it keeps to.
    keeps: BTreeSet<Arc<str>>,
    until: Moment,
    in_flight: BTreeMap<Arc<str>, u32>,
    frozen_until: Moment,
}

#[derive(Debug)]
pub struct World {
    chance: Chance,
    flaw: Option<Flaw>,
    now: Moment,
    ledger: Ledger,
    open: BTreeSet<Arc<str>>,
    closed: BTreeSet<Arc<str>>,
    gone: BTreeSet<Arc<str>>,
    followers: Vec<Process>,
    pods: u32,
}

impl World {
    pub fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let follower = |number| Process {
            name: format!("m{number}").into(),
            stream: None,
            keeps: BTreeSet::new(),
            until: Moment::ZERO,
            in_flight: BTreeMap::new(),
            frozen_until: Moment::ZERO,
        };
        let mut world = Self {
            chance: Chance::new(seed, 7),
            flaw,
            now: Moment::ZERO,
            ledger: Ledger::default(),
            open: BTreeSet::new(),
            closed: BTreeSet::new(),
            gone: BTreeSet::new(),
            followers: (0..FOLLOWERS).map(follower).collect(),
            pods: 0,
        };
        world.publish();
        world
    }

    /// One thing happens.
    pub fn step(&mut self) -> Result<(), String> {
        let pause = [1, 5, 20, 100, 400][self.chance.below(5)];
        self.now += Duration::from_millis(pause);
        let who = self.chance.below(FOLLOWERS);
        match self.chance.below(40) {
            0 => self.open_pod(),
            1 => self.close_pod(),
            2 => {
                let long = Duration::from_millis(self.chance.below(9000) as u64);
                self.followers[who].frozen_until = self.now + long;
            }
            3 => self.break_below(who),
            4 => self.break_above(who),
            5..=7 => self.connect(who),
            8..=14 => self.tell(who),
            15..=20 => self.arrive_above(who),
            21..=28 => self.arrive_below(who),
            29..=34 => self.send(who)?,
            35..=37 => self.finish(who),
            _ => {}
        }
        self.shrink()
    }

    /// Nothing goes wrong any more: every closed pod goes, and everybody sends straight again.
    pub fn heal(&mut self) -> Result<(), String> {
        for who in 0..FOLLOWERS {
            self.followers[who].frozen_until = self.now;
        }
        let begun = self.now;
        while self.now < begun + LEASE + VALID {
            self.now += Duration::from_millis(100);
            for who in 0..FOLLOWERS {
                self.connect(who);
                self.tell(who);
                for _ in 0..4 {
                    self.arrive_above(who);
                    self.arrive_below(who);
                }
                self.finish(who);
                self.send(who)?;
            }
            self.shrink()?;
        }
        for who in 0..FOLLOWERS {
            let all: u32 = self.followers[who].in_flight.values().sum();
            (0..all).for_each(|_| self.finish(who));
            self.tell(who);
            (0..200).for_each(|_| self.arrive_above(who));
        }
        self.shrink()?;
        if !self.closed.is_empty() {
            return Err(format!("closed for ever: {:?}", self.closed));
        }
        let straight = |process: &Process| process.keeps == self.open && process.until > self.now;
        match self.followers.iter().find(|process| !straight(process)) {
            Some(process) if self.flaw.is_none() => Err(format!("left out for ever: {process:?}")),
            _ => Ok(()),
        }
    }

    fn publish(&mut self) {
        self.ledger.publish(self.open.iter(), None, 0);
    }

    fn open_pod(&mut self) {
        if self.open.len() < MOST_PODS {
            self.pods += 1;
            self.open.insert(format!("p{}", self.pods).into());
            self.publish();
        }
    }

    fn close_pod(&mut self) {
        let nth = self.chance.below(self.open.len());
        if let Some(pod) = self.open.iter().nth(nth).cloned() {
            self.open.remove(&pod);
            self.closed.insert(pod);
            self.publish();
        }
    }

    fn awake(&self, who: usize) -> bool {
        self.followers[who].frozen_until <= self.now
    }

    fn connect(&mut self, who: usize) {
        if !self.awake(who) || self.followers[who].stream.is_some() {
            return;
        }
        let process = &mut self.followers[who];
        process.keeps.clear();
        process.until = Moment::ZERO;
        let mut subscription = Subscription::default();
        let first = subscription.tell(process.in_flight.clone(), (0, Traffic::default()), self.now);
        let up = VecDeque::from([first]);
        let stream = Stream { id: None, up, down: VecDeque::new(), told: 0, open_above: true };
        process.stream = Some((subscription, stream));
    }

    /// The follower loses its stream: it stops at once.
    fn break_below(&mut self, who: usize) {
        if self.awake(who) {
            let process = &mut self.followers[who];
            process.stream = None;
            process.keeps.clear();
            process.until = Moment::ZERO;
            self.note_broken(who);
        }
    }

    /// The owner loses the stream; the follower has not noticed.
    fn break_above(&mut self, who: usize) {
        if let Some((_, stream)) = &mut self.followers[who].stream {
            stream.open_above = false;
            stream.up.clear();
            self.note_broken(who);
        }
    }

    fn note_broken(&mut self, who: usize) {
        if self.flaw == Some(Flaw::BrokenIsGone) {
            let name = &self.followers[who].name;
            let first = Counts::default();
            let stream = self.ledger.join(name, &first, self.now);
            self.ledger.leave(name, stream);
        }
    }

    fn tell(&mut self, who: usize) {
        if !self.awake(who) {
            return;
        }
        let process = &mut self.followers[who];
        let Some((subscription, stream)) = &mut process.stream else { return };
        let counts =
            subscription.tell(process.in_flight.clone(), (0, Traffic::default()), self.now);
        if stream.open_above {
            stream.up.push_back(counts);
        }
    }

    fn arrive_above(&mut self, who: usize) {
        let process = &mut self.followers[who];
        let Some((_, stream)) = &mut process.stream else { return };
        if let Some(mut counts) = stream.up.pop_front() {
            if self.flaw == Some(Flaw::CountsIgnored) {
                counts.pods.clear();
            }
            if self.flaw == Some(Flaw::ToldIsAcknowledged) {
                counts.table = stream.told;
            }
            match stream.id {
                None => stream.id = Some(self.ledger.join(&process.name, &counts, self.now)),
                Some(id) => {
                    if !self.ledger.hear(&process.name, id, &counts, self.now) {
                        stream.open_above = false;
                        stream.up.clear();
                    }
                }
            }
        }
        self.ledger.expire(self.now);
        let Some(id) = stream.id.filter(|_| stream.open_above) else { return };
        match self.ledger.word(&process.name, id, stream.told) {
            Some(word) => {
                if let Some(table) = &word.table {
                    stream.told = table.version;
                }
                stream.down.push_back(word);
            }
            None => stream.open_above = false,
        }
    }

    fn arrive_below(&mut self, who: usize) {
        if !self.awake(who) {
            return;
        }
        let process = &mut self.followers[who];
        let Some((subscription, stream)) = &mut process.stream else { return };
        let Some(word) = stream.down.pop_front() else {
            // What was on its way has arrived, and then the end.
            if !stream.open_above {
                self.break_below(who);
            }
            return;
        };
        if self.flaw == Some(Flaw::AcknowledgedBeforeKept) && word.table.is_some() {
            subscription.hear(word);
            return;
        }
        subscription.hear(word);
        process.keeps = subscription.pods().iter().cloned().collect();
        process.until = match self.flaw {
            Some(Flaw::ValidFromHearing) => self.now + VALID,
            _ => subscription.until().unwrap_or_default(),
        };
    }

    fn send(&mut self, who: usize) -> Result<(), String> {
        let process = &self.followers[who];
        if !self.awake(who) || self.now >= process.until {
            return Ok(());
        }
        let nth = self.chance.below(process.keeps.len());
        let Some(pod) = process.keeps.iter().nth(nth).cloned() else { return Ok(()) };
        if self.gone.contains(&pod) {
            return Err(format!("{} sends to {pod}, which is gone", process.name));
        }
        *self.followers[who].in_flight.entry(pod).or_default() += 1;
        Ok(())
    }

    fn finish(&mut self, who: usize) {
        let process = &mut self.followers[who];
        let nth = self.chance.below(process.in_flight.len());
        let Some(pod) = process.in_flight.keys().nth(nth).cloned() else { return };
        match process.in_flight.get_mut(&pod) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(process.in_flight.remove(&pod)),
        }
    }

    /// The owner lets go whom it may.
    fn shrink(&mut self) -> Result<(), String> {
        self.ledger.expire(self.now);
        for pod in self.closed.clone() {
            if self.ledger.may_get(&pod) || self.ledger.in_pod(&pod) > 0 {
                continue;
            }
            self.closed.remove(&pod);
            self.gone.insert(Arc::clone(&pod));
            for process in &self.followers {
                let has = process.in_flight.contains_key(&pod);
                if has && self.is_heard_of(process) {
                    return Err(format!("{pod} goes while {} has requests there", process.name));
                }
            }
        }
        Ok(())
    }

    /// Whether the owner knows of a follower by the stream that it has.
    fn is_heard_of(&self, process: &Process) -> bool {
        let Some((_, stream)) = &process.stream else { return false };
        stream.id.is_some_and(|id| self.ledger.word(&process.name, id, 0).is_some())
    }
}
