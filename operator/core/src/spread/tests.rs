//! Spread against a world that does its worst, by seeds; and that the world would notice if a step
//! were missing.

mod world;

use world::{Flaw, World};

use super::*;
use crate::exploration;

/// Runs of the world that sees each invariant hold. More by `ROUSE_SEEDS=N`.
const SEEDS: u64 = 400;
/// Runs within which each flaw must show.
const FLAW_SEEDS: u64 = 400;
const STEPS: usize = 800;

fn run(seed: u64, flaw: Option<Flaw>) -> Result<(), String> {
    let mut world = World::new(seed, flaw);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal()
}

#[test]
fn no_pod_goes_while_somebody_who_is_heard_of_has_a_request_there_and_nobody_sends_to_it_later() {
    exploration::holds(SEEDS, |seed| run(seed, None));
}

#[test]
fn each_step_is_needed() {
    let flaws = [
        Flaw::ToldIsAcknowledged,
        Flaw::CountsIgnored,
        Flaw::BrokenIsGone,
        Flaw::ValidFromHearing,
        Flaw::AcknowledgedBeforeKept,
    ];
    exploration::notices(FLAW_SEEDS, flaws, run);
}

fn target(target: u32) -> NonZeroU32 {
    NonZeroU32::new(target).unwrap()
}

#[test]
fn shares_follow_use_and_add_up_to_the_target() {
    assert_eq!(share(target(80), 0, 0, 2).get(), 40, "nobody has used it yet");
    assert_eq!(share(target(80), 60, 60, 2).get(), 79, "alone");
    assert_eq!(share(target(1), 0, 9, 5).get(), 1, "never nothing");
    assert_eq!(share(target(10), 7, 3, 0).get(), 10, "counts that don't fit");
    let mut chance = crate::simulation::chance::Chance::new(1, 1);
    for _ in 0..1000 {
        let target = target(1 + u32::try_from(chance.below(200)).unwrap());
        let uses: Vec<u32> =
            (0..=chance.below(4)).map(|_| u32::try_from(chance.below(100)).unwrap()).collect();
        let (all, holders) = (uses.iter().sum(), u32::try_from(uses.len()).unwrap());
        let sum: u32 = uses.iter().map(|own| share(target, *own, all, holders).get()).sum();
        assert!((target.get()..target.get() + holders).contains(&sum), "{target} {uses:?} {sum}");
    }
}

/// A follower that uses all of its share, and more, soon has nearly all of the target.
#[test]
fn a_share_grows_to_what_is_used() {
    let mut own = 0;
    for _ in 0..8 {
        own = share(target(80), own, own + 5, 2).get();
    }
    assert!(own >= 70, "{own}");
}

#[test]
fn what_followers_have_sent_grows_whoever_comes_and_goes() {
    let seconds = Duration::from_secs;
    let sent = |number: u64, served: u64, pods: u32| Counts {
        number,
        pods: BTreeMap::from([("p".into(), pods)]),
        traffic: Traffic {
            arrived: served + u64::from(pods),
            served,
            served_time: seconds(served),
            age: seconds(pods.into()),
        },
        ..Counts::default()
    };
    let mut ledger = Ledger::default();
    let stream = ledger.join(&"a".into(), &sent(1, 100, 0), seconds(0));
    assert_eq!(ledger.traffic(seconds(0)), Traffic::default(), "what was before does not count");
    ledger.hear("a", stream, &sent(2, 103, 2), seconds(1));
    let traffic = ledger.traffic(seconds(2));
    assert_eq!((traffic.arrived, traffic.served), (5, 3));
    assert_eq!((traffic.served_time, traffic.age), (seconds(3), seconds(4)));
    ledger.leave("a", stream);
    let stream = ledger.join(&"a".into(), &sent(1, 200, 1), seconds(3));
    ledger.hear("a", stream, &sent(2, 201, 0), seconds(4));
    let traffic = ledger.traffic(seconds(4));
    assert_eq!((traffic.arrived, traffic.served, traffic.age), (5, 4, seconds(0)));
}

#[test]
fn lines_are_json() {
    let pods = BTreeMap::from([("p".into(), 2)]);
    let traffic = Traffic { arrived: 9, ..Traffic::default() };
    let line = FollowerLine::Counts(Counts { number: 3, table: 1, pods, peak: 4, traffic });
    let text = serde_json::to_string(&line).unwrap();
    let counts =
        r#"{"counts":{"number":3,"table":1,"pods":{"p":2},"peak":4,"traffic":{"arrived":9,"#;
    assert!(text.starts_with(counts), "{text}");
    assert_eq!(serde_json::from_str::<FollowerLine>(&text).unwrap(), line);
    let word = Word { heard: 3, share: None, table: None };
    assert_eq!(serde_json::to_string(&word).unwrap(), r#"{"heard":3}"#);
    let table = Table { version: 1, pods: vec!["p".into()] };
    let word = Word { heard: 3, share: Some(target(9)), table: Some(table) };
    let text = serde_json::to_string(&word).unwrap();
    assert_eq!(text, r#"{"heard":3,"share":9,"table":{"version":1,"pods":["p"]}}"#);
    assert_eq!(serde_json::from_str::<Word>(&text).unwrap(), word);
}
