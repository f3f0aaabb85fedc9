use proptest::prelude::*;

use super::*;

const NOON: i64 = 1_795_435_200; // 2026-11-23T12:00:00Z

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOON + seconds).unwrap()
}

fn sums(requests: u64) -> UsageSums {
    UsageSums { requests, billed_millis: 3 * requests, pod_millis: 7, ..UsageSums::default() }
}

fn count(number: u64, revision: &str, requests: u64) -> Count {
    Count { number, revision: revision.into(), active: true, sums: sums(requests) }
}

fn alive(_: &str) -> Standing {
    Standing::Alive
}

/// What follows from one process's word.
fn hear(before: Option<&Usage>, process: &Process, counts: &[Count], now: Timestamp) -> Usage {
    settle(before, &[Word { process, counts }], alive, now).unwrap()
}

#[test]
fn nothing_is_told_of_a_function_that_used_nothing() {
    assert_eq!(settle(None, &[], alive, at(0)), None);
}

#[test]
fn a_count_that_is_told_again_adds_what_it_grew_by() {
    let process = Process::new("pod-1", 5);
    let first = hear(None, &process, &[count(1, "a", 10)], at(0));
    assert_eq!(first.total, sums(10));
    let again = hear(Some(&first), &process, &[count(1, "a", 10)], at(60));
    assert_eq!(again, first, "not even the time changes");
    let grown = [count(1, "a", 12), count(2, "b", 1)];
    let later = hear(Some(&again), &process, &grown, at(120));
    assert_eq!((later.total.requests, later.total.pod_millis), (13, 14));
    let revisions: Vec<_> =
        later.revisions.iter().map(|of| (of.revision.as_str(), of.sums.requests)).collect();
    assert_eq!(revisions, [("b", 1), ("a", 12)]);
    assert_eq!((later.since.0, later.updated_at.0), (at(0), at(120)));
}

#[test]
fn a_count_that_is_over_loses_its_mark_and_stays_in_the_sums() {
    let process = Process::new("pod-1", 5);
    let first = hear(None, &process, &[count(1, "a", 10)], at(0));
    let over = hear(Some(&first), &process, &[], at(60));
    assert_eq!((over.marks.len(), over.total.requests), (0, 10));
    let anew = hear(Some(&over), &process, &[count(2, "a", 3)], at(120));
    assert_eq!((anew.total.requests, anew.revisions.len()), (13, 1));
}

#[test]
fn a_process_that_ends_without_a_word_leaves_a_gap_if_anything_was_there() {
    let first = hear(None, &Process::new("pod-1", 5), &[count(1, "a", 10)], at(0));
    let settle_as = |standing| settle(Some(&first), &[], |_| standing, at(60)).unwrap();
    let ended = settle_as(Standing::Ended);
    assert_eq!((ended.gaps, ended.marks.len(), ended.total.requests), (0, 0, 10));
    assert_eq!(settle_as(Standing::Broken).gaps, 1);
    assert_eq!(settle_as(Standing::Alive), first);
    let idle = Count { active: false, ..count(1, "a", 10) };
    let rested = hear(Some(&first), &Process::new("pod-1", 5), &[idle], at(30));
    let broken = settle(Some(&rested), &[], |_| Standing::Broken, at(60)).unwrap();
    assert_eq!((broken.gaps, broken.marks.len()), (0, 0));
}

#[test]
fn days_are_kept_apart_and_bounded() {
    let process = Process::new("pod-1", 5);
    let mut usage = hear(None, &process, &[count(1, "a", 1)], at(0));
    for day in 1..40 {
        let told = [count(1, "a", 1 + u64::try_from(day).unwrap())];
        usage = hear(Some(&usage), &process, &told, at(day * 86_400));
    }
    assert_eq!((usage.days.len(), usage.total.requests), (32, 40));
    assert_eq!(usage.days[0].day, day_of(at(39 * 86_400)));
    let (last_two, whole) = since(&usage, &day_of(at(38 * 86_400)));
    assert_eq!((last_two.requests, whole), (2, true));
    assert_eq!(since(&usage, "2026-11-23"), (since(&usage, "2026-11-24").0, false));
}

#[test]
fn revisions_and_marks_are_bounded() {
    let process = Process::new("pod-1", 5);
    let counts: Vec<_> = (0..2000).map(|n| count(n, &format!("r{n}"), 1)).collect();
    let usage = hear(None, &process, &counts, at(0));
    assert_eq!((usage.revisions.len(), usage.marks.len()), (10, 1024));
    assert_eq!(usage.total.requests, 1024);
    assert_eq!(hear(Some(&usage), &process, &counts, at(60)), usage, "and not counted twice");
}

#[derive(Clone, Debug)]
enum Step {
    /// A process counts more of a revision.
    Use { process: usize, revision: usize, requests: u64 },
    /// It tells the leader.
    Tell(usize),
    /// The leader writes the status.
    Write,
    /// Another leads: it knows the status and nothing else, until it is told.
    Lead,
    /// A process ends in order: it tells all, and another comes in its place.
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..3, 0usize..2, 1u64..9).prop_map(|(process, revision, requests)| Step::Use {
            process,
            revision,
            requests
        }),
        (0usize..3).prop_map(Step::Tell),
        Just(Step::Write),
        Just(Step::Lead),
        (0usize..3).prop_map(Step::End),
    ]
}

/// Activators and leaders as far as counting goes.
#[derive(Default)]
struct World {
    generations: [i64; 3],
    counts: [Vec<Count>; 3],
    heard: BTreeMap<Process, Vec<Count>>,
    ended: Vec<Process>,
    status: Option<Usage>,
    used: u64,
    now: i64,
}

impl World {
    fn process(&self, index: usize) -> Process {
        Process::new(&format!("pod-{index}"), self.generations[index])
    }

    fn tell(&mut self, index: usize) {
        self.heard.insert(self.process(index), self.counts[index].clone());
    }

    fn write(&mut self) {
        self.now += 60;
        let words: Vec<_> =
            self.heard.iter().map(|(process, counts)| Word { process, counts }).collect();
        let standing = |mark: &str| {
            let ended = self.ended.iter().any(|process| process.as_str() == mark);
            if ended { Standing::Ended } else { Standing::Alive }
        };
        self.status = settle(self.status.as_ref(), &words, standing, at(self.now));
        let ended = &self.ended;
        self.heard.retain(|process, _| !ended.contains(process));
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Use { process, revision, requests } => {
                self.used += requests;
                let counts = &mut self.counts[process];
                let name = format!("r{revision}");
                if let Some(count) = counts.iter_mut().find(|count| count.revision == name) {
                    count.sums.requests += requests;
                } else {
                    let sums = UsageSums { requests, ..UsageSums::default() };
                    let number = u64::try_from(counts.len()).unwrap();
                    counts.push(Count { number, revision: name, active: true, sums });
                }
            }
            Step::Tell(index) => self.tell(index),
            Step::Write => self.write(),
            Step::Lead => self.heard.clear(),
            Step::End(index) => {
                self.tell(index);
                self.ended.push(self.process(index));
                // What a leader heard at the end it writes before it may forget it.
                self.write();
                self.generations[index] += 1;
                self.counts[index].clear();
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_or_counted_twice_whoever_leads(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::default();
        for step in &steps {
            world.take(step);
            let told = world.status.as_ref().map_or(0, |usage| usage.total.requests);
            prop_assert!(told <= world.used, "{told} of {}", world.used);
        }
        (0..3).for_each(|index| world.tell(index));
        world.write();
        let usage = world.status.unwrap_or_else(|| begin(at(0)));
        prop_assert_eq!(usage.total.requests, world.used);
        let by_day: u64 = usage.days.iter().map(|day| day.sums.requests).sum();
        let by_revision: u64 = usage.revisions.iter().map(|of| of.sums.requests).sum();
        prop_assert_eq!((by_day, by_revision), (world.used, world.used));
        prop_assert_eq!(usage.gaps, 0);
    }
}
