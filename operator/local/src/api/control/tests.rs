//! How Deployments roll.

use super::deployments::{Count, Goal, roll};

fn count(wanted: i64, available: i64) -> Count {
    Count { wanted, there: wanted, available }
}

#[test]
fn without_old_pods_there_are_as_many_as_asked_for() {
    let goal = Goal { replicas: 3, surge: 1, unavailable: 0, recreates: false };
    assert_eq!(roll(goal, Count::default(), &[]), (3, vec![]));
    assert_eq!(roll(goal, count(5, 5), &[count(0, 0)]), (3, vec![0]));
    assert_eq!(roll(Goal { replicas: 0, ..goal }, count(2, 2), &[count(1, 1)]), (0, vec![0]));
}

/// Whatever the bounds, each step keeps to them, and the steps come to an end.
#[test]
fn a_roll_keeps_within_its_bounds_and_arrives() {
    for replicas in 0..8 {
        for (surge, unavailable) in [(1, 0), (0, 1), (1, 1), (2, 3), (5, 0)] {
            for first_available in [0, replicas] {
                let goal = Goal { replicas, surge, unavailable, recreates: false };
                let (mut new, mut old) = (Count::default(), count(replicas, first_available));
                let mut steps = 0;
                while new.available < replicas || old.wanted > 0 {
                    let (next, left) = roll(goal, new, &[old]);
                    let all = next + left[0];
                    assert!(all <= replicas + surge, "{goal:?} {new:?} {old:?}: {all} pods");
                    let fit = new.available.min(next) + old.available.min(left[0]);
                    let before = new.available + old.available;
                    assert!(
                        fit >= (replicas - unavailable).min(before),
                        "{goal:?} {new:?} {old:?}: {fit} serve"
                    );
                    // All that is there becomes fit before the next look.
                    new = count(next, next);
                    old = count(left[0], old.available.min(left[0]));
                    steps += 1;
                    assert!(steps < 50, "{goal:?} does not arrive");
                }
                assert_eq!(new.wanted, replicas);
            }
        }
    }
}

#[test]
fn where_pods_are_recreated_the_old_go_first() {
    let goal = Goal { replicas: 2, surge: 1, unavailable: 0, recreates: true };
    assert_eq!(roll(goal, Count::default(), &[count(2, 2)]), (0, vec![0]));
    let going = Count { wanted: 0, there: 1, available: 0 };
    assert_eq!(roll(goal, Count::default(), &[going]), (0, vec![0]));
    assert_eq!(roll(goal, Count::default(), &[count(0, 0)]), (2, vec![0]));
}
