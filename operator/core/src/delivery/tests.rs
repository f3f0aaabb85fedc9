//! The machine against a world that does its worst, by seeds; that the world would notice what is
//! left out; and single steps.

mod world;

use world::{Flaw, World};

use super::*;
use crate::exploration;

/// Runs of the world that sees nothing lost. More by `ROUSE_SEEDS=N`.
const SEEDS: u64 = 1500;
/// Runs within which each flaw must show.
const FLAW_SEEDS: u64 = 200;
const STEPS: usize = 500;

fn run(seed: u64, flaw: Option<Flaw>) -> Result<World, String> {
    let mut world = World::new(seed, flaw);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal()?;
    Ok(world)
}

#[test]
fn nothing_is_lost_or_overtaken_and_nothing_is_acknowledged_early() {
    exploration::holds(SEEDS, |seed| {
        let world = run(seed, None)?;
        // Every fourth seed has no faults.
        if seed % 4 == 0 && !world.gives_up_only_what_is_bad() {
            return Err("the good are given up".into());
        }
        Ok(())
    });
}

#[test]
fn each_rule_is_needed() {
    let flaws = [
        Flaw::SentIsDone,
        Flaw::StoreTrusted,
        Flaw::SilenceTrusted,
        Flaw::KeysForgotten,
        Flaw::PositionsMixed,
    ];
    exploration::notices(FLAW_SEEDS, flaws, run);
}

fn policy(batch: usize) -> Policy {
    Policy {
        attempts: NonZeroU32::new(2).unwrap(),
        backoff: Backoff { min: Duration::from_secs(1), max: Duration::from_mins(1) },
        max_age: Some(Duration::from_mins(10)),
        batch: NonZeroUsize::new(batch).unwrap(),
        patience: None,
        acks: Acks::Each,
        given_up: GivenUp::Stored,
    }
}

fn machine(policy: Policy) -> Machine<u8> {
    let mut machine = Machine::new(policy, 1);
    machine.set_bound(2);
    machine
}

fn event(body: u8) -> Event<u8> {
    Event { id: format!("e{body}").into(), key: None, since: Moment::ZERO, body }
}

fn at(secs: u64) -> Moment {
    Moment::from_secs(secs)
}

/// What a step asks for, in short.
fn told(step: Step<u8>) -> Vec<String> {
    let bodies = |events: &[Arc<Event<u8>>]| {
        events.iter().map(|event| event.body.to_string()).collect::<Vec<_>>().join(" ")
    };
    let tell = |action| match action {
        Action::Deliver { delivery, events, attempt } => {
            format!("#{delivery}: {}, attempt {attempt}", bodies(&events))
        }
        Action::Extend(events) => format!("extend {}", bodies(&events)),
        Action::Acknowledge(events) => format!("acknowledge {}", bodies(&events)),
        Action::Store(gone) => {
            format!("store {}: {} after {}", gone.event.body, gone.reason.as_str(), gone.attempts)
        }
        Action::Drop(gone) => format!("drop {}: {}", gone.event.body, gone.reason.as_str()),
    };
    step.actions.into_iter().map(tell).collect()
}

#[test]
fn what_fails_is_sent_again_and_stored_in_the_end() {
    let mut machine = machine(policy(1));
    machine.take([event(1)]);
    assert_eq!(told(machine.step(at(0))), ["#2: 1, attempt 1"]);
    machine.outcome(2, &Outcome::Failed, at(1));
    let step = machine.step(at(1));
    let due = step.again_at.unwrap();
    assert!(step.actions.is_empty() && due > at(1) && due <= at(2), "{due:?}");
    assert_eq!(told(machine.step(due)), ["#3: 1, attempt 2"]);
    machine.outcome(3, &Outcome::Failed, at(3));
    assert_eq!(told(machine.step(at(3))), ["store 1: attempts after 2"]);
    machine.stored("e1", false, at(3));
    assert_eq!(told(machine.step(at(3))), [""; 0]);
    assert_eq!(told(machine.step(at(9))), ["store 1: attempts after 2"]);
    machine.stored("e1", true, at(9));
    assert_eq!(told(machine.step(at(9))), ["acknowledge 1"]);
    assert_eq!((machine.held(), machine.room()), (0, 2));
}

#[test]
fn what_is_here_is_not_taken_twice() {
    let mut machine = machine(policy(1));
    machine.take([event(1), event(1)]);
    machine.step(at(0));
    machine.take([event(1)]);
    assert_eq!(machine.held(), 1);
    machine.outcome(2, &Outcome::Done, at(0));
    machine.take([event(1)]);
    assert_eq!(told(machine.step(at(0))), ["acknowledge 1", "#4: 1, attempt 1"]);
}

#[test]
fn no_more_is_asked_for_than_may_run() {
    let mut machine = machine(policy(2));
    assert_eq!(machine.room(), 4);
    machine.take((1..=4).map(event));
    assert_eq!(machine.room(), 0);
    assert_eq!(told(machine.step(at(0))), ["#5: 1 2, attempt 1", "#6: 3 4, attempt 1"]);
    machine.set_bound(1);
    machine.outcome(5, &Outcome::Done, at(0));
    machine.take([event(5)]);
    assert_eq!(told(machine.step(at(0))), ["acknowledge 1 2"], "one delivery is under way");
}

#[test]
fn a_bad_event_is_isolated_and_its_companions_are_not_blamed() {
    let mut machine = machine(policy(4));
    machine.set_bound(4);
    machine.take((1..=4).map(event));
    let mut now = at(0);
    let mut stored = Vec::new();
    let mut done = Vec::new();
    while machine.held() > 0 {
        let step = machine.step(now);
        for action in step.actions {
            match action {
                Action::Deliver { delivery, events, .. } => {
                    let bad = events.iter().any(|event| event.body == 3);
                    let outcome = if bad { Outcome::Failed } else { Outcome::Done };
                    machine.outcome(delivery, &outcome, now);
                }
                Action::Store(gone) => {
                    stored.push(gone.event.body);
                    machine.stored(&gone.event.id, true, now);
                }
                Action::Acknowledge(events) => done.extend(events.iter().map(|event| event.body)),
                Action::Extend(_) | Action::Drop(_) => panic!("nobody asked for this"),
            }
        }
        now += Duration::from_secs(1);
    }
    let rest = machine.step(now);
    assert_eq!(told(rest), ["acknowledge 3"]);
    assert_eq!(stored, [3]);
    done.sort_unstable();
    assert_eq!(done, [1, 2, 4]);
}

#[test]
fn a_name_that_was_not_sent_fails_the_whole_delivery() {
    let mut machine = machine(policy(2));
    machine.take([event(1), event(2)]);
    machine.step(at(0));
    machine.outcome(3, &Outcome::Partly(["e9".into()].into()), at(0));
    let told = told(machine.step(at(5)));
    assert_eq!(told, ["#4: 1, attempt 1", "#5: 2, attempt 1"], "split, and not an attempt");
}

#[test]
fn the_source_is_asked_for_patience_while_the_function_wakes() {
    let mut machine = machine(Policy { patience: Some(Duration::from_secs(30)), ..policy(1) });
    machine.take([event(1)]);
    let step = machine.step(at(0));
    assert_eq!(step.again_at, Some(at(10)));
    assert_eq!(told(machine.step(at(10))), ["extend 1"]);
    machine.outcome(2, &Outcome::Done, at(11));
    let step = machine.step(at(11));
    assert_eq!((step.again_at, told(step)), (None, vec!["acknowledge 1".to_owned()]));
}

#[test]
fn who_is_busy_is_left_alone_and_no_attempt_is_counted() {
    let mut machine = machine(policy(1));
    machine.take([event(1)]);
    let mut now = at(0);
    for delivery in 2..8 {
        assert_eq!(told(machine.step(now)), [format!("#{delivery}: 1, attempt 1")]);
        machine.outcome(delivery, &Outcome::Busy(Duration::from_secs(30)), now);
        now = machine.step(now).again_at.unwrap();
    }
    assert!(now >= at(180), "{now:?}");
}

#[test]
fn what_grows_too_old_is_given_up() {
    let mut machine = machine(Policy { given_up: GivenUp::Dropped, ..policy(1) });
    machine.take([event(1)]);
    assert_eq!(told(machine.step(at(601))), ["drop 1: age", "acknowledge 1"]);
    machine.take([event(2)]);
    assert_eq!(told(machine.step(at(599))), ["#3: 2, attempt 1"]);
    machine.outcome(3, &Outcome::Busy(Duration::from_secs(30)), at(599));
    assert_eq!(told(machine.step(at(599))), ["drop 2: age", "acknowledge 2"]);
}

#[test]
fn what_is_rejected_is_not_sent_again() {
    let mut machine = machine(policy(1));
    machine.take([event(1)]);
    machine.step(at(0));
    machine.outcome(2, &Outcome::Rejected, at(0));
    assert_eq!(told(machine.step(at(0))), ["store 1: rejected after 1"]);
}

#[test]
fn what_is_withdrawn_is_over_wherever_it_is() {
    let mut machine = machine(policy(1));
    machine.take([event(1), event(2)]);
    machine.step(at(0));
    machine.outcome(4, &Outcome::Failed, at(0));
    machine.withdraw("e1");
    machine.withdraw("e2");
    let step = machine.step(at(0));
    assert_eq!((step.again_at, told(step)), (None, vec!["acknowledge 1 2".to_owned()]));
    machine.outcome(3, &Outcome::Failed, at(0));
    assert_eq!((machine.held(), machine.in_flight()), (0, 0));
}

#[test]
fn a_position_does_not_pass_an_event_under_way_for_one_that_is_withdrawn() {
    let mut machine = machine(Policy { acks: Acks::UpTo, ..policy(1) });
    machine.take([event(1)]);
    machine.take([event(2)]);
    machine.withdraw("e2");
    let actions = machine.step(at(0)).actions;
    let [Action::Deliver { delivery, .. }] = &actions[..] else { panic!("{actions:?}") };
    machine.outcome(*delivery, &Outcome::Done, at(1));
    let actions = machine.step(at(1)).actions;
    let [Action::Acknowledge(events)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(events.iter().map(|event| event.body).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn answers_tell_whether_to_come_again() {
    let after = Duration::from_secs(3);
    assert_eq!(Outcome::of(204, None), Outcome::Done);
    assert_eq!(Outcome::of(503, Some(after)), Outcome::Busy(after));
    for status in [302, 404, 408, 429, 500, 503, 504] {
        assert_eq!(Outcome::of(status, None), Outcome::Failed, "{status}");
    }
    for status in [400, 401, 413, 422] {
        assert_eq!(Outcome::of(status, None), Outcome::Rejected, "{status}");
    }
}
