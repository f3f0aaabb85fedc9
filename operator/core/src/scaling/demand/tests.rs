use proptest::prelude::*;

use super::super::allowance::Allowance;
use super::super::idle::Outlook;
use super::super::{Reason, State, decide, tests};
use super::*;

fn policy(target: u32, limit: u32, max: u32) -> Policy {
    tests::policy(target, limit, 0, max)
}

/// Requests that wait, of a Function whose requests are known to take so long.
fn waiting(count: u32, service: f64, ready: u32, start: f64) -> Seen<'static> {
    let [service, start] = [service, start].map(|time| Some(Duration::from_secs_f64(time)));
    Seen {
        peak: count,
        load: count,
        waiting: count,
        ready,
        traffic: Traffic { arrived: count.into(), ..Traffic::default() },
        outlook: Outlook { start, service, ..Outlook::default() },
        ..Seen::default()
    }
}

fn pods(policy: &Policy, seen: Seen<'_>) -> u32 {
    decide(policy, seen, &mut State::default(), Duration::from_secs(100)).desired
}

#[test]
fn short_requests_need_few_pods_and_long_ones_a_slot_each() {
    let p = policy(80, 10, 40);
    assert_eq!(pods(&p, waiting(200, 0.1, 0, 0.4)), 2);
    assert_eq!(pods(&p, waiting(200, 5.0, 0, 0.4)), 20);
    assert_eq!(pods(&p, waiting(7, 0.1, 0, 0.4)), 1);
    assert_eq!(pods(&policy(80, 1, 40), waiting(4, 5.0, 0, 0.4)), 4);
}

#[test]
fn what_is_served_before_another_pod_could_help_starts_none() {
    let p = policy(80, 1, 40);
    // Five pods are done with twenty requests of 100 ms in less than half a second.
    assert!(pods(&p, waiting(20, 0.1, 5, 0.6)) <= 5);
    let slower = pods(&p, Seen { ready: 1, ..waiting(200, 0.1, 1, 0.6) });
    assert!(slower >= 20, "{slower}");
}

#[test]
fn requests_that_take_much_longer_than_usual_count_as_long() {
    let p = policy(80, 10, 40);
    let stuck = Seen { waiting: 180, ready: 2, ..waiting(200, 0.1, 2, 0.4) };
    let age = Duration::from_secs(20 * 2);
    let stuck = Seen { traffic: Traffic { age, ..stuck.traffic }, ..stuck };
    assert_eq!(pods(&p, stuck), 20);
}

#[test]
fn a_namespace_bounds_its_functions_and_takes_no_pod_from_a_request() {
    let p = policy(80, 1, 40);
    let decided = |seen: Seen<'_>, pods| {
        let seen = Seen { allowance: Some(Allowance::of(pods)), ..seen };
        let decision = decide(&p, seen, &mut State::default(), Duration::from_secs(100));
        (decision.desired, decision.reason)
    };
    let many = waiting(30, 5.0, 0, 0.4);
    assert_eq!(decided(many, 7), (7, Reason::NamespaceMax));
    assert_eq!(decided(many, 0), (0, Reason::NamespaceMax));
    assert_eq!(decided(many, 30), (30, Reason::Load));
    let served = Seen { waiting: 29, ready: 1, ..many };
    assert_eq!(decided(served, 0), (1, Reason::NamespaceMax), "one is in a pod");
    let least = tests::policy(80, 1, 5, 40);
    let at_rest = Seen { allowance: Some(Allowance::of(3)), ..Seen::default() };
    let decision = decide(&least, at_rest, &mut State::default(), Duration::ZERO);
    assert_eq!((decision.desired, decision.reason), (3, Reason::NamespaceMax), "min or not");
}

#[test]
fn who_got_no_pod_is_not_waited_for() {
    let p = policy(80, 1, 40);
    let mut state = State::default();
    let refused = Seen { allowance: Some(Allowance::of(0)), ..waiting(3, 5.0, 0, 0.4) };
    assert_eq!(decide(&p, refused, &mut state, Duration::from_secs(100)).desired, 0);
    let free = Seen { allowance: Some(Allowance::of(9)), ..Seen::default() };
    let decision = decide(&p, free, &mut state, Duration::from_secs(101));
    assert_eq!((decision.desired, decision.reason), (0, Reason::Asleep));
}

proptest! {
    #[test]
    fn more_requests_never_need_fewer_pods(
        (count, more) in (0u32..2000, 0u32..2000),
        (service, start) in (0.0..30.0, 0.0..10.0),
        (limit, ready) in (0u32..20, 0u32..20),
    ) {
        let p = policy(10, limit, 1000);
        let (few, many) = (waiting(count, service, ready, start), waiting(count + more, service, ready, start));
        prop_assert!(pods(&p, few) <= pods(&p, many));
        prop_assert!(pods(&p, many) <= (count + more).div_ceil(p.per_pod()).max(1));
    }

    #[test]
    fn it_does_not_matter_in_how_many_parts_requests_are_seen_to_come(
        parts in prop::collection::vec(1u32..50, 1..20), service in 0.001..5.0,
    ) {
        let p = policy(10, 2, 1000);
        let now = Duration::from_secs(100);
        let all: u32 = parts.iter().sum();
        let once = decide(&p, waiting(all, service, 0, 0.5), &mut State::default(), now);
        let mut state = State::default();
        let mut came = 0;
        let mut last = None;
        for part in parts {
            came += part;
            last = Some(decide(&p, waiting(came, service, 0, 0.5), &mut state, now));
        }
        prop_assert_eq!(last.map(|last| last.desired), Some(once.desired));
    }

    #[test]
    fn a_constant_load_does_not_flap(
        rate in 1u64..400, service in 1u64..4000, limit in 1u32..20, steps in 1u64..20,
    ) {
        let p = policy(80, limit, 1000);
        let mut state = State::default();
        let load = u32::try_from(rate * service / 1000).unwrap().max(1);
        let mut counts = Vec::new();
        for step in 1..=(100 * steps) {
            let seconds = Duration::from_millis(step * 1000 / steps);
            let arrived = rate * step / steps;
            let served = arrived.saturating_sub(load.into());
            let traffic = Traffic {
                arrived, served,
                served_time: Duration::from_millis(served * service),
                age: Duration::from_millis(service / 2) * load,
            };
            let seen = Seen { peak: load, load, ready: 1000, traffic, ..Seen::default() };
            let decision = decide(&p, seen, &mut state, seconds);
            prop_assert!(decision.inputs.slots.is_finite() && decision.inputs.rate.is_finite());
            counts.push(decision.desired);
        }
        // Once the first stable windows are over.
        let late = &counts[counts.len() * 7 / 10..];
        prop_assert!(late.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", late);
    }

    #[test]
    fn no_number_is_ever_out_of_order(
        steps in prop::collection::vec(
            (0u64..10_000_000, 0u32..100_000, 0u32..100_000, 0u64..1_000_000, 0u64..1 << 40), 1..40,
        ),
        room in prop::option::of(0u32..50),
    ) {
        let p = policy(80, 3, 50);
        let mut state = State::default();
        let mut now = Duration::ZERO;
        let allowance = room.map(Allowance::of);
        for (pause, load, waiting, count, time) in steps {
            now += Duration::from_micros(pause);
            // Counts that make no sense, as after a change of owner.
            let traffic = Traffic {
                arrived: count, served: count / 2,
                served_time: Duration::from_micros(time),
                age: Duration::from_micros(time),
            };
            let seen = Seen { peak: load, load, waiting: waiting.min(load), traffic, allowance, ..Seen::default() };
            let decision = decide(&p, seen, &mut state, now);
            let inputs = &decision.inputs;
            prop_assert!(inputs.slots.is_finite() && inputs.slots >= 0.0 && inputs.rate.is_finite());
            let most = room.map_or(50, |room| room.max(u32::from(waiting < load)).min(50));
            prop_assert!(decision.desired <= most, "{:?}", decision);
            let refused = room == Some(0) && waiting >= load;
            prop_assert!(load == 0 || refused || decision.desired > 0, "{:?}", decision);
            prop_assert!(decision.again_at.is_none_or(|at| at > now));
        }
    }
}
