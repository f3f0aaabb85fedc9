//! Leaders that come and go, at a tick too; clocks that are wrong and step; progress that is
//! written late or not at all; a Function that notes what reaches it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::simulation::chance::Chance;

/// Ticks that the runs together go through.
const TICKS: usize = 10_000;

struct Leader {
    timetable: Timetable,
    /// How far its clock is from the true time.
    wrong_by: SignedDuration,
    /// What it has sent and has no answer to.
    waiting: Vec<Timestamp>,
}

struct World {
    chance: Chance,
    schedule: Schedule,
    now: Timestamp,
    /// What is stored of the progress.
    stored: Timestamp,
    leaders: Vec<Leader>,
    /// What reached the Function: ids by scheduled time.
    reached: BTreeMap<Timestamp, BTreeSet<String>>,
}

impl World {
    fn lead(&mut self) {
        // The former leader may be frozen and wake up later, or be dead.
        if self.chance.below(2) == 0 {
            self.leaders.clear();
        }
        let timetable = Timetable::new(self.schedule.clone(), PLAIN, self.stored);
        let wrong_by = self.some_seconds(40);
        self.leaders.push(Leader { timetable, wrong_by, waiting: Vec::new() });
    }

    fn some_seconds(&mut self, most: usize) -> SignedDuration {
        let secs = i64::try_from(self.chance.below(2 * most)).unwrap();
        SignedDuration::from_secs(secs - i64::try_from(most).unwrap())
    }

    fn step(&mut self) {
        self.now += Duration::from_secs(u64::try_from(self.chance.below(90)).unwrap());
        if self.leaders.is_empty() || self.chance.below(40) == 0 {
            self.lead();
        }
        let last = self.leaders.len() - 1;
        // Mostly the one that leads; sometimes one that does not know that it leads no more.
        let who = if self.chance.below(10) == 0 { self.chance.below(last + 1) } else { last };
        if self.chance.below(30) == 0 {
            // Sometimes by more than an hour, as when somebody sets a clock by the wrong zone.
            let most = if self.chance.below(10) == 0 { 4000 } else { 60 };
            self.leaders[who].wrong_by = self.some_seconds(most);
        }
        let leader = &mut self.leaders[who];
        let due = leader.timetable.take_due(self.now + leader.wrong_by);
        assert_eq!((due.skipped, due.replaced.len()), (0, 0));
        for tick in due.start {
            leader.waiting.push(tick);
            self.reached.entry(tick).or_default().insert(tick_id("uid", tick));
            if self.chance.below(20) == 0 {
                // It dies in the midst of its ticks.
                self.leaders.remove(who);
                return;
            }
        }
        let answered = self.chance.below(leader.waiting.len() + 1);
        for tick in leader.waiting.drain(..answered) {
            leader.timetable.settle(tick);
        }
        // Who leads no more can't write.
        if who == last && self.chance.below(4) == 0 {
            self.stored = self.stored.max(leader.timetable.settled());
        }
    }
}

fn run(seed: u64, pattern: &str, zone: &str, (from, days): (&str, u64)) -> usize {
    let schedule = Schedule::parse(pattern, zone, time(from)).unwrap();
    let mut world = World {
        chance: Chance::new(seed, 0),
        schedule,
        now: time(from),
        stored: time(from),
        leaders: Vec::new(),
        reached: BTreeMap::new(),
    };
    let end = time(from) + Duration::from_hours(24 * days);
    while world.now < end {
        world.step();
    }
    // One leader with a right clock settles what is left.
    world.leaders.clear();
    let mut table = Timetable::new(world.schedule.clone(), PLAIN, world.stored);
    loop {
        let due = table.take_due(world.now).start;
        if due.is_empty() {
            break;
        }
        for tick in due {
            world.reached.entry(tick).or_default().insert(tick_id("uid", tick));
            table.settle(tick);
        }
    }
    let expected: Vec<_> = ticks(&world.schedule, from, &world.now.to_string());
    let lost: Vec<_> = expected.iter().filter(|tick| !world.reached.contains_key(tick)).collect();
    assert_eq!(lost, [&Timestamp::MIN; 0], "seed {seed}: {pattern} {zone}");
    assert!(world.reached.values().all(|ids| ids.len() == 1), "seed {seed}: a tick has two ids");
    let ids: BTreeSet<_> = world.reached.values().flatten().collect();
    assert_eq!(ids.len(), world.reached.len(), "seed {seed}: an id has two ticks");
    // A clock that is early may have brought some of the next ones.
    let early = world.reached.range(world.now..).count();
    assert!(world.reached.len() <= expected.len() + early, "seed {seed}: ticks of no schedule");
    expected.len()
}

#[test]
fn ten_thousand_ticks_have_one_id_each_and_none_is_lost() {
    let mut ticks = 0;
    let mut seed = 0;
    while ticks < TICKS {
        for (pattern, zone, span) in [
            ("*/10 * * * *", "Europe/Berlin", ("2026-03-27T00:00:00Z", 4)),
            ("*/10 * * * *", "Europe/Berlin", ("2026-10-23T00:00:00Z", 4)),
            ("30 2 * * *", "America/New_York", ("2026-02-20T00:00:00Z", 30)),
            ("*/5 0-4 * * *", "Australia/Lord_Howe", ("2026-04-01T00:00:00Z", 8)),
            ("@every 7m", "UTC", ("2026-06-01T00:00:00Z", 5)),
        ] {
            ticks += run(seed, pattern, zone, span);
            seed += 1;
        }
    }
}
