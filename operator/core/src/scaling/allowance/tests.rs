use std::time::Duration;

use proptest::prelude::*;

use super::super::{Reason, Seen, State, decide, tests as scaling_tests};
use super::*;

fn uid(name: usize) -> Arc<str> {
    format!("f{name:02}").into()
}

fn ledger(cap: u32, pods: &[u32]) -> Ledger {
    let mut ledger = Ledger::new(cap);
    for (name, pods) in pods.iter().enumerate() {
        ledger.see(&uid(name), *pods);
    }
    ledger
}

fn allowed(ledger: &Ledger, name: usize) -> u32 {
    ledger.allowance(&uid(name)).pods
}

#[test]
fn a_namespace_has_a_cap_of_its_own_or_that_of_all() {
    let caps = PodCaps(BTreeMap::from([("shop".into(), 40), (ANY_NAMESPACE.into(), 200)]));
    assert_eq!((caps.of("shop"), caps.of("other")), (Some(40), Some(200)));
    assert_eq!(PodCaps::default().of("shop"), None);
}

#[test]
fn what_others_have_is_left_to_them() {
    let ledger = ledger(10, &[4, 3, 0]);
    assert_eq!([0, 1, 2].map(|name| allowed(&ledger, name)), [7, 6, 3]);
    assert_eq!(allowed(&ledger, 9), 3, "one that is new here");
}

#[test]
fn what_was_decided_counts_before_it_is_seen() {
    let mut ledger = ledger(10, &[4, 0]);
    assert!(!ledger.decide(&uid(1), 5));
    assert_eq!((allowed(&ledger, 0), allowed(&ledger, 1)), (5, 6));
    ledger.see(&uid(1), 5);
    ledger.decide(&uid(1), 1);
    assert_eq!(allowed(&ledger, 0), 5, "its pods are still there");
    ledger.see(&uid(1), 1);
    assert_eq!(allowed(&ledger, 0), 9);
    ledger.forget(&uid(1));
    assert_eq!((allowed(&ledger, 0), ledger.sum()), (10, 4));
}

#[test]
fn who_is_gone_is_no_longer_counted_whoever_hears_of_it_first() {
    let mut ledger = ledger(10, &[4, 0]);
    ledger.decide(&uid(1), 3);
    ledger.leave(&uid(0));
    assert_eq!(ledger.sum(), 7, "its pods are still there");
    ledger.forget(&uid(1));
    ledger.leave(&uid(1));
    assert_eq!((ledger.sum(), ledger.functions.len()), (4, 1));
}

#[test]
fn who_has_most_gives_back_what_is_too_much() {
    let ledger = ledger(10, &[9, 2, 4, 1]);
    let shares = [0, 1, 2, 3].map(|name| allowed(&ledger, name));
    assert_eq!(shares, [4, 2, 3, 1]);
    let single = self::ledger(2, &[1, 1, 1]);
    assert_eq!([0, 1, 2].map(|name| allowed(&single, name)), [1, 1, 0]);
}

#[test]
fn others_look_again_where_there_is_room_or_too_much() {
    let mut full = ledger(4, &[3, 1]);
    assert!(full.see(&uid(0), 2), "there is room again");
    assert!(!full.see(&uid(0), 1), "there was room before");
    assert!(full.see(&uid(0), 6), "too many");
    assert!(full.see(&uid(2), 0), "one that sleeps may want a pod");
}

#[test]
fn pods_without_requests_go_sooner_while_few_are_left_for_those_that_sleep() {
    let patience = |cap, pods: &[u32]| ledger(cap, pods).allowance(&uid(0)).patience();
    let about = |share: f64, expected: f64| (share - expected).abs() < 1e-9;
    assert!(about(patience(40, &[30, 0]), 1.0));
    assert!(about(patience(40, &[35, 0]), 0.5));
    assert!(about(patience(40, &[40, 0]), 0.1));
    assert!(about(patience(40, &[20, 20]), 1.0), "nobody sleeps");
    assert!(about(patience(1, &[1]), 1.0));
}

#[test]
fn an_idle_pod_makes_room_but_not_one_that_is_to_be_there() {
    let p = scaling_tests::policy(10, 0, 0, 5);
    let scarce = Some(ledger(4, &[4, 0]).allowance(&uid(0)));
    let at = |seconds, allowance| {
        let mut state = State::default();
        let busy = Seen { peak: 1, load: 1, ..Seen::default() };
        decide(&p, Seen { allowance, ..busy }, &mut state, Duration::ZERO);
        let seen = Seen { allowance, ..Seen::default() };
        let decision = decide(&p, seen, &mut state, Duration::from_secs(seconds));
        (decision.desired, decision.reason, decision.again_at)
    };
    assert_eq!(at(5, scarce), (1, Reason::Idle, Some(Duration::from_secs(6))));
    assert_eq!(at(6, scarce).0, 0);
    assert_eq!(at(6, scarce).1, Reason::MadeRoom);
    assert_eq!(at(6, None).0, 1);
    let least = scaling_tests::policy(10, 0, 1, 5);
    let seen = Seen { allowance: scarce, ..Seen::default() };
    let decision = decide(&least, seen, &mut State::default(), Duration::from_secs(6));
    assert_eq!((decision.desired, decision.reason), (1, Reason::Min));
}

#[test]
fn who_made_room_does_not_come_back_for_the_room_that_it_made() {
    let p = scaling_tests::policy(10, 0, 0, 5);
    let mut state = State::default();
    let [scarce, roomy] = [[4, 0], [3, 0]].map(|pods| ledger(4, &pods).allowance(&uid(0)));
    let mut decided = |seconds, load, allowance| {
        let seen = Seen { peak: load, load, allowance: Some(allowance), ..Seen::default() };
        let decision = decide(&p, seen, &mut state, Duration::from_secs(seconds));
        (decision.desired, decision.reason)
    };
    assert_eq!(decided(0, 1, scarce), (1, Reason::Load));
    assert_eq!(decided(6, 0, scarce), (0, Reason::MadeRoom));
    assert_eq!(decided(7, 0, roomy), (0, Reason::MadeRoom));
    assert_eq!(decided(70, 0, roomy), (0, Reason::Asleep));
    assert_eq!(decided(80, 1, roomy).0, 1);
    assert_eq!(decided(90, 0, roomy), (1, Reason::Idle));
}

/// Some owners of the Functions of a namespace. Each sees all writes in the order in which they
/// were made, but late.
struct World {
    wants: Vec<u32>,
    pods: Vec<u32>,
    written: Vec<(usize, u32)>,
    owners: Vec<(Ledger, usize)>,
}

impl World {
    fn new(cap: u32, functions: usize, owners: usize) -> Self {
        Self {
            wants: vec![0; functions],
            pods: vec![0; functions],
            written: Vec::new(),
            owners: vec![(ledger(cap, &vec![0; functions]), 0); owners],
        }
    }

    fn watch(&mut self, owner: usize) -> bool {
        let (ledger, seen) = &mut self.owners[owner];
        let Some((function, pods)) = self.written.get(*seen) else { return false };
        ledger.see(&uid(*function), *pods);
        *seen += 1;
        true
    }

    fn decide(&mut self, function: usize) -> bool {
        let owner = function % self.owners.len();
        let ledger = &mut self.owners[owner].0;
        let pods = self.wants[function].min(allowed(ledger, function));
        ledger.decide(&uid(function), pods);
        if pods == self.pods[function] {
            return false;
        }
        self.pods[function] = pods;
        self.written.push((function, pods));
        true
    }

    fn settle(&mut self) -> usize {
        for round in 0..1000 {
            let mut busy = false;
            for owner in 0..self.owners.len() {
                while self.watch(owner) {
                    busy = true;
                }
            }
            for function in 0..self.pods.len() {
                busy |= self.decide(function);
            }
            if !busy {
                return round;
            }
        }
        1000
    }
}

proptest! {
    #[test]
    fn owners_that_see_each_other_late_keep_to_the_cap_in_the_end(
        cap in 0u32..30, owners in 1usize..4,
        steps in prop::collection::vec((0usize..3, 0usize..8, 0u32..20), 0..200),
    ) {
        let mut world = World::new(cap, 8, owners);
        for (kind, which, pods) in steps {
            match kind {
                0 => world.wants[which] = pods,
                1 => drop(world.watch(which % owners)),
                _ => drop(world.decide(which)),
            }
            if owners == 1 {
                prop_assert!(world.pods.iter().sum::<u32>() <= cap, "one owner sees all that it does");
            }
        }
        prop_assert!(world.settle() < 1000, "they never agree: {:?}", world.pods);
        let (sum, wanted) = (world.pods.iter().sum::<u32>(), world.wants.iter().sum::<u32>());
        prop_assert_eq!(sum, cap.min(wanted), "{:?} of {:?}", world.pods, world.wants);
    }

    #[test]
    fn what_is_too_much_is_given_back_exactly(pods in prop::collection::vec(0u32..50, 1..20), cap in 0u32..300) {
        let ledger = ledger(cap, &pods);
        let sum: u32 = pods.iter().sum();
        prop_assert_eq!(ledger.sum(), sum);
        if sum > cap {
            let shares: u32 = (0..pods.len()).map(|name| pods[name].min(allowed(&ledger, name))).sum();
            prop_assert_eq!(shares, cap);
        }
    }
}
